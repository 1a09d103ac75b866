//! The arguments of queues and exchanges: which values are valid, and when two declarations agree.

use crate::dedup;
use crate::engine::QueueDeclare;
use crate::error::{Error, Result};
use crate::settings::{DELAYS_FOR, as_f64};
use leveret_wire::table::{Table, Value};

/// Checks types and ranges of the queue arguments that RabbitMQ knows, with its texts.
pub fn check_queue(arguments: Table<'_>, queue: &str, vhost: &str) -> Result<()> {
    for (key, value) in arguments.iter() {
        let checked = match key {
            "x-max-length" | "x-max-length-bytes" => integer(value, 0, i64::MAX),
            "x-message-ttl" | "x-delayed-retry-min" | "x-delayed-retry-max" => integer(value, 0, TIME_MAX),
            "x-expires" => integer(value, 1, TIME_MAX),
            // -1 is no limit (RabbitMQ 4).
            "x-delivery-limit" => integer(value, -1, i64::MAX),
            "x-delayed-retry-jitter" => integer(value, 0, 100),
            "x-delayed-retry-multiplier" => factor(value),
            "x-delayed-retry-type" => one_of(value, &["disabled", "all", "failed", "returned"]),
            "x-max-priority" => integer(value, 0, 255),
            "x-overflow" => match one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"]) {
                Err(_) if text(value).is_ok() => Err("invalid_overflow".to_string()),
                checked => checked,
            },
            "x-dead-letter-exchange" => match value {
                Value::LongString(_) => text(value).map(|_| ()),
                other => {
                    let found = type_name(other);
                    return Err(Error::precondition(format!(
                        "invalid type '{found}' for arg '{key}' in queue '{queue}' in vhost '{vhost}'"
                    )));
                }
            },
            "x-dead-letter-routing-key" => text(value).map(|_| ()),
            "x-single-active-consumer" => match value {
                Value::Bool(_) => Ok(()),
                other => Err(unacceptable(other)),
            },
            "x-group-header" => header_name(value),
            "x-group-prefetch" => integer(value, 1, i64::MAX),
            "x-queue-mode" => match text(value) {
                Ok("default" | "lazy") => Ok(()),
                Ok(other) => Err(format!("\"unsupported queue mode '{other}'\"")),
                Err(why) => Err(why),
            },
            "x-queue-type" => queue_type(value),
            DELAYS_FOR => Err("it is for the broker's own queues".to_string()),
            _ => deduplication(key, value),
        };
        if let Err(why) = checked {
            return Err(Error::precondition(format!(
                "invalid arg '{key}' for queue '{queue}' in vhost '{vhost}': {why}"
            )));
        }
    }
    match contradiction(arguments) {
        None => Ok(()),
        Some((key, why)) => {
            Err(Error::precondition(format!("invalid arg '{key}' for queue '{queue}' in vhost '{vhost}': {why}")))
        }
    }
}

/// Checks the arguments of an exchange that say which messages are duplicates. With `by_type`, its type asks for that.
pub(crate) fn check_exchange(arguments: Table<'_>, exchange: &str, by_type: bool, vhost: &str) -> Result<()> {
    let refuse = |key, why| {
        Err(Error::precondition(format!("invalid arg '{key}' for exchange '{exchange}' in vhost '{vhost}': {why}")))
    };
    for (key, value) in arguments.iter() {
        if let Err(why) = deduplication(key, value) {
            return refuse(key, why);
        }
    }
    if by_type && arguments.get(dedup::SIZE).is_none() {
        // RabbitMQ's plugin, to the letter.
        let text = format!("Missing or invalid argument, '{}' must be an integer greater than 0", dedup::SIZE);
        return Err(Error::precondition(text));
    }
    match without_deduplication(arguments, by_type) {
        None => Ok(()),
        Some((key, why)) => refuse(key, why),
    }
}

