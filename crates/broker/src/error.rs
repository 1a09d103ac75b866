//! Why the broker refuses something, in AMQP's own terms.

use std::fmt;

/// How much a refusal ends. AMQP 0-9-1 (section 4.10 of the specification) has exactly these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The channel is closed, its connection and the other channels go on.
    Channel,
    /// The whole connection is closed.
    Connection,
}

/// A refusal: what it ends, AMQP's reply code and the explanation behind `NAME - `.
///
/// The texts are RabbitMQ's, because clients match on parts of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is ended by it.
    pub scope: Scope,
    /// The reply code, for example 404.
    pub code: u16,
    /// The explanation, without the code's name in front.
    pub text: String,
}

/// The broker's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal that closes the channel.
    pub fn channel(code: u16, text: impl Into<String>) -> Error {
        Error { scope: Scope::Channel, code, text: text.into() }
    }

    /// A refusal that closes the connection.
    pub fn connection(code: u16, text: impl Into<String>) -> Error {
        Error { scope: Scope::Connection, code, text: text.into() }
    }

    /// 404: `kind` is `queue` or `exchange`.
    pub fn not_found(kind: &str, name: &str, vhost: &str) -> Error {
        Error::channel(404, format!("no {kind} '{name}' in vhost '{vhost}'"))
    }

    /// 403 ACCESS_REFUSED.
    pub fn access_refused(text: impl Into<String>) -> Error {
        Error::channel(403, text)
    }

    /// 405 for another connection's exclusive queue.
    pub fn resource_locked(queue: &str, vhost: &str) -> Error {
        Error::channel(
            405,
            format!(
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
                 declared on another connection or the exclusive property value does not match that of the original \
                 declaration."
            ),
        )
    }

    /// 406 PRECONDITION_FAILED.
    pub fn precondition(text: impl Into<String>) -> Error {
        Error::channel(406, text)
    }

    /// 406 for a limit of this broker: `what` is counted, `limit` names the setting that raises it.
    pub fn limit(what: &str, limit: &str, value: u64) -> Error {
        Error::channel(406, format!("cannot have more than {value} {what}; the broker's limit is {limit}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.code, self.text)
    }
}

impl std::error::Error for Error {}
