//! What RabbitMQ has no endpoint for: browsing a queue, pausing it, moving its messages.

use super::answer::{Answer, Refusal, done, ok};
use super::call::{Call, expected};
use super::messages;
use crate::auth::Permission;
use leveret_broker::{Browse, BrowsedMessage, Filter, MessageState, MoveTo, Redriven, VirtualHost};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most messages of one answer.
const COUNT_MAX: u64 = 500;

/// The most bytes of a body that are shown.
const BODY_MAX: u64 = 1024 * 1024;

/// Moving ends after this, and says how far it has come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The queue in the path, if the caller may read it.
fn readable(call: &Call) -> Result<(Arc<VirtualHost>, &str), Refusal> {
    let (vhost, name) = (call.vhost()?, call.part("name"));
    vhost.queue_info(name).ok_or_else(Refusal::missing)?;
    call.check(Permission::Read, "queue", name)?;
    Ok((vhost, name))
}

/// `GET /api/queues/{vhost}/{name}/browse`
pub fn browse(call: &Call) -> Answer {
    let (vhost, name) = readable(call)?;
    let query = &call.query;
    let filter = match query.get("filter").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(Filter::parse(text).map_err(|error| Refusal::bad(format!("filter: {error}")))?),
    };
    let state = match query.get("state") {
        None | Some("") => Vec::new(),
        Some("ready") => vec![MessageState::Ready],
        Some("unacked") => vec![MessageState::Unacked],
        Some("waiting") => vec![MessageState::Waiting],
        Some(other) => return Err(expected("state", "ready, unacked or waiting", &json!(other))),
    };
    let truncate = query.number("truncate", 0, BODY_MAX)?.unwrap_or(4096);
    let defaults = Browse::default();
    let asked = Browse {
        from: query.number("from", 0, u64::MAX)?.unwrap_or(0),
        offset: query.number("offset", 0, u64::MAX)?.unwrap_or(0),
        count: query.number("count", 1, COUNT_MAX)?.unwrap_or(20) as usize,
        states: state,
        filter,
        key: query.get("key").filter(|key| !key.is_empty()).map(str::to_string),
        contains: query.get("contains").filter(|text| !text.is_empty()).map(|text| text.as_bytes().to_vec()),
        max_scanned: query.number("scan", 1, 10_000_000)?.unwrap_or(defaults.max_scanned),
        max_body: truncate as usize,
        ..defaults
    };
    let browsed = vhost.browse(name, &asked)?;
    ok(&json!({
        "messages": browsed.messages.iter().map(show).collect::<Vec<_>>(),
        "scanned": browsed.scanned,
        "next": browsed.next,
        "complete": browsed.complete,
    }))
}

fn show(message: &BrowsedMessage) -> Value {
    let mut one = messages::payload(&message.body, None, false);
    // A beginning may end within a character, which makes it no text.
    if one["payload_encoding"] == "base64" && (message.body.len() as u64) < message.body_length {
        let cut = std::str::from_utf8(&message.body).map_or_else(|error| error.valid_up_to(), str::len);
        if message.body.len() - cut < 4 {
            one = messages::payload(&message.body[..cut], None, false);
        }
    }
    let state = match message.state {
        MessageState::Ready => "ready",
        MessageState::Unacked => "unacked",
        MessageState::Waiting => "waiting",
    };
    one.insert("position".into(), message.position.into());
    one.insert("state".into(), state.into());
    one.insert("exchange".into(), (&*message.exchange).into());
    one.insert("routing_key".into(), (&*message.routing_key).into());
    one.insert("properties".into(), messages::show(&message.properties()));
    one.insert("payload_bytes".into(), message.body_length.into());
    one.insert("persistent".into(), message.persistent.into());
    one.insert("redelivered".into(), message.redelivered.into());
    one.insert("returned".into(), message.returned.into());
    one.insert("arrived_at".into(), message.arrived.into());
    Value::Object(one)
}

/// `PUT /api/queues/{vhost}/{name}/pause`
pub fn pause(call: &Call) -> Answer {
    let (vhost, name) = configurable(call)?;
    call.wait(vhost.pause(name)?)??;
    done()
}

/// `PUT /api/queues/{vhost}/{name}/resume`
pub fn resume(call: &Call) -> Answer {
    let (vhost, name) = configurable(call)?;
    call.wait(vhost.resume(name)?)??;
    done()
}

fn configurable(call: &Call) -> Result<(Arc<VirtualHost>, &str), Refusal> {
    let (vhost, name) = (call.vhost()?, call.part("name"));
    vhost.queue_info(name).ok_or_else(Refusal::missing)?;
    call.check(Permission::Configure, "queue", name)?;
    Ok((vhost, name))
}

/// `POST /api/queues/{vhost}/{name}/move`
pub fn move_messages(call: &Call) -> Answer {
    let (vhost, name) = readable(call)?;
    let body = call.body()?;
    let max = body.number("count", 1, i64::MAX)?.map_or(u64::MAX, |count| count as u64);
    let (queue, exchange) = (body.text("queue")?, body.text("exchange")?);
    let to = match (queue, exchange) {
        (Some(queue), None) => {
            call.check(Permission::Write, "queue", queue)?;
            MoveTo::Queue(queue)
        }
        (None, Some(exchange)) => {
            let exchange = super::exchanges::real_name(exchange);
            call.check(Permission::Write, "exchange", exchange)?;
            MoveTo::Exchange { name: exchange, key: body.text("routing_key")? }
        }
        _ => return Err(Refusal::bad("queue, exchange: one of them has to be there, and not both")),
    };
    let begin = Instant::now();
    let moved = vhost.move_messages(name, to, max, |_| begin.elapsed() < PATIENCE)?;
    call.stored()?;
    ok(&told(&vhost, name, moved))
}

/// `POST /api/queues/{vhost}/{name}/redrive`
pub fn redrive(call: &Call) -> Answer {
    let (vhost, name) = readable(call)?;
    let body = call.body()?;
    let max = body.number("count", 1, i64::MAX)?.map_or(u64::MAX, |count| count as u64);
    let begin = Instant::now();
    let redriven = vhost.redrive_in_steps(name, max, super::queues::NOBODY, |_| begin.elapsed() < PATIENCE)?;
    call.stored()?;
    ok(&told(&vhost, name, redriven))
}

/// What was done, and what is left for another time.
fn told(vhost: &VirtualHost, name: &str, moved: Redriven) -> Value {
    let left = vhost.queue_info(name).map_or(0, |queue| queue.ready);
    json!({ "moved": moved.moved, "kept": moved.kept, "left": left })
}