/// Whether a queue argument has an effect here; others are kept and compared.
pub fn has_effect(key: &str) -> bool {
    let effective = [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-overflow",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-delivery-limit",
        "x-delayed-retry-type",
        "x-delayed-retry-min",
        "x-delayed-retry-max",
        "x-delayed-retry-multiplier",
        "x-delayed-retry-jitter",
        "x-single-active-consumer",
        "x-group-header",
        "x-group-prefetch",
        "x-queue-type",
        dedup::ARGUMENT,
        dedup::SIZE,
        dedup::TTL,
        dedup::HEADER,
        dedup::PERSISTENCE,
    ];
    effective.contains(&key)
}

/// An argument that cannot hold beside the others, and why.
fn contradiction(arguments: Table<'_>) -> Option<(&'static str, String)> {
    let has = |key| arguments.get(key).is_some();
    if has("x-dead-letter-routing-key") && !has("x-dead-letter-exchange") {
        return Some(("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined".to_string()));
    }
    if let Some(refusal) = retry_contradiction(arguments) {
        return Some(refusal);
    }
    if has("x-group-header") && matches!(arguments.get("x-single-active-consumer"), Some(Value::Bool(true))) {
        let why = "it cannot be together with 'x-single-active-consumer', by which one consumer gets all messages";
        return Some(("x-group-header", why.to_string()));
    }
    if has("x-group-prefetch") && !has("x-group-header") {
        return Some(("x-group-prefetch", "it needs 'x-group-header'".to_string()));
    }
    without_deduplication(arguments, false)
}

/// The same, of those that say when messages are tried again.
pub(crate) fn retry_contradiction(arguments: Table<'_>) -> Option<(&'static str, String)> {
    let has = |key| arguments.get(key).is_some();
    let number = |key| arguments.get(key).and_then(|value| value.as_i64());
    let disabled = arguments.get("x-delayed-retry-type").is_some_and(|kind| kind.as_str() == Some("disabled"));
    let retry = ["x-delayed-retry-type", "x-delayed-retry-max", "x-delayed-retry-multiplier", "x-delayed-retry-jitter"];
    let lonely = retry.into_iter().find(|key| has(key) && !disabled && !has("x-delayed-retry-min"));
    if let Some(key) = lonely {
        return Some((key, "it needs 'x-delayed-retry-min'".to_string()));
    }
    if let (Some(min), Some(max)) = (number("x-delayed-retry-min"), number("x-delayed-retry-max"))
        && min > max
    {
        return Some(("x-delayed-retry-max", format!("it is less than 'x-delayed-retry-min', which is {min}")));
    }
    None
}

/// An argument about duplicates where they are not left out, and why it cannot hold.
fn without_deduplication(arguments: Table<'_>, by_type: bool) -> Option<(&'static str, String)> {
    match (arguments.get(dedup::ARGUMENT), by_type) {
        (Some(Value::Bool(true)), _) | (None, true) => None,
        (Some(_), true) => Some((dedup::ARGUMENT, "the exchange's type asks for it".to_string())),
        (_, false) => {
            let keys = [dedup::SIZE, dedup::TTL, dedup::HEADER, dedup::PERSISTENCE];
            let lonely = keys.into_iter().find(|key| arguments.get(key).is_some());
            lonely.map(|key| (key, format!("it needs '{}'", dedup::ARGUMENT)))
        }
    }
}

/// Checks an argument about duplicates; others are not its business.
fn deduplication(key: &str, value: Value<'_>) -> std::result::Result<(), String> {
    let number = || dedup::number(&value).map_or(value, Value::I64);
    match key {
        dedup::ARGUMENT => match value {
            Value::Bool(_) => Ok(()),
            other => Err(unacceptable(other)),
        },
        dedup::SIZE => integer(number(), 1, dedup::MAX_SIZE),
        dedup::TTL => integer(number(), 1, TIME_MAX),
        dedup::PERSISTENCE => one_of(value, &["memory", "disk"]),
        dedup::HEADER => header_name(value),
        _ => Ok(()),
    }
}

