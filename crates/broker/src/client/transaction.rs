//! Publishes and acks that take effect together.

use super::line::Line;
use super::{Content, Message, Result};
use crate::channel::Channel;
use crate::publisher::Published;
use std::future::poll_fn;
use std::sync::Arc;

/// Publishes and acknowledgements that take effect together or not at all, over any number of queues: also across a
/// crash, where messages are persistent and queues durable. Made by [`Client::transaction`](super::Client::transaction).
///
/// Nobody sees anything of it before the commit. Dropped without one, it is rolled back: what it would have published
/// is forgotten, and the messages that it would have acknowledged go back to their queues.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    line: Arc<Line>,
    channel: Channel,
    publishes: bool,
    /// Where the acknowledged messages came from: line, and number of the consumer.
    sources: Vec<(Arc<Line>, Option<u32>)>,
}

impl Transaction {
    pub(super) fn new(line: Arc<Line>) -> Transaction {
        let mut channel = Channel::new(2);
        channel.select_transaction().expect("a new channel has no other mode");
        Transaction { line, channel, publishes: false, sources: Vec::new() }
    }

    /// Publishes a message with the commit. To which queues it goes is decided now.
    ///
    /// # Errors
    /// [`Refused`](super::ClientError::Refused) with 404 if there is no such exchange, or with the limit that is exceeded;
    /// [`Unroutable`](super::ClientError::Unroutable) for a mandatory message that no queue takes. The message is not part
    /// of the transaction then.
    pub fn publish<'a>(&mut self, exchange: &str, key: &str, content: impl Into<Content<'a>>) -> Result<Published> {
        let published = self.line.lock_running()?.publish_on(&mut self.channel, exchange, key, &content.into())?;
        self.publishes |= published == Published::Routed;
        Ok(published)
    }

    /// Acknowledges a message with the commit.
    ///
    /// # Errors
    /// [`Refused`](super::ClientError::Refused) with 406 if the message is acknowledged already, or another broker's.
    pub fn ack(&mut self, message: Message) -> Result<()> {
        let (source, run) = message.hand_over(&self.line)?;
        self.sources.push((source, run.consumer));
        self.channel.ack_handed_over(run);
        Ok(())
    }

    /// Commits. Done when everything has taken effect and is safe on disk. While memory or disk runs out, a transaction
    /// that publishes waits.
    ///
    /// A future that is dropped before it is done may have committed or not, but not in part.
    ///
    /// # Errors
    /// [`LogFailed`](super::ClientError::LogFailed) and [`ShutDown`](super::ClientError::ShutDown): all of it is there
    /// after a restart, or nothing.
    pub async fn commit(mut self) -> Result<()> {
        if self.publishes {
            self.line.unblocked().await?;
        }
        let Transaction { line, channel, .. } = &mut self;
        // Nothing is returned: what is mandatory and goes nowhere was refused.
        let committed = channel.commit(&mut line.lock_running()?.session, |_| ())?;
        if !committed {
            let mut seat = None;
            poll_fn(|context| {
                line.poll(&mut seat, context, |core| channel.take_committed(&core.session).then_some(Ok(())))
            })
            .await?;
        }
        // What was published and what is forgotten now may both have ended or begun a shortage.
        self.line.broker.check_memory();
        Ok(())
    }

    /// Forgets it. Dropping it does the same.
    pub fn rollback(self) {}
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // After a commit there is nothing left in it to go back.
        let channel = std::mem::replace(&mut self.channel, Channel::new(0));
        channel.close(&mut self.line.lock().session);
        for (source, consumer) in self.sources.drain(..) {
            if let Some(consumer) = consumer {
                source.lock().channel.settled_elsewhere(consumer);
            }
        }
    }
}
