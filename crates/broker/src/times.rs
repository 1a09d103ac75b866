//! What is to happen to messages at a time: one expires, or its delay ends.

mod codec;
mod far;

pub(crate) use codec::{Before, ITEM_MAX, Packed, decode, encode};

use crate::log::{BadBlock, QueueId, Reader, TimesFile};
use crate::runs::Runs;
use far::Far;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The latest time there is, in milliseconds since 1970; what is due later is due then.
pub(crate) const MAX_DUE: u64 = u64::MAX >> 1;

/// The bit in the id of a queue that is not durable: what is to happen to its messages is in no record.
pub(crate) const TRANSIENT: QueueId = 1 << 63;

/// Something that is to happen to messages of a queue, whose positions end before the last there is.
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
    /// Takes over the messages of another one if they follow, or are the same, and so is the rest; true if so.
    pub(crate) fn join(&mut self, next: &Time) -> bool {
        let (end, next_end) = (self.position + self.count, next.position + next.count);
        let joins = (self.due, self.what, self.queue) == (next.due, next.what, next.queue)
            && (self.position..=end).contains(&next.position);
        if joins {
            self.count = end.max(next_end) - self.position;
        }
        joins
    }

    /// Says the same of at least the same messages.
    fn covers(&self, other: &Time) -> bool {
        (self.due, self.what, self.queue) == (other.due, other.what, other.queue)
            && self.position <= other.position
            && other.position + other.count <= self.position + self.count
    }

    /// No record has it.
    pub(crate) fn is_transient(&self) -> bool {
        self.queue & TRANSIENT != 0
    }
}

/// More than this in memory is written to a file, or what of it has lost its messages is dropped; unless
/// [`crate::Storage::near_times`] says otherwise. Fewer in unit tests, which are to have many files.
pub(crate) const NEAR: usize = if cfg!(test) { 64 } else { 64 * 1024 };

/// No fewer than that: a quarter of them is to be something.
const NEAR_MIN: usize = 4;

/// What is to happen at times: the next of it in memory, the rest in files.
#[derive(Debug)]
pub(crate) struct Times {
    /// So many may be in memory.
    most: usize,
    /// What is in files, and what was taken. Held while a block is read; before `near`, never by who adds.
    far: Mutex<Far>,
    /// Held for moments; no other lock is taken under it.
    near: Mutex<Near>,
    /// Something earlier was added, or whoever waits is to look up.
    changed: Condvar,
    /// Some were lost, and nobody was told yet.
    damaged: AtomicBool,
}

impl Default for Times {
    fn default() -> Times {
        Times::with_near(NEAR)
    }
}

#[derive(Debug, Default)]
struct Near {
    heap: BinaryHeap<Reverse<Time>>,
    /// The last one that was added: the next one may join it.
    last: Option<Time>,
    /// When the next one in files is due.
    far: Option<u64>,
    /// Whoever waits is not to.
    kicked: bool,
    /// Those that have lost their messages were dropped, and so many were left.
    left: usize,
}

impl Times {
    /// With about so many in memory; a start adds what it has found.
    pub(crate) fn with_near(most: usize) -> Times {
        let most = most.max(NEAR_MIN);
        let far = Mutex::new(Far::new(most as u64 / 2));
        let (near, changed, damaged) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Times { most, far, near, changed, damaged }
    }

    /// So many may be in memory.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Adds some. To be called when their positions are given to messages, before the log's record of them is appended: a
    /// checkpoint takes what is here after it has looked where the log ends, so that it has all that it does not replay;
    /// and before it looks at the queues, so that these know of all positions that it has.
    pub(crate) fn add(&self, times: &[Time]) {
        let mut near = self.near.lock();
        let before = near.next();
        times.iter().for_each(|time| near.push(*time));
        if near.next() < before || before.is_none() {
            self.wake(near);
        }
    }

    /// When the next of them is due. A time that has passed if that cannot be read at the moment.
    pub(crate) fn next(&self) -> Option<u64> {
        self.near.lock().next()
    }

