//! What becomes of a message that dies in a queue: the letter that goes to its dead-letter exchange, and its history.
//!
//! The headers are RabbitMQ's: `x-death` has an entry per queue and reason, the most recent first, with a count; the
//! first and the last death are also told by three headers each.

use crate::message::{Message, encode_route};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldArray, FieldTable, Table, Value};

/// Where a queue's dead letters go.
#[derive(Debug)]
pub(crate) struct Target {
    exchange: Box<str>,
    /// In place of the message's own key.
    routing_key: Option<Box<str>>,
}

impl Target {
    /// From a queue's arguments, which were checked.
    pub(crate) fn from_arguments(arguments: Table<'_>) -> Option<Target> {
        let text = |name| arguments.get(name).as_ref().and_then(Value::as_str).map(Box::from);
        Some(Target { exchange: text("x-dead-letter-exchange")?, routing_key: text("x-dead-letter-routing-key") })
    }

    /// The exchange.
    pub(crate) fn exchange(&self) -> &str {
        &self.exchange
    }
}

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A consumer did not want it.
    Rejected,
    /// Its time was over.
    Expired,
    /// The queue was full.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message on its way to the dead-letter exchange.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Its routing key, then those of its CC header.
    pub(crate) keys: Vec<String>,
    /// Exchange and key as a record holds them.
    pub(crate) route: Vec<u8>,
    /// Its headers, with the history.
    pub(crate) headers: FieldTable,
    /// Its properties, encoded.
    pub(crate) properties: Vec<u8>,
    reason: Reason,
}

/// Writes the letter for a message that died in `queue` at `now` (seconds since 1970).
///
/// # Panics
/// If the message's properties cannot be decoded: they were when it was published.
pub(crate) fn letter(message: &Message<'_>, queue: &str, reason: Reason, target: &Target, now: u64) -> Letter {
    let mut properties =
        Properties::decode_stored(message.properties).expect("properties are checked before they are queued");
    let mut headers = properties.headers.map(FieldTable::from).unwrap_or_default();
    let mut keys = vec![message.routing_key().to_string()];
    if let Some(Value::Array(extra)) = headers.get("CC") {
        keys.extend(extra.iter().filter_map(|key| Some(key.as_str()?.to_string())));
    }
    let death = Death { message, queue, reason: reason.name(), keys: &keys, expiration: properties.expiration, now };
    let (deaths, is_first) = (death.before(headers.as_table()), headers.get("x-death").is_none());
    headers.insert("x-death", &deaths);
    // What a client may have written there does not count.
    if is_first {
        headers.insert("x-first-death-exchange", message.exchange());
        headers.insert("x-first-death-queue", queue);
        headers.insert("x-first-death-reason", reason.name());
    }
    // Since RabbitMQ 3.13.
    headers.insert("x-last-death-exchange", message.exchange());
    headers.insert("x-last-death-queue", queue);
    headers.insert("x-last-death-reason", reason.name());
    if let Some(key) = &target.routing_key {
        headers.remove("CC");
        keys = vec![key.to_string()];
    }
    // Or it would expire in the next queue as well.
    properties.expiration = None;
    properties.headers = Some(headers.as_table());
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let route = encode_route(&target.exchange, &keys[0]);
    Letter { keys, route, headers, properties: encoded, reason }
}

impl Letter {
    /// It would come back to a queue in which it died before without anybody having rejected it since: it would go round
    /// for ever, so it is dropped (RabbitMQ's rule).
    pub(crate) fn would_cycle(&self, queue: &str) -> bool {
        let Some(Value::Array(deaths)) = self.headers.get("x-death").filter(|_| self.reason != Reason::Rejected) else {
            return false;
        };
        for death in deaths.iter() {
            let Value::Table(death) = death else { return false };
            if death.get("reason").is_none_or(|reason| reason.as_str() == Some(Reason::Rejected.name())) {
                return false;
            }
            if death.get("queue").is_some_and(|name| name.as_str() == Some(queue)) {
                return true;
            }
        }
        false
    }
}

/// A dead letter as it was before it first died, for the queue that it died in.
#[derive(Debug)]
pub(crate) struct Revived {
    /// The name of that queue.
    pub(crate) queue: String,
    /// Exchange and key that it was published with, as a record holds them.
    pub(crate) route: Vec<u8>,
    /// Its properties without the history, encoded. An expiration that it had is not given back: it would be over.
    pub(crate) properties: Vec<u8>,
}

/// Undoes [`letter`]. `None` if the message tells of no death.
///
/// # Panics
/// If the message's properties cannot be decoded: they were when it was published.
pub(crate) fn revive(message: &Message<'_>) -> Option<Revived> {
    let mut properties =
        Properties::decode_stored(message.properties).expect("properties are checked before they are queued");
    let mut headers = properties.headers.map(FieldTable::from)?;
    let queue = headers.get("x-first-death-queue")?.as_str()?.to_string();
    let route = {
        let deaths = headers.get("x-death")?;
        let Value::Array(deaths) = deaths else { return None };
        let deaths: Vec<Value<'_>> = deaths.iter().collect();
        let of_queue = |death: &&Value<'_>| matches!(death, Value::Table(death) if death.get("queue").is_some_and(|it| it.as_str() == Some(&queue)));
        // The oldest comes last.
        let Some(Value::Table(death)) = deaths.iter().rfind(of_queue) else { return None };
        let key = match death.get("routing-keys") {
            Some(Value::Array(keys)) => keys.iter().next().and_then(|key| Some(key.as_str()?.to_string())),
            _ => None,
        };
        encode_route(death.get("exchange")?.as_str()?, &key?)
    };
    for name in HISTORY {
        headers.remove(name);
    }
    properties.headers = Some(headers.as_table()).filter(|headers| !headers.is_empty());
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    Some(Revived { queue, route, properties: encoded })
}

