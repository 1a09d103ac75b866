//! The broker for applications: publish, subscribe, acknowledge and commit, in the process that holds the broker.
//!
//! A [`Client`] is what a connection with a channel is over AMQP. Everything that waits is a future, and any executor
//! will do; [`Wait`] blocks the thread instead.

mod bell;
mod confirm;
mod content;
mod line;
mod message;
mod refusal;
mod subscription;
mod transaction;
mod wait;

pub use confirm::Confirm;
pub use content::Content;
pub use message::Message;
pub use refusal::ClientError;
pub use subscription::Subscription;
pub use transaction::Transaction;
pub use wait::Wait;

use crate::channel::{Channel, Consume};
use crate::engine::{Broker, QueueDeclare, QueueStatus, Redriven, VirtualHost};
use crate::error::Error;
use crate::publisher::Published;
use crate::routing::ExchangeType;
use crate::topology::ExchangeDeclare;
use leveret_wire::table::Table;
use line::{Line, yield_once};
use std::sync::Arc;

/// The result of a client's operation.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Messages of [`Client::publish_all`] that are taken under one lock.
const CHUNK: usize = 256;

/// The virtual host that every broker has.
const DEFAULT_VHOST: &str = "/";

/// An application's connection to the broker in its own process. Made by [`Broker::connect`].
///
/// Clones are the same connection. One client may be used from any number of threads and tasks, but they share its lock:
/// threads that publish much had better have one each. A client's exclusive queues are deleted when it is dropped with
/// all its clones, subscriptions, messages, confirms and transactions.
#[derive(Clone, Debug)]
pub struct Client {
    line: Arc<Line>,
}

impl Broker {
    /// Connects to the virtual host `/`, which is made if it was deleted.
    pub fn connect(&self) -> Client {
        loop {
            if let Ok(client) = self.connect_to(DEFAULT_VHOST) {
                return client;
            }
            self.create_vhost(DEFAULT_VHOST);
        }
    }

    /// Connects to a virtual host, see [`Broker::create_vhost`].
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 530 if there is none of this name.
    pub fn connect_to(&self, vhost: &str) -> Result<Client> {
        let found = self.vhost(vhost);
        let vhost = found.ok_or_else(|| Error::connection(530, format!("vhost {vhost} not found")))?;
        let mut channel = Channel::new(1);
        channel.select_confirm()?;
        Ok(Client { line: Line::new(self.open_session(vhost), channel, None) })
    }
}

/// Queues, exchanges and bindings.
///
/// What is durable here is on disk at the latest when anything that is published later is confirmed. Each of these can
/// fail with [`ClientError::Refused`], with the codes and texts that an AMQP client would get, and with
/// [`ClientError::LogFailed`] or [`ClientError::ShutDown`].
impl Client {
    /// Declares a durable queue. One that is there must be the same.
    pub fn declare_queue(&self, name: &str) -> Result<QueueStatus> {
        let (exclusive, auto_delete, arguments) = (false, false, Table::EMPTY);
        self.declare_queue_with(QueueDeclare { name, durable: true, exclusive, auto_delete, arguments })
    }

    /// Declares a queue; an empty name gets one generated.
    pub fn declare_queue_with(&self, declare: QueueDeclare<'_>) -> Result<QueueStatus> {
        let mut core = self.line.lock_running()?;
        let (channel, session) = core.parts();
        Ok(channel.declare_queue(session, declare)?)
    }

    /// Deletes a queue with its messages; returns how many of them waited for a consumer. A missing one is no error.
    pub fn delete_queue(&self, name: &str) -> Result<u64> {
        let mut core = self.line.lock_running()?;
        let (channel, session) = core.parts();
        Ok(channel.delete_queue(session, name, false, false)?)
    }

    /// Drops the messages that wait for a consumer; returns how many.
    pub fn purge_queue(&self, name: &str) -> Result<u64> {
        let mut core = self.line.lock_running()?;
        let (channel, session) = core.parts();
        let purged = channel.purge_queue(session, name)?;
        drop(core);
        self.line.broker.check_memory();
        Ok(purged)
    }

