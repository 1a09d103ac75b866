//! Reading a data directory, which a start and a check have in common. Nothing is written here.

use super::checkpoint;
use super::contents::{Contents, Group, IN_CHECKPOINT, Owned};
use super::files::{failed, parse_name, slot_name};
use super::format::{BLOCK, BatchHead, LogId, Lsn, MORE, RawRecord, lsn, split};
use super::index::{Entries, Entry, Index, Span};
use super::record::decode_times_files;
use super::record::{CHUNK, Checkpoint, ENQUEUE, Enqueue, FileRecord, LARGE, Stretch, TIMES_FILES, TimesFile};
use super::replay::{self, Chain, Item, Segment};
use super::timetable::{self, BadBlock};
use super::writer::Place;
use super::{Damage, OpenError};
use crate::disk::Disk;
use crate::runs::Runs;
use std::io;

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Scan<'d> {
    pub(crate) disk: &'d dyn Disk,
    pub(crate) log: LogId,
    pub(crate) contents: Contents,
    /// Why checkpoints could not be read, if none could.
    unread: Vec<String>,
    /// Bytes that were replayed.
    pub(crate) replayed: u64,
    /// Records that were replayed.
    pub(crate) records: u64,
    /// Bytes at the end of the log that do not count.
    pub(crate) torn: u64,
    pub(crate) damage: Vec<Damage>,
    /// What should be there and is not.
    pub(crate) missing: Vec<String>,
    /// Damage could not be named: queues with unexplained gaps may have lost messages.
    pub(crate) unnamed: bool,
    /// What is to happen at times is not all known.
    pub(crate) lost_times: bool,
    /// Damaged messages; whether they were lost is judged when all acknowledgements are known.
    bad: Vec<(Damage, Stretch)>,
    /// What does not check in the segment that is being read: where, and how many bytes.
    bad_here: Vec<(u32, u32)>,
}

/// A checkpoint that was read, with the adopted and merged files in it.
pub(crate) type Read = (Checkpoint, Vec<FileRecord>);

/// What replaying a segment told of its end.
#[derive(Debug, Default)]
pub(crate) struct SegmentEnd {
    /// The last batch that is certain.
    pub(crate) head: Option<BatchHead>,
    /// The number of the last batch.
    pub(crate) batch: u64,
    /// Where it ends.
    pub(crate) end: u32,
}

impl<'d> Scan<'d> {
    pub(crate) fn new(disk: &'d dyn Disk, log: LogId) -> Scan<'d> {
        Scan {
            disk,
            log,
            contents: Contents::default(),
            unread: Vec::new(),
            replayed: 0,
            records: 0,
            torn: 0,
            damage: Vec::new(),
            missing: Vec::new(),
            unnamed: false,
            lost_times: false,
            bad: Vec::new(),
            bad_here: Vec::new(),
        }
    }

    /// Takes over the newest checkpoint that is whole; without any, the log is replayed from its beginning.
    pub(crate) fn checkpoint(&mut self, names: &[String]) -> Result<Read, OpenError> {
        let mut damaged = Vec::new();
        for number in checkpoints(names) {
            let mut contents = Contents::default();
            let place = Place { lsn: IN_CHECKPOINT, length: 0 };
            let mut visit = |record: &RawRecord<'_>| contents.apply(record.kind, record.meta, place);
            match checkpoint::read(self.disk, self.log, number, &mut visit) {
                Ok(read) => {
                    self.contents = contents;
                    return Ok(read);
                }
                // One that a crash cut off; the one before it still has all that it needs.
                Err(error) if is_damage(&error) => damaged.push(error.to_string()),
                Err(error) => return Err(failed("read", &checkpoint::name(number))(error)),
            }
        }
        self.unread = damaged;
        Ok((Checkpoint { next_queue: 1, next_number: 1, ..Checkpoint::default() }, Vec::new()))
    }

    /// The checkpoint before the one that is used, if it can be read, and its files of times.
    pub(crate) fn older(&self, names: &[String], newest: u32) -> Option<(Read, Vec<TimesFile>)> {
        let number = checkpoints(names).find(|number| *number < newest)?;
        let mut times = Vec::new();
        let mut visit = |record: &RawRecord<'_>| {
            if record.kind == TIMES_FILES {
                times.extend(decode_times_files(record.meta).into_iter().flat_map(|(_, files)| files));
            }
            true
        };
        let read = checkpoint::read(self.disk, self.log, number, &mut visit).ok()?;
        Some((read, times))
    }

