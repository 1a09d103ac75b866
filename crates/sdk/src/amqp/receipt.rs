//! How messages are settled.
//!
//! On Leveret, a copy and the acknowledgement of its original are one transaction, on the channel that has delivered it. A channel that
//! transactions were asked of cannot do without them any more, so that every acknowledgement needs a commit; so it is asked of it
//! when one is needed, and what is settled meanwhile shares a commit. RabbitMQ has no atomic transactions: there the copy is
//! confirmed before the original is acknowledged.

use super::engine::Engine;
use super::fault::Fault;
use super::ladder::{self, Exit};
use super::link::{Epoch, part_of};
use super::message::{Headers, copy, forget_death, note_death, parcel, short};
use super::publisher::Parcel;
use super::transaction::{self, Job, Publish, Unheard};
use super::{Shared, topology};
use crate::contract::{ATTEMPTS, ERROR, cut, millis, retry};
use crate::driver::{Receipt, Settlement, Work};
use crate::error::Result;
use crate::message::Outgoing;
use crate::retry::RetryPolicy;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use std::any::Any;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where messages come from, and where they can go.
pub(super) struct Place {
    /// What is consumed from.
    pub(super) from: ShortString,
    pub(super) queue: String,
    /// None of broadcasts and requests.
    pub(super) dead_queue: Option<String>,
    /// When what failed is tried again, where the driver says so.
    pub(super) retry: Option<RetryPolicy>,
}

/// A channel that messages are delivered on, and settled.
pub(super) struct Lane {
    pub(super) channel: Channel,
    pub(super) place: Place,
    pub(super) epoch: Arc<Epoch>,
    shared: Arc<Shared>,
    /// Who commits, once it was asked for transactions.
    commits: Mutex<Option<mpsc::UnboundedSender<Job>>>,
}

/// What the broker is told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    Ack,
    /// It goes back; the attempt has failed.
    Reject,
    /// It goes back as if it had not been delivered.
    Return,
}

pub(super) struct AmqpReceipt {
    lane: Arc<Lane>,
    message: Delivery,
    attempt: u32,
    is_settled: bool,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, epoch: Arc<Epoch>, channel: Channel, place: Place) -> Arc<Lane> {
        Arc::new(Lane { channel, place, shared, epoch, commits: Mutex::default() })
    }

    /// What came on it can be settled.
    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Forgets a message that nobody is to see.
    pub(super) fn forget(&self, tag: u64) {
        self.say(tag, Say::Ack);
    }

    /// Gives a message back that nobody has seen.
    pub(super) fn give_back(&self, tag: u64) {
        self.say(tag, Say::Return);
    }

    /// Tells the broker, which does not answer. If it does not hear it, it delivers the message again.
    fn say(&self, tag: u64, what: Say) {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        match &*commits {
            None => say(&self.channel, tag, what),
            Some(commits) => _ = commits.send(Job { tags: vec![tag], what, publish: Vec::new(), done: None }),
        }
    }

    /// Publishes and acknowledges: both or neither. Gives the numbers of those that went to no queue.
    async fn commit(&self, tags: Vec<u64>, publish: Vec<Publish>) -> Result<Unheard> {
        let (done, told) = oneshot::channel();
        {
            let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
            let commits = commits.get_or_insert_with(|| transaction::start(self.channel.clone(), self.epoch.clone()));
            _ = commits.send(Job { tags, what: Say::Ack, publish, done: Some(done) });
        }
        match told.await {
            Ok(Ok(unheard)) => Ok(unheard),
            Ok(Err(fault @ Fault::Refused { .. })) => Err(fault.into()),
            Ok(Err(Fault::Lost(why))) => {
                stale(&why);
                Ok(Vec::new())
            }
            Err(_) => {
                stale("its channel has ended");
                Ok(Vec::new())
            }
        }
    }
}

/// A settlement that the broker does not hear, or has not confirmed.
fn stale(why: &str) {
    tracing::debug!(
        why,
        "the channel of a message is gone: the message comes again, unless the broker has heard in time"
    );
}

/// Writes it, in the order of calls; waits for nothing.
pub(super) fn say(channel: &Channel, tag: u64, what: Say) {
    let context = &mut Context::from_waker(Waker::noop());
    match what {
        Say::Ack => _ = pin!(channel.basic_ack(tag, BasicAckOptions::default())).poll(context),
        Say::Reject => _ = pin!(channel.basic_reject(tag, BasicRejectOptions { requeue: true })).poll(context),
        Say::Return => {
            let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            _ = pin!(channel.basic_nack(tag, options)).poll(context);
        }
    }
}

