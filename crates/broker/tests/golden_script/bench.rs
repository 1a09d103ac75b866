//! A broker on a disk in memory, and beside it what its queues should hold.

use crate::contents::{Contents, Found, Kept};
use crate::disk::{Image, MemoryDisk};
use leveret_broker::message::{Message, encode_route};
use leveret_broker::{Broker, Channel, Environment, Limits, Publish, Published, Recovery, Session, Settle, Storage};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a segment: small, so that a small directory has many.
const SEGMENT: u32 = 32 * 1024;

/// Times in memory: so few that a few messages fill a file.
const NEAR_TIMES: usize = 4;

/// The log learns in steps of so many positions what may have been handed out.
const HANDED_OUT_STEP: u64 = 1024;

/// Milliseconds after which what waits in the queues of the script is ready again; nothing has expired then.
pub const RETRY: u64 = 3_700_000;

/// A broker without threads, with a connection to each virtual host.
pub struct Bench {
    pub broker: Broker,
    pub recovery: Recovery,
    disk: Arc<MemoryDisk>,
    /// Milliseconds since the start, and since 1970.
    clock: Arc<AtomicU64>,
    sides: BTreeMap<String, Side>,
    /// By virtual host and name.
    queues: BTreeMap<(String, String), Queue>,
}

/// A connection, and a channel for transactions.
pub struct Side {
    pub session: Session,
    pub channel: Channel,
    transactional: Channel,
}

/// What a queue should hold.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// The position that the next message gets.
    next: u64,
    /// The log says that lower positions may have been handed out.
    delivered: u64,
    entries: BTreeMap<u64, Entry>,
    /// Positions that were not handed out since the last start.
    fresh: BTreeSet<u64>,
    /// What is returned waits.
    retries: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u32,
    persistent: bool,
    returned: u64,
    /// Its delivery tag, while it is not settled.
    held: Option<u64>,
    waiting: bool,
}

/// A message as the log is to remember it: `to` names its queues.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    pub exchange: &'a str,
    pub key: &'a str,
    pub to: &'a [&'a str],
}

impl Bench {
    pub fn open(image: &Image) -> Bench {
        let disk = Arc::new(MemoryDisk::of(image));
        let mut storage = Storage::new(disk.clone());
        storage.segment_size = SEGMENT;
        storage.near_times = NEAR_TIMES;
        let clock = Arc::new(AtomicU64::new(0));
        let time = || {
            let clock = clock.clone();
            Box::new(move || clock.load(Ordering::Relaxed))
        };
        let environment = Environment { random: Box::new(|| 7), now: time(), elapsed: time(), ticks: true };
        let (broker, recovery) = Broker::recover(Limits::default(), environment, storage).expect("it can be opened");
        Bench { broker, recovery, disk, clock, sides: BTreeMap::new(), queues: BTreeMap::new() }
    }

    pub fn side(&mut self, vhost: &str) -> &mut Side {
        let broker = &self.broker;
        self.sides.entry(vhost.to_string()).or_insert_with(|| {
            let session = broker.open_session(broker.vhost(vhost).expect("it was created"));
            let mut transactional = Channel::new(2);
            transactional.select_transaction().expect("a new channel");
            Side { session, channel: Channel::new(1), transactional }
        })
    }

    fn queue(&mut self, vhost: &str, queue: &str) -> &mut Queue {
        self.queues.entry((vhost.to_string(), queue.to_string())).or_default()
    }

    /// A queue was declared; `retries` if what is returned to it waits.
    pub fn expect_queue(&mut self, vhost: &str, queue: &str, retries: bool) {
        self.queue(vhost, queue).retries = retries;
    }

    /// Lets so many milliseconds go by.
    pub fn advance(&self, by: u64) {
        self.clock.fetch_add(by, Ordering::Relaxed);
        while self.broker.tick() {}
    }