    /// How many messages wait in a queue, and how many consumers it has.
    pub fn queue_status(&self, name: &str) -> Result<QueueStatus> {
        let core = self.line.lock_running()?;
        Ok(core.session.vhost().queue_status(name, core.session.id())?)
    }

    /// How many messages an exchange of type `x-delayed-message` has that wait for their time.
    pub fn delayed(&self, exchange: &str) -> Result<u64> {
        let core = self.line.lock_running()?;
        Ok(core.session.vhost().delayed(exchange)?)
    }

    /// Declares a durable exchange. One that is there must be the same.
    pub fn declare_exchange(&self, name: &str, kind: ExchangeType) -> Result<()> {
        let (auto_delete, internal, arguments) = (false, false, Table::EMPTY);
        self.declare_exchange_with(ExchangeDeclare {
            name,
            kind: kind.name(),
            durable: true,
            auto_delete,
            internal,
            arguments,
        })
    }

    /// Declares an exchange.
    pub fn declare_exchange_with(&self, declare: ExchangeDeclare<'_>) -> Result<()> {
        Ok(self.line.lock_running()?.session.vhost().declare_exchange(declare)?)
    }

    /// Deletes an exchange with all its bindings. A missing one is no error.
    pub fn delete_exchange(&self, name: &str) -> Result<()> {
        Ok(self.line.lock_running()?.session.vhost().delete_exchange(name, false)?)
    }

    /// Lets a queue get what is published to an exchange with a key that matches.
    pub fn bind_queue(&self, queue: &str, exchange: &str, key: &str) -> Result<()> {
        self.bind_queue_with(queue, exchange, key, Table::EMPTY)
    }

    /// As [`Client::bind_queue`], with arguments: what a headers exchange compares.
    pub fn bind_queue_with(&self, queue: &str, exchange: &str, key: &str, arguments: Table<'_>) -> Result<()> {
        let core = self.line.lock_running()?;
        Ok(core.session.vhost().bind_queue(queue, exchange, key, arguments, core.session.id())?)
    }

    /// Removes what [`Client::bind_queue_with`] has bound.
    pub fn unbind_queue(&self, queue: &str, exchange: &str, key: &str, arguments: Table<'_>) -> Result<()> {
        let core = self.line.lock_running()?;
        Ok(core.session.vhost().unbind_queue(queue, exchange, key, arguments, core.session.id())?)
    }

    /// Lets an exchange get what is published to another one with a key that matches.
    pub fn bind_exchange(&self, destination: &str, source: &str, key: &str) -> Result<()> {
        Ok(self.line.lock_running()?.session.vhost().bind_exchange(destination, source, key, Table::EMPTY)?)
    }

    /// Moves up to `max` dead letters from a queue back to the queues in which they first died, as they were published.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is no such queue, and with 405 if it is another's.
    pub fn redrive(&self, queue: &str, max: u64) -> Result<Redriven> {
        let core = self.line.lock_running()?;
        Ok(core.session.vhost().redrive(queue, max, core.session.id())?)
    }

    /// The virtual host, for what else can be done with it.
    pub fn vhost(&self) -> Arc<VirtualHost> {
        self.line.lock().session.vhost().clone()
    }
}

