//! The part of a durable queue that is on disk: what is gone, what is where, and what the log is to be told.

use super::{CROWDED, Head, Queue, Segments};
use crate::log::{Entry, Lsn, Place, QueueId, QueueState, Span, Stretch};
use crate::message::{Account, Block};
use crate::overflow::Extent;
use crate::runs::{Counts, Runs};
use crate::segment::{Places, Segment};
use std::borrow::Cow;
use std::sync::Arc;

/// While all messages in memory are fewer bytes than this, none is freed only because it is on disk as well.
pub(crate) const RESIDENT: u64 = 4 * 1024 * 1024;

/// Loaded at a time, so that a backlog is read in larger pieces than a block.
const READ_AHEAD: usize = 256 * 1024;

/// The log is told of hand-outs in steps of so many positions. After a crash up to so many messages more than
/// necessary are flagged as redelivered.
const HANDED_OUT_STEP: u64 = 1024;

/// Positions that could not be read are remembered up to so many; then all are tried twice anew.
const UNREADABLE_MAX: usize = 1000;

/// Messages that an index found become segments of about this size.
const SEGMENT_BYTES: u32 = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Stored {
    id: QueueId,
    /// Positions whose messages are done.
    pub(super) gone: Runs,
    /// Positions whose messages were lost to damage; while there are any, the queue is closed.
    lost: Runs,
    /// Positions that were given out and whose messages cannot be seen yet.
    pub(super) hidden: Runs,
    /// Messages before the head that were not requeued: of an earlier run of the broker, or seen late.
    pub(super) restored: Runs,
    /// Of the restored ones, those below this position may have been handed out before.
    flagged: u64,
    /// The log says that positions below may have been handed out.
    handed_out: u64,
    /// Files that have messages of this queue.
    spans: Vec<FileSpan>,
    /// Segments before this position were released, or passed over.
    release_from: u64,
    /// Everything below is written.
    written: Lsn,
    journal: Journal,
}

/// What a file has of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileSpan {
    pub(crate) file: u32,
    pub(crate) span: Span,
}

/// What the log is to be told.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) done: Vec<Stretch>,
    pub(crate) requeued: Vec<Stretch>,
    pub(crate) handed_out: Option<u64>,
}

/// Messages that have to be read before they can be taken.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Segments whose places are known.
    Blocks(Vec<Wanted>),
    /// From this position on, in one of these files.
    Lookup { position: u64, spans: Vec<FileSpan> },
}

/// A segment that is to be loaded.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) places: Vec<(u32, Place)>,
    /// Where it is instead, if it is transient.
    pub(crate) overflow: Option<Extent>,
}

/// What a start found of a queue.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) next: u64,
    pub(crate) handed_out: u64,
    /// Positions of all messages.
    pub(crate) live: Runs,
    /// Positions whose messages were lost to damage.
    pub(crate) lost: Runs,
    /// Messages that wait for a time.
    pub(crate) waiting: Runs,
    /// Messages whose time came while they were handed out.
    pub(crate) overdue: Runs,
    pub(crate) returned: Counts,
    pub(crate) spans: Vec<FileSpan>,
    /// Messages whose records are in the log: position, count, place. Sorted by position.
    pub(crate) found: Vec<(u64, u32, Place)>,
}

/// A queue for a checkpoint.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// An encoded [`QueueState`].
    pub(crate) state: Vec<u8>,
    /// Of each file, about how many bytes of this queue live.
    pub(crate) files: Vec<(u32, u64)>,
}

impl Stored {
    pub(super) fn take_restored(&mut self, position: u64, max: u64) -> (u64, bool) {
        let flagged = position < self.flagged;
        let max = if flagged { max.min(self.flagged - position) } else { max };
        (self.restored.take_at(position, max), flagged)
    }

    /// Of the messages that a start found, those below this position may have been handed out before.
    pub(super) fn flagged(&self) -> u64 {
        self.flagged
    }

    /// Everything below is written.
    pub(super) fn written(&self) -> Lsn {
        self.written
    }

    pub(super) fn note_requeued(&mut self, position: u64, count: u64) {
        self.journal.requeued.push(Stretch { queue: self.id, position, count });
    }

    pub(super) fn note_done(&mut self, position: u64, count: u64) {
        match self.journal.done.last_mut() {
            Some(last) if last.position + last.count == position => last.count += count,
            _ => self.journal.done.push(Stretch { queue: self.id, position, count }),
        }
    }

    /// The files that may have a position.
    pub(super) fn spans_of(&self, position: u64) -> Vec<FileSpan> {
        let covers = |span: &&FileSpan| (span.span.first..=span.span.last).contains(&position);
        self.spans.iter().filter(covers).copied().collect()
    }

