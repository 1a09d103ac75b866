//! Looking ahead: entries are taken in order of queue and position, and their records read in the order of the files.
//!
//! Records of queues that are written side by side lie side by side, while the merge wants them queue by queue. Taking a
//! few thousand entries at a time turns most reads of one record into reads of many.

use super::reading::{WHOLE, read};
use super::{MergeError, Source};
use crate::log::index::Entry;

/// Records of a batch have about this many bytes together.
const BYTES: usize = 2 * 1024 * 1024;

/// Entries of a batch, and runs of living messages in them.
const ENTRIES: usize = 16 * 1024;
const RUNS: usize = 32 * 1024;

/// What is read at once, at most: one long record, or many short ones.
const READ: usize = WHOLE as usize;

/// Fewer bytes than this between two records are read with them: a call costs as much.
const SKIP: u64 = 8 * 1024;

/// An entry with living messages, and what was read for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched<'b> {
    pub(super) source: u32,
    pub(super) entry: Entry,
    /// The living messages, by position.
    pub(super) runs: &'b [(u64, u64)],
    /// Its record, unless that is long.
    pub(super) record: Option<&'b [u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    source: u32,
    entry: Entry,
    /// Its runs end here in the batch's list, and begin where those of the one before end.
    runs: u32,
    /// Where its record is among the batch's bytes.
    at: u32,
}

/// The record is not among the bytes.
const ELSEWHERE: u32 = u32::MAX;

/// Entries with their records.
#[derive(Debug, Default)]
pub(super) struct Batch {
    wanted: Vec<Wanted>,
    runs: Vec<(u64, u64)>,
    bytes: Vec<u8>,
    /// Bytes of the records that are to be read.
    expected: usize,
    /// Source and offset of a record, and the number of the entry that wants it.
    order: Vec<(u64, u32)>,
    buffer: Vec<u8>,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.runs.clear();
        self.bytes.clear();
        self.order.clear();
        self.expected = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.expected >= BYTES || self.wanted.len() >= ENTRIES || self.runs.len() >= RUNS
    }

    /// The list of runs, for the next entry's to be appended.
    pub(super) fn runs(&mut self) -> &mut Vec<(u64, u64)> {
        &mut self.runs
    }

    /// Adds an entry, whose runs were appended before. Its record is fetched if it is not too long.
    pub(super) fn push(&mut self, source: usize, entry: Entry, fetch: bool) {
        if fetch && entry.length <= WHOLE {
            self.order.push(((source as u64) << 32 | u64::from(entry.offset), self.wanted.len() as u32));
            self.expected += entry.length as usize;
        }
        let runs = self.runs.len() as u32;
        self.wanted.push(Wanted { source: source as u32, entry, runs, at: ELSEWHERE });
    }

    /// Reads the records, side by side where they are.
    pub(super) fn fetch(&mut self, sources: &[Source]) -> Result<(), MergeError> {
        let Batch { wanted, bytes, order, buffer, expected, .. } = self;
        order.sort_unstable();
        buffer.resize(READ, 0);
        bytes.reserve(*expected);
        let end_of = |wanted: &[Wanted], of: &(u64, u32)| of.0 + u64::from(wanted[of.1 as usize].entry.length);
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let (begin, mut end, mut count) = (first.0, end_of(wanted, &first), 1);
            for next in &rest[1..] {
                let longer = end.max(end_of(wanted, next));
                let near = next.0 >> 32 == begin >> 32 && next.0 <= end + SKIP;
                if !near || longer - begin > READ as u64 {
                    break;
                }
                (end, count) = (longer, count + 1);
            }
            let source = &sources[(begin >> 32) as usize];
            let read = read(source, u64::from(begin as u32), &mut buffer[..(end - begin) as usize])?;
            let mut before = None;
            for &(place, number) in &rest[..count] {
                let wanted = &mut wanted[number as usize];
                let this = (place, wanted.entry.length);
                let from = (place - begin) as usize;
                match (before, buffer[..read].get(from..from + wanted.entry.length as usize)) {
                    // Two targets of a record want the same.
                    (Some((same, at)), _) if same == this => wanted.at = at,
                    (_, Some(record)) => {
                        wanted.at = bytes.len() as u32;
                        bytes.extend_from_slice(record);
                        before = Some((this, wanted.at));
                    }
                    // Cut off: that is found when the record is looked at.
                    (_, None) => {}
                }
            }
            rest = &rest[count..];
        }
        Ok(())
    }

    /// The entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Fetched<'_>> {
        let mut begin = 0;
        self.wanted.iter().map(move |&Wanted { source, entry, runs: end, at }| {
            let runs = &self.runs[begin..end as usize];
            begin = end as usize;
            let at = at as usize;
            let record = (at != ELSEWHERE as usize).then(|| &self.bytes[at..at + entry.length as usize]);
            Fetched { source, entry, runs, record }
        })
    }
}
