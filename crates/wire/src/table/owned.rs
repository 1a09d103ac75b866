//! Tables and arrays that own their bytes and can be built.

use std::fmt;

use super::{Array, Table, Value, walk};
use crate::codec::{put_long_bytes, put_short_str};

/// A field table that owns its encoded entries.
///
/// ```
/// use leveret_wire::table::FieldTable;
///
/// let table = FieldTable::new().with("x-message-ttl", 60_000).with("x-queue-type", "classic");
/// assert_eq!(table.get("x-message-ttl").and_then(|value| value.as_i64()), Some(60_000));
/// ```
///
/// Made from a [`Table`], it is a copy byte for byte. What is inserted is encoded with the types that every client
/// can read: streadway/amqp ends the connection at `B`, `u`, `i` or `L`, so unsigned integers become the next wider
/// signed ones, and a `U64` that no `i64` can hold becomes its decimal digits as a long string. Inserted tables and
/// arrays keep the types they have.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldTable(Vec<u8>);

impl FieldTable {
    /// A table without entries; allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A table without entries, with room for so many bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The table with this entry, as [`insert`](Self::insert) adds it.
    #[must_use]
    pub fn with<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.insert(key, value);
        self
    }

    /// Sets the entry of this key: all earlier ones go, the new one is the last. A key is cut after 255 octets.
    ///
    /// A peer refuses tables nested more than [`max_depth`](super::max_depth) deep; building one is not prevented.
    pub fn insert<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        self.remove(key);
        put_short_str(&mut self.0, key);
        put_value(&mut self.0, value.into());
    }

    /// Removes all entries of this key; says whether there were any.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.0.len();
        let mut at = 0;
        while let Some(((name, _), rest)) = walk::entry(&self.0[at..]) {
            let next = self.0.len() - rest.len();
            if name == key {
                self.0.drain(at..next);
            } else {
                at = next;
            }
        }
        self.0.len() != before
    }

    /// The table, borrowed.
    pub fn as_table(&self) -> Table<'_> {
        Table(&self.0)
    }

    /// The value of the first entry with this key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.as_table().get(key)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Table<'_>> for FieldTable {
    fn from(table: Table<'_>) -> Self {
        Self(table.as_bytes().to_vec())
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_table().fmt(f)
    }
}

/// An array that owns its encoded values; built as a [`FieldTable`] is.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldArray(Vec<u8>);

impl FieldArray {
    /// An array without values; allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The array with this value at its end.
    #[must_use]
    pub fn with<'v>(mut self, value: impl Into<Value<'v>>) -> Self {
        self.push(value);
        self
    }

    /// Appends a value.
    pub fn push<'v>(&mut self, value: impl Into<Value<'v>>) {
        put_value(&mut self.0, value.into());
    }

    /// The array, borrowed.
    pub fn as_array(&self) -> Array<'_> {
        Array(&self.0)
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Array<'_>> for FieldArray {
    fn from(array: Array<'_>) -> Self {
        Self(array.as_bytes().to_vec())
    }
}

impl fmt::Debug for FieldArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_array().fmt(f)
    }
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bool(b) => put(out, b't', [u8::from(b)]),
        Value::I8(n) => put(out, b'b', n.to_be_bytes()),
        Value::U8(n) => put(out, b's', i16::from(n).to_be_bytes()),
        Value::I16(n) => put(out, b's', n.to_be_bytes()),
        Value::U16(n) => put(out, b'I', i32::from(n).to_be_bytes()),
        Value::I32(n) => put(out, b'I', n.to_be_bytes()),
        Value::U32(n) => put(out, b'l', i64::from(n).to_be_bytes()),
        Value::I64(n) => put(out, b'l', n.to_be_bytes()),
        Value::U64(n) => match i64::try_from(n) {
            Ok(n) => put(out, b'l', n.to_be_bytes()),
            Err(_) => put_long(out, b'S', n.to_string().as_bytes()),
        },
        Value::F32(x) => put(out, b'f', x.to_be_bytes()),
        Value::F64(x) => put(out, b'd', x.to_be_bytes()),
        Value::Decimal { scale, value } => {
            put(out, b'D', [scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::LongString(bytes) => put_long(out, b'S', bytes),
        Value::Array(array) => put_long(out, b'A', array.as_bytes()),
        Value::Timestamp(seconds) => put(out, b'T', seconds.to_be_bytes()),
        Value::Table(table) => put_long(out, b'F', table.as_bytes()),
        Value::Bytes(bytes) => put_long(out, b'x', bytes),
        Value::Void => put(out, b'V', []),
    }
}

fn put<const N: usize>(out: &mut Vec<u8>, kind: u8, bytes: [u8; N]) {
    out.push(kind);
    out.extend_from_slice(&bytes);
}

fn put_long(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    put_long_bytes(out, bytes);
}

/// Each becomes the type of its own width, or the one that `FieldTable` says for it.
macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl<'a> From<$type> for Value<'a> {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

from! {
    bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    f32 => F32, f64 => F64, Array<'a> => Array, Table<'a> => Table, &'a [u8] => Bytes,
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::LongString(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::LongString(text.as_bytes())
    }
}

impl<'a> From<&'a FieldTable> for Value<'a> {
    fn from(table: &'a FieldTable) -> Self {
        Self::Table(table.as_table())
    }
}

impl<'a> From<&'a FieldArray> for Value<'a> {
    fn from(array: &'a FieldArray) -> Self {
        Self::Array(array.as_array())
    }
}
