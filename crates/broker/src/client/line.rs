//! A session and its channel behind a lock, and how to wait for either.

use super::bell::{Bell, Quiet, Seat};
use super::{ClientError, Content, Result};
use crate::channel::{Channel, Settle};
use crate::engine::Broker;
use crate::mailbox::Event;
use crate::publisher::{Publish, Published};
use crate::session::Session;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Refusals are remembered for so many messages that nobody waits for.
const REFUSED_MAX: usize = 100_000;

/// A session with one channel, shared by handles that are used from any thread.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) broker: Broker,
    core: Mutex<Core>,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
    /// The client that this is a subscription of, so that its exclusive queues stay. Dropped last.
    _client: Option<Arc<Line>>,
}

/// What the lock of a line guards.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) session: Session,
    pub(super) channel: Channel,
    /// There is something to pull.
    pub(super) ready: bool,
    /// The queue of the consumer is gone.
    pub(super) cancelled: bool,
    /// Tags of messages that a full queue has refused, and that nobody has asked for.
    refused: BTreeSet<u64>,
    events: Vec<Event>,
    /// Route and properties of the message that is being published.
    route: Vec<u8>,
    encoded: Vec<u8>,
}

impl Line {
    pub(super) fn new(session: Session, channel: Channel, client: Option<Arc<Line>>) -> Arc<Line> {
        let (broker, bell) = (session.broker.clone(), Arc::<Bell>::default());
        let waker = Waker::from(bell.clone());
        let core = Core {
            session,
            channel,
            ready: false,
            cancelled: false,
            refused: BTreeSet::new(),
            events: Vec::new(),
            route: Vec::new(),
            encoded: Vec::new(),
        };
        Arc::new(Line { broker, core: Mutex::new(core), bell, waker, _client: client })
    }

    /// Who is woken by what is done under the lock is woken when it is released. Two lines are never locked at once.
    pub(super) fn lock(&self) -> Locked<'_> {
        let quiet = Quiet::begin();
        Locked { core: self.core.lock(), _quiet: quiet }
    }

    /// As [`Line::lock`], unless the broker takes nothing new.
    pub(super) fn lock_running(&self) -> Result<Locked<'_>> {
        if self.broker.is_stopping() {
            return Err(ClientError::ShutDown);
        }
        self.check_log()?;
        Ok(self.lock())
    }

    fn check_log(&self) -> Result<()> {
        self.broker.failure().map_or(Ok(()), |why| Err(ClientError::LogFailed(why)))
    }

    /// Waits until `look`, which is called whenever something may have changed, finds what it looks for.
    ///
    /// # Errors
    /// If that cannot come any more: the log has failed, or the broker is shut down.
    pub(super) fn poll<T>(
        &self,
        seat: &mut Option<Seat>,
        context: &mut Context<'_>,
        mut look: impl FnMut(&mut Core) -> Option<Result<T>>,
    ) -> Poll<Result<T>> {
        let mut seated = false;
        loop {
            let mut core = self.lock();
            core.take_mail(&self.waker);
            let found = look(&mut core);
            drop(core);
            if let Some(found) = found {
                return Poll::Ready(found);
            }
            // Only now: whoever sets these says so in the mailbox afterwards.
            self.check_log()?;
            if self.broker.is_stopped() {
                return Poll::Ready(Err(ClientError::ShutDown));
            }
            if seated {
                return Poll::Pending;
            }
            // What came before the seat was taken has rung for others only, so everything is looked at once more.
            Seat::take(seat, &self.bell, context.waker());
            seated = true;
        }
    }

    /// Waits until publishers are not blocked.
    pub(super) async fn unblocked(&self) -> Result<()> {
        if !self.broker.is_blocked() {
            return Ok(());
        }
        let mut seat = None;
        poll_fn(|context| {
            self.broker.check_memory();
            self.poll(&mut seat, context, |_| (!self.broker.is_blocked()).then_some(Ok(())))
        })
        .await
    }
}

/// A locked line.
pub(super) struct Locked<'a> {
    core: MutexGuard<'a, Core>,
    /// Behind the guard, so that it is dropped after it.
    _quiet: Quiet,
}

impl Deref for Locked<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Core {
    /// The channel and the session that its operations are done on.
    pub(super) fn parts(&mut self) -> (&mut Channel, &mut Session) {
        (&mut self.channel, &mut self.session)
    }

