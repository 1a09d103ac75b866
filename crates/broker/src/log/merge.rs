//! Merging: what still lives in several files moves to a new one, sorted by queue and position (docs/format.md).
//!
//! The sources' indexes are read side by side in that order, so a queue's messages come together whatever file they were
//! in. Memory is some buffers per merge and per source; only a record that several queues share is remembered, until the
//! last of them was met.

mod batch;
mod order;
mod output;
mod reading;

use super::format::LogId;
use super::index::{self, Entry, Index, Span};
use super::record::{QueueId, Target};
use crate::disk::{Disk, DiskFile};
use batch::{Batch, Fetched};
use order::Order;
use output::{Open, Output};
use reading::{Body, Reader, Record, Run, Stretch, copy, warm};
use rustc_hash::FxHashMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Neighbouring messages of a queue are joined in records of at most this many bytes; one message may exceed it.
const JOINED: u64 = 64 * 1024;

/// Dead bytes between living messages that are kept rather than making two records of one: what a record's header,
/// meta and entry cost, and then some.
const GAP: u64 = 256;

/// What each target of a second record costs: in its meta, and in the index.
const GAP_PER_TARGET: u64 = 48;

/// So many shared records are remembered whatever their size: some megabytes. Beyond, those with bodies of at most
/// `COPIED` bytes are copied for each queue: that is at most ten times what sharing costs.
const SHARED: usize = 64 * 1024;
const COPIED: u64 = 512;

/// A file whose living messages move.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its number: that in its records' addresses.
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) index: Index,
    /// All spans of the index.
    pub(crate) spans: Vec<Span>,
}

/// A file that was made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Its length.
    pub(crate) bytes: u64,
    /// What it has of each queue.
    pub(crate) spans: Vec<Span>,
}

/// Asked for a queue, a position and a count, appends the runs (position, count) of those of these messages that still
/// live, in order. A message that does not live once must not live later.
pub(crate) type Live<'a> = dyn FnMut(QueueId, u64, u64, &mut Vec<(u64, u64)>) + 'a;

/// Why a merge did not happen. Nothing is left of it but, if the disk doesn't let them be removed, files that do not
/// count.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// Reading or writing failed, or an index does not check (`InvalidData`).
    Io { what: String, source: io::Error },
    /// A record with living messages does not check.
    Damaged {
        /// The file.
        number: u32,
        /// Where in it, and how long, what does not check is.
        offset: u64,
        length: u64,
        /// What it was read for; other queues may share it.
        entry: Entry,
    },
    /// What lives is more than a file can have.
    TooLong { number: u32 },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::Io { what, source } => write!(f, "cannot {what}: {source}"),
            MergeError::Damaged { number, offset, length, entry } => {
                let Entry { queue, position, .. } = entry;
                write!(f, "{length} bytes at {offset} of file {number:08x} do not check: ")?;
                write!(f, "queue {queue} has {} messages there, from {position} on", entry.count)
            }
            MergeError::TooLong { number } => {
                write!(f, "{} would be longer than 4 GiB; merge fewer files at once", name(*number))
            }
        }
    }
}

impl std::error::Error for MergeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MergeError::Io { source, .. } => Some(source),
            MergeError::Damaged { .. } | MergeError::TooLong { .. } => None,
        }
    }
}

/// The name of a merged file.
pub(crate) fn name(number: u32) -> String {
    format!("{number:08x}.merged")
}

/// Writes what lives in `sources` to a new merged file with its index, and syncs both; not the directory. `None` if
/// nothing lives; then no file is left.
///
/// A record that several queues share is written once, for those of them that have living messages in it. An entry
/// begins and ends with a living message; dead ones may be between, if they are few. A file or index of this number was
/// left by a crash before it counted, and is removed.
///
/// # Errors
/// [`MergeError`]; no file is left, if the disk lets them be removed.
pub(crate) fn merge(
    disk: &dyn Disk,
    log: LogId,
    epoch: u32,
    sources: &[Source],
    number: u32,
    live: &mut Live<'_>,
) -> Result<Option<Merged>, MergeError> {
    let merged = run(disk, log, epoch, sources, number, live);
    if !matches!(merged, Ok(Some(_))) {
        let _ = disk.remove(&name(number));
        let _ = disk.remove(&index::name(number));
    }
    merged
}