    /// About how many bytes of files with an index are the queue's.
    pub(super) fn span_bytes(&self) -> u64 {
        self.spans.iter().map(|span| self.living(&span.span)).sum()
    }

    /// Bytes of a span whose messages are not gone, in proportion.
    fn living(&self, span: &Span) -> u64 {
        let width = span.last - span.first + 1;
        match width - self.gone.count(span.first, width) {
            0 => 0,
            live => (span.bytes as u128 * u128::from(live) / u128::from(width)).max(1) as u64,
        }
    }
}

impl Queue {
    /// An empty queue that the log knows by this id.
    pub(crate) fn durable(account: Account, id: QueueId) -> Queue {
        Queue { stored: Some(Box::new(Stored { id, ..Stored::default() })), ..Queue::new(account) }
    }

    /// A queue as it was found on disk.
    pub(crate) fn restore(account: Account, id: QueueId, found: Restored) -> Queue {
        let mut queue = Queue::durable(account, id);
        let next = found.next.max(found.handed_out);
        queue.next = next;
        queue.head = Head { position: next, segment: next, offset: None };
        queue.returned = found.returned;
        let Some(stored) = &mut queue.stored else { unreachable!("it is durable") };
        for (first, count) in found.live.gaps(0, next) {
            stored.gone.insert(first, count);
        }
        found.lost.iter().for_each(|(first, count)| stored.gone.remove(first, count));
        stored.lost = found.lost;
        (stored.flagged, stored.handed_out) = (found.handed_out, found.handed_out);
        (stored.restored, stored.spans, stored.release_from) = (found.live, found.spans, next);
        found.waiting.iter().for_each(|(first, count)| stored.restored.remove(first, count));
        (queue.waiting, queue.overdue) = (found.waiting, found.overdue);
        queue.add_found(found.found);
        queue.set_found(queue.holdings().disk);
        queue
    }

    /// What its memory is charged to.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// A segment could not be read, or a position not found. True if something is left to be tried: to look for it again
    /// by its positions, or to read its records one by one.
    pub(crate) fn look_up_again(&mut self, position: u64, was_segment: bool) -> bool {
        // Somebody else was here first.
        if was_segment && !self.segments.get(&position).is_some_and(Segment::is_stored) {
            return true;
        }
        if self.unreadable.len() >= UNREADABLE_MAX {
            self.unreadable.clear();
        }
        let first_time = self.unreadable.insert(position);
        let Some(segment) = self.segments.get(&position).filter(|segment| segment.is_stored()) else {
            return first_time;
        };
        let Some(stored) = &self.stored else { return first_time };
        let places = segment.places();
        if first_time && !stored.spans_of(position).is_empty() {
            self.segments.remove(&position);
        } else if places.len() > 1 {
            let (places, end) = (places.to_vec(), segment.count());
            self.segments.remove(&position);
            for (index, (from, place)) in places.iter().enumerate() {
                let until = places.get(index + 1).map_or(end, |(next, _)| *next);
                self.insert_stored(position + u64::from(*from), until - from, vec![(0, *place)]);
            }
            return true;
        }
        first_time
    }

    /// Forgets those of these messages that are ready, and the rest of the segment that the first is in. Returns how
    /// many were forgotten.
    pub(crate) fn give_up(&mut self, position: u64, count: u64) -> u64 {
        let segment = self.segments.range(..=position).next_back();
        let segment = segment.filter(|(first, segment)| **first + u64::from(segment.count()) > position);
        let (first, end) = match segment.filter(|(_, segment)| segment.is_stored()) {
            Some((&first, segment)) => (first, (first + u64::from(segment.count())).max(position + count)),
            None => (position, position + count),
        };
        let (mut lost, before) = (Vec::new(), self.ready() + self.waiting());
        self.take_out(first, end, &mut lost);
        lost.iter().for_each(|&(position, count)| self.drop_range(position, count, true));
        self.consumers.revoke_grants();
        let count = lost.iter().map(|(_, count)| count).sum();
        self.count_taken_out(count, before, false);
        count
    }

