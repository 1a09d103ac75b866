//! Messages that leave a queue out of turn, wait for a time, or have come back too often.

use super::lanes::Lanes;
use super::stored::{inside, take_all};
use super::{Delivery, Head, Missing, Queue};
use crate::dead_letter::Reason;
use crate::log::QueueId;
use crate::runs::Runs;
use crate::settings::Settings;
use crate::times::{Time, What};

/// Messages that are done with in this queue. They count as handed out until they are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) position: u64,
    pub(crate) count: u64,
    pub(crate) reason: Reason,
    /// They were ready or waiting, and their bytes are still counted.
    pub(crate) counted: bool,
}

/// How messages come back to their queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Return {
    /// Their consumer rejected them or was lost; otherwise it only gave them back.
    pub(crate) failed: bool,
    /// Milliseconds since 1970.
    pub(crate) now: u64,
    /// In `0.0 .. 1.0`, for the jitter of delays.
    pub(crate) chance: f64,
    /// Bytes of their bodies, if the queue counts those.
    pub(crate) bytes: u64,
}

/// On their way to a consumer that was told of them up to so many messages don't count for a queue's limits: they are
/// about to be handed out.
const ON_THEIR_WAY: u64 = 1024;

/// While the bytes of a queue's bodies are counted, what goes is subtracted from this.
const COUNTING: u64 = 1 << 62;

impl Queue {
    /// Takes other rules, as far as they can change: who gets which messages cannot. Where bytes are to be counted they are
    /// already.
    pub(crate) fn reconfigure(&mut self, rules: &Settings) {
        self.bytes = self.bytes.filter(|_| rules.counts_bytes());
        self.tells_count = rules.tells_count();
    }

    /// All messages, and those that will be seen, expire at a time if they did not before.
    pub(crate) fn expire_all_at(&mut self, due: u64) {
        if self.next > 0 {
            let (what, queue, count) = (What::Expire, self.number, self.next);
            self.times.push(Time { due, what, queue, position: 0, count });
        }
    }

    /// Gives it a name among times, and its rules.
    pub(crate) fn configure(&mut self, number: QueueId, rules: &Settings) {
        self.number = number;
        self.bytes = rules.counts_bytes().then_some(0);
        (self.delays, self.tells_count) = (rules.delays_for.is_some(), rules.tells_count());
        if self.delays
            && let Some(stored) = &mut self.stored
        {
            stored.restored.drain().for_each(|(first, count)| self.waiting.add(first, count));
        }
        self.consumers.set_single_active(rules.single_active);
        if rules.group_header.is_some() {
            self.lanes = Some(Box::new(Lanes::new(rules.group_header.clone(), rules.group_prefetch, &self.waiting)));
        }
    }

    /// Of a queue as a start found it: what had its time while it was handed out expires at the next opportunity.
    pub(crate) fn remind_overdue(&mut self) {
        self.remind(0, self.next);
    }

