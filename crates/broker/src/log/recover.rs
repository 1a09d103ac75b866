//! A start: from the files of a directory to a log that can be appended to, and to what the queues hold.

#[cfg(test)]
mod tests;

use super::adopt;
use super::checkpoint;
use super::contents::{Contents, Owned};
use super::files::{Files, Slot, failed, merged_name, parse_name, read_exact, slot_name};
use super::format::{LogId, Lsn, RECORD_HEAD, RawRecord, lsn, split};
use super::index::{self, Index};
use super::record::{CHUNK, Checkpoint, DONE, ENQUEUE, Enqueue, FileRecord, LARGE};
use super::record::{REQUEUED, REQUEUED_BEFORE, SEEN, TIMES, decode_stretches, encode_requeued_before};
use super::replay;
use super::scan::{Scan, is_damage, slots};
use super::store::{self, Store};
use super::timetable::{self, Reader};
use super::writer::{Begin, Log, Part, Place, Round, Ticket, Unit};
use super::{Damage, OpenError, Recovery, Storage};
use crate::disk::DiskFile;
use crate::mailbox::Mailbox;
use crate::message::{Account, Block};
use crate::overflow::Overflow;
use crate::times::{self, Time, Times};
use std::io;
use std::sync::{Arc, OnceLock};

/// What a start found, for the engine to build on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) contents: Contents,
    pub(crate) recovery: Recovery,
    /// Damage could not be named: queues with unexplained gaps may have lost messages.
    pub(crate) unnamed: bool,
    /// The highest number of a missing segment; 0 if none is.
    pub(crate) missing: u32,
}

/// Opens what `storage` holds. `id` is for a new directory.
pub(crate) fn recover(storage: &Storage, id: u64, account: &Account) -> Result<Recovered, OpenError> {
    let disk = &storage.disk;
    let mut names = disk.list().map_err(failed("list", "the data directory"))?;
    names.sort();
    let log = replay::log_id(disk.as_ref(), &names)?;
    if log.is_none() && !storage.accept_loss {
        replay::check_new(&names)?;
    }
    let log = log.unwrap_or(LogId::new(id));
    let mut start = Start { storage, scan: Scan::new(disk.as_ref(), log) };
    let read = start.scan.checkpoint(&names)?;
    let older = start.scan.older(&names, read.0.number);
    let chain = start.scan.chain(&names, &read)?;
    let (checkpoint, mut listed) = read;
    let missing = chain.missing.iter().copied().max().unwrap_or(0);
    let numbers = names.iter().filter_map(|name| parse_name(name));
    let highest_file = numbers.clone().filter(|(_, kind)| *kind != "log").map(|(number, _)| number).max().unwrap_or(0);
    let highest_slot = numbers.filter(|(_, kind)| *kind == "log").map(|(slot, _)| slot).max().unwrap_or(0);
    let next_number = checkpoint.next_number.max(chain.highest.0 + 1).max(highest_file + 1);
    let files = Arc::new(Files::new(disk.clone(), storage.segment_size, next_number, highest_slot + 1));
    let opened = start.open_files(&listed)?;
    listed.retain(|file| opened.iter().any(|(opened, _)| opened.number == file.number));
    let readers = start.open_times(&files)?;
    let used_times: Vec<u32> = readers.iter().map(|reader| reader.record().number).collect();
    start.accept()?;
    start.read_indexes(&files, opened)?;
    let end = start.replay(&files, &chain)?;
    start.settle(&checkpoint, &files)?;
    let begin = Begin {
        epoch: checkpoint.epoch.max(chain.highest.1) + 1,
        batch: end.batch + 1,
        previous: end.previous,
        durable: chain.durable,
    };
    let log = Log::new(log, storage.sync, storage.segment_size, files.clone(), begin);
    // The first segment is written over a file that neither checkpoint needs.
    let adopted = slots(&listed);
    let older_number = older.as_ref().map(|((it, _), _)| it.number);
    let mut held = Held { checkpoint: older_number, ..Held::default() };
    let mut older_replay = checkpoint.replay;
    if let Some(((older, files), times)) = older {
        (older_replay, held.files) = (older.replay, files);
        held.times = times.iter().map(|file| file.number).filter(|it| !used_times.contains(it)).collect();
    }
    let mut others = Vec::new();
    let older_slots = slots(&held.files);
    held.files.retain(|file| listed.iter().all(|other| other.number != file.number));
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
    start.scan.judge();
    start.remove_orphans(&names, &others, &listed, checkpoint.number, &held, &files)?;
    let times = start.restore_times(readers, &files)?;
    let Scan { contents, unnamed, replayed, torn, damage, .. } = start.scan;
    let recovery = Recovery { queues: 0, messages: 0, replayed, torn, damage };
    let store = Store::new(storage, log, files, checkpoint, listed, end.sealed, contents.highest_queue, held, times);
    Ok(Recovered { store, contents, recovery, unnamed, missing })
}

