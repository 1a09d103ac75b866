//! Reading the log at a start: which segments there are, what their records say, and where it ends.

use super::OpenError;
use super::files::{Slot, failed, parse_name, slot_name};
use super::format::{ALIGN, BATCH_HEAD, Bad, BatchHead, LogId, Lsn, RECORD_HEAD, RawRecord, lsn, split, u64_at};
use super::record::Checkpoint;
use crate::disk::{Disk, DiskFile};
use std::io;
use std::sync::Arc;

/// Read at a time.
const WINDOW: usize = 1024 * 1024;

/// A damaged first batch is recognized by what follows: the next header is at most this far away, unless the batch is
/// longer than that. So much behind a damaged header is searched for records.
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

/// An error if a directory that tells no log id has files that tell of more than a start that did not get far.
pub(crate) fn check_new(names: &[String]) -> Result<(), OpenError> {
    let mut kinds = names.iter().filter_map(|name| Some(parse_name(name)?.1));
    match kinds.any(|kind| matches!(kind, "checkpoint" | "merged" | "index")) {
        true => Err(OpenError::Missing("no file tells which log the others belong to".to_string())),
        false => Ok(()),
    }
}

/// Looks at all log files and finds out which segments follow each other, from the one on in which the checkpoint says
/// that replay begins. Files in `adopted` hold messages and are left alone.
pub(crate) fn chain(
    disk: &dyn Disk,
    log: LogId,
    names: &[String],
    adopted: &[u32],
    checkpoint: &Checkpoint,
) -> Result<Chain, OpenError> {
    let (mut segments, mut chain, replay) = (Vec::new(), Chain::default(), checkpoint.replay);
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
        let (name, epoch, number) = (slot_name(last.slot.name), last.epoch, last.number);
        let first =
            segments.iter().filter(|segment| segment.epoch == epoch).map(|it| it.number).min().unwrap_or(number);
        let mut durable_to = durable(log, last).map_err(failed("read", &name))?;
        if let [.., before, Segment { first: None, .. }] = &segments[..]
            && before.epoch == epoch
        {
            durable_to = durable_to.max(durable(log, before).map_err(failed("read", &name))?);
        }
        if durable_to > lsn(first, 0) || epoch <= checkpoint.epoch {
            // A segment begins when the one before it is synced.
            chain.durable = if first < number { durable_to.max(lsn(number, 0)) } else { durable_to };
            break;
        }
        chain.durable = 0;
        while let Some(dropped) = segments.pop_if(|segment| segment.epoch == epoch) {
            chain.unused.push((dropped.slot, None));
        }
    }
    chain.durable = chain.durable.max(checkpoint.durable);
    chain.link(log, segments, replay).map_err(failed("read", "the log"))?;
    let last = chain.segments.last().map_or(0, |(segment, _)| segment.number);
    let (number, offset) = split(checkpoint.durable);
    if number > last && offset > 0 && !chain.missing.contains(&number) {
        chain.missing.push(number);
    }
    Ok(chain)
}

