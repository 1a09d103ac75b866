//! What becomes of messages that don't end by an acknowledgement: they come back, expire, are too many, or die.

use super::commit::commit;
use super::timer::Due;
use super::{SharedQueue, VirtualHost};
use crate::channel::{Settle, Settled};
use crate::dead_letter::{Letter, Reason, letter};
use crate::delay::delay_of;
use crate::message::{BLOCK_MAX, Message, Run};
use crate::publisher::{Held, Lives, Notes, Route};
use crate::queue::{Dead, Delivery, Queue, Return};
use crate::runs::Runs;
use crate::times::{Time, What};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Messages are moved in units of about so many bytes, so that few are in memory at a time.
const STEP: usize = 1024 * 1024;

/// And of so many stretches of positions at most.
const STRETCHES: usize = 4096;

/// So many times are met under one lock, so that nobody waits long for it.
const AT_ONCE: usize = 1024;

thread_local! {
    /// Queues of which the oldest messages are to be dropped, the first of them now.
    static OVERFULL: RefCell<VecDeque<Arc<SharedQueue>>> = const { RefCell::new(VecDeque::new()) };
}

impl SharedQueue {
    /// Notes when messages of this queue expire, if they do; for the log to be told as well. Who has looked before the queue
    /// got a policy knows of none: then that counts all the same, under whose lock this is called.
    pub(crate) fn expect_times(
        &self,
        queue: &Queue,
        position: u64,
        count: u32,
        lives: Option<&Lives<'_>>,
    ) -> Vec<Time> {
        let mut times = Vec::new();
        if lives.is_none() && !self.timed.load(Ordering::Relaxed) {
            return times;
        }
        if let Some(vhost) = self.vhost.upgrade() {
            let late = Lives { now: vhost.timer().now(), own: &[] };
            lives.unwrap_or(&late).times(self, position, count, queue.consumers.is_wanting(), &mut times);
            vhost.timer().add(&times);
        }
        times
    }

    /// Takes handed-out messages back, and does something else under the same lock.
    pub(crate) fn take_back(self: &Arc<Self>, position: u64, count: u64, failed: bool, also: impl FnOnce(&mut Queue)) {
        let mut also = Some(also);
        let mut at_once = |queue: &mut Queue| {
            queue.requeue(position, count);
            also.take().into_iter().for_each(|also| also(queue));
        };
        let Some(vhost) = self.vhost.upgrade() else { return self.change(at_once) };
        let rules = self.settings();
        let is_plain = !rules.has_rules_for_returns() && !rules.counts_bytes();
        let is_done = |queue: &mut Queue| {
            let is_plain = is_plain && !queue.has_overdue();
            if is_plain {
                at_once(queue);
            }
            is_plain
        };
        if self.change(is_done) {
            return self.drop_returned_excess();
        }
        let bytes = if rules.counts_bytes() { self.body_bytes(position, count) } else { 0 };
        let how = Return { failed, now: vhost.timer().now(), chance: vhost.chance(), bytes };
        let mut dead = Vec::new();
        self.change(|queue| {
            queue.come_back(position, count, &how, &rules, &mut dead);
            also.take().into_iter().for_each(|also| also(queue));
        });
        self.bury_all(&dead);
        self.drop_returned_excess();
    }

    /// What came back may be too much now.
    fn drop_returned_excess(self: &Arc<Self>) {
        if self.drops() {
            self.drop_excess();
        }
    }

    /// Of a queue as a start found it: lets happen what was left to be done, and counts what has to be counted.
    pub(super) fn settle_in(&self) {
        self.change(Queue::remind_overdue);
        if self.settings().counts_bytes() {
            self.count_bytes();
        }
    }

    /// Counts the bytes of what is ready or waits, as a queue with a limit for them has to. What comes and goes meanwhile
    /// is counted by itself, except that what is gone before it was looked at counts too little: as long as there is
    /// something like that it is tried again, a few times.
    pub(super) fn count_bytes(&self) {
        for _ in 0..3 {
            let (runs, gone) = self.change(|queue| (queue.begin_bytes(), queue.gone()));
            let bytes = runs.iter().map(|(position, count)| self.body_bytes(*position, *count)).sum();
            let settled = self.change(|queue| {
                queue.end_bytes(bytes);
                queue.release();
                queue.gone() == gone
            });
            if settled {
                break;
            }
        }
    }