fn run(
    disk: &dyn Disk,
    log: LogId,
    epoch: u32,
    sources: &[Source],
    number: u32,
    live: &mut Live<'_>,
) -> Result<Option<Merged>, MergeError> {
    let what = format!("write {}", index::name(number));
    let index = index::Writer::create(disk, log, number).map_err(failed(&what))?;
    let out = Output::create(disk, log, epoch, number)?;
    let mut reader = Reader::new(log, sources);
    let mut placing = Placing { live, out, index, what, joined: None, shared: FxHashMap::default() };
    let mut order = Order::new(sources)?;
    warm(sources);
    let (mut batch, mut scratch) = (Batch::default(), Scratch::default());
    loop {
        order.fill(&mut batch, &mut placing)?;
        if batch.is_empty() {
            break;
        }
        batch.fetch(sources)?;
        for fetched in batch.entries() {
            placing.take(&mut reader, &fetched, &mut scratch)?;
        }
        batch.clear();
    }
    placing.close_joined()?;
    let bytes = placing.out.finish()?;
    if bytes == 0 {
        return Ok(None);
    }
    let spans = placing.index.finish().map_err(failed(&placing.what))?;
    Ok(Some(Merged { bytes, spans }))
}

/// Says what an error of the disk hindered.
fn failed(what: &str) -> impl FnOnce(io::Error) -> MergeError + '_ {
    move |source| MergeError::Io { what: what.to_string(), source }
}

/// Lists that are filled and emptied for each entry.
#[derive(Default)]
struct Scratch {
    /// Living messages of the entry, by position, as they are now.
    runs: Vec<(u64, u64)>,
    /// Of all targets, by place in the record.
    lives: Vec<Run>,
    stretches: Vec<Stretch>,
}

/// The new file, and where everything goes in it.
struct Placing<'a, 'l> {
    live: &'a mut Live<'l>,
    out: Output,
    index: index::Writer,
    /// What an error of the index hindered.
    what: String,
    joined: Option<Joined>,
    /// Records with other targets to come, by source and offset.
    shared: FxHashMap<(u32, u32), Shared>,
}

/// A record that is being put together from neighbouring messages of a queue.
struct Joined {
    target: Target,
    count: u32,
    open: Open,
}

/// What became of a record that several queues share.
struct Shared {
    /// Messages in the old record.
    count: u32,
    /// The highest queue that has living messages in it.
    last: QueueId,
    parts: Parts,
}

enum Parts {
    One(Part),
    More(Box<[Part]>),
}

/// A new record, with some of an old one's messages.
#[derive(Clone, Copy)]
struct Part {
    run: Run,
    offset: u32,
    length: u32,
}

/// A target of a shared record, and where its living messages are in the list of all.
struct Sharer {
    target: Target,
    at: usize,
    end: usize,
}

impl Placing<'_, '_> {
    /// Whether nothing has to be read for this entry.
    fn knows(&self, source: u32, entry: &Entry) -> bool {
        !self.shared.is_empty()
            && self.shared.get(&(source, entry.offset)).is_some_and(|shared| shared.count == entry.count)
    }

    /// Moves messages of an entry, unless another target of its record was met before: then it refers to what was
    /// written.
    fn take(
        &mut self,
        reader: &mut Reader<'_>,
        fetched: &Fetched<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), MergeError> {
        let Fetched { source, entry, runs, .. } = *fetched;
        let key = (source, entry.offset);
        let shared = if self.shared.is_empty() { None } else { self.shared.remove(&key) };
        let Some(shared) = shared else {
            let record = reader.record(fetched)?;
            return self.place(&record, key, entry, runs, scratch);
        };
        let base = match shared.count == entry.count {
            true => entry.position,
            false => reader.record(fetched)?.target.position,
        };
        // What was written is what lived then: some may have died since they were asked for.
        scratch.runs.clear();
        for (position, count) in runs {
            self.ask(entry.queue, *position, *count, &mut scratch.runs)?;
        }
        self.refer(&shared, base, entry.queue, &scratch.runs)?;
        if entry.queue < shared.last || entry.count < shared.count {
            self.shared.insert(key, shared);
        }
        Ok(())
    }

    /// Appends what lives of some messages: runs in order and without overlaps.
    fn ask(&mut self, queue: QueueId, position: u64, count: u64, out: &mut Vec<(u64, u64)>) -> Result<(), MergeError> {
        if count == 0 {
            return Ok(());
        }
        let begin = out.len();
        (self.live)(queue, position, count, out);
        let (mut from, end) = (position, position + count);
        for &(first, count) in &out[begin..] {
            if first < from || count == 0 || count > end.saturating_sub(first) {
                return Err(contradiction(queue, first, "is not what was asked for"));
            }
            from = first + count;
        }
        Ok(())
    }

