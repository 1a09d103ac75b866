//! The log being written: records are gathered in batches, written and synced by one writer.
//!
//! A record has its address as soon as it is appended, since the batch that is being filled knows where it will stand.
//! While one batch is being synced the next ones fill, so that the number of syncs adapts itself to the load.

use super::Sync;
use super::files::Files;
use super::format::{ALIGN, BATCH_HEAD, BatchHead, LogId, Lsn, MORE, RECORD_HEAD, RawRecord, lsn, split};
use super::record::{self, CHUNK, Change, DELIVERED, DONE, ENQUEUE, Enqueue, LARGE, Piece, QueueId, REQUEUED};
use super::record::{SEEN, Stretch, TIMES, Target};
use crate::disk::DiskFile;
use crate::engine::Meters;
use crate::mailbox::{Event, Mailbox};
use crate::message::Block;
use crate::times::{self, Time};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A batch is closed when it has grown to this many bytes; one record may exceed it.
const BATCH_MAX: usize = 1024 * 1024;

/// A body of at least this many bytes is written in pieces, so that others don't wait for it.
pub(crate) const LARGE_MIN: usize = 128 * 1024;

/// Such a piece.
const PIECE: usize = 128 * 1024;

/// Pieces of large bodies that go into one round of writing.
const PIECES_PER_ROUND: usize = 2;

/// Buffers for batches that are kept.
const SPARE_BUFFERS: usize = 2;

/// Whoever waits writes no more than this by itself: with more, it should read on meanwhile.
const LEAD_MAX: u64 = 8 * 1024;

/// Where a record is, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lsn: Lsn,
    pub(crate) length: u32,
}

impl Place {
    /// The number of the segment or file.
    pub(crate) fn file(&self) -> u32 {
        split(self.lsn).0
    }
}

/// Tells when a unit has its place in the log: at once, or when its large bodies were written.
#[derive(Debug, Default)]
pub(crate) struct Ticket(AtomicU64);

impl Ticket {
    /// The LSN of the unit's last record; `None` as long as it has none.
    pub(crate) fn lsn(&self) -> Option<Lsn> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            lsn => Some(lsn),
        }
    }
}

/// What a unit is made of.
#[derive(Debug)]
pub(crate) enum Part {
    /// `place` learns where it is.
    Enqueue {
        block: Arc<Block>,
        targets: Vec<Target>,
        place: Arc<OnceLock<Place>>,
    },
    Done(Vec<Stretch>),
    Times(Vec<Time>),
    /// What was seen by the messages before, as the meta of a record.
    Seen(Vec<u8>),
}

/// What is known of messages beside themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    /// What is to happen to them, and when.
    pub(crate) times: &'a [Time],
    /// What was seen by them, as the meta of a record; empty for nothing.
    pub(crate) seen: &'a [u8],
}

/// What happens once a unit is durable.
pub(crate) type Then = Box<dyn FnOnce() + Send>;

/// Records that take effect together.
pub(crate) struct Unit {
    pub(crate) parts: Vec<Part>,
    /// Called once they may be confirmed.
    pub(crate) then: Option<Then>,
    pub(crate) ticket: Arc<Ticket>,
    /// Is told by [`Event::Durable`], too.
    pub(crate) mailbox: Arc<Mailbox>,
}

/// A log that can be appended to.
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) epoch: u32,
    sync: Sync,
    segment_size: u32,
    files: Arc<Files>,
    state: Mutex<State>,
    /// There is work for the writer.
    work: Condvar,
    writer: Mutex<Writer>,
    /// Everything below is written.
    written: AtomicU64,
    /// Everything below is synced.
    durable: AtomicU64,
    /// Everything below may be confirmed.
    released: AtomicU64,
    /// Bytes that are appended and not written.
    pending: AtomicU64,
    /// Of these, bytes of units with large bodies.
    pending_large: AtomicU64,
    /// The disk is full: what is pending is tried again.
    full: AtomicBool,
    /// Until what a start has to write again is durable, nothing newer than what it found is said to be: an epoch of
    /// which a part is missing must not count.
    begun: AtomicBool,
    begin: Lsn,
    failure: OnceLock<String>,
    pub(crate) meters: Arc<Meters>,
    /// Bytes of batches that were written.
    written_bytes: AtomicU64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

