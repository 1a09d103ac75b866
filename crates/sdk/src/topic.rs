//! Topics: what is published, and to whom.

#[cfg(feature = "asyncapi")]
use crate::asyncapi::{self, MakeSchema, TopicPage};
use crate::bus::Bus;
use crate::codec::Codec;
use crate::contract::is_reserved;
use crate::driver::{TopicSpec, Work};
use crate::error::PublishError;
use crate::message::{MessageId, Outgoing};
use crate::name;
use crate::subscription::Subscription;
use crate::trace::{self, Parent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::time::{Duration, SystemTime};

/// The most bytes of an event, unless a topic says otherwise: 16 MiB.
const MAX_SIZE: usize = 16 * 1024 * 1024;

/// The longest delay: ten years, which is the broker's.
const MAX_DELAY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The most bytes of an ordering key: what is longer is cut by some engines.
const MAX_KEY: usize = 255;

/// Messages of [`Topic::publish_all`] that there is room for at once, whatever the number of its events.
const ROOM: usize = 1024;

/// A named stream of events of one type. Every subscription of it gets every event.
///
/// Topics are values, declared once:
///
/// ```
/// use leveret::Topic;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Signup {
///     email: String,
/// }
///
/// static SIGNUPS: Topic<Signup> = Topic::new("signups");
/// ```
pub struct Topic<T> {
    name: &'static str,
    codec: Codec<T>,
    exactly_once: bool,
    rules: Rules,
    #[cfg(feature = "asyncapi")]
    schema: Option<MakeSchema>,
}

/// What the events of a topic must be.
#[derive(Clone, Copy, Debug)]
struct Rules {
    max_size: usize,
    /// The names that attributes may have, if not all.
    attributes: Option<&'static [&'static str]>,
}

impl<T: Serialize + DeserializeOwned> Topic<T> {
    /// A topic whose events are JSON.
    ///
    /// # Panics
    /// If the name has anything but lowercase letters, digits, `-`, `_` and dots, or more than 64 bytes. In a `static`, the
    /// compiler says so.
    pub const fn new(name: &'static str) -> Topic<T> {
        Topic::with_codec(name, Codec::json())
    }
}

impl<T> Topic<T> {
    /// A topic whose events are written by a codec.
    ///
    /// # Panics
    /// As [`Topic::new`].
    ///
    /// ```
    /// use leveret::{Codec, Topic};
    ///
    /// static IMAGES: Topic<Vec<u8>> = Topic::with_codec("images", Codec::bytes()).max_size(1 << 20);
    /// ```
    pub const fn with_codec(name: &'static str, codec: Codec<T>) -> Topic<T> {
        name::check(name, true);
        Topic {
            name,
            codec,
            exactly_once: false,
            rules: Rules { max_size: MAX_SIZE, attributes: None },
            #[cfg(feature = "asyncapi")]
            schema: None,
        }
    }

