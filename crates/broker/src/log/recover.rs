//! A start: from the files of a directory to a log that can be appended to, and to what the queues hold.

use super::checkpoint;
use super::contents::{Contents, Group, Owned};
use super::files::{Files, Slot, failed, merged_name, parse_name, read_exact, slot_name};
use super::format::{BatchHead, LogId, Lsn, RECORD_HEAD, RawRecord, lsn, split};
use super::index::{self, Index};
use super::record::{CHUNK, Checkpoint, DONE, ENQUEUE, Enqueue, FileRecord, LARGE, QueueId, Stretch, decode_stretches};
use super::replay::{self, Item};
use super::store::Store;
use super::writer::{Begin, Log, Part, Place, Round, Ticket, Unit};
use super::{Damage, OpenError, Recovery, Storage};
use crate::mailbox::Mailbox;
use crate::message::{Account, Block};
use crate::overflow::Overflow;
use std::io;
use std::sync::{Arc, OnceLock};

/// What a start found, for the engine to build on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) contents: Contents,
    pub(crate) recovery: Recovery,
    /// Queues that lost messages.
    pub(crate) damaged: Vec<QueueId>,
    /// Damage could not be named: queues with unexplained gaps may have lost messages.
    pub(crate) unnamed: bool,
}

/// Opens what `storage` holds. `id` is for a new directory.
pub(crate) fn recover(storage: &Storage, id: u64, account: &Account) -> Result<Recovered, OpenError> {
    let disk = &storage.disk;
    let mut names = disk.list().map_err(failed("list", "the data directory"))?;
    names.sort();
    let log = replay::log_id(disk.as_ref(), &names)?.unwrap_or(LogId::new(id));
    let mut start = Start {
        storage,
        log,
        contents: Contents::default(),
        recovery: Recovery::default(),
        bad: Vec::new(),
        damaged: Vec::new(),
        unnamed: false,
    };
    let (checkpoint, listed) = start.checkpoint(&names)?;
    let older = start.older(&names, checkpoint.number);
    let slots = |files: &[FileRecord]| -> Vec<u32> { files.iter().filter(|it| !it.merged).map(|it| it.slot).collect() };
    let adopted = slots(&listed);
    let chain = replay::chain(disk.as_ref(), log, &names, &adopted, checkpoint.replay)?;
    if !chain.missing.is_empty() {
        let text = format!("segments {:?} of the log are missing", chain.missing);
        start.accept(text)?;
        start.unnamed = true;
    }
    let numbers = names.iter().filter_map(|name| parse_name(name));
    let highest_file = numbers.clone().filter(|(_, kind)| *kind != "log").map(|(number, _)| number).max().unwrap_or(0);
    let highest_slot = numbers.filter(|(_, kind)| *kind == "log").map(|(slot, _)| slot).max().unwrap_or(0);
    let next_number = checkpoint.next_number.max(chain.highest.0 + 1).max(highest_file + 1);
    let files = Arc::new(Files::new(disk.clone(), storage.segment_size, next_number, highest_slot + 1));
    start.open_files(&files, &listed)?;
    let end = start.replay(&files, &chain)?;
    let begin = Begin {
        epoch: checkpoint.epoch.max(chain.highest.1) + 1,
        batch: end.batch + 1,
        previous: end.previous,
        durable: chain.durable,
    };
    let log = Log::new(start.log, storage.sync, storage.segment_size, files.clone(), begin);
    // The first segment is written over a file that neither checkpoint needs.
    let older_number = older.as_ref().map(|(it, _)| it.number);
    let (older_replay, older_files) = older.map_or((checkpoint.replay, Vec::new()), |(it, files)| (it.replay, files));
    let mut held = Held { checkpoint: older_number, files: older_files, slots: Vec::new() };
    let mut others = Vec::new();
    let older_slots = slots(&held.files);
    for (slot, segment) in chain.unused {
        let needed =
            segment.is_some_and(|number| number >= split(older_replay).0 && number < split(checkpoint.replay).0);
        if needed || older_slots.contains(&slot.name) && !adopted.contains(&slot.name) {
            held.slots.push(slot);
        } else if slot.file.len().is_ok_and(|len| len == u64::from(storage.segment_size)) {
            files.add_spare(slot);
        } else {
            others.push(slot);
        }
    }
    start.append_tail(&log, end.tail, account)?;
    end.free.into_iter().for_each(|slot| files.add_spare(slot));
    start.judge();
    start.remove_orphans(&names, &others, &listed, checkpoint.number, &held, &files)?;
    start.recovery.queues = start.contents.queues.len() as u64;
    let Start { contents, recovery, damaged, unnamed, .. } = start;
    let store = Store::new(storage, log, files, checkpoint, listed, end.sealed, contents.highest_queue, held);
    Ok(Recovered { store, contents, recovery, damaged, unnamed })
}

