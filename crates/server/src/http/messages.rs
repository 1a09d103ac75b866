//! Messages over HTTP: published, got, and as they are shown.

use super::answer::{Answer, Refusal, ok};
use super::call::{Body, Call, expected};
use super::fieldtable;
use super::queues::Desk;
use crate::auth::Permission;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_broker::table::FieldTable;
use leveret_broker::{ClientError, Content, Error, Properties, Published, Settle};
use serde_json::{Map, Value, json};

/// The most messages of one get.
const GET_MAX: i64 = 10_000;

/// A get ends early when it has so many bytes of bodies.
const GET_BYTES: usize = 32 * 1024 * 1024;

/// `POST /api/exchanges/{vhost}/{name}/publish`
pub fn publish(call: &Call) -> Answer {
    let vhost = call.vhost_for_change()?;
    let exchange = super::exchanges::name_in(call);
    let body = call.body()?;
    body.needs(&["routing_key", "properties", "payload", "payload_encoding"])?;
    let key = body.need_text("routing_key")?;
    let Some(payload) = body.0["payload"].as_str() else { return Err(Refusal::bad("payload_not_string")) };
    let payload = match body.need_text("payload_encoding")? {
        "string" => payload.as_bytes().to_vec(),
        "base64" => STANDARD.decode(payload).map_err(|_| expected("payload", "base64", &json!(payload)))?,
        other => return Err(expected("payload_encoding", "string or base64", &json!(other))),
    };
    let given = Given::of(&Body(body.object("properties")?))?;
    let properties = given.properties();
    allow(call, exchange, key, &properties).map_err(as_published)?;
    let client = call.server().broker.connect_to(vhost.name())?;
    // Transient unless the properties say otherwise, as any publish.
    let content = Content::new(&payload).transient().properties(properties).mandatory();
    let published = call.wait(client.publish(exchange, key, content))?;
    match published {
        Ok(published) => ok(&json!({ "routed": published == Published::Routed })),
        Err(ClientError::Unroutable) => ok(&json!({ "routed": false })),
        Err(ClientError::Refused(error)) => Err(as_published(error)),
        Err(other) => Err(other.into()),
    }
}

/// What the caller may publish, as over AMQP.
fn allow(call: &Call, exchange: &str, key: &str, properties: &Properties<'_>) -> leveret_broker::Result<()> {
    let refused = || Error::access_refused("access refused");
    let access = call.access().map_err(|_| refused())?;
    access.check(Permission::Write, "exchange", exchange)?;
    if access.has_topics(exchange) {
        access.check_topic(Permission::Write, exchange, key)?;
    }
    match properties.user_id {
        Some(user) if user != call.caller.name() && !access.may_impersonate() => {
            let text = "user_id property set to";
            Err(Error::precondition(format!("{text} '{user}' but authenticated user was '{}'", call.caller.name())))
        }
        _ => Ok(()),
    }
}

/// RabbitMQ publishes over AMQP, and repeats how its channel was closed.
fn as_published(error: Error) -> Refusal {
    Refusal::bad(format!("{} {} - {}", error.code, code_name(error.code), error.text))
}

fn code_name(code: u16) -> &'static str {
    match code {
        403 => "ACCESS_REFUSED",
        404 => "NOT_FOUND",
        405 => "RESOURCE_LOCKED",
        _ => "PRECONDITION_FAILED",
    }
}

/// Properties from JSON, with what they borrow from.
#[derive(Debug, Default)]
struct Given {
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: Option<FieldTable>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<String>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    kind: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
    cluster_id: Option<String>,
}

impl Given {
    /// What is not among AMQP's properties is left, as in RabbitMQ.
    fn of(body: &Body) -> Result<Given, Refusal> {
        let text = |field: &str| -> Result<Option<String>, Refusal> {
            match body.text(field)? {
                Some(text) if text.len() > 255 => {
                    Err(Refusal::bad(format!("{field}: it has {} bytes, and at most 255 are possible", text.len())))
                }
                text => Ok(text.map(str::to_string)),
            }
        };
        let headers = match body.0.contains_key("headers") {
            true => Some(fieldtable::from_json(&body.object("headers")?, "headers")?),
            false => None,
        };
        let small = |field: &str, max| Ok::<_, Refusal>(body.number(field, 0, max)?.map(|number| number as u8));
        Ok(Given {
            content_type: text("content_type")?,
            content_encoding: text("content_encoding")?,
            headers,
            delivery_mode: small("delivery_mode", 2)?,
            priority: small("priority", 255)?,
            correlation_id: text("correlation_id")?,
            reply_to: text("reply_to")?,
            expiration: text("expiration")?,
            message_id: text("message_id")?,
            timestamp: body.number("timestamp", 0, i64::MAX)?.map(|seconds| seconds as u64),
            kind: text("type")?,
            user_id: text("user_id")?,
            app_id: text("app_id")?,
            cluster_id: text("cluster_id")?,
        })
    }

