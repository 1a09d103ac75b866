//! Checkpoints: everything but messages, written to a file of its own (docs/format.md).

use super::files::read_exact;
use super::format::{BATCH_HEAD, BatchHead, LogId, Lsn, RawRecord, lsn};
use super::record::{
    self, CHECKPOINT, Change, Checkpoint, FILES, FileRecord, QUEUE_STATE, SEEN, TIMES, TIMES_FILES, TimesFile,
};
use crate::disk::{Disk, DiskFile};
use crate::times::{self, Time};
use std::io;
use std::sync::Arc;

/// Written at a time.
const CHUNK: usize = 256 * 1024;

/// A record has so many times at most.
const TIMES_PER_RECORD: usize = 4096;

/// The name of a checkpoint.
pub(crate) fn name(number: u32) -> String {
    format!("{number:08x}.checkpoint")
}

/// A checkpoint that is being written.
pub(crate) struct Writing {
    log: LogId,
    epoch: u32,
    number: u32,
    file: Arc<dyn DiskFile>,
    bytes: Vec<u8>,
    /// Bytes of the file before `bytes`.
    at: u64,
    records: u64,
    meta: Vec<u8>,
}

impl Writing {
    /// Begins the checkpoint of this number.
    pub(crate) fn begin(disk: &dyn Disk, log: LogId, checkpoint: &Checkpoint) -> io::Result<Writing> {
        let file = disk.create(&name(checkpoint.number))?;
        let (epoch, number) = (checkpoint.epoch, checkpoint.number);
        let bytes = vec![0; BATCH_HEAD];
        let mut writing = Writing { log, epoch, number, file, bytes, at: 0, records: 0, meta: Vec::new() };
        checkpoint.encode(&mut writing.meta);
        writing.push(CHECKPOINT)?;
        Ok(writing)
    }

    pub(crate) fn files(&mut self, files: &[FileRecord]) -> io::Result<()> {
        record::encode_files(&[], files, &mut self.meta);
        self.push(FILES)
    }

    pub(crate) fn change(&mut self, change: &Change<'_>) -> io::Result<()> {
        let kind = change.encode(&mut self.meta);
        self.push(kind)
    }

    /// Takes an encoded [`QueueState`](record::QueueState).
    pub(crate) fn queue(&mut self, state: &[u8]) -> io::Result<()> {
        self.meta.extend_from_slice(state);
        self.push(QUEUE_STATE)
    }

    /// What is to happen at times; sorted, so that it takes little space.
    pub(crate) fn times(&mut self, times: &[Time]) -> io::Result<()> {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::NoTimes) {
            return Ok(());
        }
        for times in times.chunks(TIMES_PER_RECORD) {
            times::encode(times, &mut self.meta);
            self.push(TIMES)?;
        }
        Ok(())
    }

    /// The files with the rest of them. Records of the log below `known` say nothing else.
    pub(crate) fn times_files(&mut self, known: Lsn, files: &[TimesFile]) -> io::Result<()> {
        record::encode_times_files(known, files, &mut self.meta);
        self.push(TIMES_FILES)
    }

    /// Takes what was seen, as the meta of a record.
    pub(crate) fn seen(&mut self, meta: &[u8]) -> io::Result<()> {
        self.meta.extend_from_slice(meta);
        self.push(SEEN)
    }

    fn push(&mut self, kind: u8) -> io::Result<()> {
        let lsn = lsn(self.number, (self.at + self.bytes.len() as u64) as u32);
        let record = RawRecord { kind, flags: 0, epoch: self.epoch, lsn, meta: &self.meta, body: &[] };
        record.encode(self.log, self.log.crc(&[]), &mut self.bytes);
        self.records += 1;
        self.meta.clear();
        if self.bytes.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write(self.at, &self.bytes)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    /// Writes the header and syncs the file; the caller syncs its name. Returns its length.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        let length = u32::try_from(self.at).map_err(|_| io::Error::other("a checkpoint of more than 4 GiB"))?;
        let (epoch, segment, number) = (self.epoch, self.number, self.records);
        let head = BatchHead { epoch, segment, offset: 0, length, number, previous: 0, durable: 0 };
        self.file.write(0, &head.encode(self.log))?;
        super::writer::sync_file(self.file.as_ref())?;
        Ok(self.at)
    }
}

/// A crash came before its header was written.
pub(crate) fn is_unfinished(disk: &dyn Disk, number: u32) -> io::Result<bool> {
    let mut head = [0; BATCH_HEAD];
    disk.open(&name(number))?.read(0, &mut head)?;
    Ok(head == [0; BATCH_HEAD])
}

/// Makes certain that a checkpoint of an earlier process is on the disk, where it may be in the page cache only. Written
/// again, because a sync of clean pages says nothing if one has failed before. The caller syncs its name.
pub(crate) fn settle(disk: &dyn Disk, number: u32) -> io::Result<()> {
    let file = disk.open(&name(number))?;
    let bytes = read_exact(file.as_ref(), 0, file.len()? as usize)?;
    file.write(0, &bytes)?;
    super::writer::sync_file(file.as_ref())
}

/// Reads a checkpoint and visits its records. `InvalidData` if any byte of it does not check.
pub(crate) fn read(
    disk: &dyn Disk,
    log: LogId,
    number: u32,
    visit: &mut dyn FnMut(&RawRecord<'_>) -> bool,
) -> io::Result<(Checkpoint, Vec<FileRecord>)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what} of {}", name(number)));
    let file = disk.open(&name(number))?;
    let head = read_exact(file.as_ref(), 0, BATCH_HEAD)?;
    let head = BatchHead::decode(log, &head).ok_or_else(|| invalid("a damaged header"))?;
    if head.segment != number || u64::from(head.length) > file.len()? {
        return Err(invalid("a wrong number or length in the header"));
    }
    let bytes = read_exact(file.as_ref(), 0, head.length as usize)?;
    let (mut at, mut records, mut first, mut files) = (BATCH_HEAD, 0, None, Vec::new());
    while at < bytes.len() {
        let record = RawRecord::decode(log, lsn(number, at as u32), &bytes[at..]);
        let record = record.map_err(|_| invalid("a damaged record"))?;
        let understood = match record.kind {
            CHECKPOINT => {
                first = Checkpoint::decode(record.meta);
                first.is_some()
            }
            FILES => record::decode_files(record.meta).map(|(_, added)| files.extend(added)).is_some(),
            _ => visit(&record),
        };
        if !understood {
            return Err(invalid("a record without meaning"));
        }
        (at, records) = (at + record.len(), records + 1);
    }
    match first {
        Some(checkpoint) if records == head.number => Ok((checkpoint, files)),
        _ => Err(invalid("too few records")),
    }
}