    pub(super) fn body_bytes(&self, position: u64, count: u64) -> u64 {
        let (mut at, end, mut bytes) = (position, position + count, 0);
        while at < end {
            let found = self.look_again(at, end - at, STEP);
            let Some(last) = found.last() else {
                // Some may have been given up because they cannot be read.
                let mut living = Vec::new();
                self.state.lock().living(at, end - at, &mut living);
                match living.first() {
                    Some(&(first, _)) if first > at => at = first,
                    _ => break,
                }
                continue;
            };
            at = last.position + u64::from(last.count);
            bytes += found.iter().map(Delivery::body_bytes).sum::<u64>();
        }
        bytes
    }

    /// What is to happen to messages now.
    pub(super) fn meet(self: &Arc<Self>, due: &[Due]) {
        let (mut dead, mut delayed) = (Vec::new(), Vec::new());
        for due in due.chunks(AT_ONCE) {
            self.change(|queue| {
                for &Due { what, position, count } in due {
                    match what {
                        What::Expire => queue.expire(position, count, &mut dead),
                        What::Wake if self.is_delay() => queue.take_waiting(position, count, &mut delayed),
                        What::Wake => queue.wake(position, count),
                    }
                }
            });
        }
        self.bury_all(&dead);
        self.send_delayed(&delayed);
    }

    /// Messages that wait, and are to be woken at no time that is `known`, wait no longer. Returns how many.
    pub(super) fn wake_forgotten(self: &Arc<Self>, known: Option<&Runs>) -> u64 {
        let forgotten = self.state.lock().forgotten(known);
        let due = |&(position, count): &(u64, u64)| Due { what: What::Wake, position, count };
        self.meet(&forgotten.iter().map(due).collect::<Vec<_>>());
        forgotten.iter().map(|(_, count)| count).sum()
    }

    /// Some of a time's messages are there.
    pub(super) fn has_any(&self, time: &Time) -> bool {
        self.state.lock().has_any(time.position, time.count)
    }

    /// Drops the oldest messages that are too many.
    pub(crate) fn drop_excess(self: &Arc<Self>) {
        // What is dropped here may be too much elsewhere, and so on: one after the other, not one within the other.
        let is_first = OVERFULL.with_borrow_mut(|queues| {
            queues.push_back(self.clone());
            queues.len() == 1
        });
        if !is_first {
            return;
        }
        while let Some(queue) = OVERFULL.with_borrow(|queues| queues.front().cloned()) {
            queue.drop_own_excess();
            OVERFULL.with_borrow_mut(VecDeque::pop_front);
        }
    }

    fn drop_own_excess(self: &Arc<Self>) {
        loop {
            let (mut excess, settings) = (Vec::new(), self.settings());
            if !settings.drops() {
                return;
            }
            let missing = self.change(|queue| queue.take_excess(&settings, &mut excess).err());
            let runs: Vec<_> = excess.iter().map(|it| (it.position, u64::from(it.count))).collect();
            drop(excess);
            self.bury(&runs, Reason::MaxLength);
            let Some(missing) = missing else { return };
            // What cannot be read closes the queue: nothing of it is dropped any more.
            if !self.load(missing) && self.check_undamaged().is_err() {
                return;
            }
        }
    }

    /// Sends a publisher's messages, for which there is no room, to the dead-letter exchange.
    pub(crate) fn bury_refused(self: &Arc<Self>, run: &Run) {
        let (mut runs, mut at, mut sent) = (Vec::new(), 0, 0);
        for _ in 0..run.count() {
            let (message, next) = run.at(at);
            sent += u64::from(self.write_letter(&message, Reason::MaxLength, &mut runs));
            at = next;
        }
        self.count_letters(Reason::MaxLength, sent);
        if let Some(vhost) = self.vhost.upgrade() {
            move_now(&vhost, runs, Vec::new());
        }
    }

    fn bury_all(self: &Arc<Self>, dead: &[Dead]) {
        if self.settings().counts_bytes() {
            let counted = dead.iter().filter(|dead| dead.counted);
            let bytes = counted.map(|dead| self.body_bytes(dead.position, dead.count)).sum();
            self.change(|queue| queue.uncount(bytes));
        }
        for dead in dead.chunk_by(|a, b| a.reason == b.reason) {
            let runs: Vec<_> = dead.iter().map(|dead| (dead.position, dead.count)).collect();
            self.bury(&runs, dead[0].reason);
        }
    }