    fn properties(&self) -> Properties<'_> {
        Properties {
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            headers: self.headers.as_ref().map(FieldTable::as_table),
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            correlation_id: self.correlation_id.as_deref().map(str::as_bytes),
            reply_to: self.reply_to.as_deref(),
            expiration: self.expiration.as_deref(),
            message_id: self.message_id.as_deref().map(str::as_bytes),
            timestamp: self.timestamp,
            r#type: self.kind.as_deref(),
            user_id: self.user_id.as_deref(),
            app_id: self.app_id.as_deref(),
            cluster_id: self.cluster_id.as_deref(),
        }
    }
}

/// `POST /api/queues/{vhost}/{name}/get`
pub fn get(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost_for_change()?, call.part("name"));
    let body = call.body()?;
    body.needs(&["ackmode", "count", "encoding"])?;
    let how = match body.need_text("ackmode")? {
        "ack_requeue_true" | "reject_requeue_true" => Settle::Requeue,
        "ack_requeue_false" => Settle::Ack,
        "reject_requeue_false" => Settle::Reject,
        other => {
            let modes = "ack_requeue_true, ack_requeue_false, reject_requeue_true or reject_requeue_false";
            return Err(expected("ackmode", modes, &json!(other)));
        }
    };
    let as_base64 = match body.need_text("encoding")? {
        "auto" => false,
        "base64" => true,
        _ => return Err(Refusal::bad("Unsupported encoding. Please use auto or base64.")),
    };
    let count = body.number("count", 0, GET_MAX)?.unwrap_or(1);
    let truncate = body.number("truncate", 0, i64::MAX)?.map(|bytes| bytes as usize);
    let access = call.access()?;
    let refused = |error: Error| Refusal::not_allowed(format!("ACCESS_REFUSED - {}", error.text));
    access.check(Permission::Read, "queue", name).map_err(refused)?;
    let mut desk = Desk::open(call, vhost);
    let (channel, session) = desk.parts();
    let (mut shown, mut bytes, mut last) = (Vec::new(), 0, None);
    while (shown.len() as i64) < count && bytes < GET_BYTES {
        let got = channel.get(session, name, false).map_err(|error| match error.code {
            404 => Refusal::not_found(format!("NOT_FOUND - {}", error.text)),
            _ => Refusal::bad(format!("{} - {}", code_name(error.code), error.text)),
        });
        let Some((delivery, tag, left)) = got? else { break };
        last = Some(tag);
        let (message, _) = delivery.block.at(delivery.offset);
        let encoded = delivery.properties(&message);
        let properties = Properties::decode_stored(encoded.as_deref().unwrap_or(message.properties));
        bytes += message.body.len();
        let mut one = payload(message.body, truncate, as_base64);
        one.insert("payload_bytes".into(), message.body.len().into());
        one.insert("redelivered".into(), delivery.redelivered.into());
        one.insert("exchange".into(), message.exchange().into());
        one.insert("routing_key".into(), message.routing_key().into());
        one.insert("message_count".into(), left.into());
        one.insert("properties".into(), show(&properties.unwrap_or_default()));
        shown.push(Value::Object(one));
    }
    if let Some(tag) = last {
        channel.settle(tag, true, how)?;
        channel.apply_settled();
    }
    call.server().broker.check_memory();
    ok(&Value::Array(shown))
}

/// A body as text if it is some, else as base64; perhaps only its beginning.
pub fn payload(body: &[u8], truncate: Option<usize>, as_base64: bool) -> Map<String, Value> {
    let cut = &body[..truncate.unwrap_or(body.len()).min(body.len())];
    let text = match std::str::from_utf8(cut) {
        Ok(text) => Some(text),
        // Cut within a character.
        Err(error) if cut.len() < body.len() && error.error_len().is_none() => {
            std::str::from_utf8(&cut[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let (encoding, payload) = match text.filter(|_| !as_base64) {
        Some(text) => ("string", text.to_string()),
        None => ("base64", STANDARD.encode(cut)),
    };
    let fields = [("payload", payload), ("payload_encoding", encoding.to_string())];
    fields.into_iter().map(|(name, value)| (name.to_string(), value.into())).collect()
}

/// Properties as RabbitMQ shows them; without any it is a list, which is what its JSON library makes of that.
pub fn show(properties: &Properties<'_>) -> Value {
    let mut map = Map::new();
    let texts = [
        ("content_type", properties.content_type),
        ("content_encoding", properties.content_encoding),
        ("reply_to", properties.reply_to),
        ("expiration", properties.expiration),
        ("type", properties.r#type),
        ("user_id", properties.user_id),
        ("app_id", properties.app_id),
        ("cluster_id", properties.cluster_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            map.insert(name.into(), text.into());
        }
    }
    let bytes = [("correlation_id", properties.correlation_id), ("message_id", properties.message_id)];
    for (name, bytes) in bytes {
        if let Some(bytes) = bytes {
            map.insert(name.into(), fieldtable::text(bytes));
        }
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            map.insert(name.into(), number.into());
        }
    }
    if let Some(headers) = properties.headers {
        map.insert("headers".into(), fieldtable::to_json(headers));
    }
    if map.is_empty() { Value::Array(Vec::new()) } else { Value::Object(map) }
}
