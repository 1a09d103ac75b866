//! The Leveret broker as a library: exchanges, queues and delivery with AMQP 0-9-1's semantics, durable in a directory or
//! wholly in memory. No sockets, no second process, and no executor of its own.
//!
//! # For applications
//!
//! [`Broker::open`] a directory, [`Broker::connect`], and go:
//!
//! ```
//! use leveret_broker::{Broker, Content, ExchangeType, Wait};
//!
//! # let directory = std::env::temp_dir().join(format!("leveret-doc-{}", std::process::id()));
//! # let _ = std::fs::remove_dir_all(&directory);
//! let broker = Broker::open(&directory)?;
//! let client = broker.connect();
//! client.declare_queue("orders")?;
//! client.bind_queue("orders", "amq.topic", "orders.#")?;
//!
//! // Publishing is done when the message is confirmed: it is on disk. `.await` does the same in a task.
//! client.publish("amq.topic", "orders.eu", Content::from("two hares").mandatory()).wait()?;
//!
//! // Receiving, at most 100 messages at a time; each is to be settled.
//! let mut orders = client.subscribe("orders", 100)?;
//! let order = orders.next().wait()?.expect("the queue was not deleted");
//! assert_eq!(order.body(), b"two hares");
//!
//! // Two publishes and an acknowledgement that take effect together, or not at all.
//! client.declare_queue("invoices")?;
//! client.declare_queue("parcels")?;
//! let mut transaction = client.transaction();
//! transaction.publish("", "invoices", "for two hares")?;
//! transaction.publish("", "parcels", order.body())?;
//! transaction.ack(order)?;
//! transaction.commit().wait()?;
//!
//! assert_eq!(client.queue_status("orders")?.ready, 0);
//! assert_eq!(client.queue_status("invoices")?.ready, 1);
//! broker.shut_down()?;
//! # drop((client, orders, broker));
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Durable.** When a persistent message in a durable queue is confirmed, or a commit is done, it has been written and
//!   the operating system has reported a successful flush. It survives a killed process and a power cut until it is
//!   acknowledged. Queues, exchanges and messages of a [`Client`] are durable unless you say otherwise.
//! - **Redelivered.** A message that is dropped without being settled goes back to its queue, and so does what a
//!   subscription had not given out. After a crash, what was not acknowledged on disk is delivered again, flagged. So a
//!   message may be processed twice; it is never lost.
//! - **Blocked.** While memory or disk runs out, publishing waits, and everything else goes on.
//! - **Failed.** If the log cannot be written, whoever waits is told, by [`ClientError::LogFailed`]: nothing hangs.
//!
//! | to | use |
//! |---|---|
//! | publish and know that it is safe | [`Client::publish`] |
//! | have many messages on their way | [`Client::send`], which gives a [`Confirm`], or [`Client::publish_all`] |
//! | receive | [`Client::subscribe`], [`Client::get`] |
//! | settle | [`Message::ack`], [`Message::nack`], [`Message::reject`] |
//! | take effect together | [`Client::transaction`] |
//! | give dead letters another chance | [`Client::redrive`] |
//! | block instead of awaiting | [`Wait`] |
//! | choose limits, and when to sync | [`Broker::open_with`], [`Limits`], [`Storage`] |
//! | keep nothing | [`Broker::in_memory`] |
//! | get only some messages of an exchange | [`Client::bind_queue_with`] and `x-filter`, a [`Filter`] |
//! | have messages in order by key, with many consumers | a queue's argument `x-group-header` |
//!
//! # For front doors
//!
//! Below that is what the AMQP server uses. A [`Broker`] has virtual hosts; a [`Session`] is a connection to one, a
//! [`Channel`] a channel on it. Whoever owns a session feeds it publishes and acks, calls [`Session::flush`] and
//! [`Channel::apply_settled`] when its input is exhausted, watches the session's [`Mailbox`] and pulls what its consumers
//! were granted. It calls [`Broker::check_memory`] every 100 ms or so.

mod arguments;
mod channel;
mod client;
mod consumers;
mod counters;
mod dead_letter;
mod dedup;
mod delay;
pub mod disk;
mod engine;
mod entries;
mod error;
mod filter;
mod limits;
mod listing;
mod log;
mod mailbox;
pub mod message;
#[cfg(feature = "mutants")]
pub mod mutants;
mod overflow;
mod policy;
mod publisher;
mod queue;
mod routing;
mod runs;
mod segment;
mod session;
mod settings;
mod statistics;
mod times;
mod topology;
mod unacked;

pub use arguments::has_effect;
pub use channel::{Channel, ChannelStatus, Consume, Pulled, REPLY_TO, Settle};
pub use client::{Client, ClientError, Confirm, Content, Message, Subscription, Transaction, Wait};
pub use counters::{ChannelCounters, Deaths, ExchangeCounters, QueueChurn, QueueCounters, QueueTotals};
pub use engine::{
    Broker, Browse, Browsed, BrowsedMessage, Environment, MoveTo, QueueDeclare, QueueStatus, Redriven, SharedQueue,
    Stored, VirtualHost,
};
pub use error::{Error, Result, Scope};
pub use filter::{Filter, FilterError};
pub use limits::Limits;
pub use listing::{BindingInfo, ConsumerInfo, ExchangeInfo, QueueInfo, QueueState};
pub use log::{Damage, FileKind, FileReport, OpenError, QueueReport, Recovery, Report, Storage, Sync, check};
pub use mailbox::{Event, Mailbox};
pub use policy::{Applied, ApplyTo, Policy, PolicyError, PolicyKind, has_effect as policy_has_effect};
pub use publisher::{Publish, Published, routing_keys};
pub use queue::{Delivery, MessageState};
pub use routing::{Destination, ExchangeType};
pub use session::{Blocking, Session};
pub use statistics::{DiskStatistics, Distribution, FileUse, RecoveryStatistics, Statistics};
pub use topology::{ExchangeDeclare, SessionId};

pub use leveret_wire::properties::Properties;
pub use leveret_wire::table;
