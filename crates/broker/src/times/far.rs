//! What is in files, and what was taken.

use super::{NEAR, Time};
use crate::log::{BadBlock, Reader};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many files of a size are merged into one, which is of the next size: so many times larger.
const MERGE_FILES: usize = 16;

/// Blocks that do not check are remembered up to so many until somebody asks.
const BAD_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Far {
    pub(super) readers: Vec<Reader>,
    /// Taken, and not in effect yet.
    pub(super) in_hand: Vec<Time>,
    /// Files that are being merged, and the last that was taken from them since.
    pub(super) merging: Vec<u32>,
    pub(super) passed: Option<Time>,
    /// Files all of which was taken.
    pub(super) used_up: Vec<u32>,
    pub(super) bad: Vec<BadBlock>,
}

impl Far {
    /// Reads what comes next in each file. The others can be used after an error.
    pub(super) fn load(&mut self, damaged: &AtomicBool) -> io::Result<()> {
        let (mut bad, mut loaded) = (Vec::new(), Ok(()));
        for reader in self.readers.iter_mut().filter(|reader| reader.head().is_none()) {
            let read = reader.load(&mut bad);
            loaded = loaded.and(read);
        }
        if !bad.is_empty() {
            damaged.store(true, Ordering::Relaxed);
            bad.truncate(BAD_MAX.saturating_sub(self.bad.len()));
            self.bad.append(&mut bad);
        }
        loaded
    }

    /// The earliest, and which file has it.
    pub(super) fn first(&self) -> Option<(Time, usize)> {
        let heads = self.readers.iter().enumerate().filter_map(|(index, reader)| Some((reader.head()?, index)));
        heads.min()
    }

    /// When the next one is due; a file that could not be read may have something that is.
    pub(super) fn next(&self) -> Option<u64> {
        let unread = self.readers.iter().any(|reader| reader.head().is_none() && !reader.is_done());
        if unread { Some(0) } else { self.first().map(|(time, _)| time.due) }
    }

    /// What is next in a file was taken.
    pub(super) fn advance(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        if self.merging.contains(&reader.record().number) {
            self.passed = self.passed.max(reader.head());
        }
        reader.advance();
        if reader.is_done() {
            self.drop_used_up();
        }
    }

    /// Files that have nothing left.
    pub(super) fn drop_used_up(&mut self) {
        let used_up = self.readers.extract_if(.., |reader| reader.is_done());
        self.used_up.extend(used_up.map(|reader| reader.record().number));
    }

    /// The first files of a size of which there are enough; none while others are being merged.
    pub(super) fn begin_merge(&mut self) -> Option<Vec<Reader>> {
        if !self.merging.is_empty() {
            return None;
        }
        let mut sizes = [0; 16];
        let chosen = self.readers.iter().map(size).find(|&size| {
            sizes[size] += 1;
            sizes[size] == MERGE_FILES
        })?;
        let of_size = self.readers.iter().filter(|reader| size(reader) == chosen).take(MERGE_FILES);
        let forks: Vec<Reader> = of_size.map(Reader::fork).collect();
        self.merging = forks.iter().map(|reader| reader.record().number).collect();
        self.passed = None;
        Some(forks)
    }

    pub(super) fn end_merge(&mut self, merged: Option<Reader>) -> Vec<u32> {
        let merging = std::mem::take(&mut self.merging);
        let removed = self.readers.extract_if(.., |reader| merging.contains(&reader.record().number));
        let removed = removed.map(|reader| reader.record().number).collect();
        self.readers.extend(merged);
        self.passed = None;
        removed
    }
}

/// How large a file is, as a power.
fn size(reader: &Reader) -> usize {
    let written = (reader.record().entries / (NEAR as u64 / 2)).max(1);
    written.ilog(MERGE_FILES as u64) as usize
}