/// What only the older checkpoint needs: kept until there is a newer one.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) checkpoint: Option<u32>,
    pub(crate) files: Vec<FileRecord>,
    pub(crate) slots: Vec<Slot>,
    /// Numbers of files of times.
    pub(crate) times: Vec<u32>,
}

/// An adopted or merged file.
type Opened = (FileRecord, Arc<dyn DiskFile>);

struct Start<'s> {
    storage: &'s Storage,
    scan: Scan<'s>,
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
    fn accept(&self) -> Result<(), OpenError> {
        match self.storage.accept_loss || self.scan.missing.is_empty() {
            true => Ok(()),
            false => Err(OpenError::Missing(self.scan.missing.join("; "))),
        }
    }

    /// Before anything is written over or removed that only an older checkpoint needs.
    fn settle(&self, checkpoint: &Checkpoint, files: &Files) -> Result<(), OpenError> {
        if checkpoint.number == 0 {
            return Ok(());
        }
        checkpoint::settle(self.scan.disk, checkpoint.number)
            .map_err(failed("write", &checkpoint::name(checkpoint.number)))?;
        files.sync_names().map_err(failed("sync", "the data directory"))
    }

    /// Opens adopted and merged files, as far as they are there.
    fn open_files(&mut self, listed: &[FileRecord]) -> Result<Vec<Opened>, OpenError> {
        let mut opened = Vec::new();
        for file in listed {
            let name = file_name(file);
            match self.scan.disk.open(&name) {
                Ok(found) => opened.push((*file, found)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.scan.miss(format!("{name} is missing")),
                Err(error) => return Err(failed("open", &name)(error)),
            }
        }
        Ok(opened)
    }

    /// Opens the files of times, as far as they are there.
    fn open_times(&mut self, files: &Files) -> Result<Vec<Reader>, OpenError> {
        let mut readers = Vec::new();
        for record in self.scan.contents.times_files.clone() {
            let name = timetable::name(record.number);
            match self.scan.disk.open(&name) {
                Ok(file) => {
                    files.add_times(record.number, file.clone());
                    readers.push(Reader::new(self.scan.log, file, record));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.scan.miss_times(format!("{name} is missing"));
                }
                Err(error) => return Err(failed("open", &name)(error)),
            }
        }
        Ok(readers)
    }

    /// What is to happen at times: what does not fit into memory goes to files at once.
    fn restore_times(&mut self, readers: Vec<Reader>, files: &Files) -> Result<Arc<Times>, OpenError> {
        let times = Arc::new(Times::with_near(self.storage.near_times));
        let ((found, renewed), mut bad) = (self.scan.contents.take_times(), Vec::new());
        for mut reader in readers {
            // What of a file may be over is taken out of it. What cannot be read now has to be believed later.
            while reader.load(&mut bad).is_ok()
                && let Some(time) = reader.head().filter(|time| renewed.reaches(time))
            {
                renewed.rest(time).iter().try_for_each(|time| self.keep_time(time, &times, files))?;
                reader.advance();
            }
            times.add_file(reader);
        }
        bad.extend(times.take_bad());
        self.scan.lose_times(&bad);
        if self.scan.unnamed || self.scan.lost_times {
            times.note_damage();
        }
        found.iter().try_for_each(|time| self.keep_time(&time, &times, files))?;
        Ok(times)
    }

    fn keep_time(&mut self, time: &Time, times: &Times, files: &Files) -> Result<(), OpenError> {
        let (log, contents) = (self.scan.log, &self.scan.contents);
        times.add(&[*time]);
        if times.is_crowded() {
            let mut lives = |time: &Time| !contents.undone(time.queue, time.position, time.count).is_empty();
            store::spill(times, files, log, &mut lives).map_err(failed("write", "a file of times"))?;
        }
        Ok(())
    }

    /// Reads their indexes.
    fn read_indexes(&mut self, files: &Files, opened: Vec<Opened>) -> Result<(), OpenError> {
        for (file, opened) in opened {
            let index_name = index::name(file.number);
            let read = Index::open(self.scan.disk, self.scan.log, file.number).and_then(|(index, spans)| {
                self.scan.add_file(file.number, &index, &spans)?;
                Ok(index)
            });
            let index = match read {
                Ok(index) => index,
                Err(error) if is_damage(&error) || error.kind() == io::ErrorKind::NotFound => {
                    self.rebuild(&file, &opened).map_err(failed("make again", &index_name))?
                }
                Err(error) => return Err(failed("read", &index_name)(error)),
            };
            files.add(file.number, (!file.merged).then_some(file.slot), opened, Some(index));
        }
        Ok(())
    }

    /// Makes the index of a file again, from its records.
    fn rebuild(&mut self, file: &FileRecord, opened: &Arc<dyn DiskFile>) -> io::Result<Index> {
        let (disk, log, name) = (self.scan.disk, self.scan.log, file_name(file));
        let mut entries = Vec::new();
        let scan = &mut self.scan;
        adopt::file_entries(log, file, opened, &mut entries, &mut |at, length, record| {
            scan.damaged(&name, at, length, record);
        })?;
        index::write_again(disk, log, file.number, entries)?;
        disk.sync()?;
        let (index, spans) = Index::open(disk, log, file.number)?;
        self.scan.add_file(file.number, &index, &spans)?;
        Ok(index)
    }

    /// Replays the segments of the chain.
    fn replay(&mut self, files: &Files, chain: &replay::Chain) -> Result<End, OpenError> {
        let mut end = End { tail: Vec::new(), previous: 0, batch: 0, sealed: Vec::new(), free: Vec::new() };
        for (segment, last) in &chain.segments {
            let replayed = self.scan.replay(segment, *last, chain.durable, &mut end.tail)?;
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
            let mut lost = Vec::new();
            for (index, owned) in records.iter_mut().enumerate().filter(|(_, owned)| owned.kind == LARGE) {
                match self.gather(owned, chain) {
                    Err(error) if is_damage(&error) => lost.push(index),
                    gathered => gathered.map_err(failed("read", "a large message"))?,
                }
            }
            for index in lost.into_iter().rev() {
                self.lose(&records.remove(index), chain);
            }
        }
        end.tail.retain(|records| !records.is_empty());
        Ok(end)
    }

    /// A large message of the tail, pieces of which were durable and are damaged.
    fn lose(&mut self, owned: &Owned, chain: &replay::Chain) {
        let Some(enqueue) = Enqueue::decode(LARGE, &owned.meta) else { return };
        let slot = chain.segments.iter().find(|(segment, _)| segment.number == owned.place.file());
        let file = slot.map_or_else(String::new, |(segment, _)| slot_name(segment.slot.name));
        let (offset, bytes) = (u64::from(split(owned.place.lsn).1), u64::from(owned.place.length));
        self.scan.lose(&Damage { file, offset, bytes, queue: None, positions: None }, &enqueue);
    }

    /// Reads the pieces of a large message of the tail.
    fn gather(&self, owned: &mut Owned, chain: &replay::Chain) -> io::Result<()> {
        let segment = chain.segments.iter().find(|(segment, _)| segment.number == owned.place.file());
        let (Some((segment, _)), Some(enqueue)) = (segment, Enqueue::decode(LARGE, &owned.meta)) else { return Ok(()) };
        owned.body = read_pieces(self.scan.log, segment.number, segment.slot.file.as_ref(), &enqueue)?;
        Ok(())
    }

    /// Writes again what may not be on disk, and makes the new epoch count.
    fn append_tail(&mut self, log: &Log, tail: Vec<Vec<Owned>>, account: &Account) -> Result<(), OpenError> {
        let writing = failed("write", "the log");
        let mut units = Vec::new();
        for mut records in tail {
            if let [only] = &mut records[..]
                && only.kind == REQUEUED
            {
                // It gets another address, and by that one it would be counted again where a checkpoint has counted it.
                only.kind = REQUEUED_BEFORE;
                only.meta = encode_requeued_before(only.place.lsn, &only.meta);
            }
            match &records[..] {
                [only] if only.kind != LARGE => {
                    let place = log.copy(only.kind, &only.meta, &only.body);
                    self.scan.apply(&[Owned { place, ..only.clone() }]);
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
            self.scan.apply(&records);
        }
        log.begin();
        // The first batch, and a second one that says that the first is durable.
        for _ in 0..2 {
            if log.force_watermark(true) != Round::Wrote {
                return Err(writing(io::Error::other(log.failure().unwrap_or("the disk is full").to_string())));
            }
        }
        Ok(())
    }

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
                TIMES => parts.extend(times::decode(&owned.meta).map(|times| Part::Times(times.collect()))),
                SEEN => parts.push(Part::Seen(owned.meta.clone())),
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
                Some((number, "times")) => !files.has(number) && !held.times.contains(&number),
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

/// The name of an adopted or merged file.
pub(crate) fn file_name(file: &FileRecord) -> String {
    if file.merged { merged_name(file.number) } else { slot_name(file.slot) }
}

/// The body of a large message, from its pieces.
pub(crate) fn read_pieces(log: LogId, segment: u32, file: &dyn DiskFile, enqueue: &Enqueue<'_>) -> io::Result<Vec<u8>> {
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
