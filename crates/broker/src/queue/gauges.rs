//! What a queue knows of itself only to tell it: counters, bytes, ages and what it costs. Nothing is decided by it.

use super::{Delivery, Holder, Queue};
use crate::counters::QueueCounters;
use crate::runs::Runs;
use crate::segment::Segment;
use std::collections::VecDeque;

/// Marks of arrival that a queue keeps at most; of more, every other one is forgotten.
const MARKS_MAX: usize = 256;

/// Milliseconds between two marks, at least.
const MARK_EACH: u64 = 1000;

#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// What happened.
    pub(crate) counters: QueueCounters,
    /// Bytes of the bodies that are ready or wait, and have come or come back since the start.
    ready_bytes: u64,
    found: Found,
    /// Bytes of the bodies that are handed out.
    unacked_bytes: u64,
    /// Bytes of bodies that were taken, by whomever.
    taken_bytes: u64,
    /// Messages that the log knows nothing of.
    transient: u64,
    marks: Marks,
    /// How long it was locked.
    pub(crate) cost: Cost,
}

/// What a start has found and nobody has taken since. Of its bodies' bytes only an estimate is known.
#[derive(Debug, Default)]
struct Found {
    left: Runs,
    bytes: u64,
    /// Positions below were given out before the start.
    end: u64,
}

/// When messages came: positions and milliseconds since 1970, in order.
#[derive(Debug, Default)]
struct Marks {
    list: VecDeque<(u64, u64)>,
    /// When the last message came.
    last: Option<u64>,
    /// Milliseconds between two marks.
    each: u64,
}

/// How long a queue was locked, measured now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    changes: u64,
    /// Of those changes that were measured.
    nanoseconds: u64,
}

/// One change of so many is measured.
const MEASURE_EACH: u64 = 64;

impl Cost {
    /// Counts a change; true if it is to be measured.
    #[inline]
    pub(crate) fn begin(&mut self) -> bool {
        self.changes += 1;
        self.changes.is_multiple_of(MEASURE_EACH)
    }

    /// So long took the one that was measured.
    pub(crate) fn end(&mut self, nanoseconds: u64) {
        self.nanoseconds += nanoseconds;
    }

    /// About how many nanoseconds all changes took.
    pub(crate) fn estimate(&self) -> u64 {
        self.nanoseconds.saturating_mul(MEASURE_EACH)
    }
}

/// What a queue holds, by the way it is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Bytes of the bodies of messages that are ready or wait.
    pub(crate) ready_bytes: u64,
    /// Bytes of the bodies of those that are handed out.
    pub(crate) unacked_bytes: u64,
    /// Messages that survive a restart.
    pub(crate) persistent: u64,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Bytes of files.
    pub(crate) disk: u64,
}

impl Queue {
    /// Messages came, with so many bytes of bodies.
    #[inline]
    pub(super) fn count_arrival(&mut self, count: u32, body_bytes: u64, persistent: bool) {
        let gauges = &mut self.gauges;
        gauges.counters.published += u64::from(count);
        gauges.counters.published_bytes += body_bytes;
        gauges.ready_bytes += body_bytes;
        if !persistent {
            gauges.transient += u64::from(count);
        }
    }

    /// Messages were taken.
    #[inline]
    pub(super) fn count_taken(&mut self, delivery: &Delivery, no_ack: bool) {
        let bytes = delivery.body_bytes();
        let (gauges, count) = (&mut self.gauges, u64::from(delivery.count));
        gauges.taken_bytes += bytes;
        let found = if delivery.position < gauges.found.end { gauges.found.take(delivery.position, count) } else { 0 };
        gauges.ready_bytes = gauges.ready_bytes.saturating_sub(bytes - part(bytes, found, count));
        if !no_ack {
            gauges.unacked_bytes += bytes;
        }
    }

