//! What users may do in virtual hosts, and with which routing keys.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Body, Call};
use super::fields::Fields;
use super::listing::List;
use crate::auth::{Pattern, Permissions, TopicPermissions, TopicRights, UserRights};
use serde_json::{Value, json};

/// `GET /api/permissions`
pub fn list(call: &Call) -> Answer {
    answer(call, call.server().users.rights().iter().map(show).collect())
}

/// `GET /api/vhosts/{vhost}/permissions`
pub fn of_vhost(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let rights = call.server().users.rights();
    answer(call, rights.iter().filter(|it| it.vhost == *vhost.name()).map(show).collect())
}

/// `GET /api/users/{user}/permissions`
pub fn of_user(call: &Call) -> Answer {
    let user = call.server().users.user(call.part("user")).ok_or_else(Refusal::missing)?;
    let rights = call.server().users.rights();
    answer(call, rights.iter().filter(|it| *it.user == *user.name()).map(show).collect())
}

/// `GET /api/permissions/{vhost}/{user}`
pub fn get(call: &Call) -> Answer {
    ok(&show(&find(call)?))
}

fn find(call: &Call) -> Result<UserRights, Refusal> {
    let (vhost, user) = (call.part("vhost"), call.part("user"));
    let permissions = call.server().users.permissions(user, vhost).ok_or_else(Refusal::missing)?;
    Ok(UserRights { user: user.into(), vhost: vhost.into(), permissions })
}

/// As RabbitMQ shows and exports it.
pub fn show(rights: &UserRights) -> Value {
    json!({
        "user": &*rights.user,
        "vhost": &*rights.vhost,
        "configure": rights.permissions.configure.text(),
        "write": rights.permissions.write.text(),
        "read": rights.permissions.read.text(),
    })
}

/// `PUT /api/permissions/{vhost}/{user}`
pub fn set(call: &Call) -> Answer {
    let (vhost, user) = (call.part("vhost"), call.part("user"));
    let body = call.body()?;
    body.needs(&["configure", "write", "read"])?;
    let permissions = Permissions {
        configure: pattern(&body, "configure")?,
        write: pattern(&body, "write")?,
        read: pattern(&body, "read")?,
    };
    let change = match call.server().broker.vhost(vhost) {
        None => return Err(Refusal::bad("vhost_or_user_not_found")),
        Some(_) => call.server().users.set_permissions(user, vhost, permissions).map_err(super::users::refuse)?,
    };
    let is_new = change.happened();
    call.wait(change.durable())??;
    put(is_new)
}

/// A pattern in a body.
///
/// # Errors
/// 400 that names the field.
pub fn pattern(body: &Body, field: &str) -> Result<Pattern, Refusal> {
    let text = body.need_text(field)?;
    Pattern::new(text).map_err(|why| Refusal::bad(format!("{field}: '{text}' is not a valid pattern: {why}")))
}

/// `DELETE /api/permissions/{vhost}/{user}`
pub fn delete(call: &Call) -> Answer {
    find(call)?;
    let change = call.server().users.clear_permissions(call.part("user"), call.part("vhost"));
    call.wait(change.map_err(super::users::refuse)?.durable())??;
    done()
}

/// `GET /api/topic-permissions`
pub fn list_topics(call: &Call) -> Answer {
    answer(call, call.server().users.topic_rights().iter().map(show_topic).collect())
}

/// `GET /api/vhosts/{vhost}/topic-permissions`
pub fn topics_of_vhost(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let rights = call.server().users.topic_rights();
    answer(call, rights.iter().filter(|it| it.vhost == *vhost.name()).map(show_topic).collect())
}

/// `GET /api/users/{user}/topic-permissions`
pub fn topics_of_user(call: &Call) -> Answer {
    let user = call.server().users.user(call.part("user")).ok_or_else(Refusal::missing)?;
    let rights = call.server().users.topic_rights();
    answer(call, rights.iter().filter(|it| *it.user == *user.name()).map(show_topic).collect())
}

/// `GET /api/topic-permissions/{vhost}/{user}`: a list, of one for each exchange.
pub fn get_topics(call: &Call) -> Answer {
    answer(call, find_topics(call)?.iter().map(show_topic).collect())
}

/// Of the exchange in the path, if there is one in it.
fn find_topics(call: &Call) -> Result<Vec<TopicRights>, Refusal> {
    let (vhost, user) = (call.part("vhost"), call.part("user"));
    let mut rights = call.server().users.topic_rights();
    let exchange = call.has_part("exchange").then(|| call.part("exchange"));
    let is_exchange = |it: &TopicRights| exchange.is_none_or(|exchange| *it.exchange == *exchange);
    rights.retain(|it| *it.vhost == *vhost && *it.user == *user && is_exchange(it));
    if rights.is_empty() { Err(Refusal::missing()) } else { Ok(rights) }
}

/// As RabbitMQ shows and exports it.
pub fn show_topic(rights: &TopicRights) -> Value {
    json!({
        "user": &*rights.user,
        "vhost": &*rights.vhost,
        "exchange": &*rights.exchange,
        "write": rights.permissions.write.text(),
        "read": rights.permissions.read.text(),
    })
}

/// `PUT /api/topic-permissions/{vhost}/{user}`
pub fn set_topic(call: &Call) -> Answer {
    let (vhost, user) = (call.part("vhost"), call.part("user"));
    let body = call.body()?;
    body.needs(&["exchange", "write", "read"])?;
    let exchange = body.need_text("exchange")?;
    let permissions = TopicPermissions { write: pattern(&body, "write")?, read: pattern(&body, "read")? };
    if call.server().broker.vhost(vhost).is_none() {
        return Err(Refusal::bad("vhost_or_user_not_found"));
    }
    let had = find_topics(call).is_ok();
    let change = call.server().users.set_topic_permissions(user, vhost, exchange, permissions);
    call.wait(change.map_err(super::users::refuse)?.durable())??;
    put(!had)
}

/// `DELETE /api/topic-permissions/{vhost}/{user}` and `.../{exchange}`
pub fn delete_topics(call: &Call) -> Answer {
    for right in find_topics(call)? {
        let change = call.server().users.clear_topic_permissions(&right.user, &right.vhost, Some(&right.exchange));
        call.wait(change.map_err(super::users::refuse)?.durable())??;
    }
    done()
}

fn answer(call: &Call, items: Vec<Value>) -> Answer {
    let fill = |value: &Value, fields: &mut Fields<'_>| {
        let Value::Object(map) = value else { return };
        map.iter().for_each(|(field, value)| fields.put(field, value.clone()));
    };
    List { items, name: |value: &Value| value["user"].as_str().unwrap_or_default(), fill }.answer_whole(&call.query)
}
