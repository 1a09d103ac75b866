//! What is published: every message different, and each recognizable byte for byte.

use crate::random::Random;
use leveret_broker::message::{Message, encode_route};
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;
use std::sync::LazyLock;

/// Number of a message, given once in a run.
pub type Id = u32;

pub const QUEUES: [&str; 5] = ["q0", "q1", "q2", "q3", "q4"];

/// An exchange that runs use.
pub struct ExchangeName {
    pub name: &'static str,
    pub kind: &'static str,
    pub durable: bool,
    /// Always there.
    pub predeclared: bool,
}

pub const EXCHANGES: [ExchangeName; 5] = [
    ExchangeName { name: "", kind: "direct", durable: true, predeclared: true },
    ExchangeName { name: "fan", kind: "fanout", durable: true, predeclared: false },
    ExchangeName { name: "topic", kind: "topic", durable: true, predeclared: false },
    ExchangeName { name: "amq.direct", kind: "direct", durable: true, predeclared: true },
    ExchangeName { name: "passing", kind: "fanout", durable: false, predeclared: false },
];

/// Keys of bindings of one exchange.
pub const KEYS: usize = 3;

/// Where a message is published to: index of the exchange and of its key; for the default exchange, of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub exchange: usize,
    pub key: usize,
}

impl Address {
    /// The routing key of messages.
    pub fn routing_key(self) -> &'static str {
        match self.exchange {
            0 => QUEUES[self.key],
            1 | 4 => "",
            2 => ["k0.x", "k1.x", "k2.x"][self.key],
            _ => ["k0", "k1", "k2"][self.key],
        }
    }

    /// The key of bindings that take what is sent here.
    pub fn binding_key(self) -> &'static str {
        match self.exchange {
            2 => ["k0.#", "k1.#", "k2.#"][self.key],
            _ => self.routing_key(),
        }
    }

    /// All addresses of exchanges that can have bindings.
    pub fn bound() -> impl Iterator<Item = Address> {
        (1..EXCHANGES.len()).flat_map(|exchange| {
            let keys = if matches!(exchange, 1 | 4) { 1 } else { KEYS };
            (0..keys).map(move |key| Address { exchange, key })
        })
    }
}

/// A message as it was published.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub address: Address,
    pub length: usize,
    pub persistent: bool,
    /// Which properties it has besides its id.
    pub flavor: u8,
}

/// Longest body of a run.
pub const LENGTH_MAX: usize = 300 * 1024;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    (0..LENGTH_MAX / 8 + 1024).flat_map(|_| random.next().to_le_bytes()).collect()
});

/// Bodies of at least so many bytes begin with their message's number.
const NUMBERED: usize = 8;

impl Content {
    /// A length as they occur: mostly short, now and then one that fills a segment.
    pub fn length(random: &mut Random) -> usize {
        match random.weighted(&[10, 60, 15, 8, 4, 1]) {
            0 => 0,
            1 => random.between(1, 200) as usize,
            2 => random.between(200, 2_000) as usize,
            3 => random.between(2_000, 12_000) as usize,
            4 => random.between(12_000, 70_000) as usize,
            _ => random.between(60_000, LENGTH_MAX as u64) as usize,
        }
    }

    pub fn body(&self, id: Id, out: &mut Vec<u8>) {
        out.clear();
        if self.length >= NUMBERED {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&(self.length as u32).to_le_bytes());
        }
        out.extend_from_slice(self.noise(id));
    }

    fn noise(&self, id: Id) -> &'static [u8] {
        let begin = id as usize * 61 % 4096;
        let length = if self.length >= NUMBERED { self.length - NUMBERED } else { self.length };
        &NOISE[begin..begin + length]
    }

    pub fn route(&self) -> Vec<u8> {
        encode_route(EXCHANGES[self.address.exchange].name, self.address.routing_key())
    }

    /// Calls `with` with the properties, decoded and encoded.
    pub fn properties<R>(&self, id: Id, with: impl FnOnce(Properties<'_>, &[u8]) -> R) -> R {
        let (number, mut headers, mut encoded) = (id.to_be_bytes(), FieldTable::new(), Vec::new());
        let mut properties = Properties { message_id: Some(&number), ..Properties::EMPTY };
        properties.delivery_mode = if self.persistent { Some(2) } else { [None, Some(1)][self.flavor as usize % 2] };
        if self.flavor % 3 == 1 {
            properties.content_type = Some("application/octet-stream");
            properties.timestamp = Some(u64::from(id));
        }
        if self.flavor % 5 == 1 {
            headers.insert("x-tried", i64::from(id));
            headers.insert("note", "a header that is carried along");
            properties.headers = Some(headers.as_table());
        }
        properties.encode(&mut encoded);
        with(properties, &encoded)
    }

    /// Whether a message has everything that this one was published with.
    pub fn is(&self, id: Id, message: &Message<'_>) -> bool {
        let body = message.body;
        let numbered = body.len() >= NUMBERED;
        let right_number = || body[..4] == id.to_le_bytes() && body[4..8] == (self.length as u32).to_le_bytes();
        body.len() == self.length
            && (!numbered || right_number())
            && body[if numbered { NUMBERED } else { 0 }..] == *self.noise(id)
            && message.persistent == self.persistent
            && message.route == self.route().as_slice()
            && self.properties(id, |_, encoded| encoded == message.properties)
    }
}

/// The number of a message, by its properties.
pub fn id_of(message: &Message<'_>) -> Option<Id> {
    let properties = Properties::decode(message.properties).ok()?;
    Some(Id::from_be_bytes(properties.message_id?.try_into().ok()?))
}
