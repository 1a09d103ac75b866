//! What a merge reads: enqueue records of its sources, checked, and what is in their bodies.

use super::super::format::{Bad, LogId, RECORD_HEAD, RawRecord, lsn, u32_at};
use super::super::index::Entry;
use super::super::record::{CHUNK, ENQUEUE, Enqueue, LARGE, Target};
use super::batch::Fetched;
use super::{MergeError, Source, failed};

/// Records of at most this many bytes are read as a whole, longer ones piece by piece.
pub(super) const WHOLE: u32 = 256 * 1024;

/// Bytes of a long body that are read at once.
const STEP: usize = 256 * 1024;

/// Files of at most this many bytes are warmed: segments of the log. Longer ones were merged, and are sorted already.
const WARM: u64 = 64 * 1024 * 1024;

/// Bytes of a message before its route.
const MESSAGE_HEAD: usize = 12;

/// Messages of a record: from the one on with this number, up to and without the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Run {
    /// Of positions, in a record whose first message is at `base`.
    pub(super) fn of(base: u64, (position, count): (u64, u64)) -> Run {
        Run { from: (position - base) as u32, to: (position - base + count) as u32 }
    }

    pub(super) fn count(self) -> u32 {
        self.to - self.from
    }
}

/// Messages of a record that stay together, and their bytes in the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) run: Run,
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// An enqueue record. Its header checks, and so does the body if it is here.
#[derive(Debug)]
pub(super) struct Record<'b> {
    log: LogId,
    source: &'b Source,
    entry: Entry,
    pub(super) count: u32,
    enqueue: Enqueue<'b>,
    /// The one that it was read for.
    pub(super) target: Target,
    pub(super) body: Body<'b>,
}

#[derive(Debug)]
pub(super) enum Body<'b> {
    Here(&'b [u8]),
    /// Still in the file, and not checked yet.
    Apart(Vec<Piece>),
}

/// A part of a long body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    offset: u64,
    length: u32,
    crc: u32,
}

impl<'b> Record<'b> {
    pub(super) fn body_len(&self) -> u64 {
        match &self.body {
            Body::Here(body) => body.len() as u64,
            Body::Apart(pieces) => pieces.iter().map(|piece| u64::from(piece.length)).sum(),
        }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.enqueue.targets()
    }

    /// Cuts the body into what lives: `runs`, joined over gaps of less than `gap` bytes. All messages are walked, so
    /// that a count that is not true is damage here and not in every reader.
    pub(super) fn stretches(&self, runs: &[Run], gap: u64, out: &mut Vec<Stretch>) -> Result<(), MergeError> {
        out.clear();
        let length = self.body_len();
        let fits = match &self.body {
            Body::Here(body) => {
                let message = |at| Ok(body.get(at as usize..).and_then(|rest| rest.first_chunk()).map(message_len));
                cut(self.count, length, runs, gap, message, out)?
            }
            Body::Apart(pieces) => {
                let message = |at| Ok(head_at(self.source, pieces, at)?.as_ref().map(message_len));
                cut(self.count, length, runs, gap, message, out)?
            }
        };
        if fits { Ok(()) } else { Err(damaged(self.source, &self.entry)) }
    }
}

/// False if there are not exactly `count` messages in the body's `length` bytes.
fn cut(
    count: u32,
    length: u64,
    runs: &[Run],
    gap: u64,
    mut message: impl FnMut(u64) -> Result<Option<u64>, MergeError>,
    out: &mut Vec<Stretch>,
) -> Result<bool, MergeError> {
    let mut runs = runs.iter().peekable();
    let mut at = 0;
    for number in 0..count {
        if runs.peek().is_some_and(|run| run.from == number) && out.last().is_none_or(|last| at - last.end >= gap) {
            out.push(Stretch { run: Run { from: number, to: number }, begin: at, end: at });
        }
        let Some(len) = message(at)? else { return Ok(false) };
        at += len;
        if let Some(run) = runs.next_if(|run| run.to == number + 1)
            && let Some(last) = out.last_mut()
        {
            (last.run.to, last.end) = (run.to, at);
        }
    }
    Ok(at == length)
}

