//! What is to happen to messages at a time: one expires, or its delay ends.

mod codec;

pub(crate) use codec::{ITEM_MAX, Packed, decode, encode};

use crate::log::QueueId;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::Duration;

/// The latest time there is, in milliseconds since 1970; what is due later is due then.
pub(crate) const MAX_DUE: u64 = u64::MAX >> 1;

/// The bit in the id of a queue that is not durable: what is to happen to its messages is in no record.
pub(crate) const TRANSIENT: QueueId = 1 << 63;

/// Something that is to happen to messages of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    /// When, in milliseconds since 1970.
    pub(crate) due: u64,
    pub(crate) what: What,
    pub(crate) queue: QueueId,
    /// The first of so many consecutive messages.
    pub(crate) position: u64,
    pub(crate) count: u64,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// The messages have been in the queue for as long as they may.
    Expire,
    /// The messages may be handed out from then on.
    Wake,
}

impl Time {
    /// Takes over the messages of another one if they follow and the rest is the same; true if so.
    fn join(&mut self, next: &Time) -> bool {
        let joins = (self.due, self.what, self.queue) == (next.due, next.what, next.queue)
            && self.position.checked_add(self.count) == Some(next.position)
            && self.count.checked_add(next.count).is_some();
        if joins {
            self.count += next.count;
        }
        joins
    }
}

/// What is to happen at times, the next of it in memory.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Held for moments; no other lock is taken under it.
    near: Mutex<Near>,
    /// Something earlier was added, or whoever waits is to look up.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Near {
    heap: BinaryHeap<Reverse<Time>>,
    /// The last one that was added: the next one may join it.
    last: Option<Time>,
    /// Taken, and not in effect yet.
    in_hand: Vec<Time>,
    /// Whoever waits is not to.
    kicked: bool,
    /// Some were lost, and nobody knows yet.
    damaged: bool,
}

#[cfg_attr(not(test), expect(dead_code, reason = "queues do not ask for times yet"))]
impl Times {
    /// Of a broker in memory: nothing is ever written.
    pub(crate) fn new() -> Times {
        Times::default()
    }

    /// With what a start has found. `damaged` if some of what it should have found does not check.
    pub(crate) fn open(found: &Packed, damaged: bool) -> Times {
        let near = Near { damaged, heap: found.iter().map(Reverse).collect(), ..Near::default() };
        Times { near: Mutex::new(near), ..Times::default() }
    }

    /// Whether times were lost since the last call: messages that wait for one may do so without end.
    pub(crate) fn take_damaged(&self) -> bool {
        std::mem::take(&mut self.near.lock().damaged)
    }

    /// What a checkpoint has to say: of durable queues, what is in memory and not in effect, sorted.
    pub(crate) fn pending(&self) -> Vec<Time> {
        let near = self.near.lock();
        let all = near.heap.iter().map(|Reverse(time)| time).chain(&near.last).chain(&near.in_hand);
        let mut pending: Vec<Time> = all.filter(|time| time.queue & TRANSIENT == 0).copied().collect();
        drop(near);
        pending.sort_unstable();
        pending
    }

    /// Adds some. To be called when their positions are given to messages, and before or under the same lock of a queue
    /// as the log is told, so that a checkpoint has what it does not replay.
    pub(crate) fn add(&self, times: &[Time]) {
        let mut near = self.near.lock();
        let before = near.next();
        times.iter().for_each(|time| near.push(*time));
        if near.next() < before || before.is_none() {
            self.wake(near);
        }
    }