/// Refuses what a queue with `x-queue-type=quorum` cannot be, with RabbitMQ's texts.
pub fn check_quorum(declare: &QueueDeclare<'_>, vhost: &str) -> Result<()> {
    if declare.arguments.get("x-queue-type").is_none_or(|kind| kind.as_str() != Some("quorum")) {
        return Ok(());
    }
    let name = declare.name;
    let flags = [
        (!declare.durable, "non-durable"),
        (declare.auto_delete, "auto-delete"),
        (declare.exclusive, "exclusive-owner"),
    ];
    if let Some((_, flag)) = flags.iter().find(|(is_set, _)| *is_set) {
        return Err(Error::precondition(format!("invalid property '{flag}' for queue '{name}' in vhost '{vhost}'")));
    }
    match ["x-max-priority", "x-queue-mode"].iter().find(|key| declare.arguments.get(key).is_some()) {
        None => Ok(()),
        Some(key) => Err(Error::precondition(format!(
            "invalid arg '{key}' for queue '{name}' in vhost '{vhost}' of queue type rabbit_quorum_queue"
        ))),
    }
}

/// Milliseconds that an argument may have at most: ten years, as in RabbitMQ.
pub(crate) const TIME_MAX: i64 = 10 * 365 * 24 * 60 * 60 * 1000;

fn header_name(value: Value<'_>) -> std::result::Result<(), String> {
    match text(value)?.len() {
        1..=255 => Ok(()),
        length => Err(format!("the name of a header has 1 to 255 bytes, and this has {length}")),
    }
}

fn factor(value: Value<'_>) -> std::result::Result<(), String> {
    match as_f64(value) {
        None => Err(unacceptable(value)),
        Some(factor) if (1.0..=1000.0).contains(&factor) => Ok(()),
        Some(factor) => Err(format!("{factor} is not between 1 and 1000")),
    }
}

fn queue_type(value: Value<'_>) -> std::result::Result<(), String> {
    match text(value)? {
        "classic" | "quorum" => Ok(()),
        "stream" => Err("streams are not supported by this version".to_string()),
        other => Err(format!("\"unsupported queue type '{other}'\"")),
    }
}

fn integer(value: Value<'_>, min: i64, max: i64) -> std::result::Result<(), String> {
    let Some(number) = value.as_i64() else {
        return Err(format!("\"expected integer, got {}\"", type_name(value)));
    };
    match number {
        0 if min > 0 => Err("{value_zero,0}".to_string()),
        n if n < min => Err(format!("{{value_negative,{n}}}")),
        n if n > max && max == TIME_MAX => Err(format!("{{value_too_large,{n}}}")),
        n if n > max => Err(format!("{{max_value_exceeded,{n}}}")),
        _ => Ok(()),
    }
}

fn text(value: Value<'_>) -> std::result::Result<&str, String> {
    match value {
        Value::LongString(_) => value.as_str().ok_or_else(|| "the value is not UTF-8".to_string()),
        other => Err(unacceptable(other)),
    }
}

fn one_of(value: Value<'_>, allowed: &[&str]) -> std::result::Result<(), String> {
    let text = text(value)?;
    if allowed.contains(&text) { Ok(()) } else { Err(format!("{{value_not_in_allowed_set,<<\"{text}\">>}}")) }
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value))
}

/// Fails with 406 where a redeclaration's arguments differ from the current ones. `what` is, for example, `queue 'q'`.
///
/// Integers of any width are equal by value, and an absent `x-queue-type` is `classic`.
pub fn check_equal(current: Table<'_>, received: Table<'_>, what: &str, vhost: &str) -> Result<()> {
    let keys = received.iter().chain(current.iter()).map(|(key, _)| key);
    for key in keys {
        let (old, new) = (lookup(current, key), lookup(received, key));
        let difference = match (old, new) {
            (None, None) => continue,
            (Some(old), Some(new)) if equal(old, new) => continue,
            (Some(old), Some(new)) if class(old) == class(new) => (plain(new), plain(old)),
            (old, new) => (typed(new), typed(old)),
        };
        return Err(Error::precondition(format!(
            "inequivalent arg '{key}' for {what} in vhost '{vhost}': received {} but current is {}",
            difference.0, difference.1
        )));
    }
    Ok(())
}