impl Chain {
    /// Follows `previous` from the last segment back to where replay begins.
    fn link(&mut self, log: LogId, mut segments: Vec<Segment>, replay: Lsn) -> io::Result<()> {
        let mut next = segments.pop().map(|segment| (segment, None));
        while let Some((segment, last)) = next.take() {
            let previous = match segment.first {
                Some(head) => head.previous,
                None => self.before(log, &segment, &mut segments)?,
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
        Ok(())
    }

    /// The batch before a segment whose first batch does not tell. Within an epoch that is the end of the segment before
    /// it; where an epoch begins, it is the last one that was certain then.
    fn before(&mut self, log: LogId, segment: &Segment, segments: &mut Vec<Segment>) -> io::Result<Lsn> {
        let number = first_number(log, segment)?;
        while let Some(before) = segments.last() {
            if before.epoch == segment.epoch {
                return Ok(lsn(before.number, u32::MAX));
            }
            let (durable, mut seen) = (durable(log, before)?, 0);
            let good = read_segment(log, before, None, &mut |item| match item {
                Item::Batch(head) => {
                    seen = head.number;
                    true
                }
                Item::Record(_) => true,
                Item::Bad { lsn, .. } => lsn < durable,
            })?;
            let head = match number.is_some_and(|number| seen + 1 < number) {
                // There was another segment behind it then, whose file has been used again since. Nothing of that one was
                // certain, but it began when all of this one was.
                true => good,
                false => last_head(log, before, &|head| lsn(head.segment, head.end()) <= durable)?,
            };
            if let Some(head) = head {
                return Ok(head.lsn());
            }
            let (slot, first) = (before.slot.clone(), before.first);
            segments.pop();
            self.unused.push((slot, None));
            if let Some(first) = first {
                return Ok(first.previous);
            }
        }
        Ok(0)
    }
}

/// Finds out which segment a log file holds: if its first header is damaged by what follows, of which the newest counts.
pub(crate) fn identify(log: LogId, slot: &Slot) -> io::Result<Option<Segment>> {
    let mut head = [0; BATCH_HEAD];
    let mut best: Option<(u32, u32)> = None;
    let len = slot.file.len()?;
    let segment = |(epoch, number), first| Segment { number, epoch, slot: slot.clone(), first };
    for offset in (0..len.min(PROBE)).step_by(ALIGN as usize) {
        let read = slot.file.read(offset, &mut head)?;
        let Some(found) = BatchHead::decode(log, &head[..read]) else { continue };
        if u64::from(found.offset) != offset {
            continue;
        }
        if offset == 0 {
            return Ok(Some(segment((found.epoch, found.segment), Some(found))));
        }
        best = best.max(Some((found.epoch, found.segment)));
    }
    best = best.max(first_record(log, slot, len)?);
    Ok(best.map(|best| segment(best, None)))
}

/// Epoch and segment, as the record behind the first header of a log file says.
fn first_record(log: LogId, slot: &Slot, len: u64) -> io::Result<Option<(u32, u32)>> {
    let mut bytes = vec![0; len.min(WINDOW as u64) as usize];
    let read = slot.file.read(BATCH_HEAD as u64, &mut bytes)?;
    let Some(bytes) = bytes.get(..read).filter(|bytes| bytes.len() >= RECORD_HEAD) else { return Ok(None) };
    let (number, offset) = split(u64_at(bytes, 24));
    match RawRecord::decode(log, lsn(number, offset), bytes) {
        Ok(record) | Err(Bad::Body { record, .. }) if offset as usize == BATCH_HEAD => Ok(Some((record.epoch, number))),
        _ => Ok(None),
    }
}

/// The highest watermark in the last segment.
fn durable(log: LogId, segment: &Segment) -> io::Result<Lsn> {
    let durable = std::cell::Cell::new(0);
    last_head(log, segment, &|head| {
        durable.set(head.durable.max(durable.get()));
        false
    })?;
    Ok(durable.get())
}

/// The number of a segment's first batch, whose header is damaged, as the batch behind it tells.
fn first_number(log: LogId, segment: &Segment) -> io::Result<Option<u64>> {
    let second = Reader::new(log, segment)?.next_head(None)?;
    Ok(second.filter(|head| head.previous == lsn(segment.number, 0)).map(|head| head.number - 1))
}

/// The last of a segment's headers that is as it should be.
fn last_head(log: LogId, segment: &Segment, is_so: &dyn Fn(&BatchHead) -> bool) -> io::Result<Option<BatchHead>> {
    let (mut reader, mut last) = (Reader::new(log, segment)?, None);
    while let Some(head) = reader.next_head(None)? {
        last = if is_so(&head) { Some(head) } else { last };
        reader.offset = head.end();
    }
    Ok(last)
}

/// Reads a segment to its end, or to the batch at offset `last`; `visit` may stop it by returning false.
/// Returns the last batch that was good.
pub(crate) fn read_segment(
    log: LogId,
    segment: &Segment,
    last: Option<u32>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> io::Result<Option<BatchHead>> {
    let mut reader = Reader::new(log, segment)?;
    let mut good = None;
    loop {
        let begin = reader.offset;
        let head = reader.next_head(last)?;
        let found = head.map_or_else(|| last.map_or(begin, |last| last.saturating_add(ALIGN)), |head| head.offset);
        if found > begin && !reader.headless(begin, found, head.is_none(), visit)? {
            return Ok(good);
        }
        let Some(head) = head else { return Ok(good) };
        if !visit(Item::Batch(head)) {
            return Ok(good);
        }
        let (from, to) = (head.offset + BATCH_HEAD as u32, head.offset.saturating_add(head.length));
        if !reader.records(from, to, true, visit)? {
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
    /// Of the file.
    len: u64,
    /// Where the next batch should begin.
    offset: u32,
    /// The lowest number that it can have.
    number: u64,
    window: Vec<u8>,
    /// So many bytes of it are what is in the file from here on.
    filled: usize,
    window_at: u64,
}

impl<'s> Reader<'s> {
    fn new(log: LogId, segment: &'s Segment) -> io::Result<Reader<'s>> {
        let (number, file) = (segment.first.map_or(0, |first| first.number), &segment.slot.file);
        let len = file.len()?;
        Ok(Reader { log, segment, file, len, offset: 0, number, window: Vec::new(), filled: 0, window_at: 0 })
    }

    /// The bytes at `offset`, fewer than asked for at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let inside = offset >= self.window_at && offset + len as u64 <= self.window_at + self.filled as u64;
        if !inside {
            let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            let wanted = len.max(WINDOW).min(rest);
            if self.window.len() < wanted {
                self.window = vec![0; wanted];
            }
            (self.filled, self.window_at) = (self.file.read(offset, &mut self.window[..wanted])?, offset);
        }
        let from = ((offset - self.window_at) as usize).min(self.filled);
        Ok(&self.window[from..self.filled.min(from + len)])
    }

    /// The next header of this segment at or behind where one should be; not behind offset `last`.
    fn next_head(&mut self, last: Option<u32>) -> io::Result<Option<BatchHead>> {
        let mut offset = self.offset;
        while u64::from(offset) < self.len && last.is_none_or(|last| offset <= last) {
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

    /// Visits the records of batches without a header that checks: from `begin` to the next one at `found`, or if there
    /// is none as far as there are records.
    fn headless(
        &mut self,
        begin: u32,
        found: u32,
        is_last: bool,
        visit: &mut dyn FnMut(Item<'_>) -> bool,
    ) -> io::Result<bool> {
        let (log, here) = (self.log, lsn(self.segment.number, begin));
        let len = self.len.min(u64::from(begin) + PROBE).min(u32::MAX.into()) as u32;
        let to = if is_last { len } else { len.min(found) };
        let from = begin.saturating_add(BATCH_HEAD as u32);
        let bytes = self.bytes(from.into(), to.saturating_sub(from) as usize)?;
        let first = match RawRecord::decode(log, here + BATCH_HEAD as u64, bytes) {
            Err(Bad::Header) => next_record(log, here + BATCH_HEAD as u64, bytes),
            _ => Some(0),
        };
        let length = first.map_or(found - begin, |first| (BATCH_HEAD + first) as u32);
        let more = visit(Item::Bad { lsn: here, length, record: None });
        Ok(more && (first.is_none() || self.records(begin + length, to, false, visit)?))
    }

    /// Visits the records between two offsets; false if the visitor wants no more. Where something does not check, it goes
    /// on with the next record that does. Without `full`, what is behind the last one need not be records.
    fn records(&mut self, from: u32, to: u32, full: bool, visit: &mut dyn FnMut(Item<'_>) -> bool) -> io::Result<bool> {
        let (log, segment, want) = (self.log, self.segment.number, to.saturating_sub(from) as usize);
        let bytes = self.bytes(from.into(), want)?;
        let mut at = 0;
        while at < want {
            let here = lsn(segment, from + at as u32);
            let rest = bytes.get(at..).unwrap_or_default();
            let (item, len) = match RawRecord::decode(log, here, rest) {
                Ok(record) => (Item::Record(record), record.len()),
                Err(Bad::Body { record, len }) => {
                    (Item::Bad { lsn: here, length: len as u32, record: Some(record) }, len)
                }
                Err(Bad::Header) => {
                    let next = next_record(log, here, rest);
                    if next.is_none() && !full {
                        return Ok(true);
                    }
                    let length = next.unwrap_or(want - at);
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

/// How far away the next record is whose header checks, if that at the beginning of `bytes` does not: records say where
/// they are.
pub(crate) fn next_record(log: LogId, here: Lsn, bytes: &[u8]) -> Option<usize> {
    let says_so = |at: &usize| u64_at(bytes, at + 24) == here + *at as u64;
    let checks = |at: &usize| !matches!(RawRecord::decode(log, here + *at as u64, &bytes[*at..]), Err(Bad::Header));
    (1..(bytes.len() + 1).saturating_sub(RECORD_HEAD)).find(|at| says_so(at) && checks(at))
}