    /// Forgets a queue that is to be deleted.
    pub fn delete_queue(&mut self, vhost: &str, queue: &str) {
        self.queues.remove(&(vhost.to_string(), queue.to_string()));
        let side = self.side(vhost);
        side.channel.delete_queue(&mut side.session, queue, false, false).expect("it is there");
    }

    /// Forgets a virtual host that is to be deleted, with its queues.
    pub fn delete_vhost(&mut self, vhost: &str) {
        self.queues.retain(|(of, _), _| of != vhost);
        self.sides.remove(vhost);
        assert!(self.broker.delete_vhost(vhost), "it is there");
    }

    pub fn publish_raw(
        &mut self,
        vhost: &str,
        exchange: &str,
        key: &str,
        properties: Properties<'_>,
        encoded: &[u8],
        body: &[u8],
    ) {
        let (side, route) = (self.side(vhost), encode_route(exchange, key));
        let publish = Publish { route: &route, mandatory: false, properties, encoded, body };
        side.channel.publish(&mut side.session, &publish).expect("the exchange is there");
        side.session.flush();
    }

    /// Publishes messages at once.
    pub fn publish(&mut self, vhost: &str, sent: Sent<'_>, persistent: bool, numbers: std::ops::Range<u32>) {
        let (side, route) = (self.side(vhost), encode_route(sent.exchange, sent.key));
        for number in numbers.clone() {
            properties(number, persistent, headers(number).as_table(), |properties, encoded| {
                let body = body(number);
                let publish = Publish { route: &route, mandatory: false, properties, encoded, body: &body };
                let published = side.channel.publish(&mut side.session, &publish).expect("the exchange is there");
                assert_eq!(published, Published::Routed);
            });
        }
        side.session.flush();
        self.expect(vhost, sent.to, persistent, numbers);
    }

    fn expect(&mut self, vhost: &str, to: &[&str], persistent: bool, numbers: std::ops::Range<u32>) {
        for queue in to {
            let queue = self.queue(vhost, queue);
            for number in numbers.clone() {
                queue.entries.insert(queue.next, Entry { number, persistent, returned: 0, held: None, waiting: false });
                queue.fresh.insert(queue.next);
                queue.next += 1;
            }
        }
    }

    /// Takes messages from the front and leaves them unsettled.
    pub fn take(&mut self, vhost: &str, name: &str, count: usize) {
        for _ in 0..count {
            self.take_one(vhost, name);
        }
    }

    /// Delivery tag and position.
    fn take_one(&mut self, vhost: &str, name: &str) -> (u64, u64) {
        let side = self.side(vhost);
        let got = side.channel.get(&mut side.session, name, false).expect("it is there");
        let (delivery, tag, _) = got.expect("there is one more");
        let queue = self.queue(vhost, name);
        let ready = queue.entries.iter_mut().find(|(_, entry)| entry.held.is_none() && !entry.waiting);
        let (&position, entry) = ready.expect("there is one more");
        let message = delivery.block.at(delivery.offset).0;
        assert_eq!((number(&message), delivery.returned), (entry.number, entry.returned), "{name}");
        entry.held = Some(tag);
        queue.fresh.remove(&position);
        let upto = queue.fresh.first().copied().unwrap_or(queue.next);
        if upto > queue.delivered {
            queue.delivered = upto + HANDED_OUT_STEP;
        }
        (tag, position)
    }

    /// Settles messages that were taken.
    pub fn settle(&mut self, vhost: &str, name: &str, numbers: impl IntoIterator<Item = u32>, how: Settle) {
        for number in numbers {
            let queue = self.queue(vhost, name);
            let retries = queue.retries;
            let (&position, entry) =
                queue.entries.iter_mut().find(|(_, entry)| entry.number == number).expect("it is in the queue");
            let tag = entry.held.take().expect("it was taken");
            match how {
                Settle::Requeue | Settle::Fail => {
                    entry.returned += 1;
                    entry.waiting = retries;
                }
                Settle::Ack | Settle::Reject => drop(queue.entries.remove(&position)),
            }
            self.side(vhost).channel.settle(tag, false, how).expect("it was delivered");
        }
        self.side(vhost).channel.apply_settled();
    }