    /// Takes those that are due, the earliest first, and `max` at most; true if more are due. They are in hand until
    /// [`Times::settled`] is called. Only one thread may take.
    ///
    /// # Errors
    /// If what is next cannot be read; nothing was taken then, and it can be tried again.
    pub(crate) fn take_due(&self, now: u64, max: usize, out: &mut Vec<Time>) -> io::Result<bool> {
        let mut far = self.far.lock();
        let (mut taken, mut failed) = (0, None);
        while taken < max {
            // What cannot be read is not tried again for each of the others.
            failed = failed.or_else(|| far.load(&self.damaged).err());
            let first = far.first();
            let near = self.near.lock().pop(first.map_or(now, |time| now.min(time.due)));
            let time = match (near, first) {
                (Some(time), _) => time,
                (None, Some(time)) if time.due <= now => {
                    far.advance();
                    time
                }
                _ => break,
            };
            // After a start some are there twice: in the log and in a file.
            if taken == 0 || out.last().is_none_or(|last| !last.covers(&time)) {
                far.in_hand.push(time);
                out.push(time);
                taken += 1;
            }
        }
        let mut near = self.near.lock();
        near.far = far.next();
        match failed {
            Some(error) if taken == 0 => Err(error),
            _ => Ok(near.next().is_some_and(|due| due <= now)),
        }
    }

    /// What was taken has taken effect, in queues and in the log.
    pub(crate) fn settled(&self) {
        self.far.lock().in_hand.clear();
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

    fn wake(&self, mut near: MutexGuard<'_, Near>) {
        near.kicked = true;
        drop(near);
        self.changed.notify_all();
    }

    /// Whether times were lost since the last call: messages that wait for one may do so without end.
    pub(crate) fn take_damaged(&self) -> bool {
        self.damaged.swap(false, Ordering::Relaxed)
    }

    /// The messages that are to be woken at some time, by queue, as far as that can be read.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn to_wake(&self) -> io::Result<FxHashMap<QueueId, Runs>> {
        let (forks, mut known) = {
            let far = self.far.lock();
            let near = self.near.lock();
            let known = near.heap.iter().map(|Reverse(time)| *time).chain(near.last).chain(far.in_hand.iter().copied());
            (far.readers().map(Reader::fork).collect::<Vec<_>>(), known.collect::<Vec<Time>>())
        };
        let mut found: FxHashMap<QueueId, Runs> = FxHashMap::default();
        let mut add = |time: &Time| {
            if time.what == What::Wake {
                found.entry(time.queue).or_default().add(time.position, time.count);
            }
        };
        known.drain(..).for_each(|time| add(&time));
        for mut reader in forks {
            // Blocks that do not check were reported, or will be.
            let mut bad = Vec::new();
            while !reader.is_done() {
                reader.load(&mut bad)?;
                if let Some(time) = reader.head() {
                    add(&time);
                    reader.advance();
                }
            }
        }
        Ok(found)
    }

    /// In a broker in memory: drops those that have lost their messages if there are many. To be called now and then.
    pub(crate) fn drop_dead(&self, lives: &mut dyn FnMut(&Time) -> bool) {
        let crowded = {
            let near = self.near.lock();
            near.len() > self.most.max(2 * near.left)
        };
        if crowded {
            let mut later = self.take_later();
            later.retain(lives);
            self.put_back(later);
        }
    }
}