fn message_len(head: &[u8; MESSAGE_HEAD]) -> u64 {
    let route = u16::from_le_bytes([head[8], head[9]]);
    MESSAGE_HEAD as u64 + u64::from(u32_at(head, 0)) + u64::from(u32_at(head, 4)) + u64::from(route)
}

/// The head of the message at `at` of a long body; it may be in two pieces. `None` if it ends before.
fn head_at(source: &Source, pieces: &[Piece], mut at: u64) -> Result<Option<[u8; MESSAGE_HEAD]>, MergeError> {
    let mut head = [0; MESSAGE_HEAD];
    let mut filled = 0;
    for piece in pieces {
        let length = u64::from(piece.length);
        if at < length {
            let wanted = (MESSAGE_HEAD - filled).min((length - at) as usize);
            let read = read(source, piece.offset + at, &mut head[filled..filled + wanted])?;
            filled += read;
            if read < wanted || filled == MESSAGE_HEAD {
                break;
            }
        }
        at = at.saturating_sub(length);
    }
    Ok((filled == MESSAGE_HEAD).then_some(head))
}

/// Reads a long body once from the beginning to the end, checks it, and hands out the bytes of each stretch, in parts,
/// with the stretch's number.
pub(super) fn copy(
    record: &Record<'_>,
    pieces: &[Piece],
    stretches: &[Stretch],
    mut each: impl FnMut(usize, &[u8]) -> Result<(), MergeError>,
) -> Result<(), MergeError> {
    let source = record.source;
    let mut buffer = vec![0; STEP];
    // Where the buffer begins in the body, and the stretch that is next.
    let (mut at, mut next) = (0, 0);
    for piece in pieces {
        let mut crc = record.log.crc(&[]);
        let mut left = piece.length as usize;
        while left > 0 {
            let bytes = &mut buffer[..left.min(STEP)];
            let offset = piece.offset + u64::from(piece.length) - left as u64;
            let read = read(source, offset, bytes)?;
            if read < bytes.len() {
                return Err(damaged_at(source, &record.entry, piece.offset, u64::from(piece.length)));
            }
            crc = crc32c::crc32c_append(crc, bytes);
            let end = at + bytes.len() as u64;
            while let Some(stretch) = stretches.get(next).filter(|stretch| stretch.begin < end) {
                let (from, to) = (stretch.begin.max(at), stretch.end.min(end));
                each(next, &bytes[(from - at) as usize..(to - at) as usize])?;
                if stretch.end > end {
                    break;
                }
                next += 1;
            }
            (at, left) = (end, left - bytes.len());
        }
        if crc != piece.crc {
            return Err(damaged_at(source, &record.entry, piece.offset, u64::from(piece.length)));
        }
    }
    Ok(())
}

/// Reads sources from the beginning to the end, so that they are in the operating system's cache: records may be wanted
/// in any order, and disks are slow at that. What cannot be read is noticed when it is wanted.
pub(super) fn warm(sources: &[Source]) {
    let mut buffer = vec![0; STEP];
    for Source { file, .. } in sources {
        let len = file.len().unwrap_or(0);
        let mut at = 0;
        while at < len && len <= WARM {
            match file.read(at, &mut buffer) {
                Ok(read) if read > 0 => at += read as u64,
                _ => break,
            }
        }
    }
}

/// Checks records, and reads those that were not fetched.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    log: LogId,
    sources: &'a [Source],
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(log: LogId, sources: &'a [Source]) -> Reader<'a> {
        Reader { log, sources, buffer: Vec::new() }
    }

    /// The record of an entry. It has to be an enqueue with a target for the entry's messages.
    pub(super) fn record<'b>(&'b mut self, fetched: &Fetched<'b>) -> Result<Record<'b>, MergeError> {
        let (log, source, entry) = (self.log, &self.sources[fetched.source as usize], &fetched.entry);
        match fetched.record {
            Some(bytes) => decode(log, source, entry, bytes),
            None => decode(log, source, entry, self.read(source, entry)?),
        }
    }

    /// The bytes of a record: all of them, or header and meta if it is long.
    fn read(&mut self, source: &Source, entry: &Entry) -> Result<&[u8], MergeError> {
        let mut length = entry.length as usize;
        if entry.length > WHOLE {
            let mut head = [0; RECORD_HEAD];
            read(source, u64::from(entry.offset), &mut head)?;
            length = length.min(RECORD_HEAD + u32_at(&head, 8) as usize);
        }
        if self.buffer.len() < length {
            // The index may be trusted, since it has checksums; but nothing is allocated that the file has not.
            let len = source.file.len().map_err(failed(&reading(source)))?;
            if u64::from(entry.offset) + length as u64 > len {
                return Err(damaged(source, entry));
            }
            self.buffer.resize(length, 0);
        }
        let bytes = &mut self.buffer[..length];
        let read = read(source, u64::from(entry.offset), bytes)?;
        if read < length { Err(damaged(source, entry)) } else { Ok(bytes) }
    }
}