    /// Finds the segments that have to be replayed on top of a checkpoint.
    pub(crate) fn chain(&mut self, names: &[String], read: &Read) -> Result<Chain, OpenError> {
        let adopted = slots(&read.1);
        let chain = replay::chain(self.disk, self.log, names, &adopted, &read.0)?;
        // Without a checkpoint the whole log has to be there, as it is before the first one.
        if !self.unread.is_empty() && (!chain.missing.is_empty() || chain.segments.is_empty()) {
            self.miss(format!("no checkpoint can be read: {}", self.unread.join(", ")));
        }
        if !chain.missing.is_empty() {
            self.miss(format!("segments {:?} of the log are missing", chain.missing));
        }
        Ok(chain)
    }

    /// Notes something without which messages are lost, nobody knows which.
    pub(crate) fn miss(&mut self, what: String) {
        self.damage.push(Damage { file: what.clone(), offset: 0, bytes: 0, queue: None, positions: None });
        self.missing.push(what);
        self.unnamed = true;
    }

    /// Notes a file of times that should be there and is not.
    pub(crate) fn miss_times(&mut self, what: String) {
        self.damage.push(Damage { file: what.clone(), offset: 0, bytes: 0, queue: None, positions: None });
        self.missing.push(what);
        self.lost_times = true;
    }

    /// Notes blocks of such files that do not check.
    pub(crate) fn lose_times(&mut self, bad: &[BadBlock]) {
        self.lost_times |= !bad.is_empty();
        self.damage.extend(bad.iter().map(|bad| {
            let (file, offset, bytes) = (timetable::name(bad.file), bad.offset(), BLOCK as u64);
            Damage { file, offset, bytes, queue: None, positions: None }
        }));
    }

    /// Takes over what a file has. Reads only what has gaps, as far as that does: an index of whole runs is believed.
    pub(crate) fn add_file(&mut self, number: u32, index: &Index, spans: &[Span]) -> io::Result<()> {
        let mut gaps = Vec::new();
        for span in spans.iter().filter(|span| span.has_gaps()) {
            let (mut live, mut entries) = (Runs::default(), Entries::new(index, std::slice::from_ref(span)));
            while let Some(entry) = entries.next()? {
                live.add(entry.position, entry.count.into());
            }
            gaps.push(live);
        }
        let mut gaps = gaps.iter();
        for span in spans {
            let live = if span.has_gaps() { gaps.next() } else { None };
            self.contents.add_span(number, *span, live);
        }
        Ok(())
    }

    /// Replays a segment up to the offset of its last batch. `tail` gets the transactions that may be in the page cache
    /// only.
    pub(crate) fn replay(
        &mut self,
        segment: &Segment,
        last: Option<u32>,
        durable: Lsn,
        tail: &mut Vec<Vec<Owned>>,
    ) -> Result<SegmentEnd, OpenError> {
        let name = slot_name(segment.slot.name);
        let (mut replayed, mut group, log) = (SegmentEnd::default(), Group::default(), self.log);
        self.bad_here.clear();
        let mut visit = |item: Item<'_>| self.visit(item, durable, &name, &mut group, &mut replayed, tail);
        replay::read_segment(log, segment, last, &mut visit).map_err(failed("read", &name))?;
        self.replayed += u64::from(replayed.end);
        Ok(replayed)
    }

    /// Takes something of a segment into account; false where the log ends.
    fn visit(
        &mut self,
        item: Item<'_>,
        durable: Lsn,
        name: &str,
        group: &mut Group,
        replayed: &mut SegmentEnd,
        tail: &mut Vec<Vec<Owned>>,
    ) -> bool {
        match item {
            Item::Batch(head) => {
                replayed.batch = head.number;
                replayed.end = head.end();
                // Not its padding: a checkpoint knows how much is durable to the byte.
                if lsn(head.segment, head.offset + head.length) <= durable {
                    replayed.head = Some(head);
                }
            }
            Item::Record(record) => {
                self.records += 1;
                let certain = record.lsn < durable;
                if record.kind == CHUNK {
                    return true;
                }
                if certain && self.misses_pieces(name, &record) {
                    if record.flags & MORE == 0 {
                        self.apply(&group.drain());
                    }
                    return true;
                }
                let Some(records) = group.take(&record, !certain) else { return true };
                if certain {
                    self.apply(&records);
                } else {
                    tail.push(records);
                }
            }
            Item::Bad { lsn, length, .. } if lsn >= durable => {
                self.torn += u64::from(length);
                group.drain();
                return false;
            }
            Item::Bad { lsn, length, record } => {
                // What was durable once did happen, whatever became of the rest of it.
                self.apply(&group.drain());
                self.damaged(name, lsn, length, record);
            }
        }
        true
    }