struct State {
    /// Closed ones and, at the end, the open one.
    batches: VecDeque<Batch>,
    open: bool,
    segment: u32,
    /// Where the next batch begins, and where the segment ends.
    offset: u32,
    limit: u32,
    batch: u64,
    previous: Lsn,
    waiters: Vec<(Lsn, Arc<Mailbox>)>,
    then: VecDeque<(Lsn, Then)>,
    large: VecDeque<Large>,
    buffers: Vec<Vec<u8>>,
    urgent: bool,
    sleeping: bool,
    /// Segments that get no more batches and have not been handed to [`Log::take_sealed`]: number and end.
    sealed: Vec<(u32, u32)>,
    /// Bytes of messages that came in.
    messages_in: u64,
    /// Scratch space for metas.
    meta: Vec<u8>,
}

struct Batch {
    head: BatchHead,
    /// Begins with room for the header.
    bytes: Vec<u8>,
}

/// A unit with large bodies, on its way.
struct Large {
    unit: Unit,
    /// The segment that its pieces are in; they begin anew in another one.
    segment: u32,
    /// Pieces of each part that is large.
    pieces: Vec<Vec<Piece>>,
    /// The part that is being written, and how much of it is.
    part: usize,
    at: usize,
    restarts: u32,
}

struct Writer {
    /// Taken and not written yet: the disk was full.
    batches: VecDeque<Batch>,
    current: Option<(u32, Arc<dyn DiskFile>)>,
    /// Its file was not there before: each sync has to write the file system's own data as well.
    is_new: bool,
    /// Written and not synced.
    dirty: bool,
    /// What the last header said of durability.
    said: Lsn,
    /// The end of the last batch with a record in it.
    records: Lsn,
}

/// Where a log begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) epoch: u32,
    /// Number of the next batch.
    pub(crate) batch: u64,
    pub(crate) previous: Lsn,
    pub(crate) durable: Lsn,
}

/// What a round of writing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// There was nothing to write.
    Idle,
    Wrote,
    /// The disk is full.
    Full,
    Failed,
}

impl Log {
    /// A log whose first segment is a new one.
    pub(crate) fn new(id: LogId, sync: Sync, segment_size: u32, files: Arc<Files>, begin: Begin) -> Log {
        let segment = files.next_number();
        let state = State {
            batches: VecDeque::new(),
            open: false,
            segment,
            offset: 0,
            limit: segment_size,
            batch: begin.batch,
            previous: begin.previous,
            waiters: Vec::new(),
            then: VecDeque::new(),
            large: VecDeque::new(),
            buffers: Vec::new(),
            urgent: false,
            sleeping: false,
            sealed: Vec::new(),
            messages_in: 0,
            meta: Vec::new(),
        };
        Log {
            id,
            epoch: begin.epoch,
            sync,
            segment_size,
            files,
            state: Mutex::new(state),
            work: Condvar::new(),
            writer: Mutex::new(Writer {
                batches: VecDeque::new(),
                current: None,
                is_new: false,
                dirty: false,
                said: 0,
                records: 0,
            }),
            written: AtomicU64::new(begin.durable),
            durable: AtomicU64::new(begin.durable),
            released: AtomicU64::new(begin.durable),
            pending: AtomicU64::new(0),
            pending_large: AtomicU64::new(0),
            full: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            begin: begin.durable,
            failure: OnceLock::new(),
            meters: Arc::default(),
            written_bytes: AtomicU64::new(0),
        }
    }

    /// Everything below this LSN is written and can be read.
    pub(crate) fn written(&self) -> Lsn {
        self.written.load(Ordering::Acquire)
    }

    /// Everything below this LSN is synced.
    pub(crate) fn durable(&self) -> Lsn {
        self.durable.load(Ordering::Acquire)
    }

    /// Everything below this LSN may be confirmed, and what was to be done then is done.
    pub(crate) fn released(&self) -> Lsn {
        self.released.load(Ordering::Acquire)
    }

