//! One queue: its messages by position, who may take them, and nothing about threads, sockets or time.
//!
//! Messages get consecutive positions. Segments of them are kept in order of position; the head is the first position
//! that was never handed out. A message that is taken with acknowledgement stays in its segment until it is acked;
//! requeued positions go before the head, so a message returns to where it was.
//!
//! A durable queue also knows, as runs, which positions are gone, and which files have the others: its segments are only
//! what of it is in memory, and what it takes next may have to be loaded first ([`Queue::missing`]).

use crate::consumers::{Consumers, Wakes};
use crate::log::{Place, QueueId};
use crate::mailbox::{Event, Mailbox};
use crate::message::{Account, BLOCK_MAX, Block, Message, OpenRun, Run};
use crate::runs::{Counts, Runs};
use crate::segment::{Places, Segment};
use crate::times::Time;
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

mod gauges;
mod glance;
mod lanes;
mod stored;
mod timed;

use gauges::Gauges;
pub(crate) use gauges::Holdings;
pub use glance::MessageState;
pub(crate) use glance::{Glance, Source};
use lanes::Lanes;
pub(crate) use lanes::{FILTERS_MAX, Holder, Taken};
use stored::Stored;
pub(crate) use stored::{FileSpan, Journal, Missing, RESIDENT, Restored, Snapshot, Wanted};
pub(crate) use timed::{Dead, Return};

/// What a consumer or basic.get took: records of one block, at consecutive positions.
#[derive(Debug)]
pub struct Delivery {
    /// Holds the records.
    pub block: Arc<Block>,
    /// Byte offset of the first record in the block.
    pub offset: usize,
    /// Number of records.
    pub count: u32,
    /// Position of the first.
    pub position: u64,
    /// They were handed out before, or may have been before the broker was restarted.
    pub redelivered: bool,
    /// How often they were returned to the queue.
    pub returned: u64,
    /// Their consumers are told that, if it is not zero; see [`Delivery::properties`].
    pub tells_count: bool,
}

impl Delivery {
    /// The encoded properties of one of its messages as consumers are to see them: with an `x-delivery-count` header that
    /// tells how often it came back, where its queue counts that (RabbitMQ's quorum queues). `None` if they are those of
    /// the message.
    ///
    /// # Panics
    /// If the message's properties cannot be decoded: they were when it was published.
    pub fn properties(&self, message: &Message<'_>) -> Option<Vec<u8>> {
        if !self.tells_count || self.returned == 0 {
            return None;
        }
        let mut properties =
            Properties::decode_stored(message.properties).expect("they are checked before they are queued");
        let mut headers = properties.headers.map(FieldTable::from).unwrap_or_default();
        headers.insert("x-delivery-count", i64::try_from(self.returned).unwrap_or(i64::MAX));
        properties.headers = Some(headers.as_table());
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        Some(encoded)
    }

    /// Bytes of its messages' bodies.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.block.body_bytes(self.offset, self.count)
    }
}

/// What a queue holds: position of the first message -> segment.
type Segments = BTreeMap<u64, Segment>;

/// The messages and consumers of a queue.
#[derive(Debug)]
pub struct Queue {
    segments: Segments,
    /// Position that the next message gets.
    next: u64,
    head: Head,
    /// Messages from the head on.
    ahead: u64,
    requeued: Runs,
    returned: Counts,
    /// Not ready before their time comes.
    waiting: Runs,
    /// From the head on, and taken out of turn.
    holes: Runs,
    /// Their time came while they were handed out.
    overdue: Runs,
    /// Bytes of the bodies that are ready or wait, if that is counted.
    bytes: Option<u64>,
    /// What is to happen at a time, for the owner to note.
    times: Vec<Time>,
    /// Everything waits for its time.
    delays: bool,
    /// Deliveries tell how often a message came back.
    tells_count: bool,
    /// Names it among times.
    number: QueueId,
    /// Handed out and not settled; no fewer than what is acked or requeued at once.
    unacked: u64,
    account: Account,
    flow: Flow,
    /// Who consumes, and how many messages each may take.
    pub consumers: Consumers,
    deleted: bool,
    /// Could not be read at the last attempt.
    unreadable: BTreeSet<u64>,
    /// What a durable queue has beside that.
    stored: Option<Box<Stored>>,
    /// What a queue has beside that whose messages are not for every consumer.
    lanes: Option<Box<Lanes>>,
    /// What is only told.
    pub(crate) gauges: Gauges,
}

