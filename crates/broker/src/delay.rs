//! The `x-delay` header of messages that are published to an exchange of type `x-delayed-message` (RabbitMQ's plugin).

use crate::arguments::TIME_MAX;
use crate::error::{Error, Result};
use leveret_wire::table::{FieldTable, Table, Value};

/// The name of the exchange type.
pub(crate) const DELAYED_TYPE: &str = "x-delayed-message";

/// The argument that names the type by which such an exchange routes.
pub(crate) const INNER_TYPE: &str = "x-delayed-type";

const HEADER: &str = "x-delay";

/// Milliseconds that a message is to wait. `None` if it is not: without the header, or if that is zero or negative, as
/// it is in messages that have waited.
pub(crate) fn delay_of(headers: Table<'_>) -> Option<u64> {
    let delay = match headers.get(HEADER)? {
        Value::LongString(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        Value::F32(number) => number as i64,
        Value::F64(number) => number as i64,
        other => other.as_i64()?,
    };
    u64::try_from(delay).ok().filter(|delay| *delay > 0)
}

/// As [`delay_of`]; 406 if that is longer than ten years.
pub(crate) fn check_delay(headers: Table<'_>) -> Result<Option<u64>> {
    let delay = delay_of(headers);
    match delay.filter(|delay| *delay > TIME_MAX as u64) {
        None => Ok(delay),
        Some(delay) => Err(Error::precondition(format!(
            "invalid x-delay {delay}: a message can be delayed by at most {TIME_MAX} milliseconds"
        ))),
    }
}

/// Makes the delay of a message that has waited negative, as consumers of the plugin know it: no other exchange delays it
/// again.
pub(crate) fn negate(headers: &mut FieldTable) {
    let Some(delay) = delay_of(headers.as_table()) else { return };
    let was_int = matches!(headers.get(HEADER), Some(Value::I32(_)));
    let negative = i64::try_from(delay).map_or(i64::MIN, |delay| -delay);
    match i32::try_from(negative) {
        Ok(negative) if was_int => headers.insert(HEADER, negative),
        _ => headers.insert(HEADER, negative),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(header: impl for<'a> Fn(FieldTable) -> FieldTable, expected: Expect) {
        let mut headers = header(FieldTable::new());
        let delay = delay_of(headers.as_table());
        negate(&mut headers);
        expected.assert_eq(&format!("{delay:?} {headers:?}"));
    }

    #[test]
    fn delays_are_positive_numbers_of_any_type() {
        check(|table| table, expect!["None {}"]);
        check(|table| table.with("x-delay", 1500i32), expect![[r#"Some(1500) {"x-delay": I32(-1500)}"#]]);
        check(|table| table.with("x-delay", 1500i64), expect![[r#"Some(1500) {"x-delay": I64(-1500)}"#]]);
        check(|table| table.with("x-delay", "20"), expect![[r#"Some(20) {"x-delay": I64(-20)}"#]]);
        check(|table| table.with("x-delay", -1500i32), expect![[r#"None {"x-delay": I32(-1500)}"#]]);
        check(|table| table.with("x-delay", "soon"), expect![[r#"None {"x-delay": LongString("soon")}"#]]);
        check(
            |table| table.with("x-delay", Value::U64(u64::MAX)),
            expect![[r#"None {"x-delay": LongString("18446744073709551615")}"#]],
        );
    }
}
