//! Messages of a subscription, and how they are settled.

use super::engine;
use super::message::{Prepared, copy, forget_death, incoming, note_death};
use super::requests::{declare_requests, reply};
use super::topology::declare_broadcast;
use crate::contract::{ATTEMPTS, millis, retry};
use crate::driver::{Receipt, Received, Receiver, Settlement, SubscriptionSpec, Work};
use crate::error::Result;
use crate::message::Outgoing;
use leveret_broker::table::FieldTable;
use leveret_broker::{Client, Content, Message, Published, Subscription};
use std::any::Any;
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
    /// None of broadcasts and requests.
    dead_queue: Option<String>,
}

struct LocalReceipt {
    /// Until it is settled.
    message: Option<Message>,
    place: Arc<Place>,
    attempt: u32,
}

impl LocalReceiver {
    pub(super) fn new(client: &Client, spec: &SubscriptionSpec, dead: bool, prefetch: u16) -> Result<LocalReceiver> {
        let (queue, dead_queue) = match spec.broadcast {
            true => (declare_broadcast(client, spec)?, None),
            false => (spec.queue(), Some(spec.dead_queue())),
        };
        let from = if dead { spec.dead_queue() } else { queue.clone() };
        LocalReceiver::from(client, &from, Place { client: client.clone(), queue, dead_queue }, dead, prefetch)
    }

    pub(super) fn of_requests(client: &Client, name: &str, prefetch: u16) -> Result<LocalReceiver> {
        let queue = declare_requests(client, name)?;
        let place = Place { client: client.clone(), queue: queue.clone(), dead_queue: None };
        LocalReceiver::from(client, &queue, place, false, prefetch)
    }

    fn from(client: &Client, queue: &str, place: Place, dead: bool, prefetch: u16) -> Result<LocalReceiver> {
        let subscription = client.subscribe(queue, prefetch).map_err(engine)?;
        Ok(LocalReceiver { subscription, place: place.into(), dead })
    }

    fn received(&self, message: Message) -> Received {
        let (incoming, death) = incoming(&message, self.dead);
        let receipt =
            LocalReceipt { message: Some(message), place: self.place.clone(), attempt: incoming.meta.attempt };
        Received { message: incoming, death, receipt: Box::new(receipt) }
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
    fn settle(mut self: Box<Self>, how: Settlement) -> Work<'static, Result<Vec<usize>>> {
        // From here on a message that is dropped counts as failed, and waits: also one that could not be settled.
        let message = self.take();
        Box::pin(async move {
            let settled = match how {
                Settlement::Done(events) if events.is_empty() => message.ack().map_err(engine),
                Settlement::Done(events) => return done_with(&self.place.client, vec![message], &events).await,
                Settlement::Retry { after: None } => Ok(()),
                Settlement::Retry { after: Some(after) } => {
                    let (place, attempt) = (&self.place, self.attempt);
                    let exchange = retry(&place.queue, place.dead_queue.is_none());
                    place
                        .move_to(message, &exchange, &place.queue, |headers, _| {
                            headers.insert("x-delay", millis(after));
                            headers.insert(ATTEMPTS, i64::from(attempt));
                        })
                        .await
                }
                Settlement::Dead { reason, error } => {
                    let (place, attempt) = (&self.place, self.attempt);
                    match &place.dead_queue {
                        None => message.ack().map_err(engine),
                        Some(dead_queue) => {
                            let change = |headers: &mut FieldTable, message: &Message| {
                                headers.insert(ATTEMPTS, i64::from(attempt));
                                note_death(headers, message, &place.queue, reason, &error);
                            };
                            place.move_to(message, "", dead_queue, change).await
                        }
                    }
                }
                Settlement::Redrive => {
                    let place = &self.place;
                    place.move_to(message, "", &place.queue, |headers, _| forget_death(headers)).await
                }
                Settlement::Reply(result) => {
                    reply(&self.place.client, &message, &result).await?;
                    message.ack().map_err(engine)
                }
                Settlement::Release => message.nack(true).map_err(engine),
            };
            settled.map(|()| Vec::new())
        })
    }

    fn settle_all(
        self: Box<Self>,
        others: Vec<Box<dyn Receipt>>,
        how: Settlement,
    ) -> Work<'static, Result<Vec<usize>>> {
        Box::pin(async move {
            let client = self.place.client.clone();
            let others = others.into_iter().map(|other| {
                let other: Box<dyn Any> = other;
                other.downcast::<LocalReceipt>().expect("receipts that are settled together are of one receiver")
            });
            let receipts = std::iter::once(self).chain(others);
            match how {
                Settlement::Done(events) if !events.is_empty() => {
                    done_with(&client, receipts.map(|mut receipt| receipt.take()).collect(), &events).await
                }
                Settlement::Done(_) => {
                    let acked = Message::ack_all(receipts.map(|mut receipt| receipt.take()));
                    acked.map(|()| Vec::new()).map_err(engine)
                }
                how => {
                    let mut result = Ok(Vec::new());
                    for receipt in receipts {
                        result = result.and(receipt.settle(how.clone()).await);
                    }
                    result
                }
            }
        })
    }
}

/// Publishes, and forgets the messages: all or nothing. Gives the numbers of the events that nobody hears.
async fn done_with(client: &Client, messages: Vec<Message>, events: &[Outgoing]) -> Result<Vec<usize>> {
    let (mut transaction, mut unheard) = (client.transaction(), Vec::new());
    for (number, event) in events.iter().enumerate() {
        let prepared = Prepared::of(event);
        let published = transaction.publish(&prepared.exchange, "", &prepared).map_err(engine)?;
        unheard.extend((published == Published::Unroutable).then_some(number));
    }
    for message in messages {
        transaction.ack(message).map_err(engine)?;
    }
    transaction.commit().await.map_err(engine)?;
    Ok(unheard)
}

impl LocalReceipt {
    fn take(&mut self) -> Message {
        self.message.take().expect("a receipt is settled once")
    }
}

impl Drop for LocalReceipt {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            // An error says that it goes back with everything else of this broker.
            _ = message.nack(true);
        }
    }
}

impl Place {
    /// Publishes a copy of a message, and forgets it: both or neither.
    async fn move_to(
        &self,
        message: Message,
        exchange: &str,
        key: &str,
        change: impl FnOnce(&mut FieldTable, &Message),
    ) -> Result<()> {
        let mut transaction = self.client.transaction();
        let publish = |content: Content<'_>| transaction.publish(exchange, key, content.mandatory());
        copy(&message, |headers| change(headers, &message), publish).map_err(engine)?;
        transaction.ack(message).map_err(engine)?;
        transaction.commit().await.map_err(engine)
    }
}