/// How fast messages come and go, in bytes of records.
#[derive(Debug, Default)]
struct Flow {
    /// Never handed out yet.
    waiting: usize,
    /// Since the last judgement.
    appended: usize,
    taken: usize,
    /// The last judgement: consumers took less than half of what came.
    lags: bool,
    /// Publishers that pause until less is waiting.
    paused: Vec<Arc<Mailbox>>,
}

/// A queue with more bytes waiting than this, whose consumers keep pace or nearly so, asks its publishers to pause: what
/// waits longer than that falls out of the processor's caches and makes everybody slower.
const CROWDED: usize = 2 * 1024 * 1024;

/// The first position that was never handed out, and where it is.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    position: u64,
    segment: u64,
    /// In the segment's block; `None` if that has to be found out.
    offset: Option<usize>,
}

/// Where a ready message before the head is.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Requeued,
    /// It was there at a start, or was seen late.
    Restored,
    InLanes,
}

impl Queue {
    /// An empty queue whose blocks are charged to `account`.
    pub fn new(account: Account) -> Queue {
        Queue {
            segments: BTreeMap::new(),
            next: 0,
            head: Head::default(),
            ahead: 0,
            requeued: Runs::default(),
            returned: Counts::default(),
            waiting: Runs::default(),
            holes: Runs::default(),
            overdue: Runs::default(),
            bytes: None,
            times: Vec::new(),
            delays: false,
            tells_count: false,
            number: 0,
            unacked: 0,
            account,
            flow: Flow::default(),
            consumers: Consumers::default(),
            deleted: false,
            unreadable: BTreeSet::new(),
            stored: None,
            lanes: None,
            gauges: Gauges::default(),
        }
    }

    /// Messages that wait for a consumer.
    pub fn ready(&self) -> u64 {
        let restored = self.stored.as_ref().map_or(0, |stored| stored.restored.len());
        self.ahead + self.requeued.len() + restored + self.lanes.as_ref().map_or(0, |lanes| lanes.len())
    }

    /// True once [`Queue::delete`] was called.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Appends a block that other queues may share.
    pub fn append_block(&mut self, block: Arc<Block>, places: Places) {
        if self.deleted {
            return;
        }
        self.flow.append(block.len());
        if let Some(bytes) = &mut self.bytes {
            *bytes += block.body_bytes(0, block.count());
        }
        let persistent = !matches!(places, Places::Nowhere);
        self.count_arrival(block.count(), block.body_bytes(0, block.count()), persistent);
        self.push_segment(Segment::whole(block, places));
    }

    /// Appends a copy of a short run; `place` is where it is on disk.
    pub fn append_run(&mut self, run: &Run, place: Option<Place>) {
        if self.deleted {
            return;
        }
        self.flow.append(run.len());
        if let Some(bytes) = &mut self.bytes {
            *bytes += run.body_bytes();
        }
        self.count_arrival(run.count(), run.body_bytes(), place.is_some());
        self.release();
        let next = self.next;
        if let Some(mut last) = self.segments.last_entry()
            && *last.key() + u64::from(last.get().count()) == next
            && last.get_mut().append(run, place, BLOCK_MAX)
        {
            self.next += u64::from(run.count());
            self.ahead += u64::from(run.count());
            return self.delay_from(next);
        }
        let mut open = OpenRun::new(&self.account);
        open.extend(run);
        let places = place.map_or(Places::Nowhere, |place| Places::At(vec![(0, place)]));
        self.push_segment(Segment::open(open, run.count(), places));
    }

