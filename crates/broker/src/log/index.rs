//! Where each queue's messages are in a file: entries in blocks, and a directory of queues (docs/format.md).
//!
//! Nothing is kept in memory per entry: whoever reads a queue asks for the next few entries, and each block is checked
//! when it is read.

mod writing;

use super::format::{BLOCK, BLOCK_HEAD, LogId, u32_at, u64_at};
use super::record::QueueId;
use crate::disk::{Disk, DiskFile};
use std::io::{self, ErrorKind};
use std::sync::Arc;
pub(super) use writing::Writer;

const ENTRY: usize = 32;
const ENTRIES_PER_BLOCK: u64 = 127;

const SPAN: usize = 48;
const SPANS_PER_BLOCK: u64 = 84;

const FOOTER: usize = 64;
const MAGIC: [u8; 4] = *b"LVI1";

/// Blocks that are read at once: half a thousand entries.
const READ: usize = 4;

/// Messages of one queue at consecutive positions, in one enqueue record of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) queue: QueueId,
    pub(crate) position: u64,
    pub(crate) count: u32,
    /// Of the record in the file.
    pub(crate) offset: u32,
    /// Of the whole record.
    pub(crate) length: u32,
    /// Of the record and of the pieces of its body, if that is apart.
    pub(crate) bytes: u32,
}

impl Entry {
    /// The position behind its last message.
    pub(crate) fn end(&self) -> u64 {
        self.position.saturating_add(u64::from(self.count))
    }

    fn encode(&self) -> [u8; ENTRY] {
        let mut item = [0; ENTRY];
        item[0..8].copy_from_slice(&self.queue.to_le_bytes());
        item[8..16].copy_from_slice(&self.position.to_le_bytes());
        item[16..20].copy_from_slice(&self.count.to_le_bytes());
        item[20..24].copy_from_slice(&self.offset.to_le_bytes());
        item[24..28].copy_from_slice(&self.length.to_le_bytes());
        item[28..32].copy_from_slice(&self.bytes.to_le_bytes());
        item
    }

    fn decode(item: &[u8]) -> Entry {
        Entry {
            queue: u64_at(item, 0),
            position: u64_at(item, 8),
            count: u32_at(item, 16),
            offset: u32_at(item, 20),
            length: u32_at(item, 24),
            bytes: u32_at(item, 28),
        }
    }

    /// There is something in it, at positions and offsets that exist.
    fn is_possible(&self) -> bool {
        self.count > 0
            && self.position.checked_add(u64::from(self.count)).is_some()
            && self.offset.checked_add(self.length).is_some()
    }
}

/// What a file has of one queue: a range of its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) queue: QueueId,
    /// The lowest position.
    pub(crate) first: u64,
    /// The highest.
    pub(crate) last: u64,
    /// What its entries count together.
    pub(crate) messages: u64,
    /// The bytes of its entries together; a record that several queues share counts for each.
    pub(crate) bytes: u64,
    /// The number of its first entry in the index.
    pub(crate) entry: u32,
    /// How many it has.
    pub(crate) entries: u32,
}

impl Span {
    /// Some positions between its first and last are not in it.
    pub(crate) fn has_gaps(&self) -> bool {
        self.messages != self.last - self.first + 1
    }

