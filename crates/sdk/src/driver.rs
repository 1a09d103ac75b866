//! What an engine has to do for the SDK: the one trait behind every URL.

use crate::error::{Error, Result};
use crate::message::{Incoming, Outgoing};
use crate::retry::RetryPolicy;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What a driver does in the background of a call.
///
/// ```
/// use leveret::Result;
/// use leveret::driver::Work;
///
/// fn close() -> Work<'static, Result<()>> {
///     Box::pin(async { Ok(()) })
/// }
/// ```
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How an engine gives what is asked for.
///
/// ```
/// use leveret::driver::{Driver, Support};
///
/// fn can_order(driver: &dyn Driver) -> bool {
///     driver.capabilities().ordering != Support::Absent
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The engine does it.
    Native,
    /// The driver does it, with what the engine has.
    Emulated,
    /// Not at all: asking for it is an error before anything starts.
    Absent,
}

/// What can be asked of an engine.
///
/// ```
/// use leveret::driver::{Capabilities, Support};
///
/// /// Of an engine that does everything but keep its messages.
/// fn capabilities() -> Capabilities {
///     let mut capabilities = Capabilities::native();
///     capabilities.durable = Support::Absent;
///     capabilities
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Messages wait in the engine before they are tried again.
    pub retry: Support,
    /// A message may be published to be delivered later.
    pub delay: Support,
    /// Messages with the same key are handled one after the other, and others beside them.
    pub ordering: Support,
    /// A message that is published again with its id is taken once.
    pub exactly_once: Support,
    /// Subscriptions may take some messages only.
    pub filters: Support,
    /// What a handler publishes and the end of its message take effect together.
    pub transactions: Support,
    /// Messages survive the engine.
    pub durable: Support,
    /// Every instance of a program may get every message.
    pub broadcast: Support,
    /// A request may be sent to whoever responds, and its reply comes back.
    pub requests: Support,
}

impl Capabilities {
    /// An engine that does everything.
    pub const fn native() -> Capabilities {
        let native = Support::Native;
        Capabilities {
            retry: native,
            delay: native,
            ordering: native,
            exactly_once: native,
            filters: native,
            transactions: native,
            durable: native,
            broadcast: native,
            requests: native,
        }
    }
}

/// A topic, as an engine has to know it.
///
/// ```
/// use leveret::driver::TopicSpec;
///
/// /// What a driver makes for it.
/// fn exchange(topic: &TopicSpec) -> (&str, bool) {
///     (topic.name, topic.exactly_once)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSpec {
    /// Its name.
    pub name: &'static str,
    /// Messages are taken once, by their ids.
    pub exactly_once: bool,
}

/// A subscription, as an engine has to know it.
///
/// ```
/// use leveret::driver::SubscriptionSpec;
///
/// /// What a driver makes for it.
/// fn queues(spec: &SubscriptionSpec) -> Vec<String> {
///     if spec.broadcast { Vec::new() } else { vec![spec.queue(), spec.dead_queue()] }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SubscriptionSpec {
    /// Its topic.
    pub topic: TopicSpec,
    /// Its name, unique to the topic.
    pub name: &'static str,
    /// When what failed is tried again, and how often.
    pub retry: RetryPolicy,
    /// Messages with the same key are handled one after the other.
    pub ordered: bool,
    /// Which messages it takes; all without one.
    pub filter: Option<&'static str>,
    /// Every receiver of it gets every message that is published while it receives. It has no backlog and no dead letters.
    pub broadcast: bool,
}

impl SubscriptionSpec {
    /// The name of its queue; if it is a broadcast, the beginning of the names of its queues.
    pub fn queue(&self) -> String {
        format!("{}.{}", self.topic.name, self.name)
    }

    /// The name of the queue of its dead letters.
    pub fn dead_queue(&self) -> String {
        format!("{}.{}.dead", self.topic.name, self.name)
    }
}

/// How many messages a subscription has.
///
/// ```
/// use leveret::driver::Backlog;
///
/// fn is_idle(backlog: &Backlog) -> bool {
///     backlog.ready + backlog.unsettled + backlog.waiting == 0
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Can be delivered.
    pub ready: u64,
    /// Were delivered, and are not settled. Always 0 on `amqp://`: the protocol does not tell.
    pub unsettled: u64,
    /// Wait for their next attempt. Always 0 on `amqp://`: the protocol does not tell.
    pub waiting: u64,
    /// Ended in the dead-letter queue.
    pub dead: u64,
}

