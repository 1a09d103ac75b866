//! Policies and operator policies.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Body, Call};
use super::fields::Fields;
use super::fieldtable;
use super::listing::List;
use leveret_broker::{ApplyTo, Policy, PolicyError, PolicyKind, VirtualHost};
use serde_json::{Value, json};

/// `GET /api/policies`
pub fn list(call: &Call) -> Answer {
    list_all(call, PolicyKind::User)
}

/// `GET /api/policies/{vhost}`
pub fn list_in(call: &Call) -> Answer {
    answer(call, shown(&*call.vhost()?, PolicyKind::User))
}

/// `GET /api/policies/{vhost}/{name}`
pub fn get(call: &Call) -> Answer {
    get_one(call, PolicyKind::User)
}

/// `PUT /api/policies/{vhost}/{name}`
pub fn set(call: &Call) -> Answer {
    set_one(call, PolicyKind::User)
}

/// `DELETE /api/policies/{vhost}/{name}`
pub fn delete(call: &Call) -> Answer {
    delete_one(call, PolicyKind::User)
}

/// `GET /api/operator-policies`
pub fn list_operator(call: &Call) -> Answer {
    list_all(call, PolicyKind::Operator)
}

/// `GET /api/operator-policies/{vhost}`
pub fn list_operator_in(call: &Call) -> Answer {
    answer(call, shown(&*call.vhost()?, PolicyKind::Operator))
}

/// `GET /api/operator-policies/{vhost}/{name}`
pub fn get_operator(call: &Call) -> Answer {
    get_one(call, PolicyKind::Operator)
}

/// `PUT /api/operator-policies/{vhost}/{name}`
pub fn set_operator(call: &Call) -> Answer {
    set_one(call, PolicyKind::Operator)
}

/// `DELETE /api/operator-policies/{vhost}/{name}`
pub fn delete_operator(call: &Call) -> Answer {
    delete_one(call, PolicyKind::Operator)
}

fn list_all(call: &Call, kind: PolicyKind) -> Answer {
    answer(call, call.visible_vhosts().iter().flat_map(|vhost| shown(vhost, kind)).collect())
}

fn get_one(call: &Call, kind: PolicyKind) -> Answer {
    let vhost = call.vhost()?;
    let policy = vhost.policy(kind, call.part("name")).ok_or_else(Refusal::missing)?;
    ok(&show(&vhost, &policy))
}

fn set_one(call: &Call, kind: PolicyKind) -> Answer {
    let vhost = call.vhost_for_change()?;
    let is_new = set_from(&vhost, kind, call.part("name"), &call.body()?)?;
    call.stored()?;
    put(is_new)
}

fn delete_one(call: &Call, kind: PolicyKind) -> Answer {
    if !call.vhost()?.delete_policy(kind, call.part("name")) {
        return Err(Refusal::missing());
    }
    call.stored()?;
    done()
}

/// Sets a policy that is described as RabbitMQ does; whether it is new.
///
/// # Errors
/// 400 in RabbitMQ's words.
pub fn set_from(vhost: &VirtualHost, kind: PolicyKind, name: &str, body: &Body) -> Result<bool, Refusal> {
    body.needs(&["pattern", "definition"])?;
    let priority = match body.0.get("priority") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().ok_or_else(|| {
            let got = value.as_str().map_or_else(|| value.to_string(), |text| format!("<<\"{text}\">>"));
            Refusal::invalid(format!("priority should be a number, actually was {got}"))
        })?,
    };
    let policy = Policy {
        name: name.to_string(),
        pattern: body.need_text("pattern")?.to_string(),
        apply_to: ApplyTo::from_name(body.text("apply-to")?.unwrap_or("all")).map_err(refuse)?,
        priority,
        definition: fieldtable::from_json(&body.object("definition")?, "definition")?,
    };
    vhost.set_policy(kind, policy).map_err(refuse)
}

fn refuse(error: PolicyError) -> Refusal {
    match error {
        PolicyError::Invalid(why) => Refusal::invalid(why),
        PolicyError::Refused(error) => error.into(),
    }
}

/// As RabbitMQ shows and exports the policies of a virtual host.
pub fn shown(vhost: &VirtualHost, kind: PolicyKind) -> Vec<Value> {
    vhost.policies(kind).iter().map(|policy| show(vhost, policy)).collect()
}

fn show(vhost: &VirtualHost, policy: &Policy) -> Value {
    json!({
        "vhost": &**vhost.name(),
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to.name(),
        "definition": fieldtable::to_json(policy.definition.as_table()),
        "priority": policy.priority,
    })
}

fn answer(call: &Call, items: Vec<Value>) -> Answer {
    let fill = |value: &Value, fields: &mut Fields<'_>| {
        let Value::Object(map) = value else { return };
        map.iter().for_each(|(field, value)| fields.put(field, value.clone()));
    };
    List { items, name: |value: &Value| value["name"].as_str().unwrap_or_default(), fill }.answer_whole(&call.query)
}