    /// Whether a record may be confirmed.
    pub(crate) fn is_released(&self, lsn: Lsn) -> bool {
        lsn < self.released.load(Ordering::Acquire)
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// The same, of units with large bodies only.
    pub(crate) fn pending_large(&self) -> u64 {
        self.pending_large.load(Ordering::Relaxed)
    }

    fn add_large(&self, bytes: usize) {
        self.pending.fetch_add(bytes as u64, Ordering::Relaxed);
        self.pending_large.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn remove_large(&self, bytes: usize) {
        self.pending.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.pending_large.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of messages that came in since the start.
    pub(crate) fn messages_in(&self) -> u64 {
        self.state.lock().messages_in
    }

    /// Bytes that were written since the start.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// The disk was full at the last attempt to write.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Why nothing is written any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Where the next record will be, at least.
    pub(crate) fn end(&self) -> Lsn {
        let state = self.state.lock();
        lsn(state.segment, state.offset + state.filled() as u32)
    }

    /// What was found at the start is written and synced: from now on the log says what is durable.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Appends messages for some queues. `crc` is that of the body, computed before any lock was taken.
    pub(crate) fn enqueue(&self, count: u32, body: &[u8], crc: u32, targets: &[Target]) -> Place {
        self.append(|meta| {
            Enqueue::encode(count, targets, meta);
            (ENQUEUE, body, crc)
        })
    }

    /// As [`Log::enqueue`], with what else is to be known of the messages: all or nothing.
    pub(crate) fn enqueue_with(
        &self,
        count: u32,
        body: &[u8],
        crc: u32,
        targets: &[Target],
        beside: Beside<'_>,
    ) -> Place {
        let Beside { times, seen } = beside;
        if times.is_empty() && seen.is_empty() {
            return self.enqueue(count, body, crc, targets);
        }
        let (mut enqueued, mut timed) = (Vec::new(), Vec::new());
        Enqueue::encode(count, targets, &mut enqueued);
        times::encode(times, &mut timed);
        let mut state = self.state.lock();
        if self.failure.get().is_some() {
            return NOWHERE;
        }
        state.reserve(3 * RECORD_HEAD + enqueued.len() + body.len() + timed.len() + seen.len(), self);
        let place = state.push(self, ENQUEUE, MORE, &enqueued, body, crc);
        let none = self.id.crc(&[]);
        if !timed.is_empty() {
            state.push(self, TIMES, if seen.is_empty() { 0 } else { MORE }, &timed, &[], none);
        }
        if !seen.is_empty() {
            state.push(self, SEEN, 0, seen, &[], none);
        }
        place
    }

    /// Appends what is to happen to messages at times.
    pub(crate) fn times(&self, times: &[Time]) -> Lsn {
        let place = self.append(|meta| {
            times::encode(times, meta);
            (TIMES, &[], self.id.crc(&[]))
        });
        place.lsn
    }

    /// Appends what was seen, as the meta of a record.
    pub(crate) fn seen(&self, seen: &[u8]) -> Lsn {
        self.copy(SEEN, seen, &[]).lsn
    }

    /// Appends that messages are done.
    pub(crate) fn done(&self, stretches: &[Stretch]) -> Lsn {
        self.stretches(DONE, stretches)
    }

    /// Appends that messages were requeued.
    pub(crate) fn requeued(&self, stretches: &[Stretch]) -> Lsn {
        self.stretches(REQUEUED, stretches)
    }

    fn stretches(&self, kind: u8, stretches: &[Stretch]) -> Lsn {
        #[cfg(feature = "mutants")]
        if kind == DONE && crate::mutants::is_on(crate::mutants::Mutant::NoAckRecord) {
            return 0;
        }
        let place = self.append(|meta| {
            record::encode_stretches(stretches, meta);
            (kind, &[], self.id.crc(&[]))
        });
        place.lsn
    }

    /// Appends that messages below a position may have been handed out.
    pub(crate) fn delivered(&self, queue: QueueId, upto: u64) {
        self.append(|meta| {
            record::encode_delivered(queue, upto, meta);
            (DELIVERED, &[], self.id.crc(&[]))
        });
    }

    /// Appends a change of topology.
    pub(crate) fn change(&self, change: &Change<'_>) -> Lsn {
        self.append(|meta| (change.encode(meta), &[], self.id.crc(&[]))).lsn
    }

    /// Appends a record as it was read elsewhere.
    pub(crate) fn copy(&self, kind: u8, meta: &[u8], body: &[u8]) -> Place {
        self.append(|out| {
            out.extend_from_slice(meta);
            (kind, body, self.id.crc(body))
        })
    }

    fn append<'b>(&self, record: impl FnOnce(&mut Vec<u8>) -> (u8, &'b [u8], u32)) -> Place {
        let mut state = self.state.lock();
        let mut meta = std::mem::take(&mut state.meta);
        let (kind, body, crc) = record(&mut meta);
        let place = match self.failure.get() {
            Some(_) => NOWHERE,
            None => {
                state.reserve(RECORD_HEAD + meta.len() + body.len(), self);
                state.push(self, kind, 0, &meta, body, crc)
            }
        };
        meta.clear();
        state.meta = meta;
        place
    }

    /// Appends records that take effect together; large bodies on the way before them.
    pub(crate) fn unit(&self, unit: Unit) {
        if self.failure.get().is_some() {
            return;
        }
        let mut state = self.state.lock();
        let is_large = |part: &Part| matches!(part, Part::Enqueue { block, .. } if block.len() >= LARGE_MIN);
        // What was seen must be in the log before the next message is looked up: then all goes there at once.
        let at_once = unit.parts.iter().any(|part| matches!(part, Part::Seen(_)));
        if !at_once && unit.parts.iter().any(is_large) {
            let large = Large { pieces: Vec::new(), segment: 0, part: 0, at: 0, restarts: 0, unit };
            self.add_large(large.bytes());
            state.large.push_back(large);
        } else {
            state.reserve(unit.parts.iter().map(part_bytes).sum(), self);
            state.finish(self, unit, &[]);
        }
        self.hurry(state);
    }

    /// Asks for [`Event::Durable`] when a record may be confirmed; false if it may already. Wakes the writer.
    pub(crate) fn wait(&self, lsn: Lsn, mailbox: &Arc<Mailbox>) -> bool {
        if self.is_released(lsn) {
            return false;
        }
        let mut state = self.state.lock();
        // Once more: who released it in between has looked for waiters already.
        if self.is_released(lsn) {
            return false;
        }
        state.waiters.push((lsn, mailbox.clone()));
        self.hurry(state);
        true
    }

    /// Writes and syncs on this thread what is pending, if that is little and nobody else does or waits for it; true if
    /// so. That spares whoever waits for the log two changes of threads. `blocking` calls what it is given, which
    /// blocks as long as the disk does.
    pub(crate) fn lead(&self, blocking: impl FnOnce(&mut dyn FnMut())) -> bool {
        if self.sync != Sync::Always || self.pending() > LEAD_MAX || self.is_full() {
            return false;
        }
        let Some(writer) = self.writer.try_lock() else { return false };
        {
            let state = self.state.lock();
            if !state.waiters.is_empty() || !state.large.is_empty() || state.urgent {
                return false;
            }
        }
        let (mut writer, mut round) = (Some(writer), Round::Idle);
        blocking(&mut || {
            if let Some(writer) = writer.take() {
                round = self.write_with(writer, true);
            }
        });
        round == Round::Wrote
    }

    /// Wakes the writer: somebody waits for what was appended.
    pub(crate) fn kick(&self) {
        self.hurry(self.state.lock());
    }

    fn hurry(&self, mut state: MutexGuard<'_, State>) {
        state.urgent = true;
        if std::mem::take(&mut state.sleeping) {
            drop(state);
            self.work.notify_one();
        }
    }

    /// Sleeps until somebody waits for the log, or for `patience` at most.
    pub(crate) fn await_work(&self, patience: Duration) {
        let mut state = self.state.lock();
        if !state.urgent && state.large.is_empty() {
            state.sleeping = true;
            self.work.wait_for(&mut state, patience);
            state.sleeping = false;
        }
        state.urgent = false;
    }

    /// Segments that will get no more batches: number and end. Each is told once.
    pub(crate) fn take_sealed(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.state.lock().sealed)
    }