    fn encode(&self) -> [u8; SPAN] {
        let mut item = [0; SPAN];
        let words = [self.queue, self.first, self.last, self.messages, self.bytes];
        for (at, word) in words.into_iter().enumerate() {
            item[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        item[40..44].copy_from_slice(&self.entry.to_le_bytes());
        item[44..48].copy_from_slice(&self.entries.to_le_bytes());
        item
    }

    fn decode(item: &[u8]) -> Span {
        Span {
            queue: u64_at(item, 0),
            first: u64_at(item, 8),
            last: u64_at(item, 16),
            messages: u64_at(item, 24),
            bytes: u64_at(item, 32),
            entry: u32_at(item, 40),
            entries: u32_at(item, 44),
        }
    }
}

/// The name of a file's index.
pub(crate) fn name(number: u32) -> String {
    format!("{number:08x}.index")
}

/// Writes and syncs an index file; not the directory. Entries come sorted by queue and position. A file of that name was
/// left by a crash before it counted, and is removed.
///
/// # Errors
/// `InvalidInput` if the entries are not sorted, overlap or are too many, and what the disk says. No file is left then,
/// if the disk lets it be removed.
pub(crate) fn write(
    disk: &dyn Disk,
    log: LogId,
    number: u32,
    entries: impl Iterator<Item = Entry>,
) -> io::Result<Vec<Span>> {
    let mut writer = Writer::create(disk, log, number)?;
    let written = entries.into_iter().try_for_each(|entry| writer.push(entry)).and_then(|()| writer.finish());
    if written.is_err() {
        let _ = disk.remove(&name(number));
    }
    written
}

/// As [`write()`], of entries as they were found in a file's records: in any order. Where they overlap the first counts.
pub(crate) fn write_again(disk: &dyn Disk, log: LogId, number: u32, mut entries: Vec<Entry>) -> io::Result<Vec<Span>> {
    sort(&mut entries);
    write(disk, log, number, entries.into_iter())
}

/// Sorts entries and takes away what overlaps.
pub(crate) fn sort(entries: &mut Vec<Entry>) {
    entries.retain(Entry::is_possible);
    entries.sort_unstable_by_key(|entry| (entry.queue, entry.position, entry.offset));
    let (mut queue, mut next) = (0, 0);
    entries.retain_mut(|entry| {
        let begin = if entry.queue == queue { entry.position.max(next) } else { entry.position };
        let end = entry.end();
        if begin >= end {
            return false;
        }
        (entry.count, entry.position) = ((end - begin) as u32, begin);
        (queue, next) = (entry.queue, end);
        true
    });
}

/// Reads all of an index.
///
/// # Errors
/// As [`Index::open`].
pub(crate) fn check(disk: &dyn Disk, log: LogId, number: u32) -> io::Result<()> {
    let (index, spans) = Index::open(disk, log, number)?;
    let mut entries = Entries::new(&index, &spans);
    while entries.next()?.is_some() {}
    Ok(())
}

/// Creates an empty file, in the place of one that is there.
pub(in crate::log) fn create_anew(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    match disk.create(name) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            disk.remove(name)?;
            disk.create(name)
        }
        created => created,
    }
}

/// The last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footer {
    entries: u64,
    queues: u64,
    /// Number of the first block of the directory.
    directory: u64,
}

impl Footer {
    fn encode(&self, log: LogId, number: u32) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[4..8].copy_from_slice(&MAGIC);
        block[8..16].copy_from_slice(&log.id.to_le_bytes());
        block[16..20].copy_from_slice(&number.to_le_bytes());
        block[24..32].copy_from_slice(&self.entries.to_le_bytes());
        block[32..40].copy_from_slice(&self.queues.to_le_bytes());
        block[40..48].copy_from_slice(&self.directory.to_le_bytes());
        let crc = log.crc(&block[4..FOOTER]);
        block[0..4].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// `None` unless it is the footer of this file's index and fits its length.
    fn decode(log: LogId, number: u32, block: &[u8; BLOCK], len: u64) -> Option<Footer> {
        if u32_at(block, 0) != log.crc(&block[4..FOOTER])
            || block[4..8] != MAGIC
            || u64_at(block, 8) != log.id
            || u32_at(block, 16) != number
            || block[FOOTER..].iter().any(|&byte| byte != 0)
        {
            return None;
        }
        let footer = Footer { entries: u64_at(block, 24), queues: u64_at(block, 32), directory: u64_at(block, 40) };
        let fits = footer.entries <= u64::from(u32::MAX)
            && footer.queues <= footer.entries
            && footer.directory == footer.entries.div_ceil(ENTRIES_PER_BLOCK)
            && (footer.directory + footer.queues.div_ceil(SPANS_PER_BLOCK) + 1) * BLOCK as u64 == len;
        fits.then_some(footer)
    }
}

/// An open index file. It has only numbers in memory, so copies are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    log: LogId,
    number: u32,
    file: Arc<dyn DiskFile>,
    entries: u32,
}

impl Index {
    /// Opens an index; reads and checks footer and directory.
    ///
    /// # Errors
    /// `InvalidData`, with the file and the place, if bytes do not check, and what the disk says.
    pub(crate) fn open(disk: &dyn Disk, log: LogId, number: u32) -> io::Result<(Index, Vec<Span>)> {
        let file = disk.open(&name(number))?;
        let mut index = Index { log, number, file, entries: 0 };
        let len = index.file.len()?;
        let at = len.saturating_sub(BLOCK as u64);
        let mut block = [0; BLOCK];
        let read = index.file.read(at, &mut block)?;
        let footer = Footer::decode(log, number, &block, len).filter(|_| read == BLOCK);
        let footer = footer.ok_or_else(|| index.invalid(at / BLOCK as u64, "is no footer of this index"))?;
        let spans = index.directory(&footer)?;
        index.entries = footer.entries as u32;
        Ok((index, spans))
    }