    fn push_segment(&mut self, segment: Segment) {
        if segment.count() == 0 {
            return;
        }
        // The segment before it grows no more, so what it has reserved and not used is given back.
        if let Some(mut last) = self.segments.last_entry() {
            last.get_mut().close();
        }
        if self.head.position == self.next {
            self.head = Head { position: self.next, segment: self.next, offset: Some(0) };
        }
        let (count, position) = (u64::from(segment.count()), self.next);
        self.segments.insert(position, segment);
        self.next += count;
        self.ahead += count;
        self.release();
        self.delay_from(position);
    }

    /// Hands out up to `max` messages, whoever may take them, requeued ones first, until their records exceed `max_bytes`,
    /// or until [`Queue::missing`] ones would be next.
    ///
    /// With `no_ack` they are gone; otherwise each is to be settled by [`Queue::ack`] or [`Queue::requeue`].
    /// Returns how many.
    pub fn take(&mut self, max: u64, max_bytes: usize, no_ack: bool, out: &mut Vec<Delivery>) -> u64 {
        let (mut left, mut bytes) = (max, 0);
        while left > 0 && bytes < max_bytes {
            let Some(delivery) = self.take_behind_head(left).or_else(|| self.take_head(left)) else { break };
            left -= u64::from(delivery.count);
            bytes += self.settle_taken(&delivery, no_ack);
            out.push(delivery);
        }
        self.note_handed_out();
        max - left
    }

    /// Counts what was taken; returns about how many bytes it has: a part of its block.
    fn settle_taken(&mut self, delivery: &Delivery, no_ack: bool) -> usize {
        if self.bytes.is_some() {
            self.uncount(delivery.body_bytes());
        }
        self.count_taken(delivery, no_ack);
        if no_ack {
            self.drop_range(delivery.position, u64::from(delivery.count), true);
        } else {
            self.unacked += u64::from(delivery.count);
            self.release_taken(delivery.position);
        }
        delivery.block.len() * delivery.count as usize / delivery.block.count() as usize
    }

    /// The next position before the head, and where it is.
    fn next_behind_head(&self) -> Option<(u64, Behind)> {
        let requeued = self.requeued.first().map(|(position, _)| (position, Behind::Requeued));
        let restored = self.stored.as_ref().and_then(|stored| stored.restored.first());
        let restored = restored.map(|(position, _)| (position, Behind::Restored));
        let parked = self.lanes.as_ref().and_then(|lanes| lanes.first()).map(|position| (position, Behind::InLanes));
        requeued.into_iter().chain(restored).chain(parked).min_by_key(|(position, _)| *position)
    }

    fn take_behind_head(&mut self, max: u64) -> Option<Delivery> {
        let (position, place) = self.next_behind_head()?;
        let (&first, segment) = self.segments.range_mut(..=position).next_back()?;
        let end = first + u64::from(segment.count());
        if end <= position || segment.is_stored() {
            return None;
        }
        let block = segment.seal();
        let (returned, same) = self.returned.get(position, max.min(end - position));
        let (count, redelivered) = match (place, &mut self.stored, &mut self.lanes) {
            (Behind::Restored, Some(stored), _) => stored.take_restored(position, same),
            (Behind::InLanes, _, Some(lanes)) => lanes.take_at(position, same),
            _ => (self.requeued.take_at(position, same), true),
        };
        let offset = segment.offset((position - first) as u32);
        let (count, tells_count) = (count as u32, self.tells_count);
        Some(Delivery { block, offset, count, position, redelivered, returned, tells_count })
    }

    fn take_head(&mut self, max: u64) -> Option<Delivery> {
        if self.ahead == 0 || self.next_behind_head().is_some() {
            return None;
        }
        self.skip();
        let Head { position, mut segment, mut offset } = self.head;
        let covers = |first: u64, segment: &Segment| (first..first + u64::from(segment.count())).contains(&position);
        if !self.segments.get(&segment).is_some_and(|state| covers(segment, state)) {
            (segment, offset) = (*self.segments.range(..=position).next_back()?.0, None);
        }
        let state = self.segments.get_mut(&segment)?;
        if !covers(segment, state) || state.is_stored() {
            return None;
        }
        let end = segment + u64::from(state.count());
        let block = state.seal();
        let offset = offset.unwrap_or_else(|| state.offset((position - segment) as u32));
        let until =
            if self.holes.len() == 0 { end } else { self.holes.next_from(position).map_or(end, |it| it.min(end)) };
        let count = max.min(until - position) as u32;
        let after = if position + u64::from(count) < end { block.skip(offset, count) } else { block.len() };
        self.move_head(segment..end, count.into(), offset, after);
        let (redelivered, returned, tells_count) = (false, 0, false);
        Some(Delivery { block, offset, count, position, redelivered, returned, tells_count })
    }