    /// Writes what is pending, and with `sync` makes it durable. Then tells everybody who waited.
    pub(crate) fn write(&self, sync: bool) -> Round {
        self.write_with(self.writer.lock(), sync)
    }

    fn write_with(&self, mut writer: MutexGuard<'_, Writer>, sync: bool) -> Round {
        if self.failure.get().is_some() {
            return Round::Failed;
        }
        {
            let mut state = self.state.lock();
            // A prepared file is worth the rest of one that is not.
            let begun = writer.is_new && writer.current.as_ref().is_some_and(|(number, _)| *number == state.segment);
            if begun && self.files.has_spare() {
                state.limit = 0;
            }
            state.feed_large(self);
            state.close();
            writer.batches.append(&mut state.batches);
        }
        if writer.batches.is_empty() && !(sync && writer.dirty) {
            return Round::Idle;
        }
        match self.write_batches(&mut writer, sync) {
            Ok(()) => {
                self.full.store(false, Ordering::Relaxed);
                self.release(if sync || self.sync == Sync::Always { self.durable() } else { self.written() });
                Round::Wrote
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.full.store(true, Ordering::Relaxed);
                Round::Full
            }
            Err(error) => {
                self.fail(&error);
                Round::Failed
            }
        }
    }

    /// Writes a header that says how much is durable, if none does yet: damage below it can then be told from a torn
    /// tail.
    pub(crate) fn write_watermark(&self, sync: bool) -> Round {
        {
            let writer = self.writer.lock();
            if writer.said >= writer.records || self.durable() < writer.records {
                return Round::Idle;
            }
        }
        self.force_watermark(sync)
    }

