//! What engines that speak AMQP carry: the names of exchanges and queues, and the headers of messages. docs/wire-contract.md tells
//! other programs.

use crate::driver::Death;
use crate::message::{Incoming, Outgoing};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// The exchange that delays a message on its way to a queue of a broadcast, which is its key.
const RETRY: &str = "leveret.retry";

/// What the names of queues of requests begin with.
const REQUESTS: &str = "leveret.rpc.";

/// The header with a message's ordering key.
pub(crate) const KEY: &str = "leveret-key";

/// Headers of the SDK: attempts before a message was published anew, the last error of a dead letter or of a request, and when a
/// message was published, in milliseconds since 1970.
pub(crate) const ATTEMPTS: &str = "leveret-attempts";
pub(crate) const ERROR: &str = "leveret-error";
pub(crate) const PUBLISHED: &str = "leveret-published";

/// The headers of W3C's Trace Context.
pub(crate) const TRACE: &str = "traceparent";
pub(crate) const TRACE_STATE: &str = "tracestate";

/// An argument of a subscription's queue: the filter of its binding, so that one with another filter is another queue.
pub(crate) const FILTER: &str = "leveret-filter";

/// The most bytes of an error in a header.
const ERROR_MAX: usize = 4096;

/// The exchange that a message is published to.
pub(crate) fn exchange_of(message: &Outgoing) -> Cow<'static, str> {
    match message.delay {
        None => message.topic.into(),
        Some(_) => later(message.topic).into(),
    }
}

/// The exchange of a topic's messages that are to be delivered later.
pub(crate) fn later(topic: &str) -> String {
    format!("{topic}.later")
}

/// The exchange that delays a message on its way back to a queue, which is its key. Each subscription has one, so that what waits in it
/// can be counted; queues of broadcasts come and go, and share one.
pub(crate) fn retry(queue: &str, is_broadcast: bool) -> Cow<'static, str> {
    match is_broadcast {
        true => RETRY.into(),
        false => format!("{queue}.retry").into(),
    }
}

/// The queue of the requests for a name.
pub(crate) fn requests(name: &str) -> String {
    format!("{REQUESTS}{name}")
}

/// A duration as headers and arguments have it.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When a message was published, as its header says.
pub(crate) fn published(message: &Outgoing) -> i64 {
    millis(message.published.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// As much of an error as a header has.
pub(crate) fn cut(error: &str) -> &str {
    let end = (0..=error.len().min(ERROR_MAX)).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
    &error[..end]
}

/// A message that is read.
#[derive(Debug)]
pub(crate) struct Reading {
    incoming: Incoming,
    /// Of dead letters. In a box, as it goes with every message from place to place.
    death: Option<Box<Death>>,
    before: u32,
    trace_state: Option<String>,
}

impl Reading {
    /// `timestamp` is the property, in seconds since 1970.
    #[inline]
    pub(crate) fn new(id: &str, timestamp: Option<u64>, body: Vec<u8>, is_dead: bool) -> Reading {
        let mut incoming = Incoming::new(id, body);
        incoming.meta.published = timestamp.and_then(|seconds| at(i64::try_from(seconds).ok()?.checked_mul(1000)?));
        Reading { incoming, death: is_dead.then(Box::default), before: 0, trace_state: None }
    }

    /// A header, as text or as a number, if it is one of them.
    pub(crate) fn header(&mut self, name: &str, text: Option<&str>, number: Option<i64>) {
        let meta = &mut self.incoming.meta;
        match (name, text, number) {
            (KEY, key, _) => meta.key = key.map(str::to_string),
            (TRACE, Some(parent), _) => meta.trace = parent.parse().ok(),
            (TRACE_STATE, state, _) => self.trace_state = state.map(str::to_string),
            (PUBLISHED, _, Some(millis)) => meta.published = at(millis).or(meta.published),
            (ATTEMPTS, _, Some(attempts)) => self.before = u32::try_from(attempts).unwrap_or(0),
            (ERROR, error, _) => self.dies(|death| death.error = error.map(str::to_string)),
            ("x-last-death-reason", Some(reason), _) => self.dies(|death| death.reason = reason.to_string()),
            (name, Some(text), _) if !is_reserved(name) => meta.attributes.push((name.to_string(), text.to_string())),
            (name, None, Some(number)) if !is_reserved(name) => {
                meta.attributes.push((name.to_string(), number.to_string()))
            }
            _ => {}
        }
    }

    fn dies(&mut self, note: impl FnOnce(&mut Death)) {
        if let Some(death) = &mut self.death {
            note(death);
        }
    }

    /// The message, that came back to its queue so often before.
    #[inline]
    pub(crate) fn done(mut self, delivery_count: u64) -> (Incoming, Option<Box<Death>>) {
        let before = self.before;
        self.dies(|death| death.attempts = before);
        let Reading { mut incoming, death, trace_state, .. } = self;
        if let Some(state) = trace_state {
            incoming.meta.trace = incoming.meta.trace.map(|parent| parent.with_state(&state));
        }
        let count = u32::try_from(delivery_count).unwrap_or(u32::MAX);
        incoming.meta.attempt = before.saturating_add(count).saturating_add(1);
        (incoming, death)
    }
}

fn at(millis: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}

/// Headers that are no attributes.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("leveret-") || matches!(name, "CC" | "BCC" | TRACE | TRACE_STATE)
}

/// Headers that tell of failed attempts. A message that is redriven loses them. What another program has given its message
/// stays, whatever its name.
pub(crate) fn tells_of_death(name: &str) -> bool {
    const ONES: [&str; 5] = [ATTEMPTS, ERROR, "x-death", "x-delay", "x-delivery-count"];
    ONES.contains(&name) || name.starts_with("x-first-death-") || name.starts_with("x-last-death-")
}

/// Headers of a dead letter that the SDK has moved, as a broker writes them for those that it moves itself.
pub(crate) fn death<'a>(
    queue: &'a str,
    exchange: &'a str,
    reason: &'a str,
    error: &'a str,
) -> [(&'static str, &'a str); 7] {
    [
        (ERROR, cut(error)),
        ("x-first-death-reason", reason),
        ("x-last-death-reason", reason),
        ("x-first-death-queue", queue),
        ("x-last-death-queue", queue),
        ("x-first-death-exchange", exchange),
        ("x-last-death-exchange", exchange),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redriven_message_keeps_what_its_publisher_gave_it() {
        let given = ["plan", "x-request-id", PUBLISHED, KEY];
        let told = [ATTEMPTS, ERROR, "x-death", "x-first-death-queue", "x-last-death-reason", "x-delay"];
        let left = given.iter().chain(&told).filter(|name| !tells_of_death(name));
        assert_eq!(left.collect::<Vec<_>>(), given.iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_error_is_cut_between_characters() {
        let long = format!("{}ü", "a".repeat(ERROR_MAX - 1));
        assert_eq!(cut(&long).len(), ERROR_MAX - 1);
        assert_eq!(cut("ü"), "ü");
    }
}