    /// Moves the head over messages of a segment, whose records are from one offset to the other in its block.
    fn move_head(&mut self, segment: Range<u64>, count: u64, from: usize, after: usize) {
        self.ahead -= count;
        let (position, end) = (self.head.position + count, segment.end);
        self.head = if position < end {
            Head { position, segment: segment.start, offset: Some(after) }
        } else {
            Head { position: end, segment: end, offset: self.segments.contains_key(&end).then_some(0) }
        };
        self.flow.take(after - from);
    }

    /// Handed-out messages once more, for whoever has to look at them before they are forgotten. False if some have to
    /// be loaded first ([`Queue::missing_at`]): then `out` has those before them. Those are enough if their blocks have
    /// `max_bytes`.
    pub fn look_again(&mut self, position: u64, count: u64, max_bytes: usize, out: &mut Vec<Delivery>) -> bool {
        let (mut at, end, mut bytes) = (position, position + count, 0);
        while at < end && !self.deleted && bytes < max_bytes {
            let Some((&first, segment)) = self.segments.range_mut(..=at).next_back() else { return false };
            let until = end.min(first + u64::from(segment.count()));
            if until <= at || segment.is_stored() {
                return false;
            }
            let (block, offset) = (segment.seal(), segment.offset((at - first) as u32));
            let (returned, same) = self.returned.get(at, until - at);
            let count = same as u32;
            bytes += block.len();
            let (redelivered, tells_count) = (true, self.tells_count);
            out.push(Delivery { block, offset, count, position: at, redelivered, returned, tells_count });
            at += same;
        }
        true
    }

    /// Forgets handed-out messages: they were processed, or rejected for good.
    pub fn ack(&mut self, position: u64, count: u64) {
        self.settle_gone(position, count, true);
    }

    /// As [`Queue::ack`], of which the log knows already.
    pub fn ack_logged(&mut self, position: u64, count: u64) {
        self.settle_gone(position, count, false);
    }

    fn settle_gone(&mut self, position: u64, count: u64, journal: bool) {
        if self.deleted {
            return;
        }
        self.count_settled(count);
        self.unacked -= count;
        self.release_keys(position, count);
        self.drop_range(position, count, journal);
    }

    /// These messages don't hold their keys any more.
    fn release_keys(&mut self, position: u64, count: u64) {
        if let Some(lanes) = &mut self.lanes {
            lanes.release(position, count);
        }
    }

    /// Puts handed-out messages back to where they were.
    pub fn requeue(&mut self, position: u64, count: u64) {
        if self.deleted {
            return;
        }
        self.count_returned(count);
        self.gauges.counters.returned += count;
        self.unacked -= count;
        self.release_keys(position, count);
        self.requeued.insert(position, count);
        self.returned.add(position, count);
        if let Some(stored) = &mut self.stored {
            stored.note_requeued(position, count);
        }
    }

    /// Forgets messages for good. With `journal`, the log is to be told of those that it knows.
    fn drop_range(&mut self, position: u64, count: u64, journal: bool) {
        let end = position + count;
        self.returned.remove(position, count);
        if self.overdue.len() > 0 {
            self.overdue.remove(position, count);
        }
        let (mut at, mut logged) = (position, position);
        while at < end {
            let Some(first) = self.segment_from(at) else { break };
            if first >= end {
                break;
            }
            let from = at.max(first);
            let Some(segment) = self.segments.get_mut(&first) else { unreachable!("just found") };
            let until = end.min(first + u64::from(segment.count()));
            if !segment.is_persistent() {
                // Of these the log knows nothing.
                if let Some(stored) = self.stored.as_mut().filter(|_| journal && logged < from) {
                    stored.note_done(logged, from - logged);
                }
                logged = until;
            }
            let transient = if segment.is_persistent() { 0 } else { until - from };
            segment.kill((from - first) as u32, (until - first) as u32);
            if segment.is_dead() {
                self.segments.remove(&first);
            } else if first + u64::from(segment.count()) <= self.head.position {
                segment.compact(|run| run.seal(&self.account));
            }
            self.count_transient_gone(transient);
            at = until;
        }
        if let Some(stored) = &mut self.stored {
            stored.gone.insert(position, count);
            if journal && logged < end {
                stored.note_done(logged, end - logged);
            }
        }
    }

