//! What becomes of messages that don't end by an acknowledgement: they come back, expire, are too many, or die.

use super::SharedQueue;
use super::commit::commit;
use super::timer::Due;
use crate::channel::{Settle, Settled};
use crate::dead_letter::{Letter, Reason, letter};
use crate::message::{BLOCK_MAX, Message, Run};
use crate::publisher::{Held, Lives, Notes, Route};
use crate::queue::{Dead, Delivery, Queue, Return};
use crate::times::{Time, What};
use std::sync::Arc;

/// Messages are moved in units of about so many bytes, so that few are in memory at a time.
const STEP: usize = 1024 * 1024;

impl SharedQueue {
    /// Notes when messages of this queue expire, if they do; for the log to be told as well.
    pub(crate) fn expect_times(
        &self,
        queue: &Queue,
        position: u64,
        count: u32,
        lives: Option<&Lives<'_>>,
    ) -> Vec<Time> {
        let mut times = Vec::new();
        if let (Some(lives), Some(vhost)) = (lives, self.vhost.upgrade()) {
            lives.times(self, position, count, queue.consumers.is_wanting(), &mut times);
            vhost.timer().add(&times);
        }
        times
    }

    /// Takes handed-out messages back, and does something else under the same lock.
    pub(crate) fn take_back(
        self: &Arc<Self>,
        position: u64,
        count: u64,
        failed: bool,
        also: impl FnOnce(&mut Queue),
    ) {
        let vhost = self.vhost.upgrade();
        let Some(vhost) = vhost.filter(|_| self.settings.has_rules_for_returns() || self.counts_on_return()) else {
            self.change(|queue| {
                queue.requeue(position, count);
                also(queue);
            });
            return;
        };
        let bytes = if self.settings.counts_bytes() { self.body_bytes(position, count) } else { 0 };
        let how = Return { failed, now: vhost.timer().now(), chance: vhost.chance(), bytes };
        let mut dead = Vec::new();
        self.change(|queue| {
            queue.come_back(position, count, &how, &self.settings, &mut dead);
            also(queue);
        });
        self.bury_all(&dead);
    }

    /// Messages of it can have a time after which they may not come back, or bytes that count.
    fn counts_on_return(&self) -> bool {
        self.settings.counts_bytes() || self.state.lock().has_overdue()
    }

    fn body_bytes(&self, position: u64, count: u64) -> u64 {
        let (mut at, end, mut bytes) = (position, position + count, 0);
        while at < end {
            let found = self.look_again(at, end - at, STEP);
            let Some(last) = found.last() else { break };
            at = last.position + u64::from(last.count);
            bytes += found.iter().map(Delivery::body_bytes).sum::<u64>();
        }
        bytes
    }

    /// What is to happen to messages now.
    pub(super) fn meet(self: &Arc<Self>, due: &[Due]) {
        let (mut dead, mut delayed) = (Vec::new(), Vec::new());
        self.change(|queue| {
            for &Due { what, position, count } in due {
                match what {
                    What::Expire => queue.expire(position, count, &mut dead),
                    What::Wake if self.is_delay() => queue.take_waiting(position, count, &mut delayed),
                    What::Wake => queue.wake(position, count),
                }
            }
        });
        self.bury_all(&dead);
        for (position, count) in delayed {
            self.send_delayed(position, count);
        }
    }

    /// Drops the oldest messages that are too many.
    pub(crate) fn drop_excess(self: &Arc<Self>) {
        loop {
            let mut excess = Vec::new();
            let missing = self.change(|queue| queue.take_excess(&self.settings, &mut excess).err());
            for delivery in &excess {
                let dead = Dead {
                    position: delivery.position,
                    count: delivery.count.into(),
                    reason: Reason::MaxLength,
                    // It was subtracted when it was taken.
                    counted: false,
                };
                self.bury_all(&[dead]);
            }
            match missing {
                Some(missing) => drop(self.load(missing)),
                None => return,
            }
        }
    }

    /// Sends a publisher's messages, for which there is no room, to the dead-letter exchange.
    pub(crate) fn bury_refused(self: &Arc<Self>, run: &Run) {
        let (mut runs, mut at) = (Vec::new(), 0);
        for _ in 0..run.count() {
            let (message, next) = run.at(at);
            self.write_letter(&message, Reason::MaxLength, &mut runs);
            at = next;
        }
        if let Some(vhost) = self.vhost.upgrade() {
            commit(&vhost, &Arc::default(), runs, Vec::new());
        }
    }

    fn bury_all(self: &Arc<Self>, dead: &[Dead]) {
        for &Dead { position, count, reason, counted } in dead {
            if counted && self.settings.counts_bytes() {
                let bytes = self.body_bytes(position, count);
                self.change(|queue| queue.uncount(bytes));
            }
            self.bury(position, count, reason);
        }
    }

    /// Sends handed-out messages to the dead-letter exchange, and forgets them: both or neither, also after a crash.
    /// Without one, or where it has no queue for them, they are only forgotten (RabbitMQ's rule).
    pub(crate) fn bury(self: &Arc<Self>, position: u64, count: u64, reason: Reason) {
        if self.settings.dead_letters.is_none() {
            self.change(|queue| queue.ack(position, count));
            return;
        }
        self.move_all(position, count, |message, runs| self.write_letter(message, reason, runs));
    }

    /// Moves handed-out messages to where `target` says.
    pub(super) fn move_all(
        self: &Arc<Self>,
        position: u64,
        count: u64,
        mut target: impl FnMut(&Message<'_>, &mut Vec<Held>),
    ) {
        let (mut at, end) = (position, position + count);
        let Some(vhost) = self.vhost.upgrade() else { return };
        while at < end {
            let found = self.look_again(at, end - at, STEP);
            // What cannot be read stays where it is, and the queue is closed.
            let Some(last) = found.last() else { return };
            let upto = last.position + u64::from(last.count);
            let mut runs = Vec::new();
            for_each(&found, |message| target(message, &mut runs));
            let settled = Settled { run: self.outstanding(at, upto - at), how: Settle::Ack };
            commit(&vhost, &Arc::default(), runs, vec![settled]);
            at = upto;
        }
    }

    /// Writes the letters for rejected messages.
    pub(super) fn letters_for_rejected(&self, position: u64, count: u64, runs: &mut Vec<Held>) {
        let found = self.look_again(position, count, usize::MAX);
        for_each(&found, |message| self.write_letter(message, Reason::Rejected, runs));
    }

    fn write_letter(&self, message: &Message<'_>, reason: Reason, runs: &mut Vec<Held>) {
        let (Some(target), Some(vhost)) = (&self.settings.dead_letters, self.vhost.upgrade()) else { return };
        let letter = letter(message, &self.name, reason, target, vhost.seconds());
        let Some(route) = vhost.route_letter(target.exchange(), &letter) else { return };
        let Letter { route: names, properties, .. } = &letter;
        push(runs, route, |run| run.push(names, properties, message.body, message.persistent), message.persistent);
    }
}

/// Adds a message to the last run if that has the same queues, or to a new one.
pub(super) fn push(runs: &mut Vec<Held>, route: Route, push: impl FnOnce(&mut Run), persistent: bool) {
    let logged = persistent && route.is_durable();
    let fits = |last: &Held| last.logged == logged && last.run.len() < BLOCK_MAX && last.route.same_queues(&route);
    if !runs.last().is_some_and(fits) {
        runs.push(Held { route: Arc::new(route), logged, run: Run::default(), notes: Notes::default() });
    }
    if let Some(held) = runs.last_mut() {
        push(&mut held.run);
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
