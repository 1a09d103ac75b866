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
use crate::waiters::Waiters;
use futures_core::Stream;
use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// The queue for what is waited for, and who waits.
#[derive(Debug)]
pub(super) struct Replies {
    queue: String,
    waiters: Waiters,
    /// Whether the queue is there.
    listens: watch::Sender<bool>,
}

impl Replies {
    /// Begins to read a queue of its own, also behind connections that are lost.
    pub(super) fn listen(link: Link) -> Arc<Replies> {
        let queue = format!("leveret.replies.{}", Uuid::now_v7());
        let replies = Arc::new(Replies { queue, waiters: Waiters::default(), listens: watch::Sender::new(false) });
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
        self.waiters.end();
    }

    async fn consume(&self, channel: &Channel) -> lapin::Result<Consumer> {
        declare(channel, &[queue(&self.queue, Lives::WithConnection, FieldTable::default())]).await?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(self.queue.as_str().into(), ShortString::default(), options, FieldTable::default()).await
    }

    fn take(&self, reply: &Delivery) {
        let id = reply.properties.correlation_id().as_ref().map_or("", ShortString::as_str);
        self.waiters.answer(id, || {
            let headers = reply.properties.headers().as_ref();
            match headers.and_then(|headers| headers.inner().get(ERROR)) {
                Some(error) => Reply::Failed(as_text(error).unwrap_or_default().to_string()),
                None => Reply::Done(reply.data.clone()),
            }
        });
    }

    pub(super) async fn request(&self, shared: &Shared, request: &Outgoing, timeout: Duration) -> Result<Reply> {
        let mut listens = self.listens.subscribe();
        let patience = tokio::time::timeout(timeout, listens.wait_for(|listens| *listens));
        patience
            .await
            .map_err(|_| Error::Engine("the broker cannot be reached".to_string()))?
            .map_err(|_| Error::Closed)?;
        let waiter = self.waiters.wait(request.id.to_string());
        let properties = properties(request)?
            .with_correlation_id(short(waiter.id())?)
            .with_reply_to(short(self.queue.as_str())?)
            .with_expiration(short(millis(timeout).to_string())?);
        let key = short(requests(request.topic))?;
        let parcel = Parcel { exchange: ShortString::default(), key, properties, body: &request.body };
        match shared.publish(&[parcel]).await?.len() {
            0 => waiter.reply().await,
            _ => Ok(Reply::NoResponder),
        }
    }
}