impl AmqpReceipt {
    pub(super) fn new(lane: Arc<Lane>, message: Delivery, attempt: u32) -> AmqpReceipt {
        AmqpReceipt { lane, message, attempt, is_settled: false }
    }

    fn say(&mut self, what: Say) {
        self.is_settled = true;
        match self.lane.is_open() {
            true => self.lane.say(self.message.delivery_tag, what),
            false => stale("its channel has ended"),
        }
    }

    /// Publishes, and forgets the message: both or neither, where the engine can. If it fails, the message goes back.
    async fn replace_by(&mut self, publish: Vec<Publish>) -> Result<Unheard> {
        replace(std::slice::from_mut(self), publish).await
    }

    /// Replaces the message by a copy in another queue, which is there.
    async fn move_to(&mut self, queue: &str, change: impl FnOnce(&mut Headers)) -> Result<()> {
        let copy = self.copy("", queue, change)?;
        if let Err(fault) = self.lane.shared.count(queue).await? {
            return Err(fault.into());
        }
        self.replace_by(vec![copy]).await.map(drop)
    }

    async fn retry(&mut self, after: Option<Duration>) -> Result<()> {
        let (queue, attempts) = (self.lane.place.queue.clone(), AMQPValue::LongLongInt(self.attempt.into()));
        let copy = match (self.lane.shared.engine, after) {
            (Engine::Leveret, None) => {
                self.say(Say::Reject);
                return Ok(());
            }
            (Engine::Leveret, Some(after)) => {
                self.copy(&retry(&queue, self.lane.place.dead_queue.is_none()), &queue, |headers| {
                    headers.insert("x-delay".into(), AMQPValue::LongLongInt(millis(after)));
                    headers.insert(ATTEMPTS.into(), attempts);
                })?
            }
            (Engine::RabbitMq, after) => {
                let delay = after.unwrap_or_else(|| wait(self.lane.place.retry, self.attempt));
                let (exchange, key) = ladder::enter(delay, Exit::Queue(&queue));
                self.copy(&exchange, &key, |headers| {
                    forget_death(headers);
                    headers.insert(ATTEMPTS.into(), attempts);
                })?
            }
        };
        self.replace_by(vec![copy]).await.map(drop)
    }

    async fn bury(&mut self, reason: &str, error: &str) -> Result<()> {
        let (queue, exchange) = (self.lane.place.queue.clone(), self.message.exchange.to_string());
        let Some(dead_queue) = self.lane.place.dead_queue.clone() else {
            self.say(Say::Ack);
            return Ok(());
        };
        // Somebody may have deleted it.
        self.lane.shared.declare("the queue", &dead_queue, &[topology::dead_letters(&dead_queue)]).await?;
        let attempts = AMQPValue::LongLongInt(self.attempt.into());
        self.move_to(&dead_queue, |headers| {
            forget_death(headers);
            headers.insert(ATTEMPTS.into(), attempts);
            note_death(headers, &queue, &exchange, reason, error);
        })
        .await
    }

    async fn reply(&mut self, result: &std::result::Result<Vec<u8>, String>) -> Result<()> {
        let asked = &self.message.properties;
        if let Some(to) = asked.reply_to() {
            let mut headers = FieldTable::default();
            if let Err(error) = result {
                headers.insert(ERROR.into(), AMQPValue::LongString(cut(error).into()));
            }
            let mut properties = BasicProperties::default().with_headers(headers);
            // As programs without a correlation id of their own expect it: that of the message.
            if let Some(id) = asked.correlation_id().as_ref().or(asked.message_id().as_ref()) {
                properties = properties.with_correlation_id(id.clone());
            }
            let body = result.as_ref().map_or(&[][..], |body| body);
            let parcel = Parcel { exchange: ShortString::default(), key: to.clone(), properties, body };
            // If it is unroutable, whoever has asked is gone.
            self.lane.shared.publish(&[parcel]).await?;
        }
        self.say(Say::Ack);
        Ok(())
    }

    /// A copy of the message, on its way to an exchange.
    fn copy(&self, exchange: &str, key: &str, change: impl FnOnce(&mut Headers)) -> Result<Publish, Fault> {
        let (properties, body) = (copy(&self.message.properties, change), self.message.data.clone());
        Ok(Publish { exchange: short(exchange)?, key: short(key)?, properties, body })
    }
}