    /// Writes an empty batch, whose header says how much is durable.
    pub(crate) fn force_watermark(&self, sync: bool) -> Round {
        {
            let mut state = self.state.lock();
            state.reserve(RECORD_HEAD, self);
            state.ensure_open(self);
        }
        self.write(sync)
    }

    fn write_batches(&self, writer: &mut Writer, sync: bool) -> io::Result<()> {
        while let Some(batch) = writer.batches.front_mut() {
            let segment = batch.head.segment;
            if writer.current.as_ref().is_none_or(|(current, _)| *current != segment) {
                // What is in the next segment must never be durable without this one.
                if let Some((_, file)) = &writer.current
                    && writer.dirty
                {
                    self.meters.sync(|| sync_file(file.as_ref()))?;
                    writer.dirty = false;
                    self.durable.store(self.written(), Ordering::Release);
                }
                let (file, is_new) = self.files.begin_segment(segment)?;
                (writer.current, writer.is_new) = (Some((segment, file)), is_new);
            }
            let Some((_, file)) = &writer.current else { unreachable!("set above") };
            batch.head.durable = if self.begun.load(Ordering::Relaxed) { self.durable() } else { self.begin };
            batch.bytes[..BATCH_HEAD].copy_from_slice(&batch.head.encode(self.id));
            batch.bytes.resize((batch.bytes.len()).next_multiple_of(ALIGN as usize), 0);
            file.write(u64::from(batch.head.offset), &batch.bytes)?;
            self.written_bytes.fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
            writer.dirty = true;
            writer.said = batch.head.durable;
            if batch.head.length as usize > BATCH_HEAD {
                writer.records = lsn(segment, batch.head.end());
            }
            self.written.store(lsn(segment, batch.head.end()), Ordering::Release);
            self.pending.fetch_sub(u64::from(batch.head.length), Ordering::Relaxed);
            let Some(batch) = writer.batches.pop_front() else { unreachable!("looked at above") };
            self.state.lock().recycle(batch.bytes);
        }
        if sync && writer.dirty {
            if let Some((_, file)) = &writer.current {
                self.meters.sync(|| sync_file(file.as_ref()))?;
            }
            writer.dirty = false;
            self.durable.store(self.written(), Ordering::Release);
        }
        Ok(())
    }

    /// Everything below `lsn` may be confirmed.
    fn release(&self, lsn: Lsn) {
        let durable = self.sync == Sync::Always;
        let mut then = Vec::new();
        let mut state = self.state.lock();
        while state.then.front().is_some_and(|(at, _)| *at < lsn) {
            then.extend(state.then.pop_front());
        }
        drop(state);
        // Before anybody is told: who is told of a commit may look at its effects.
        then.into_iter().for_each(|(_, call)| call());
        debug_assert!(!durable || lsn <= self.durable());
        self.released.fetch_max(lsn, Ordering::AcqRel);
        let mut told = Vec::new();
        self.state.lock().waiters.retain(|(at, mailbox)| {
            let waits = *at >= lsn;
            if !waits {
                told.push(mailbox.clone());
            }
            waits
        });
        told.into_iter().for_each(|mailbox| mailbox.post(Event::Durable));
    }

    fn fail(&self, error: &io::Error) {
        let text = format!("the log cannot be written: {error}; nothing is confirmed any more, restart to recover");
        let _ = self.failure.set(text);
        let mut state = self.state.lock();
        state.then.clear();
        state.large.clear();
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.into_iter().for_each(|(_, mailbox)| mailbox.post(Event::Durable));
    }
}