    /// Writes a transaction of which nothing is expected: of its second message, not all will be there.
    pub fn write_torn(&mut self) {
        for (queue, body) in [("plain", vec![7; 7]), ("gaps", vec![7; 3000])] {
            properties(0, true, Table::EMPTY, |properties, encoded| {
                let (side, route) = (self.side("/"), encode_route("", queue));
                let publish = Publish { route: &route, mandatory: false, properties, encoded, body: &body };
                side.transactional.publish(&mut side.session, &publish).expect("the queue is there");
            });
        }
        let side = self.side("/");
        assert!(!side.transactional.commit(&mut side.session, |_| ()).expect("a transaction"));
        self.broker.write_log();
    }

    pub fn purge(&mut self, vhost: &str, name: &str) {
        let side = self.side(vhost);
        let purged = side.channel.purge_queue(&mut side.session, name).expect("it is there");
        let queue = self.queue(vhost, name);
        let before = queue.entries.len();
        queue.entries.retain(|_, entry| entry.held.is_some());
        queue.fresh.clear();
        assert_eq!(purged as usize, before - queue.entries.len());
    }

    /// A transaction: takes and acks the first message of a queue, and publishes messages to others.
    pub fn transact(&mut self, vhost: &str, ack_first_of: &str, sent: &[(&str, u32)], commit: bool) {
        let side = self.side(vhost);
        std::mem::swap(&mut side.channel, &mut side.transactional);
        let (tag, position) = self.take_one(vhost, ack_first_of);
        let side = self.side(vhost);
        side.channel.settle(tag, false, Settle::Ack).expect("it was delivered");
        for (queue, number) in sent {
            let route = encode_route("", queue);
            properties(*number, true, headers(*number).as_table(), |properties, encoded| {
                let body = body(*number);
                let publish = Publish { route: &route, mandatory: false, properties, encoded, body: &body };
                side.channel.publish(&mut side.session, &publish).expect("a transaction");
            });
        }
        match commit {
            true => {
                let done = side.channel.commit(&mut side.session, |_| ()).expect("a transaction");
                assert!(!done, "it has to be durable first");
                self.broker.write_log();
                let side = self.side(vhost);
                assert!(side.channel.take_committed(&side.session), "everything is written");
                self.queue(vhost, ack_first_of).entries.remove(&position);
                sent.iter().for_each(|(queue, number)| self.expect(vhost, &[queue], true, *number..*number + 1));
            }
            false => side.channel.rollback().expect("a transaction"),
        }
        let side = self.side(vhost);
        std::mem::swap(&mut side.channel, &mut side.transactional);
    }

    /// All work behind the log, what is done only when nothing else is included.
    pub fn tend(&self) {
        for _ in 0..120 {
            while self.broker.write_log() | self.broker.tend() {}
        }
    }

    /// What is on the disk now.
    pub fn image(&self) -> Image {
        self.disk.image()
    }

    /// What a start would find if the process were killed now, everything being written.
    pub fn contents(&self) -> Found {
        let kept = |queue: &Queue| {
            let persistent = queue.entries.iter().filter(|(_, entry)| entry.persistent);
            let kept = persistent.map(|(&position, entry)| Kept {
                number: entry.number,
                redelivered: position < queue.delivered,
                returned: entry.returned,
                waiting: entry.waiting,
            });
            let (waiting, ready) = kept.partition::<Vec<_>, _>(|kept| kept.waiting);
            [ready, waiting].concat()
        };
        self.queues.iter().map(|(name, queue)| (name.clone(), kept(queue))).collect()
    }

