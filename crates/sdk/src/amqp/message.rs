//! From events to AMQP's messages and back.

use super::engine::Engine;
use super::fault::Fault;
use super::ladder::{self, Exit};
use super::publisher::Parcel;
use crate::contract::{
    KEY, PUBLISHED, Reading, TRACE, TRACE_STATE, death, exchange_of, millis, published, tells_of_death,
};
use crate::driver::Death;
use crate::message::{Incoming, Outgoing};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::collections::BTreeMap;

/// How often a message came back to its queue, in quorum queues.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// What survives a broker.
const PERSISTENT: u8 = 2;

/// Headers, by their names.
pub(super) type Headers = BTreeMap<ShortString, AMQPValue>;

/// A message as it is published to its topic.
///
/// # Errors
/// If its id is longer than AMQP allows.
pub(super) fn parcel(engine: Engine, message: &Outgoing) -> Result<Parcel<'_>, Fault> {
    let (mut exchange, mut key) = (exchange_of(message).into_owned(), String::new());
    let mut properties = properties(message)?.with_delivery_mode(PERSISTENT);
    if let Some(delay) = message.delay {
        match engine {
            Engine::Leveret => {
                let mut headers = headers_of(&properties);
                headers.insert("x-delay".into(), AMQPValue::LongLongInt(millis(delay)));
                properties = properties.with_headers(headers.into());
            }
            Engine::RabbitMq => (exchange, key) = ladder::enter(delay, Exit::Topic(message.topic)),
        }
    }
    Ok(Parcel { exchange: short(exchange)?, key: short(key)?, properties, body: &message.body })
}

/// What a message says of itself.
///
/// # Errors
/// If its id is longer than AMQP allows.
pub(super) fn properties(message: &Outgoing) -> Result<BasicProperties, Fault> {
    let mut headers = FieldTable::default();
    for (name, value) in &message.attributes {
        headers.insert(short(name.as_str())?, AMQPValue::LongString(value.as_str().into()));
    }
    headers.insert(PUBLISHED.into(), AMQPValue::LongLongInt(published(message)));
    if let Some(key) = &message.key {
        headers.insert(KEY.into(), AMQPValue::LongString(key.as_str().into()));
    }
    if let Some(trace) = &message.trace {
        headers.insert(TRACE.into(), AMQPValue::LongString(trace.to_string().into()));
        if let Some(state) = trace.state() {
            headers.insert(TRACE_STATE.into(), AMQPValue::LongString(state.into()));
        }
    }
    Ok(BasicProperties::default()
        .with_content_type(short(message.content_type)?)
        .with_message_id(short(message.id.to_string())?)
        .with_headers(headers))
}

/// A text that AMQP has in 255 bytes.
pub(super) fn short(text: impl Into<String>) -> Result<ShortString, Fault> {
    let text = text.into();
    ShortString::try_new(text.as_str()).map_err(|_| {
        let begin: String = text.chars().take(40).collect();
        Fault::refused(format!("'{begin}...' has {} bytes: AMQP allows 255 of a name or id", text.len()))
    })
}

/// A message that was received, as the SDK sees it, with a copy of its body.
pub(super) fn incoming(engine: Engine, delivery: &Delivery, is_dead: bool) -> (Incoming, Option<Box<Death>>) {
    let properties = &delivery.properties;
    let id = properties.message_id().as_ref().map_or("", ShortString::as_str);
    let mut reading = Reading::new(id, *properties.timestamp(), delivery.data.clone(), is_dead);
    let mut count = 0;
    for (name, value) in properties.headers().iter().flatten() {
        let (text, number) = (as_text(value), as_number(value));
        reading.header(name.as_str(), text, number);
        // RabbitMQ counts what comes back for any reason; attempts are told by a header there.
        if engine == Engine::Leveret && name.as_str() == DELIVERY_COUNT {
            count = number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        }
    }
    reading.done(count)
}

pub(super) fn as_text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

pub(super) fn as_number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

/// The headers of a message.
pub(super) fn headers_of(properties: &BasicProperties) -> Headers {
    properties.headers().as_ref().map(|headers| headers.inner().clone()).unwrap_or_default()
}

/// What a message has on its next way: its headers, as `change` leaves them, and everything else as it was, but for what would send it
/// elsewhere, let it expire, or be refused because another user has published it.
pub(super) fn copy(properties: &BasicProperties, change: impl FnOnce(&mut Headers)) -> BasicProperties {
    let mut headers = headers_of(properties);
    ["CC", "BCC", DELIVERY_COUNT].iter().for_each(|name| _ = headers.remove(*name));
    change(&mut headers);
    let mut copy = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers.into());
    macro_rules! keep {
        ($($get:ident $with:ident)*) => { $(if let Some(value) = properties.$get() { copy = copy.$with(value.clone()); })* };
    }
    keep!(
        content_type with_content_type
        content_encoding with_content_encoding
        priority with_priority
        correlation_id with_correlation_id
        reply_to with_reply_to
        message_id with_message_id
        timestamp with_timestamp
        kind with_type
        app_id with_app_id
    );
    copy
}

/// Takes out of headers what tells of failed attempts: of those that a broker writes, RabbitMQ reads `x-death` again, and takes a message that comes
/// by a second time for one that goes round for ever.
pub(super) fn forget_death(headers: &mut Headers) {
    headers.retain(|name, _| !tells_of_death(name.as_str()));
}

/// Writes into the headers of a dead letter why it died.
pub(super) fn note_death(headers: &mut Headers, queue: &str, exchange: &str, reason: &str, error: &str) {
    for (name, value) in death(queue, exchange, reason, error) {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
}