/// The headers that tell of deaths.
const HISTORY: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

/// A message's death in a queue.
struct Death<'a> {
    message: &'a Message<'a>,
    queue: &'a str,
    reason: &'static str,
    /// The message's routing keys.
    keys: &'a [String],
    expiration: Option<&'a str>,
    now: u64,
}

impl Death<'_> {
    /// `x-death` with this death at its front: counted up if there was one in this queue for this reason.
    fn before(&self, headers: Table<'_>) -> FieldArray {
        let before: Vec<Value<'_>> = match headers.get("x-death") {
            Some(Value::Array(deaths)) => deaths.iter().collect(),
            _ => Vec::new(),
        };
        let front = match before.iter().find(|death| self.is_same(death)) {
            Some(Value::Table(same)) => {
                let count = same.get("count").and_then(|count| count.as_i64()).unwrap_or(0);
                let mut same = FieldTable::from(*same);
                same.insert("count", count.saturating_add(1));
                same
            }
            _ => self.first(),
        };
        let older = before.into_iter().filter(|death| !self.is_same(death));
        older.fold(FieldArray::new().with(&front), |deaths, death| deaths.with(death))
    }

    fn is_same(&self, death: &Value<'_>) -> bool {
        let Value::Table(death) = death else { return false };
        let says = |name, text| death.get(name).is_some_and(|value| value.as_str() == Some(text));
        says("queue", self.queue) && says("reason", self.reason)
    }

    fn first(&self) -> FieldTable {
        let keys = self.keys.iter().fold(FieldArray::new(), |keys, key| keys.with(key));
        let mut death = FieldTable::new()
            .with("count", 1i64)
            .with("reason", self.reason)
            .with("queue", self.queue)
            .with("time", Value::Timestamp(self.now))
            .with("exchange", self.message.exchange())
            .with("routing-keys", &keys);
        if let Some(expiration) = self.expiration {
            death.insert("original-expiration", expiration);
        }
        death
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Account, Run};
    use expect_test::{Expect, expect};

    fn target(arguments: FieldTable) -> Target {
        Target::from_arguments(arguments.as_table()).expect("has an exchange")
    }

    /// The letter of a message with these headers, and the letter of that letter, rejected in the same queue.
    fn check(headers: FieldTable, target: &Target, expected: Expect) {
        let (mut properties, account) = (Vec::new(), Account::default());
        Properties { headers: Some(headers.as_table()), ..Properties::EMPTY }.encode(&mut properties);
        let mut run = Run::default();
        run.push(&encode_route("orders", "eu"), &properties, b"body", false);
        let block = run.seal(&account);
        let first = letter(&block.at(0).0, "q", Reason::Rejected, target, 1_700_000_000);
        run.push(&first.route, &first.properties, b"body", false);
        let again = run.seal(&account);
        let second = letter(&again.at(0).0, "q", Reason::Rejected, target, 1_800_000_000);
        expected.assert_eq(&format!("{:?} {:#?}\n{:?} {:#?}", first.keys, first.headers, second.keys, second.headers));
    }

    #[test]
    fn the_history_grows_by_queue_and_reason() {
        check(
            FieldTable::new().with("CC", &FieldArray::new().with("us")),
            &target(FieldTable::new().with("x-dead-letter-exchange", "dead").with("x-dead-letter-routing-key", "all")),
            expect![[r#"
                ["all"] {
                    "x-death": [
                        {
                            "count": I64(1),
                            "reason": LongString("rejected"),
                            "queue": LongString("q"),
                            "time": Timestamp(1700000000),
                            "exchange": LongString("orders"),
                            "routing-keys": [
                                LongString("eu"),
                                LongString("us"),
                            ],
                        },
                    ],
                    "x-first-death-exchange": LongString("orders"),
                    "x-first-death-queue": LongString("q"),
                    "x-first-death-reason": LongString("rejected"),
                    "x-last-death-exchange": LongString("orders"),
                    "x-last-death-queue": LongString("q"),
                    "x-last-death-reason": LongString("rejected"),
                }
                ["all"] {
                    "x-first-death-exchange": LongString("orders"),
                    "x-first-death-queue": LongString("q"),
                    "x-first-death-reason": LongString("rejected"),
                    "x-death": [
                        {
                            "reason": LongString("rejected"),
                            "queue": LongString("q"),
                            "time": Timestamp(1700000000),
                            "exchange": LongString("orders"),
                            "routing-keys": [
                                LongString("eu"),
                                LongString("us"),
                            ],
                            "count": I64(2),
                        },
                    ],
                    "x-last-death-exchange": LongString("dead"),
                    "x-last-death-queue": LongString("q"),
                    "x-last-death-reason": LongString("rejected"),
                }"#]],
        );
    }

    #[test]
    fn without_a_key_of_its_own_the_letter_keeps_those_of_the_message() {
        let target = target(FieldTable::new().with("x-dead-letter-exchange", ""));
        let mut run = Run::default();
        let mut properties = Vec::new();
        let headers = FieldTable::new().with("CC", &FieldArray::new().with("us"));
        Properties { headers: Some(headers.as_table()), ..Properties::EMPTY }.encode(&mut properties);
        run.push(&encode_route("orders", "eu"), &properties, b"", false);
        let block = run.seal(&Account::default());
        assert_eq!(letter(&block.at(0).0, "q", Reason::Rejected, &target, 0).keys, ["eu", "us"]);
    }
}
