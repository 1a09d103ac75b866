//! What the arguments of a queue or exchange say about duplicates, and the key of a message.

use super::hash::{Hash, Seed};
use crate::error::{Error, Result};
use crate::times::MAX_DUE;
use leveret_wire::properties::Properties;
use leveret_wire::table::{Table, Value};

/// The argument that turns it on (LavinMQ, and RabbitMQ's plugin for queues).
pub(crate) const ARGUMENT: &str = "x-message-deduplication";

/// The name of the exchange type of RabbitMQ's plugin, which is the same.
pub(crate) const EXCHANGE_TYPE: &str = ARGUMENT;

/// The argument for how many keys are remembered.
pub(crate) const SIZE: &str = "x-cache-size";

/// The argument, and the header, for how long: milliseconds.
pub(crate) const TTL: &str = "x-cache-ttl";

/// The argument that names the header with the key, and the name of that header unless it says otherwise.
pub(crate) const HEADER: &str = "x-deduplication-header";

/// Keys of the plugin without a meaning here: they are durable in any case.
pub(crate) const PERSISTENCE: &str = "x-cache-persistence";

/// Keys that a window has unless its arguments say otherwise; LavinMQ has 128, which a busy minute goes through.
const DEFAULT_SIZE: usize = 128 * 1024;

/// Keys that a window may have at most: about 500 MB of memory.
pub(crate) const MAX_SIZE: i64 = 10_000_000;

/// Which messages are duplicates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    header: Option<Box<str>>,
    pub(super) size: usize,
    /// Milliseconds.
    ttl: Option<u64>,
}

impl Rule {
    /// From arguments that [`crate::arguments`] has accepted; `None` unless they ask for it, or the type does.
    pub(crate) fn from_arguments(arguments: Table<'_>, by_type: bool) -> Option<Rule> {
        if !by_type && !matches!(arguments.get(ARGUMENT), Some(Value::Bool(true))) {
            return None;
        }
        let number = |name| arguments.get(name).as_ref().and_then(number);
        let header = arguments.get(HEADER).as_ref().and_then(Value::as_str).map(Box::from);
        let size = number(SIZE).and_then(|size| usize::try_from(size).ok()).unwrap_or(DEFAULT_SIZE);
        Some(Rule { header, size, ttl: number(TTL).and_then(|ttl| u64::try_from(ttl).ok()) })
    }

    /// The key of a message: the value of a header, or else its message-id. `None` if it has neither.
    pub(crate) fn key(&self, seed: Seed, properties: &Properties<'_>) -> Option<Hash> {
        let headers = properties.headers.unwrap_or_default();
        let header = headers.get(self.header.as_deref().unwrap_or(HEADER));
        match header.and_then(|value| hash(seed, value)) {
            Some(key) => Some(key),
            None => properties.message_id.filter(|id| !id.is_empty()).map(|id| seed.hash(b'M', id)),
        }
    }

    /// Until when a key is remembered, in milliseconds since 1970.
    pub(crate) fn until(&self, own_ttl: Option<u64>, now: u64) -> u64 {
        own_ttl.or(self.ttl).map_or(MAX_DUE, |ttl| now.saturating_add(ttl))
    }
}

/// Integers are equal by value, whatever their width: clients choose that by the number.
fn hash(seed: Seed, value: Value<'_>) -> Option<Hash> {
    if let Some(number) = value.as_i64() {
        return Some(seed.hash(b'i', &number.to_le_bytes()));
    }
    Some(match value {
        Value::Bool(flag) => seed.hash(b't', &[u8::from(flag)]),
        Value::U64(number) => seed.hash(b'L', &number.to_le_bytes()),
        Value::F32(number) => seed.hash(b'd', &f64::from(number).to_le_bytes()),
        Value::F64(number) => seed.hash(b'd', &number.to_le_bytes()),
        Value::Decimal { scale, value } => seed.hash(b'D', &(u64::from(value) << 8 | u64::from(scale)).to_le_bytes()),
        Value::LongString(text) => seed.hash(b'S', text),
        Value::Array(array) => seed.hash(b'A', array.as_bytes()),
        Value::Timestamp(seconds) => seed.hash(b'T', &seconds.to_le_bytes()),
        Value::Table(table) => seed.hash(b'F', table.as_bytes()),
        Value::Bytes(bytes) => seed.hash(b'x', bytes),
        // Nothing is no key.
        _ => return None,
    })
}

/// An integer, or one as text: RabbitMQ's plugin takes both.
pub(crate) fn number(value: &Value<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// How long the key of a message is to be remembered, by its own header. 406 if that is no time.
pub(crate) fn own_ttl(headers: Table<'_>) -> Result<Option<u64>> {
    let Some(value) = headers.get(TTL) else { return Ok(None) };
    let ttl = number(&value).and_then(|ttl| u64::try_from(ttl).ok()).filter(|ttl| *ttl <= MAX_DUE);
    let refuse =
        || Error::precondition(format!("invalid header '{TTL}': expected milliseconds, an integer of 0 or more"));
    ttl.map(Some).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::table::FieldTable;

    fn key(header: Option<Value<'_>>, message_id: Option<&[u8]>) -> Option<Hash> {
        let rule = Rule::from_arguments(FieldTable::new().with(HEADER, "k").as_table(), true).expect("by its type");
        let headers = header.map(|value| FieldTable::new().with("k", value)).unwrap_or_default();
        let properties = Properties { headers: Some(headers.as_table()), message_id, ..Properties::EMPTY };
        rule.key(Seed(1), &properties)
    }

    #[test]
    fn values_are_different_keys_if_they_or_their_types_differ() {
        let values = [
            Value::Bool(true),
            Value::I32(1),
            Value::F64(1.0),
            Value::Timestamp(1),
            Value::U64(u64::MAX),
            Value::Decimal { scale: 0, value: 1 },
            Value::LongString(b"1"),
            Value::Bytes(b"1"),
            Value::LongString(b""),
        ];
        let mut keys: Vec<_> = values.iter().map(|value| key(Some(*value), None).expect("a key")).collect();
        keys.extend(key(None, Some(b"1")));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10);
        assert_eq!(key(Some(Value::I8(1)), None), key(Some(Value::I64(1)), Some(b"x")));
        assert_eq!(key(Some(Value::Void), Some(b"1")), key(None, Some(b"1")));
        assert_eq!((key(None, None), key(None, Some(b"")), key(Some(Value::Void), None)), (None, None, None));
    }
}
