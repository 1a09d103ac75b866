//! The queues and exchanges of the load, and who is to find what in them.

use anyhow::{Context, Result};
use leveret_wire::method::{exchange, queue};
use leveret_wire::table::Table;

use crate::crash::amqp::Connection;

/// Every queue, by what it is for. All are durable.
pub const QUEUES: [&str; FIXED + SLOTS] = [
    "direct.0",
    "direct.1",
    "direct.2",
    "direct.3",
    "auto",
    "fan.0",
    "fan.1",
    "fan.2",
    "fan.3",
    "fan.4",
    "topic.a",
    "topic.b",
    "topic.all",
    "tx.in",
    "tx.0",
    "tx.1",
    "tx.2",
    "tx.3",
    "tx.4",
    "cold",
    "receipts",
    "slot.0",
    "slot.1",
    "slot.2",
    "slot.3",
];

/// The first of four queues that are published to directly.
pub const DIRECT: usize = 0;
/// The queue whose consumer doesn't acknowledge.
pub const AUTO: usize = 4;
/// The first of five queues of the fanout exchange.
pub const FAN: usize = 5;
/// The queue of the topics `a.*`.
pub const TOPIC_A: usize = 10;
/// The queue of the topics `*.b`.
pub const TOPIC_B: usize = 11;
/// The queue of all topics.
pub const TOPIC_ALL: usize = 12;
/// What transactions consume.
pub const TX_IN: usize = 13;
/// The first of five queues that transactions publish to.
pub const TX_OUT: usize = 14;
/// A backlog that is only looked at now and then.
pub const COLD: usize = 19;
/// Messages of consumers, whose confirms say that the acks before them were seen.
pub const RECEIPTS: usize = 20;

/// The queues before this one are always there.
pub const FIXED: usize = 21;
/// The first of the queues that come and go.
pub const SLOT: usize = FIXED;
/// How many there are of them.
pub const SLOTS: usize = 4;

/// Queues that each transaction publishes to.
pub const OUTPUTS: usize = 5;

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The exchange.
    pub exchange: &'static str,
    /// The routing key.
    pub key: &'static str,
    /// The queues, by their place in [`QUEUES`].
    pub queues: &'static [usize],
}

/// Through the default exchange to one queue.
pub const fn to(queues: &'static [usize; 1]) -> Route {
    Route { exchange: "", key: QUEUES[queues[0]], queues }
}

/// To all queues of the fanout exchange.
pub const FANOUT: Route = Route { exchange: "fan", key: "", queues: &[5, 6, 7, 8, 9] };

/// Through the topic exchange to three, two and one of its queues.
pub const TOPICS: [Route; 4] = [
    Route { exchange: "topic", key: "a.b", queues: &[TOPIC_A, TOPIC_B, TOPIC_ALL] },
    Route { exchange: "topic", key: "a.x", queues: &[TOPIC_A, TOPIC_ALL] },
    Route { exchange: "topic", key: "x.b", queues: &[TOPIC_B, TOPIC_ALL] },
    Route { exchange: "topic", key: "x.y", queues: &[TOPIC_ALL] },
];

/// What a transaction publishes.
pub const TX_ROUTES: [Route; OUTPUTS] = [to(&[14]), to(&[15]), to(&[16]), to(&[17]), to(&[18])];

const EXCHANGES: [(&str, &str); 3] = [("fan", "fanout"), ("topic", "topic"), ("slots", "direct")];

/// Declares everything, or with `passive` only asks whether it is there.
///
/// # Errors
/// If the broker refuses, or something is missing.
pub fn declare(port: u16, passive: bool) -> Result<()> {
    let mut connection = Connection::open(port)?;
    connection.open_channel(1)?;
    for (name, r#type) in EXCHANGES {
        let declare = exchange::Declare { exchange: name, r#type, passive, durable: true, ..Default::default() };
        connection.call(1, declare).with_context(|| format!("the exchange {name} is gone"))?;
    }
    for name in &QUEUES[..FIXED] {
        let arguments = Table::EMPTY;
        let declare = queue::Declare { queue: name, passive, durable: true, arguments, ..Default::default() };
        connection.call(1, declare).with_context(|| format!("the queue {name} is gone"))?;
    }
    if !passive {
        let fanout = (FAN..FAN + 5).map(|queue| (queue, "fan", ""));
        let topics = [(TOPIC_A, "topic", "a.*"), (TOPIC_B, "topic", "*.b"), (TOPIC_ALL, "topic", "#")];
        for (queue, exchange, routing_key) in fanout.chain(topics) {
            let bind = queue::Bind { queue: QUEUES[queue], exchange, routing_key, ..Default::default() };
            connection.call(1, bind)?;
        }
    }
    connection.close();
    Ok(())
}
