//! What the fuzz targets do with their input. The same functions run under `cargo test` (see `fuzz.rs`) and under
//! libFuzzer (crates/wire/fuzz), so that a target is never older than the code it tests.
//!
//! In each: nothing panics, decoding allocates nothing, and decode, encode, decode comes back to the same values in
//! no more octets.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use leveret_wire::{
    Error, frame,
    method::Method,
    properties::{ContentHeader, Properties},
    table::{Array, FieldTable, MAX_DEPTH, Table, Value},
};

/// Input is a stream of frames.
pub fn frame(data: &[u8]) {
    for frame_max in [0, 64, 4096] {
        let mut rest = data;
        while let Ok(Some((frame, consumed))) = no_allocation(|| frame::parse(rest, frame_max)) {
            let whole = &rest[..consumed];
            assert_eq!(consumed, frame.payload.len() + frame::OVERHEAD);
            assert!(frame_max == 0 || frame.payload.len() <= frame_max as usize);
            assert_eq!(frame::parse(&whole[..consumed - 1], frame_max), Ok(None));
            let head = frame::parse_head(whole, frame_max).expect("parsed").expect("complete");
            assert_eq!((head.kind, head.channel, head.size as usize), (frame.kind, frame.channel, frame.payload.len()));
            payload(&frame, whole);
            rest = &rest[consumed..];
        }
    }
}

fn payload(frame: &frame::Frame<'_>, whole: &[u8]) {
    let mut out = Vec::new();
    match frame.kind {
        frame::METHOD => method(frame.payload),
        frame::HEADER => {
            if let Ok(header) = no_allocation(|| ContentHeader::decode(frame.payload)) {
                frame::write_header(&mut out, frame.channel, header.body_size, header.properties);
                // Beside the class and the weight, which we don't choose, it is the frame we read.
                assert_eq!((&out[..7], &out[11..]), (&whole[..7], &whole[11..]));
                properties(header.properties);
            }
        }
        frame::BODY => {
            frame::write_body(&mut out, frame.channel, frame.payload, 0);
            assert_eq!(out, if frame.payload.is_empty() { &[] } else { whole });
        }
        _ => {
            frame::write_heartbeat(&mut out);
            assert_eq!(out, whole);
        }
    }
}

/// Input is the payload of a method frame.
pub fn method(data: &[u8]) {
    let Ok(method) = no_allocation(|| Method::decode(data)) else { return };
    let mut out = Vec::new();
    method.encode(&mut out);
    // Only what a reserved field held can be missing.
    assert!(out.len() <= data.len());
    assert_eq!(Method::decode(&out), Ok(method));
    let (class_id, method_id) = method.id();
    assert_eq!(out[..4], [class_id.to_be_bytes(), method_id.to_be_bytes()].concat());
    assert!(!format!("{method:?}").is_empty());
}

/// Input is the flags and list of a content header.
pub fn properties(data: &[u8]) {
    let Ok(properties) = no_allocation(|| Properties::decode(data)) else { return };
    let mut out = Vec::new();
    properties.encode(&mut out);
    // Only empty words of flags can be missing.
    assert!(out.len() <= data.len());
    assert_eq!(Properties::decode(&out), Ok(properties));
    assert!(out.len() < data.len() || out == data);
    assert!(!format!("{properties:?}").is_empty());
}

/// Input is the entries of a table, and the values of an array.
pub fn table(data: &[u8]) {
    if let Ok(array) = no_allocation(|| Array::new(data)) {
        let mut out = Vec::new();
        no_allocation(|| array.iter().count());
        array.iter().for_each(|value| put(&mut out, value, 1));
        assert_eq!(out.len(), data.len());
    }
    let table = match no_allocation(|| Table::new(data)) {
        Ok(table) => table,
        Err(error) => return assert!(matches!(error, Error::Syntax(_) | Error::TableTooDeep)),
    };
    let mut out = Vec::new();
    put_entries(&mut out, table, 1);
    // Any octet but 0 is true, and 1 is written: the length is the same, the octet perhaps not.
    assert_eq!(out.len(), data.len());
    let again = Table::new(&out).expect("its own encoding");
    assert_eq!(format!("{table:?}"), format!("{again:?}"));

    let mut owned = FieldTable::from(table);
    assert_eq!((owned.as_table(), owned.as_table().as_bytes()), (table, data));
    owned.insert("added", 5);
    assert_eq!(owned.get("added"), Some(Value::I32(5)));
    assert!(owned.remove("added"));
    let others = table.iter().filter(|(key, _)| *key != "added").count();
    assert_eq!(owned.as_table().iter().count(), others);
    for (key, _) in table {
        let first = table.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
        // As text, since NaN isn't equal to itself.
        assert_eq!(format!("{:?}", no_allocation(|| table.get(key))), format!("{first:?}"));
        owned.remove(key);
    }
    assert!(owned.is_empty());
}

fn put_entries(out: &mut Vec<u8>, table: Table<'_>, depth: usize) {
    assert!(depth <= MAX_DEPTH);
    for (key, value) in table {
        out.push(key.len() as u8);
        out.extend_from_slice(key.as_bytes());
        put(out, value, depth);
    }
}

/// Encodes a value with the type it has, independently of the crate.
fn put(out: &mut Vec<u8>, value: Value<'_>, depth: usize) {
    match value {
        Value::Bool(b) => put_raw(out, b't', &[u8::from(b)]),
        Value::I8(n) => put_raw(out, b'b', &n.to_be_bytes()),
        Value::U8(n) => put_raw(out, b'B', &n.to_be_bytes()),
        Value::I16(n) => put_raw(out, b's', &n.to_be_bytes()),
        Value::U16(n) => put_raw(out, b'u', &n.to_be_bytes()),
        Value::I32(n) => put_raw(out, b'I', &n.to_be_bytes()),
        Value::U32(n) => put_raw(out, b'i', &n.to_be_bytes()),
        Value::I64(n) => put_raw(out, b'l', &n.to_be_bytes()),
        Value::U64(n) => put_raw(out, b'L', &n.to_be_bytes()),
        Value::F32(x) => put_raw(out, b'f', &x.to_be_bytes()),
        Value::F64(x) => put_raw(out, b'd', &x.to_be_bytes()),
        Value::Decimal { scale, value } => {
            put_raw(out, b'D', &[scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::LongString(bytes) => put_raw(out, b'S', bytes),
        Value::Bytes(bytes) => put_raw(out, b'x', bytes),
        Value::Timestamp(n) => put_raw(out, b'T', &n.to_be_bytes()),
        Value::Void => put_raw(out, b'V', &[]),
        Value::Table(table) => {
            let mut inner = Vec::new();
            put_entries(&mut inner, table, depth + 1);
            put_raw(out, b'F', &inner);
        }
        Value::Array(array) => {
            assert!(depth < MAX_DEPTH);
            let mut inner = Vec::new();
            array.iter().for_each(|value| put(&mut inner, value, depth + 1));
            put_raw(out, b'A', &inner);
        }
    }
}

/// Appends the octet of the type, a length where the type has one, and `bytes`.
pub fn put_raw(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    if matches!(kind, b'S' | b'x' | b'A' | b'F') {
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Runs `work` and sees to it that this thread allocates nothing in it.
pub fn no_allocation<T>(work: impl FnOnce() -> T) -> T {
    let before = ALLOCATIONS.get();
    let result = work();
    assert_eq!(ALLOCATIONS.get(), before, "decoding allocates");
    result
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting touches a constant-initialised cell only.
#[allow(unsafe_code, reason = "a global allocator can't be written without, and nothing else sees all allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(block, layout, size) }
    }
}
