//! One queue: its messages by position, who may take them, and nothing about threads, sockets or time.
//!
//! Messages get consecutive positions. Blocks of them are kept in order of position; the head is the first position
//! that was never handed out. A message that is taken with acknowledgement stays in its block until it is acked;
//! requeued positions go before the head, so a message returns to where it was.

use crate::consumers::{Consumers, Wakes};
use crate::mailbox::{Event, Mailbox};
use crate::message::{Account, BLOCK_MAX, Block, OpenRun, Run};
use crate::runs::Runs;
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

/// The messages and consumers of a queue.
#[derive(Debug)]
pub struct Queue {
    /// Position of its first message -> block.
    segments: BTreeMap<u64, Segment>,
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
    /// Since the last look.
    appended: usize,
    taken: usize,
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

#[derive(Debug)]
struct Segment {
    count: u32,
    /// Messages that are neither acked nor purged.
    live: u32,
    data: Data,
}

#[derive(Debug)]
enum Data {
    /// Still appended to; only the last segment.
    Open(OpenRun),
    Sealed(Arc<Block>),
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
        self.push_segment(block.count(), Data::Sealed(block));
    }

    /// Appends a copy of a short run.
    pub fn append_run(&mut self, run: &Run) {
        if self.deleted {
            return;
        }
        self.flow.append(run.len());
        if let Some(mut last) = self.segments.last_entry() {
            let segment = last.get_mut();
            if let Data::Open(open) = &mut segment.data
                && open.len() + run.len() <= BLOCK_MAX
            {
                open.extend(run);
                segment.count += run.count();
                segment.live += run.count();
                self.next += u64::from(run.count());
                return;
            }
        }
        let mut open = OpenRun::new(&self.account);
        open.extend(run);
        self.push_segment(run.count(), Data::Open(open));
    }

    fn push_segment(&mut self, count: u32, data: Data) {
        if self.deleted || count == 0 {
            return;
        }
        // The segment before it grows no more, so what it has reserved and not used is given back.
        if let Some(mut last) = self.segments.last_entry() {
            last.get_mut().seal();
        }
        if self.head.position == self.next {
            self.head = Head { position: self.next, segment: self.next, offset: 0 };
        }
        self.segments.insert(self.next, Segment { count, live: count, data });
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

    /// Counts what was taken; returns an upper bound of its bytes.
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
        let in_segment = first + u64::from(segment.count) - position;
        let (position, count) = self.requeued.take_front(max.min(in_segment))?;
        let offset = block.skip(0, (position - first) as u32);
        Some(Delivery { block, offset, count: count as u32, position, redelivered: true })
    }

    fn take_head(&mut self, max: u64) -> Option<Delivery> {
        let Head { position, segment: first, offset } = self.head;
        if position == self.next {
            return None;
        }
        let segment = self.segments.get_mut(&first)?;
        let block = segment.seal();
        let end = first + u64::from(segment.count);
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
            let until = end.min(first + u64::from(segment.count));
            segment.live -= (until - at) as u32;
            if segment.live == 0 {
                self.segments.remove(&first);
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

    /// Drops everything and refuses what comes later. Returns how many messages were ready.
    pub fn delete(&mut self) -> u64 {
        let ready = self.ready();
        self.segments.clear();
        self.requeued = Runs::default();
        self.head = Head { position: self.next, segment: self.next, offset: 0 };
        self.unacked = 0;
        self.flow.waiting = 0;
        self.deleted = true;
        ready
    }

    /// Whether a publisher had better pause: much is waiting, and consumers with credit take at least half of what comes.
    /// A consumer that is slower than that, or stuck, slows nobody down. The publisher is told by [`Event::Relaxed`]
    /// when less is waiting; it should not wait for that longer than a moment.
    pub fn is_crowded(&mut self, publisher: &Arc<Mailbox>) -> bool {
        if self.flow.waiting < CROWDED || !self.consumers.has_grants() {
            return false;
        }
        let keeps_pace = self.flow.taken >= self.flow.appended / 2;
        (self.flow.appended, self.flow.taken) = (0, 0);
        if keeps_pace && !self.flow.paused.iter().any(|paused| Arc::ptr_eq(paused, publisher)) {
            self.flow.paused.push(publisher.clone());
        }
        keeps_pace
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
}

impl Segment {
    /// The records as a block; an open run is closed by it.
    fn seal(&mut self) -> Arc<Block> {
        if let Data::Open(run) = &mut self.data {
            self.data = Data::Sealed(run.seal());
        }
        match &self.data {
            Data::Sealed(block) => block.clone(),
            Data::Open(_) => unreachable!("sealed above"),
        }
    }
}
