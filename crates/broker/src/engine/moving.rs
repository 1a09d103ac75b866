//! Messages are moved from a queue to others: dead letters back to where they died, when what killed them is mended, and
//! whatever somebody wants somewhere else.

use super::dead::push;
use super::{SharedQueue, VirtualHost};
use crate::dead_letter::{Revived, revive};
use crate::delay::delay_of;
use crate::error::{Error, Result};
use crate::message::{Message, Run, encode_route};
use crate::publisher::{Held, Route, life};
use crate::queue::Delivery;
use crate::topology::{NOBODY, SessionId};
use leveret_wire::properties::Properties;
use std::sync::Arc;

/// What [`VirtualHost::redrive`] or [`VirtualHost::move_messages`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Messages that are somewhere else now: of a redrive, in the queue again in which they first died.
    pub moved: u64,
    /// Messages that stay where they are: they tell of no death, or there is no queue for them.
    pub kept: u64,
}

/// Where messages are to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveTo<'a> {
    /// To this queue, as if they had been published there: their exchange and routing key stay the same.
    Queue(&'a str),
    /// To the queues that this exchange leads to, published to it anew: with this routing key, or their own.
    Exchange {
        /// Its name; empty for the default one.
        name: &'a str,
        /// The routing key; `None` for that of each message.
        key: Option<&'a str>,
    },
}

/// Messages that are looked at together, and about so many bytes of them.
const STEP: (u64, usize) = (1000, 1024 * 1024);

/// What is moved waits until no more than so many bytes are on their way to the disk.
const BEHIND: u64 = 8 * 1024 * 1024;

/// Decides about a message: what it would become, and where. `None` if it stays.
type Target<'a> = dyn Fn(&Message<'_>) -> Option<Arrow> + 'a;

/// A message on its way to somewhere else.
struct Arrow {
    route: Route,
    /// Exchange and key.
    names: Vec<u8>,
    properties: Vec<u8>,
    life: Option<u64>,
    delay: Option<u64>,
}

impl VirtualHost {
    /// Moves dead letters, the oldest first and `max` at most, back to the queues in which they first died, as they were
    /// published there: with their exchange, key and headers, without their history and expiration. Each is moved by one
    /// record of the log, so it is in one of the two places whenever the broker is killed. It may block while it reads from
    /// the disk, or writes to it.
    ///
    /// # Errors
    /// 404 and 405 as in every use of a queue.
    pub fn redrive(&self, queue: &str, max: u64, session: SessionId) -> Result<Redriven> {
        self.redrive_in_steps(queue, max, session, |_| true)
    }

