//! What a policy may ask for: which settings there are, which values they have, and how two definitions are merged.

use super::PolicyKind;
use crate::arguments;
use leveret_wire::table::{FieldTable, Table, Value};
use std::fmt::Write;

/// A setting.
#[derive(Debug)]
struct Key {
    name: &'static str,
    /// Whether a value is one of its.
    valid: fn(Value<'_>) -> bool,
    /// What RabbitMQ calls it when a value is not.
    what: &'static str,
    types: Types,
    effect: bool,
    /// The operator may say it: a number, of which the lower one counts.
    operator: bool,
}

/// Which types of queues a setting is for, as in RabbitMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Types {
    Any,
    Classic,
    Quorum,
    Neither,
}

const fn key(name: &'static str, valid: fn(Value<'_>) -> bool, what: &'static str, types: Types) -> Key {
    Key { name, valid, what, types, effect: true, operator: false }
}

impl Key {
    const fn operators(self) -> Key {
        Key { operator: true, ..self }
    }

    /// RabbitMQ has it, and here it means nothing: there is one node, and all queues are on its disk.
    const fn idle(self) -> Key {
        Key { effect: false, ..self }
    }
}

/// All of them: those of RabbitMQ 3.10, in their order, and ours.
const KEYS: &[Key] = &[
    key("alternate-exchange", is_text, "alternate exchange name", Types::Any),
    key("dead-letter-exchange", is_text, "dead letter exchange name", Types::Any),
    key("dead-letter-routing-key", is_text, "dead letter routing key", Types::Any),
    key("dead-letter-strategy", is_strategy, "dead letter strategy", Types::Quorum).idle(),
    key("message-ttl", is_count, "message TTL", Types::Any).operators(),
    key("expires", is_positive, "queue expiry", Types::Any).operators(),
    key("max-length", is_count, "maximum length", Types::Any).operators(),
    key("max-length-bytes", is_count, "maximum length in bytes", Types::Any).operators(),
    key("max-in-memory-length", is_count, "maximum memory in bytes", Types::Any).operators().idle(),
    key("max-in-memory-bytes", is_count, "maximum memory in bytes", Types::Any).operators().idle(),
    key("delivery-limit", is_count, "delivery limit", Types::Quorum).operators(),
    key("overflow", is_overflow, "overflow value", Types::Any),
    key("queue-mode", is_mode, "queue-mode value", Types::Classic).idle(),
    key("queue-version", is_version, "queue-version value", Types::Any).idle(),
    key("queue-master-locator", is_text, "queue-master-locator value", Types::Classic).idle(),
    key("queue-leader-locator", is_text, "queue leader locator value", Types::Quorum).idle(),
    key("initial-cluster-size", is_count, "cluster size", Types::Neither).idle(),
    key("max-age", is_text, "max age", Types::Neither).idle(),
    key("stream-max-segment-size-bytes", is_count, "segment size", Types::Neither).idle(),
    key("ha-mode", is_ha_mode, "ha-mode value", Types::Classic).idle(),
    key("ha-params", |_| true, "ha-params value", Types::Classic).idle(),
    key("ha-sync-mode", is_text, "ha-sync-mode value", Types::Classic).idle(),
    key("ha-sync-batch-size", is_count, "ha-sync-batch-size value", Types::Classic).idle(),
    key("ha-promote-on-shutdown", is_text, "ha-promote-on-shutdown value", Types::Classic).idle(),
    key("ha-promote-on-failure", is_text, "ha-promote-on-failure value", Types::Classic).idle(),
    key("delayed-retry-type", is_retry_type, "delayed retry type", Types::Quorum),
    key("delayed-retry-min", is_time, "delayed retry minimum", Types::Quorum),
    key("delayed-retry-max", is_time, "delayed retry maximum", Types::Quorum),
    key("delayed-retry-multiplier", is_factor, "delayed retry multiplier", Types::Quorum),
    key("delayed-retry-jitter", is_percentage, "delayed retry jitter", Types::Quorum),
];

/// Whether a setting of a policy has an effect here. The others are RabbitMQ's own: they are kept, for tools that ask.
pub fn has_effect(key: &str) -> bool {
    find(key).is_some_and(|key| key.effect)
}

