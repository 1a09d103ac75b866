//! Messages for whoever wants to pull them, instead of having them handled.

use crate::bus::Bus;
use crate::driver::{Receipt, Received, Receiver, Work};
use crate::error::{BoxError, Result};
use crate::message::Meta;
use crate::outcome::IntoOutcome;
use crate::subscription::Subscription;
use crate::worker::{prepare, settlement};
use futures_core::Stream;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The messages of a subscription, one after the other. Made by [`Bus::pull`].
///
/// ```
/// # use leveret::{Bus, Subscription, Topic};
/// # static SIGNUPS: Topic<String> = Topic::new("signups");
/// # static AUDIT: Subscription<String> = SIGNUPS.subscription("audit");
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::open("local:").await?;
/// let mut signups = bus.pull(&AUDIT, 100).await?;
/// SIGNUPS.publish(&bus, &"ann".to_string()).await?;
/// if let Some(signup) = signups.next().await? {
///     println!("{:?}", signup.event);
///     signup.settle(()).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Pull<T: 'static> {
    bus: Bus,
    subscription: &'static Subscription<T>,
    receiver: Box<dyn Receiver>,
    received: VecDeque<Received>,
    batch: Vec<Received>,
}

/// A message that was pulled. One that is dropped goes back to its subscription as if it had not been pulled.
///
/// ```
/// # use leveret::{Bus, Subscription, Topic};
/// # static SIGNUPS: Topic<String> = Topic::new("signups");
/// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::open("local:").await?;
/// let mut signups = bus.pull(&EMAIL, 10).await?;
/// SIGNUPS.publish(&bus, &"ann".to_string()).await?;
/// if let Some(signup) = signups.next().await? {
///     // As a handler would return it.
///     let sent: Result<(), std::io::Error> = Ok(());
///     signup.settle(sent).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a message that is dropped will be delivered again"]
pub struct Pulled<T: 'static> {
    /// The event, unless it does not decode.
    pub event: Result<T, BoxError>,
    /// As it was published.
    pub body: Vec<u8>,
    /// What is known of the message.
    pub meta: Meta,
    bus: Bus,
    subscription: &'static Subscription<T>,
    receipt: Box<dyn Receipt>,
}

impl Bus {
    /// Declares a subscription and pulls its messages. At most `prefetch` are not settled at a time.
    ///
    /// # Errors
    /// As [`Bus::declare`].
    pub async fn pull<T>(&self, subscription: &'static Subscription<T>, prefetch: u16) -> Result<Pull<T>> {
        let spec = subscription.spec();
        self.declare_subscription(&spec).await?;
        let receiver = self.driver().receive(&spec, false, prefetch.max(1)).await?;
        Ok(Pull { bus: self.clone(), subscription, receiver, received: VecDeque::new(), batch: Vec::new() })
    }
}

impl<T> Pull<T> {
    /// Waits for the next message. `None` if none come any more. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine).
    pub async fn next(&mut self) -> Result<Option<Pulled<T>>> {
        if self.received.is_empty() {
            let more = self.receiver.next(&mut self.batch).await?;
            self.received.extend(self.batch.drain(..));
            if !more && self.received.is_empty() {
                return Ok(None);
            }
        }
        let received = self.received.pop_front();
        Ok(received.map(|Received { message, receipt, .. }| Pulled {
            event: self.subscription.topic().codec().decode(&message.body),
            body: message.body,
            meta: message.meta,
            bus: self.bus.clone(),
            subscription: self.subscription,
            receipt,
        }))
    }

    /// The messages as a stream, which ends after an error.
    ///
    /// ```
    /// # use leveret::{Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::TryStreamExt;
    ///
    /// let bus = Bus::open("local:").await?;
    /// let signups = bus.pull(&EMAIL, 10).await?.into_stream();
    /// SIGNUPS.publish_all(&bus, &["ann".to_string(), "bob".to_string()]).await?;
    /// let mut two = std::pin::pin!(signups);
    /// for _ in 0..2 {
    ///     let Some(signup) = two.try_next().await? else { break };
    ///     signup.settle(()).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Result<Pulled<T>>> + Send
    where
        T: Send,
    {
        Messages(State::Idle(self))
    }
}

impl<T> Pulled<T> {
    /// Ends its handling, as a handler would by returning this: `()` or an [`Outcome`](crate::Outcome), a `Result`, or
    /// [`Events`](crate::Events) that are published with the end.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine): it will be delivered again.
    pub async fn settle(self, how: impl IntoOutcome) -> Result<()> {
        let (outcome, events) = how.into_outcome();
        let (Pulled { meta, bus, subscription, receipt, .. }, events) = (self, events.into_messages());
        let outcome = prepare(&bus, &events, outcome).await;
        let how = settlement(&subscription.spec(), outcome, events, meta.attempt);
        let topics = how.topics();
        let unheard = receipt.settle(how).await?;
        bus.note_events(&topics, &unheard);
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Pulled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pulled { event, meta, .. } = self;
        f.debug_struct("Pulled").field("event", event).field("meta", meta).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Pull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}

/// What has come, and where from.
type Next<T> = (Result<Option<Pulled<T>>>, Pull<T>);

struct Messages<T: 'static>(State<T>);

enum State<T: 'static> {
    Idle(Pull<T>),
    /// The pull is given back with what has come.
    Waiting(Work<'static, Next<T>>),
    Ended,
}

impl<T: Send> Stream for Messages<T> {
    type Item = Result<Pulled<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.0, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(mut pull) => {
                    self.0 = State::Waiting(Box::pin(async move { (pull.next().await, pull) }));
                }
                State::Waiting(mut work) => {
                    let Poll::Ready((next, pull)) = work.as_mut().poll(context) else {
                        self.0 = State::Waiting(work);
                        return Poll::Pending;
                    };
                    if matches!(next, Ok(Some(_))) {
                        self.0 = State::Idle(pull);
                    }
                    return Poll::Ready(next.transpose());
                }
            }
        }
    }
}
