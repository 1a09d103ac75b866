//! The bus: a connection to an engine, by its URL.

use crate::dead::Dead;
use crate::driver::{Backlog, Driver, Receiver, Reply, SubscriptionSpec, TopicSpec, Unconfirmed, require};
use crate::error::{Error, PublishError, Result};
use crate::message::Outgoing;
use crate::meters::Published;
use crate::subscription::Subscription;
use crate::topic::Topic;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Instrument;

/// A connection to an engine. Clones are the same connection.
///
/// ```
/// # use leveret::{Bus, Subscription, Topic};
/// # static SIGNUPS: Topic<String> = Topic::new("signups");
/// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::open("local:").await?;
/// bus.declare(&EMAIL).await?;
/// SIGNUPS.publish(&bus, &"ann@example.com".to_string()).await?;
/// assert_eq!(bus.backlog(&EMAIL).await?.ready, 1);
/// bus.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Box<dyn Driver>,
    topics: Mutex<HashMap<&'static str, Known>>,
    unheard: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("driver", &self.driver).finish_non_exhaustive()
    }
}

/// A topic that the engine knows.
struct Known {
    published: Published,
    /// Somebody was warned that nobody hears it.
    is_warned: bool,
}

/// What can be declared: a topic, or a subscription with its topic.
///
/// ```
/// # use leveret::{Bus, Subscription, Topic};
/// # static SIGNUPS: Topic<String> = Topic::new("signups");
/// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::open("local:").await?;
/// bus.declare(&SIGNUPS).await?;
/// bus.declare(&EMAIL).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Declaration(Declared);

#[derive(Clone, Debug)]
enum Declared {
    Topic(TopicSpec),
    Subscription(SubscriptionSpec),
}

impl<T> From<&Topic<T>> for Declaration {
    fn from(topic: &Topic<T>) -> Declaration {
        Declaration(Declared::Topic(topic.spec()))
    }
}

impl<T> From<&Subscription<T>> for Declaration {
    fn from(subscription: &Subscription<T>) -> Declaration {
        Declaration(Declared::Subscription(subscription.spec()))
    }
}

impl Bus {
    /// Opens the engine that a URL names:
    ///
    /// - `local:` the Leveret broker in this process, in memory;
    /// - `local:./directory` the same, durable; `?sync=always|never|interval:<milliseconds>` says when what is confirmed
    ///   is on the disk (`always`).
    ///   With `?listen=127.0.0.1:5672`, and the crate's feature `listen`, other programs on this machine can join the broker at
    ///   `amqp://guest:guest@127.0.0.1:5672`, in any language.
    /// - `amqp://user:password@host:port/vhost` Leveret, or RabbitMQ from 3.10 on, with the feature `amqp`; `amqps://` the same over
    ///   TLS, with the feature `amqps`. `?timeout=<seconds>` says how long a broker is waited for that does not answer, when it is
    ///   opened and when something is published (30), and `heartbeat=<seconds>` how often the two assure each other that they are
    ///   there (15; 0 for not at all). [`AmqpDriver`](crate::amqp::AmqpDriver) says what RabbitMQ cannot do.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL that is not valid, or one whose engine this program was built without;
    /// [`Error::Engine`] if the engine cannot be opened.
    ///
    /// ```
    /// use leveret::{Bus, Error};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> leveret::Result<()> {
    /// let bus = Bus::open("local:").await?;
    /// // What is misspelt is said before anything starts.
    /// assert!(matches!(Bus::open("local:./data?snyc=always").await, Err(Error::Configuration(_))));
    /// # bus.close().await
    /// # }
    /// ```
    pub async fn open(url: &str) -> Result<Bus> {
        Ok(Bus::of(driver(url).await?))
    }

    /// Opens the engine that an environment variable names, or if it is not set another one.
    ///
    /// # Errors
    /// As [`Bus::open`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> leveret::Result<()> {
    /// let bus = leveret::Bus::from_env("BUS_URL", "local:").await?;
    /// # bus.close().await
    /// # }
    /// ```
    pub async fn from_env(variable: &str, default: &str) -> Result<Bus> {
        match std::env::var(variable) {
            Ok(url) => Bus::open(&url).await,
            Err(std::env::VarError::NotPresent) => Bus::open(default).await,
            Err(error) => Err(Error::Configuration(format!("environment variable {variable}: {error}"))),
        }
    }

    /// With a driver of one's own.
    ///
    /// ```
    /// use leveret::Bus;
    /// use leveret::local::LocalDriver;
    /// use leveret_broker::Broker;
    ///
    /// // A broker that this program uses in other ways, too.
    /// let broker = Broker::in_memory();
    /// let bus = Bus::with_driver(LocalDriver::new(&broker, false));
    /// ```
    pub fn with_driver(driver: impl Driver + 'static) -> Bus {
        Bus::of(Box::new(driver))
    }

    fn of(driver: Box<dyn Driver>) -> Bus {
        Bus { inner: Arc::new(Inner { driver, topics: Mutex::default(), unheard: AtomicU64::new(0) }) }
    }