    /// When the next of them is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.near.lock().next()
    }

    /// Takes those that are due, the earliest first, and `max` at most; true if more are due. They are in hand until
    /// [`Times::settled`] is called. Only one thread may take.
    ///
    /// # Errors
    /// If what is next cannot be read; nothing was taken then, and it can be tried again.
    pub(crate) fn take_due(&self, now: u64, max: usize, out: &mut Vec<Time>) -> io::Result<bool> {
        let mut near = self.near.lock();
        for _ in 0..max {
            let Some(time) = near.pop(now) else { return Ok(false) };
            near.in_hand.push(time);
            out.push(time);
        }
        Ok(near.next().is_some_and(|due| due <= now))
    }

    /// What was taken has taken effect, in queues and in the log.
    pub(crate) fn settled(&self) {
        self.near.lock().in_hand.clear();
    }

    /// Sleeps for so many milliseconds, or without end; until something is added that is due earlier than all before, or
    /// [`Times::kick`] is called. Returns at once if that was since the last time.
    pub(crate) fn wait(&self, until: Option<u64>) {
        let mut near = self.near.lock();
        if !near.kicked {
            match until {
                Some(milliseconds) => drop(self.changed.wait_for(&mut near, Duration::from_millis(milliseconds))),
                None => self.changed.wait(&mut near),
            }
        }
        near.kicked = false;
    }

    /// Wakes whoever waits.
    pub(crate) fn kick(&self) {
        self.wake(self.near.lock());
    }

    fn wake(&self, mut near: parking_lot::MutexGuard<'_, Near>) {
        near.kicked = true;
        drop(near);
        self.changed.notify_all();
    }
}

impl Near {
    fn push(&mut self, time: Time) {
        if self.last.as_mut().is_some_and(|last| last.join(&time)) {
            return;
        }
        self.heap.extend(self.last.replace(time).map(Reverse));
    }

    fn peek(&self) -> Option<Time> {
        let first = self.heap.peek().map(|Reverse(time)| *time);
        first.into_iter().chain(self.last).min()
    }

    fn next(&self) -> Option<u64> {
        self.peek().map(|time| time.due)
    }

    /// Takes the earliest, if it is due.
    fn pop(&mut self, now: u64) -> Option<Time> {
        let first = self.peek().filter(|first| first.due <= now)?;
        if self.last == Some(first) { self.last.take() } else { self.heap.pop().map(|Reverse(time)| time) }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{MAX_DUE, Time, What};
    use proptest::prelude::*;

    pub(crate) fn time(due: u64, queue: u64, position: u64) -> Time {
        Time { due, what: What::Expire, queue, position, count: 1 }
    }

    pub(crate) fn any_time() -> impl Strategy<Value = Time> {
        let due = prop_oneof![0..50u64, 1_700_000_000_000..1_700_000_001_000u64, 0..=MAX_DUE];
        let queue = prop_oneof![1..5u64, any::<u64>()];
        let position = prop_oneof![0..100u64, 0..u64::MAX / 2];
        (due, any::<bool>(), queue, position, 1..u64::MAX / 2).prop_map(|(due, wake, queue, position, count)| {
            let what = if wake { What::Wake } else { What::Expire };
            Time { due, what, queue, position, count }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::time;
    use super::*;

    fn take(times: &Times, now: u64, max: usize) -> (Vec<Time>, bool) {
        let mut out = Vec::new();
        let more = times.take_due(now, max, &mut out).expect("nothing is read");
        (out, more)
    }

    #[test]
    fn what_is_due_is_taken_earliest_first() {
        let times = Times::new();
        times.add(&[time(30, 1, 0), time(10, 1, 5)]);
        times.add(&[time(20, 2, 0)]);
        assert_eq!(times.next(), Some(10));
        assert_eq!(take(&times, 9, 10), (vec![], false));
        assert_eq!(take(&times, 25, 1), (vec![time(10, 1, 5)], true));
        assert_eq!(take(&times, 25, 10), (vec![time(20, 2, 0)], false));
        times.settled();
        assert_eq!(times.next(), Some(30));
    }

    #[test]
    fn neighbours_with_the_same_time_are_one() {
        let times = Times::new();
        times.add(&[time(5, 1, 0), time(5, 1, 1)]);
        times.add(&[time(5, 1, 2), time(5, 1, 4), time(5, 2, 5)]);
        let joined = Time { count: 3, ..time(5, 1, 0) };
        assert_eq!(take(&times, 5, 10), (vec![joined, time(5, 1, 4), time(5, 2, 5)], false));
    }

    #[test]
    fn who_waits_is_woken_by_what_is_earlier() {
        let times = Times::new();
        times.add(&[time(50, 1, 0)]);
        times.wait(None);
        times.add(&[time(40, 1, 0)]);
        times.wait(None);
        times.kick();
        times.wait(None);
        times.add(&[time(60, 1, 0)]);
        times.wait(Some(1));
    }
}