    /// The key of the segment that has a position, or else of the next one.
    fn segment_from(&self, position: u64) -> Option<u64> {
        let before = self.segments.range(..=position).next_back();
        match before.filter(|(first, segment)| **first + u64::from(segment.count()) > position) {
            Some((&first, _)) => Some(first),
            None => self.segments.range(position..).next().map(|(&first, _)| first),
        }
    }

    /// Drops all messages that are ready or wait for their time; returns how many were ready. Handed-out ones stay with
    /// their consumers.
    pub fn purge(&mut self) -> u64 {
        let purged = self.ready();
        let mut runs: Vec<_> = self.waiting.drain().collect();
        runs.iter().for_each(|&(position, count)| self.release_keys(position, count));
        runs.extend(self.requeued.drain());
        runs.extend(self.lanes.iter_mut().flat_map(|lanes| lanes.drain()));
        self.ahead_runs(self.head.position, self.next, &mut runs);
        self.holes = Runs::default();
        if let Some(stored) = &mut self.stored {
            runs.extend(stored.restored.drain());
        }
        for (position, count) in runs {
            self.drop_range(position, count, true);
        }
        self.head = Head { position: self.next, segment: self.next, offset: None };
        self.ahead = 0;
        self.bytes = self.bytes.map(|_| 0);
        self.count_purged(purged);
        self.consumers.revoke_grants();
        self.flow.waiting = 0;
        purged
    }

    /// Refuses what comes later. Returns how many messages were ready, and all there was, for the caller to drop: that
    /// may take long, and should not happen under a lock.
    pub fn delete(&mut self) -> (u64, Segments) {
        let ready = self.ready();
        let segments = std::mem::take(&mut self.segments);
        (self.requeued, self.waiting) = (Runs::default(), Runs::default());
        (self.holes, self.overdue) = (Runs::default(), Runs::default());
        self.returned = Counts::default();
        (self.stored, self.lanes) = (None, None);
        self.head = Head { position: self.next, segment: self.next, offset: None };
        (self.unacked, self.ahead) = (0, 0);
        self.flow.waiting = 0;
        self.deleted = true;
        (ready, segments)
    }

    /// Whether a publisher had better pause: much is waiting, and consumers with credit take at least half of what comes.
    /// A consumer that is slower than that, or stuck, slows nobody down. The publisher is told by [`Event::Relaxed`]
    /// when less is waiting; it should not wait for that longer than a moment.
    pub fn is_crowded(&mut self, publisher: &Arc<Mailbox>) -> bool {
        let crowded = self.flow.waiting >= CROWDED && self.consumers.has_grants() && self.flow.keeps_pace();
        if crowded && !self.flow.paused.iter().any(|paused| Arc::ptr_eq(paused, publisher)) {
            self.flow.paused.push(publisher.clone());
        }
        crowded
    }

    /// Grants ready messages to consumers that have room, and notes in `wakes` whom to tell what.
    #[inline]
    pub fn dispatch(&mut self, wakes: &mut Wakes) {
        if self.flow.waiting < CROWDED / 2 && !self.flow.paused.is_empty() {
            wakes.extend(self.flow.paused.drain(..).map(|publisher| (publisher, Event::Relaxed)));
        }
        if self.consumers.is_empty() || self.consumers.is_paused() {
            return;
        }
        match self.lanes {
            None => self.consumers.grant(self.ready(), wakes),
            Some(_) => self.grant_lanes(wakes),
        }
    }
}

impl Flow {
    fn append(&mut self, bytes: usize) {
        self.waiting += bytes;
        self.appended += bytes;
    }

