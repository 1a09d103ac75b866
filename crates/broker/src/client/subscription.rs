//! A consumer and what it has received.

use super::bell::Seat;
use super::line::{Core, Line};
use super::{ClientError, Message, Result};
use crate::channel::{Channel, Consume, REPLY_TO, Settle};
use crate::engine::VirtualHost;
use crate::error::Error;
use crate::queue::Delivery;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes that are taken from the queue at once: enough to make locking it cheap.
const PULL: usize = 64 * 1024;

/// The messages of a queue, one after the other. Made by [`Client::subscribe`](super::Client::subscribe).
///
/// When it is dropped, its consumer is cancelled, and what it has not given out goes back to the queue. Messages that were
/// given out can still be settled.
#[derive(Debug)]
pub struct Subscription {
    line: Arc<Line>,
    vhost: Arc<VirtualHost>,
    queue: Arc<str>,
    tag: Arc<str>,
    /// The consumer's number.
    consumer: u32,
    no_ack: bool,
    pulled: Pulled,
    seat: Option<Seat>,
    /// Nothing comes any more.
    ended: bool,
}

/// What was taken from the queue and not given out.
#[derive(Debug, Default)]
struct Pulled {
    /// The last is given out first.
    runs: Vec<Delivery>,
    next_tag: u64,
}

impl Pulled {
    fn next(&mut self, line: &Arc<Line>) -> Option<Message> {
        let run = self.runs.last_mut()?;
        let message = Message::first(run, line.clone(), self.next_tag);
        self.next_tag += 1;
        run.count -= 1;
        if run.count == 0 {
            self.runs.pop();
        } else {
            (run.offset, run.position) = (run.block.skip(run.offset, 1), run.position + 1);
        }
        Some(message)
    }

    fn left(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.count)).sum()
    }
}

impl Subscription {
    pub(super) fn new(client: &Arc<Line>, consume: Consume<'_>, prefetch: u16) -> Result<Subscription> {
        if consume.queue == REPLY_TO {
            let text = "direct reply-to is for AMQP connections: declare an exclusive queue for the answers";
            return Err(Error::precondition(text).into());
        }
        let (session, queue) = {
            let core = client.lock_running()?;
            // An empty name stands for the queue that the client declared last.
            let queue: Arc<str> = core.channel.resolve_queue(consume.queue)?.into();
            (core.session.beside(), queue)
        };
        let (vhost, consumer) = (session.vhost.clone(), session.next_consumer);
        let line = Line::new(session, Channel::new(1), Some(client.clone()));
        let tag = {
            let mut core = line.lock();
            let (channel, session) = core.parts();
            channel.qos(session, prefetch, false);
            channel.consume(session, Consume { queue: &queue, ..consume })?
        };
        let (pulled, no_ack) = (Pulled::default(), consume.no_ack);
        Ok(Subscription { line, vhost, queue, tag, consumer, no_ack, pulled, seat: None, ended: false })
    }

    /// Waits for the next message. `None` if the queue was deleted. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError::LogFailed`], [`ClientError::ShutDown`]; [`ClientError::Refused`] with 406 if messages of the queue
    /// are damaged on disk.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Subscription::next`], for those who write their own futures and streams.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Message>>> {
        loop {
            if let Some(message) = self.pulled.next(&self.line) {
                let message = if self.no_ack { message.without_ack() } else { message };
                return Poll::Ready(Ok(Some(message)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let (pulled, consumer) = (&mut self.pulled, self.consumer);
            let found = self.line.poll(&mut self.seat, context, |core| pulled.pull(core, consumer).map(Ok));
            match found {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(goes_on)) => self.ended = !goes_on,
            }
            if self.ended
                && let Err(error) = self.check_deleted()
            {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// A message that is there already. `None` if there is none now.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<Message>> {
        match self.poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => Ok(None),
        }
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The consumer's tag.
    pub fn consumer_tag(&self) -> &str {
        &self.tag
    }

    /// A consumer is cancelled because its queue was deleted, or is closed: then the reason is an error.
    fn check_deleted(&self) -> Result<()> {
        let session = self.line.lock().session.id();
        match self.vhost.queue_status(&self.queue, session) {
            Err(error) if error.code == 406 => Err(ClientError::Refused(error)),
            _ => Ok(()),
        }
    }
}

impl Pulled {
    /// Takes what is there. `None` if nothing is; false if nothing will be.
    fn pull(&mut self, core: &mut Core, consumer: u32) -> Option<bool> {
        while std::mem::take(&mut core.ready) {
            let Some(pulled) = core.channel.pull(&core.session, consumer, PULL, &mut self.runs) else { break };
            core.ready = pulled.more;
            if !self.runs.is_empty() {
                self.next_tag = pulled.first_tag;
                self.runs.reverse();
                return Some(true);
            }
        }
        if core.cancelled {
            core.channel.cancelled(&core.session, consumer);
            return Some(false);
        }
        None
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut core = self.line.lock();
        let (channel, session) = core.parts();
        // First of all, so that what goes back is not granted to it again.
        channel.cancel(session, &self.tag);
        if !self.no_ack {
            for tag in self.pulled.next_tag..self.pulled.next_tag + self.pulled.left() {
                // One that was acknowledged with a later one is not outstanding any more.
                let _ = channel.settle(tag, false, Settle::Requeue);
            }
            channel.apply_settled();
        }
    }
}
