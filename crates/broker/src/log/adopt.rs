//! Adopting a segment: its messages are found through an index from now on, and it need not be replayed any more.

use super::files::Slot;
use super::format::{ALIGN, Bad, LogId, Lsn, RECORD_HEAD, RawRecord, lsn, u32_at};
use super::index::Entry;
use super::record::{ENQUEUE, Enqueue, FileRecord, LARGE};
use super::replay::{self, Item, Segment};
use crate::disk::DiskFile;
use std::io;
use std::sync::Arc;

/// Read at a time.
const WINDOW: usize = 256 * 1024;

/// Is told what does not check: where, how many bytes, and the record if its header does.
pub(crate) type NoteBad<'a> = dyn FnMut(Lsn, u32, Option<RawRecord<'_>>) + 'a;

/// The messages in an adopted or merged file, in the order of their records; those too whose header checks and whose
/// body does not.
pub(crate) fn file_entries(
    log: LogId,
    file: &FileRecord,
    opened: &Arc<dyn DiskFile>,
    out: &mut Vec<Entry>,
    bad: &mut NoteBad<'_>,
) -> io::Result<()> {
    file_records(log, file, opened, &mut |item| note(item, out, bad))
}

/// Visits what is in an adopted or merged file.
pub(crate) fn file_records(
    log: LogId,
    file: &FileRecord,
    opened: &Arc<dyn DiskFile>,
    visit: &mut dyn FnMut(&Item<'_>),
) -> io::Result<()> {
    if file.merged {
        return merged_records(log, file.number, opened.as_ref(), file.bytes, visit);
    }
    let segment = replay::identify(log, &Slot { name: file.slot, file: opened.clone() })?;
    let end = u32::try_from(file.bytes).unwrap_or(u32::MAX);
    match segment.filter(|segment| segment.number == file.number) {
        Some(segment) => records_below(log, &segment, end, visit),
        None => {
            visit(&Item::Bad { lsn: lsn(file.number, 0), length: end, record: None });
            Ok(())
        }
    }
}

/// Visits what is in a segment below offset `end`.
fn records_below(log: LogId, segment: &Segment, end: u32, visit: &mut dyn FnMut(&Item<'_>)) -> io::Result<()> {
    let mut visit = |item: Item<'_>| {
        visit(&item);
        true
    };
    let Some(last) = end.checked_sub(ALIGN) else { return Ok(()) };
    replay::read_segment(log, segment, Some(last), &mut visit).map(|_| ())
}

fn note(item: &Item<'_>, out: &mut Vec<Entry>, bad: &mut NoteBad<'_>) {
    match item {
        Item::Batch(_) => {}
        Item::Record(record) => add(record, record.len(), out),
        Item::Bad { lsn, length, record } => {
            if let Some(record) = record {
                add(record, *length as usize, out);
            }
            bad(*lsn, *length, *record);
        }
    }
}

/// Visits the records of a merged file of `end` bytes.
fn merged_records(
    log: LogId,
    number: u32,
    file: &dyn DiskFile,
    end: u64,
    visit: &mut dyn FnMut(&Item<'_>),
) -> io::Result<()> {
    let (mut at, mut buffer) = (0, Vec::new());
    while at < end {
        let here = lsn(number, at as u32);
        let bytes = window(file, at, end, WINDOW, &mut buffer)?;
        let mut decoded = RawRecord::decode(log, here, bytes);
        // It may only be longer than what was read.
        let needed = match decoded {
            Ok(_) => 0,
            Err(Bad::Body { len, .. }) => len,
            Err(Bad::Header) => bytes.get(..RECORD_HEAD).map_or(0, |head| RECORD_HEAD + u32_at(head, 8) as usize),
        };
        if needed > bytes.len() && at + needed as u64 <= end {
            let body = matches!(decoded, Err(Bad::Body { .. }));
            let more = if body { needed } else { needed + WINDOW };
            let bytes = window(file, at, end, more, &mut buffer)?;
            decoded = RawRecord::decode(log, here, bytes);
        }
        at += match decoded {
            Ok(record) => {
                visit(&Item::Record(record));
                record.len() as u64
            }
            Err(Bad::Body { record, len }) => {
                visit(&Item::Bad { lsn: here, length: len as u32, record: Some(record) });
                len as u64
            }
            Err(Bad::Header) => {
                let length = skip(log, number, file, at, end)?;
                visit(&Item::Bad { lsn: here, length: length as u32, record: None });
                length
            }
        };
    }
    Ok(())
}

/// How far the next record of a merged file is, from one on that does not check; or the end of the file.
fn skip(log: LogId, number: u32, file: &dyn DiskFile, begin: u64, end: u64) -> io::Result<u64> {
    let (mut at, mut buffer) = (begin, Vec::new());
    while at < end {
        let bytes = window(file, at, end, 2 * WINDOW, &mut buffer)?;
        let all = bytes.len();
        // A header and a meta of ordinary length are within what is read.
        match replay::next_record(log, lsn(number, at as u32), bytes) {
            Some(found) => return Ok(at - begin + found as u64),
            None if all < 2 * WINDOW => break,
            None => at += WINDOW as u64,
        }
    }
    Ok(end - begin)
}

/// So many bytes from an offset on, or fewer at the end.
fn window<'b>(file: &dyn DiskFile, at: u64, end: u64, most: usize, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
    buffer.resize(most.min((end - at) as usize), 0);
    let read = file.read(at, buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

fn add(record: &RawRecord<'_>, length: usize, out: &mut Vec<Entry>) {
    let enqueue = Some(record).filter(|record| matches!(record.kind, ENQUEUE | LARGE));
    let Some(enqueue) = enqueue.and_then(|record| Enqueue::decode(record.kind, record.meta)) else { return };
    let pieces: u64 = enqueue.pieces().map(|piece| RECORD_HEAD as u64 + u64::from(piece.length)).sum();
    let bytes = u32::try_from(length as u64 + pieces).unwrap_or(u32::MAX);
    let (offset, length) = (record.lsn as u32, length as u32);
    out.extend(enqueue.targets().map(|target| {
        let (queue, position, count) = (target.queue, target.position, enqueue.count);
        Entry { queue, position, count, offset, length, bytes }
    }));
}
