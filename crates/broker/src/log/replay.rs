//! Reading the log at a start: which segments there are, what their records say, and where it ends.

use super::OpenError;
use super::files::{Slot, failed, parse_name, slot_name};
use super::format::{ALIGN, BATCH_HEAD, Bad, BatchHead, LogId, Lsn, RawRecord, lsn, split};
use crate::disk::{Disk, DiskFile};
use std::io;
use std::sync::Arc;

/// Read at a time.
const WINDOW: usize = 1024 * 1024;

/// A damaged first batch is recognized by what follows: the next header is at most this far away, unless the batch is
/// longer than that.
const PROBE: u64 = 2 * 1024 * 1024;

/// A log file with a segment in it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) epoch: u32,
    pub(crate) slot: Slot,
    /// `None` if it is damaged and only what follows was recognized.
    pub(crate) first: Option<BatchHead>,
}

/// The segments that are to be replayed.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// In ascending order, each with the offset of its last batch if the next segment tells.
    pub(crate) segments: Vec<(Segment, Option<u32>)>,
    /// Everything below was synced once.
    pub(crate) durable: Lsn,
    /// Numbers that the chain leads to and that no file has.
    pub(crate) missing: Vec<u32>,
    /// Log files that are no part of it, with the segment that they hold.
    pub(crate) unused: Vec<(Slot, Option<u32>)>,
    /// The highest segment number and epoch that were seen anywhere.
    pub(crate) highest: (u32, u32),
}

/// What is met in a segment.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Batch(BatchHead),
    Record(RawRecord<'a>),
    /// Bytes that do not check. With a record if its header does.
    Bad {
        lsn: Lsn,
        length: u32,
        record: Option<RawRecord<'a>>,
    },
}

/// The id of the log that these files belong to; `None` if none of them tells.
pub(crate) fn log_id(disk: &dyn Disk, names: &[String]) -> Result<Option<LogId>, OpenError> {
    for name in names.iter().filter(|name| name.ends_with(".checkpoint") || name.ends_with(".log")) {
        let file = disk.open(name).map_err(failed("open", name))?;
        let mut head = [0; BATCH_HEAD];
        let read = file.read(0, &mut head).map_err(failed("read", name))?;
        if let Some(log) = BatchHead::log_id(&head[..read]) {
            return Ok(Some(log));
        }
    }
    Ok(None)
}

/// Looks at all log files and finds out which segments follow each other, from the one in which `replay` is on.
/// Files in `adopted` hold messages and are left alone.
pub(crate) fn chain(
    disk: &dyn Disk,
    log: LogId,
    names: &[String],
    adopted: &[u32],
    replay: Lsn,
) -> Result<Chain, OpenError> {
    let (mut segments, mut chain) = (Vec::new(), Chain::default());
    for name in names {
        let Some((slot, "log")) = parse_name(name) else { continue };
        if adopted.contains(&slot) {
            continue;
        }
        let file = disk.open(name).map_err(failed("open", name))?;
        let slot = Slot { name: slot, file };
        let segment = identify(log, &slot).map_err(failed("read", name))?;
        if let Some(segment) = &segment {
            let (number, epoch) = chain.highest;
            chain.highest = (number.max(segment.number), epoch.max(segment.epoch));
        }
        match segment {
            Some(segment) if segment.number >= split(replay).0 => segments.push(segment),
            other => chain.unused.push((slot, other.map(|segment| segment.number))),
        }
    }
    segments.sort_by_key(|segment| (segment.epoch, segment.number));
    // Epochs whose start did not get far are as if they had never been.
    while let Some(last) = segments.last() {
        let (name, epoch) = (slot_name(last.slot.name), last.epoch);
        chain.durable = durable(log, last).map_err(failed("read", &name))?;
        let first = segments.iter().filter(|segment| segment.epoch == epoch).map(|segment| segment.number).min();
        if first.is_some_and(|first| chain.durable > lsn(first, 0)) {
            break;
        }
        chain.durable = 0;
        while let Some(dropped) = segments.pop_if(|segment| segment.epoch == epoch) {
            chain.unused.push((dropped.slot, None));
        }
    }
    chain.link(segments, replay);
    Ok(chain)
}

impl Chain {
    /// Follows `previous` from the last segment back to where replay begins.
    fn link(&mut self, mut segments: Vec<Segment>, replay: Lsn) {
        let mut next = segments.pop().map(|segment| (segment, None));
        while let Some((segment, last)) = next.take() {
            let previous = match segment.first {
                Some(head) => head.previous,
                // Unknown: taken to be the segment before it, to its end.
                None => segments.last().map_or(0, |before| lsn(before.number, u32::MAX)),
            };
            let (number, offset) = split(previous);
            self.segments.push((segment, last));
            if previous == 0 || number < split(replay).0 {
                break;
            }
            match segments.iter().rposition(|segment| segment.number == number) {
                Some(index) => {
                    let last = (offset != u32::MAX).then_some(offset);
                    self.unused.extend(segments.drain(index + 1..).map(|it| (it.slot, None)));
                    next = segments.pop().map(|segment| (segment, last));
                }
                None => {
                    self.missing.push(number);
                    // What is before the gap is still worth having.
                    self.unused.extend(segments.extract_if(.., |it| it.number > number).map(|it| (it.slot, None)));
                    next = segments.pop().map(|segment| (segment, None));
                }
            }
        }
        self.unused.extend(segments.into_iter().map(|it| (it.slot, None)));
        self.segments.reverse();
        let first = self.segments.first().map(|(segment, _)| segment.number);
        if replay != 0 && first.is_none_or(|first| first > split(replay).0) && !self.missing.contains(&split(replay).0)
        {
            self.missing.push(split(replay).0);
        }
    }
}

