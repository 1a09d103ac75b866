//! From events to the broker's messages and back.

use crate::contract::{
    KEY, PUBLISHED, Reading, TRACE, TRACE_STATE, death, exchange_of, millis, published, tells_of_death,
};
use crate::driver::Death;
use crate::message::{Incoming, Outgoing};
use leveret_broker::table::FieldTable;
use leveret_broker::{Content, Message, Properties};
use std::borrow::Cow;

/// A message as it is published.
pub(super) struct Prepared<'a> {
    pub(super) exchange: Cow<'static, str>,
    headers: FieldTable,
    id: String,
    message: &'a Outgoing,
}

impl<'a> Prepared<'a> {
    pub(super) fn of(message: &'a Outgoing) -> Prepared<'a> {
        let mut headers = FieldTable::new();
        message.attributes.iter().for_each(|(name, value)| headers.insert(name, value.as_str()));
        headers.insert(PUBLISHED, published(message));
        if let Some(key) = &message.key {
            headers.insert(KEY, key.as_str());
        }
        if let Some(trace) = &message.trace {
            headers.insert(TRACE, trace.to_string().as_str());
            if let Some(state) = trace.state() {
                headers.insert(TRACE_STATE, state);
            }
        }
        if let Some(delay) = message.delay {
            headers.insert("x-delay", millis(delay));
        }
        Prepared { exchange: exchange_of(message), headers, id: message.id.to_string(), message }
    }

    pub(super) fn properties(&self) -> Properties<'_> {
        Properties {
            content_type: Some(self.message.content_type),
            message_id: Some(self.id.as_bytes()),
            headers: Some(self.headers.as_table()),
            ..Properties::EMPTY
        }
    }

    pub(super) fn content(&self) -> Content<'_> {
        Content::new(&self.message.body).properties(self.properties())
    }
}

/// A message that was received, as the SDK sees it. One whose properties cannot be read has none.
pub(super) fn incoming(message: &Message) -> (Incoming, Death) {
    let properties = message.properties().unwrap_or(Properties::EMPTY);
    let id = properties.message_id.map(String::from_utf8_lossy).unwrap_or_default();
    let mut reading = Reading::new(&id, properties.timestamp, message.body().to_vec());
    for (name, value) in properties.headers.unwrap_or_default().iter() {
        reading.header(name, value.as_str(), value.as_i64());
    }
    reading.done(message.delivery_count())
}

/// What a message has on its next way: its headers, as `change` leaves them, and everything else as it was. CC and BCC ask for keys of the
/// exchange that it was published to first.
pub(super) fn copy<R>(
    message: &Message,
    change: impl FnOnce(&mut FieldTable),
    publish: impl FnOnce(Content<'_>) -> R,
) -> R {
    let properties = message.properties().unwrap_or(Properties::EMPTY);
    let mut headers = properties.headers.map(FieldTable::from).unwrap_or_default();
    ["CC", "BCC"].iter().for_each(|name| _ = headers.remove(name));
    change(&mut headers);
    let properties = Properties { headers: Some(headers.as_table()), expiration: None, ..properties };
    publish(Content::new(message.body()).properties(properties))
}

/// Writes into the headers of a dead letter why it died.
pub(super) fn note_death(headers: &mut FieldTable, message: &Message, queue: &str, reason: &str, error: &str) {
    for (name, value) in death(queue, message.exchange(), reason, error) {
        headers.insert(name, value);
    }
}

/// Takes out of the headers what tells of failed attempts.
pub(super) fn forget_death(headers: &mut FieldTable) {
    let names: Vec<String> = headers.as_table().iter().map(|(name, _)| name.to_string()).collect();
    names.iter().filter(|name| tells_of_death(name)).for_each(|name| _ = headers.remove(name));
}
