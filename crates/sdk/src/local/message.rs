//! From events to the broker's messages and back.

use crate::contract::{
    KEY, PUBLISHED, Reading, TRACE, TRACE_STATE, death, exchange_of, millis, published, tells_of_death,
};
use crate::driver::Death;
use crate::message::{IdText, Incoming, Outgoing};
use leveret_broker::table::FieldTable;
use leveret_broker::{Content, Message, Properties};
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes that the headers of most messages have room in.
const HEADERS: usize = 64;

/// A message as it is published.
pub(super) struct Prepared<'a> {
    pub(super) exchange: Cow<'static, str>,
    headers: Arc<FieldTable>,
    id: IdText<'a>,
    message: &'a Outgoing,
}

impl<'a> Prepared<'a> {
    pub(super) fn of(message: &'a Outgoing) -> Prepared<'a> {
        Prepared { exchange: exchange_of(message), headers: Arc::new(headers(message)), id: message.id.text(), message }
    }

    /// Messages that are published together have the same headers, most of them.
    pub(super) fn all(messages: &'a [Outgoing]) -> Vec<Prepared<'a>> {
        let mut all: Vec<Prepared<'a>> = Vec::with_capacity(messages.len());
        for message in messages {
            let prepared = match all.last().filter(|before| has_same_headers(before.message, message)) {
                Some(before) => {
                    let headers = before.headers.clone();
                    Prepared { exchange: exchange_of(message), headers, id: message.id.text(), message }
                }
                None => Prepared::of(message),
            };
            all.push(prepared);
        }
        all
    }

    pub(super) fn properties(&self) -> Properties<'_> {
        Properties {
            content_type: Some(self.message.content_type),
            message_id: Some(self.id.as_bytes()),
            headers: Some(self.headers.as_table()),
            ..Properties::EMPTY
        }
    }
}

impl<'a> From<&'a Prepared<'_>> for Content<'a> {
    fn from(prepared: &'a Prepared<'_>) -> Content<'a> {
        Content::new(&prepared.message.body).properties(prepared.properties())
    }
}

/// A message with the exchange and the key that it goes to.
pub(super) fn addressed<'a, 'b>(prepared: &'a Prepared<'b>) -> (&'a str, &'a str, &'a Prepared<'b>) {
    (&prepared.exchange, "", prepared)
}

fn headers(message: &Outgoing) -> FieldTable {
    let mut headers = FieldTable::with_capacity(HEADERS);
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
    headers
}

/// Whether [`headers`] makes the same of both.
fn has_same_headers(a: &Outgoing, b: &Outgoing) -> bool {
    a.published == b.published
        && a.delay == b.delay
        && a.trace == b.trace
        && a.attributes == b.attributes
        && a.key == b.key
}

/// A message that was received, as the SDK sees it. One whose properties cannot be read has none.
#[inline]
pub(super) fn incoming(message: &Message, is_dead: bool) -> (Incoming, Option<Box<Death>>) {
    let properties = message.properties().unwrap_or(Properties::EMPTY);
    // Looked at once where it is text, as it mostly is.
    let id = properties.message_id.unwrap_or_default();
    let id = std::str::from_utf8(id).map_or_else(|_| String::from_utf8_lossy(id), Cow::Borrowed);
    let mut reading = Reading::new(&id, properties.timestamp, message.body().to_vec(), is_dead);
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