    /// Sends handed-out messages to the dead-letter exchange, and forgets them: both or neither, also after a crash.
    /// Without one, or where it has no queue for them, they are only forgotten (RabbitMQ's rule).
    pub(crate) fn bury(self: &Arc<Self>, runs: &[(u64, u64)], reason: Reason) {
        match self.settings().dead_letters {
            _ if runs.is_empty() => return,
            Some(_) => {
                let mut sent = 0;
                self.move_all(runs, |message, out| sent += u64::from(self.write_letter(message, reason, out)));
                self.count_letters(reason, sent);
            }
            None => self.change(|queue| runs.iter().for_each(|&(position, count)| queue.ack(position, count))),
        }
        let died = runs.iter().map(|(_, count)| count).sum();
        self.state.lock().gauges.counters.died.count(reason, died);
    }

    /// Moves handed-out messages to where `target` says.
    pub(super) fn move_all(
        self: &Arc<Self>,
        runs: &[(u64, u64)],
        mut target: impl FnMut(&Message<'_>, &mut Vec<Held>),
    ) {
        let Some(vhost) = self.vhost.upgrade() else { return };
        let (mut out, mut settled, mut bytes) = (Vec::new(), Vec::new(), 0);
        let send = |out: &mut Vec<Held>, settled: &mut Vec<Settled>| {
            if !settled.is_empty() {
                move_now(&vhost, std::mem::take(out), std::mem::take(settled));
            }
        };
        for &(position, count) in runs {
            let (mut at, end) = (position, position + count);
            while at < end {
                let found = self.look_again(at, end - at, STEP);
                // What cannot be read stays where it is, and the queue is closed.
                let Some(last) = found.last() else { break };
                let upto = last.position + u64::from(last.count);
                for_each(&found, |message| {
                    bytes += message.body.len() + message.properties.len();
                    target(message, &mut out);
                });
                settled.push(Settled { run: self.outstanding(at, upto - at), how: Settle::Ack });
                at = upto;
                if bytes >= STEP || settled.len() >= STRETCHES {
                    send(&mut out, &mut settled);
                    bytes = 0;
                }
            }
        }
        send(&mut out, &mut settled);
    }

    /// Writes the letters for rejected messages.
    pub(super) fn letters_for_rejected(&self, position: u64, count: u64, runs: &mut Vec<Held>) {
        let (found, mut sent) = (self.look_again(position, count, usize::MAX), 0);
        for_each(&found, |message| sent += u64::from(self.write_letter(message, Reason::Rejected, runs)));
        self.count_letters(Reason::Rejected, sent);
        self.state.lock().gauges.counters.died.rejected += count;
    }

    /// True if some queue takes the letter.
    fn write_letter(&self, message: &Message<'_>, reason: Reason, runs: &mut Vec<Held>) -> bool {
        let settings = self.settings();
        let (Some(target), Some(vhost)) = (&settings.dead_letters, self.vhost.upgrade()) else { return false };
        let letter = letter(message, &self.name, reason, target, vhost.seconds());
        let Some(route) = vhost.route_letter(target.exchange(), &letter) else { return false };
        let Letter { route: names, properties, .. } = &letter;
        let delay = if route.delays() { delay_of(letter.headers.as_table()) } else { None };
        let write = |run: &mut Run| run.push(names, properties, message.body, message.persistent);
        push(runs, route, write, message.persistent, None, delay);
        true
    }

    fn count_letters(&self, reason: Reason, letters: u64) {
        self.state.lock().gauges.counters.dead_lettered.count(reason, letters);
    }
}

/// Lets the broker's own moves take effect.
fn move_now(vhost: &Arc<VirtualHost>, runs: Vec<Held>, settled: Vec<Settled>) {
    // Nobody has numbered what the broker moves, so there is no epoch that could have ended.
    let _ = commit(vhost, &Arc::default(), runs, settled);
}

/// Adds a message to the last run if that has the same queues, or to a new one.
pub(super) fn push(
    runs: &mut Vec<Held>,
    route: Route,
    write: impl FnOnce(&mut Run),
    persistent: bool,
    life: Option<u64>,
    delay: Option<u64>,
) {
    let logged = persistent && route.is_durable();
    let fits = |last: &Held| last.logged == logged && last.run.len() < BLOCK_MAX && last.route.is_same(&route);
    if !runs.last().is_some_and(fits) {
        runs.push(Held { route: Arc::new(route), logged, run: Run::default(), notes: Notes::default() });
    }
    if let Some(held) = runs.last_mut() {
        held.notes.note_times(held.run.count(), life, delay);
        write(&mut held.run);
    }
}

fn for_each(found: &[Delivery], mut see: impl FnMut(&Message<'_>)) {
    for delivery in found {
        let mut at = delivery.offset;
        for _ in 0..delivery.count {
            let (message, next) = delivery.block.at(at);
            see(&message);
            at = next;
        }
    }
}