fn decode<'b>(log: LogId, source: &'b Source, entry: &Entry, bytes: &'b [u8]) -> Result<Record<'b>, MergeError> {
    let length = entry.length as usize;
    let (raw, body) = match RawRecord::decode(log, lsn(source.number, entry.offset), bytes) {
        Ok(raw) if raw.kind == ENQUEUE && raw.len() == length => (raw, Some(Body::Here(raw.body))),
        Ok(raw) if raw.kind == LARGE && raw.len() == length && raw.body.is_empty() => (raw, None),
        Err(Bad::Body { record: raw, len }) if raw.kind == ENQUEUE && len == length && bytes.len() < length => {
            let offset = u64::from(entry.offset) + bytes.len() as u64;
            let piece = Piece { offset, length: (length - bytes.len()) as u32, crc: u32_at(bytes, 16) };
            (raw, Some(Body::Apart(vec![piece])))
        }
        _ => return Err(damaged(source, entry)),
    };
    let enqueue = Enqueue::decode(raw.kind, raw.meta).ok_or_else(|| damaged(source, entry))?;
    let possible = |target: &Target| target.position.checked_add(u64::from(enqueue.count)).is_some();
    let covers = |target: &Target| {
        target.queue == entry.queue
            && target.position <= entry.position
            && entry.end() - target.position <= u64::from(enqueue.count)
    };
    let target = enqueue.targets().find(covers).filter(|_| enqueue.targets().all(|it| possible(&it)));
    let target = target.ok_or_else(|| damaged(source, entry))?;
    let body = match body {
        Some(body) => body,
        None => Body::Apart(pieces(log, source, entry, &enqueue)?),
    };
    Ok(Record { log, source, entry: *entry, count: enqueue.count, enqueue, target, body })
}

/// Where the pieces of a large body are; their headers are checked.
fn pieces(log: LogId, source: &Source, entry: &Entry, enqueue: &Enqueue<'_>) -> Result<Vec<Piece>, MergeError> {
    let mut pieces = Vec::with_capacity(enqueue.pieces().len());
    for piece in enqueue.pieces() {
        let mut head = [0; RECORD_HEAD];
        let read = read(source, u64::from(piece.offset), &mut head)?;
        match RawRecord::decode(log, lsn(source.number, piece.offset), &head[..read]) {
            Err(Bad::Body { record, len })
                if record.kind == CHUNK && record.meta.is_empty() && len == RECORD_HEAD + piece.length as usize =>
            {
                let offset = u64::from(piece.offset) + RECORD_HEAD as u64;
                pieces.push(Piece { offset, length: piece.length, crc: u32_at(&head, 16) });
            }
            _ => return Err(damaged_at(source, entry, u64::from(piece.offset), u64::from(piece.length))),
        }
    }
    Ok(pieces)
}

pub(super) fn read(source: &Source, offset: u64, bytes: &mut [u8]) -> Result<usize, MergeError> {
    source.file.read(offset, bytes).map_err(|error| failed(&reading(source))(error))
}

fn reading(source: &Source) -> String {
    format!("read file {:08x}", source.number)
}

fn damaged(source: &Source, entry: &Entry) -> MergeError {
    damaged_at(source, entry, u64::from(entry.offset), u64::from(entry.length))
}

fn damaged_at(source: &Source, entry: &Entry, offset: u64, length: u64) -> MergeError {
    MergeError::Damaged { number: source.number, offset, length, entry: *entry }
}