    /// Makes a topic, or a subscription with its topic, unless they are there: from then on the subscription keeps events,
    /// also while nobody handles them.
    ///
    /// # Errors
    /// [`Error::Absent`] if the engine cannot do what is asked for; [`Error::Mismatch`] if it has another one of this name.
    ///
    /// ```
    /// # use leveret::{Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// // Its handler will be started later, or runs elsewhere: events are kept for it from now on.
    /// bus.declare(&EMAIL).await?;
    /// SIGNUPS.publish(&bus, &"ann@example.com".to_string()).await?;
    /// assert_eq!(bus.unheard(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn declare(&self, what: impl Into<Declaration>) -> Result<()> {
        match what.into().0 {
            Declared::Topic(topic) => self.declare_topic(&topic).await,
            Declared::Subscription(subscription) => self.declare_subscription(&subscription).await,
        }
    }

    pub(crate) async fn declare_topic(&self, topic: &TopicSpec) -> Result<()> {
        if topic.exactly_once {
            require(
                self.driver().capabilities().exactly_once,
                "exactly-once topics",
                &format!("topic '{}'", topic.name),
            )?;
        }
        self.driver().declare_topic(topic).await?;
        let known = || Known { published: Published::to(topic.name), is_warned: false };
        self.topics().entry(topic.name).or_insert_with(known);
        Ok(())
    }

    pub(crate) async fn declare_subscription(&self, spec: &SubscriptionSpec) -> Result<()> {
        let (has, whose) = (self.driver().capabilities(), format!("subscription '{}'", spec.queue()));
        if spec.ordered {
            require(has.ordering, "ordering by key", &whose)?;
        }
        if spec.filter.is_some() {
            require(has.filters, "filters", &whose)?;
        }
        if spec.broadcast {
            require(has.broadcast, "broadcasts", &whose)?;
        }
        if spec.retry.attempts > 1 {
            require(has.retry, "retries", &whose)?;
        }
        self.declare_topic(&spec.topic).await?;
        self.driver().declare_subscription(spec).await
    }

    /// Publishes messages to their topic, which is the same for all.
    pub(crate) async fn publish(&self, messages: &[Outgoing]) -> Result<(), PublishError> {
        let Some(first) = messages.first() else { return Ok(()) };
        debug_assert!(messages.iter().all(|message| message.topic == first.topic), "they are counted together");
        self.check(messages)?;
        let published = async {
            let declared = self.declare_topics(&messages[..1]).await;
            declared.map_err(|error| Unconfirmed::all(error, messages.len()))?;
            self.driver().publish(messages).await
        };
        let span = tracing::debug_span!("publish", topic = first.topic, count = messages.len());
        match published.instrument(span).await {
            Ok(unheard) => {
                self.note(first.topic, messages.len() as u64, unheard);
                Ok(())
            }
            Err(Unconfirmed { error, messages: numbers }) => {
                let left = numbers.iter().filter_map(|number| messages.get(*number)).cloned();
                Err(PublishError::Unconfirmed { error, messages: left.collect() })
            }
        }
    }

    /// Whether the engine can carry messages as they ask for.
    pub(crate) fn check(&self, messages: &[Outgoing]) -> Result<(), PublishError> {
        let Some(delayed) = messages.iter().find(|message| message.delay.is_some()) else { return Ok(()) };
        let delays = self.driver().capabilities().delay;
        let checked = require(delays, "delays", &format!("topic '{}'", delayed.topic));
        checked.map_err(|error| PublishError::Invalid(error.to_string()))
    }

    /// Makes those topics of messages that are not known yet.
    pub(crate) async fn declare_topics(&self, messages: &[Outgoing]) -> Result<()> {
        for run in messages.chunk_by(|a, b| a.topic == b.topic) {
            let Outgoing { topic, exactly_once, .. } = run[0];
            if !self.topics().contains_key(topic) {
                self.declare_topic(&TopicSpec { name: topic, exactly_once }).await?;
            }
        }
        Ok(())
    }

    /// Counts what a handler has published, by their topics and the numbers of those that nobody hears.
    pub(crate) fn note_events(&self, topics: &[&'static str], unheard: &[usize]) {
        let mut begin = 0;
        for run in topics.chunk_by(|a, b| a == b) {
            let numbers = begin..begin + run.len();
            begin = numbers.end;
            let unheard = unheard.iter().filter(|number| numbers.contains(number)).count();
            self.note(run[0], run.len() as u64, unheard as u64);
        }
    }

    /// Counts what was published to a topic, and what of it went to no subscription.
    fn note(&self, topic: &str, count: u64, unheard: u64) {
        let mut topics = self.topics();
        let Some(known) = topics.get_mut(topic) else { return };
        known.published.published.increment(count);
        if unheard == 0 {
            return;
        }
        known.published.unheard.increment(unheard);
        self.inner.unheard.fetch_add(unheard, Ordering::Relaxed);
        if !std::mem::replace(&mut known.is_warned, true) {
            tracing::warn!(topic, "nobody subscribes to this topic: what is published to it is gone; see Bus::declare");
        }
    }

    pub(crate) async fn request(&self, request: &Outgoing, timeout: Duration) -> Result<Reply> {
        self.requires_requests(request.topic)?;
        self.driver().request(request, timeout).await
    }

    pub(crate) async fn respond(&self, name: &'static str, prefetch: u16) -> Result<Box<dyn Receiver>> {
        self.requires_requests(name)?;
        self.driver().respond(name, prefetch).await
    }

    fn requires_requests(&self, name: &str) -> Result<()> {
        require(self.driver().capabilities().requests, "requests", &format!("'{name}'"))
    }

    /// Messages that were published to topics without a subscription, and are gone.
    ///
    /// ```
    /// # use leveret::{Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// SIGNUPS.publish(&bus, &"ann@example.com".to_string()).await?;
    /// assert_eq!(bus.unheard(), 1, "nobody subscribes");
    /// # Ok(())
    /// # }
    /// ```
    pub fn unheard(&self) -> u64 {
        self.inner.unheard.load(Ordering::Relaxed)
    }

    /// How many messages a subscription has that were not handled.
    ///
    /// # Errors
    /// [`Error::Engine`], also if it was not declared.
    ///
    /// ```
    /// # use leveret::{Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// bus.declare(&EMAIL).await?;
    /// let backlog = bus.backlog(&EMAIL).await?;
    /// assert_eq!((backlog.ready, backlog.waiting, backlog.dead), (0, 0, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn backlog<T>(&self, subscription: &Subscription<T>) -> Result<Backlog> {
        self.driver().backlog(&kept(subscription)?).await
    }

    /// Takes dead letters of a subscription, at most `max`, to look at, redrive or discard them. Those that are dropped go back
    /// to the dead-letter queue.
    ///
    /// # Errors
    /// [`Error::Engine`], also if it was not declared.
    ///
    /// ```
    /// # use leveret::{Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// bus.declare(&EMAIL).await?;
    /// for dead in bus.dead(&EMAIL, 100).await? {
    ///     println!("{:?}: {} after {} attempts", dead.event, dead.reason, dead.attempts);
    ///     // Or `discard`; or drop it, and it stays where it is.
    ///     dead.redrive().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dead<T>(&self, subscription: &Subscription<T>, max: u16) -> Result<Vec<Dead<T>>> {
        let (spec, mut received) = (kept(subscription)?, Vec::new());
        if max > 0 {
            let mut receiver = self.driver().receive(&spec, true, max).await?;
            receiver.try_next(&mut received)?;
        }
        let codec = subscription.topic().codec();
        Ok(received.into_iter().map(|received| Dead::new(received, codec)).collect())
    }

    /// Sends all dead letters of a subscription, `max` at most, back to be handled again, from their first attempt on.
    /// Gives how many these were.
    ///
    /// # Errors
    /// [`Error::Engine`]. Those that were sent back by then are.
    ///
    /// ```
    /// # use leveret::{Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// bus.declare(&EMAIL).await?;
    /// println!("{} go back, after the fix", bus.redrive(&EMAIL, u64::MAX).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn redrive<T>(&self, subscription: &Subscription<T>, max: u64) -> Result<u64> {
        /// Taken together.
        const STEP: u64 = 100;
        let mut redriven = 0;
        while redriven < max {
            let dead = self.dead(subscription, (max - redriven).min(STEP) as u16).await?;
            if dead.is_empty() {
                break;
            }
            for dead in dead {
                dead.redrive().await?;
                redriven += 1;
            }
        }
        Ok(redriven)
    }

    /// Ends the connection: when everything that was published is safe. Handlers should have been stopped before.
    ///
    /// # Errors
    /// [`Error::Engine`] if something could not be written.
    pub async fn close(self) -> Result<()> {
        self.driver().close().await
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.inner.driver
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<&'static str, Known>> {
        // Nothing that is done with it can panic halfway.
        self.inner.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver of the engine that a URL names.
pub(crate) async fn driver(url: &str) -> Result<Box<dyn Driver>> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "local")]
        "local" => Ok(Box::new(crate::local::LocalDriver::open(url).await?)),
        #[cfg(feature = "amqp")]
        "amqp" | "amqps" => Ok(Box::new(crate::amqp::AmqpDriver::open(url).await?)),
        // Not the rest of it, which may be secret.
        _ => Err(Error::Configuration(format!(
            "'{scheme}:' names no engine that this program was built with: it has{}{}",
            if cfg!(feature = "local") { " 'local:', 'local:./directory'," } else { "" },
            if cfg!(feature = "amqp") { " 'amqp://host'" } else { "" },
        ))),
    }
}

/// A subscription that keeps messages.
fn kept<T>(subscription: &Subscription<T>) -> Result<SubscriptionSpec> {
    let spec = subscription.spec();
    match spec.broadcast {
        false => Ok(spec),
        true => Err(Error::Absent(format!("subscription '{}' is a broadcast: nothing is kept for it", spec.queue()))),
    }
}