    /// As [`VirtualHost::redrive`], and tells after each step of up to 1000 messages what has been done so far. It goes on
    /// as long as it is answered true.
    ///
    /// # Errors
    /// As [`VirtualHost::redrive`].
    pub fn redrive_in_steps(
        &self,
        queue: &str,
        max: u64,
        session: SessionId,
        step: impl FnMut(&Redriven) -> bool,
    ) -> Result<Redriven> {
        let queue = self.queue(queue, session)?;
        let target = |message: &Message<'_>| {
            let revived = revive(message)?;
            let route = Route::new([self.died_in(&revived)?].into());
            Some(Arrow { route, names: revived.route, properties: revived.properties, life: None, delay: None })
        };
        Ok(self.relocate(&queue, max, &target, step))
    }

    /// Moves ready messages, the oldest first and `max` at most, to somewhere else. Each is moved by one record of the log,
    /// so it is in one of the two places whenever the broker is killed; a message with no queue to go to stays. Limits of the
    /// other queue refuse nothing; its oldest messages may be dropped. It may block while it reads from the disk, or writes to it.
    ///
    /// After each step of up to 1000 messages `step` is told what has been done so far. It goes on as long as it is answered
    /// true. What is published to the queue meanwhile is not moved.
    ///
    /// # Errors
    /// 404 and 405 as in every use of a queue by one who has no session, 404 if there is no such exchange, 403 if it is an
    /// internal one, 406 if source and target are the same queue, or if messages of one are damaged.
    pub fn move_messages(
        &self,
        queue: &str,
        to: MoveTo<'_>,
        max: u64,
        step: impl FnMut(&Redriven) -> bool,
    ) -> Result<Redriven> {
        let from = self.queue(queue, NOBODY)?;
        let max = max.min(from.status().ready);
        match to {
            MoveTo::Queue(to) => {
                let to = self.queue(to, NOBODY)?;
                if Arc::ptr_eq(&from, &to) {
                    return Err(Error::precondition(format!("queue '{queue}' cannot be moved to itself")));
                }
                Ok(self.relocate(&from, max, &|message| Some(aim_at(to.clone(), message)), step))
            }
            MoveTo::Exchange { name, key } => {
                self.route(name, &[], &Properties::EMPTY)?;
                Ok(self.relocate(&from, max, &|message| self.aim_through(name, key, message, &from), step))
            }
        }
    }

    fn relocate(
        &self,
        queue: &Arc<SharedQueue>,
        max: u64,
        target: &Target<'_>,
        mut step: impl FnMut(&Redriven) -> bool,
    ) -> Redriven {
        let (mut done, mut left, mut kept) = (Redriven::default(), max, Vec::new());
        while left > 0 {
            let taken = queue.take_out_of_turn(left.min(STEP.0), STEP.1);
            let count: u64 = taken.iter().map(|delivery| u64::from(delivery.count)).sum();
            if count == 0 {
                break;
            }
            left -= count;
            let (mut going, mut staying) = (Vec::new(), Vec::new());
            taken.iter().for_each(|delivery| sort(delivery, target, &mut going, &mut staying));
            drop(taken);
            let moved: u64 = going.iter().map(|(_, count)| count).sum();
            queue.move_all(&going, |message, out| send(target(message), message, out));
            queue.count_moved(moved);
            done.moved += moved;
            done.kept += staying.iter().map(|(_, count)| count).sum::<u64>();
            kept.extend(staying);
            self.keep_up();
            if !step(&done) {
                break;
            }
        }
        // Only now: otherwise they would be taken again.
        for (position, count) in kept {
            let bytes = queue.body_bytes(position, count);
            queue.change(|queue| queue.put_back(position, count, bytes));
        }
        done
    }

    fn died_in(&self, revived: &Revived) -> Option<Arc<SharedQueue>> {
        let topology = self.topology.read();
        let queue = topology.queue(&revived.queue).ok()?;
        queue.handle.check_undamaged().is_ok().then(|| queue.handle.clone())
    }

    fn aim_through(
        &self,
        exchange: &str,
        key: Option<&str>,
        message: &Message<'_>,
        from: &Arc<SharedQueue>,
    ) -> Option<Arrow> {
        let (properties, key) = (read(message), key.unwrap_or_else(|| message.routing_key()));
        let (routed, _) = self.route(exchange, &[key], &properties).ok()?;
        // One that would only come back to where it is stays there.
        let queues: Vec<_> = routed.queues.into_iter().filter(|queue| !Arc::ptr_eq(queue, from)).collect();
        if queues.is_empty() {
            return None;
        }
        Some(aim(Route::new(queues.into()), encode_route(exchange, key), &properties, message))
    }

    /// Lets the disk keep up with what is moved.
    fn keep_up(&self) {
        if let Some(durable) = &self.durable {
            while durable.store.log.pending() > BEHIND && durable.write() {}
        }
    }
}

fn read<'a>(message: &Message<'a>) -> Properties<'a> {
    // Checked when it was published.
    Properties::decode_stored(message.properties).unwrap_or_default()
}

fn aim_at(queue: Arc<SharedQueue>, message: &Message<'_>) -> Arrow {
    aim(Route::new([queue].into()), message.route.to_vec(), &read(message), message)
}

fn aim(route: Route, names: Vec<u8>, properties: &Properties<'_>, message: &Message<'_>) -> Arrow {
    let delay = if route.delays() { delay_of(properties.headers.unwrap_or_default()) } else { None };
    // As published anew, it lives as long as it asks for.
    let life = life(properties).ok().flatten();
    Arrow { route, names, properties: message.properties.to_vec(), life, delay }
}

/// The runs of those that go, and of those that stay.
fn sort(delivery: &Delivery, target: &Target<'_>, going: &mut Vec<(u64, u64)>, staying: &mut Vec<(u64, u64)>) {
    let mut at = delivery.offset;
    for position in delivery.position..delivery.position + u64::from(delivery.count) {
        let (message, next) = delivery.block.at(at);
        let runs = if target(&message).is_some() { &mut *going } else { &mut *staying };
        match runs.last_mut() {
            Some((first, count)) if *first + *count == position => *count += 1,
            _ => runs.push((position, 1)),
        }
        at = next;
    }
}

fn send(arrow: Option<Arrow>, message: &Message<'_>, out: &mut Vec<Held>) {
    let Some(Arrow { route, names, properties, life, delay }) = arrow else { return };
    let write = |run: &mut Run| run.push(&names, &properties, message.body, message.persistent);
    push(out, route, write, message.persistent, life, delay);
}

impl SharedQueue {
    /// Takes ready messages as a consumer would.
    fn take_out_of_turn(&self, max: u64, max_bytes: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        loop {
            let missing = self.change(|queue| match queue.take(max, max_bytes, false, &mut taken) {
                0 => queue.missing(),
                _ => None,
            });
            match missing {
                Some(missing) => drop(self.load(missing)),
                None => return taken,
            }
            if self.check_undamaged().is_err() {
                return taken;
            }
        }
    }
}
