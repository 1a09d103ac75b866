//! Field tables: the `arguments` of methods, the `headers` of messages, the properties of peers.
//!
//! [`Table`] and [`Array`] borrow the encoded entries and keep them as they came, so a table goes through a broker
//! byte for byte, whatever types its sender chose. [`FieldTable`] and [`FieldArray`] own theirs and can be built.
//!
//! The types are RabbitMQ's (its errata to the specification), which every client follows: `s` is a signed 16-bit
//! integer, not a short string, and `l` is a signed 64-bit one.

mod owned;
mod walk;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use owned::{FieldArray, FieldTable};

use crate::Error;

/// How deep tables and arrays may be nested unless [`set_max_depth`] says otherwise, the outermost one included.
///
/// Nobody nests by hand beyond three or four; the limit bounds the work that printing or converting a table does.
pub const MAX_DEPTH: usize = 32;

/// The most that [`set_max_depth`] takes.
pub const DEEPEST: usize = 64;

static DEPTH: AtomicUsize = AtomicUsize::new(MAX_DEPTH);

/// Sets how deep tables and arrays may be nested from now on, in this process: decoding has no state of its own that
/// could hold it. Kept between 1 and [`DEEPEST`].
pub fn set_max_depth(depth: usize) {
    DEPTH.store(depth.clamp(1, DEEPEST), Ordering::Relaxed);
}

/// How deep tables and arrays may be nested now.
pub fn max_depth() -> usize {
    DEPTH.load(Ordering::Relaxed)
}

/// The entries of a table, encoded and checked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// The table without entries.
    pub const EMPTY: Table<'static> = Table(&[]);

    /// Takes encoded entries that were checked before: what does not check ends the table.
    pub(crate) fn stored(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes encoded entries, without the length that precedes them on the wire, and checks them all.
    ///
    /// # Errors
    /// [`Error::TableTooDeep`] past [`max_depth`]; [`Error::Syntax`] for an unknown type, a length past the end or a
    /// key that isn't UTF-8.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        if !bytes.is_empty() {
            walk::check(bytes, walk::Container::Table)?;
        }
        Ok(Self(bytes))
    }

    /// The entries in the order in which they were sent. A key can occur more than once.
    pub fn iter(&self) -> Entries<'a> {
        Entries(self.0)
    }

    /// The keys in the order in which they were sent, as bytes. Values are skipped, so this is as cheap as one
    /// [`Table::get`].
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (key, behind) = walk::key(rest)?;
            rest = behind;
            Some(key)
        })
    }

    /// The value of the first entry with this key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        walk::find(self.0, key)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets of the encoded entries.
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// The encoded entries, without the length that precedes them on the wire.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Table<'a> {
    type Item = (&'a str, Value<'a>);
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The values of an array, encoded and checked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Array<'a>(&'a [u8]);

impl<'a> Array<'a> {
    /// The array without values.
    pub const EMPTY: Array<'static> = Array(&[]);

    /// Takes encoded values, without the length that precedes them on the wire, and checks them all.
    ///
    /// # Errors
    /// Those of [`Table::new`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        walk::check(bytes, walk::Container::Array)?;
        Ok(Self(bytes))
    }

    /// The values in the order in which they were sent.
    pub fn iter(&self) -> Values<'a> {
        Values(self.0)
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets of the encoded values.
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// The encoded values, without the length that precedes them on the wire.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.iter()
    }
}

/// The entries of a [`Table`].
#[derive(Clone, Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // The bytes were checked when the table was made, so this ends exactly at their end.
        let (entry, rest) = walk::entry(self.0)?;
        self.0 = rest;
        Some(entry)
    }
}

/// The values of an [`Array`].
#[derive(Clone, Debug)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = walk::value(self.0)?;
        self.0 = rest;
        Some(value)
    }
}

/// A value in a table or an array; the letter is the type's octet on the wire.
#[derive(Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L`, which RabbitMQ and its clients read and write as signed, too.
    I64(i64),
    /// Only inserted, see [`FieldTable`].
    U64(u64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// All digits; the specification says unsigned.
        value: u32,
    },
    /// `S`: text in most uses, but any octets are allowed.
    LongString(&'a [u8]),
    /// `A`
    Array(Array<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(Table<'a>),
    /// `x`: octets that nobody takes for text.
    Bytes(&'a [u8]),
    /// `V`: nothing.
    Void,
}

impl<'a> Value<'a> {
    /// The text of a long string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::LongString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The octets of a long string or of bytes.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Self::LongString(bytes) | Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer of any width; clients choose it by the size of the number, so it means nothing.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            Self::U64(n) => i64::try_from(n).ok(),
            _ => None,
        }
    }

    /// A floating-point number of either width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// Seconds since 1970.
    pub fn as_timestamp(&self) -> Option<u64> {
        match *self {
            Self::Timestamp(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// A nested table.
    pub fn as_table(&self) -> Option<Table<'a>> {
        match *self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// A nested array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        match *self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// What RabbitMQ calls the type in its error messages (`received the value '1000' of type 'signedint'`).
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::U64(_) => "unsignedlong",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongString(_) => "longstr",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Bytes(_) => "binary",
            Self::Void => "void",
        }
    }
}

/// Strings print as text and numbers on one line, so that a table can be read in a log.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "Bool({b})"),
            Self::I8(n) => write!(f, "I8({n})"),
            Self::U8(n) => write!(f, "U8({n})"),
            Self::I16(n) => write!(f, "I16({n})"),
            Self::U16(n) => write!(f, "U16({n})"),
            Self::I32(n) => write!(f, "I32({n})"),
            Self::U32(n) => write!(f, "U32({n})"),
            Self::I64(n) => write!(f, "I64({n})"),
            Self::U64(n) => write!(f, "U64({n})"),
            Self::F32(x) => write!(f, "F32({x:?})"),
            Self::F64(x) => write!(f, "F64({x:?})"),
            Self::Decimal { scale, value } => write!(f, "Decimal({value}e-{scale})"),
            Self::LongString(bytes) => write!(f, "LongString(\"{}\")", bytes.escape_ascii()),
            Self::Bytes(bytes) => write!(f, "Bytes(\"{}\")", bytes.escape_ascii()),
            Self::Timestamp(seconds) => write!(f, "Timestamp({seconds})"),
            Self::Array(array) => array.fmt(f),
            Self::Table(table) => table.fmt(f),
            Self::Void => f.write_str("Void"),
        }
    }
}
