//! Adopting a segment: its messages are found through an index from now on, and it need not be replayed any more.

use super::format::LogId;
use super::index::Entry;
use super::record::{ENQUEUE, Enqueue, LARGE};
use super::replay::{self, Item, Segment};
use std::io;

/// The messages in a segment's records below offset `end`, in the order of the records. `InvalidData` if a record does not check.
pub(crate) fn entries(log: LogId, segment: &Segment, end: u32, out: &mut Vec<Entry>) -> io::Result<()> {
    let mut bad = None;
    let mut visit = |item: Item<'_>| {
        match item {
            Item::Batch(head) => return head.offset < end,
            Item::Record(record) if matches!(record.kind, ENQUEUE | LARGE) => {
                let Some(enqueue) = Enqueue::decode(record.kind, record.meta) else { return true };
                let (offset, length) = (record.lsn as u32, record.len() as u32);
                out.extend(enqueue.targets().map(|target| {
                    let (queue, position, count) = (target.queue, target.position, enqueue.count);
                    Entry { queue, position, count, offset, length }
                }));
            }
            Item::Record(_) => {}
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
        Some(lsn) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("damage at offset {}", lsn as u32))),
        None => Ok(()),
    }
}
