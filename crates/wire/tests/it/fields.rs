//! Random fields, field tables and properties for the tests.

use std::collections::BTreeMap;

use leveret_wire::{
    properties::Properties,
    table::{Array, FieldTable, Table, Value},
};
use proptest::{collection, prelude::*};

use crate::bodies::put_raw;

/// What the fields of a method are taken from.
#[derive(Clone, Debug)]
pub struct Fields {
    pub numbers: Vec<u64>,
    pub strings: Vec<String>,
    pub long: Vec<Vec<u8>>,
    pub tables: Vec<FieldTable>,
    /// What `tables` were made from, if they are random.
    pub entries: Vec<Entries>,
}

impl Fields {
    pub fn any() -> impl Strategy<Value = Self> {
        (
            collection::vec(any::<u64>(), 9),
            collection::vec(short_str(), 9),
            collection::vec(collection::vec(any::<u8>(), 0..40), 5),
            collection::vec(table(), 3),
        )
            .prop_map(|(numbers, strings, long, entries)| Self {
                numbers,
                strings,
                long,
                tables: entries.iter().map(owned).collect(),
                entries,
            })
    }

    /// Readable ones, the same at every call.
    pub fn fixed() -> Self {
        let words = "orders hare.# x é amq.topic ping q ctag reply";
        Self {
            numbers: (1..10).map(|n| n * 0x0101).collect(),
            strings: words.split(' ').map(str::to_owned).collect(),
            long: vec![b"PLAIN AMQPLAIN".to_vec(), b"\0guest\0guest".to_vec(), vec![], vec![255], b"en_US".to_vec()],
            tables: vec![
                FieldTable::new().with("x-max-length", 5i64).with("x-overflow", "reject-publish"),
                FieldTable::new()
                    .with("capabilities", &FieldTable::new().with("basic.nack", true))
                    .with("product", "Leveret"),
                every_type(),
            ],
            entries: vec![],
        }
    }

    pub fn bit(&self, n: usize) -> bool {
        self.u8(n) & 1 != 0
    }

    pub fn u8(&self, n: usize) -> u8 {
        self.u64(n) as u8
    }

    pub fn u16(&self, n: usize) -> u16 {
        self.u64(n) as u16
    }

    pub fn u32(&self, n: usize) -> u32 {
        self.u64(n) as u32
    }

    pub fn u64(&self, n: usize) -> u64 {
        self.numbers[n % self.numbers.len()]
    }

    pub fn short_str(&self, n: usize) -> &str {
        &self.strings[n % self.strings.len()]
    }

    pub fn long_bytes(&self, n: usize) -> &[u8] {
        &self.long[n % self.long.len()]
    }

    pub fn table(&self, n: usize) -> Table<'_> {
        self.tables[n % self.tables.len()].as_table()
    }

    /// Properties of which `present` says by its bits which are there.
    pub fn properties(&self, present: u32) -> Properties<'_> {
        let text = |bit: usize| (present >> bit & 1 != 0).then(|| self.short_str(bit));
        let number = |bit: usize| (present >> bit & 1 != 0).then(|| self.u64(bit));
        Properties {
            content_type: text(0),
            content_encoding: text(1),
            headers: (present >> 2 & 1 != 0).then(|| self.table(2)),
            delivery_mode: number(3).map(|n| n as u8),
            priority: number(4).map(|n| n as u8),
            correlation_id: text(5).map(str::as_bytes),
            reply_to: text(6),
            expiration: text(7),
            message_id: text(8).map(str::as_bytes),
            timestamp: number(9),
            r#type: text(10),
            user_id: text(11),
            app_id: text(12),
            cluster_id: text(13),
        }
    }
}

/// A value that knows nothing of how the crate holds it.
#[derive(Clone, Debug)]
pub enum Model {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    LongString(Vec<u8>),
    Array(Vec<Model>),
    Timestamp(u64),
    Table(Entries),
    Bytes(Vec<u8>),
    Void,
}

/// Sorted and without duplicates, as amq-protocol holds them.
pub type Entries = BTreeMap<String, Model>;

pub fn short_str() -> impl Strategy<Value = String> {
    // At most 4 octets a character and so 252 in all.
    prop_oneof!["[a-z.#*]{0,16}", "\\PC{0,63}"]
}

pub fn table() -> impl Strategy<Value = Entries> {
    collection::btree_map(short_str(), value(), 0..5)
}

pub fn value() -> impl Strategy<Value = Model> {
    let octets = || collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Model::Bool),
        any::<i8>().prop_map(Model::I8),
        any::<u8>().prop_map(Model::U8),
        any::<i16>().prop_map(Model::I16),
        any::<u16>().prop_map(Model::U16),
        any::<i32>().prop_map(Model::I32),
        any::<u32>().prop_map(Model::U32),
        any::<i64>().prop_map(Model::I64),
        any::<u64>().prop_map(Model::U64),
        any::<f32>().prop_map(Model::F32),
        any::<f64>().prop_map(Model::F64),
        any::<(u8, u32)>().prop_map(|(scale, value)| Model::Decimal(scale, value)),
        octets().prop_map(Model::LongString),
        any::<u64>().prop_map(Model::Timestamp),
        octets().prop_map(Model::Bytes),
        Just(Model::Void),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Model::Array),
            collection::btree_map(short_str(), inner, 0..4).prop_map(Model::Table),
        ]
    })
}

