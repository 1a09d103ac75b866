//! The headers exchange: bindings whose arguments are conditions on a message's headers.

use super::{Destination, Subject, Targets};
use crate::filter::Filter;
use leveret_wire::table::{FieldTable, Table, Value};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Bindings by their arguments, so that queues with equal conditions are tested once.
#[derive(Debug, Default)]
pub struct Headers {
    conditions: FxHashMap<FieldTable, Targets>,
}

impl Headers {
    pub(super) fn insert(&mut self, arguments: &FieldTable, filter: Option<Arc<Filter>>, to: &Destination) {
        self.conditions.entry(arguments.clone()).or_default().insert(filter, to);
    }

    pub(super) fn remove(&mut self, arguments: &FieldTable, filter: Option<&Filter>, to: &Destination) {
        if let Some(targets) = self.conditions.get_mut(arguments) {
            targets.remove(filter, to);
            if targets.is_empty() {
                self.conditions.remove(arguments);
            }
        }
    }

    pub(super) fn route(&self, subject: &mut Subject<'_>, found: &mut dyn FnMut(&Destination)) {
        for (condition, targets) in &self.conditions {
            if matches(condition.as_table(), subject.headers()) {
                targets.each(subject, found);
            }
        }
    }
}

/// How the conditions of a binding combine, and whether those on `x-` headers count.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mode {
    any: bool,
    with_x: bool,
}

fn mode(arguments: Table<'_>) -> Result<Mode, String> {
    let Some(value) = arguments.get("x-match") else { return Ok(Mode { any: false, with_x: false }) };
    let Value::LongString(text) = value else {
        return Err("Invalid x-match field type (expected longstr)".to_string());
    };
    Ok(match text {
        b"all" => Mode { any: false, with_x: false },
        b"any" => Mode { any: true, with_x: false },
        b"all-with-x" => Mode { any: false, with_x: true },
        b"any-with-x" => Mode { any: true, with_x: true },
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!(
                "Invalid x-match field value \"{other}\"; expected all, any, all-with-x, or any-with-x"
            ));
        }
    })
}

/// Checks a binding's `x-match`.
pub fn check(arguments: Table<'_>) -> Result<(), String> {
    mode(arguments).map(|_| ())
}

/// An argument that says something about the binding, not about a header.
fn is_own(key: &str) -> bool {
    key == "x-match" || key == "x-filter"
}

fn matches(arguments: Table<'_>, headers: Table<'_>) -> bool {
    // Checked when it was bound; what cannot be read matches nothing.
    let Ok(mode) = mode(arguments) else { return false };
    let mut conditions = arguments.iter().filter(|(key, _)| !is_own(key) && (mode.with_x || !key.starts_with("x-")));
    let holds = |(key, wanted): (&str, Value<'_>)| match (wanted, headers.get(key)) {
        (_, None) => false,
        // A condition without a value asks for presence alone (RabbitMQ's reading of the specification).
        (Value::Void, Some(_)) => true,
        // Values of different types are different, as in RabbitMQ.
        (wanted, Some(value)) => wanted == value,
    };
    if mode.any { conditions.any(holds) } else { conditions.all(holds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: FieldTable, headers: FieldTable, expected: bool) {
        assert_eq!(matches(arguments.as_table(), headers.as_table()), expected, "{arguments:?} on {headers:?}");
    }

    #[test]
    fn modes() {
        let table = FieldTable::new;
        let headers = || table().with("a", 1i64).with("b", "two").with("x-c", true);
        check(table().with("a", 1i64).with("b", "two"), headers(), true);
        check(table().with("a", 1i64).with("b", "other"), headers(), false);
        check(table().with("a", Value::Void), headers(), true);
        check(table().with("missing", Value::Void), headers(), false);
        check(table().with("x-match", "any").with("a", 1i64).with("b", "other"), headers(), true);
        check(table().with("x-match", "any").with("x-c", true), headers(), false);
        check(table().with("x-match", "any-with-x").with("x-c", true), headers(), true);
        check(table().with("x-match", "all-with-x").with("x-c", false), headers(), false);
        check(table().with("x-match", "all").with("x-c", false), headers(), true);
        check(table().with("x-match", "any"), headers(), false);
        check(table(), headers(), true);
        check(table().with("a", 1i32), headers(), false);
    }

    #[test]
    fn an_unknown_mode_is_refused() {
        let error = super::check(FieldTable::new().with("x-match", "some").as_table()).expect_err("unknown mode");
        assert_eq!(error, "Invalid x-match field value \"some\"; expected all, any, all-with-x, or any-with-x");
    }
}
