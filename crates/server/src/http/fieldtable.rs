//! AMQP's field tables as JSON and back, with RabbitMQ's choice of types.

use super::answer::Refusal;
use leveret_wire::table::{Array, FieldArray, FieldTable, Table, Value as Field};
use serde_json::{Map, Number, Value};

/// A table as an object; of several entries with a name, the last stays.
pub fn to_json(table: Table<'_>) -> Value {
    let entries = table.iter().map(|(key, value)| (key.to_string(), field(value)));
    Value::Object(entries.collect::<Map<String, Value>>())
}

fn field(value: Field<'_>) -> Value {
    match value {
        Field::Bool(flag) => Value::Bool(flag),
        Field::F32(x) => float(x.into()),
        Field::F64(x) => float(x),
        Field::Decimal { scale, value } => float(f64::from(value) / 10f64.powi(scale.into())),
        Field::LongString(bytes) | Field::Bytes(bytes) => text(bytes),
        Field::Array(array) => array_to_json(array),
        Field::Timestamp(seconds) => seconds.into(),
        Field::Table(table) => to_json(table),
        Field::Void => Value::Null,
        Field::U64(number) => number.into(),
        other => other.as_i64().map_or(Value::Null, Value::from),
    }
}

fn array_to_json(array: Array<'_>) -> Value {
    array.iter().map(field).collect()
}

/// JSON has no infinity.
fn float(x: f64) -> Value {
    Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number)
}

/// Octets as text; what is no UTF-8 becomes replacement characters.
pub fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The most levels of nesting that are taken from JSON, which is less than serde_json's own limit.
const DEPTH: usize = 64;

/// An object as a table. `what` is the field that it comes from.
///
/// # Errors
/// 400 that names the entry.
pub fn from_json(map: &Map<String, Value>, what: &str) -> Result<FieldTable, Refusal> {
    table_from(map, what, DEPTH)
}

fn table_from(map: &Map<String, Value>, what: &str, depth: usize) -> Result<FieldTable, Refusal> {
    if depth == 0 {
        return Err(Refusal::bad(format!("{what}: it is nested too deep")));
    }
    let mut table = FieldTable::new();
    for (key, value) in map {
        if key.len() > 255 {
            return Err(Refusal::bad(format!("{what}: a key has at most 255 bytes, and one has {}", key.len())));
        }
        match value {
            Value::Object(inner) => table.insert(key, Field::Table(table_from(inner, what, depth - 1)?.as_table())),
            Value::Array(inner) => table.insert(key, Field::Array(array_from(inner, what, depth - 1)?.as_array())),
            plain => table.insert(key, scalar(plain)),
        }
    }
    Ok(table)
}

fn array_from(values: &[Value], what: &str, depth: usize) -> Result<FieldArray, Refusal> {
    if depth == 0 {
        return Err(Refusal::bad(format!("{what}: it is nested too deep")));
    }
    let mut array = FieldArray::new();
    for value in values {
        match value {
            Value::Object(inner) => array.push(Field::Table(table_from(inner, what, depth - 1)?.as_table())),
            Value::Array(inner) => array.push(Field::Array(array_from(inner, what, depth - 1)?.as_array())),
            plain => array.push(scalar(plain)),
        }
    }
    Ok(array)
}

fn scalar(value: &Value) -> Field<'_> {
    match value {
        Value::Bool(flag) => Field::Bool(*flag),
        Value::String(text) => Field::LongString(text.as_bytes()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Field::I64(whole),
            None => Field::F64(number.as_f64().unwrap_or_default()),
        },
        _ => Field::Void,
    }
}