/// The encoded entries.
pub fn bytes(entries: &Entries) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in entries {
        out.push(key.len() as u8);
        out.extend_from_slice(key.as_bytes());
        put(&mut out, value);
    }
    out
}

/// A table of the types as they are, which only a copy can have.
pub fn owned(entries: &Entries) -> FieldTable {
    FieldTable::from(Table::new(&bytes(entries)).expect("encoded by hand"))
}

/// The same table through the builder.
pub fn built(entries: &Entries) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        // What is read is never one.
        if let Model::U64(n) = value {
            table.insert(key, *n);
            continue;
        }
        let mut scratch = Vec::new();
        put(&mut scratch, value);
        let array = Array::new(&scratch).expect("encoded by hand");
        table.insert(key, array.iter().next().expect("one value"));
    }
    table
}

pub fn same(model: &Model, value: Value<'_>) -> bool {
    match (model, value) {
        (Model::Bool(a), Value::Bool(b)) => *a == b,
        (Model::I8(a), Value::I8(b)) => *a == b,
        (Model::U8(a), Value::U8(b)) => *a == b,
        (Model::I16(a), Value::I16(b)) => *a == b,
        (Model::U16(a), Value::U16(b)) => *a == b,
        (Model::I32(a), Value::I32(b)) => *a == b,
        (Model::U32(a), Value::U32(b)) => *a == b,
        (Model::I64(a), Value::I64(b)) => *a == b,
        // The octet of `L`, which is signed when it is read.
        (Model::U64(a), Value::I64(b)) => *a as i64 == b,
        (Model::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Model::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        (Model::Decimal(a, b), Value::Decimal { scale, value }) => (*a, *b) == (scale, value),
        (Model::LongString(a), Value::LongString(b)) => a == b,
        (Model::Bytes(a), Value::Bytes(b)) => a == b,
        (Model::Timestamp(a), Value::Timestamp(b)) => *a == b,
        (Model::Void, Value::Void) => true,
        (Model::Array(a), Value::Array(b)) => a.len() == b.iter().count() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Model::Table(a), Value::Table(b)) => same_table(a, b),
        _ => false,
    }
}

pub fn same_table(entries: &Entries, table: Table<'_>) -> bool {
    entries.len() == table.iter().count()
        && table.keys().eq(table.iter().map(|(key, _)| key.as_bytes()))
        && entries.iter().zip(table).all(|((a, model), (b, value))| a == b && same(model, value))
}

/// A table with a value of every type.
fn every_type() -> FieldTable {
    let inner = Entries::from([("k".to_owned(), Model::Void)]);
    let values = [
        Model::Bool(true),
        Model::I8(-1),
        Model::U8(255),
        Model::I16(-2),
        Model::U16(65_535),
        Model::I32(-3),
        Model::U32(u32::MAX),
        Model::I64(-4),
        Model::U64(u64::MAX),
        Model::F32(1.5),
        Model::F64(-0.25),
        Model::Decimal(2, 314),
        Model::LongString(b"text".to_vec()),
        Model::Array(vec![Model::I32(1), Model::Table(inner.clone())]),
        Model::Timestamp(1_700_000_000),
        Model::Table(inner),
        Model::Bytes(vec![0, 255]),
        Model::Void,
    ];
    owned(&('a'..).map(String::from).zip(values).collect())
}

fn put(out: &mut Vec<u8>, value: &Model) {
    match value {
        Model::Bool(b) => put_raw(out, b't', &[u8::from(*b)]),
        Model::I8(n) => put_raw(out, b'b', &n.to_be_bytes()),
        Model::U8(n) => put_raw(out, b'B', &n.to_be_bytes()),
        Model::I16(n) => put_raw(out, b's', &n.to_be_bytes()),
        Model::U16(n) => put_raw(out, b'u', &n.to_be_bytes()),
        Model::I32(n) => put_raw(out, b'I', &n.to_be_bytes()),
        Model::U32(n) => put_raw(out, b'i', &n.to_be_bytes()),
        Model::I64(n) => put_raw(out, b'l', &n.to_be_bytes()),
        Model::U64(n) => put_raw(out, b'L', &n.to_be_bytes()),
        Model::F32(x) => put_raw(out, b'f', &x.to_be_bytes()),
        Model::F64(x) => put_raw(out, b'd', &x.to_be_bytes()),
        Model::Decimal(scale, value) => {
            put_raw(out, b'D', &[*scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Model::LongString(bytes) => put_raw(out, b'S', bytes),
        Model::Bytes(bytes) => put_raw(out, b'x', bytes),
        Model::Timestamp(n) => put_raw(out, b'T', &n.to_be_bytes()),
        Model::Void => put_raw(out, b'V', &[]),
        Model::Table(entries) => put_raw(out, b'F', &bytes(entries)),
        Model::Array(values) => {
            let mut inner = Vec::new();
            values.iter().for_each(|value| put(&mut inner, value));
            put_raw(out, b'A', &inner);
        }
    }
}