    /// Writes what lives of a record, for its target that is met first and for those to come.
    fn place(
        &mut self,
        record: &Record<'_>,
        key: (u32, u32),
        entry: Entry,
        runs: &[(u64, u64)],
        scratch: &mut Scratch,
    ) -> Result<(), MergeError> {
        let Scratch { lives, stretches, .. } = scratch;
        lives.clear();
        let sharers = self.sharers(record, entry, runs, lives)?;
        let base = record.target.position;
        if sharers.is_empty() || self.shared.len() >= SHARED && record.body_len() <= COPIED {
            lives.clear();
            lives.extend(runs.iter().map(|run| Run::of(base, *run)));
            record.stretches(lives, GAP, stretches)?;
            return self.alone(record, stretches);
        }
        let mut all = lives.clone();
        all.sort_unstable_by_key(|run| run.from);
        all.dedup_by(|run, before| {
            let joins = run.from <= before.to;
            before.to = if joins { before.to.max(run.to) } else { before.to };
            joins
        });
        record.stretches(&all, GAP.max(GAP_PER_TARGET * sharers.len() as u64), stretches)?;
        let last = sharers.iter().map(|sharer| sharer.target.queue).max().unwrap_or_default();
        let parts = self.share(record, sharers, lives, stretches)?;
        let shared = Shared { count: record.count, last, parts };
        self.refer(&shared, base, entry.queue, runs)?;
        self.shared.insert(key, shared);
        Ok(())
    }

    /// The targets with living messages, by queue and position, if there are others than the one that was met; their
    /// living messages are appended to `lives`. Lower queues were met before.
    fn sharers(
        &mut self,
        record: &Record<'_>,
        entry: Entry,
        runs: &[(u64, u64)],
        lives: &mut Vec<Run>,
    ) -> Result<Vec<Sharer>, MergeError> {
        let mut sharers = Vec::new();
        let own = record.target;
        let mut found = Vec::new();
        for target in record.targets().filter(|it| (it.queue, it.position) > (own.queue, own.position)) {
            self.ask(target.queue, target.position, u64::from(record.count), &mut found)?;
            if !found.is_empty() {
                let at = lives.len();
                lives.extend(found.drain(..).map(|run| Run::of(target.position, run)));
                sharers.push(Sharer { target, at, end: lives.len() });
            }
        }
        if !sharers.is_empty() {
            let at = lives.len();
            lives.extend(runs.iter().map(|run| Run::of(own.position, *run)));
            // Another entry may cover the rest of it.
            let end = own.position + u64::from(record.count);
            self.ask(own.queue, entry.end(), end - entry.end(), &mut found)?;
            lives.extend(found.drain(..).map(|run| Run::of(own.position, run)));
            sharers.push(Sharer { target: own, at, end: lives.len() });
            sharers.sort_unstable_by_key(|sharer| (sharer.target.queue, sharer.target.position));
        }
        Ok(sharers)
    }

    /// Writes stretches of a record for one queue.
    fn alone(&mut self, record: &Record<'_>, stretches: &[Stretch]) -> Result<(), MergeError> {
        let Target { queue, position } = record.target;
        let target = |run: Run| Target { queue, position: position + u64::from(run.from) };
        match &record.body {
            Body::Here(body) => {
                for Stretch { run, begin, end } in stretches {
                    self.join(target(*run), run.count(), &body[*begin as usize..*end as usize])?;
                }
            }
            Body::Apart(_) => {
                self.close_joined()?;
                let targets: Vec<_> = stretches.iter().map(|it| vec![target(it.run)]).collect();
                let mut parts = Vec::new();
                self.copy(record, stretches, &targets, &mut parts)?;
                for Part { run, offset, length } in parts {
                    let Target { queue, position } = target(run);
                    self.push(Entry { queue, position, count: run.count(), offset, length, bytes: length })?;
                }
            }
        }
        Ok(())
    }

    /// Appends messages of a queue to the record that is being put together, or begins another.
    fn join(&mut self, target: Target, count: u32, bytes: &[u8]) -> Result<(), MergeError> {
        let fits = |joined: &Joined| {
            joined.target.queue == target.queue
                && joined.target.position + u64::from(joined.count) == target.position
                && joined.open.body_len() + bytes.len() as u64 <= JOINED
        };
        if !self.joined.as_ref().is_some_and(fits) {
            self.close_joined()?;
            self.joined = Some(Joined { target, count: 0, open: self.out.begin(1)? });
        }
        if let Some(joined) = &mut self.joined {
            joined.count += count;
            self.out.body(&mut joined.open, bytes)?;
        }
        Ok(())
    }

