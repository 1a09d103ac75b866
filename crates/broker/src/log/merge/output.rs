//! The file that a merge writes: records one behind the other, through one buffer.

use super::super::format::{LogId, RECORD_HEAD, RawRecord, lsn};
use super::super::index::create_anew;
use super::super::record::{ENQUEUE, Enqueue, Target};
use super::super::writer::sync_file;
use super::{MergeError, failed, name};
use crate::disk::{Disk, DiskFile};
use std::sync::Arc;

/// What is gathered before it is written.
const BUFFER: usize = 1024 * 1024;

/// Synced at a time: little, because the log's own syncs wait for it.
const SYNCED: u64 = 4 * 1024 * 1024;

/// Bytes of an enqueue's meta before its targets, and of a target.
const META_HEAD: usize = 8;
const TARGET: usize = 16;

/// A merged file that is being written.
#[derive(Debug)]
pub(super) struct Output {
    log: LogId,
    epoch: u32,
    number: u32,
    file: Arc<dyn DiskFile>,
    /// What an error hindered.
    what: String,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file, and how much of that is synced.
    at: u64,
    synced: u64,
    /// Scratch space for headers.
    meta: Vec<u8>,
    head: Vec<u8>,
}

/// A record that has room for its header, and grows.
#[derive(Debug)]
pub(super) struct Open {
    /// Where it begins, and where its body does.
    begin: u64,
    body: u64,
    /// Where it ends.
    end: u64,
    crc: u32,
}

impl Open {
    /// Bytes of the body so far.
    pub(super) fn body_len(&self) -> u64 {
        self.end - self.body
    }
}

impl Output {
    pub(super) fn create(disk: &dyn Disk, log: LogId, epoch: u32, number: u32) -> Result<Output, MergeError> {
        let what = format!("write {}", name(number));
        let file = create_anew(disk, &name(number)).map_err(failed(&what))?;
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Output { log, epoch, number, file, what, buffer, at: 0, synced: 0, meta: Vec::new(), head: Vec::new() })
    }

    /// Begins a record at the end of the file, with room for so many targets. It has to be ended before the next one.
    pub(super) fn begin(&mut self, targets: usize) -> Result<Open, MergeError> {
        let begin = self.end_of_file();
        let head = RECORD_HEAD + META_HEAD + TARGET * targets;
        self.head.clear();
        self.head.resize(head, 0);
        let room = std::mem::take(&mut self.head);
        let appended = self.append(&room);
        self.head = room;
        appended.map(|()| Open { begin, body: self.end_of_file(), end: self.end_of_file(), crc: self.log.crc(&[]) })
    }

    /// Appends to its body.
    pub(super) fn body(&mut self, open: &mut Open, bytes: &[u8]) -> Result<(), MergeError> {
        debug_assert_eq!(open.end, self.end_of_file(), "records do not interleave");
        open.crc = crc32c::crc32c_append(open.crc, bytes);
        self.append(bytes)?;
        open.end = self.end_of_file();
        Ok(())
    }

    /// Writes the header. Returns offset and length of the record.
    pub(super) fn end(&mut self, open: Open, count: u32, targets: &[Target]) -> Result<(u32, u32), MergeError> {
        self.meta.clear();
        Enqueue::encode(count, targets, &mut self.meta);
        // Offsets fit: more than that is not appended.
        let (offset, length) = (open.begin as u32, (open.end - open.begin) as u32);
        let (lsn, epoch, meta) = (lsn(self.number, offset), self.epoch, &self.meta);
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        RawRecord { kind: ENQUEUE, flags: 0, epoch, lsn, meta, body: &[] }.encode(self.log, open.crc, &mut head);
        // The body is elsewhere, but is part of the record.
        head[12..16].copy_from_slice(&(open.body_len() as u32).to_le_bytes());
        let crc = self.log.crc(&head[4..]);
        head[0..4].copy_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(head.len() as u64, open.body - open.begin, "as many targets as there is room for");
        let patched = self.patch(open.begin, &head);
        self.head = head;
        patched.map(|()| (offset, length))
    }

    /// Writes what is left and syncs the file. Returns its length.
    pub(super) fn finish(&mut self) -> Result<u64, MergeError> {
        self.flush()?;
        if self.at > 0 {
            sync_file(&*self.file).map_err(failed(&self.what))?;
        }
        Ok(self.at)
    }

    /// Where the file ends.
    fn end_of_file(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), MergeError> {
        if self.end_of_file() + bytes.len() as u64 > u64::from(u32::MAX) {
            return Err(MergeError::TooLong { number: self.number });
        }
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = rest;
            if self.buffer.len() == BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes over what was appended: in the buffer, in the file, or across.
    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MergeError> {
        let written = self.at.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let (before, rest) = bytes.split_at(written);
        if !before.is_empty() {
            self.file.write(offset, before).map_err(failed(&self.what))?;
        }
        if !rest.is_empty() {
            let begin = (offset + written as u64 - self.at) as usize;
            self.buffer[begin..begin + rest.len()].copy_from_slice(rest);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MergeError> {
        if !self.buffer.is_empty() {
            self.file.write(self.at, &self.buffer).map_err(failed(&self.what))?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
            if self.at - self.synced >= SYNCED {
                sync_file(&*self.file).map_err(failed(&self.what))?;
                self.synced = self.at;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::index::tests::{LOG, Memory};

    fn record(out: &mut Output, body: &[u8]) -> Result<(u32, u32), MergeError> {
        let mut open = out.begin(1)?;
        for part in body.chunks(body.len().div_ceil(3).max(1)) {
            out.body(&mut open, part)?;
        }
        out.end(open, 1, &[Target { queue: 1, position: 2 }])
    }

    #[test]
    fn headers_are_whole_wherever_the_buffer_ends() {
        let disk = Memory::default();
        let log = LogId::new(LOG);
        for behind in [0, 1, 31, 56, 57, 200, 2 * BUFFER] {
            for before in 0..60 {
                let mut out = Output::create(&disk, log, 7, 3).unwrap();
                let first = record(&mut out, &vec![1; BUFFER - 56 - before]).unwrap();
                let second = record(&mut out, &vec![2; behind]).unwrap();
                let len = out.finish().unwrap();
                assert_eq!(u64::from(second.0 + second.1), len);
                let file = disk.file("00000003.merged");
                let bytes = file.bytes.read();
                for (at, (offset, length)) in [first, second].into_iter().enumerate() {
                    let record = RawRecord::decode(log, lsn(3, offset), &bytes[offset as usize..]).unwrap();
                    assert_eq!((record.kind, record.epoch, record.len()), (ENQUEUE, 7, length as usize));
                    assert!(record.body.iter().all(|&byte| byte == at as u8 + 1));
                }
            }
        }
    }

    #[test]
    fn a_file_ends_below_4_gib() {
        let mut out = Output::create(&Memory::default(), LogId::new(LOG), 7, 3).unwrap();
        out.at = u64::from(u32::MAX) - 200;
        assert_eq!(record(&mut out, &[0; 40]).unwrap(), (u32::MAX - 200, 96));
        let error = record(&mut out, &[0; 49]).unwrap_err();
        assert!(matches!(error, MergeError::TooLong { number: 3 }), "{error}");
        assert_eq!(error.to_string(), "00000003.merged would be longer than 4 GiB; merge fewer files at once");
    }
}