    /// The runs of what is ready or waits, for whoever has to look at all of it.
    fn counted_runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<_> = self.requeued.iter().chain(self.waiting.iter()).collect();
        runs.extend(self.stored.iter().flat_map(|stored| stored.restored.iter()));
        runs.extend(self.lanes.iter().flat_map(|lanes| lanes.iter()));
        self.ahead_runs(self.head.position, self.next, &mut runs);
        runs
    }

    /// Some messages had their time while they were handed out.
    pub(crate) fn has_overdue(&self) -> bool {
        self.overdue.len() > 0
    }

    /// What is to happen at a time, since the last call.
    pub(crate) fn take_times(&mut self) -> Vec<Time> {
        std::mem::take(&mut self.times)
    }

    /// Messages that were handed out, and are not settled.
    pub(crate) fn unacked(&self) -> u64 {
        self.unacked
    }

    /// Messages that wait for their time.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len()
    }

    /// Messages of these expire: those that are ready or wait are taken out, for the caller to settle; those that are
    /// handed out expire when they come back.
    pub(crate) fn expire(&mut self, position: u64, count: u64, dead: &mut Vec<Dead>) {
        let (mut runs, end) = (Vec::new(), (position + count).min(self.next));
        if self.deleted || position >= end {
            return;
        }
        let (mut alive, before) = (Vec::new(), self.ready() + self.waiting());
        self.alive(position, end, &mut alive);
        self.take_out(position, end, &mut runs);
        // Those that are taken out as well, until they are gone: a crash may come before that.
        for (first, count) in alive {
            self.overdue.add(first, count);
        }
        for &(position, count) in &runs {
            dead.push(Dead { position, count, reason: Reason::Expired, counted: true });
        }
        let taken = runs.iter().map(|(_, count)| count).sum::<u64>();
        self.count_taken_out(taken, before, true);
        self.unacked += taken;
        self.note_handed_out();
    }

    /// Messages are seen only now: what their time has come for already happens at the next opportunity.
    pub(super) fn remind(&mut self, position: u64, count: u64) {
        if self.overdue.len() == 0 {
            return;
        }
        let what = if self.delays { What::Wake } else { What::Expire };
        for (position, count) in take_all(&mut self.overdue, position, position + count) {
            self.times.push(Time { due: 0, what, queue: self.number, position, count });
        }
    }

    /// The time of messages has come: they are ready, as far as they wait.
    pub(crate) fn wake(&mut self, position: u64, count: u64) {
        for (first, count) in take_all(&mut self.waiting, position, position + count) {
            self.requeued.insert(first, count);
            self.release_keys(first, count);
        }
    }

    /// The time of messages has come: takes those that wait, as handed out. The time of those that cannot be seen yet
    /// comes again when they can.
    pub(crate) fn take_waiting(&mut self, position: u64, count: u64, out: &mut Vec<(u64, u64)>) {
        let (mut alive, end) = (Vec::new(), (position + count).min(self.next));
        if self.deleted || position >= end {
            return;
        }
        self.alive(position, end, &mut alive);
        // Those that are taken, too, until they are gone: a crash may come before that.
        alive.into_iter().for_each(|(first, count)| self.overdue.add(first, count));
        let before = self.ready() + self.waiting();
        let taken = take_all(&mut self.waiting, position, position + count);
        let count = taken.iter().map(|(_, count)| count).sum::<u64>();
        self.count_taken_out(count, before, true);
        self.unacked += count;
        out.extend(taken);
    }

    /// Where all messages wait for their time, so do the new ones from this position on.
    pub(super) fn delay_from(&mut self, position: u64) {
        if self.delays {
            let mut runs = Vec::new();
            self.take_out(position, self.next, &mut runs);
            runs.into_iter().for_each(|(first, count)| self.waiting.insert(first, count));
        }
    }

    /// Messages that wait and are not in this set.
    pub(crate) fn forgotten(&self, known: Option<&Runs>) -> Vec<(u64, u64)> {
        let none = Runs::default();
        let known = known.unwrap_or(&none);
        self.waiting.iter().flat_map(|(first, count)| known.gaps(first, count)).collect()
    }

    /// Some of these messages are there.
    pub(crate) fn has_any(&self, position: u64, count: u64) -> bool {
        let (mut alive, end) = (Vec::new(), (position + count).min(self.next));
        if position < end {
            self.alive(position, end, &mut alive);
        }
        !alive.is_empty()
    }

    /// Handed-out messages go back to their place as if nobody had had them.
    pub(crate) fn put_back(&mut self, position: u64, count: u64, body_bytes: u64) {
        if self.deleted {
            return;
        }
        self.count_returned(count);
        self.unacked -= count;
        self.requeued.insert(position, count);
        if let Some(lanes) = &mut self.lanes {
            // Another lane may be the right one by now.
            lanes.forget_stale();
        }
        self.bytes = self.bytes.map(|bytes| bytes + body_bytes);
    }

    /// Handed-out messages come back, by the rules of their queue: to their place, at once or after a delay, or they are
    /// dead, which is for the caller to see to.
    pub(crate) fn come_back(
        &mut self,
        position: u64,
        count: u64,
        how: &Return,
        rules: &Settings,
        dead: &mut Vec<Dead>,
    ) {
        if self.deleted {
            return;
        }
        // A nack is no failure in a quorum queue (RabbitMQ 4.3).
        if how.failed || !rules.quorum {
            self.returned.add(position, count);
            if let Some(stored) = &mut self.stored {
                stored.note_requeued(position, count);
            }
        }
        let mut alive = Vec::new();
        // They stay overdue until they are gone: a crash may come before that.
        for (first, count) in inside(&self.overdue, position, position + count) {
            dead.push(Dead { position: first, count, reason: Reason::Expired, counted: false });
        }
        let mut at = position;
        for &Dead { position: first, count, .. } in dead.iter() {
            alive.push((at, first - at));
            at = first + count;
        }
        alive.push((at, position + count - at));
        for (first, count) in alive {
            self.come_back_alive(first, count, how, rules, dead);
        }
        let dying: u64 = dead.iter().map(|dead| dead.count).sum();
        self.count_returned(count - dying);
        self.gauges.counters.returned += count - dying;
        self.unacked -= count - dying;
        if let Some(bytes) = &mut self.bytes {
            // Those that die are still counted among them, and are subtracted with the others that are dead.
            *bytes += how.bytes;
            dead.iter_mut().for_each(|dead| dead.counted = true);
        }
    }

    fn come_back_alive(&mut self, first: u64, count: u64, how: &Return, rules: &Settings, dead: &mut Vec<Dead>) {
        let (mut at, end) = (first, first + count);
        while at < end {
            let (returned, count) = self.returned.get(at, end - at);
            if rules.delivery_limit.is_some_and(|limit| returned > limit) {
                dead.push(Dead { position: at, count, reason: Reason::DeliveryLimit, counted: false });
            } else if let Some(retry) = rules.retry.as_ref().filter(|retry| retry.applies(how.failed)) {
                let due = how.now + retry.delay(returned, how.chance);
                self.waiting.insert(at, count);
                if let Some(lanes) = &mut self.lanes {
                    lanes.wait(at, count);
                }
                self.times.push(Time { due, what: What::Wake, queue: self.number, position: at, count });
            } else {
                self.requeued.insert(at, count);
                self.release_keys(at, count);
            }
            at += count;
        }
    }

    /// Messages that were counted among what is ready are no more.
    pub(crate) fn uncount(&mut self, body_bytes: u64) {
        let is_empty = self.ready() + self.waiting.len() == 0;
        if let Some(bytes) = &mut self.bytes {
            *bytes = match is_empty && *bytes < COUNTING / 2 {
                // Whatever was missed while they were counted.
                true => 0,
                false => bytes.saturating_sub(body_bytes),
            };
        }
    }

    /// The bytes of the bodies of what is ready or waits are counted from now on; gives the runs of what is to be added.
    pub(crate) fn begin_bytes(&mut self) -> Vec<(u64, u64)> {
        self.bytes = Some(COUNTING);
        self.counted_runs()
    }

    /// Adds what was there when that began.
    pub(crate) fn end_bytes(&mut self, body_bytes: u64) {
        self.bytes = self.bytes.map(|bytes| (bytes + body_bytes).saturating_sub(COUNTING));
    }

    /// A number that changes with every message that is gone.
    pub(crate) fn gone(&self) -> u64 {
        self.next.wrapping_sub(self.ready() + self.waiting.len() + self.unacked)
    }

    /// How many of the next messages, whose bodies have these lengths, fit within the queue's limits. A queue that is
    /// deleted refuses nothing.
    pub(crate) fn room(&self, rules: &Settings, lengths: impl Iterator<Item = u64>) -> u32 {
        if self.deleted {
            return u32::try_from(lengths.count()).unwrap_or(u32::MAX);
        }
        let (mut messages, mut bytes, mut room) = (self.counted(), self.bytes.unwrap_or(0), 0);
        for length in lengths {
            (messages, bytes) = (messages + 1, bytes + length);
            if messages > rules.max_messages || bytes > rules.max_bytes {
                break;
            }
            room += 1;
        }
        room
    }

    /// How many messages, and bytes of bodies, still fit within the queue's limits.
    pub(crate) fn free(&self, rules: &Settings) -> (u64, u64) {
        let bytes = rules.max_bytes.saturating_sub(self.bytes.unwrap_or(0));
        (rules.max_messages.saturating_sub(self.counted()), bytes)
    }

    /// Takes the oldest messages that are too many for the queue's limits. Fails with what has to be loaded first.
    pub(crate) fn take_excess(&mut self, rules: &Settings, out: &mut Vec<Delivery>) -> Result<(), Missing> {
        loop {
            let over = self.counted().saturating_sub(rules.max_messages);
            let heavy = self.bytes.is_some_and(|bytes| bytes > rules.max_bytes);
            if over == 0 && !heavy || self.ready() == 0 {
                return Ok(());
            }
            // Where bytes decide, the next one may be enough.
            if self.take(over.max(1), usize::MAX, false, out) == 0 {
                return self.missing().map_or(Ok(()), Err);
            }
        }
    }

    /// Messages that count for the limit.
    fn counted(&self) -> u64 {
        self.ready() - self.consumers.granted().min(ON_THEIR_WAY).min(self.ready()) + self.waiting.len()
    }

    /// Takes those of `first .. end` out of the queue that are ready or wait.
    pub(super) fn take_out(&mut self, first: u64, end: u64, out: &mut Vec<(u64, u64)>) {
        out.extend(take_all(&mut self.requeued, first, end));
        let waiting = take_all(&mut self.waiting, first, end);
        waiting.iter().for_each(|&(first, count)| self.release_keys(first, count));
        out.extend(waiting);
        if let Some(stored) = &mut self.stored {
            out.extend(take_all(&mut stored.restored, first, end));
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.take_out(first, end, out);
        }
        self.skip();
        let begin = out.len();
        self.ahead_runs(first, end, out);
        let taken: u64 = out[begin..].iter().map(|(_, count)| count).sum();
        if taken == 0 {
            return;
        }
        // About so many bytes.
        self.flow.take((self.flow.waiting as u128 * u128::from(taken) / u128::from(self.ahead)) as usize);
        self.ahead -= taken;
        for &(first, count) in &out[begin..] {
            match first == self.head.position {
                true => self.head = Head { position: first + count, segment: first + count, offset: None },
                false => self.holes.insert(first, count),
            }
        }
    }

    /// The runs of `first .. end` that are ready and were never handed out.
    pub(super) fn ahead_runs(&self, first: u64, end: u64, out: &mut Vec<(u64, u64)>) {
        let (first, end) = (first.max(self.head.position), end.min(self.next));
        if first >= end {
            return;
        }
        for (first, count) in self.holes.gaps(first, end - first) {
            match &self.stored {
                Some(stored) => out.extend(stored.hidden.gaps(first, count)),
                None => out.push((first, count)),
            }
        }
    }

    /// The runs of `first .. end` whose messages are there, whoever has them, or will be seen.
    fn alive(&self, first: u64, end: u64, out: &mut Vec<(u64, u64)>) {
        if let Some(stored) = &self.stored {
            out.extend(stored.gone.gaps(first, end - first));
            return;
        }
        let from = self.segments.range(..=first).next_back().map_or(first, |(&from, _)| from);
        for (&from, segment) in self.segments.range(from..end) {
            segment.living(first.saturating_sub(from), end - from, |number, count| {
                out.push((from + u64::from(number), count.into()));
            });
        }
    }
}
