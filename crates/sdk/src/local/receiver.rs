//! Messages of a subscription, and how they are settled.

use super::engine;
use super::message::{ATTEMPTS, Prepared, copy, forget_death, incoming, note_death};
use super::topology::RETRY;
use crate::driver::{Receipt, Received, Receiver, Settlement, SubscriptionSpec, Work};
use crate::error::Result;
use crate::message::Outgoing;
use leveret_broker::table::FieldTable;
use leveret_broker::{Client, Content, Message, Subscription};
use std::sync::Arc;

/// Messages that are taken at once, at most.
const BATCH: usize = 64;

pub(super) struct LocalReceiver {
    subscription: Subscription,
    place: Arc<Place>,
    dead: bool,
}

/// Where messages come from, and where they can go.
struct Place {
    client: Client,
    queue: String,
    dead_queue: String,
}

struct LocalReceipt {
    message: Message,
    place: Arc<Place>,
    attempt: u32,
}

impl LocalReceiver {
    pub(super) fn new(client: &Client, spec: &SubscriptionSpec, dead: bool, prefetch: u16) -> Result<LocalReceiver> {
        let place = Place { client: client.clone(), queue: spec.queue(), dead_queue: spec.dead_queue() };
        let from = if dead { &place.dead_queue } else { &place.queue };
        let subscription = client.subscribe(from, prefetch).map_err(engine)?;
        Ok(LocalReceiver { subscription, place: place.into(), dead })
    }

    fn received(&self, message: Message) -> Received {
        let (incoming, death) = incoming(&message);
        let receipt = LocalReceipt { message, place: self.place.clone(), attempt: incoming.meta.attempt };
        Received { message: incoming, death: self.dead.then_some(death), receipt: Box::new(receipt) }
    }
}

impl Receiver for LocalReceiver {
    fn next<'a>(&'a mut self, out: &'a mut Vec<Received>) -> Work<'a, Result<bool>> {
        Box::pin(async move {
            let Some(first) = self.subscription.next().await.map_err(engine)? else { return Ok(false) };
            out.push(self.received(first));
            self.try_next(out)?;
            Ok(true)
        })
    }

    fn try_next(&mut self, out: &mut Vec<Received>) -> Result<()> {
        for _ in 0..BATCH {
            let Some(message) = self.subscription.try_next().map_err(engine)? else { break };
            out.push(self.received(message));
        }
        Ok(())
    }
}

impl Receipt for LocalReceipt {
    fn settle(self: Box<Self>, how: Settlement) -> Work<'static, Result<()>> {
        Box::pin(async move {
            match how {
                Settlement::Done(events) if events.is_empty() => self.message.ack().map_err(engine),
                Settlement::Done(events) => self.done_with(&events).await,
                // A message that is dropped counts as failed, and waits.
                Settlement::Retry { after: None } => Ok(()),
                Settlement::Retry { after: Some(after) } => {
                    let millis = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                    let (place, attempt) = (self.place.clone(), self.attempt);
                    self.move_to(RETRY, &place.queue, |headers, _| {
                        headers.insert("x-delay", millis);
                        headers.insert(ATTEMPTS, i64::from(attempt));
                    })
                    .await
                }
                Settlement::Dead { reason, error } => {
                    let (place, attempt) = (self.place.clone(), self.attempt);
                    self.move_to("", &place.dead_queue, |headers, message| {
                        headers.insert(ATTEMPTS, i64::from(attempt));
                        note_death(headers, message, &place.queue, reason, &error);
                    })
                    .await
                }
                Settlement::Redrive => {
                    let place = self.place.clone();
                    self.move_to("", &place.queue, |headers, _| forget_death(headers)).await
                }
                Settlement::Release => self.message.nack(true).map_err(engine),
            }
        })
    }
}

impl LocalReceipt {
    /// Publishes, and forgets the message: both or neither.
    async fn done_with(self, events: &[Outgoing]) -> Result<()> {
        let mut transaction = self.place.client.transaction();
        for event in events {
            let prepared = Prepared::of(event);
            transaction.publish(&prepared.exchange, "", prepared.content()).map_err(engine)?;
        }
        transaction.ack(self.message).map_err(engine)?;
        transaction.commit().await.map_err(engine)
    }

    /// Publishes a copy of the message, and forgets it: both or neither.
    async fn move_to(self, exchange: &str, key: &str, change: impl FnOnce(&mut FieldTable, &Message)) -> Result<()> {
        let mut transaction = self.place.client.transaction();
        let publish = |content: Content<'_>| transaction.publish(exchange, key, content.mandatory());
        copy(&self.message, |headers| change(headers, &self.message), publish).map_err(engine)?;
        transaction.ack(self.message).map_err(engine)?;
        transaction.commit().await.map_err(engine)
    }
}
