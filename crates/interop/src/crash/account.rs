//! What a client of the load remembers: everything it sent, got and was promised.

use crate::crash::message::Id;
use crate::crash::topology::{OUTPUTS, Route};

/// One client's memory of one cycle. Times are nanoseconds of the same clock for all clients.
#[derive(Debug, Default)]
pub struct Account {
    /// In the order of publishing, without those in transactions.
    pub sent: Vec<Sent>,
    /// In the order of arrival.
    pub seen: Vec<Seen>,
    /// Moments at which the broker had acted on this client's first acks.
    pub receipts: Vec<Receipt>,
    /// In the order of their begin.
    pub transactions: Vec<Transaction>,
    /// Queues that it declared, in that order.
    pub built: Vec<Built>,
    /// Messages that are not what was published: the queue, and what differs.
    pub damaged: Vec<(usize, String)>,
    /// A queue with an automatic consumer that was still there at the end, so that the broker may have sent more of it
    /// than arrived.
    pub exposed: Option<usize>,
    /// Why the client ended.
    pub end: Option<String>,
}

/// A message that was published.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Which one.
    pub id: Id,
    /// Where to.
    pub route: Route,
    /// It is to survive.
    pub persistent: bool,
    /// A time before it was written to the socket.
    pub at: u64,
    /// The broker confirmed it.
    pub confirmed: bool,
}

/// A message that was delivered.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// From which queue.
    pub queue: usize,
    /// By which consumer of this client.
    pub consumer: u16,
    /// Which one.
    pub id: Id,
    /// It was flagged so.
    pub redelivered: bool,
    /// A time after it was read from the socket.
    pub at: u64,
    /// What was answered.
    pub fate: Fate,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing was said.
    Held,
    /// Acknowledged as the client's nth.
    Acked(u64),
    /// Given back.
    Requeued,
    /// It is gone by being sent.
    Automatic,
    /// Acknowledged in this one of the client's transactions.
    InTransaction(usize),
}

/// The broker answered what it read later than some acks, so it had acted on those.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// How many acks.
    pub acks: u64,
    /// A time after the answer came.
    pub at: u64,
}

/// A transaction: one message is acknowledged, one is published to each of five queues.
#[derive(Debug, Clone, Copy)]
pub struct Transaction {
    /// What was acknowledged.
    pub input: Id,
    /// The first of those that were published; the others have the next numbers.
    pub first: Id,
    /// A time before the commit was written to the socket.
    pub at: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Transaction {
    /// What it published, in the order of the queues.
    pub fn outputs(&self) -> impl Iterator<Item = Id> + use<> {
        let first = self.first;
        (0..OUTPUTS as u64).map(move |output| Id::new(first.publisher(), first.sequence() + output))
    }
}

/// A queue that was declared and bound, and perhaps deleted.
#[derive(Debug, Clone, Default)]
pub struct Built {
    /// Which of the names it had.
    pub slot: usize,
    /// A time after the broker answered that it is bound.
    pub declared: Option<u64>,
    /// Its deletion was sent.
    pub delete_sent: bool,
    /// A time after the broker answered that.
    pub deleted: Option<u64>,
    /// What was published to it, by their place among the messages sent.
    pub messages: Vec<usize>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The commit was sent and not answered.
    Open,
    /// The broker answered commit-ok.
    Committed,
    /// The client took it back.
    RolledBack,
}
