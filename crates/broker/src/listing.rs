//! What there is, as plain values for those who list it: queues, exchanges, bindings and consumers.

use crate::counters::{ExchangeCounters, QueueCounters};
use crate::policy::Applied;
use crate::routing::Destination;
use crate::topology::SessionId;
use leveret_wire::table::FieldTable;
use std::sync::Arc;

/// A queue as it is at one moment.
#[derive(Clone, Debug)]
pub struct QueueInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Is deleted when its last consumer is gone.
    pub auto_delete: bool,
    /// The session that alone may use it.
    pub owner: Option<SessionId>,
    /// As declared.
    pub arguments: FieldTable,
    /// The policies that count for it.
    pub policies: Applied,
    /// Whether it can be used.
    pub state: QueueState,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that were handed out, and are not settled.
    pub unacked: u64,
    /// Messages that wait for a time: for their next attempt.
    pub waiting: u64,
    /// Of all these, survive a restart.
    pub persistent: u64,
    /// Bytes of the bodies of what is ready or waits. Estimated for what a start has found, and for what came back.
    pub ready_bytes: u64,
    /// Bytes of the bodies of what is handed out; estimated while only a part of that is settled.
    pub unacked_bytes: u64,
    /// Bytes of memory of its messages. What several queues share counts for each of them.
    pub memory: u64,
    /// About how many bytes its messages have in files. What several queues share counts for each of them.
    pub disk: u64,
    /// Number of consumers.
    pub consumers: usize,
    /// The tag of the consumer that gets all messages, in a queue with a single active consumer.
    pub single_active_consumer: Option<Arc<str>>,
    /// When the oldest message that is there came, handed out or not: milliseconds since 1970, to about a part in a hundred
    /// of its age. `None` without messages. Of what a start has found it is not known: it came before the time that is told,
    /// which is that of the start.
    pub oldest: Option<u64>,
    /// When the last message came, in milliseconds since 1970; `None` if none has since the broker was started.
    pub last_arrival: Option<u64>,
    /// What happened since the broker was started.
    pub counters: QueueCounters,
    /// About how many nanoseconds of a processor the queue itself took since the broker was started: appending, taking,
    /// settling and granting under its lock, of which one in 64 is measured. Routing and encoding are not in it.
    pub cost: u64,
}

/// Whether a queue can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueState {
    /// It can.
    Running,
    /// It takes messages, and hands none out.
    Paused,
    /// Messages of it are damaged on disk: nothing is published to it or consumed from it.
    Damaged,
}

/// An exchange as it is at one moment.
#[derive(Clone, Debug)]
pub struct ExchangeInfo {
    /// Its name; empty for the default one.
    pub name: Arc<str>,
    /// The name of its type.
    pub kind: &'static str,
    /// Survives a restart.
    pub durable: bool,
    /// Is deleted when the last binding from it is gone.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: FieldTable,
    /// The policies that count for it.
    pub policies: Applied,
    /// What happened since the broker was started.
    pub counters: ExchangeCounters,
    /// Messages that wait in it for their time; `None` if messages cannot.
    pub delayed: Option<u64>,
}

/// A binding. The default exchange's, of which there is one to each queue, are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingInfo {
    /// The exchange that it leads from.
    pub source: Arc<str>,
    /// The queue or exchange that it leads to.
    pub destination: Destination,
    /// Its key.
    pub key: Box<str>,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// A consumer as it is at one moment.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// The queue that it consumes.
    pub queue: Arc<str>,
    /// Its session.
    pub session: SessionId,
    /// The number of its channel in that.
    pub channel: u16,
    /// Its tag.
    pub tag: Arc<str>,
    /// Deliveries are to be acknowledged.
    pub ack_required: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Messages that it may hold unacknowledged; 0 is no limit.
    pub prefetch: u64,
    /// Those of a higher one get messages first.
    pub priority: i32,
    /// As it was started.
    pub arguments: FieldTable,
    /// It gets messages; false for those that wait until the single active one is gone.
    pub active: bool,
    /// Messages that it held unacknowledged when its channel told last: after each batch.
    pub unacked: u64,
}
