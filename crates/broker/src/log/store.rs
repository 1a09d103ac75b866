//! Everything durable of a broker: the log, the files behind it, and the work that keeps both small.
//!
//! Segments that get old are adopted: an index leads to their messages. Files of which little lives are merged. A
//! checkpoint says what there is, so that what came before it need not be replayed. Nothing is written over or removed
//! that one of the last two checkpoints needs.

mod timed;

pub(in crate::log) use timed::spill;

use super::adopt;
use super::checkpoint::{self, Writing};
use super::files::{Files, read_exact, slot_name};
use super::format::{Lsn, RawRecord, lsn};
use super::index::{self, Entry, Index, Span};
use super::merge::{self, MergeError, Source};
use super::record::{Change, Checkpoint, ENQUEUE, Enqueue, FileRecord, LARGE, QueueId};
use super::recover::{Held, read_pieces};
use super::scan::is_damage;
use super::timetable;
use super::writer::{Log, Place, Round};
use super::{Storage, file_of};
use crate::message::{Account, Block, slice};
use crate::queue::{FileSpan, Snapshot, Wanted};
use crate::times::Times;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many segments behind the current one are left alone: most messages die young, and then nothing has to be done
/// for their segment but to write over it.
const GRACE: usize = 1;

/// Sparse files are merged when there are so many of them,
const MERGE_FILES: usize = 4;

/// or when one of them is so many numbers old,
const MERGE_AGE: u32 = 16;

/// and so are adopted files in which a queue's messages lie scattered in pieces of less than so many bytes.
const SCATTERED: u64 = 4096;

/// A merged file gets about so many bytes at most.
const MERGED_MAX: u64 = 1 << 30;

/// A checkpoint is written when the log has grown by so many times the size of the last one.
const CHECKPOINT_RATIO: u64 = 8;

/// After so many steps without work there is a checkpoint if there is anything new: files of which nothing lives any more
/// are found by it. One more step for each so many bytes of the last one.
const QUIET: u32 = 100;
const QUIET_BYTES: u64 = 64 * 1024;

/// A checkpoint is written before more segments than this are adopted.
const ADOPTED_MAX: u64 = 4;

/// Who needs a damaged index made again waits so long for a merge or checkpoint to end.
const REPAIR_PATIENCE: Duration = Duration::from_secs(10);

/// The engine's queues and topology, as the work behind the log sees them.
pub(crate) trait View {
    /// Appends the runs of these positions that are not done; none if the queue is gone.
    fn living(&self, queue: QueueId, position: u64, count: u64, out: &mut Vec<(u64, u64)>);

    /// As [`View::living`], for a queue that is not durable. Takes all to live unless it is told better.
    fn living_transient(&self, _queue: QueueId, position: u64, count: u64, out: &mut Vec<(u64, u64)>) {
        out.push((position, count));
    }

    /// Moves those of a queue's entries of which something lives to the front; returns how many there are.
    fn keep_living(&self, queue: QueueId, entries: &mut [Entry]) -> usize;

    /// Files have got an index, or were merged.
    fn index(&self, queue: QueueId, removed: &[u32], added: &[FileSpan]);

    /// A file has got another index.
    fn reindex(&self, number: u32, spans: &[Span]);

    /// Messages of a queue do not check.
    fn damaged(&self, queue: QueueId, position: u64, count: u64, why: &str);

    /// Says something to whoever looks after the broker.
    fn report(&self, text: String);