    /// Takes messages for a client, and counts them as such.
    #[inline]
    pub(super) fn count_handed_out<R>(
        &mut self,
        taker: Holder,
        no_ack: bool,
        out: &mut Vec<Delivery>,
        take: impl FnOnce(&mut Queue, &mut Vec<Delivery>) -> R,
    ) -> R {
        let (begin, before) = (out.len(), self.gauges.taken_bytes);
        let result = take(self, out);
        let (mut count, mut again) = (0, 0);
        for delivery in &out[begin..] {
            count += u64::from(delivery.count);
            again += if delivery.redelivered { u64::from(delivery.count) } else { 0 };
        }
        if count > 0 {
            // What it holds was estimated in part; with nothing there it is nothing.
            if self.ready() + self.waiting() == 0 {
                (self.gauges.ready_bytes, self.gauges.found) = (0, Found::default());
            }
            let taken = self.gauges.taken_bytes - before;
            let counters = &mut self.gauges.counters;
            counters.delivered_bytes += taken;
            counters.redelivered += again;
            *match (taker, no_ack) {
                (Holder::Consumer(_), false) => &mut counters.delivered,
                (Holder::Consumer(_), true) => &mut counters.delivered_no_ack,
                (Holder::Channel(..), false) => &mut counters.got,
                (Holder::Channel(..), true) => &mut counters.got_no_ack,
            } += count;
        }
        result
    }

    /// So many of what is handed out will be settled now. Their bytes: about as many as they are of all that is handed
    /// out, since what they were may be on the disk only.
    #[inline]
    pub(super) fn count_settled(&mut self, count: u64) -> u64 {
        let part = part(self.gauges.unacked_bytes, count, self.unacked);
        self.gauges.unacked_bytes -= part;
        part
    }

    /// So many of what is handed out will come back now.
    pub(super) fn count_returned(&mut self, count: u64) {
        let bytes = self.count_settled(count);
        self.gauges.ready_bytes += bytes;
    }

    /// So many of what is ready or waits will be taken out now, as handed out or, if not `held`, for good.
    pub(super) fn count_taken_out(&mut self, count: u64, of: u64, held: bool) {
        let gauges = &mut self.gauges;
        let (ready, found) = (part(gauges.ready_bytes, count, of), part(gauges.found.bytes, count, of));
        (gauges.ready_bytes, gauges.found.bytes) = (gauges.ready_bytes - ready, gauges.found.bytes - found);
        if held {
            gauges.unacked_bytes += ready + found;
        }
    }

    /// Everything that was ready or waited is gone.
    pub(super) fn count_purged(&mut self, purged: u64) {
        (self.gauges.ready_bytes, self.gauges.found) = (0, Found::default());
        self.gauges.counters.purged += purged;
    }

    /// Messages that the log knew nothing of are gone.
    #[inline]
    pub(super) fn count_transient_gone(&mut self, count: u64) {
        self.gauges.transient = self.gauges.transient.saturating_sub(count);
    }

    /// Of a queue as a start found it: its messages have about so many bytes.
    pub(super) fn set_found(&mut self, bytes: u64) {
        let mut left = self.waiting.clone();
        let restored = self.stored.iter().flat_map(|stored| stored.restored.iter());
        restored.for_each(|(first, count)| left.add(first, count));
        self.gauges.found = Found { left, bytes, end: self.next };
    }

    /// Messages from this position on came at this time, milliseconds since 1970.
    #[inline]
    pub(crate) fn note_arrival(&mut self, position: u64, now: u64) {
        self.gauges.marks.add(position, now);
    }

    /// What is there before this position came no later than now.
    pub(crate) fn note_found(&mut self, now: u64) {
        self.gauges.marks.add(0, now);
        self.gauges.marks.last = None;
    }

    /// When the last message came, in milliseconds since 1970; `None` if none has since the start.
    pub(crate) fn last_arrival(&self) -> Option<u64> {
        self.gauges.marks.last
    }

    /// When the oldest message that is there came, in milliseconds since 1970, to about a part in a hundred of its age.
    pub(crate) fn oldest(&mut self) -> Option<u64> {
        let first = self.first_position()?;
        self.gauges.marks.of(first)
    }

    /// When a message came, as [`Queue::oldest`] tells it.
    pub(crate) fn arrival(&self, position: u64) -> Option<u64> {
        self.gauges.marks.at(position)
    }

    /// The lowest position that is not gone.
    fn first_position(&self) -> Option<u64> {
        match &self.stored {
            Some(stored) => stored.gone.gaps(0, self.next).next().map(|(first, _)| first),
            None => self.segments.first_key_value().map(|(first, segment)| first + u64::from(segment.first_living())),
        }
    }