    fn close_joined(&mut self) -> Result<(), MergeError> {
        let Some(Joined { target, count, open }) = self.joined.take() else { return Ok(()) };
        let (offset, length) = self.out.end(open, count, &[target])?;
        let Target { queue, position } = target;
        self.index.push(Entry { queue, position, count, offset, length, bytes: length }).map_err(failed(&self.what))
    }

    fn push(&mut self, entry: Entry) -> Result<(), MergeError> {
        self.close_joined()?;
        self.index.push(entry).map_err(failed(&self.what))
    }

    /// Writes stretches of a record, each for those that have living messages in it.
    fn share(
        &mut self,
        record: &Record<'_>,
        mut sharers: Vec<Sharer>,
        lives: &[Run],
        stretches: &[Stretch],
    ) -> Result<Parts, MergeError> {
        let mut targets = Vec::with_capacity(stretches.len());
        for Stretch { run, .. } in stretches {
            let mut in_it = Vec::new();
            for Sharer { target, at, end } in &mut sharers {
                *at += lives[*at..*end].iter().take_while(|live| live.to <= run.from).count();
                if lives[*at..*end].first().is_some_and(|live| live.from < run.to) {
                    in_it.push(Target { position: target.position + u64::from(run.from), ..*target });
                }
            }
            targets.push(in_it);
        }
        self.close_joined()?;
        let mut parts = Vec::with_capacity(stretches.len());
        match &record.body {
            Body::Here(body) => {
                for (Stretch { run, begin, end }, targets) in stretches.iter().zip(&targets) {
                    let mut open = self.out.begin(targets.len())?;
                    self.out.body(&mut open, &body[*begin as usize..*end as usize])?;
                    let (offset, length) = self.out.end(open, run.count(), targets)?;
                    parts.push(Part { run: *run, offset, length });
                }
            }
            Body::Apart(_) => self.copy(record, stretches, &targets, &mut parts)?,
        }
        Ok(if let [one] = parts[..] { Parts::One(one) } else { Parts::More(parts.into_boxed_slice()) })
    }

    /// Copies stretches of a body that is too long for memory, each to a record of its own.
    fn copy(
        &mut self,
        record: &Record<'_>,
        stretches: &[Stretch],
        targets: &[Vec<Target>],
        parts: &mut Vec<Part>,
    ) -> Result<(), MergeError> {
        let Body::Apart(pieces) = &record.body else { return Ok(()) };
        let mut open = None;
        copy(record, pieces, stretches, |at, bytes| {
            let (Stretch { run, begin, end }, targets) = (stretches[at], &targets[at]);
            let mut now = match open.take() {
                Some(open) => open,
                None => self.out.begin(targets.len())?,
            };
            self.out.body(&mut now, bytes)?;
            if now.body_len() < end - begin {
                open = Some(now);
                return Ok(());
            }
            let (offset, length) = self.out.end(now, run.count(), targets)?;
            parts.push(Part { run, offset, length });
            Ok(())
        })
    }

    /// Pushes entries for the living messages of a target: in each new record from the first to the last.
    fn refer(&mut self, shared: &Shared, base: u64, queue: QueueId, runs: &[(u64, u64)]) -> Result<(), MergeError> {
        let parts = match &shared.parts {
            Parts::One(part) => std::slice::from_ref(part),
            Parts::More(parts) => parts,
        };
        let mut runs = runs.iter().map(|run| Run::of(base, *run)).peekable();
        for Part { run: part, offset, length } in parts {
            let mut covered: Option<Run> = None;
            while let Some(run) = runs.next_if(|run| part.from <= run.from && run.to <= part.to) {
                covered = Some(Run { from: covered.map_or(run.from, |covered| covered.from), to: run.to });
            }
            if let Some(run) = covered {
                let position = base + u64::from(run.from);
                let (offset, length) = (*offset, *length);
                self.push(Entry { queue, position, count: run.count(), offset, length, bytes: length })?;
            }
        }
        match runs.next() {
            None => Ok(()),
            Some(run) => Err(contradiction(queue, base + u64::from(run.from), "did not live before, and lives now")),
        }
    }
}

/// What is said to live cannot. To go on could lose messages.
fn contradiction(queue: QueueId, position: u64, what: &str) -> MergeError {
    let text = format!("position {position} of queue {queue} {what}");
    failed("tell what lives")(io::Error::new(ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests;
