//! Users.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Body, Call, expected};
use super::fields::Fields;
use super::listing::List;
use super::parameters;
use crate::auth::{HashAlgorithm, PasswordHash, User, UserError};
use leveret_broker::Broker;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `GET /api/users`
pub fn list(call: &Call) -> Answer {
    answer(call, call.server().users.users())
}

/// `GET /api/users/without-permissions`
pub fn without_permissions(call: &Call) -> Answer {
    let rights = call.server().users.rights();
    let mut users = call.server().users.users();
    users.retain(|user| !rights.iter().any(|right| *right.user == *user.name()));
    answer(call, users)
}

fn answer(call: &Call, items: Vec<Arc<User>>) -> Answer {
    let fill = |user: &Arc<User>, fields: &mut Fields<'_>| {
        let Value::Object(map) = show(&call.server().broker, user) else { return };
        map.into_iter().for_each(|(field, value)| fields.put(&field, value));
    };
    List { items, name: |user: &Arc<User>| user.name(), fill }.answer_whole(&call.query)
}

/// `GET /api/users/{user}`
pub fn get(call: &Call) -> Answer {
    let user = call.server().users.user(call.part("user")).ok_or_else(Refusal::missing)?;
    ok(&show(&call.server().broker, &user))
}

/// As RabbitMQ shows and exports a user.
pub fn show(broker: &Broker, user: &User) -> Value {
    let hash = user.password().text();
    // Nothing is hashed by nothing; RabbitMQ says its default.
    let algorithm = if hash.is_empty() { HashAlgorithm::Sha256 } else { user.password().algorithm() };
    json!({
        "name": user.name(),
        "password_hash": hash,
        "hashing_algorithm": algorithm.name(),
        "tags": user.tags(),
        "limits": parameters::limits_of_user(broker, user.name()),
    })
}

/// `PUT /api/users/{user}`
pub fn set(call: &Call) -> Answer {
    let body = call.body()?;
    let Some(tags) = body.texts("tags")? else { return Err(Refusal::bad("tags_not_present")) };
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let password = password(&body)?;
    let change = call.server().users.set_user(call.part("user"), password, &tags).map_err(refuse)?;
    let is_new = change.happened();
    call.wait(change.durable())??;
    put(is_new)
}

/// A password or its hash, or neither: then nobody can log in with one.
///
/// # Errors
/// 400 that says what is wrong.
pub fn password(body: &Body) -> Result<PasswordHash, Refusal> {
    match (body.text("password")?, body.text("password_hash")?) {
        (Some(_), Some(_)) => Err(Refusal::bad("both_password_and_password_hash_are_provided")),
        (None, None) | (Some(""), None) | (None, Some("")) => Ok(PasswordHash::none()),
        (Some(password), None) => Ok(PasswordHash::new(password)),
        (None, Some(hash)) => {
            let name = body.text("hashing_algorithm")?.unwrap_or("rabbit_password_hashing_sha256");
            let algorithm = HashAlgorithm::from_name(name);
            let known = "rabbit_password_hashing_sha256, rabbit_password_hashing_sha512 or argon2id";
            let algorithm = algorithm.ok_or_else(|| expected("hashing_algorithm", known, &json!(name)))?;
            let wrong = || Refusal::bad(format!("password_hash: it is not one of {name}, which is a salt and a hash"));
            PasswordHash::from_text(hash, algorithm).ok_or_else(wrong)
        }
    }
}

/// `DELETE /api/users/{user}`
pub fn delete(call: &Call) -> Answer {
    let change = call.server().delete_user(call.part("user")).map_err(refuse)?;
    if !change.happened() {
        return Err(Refusal::missing());
    }
    parameters::keep_limits_of_user(&call.server().broker, call.part("user"), &Map::new())?;
    call.wait(change.durable())??;
    done()
}

/// `POST /api/users/bulk-delete`
pub fn delete_many(call: &Call) -> Answer {
    let body = call.body()?;
    body.needs(&["users"])?;
    let names = body.texts("users")?.unwrap_or_default();
    if let Some(missing) = names.iter().find(|name| call.server().users.user(name).is_none()) {
        return Err(Refusal::bad(format!("users: there is no user '{missing}'; none was deleted")));
    }
    for name in &names {
        let change = call.server().delete_user(name).map_err(refuse)?;
        call.wait(change.durable())??;
    }
    done()
}

/// Why users could not be changed.
pub fn refuse(error: UserError) -> Refusal {
    match error {
        UserError::Store(error) => error.into(),
        UserError::NoSuchUser(_) => Refusal::bad("vhost_or_user_not_found"),
        other => Refusal::bad(other.to_string()),
    }
}
