//! An index being written: its blocks are filled one after the other, and the queues are remembered for the directory.

use super::{BLOCK_HEAD, ENTRIES_PER_BLOCK, Entry, Footer, SPANS_PER_BLOCK, Span, create_anew, name};
use crate::disk::{Disk, DiskFile};
use crate::log::format::{LogId, close_block};
use crate::log::writer::sync_file;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Blocks are gathered to this many bytes before they are written.
const WRITE: usize = 256 * 1024;

/// An index that is being written.
#[derive(Debug)]
pub(in crate::log) struct Writer {
    log: LogId,
    number: u32,
    file: Arc<dyn DiskFile>,
    blocks: Blocks,
    entries: u32,
    spans: Vec<Span>,
}

impl Writer {
    /// As [`write`](super::write), entry by entry.
    pub(in crate::log) fn create(disk: &dyn Disk, log: LogId, number: u32) -> io::Result<Writer> {
        let file = create_anew(disk, &name(number))?;
        let blocks = Blocks { log, buffer: Vec::with_capacity(WRITE), begin: 0, count: 0, at: 0 };
        Ok(Writer { log, number, file, blocks, entries: 0, spans: Vec::new() })
    }

    pub(in crate::log) fn push(&mut self, entry: Entry) -> io::Result<()> {
        let last = self.spans.last();
        let follows = last.is_none_or(|last| (last.queue, last.last) < (entry.queue, entry.position));
        if !follows || !entry.is_possible() || self.entries == u32::MAX {
            let text = format!("{}: {entry:?} cannot follow {last:?}", name(self.number));
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        match self.spans.last_mut().filter(|span| span.queue == entry.queue) {
            Some(span) => {
                span.last = entry.end() - 1;
                span.messages += u64::from(entry.count);
                span.bytes += u64::from(entry.bytes);
                span.entries += 1;
            }
            None => self.spans.push(Span {
                queue: entry.queue,
                first: entry.position,
                last: entry.end() - 1,
                messages: u64::from(entry.count),
                bytes: u64::from(entry.bytes),
                entry: self.entries,
                entries: 1,
            }),
        }
        self.entries += 1;
        self.blocks.push(&entry.encode(), ENTRIES_PER_BLOCK);
        self.blocks.flush(&*self.file, WRITE)
    }

    /// Writes the directory and the footer, and syncs the file.
    pub(in crate::log) fn finish(mut self) -> io::Result<Vec<Span>> {
        self.blocks.close();
        let directory = u64::from(self.entries).div_ceil(ENTRIES_PER_BLOCK);
        for span in &self.spans {
            self.blocks.push(&span.encode(), SPANS_PER_BLOCK);
            self.blocks.flush(&*self.file, WRITE)?;
        }
        self.blocks.close();
        let footer = Footer { entries: u64::from(self.entries), queues: self.spans.len() as u64, directory };
        self.blocks.buffer.extend_from_slice(&footer.encode(self.log, self.number));
        self.blocks.flush(&*self.file, 0)?;
        sync_file(&*self.file)?;
        Ok(self.spans)
    }
}

/// Blocks that are being filled.
#[derive(Debug)]
struct Blocks {
    log: LogId,
    buffer: Vec<u8>,
    /// Where the open block begins in the buffer.
    begin: usize,
    /// Items in it.
    count: u32,
    /// Where the buffer begins in the file.
    at: u64,
}

impl Blocks {
    fn push(&mut self, item: &[u8], per_block: u64) {
        if self.count == 0 {
            self.begin = self.buffer.len();
            self.buffer.extend_from_slice(&[0; BLOCK_HEAD]);
        }
        self.buffer.extend_from_slice(item);
        self.count += 1;
        if u64::from(self.count) == per_block {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.count > 0 {
            close_block(self.log, &mut self.buffer, self.begin, self.count);
            self.count = 0;
        }
    }

    /// Writes the closed blocks if they are at least `min` bytes and none is open.
    fn flush(&mut self, file: &dyn DiskFile, min: usize) -> io::Result<()> {
        if self.count == 0 && self.buffer.len() >= min {
            file.write(self.at, &self.buffer)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