    /// Publishes on the line's own channel; [`Core::flush`] is to follow.
    pub(super) fn publish(&mut self, exchange: &str, key: &str, content: &Content<'_>) -> Result<Published> {
        let Core { session, channel, route, encoded, .. } = self;
        let publish = encode(exchange, key, content, session, route, encoded)?;
        match channel.publish(session, &publish)? {
            Published::Unroutable if content.mandatory => Err(ClientError::Unroutable),
            published => Ok(published),
        }
    }

    /// Publishes in a transaction on another channel of this session.
    pub(super) fn publish_on(
        &mut self,
        channel: &mut Channel,
        exchange: &str,
        key: &str,
        content: &Content<'_>,
    ) -> Result<Published> {
        let Core { session, route, encoded, .. } = self;
        let publish = encode(exchange, key, content, session, route, encoded)?;
        channel.publish(session, &publish)?;
        match session.publisher.route().queues.is_empty() {
            false => Ok(Published::Routed),
            true if content.mandatory => Err(ClientError::Unroutable),
            true => Ok(Published::Unroutable),
        }
    }

    /// Brings what was published into its queues; whether it would be good to let its consumers have their turn.
    pub(super) fn flush(&mut self) -> bool {
        self.session.flush();
        self.session.take_crowded()
    }

    /// Settles a delivery, or with `multiple` all up to it.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, how: Settle) -> Result<()> {
        self.channel.settle(tag, multiple, how)?;
        self.channel.apply_settled();
        Ok(())
    }

    /// Takes an ack, which [`Core::apply_acks`] applies.
    pub(super) fn note_ack(&mut self, tag: u64) -> Result<()> {
        Ok(self.channel.settle(tag, false, Settle::Ack)?)
    }

    /// Applies acks that were noted.
    pub(super) fn apply_acks(&mut self) {
        self.channel.apply_settled();
    }

    /// What became of the messages `first ..= last`: `None` before it is known. Everything up to the last one is
    /// confirmed then, or an error tells that a full queue has refused one of these.
    pub(super) fn confirmed(&mut self, first: u64, last: u64) -> Option<Result<()>> {
        self.refused.extend(self.channel.take_refused(&mut self.session));
        while self.refused.len() > REFUSED_MAX {
            self.refused.pop_first();
        }
        if !self.channel.is_settled(last) {
            self.channel.take_confirm(&self.session);
        }
        if !self.channel.is_settled(last) {
            return None;
        }
        let refused = self.refused.range(first..=last).next().is_some();
        self.refused.retain(|tag| !(first..=last).contains(tag));
        Some(if refused { Err(ClientError::QueueFull) } else { Ok(()) })
    }

    /// Reads the mailbox to its end, where `waker` is left for what comes later.
    fn take_mail(&mut self, waker: &Waker) {
        let mut context = Context::from_waker(waker);
        while self.session.mailbox.poll(&mut context, &mut self.events) {
            for event in self.events.drain(..) {
                match event {
                    Event::Ready { .. } => self.ready = true,
                    Event::Cancelled { .. } => self.cancelled = true,
                    // That there was something is all: who waits for it looks at the broker.
                    Event::Relaxed
                    | Event::Durable
                    | Event::Blocked
                    | Event::Unblocked
                    | Event::Notice
                    | Event::Shutdown
                    | Event::VhostDeleted => {}
                }
            }
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // What is unacked goes back to its queues.
        std::mem::replace(&mut self.channel, Channel::new(0)).close(&mut self.session);
    }
}

/// A message as the channel takes it.
fn encode<'a>(
    exchange: &str,
    key: &str,
    content: &Content<'a>,
    session: &Session,
    route: &'a mut Vec<u8>,
    encoded: &'a mut Vec<u8>,
) -> Result<Publish<'a>> {
    content.check(exchange, key, session.limits())?;
    route.clear();
    for part in [exchange, key] {
        // Checked above to be 255 at most.
        route.push(part.len() as u8);
        route.extend_from_slice(part.as_bytes());
    }
    encoded.clear();
    content.properties.encode(encoded);
    // A message that goes nowhere is an error at once, and not held for its return.
    Ok(Publish { route, mandatory: false, properties: content.properties, encoded, body: content.body })
}

/// Lets other tasks run, once.
pub(super) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