/// The place of what is appended after a failure: never durable.
const NOWHERE: Place = Place { lsn: Lsn::MAX, length: 0 };

pub(crate) fn sync_file(file: &dyn DiskFile) -> io::Result<()> {
    #[cfg(feature = "mutants")]
    if crate::mutants::is_on(crate::mutants::Mutant::NoFsync) {
        return Ok(());
    }
    file.sync()
}

fn part_bytes(part: &Part) -> usize {
    match part {
        Part::Enqueue { block, targets, .. } => RECORD_HEAD + 16 + targets.len() * 16 + block.len(),
        Part::Done(stretches) => RECORD_HEAD + stretches.len() * 24,
        Part::Times(times) => RECORD_HEAD + times.len() * times::ITEM_MAX,
        Part::Seen(seen) => RECORD_HEAD + seen.len(),
    }
}

/// So many bytes may be needed for so many bytes of records, with batch headers and padding.
fn with_padding(bytes: usize) -> usize {
    bytes + (bytes / BATCH_MAX + 2) * (ALIGN as usize + BATCH_HEAD)
}

impl State {
    /// Makes sure that so many bytes of records fit into the segment, or begins another one.
    fn reserve(&mut self, bytes: usize, log: &Log) {
        if !self.fits(bytes) {
            self.roll(bytes, log);
        }
    }

    /// Begins a segment that has room for so many bytes of records at least.
    fn roll(&mut self, bytes: usize, log: &Log) {
        self.close();
        if self.offset > 0 {
            self.sealed.push((self.segment, self.offset));
            self.segment = log.files.next_number();
            self.offset = 0;
        }
        self.limit = log.segment_size.max(with_padding(bytes).next_multiple_of(ALIGN as usize) as u32);
    }

    /// Bytes of the open batch.
    fn filled(&self) -> usize {
        if self.open { self.batches.back().map_or(0, |batch| batch.bytes.len()) } else { 0 }
    }

    fn ensure_open(&mut self, log: &Log) {
        if self.open && self.batches.back().is_some_and(|batch| batch.bytes.len() >= BATCH_MAX) {
            self.close();
        }
        if self.open {
            return;
        }
        let mut bytes = self.buffers.pop().unwrap_or_default();
        bytes.resize(BATCH_HEAD, 0);
        let head = BatchHead {
            epoch: log.epoch,
            segment: self.segment,
            offset: self.offset,
            length: 0,
            number: self.batch,
            previous: self.previous,
            durable: 0,
        };
        self.batch += 1;
        self.previous = head.lsn();
        self.batches.push_back(Batch { head, bytes });
        self.open = true;
        log.pending.fetch_add(BATCH_HEAD as u64, Ordering::Relaxed);
    }

    /// Closes the open batch; the next one begins behind it.
    fn close(&mut self) {
        if let Some(batch) = self.batches.back_mut().filter(|_| self.open) {
            batch.head.length = batch.bytes.len() as u32;
            self.offset = batch.head.end();
            self.open = false;
        }
    }

    fn push(&mut self, log: &Log, kind: u8, flags: u8, meta: &[u8], body: &[u8], crc: u32) -> Place {
        self.ensure_open(log);
        let Some(batch) = self.batches.back_mut() else { unreachable!("opened above") };
        let lsn = lsn(self.segment, self.offset + batch.bytes.len() as u32);
        let record = RawRecord { kind, flags, epoch: log.epoch, lsn, meta, body };
        let length = record.len();
        if matches!(kind, ENQUEUE | CHUNK) {
            self.messages_in += body.len() as u64;
        }
        record.encode(log.id, crc, &mut batch.bytes);
        log.pending.fetch_add(length as u64, Ordering::Relaxed);
        Place { lsn, length: length as u32 }
    }

    /// Appends the records of a unit; `pieces` has an entry for each part whose body is in the log already.
    fn finish(&mut self, log: &Log, unit: Unit, pieces: &[Vec<Piece>]) {
        let (last, mut end) = (unit.parts.len().saturating_sub(1), 0);
        for (index, part) in unit.parts.iter().enumerate() {
            let flags = if index < last { MORE } else { 0 };
            end = self.push_part(log, part, flags, pieces.get(index).map_or(&[][..], Vec::as_slice)).lsn;
        }
        unit.ticket.0.store(end, Ordering::Release);
        if let Some(call) = unit.then {
            self.then.push_back((end, call));
        }
        self.waiters.push((end, unit.mailbox));
        self.urgent = true;
    }

