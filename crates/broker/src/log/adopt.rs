//! Adopting a segment: its messages are found through an index from now on, and it need not be replayed any more.

use super::files::read_exact;
use super::format::{LogId, RawRecord, lsn};
use super::index::Entry;
use super::record::{ENQUEUE, Enqueue, LARGE};
use super::replay::{self, Item, Segment};
use crate::disk::DiskFile;
use std::io;

/// Read at a time.
const WINDOW: usize = 256 * 1024;

/// The messages in a merged file of `end` bytes. `InvalidData` if a record does not check.
pub(crate) fn merged_entries(
    log: LogId,
    number: u32,
    file: &dyn DiskFile,
    end: u64,
    out: &mut Vec<Entry>,
) -> io::Result<()> {
    let (mut at, mut window) = (0, WINDOW);
    while at < end {
        let bytes = read_exact(file, at, window.min((end - at) as usize))?;
        match RawRecord::decode(log, lsn(number, at as u32), &bytes) {
            Ok(record) => {
                add(&record, out);
                (at, window) = (at + record.len() as u64, WINDOW);
            }
            // The record may only be longer than what was read.
            Err(_) if bytes.len() as u64 + at < end => window = window.saturating_mul(4),
            Err(_) => return Err(damage(at)),
        }
    }
    Ok(())
}

/// The messages in a segment's records below offset `end`, in the order of the records. `InvalidData` if a record does not check.
pub(crate) fn entries(log: LogId, segment: &Segment, end: u32, out: &mut Vec<Entry>) -> io::Result<()> {
    let mut bad = None;
    let mut visit = |item: Item<'_>| {
        match item {
            Item::Batch(head) => return head.offset < end,
            Item::Record(record) => add(&record, out),
            Item::Bad { lsn, .. } if (lsn as u32) < end => {
                bad = Some(lsn);
                return false;
            }
            Item::Bad { .. } => return false,
        }
        true
    };
    replay::read_segment(log, segment, None, &mut visit)?;
    match bad {
        Some(lsn) => Err(damage(u64::from(lsn as u32))),
        None => Ok(()),
    }
}

fn add(record: &RawRecord<'_>, out: &mut Vec<Entry>) {
    let enqueue = Some(record).filter(|record| matches!(record.kind, ENQUEUE | LARGE));
    let Some(enqueue) = enqueue.and_then(|record| Enqueue::decode(record.kind, record.meta)) else { return };
    let (offset, length) = (record.lsn as u32, record.len() as u32);
    out.extend(enqueue.targets().map(|target| {
        let (queue, position, count) = (target.queue, target.position, enqueue.count);
        Entry { queue, position, count, offset, length }
    }));
}

fn damage(offset: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a record does not check at offset {offset}"))
}