/// Fails with 406 where a flag of a redeclaration differs.
pub fn check_flag(name: &str, current: bool, received: bool, what: &str, vhost: &str) -> Result<()> {
    if current == received {
        return Ok(());
    }
    Err(Error::precondition(format!(
        "inequivalent arg '{name}' for {what} in vhost '{vhost}': received '{received}' but current is '{current}'"
    )))
}

fn lookup<'a>(table: Table<'a>, key: &str) -> Option<Value<'a>> {
    match (key, table.get(key)) {
        ("x-queue-type", None) => Some(Value::LongString(b"classic")),
        (_, value) => value,
    }
}

fn equal(a: Value<'_>, b: Value<'_>) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn class(value: Value<'_>) -> &'static str {
    if value.as_i64().is_some() { "int" } else { type_name(value) }
}

fn plain(value: Value<'_>) -> String {
    format!("'{}'", show(value))
}

fn typed(value: Option<Value<'_>>) -> String {
    match value {
        None => "none".to_string(),
        Some(value) => format!("the value '{}' of type '{}'", show(value), type_name(value)),
    }
}

fn show(value: Value<'_>) -> String {
    match (value, value.as_i64()) {
        (Value::LongString(text), _) => String::from_utf8_lossy(text).into_owned(),
        (Value::Bool(flag), _) => flag.to_string(),
        (_, Some(number)) => number.to_string(),
        (other, None) => format!("{other:?}"),
    }
}

/// RabbitMQ's name of a field's type.
pub(crate) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) => "long",
        Value::U64(_) => "unsignedlong",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::LongString(_) => "longstr",
        Value::Array(_) => "array",
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => "table",
        Value::Bytes(_) => "binary",
        Value::Void => "void",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use leveret_wire::table::FieldTable;

    fn check(current: FieldTable, received: FieldTable, expected: Expect) {
        let result = check_queue(received.as_table(), "q", "/")
            .and_then(|()| check_equal(current.as_table(), received.as_table(), "queue 'q'", "/"));
        expected.assert_eq(&result.map_or_else(|error| error.text, |()| "equal".to_string()));
    }

    #[test]
    fn redeclaration() {
        let table = FieldTable::new;
        check(table().with("x-a", 1i32), table().with("x-a", 1i64), expect!["equal"]);
        check(table(), table().with("x-queue-type", "classic"), expect!["equal"]);
        check(
            table(),
            table().with("x-message-ttl", 1000i32),
            expect![
                "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '1000' of type 'signedint' but current is none"
            ],
        );
        check(
            table().with("x-message-ttl", 1000i32),
            table().with("x-message-ttl", 2000i64),
            expect![
                "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '2000' but current is '1000'"
            ],
        );
        check(
            table().with("x-a", "b"),
            table(),
            expect![
                "inequivalent arg 'x-a' for queue 'q' in vhost '/': received none but current is the value 'b' of type 'longstr'"
            ],
        );
    }

    #[test]
    fn invalid_values() {
        let table = FieldTable::new;
        check(
            table(),
            table().with("x-message-ttl", -1i32),
            expect!["invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}"],
        );
        check(
            table(),
            table().with("x-expires", 0i32),
            expect!["invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}"],
        );
        check(
            table(),
            table().with("x-max-length", "ten"),
            expect![[r#"invalid arg 'x-max-length' for queue 'q' in vhost '/': "expected integer, got longstr""#]],
        );
        check(
            table(),
            table().with("x-queue-type", "stream"),
            expect!["invalid arg 'x-queue-type' for queue 'q' in vhost '/': streams are not supported by this version"],
        );
    }
}
