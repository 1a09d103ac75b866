//! Checks encoded entries once, and takes them apart afterwards.

use super::{Array, DEEPEST, Table, Value, max_depth};
use crate::{
    Error,
    codec::{Reader, utf8},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Table,
    Array,
}

/// Checks all entries, nested ones too, without recursion: the depth of a peer's table must not become the depth of
/// our stack. A nested container is entered by narrowing `reader` to it; what follows it waits in `after`.
pub(super) fn check(bytes: &[u8], container: Container) -> Result<(), Error> {
    let mut after: [&[u8]; DEEPEST - 1] = [&[]; DEEPEST - 1];
    // Bit n says whether the container at depth n is a table; the lowest bit is the innermost.
    let mut tables = u64::from(container == Container::Table);
    let mut depth = 0;
    let mut reader = Reader(bytes);
    loop {
        while reader.0.is_empty() {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            reader = Reader(after[depth]);
            tables >>= 1;
        }
        if tables & 1 != 0 {
            utf8(reader.short_bytes()?)?;
        }
        let kind = reader.u8()?;
        if !matches!(kind, b'F' | b'A') {
            skip(&mut reader, kind)?;
            continue;
        }
        let inner = reader.long_bytes()?;
        // An empty one is entered as well, so that the limit doesn't depend on the content.
        if depth + 1 >= max_depth() {
            return Err(Error::TableTooDeep);
        }
        // In range: `max_depth` is at most `DEEPEST`.
        after[depth] = reader.0;
        depth += 1;
        reader = Reader(inner);
        tables = tables << 1 | u64::from(kind == b'F');
    }
}

/// Skips the value of a type whose octet has been read; containers as a whole.
#[inline]
fn skip(reader: &mut Reader<'_>, kind: u8) -> Result<(), Error> {
    let width = match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' | b'F' | b'A' => reader.u32()? as usize,
        _ => return Err(Error::Syntax("a field table holds a value of unknown type")),
    };
    reader.bytes(width)?;
    Ok(())
}

/// The key of the first entry of a checked table, and the entries behind it. Its value is not looked at.
pub(super) fn key(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(bytes);
    let key = reader.short_bytes().ok()?;
    let kind = reader.u8().ok()?;
    skip(&mut reader, kind).ok()?;
    Some((key, reader.0))
}

/// The value of the first entry with this key in a checked table. Others are skipped without being looked at.
pub(super) fn find<'a>(bytes: &'a [u8], key: &str) -> Option<Value<'a>> {
    let mut reader = Reader(bytes);
    loop {
        if reader.short_bytes().ok()? == key.as_bytes() {
            return read(&mut reader).ok();
        }
        let kind = reader.u8().ok()?;
        skip(&mut reader, kind).ok()?;
    }
}

/// The first entry of a checked table and what follows it.
#[inline]
pub(super) fn entry(bytes: &[u8]) -> Option<((&str, Value<'_>), &[u8])> {
    let mut reader = Reader(bytes);
    let key = reader.short_str().ok()?;
    let (value, rest) = value(reader.0)?;
    Some(((key, value), rest))
}

/// The first value of a checked array and what follows it.
#[inline]
pub(super) fn value(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let mut reader = Reader(bytes);
    let value = read(&mut reader).ok()?;
    Some((value, reader.0))
}

/// Reads one value; nested ones are taken as they are, since [`check`] has been there.
fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Error> {
    Ok(match reader.u8()? {
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::I8(i8::from_be_bytes(reader.array()?)),
        b'B' => Value::U8(reader.u8()?),
        b's' => Value::I16(i16::from_be_bytes(reader.array()?)),
        b'u' => Value::U16(reader.u16()?),
        b'I' => Value::I32(i32::from_be_bytes(reader.array()?)),
        b'i' => Value::U32(reader.u32()?),
        b'l' | b'L' => Value::I64(i64::from_be_bytes(reader.array()?)),
        b'f' => Value::F32(f32::from_be_bytes(reader.array()?)),
        b'd' => Value::F64(f64::from_be_bytes(reader.array()?)),
        b'D' => Value::Decimal { scale: reader.u8()?, value: reader.u32()? },
        b'S' => Value::LongString(reader.long_bytes()?),
        b'A' => Value::Array(Array(reader.long_bytes()?)),
        b'T' => Value::Timestamp(reader.u64()?),
        b'F' => Value::Table(Table(reader.long_bytes()?)),
        b'x' => Value::Bytes(reader.long_bytes()?),
        b'V' => Value::Void,
        _ => return Err(Error::Syntax("a field table holds a value of unknown type")),
    })
}
