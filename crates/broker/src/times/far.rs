//! What is in files, and what was taken.

use super::Time;
use crate::log::{BadBlock, Reader};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::sync::atomic::{self, AtomicBool};

/// So many files of a size are merged into one, which is of the next size: so many times larger.
const MERGE_FILES: usize = 16;

/// Blocks that do not check are remembered up to so many until somebody asks.
const BAD_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Far {
    /// About so many are in a file that was not merged.
    written: u64,
    /// Those that know what comes next, the earliest first.
    readers: BinaryHeap<ByHead>,
    /// Those that have to read a block for that.
    unread: Vec<Reader>,
    /// Taken, and not in effect yet.
    pub(super) in_hand: Vec<Time>,
    /// Files that are being merged, and the last that was taken from them since.
    pub(super) merging: Vec<u32>,
    pub(super) passed: Option<Time>,
    /// Files all of which was taken.
    pub(super) used_up: Vec<u32>,
    pub(super) bad: Vec<BadBlock>,
}

/// In the order of what comes next, the earliest as the greatest.
#[derive(Debug)]
struct ByHead(Reader);

impl Ord for ByHead {
    fn cmp(&self, other: &ByHead) -> Ordering {
        other.0.head().cmp(&self.0.head())
    }
}

impl PartialOrd for ByHead {
    fn partial_cmp(&self, other: &ByHead) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByHead {
    fn eq(&self, other: &ByHead) -> bool {
        self.0.head() == other.0.head()
    }
}

impl Eq for ByHead {}

impl Far {
    pub(super) fn new(written: u64) -> Far {
        Far { written, ..Far::default() }
    }

    /// Adds a way through a file.
    pub(super) fn push(&mut self, reader: Reader) {
        self.unread.push(reader);
    }

    /// All ways through files.
    pub(super) fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.readers.iter().map(|reader| &reader.0).chain(&self.unread)
    }

    /// Reads what comes next in each file. The others can be used after an error.
    pub(super) fn load(&mut self, damaged: &AtomicBool) -> io::Result<()> {
        let (mut bad, mut loaded) = (Vec::new(), Ok(()));
        for mut reader in std::mem::take(&mut self.unread) {
            let read = reader.load(&mut bad);
            if reader.is_done() {
                self.used_up.push(reader.record().number);
            } else if read.is_ok() {
                self.readers.push(ByHead(reader));
            } else {
                self.unread.push(reader);
            }
            loaded = loaded.and(read);
        }
        if !bad.is_empty() {
            damaged.store(true, atomic::Ordering::Relaxed);
            bad.truncate(BAD_MAX.saturating_sub(self.bad.len()));
            self.bad.append(&mut bad);
        }
        loaded
    }

    /// The earliest that is known.
    pub(super) fn first(&self) -> Option<Time> {
        self.readers.peek()?.0.head()
    }

    /// When the next one is due; a file that could not be read may have something that is.
    pub(super) fn next(&self) -> Option<u64> {
        if self.unread.is_empty() { self.first().map(|time| time.due) } else { Some(0) }
    }

    /// The earliest was taken.
    pub(super) fn advance(&mut self) {
        let Some(mut reader) = self.readers.peek_mut() else { return };
        if self.merging.contains(&reader.0.record().number) {
            self.passed = self.passed.max(reader.0.head());
        }
        reader.0.advance();
        if reader.0.head().is_none() {
            let ByHead(reader) = PeekMut::pop(reader);
            match reader.is_done() {
                true => self.used_up.push(reader.record().number),
                false => self.unread.push(reader),
            }
        }
    }

    /// The first files of a size of which there are enough; none while others are being merged.
    pub(super) fn begin_merge(&mut self) -> Option<Vec<Reader>> {
        if !self.merging.is_empty() {
            return None;
        }
        let mut sizes = [0; 16];
        let size = |reader: &Reader| size(reader, self.written);
        let chosen = self.readers().map(size).find(|&size| {
            sizes[size] += 1;
            sizes[size] == MERGE_FILES
        })?;
        let mut of_size: Vec<&Reader> = self.readers().filter(|reader| size(reader) == chosen).collect();
        of_size.sort_by_key(|reader| reader.record().number);
        let forks: Vec<Reader> = of_size.into_iter().take(MERGE_FILES).map(Reader::fork).collect();
        self.merging = forks.iter().map(|reader| reader.record().number).collect();
        self.passed = None;
        Some(forks)
    }

    /// Puts a file in the place of those that were merged. Gives their numbers.
    pub(super) fn end_merge(&mut self, merged: Option<Reader>) -> Vec<u32> {
        let merging = std::mem::take(&mut self.merging);
        let mut removed = Vec::new();
        let mut keep = |reader: &Reader| {
            let number = reader.record().number;
            let keeps = !merging.contains(&number);
            if !keeps {
                removed.push(number);
            }
            keeps
        };
        self.readers.retain(|reader| keep(&reader.0));
        self.unread.retain(&mut keep);
        self.unread.extend(merged);
        self.passed = None;
        removed
    }
}

/// How large a file is, as a power.
fn size(reader: &Reader, written: u64) -> usize {
    (reader.record().entries / written).max(1).ilog(MERGE_FILES as u64) as usize
}