/// Finds out which segment a log file holds.
pub(crate) fn identify(log: LogId, slot: &Slot) -> io::Result<Option<Segment>> {
    let mut head = [0; BATCH_HEAD];
    let mut best: Option<BatchHead> = None;
    let len = slot.file.len()?;
    let segment =
        |head: BatchHead, first| Segment { number: head.segment, epoch: head.epoch, slot: slot.clone(), first };
    for offset in (0..len.min(PROBE)).step_by(ALIGN as usize) {
        let read = slot.file.read(offset, &mut head)?;
        let Some(found) = BatchHead::decode(log, &head[..read]) else { continue };
        if u64::from(found.offset) != offset {
            continue;
        }
        if offset == 0 {
            return Ok(Some(segment(found, Some(found))));
        }
        if best.is_none_or(|best| (best.epoch, best.segment) < (found.epoch, found.segment)) {
            best = Some(found);
        }
    }
    Ok(best.map(|head| segment(head, None)))
}

/// The highest watermark in the last segment.
fn durable(log: LogId, segment: &Segment) -> io::Result<Lsn> {
    let mut durable = 0;
    let mut reader = Reader::new(log, segment);
    while let Some(head) = reader.next_head(None)? {
        durable = durable.max(head.durable);
        reader.offset = head.end();
    }
    Ok(durable)
}

/// Reads a segment to its end, or to the batch at offset `last`; `visit` may stop it by returning false.
/// Returns the last batch that was good.
pub(crate) fn read_segment(
    log: LogId,
    segment: &Segment,
    last: Option<u32>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> io::Result<Option<BatchHead>> {
    let mut reader = Reader::new(log, segment);
    let mut good = None;
    loop {
        let begin = reader.offset;
        let head = reader.next_head(last)?;
        let found = head.map_or_else(|| last.map_or(begin, |last| last.saturating_add(ALIGN)), |head| head.offset);
        if found > begin {
            let bad = Item::Bad { lsn: lsn(segment.number, begin), length: found - begin, record: None };
            if !visit(bad) {
                return Ok(good);
            }
        }
        let Some(head) = head else { return Ok(good) };
        if !visit(Item::Batch(head)) {
            return Ok(good);
        }
        if !reader.records(&head, visit)? {
            return Ok(good);
        }
        good = Some(head);
        reader.offset = head.end();
        reader.number = head.number + 1;
    }
}

/// A way through the batches of a segment.
struct Reader<'s> {
    log: LogId,
    segment: &'s Segment,
    file: &'s Arc<dyn DiskFile>,
    /// Where the next batch should begin.
    offset: u32,
    /// The lowest number that it can have.
    number: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'s> Reader<'s> {
    fn new(log: LogId, segment: &'s Segment) -> Reader<'s> {
        let number = segment.first.map_or(0, |first| first.number);
        Reader { log, segment, file: &segment.slot.file, offset: 0, number, window: Vec::new(), window_at: 0 }
    }

    /// The bytes at `offset`, fewer than asked for at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let inside = offset >= self.window_at && offset + len as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            self.window.resize(len.max(WINDOW), 0);
            let read = self.file.read(offset, &mut self.window)?;
            self.window.truncate(read);
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        Ok(&self.window[from..self.window.len().min(from + len)])
    }

    /// The next header of this segment at or behind where one should be; not behind offset `last`.
    fn next_head(&mut self, last: Option<u32>) -> io::Result<Option<BatchHead>> {
        let len = self.file.len()?;
        let mut offset = self.offset;
        while u64::from(offset) < len && last.is_none_or(|last| offset <= last) {
            let (log, segment, number) = (self.log, self.segment, self.number);
            let head = BatchHead::decode(log, self.bytes(offset.into(), BATCH_HEAD)?);
            let belongs = |head: &BatchHead| {
                (head.epoch, head.segment, head.offset) == (segment.epoch, segment.number, offset)
                    && head.number >= number
                    && head.length as usize >= BATCH_HEAD
            };
            match head.filter(belongs) {
                Some(head) => return Ok(Some(head)),
                None => offset = offset.saturating_add(ALIGN),
            }
        }
        Ok(None)
    }

    /// Visits the records of a batch; false if the visitor wants no more.
    fn records(&mut self, head: &BatchHead, visit: &mut dyn FnMut(Item<'_>) -> bool) -> io::Result<bool> {
        let (log, segment) = (self.log, self.segment.number);
        let bytes = self.bytes(head.offset.into(), head.length as usize)?;
        let mut at = BATCH_HEAD;
        while at < head.length as usize {
            let here = lsn(segment, head.offset + at as u32);
            let rest = bytes.get(at..).unwrap_or_default();
            let (item, len) = match RawRecord::decode(log, here, rest) {
                Ok(record) => (Item::Record(record), record.len()),
                Err(Bad::Body { record, len }) => {
                    (Item::Bad { lsn: here, length: len as u32, record: Some(record) }, len)
                }
                Err(Bad::Header) => {
                    let length = head.length as usize - at;
                    (Item::Bad { lsn: here, length: length as u32, record: None }, length)
                }
            };
            if !visit(item) {
                return Ok(false);
            }
            at += len;
        }
        Ok(true)
    }
}
