//! Dead letters go back to where they died, when what killed them is mended.

use super::dead::push;
use super::{SharedQueue, VirtualHost};
use crate::dead_letter::{Revived, revive};
use crate::error::Result;
use crate::message::{Message, Run};
use crate::publisher::{Held, Route};
use crate::queue::Delivery;
use crate::topology::SessionId;
use std::sync::Arc;

/// What [`VirtualHost::redrive`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Messages that are in the queue again in which they first died.
    pub moved: u64,
    /// Messages that stay where they are: they tell of no death, or their queue is gone.
    pub kept: u64,
}

/// Messages that are looked at together, and about so many bytes of them.
const STEP: (u64, usize) = (1000, 1024 * 1024);

impl VirtualHost {
    /// Moves dead letters, the oldest first and `max` at most, back to the queues in which they first died, as they were
    /// published there: with their exchange, key and headers, without their history and expiration. Each is moved by one
    /// record of the log, so it is in one of the two places whenever the broker is killed.
    ///
    /// # Errors
    /// 404 and 405 as in every use of a queue.
    pub fn redrive(&self, queue: &str, max: u64, session: SessionId) -> Result<Redriven> {
        let (queue, mut redriven, mut left) = (self.queue(queue, session)?, Redriven::default(), max);
        let mut kept = Vec::new();
        while left > 0 {
            let taken = queue.take_out_of_turn(left.min(STEP.0), STEP.1);
            let count: u64 = taken.iter().map(|delivery| u64::from(delivery.count)).sum();
            if count == 0 {
                break;
            }
            left -= count;
            for delivery in taken {
                for (position, goes) in self.sort(&delivery) {
                    match goes {
                        true => {
                            queue.move_all(&[(position, 1)], |message, out| self.send_back(message, out));
                            redriven.moved += 1;
                        }
                        false => kept.push(position),
                    }
                }
            }
        }
        redriven.kept = kept.len() as u64;
        // Only now: otherwise they would be taken again.
        for position in kept {
            let bytes = queue.body_bytes(position, 1);
            queue.change(|queue| queue.put_back(position, 1, bytes));
        }
        Ok(redriven)
    }

    /// Each position, and whether its message has where to go.
    fn sort(&self, delivery: &Delivery) -> Vec<(u64, bool)> {
        let (mut at, mut sorted) = (delivery.offset, Vec::new());
        for position in delivery.position..delivery.position + u64::from(delivery.count) {
            let (message, next) = delivery.block.at(at);
            sorted.push((position, revive(&message).is_some_and(|it| self.died_in(&it).is_some())));
            at = next;
        }
        sorted
    }

    fn died_in(&self, revived: &Revived) -> Option<Arc<SharedQueue>> {
        let topology = self.topology.read();
        let queue = topology.queue(&revived.queue).ok()?;
        queue.handle.check_undamaged().is_ok().then(|| queue.handle.clone())
    }

    fn send_back(&self, message: &Message<'_>, out: &mut Vec<Held>) {
        let Some(revived) = revive(message) else { return };
        let Some(queue) = self.died_in(&revived) else { return };
        let write = |run: &mut Run| run.push(&revived.route, &revived.properties, message.body, message.persistent);
        push(out, Route::new([queue].into()), write, message.persistent, None, None);
    }
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
