//! A message that was received.

use super::line::Line;
use super::{ClientError, Result};
use crate::channel::Settle;
use crate::error::Error;
use crate::message::{self, Block};
use crate::queue::Delivery;
use crate::unacked::Outstanding;
use leveret_wire::properties::Properties;
use std::fmt;
use std::sync::Arc;

/// A message that was received and is to be settled. One that is dropped before goes back to its place in the queue, and
/// is delivered again.
///
/// It shares the memory of the messages around it, up to 64 KiB: to keep a body for long, copy it.
pub struct Message {
    block: Arc<Block>,
    offset: usize,
    redelivered: bool,
    returned: u64,
    tag: u64,
    settled: bool,
    /// Behind the block, so that it is dropped after it.
    line: Relief,
}

/// Looks, when a message and its memory are gone, whether that ends a shortage of memory.
struct Relief(Arc<Line>);

impl Drop for Relief {
    fn drop(&mut self) {
        if self.0.broker.is_blocked() {
            self.0.broker.check_memory();
        }
    }
}

impl Message {
    /// The first message of a delivery.
    pub(super) fn first(delivery: &Delivery, line: Arc<Line>, tag: u64) -> Message {
        Message {
            block: delivery.block.clone(),
            offset: delivery.offset,
            redelivered: delivery.redelivered,
            returned: delivery.returned,
            tag,
            settled: false,
            line: Relief(line),
        }
    }

    /// It was settled by being delivered.
    pub(super) fn without_ack(mut self) -> Message {
        self.settled = true;
        self
    }

    fn record(&self) -> message::Message<'_> {
        self.block.at(self.offset).0
    }

    /// The payload.
    pub fn body(&self) -> &[u8] {
        self.record().body
    }

    /// The exchange that it was published to.
    pub fn exchange(&self) -> &str {
        self.record().exchange()
    }

    /// Its routing key.
    pub fn routing_key(&self) -> &str {
        self.record().routing_key()
    }

    /// It was published to survive the broker.
    pub fn is_persistent(&self) -> bool {
        self.record().persistent
    }

    /// Its properties, the application's headers among them.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 502 if the headers are nested deeper than
    /// [`table::max_depth`](crate::table::max_depth), which was larger when it was published.
    pub fn properties(&self) -> Result<Properties<'_>> {
        let refused = |error| Error::channel(502, format!("its properties cannot be read: {error}"));
        Ok(Properties::decode(self.record().properties).map_err(refused)?)
    }

    /// It was delivered before, or may have been before the broker was restarted.
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// How often it was delivered before and returned to its queue.
    pub fn delivery_count(&self) -> u64 {
        self.returned
    }

    /// It is done. On disk within 100 ms; [`Transaction::ack`](super::Transaction::ack) tells when.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with 406 if it was settled with a later one, by [`Message::ack_through`];
    /// [`ClientError::LogFailed`] or [`ClientError::ShutDown`], and then it is still in its queue after a restart.
    pub fn ack(self) -> Result<()> {
        self.settle(false, Settle::Ack)
    }

    /// It is done, and with it everything that its subscription has delivered before.
    ///
    /// # Errors
    /// As [`Message::ack`].
    pub fn ack_through(self) -> Result<()> {
        self.settle(true, Settle::Ack)
    }

    /// They are done: as [`Message::ack`] for each, and much faster.
    ///
    /// # Errors
    /// As [`Message::ack`]; those before the one that fails are settled.
    pub fn ack_all(messages: impl IntoIterator<Item = Message>) -> Result<()> {
        let mut messages: Vec<Message> = messages.into_iter().collect();
        for together in messages.chunk_by_mut(|a, b| Arc::ptr_eq(&a.line.0, &b.line.0)) {
            let line = together[0].line.0.clone();
            let mut core = line.lock_running()?;
            let noted = together.iter_mut().filter(|message| !message.settled).try_for_each(|message| {
                message.settled = true;
                core.note_ack(message.tag)
            });
            core.apply_acks();
            noted?;
        }
        Ok(())
    }

    /// It could not be processed now: with `requeue` it goes back to its place in the queue, as basic.nack gives it back;
    /// without, it is rejected.
    ///
    /// # Errors
    /// As [`Message::ack`].
    pub fn nack(self, requeue: bool) -> Result<()> {
        self.settle(false, if requeue { Settle::Requeue } else { Settle::Reject })
    }

    /// It cannot be processed ever: it goes to the queue's dead-letter exchange, or is gone if there is none.
    ///
    /// # Errors
    /// As [`Message::ack`].
    pub fn reject(self) -> Result<()> {
        self.settle(false, Settle::Reject)
    }

    fn settle(mut self, multiple: bool, how: Settle) -> Result<()> {
        if self.settled {
            return Ok(());
        }
        let mut core = self.line.0.lock_running()?;
        self.settled = true;
        core.settle(self.tag, multiple, how)
    }

    /// Gives its settlement to a transaction, with the line and the consumer to be told of the outcome.
    pub(super) fn hand_over(mut self, to: &Line) -> Result<(Arc<Line>, Outstanding)> {
        if !to.broker.is_same(&self.line.0.broker) {
            return Err(Error::precondition("the message is another broker's").into());
        }
        let run = match self.settled {
            true => None,
            false => self.line.0.lock_running()?.channel.hand_over(self.tag),
        };
        let text = || Error::precondition("the message was acknowledged before, or by its delivery");
        let run = run.ok_or_else(|| ClientError::from(text()))?;
        self.settled = true;
        Ok((self.line.0.clone(), run))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.settled {
            // An error says that it was settled with a later one.
            let _ = self.line.0.lock().settle(self.tag, false, Settle::Fail);
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Message");
        debug.field("exchange", &self.exchange()).field("routing_key", &self.routing_key());
        debug.field("bytes", &self.body().len()).field("redelivered", &self.redelivered).finish_non_exhaustive()
    }
}
