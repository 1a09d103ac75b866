//! Bindings: listed by what they connect, and one by its key and arguments.

use super::answer::{Answer, Refusal, done, empty, ok, with_header};
use super::call::Call;
use super::fields::Fields;
use super::fieldtable;
use super::listing::List;
use super::queues::NOBODY;
use crate::auth::Permission;
use axum::http::{StatusCode, header};
use base64::Engine;
use leveret_broker::table::FieldTable;
use leveret_broker::{BindingInfo, Destination, VirtualHost};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A binding with its virtual host.
struct Listed {
    vhost: Arc<str>,
    binding: BindingInfo,
    properties_key: String,
}

/// `GET /api/bindings`
pub fn list_all(call: &Call) -> Answer {
    let mut items = Vec::new();
    for vhost in call.visible_vhosts() {
        items.extend(listed(&vhost, all(&vhost)));
    }
    answer(call, items)
}

/// `GET /api/bindings/{vhost}`
pub fn list_in(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    answer(call, listed(&vhost, all(&vhost)))
}

/// `GET /api/queues/{vhost}/{name}/bindings`
pub fn of_queue(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost()?, call.part("name"));
    let queue = vhost.queue_info(name).ok_or_else(Refusal::missing)?;
    let mut bindings = vec![implied(&queue.name)];
    bindings.extend(vhost.bindings_to(&Destination::Queue(queue.name)));
    answer(call, listed(&vhost, bindings))
}

/// `GET /api/exchanges/{vhost}/{name}/bindings/source`
pub fn from_exchange(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost()?, super::exchanges::name_in(call));
    vhost.exchange_info(name).ok_or_else(Refusal::missing)?;
    let bindings = if name.is_empty() { all_implied(&vhost) } else { vhost.bindings_from(name) };
    answer(call, listed(&vhost, bindings))
}

/// `GET /api/exchanges/{vhost}/{name}/bindings/destination`
pub fn to_exchange(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost()?, super::exchanges::name_in(call));
    let exchange = vhost.exchange_info(name).ok_or_else(Refusal::missing)?;
    answer(call, listed(&vhost, vhost.bindings_to(&Destination::Exchange(exchange.name))))
}

/// `GET /api/bindings/{vhost}/e/{source}/q/{queue}` and `.../e/{exchange}`
pub fn between(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let bindings = between_these(call, &vhost);
    answer(call, listed(&vhost, bindings))
}

/// `GET /api/bindings/{vhost}/e/{source}/q/{queue}/{properties}`
pub fn get(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    ok(&show(&find(call, &vhost)?))
}

/// `POST /api/bindings/{vhost}/e/{source}/q/{queue}`
pub fn bind(call: &Call) -> Answer {
    let vhost = call.vhost_for_change()?;
    let body = call.body()?;
    let key = match body.0.get("routing_key") {
        // As in RabbitMQ, whose clients send numbers.
        Some(Value::Number(number)) => number.to_string(),
        _ => body.text("routing_key")?.unwrap_or_default().to_string(),
    };
    if key.len() > 255 {
        return Err(Refusal::bad(format!("routing_key: it has {} bytes, and at most 255 are possible", key.len())));
    }
    let arguments = fieldtable::from_json(&body.object("arguments")?, "arguments")?;
    let source = source(call);
    check(call, source, &key)?;
    match destination(call) {
        Destination::Queue(queue) => vhost.bind_queue(&queue, source, &key, arguments.as_table(), NOBODY)?,
        Destination::Exchange(exchange) => vhost.bind_exchange(&exchange, source, &key, arguments.as_table())?,
    }
    call.stored()?;
    let place =
        format!("{}/{}", quote(target_name(call)), quote(&properties_key(&key, &arguments)).replace("%7E", "~"));
    Ok(with_header(empty(StatusCode::CREATED), header::LOCATION, &place))
}

/// `DELETE /api/bindings/{vhost}/e/{source}/q/{queue}/{properties}`
pub fn unbind(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let Listed { binding, .. } = find(call, &vhost)?;
    check(call, source(call), &binding.key)?;
    let (source, arguments) = (&*binding.source, binding.arguments.as_table());
    match &binding.destination {
        Destination::Queue(queue) => vhost.unbind_queue(queue, source, &binding.key, arguments, NOBODY)?,
        Destination::Exchange(exchange) => vhost.unbind_exchange(exchange, source, &binding.key, arguments)?,
    }
    call.stored()?;
    done()
}

/// Writing to the destination and reading from the source.
fn check(call: &Call, source: &str, key: &str) -> Result<(), Refusal> {
    let (kind, name) = match destination(call) {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    };
    let access = call.access()?;
    access.check(Permission::Write, kind, &name)?;
    access.check(Permission::Read, "exchange", source)?;
    if is_topic(call, source) {
        access.check_topic(Permission::Read, source, key)?;
    }
    Ok(())
}