    /// Takes records into account that belong together.
    pub(crate) fn apply(&mut self, records: &[Owned]) {
        for owned in records {
            if !self.contents.apply(owned.kind, &owned.meta, owned.place) {
                self.unnamed = true;
            }
        }
    }

    /// Notes damage; which messages it hit is judged when all acknowledgements are known.
    pub(crate) fn damaged(&mut self, name: &str, at: Lsn, length: u32, record: Option<RawRecord<'_>>) {
        let offset = split(at).1;
        self.bad_here.push((offset, length));
        let (offset, bytes) = (u64::from(offset), u64::from(length));
        let damage = Damage { file: name.to_string(), offset, bytes, queue: None, positions: None };
        match record.filter(|record| record.kind == ENQUEUE).and_then(|it| Enqueue::decode(ENQUEUE, it.meta)) {
            Some(enqueue) => self.lose(&damage, &enqueue),
            None => {
                // Whose piece of a large message it is, the message says.
                if record.is_none_or(|record| record.kind != CHUNK) {
                    self.unnamed = true;
                }
                self.damage.push(damage);
            }
        }
    }

    /// Whether a piece of a large message is damaged, and the message is lost with it.
    fn misses_pieces(&mut self, name: &str, record: &RawRecord<'_>) -> bool {
        if record.kind != LARGE || self.bad_here.is_empty() {
            return false;
        }
        let Some(enqueue) = Enqueue::decode(LARGE, record.meta) else { return false };
        let overlaps = |(offset, length): &&(u32, u32)| {
            enqueue.pieces().any(|piece| {
                u64::from(*offset) < piece.end() && u64::from(piece.offset) < u64::from(*offset) + u64::from(*length)
            })
        };
        let Some(&(offset, bytes)) = self.bad_here.iter().find(overlaps) else { return false };
        let (offset, bytes) = (offset.into(), bytes.into());
        self.lose(&Damage { file: name.to_string(), offset, bytes, queue: None, positions: None }, &enqueue);
        true
    }

    /// Notes damage that hit these messages.
    pub(crate) fn lose(&mut self, damage: &Damage, enqueue: &Enqueue<'_>) {
        for target in enqueue.targets() {
            let stretch = Stretch { queue: target.queue, position: target.position, count: enqueue.count.into() };
            self.bad.push((damage.clone(), stretch));
        }
    }

    /// Notes damage that hit these messages.
    pub(crate) fn lose_stretch(&mut self, damage: &Damage, stretch: Stretch) {
        self.bad.push((damage.clone(), stretch));
    }

    /// Takes over what a file has whose index is damaged. Sorted, and without overlaps.
    pub(crate) fn add_entries(&mut self, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.contents.add_live(entry.queue, entry.position, entry.count.into()));
    }

    /// Damaged messages that were not acknowledged are lost: they are reported. To be called when all is read.
    pub(crate) fn judge(&mut self) {
        for (damage, stretch) in std::mem::take(&mut self.bad) {
            let lost = self.contents.lose(stretch);
            let Some(name) = self.contents.name_of(stretch.queue) else { continue };
            let said = |positions| Damage { queue: Some(name.clone()), positions: Some(positions), ..damage.clone() };
            self.damage.extend(lost.into_iter().map(said));
        }
    }
}

/// Whether bytes are not what they should be, while reading them was no problem.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// The log files that adopted segments are in.
pub(crate) fn slots(files: &[FileRecord]) -> Vec<u32> {
    files.iter().filter(|it| !it.merged).map(|it| it.slot).collect()
}

/// Numbers of the checkpoints, the newest first. `names` are sorted.
pub(crate) fn checkpoints(names: &[String]) -> impl Iterator<Item = u32> + '_ {
    let numbers = names.iter().rev().filter_map(|name| parse_name(name));
    numbers.filter(|(_, kind)| *kind == "checkpoint").map(|(number, _)| number)
}

/// Reports what a queue has lost, as far as it is not reported yet.
pub(crate) fn report_lost(vhost: &str, queue: &str, lost: &Runs, file: &str, damage: &mut Vec<Damage>) {
    let name = (vhost.to_string(), queue.to_string());
    let mut said = Runs::default();
    let of_queue = damage.iter().filter(|damage| damage.queue.as_ref() == Some(&name));
    of_queue.filter_map(|damage| damage.positions).for_each(|(first, count)| said.add(first, count));
    let say = |positions| Damage {
        file: file.to_string(),
        offset: 0,
        bytes: 0,
        queue: Some(name.clone()),
        positions: Some(positions),
    };
    for (first, count) in lost.iter() {
        damage.extend(said.gaps(first, count).map(say));
    }
}