/// What an engine does with a message when its handler has ended.
///
/// ```
/// use leveret::driver::Settlement;
///
/// /// What a driver without any news for its engine may do.
/// fn is_failed(how: &Settlement) -> bool {
///     matches!(how, Settlement::Retry { .. } | Settlement::Dead { .. } | Settlement::Reply(Err(_)))
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// It is forgotten, and what its handler has published is published: both or neither where transactions are native.
    Done(Vec<Outgoing>),
    /// It is delivered again after the delay of its subscription's policy, or after one of its own.
    Retry {
        /// At least so long from now.
        after: Option<Duration>,
    },
    /// It goes to the dead-letter queue, with the reason and with why it failed.
    Dead {
        /// `rejected`, `attempts` or `undecodable`.
        reason: &'static str,
        /// The last error.
        error: String,
    },
    /// Of a dead letter: it goes back to the queue that it comes from, and its attempts begin anew.
    Redrive,
    /// It goes back as if it had not been delivered.
    Release,
    /// Of a request: its reply is sent, or why there is none, and it is forgotten.
    Reply(std::result::Result<Vec<u8>, String>),
}

impl Settlement {
    /// The topics of what it publishes.
    pub(crate) fn topics(&self) -> Vec<&'static str> {
        match self {
            Settlement::Done(events) => events.iter().map(|event| event.topic).collect(),
            _ => Vec::new(),
        }
    }
}

/// A connection to an engine.
///
/// ```
/// use leveret::Bus;
/// use leveret::driver::Driver;
///
/// /// A driver of one's own is opened with what it needs, and given to a bus.
/// fn bus(driver: impl Driver + 'static) -> Bus {
///     Bus::with_driver(driver)
/// }
/// ```
pub trait Driver: fmt::Debug + Send + Sync {
    /// What the engine can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes a topic, unless it is there.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if one is there that differs.
    fn declare_topic<'a>(&'a self, topic: &'a TopicSpec) -> Work<'a, Result<()>>;

    /// Makes a subscription and its dead-letter queue, unless they are there. Its topic is there.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if one is there that differs.
    fn declare_subscription<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<()>>;

    /// Publishes messages to topics that were declared. Done when the engine has confirmed all of them; gives how many went to no
    /// subscription.
    ///
    /// # Errors
    /// If it is not known that all were published: which these are.
    fn publish<'a>(&'a self, messages: &'a [Outgoing]) -> Work<'a, Result<u64, Unconfirmed>>;

    /// Receives the messages of a subscription that was declared, or its dead letters. At most `prefetch` are not settled
    /// at a time.
    ///
    /// # Errors
    /// [`Error::Engine`].
    fn receive<'a>(
        &'a self,
        spec: &'a SubscriptionSpec,
        dead: bool,
        prefetch: u16,
    ) -> Work<'a, Result<Box<dyn Receiver>>>;

    /// Receives requests for a name, whose receipts take [`Settlement::Reply`]. At most `prefetch` are not settled at a time.
    /// All receivers of a name share its requests.
    ///
    /// # Errors
    /// [`Error::Engine`].
    fn respond<'a>(&'a self, name: &'static str, prefetch: u16) -> Work<'a, Result<Box<dyn Receiver>>>;

    /// Sends a request to one of those who respond to the name that is its topic, and waits for the reply. The request is forgotten by the
    /// engine after `timeout`; the caller drops the future by then.
    ///
    /// # Errors
    /// [`Error::Engine`].
    fn request<'a>(&'a self, request: &'a Outgoing, timeout: Duration) -> Work<'a, Result<Reply>>;

    /// How many messages a subscription has.
    ///
    /// # Errors
    /// [`Error::Engine`].
    fn backlog<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<Backlog>>;

    /// Ends the connection when everything is settled and written.
    ///
    /// # Errors
    /// [`Error::Engine`] if something could not be written.
    fn close(&self) -> Work<'_, Result<()>>;
}

/// Why some messages are not known to be published.
///
/// ```
/// use leveret::Error;
/// use leveret::driver::Unconfirmed;
///
/// let unconfirmed = Unconfirmed::all(Error::Closed, 3);
/// assert_eq!(unconfirmed.messages, [0, 1, 2]);
/// ```
#[derive(Debug)]
pub struct Unconfirmed {
    /// What has gone wrong.
    pub error: Error,
    /// The numbers of the messages that were not confirmed, in their order and counted from 0. All others were.
    pub messages: Vec<usize>,
}

impl Unconfirmed {
    /// None of so many messages was confirmed.
    pub fn all(error: Error, count: usize) -> Unconfirmed {
        Unconfirmed { error, messages: (0..count).collect() }
    }
}