    fn take(&mut self, bytes: usize) {
        // Blocks that come back from disk may have other limits than those that went there.
        self.waiting = self.waiting.saturating_sub(bytes);
        self.taken += bytes;
    }

    /// Judges anew whenever enough has come to judge by: consumers take turns with the publisher on a processor.
    fn keeps_pace(&mut self) -> bool {
        if self.appended >= CROWDED {
            self.lags = self.taken < self.appended / 2;
            (self.appended, self.taken) = (0, 0);
        }
        !self.lags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::UNLIMITED;
    use crate::message::encode_route;

    /// Appends `mib` MiB of messages; the consumer takes `part` of every 64 KiB. How often a publisher was asked to
    /// pause, and what its mailbox got afterwards, when the rest was taken.
    fn check(mib: usize, part: f64, expected_pauses: std::ops::RangeInclusive<usize>) {
        let mut queue = Queue::new(Account::default());
        let consumer = queue.consumers.add(0, false, Arc::default(), Event::Ready { channel: 1, consumer: 0 });
        queue.consumers.set_credit(consumer, UNLIMITED);
        let (publisher, mut wakes, mut out) = (Arc::new(Mailbox::default()), Wakes::new(), Vec::new());
        let (mut pauses, mut owed) = (0, 0.0);
        for _ in 0..mib * 16 {
            let mut run = Run::default();
            for _ in 0..64 {
                run.push(&encode_route("", "q"), &[0, 0], &[0; 1000], false);
            }
            queue.append_block(run.seal(&Account::default()), Places::Nowhere);
            pauses += usize::from(queue.is_crowded(&publisher));
            queue.dispatch(&mut wakes);
            owed += part * 64.0;
            let taken = queue.take(owed as u64, usize::MAX, true, &mut out);
            queue.consumers.pulled(consumer, taken);
            owed -= taken as f64;
            out.clear();
        }
        assert!(expected_pauses.contains(&pauses), "{pauses} pauses with {part} taken, expected {expected_pauses:?}");
        wakes.clear();
        queue.take(u64::MAX, usize::MAX, true, &mut out);
        queue.dispatch(&mut wakes);
        let relaxed = wakes.iter().filter(|(_, event)| *event == Event::Relaxed).count();
        assert_eq!(relaxed, usize::from(pauses > 0), "a paused publisher is told once");
    }

    #[test]
    fn publishers_pause_for_consumers_that_keep_pace_and_for_no_others() {
        check(16, 1.0, 0..=0);
        check(16, 0.8, 50..=220);
        // Judged after the first 2 MiB; until then it had the benefit of the doubt.
        check(16, 0.2, 0..=8);
        check(16, 0.0, 0..=8);
    }

    #[test]
    fn a_few_messages_that_are_never_acked_pin_little_memory() {
        let account = Account::default();
        let mut queue = Queue::new(account.clone());
        for number in 0u32..100_000 {
            let mut run = Run::default();
            run.push(&encode_route("", "q"), &[0, 0], &number.to_le_bytes().repeat(25), false);
            queue.append_run(&run, None);
        }
        let (mut out, full) = (Vec::new(), account.used());
        queue.take(u64::MAX, usize::MAX, false, &mut out);
        out.clear();
        for thousand in 0..100 {
            queue.ack(thousand * 1000, 500);
            queue.ack(thousand * 1000 + 501, 499);
        }
        assert!(account.used() * 50 < full, "{} of {full} bytes are held by one message in a thousand", account.used());
        for thousand in 0..100 {
            queue.requeue(thousand * 1000 + 500, 1);
        }
        queue.take(u64::MAX, usize::MAX, true, &mut out);
        let numbers: Vec<u32> = out
            .iter()
            .map(|delivery| u32::from_le_bytes(delivery.block.at(delivery.offset).0.body[..4].try_into().expect("4")))
            .collect();
        assert_eq!(numbers, (0..100).map(|thousand| thousand * 1000 + 500).collect::<Vec<_>>());
        drop(out);
        assert_eq!((account.used(), queue.ready()), (0, 0));
    }
}
