//! What is published: every message different, and each recognizable byte for byte.

use crate::history::{History, Reason};
use crate::random::Random;
use leveret_broker::message::{Message, encode_route};
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;
use std::rc::Rc;
use std::sync::LazyLock;

/// Number of a message, given once in a run. A copy with another history has another one.
pub type Id = u32;

/// The last one is where messages wait for the exchange that delays.
pub const QUEUES: [&str; 6] = ["q0", "q1", "q2", "q3", "q4", "amq.delayed.later"];
pub const DELAY_QUEUE: usize = 5;

/// An exchange that runs use.
pub struct ExchangeName {
    pub name: &'static str,
    pub kind: &'static str,
    pub durable: bool,
    /// Always there.
    pub predeclared: bool,
}

/// The exchange that delays.
pub const LATER: usize = 5;
/// The exchange for dead letters.
pub const DEAD: usize = 6;

pub const EXCHANGES: [ExchangeName; 7] = [
    ExchangeName { name: "", kind: "direct", durable: true, predeclared: true },
    ExchangeName { name: "fan", kind: "fanout", durable: true, predeclared: false },
    ExchangeName { name: "topic", kind: "topic", durable: true, predeclared: false },
    ExchangeName { name: "amq.direct", kind: "direct", durable: true, predeclared: true },
    ExchangeName { name: "passing", kind: "fanout", durable: false, predeclared: false },
    ExchangeName { name: "later", kind: "x-delayed-message", durable: true, predeclared: false },
    ExchangeName { name: "dead", kind: "fanout", durable: true, predeclared: false },
];

/// Keys of bindings of one exchange that looks at keys.
const KEYS: usize = 3;

/// Keys of bindings of an exchange.
pub fn keys(exchange: usize) -> usize {
    if matches!(exchange, 2 | 3) { KEYS } else { 1 }
}

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
            1 | 4.. => "",
            2 => ["k0.x", "k1.x", "k2.x"][self.key],
            3 => ["k0", "k1", "k2"][self.key],
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
        (1..EXCHANGES.len()).flat_map(|exchange| (0..keys(exchange)).map(move |key| Address { exchange, key }))
    }
}

/// A message as it was published, or as it became on its way.
#[derive(Clone, Debug)]
pub struct Content {
    /// The exchange that it was sent to last.
    pub exchange: usize,
    pub key: &'static str,
    pub length: usize,
    pub persistent: bool,
    /// Which properties it has besides its id, and its group.
    pub flavor: u8,
    /// It expires after so many milliseconds.
    pub life: Option<u32>,
    /// An exchange that delays keeps it for so many milliseconds.
    pub delay: Option<u32>,
    /// What was published, and what became of it.
    pub past: Option<(Id, Rc<History>)>,
}

/// Longest body of a run.
pub const LENGTH_MAX: usize = 300 * 1024;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    (0..LENGTH_MAX / 8 + 1024).flat_map(|_| random.next().to_le_bytes()).collect()
});

/// The header whose value is a message's group.
pub const GROUP: &str = "group";

/// Groups have the numbers from 1 on.
pub const GROUPS: u8 = 3;

/// Flavors of messages in no group; as many are of each group.
pub const FLAVORS: u8 = 30;

/// Bodies of at least so many bytes begin with their message's number.
const NUMBERED: usize = 8;

impl Content {
    pub fn new(address: Address, length: usize, persistent: bool, flavor: u8) -> Content {
        let (exchange, key) = (address.exchange, address.routing_key());
        Content { exchange, key, length, persistent, flavor, life: None, delay: None, past: None }
    }

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

    /// Its group in queues that have some.
    pub fn group(&self) -> Option<u8> {
        Some(self.flavor / FLAVORS).filter(|group| *group > 0)
    }

    /// It has a header `note`.
    pub fn has_note(&self) -> bool {
        self.flavor % 5 == 1
    }

    /// It has a content type.
    pub fn has_type(&self) -> bool {
        self.flavor % 3 == 1
    }

    /// The number under which it was published; `id` is its own.
    pub fn origin(&self, id: Id) -> Id {
        self.past.as_ref().map_or(id, |(origin, _)| *origin)
    }