    /// An event that is published again with its id is taken once.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use leveret::{Bus, MessageId, Subscription, Topic};
    ///
    /// static ORDERS: Topic<u32> = Topic::new("orders").exactly_once();
    /// static BILL: Subscription<u32> = ORDERS.subscription("bill");
    ///
    /// let bus = Bus::open("local:").await?;
    /// bus.declare(&BILL).await?;
    /// let id: MessageId = "order-17".parse()?;
    /// ORDERS.publish(&bus, &17).id(id.clone()).await?;
    /// // Nobody knows whether that has worked, after a crash for example.
    /// ORDERS.publish(&bus, &17).id(id).await?;
    /// assert_eq!(bus.backlog(&BILL).await?.ready, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn exactly_once(mut self) -> Topic<T> {
        self.exactly_once = true;
        self
    }

    /// The most bytes that an event may have, encoded.
    #[must_use]
    pub const fn max_size(mut self, bytes: usize) -> Topic<T> {
        self.rules.max_size = bytes;
        self
    }

    /// The names of the attributes that its events may have; any without this. Filters of subscriptions that ask for another one do not compile, and
    /// publishing one is an error.
    ///
    /// ```compile_fail
    /// # use leveret::{Subscription, Topic};
    /// static SIGNUPS: Topic<String> = Topic::new("signups").attributes(&["plan"]);
    /// static PRO: Subscription<String> = SIGNUPS.subscription("pro").filter(r#"attributes.plam = "pro""#);
    /// ```
    #[must_use]
    pub const fn attributes(mut self, names: &'static [&'static str]) -> Topic<T> {
        self.rules.attributes = Some(names);
        self
    }

    /// The document of an [application](crate::App::asyncapi) says what its events look like.
    ///
    /// ```
    /// use leveret::Topic;
    ///
    /// static ORDERS: Topic<u32> = Topic::new("orders").schema();
    /// ```
    #[cfg(feature = "asyncapi")]
    #[must_use]
    pub const fn schema(mut self) -> Topic<T>
    where
        T: schemars::JsonSchema,
    {
        self.schema = Some(asyncapi::schema_of::<T>);
        self
    }

    #[cfg(feature = "asyncapi")]
    pub(crate) fn page(&self) -> TopicPage {
        let Topic { name, codec, rules, schema, .. } = *self;
        TopicPage { name, content_type: codec.content_type(), attributes: rules.attributes, schema }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A subscription of it.
    ///
    /// # Panics
    /// As [`Subscription::new`].
    pub const fn subscription(&'static self, name: &'static str) -> Subscription<T> {
        Subscription::new(self, name)
    }

    /// The names of its attributes, if they were given.
    pub(crate) const fn names(&self) -> Option<&'static [&'static str]> {
        self.rules.attributes
    }

    pub(crate) fn codec(&self) -> &Codec<T> {
        &self.codec
    }

    pub(crate) const fn spec(&self) -> TopicSpec {
        TopicSpec { name: self.name, exactly_once: self.exactly_once }
    }

    /// Publishes an event to a [`Bus`], or to the [`Events`](crate::Events) of a handler. Nothing happens before it is awaited.
    ///
    /// ```
    /// # use leveret::{Bus, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # tokio_test(async {
    /// let bus = Bus::open("local:").await?;
    /// let id = SIGNUPS.publish(&bus, &"ann".to_string()).attribute("plan", "pro").await?;
    /// println!("subscribers will see {id}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # });
    /// # fn tokio_test(work: impl Future<Output = Result<(), Box<dyn std::error::Error>>>) {
    /// #     tokio::runtime::Runtime::new().unwrap().block_on(work).unwrap()
    /// # }
    /// ```
    pub fn publish<G: Target>(&self, target: G, event: &T) -> Publishing<G> {
        Publishing { target, message: self.message(event, SystemTime::now(), trace::current()), rules: self.rules }
    }

    /// Publishes many events; gives their ids in their order. They are confirmed together, which is the fastest way.
    ///
    /// # Errors
    /// As [`Topic::publish`]; of those before the one that fails, some or all may have been published.
    ///
    /// ```
    /// # use leveret::{Bus, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// let emails = ["ann".to_string(), "bob".to_string()];
    /// let ids = SIGNUPS.publish_all(&bus, &emails).await?;
    /// assert_eq!(ids.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_all<'a>(
        &self,
        bus: &Bus,
        events: impl IntoIterator<Item = &'a T>,
    ) -> Result<Vec<MessageId>, PublishError>
    where
        T: 'a,
    {
        let (events, now, trace) = (events.into_iter(), SystemTime::now(), trace::current());
        // What an iterator says of itself is not to be trusted with memory.
        let mut messages = Vec::with_capacity(events.size_hint().0.min(ROOM));
        for event in events {
            messages.push(self.message(event, now, trace.clone())?);
        }
        messages.iter().try_for_each(|message| check(message, self.rules))?;
        bus.publish(&messages).await?;
        Ok(messages.iter().map(|message| message.id.clone()).collect())
    }

    fn message(&self, event: &T, now: SystemTime, trace: Option<Parent>) -> Result<Outgoing, PublishError> {
        let body = self.codec.encode(event).map_err(PublishError::Encode)?;
        Ok(Outgoing {
            topic: self.name,
            exactly_once: self.exactly_once,
            id: MessageId::made(now),
            content_type: self.codec.content_type(),
            body,
            attributes: Vec::new(),
            key: None,
            delay: None,
            published: now,
            trace,
        })
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where events can be published: a [`Bus`], at once; or the [`Events`](crate::Events) of a handler, together with the end of
/// its message.
///
/// ```
/// use leveret::{PublishError, Target, Topic};
///
/// static SIGNUPS: Topic<String> = Topic::new("signups");
///
/// /// Can be called with a bus, and by a handler with its events.
/// async fn signed_up(target: impl Target, email: String) -> Result<(), PublishError> {
///     SIGNUPS.publish(target, &email).await?;
///     Ok(())
/// }
/// ```
pub trait Target {
    /// What happens until a message is safe, as far as the target knows.
    type Taking: Future<Output = Result<MessageId, PublishError>> + Send;

    /// Takes a message, unless there is a reason not to.
    fn take(self, message: Result<Outgoing, PublishError>) -> Self::Taking;
}

impl<'a> Target for &'a Bus {
    type Taking = Work<'a, Result<MessageId, PublishError>>;

    fn take(self, message: Result<Outgoing, PublishError>) -> Self::Taking {
        Box::pin(async move {
            let message = message?;
            self.publish(std::slice::from_ref(&message)).await?;
            Ok(message.id)
        })
    }
}

/// An event on its way: made by [`Topic::publish`], and published when it is awaited.
///
/// ```
/// use leveret::{Bus, PublishError, Topic};
/// use std::time::Duration;
///
/// static ORDERS: Topic<u32> = Topic::new("orders");
///
/// async fn order(bus: &Bus) -> Result<(), PublishError> {
///     let tomorrow = Duration::from_secs(24 * 3600);
///     ORDERS.publish(bus, &1).attribute("plan", "pro").key("customer-7").delay(tomorrow).await?;
///     Ok(())
/// }
/// ```
#[must_use = "nothing is published before it is awaited"]
#[derive(Debug)]
pub struct Publishing<G> {
    target: G,
    message: Result<Outgoing, PublishError>,
    rules: Rules,
}

impl<G: Target> Publishing<G> {
    /// With an id that is known already: that of an earlier attempt to publish the same event.
    pub fn id(self, id: MessageId) -> Publishing<G> {
        self.with(|message| message.id = id)
    }

    /// With an attribute, by which subscriptions may filter. The last value of a name counts.
    pub fn attribute(self, name: &str, value: &str) -> Publishing<G> {
        self.with(|message| {
            message.attributes.retain(|(known, _)| known != name);
            message.attributes.push((name.to_string(), value.to_string()));
        })
    }

    /// With an ordering key: ordered subscriptions handle the events of a key one after the other.
    pub fn key(self, key: impl Into<String>) -> Publishing<G> {
        self.with(|message| message.key = Some(key.into()))
    }

    /// Subscriptions get it only after this; ten years at most.
    pub fn delay(self, delay: Duration) -> Publishing<G> {
        self.with(|message| message.delay = Some(delay))
    }

    /// As part of a trace, in place of that of the message that is being handled.
    ///
    /// ```
    /// # use leveret::{Bus, Parent, PublishError, Topic};
    /// # static ORDERS: Topic<u32> = Topic::new("orders");
    /// /// As a server of HTTP is given it.
    /// async fn order(bus: &Bus, traceparent: &str, tracestate: &str) -> Result<(), PublishError> {
    ///     let mut publishing = ORDERS.publish(bus, &1);
    ///     if let Ok(parent) = traceparent.parse::<Parent>() {
    ///         publishing = publishing.trace(parent.with_state(tracestate));
    ///     }
    ///     publishing.await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn trace(self, parent: Parent) -> Publishing<G> {
        self.with(|message| message.trace = Some(parent))
    }

    fn with(mut self, change: impl FnOnce(&mut Outgoing)) -> Publishing<G> {
        if let Ok(message) = &mut self.message {
            change(message);
        }
        self
    }
}

