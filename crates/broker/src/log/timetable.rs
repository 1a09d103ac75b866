//! Files of times: sorted, in blocks each of which can be read without the others (docs/format.md).

use super::files::read_exact;
use super::format::{BLOCK, BLOCK_HEAD, LogId, close_block, u32_at};
use super::index::create_anew;
use super::record::TimesFile;
use super::scan::is_damage;
use super::writer::sync_file;
use crate::disk::{Disk, DiskFile};
use crate::times::{Before, Time};
use std::io;
use std::sync::Arc;

/// Blocks are gathered to this many bytes before they are written.
const WRITE: usize = 256 * 1024;

/// The name of such a file.
pub(crate) fn name(number: u32) -> String {
    format!("{number:08x}.times")
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    log: LogId,
    file: Arc<dyn DiskFile>,
    record: TimesFile,
    buffer: Vec<u8>,
    /// Where the open block begins in the buffer.
    begin: usize,
    /// Items in it.
    count: u32,
    before: Before,
    /// Where the buffer begins in the file.
    at: u64,
    /// The last one, which those that follow may join.
    last: Option<Time>,
}

impl Writer {
    /// Creates a file in the place of one that may be there.
    pub(crate) fn create(disk: &dyn Disk, log: LogId, number: u32) -> io::Result<Writer> {
        let (file, record) = (create_anew(disk, &name(number))?, TimesFile { number, ..TimesFile::default() });
        let (buffer, before) = (Vec::with_capacity(WRITE + BLOCK), Before::default());
        Ok(Writer { log, file, record, buffer, begin: 0, count: 0, before, at: 0, last: None })
    }

    /// Appends a time, which must not be lower than the one before. Neighbours become one; what is there already is left
    /// out.
    pub(crate) fn push(&mut self, time: Time) -> io::Result<()> {
        if self.last.as_mut().is_some_and(|last| last.join(&time)) {
            return Ok(());
        }
        match self.last.replace(time) {
            Some(last) => self.put(&last),
            None => Ok(()),
        }
    }

    /// Writes what is left and syncs the file; the caller syncs its name.
    pub(crate) fn finish(mut self) -> io::Result<Reader> {
        if let Some(last) = self.last.take() {
            self.put(&last)?;
        }
        self.close();
        self.flush()?;
        sync_file(self.file.as_ref())?;
        Ok(Reader::new(self.log, self.file, self.record))
    }

    fn put(&mut self, time: &Time) -> io::Result<()> {
        if self.count == 0 {
            self.open();
        }
        let end = self.buffer.len();
        self.before.put(time, &mut self.buffer);
        if self.buffer.len() - self.begin > BLOCK {
            self.buffer.truncate(end);
            self.close();
            if self.buffer.len() >= WRITE {
                self.flush()?;
            }
            self.open();
            self.before.put(time, &mut self.buffer);
        }
        self.count += 1;
        self.record.entries += 1;
        Ok(())
    }

    fn open(&mut self) {
        (self.begin, self.before) = (self.buffer.len(), Before::default());
        self.buffer.extend_from_slice(&[0; BLOCK_HEAD]);
    }

    fn close(&mut self) {
        if self.count > 0 {
            close_block(self.log, &mut self.buffer, self.begin, self.count);
            self.count = 0;
            self.record.blocks += 1;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// A block that does not check: the file's number and the block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadBlock {
    pub(crate) file: u32,
    pub(crate) block: u32,
}

impl BadBlock {
    /// Where it is in the file.
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.block) * BLOCK as u64
    }
}

impl std::fmt::Display for BadBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, at) = (name(self.file), self.offset());
        write!(f, "{name} is damaged at {at}: some messages are not expired, or delayed no longer")
    }
}

/// A way through a file, with a block of it in memory.
#[derive(Debug)]
pub(crate) struct Reader {
    log: LogId,
    file: Arc<dyn DiskFile>,
    /// With how far it is read.
    record: TimesFile,
    /// The block that is being read; empty if none is.
    bytes: Vec<u8>,
    at: usize,
    left: u32,
    before: Before,
    head: Option<Time>,
}

impl Reader {
    pub(crate) fn new(log: LogId, file: Arc<dyn DiskFile>, record: TimesFile) -> Reader {
        let (bytes, before) = (Vec::new(), Before::default());
        Reader { log, file, record, bytes, at: 0, left: 0, before, head: None }
    }

    /// Another way, from the same place on.
    pub(crate) fn fork(&self) -> Reader {
        Reader::new(self.log, self.file.clone(), self.record)
    }

    /// The file, and how far it is read.
    pub(crate) fn record(&self) -> TimesFile {
        self.record
    }

    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// What comes next; `None` behind a block's end until [`Reader::load`] is called.
    pub(crate) fn head(&self) -> Option<Time> {
        self.head
    }

    pub(crate) fn is_done(&self) -> bool {
        self.head.is_none() && self.record.block >= self.record.blocks
    }

    /// Goes on behind the head.
    pub(crate) fn advance(&mut self) {
        self.record.item += 1;
        self.head = self.decode();
        if self.head.is_none() {
            self.next_block();
        }
    }

    /// Reads a block if there is no head and the file has not ended. `bad` gets blocks that do not check, which are left
    /// out.
    ///
    /// # Errors
    /// If the file cannot be read. It can be tried again.
    pub(crate) fn load(&mut self, bad: &mut Vec<BadBlock>) -> io::Result<()> {
        while self.head.is_none() && self.record.block < self.record.blocks {
            if let Err(error) = self.load_block() {
                if !is_damage(&error) {
                    return Err(error);
                }
                bad.push(BadBlock { file: self.record.number, block: self.record.block });
                self.next_block();
            }
        }
        Ok(())
    }

    fn load_block(&mut self) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let bytes = read_exact(self.file.as_ref(), u64::from(self.record.block) * BLOCK as u64, BLOCK)?;
        if u32_at(&bytes, 0) != self.log.crc(&bytes[4..]) {
            return Err(invalid());
        }
        (self.left, self.bytes, self.at, self.before) = (u32_at(&bytes, 4), bytes, BLOCK_HEAD, Before::default());
        for _ in 0..=self.record.item {
            self.head = self.decode();
        }
        // Nothing is left of it: that is as good as its end, unless there should be something.
        match self.head {
            None if self.left > 0 || self.record.item == 0 => Err(invalid()),
            None => {
                self.next_block();
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn decode(&mut self) -> Option<Time> {
        self.left = self.left.checked_sub(1)?;
        let mut rest = &self.bytes[self.at..];
        let time = self.before.take(&mut rest);
        self.at = self.bytes.len() - rest.len();
        time
    }

    fn next_block(&mut self) {
        (self.record.block, self.record.item) = (self.record.block + 1, 0);
        (self.head, self.left, self.bytes) = (None, 0, Vec::new());
    }
}