/// Whether a setting is for queues of this type.
pub(super) fn fits(key: &str, quorum: bool) -> bool {
    find(key).is_none_or(|key| match key.types {
        Types::Any => true,
        Types::Classic => !quorum,
        Types::Quorum => quorum,
        Types::Neither => false,
    })
}

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Why a definition is none, in RabbitMQ's words.
pub(super) fn check(kind: PolicyKind, definition: Table<'_>) -> Result<(), String> {
    let mut entries: Vec<_> = definition.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    if entries.is_empty() {
        return Err("no policy provided".to_string());
    }
    let is_known = |name: &str| find(name).is_some_and(|key| key.operator || kind == PolicyKind::User);
    let unknown: Vec<String> = entries
        .iter()
        .filter(|(name, _)| !is_known(name))
        .map(|(name, value)| format!("{{{},{}}}", term(Value::from(*name)), term(*value)))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    for (name, value) in &entries {
        if let Some(key) = find(name).filter(|key| !(key.valid)(*value)) {
            return Err(format!("{} is not a valid {}", term(*value), key.what));
        }
    }
    check_together(definition)
}

/// What cannot hold beside the rest.
fn check_together(definition: Table<'_>) -> Result<(), String> {
    let has = |key| definition.get(key).is_some();
    if !has("ha-mode") && ["ha-params", "ha-sync-mode", "ha-promote-on-shutdown"].into_iter().any(has) {
        let text = "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown";
        return Err(text.to_string());
    }
    match arguments::retry_contradiction(with_prefix(definition).as_table()) {
        None => Ok(()),
        Some((key, why)) => Err(format!("invalid '{}': {}", key.trim_start_matches("x-"), why.replace("'x-", "'"))),
    }
}

/// As arguments of a queue are called.
pub(crate) fn with_prefix(definition: Table<'_>) -> FieldTable {
    let mut arguments = FieldTable::new();
    definition.iter().for_each(|(key, value)| arguments.insert(&format!("x-{key}"), value));
    arguments
}

/// What a user's definition and the operator's ask for together: of a number in both the lower one.
pub(crate) fn merge(user: FieldTable, operator: Table<'_>) -> FieldTable {
    let mut merged = user;
    for (key, value) in operator.iter() {
        let lower = match (merged.get(key).and_then(|value| value.as_i64()), value.as_i64()) {
            (Some(users), Some(operators)) => Value::I64(users.min(operators)),
            _ => value,
        };
        merged.remove(key);
        merged.insert(key, lower);
    }
    merged
}

/// A value as Erlang writes it.
fn term(value: Value<'_>) -> String {
    match value {
        Value::LongString(text) => format!("<<\"{}\">>", escape(&String::from_utf8_lossy(text))),
        Value::Bool(flag) => flag.to_string(),
        Value::Void => "null".to_string(),
        Value::F32(number) => format!("{number:?}"),
        Value::F64(number) => format!("{number:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(term).collect::<Vec<_>>().join(",")),
        Value::Table(table) => {
            let items = table.iter().map(|(key, value)| format!("{} => {}", term(Value::from(key)), term(value)));
            format!("#{{{}}}", items.collect::<Vec<_>>().join(","))
        }
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                let _ = write!(out, "\\{char}");
            }
            '\n' => out += "\\n",
            other => out.push(other),
        }
    }
    out
}

fn is_text(value: Value<'_>) -> bool {
    value.as_str().is_some()
}

fn is_one_of(value: Value<'_>, known: &[&str]) -> bool {
    value.as_str().is_some_and(|text| known.contains(&text))
}

fn is_strategy(value: Value<'_>) -> bool {
    is_one_of(value, &["at-most-once", "at-least-once"])
}

fn is_overflow(value: Value<'_>) -> bool {
    is_one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"])
}

fn is_mode(value: Value<'_>) -> bool {
    is_one_of(value, &["default", "lazy"])
}

fn is_ha_mode(value: Value<'_>) -> bool {
    is_one_of(value, &["all", "exactly", "nodes"])
}

fn is_retry_type(value: Value<'_>) -> bool {
    is_one_of(value, &["disabled", "all", "failed", "returned"])
}

fn is_version(value: Value<'_>) -> bool {
    value.as_i64().is_some_and(|version| (1..=2).contains(&version))
}

fn is_count(value: Value<'_>) -> bool {
    value.as_i64().is_some_and(|number| number >= 0)
}

fn is_positive(value: Value<'_>) -> bool {
    value.as_i64().is_some_and(|number| number > 0)
}

fn is_time(value: Value<'_>) -> bool {
    value.as_i64().is_some_and(|number| (0..=arguments::TIME_MAX).contains(&number))
}

fn is_percentage(value: Value<'_>) -> bool {
    value.as_i64().is_some_and(|number| (0..=100).contains(&number))
}