    pub fn history(&self) -> History {
        self.past.as_ref().map(|(_, history)| History::clone(history)).unwrap_or_default()
    }

    pub fn has_waited(&self) -> bool {
        self.past.as_ref().is_some_and(|(_, history)| history.waited)
    }

    /// What becomes of it when it dies; `to` is where the letter goes.
    pub fn letter(&self, id: Id, queue: usize, reason: Reason, to: (usize, Option<&'static str>)) -> Content {
        let past = Some((self.origin(id), Rc::new(self.history().died(queue, reason))));
        Content { exchange: to.0, key: to.1.unwrap_or(self.key), life: None, past, ..self.clone() }
    }

    /// What becomes of it when it has waited.
    pub fn waited(&self, id: Id) -> Content {
        let past = Some((self.origin(id), Rc::new(History { waited: true, ..self.history() })));
        Content { past, ..self.clone() }
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
        encode_route(EXCHANGES[self.exchange].name, self.key)
    }

    /// Calls `with` with the properties with which it was published, decoded and encoded.
    pub fn properties<R>(&self, id: Id, with: impl FnOnce(Properties<'_>, &[u8]) -> R) -> R {
        let (number, mut headers, mut encoded) = (id.to_be_bytes(), FieldTable::new(), Vec::new());
        let life = self.life.map(|life| life.to_string());
        let mut properties = Properties { message_id: Some(&number), expiration: life.as_deref(), ..Properties::EMPTY };
        properties.delivery_mode = if self.persistent { Some(2) } else { [None, Some(1)][self.flavor as usize % 2] };
        if self.has_type() {
            properties.content_type = Some("application/octet-stream");
            properties.timestamp = Some(u64::from(id));
        }
        if self.has_note() {
            headers.insert("x-tried", i64::from(id));
            headers.insert("note", "a header that is carried along");
        }
        if let Some(delay) = self.delay {
            headers.insert("x-delay", delay as i32);
        }
        // A number and its digits are the same key.
        match self.group() {
            Some(group) if self.flavor.is_multiple_of(2) => headers.insert(GROUP, i64::from(group)),
            Some(group) => headers.insert(GROUP, group.to_string().as_str()),
            None => {}
        }
        properties.headers = (!headers.as_table().is_empty()).then(|| headers.as_table());
        properties.encode(&mut encoded);
        with(properties, &encoded)
    }

    /// Whether a message has everything that this one was published with, and what was added since.
    pub fn is(&self, id: Id, message: &Message<'_>) -> bool {
        let (body, origin) = (message.body, self.origin(id));
        let numbered = body.len() >= NUMBERED;
        let right_number = || body[..4] == origin.to_le_bytes() && body[4..8] == (self.length as u32).to_le_bytes();
        body.len() == self.length
            && (!numbered || right_number())
            && body[if numbered { NUMBERED } else { 0 }..] == *self.noise(origin)
            && message.persistent == self.persistent
            && message.route == self.route().as_slice()
            && self.properties(origin, |published, encoded| match &self.past {
                None => encoded == message.properties,
                Some((_, history)) => self.became(&published, history, message),
            })
    }

    /// The properties of a message that was moved: nothing is lost of what was published, and the history is right.
    fn became(&self, published: &Properties<'_>, history: &History, message: &Message<'_>) -> bool {
        let Ok(found) = Properties::decode(message.properties) else { return false };
        let (now, before) = (found.headers.unwrap_or_default(), published.headers.unwrap_or_default());
        let kept =
            before.iter().filter(|(name, _)| *name != "x-delay").all(|(name, value)| now.get(name) == Some(value));
        let delay = self.delay.map(|delay| if history.waited { -i64::from(delay) } else { i64::from(delay) });
        let expected = Properties { headers: found.headers, ..*published };
        found == expected
            && kept
            && now.get("x-delay").and_then(|delay| delay.as_i64()) == delay
            && History::read(&found).as_ref() == Some(history)
    }
}

/// The number under which a message was published, and what it went through, by its properties.
pub fn past_of(message: &Message<'_>) -> Option<(Id, History)> {
    let properties = Properties::decode(message.properties).ok()?;
    let origin = Id::from_be_bytes(properties.message_id?.try_into().ok()?);
    Some((origin, History::read(&properties)?))
}
