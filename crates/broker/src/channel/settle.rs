//! Acknowledgement, rejection and recovery.

use super::{Channel, Consumer, Mode, Settle, Settled};
use crate::dead_letter::Reason;
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::session::Session;
use crate::unacked::Outstanding;
use std::sync::Arc;

impl Channel {
    /// Settles one delivery, or with `multiple` all up to it; tag 0 with `multiple` is everything outstanding.
    /// An unknown tag is 406 (RabbitMQ's `unknown delivery tag`).
    #[inline]
    pub fn settle(&mut self, tag: u64, multiple: bool, how: Settle) -> Result<()> {
        if !multiple {
            let run = self.unacked.take(tag).ok_or_else(|| unknown_tag(tag))?;
            self.counters.ack += if how == Settle::Ack { run.count } else { 0 };
            self.note_settled(run, how);
            return Ok(());
        }
        let runs = match tag {
            0 => self.unacked.take_all(),
            tag => self.unacked.take_through(tag).ok_or_else(|| unknown_tag(tag))?,
        };
        for run in runs {
            self.counters.ack += if how == Settle::Ack { run.count } else { 0 };
            self.note_settled(run, how);
        }
        Ok(())
    }

    fn note_settled(&mut self, run: Outstanding, how: Settle) {
        // In a transaction the consumer holds them until the commit.
        if !matches!(self.mode, Mode::Transaction(_)) {
            self.release(run.consumer, run.count);
        }
        let settled = match &mut self.mode {
            Mode::Transaction(transaction) => transaction.settled_mut(run.count),
            _ => &mut self.settled,
        };
        if let Some(last) = settled.last_mut()
            && last.how == how
            && last.run.continues(&run)
        {
            last.run.count += run.count;
            return;
        }
        settled.push(Settled { run, how });
    }

    /// The consumer of so many deliveries, if it is still there, does not hold them any more.
    pub(super) fn release(&mut self, consumer: Option<u32>, count: u64) {
        if let Some(consumer) = consumer.and_then(|number| self.consumers.get_mut(&number)) {
            consumer.unacked -= count;
        }
    }

    /// Takes a delivery out, for another channel to settle. Its consumer holds it until
    /// [`Channel::settled_elsewhere`].
    pub(crate) fn hand_over(&mut self, tag: u64) -> Option<Outstanding> {
        self.unacked.take(tag)
    }

    /// Acks what another channel has handed over.
    pub(crate) fn ack_handed_over(&mut self, run: Outstanding) {
        let (first_tag, consumer) = (self.next_tag, None);
        self.next_tag += run.count;
        self.note_settled(Outstanding { first_tag, consumer, ..run }, Settle::Ack);
    }

    /// A delivery that was handed over is settled: its consumer may take one more.
    pub(crate) fn settled_elsewhere(&mut self, consumer: u32) {
        if let Some(entry) = self.consumers.get_mut(&consumer) {
            entry.unacked -= 1;
        }
        if let Some(entry) = self.consumers.get(&consumer) {
            self.announce(entry);
        }
    }

    /// Requeues everything outstanding.
    pub fn recover(&mut self, session: &mut Session) {
        session.flush();
        for run in self.unacked.take_all() {
            self.release(run.consumer, run.count);
            self.settled.push(Settled { run, how: Settle::Requeue });
        }
        self.apply_settled();
    }

    /// Applies collected acks to their queues and gives the consumers new credit.
    #[inline]
    pub fn apply_settled(&mut self) {
        if !self.settled.is_empty() {
            self.apply_all();
        }
    }

    fn apply_all(&mut self) {
        let settled = std::mem::take(&mut self.settled);
        // Acks of what others have messages between are many runs.
        for together in settled.chunk_by(Settled::goes_with) {
            let [Settled { run, how }, others @ ..] = together else { continue };
            let consumer = run.consumer.and_then(|number| self.consumers.get(&number));
            let credit = consumer.map(|consumer| (consumer.id, self.credit(consumer)));
            consumer.into_iter().for_each(Consumer::tell);
            run.settle(*how, |queue| {
                others.iter().for_each(|Settled { run, .. }| {
                    queue.gauges.counters.acked += run.count;
                    queue.ack(run.position, run.count);
                });
                if let Some((id, credit)) = credit {
                    queue.consumers.set_credit(id, credit);
                }
            });
        }
        if self.channel_prefetch > 0 {
            self.announce_credit();
        }
        self.settled = settled;
        self.settled.clear();
    }
}

impl Settled {
    /// Both are acks of one consumer, so that they can be applied together.
    fn goes_with(&self, next: &Settled) -> bool {
        self.how == Settle::Ack
            && next.how == Settle::Ack
            && self.run.consumer == next.run.consumer
            && Arc::ptr_eq(&self.run.queue, &next.run.queue)
    }
}

impl Outstanding {
    /// Settles these deliveries in their queue, and does something else under the same lock.
    pub(crate) fn settle(&self, how: Settle, also: impl FnOnce(&mut Queue)) {
        let Outstanding { position, count, queue, .. } = self;
        match how {
            Settle::Reject if queue.settings().dead_letters.is_some() => {
                queue.bury(&[(*position, *count)], Reason::Rejected);
                queue.change(also);
            }
            Settle::Ack | Settle::Reject => queue.change(|queue| {
                // What the broker moves has no tag.
                match (how, self.first_tag) {
                    (Settle::Reject, _) => queue.gauges.counters.died.rejected += count,
                    (_, 0) => {}
                    _ => queue.gauges.counters.acked += count,
                }
                queue.ack(*position, *count);
                also(queue);
            }),
            Settle::Requeue | Settle::Fail => queue.take_back(*position, *count, how == Settle::Fail, also),
        }
    }
}

fn unknown_tag(tag: u64) -> Error {
    Error::precondition(format!("unknown delivery tag {tag}"))
}