fn is_factor(value: Value<'_>) -> bool {
    crate::settings::as_f64(value).is_some_and(|factor| (1.0..=1000.0).contains(&factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use leveret_wire::table::FieldArray;

    fn check_all(kind: PolicyKind, definitions: &[FieldTable], expected: Expect) {
        let said = definitions.iter().map(|it| check(kind, it.as_table()).err().unwrap_or_default() + "\n");
        expected.assert_eq(&said.collect::<String>());
    }

    /// The texts are those of RabbitMQ 3.10.8.
    #[test]
    fn what_is_wrong_is_told_in_rabbitmqs_words() {
        let table = FieldTable::new;
        check_all(
            PolicyKind::User,
            &[
                table(),
                table().with("nonsense", 1i64).with("other", "x"),
                table().with("message-ttl", -1i64),
                table().with("message-ttl", "é\"x"),
                table().with("message-ttl", 1.5f64),
                table().with("message-ttl", true),
                table().with("message-ttl", &FieldArray::new().with(1i64)),
                table().with("message-ttl", &table().with("a", 1i64)),
                table().with("expires", 0i64),
                table().with("max-length", "x"),
                table().with("max-length-bytes", -1i64),
                table().with("overflow", "nope"),
                table().with("dead-letter-exchange", 1i64),
                table().with("dead-letter-routing-key", 1i64),
                table().with("dead-letter-strategy", "x"),
                table().with("alternate-exchange", 1i64),
                table().with("delivery-limit", -1i64),
                table().with("queue-mode", "nope"),
                table().with("queue-version", 3i64),
                table().with("ha-mode", "x"),
                table().with("ha-params", 5i64),
                table().with("overflow", "x").with("expires", -1i64),
            ],
            expect![[r#"
                no policy provided
                [{<<"nonsense">>,1},{<<"other">>,<<"x">>}] are not recognised policy settings
                -1 is not a valid message TTL
                <<"é\"x">> is not a valid message TTL
                1.5 is not a valid message TTL
                true is not a valid message TTL
                [1] is not a valid message TTL
                #{<<"a">> => 1} is not a valid message TTL
                0 is not a valid queue expiry
                <<"x">> is not a valid maximum length
                -1 is not a valid maximum length in bytes
                <<"nope">> is not a valid overflow value
                1 is not a valid dead letter exchange name
                1 is not a valid dead letter routing key
                <<"x">> is not a valid dead letter strategy
                1 is not a valid alternate exchange name
                -1 is not a valid delivery limit
                <<"nope">> is not a valid queue-mode value
                3 is not a valid queue-version value
                <<"x">> is not a valid ha-mode value
                ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown
                -1 is not a valid queue expiry
            "#]],
        );
        check_all(
            PolicyKind::Operator,
            &[
                table().with("dead-letter-exchange", "x").with("max-length", 1i64).with("nonsense", 1i64),
                table().with("max-length", 1i64).with("expires", 5i64),
            ],
            expect![[r#"
                [{<<"dead-letter-exchange">>,<<"x">>},{<<"nonsense">>,1}] are not recognised policy settings

            "#]],
        );
    }

    #[test]
    fn our_own_settings_are_checked_like_arguments() {
        let table = FieldTable::new;
        check_all(
            PolicyKind::User,
            &[
                table().with("delayed-retry-max", 5i64),
                table().with("delayed-retry-min", 10i64).with("delayed-retry-max", 5i64),
                table().with("delayed-retry-min", 10i64).with("delayed-retry-multiplier", 0.5f64),
                table().with("delayed-retry-min", 10i64).with("delayed-retry-multiplier", 2i64),
                table().with("group-header", "x"),
            ],
            expect![[r#"
                invalid 'delayed-retry-max': it needs 'delayed-retry-min'
                invalid 'delayed-retry-max': it is less than 'delayed-retry-min', which is 10
                0.5 is not a valid delayed retry multiplier

                [{<<"group-header">>,<<"x">>}] are not recognised policy settings
            "#]],
        );
    }

    #[test]
    fn of_a_number_in_both_definitions_the_lower_one_counts() {
        let user = FieldTable::new().with("max-length", 5i64).with("message-ttl", 70i64).with("overflow", "drop-head");
        let operator = FieldTable::new().with("max-length", 7i64).with("message-ttl", 50i64).with("expires", 9i64);
        let merged = merge(user, operator.as_table());
        let number = |key| merged.get(key).and_then(|value| value.as_i64());
        assert_eq!([number("max-length"), number("message-ttl"), number("expires")], [Some(5), Some(50), Some(9)]);
        assert_eq!(merged.get("overflow"), Some(Value::from("drop-head")));
    }
}