    /// The entries of `span` from the one on that has `position`, or the first behind it: at most `max` are appended.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub(crate) fn find(&self, span: &Span, position: u64, max: usize, out: &mut Vec<Entry>) -> io::Result<()> {
        if position > span.last || max == 0 || span.entries == 0 {
            return Ok(());
        }
        let mut window = Window::new([0; READ * BLOCK], max as u64 / ENTRIES_PER_BLOCK + 1);
        let Some(mut block) = self.locate(span, position, &mut window)? else { return Ok(()) };
        let (mut before, mut left) = (None, max);
        loop {
            let items = self.entries_of(span, block, &mut window)?;
            if items.is_empty() {
                return Ok(());
            }
            for item in items.chunks_exact(ENTRY) {
                let entry = self.checked(span, block, before, Entry::decode(item))?;
                before = Some(entry);
                if entry.end() > position {
                    out.push(entry);
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
            block += 1;
        }
    }

    /// The block in which to begin looking for `position`; `None` behind the span.
    ///
    /// Positions mostly grow evenly, so the place is computed; every other step halves what is left, in case they don't.
    fn locate<B: AsMut<[u8]>>(&self, span: &Span, position: u64, window: &mut Window<B>) -> io::Result<Option<u64>> {
        let end = u64::from(span.entry) + u64::from(span.entries);
        let behind = end.div_ceil(ENTRIES_PER_BLOCK);
        let (mut low, mut high) = (u64::from(span.entry) / ENTRIES_PER_BLOCK, behind);
        let (mut first, mut last) = (span.first, span.last);
        let mut halve = false;
        while low < high {
            let (offset, width) = (position.saturating_sub(first), last.saturating_sub(first));
            let part = match halve || width == 0 {
                true => u128::from(high - low) / 2,
                false => u128::from(high - low) * u128::from(offset) / (u128::from(width) + 1),
            };
            halve = !halve;
            let block = low + (part as u64).min(high - low - 1);
            let items = self.entries_of(span, block, window)?;
            let (head, tail) = (items.first_chunk::<ENTRY>(), items.last_chunk::<ENTRY>());
            let (Some(head), Some(tail)) = (head, tail) else {
                return Err(self.invalid(block, "is not of the queue that it should be of"));
            };
            let (head, tail) = (Entry::decode(head), Entry::decode(tail));
            if position >= tail.end() {
                (low, first) = (block + 1, tail.end());
            } else if position < head.position {
                (high, last) = (block, head.position);
            } else {
                return Ok(Some(block));
            }
        }
        Ok((low < behind).then_some(low))
    }

    /// The items of one block that are entries of `span`; empty behind the span.
    fn entries_of<'w, B: AsMut<[u8]>>(
        &self,
        span: &Span,
        block: u64,
        window: &'w mut Window<B>,
    ) -> io::Result<&'w [u8]> {
        let (begin, end) = (u64::from(span.entry), u64::from(span.entry) + u64::from(span.entries));
        let base = block * ENTRIES_PER_BLOCK;
        let (from, to) = (begin.max(base), end.min(base + ENTRIES_PER_BLOCK));
        if from >= to {
            return Ok(&[]);
        }
        let all = u64::from(self.entries);
        if end > all {
            return Err(self.invalid(block, "has fewer entries than a span says"));
        }
        let items = window.block(self, block, all.div_ceil(ENTRIES_PER_BLOCK), (all - base).min(ENTRIES_PER_BLOCK))?;
        Ok(&items[(from - base) as usize * ENTRY..(to - base) as usize * ENTRY])
    }

    fn checked(&self, span: &Span, block: u64, before: Option<Entry>, entry: Entry) -> io::Result<Entry> {
        let fits = entry.queue == span.queue
            && entry.is_possible()
            && entry.position >= before.map_or(span.first, |before| before.end())
            && entry.end() - 1 <= span.last;
        if fits { Ok(entry) } else { Err(self.invalid(block, "has entries that are not as the directory says")) }
    }

    fn directory(&self, footer: &Footer) -> io::Result<Vec<Span>> {
        let end = footer.directory + footer.queues.div_ceil(SPANS_PER_BLOCK);
        let mut window = Window::new([0; READ * BLOCK], READ as u64);
        let mut spans: Vec<Span> = Vec::with_capacity(footer.queues as usize);
        let mut entries = 0u32;
        for block in footer.directory..end {
            let count = (footer.queues - spans.len() as u64).min(SPANS_PER_BLOCK);
            let items = window.block(self, block, end, count)?;
            for item in items[..count as usize * SPAN].chunks_exact(SPAN) {
                let span = Span::decode(item);
                let next = entries.checked_add(span.entries).filter(|_| span.entry == entries);
                let room = span.last.checked_sub(span.first);
                let fits = spans.last().is_none_or(|before| before.queue < span.queue)
                    && span.entries > 0
                    && u64::from(span.entries) <= span.messages
                    && room.is_some_and(|room| span.messages - 1 <= room);
                let next = next.filter(|_| fits);
                entries = next.ok_or_else(|| self.invalid(block, "has queues that cannot be"))?;
                spans.push(span);
            }
        }
        if u64::from(entries) != footer.entries {
            return Err(self.invalid(end, "counts other entries than the directory"));
        }
        Ok(spans)
    }

    fn invalid(&self, block: u64, what: &str) -> io::Error {
        let text = format!("{}: the block at {} {what}", name(self.number), block * BLOCK as u64);
        io::Error::new(ErrorKind::InvalidData, text)
    }
}

