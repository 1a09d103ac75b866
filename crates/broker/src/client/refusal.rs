//! Why a client did not get what it asked for.

use crate::error::Error;
use std::fmt;

/// Why an operation of a [`Client`](super::Client) failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The broker refuses it, for the reason that an AMQP client would be told. Nothing was done, and the client can be
    /// used as before.
    Refused(Error),
    /// A mandatory message is for no queue. It was not published.
    Unroutable,
    /// A queue is full and refuses what is too much (`x-overflow`). Other queues may have the message.
    QueueFull,
    /// The log cannot be written: nothing becomes durable any more. What was not confirmed may be there after a restart
    /// or not. The text says what went wrong.
    LogFailed(String),
    /// [`Broker::shut_down`](crate::Broker::shut_down) was called. What was not confirmed may be there after a restart
    /// or not.
    ShutDown,
}

impl From<Error> for ClientError {
    fn from(error: Error) -> ClientError {
        ClientError::Refused(error)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Refused(error) => error.fmt(f),
            ClientError::Unroutable => {
                f.write_str("no queue takes this mandatory message: bind one to its exchange, with its routing key")
            }
            ClientError::QueueFull => {
                f.write_str("a queue has reached its x-max-length or x-max-length-bytes and refuses the message: publish it again later")
            }
            ClientError::LogFailed(why) => f.write_str(why),
            ClientError::ShutDown => f.write_str("the broker is shut down: open it again to go on"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Refused(error) => Some(error),
            _ => None,
        }
    }
}