fn is_topic(call: &Call, exchange: &str) -> bool {
    let vhost = call.server().broker.vhost(call.part("vhost"));
    vhost.and_then(|vhost| vhost.exchange_info(exchange)).is_some_and(|exchange| exchange.kind == "topic")
}

fn source(call: &Call) -> &str {
    super::exchanges::real_name(call.part("source"))
}

/// The path says by its names what the destination is.
fn destination(call: &Call) -> Destination {
    match call.has_part("exchange") {
        true => Destination::Exchange(super::exchanges::real_name(call.part("exchange")).into()),
        false => Destination::Queue(call.part("queue").into()),
    }
}

fn target_name(call: &Call) -> &str {
    if call.has_part("exchange") { call.part("exchange") } else { call.part("queue") }
}

fn between_these(call: &Call, vhost: &Arc<VirtualHost>) -> Vec<BindingInfo> {
    let (source, destination) = (source(call), destination(call));
    match (&destination, source) {
        (Destination::Queue(queue), "") => vhost.queue_info(queue).iter().map(|info| implied(&info.name)).collect(),
        _ => {
            let mut bindings = vhost.bindings_to(&destination);
            bindings.retain(|binding| &*binding.source == source);
            bindings
        }
    }
}

fn find(call: &Call, vhost: &Arc<VirtualHost>) -> Result<Listed, Refusal> {
    let wanted = call.part("properties");
    let mut found = listed(vhost, between_these(call, vhost)).into_iter();
    // The key as it is told, or decoded once more than it was encoded.
    let is_it = |it: &Listed| it.properties_key == wanted || wanted != "~" && unquote(&it.properties_key) == wanted;
    found.find(is_it).ok_or_else(Refusal::missing)
}

fn all(vhost: &Arc<VirtualHost>) -> Vec<BindingInfo> {
    let mut bindings = all_implied(vhost);
    bindings.extend(vhost.bindings());
    bindings
}

/// Each queue is bound to the default exchange by its name.
fn all_implied(vhost: &VirtualHost) -> Vec<BindingInfo> {
    vhost.queue_names().iter().map(implied).collect()
}

fn implied(queue: &Arc<str>) -> BindingInfo {
    BindingInfo {
        source: "".into(),
        destination: Destination::Queue(queue.clone()),
        key: (&**queue).into(),
        arguments: FieldTable::new(),
    }
}

fn listed(vhost: &VirtualHost, bindings: Vec<BindingInfo>) -> Vec<Listed> {
    let listed = bindings.into_iter().map(|binding| Listed {
        vhost: vhost.name().clone(),
        properties_key: properties_key(&binding.key, &binding.arguments),
        binding,
    });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by(|a, b| order(a).cmp(&order(b)));
    listed
}

fn order(listed: &Listed) -> (&str, &str, &str, &str, &str) {
    let (kind, name) = target(&listed.binding);
    (&listed.binding.source, name, kind, &listed.binding.key, &listed.properties_key)
}

fn target(binding: &BindingInfo) -> (&'static str, &str) {
    match &binding.destination {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    }
}

fn answer(call: &Call, items: Vec<Listed>) -> Answer {
    let fill = |listed: &Listed, fields: &mut Fields<'_>| {
        let Value::Object(map) = show(listed) else { return };
        map.into_iter().for_each(|(field, value)| fields.put(&field, value));
    };
    List { items, name: |listed: &Listed| &*listed.binding.source, fill }.answer_whole(&call.query)
}

fn show(listed: &Listed) -> Value {
    let Listed { vhost, binding, properties_key } = listed;
    let (kind, name) = target(binding);
    json!({
        "source": &*binding.source,
        "vhost": &**vhost,
        "destination": name,
        "destination_type": kind,
        "routing_key": &*binding.key,
        "arguments": fieldtable::to_json(binding.arguments.as_table()),
        "properties_key": properties_key,
    })
}

/// What tells bindings between the same two apart: `~`, or the key, or the key with a hash of the arguments behind `~`.
/// It has RabbitMQ's form; the hash is not Erlang's, and to be taken as it is.
fn properties_key(key: &str, arguments: &FieldTable) -> String {
    match (key, arguments.is_empty()) {
        ("", true) => "~".to_string(),
        (key, true) => quote(key),
        (key, false) => {
            let hash = Sha256::digest(arguments.as_table().as_bytes());
            let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash[..4]);
            format!("{}~{hash}", quote(key))
        }
    }
}

/// As a form's field is encoded; `~` is not left, since it would look like the end of the key.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => quoted.push(byte as char),
            b' ' => quoted.push('+'),
            other => quoted.push_str(&format!("%{other:02X}")),
        }
    }
    quoted
}

/// The other way round.
fn unquote(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
