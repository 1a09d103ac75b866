//! One queue: its messages by position, who may take them, and nothing about threads, sockets or time.
//!
//! Messages get consecutive positions. Blocks of them are kept in order of position; the head is the first position
//! that was never handed out. A message that is taken with acknowledgement stays in its block until it is acked;
//! requeued positions go before the head, so a message returns to where it was.

use crate::consumers::{Consumers, Wakes};
use crate::mailbox::{Event, Mailbox};
use crate::message::{Account, BLOCK_MAX, Block, OpenRun, Run};
use crate::runs::Runs;
use crate::segment::Segment;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// They were handed out before.
    pub redelivered: bool,
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
    requeued: Runs,
    /// Handed out and not settled; no fewer than what is acked or requeued at once.
    unacked: u64,
    account: Account,
    flow: Flow,
    /// Who consumes, and how many messages each may take.
    pub consumers: Consumers,
    deleted: bool,
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
    offset: usize,
}

impl Queue {
    /// An empty queue whose blocks are charged to `account`.
    pub fn new(account: Account) -> Queue {
        Queue {
            segments: BTreeMap::new(),
            next: 0,
            head: Head::default(),
            requeued: Runs::default(),
            unacked: 0,
            account,
            flow: Flow::default(),
            consumers: Consumers::default(),
            deleted: false,
        }
    }

    /// Messages that wait for a consumer.
    pub fn ready(&self) -> u64 {
        self.next - self.head.position + self.requeued.len()
    }

    /// True once [`Queue::delete`] was called.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Appends a block that other queues may share.
    pub fn append_block(&mut self, block: Arc<Block>) {
        self.flow.append(block.len());
        self.push_segment(Segment::whole(block));
    }

    /// Appends a copy of a short run.
    pub fn append_run(&mut self, run: &Run) {
        if self.deleted {
            return;
        }
        self.flow.append(run.len());
        if let Some(mut last) = self.segments.last_entry()
            && last.get_mut().append(run, BLOCK_MAX)
        {
            self.next += u64::from(run.count());
            return;
        }
        let mut open = OpenRun::new(&self.account);
        open.extend(run);
        self.push_segment(Segment::open(open, run.count()));
    }

    fn push_segment(&mut self, segment: Segment) {
        if self.deleted || segment.count() == 0 {
            return;
        }
        // The segment before it grows no more, so what it has reserved and not used is given back.
        if let Some(mut last) = self.segments.last_entry() {
            last.get_mut().seal();
        }
        if self.head.position == self.next {
            self.head = Head { position: self.next, segment: self.next, offset: 0 };
        }
        let count = segment.count();
        self.segments.insert(self.next, segment);
        self.next += u64::from(count);
    }

    /// Hands out up to `max` messages, requeued ones first, until their records exceed `max_bytes`.
    ///
    /// With `no_ack` they are gone; otherwise each is to be settled by [`Queue::ack`] or [`Queue::requeue`].
    /// Returns how many.
    pub fn take(&mut self, max: u64, max_bytes: usize, no_ack: bool, out: &mut Vec<Delivery>) -> u64 {
        let (mut left, mut bytes) = (max, 0);
        while left > 0 && bytes < max_bytes {
            let Some(delivery) = self.take_requeued(left).or_else(|| self.take_head(left)) else { break };
            left -= u64::from(delivery.count);
            bytes += self.settle_taken(&delivery, no_ack);
            out.push(delivery);
        }
        max - left
    }

    /// Counts what was taken; returns about how many bytes it has: a part of its block.
    fn settle_taken(&mut self, delivery: &Delivery, no_ack: bool) -> usize {
        if no_ack {
            self.drop_range(delivery.position, u64::from(delivery.count));
        } else {
            self.unacked += u64::from(delivery.count);
        }
        delivery.block.len() * delivery.count as usize / delivery.block.count() as usize
    }

