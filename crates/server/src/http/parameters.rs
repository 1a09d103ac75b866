//! Parameters and limits: what is kept for others, and given back as it was. Operator policies are among them, as in
//! RabbitMQ; other components of it belong to plugins, or are limits, and have no effect here.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Body, Call};
use super::fields::Fields;
use super::listing::List;
use super::policies;
use leveret_broker::{Broker, PolicyKind, VirtualHost};
use serde_json::{Map, Value, json};

/// The table of what holds for the whole broker, by name.
pub const GLOBAL: &str = "global_parameter";

/// The table of the limits of users, by name: kept from imports.
pub const USER_LIMITS: &str = "user_limits";

const OPERATOR: &str = "operator_policy";
const VHOST_LIMITS: &str = "vhost-limits";

/// Of a virtual host; by component and name.
fn table(vhost: &str) -> String {
    format!("parameter:{vhost}")
}

fn key(component: &str, name: &str) -> String {
    json!([component, name]).to_string()
}

/// Keeps a parameter of a virtual host that has no effect.
///
/// # Errors
/// If there is too much to keep.
pub fn keep(broker: &Broker, vhost: &str, component: &str, name: &str, value: &Value) -> Result<(), Refusal> {
    drop(broker.set_entry(&table(vhost), &key(component, name), Some(value.to_string().as_bytes()))?);
    Ok(())
}

/// Keeps what holds for the whole broker; whether it is new.
///
/// # Errors
/// If there is too much to keep.
pub fn keep_global(broker: &Broker, name: &str, value: &Value) -> Result<bool, Refusal> {
    let is_new = broker.entry(GLOBAL, name).is_none();
    drop(broker.set_entry(GLOBAL, name, Some(value.to_string().as_bytes()))?);
    Ok(is_new)
}

/// All parameters of a virtual host as RabbitMQ shows and exports them.
pub fn shown(broker: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    let name = &**vhost.name();
    let operator = policies::shown(vhost, PolicyKind::Operator).into_iter().map(|policy| {
        let value = json!({
            "pattern": policy["pattern"],
            "definition": policy["definition"],
            "priority": policy["priority"],
            "apply-to": policy["apply-to"],
        });
        json!({ "value": value, "vhost": name, "component": OPERATOR, "name": policy["name"] })
    });
    let kept = broker.entries(&table(name)).into_iter().filter_map(|(key, value)| {
        let (component, parameter): (String, String) = serde_json::from_str(&key).ok()?;
        let value: Value = serde_json::from_slice(&value).ok()?;
        Some(json!({ "value": value, "vhost": name, "component": component, "name": parameter }))
    });
    operator.chain(kept).collect()
}

/// What holds for the whole broker, as RabbitMQ shows and exports it.
pub fn shown_global(broker: &Broker) -> Vec<Value> {
    let show = |(name, value): (std::sync::Arc<str>, std::sync::Arc<[u8]>)| {
        Some(json!({ "name": &*name, "value": serde_json::from_slice::<Value>(&value).ok()? }))
    };
    broker.entries(GLOBAL).into_iter().filter_map(show).collect()
}

/// `GET /api/parameters`
pub fn list(call: &Call) -> Answer {
    answer(call, all(call))
}

fn all(call: &Call) -> Vec<Value> {
    call.visible_vhosts().iter().flat_map(|vhost| shown(&call.server().broker, vhost)).collect()
}

/// `GET /api/parameters/{component}`
pub fn list_of(call: &Call) -> Answer {
    let mut found = all(call);
    found.retain(|it| it["component"] == call.part("component"));
    answer(call, found)
}

/// `GET /api/parameters/{component}/{vhost}`
pub fn list_in(call: &Call) -> Answer {
    let mut found = shown(&call.server().broker, &*call.vhost()?);
    found.retain(|it| it["component"] == call.part("component"));
    answer(call, found)
}

/// `GET /api/parameters/{component}/{vhost}/{name}`
pub fn get(call: &Call) -> Answer {
    ok(&find(call)?)
}

fn find(call: &Call) -> Result<Value, Refusal> {
    let found = shown(&call.server().broker, &*call.vhost()?).into_iter();
    let is_it = |it: &Value| it["component"] == call.part("component") && it["name"] == call.part("name");
    found.into_iter().find(is_it).ok_or_else(Refusal::missing)
}

/// `PUT /api/parameters/{component}/{vhost}/{name}`
pub fn set(call: &Call) -> Answer {
    let vhost = call.vhost_for_change()?;
    let body = call.body()?;
    body.needs(&["value"])?;
    match call.part("component") {
        OPERATOR if !call.caller.is_administrator() => Err(Refusal::not_allowed("Not administrator user")),
        OPERATOR => {
            let value = Body(body.object("value")?);
            let is_new = policies::set_from(&vhost, PolicyKind::Operator, call.part("name"), &value)?;
            call.stored()?;
            put(is_new)
        }
        VHOST_LIMITS => Err(no_limits()),
        other => Err(Refusal::invalid(format!("component {other} not found"))),
    }
}

/// `DELETE /api/parameters/{component}/{vhost}/{name}`
pub fn delete(call: &Call) -> Answer {
    find(call)?;
    let (component, name) = (call.part("component"), call.part("name"));
    match component {
        OPERATOR if !call.caller.is_administrator() => return Err(Refusal::not_allowed("Not administrator user")),
        OPERATOR => drop(call.vhost()?.delete_policy(PolicyKind::Operator, name)),
        _ => drop(call.server().broker.set_entry(&table(call.part("vhost")), &key(component, name), None)?),
    }
    call.stored()?;
    done()
}

