//! Requests and their replies. Replies come to one queue of each bus, and are told apart by their correlation ids.

use super::engine;
use super::message::Prepared;
use crate::contract::{self, ERROR, cut, requests};
use crate::driver::Reply;
use crate::error::Result;
use crate::message::Outgoing;
use crate::waiters::Waiters;
use leveret_broker::table::{FieldTable, Table};
use leveret_broker::{
    Client, ClientError, Consume, Content, Message, Properties, Published, QueueDeclare, Subscription,
};
use std::sync::Arc;
use std::time::Duration;

/// The queue for what is waited for, and who waits.
#[derive(Debug)]
pub(super) struct Replies {
    queue: String,
    waiters: Waiters,
}

impl Replies {
    /// Makes the queue, and begins to read it.
    pub(super) fn listen(client: &Client) -> Result<Arc<Replies>> {
        let (durable, exclusive, auto_delete, arguments) = (false, true, true, Table::EMPTY);
        let declare = QueueDeclare { name: "", durable, exclusive, auto_delete, arguments };
        let queue = client.declare_queue_with(declare).map_err(engine)?.name.to_string();
        let consume = Consume { queue: &queue, tag: "", no_ack: true, exclusive: true, arguments };
        let subscription = client.consume(consume, 0).map_err(engine)?;
        let replies = Arc::new(Replies { queue, waiters: Waiters::default() });
        tokio::spawn(replies.clone().read(subscription));
        Ok(replies)
    }

    async fn read(self: Arc<Replies>, mut subscription: Subscription) {
        while let Ok(Some(message)) = subscription.next().await {
            let properties = message.properties().unwrap_or(Properties::EMPTY);
            let id = properties.correlation_id.map(String::from_utf8_lossy).unwrap_or_default();
            self.waiters.answer(&id, || match properties.headers.unwrap_or_default().get(ERROR) {
                Some(error) => Reply::Failed(error.as_str().unwrap_or_default().to_string()),
                None => Reply::Done(message.body().to_vec()),
            });
        }
        self.waiters.end();
    }

    pub(super) async fn request(&self, client: &Client, request: &Outgoing, timeout: Duration) -> Result<Reply> {
        let (prepared, expiration) = (Prepared::of(request), contract::millis(timeout).to_string());
        let waiter = self.waiters.wait(request.id.to_string());
        let properties = Properties {
            correlation_id: Some(waiter.id().as_bytes()),
            reply_to: Some(&self.queue),
            expiration: Some(&expiration),
            ..prepared.properties()
        };
        let content = Content::new(&request.body).transient().properties(properties);
        match client.publish("", &requests(request.topic), content).await.map_err(engine)? {
            Published::Unroutable => Ok(Reply::NoResponder),
            Published::Routed => waiter.reply().await,
        }
    }
}

/// Makes the queue of the requests for a name. It ends with the last who responds, so that requests are not left waiting for nobody.
pub(super) fn declare_requests(client: &Client, name: &str) -> Result<String> {
    let queue = requests(name);
    let (durable, exclusive, auto_delete, arguments) = (true, false, true, Table::EMPTY);
    let declare = QueueDeclare { name: &queue, durable, exclusive, auto_delete, arguments };
    client.declare_queue_with(declare).map_err(engine)?;
    Ok(queue)
}

/// Answers a request.
pub(super) async fn reply(client: &Client, request: &Message, reply: &Result<Vec<u8>, String>) -> Result<()> {
    let asked = request.properties().unwrap_or(Properties::EMPTY);
    let Some(to) = asked.reply_to else { return Ok(()) };
    let mut headers = FieldTable::new();
    if let Err(error) = reply {
        headers.insert(ERROR, cut(error));
    }
    let properties = Properties {
        // As programs without a correlation id of their own expect it: that of the message.
        correlation_id: asked.correlation_id.or(asked.message_id),
        headers: Some(headers.as_table()),
        ..Properties::EMPTY
    };
    let body = reply.as_ref().map_or(&[][..], |body| body);
    match client.publish("", to, Content::new(body).transient().properties(properties)).await {
        // Whoever has asked is gone.
        Ok(_) | Err(ClientError::Unroutable) => Ok(()),
        Err(error) => Err(engine(error)),
    }
}