impl From<Unconfirmed> for Error {
    fn from(unconfirmed: Unconfirmed) -> Error {
        unconfirmed.error
    }
}

/// What became of a request.
///
/// ```
/// use leveret::driver::Reply;
///
/// fn text(reply: &Reply) -> String {
///     match reply {
///         Reply::Done(body) => format!("{} bytes", body.len()),
///         Reply::Failed(error) => error.clone(),
///         Reply::NoResponder => "nobody responds".to_string(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was handled, and this is the reply.
    Done(Vec<u8>),
    /// It was handled, and that has failed with this error.
    Failed(String),
    /// Nobody responds to its name.
    NoResponder,
}

/// The messages of a subscription.
///
/// ```
/// use leveret::driver::Receiver;
///
/// /// Counts what is there, and gives it all back.
/// async fn count(receiver: &mut dyn Receiver) -> leveret::Result<usize> {
///     let mut received = Vec::new();
///     receiver.try_next(&mut received)?;
///     Ok(received.len())
/// }
/// ```
pub trait Receiver: Send {
    /// Waits for messages and appends those that are there. False if none come any more.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Engine`].
    fn next<'a>(&'a mut self, out: &'a mut Vec<Received>) -> Work<'a, Result<bool>>;

    /// Appends messages that are there already.
    ///
    /// # Errors
    /// [`Error::Engine`].
    fn try_next(&mut self, out: &mut Vec<Received>) -> Result<()>;
}

/// A message that was delivered.
///
/// ```
/// use leveret::driver::{Received, Settlement};
///
/// /// What a handler is for: it looks at the message, and settles it.
/// async fn handle(received: Received) -> leveret::Result<()> {
///     println!("{} bytes, attempt {}", received.message.body.len(), received.message.meta.attempt);
///     received.receipt.settle(Settlement::Done(Vec::new())).await.map(drop)
/// }
/// ```
pub struct Received {
    /// The message.
    pub message: Incoming,
    /// Its death, if it is a dead letter.
    pub death: Option<Box<Death>>,
    /// The way to settle it. Dropping it is [`Settlement::Release`].
    pub receipt: Box<dyn Receipt>,
}

/// What a dead letter says of its end.
///
/// ```
/// let mut death = leveret::driver::Death::default();
/// death.reason = "expired".to_string();
/// assert_eq!(death.error, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// Why, as the engine or the SDK names it.
    pub reason: String,
    /// The last error, if the SDK has seen it.
    pub error: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

/// Settles a message.
///
/// ```
/// use leveret::driver::{Receipt, Settlement};
/// use std::time::Duration;
///
/// async fn again_in_a_minute(receipt: Box<dyn Receipt>) -> leveret::Result<()> {
///     receipt.settle(Settlement::Retry { after: Some(Duration::from_secs(60)) }).await.map(drop)
/// }
/// ```
pub trait Receipt: Any + Send {
    /// Done when the engine has taken note of it; with [`Settlement::Done`] and messages, when it has confirmed them. Gives the
    /// numbers, counted from 0, of those that went to no subscription.
    ///
    /// # Errors
    /// [`Error::Engine`]: the message will be delivered again.
    fn settle(self: Box<Self>, how: Settlement) -> Work<'static, Result<Vec<usize>>>;

    /// Settles a batch of one receiver in the same way: together where the engine can, with what [`Settlement::Done`] publishes.
    /// Gives the same as [`Receipt::settle`].
    ///
    /// # Errors
    /// [`Error::Engine`]: some or all of the messages will be delivered again.
    fn settle_all(
        self: Box<Self>,
        others: Vec<Box<dyn Receipt>>,
        how: Settlement,
    ) -> Work<'static, Result<Vec<usize>>> {
        Box::pin(async move {
            let for_others = match &how {
                Settlement::Done(_) => Settlement::Done(Vec::new()),
                other => other.clone(),
            };
            let mut result = self.settle(how).await;
            for receipt in others {
                let settled = receipt.settle(for_others.clone()).await;
                result = result.and_then(|unheard| settled.map(|_| unheard));
            }
            result
        })
    }
}

/// What is asked for, and what the engine has: an error if one is missing.
pub(crate) fn require(support: Support, what: &str, whose: &str) -> Result<()> {
    match support {
        Support::Native | Support::Emulated => Ok(()),
        Support::Absent => Err(Error::Absent(format!("{whose}: this engine has no {what}"))),
    }
}