    /// What the queue holds. A walk over its segments.
    pub(crate) fn holdings(&self) -> Holdings {
        let found = &self.gauges.found;
        let is_left = found.bytes > 0 && self.first_position().is_some_and(|first| first < found.end);
        let told = self.gauges.ready_bytes + if is_left { found.bytes } else { 0 };
        let (ready, messages) = (self.bytes.unwrap_or(told), self.ready() + self.waiting());
        let persistent = match &self.stored {
            Some(_) => (messages + self.unacked).saturating_sub(self.gauges.transient),
            None => 0,
        };
        Holdings {
            ready_bytes: if messages == 0 { 0 } else { ready },
            unacked_bytes: if self.unacked == 0 { 0 } else { self.gauges.unacked_bytes },
            persistent,
            memory: self.segments.values().map(Segment::memory).sum(),
            disk: self.segments.values().map(Segment::disk).sum::<u64>()
                + self.stored.as_ref().map_or(0, |stored| stored.span_bytes()),
        }
    }
}

impl Found {
    /// Messages were taken: of how many nobody had before, since the start.
    fn take(&mut self, position: u64, count: u64) -> u64 {
        let taken = self.left.count(position, count);
        self.bytes -= part(self.bytes, taken, self.left.len());
        self.left.remove(position, count);
        if self.left.len() == 0 {
            *self = Found::default();
        }
        taken
    }
}

/// As much of something as `count` is of `all`.
fn part(bytes: u64, count: u64, all: u64) -> u64 {
    match count >= all {
        _ if count == 0 => 0,
        true => bytes,
        false => (u128::from(bytes) * u128::from(count) / u128::from(all)) as u64,
    }
}

impl Marks {
    #[inline]
    fn add(&mut self, position: u64, now: u64) {
        self.last = Some(now);
        match self.list.back() {
            Some(&(_, at)) if now < at.saturating_add(self.each) => {}
            _ => self.push(position, now),
        }
    }

    fn push(&mut self, position: u64, now: u64) {
        if self.list.len() == MARKS_MAX {
            self.thin();
        }
        self.list.push_back((position, now));
        self.each = self.each.max(MARK_EACH);
    }

    /// Forgets every other one: a long backlog is told with less precision.
    fn thin(&mut self) {
        let mut number = 0;
        self.list.retain(|_| {
            number += 1;
            number % 2 == 1
        });
        let span = self.list.back().zip(self.list.front()).map_or(0, |(last, first)| last.1.saturating_sub(first.1));
        self.each = MARK_EACH.max(span / MARKS_MAX as u64 * 2);
    }

    /// When the message of this position came.
    fn at(&self, position: u64) -> Option<u64> {
        let after = self.list.partition_point(|(first, _)| *first <= position);
        Some(self.list.get(after.checked_sub(1)?)?.1)
    }

    /// When the message of this position came; forgets what is before it, which is gone.
    fn of(&mut self, position: u64) -> Option<u64> {
        let after = self.list.partition_point(|(first, _)| *first <= position);
        self.list.drain(..after.saturating_sub(1));
        if self.list.len() < MARKS_MAX / 4 {
            self.each = MARK_EACH;
        }
        self.list.front().filter(|(first, _)| *first <= position).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_to_a_part_in_a_hundred_of_a_bounded_number_of_marks() {
        let mut marks = Marks::default();
        // A message each 100 ms for a day; message n came at n * 100.
        for number in 0..24 * 60 * 60 * 10 {
            marks.add(number, number * 100);
        }
        assert!(marks.list.len() <= MARKS_MAX);
        let now = 24 * 60 * 60 * 1000;
        for number in (0..24 * 60 * 60 * 10).step_by(997) {
            let (told, is) = (marks.of(number).expect("it has a mark"), number * 100);
            assert!(told <= is, "it is never told to be younger");
            assert!(is - told <= 1000.max(now / 100), "message {number} came at {is}, told is {told}");
        }
        assert!(marks.list.len() <= 2, "what is before the oldest one is forgotten");
    }

    #[test]
    fn with_nothing_before_it_a_message_has_no_age() {
        let mut marks = Marks::default();
        assert_eq!(marks.of(7), None);
        marks.add(10, 5000);
        assert_eq!((marks.of(9), marks.of(10), marks.of(999)), (None, Some(5000), Some(5000)));
    }
}