    fn push_part(&mut self, log: &Log, part: &Part, flags: u8, pieces: &[Piece]) -> Place {
        let (mut meta, none) = (Vec::new(), log.id.crc(&[]));
        match part {
            Part::Enqueue { block, targets, place } => {
                let at = if pieces.is_empty() {
                    Enqueue::encode(block.count(), targets, &mut meta);
                    self.push(log, ENQUEUE, flags, &meta, block.bytes(), log.id.crc(block.bytes()))
                } else {
                    Enqueue::encode_large(block.count(), targets, pieces, &mut meta);
                    self.push(log, LARGE, flags, &meta, &[], none)
                };
                place.set(at).expect("a unit is appended once");
                at
            }
            Part::Done(stretches) => {
                record::encode_stretches(stretches, &mut meta);
                self.push(log, DONE, flags, &meta, &[], none)
            }
            Part::Times(times) => {
                times::encode(times, &mut meta);
                self.push(log, TIMES, flags, &meta, &[], none)
            }
            Part::Seen(seen) => self.push(log, SEEN, flags, seen, &[], none),
        }
    }

    /// Appends pieces of large bodies, and the units that they complete.
    fn feed_large(&mut self, log: &Log) {
        let mut budget = PIECES_PER_ROUND;
        while budget > 0 {
            let Some(mut large) = self.large.pop_front() else { return };
            if large.segment != self.segment || !self.fits(PIECE + RECORD_HEAD + large.rest()) {
                self.restart(log, &mut large);
            }
            budget -= 1;
            if self.feed_piece(log, &mut large) || !self.fits(large.rest()) {
                self.large.push_front(large);
                continue;
            }
            log.remove_large(large.bytes());
            self.finish(log, large.unit, &large.pieces);
        }
    }

    /// Begins a unit's pieces anew: they belong into one segment, and it has not begun or that segment has ended.
    fn restart(&mut self, log: &Log, large: &mut Large) {
        let bytes = large.bytes() + large.bytes() / PIECE * RECORD_HEAD;
        // With room for what others append in between; with more of it each time.
        let needed = with_padding(bytes) + (bytes << large.restarts.min(6)) / 4;
        if !self.fits(needed) {
            self.roll(needed, log);
        }
        (large.part, large.at, large.segment) = (0, 0, self.segment);
        large.restarts += 1;
        large.pieces.clear();
    }

    fn fits(&self, bytes: usize) -> bool {
        self.offset as usize + self.filled() + with_padding(bytes) <= self.limit as usize
    }

    /// Appends the next piece of a unit; false if all are there.
    fn feed_piece(&mut self, log: &Log, large: &mut Large) -> bool {
        while let Some(part) = large.unit.parts.get(large.part) {
            large.pieces.resize(large.part + 1, Vec::new());
            if let Part::Enqueue { block, .. } = part
                && block.len() >= LARGE_MIN
                && large.at < block.len()
            {
                let piece = &block.bytes()[large.at..block.len().min(large.at + PIECE)];
                let place = self.push(log, CHUNK, 0, &[], piece, log.id.crc(piece));
                large.pieces[large.part].push(Piece { offset: place.lsn as u32, length: piece.len() as u32 });
                large.at += piece.len();
                return true;
            }
            large.part += 1;
            large.at = 0;
        }
        false
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < SPARE_BUFFERS && buffer.capacity() <= 2 * BATCH_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

impl Large {
    /// Bytes of all records, pieces included.
    fn bytes(&self) -> usize {
        self.unit.parts.iter().map(part_bytes).sum()
    }

    /// Bytes of the records behind the pieces.
    fn rest(&self) -> usize {
        let rest = |part: &Part| match part {
            Part::Enqueue { block, targets, .. } if block.len() >= LARGE_MIN => {
                RECORD_HEAD + 16 + targets.len() * 16 + block.len().div_ceil(PIECE) * 8
            }
            part => part_bytes(part),
        };
        self.unit.parts.iter().map(rest).sum()
    }
}
