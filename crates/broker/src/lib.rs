//! The Leveret broker as a library: topology, routing, queues and delivery with AMQP 0-9-1's semantics. No sockets.
//!
//! A [`Broker`] has virtual hosts; a [`Session`] is a connection to one, a [`Channel`] a channel on it. Whoever owns a
//! session feeds it publishes and acks, calls [`Session::flush`] and [`Channel::apply_settled`] when its input is
//! exhausted, watches the session's [`Mailbox`] and pulls what its consumers were granted.

mod arguments;
mod channel;
mod consumers;
mod dead_letter;
pub mod disk;
mod engine;
mod error;
mod limits;
mod log;
mod mailbox;
pub mod message;
#[cfg(feature = "mutants")]
pub mod mutants;
mod overflow;
mod publisher;
mod queue;
mod routing;
mod runs;
mod segment;
mod session;
mod topology;
mod unacked;

pub use channel::{Channel, Consume, Pulled, REPLY_TO, Settle};
pub use engine::{Broker, Environment, QueueDeclare, QueueStatus, SharedQueue, VirtualHost};
pub use error::{Error, Result, Scope};
pub use limits::Limits;
pub use log::{Damage, FileKind, FileReport, OpenError, QueueReport, Recovery, Report, Storage, Sync, check};
pub use mailbox::{Event, Mailbox};
pub use publisher::{Publish, Published};
pub use queue::Delivery;
pub use routing::ExchangeType;
pub use session::Session;
pub use topology::{ExchangeDeclare, SessionId};
