//! Messages on their way: what is published, and what a handler is told of it.

use crate::trace::Parent;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// Names a message from its publisher to all of its subscribers: a UUID of version 7, unless another program chose it.
///
/// ```
/// use leveret::MessageId;
///
/// let id = MessageId::new();
/// assert_eq!(id.to_string().parse(), Ok(id.clone()));
/// assert!(MessageId::new() > id, "they are in the order of time");
/// // As another program, or a table of a database, has it.
/// let order: MessageId = "order-17".parse()?;
/// # Ok::<(), std::convert::Infallible>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Id);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Id {
    Uuid(Uuid),
    /// As another program has it.
    Text(Arc<str>),
}

impl MessageId {
    /// A new one: unique, and in the order of time; to the millisecond among threads.
    pub fn new() -> MessageId {
        MessageId::made(SystemTime::now())
    }

    /// A new one for a message that is made now.
    pub(crate) fn made(now: SystemTime) -> MessageId {
        MessageId(Id::Uuid(next_v7(now)))
    }

    /// The one of a message, as its properties have it.
    pub(crate) fn from_text(text: &str) -> MessageId {
        // Another spelling of a UUID is another text, and stays that.
        let is_spelled_so = text.len() == Hyphenated::LENGTH && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let uuid = if is_spelled_so { Uuid::try_parse(text).ok() } else { None };
        MessageId(uuid.map_or_else(|| Id::Text(text.into()), Id::Uuid))
    }

    /// Its text, without memory of its own.
    pub(crate) fn text(&self) -> IdText<'_> {
        match &self.0 {
            Id::Uuid(uuid) => {
                let mut text = [0; Hyphenated::LENGTH];
                uuid.hyphenated().encode_lower(&mut text);
                IdText::Uuid(text)
            }
            Id::Text(text) => IdText::Text(text),
        }
    }
}

/// The text of an id.
pub(crate) enum IdText<'a> {
    Uuid([u8; Hyphenated::LENGTH]),
    Text(&'a str),
}

impl IdText<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            IdText::Uuid(text) => text,
            IdText::Text(text) => text.as_bytes(),
        }
    }
}

/// A UUID of version 7: within a millisecond each is by one above the one before, which was random, as RFC 9562, section 6.2, has it as
/// method 2. Each thread counts for itself.
fn next_v7(now: SystemTime) -> Uuid {
    /// The lower 64 bits begin with the two of the variant; the next one is left for what is counted.
    const RANDOM: u128 = (0xfff << 64) | ((1 << 61) - 1);
    thread_local! {
        static LAST: Cell<u128> = const { Cell::new(0) };
    }
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let next = match LAST.get() {
        // Also when the clock was set back.
        last if millis <= last >> 80 => last + 1,
        _ => millis << 80 | 7 << 76 | 2 << 62 | Uuid::new_v4().as_u128() & RANDOM,
    };
    LAST.set(next);
    Uuid::from_u128(next)
}

impl Default for MessageId {
    fn default() -> MessageId {
        MessageId::new()
    }
}

impl FromStr for MessageId {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<MessageId, Self::Err> {
        Ok(MessageId::from_text(text))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Uuid(uuid) => uuid.fmt(f),
            Id::Text(text) => f.write_str(text),
        }
    }
}

/// A message that is to be published: an event, encoded, and what goes with it.
///
/// ```
/// use leveret::{Outgoing, PublishError, Target};
///
/// /// A target that counts bytes, and publishes nothing.
/// struct Size<'a>(&'a mut usize);
///
/// impl Target for Size<'_> {
///     type Taking = std::future::Ready<Result<leveret::MessageId, PublishError>>;
///
///     fn take(self, message: Result<Outgoing, PublishError>) -> Self::Taking {
///         std::future::ready(message.map(|message| {
///             *self.0 += message.body.len();
///             message.id
///         }))
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// The topic's name.
    pub topic: &'static str,
    /// The topic takes messages once, by their ids.
    pub exactly_once: bool,
    /// What its subscribers will see as its id.
    pub id: MessageId,
    /// The codec's name for what the body is.
    pub content_type: &'static str,
    /// The event.
    pub body: Vec<u8>,
    /// Names and values by which subscriptions may filter.
    pub attributes: Vec<(String, String)>,
    /// Messages with the same key are handled in order, one after the other, by subscriptions that are ordered.
    pub key: Option<String>,
    /// It is to reach subscriptions only after this.
    pub delay: Option<Duration>,
    /// When it was made.
    pub published: SystemTime,
    /// What has caused it, if that is part of a trace.
    pub trace: Option<Parent>,
}

/// A message as an engine delivers it.
///
/// ```
/// use leveret::Incoming;
///
/// let mut message = Incoming::new("order-17", b"{}".to_vec());
/// message.meta.attributes.push(("plan".to_string(), "pro".to_string()));
/// assert_eq!(message.meta.attribute("plan"), Some("pro"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The event, encoded.
    pub body: Vec<u8>,
    /// What is known of it.
    pub meta: Meta,
}

/// What is known of a message beside its event. A handler that has it among its arguments gets it.
///
/// ```
/// use leveret::Meta;
///
/// async fn welcome(email: String, meta: Meta) {
///     println!("{email}: {}, attempt {}, plan {:?}", meta.id, meta.attempt, meta.attribute("plan"));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The id that its publisher was given.
    pub id: MessageId,
    /// 1 for the first time that it is handled.
    pub attempt: u32,
    /// When it was published, in milliseconds; `None` if another program published it and did not say.
    pub published: Option<SystemTime>,
    /// Names and values that its publisher gave it.
    pub attributes: Vec<(String, String)>,
    /// Its ordering key.
    pub key: Option<String>,
    /// What has caused it, if that was part of a trace. What its handler publishes is caused by it.
    pub trace: Option<Parent>,
}

impl Incoming {
    /// A message for a driver to fill in.
    pub fn new(id: &str, body: Vec<u8>) -> Incoming {
        let (id, attributes) = (MessageId::from_text(id), Vec::new());
        Incoming { body, meta: Meta { id, attempt: 1, published: None, attributes, key: None, trace: None } }
    }
}

impl Meta {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_their_publisher_made_of_them() {
        let id = MessageId::new();
        assert_eq!(MessageId::from_text(&id.to_string()), id);
        let texts = ["", "order-17", "0190163D-8694-739B-AEA5-966C26F8AD91", "{0190163d-8694-739b-aea5-966c26f8ad91}"];
        texts.iter().for_each(|text| assert_eq!(MessageId::from_text(text).to_string(), *text));
    }

    #[test]
    fn ids_of_a_thread_are_in_their_order() {
        let now = SystemTime::now();
        let times = [now, now, now + Duration::from_millis(1), now - Duration::from_secs(1), now];
        let ids: Vec<_> = times.iter().map(|now| MessageId::made(*now)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        let uuids = ids.iter().map(|id| Uuid::parse_str(&id.to_string()).expect("a UUID"));
        assert!(uuids.clone().all(|uuid| (uuid.get_version_num(), uuid.get_variant()) == (7, uuid::Variant::RFC4122)));
        assert!(uuids.map(|uuid| uuid.as_u128() >> 80).is_sorted());
        let other = std::thread::spawn(move || MessageId::made(now)).join().expect("it does not panic");
        assert!(!ids.contains(&other));
    }
}