impl<G: Target> IntoFuture for Publishing<G> {
    type Output = Result<MessageId, PublishError>;
    type IntoFuture = G::Taking;

    fn into_future(self) -> G::Taking {
        let Publishing { target, message, rules } = self;
        target.take(message.and_then(|message| check(&message, rules).map(|()| message)))
    }
}

/// Refuses what no engine could carry.
fn check(message: &Outgoing, rules: Rules) -> Result<(), PublishError> {
    let refuse = |text: String| Err(PublishError::Invalid(format!("an event of topic '{}': {text}", message.topic)));
    let (len, max_size) = (message.body.len(), rules.max_size);
    if len > max_size {
        return refuse(format!("it has {len} bytes, the topic allows {max_size}"));
    }
    if message.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
        return refuse(format!("an ordering key has 1 to {MAX_KEY} bytes"));
    }
    if message.delay.is_some_and(|delay| delay > MAX_DELAY) {
        return refuse(format!("a delay has at most {} days", MAX_DELAY.as_secs() / 86_400));
    }
    let is_reserved = |name: &str| name.is_empty() || name.len() > 128 || is_reserved(name);
    match message.attributes.iter().find(|(name, _)| is_reserved(name)) {
        Some((name, _)) => refuse(format!(
            "the attribute '{name}' has no valid name: 1 to 128 bytes, not 'traceparent', and none that begins with 'x-' or 'leveret-'"
        )),
        None => match rules.attributes {
            Some(names) => {
                let unknown = message.attributes.iter().find(|(name, _)| !names.contains(&name.as_str()));
                match unknown {
                    Some((name, _)) => refuse(format!("it has the attribute '{name}', the topic has {names:?}")),
                    None => Ok(()),
                }
            }
            None => Ok(()),
        },
    }
}