/// What only the older checkpoint needs: kept until there is a newer one.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) checkpoint: Option<u32>,
    pub(crate) files: Vec<FileRecord>,
    pub(crate) slots: Vec<Slot>,
}

struct Start<'s> {
    storage: &'s Storage,
    log: LogId,
    contents: Contents,
    recovery: Recovery,
    /// Damaged messages; whether they were lost is judged when all acknowledgements are known.
    bad: Vec<(Damage, Stretch)>,
    damaged: Vec<QueueId>,
    unnamed: bool,
}

/// Where the log ends.
struct End {
    /// Transactions that may be in the page cache only.
    tail: Vec<Vec<Owned>>,
    /// The last batch that is certainly on disk, and its number.
    previous: Lsn,
    batch: u64,
    /// All segments, with their ends.
    sealed: Vec<(u32, u32)>,
    /// The file of a segment of which nothing is certain, so that all of it is written again.
    free: Vec<Slot>,
}

impl Start<'_> {
    /// Something is missing: an error, unless that was accepted.
    fn accept(&self, what: String) -> Result<(), OpenError> {
        match self.storage.accept_loss {
            true => Ok(()),
            false => Err(OpenError::Missing(what)),
        }
    }

    /// Reads the newest checkpoint that is whole.
    fn checkpoint(&mut self, names: &[String]) -> Result<(Checkpoint, Vec<FileRecord>), OpenError> {
        let numbers = names.iter().rev().filter_map(|name| parse_name(name));
        let mut damaged = Vec::new();
        for (number, _) in numbers.filter(|(_, kind)| *kind == "checkpoint") {
            let mut contents = Contents::default();
            let place = Place { lsn: 0, length: 0 };
            let mut visit = |record: &RawRecord<'_>| contents.apply(record.kind, record.meta, place);
            match checkpoint::read(self.storage.disk.as_ref(), self.log, number, &mut visit) {
                Ok(read) => {
                    self.contents = contents;
                    return Ok(read);
                }
                // One that a crash cut off; the one before it still has all that it needs.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                    damaged.push(error.to_string());
                }
                Err(error) => return Err(failed("read", &checkpoint::name(number))(error)),
            }
        }
        if damaged.len() > 1 {
            self.accept(format!("no checkpoint can be read: {}", damaged.join(", ")))?;
        }
        Ok((Checkpoint { next_queue: 1, next_number: 1, ..Checkpoint::default() }, Vec::new()))
    }

    /// The checkpoint before the one that is used, if it is still there.
    fn older(&self, names: &[String], newest: u32) -> Option<(Checkpoint, Vec<FileRecord>)> {
        let numbers = names.iter().rev().filter_map(|name| parse_name(name));
        let mut older = numbers.filter(|(number, kind)| *kind == "checkpoint" && *number < newest);
        let (number, _) = older.next()?;
        checkpoint::read(self.storage.disk.as_ref(), self.log, number, &mut |_| true).ok()
    }

    /// Opens adopted and merged files with their indexes.
    fn open_files(&mut self, files: &Files, listed: &[FileRecord]) -> Result<(), OpenError> {
        let disk = self.storage.disk.as_ref();
        for file in listed {
            let name = if file.merged { merged_name(file.number) } else { slot_name(file.slot) };
            let opened = match disk.open(&name) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.accept(format!("{name} is missing"))?;
                    self.unnamed = true;
                    continue;
                }
                Err(error) => return Err(failed("open", &name)(error)),
            };
            let index_name = index::name(file.number);
            let read = match Index::open(disk, self.log, file.number).and_then(readable) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::NotFound => {
                    self.rebuild(file, &opened).map_err(failed("make again", &index_name))?
                }
                Err(error) => return Err(failed("read", &index_name)(error)),
            };
            self.contents.add_spans(file.number, &read.1);
            files.add(file.number, (!file.merged).then_some(file.slot), opened, Some(read.0));
        }
        Ok(())
    }

    /// Makes the index of a file again, from its records.
    fn rebuild(
        &mut self,
        file: &FileRecord,
        opened: &Arc<dyn crate::disk::DiskFile>,
    ) -> io::Result<(Index, Vec<index::Span>)> {
        let mut entries = Vec::new();
        let slot = Slot { name: file.slot, file: opened.clone() };
        if file.merged {
            super::adopt::merged_entries(self.log, file.number, opened.as_ref(), file.bytes, &mut entries)?;
        } else if let Some(segment) = replay::identify(self.log, &slot)? {
            let end = u32::try_from(file.bytes).unwrap_or(u32::MAX);
            super::adopt::entries(self.log, &segment, end, &mut entries)?;
        }
        entries.sort_unstable_by_key(|entry| (entry.queue, entry.position));
        let disk = self.storage.disk.as_ref();
        let spans = index::write(disk, self.log, file.number, entries.into_iter())?;
        disk.sync()?;
        Ok((Index::open(disk, self.log, file.number)?.0, spans))
    }

    /// Replays the segments of the chain.
    fn replay(&mut self, files: &Files, chain: &replay::Chain) -> Result<End, OpenError> {
        let mut end = End { tail: Vec::new(), previous: 0, batch: 0, sealed: Vec::new(), free: Vec::new() };
        let (mut group, log) = (Group::default(), self.log);
        for (segment, last) in &chain.segments {
            let name = slot_name(segment.slot.name);
            let mut replayed = SegmentEnd::default();
            let mut visit =
                |item: Item<'_>| self.visit(item, chain.durable, &name, &mut group, &mut replayed, &mut end);
            replay::read_segment(log, segment, *last, &mut visit).map_err(failed("read", &name))?;
            self.recovery.replayed += u64::from(replayed.end);
            match replayed.head {
                Some(head) => {
                    (end.previous, end.batch) = (head.lsn(), head.number.max(end.batch));
                    end.sealed.push((segment.number, head.end()));
                    files.add(segment.number, Some(segment.slot.name), segment.slot.file.clone(), None);
                }
                // Nothing in it is certain: what is good of it is written again.
                None => {
                    end.previous = segment.first.map_or(end.previous, |head| head.previous);
                    end.free.push(segment.slot.clone());
                }
            }
            end.batch = end.batch.max(replayed.batch);
        }
        for records in &mut end.tail {
            let mut failure = None;
            records.retain_mut(|owned| owned.kind != LARGE || match self.gather(owned, chain) {
                Ok(()) => true,
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                    self.note_lost(owned);
                    false
                }
                Err(error) => {
                    failure = Some(error);
                    true
                }
            });
            failure.map_or(Ok(()), |error| Err(failed("read", "a large message")(error)))?;
        }
        Ok(end)
    }

    /// Takes something of a segment into account; false where the log ends.
    fn visit(
        &mut self,
        item: Item<'_>,
        durable: Lsn,
        name: &str,
        group: &mut Group,
        replayed: &mut SegmentEnd,
        end: &mut End,
    ) -> bool {
        match item {
            Item::Batch(head) => {
                replayed.batch = head.number;
                replayed.end = head.end();
                if lsn(head.segment, head.end()) <= durable {
                    replayed.head = Some(head);
                }
            }
            Item::Record(record) => {
                let certain = record.lsn < durable;
                if record.kind == CHUNK {
                    return true;
                }
                let Some(records) = group.take(&record, !certain) else { return true };
                if certain {
                    self.apply(&records);
                } else {
                    end.tail.push(records);
                }
            }
            Item::Bad { lsn, length, .. } if lsn >= durable => {
                self.recovery.torn += u64::from(length);
                group.drain();
                return false;
            }
            Item::Bad { lsn, length, record } => {
                let records = group.drain();
                self.apply(&records);
                self.damaged(name, lsn, length, record);
            }
        }
        true
    }

    fn apply(&mut self, records: &[Owned]) {
        for owned in records {
            if !self.contents.apply(owned.kind, &owned.meta, owned.place) {
                self.unnamed = true;
            }
        }
    }

    /// Notes damage; which messages it hit is judged when all acknowledgements are known.
    fn damaged(&mut self, name: &str, lsn: Lsn, length: u32, record: Option<RawRecord<'_>>) {
        let (offset, bytes) = (u64::from(split(lsn).1), u64::from(length));
        let damage = Damage { file: name.to_string(), offset, bytes, queue: None, positions: None };
        let enqueue = record.filter(|record| record.kind == ENQUEUE);
        let Some(enqueue) = enqueue.and_then(|record| Enqueue::decode(ENQUEUE, record.meta)) else {
            // A piece of a large message is missed when the message is read.
            if record.is_none_or(|record| record.kind != CHUNK) {
                self.unnamed = true;
            }
            self.recovery.damage.push(damage);
            return;
        };
        for target in enqueue.targets() {
            let stretch = Stretch { queue: target.queue, position: target.position, count: enqueue.count.into() };
            self.bad.push((damage.clone(), stretch));
        }
    }

    /// Damaged messages that were not acknowledged are lost: they are reported.
    fn judge(&mut self) {
        for (damage, stretch) in std::mem::take(&mut self.bad) {
            let Some(name) = self.contents.name_of(stretch.queue) else { continue };
            let lost = self.contents.undone(stretch.queue, stretch.position, stretch.count);
            if !lost.is_empty() {
                self.damaged.push(stretch.queue);
            }
            let said = |positions| Damage { queue: Some(name.clone()), positions: Some(positions), ..damage.clone() };
            self.recovery.damage.extend(lost.into_iter().map(said));
        }
    }

    /// Reads the pieces of a large message of the tail.
    fn gather(&self, owned: &mut Owned, chain: &replay::Chain) -> io::Result<()> {
        let segment = chain.segments.iter().find(|(segment, _)| segment.number == owned.place.file());
        let (Some((segment, _)), Some(enqueue)) = (segment, Enqueue::decode(LARGE, &owned.meta)) else { return Ok(()) };
        owned.body = read_pieces(self.log, segment.number, segment.slot.file.as_ref(), &enqueue)?;
        Ok(())
    }

    /// A large message of the tail whose pieces were damaged before anything said that they are durable.
    fn note_lost(&mut self, owned: &Owned) {
        let Some(enqueue) = Enqueue::decode(LARGE, &owned.meta) else { return };
        let (file, offset) = (format!("segment {:08x}", owned.place.file()), owned.place.lsn & u64::from(u32::MAX));
        let damage = Damage { file, offset, bytes: owned.place.length.into(), queue: None, positions: None };
        for target in enqueue.targets() {
            let stretch = Stretch { queue: target.queue, position: target.position, count: enqueue.count.into() };
            self.bad.push((damage.clone(), stretch));
        }
    }

    /// Writes again what may not be on disk, and makes the new epoch count.
    fn append_tail(&mut self, log: &Log, tail: Vec<Vec<Owned>>, account: &Account) -> Result<(), OpenError> {
        let writing = failed("write", "the log");
        let mut units = Vec::new();
        for records in tail {
            match &records[..] {
                [only] if only.kind != LARGE => {
                    let place = log.copy(only.kind, &only.meta, &only.body);
                    self.apply(&[Owned { place, ..only.clone() }]);
                }
                _ => units.push(self.append_unit(log, records, account)),
            }
        }
        loop {
            match log.write(true) {
                Round::Wrote => {}
                Round::Idle => break,
                Round::Full => return Err(writing(io::ErrorKind::StorageFull.into())),
                Round::Failed => return Err(writing(io::Error::other(log.failure().unwrap_or_default().to_string()))),
            }
        }
        for (mut records, places) in units {
            for (owned, place) in records.iter_mut().filter(|owned| matches!(owned.kind, ENQUEUE | LARGE)).zip(places) {
                owned.place = *place.get().expect("everything is written");
            }
            self.apply(&records);
        }
        // The first batch, and a second one that says that the first is durable.
        for _ in 0..2 {
            if log.force_watermark(true) != Round::Wrote {
                return Err(writing(io::Error::other(log.failure().unwrap_or("the disk is full").to_string())));
            }
        }
        Ok(())
    }

    #[expect(clippy::type_complexity, reason = "a local pair of lists")]
    fn append_unit(
        &self,
        log: &Log,
        records: Vec<Owned>,
        account: &Account,
    ) -> (Vec<Owned>, Vec<Arc<OnceLock<Place>>>) {
        let (mut parts, mut places) = (Vec::new(), Vec::new());
        for owned in &records {
            match owned.kind {
                ENQUEUE | LARGE => {
                    let Some(enqueue) = Enqueue::decode(owned.kind, &owned.meta) else { continue };
                    let block = Arc::new(Block::from_disk(owned.body.clone(), enqueue.count, account));
                    let place: Arc<OnceLock<Place>> = Arc::default();
                    places.push(place.clone());
                    parts.push(Part::Enqueue { block, targets: enqueue.targets().collect(), place });
                }
                DONE => parts.extend(decode_stretches(&owned.meta).map(|stretches| Part::Done(stretches.collect()))),
                _ => {}
            }
        }
        let (ticket, mailbox): (Arc<Ticket>, Arc<Mailbox>) = Default::default();
        log.unit(Unit { parts, then: None, ticket, mailbox });
        (records, places)
    }

    /// Removes what a crash has left: files that no checkpoint lists.
    fn remove_orphans(
        &self,
        names: &[String],
        unused: &[Slot],
        listed: &[FileRecord],
        checkpoint: u32,
        held: &Held,
        files: &Files,
    ) -> Result<(), OpenError> {
        let disk = self.storage.disk.as_ref();
        let slots: Vec<String> = unused.iter().map(|slot| slot_name(slot.name)).collect();
        for name in names {
            let is_listed = |number| listed.iter().chain(&held.files).any(|file| file.number == number);
            let orphan = match parse_name(name) {
                Some((number, "merged" | "index")) => !is_listed(number),
                Some((number, "checkpoint")) => number != checkpoint && Some(number) != held.checkpoint,
                _ => slots.contains(name) || Overflow::owns(name),
            };
            if orphan {
                disk.remove(name).map_err(failed("remove", name))?;
            }
        }
        files.sync_names().map_err(failed("sync", "the data directory"))
    }
}

/// An index of which everything checks that will be read of it now.
fn readable((index, spans): (Index, Vec<index::Span>)) -> io::Result<(Index, Vec<index::Span>)> {
    let mut entries = Vec::new();
    for span in spans.iter().filter(|span| span.has_gaps()) {
        index.find(span, span.first, usize::MAX, &mut entries)?;
        entries.clear();
    }
    Ok((index, spans))
}

/// What replaying a segment told of its end.
#[derive(Default)]
struct SegmentEnd {
    /// The last batch that is certain.
    head: Option<BatchHead>,
    batch: u64,
    end: u32,
}

/// The body of a large message, from its pieces.
pub(crate) fn read_pieces(
    log: LogId,
    segment: u32,
    file: &dyn crate::disk::DiskFile,
    enqueue: &Enqueue<'_>,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    for piece in enqueue.pieces() {
        let length = (piece.length as usize).checked_add(RECORD_HEAD).ok_or(io::ErrorKind::InvalidData)?;
        let bytes = read_exact(file, piece.offset.into(), length)?;
        match RawRecord::decode(log, lsn(segment, piece.offset), &bytes) {
            Ok(record) if record.kind == CHUNK => body.extend_from_slice(record.body),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(body)
}