/// `GET /api/global-parameters`
pub fn list_global(call: &Call) -> Answer {
    answer(call, shown_global(&call.server().broker))
}

/// `GET /api/global-parameters/{name}`
pub fn get_global(call: &Call) -> Answer {
    let found = shown_global(&call.server().broker).into_iter().find(|it| it["name"] == call.part("name"));
    ok(&found.ok_or_else(Refusal::missing)?)
}

/// `PUT /api/global-parameters/{name}`
pub fn set_global(call: &Call) -> Answer {
    let body = call.body()?;
    body.needs(&["value"])?;
    let is_new = keep_global(&call.server().broker, call.part("name"), &body.0["value"])?;
    call.stored()?;
    put(is_new)
}

/// `DELETE /api/global-parameters/{name}`
pub fn delete_global(call: &Call) -> Answer {
    let (broker, name) = (&call.server().broker, call.part("name"));
    broker.entry(GLOBAL, name).ok_or_else(Refusal::missing)?;
    drop(broker.set_entry(GLOBAL, name, None)?);
    call.stored()?;
    done()
}

/// `GET /api/vhost-limits`: those that were imported. They have no effect.
pub fn list_vhost_limits(call: &Call) -> Answer {
    answer(call, call.visible_vhosts().iter().flat_map(|vhost| limits_of(&call.server().broker, vhost)).collect())
}

/// `GET /api/vhost-limits/{vhost}`
pub fn get_vhost_limits(call: &Call) -> Answer {
    answer(call, limits_of(&call.server().broker, &*call.vhost()?))
}

fn limits_of(broker: &Broker, vhost: &VirtualHost) -> Vec<Value> {
    let limits = shown(broker, vhost).into_iter().filter(|it| it["component"] == VHOST_LIMITS);
    limits.map(|it| json!({ "vhost": it["vhost"], "value": it["value"] })).collect()
}

/// `PUT /api/vhost-limits/{vhost}/{name}`, and of users: they are not built.
pub fn set_limit(_: &Call) -> Answer {
    Err(no_limits())
}

fn no_limits() -> Refusal {
    Refusal::not_built("limits of virtual hosts and users are not supported by this version")
}

/// `DELETE /api/vhost-limits/{vhost}/{name}`
pub fn delete_vhost_limit(call: &Call) -> Answer {
    let (vhost, broker) = (call.vhost()?, &call.server().broker);
    for parameter in shown(broker, &vhost).into_iter().filter(|it| it["component"] == VHOST_LIMITS) {
        let (Value::Object(mut value), Some(name)) = (parameter["value"].clone(), parameter["name"].as_str()) else {
            continue;
        };
        if value.remove(call.part("name")).is_some() {
            keep(broker, vhost.name(), VHOST_LIMITS, name, &Value::Object(value))?;
        }
    }
    call.stored()?;
    done()
}

/// The limits of a user that were imported; they have no effect.
pub fn limits_of_user(broker: &Broker, user: &str) -> Map<String, Value> {
    let kept = broker.entry(USER_LIMITS, user);
    kept.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default()
}

/// Keeps the limits of a user, or forgets them if there are none.
///
/// # Errors
/// If there is too much to keep.
pub fn keep_limits_of_user(broker: &Broker, user: &str, limits: &Map<String, Value>) -> Result<(), Refusal> {
    let value = Value::Object(limits.clone()).to_string();
    let value = (!limits.is_empty()).then_some(value.as_bytes());
    if value.is_some() || broker.entry(USER_LIMITS, user).is_some() {
        drop(broker.set_entry(USER_LIMITS, user, value)?);
    }
    Ok(())
}

/// `GET /api/user-limits` and `.../{user}`
pub fn list_user_limits(call: &Call) -> Answer {
    let asked = call.has_part("user").then(|| call.part("user"));
    let users = call.server().users.users();
    let users = users.iter().map(|user| user.name()).filter(|name| asked.is_none_or(|asked| asked == *name));
    let limits = users.map(|name| (name, limits_of_user(&call.server().broker, name)));
    let limits = limits.filter(|(_, limits)| !limits.is_empty());
    answer(call, limits.map(|(name, limits)| json!({ "user": name, "value": limits })).collect())
}

/// `DELETE /api/user-limits/{user}/{name}`
pub fn delete_user_limit(call: &Call) -> Answer {
    let (broker, user) = (&call.server().broker, call.part("user"));
    call.server().users.user(user).ok_or_else(Refusal::missing)?;
    let mut limits = limits_of_user(broker, user);
    if limits.remove(call.part("name")).is_some() {
        keep_limits_of_user(broker, user, &limits)?;
        call.stored()?;
    }
    done()
}

fn answer(call: &Call, items: Vec<Value>) -> Answer {
    let fill = |value: &Value, fields: &mut Fields<'_>| {
        let Value::Object(map) = value else { return };
        map.iter().for_each(|(field, value)| fields.put(field, value.clone()));
    };
    List { items, name: |value: &Value| value["name"].as_str().unwrap_or_default(), fill }.answer_whole(&call.query)
}