/// What the log does with them.
impl Times {
    /// Some were lost.
    pub(crate) fn note_damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// How many are in memory.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.near.lock().len()
    }

    /// There are more in memory than should be.
    pub(crate) fn is_crowded(&self) -> bool {
        self.near.lock().len() > self.most
    }

    /// Takes the later part of those in memory, sorted and without what is there twice. It has to be given back, by
    /// [`Times::put_back`] or [`Times::add_file`].
    pub(crate) fn take_later(&self) -> Vec<Time> {
        let mut later = {
            let mut near = self.near.lock();
            let last = near.last.take().map(Reverse);
            let mut all = std::mem::take(&mut near.heap).into_vec();
            all.extend(last);
            let middle = all.len().min(self.most / 2);
            if middle < all.len() {
                all.select_nth_unstable_by_key(middle, |Reverse(time)| *time);
            }
            let later = all.split_off(middle);
            near.heap = all.into();
            later
        };
        later.sort_unstable_by_key(|Reverse(time)| *time);
        let mut joined: Vec<Time> = Vec::with_capacity(later.len());
        for Reverse(time) in later {
            if !joined.last_mut().is_some_and(|last| last.join(&time)) {
                joined.push(time);
            }
        }
        joined
    }

    /// Puts back what was taken by [`Times::take_later`].
    pub(crate) fn put_back(&self, later: Vec<Time>) {
        let mut near = self.near.lock();
        near.heap.extend(later.into_iter().map(Reverse));
        near.left = near.len();
        self.wake(near);
    }

    /// Adds a file that is written and synced, or was found by a start.
    pub(crate) fn add_file(&self, reader: Reader) {
        let mut far = self.far.lock();
        far.push(reader);
        self.look_up(far);
    }

    /// Reads what is next in files.
    fn look_up(&self, mut far: MutexGuard<'_, Far>) {
        // What cannot be read is due at once, so that whoever takes it is told.
        let _ = far.load(&self.damaged);
        let mut near = self.near.lock();
        near.far = far.next();
        self.wake(near);
    }

    /// What a checkpoint has to say, of durable queues: what is in memory or in hand, sorted, and the files.
    pub(crate) fn snapshot(&self) -> (Vec<Time>, Vec<TimesFile>) {
        let far = self.far.lock();
        let files: Vec<TimesFile> = far.readers().map(Reader::record).collect();
        #[cfg(feature = "mutants")]
        let files = if crate::mutants::is_on(crate::mutants::Mutant::NoTimesFiles) { Vec::new() } else { files };
        let near = self.near.lock();
        let all = near.heap.iter().map(|Reverse(time)| time).chain(&near.last).chain(&far.in_hand);
        let mut times: Vec<Time> = all.filter(|time| !time.is_transient()).copied().collect();
        drop((near, far));
        times.sort_unstable();
        times.dedup_by(|next, last| last.join(next));
        (times, files)
    }

    /// Numbers of files all of which was taken, each once.
    pub(crate) fn take_used_up(&self) -> Vec<u32> {
        std::mem::take(&mut self.far.lock().used_up)
    }

    /// Blocks that do not check, each once.
    pub(crate) fn take_bad(&self) -> Vec<BadBlock> {
        std::mem::take(&mut self.far.lock().bad)
    }

    /// Ways through files that are to be merged into one, if there are enough of a size. Ends with
    /// [`Times::end_merge`], before which there is no other.
    pub(crate) fn begin_merge(&self) -> Option<Vec<Reader>> {
        self.far.lock().begin_merge()
    }

    /// Puts a merged file, if anything is left, in the place of the others, which are returned. What was taken from them
    /// meanwhile must not be in it: if more was than `passed`, nothing is done.
    pub(crate) fn end_merge(&self, merged: &mut Option<Reader>, passed: Option<Time>) -> Option<Vec<u32>> {
        let mut far = self.far.lock();
        if far.passed > passed {
            return None;
        }
        let removed = far.end_merge(merged.take());
        self.look_up(far);
        Some(removed)
    }

    /// The last one that was taken from files that are being merged.
    pub(crate) fn passed(&self) -> Option<Time> {
        self.far.lock().passed
    }

    /// The files are not merged.
    pub(crate) fn give_up_merge(&self) {
        self.far.lock().merging.clear();
    }
}

impl Near {
    fn push(&mut self, time: Time) {
        if self.last.as_mut().is_some_and(|last| last.join(&time)) {
            return;
        }
        self.heap.extend(self.last.replace(time).map(Reverse));
    }

    fn len(&self) -> usize {
        self.heap.len() + usize::from(self.last.is_some())
    }

    fn peek(&self) -> Option<Time> {
        let first = self.heap.peek().map(|Reverse(time)| *time);
        first.into_iter().chain(self.last).min()
    }

    fn next(&self) -> Option<u64> {
        self.peek().map(|time| time.due).into_iter().chain(self.far).min()
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
        let times = Times::default();
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
        let times = Times::default();
        times.add(&[time(5, 1, 0), time(5, 1, 1)]);
        times.add(&[time(5, 1, 2), time(5, 1, 4), time(5, 2, 5)]);
        let joined = Time { count: 3, ..time(5, 1, 0) };
        assert_eq!(take(&times, 5, 10), (vec![joined, time(5, 1, 4), time(5, 2, 5)], false));
    }

    #[test]
    fn a_broker_in_memory_drops_what_has_lost_its_messages() {
        let times = Times::default();
        for index in 0..10_000 {
            times.add(&[time(10_000 - index, 1, 2 * index)]);
            times.drop_dead(&mut |time| time.position % 1000 == 0);
        }
        assert!(times.held() <= 2 * NEAR, "{} are left", times.held());
        let (left, _) = take(&times, u64::MAX, 20_000);
        assert_eq!(left.iter().filter(|time| time.position % 1000 == 0).count(), 20);
    }

    #[test]
    fn who_waits_is_woken_by_what_is_earlier() {
        let times = Times::default();
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