    /// Says all durable topology.
    fn changes(&self, say: &mut dyn FnMut(&Change<'_>) -> io::Result<()>) -> io::Result<()>;

    /// Says what was seen of messages, as metas of records.
    fn seen(&self, say: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;

    /// Says the state of all durable queues.
    fn snapshots(&self, say: &mut dyn FnMut(Snapshot) -> io::Result<()>) -> io::Result<()>;
}

/// The log and what is behind it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) log: Log,
    pub(crate) files: Arc<Files>,
    /// What is to happen to messages at times, as a start has found it and since.
    pub(crate) times: Arc<Times>,
    segment_size: u32,
    next_queue: AtomicU64,
    keeper: Mutex<Keeper>,
    merging: Mutex<()>,
}

#[derive(Debug)]
struct Keeper {
    /// Segments that are closed and not adopted: number and end.
    sealed: Vec<(u32, u32)>,
    /// Adopted and merged files.
    listed: Vec<Listed>,
    checkpoint: Checkpoint,
    /// The one before it.
    previous: Option<u32>,
    /// What is needed by checkpoints up to the second number only: a segment or file.
    retired: Vec<(u32, u32)>,
    /// As a start found it.
    held: Held,
    /// Bytes of the last checkpoint, and where the log was.
    size: u64,
    at: Lsn,
    /// Adopted or merged since.
    changed: bool,
    /// Bytes of segments adopted since.
    adopted: u64,
    /// Files that cannot be merged.
    left_alone: Vec<u32>,
    /// Steps without work since.
    quiet: u32,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    file: FileRecord,
    /// Bytes of it that live, as of the last checkpoint.
    living: u64,
    /// Entries in its index.
    entries: u64,
}

/// Why messages could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    /// A record does not check.
    Damaged(Place),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{error}"),
            ReadError::Damaged(place) => {
                write!(f, "file {:08x} is damaged at offset {}", place.file(), place.lsn as u32)
            }
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl Store {
    #[expect(clippy::too_many_arguments, reason = "all that a start found, handed over once")]
    pub(crate) fn new(
        storage: &Storage,
        log: Log,
        files: Arc<Files>,
        checkpoint: Checkpoint,
        listed: Vec<FileRecord>,
        sealed: Vec<(u32, u32)>,
        highest_queue: QueueId,
        held: Held,
        times: Arc<Times>,
    ) -> Store {
        let listed = listed.into_iter().map(|file| Listed { file, living: file.bytes, entries: 0 }).collect();
        let at = log.end();
        let keeper = Keeper {
            sealed,
            listed,
            checkpoint,
            previous: held.checkpoint,
            retired: Vec::new(),
            held,
            size: 0,
            at,
            // The first checkpoint of an epoch makes the replay of the next start short.
            changed: true,
            adopted: 0,
            left_alone: Vec::new(),
            quiet: 0,
        };
        let next_queue = AtomicU64::new(checkpoint.next_queue.max(highest_queue + 1));
        Store {
            log,
            files,
            times,
            segment_size: storage.segment_size,
            next_queue,
            keeper: Mutex::new(keeper),
            merging: Mutex::new(()),
        }
    }

    /// An id for a new queue.
    pub(crate) fn next_queue(&self) -> QueueId {
        self.next_queue.fetch_add(1, Ordering::Relaxed)
    }

    /// Reads the messages of a segment of a queue.
    pub(crate) fn read(&self, queue: QueueId, wanted: &Wanted, account: &Account) -> Result<Arc<Block>, ReadError> {
        let mut bytes = Vec::new();
        for (index, (number, place)) in wanted.places.iter().enumerate() {
            let until = wanted.places.get(index + 1).map_or(wanted.count, |(next, _)| *next);
            self.read_place(queue, wanted.first + u64::from(*number), until - number, *place, &mut bytes)?;
        }
        bytes.shrink_to_fit();
        Ok(Arc::new(Block::from_disk(bytes, wanted.count, account)))
    }

    fn read_place(
        &self,
        queue: QueueId,
        position: u64,
        count: u32,
        place: Place,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let damaged = || ReadError::Damaged(place);
        let number = file_of(place.lsn);
        let file = self.files.file(number).ok_or_else(damaged)?;
        let bytes = match read_exact(file.as_ref(), u64::from(place.lsn as u32), place.length as usize) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
            read => read?,
        };
        let record = RawRecord::decode(self.log.id, place.lsn, &bytes).map_err(|_| damaged())?;
        let enqueue = Enqueue::decode(record.kind, record.meta).filter(|_| matches!(record.kind, ENQUEUE | LARGE));
        let enqueue = enqueue.ok_or_else(damaged)?;
        let covers = |target: &super::Target| {
            target.queue == queue && (target.position..target.position + u64::from(enqueue.count)).contains(&position)
        };
        let target = enqueue.targets().find(covers).ok_or_else(damaged)?;
        let skip = (position - target.position) as u32;
        let pieces = match record.kind {
            LARGE => read_pieces(self.log.id, number, file.as_ref(), &enqueue).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(),
                _ => ReadError::Io(error),
            })?,
            _ => Vec::new(),
        };
        let body = if record.kind == LARGE { &pieces } else { record.body };
        out.extend_from_slice(slice(body, skip, count).ok_or_else(damaged)?);
        Ok(())
    }

    /// Entries from the one with this position on, and the file that has them; none if no file does.
    pub(crate) fn lookup(&self, position: u64, spans: &[FileSpan]) -> io::Result<Option<(u32, Vec<Entry>)>> {
        /// As many as are worth remembering at a time.
        const ENTRIES: usize = 256;
        for span in spans {
            let Some(index) = self.files.index(span.file) else { continue };
            let mut entries = Vec::new();
            index.find(&span.span, position, ENTRIES, &mut entries)?;
            let has = |entry: &Entry| (entry.position..entry.position + u64::from(entry.count)).contains(&position);
            if entries.first().is_some_and(has) {
                return Ok(Some((span.file, entries)));
            }
        }
        Ok(None)
    }

    /// Looks at the indexes of these files, and makes those again that are damaged, from the files' records. Says what
    /// was done for each; `reindex` gets what the new ones have.
    pub(crate) fn repair(&self, numbers: &[u32], reindex: &mut dyn FnMut(u32, &[Span])) -> io::Result<Vec<String>> {
        // Not without end: who asks may be in the way of who holds them.
        let busy = || io::Error::other("the files are being merged or checked by others for too long");
        let _no_merge = self.merging.try_lock_for(REPAIR_PATIENCE).ok_or_else(busy)?;
        self.repair_indexes(numbers, reindex)
    }

    fn repair_indexes(&self, numbers: &[u32], reindex: &mut dyn FnMut(u32, &[Span])) -> io::Result<Vec<String>> {
        let (disk, log, mut said) = (self.files.disk.as_ref(), self.log.id, Vec::new());
        let busy = || io::Error::other("a checkpoint takes too long");
        let keeper = self.keeper.try_lock_for(REPAIR_PATIENCE).ok_or_else(busy)?;
        let listed: Vec<FileRecord> = keeper.listed.iter().map(|listed| listed.file).collect();
        drop(keeper);
        for file in listed.iter().filter(|file| numbers.contains(&file.number)) {
            let why = match index::check(disk, log, file.number) {
                Err(error) if is_damage(&error) || error.kind() == io::ErrorKind::NotFound => error,
                checked => {
                    checked?;
                    continue;
                }
            };
            let Some(opened) = self.files.file(file.number) else { continue };
            let mut entries = Vec::new();
            // What does not check is missed when it is read.
            adopt::file_entries(log, file, &opened, &mut entries, &mut |_, _, _| ())?;
            index::write_again(disk, log, file.number, entries)?;
            self.files.sync_names()?;
            let (index, spans) = Index::open(disk, log, file.number)?;
            self.files.add_index(file.number, index);
            reindex(file.number, &spans);
            said.push(format!("an index was damaged and is made again: {why}"));
        }
        Ok(said)
    }

    /// A step of the work behind the log; false if there is nothing to do. `ENOSPC` is an error like others here.
    pub(crate) fn tend(&self, view: &dyn View) -> io::Result<bool> {
        match self.tend_step(view) {
            // A checkpoint is what gives space back: it may have that of a spare file.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.files.give_up_spare()? => Ok(true),
            tended => tended,
        }
    }

    fn tend_step(&self, view: &dyn View) -> io::Result<bool> {
        if self.log.failure().is_some() {
            return Ok(false);
        }
        let mut keeper = self.keeper.lock();
        keeper.sealed.extend(self.log.take_sealed());
        // What was adopted counts from the next checkpoint on: without one now and then, a broker that is killed again
        // and again would begin anew each time, with ever more before it.
        if keeper.adopted >= (keeper.size * CHECKPOINT_RATIO).max(ADOPTED_MAX * u64::from(self.segment_size)) {
            self.write_checkpoint(&mut keeper, view)?;
            return Ok(true);
        }
        let timed = self.tend_times(&mut keeper, view);
        if matches!(timed, Ok(true)) || self.adopt_next(&mut keeper, view)? {
            return Ok(true);
        }
        if keeper.wants_checkpoint(&self.log, self.segment_size) {
            self.write_checkpoint(&mut keeper, view)?;
            return Ok(true);
        }
        keeper.quiet = keeper.quiet.saturating_add(1);
        // Not before the rest had its turn: on a full disk it may be a checkpoint that gives space back.
        timed?;
        drop(keeper);
        self.files.prepare_step()
    }

    /// Writes a checkpoint now.
    pub(crate) fn checkpoint(&self, view: &dyn View) -> io::Result<()> {
        let mut keeper = self.keeper.lock();
        self.write_checkpoint(&mut keeper, view)
    }

    /// Makes what a start has accepted hold for later ones: segments before `number`, which is missing perhaps, are not
    /// replayed any more.
    pub(crate) fn settle(&self, view: &dyn View, number: u32) -> io::Result<()> {
        let mut keeper = self.keeper.lock();
        while keeper.sealed.first().is_some_and(|(first, _)| *first < number) && self.adopt_first(&mut keeper, view)? {}
        self.write_checkpoint(&mut keeper, view)
    }

    /// Writes everything that is pending, a checkpoint, and what says that all of it is durable.
    pub(crate) fn shut_down(&self, view: &dyn View) -> io::Result<()> {
        let failed = |log: &Log| io::Error::other(log.failure().unwrap_or("the disk is full").to_string());
        loop {
            match self.log.write(true) {
                Round::Wrote => {}
                Round::Idle => break,
                Round::Full | Round::Failed => return Err(failed(&self.log)),
            }
        }
        self.checkpoint(view)?;
        match self.log.force_watermark(true) {
            Round::Wrote => Ok(()),
            _ => Err(failed(&self.log)),
        }
    }

    /// Adopts the oldest closed segment, or gives it up if nothing in it lives.
    fn adopt_next(&self, keeper: &mut Keeper, view: &dyn View) -> io::Result<bool> {
        if keeper.sealed.len() > GRACE { self.adopt_first(keeper, view) } else { Ok(false) }
    }

    fn adopt_first(&self, keeper: &mut Keeper, view: &dyn View) -> io::Result<bool> {
        let durable = self.log.durable();
        let Some(&(number, end)) = keeper.sealed.first() else { return Ok(false) };
        if durable < lsn(number, end) || !self.log.is_released(lsn(number, end) - 1) {
            return Ok(false);
        }
        let (Some(slot), Some(file)) = (self.files.slot(number), self.files.file(number)) else { return Ok(false) };
        let bytes = u64::from(end);
        let record = FileRecord { number, merged: false, slot, bytes };
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        // What does not check and cannot be named has no entry, and is missed when it is read.
        adopt::file_entries(self.log.id, &record, &file, &mut entries, &mut |at, length, _| {
            bad.push((at as u32, length))
        })?;
        index::sort(&mut entries);
        keep_living(&mut entries, view);
        for (offset, length) in bad {
            view.report(format!("{length} bytes at {offset} of {} do not check", slot_name(slot)));
        }
        if entries.is_empty() {
            keeper.seal_is_done();
            keeper.retire(self, number)?;
            return Ok(true);
        }
        let count = entries.len() as u64;
        let spans = index::write(self.files.disk.as_ref(), self.log.id, number, entries.into_iter())?;
        self.files.sync_names()?;
        self.files.add_index(number, Index::open(self.files.disk.as_ref(), self.log.id, number)?.0);
        // Not before the index is there: a checkpoint that has the segment neither in its replay nor listed loses it.
        keeper.seal_is_done();
        let living = spans.iter().map(|span| span.bytes).sum();
        keeper.listed.push(Listed { file: record, living, entries: count });
        for span in spans {
            view.index(span.queue, &[], &[FileSpan { file: number, span }]);
        }
        Ok(true)
    }

    /// Merges files of which little lives, or in which much is scattered; false if there are none. May take seconds, in
    /// which [`Store::tend`] goes on.
    pub(crate) fn merge(&self, view: &dyn View) -> io::Result<bool> {
        if self.log.failure().is_some() {
            return Ok(false);
        }
        if self.merge_times(view)? {
            return Ok(true);
        }
        let _one_at_a_time = self.merging.lock();
        let chosen = self.keeper.lock().to_merge(self.files.numbers_below(), self.segment_size);
        if chosen.is_empty() {
            return Ok(false);
        }
        let (disk, log) = (self.files.disk.as_ref(), self.log.id);
        let number = self.files.next_number();
        let mut live = |queue, position, count, out: &mut Vec<_>| view.living(queue, position, count, out);
        let merged = self.sources(&chosen).and_then(|sources| {
            let merged = merge::merge(disk, log, self.log.epoch, &sources, number, &mut live)?;
            Ok((sources, merged))
        });
        let (sources, merged) = match merged {
            Ok(merged) => merged,
            Err(error) => return self.merge_failed(error, &chosen, view),
        };
        let mut queues: FxHashMap<QueueId, Vec<FileSpan>> = FxHashMap::default();
        for span in sources.iter().flat_map(|source| &source.spans) {
            queues.entry(span.queue).or_default();
        }
        let mut listed = None;
        if let Some(merged) = merged {
            self.files.sync_names()?;
            let file = disk.open(&merge::name(number))?;
            self.files.add(number, None, file, Some(Index::open(disk, log, number)?.0));
            let file = FileRecord { number, merged: true, slot: 0, bytes: merged.bytes };
            let entries = merged.spans.iter().map(|span| u64::from(span.entries)).sum();
            listed = Some(Listed { file, living: merged.bytes, entries });
            merged.spans.iter().for_each(|&span| {
                queues.entry(span.queue).or_default().push(FileSpan { file: number, span });
            });
        }
        queues.iter().for_each(|(queue, spans)| view.index(*queue, &chosen, spans));
        let mut keeper = self.keeper.lock();
        keeper.listed.extend(listed);
        keeper.listed.retain(|listed| !chosen.contains(&listed.file.number));
        keeper.changed = true;
        chosen.iter().try_for_each(|number| keeper.retire(self, *number))?;
        Ok(true)
    }

    fn sources(&self, chosen: &[u32]) -> Result<Vec<Source>, MergeError> {
        let mut sources = Vec::new();
        for &number in chosen {
            let Some(file) = self.files.file(number) else { continue };
            let opened = Index::open(self.files.disk.as_ref(), self.log.id, number);
            let failed = |source| MergeError::Io { what: format!("read {}", index::name(number)), source };
            let (index, spans) = opened.map_err(failed)?;
            sources.push(Source { number, file, index, spans });
        }
        Ok(sources)
    }

    /// A damaged index is made again. A file with damaged messages is left alone, and their queue is told.
    fn merge_failed(&self, error: MergeError, chosen: &[u32], view: &dyn View) -> io::Result<bool> {
        let text = error.to_string();
        match error {
            MergeError::Io { source, .. } if is_damage(&source) => {
                let repaired = self.repair_indexes(chosen, &mut |number, spans| view.reindex(number, spans))?;
                if repaired.is_empty() {
                    return Err(source);
                }
                repaired.into_iter().for_each(|text| view.report(text));
            }
            MergeError::Io { source, .. } => return Err(source),
            MergeError::TooLong { .. } => {
                self.keeper.lock().left_alone.extend_from_slice(chosen);
                view.report(text);
            }
            MergeError::Damaged { number, entry, .. } => {
                self.keeper.lock().left_alone.push(number);
                view.damaged(entry.queue, entry.position, entry.count.into(), &text);
            }
        }
        Ok(true)
    }

    fn write_checkpoint(&self, keeper: &mut Keeper, view: &dyn View) -> io::Result<()> {
        let disk = self.files.disk.as_ref();
        let at = self.log.end();
        // After the end was looked up: a segment that is closed from now on is at or behind it.
        keeper.sealed.extend(self.log.take_sealed());
        let replay = keeper.sealed.first().map_or(lsn(file_of(at), 0), |(number, _)| lsn(*number, 0));
        let number = self.files.next_number();
        let next_queue = self.next_queue.load(Ordering::Relaxed);
        let next_number = self.files.numbers_below();
        // Where a batch ends: what is certain of the log is whole batches.
        let (epoch, durable) = (self.log.epoch, self.log.durable());
        let checkpoint = Checkpoint { number, epoch, replay, next_queue, next_number, durable };
        // Times are in memory before their record is in the log.
        let known = at.min(self.log.released());
        let written = self.write_state(keeper, view, &checkpoint, known);
        let size = match written {
            Ok(size) => size,
            Err(error) => {
                // Half of it is of no use; the next attempt has another name.
                let _ = disk.remove(&checkpoint::name(number));
                return Err(error);
            }
        };
        let old = std::mem::replace(&mut keeper.checkpoint, checkpoint).number;
        let older = std::mem::replace(&mut keeper.previous, (old > 0).then_some(old));
        (keeper.size, keeper.at, keeper.changed, keeper.quiet, keeper.adopted) = (size, at, false, 0, 0);
        self.free(keeper, older)
    }

    fn write_state(
        &self,
        keeper: &mut Keeper,
        view: &dyn View,
        checkpoint: &Checkpoint,
        known: Lsn,
    ) -> io::Result<u64> {
        let mut writing = Writing::begin(self.files.disk.as_ref(), self.log.id, checkpoint)?;
        let files: Vec<FileRecord> = keeper.listed.iter().map(|listed| listed.file).collect();
        writing.files(&files)?;
        // Before the states: a message that waits there must not have met its time in between. One that is missing here is
        // in the log that is replayed.
        let (times, files) = self.times.snapshot();
        writing.times(&times)?;
        writing.times_files(known, &files)?;
        let mut living: FxHashMap<u32, u64> = FxHashMap::default();
        view.snapshots(&mut |snapshot| {
            snapshot.files.iter().for_each(|(file, bytes)| *living.entry(*file).or_default() += bytes);
            writing.queue(&snapshot.state)
        })?;
        view.seen(&mut |meta| writing.seen(meta))?;
        // Behind the states: a queue that is deleted in between must not be there without what is gone of it.
        view.changes(&mut |change| writing.change(change))?;
        for listed in &mut keeper.listed {
            listed.living = living.get(&listed.file.number).copied().unwrap_or(0);
        }
        // What the states have seen must be on disk before they count: half a transaction could be among it.
        let end = self.log.end();
        while self.log.durable() < end {
            match self.log.write(true) {
                Round::Wrote => {}
                Round::Idle => break,
                Round::Full => return Err(io::ErrorKind::StorageFull.into()),
                Round::Failed => return Err(io::Error::other("the log has failed")),
            }
        }
        let size = writing.finish()?;
        self.files.sync_names()?;
        Ok(size)
    }

    /// Removes or gives back what neither checkpoint needs any more.
    fn free(&self, keeper: &mut Keeper, older: Option<u32>) -> io::Result<()> {
        let disk = self.files.disk.as_ref();
        let needed_from = keeper.previous.unwrap_or(0);
        let mut free = Vec::new();
        keeper.retired.retain(|&(number, last)| {
            let needed = last >= needed_from;
            if !needed {
                free.push(number);
            }
            needed
        });
        free.iter().try_for_each(|number| self.files.retire(*number))?;
        let held = std::mem::take(&mut keeper.held);
        held.slots.into_iter().for_each(|slot| self.files.add_spare(slot));
        for number in held.times {
            let _ = disk.remove(&timetable::name(number));
        }
        for file in held.files.iter().filter(|file| keeper.listed.iter().all(|it| it.file.number != file.number)) {
            // Some may be gone: a start without them was accepted.
            let _ = disk.remove(&index::name(file.number));
            if file.merged {
                let _ = disk.remove(&merge::name(file.number));
            }
        }
        // Before the first there was none.
        if let Some(number) = older.filter(|number| *number > 0) {
            disk.remove(&checkpoint::name(number))?;
        }
        self.files.sync_names()
    }
}