/// Every entry of an index, one after the other.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    index: &'a Index,
    spans: &'a [Span],
    /// Entries of the first of `spans` that are taken.
    taken: u32,
    before: Option<Entry>,
    window: Window<Box<[u8]>>,
}

impl<'a> Entries<'a> {
    /// `spans` are those of the index.
    pub(crate) fn new(index: &'a Index, spans: &'a [Span]) -> Entries<'a> {
        let window = Window::new(vec![0; READ * BLOCK].into_boxed_slice(), READ as u64);
        Entries { index, spans, taken: 0, before: None, window }
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        while let Some(span) = self.spans.first().filter(|span| self.taken >= span.entries) {
            debug_assert!(span.entries > 0);
            (self.spans, self.taken, self.before) = (&self.spans[1..], 0, None);
        }
        let Some(span) = self.spans.first() else { return Ok(None) };
        let number = u64::from(span.entry) + u64::from(self.taken);
        let block = number / ENTRIES_PER_BLOCK;
        let skipped = number - (block * ENTRIES_PER_BLOCK).max(u64::from(span.entry));
        let items = self.index.entries_of(span, block, &mut self.window)?;
        let item = Entry::decode(&items[skipped as usize * ENTRY..][..ENTRY]);
        let entry = self.index.checked(span, block, self.before, item)?;
        self.taken += 1;
        self.before = Some(entry);
        Ok(Some(entry))
    }
}

/// Some blocks of an index, next to each other.
#[derive(Debug)]
struct Window<B> {
    bytes: B,
    /// How many to read at once.
    most: u64,
    first: u64,
    count: u64,
    /// The last block that was found to check: reading on in it costs nothing.
    good: Option<u64>,
}

impl<B: AsMut<[u8]>> Window<B> {
    fn new(bytes: B, most: u64) -> Window<B> {
        Window { bytes, most: most.min(READ as u64), first: 0, count: 0, good: None }
    }

    /// The items of a block that has `items` of them, checked. Reads ahead up to block `end`.
    fn block(&mut self, index: &Index, block: u64, end: u64, items: u64) -> io::Result<&[u8]> {
        let bytes = self.bytes.as_mut();
        if block < self.first || block >= self.first + self.count {
            (self.first, self.count, self.good) = (block, 0, None);
            let wanted = self.most.min(end.saturating_sub(block));
            let read = index.file.read(block * BLOCK as u64, &mut bytes[..wanted as usize * BLOCK])?;
            self.count = (read / BLOCK) as u64;
            if self.count == 0 {
                return Err(index.invalid(block, "is missing"));
            }
        }
        let block_bytes = &bytes[(block - self.first) as usize * BLOCK..][..BLOCK];
        if self.good != Some(block) {
            let checks = u32_at(block_bytes, 0) == index.log.crc(&block_bytes[4..]);
            if !checks || u64::from(u32_at(block_bytes, 4)) != items {
                return Err(index.invalid(block, "does not check"));
            }
            self.good = Some(block);
        }
        Ok(&block_bytes[BLOCK_HEAD..])
    }
}

#[cfg(test)]
pub(super) mod tests;