    /// A message was forgotten.
    pub(crate) fn is_gone(&self, position: u64) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.gone.run_at(position).is_some())
    }

    /// The position that the next message gets.
    pub(crate) fn next_position(&self) -> u64 {
        self.next
    }

    /// Gives out positions whose messages come later, by [`Queue::fill`].
    pub(crate) fn reserve(&mut self, count: u32) -> u64 {
        let position = self.next;
        // Also of a queue that was deleted meanwhile: no two records may name the same position.
        self.next += u64::from(count);
        if let Some(stored) = &mut self.stored {
            stored.hidden.insert(position, count.into());
        }
        position
    }

    /// The messages of reserved positions: now they can be seen.
    pub(crate) fn fill(&mut self, position: u64, block: Arc<Block>, places: Places) {
        if self.stored.is_none() {
            return;
        }
        let persistent = !matches!(places, Places::Nowhere);
        self.count_arrival(block.count(), block.body_bytes(0, block.count()), persistent);
        let Some(stored) = &mut self.stored else { return };
        let count = u64::from(block.count());
        stored.hidden.remove(position, count);
        if let Some(bytes) = &mut self.bytes {
            *bytes += block.body_bytes(0, block.count());
        }
        if position >= self.head.position {
            self.ahead += count;
            self.flow.append(block.len());
        } else {
            stored.restored.insert(position, count);
        }
        stored.release_from = stored.release_from.min(position);
        self.segments.insert(position, Segment::whole(block, places));
        self.delay_from(position);
        self.remind(position, count);
    }

    /// Moves the head over positions whose messages cannot be seen yet, which are found behind it later, and over those
    /// that were taken out of turn.
    pub(super) fn skip(&mut self) {
        loop {
            let position = self.head.position;
            let hidden = self.stored.as_ref().and_then(|stored| stored.hidden.run_at(position));
            let Some((first, count)) = hidden.or_else(|| self.holes.run_at(position)) else { return };
            let end = first + count;
            self.holes.remove(position, end - position);
            self.head = Head { position: end, segment: end, offset: None };
        }
    }

    /// What has to be read before the next message can be taken; `None` if it is in memory, or if there is none.
    pub(crate) fn missing(&mut self) -> Option<Missing> {
        if self.ready() == 0 {
            return None;
        }
        self.skip();
        let position = self.next_behind_head().map_or(self.head.position, |(position, _)| position);
        self.missing_at(position)
    }

    /// What has to be read before a message can be looked at.
    pub(crate) fn missing_at(&self, position: u64) -> Option<Missing> {
        let (mut at, mut bytes, mut wanted) = (position, 0, Vec::new());
        while bytes < READ_AHEAD {
            let Some((&first, segment)) = self.segments.range(..=at).next_back() else { break };
            let end = first + u64::from(segment.count());
            if end <= at {
                break;
            }
            if segment.is_stored() {
                let places = segment.places().to_vec();
                bytes += places.iter().map(|(_, place)| place.length as usize).sum::<usize>();
                bytes += segment.extent().map_or(0, Extent::length);
                wanted.push(Wanted { first, count: segment.count(), places, overflow: segment.extent().cloned() });
            } else if wanted.is_empty() {
                return None;
            }
            at = end;
        }
        if wanted.is_empty() {
            let stored = self.stored.as_ref()?;
            return Some(Missing::Lookup { position, spans: stored.spans_of(position) });
        }
        Some(Missing::Blocks(wanted))
    }

    /// Transient blocks that could be written to the disk, the last first, up to so many bytes: those that will not be
    /// handed out soon.
    pub(crate) fn choose_overflow(&mut self, max: usize) -> Vec<(u64, Arc<Block>)> {
        let (mut chosen, mut bytes, mut ahead) = (Vec::new(), 0, self.flow.waiting);
        for (&first, segment) in self.segments.range(self.head.position..).rev() {
            let Some(block) = segment.transient_block() else {
                if segment.is_stored() {
                    break;
                }
                continue;
            };
            ahead = ahead.saturating_sub(block.len());
            if ahead < CROWDED || bytes >= max {
                break;
            }
            bytes += block.len();
            chosen.push((first, block.clone()));
        }
        if let Some(lanes) = &self.lanes {
            // What is parked may be there for long, and what was read for one message has others.
            for (&first, segment) in self.segments.range_mut(..self.head.position) {
                match segment.transient_block() {
                    None if segment.extent().is_some() => _ = segment.release(0),
                    Some(block) if bytes < max && lanes.has_any(first, segment.count().into()) => {
                        bytes += block.len();
                        chosen.push((first, block.clone()));
                    }
                    _ => {}
                }
            }
        }
        chosen
    }

    /// Such a block was written.
    pub(crate) fn overflowed(&mut self, first: u64, block: &Arc<Block>, extent: Extent) {
        if let Some(segment) = self.segments.get_mut(&first) {
            segment.overflow(block, extent);
        }
    }

    /// Messages of a segment as they were read.
    pub(crate) fn load(&mut self, first: u64, block: Arc<Block>) {
        self.unreadable.remove(&first);
        if let Some(segment) = self.segments.get_mut(&first) {
            segment.load(block);
        }
    }

    /// What an index says of the positions from the one on that was missing.
    pub(crate) fn found(&mut self, file: u32, entries: &[Entry]) {
        let place =
            |entry: &Entry| Place { lsn: u64::from(file) << 32 | u64::from(entry.offset), length: entry.length };
        self.add_found(entries.iter().map(|entry| (entry.position, entry.count, place(entry))).collect());
    }

    /// Makes segments of messages that are on disk, where there are none yet.
    fn add_found(&mut self, found: Vec<(u64, u32, Place)>) {
        let Some(stored) = &self.stored else { return };
        /// First position, messages, bytes and places of a segment.
        type Open = (u64, u32, u32, Vec<(u32, Place)>);
        let mut open: Option<Open> = None;
        let mut segments = Vec::new();
        for (position, count, place) in found {
            let (mut at, end) = (position, position + u64::from(count));
            while at < end {
                // Other segments may have any parts of it.
                let before = self.segments.range(..=at).next_back().map(|(first, it)| first + u64::from(it.count()));
                if let Some(covered) = before.filter(|covered| *covered > at) {
                    at = covered;
                    continue;
                }
                let next = self.segments.range(at..).next().map_or(end, |(&next, _)| next.min(end));
                let (position, count) = (at, (next - at) as u32);
                at = next;
                if stored.gone.gaps(position, count.into()).next().is_none() {
                    continue;
                }
                match &mut open {
                    Some((first, so_far, bytes, places))
                        if *first + u64::from(*so_far) == position
                            && *bytes + place.length <= SEGMENT_BYTES
                            && places.iter().all(|(_, at)| at.file() == place.file()) =>
                    {
                        places.push((*so_far, place));
                        (*so_far, *bytes) = (*so_far + count, *bytes + place.length);
                    }
                    _ => segments.extend(open.replace((position, count, place.length, vec![(0, place)]))),
                }
            }
        }
        segments.extend(open);
        for (first, count, _, places) in segments {
            self.insert_stored(first, count, places);
        }
    }

    /// Makes a segment of messages that are on disk; none if nothing of it lives.
    fn insert_stored(&mut self, first: u64, count: u32, mut places: Vec<(u32, Place)>) {
        let Some(stored) = &self.stored else { return };
        places.shrink_to_fit();
        let mut segment = Segment::stored(count, places);
        let mut at = first;
        let end = first + u64::from(count);
        for (alive, alive_count) in stored.gone.gaps(first, count.into()).chain([(end, 0)]) {
            if alive > at {
                segment.kill((at - first) as u32, (alive - first) as u32);
            }
            at = alive + alive_count;
        }
        if !segment.is_dead() {
            self.segments.insert(first, segment);
        }
    }

    /// What the log has to be told since the last call, as far as there is anything.
    pub(crate) fn take_journal(&mut self) -> Option<Journal> {
        let journal = &mut self.stored.as_mut()?.journal;
        let empty = journal.done.is_empty() && journal.requeued.is_empty() && journal.handed_out.is_none();
        (!empty).then(|| std::mem::take(journal))
    }

    /// Notes how much of the log is written, and so can be read again.
    pub(crate) fn set_written(&mut self, written: Lsn) {
        if let Some(stored) = &mut self.stored {
            stored.written = written;
        }
    }

    /// The log learns in advance what will have been handed out soon: with the messages themselves, if somebody waits
    /// for them.
    pub(crate) fn note_consumed_soon(&mut self) {
        if !self.consumers.is_empty() {
            let next = self.next;
            self.note_upto(next);
        }
    }

    pub(super) fn note_handed_out(&mut self) {
        if let Some(stored) = &self.stored {
            // Restored ones go before the head, in order.
            self.note_upto(stored.restored.first().map_or(self.head.position, |(first, _)| first));
        }
    }

    pub(super) fn note_upto(&mut self, position: u64) {
        if let Some(stored) = &mut self.stored
            && position > stored.handed_out
        {
            stored.handed_out = position + HANDED_OUT_STEP;
            stored.journal.handed_out = Some(stored.handed_out);
        }
    }

    /// Frees memory of messages that are on disk, if much is in use. Of a queue whose consumers keep up nothing is freed:
    /// it would only be read again.
    pub(crate) fn release(&mut self) {
        let Some(stored) = &mut self.stored else { return };
        if self.account.used() < RESIDENT || self.consumers.has_grants() && self.flow.waiting < CROWDED {
            return;
        }
        let (written, head) = (stored.written, self.head.position);
        while let Some((&first, segment)) = self.segments.range_mut(stored.release_from..).next() {
            let end = first + u64::from(segment.count());
            // The one that is being handed out is needed again at once.
            if !(self.consumers.has_grants() && (first..end).contains(&head)) {
                match segment.release(written) {
                    Some(true) => Self::join(&mut self.segments, first),
                    Some(false) => drop(self.segments.remove(&first)),
                    None if segment.is_persistent() => break,
                    None => {}
                }
            }
            stored.release_from = end;
        }
    }

    /// Frees the memory of every message that is on disk, also of those that are being handed out or wait for their
    /// acknowledgement: when memory runs short, publishers wait for it.
    pub(crate) fn release_all(&mut self) {
        let Some(stored) = &self.stored else { return };
        let written = stored.written;
        self.segments.retain(|_, segment| segment.is_stored() || segment.release(written) != Some(false));
    }

    /// Joins a segment that is on disk with the one before it, if that is, too: messages that came one by one are
    /// remembered in one place.
    fn join(segments: &mut Segments, first: u64) {
        let Some((&before, previous)) = segments.range(..first).next_back() else { return };
        let Some(segment) = segments.get(&first) else { return };
        if before + u64::from(previous.count()) != first || !previous.can_join(segment, SEGMENT_BYTES) {
            return;
        }
        let Some(segment) = segments.remove(&first) else { return };
        if let Some(previous) = segments.get_mut(&before) {
            previous.join(&segment);
        }
    }

    /// Frees memory of a segment all of which is handed out.
    pub(super) fn release_taken(&mut self, position: u64) {
        let Some(stored) = &self.stored else { return };
        if self.account.used() < RESIDENT {
            return;
        }
        let Some((&first, segment)) = self.segments.range_mut(..=position).next_back() else { return };
        let end = first + u64::from(segment.count());
        let waits = |runs: &Runs| runs.count(first, end - first) > 0;
        let parked = self.lanes.as_ref().is_some_and(|lanes| lanes.has_any(first, end - first));
        if end > self.head.position || parked || waits(&stored.restored) || waits(&self.requeued) {
            return;
        }
        if segment.release(stored.written) == Some(false) {
            self.segments.remove(&first);
        }
    }

    /// Files have got an index, or were merged into others.
    pub(crate) fn index(&mut self, removed: &[u32], added: &[FileSpan]) {
        let Some(stored) = &mut self.stored else { return };
        stored.spans.retain(|span| !removed.contains(&span.file));
        stored.spans.extend_from_slice(added);
        let files: Vec<u32> = removed.iter().copied().chain(added.iter().map(|span| span.file)).collect();
        self.segments.retain(|_, segment| segment.index(&files));
    }

    /// The runs of `position .. position + count` that are not gone.
    pub(crate) fn living(&self, position: u64, count: u64, out: &mut Vec<(u64, u64)>) {
        if let Some(stored) = &self.stored {
            out.extend(stored.gone.gaps(position, count));
        }
    }

    /// For a checkpoint; `end` is the end of the log now. Forgets files of which nothing lives.
    pub(crate) fn snapshot(&mut self, end: Lsn) -> Option<Snapshot> {
        let stored = self.stored.as_mut()?;
        let files: Vec<_> = stored.spans.iter().map(|span| (span.file, stored.living(&span.span))).collect();
        let mut alive = files.iter();
        stored.spans.retain(|_| alive.next().is_some_and(|(_, bytes)| *bytes > 0));
        let state = QueueState {
            queue: stored.id,
            next: self.next,
            delivered: stored.handed_out,
            counted: end,
            gone: Cow::Borrowed(&stored.gone),
            lost: Cow::Borrowed(&stored.lost),
            // Where all messages wait, that need not be said.
            waiting: if self.delays { Cow::default() } else { Cow::Borrowed(&self.waiting) },
            overdue: Cow::Borrowed(&self.overdue),
            counts: Cow::Borrowed(&self.returned),
        };
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        Some(Snapshot { state: bytes, files })
    }
}

/// Takes what a set has of some positions.
pub(super) fn take_all(runs: &mut Runs, first: u64, end: u64) -> Vec<(u64, u64)> {
    let taken = inside(runs, first, end);
    runs.remove(first, end - first);
    taken
}

/// What a set has of some positions.
pub(super) fn inside(runs: &Runs, first: u64, end: u64) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), first);
    for (gap, count) in runs.gaps(first, end - first).chain([(end, 0)]) {
        if gap > at {
            found.push((at, gap - at));
        }
        at = gap + count;
    }
    found
}