    /// Writes what is pending, drops the broker with or without its consent, and opens the directory again.
    pub fn restart(self, clean: bool) -> Bench {
        while self.broker.write_log() {}
        if clean {
            self.broker.shut_down().expect("a healthy disk");
        }
        let (disk, mut queues) = (self.disk.clone(), self.queues.clone());
        drop(self);
        for queue in queues.values_mut() {
            queue.next = queue.next.max(queue.delivered);
            queue.entries.retain(|_, entry| entry.persistent);
            queue.entries.values_mut().for_each(|entry| entry.held = None);
            let ready = queue.entries.iter().filter(|(_, entry)| !entry.waiting);
            queue.fresh = ready.map(|(&position, _)| position).collect();
        }
        Bench { queues, ..Bench::open(&disk.image()) }
    }

    /// Everything in the queues that `expected` names, and when the time for that has come, what waits. It is handed out
    /// by that.
    pub fn look(&mut self, expected: &Contents) -> Found {
        let mut found = Found::new();
        for waiting in [false, true] {
            for (vhost, name) in expected.queues.keys() {
                let seen = self.empty(vhost, name, waiting);
                found.entry((vhost.clone(), name.clone())).or_default().extend(seen);
            }
            self.advance(RETRY);
        }
        found
    }

    /// Takes all that is ready in a queue.
    fn empty(&mut self, vhost: &str, name: &str, waiting: bool) -> Vec<Kept> {
        let (side, mut seen) = (self.side(vhost), Vec::new());
        while let Some((delivery, ..)) =
            side.channel.get(&mut side.session, name, false).unwrap_or_else(|error| panic!("{name}: {error}"))
        {
            let number = number(&delivery.block.at(delivery.offset).0);
            seen.push(Kept { number, redelivered: delivery.redelivered, returned: delivery.returned, waiting });
        }
        seen
    }

    /// How many messages expire in so many milliseconds, of those that were taken and are given back.
    pub fn expired(&mut self, vhost: &str, name: &str, after: u64) -> u64 {
        let side = self.side(vhost);
        side.channel.settle(0, true, Settle::Requeue).expect("some were taken");
        side.channel.apply_settled();
        let ready = |side: &mut Side| side.channel.check_queue(&mut side.session, name).expect("it is there").ready;
        let before = ready(side);
        self.advance(after);
        before - ready(self.side(vhost))
    }
}

/// The body of a message: it says which it is, again and again. Some are large.
pub fn body(number: u32) -> Vec<u8> {
    let words = match number % 100 {
        77 => 33_000,
        88 => 900,
        _ => 5 + number as usize * 7 % 40,
    };
    number.to_le_bytes().repeat(words)
}

/// Some messages have headers, and some are numbered by a producer.
pub fn headers(number: u32) -> FieldTable {
    let (none, text) = (FieldTable::default(), number.to_string());
    match number {
        900..1000 => {
            none.with("x-producer", "p").with("x-producer-epoch", 2).with("x-producer-sequence", number as i32)
        }
        _ if number.is_multiple_of(5) => none.with("number", text.as_str()).with("kept", number as i32),
        _ => none,
    }
}

/// The properties of a message, decoded and encoded; they say which it is, too.
pub fn properties(number: u32, persistent: bool, headers: Table<'_>, each: impl FnOnce(Properties<'_>, &[u8])) {
    let id = number.to_be_bytes();
    let properties = Properties {
        content_type: Some("application/octet-stream"),
        headers: Some(headers).filter(|headers| !headers.is_empty()),
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        message_id: Some(&id),
        timestamp: Some(1_000_000_000 + u64::from(number)),
        ..Properties::default()
    };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    each(properties, &encoded);
}

/// Which message it is. Panics if any byte of body and properties is another.
fn number(message: &Message<'_>) -> u32 {
    let number = u32::from_le_bytes(message.body.get(..4).expect("a number").try_into().expect("4 bytes"));
    assert!(message.body == body(number), "what is delivered as message {number} is something else");
    properties(number, message.persistent, headers(number).as_table(), |_, encoded| {
        assert!(message.properties == encoded, "message {number} has other properties");
    });
    number
}
