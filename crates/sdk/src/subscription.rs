//! Subscriptions: who gets the events of a topic, and what happens when that fails.

use crate::driver::SubscriptionSpec;
use crate::name;
use crate::retry::RetryPolicy;
use crate::topic::Topic;
use std::fmt;
use std::time::Duration;

/// Messages that are handled at a time, unless a subscription says otherwise.
const CONCURRENCY: u16 = 16;

/// How long a handler may take, unless a subscription says otherwise.
const DEADLINE: Duration = Duration::from_secs(30);

/// A named subscription of a topic. It gets every event of it, and is independent of all others; programs that use the same one
/// share its events. It exists from when it is [declared](crate::Bus::declare), also while nobody handles its events.
///
/// ```
/// use leveret::{RetryPolicy, Subscription, Topic};
/// use std::time::Duration;
///
/// static SIGNUPS: Topic<String> = Topic::new("signups");
/// static EMAIL: Subscription<String> = SIGNUPS
///     .subscription("email")
///     .concurrency(4)
///     .retry(RetryPolicy { min: Duration::from_secs(5), ..RetryPolicy::DEFAULT });
/// ```
pub struct Subscription<T: 'static> {
    topic: &'static Topic<T>,
    name: &'static str,
    retry: RetryPolicy,
    concurrency: u16,
    deadline: Duration,
    ordered: bool,
    filter: Option<&'static str>,
    broadcast: bool,
}

impl<T> Subscription<T> {
    /// A subscription that handles 16 messages at a time, each for at most 30 seconds, and retries by [`RetryPolicy::DEFAULT`].
    ///
    /// # Panics
    /// If the name has anything but lowercase letters, digits, `-` and `_`, or more than 64 bytes, or is `dead`. In a
    /// `static`, the compiler says so.
    pub const fn new(topic: &'static Topic<T>, name: &'static str) -> Subscription<T> {
        name::check(name, false);
        assert!(!matches!(name.as_bytes(), b"dead"), "a subscription must not be called 'dead'");
        Subscription {
            topic,
            name,
            retry: RetryPolicy::DEFAULT,
            concurrency: CONCURRENCY,
            deadline: DEADLINE,
            ordered: false,
            filter: None,
            broadcast: false,
        }
    }

    /// When what failed is tried again, and how often.
    ///
    /// # Panics
    /// If there are no attempts, or if `min` is less than a millisecond or more than `max`, or `max` more than a year.
    #[must_use]
    pub const fn retry(mut self, policy: RetryPolicy) -> Subscription<T> {
        policy.check();
        self.retry = policy;
        self
    }

    /// How many messages are handled at a time, by each program that handles them.
    ///
    /// # Panics
    /// If it is 0.
    #[must_use]
    pub const fn concurrency(mut self, messages: u16) -> Subscription<T> {
        assert!(messages > 0, "at least one message is handled at a time");
        self.concurrency = messages;
        self
    }

    /// How long a handler may take. One that takes longer is dropped where it awaits, and has failed.
    ///
    /// ```
    /// use leveret::{Subscription, Topic};
    /// use std::time::Duration;
    ///
    /// static VIDEOS: Topic<String> = Topic::new("videos");
    /// static ENCODE: Subscription<String> = VIDEOS.subscription("encode").concurrency(2).deadline(Duration::from_secs(3600));
    /// ```
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Subscription<T> {
        self.deadline = deadline;
        self
    }

    /// Messages with the same [key](crate::Publishing::key) are handled one after the other, in order; while one of them waits for its
    /// next attempt, so do those behind it. Other keys go on.
    ///
    /// ```
    /// use leveret::{Subscription, Topic};
    ///
    /// static ORDERS: Topic<u32> = Topic::new("orders");
    /// static BILL: Subscription<u32> = ORDERS.subscription("bill").ordered();
    ///
    /// async fn order(bus: &leveret::Bus) -> Result<(), leveret::PublishError> {
    ///     ORDERS.publish(bus, &1).key("customer-7").await?;
    ///     ORDERS.publish(bus, &2).key("customer-7").await?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub const fn ordered(mut self) -> Subscription<T> {
        self.ordered = true;
        self
    }

    /// Takes only messages with matching attributes, in [the broker's grammar](https://docs.rs/leveret-broker), such as
    /// `attributes.plan = "pro"`. It is checked when the subscription is declared; whether the topic has these
    /// [attributes](Topic::attributes), now.
    ///
    /// # Panics
    /// If the topic says which attributes it has, and the filter asks for another one. In a `static`, the compiler says so.
    ///
    /// ```
    /// use leveret::{Subscription, Topic};
    ///
    /// static SIGNUPS: Topic<String> = Topic::new("signups").attributes(&["plan", "country"]);
    /// static VIP: Subscription<String> =
    ///     SIGNUPS.subscription("vip").filter(r#"attributes.plan = "pro" AND NOT attributes.country = "de""#);
    /// # #[tokio::main]
    /// # async fn main() -> leveret::Result<()> { leveret::Bus::open("local:").await?.declare(&VIP).await }
    /// ```
    #[must_use]
    pub const fn filter(mut self, filter: &'static str) -> Subscription<T> {
        if let Some(names) = self.topic.names() {
            name::check_filter(filter, names);
        }
        self.filter = Some(filter);
        self
    }

    /// Every program that handles it gets every event, instead of sharing them: for caches to clear, and for chats. It gets what is published
    /// while it runs; nothing is kept for it before and after. An event whose last attempt fails is reported and gone: there is no
    /// dead-letter queue.
    ///
    /// ```
    /// use leveret::{Subscription, Topic};
    ///
    /// static CHANGED: Topic<String> = Topic::new("settings-changed");
    /// static CLEAR_CACHE: Subscription<String> = CHANGED.subscription("clear-cache").broadcast();
    /// ```
    #[must_use]
    pub const fn broadcast(mut self) -> Subscription<T> {
        self.broadcast = true;
        self
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its topic.
    pub const fn topic(&self) -> &'static Topic<T> {
        self.topic
    }

    pub(crate) fn limits(&self) -> (u16, Duration) {
        (self.concurrency, self.deadline)
    }

    pub(crate) fn spec(&self) -> SubscriptionSpec {
        let Subscription { topic, name, retry, ordered, filter, broadcast, .. } = *self;
        SubscriptionSpec { topic: topic.spec(), name, retry, ordered, filter, broadcast }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic.name())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
