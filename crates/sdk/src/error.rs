//! What can go wrong, and what to do about it.

use crate::message::Outgoing;
use std::fmt;

/// Any error of a handler or codec.
///
/// ```
/// fn parse(text: &str) -> Result<u32, leveret::BoxError> {
///     Ok(text.parse()?)
/// }
/// assert!(parse("four").is_err());
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of most operations.
///
/// ```
/// async fn open() -> leveret::Result<leveret::Bus> {
///     leveret::Bus::open("local:").await
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
///
/// ```
/// # use leveret::{Bus, Error};
/// # #[tokio::main]
/// # async fn main() {
/// match Bus::open("mqtt://localhost").await {
///     Ok(_) => println!("it is open"),
///     Err(Error::Configuration(text)) => println!("to be mended in the configuration: {text}"),
///     Err(error) => println!("to be tried again later: {error}"),
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The URL, a name or an option is not valid; the text says which and why. Nothing was started.
    Configuration(String),
    /// The engine cannot do what is asked for; the text says what, and for which topic or subscription.
    Absent(String),
    /// What is declared differs from what the engine has; the text says in what.
    Mismatch(String),
    /// The engine has failed or cannot be reached; the text says why.
    Engine(String),
    /// The bus was closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Configuration(text) | Error::Absent(text) | Error::Mismatch(text) | Error::Engine(text) => {
                f.write_str(text)
            }
            Error::Closed => f.write_str("the bus is closed: open another one to go on"),
        }
    }
}

impl std::error::Error for Error {}

/// Why an event was not published.
///
/// What is not confirmed can be published again as it is, with the same ids:
///
/// ```
/// use leveret::{Bus, PublishError, Target, Topic};
///
/// static SIGNUPS: Topic<String> = Topic::new("signups");
///
/// async fn publish(bus: &Bus, emails: &[String]) -> Result<(), PublishError> {
///     match SIGNUPS.publish_all(bus, emails).await {
///         Err(PublishError::Unconfirmed { error, messages }) => {
///             println!("{} of {} once more: {error}", messages.len(), emails.len());
///             for message in messages {
///                 bus.take(Ok(message)).await?;
///             }
///         }
///         published => _ = published?,
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The codec refuses the event.
    Encode(BoxError),
    /// It is longer than its topic allows, or an attribute or key is not valid; the text says which.
    Invalid(String),
    /// The engine has not confirmed it. It may have been published or not; published again with the same id, topics that
    /// are [exactly once](crate::Topic::exactly_once) take it once.
    Unconfirmed {
        /// Why.
        error: Error,
        /// What was not confirmed of what was to be published, in its order; never nothing. The rest of a
        /// [batch](crate::Topic::publish_all) was.
        messages: Vec<Outgoing>,
    },
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Encode(error) => write!(f, "the event cannot be encoded: {error}"),
            PublishError::Invalid(text) => f.write_str(text),
            PublishError::Unconfirmed { error, messages } => match &messages[..] {
                [] => write!(f, "messages are not confirmed: {error}"),
                [message] => write!(f, "message {} to topic '{}' is not confirmed: {error}", message.id, message.topic),
                [first, ..] => {
                    let (count, Outgoing { topic, id, .. }) = (messages.len(), first);
                    write!(f, "{count} messages to topic '{topic}', from {id} on, are not confirmed: {error}")
                }
            },
        }
    }
}

impl std::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PublishError::Encode(error) => Some(&**error),
            PublishError::Invalid(_) => None,
            PublishError::Unconfirmed { error, .. } => Some(error),
        }
    }
}
