//! From events to AMQP messages and back.

use super::topology::{KEY, exchange_of};
use crate::driver::Death;
use crate::message::{Incoming, Outgoing};
use crate::topic::is_reserved;
use leveret_broker::table::FieldTable;
use leveret_broker::{Content, Message, Properties};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// Headers of the SDK: attempts before a message was published anew, the last error of a dead letter, and when a message was published,
/// in milliseconds since 1970.
pub(super) const ATTEMPTS: &str = "leveret-attempts";
pub(super) const ERROR: &str = "leveret-error";
const PUBLISHED: &str = "leveret-published";

/// The most bytes of an error that a dead letter has.
const ERROR_MAX: usize = 4096;

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
        let published = message.published.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        headers.insert(PUBLISHED, i64::try_from(published.as_millis()).unwrap_or(i64::MAX));
        if let Some(key) = &message.key {
            headers.insert(KEY, key.as_str());
        }
        if let Some(delay) = message.delay {
            headers.insert("x-delay", i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
        }
        Prepared { exchange: exchange_of(message), headers, id: message.id.to_string(), message }
    }

    pub(super) fn content(&self) -> Content<'_> {
        Content::new(&self.message.body).properties(Properties {
            content_type: Some(self.message.content_type),
            message_id: Some(self.id.as_bytes()),
            headers: Some(self.headers.as_table()),
            ..Properties::EMPTY
        })
    }
}

/// A message that was received, as the SDK sees it. One whose properties cannot be read has none.
pub(super) fn incoming(message: &Message) -> (Incoming, Death) {
    let properties = message.properties().unwrap_or(Properties::EMPTY);
    let id = properties.message_id.map(String::from_utf8_lossy).unwrap_or_default();
    let (mut incoming, mut death) = (Incoming::new(&id, message.body().to_vec()), Death::default());
    let (meta, mut before) = (&mut incoming.meta, 0);
    for (name, value) in properties.headers.unwrap_or_default().iter() {
        match (name, value.as_str(), value.as_i64()) {
            (KEY, key, _) => meta.key = key.map(str::to_string),
            (PUBLISHED, _, Some(millis)) => meta.published = at(millis),
            (ATTEMPTS, _, Some(attempts)) => before = u32::try_from(attempts).unwrap_or(0),
            (ERROR, error, _) => death.error = error.map(str::to_string),
            ("x-last-death-reason", Some(reason), _) => death.reason = reason.to_string(),
            (name, Some(text), _) if !is_reserved(name) => meta.attributes.push((name.to_string(), text.to_string())),
            (name, None, Some(number)) if !is_reserved(name) => {
                meta.attributes.push((name.to_string(), number.to_string()))
            }
            _ => {}
        }
    }
    if meta.published.is_none() {
        meta.published = properties.timestamp.and_then(|seconds| at(i64::try_from(seconds).ok()?.checked_mul(1000)?));
    }
    death.attempts = before;
    meta.attempt = before.saturating_add(u32::try_from(message.delivery_count()).unwrap_or(u32::MAX)).saturating_add(1);
    (incoming, death)
}

fn at(millis: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}

/// What a message has on its next way: its headers, as `change` leaves them, and everything else as it was.
pub(super) fn copy<R>(
    message: &Message,
    change: impl FnOnce(&mut FieldTable),
    publish: impl FnOnce(Content<'_>) -> R,
) -> R {
    let properties = message.properties().unwrap_or(Properties::EMPTY);
    let mut headers = properties.headers.map(FieldTable::from).unwrap_or_default();
    change(&mut headers);
    let properties = Properties { headers: Some(headers.as_table()), expiration: None, ..properties };
    publish(Content::new(message.body()).properties(properties))
}

/// Writes into the headers of a dead letter why it died, as the broker does for those that it moves itself.
pub(super) fn note_death(headers: &mut FieldTable, message: &Message, queue: &str, reason: &str, error: &str) {
    let cut = (0..=error.len().min(ERROR_MAX)).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
    headers.insert(ERROR, &error[..cut]);
    for name in ["x-first-death-reason", "x-last-death-reason"] {
        headers.insert(name, reason);
    }
    for name in ["x-first-death-queue", "x-last-death-queue"] {
        headers.insert(name, queue);
    }
    for name in ["x-first-death-exchange", "x-last-death-exchange"] {
        headers.insert(name, message.exchange());
    }
}

/// Takes out of the headers what tells of failed attempts. What another program has given its message stays, whatever its name.
pub(super) fn forget_death(headers: &mut FieldTable) {
    const ONES: [&str; 5] = [ATTEMPTS, ERROR, "x-death", "x-delay", "x-delivery-count"];
    let tells =
        |name: &str| ONES.contains(&name) || name.starts_with("x-first-death-") || name.starts_with("x-last-death-");
    let names: Vec<String> = headers.as_table().iter().map(|(name, _)| name.to_string()).collect();
    names.iter().filter(|name| tells(name)).for_each(|name| _ = headers.remove(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redriven_message_keeps_what_its_publisher_gave_it() {
        let mut headers = FieldTable::new();
        let given = ["plan", "x-request-id", PUBLISHED, KEY];
        let told = [ATTEMPTS, ERROR, "x-death", "x-first-death-queue", "x-last-death-reason", "x-delay"];
        given.iter().chain(&told).for_each(|name| headers.insert(name, "a"));
        forget_death(&mut headers);
        assert_eq!(headers.as_table().iter().map(|(name, _)| name).collect::<Vec<_>>(), given);
    }
}