impl Receipt for AmqpReceipt {
    fn settle(mut self: Box<Self>, how: Settlement) -> Work<'static, Result<Unheard>> {
        Box::pin(async move {
            match how {
                Settlement::Done(events) if !events.is_empty() => {
                    return done_with(std::slice::from_mut(&mut *self), &events).await;
                }
                Settlement::Done(_) => self.say(Say::Ack),
                Settlement::Retry { after } => self.retry(after).await?,
                Settlement::Dead { reason, error } => self.bury(reason, &error).await?,
                Settlement::Redrive => {
                    let queue = self.lane.place.queue.clone();
                    self.move_to(&queue, forget_death).await?;
                }
                Settlement::Reply(result) => self.reply(&result).await?,
                Settlement::Release => self.say(Say::Return),
            }
            Ok(Vec::new())
        })
    }

    fn settle_all(self: Box<Self>, others: Vec<Box<dyn Receipt>>, how: Settlement) -> Work<'static, Result<Unheard>> {
        Box::pin(async move {
            let others = others.into_iter().map(|other| {
                let other: Box<dyn Any> = other;
                *other.downcast::<AmqpReceipt>().expect("receipts that are settled together are of one receiver")
            });
            let mut receipts: Vec<_> = std::iter::once(*self).chain(others).collect();
            match how {
                Settlement::Done(events) if !events.is_empty() => done_with(&mut receipts, &events).await,
                Settlement::Done(_) => {
                    receipts.iter_mut().for_each(|receipt| receipt.say(Say::Ack));
                    Ok(Vec::new())
                }
                how => {
                    let mut result = Ok(Vec::new());
                    for receipt in receipts {
                        result = result.and(Box::new(receipt).settle(how.clone()).await);
                    }
                    result
                }
            }
        })
    }
}

impl Drop for AmqpReceipt {
    fn drop(&mut self) {
        if !self.is_settled && self.lane.is_open() {
            self.lane.give_back(self.message.delivery_tag);
        }
    }
}

/// Publishes the events of a handler, and forgets its messages. Gives the numbers of the events that nobody hears.
async fn done_with(receipts: &mut [AmqpReceipt], events: &[Outgoing]) -> Result<Unheard> {
    let Some(shared) = receipts.first().map(|receipt| receipt.lane.shared.clone()) else { return Ok(Vec::new()) };
    let parcels = events.iter().map(|event| Ok(Publish::from(parcel(shared.engine, event)?)));
    let publish = parcels.collect::<Result<Vec<_>, Fault>>()?;
    shared.prepare_delays(events).await?;
    replace(receipts, publish).await
}

/// Publishes, and forgets messages: all of it or nothing, where the engine can. If it fails, the messages go back.
async fn replace(receipts: &mut [AmqpReceipt], publish: Vec<Publish>) -> Result<Unheard> {
    // Those whose channel is gone come again, whatever is done with them.
    let Some(lane) = receipts.iter().map(|receipt| &receipt.lane).find(|lane| lane.is_open()).cloned() else {
        receipts.iter_mut().for_each(|receipt| receipt.say(Say::Ack));
        return Ok(Vec::new());
    };
    let is_here = |receipt: &AmqpReceipt| Arc::ptr_eq(&receipt.lane, &lane);
    if lane.shared.engine == Engine::Leveret {
        let here = receipts.iter_mut().filter(|receipt| is_here(receipt));
        let tags = here.map(|receipt| {
            receipt.is_settled = true;
            receipt.message.delivery_tag
        });
        return lane.commit(tags.collect(), publish).await;
    }
    let parcels: Vec<_> = publish.iter().map(Publish::parcel).collect();
    let unheard = lane.shared.publish(&parcels).await?;
    receipts.iter_mut().for_each(|receipt| receipt.say(Say::Ack));
    Ok(unheard)
}

/// How long a message waits before its next attempt.
fn wait(policy: Option<RetryPolicy>, attempt: u32) -> Duration {
    let RetryPolicy { min, max, .. } = policy.unwrap_or_default();
    let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    part_of(min.saturating_mul(factor).min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_shortened_at_random() {
        let seconds = Duration::from_secs;
        let policy = Some(RetryPolicy { min: seconds(1), max: seconds(10), attempts: 10 });
        for (attempt, longest) in [(1, 1), (2, 2), (4, 8), (5, 10), (40, 10), (u32::MAX, 10)] {
            let waits: Vec<_> = (0..100).map(|_| wait(policy, attempt)).collect();
            assert!(waits.iter().all(|wait| *wait <= seconds(longest) && !wait.is_zero()));
            assert!(
                waits.iter().any(|wait| *wait < seconds(longest) / 2)
                    && waits.iter().any(|wait| *wait > seconds(longest) / 2)
            );
        }
    }
}
