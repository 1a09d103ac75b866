//! Requests and their replies. Replies come to one queue of each bus, and are told apart by their correlation ids.

use super::Shared;
use super::fault::Fault;
use super::link::{Link, Pause};
use super::message::{as_text, properties, short};
use super::publisher::Parcel;
use super::topology::{Lives, declare, queue};
use crate::contract::{ERROR, millis, requests};
use crate::driver::Reply;
use crate::error::{Error, Result};
use crate::message::Outgoing;
use futures_core::Stream;
use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// The queue for what one waits for, and who waits.
#[derive(Debug)]
pub(super) struct Replies {
    queue: String,
    waiting: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
    /// Whether the queue is there.
    listens: watch::Sender<bool>,
}

/// Takes a request's place when nobody waits for it any more.
struct Waiting<'a> {
    replies: &'a Replies,
    id: String,
}

impl Replies {
    /// Begins to read a queue of its own, also behind connections that are lost.
    pub(super) fn listen(link: Link) -> Arc<Replies> {
        let queue = format!("leveret.replies.{}", Uuid::now_v7());
        let replies = Arc::new(Replies { queue, waiting: Mutex::default(), listens: watch::Sender::new(false) });
        tokio::spawn(replies.clone().read(link));
        replies
    }

    async fn read(self: Arc<Replies>, link: Link) {
        let mut pause = Pause::default();
        while let Ok(epoch) = link.up(None).await {
            let begun = async {
                let channel = epoch.channel().await?;
                let consumer = epoch.answer(self.consume(&channel)).await?;
                Ok((channel, consumer))
            };
            match begun.await {
                Ok((_channel, mut consumer)) => {
                    pause = Pause::default();
                    self.listens.send_replace(true);
                    while let Some(Ok(reply)) = poll_fn(|context| Pin::new(&mut consumer).poll_next(context)).await {
                        self.take(&reply);
                    }
                    self.listens.send_replace(false);
                }
                Err(Fault::Lost(why) | Fault::Refused { text: why, .. }) => {
                    tracing::debug!(why, "replies cannot be received now");
                }
            }
            pause.wait().await;
        }
        // Who waits learns that nothing comes any more.
        self.lock().clear();
    }

    async fn consume(&self, channel: &Channel) -> lapin::Result<Consumer> {
        declare(channel, &[queue(&self.queue, Lives::WithConnection, FieldTable::default())]).await?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(self.queue.as_str().into(), ShortString::default(), options, FieldTable::default()).await
    }

    fn take(&self, reply: &Delivery) {
        let id = reply.properties.correlation_id().as_ref().map_or("", ShortString::as_str);
        // Nobody waits for a reply that is late.
        let Some(waiting) = self.lock().remove(id) else { return };
        let headers = reply.properties.headers().as_ref();
        let error = headers.and_then(|headers| headers.inner().get(ERROR));
        _ = waiting.send(match error {
            Some(error) => Reply::Failed(as_text(error).unwrap_or_default().to_string()),
            None => Reply::Done(reply.data.clone()),
        });
    }

    pub(super) async fn request(&self, shared: &Shared, request: &Outgoing, timeout: Duration) -> Result<Reply> {
        let mut listens = self.listens.subscribe();
        let patience = tokio::time::timeout(timeout, listens.wait_for(|listens| *listens));
        patience
            .await
            .map_err(|_| Error::Engine("the broker cannot be reached".to_string()))?
            .map_err(|_| Error::Closed)?;
        let (tell, told) = oneshot::channel();
        let waiting = Waiting { replies: self, id: request.id.to_string() };
        self.lock().insert(waiting.id.clone(), tell);
        let properties = properties(request)?
            .with_correlation_id(short(waiting.id.as_str())?)
            .with_reply_to(short(self.queue.as_str())?)
            .with_expiration(short(millis(timeout).to_string())?);
        let key = short(requests(request.topic))?;
        let parcel = Parcel { exchange: ShortString::default(), key, properties, body: &request.body };
        match shared.publish(&[parcel]).await? {
            0 => told.await.map_err(|_| Error::Closed),
            _ => Ok(Reply::NoResponder),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Reply>>> {
        // Nothing that is done with it can panic halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.id);
    }
}