/// Publishing.
///
/// A message is persistent unless [`Content::transient`] was said. While memory or disk runs out, publishing waits. A
/// future that is dropped before it is done may have published or not.
impl Client {
    /// Publishes a message. Done when it is confirmed: in its queues, and safe on disk where it and its queue are
    /// durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is no such exchange, or with the limit that the message exceeds;
    /// [`ClientError::Unroutable`] for a mandatory message that no queue takes; [`ClientError::QueueFull`] if a queue has
    /// no room and refuses it; [`ClientError::LogFailed`] and [`ClientError::ShutDown`], after which the message may be
    /// there or not.
    pub fn publish<'a>(
        &'a self,
        exchange: &'a str,
        key: &'a str,
        content: impl Into<Content<'a>>,
    ) -> impl Future<Output = Result<Published>> + Send + 'a {
        let content = content.into();
        async move { self.take(exchange, key, &content).await?.await }
    }

    /// Publishes a message without waiting for its confirm, so that many can be on their way. Done when the message is in
    /// its queues, which is at once unless publishers are blocked.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub fn send<'a>(
        &'a self,
        exchange: &'a str,
        key: &'a str,
        content: impl Into<Content<'a>>,
    ) -> impl Future<Output = Result<Confirm>> + Send + 'a {
        let content = content.into();
        async move { self.take(exchange, key, &content).await }
    }

    async fn take(&self, exchange: &str, key: &str, content: &Content<'_>) -> Result<Confirm> {
        self.line.unblocked().await?;
        let (confirm, crowded) = {
            let mut core = self.line.lock_running()?;
            let published = core.publish(exchange, key, content);
            // Also what was published and could not be routed has a place in the order of confirms.
            let crowded = core.flush();
            let tag = core.channel.last_published();
            (Confirm::new(self.line.clone(), (tag, tag), published?), crowded)
        };
        if crowded {
            yield_once().await;
        }
        Ok(confirm)
    }

    /// Publishes many messages, each with its exchange and routing key, and waits once, until all are confirmed. This is
    /// the fastest way. Returns how many of them no queue took.
    ///
    /// # Errors
    /// As [`Client::publish`]. The messages before the one that is refused are published, those behind it are not;
    /// [`Client::transaction`] takes all or none.
    pub async fn publish_all<'a, C: Into<Content<'a>>>(
        &self,
        messages: impl IntoIterator<Item = (&'a str, &'a str, C)>,
    ) -> Result<u64> {
        let mut messages = messages.into_iter().peekable();
        let mut chunk: Vec<(&str, &str, C)> = Vec::with_capacity(messages.size_hint().0.min(CHUNK));
        let (mut unroutable, mut first) = (0, None);
        while messages.peek().is_some() {
            // The iterator may use this client, so its lock is not held now.
            chunk.extend(messages.by_ref().take(CHUNK));
            let is_last = messages.peek().is_none();
            self.line.unblocked().await?;
            let (tags, confirmed, crowded) = {
                let mut core = self.line.lock_running()?;
                let first = *first.get_or_insert(core.channel.last_published() + 1);
                let taken = chunk.drain(..).try_fold(0, |unroutable, (exchange, key, content)| {
                    let published = core.publish(exchange, key, &content.into())?;
                    Ok::<u64, ClientError>(unroutable + u64::from(published == Published::Unroutable))
                });
                let crowded = core.flush();
                unroutable += taken?;
                let tags = (first, core.channel.last_published());
                // Known at once where nothing has to be safe on disk.
                let confirmed = if is_last { core.confirmed(tags.0, tags.1) } else { None };
                (tags, confirmed, crowded)
            };
            if crowded {
                yield_once().await;
            }
            match confirmed {
                Some(confirmed) => confirmed?,
                None if is_last => _ = Confirm::new(self.line.clone(), tags, Published::Routed).await?,
                None => {}
            }
        }
        Ok(unroutable)
    }

    /// Begins a transaction: what it publishes and acknowledges takes effect together, or not at all.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.line.clone())
    }
}

/// Consuming.
impl Client {
    /// Consumes from a queue. At most `prefetch` messages are given out before they are settled; 0 is no limit.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is no such queue, with 403 if somebody uses it exclusively.
    pub fn subscribe(&self, queue: &str, prefetch: u16) -> Result<Subscription> {
        let consume = Consume { queue, tag: "", no_ack: false, exclusive: false, arguments: Table::EMPTY };
        self.consume(consume, prefetch)
    }

    /// As [`Client::subscribe`], with all that AMQP's basic.consume can say.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn consume(&self, consume: Consume<'_>, prefetch: u16) -> Result<Subscription> {
        Subscription::new(&self.line, consume, prefetch)
    }

    /// Takes one message, if there is one.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 404 if there is no such queue.
    pub fn get(&self, queue: &str) -> Result<Option<Message>> {
        let got = {
            let mut core = self.line.lock_running()?;
            let (channel, session) = core.parts();
            channel.get(session, queue, false)?
        };
        Ok(got.map(|(delivery, tag, _)| Message::first(&delivery, self.line.clone(), tag)))
    }
}