    fn take_requeued(&mut self, max: u64) -> Option<Delivery> {
        let (position, _) = self.requeued.first()?;
        let (&first, segment) = self.segments.range_mut(..=position).next_back()?;
        let block = segment.seal();
        let in_segment = first + u64::from(segment.count()) - position;
        let (position, count) = self.requeued.take_front(max.min(in_segment))?;
        let offset = segment.offset((position - first) as u32);
        Some(Delivery { block, offset, count: count as u32, position, redelivered: true })
    }

    fn take_head(&mut self, max: u64) -> Option<Delivery> {
        let Head { position, segment: first, offset } = self.head;
        if position == self.next {
            return None;
        }
        let segment = self.segments.get_mut(&first)?;
        let block = segment.seal();
        let end = first + u64::from(segment.count());
        let count = max.min(end - position) as u32;
        self.head.position += u64::from(count);
        if self.head.position < end {
            self.head.offset = block.skip(offset, count);
            self.flow.take(self.head.offset - offset);
        } else {
            self.head = Head { position: end, segment: end, offset: 0 };
            self.flow.take(block.len() - offset);
        }
        Some(Delivery { block, offset, count, position, redelivered: false })
    }

    /// Handed-out messages once more, for whoever has to look at them before they are forgotten.
    pub fn look_again(&mut self, position: u64, count: u64, out: &mut Vec<Delivery>) {
        let (mut at, end) = (position, position + count);
        while at < end && !self.deleted {
            let Some((&first, segment)) = self.segments.range_mut(..=at).next_back() else {
                unreachable!("position {at} was handed out, so its segment is there");
            };
            let until = end.min(first + u64::from(segment.count()));
            let (block, offset) = (segment.seal(), segment.offset((at - first) as u32));
            out.push(Delivery { block, offset, count: (until - at) as u32, position: at, redelivered: true });
            at = until;
        }
    }

    /// Forgets handed-out messages: they were processed, or rejected for good.
    pub fn ack(&mut self, position: u64, count: u64) {
        if self.deleted {
            return;
        }
        self.unacked -= count;
        self.drop_range(position, count);
    }

    /// Puts handed-out messages back to where they were.
    pub fn requeue(&mut self, position: u64, count: u64) {
        if self.deleted {
            return;
        }
        self.unacked -= count;
        self.requeued.insert(position, count);
    }

    fn drop_range(&mut self, position: u64, count: u64) {
        let end = position + count;
        let mut at = position;
        while at < end {
            let Some((&first, segment)) = self.segments.range_mut(..=at).next_back() else {
                unreachable!("position {at} was handed out, so its segment is there");
            };
            let until = end.min(first + u64::from(segment.count()));
            segment.kill((at - first) as u32, (until - first) as u32);
            if segment.is_dead() {
                self.segments.remove(&first);
            } else if first + u64::from(segment.count()) <= self.head.position {
                segment.compact(|run| run.seal(&self.account));
            }
            at = until;
        }
    }

    /// Drops all ready messages; returns how many. Handed-out ones stay with their consumers.
    pub fn purge(&mut self) -> u64 {
        let purged = self.ready();
        for (position, count) in self.requeued.drain().collect::<Vec<_>>() {
            self.drop_range(position, count);
        }
        let unseen = self.next - self.head.position;
        self.drop_range(self.head.position, unseen);
        self.head = Head { position: self.next, segment: self.next, offset: 0 };
        self.consumers.revoke_grants();
        self.flow.waiting = 0;
        purged
    }

    /// Refuses what comes later. Returns how many messages were ready, and all there was, for the caller to drop: that
    /// may take long, and should not happen under a lock.
    pub fn delete(&mut self) -> (u64, Segments) {
        let ready = self.ready();
        let segments = std::mem::take(&mut self.segments);
        self.requeued = Runs::default();
        self.head = Head { position: self.next, segment: self.next, offset: 0 };
        self.unacked = 0;
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
        if !self.consumers.is_empty() {
            self.consumers.grant(self.ready(), wakes);
        }
    }
}

impl Flow {
    fn append(&mut self, bytes: usize) {
        self.waiting += bytes;
        self.appended += bytes;
    }

    fn take(&mut self, bytes: usize) {
        self.waiting -= bytes;
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
            queue.append_block(run.seal(&Account::default()));
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
            queue.append_run(&run);
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