impl Keeper {
    /// The oldest closed segment need not be replayed any more.
    fn seal_is_done(&mut self) {
        let (_, end) = self.sealed.remove(0);
        self.adopted += u64::from(end);
        self.changed = true;
    }

    /// A segment or file is not needed any more by what comes after the last checkpoint.
    fn retire(&mut self, store: &Store, number: u32) -> io::Result<()> {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::EarlyDelete) {
            return store.files.retire(number);
        }
        let _ = store;
        self.retired.push((number, self.checkpoint.number));
        Ok(())
    }

    /// There is something new to say, and the log has grown enough or nothing else is to be done.
    fn wants_checkpoint(&self, log: &Log, segment_size: u32) -> bool {
        if self.checkpoint.number == 0 {
            return true;
        }
        let (now, then) = (log.end(), self.at);
        let grown = u64::from(file_of(now) - file_of(then)) * u64::from(segment_size);
        let news = self.changed || !self.retired.is_empty() || !self.listed.is_empty() && now != then;
        let quiet = self.quiet > QUIET + (self.size / QUIET_BYTES) as u32;
        news && (quiet || grown > 0 && grown >= (self.size * CHECKPOINT_RATIO).min(1 << 30))
    }

    /// Which files to merge now, if any.
    fn to_merge(&self, next_number: u32, segment_size: u32) -> Vec<u32> {
        let usable = |listed: &&Listed| !self.left_alone.contains(&listed.file.number);
        let sparse = |listed: &&Listed| usable(listed) && listed.living * 2 < listed.file.bytes;
        let old = |listed: &&Listed| listed.file.number + MERGE_AGE < next_number;
        let chosen: Vec<&Listed> = self.listed.iter().filter(sparse).collect();
        if chosen.len() >= MERGE_FILES || chosen.iter().any(old) || chosen.iter().any(|listed| listed.living == 0) {
            let mut bytes = 0;
            let fits = |listed: &&&Listed| {
                bytes += listed.living;
                bytes <= MERGED_MAX
            };
            return chosen.iter().take_while(fits).map(|listed| listed.file.number).collect();
        }
        let scattered =
            |listed: &&Listed| !listed.file.merged && listed.entries > 64 && listed.living / listed.entries < SCATTERED;
        let scattered: Vec<u32> =
            self.listed.iter().filter(usable).filter(scattered).map(|listed| listed.file.number).collect();
        let most = (MERGED_MAX / u64::from(segment_size)).clamp(2, MERGE_FILES as u64 * 2) as usize;
        if scattered.len() >= MERGE_FILES * 2 { scattered.into_iter().take(most).collect() } else { Vec::new() }
    }
}

/// Keeps the entries of which something lives; they are sorted by queue.
fn keep_living(entries: &mut Vec<Entry>, view: &dyn View) {
    let (mut kept, mut at) = (0, 0);
    while let Some(queue) = entries.get(at).map(|entry| entry.queue) {
        let end = at + entries[at..].partition_point(|entry| entry.queue == queue);
        let living = view.keep_living(queue, &mut entries[at..end]);
        entries.copy_within(at..at + living, kept);
        (kept, at) = (kept + living, end);
    }
    entries.truncate(kept);
}
