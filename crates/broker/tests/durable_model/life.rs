//! A broker from its start to its end, and a connection to it with three channels: plain, confirming, transactional.

use crate::disk::{Image, MemoryDisk};
use crate::state::{Id, Seen};
use leveret_broker::message::encode_route;
use leveret_broker::{
    Broker, Browse, Channel, Consume, Delivery, Environment, Event, Limits, MessageState, OpenError, Publish,
    Published, QueueDeclare, QueueInfo, Recovery, Session, Storage,
};
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;
use std::sync::Arc;

/// The last one is not durable.
pub const QUEUES: [&str; 4] = ["a", "b", "c", "passing"];

/// Exchange, key, and the queues behind them.
pub const ROUTES: [(&str, &str, &[usize]); 7] = [
    ("", "a", &[0]),
    ("", "b", &[1]),
    ("", "c", &[2]),
    ("", "passing", &[3]),
    ("amq.fanout", "", &[0, 1]),
    ("amq.direct", "all", &[0, 1, 2, 3]),
    ("amq.direct", "some", &[2, 3]),
];

/// Its messages tell when the log was written.
const PROBES: &str = "probes";

pub const PLAIN: usize = 0;
pub const CONFIRM: usize = 1;
pub const TRANSACTION: usize = 2;

pub struct Life {
    pub broker: Broker,
    pub recovery: Recovery,
    pub session: Session,
    pub channels: [Channel; 3],
    /// For each queue, the consumer's number and tag; they are on the plain channel.
    pub consumers: [Option<(u32, Arc<str>)>; QUEUES.len()],
    next_consumer: u32,
    /// A connection of its own: one that has published a large message waits longer.
    prober: (Session, Channel),
    disk: Arc<MemoryDisk>,
}

impl Life {
    pub fn begin(image: &Image) -> Life {
        let disk = Arc::new(MemoryDisk::of(image));
        let (broker, recovery) = open(&disk).expect("it can be opened");
        let (mut session, channels) = connect(&broker);
        let mut prober = (broker.open_session(session.vhost().clone()), Channel::new(1));
        prober.1.select_confirm().expect("a new channel");
        for (name, durable) in QUEUES.iter().map(|name| (*name, *name != "passing")).chain([(PROBES, true)]) {
            let declare = QueueDeclare { name, durable, exclusive: false, auto_delete: false, arguments: Table::EMPTY };
            prober.1.declare_queue(&mut session, declare).expect("as it was declared before");
        }
        for (exchange, key, queues) in ROUTES.iter().filter(|(exchange, ..)| !exchange.is_empty()) {
            for queue in *queues {
                let vhost = session.vhost();
                vhost.bind_queue(QUEUES[*queue], exchange, key, Table::EMPTY, session.id()).expect("both are there");
            }
        }
        let (consumers, next_consumer) = (Default::default(), 0);
        Life { broker, recovery, session, channels, consumers, next_consumer, prober, disk }
    }

    /// A start, and then the work behind the log, that is killed after so many writes: what it leaves.
    pub fn kill_after(image: &Image, writes: i64) -> Image {
        let disk = Arc::new(MemoryDisk::failing(image, writes));
        match open(&disk) {
            // More than what it waits for before a checkpoint that nothing urges it to write.
            Ok((broker, _)) => (0..120).for_each(|_| _ = broker.tend()),
            Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error}"),
        }
        disk.image()
    }

    /// Another connection; the one before ends in good order.
    pub fn reconnect(&mut self) {
        let (session, channels) = connect(&self.broker);
        let before = std::mem::replace(&mut self.session, session);
        before.close(std::mem::replace(&mut self.channels, channels).into_iter());
        (self.consumers, self.next_consumer) = (Default::default(), 0);
    }

    pub fn publish(&mut self, channel: usize, route: usize, id: Id, size: usize, persistent: bool) {
        let (exchange, key, _) = ROUTES[route];
        let properties = Properties { delivery_mode: persistent.then_some(2), ..Properties::default() };
        let (route, body, mut encoded) = (encode_route(exchange, key), body(id, size), Vec::new());
        properties.encode(&mut encoded);
        let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body: &body };
        let published = self.channels[channel].publish(&mut self.session, &publish).expect("the exchange is there");
        assert_eq!(published, Published::Routed);
    }

    /// Takes a message with basic.get: its tag, and what it is.
    pub fn get(&mut self, channel: usize, queue: usize, no_ack: bool) -> Option<(u64, Seen)> {
        let got = self.channels[channel].get(&mut self.session, QUEUES[queue], no_ack).expect("the queue is there");
        got.map(|(delivery, tag, _)| (tag, seen(&delivery, delivery.offset)))
    }

    /// Starts a consumer.
    pub fn consume(&mut self, queue: usize, prefetch: u16) {
        self.channels[PLAIN].qos(&self.session, prefetch, false);
        let (queue_name, arguments) = (QUEUES[queue], Table::EMPTY);
        let consume = Consume { queue: queue_name, tag: queue_name, no_ack: false, exclusive: false, arguments };
        let tag = self.channels[PLAIN].consume(&mut self.session, consume).expect("the queue is there");
        self.consumers[queue] = Some((self.next_consumer, tag));
        self.next_consumer += 1;
    }

    pub fn cancel(&mut self, queue: usize) {
        if let Some((_, tag)) = self.consumers[queue].take() {
            self.channels[PLAIN].cancel(&mut self.session, &tag);
        }
    }

    /// Takes what consumers were granted: queue, tag, and what it is.
    pub fn pull(&mut self, max_bytes: usize) -> Vec<(usize, u64, Seen)> {
        let (mut events, mut all) = (Vec::new(), Vec::new());
        self.session.mailbox().take(&mut events);
        for event in events {
            let Event::Ready { consumer, .. } = event else { continue };
            let number = |(number, _): &(u32, Arc<str>)| *number == consumer;
            let Some(queue) = self.consumers.iter().position(|it| it.as_ref().is_some_and(number)) else { continue };
            loop {
                let mut out = Vec::new();
                let pulled = self.channels[PLAIN].pull(&self.session, consumer, max_bytes, &mut out);
                let pulled = pulled.expect("it was not cancelled");
                let mut tag = pulled.first_tag;
                for delivery in &out {
                    let mut at = delivery.offset;
                    for _ in 0..delivery.count {
                        all.push((queue, tag, seen(delivery, at)));
                        at = delivery.block.skip(at, 1);
                        tag += 1;
                    }
                }
                if !pulled.more {
                    break;
                }
            }
        }
        all
    }

    pub fn ready(&self, queue: usize) -> u64 {
        self.session.vhost().queue_status(QUEUES[queue], self.session.id()).expect("the queue is there").ready
    }

    /// Looks at all messages of a queue, in pages, without taking them: whether they are ready, and what they are.
    pub fn browse(&self, queue: usize, page: usize) -> Vec<(bool, Seen)> {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let browse = Browse { from: at, count: page, max_body: usize::MAX, ..Browse::default() };
            let browsed = self.session.vhost().browse(QUEUES[queue], &browse).expect("it can be read");
            found.extend(browsed.messages.iter().map(|message| {
                let seen = Seen { redelivered: message.redelivered, ..of_body(&message.body, message.returned) };
                (message.state == MessageState::Ready, seen)
            }));
            from = browsed.next;
        }
        found
    }

    /// What the broker tells of a queue.
    pub fn info(&self, queue: usize) -> QueueInfo {
        self.session.vhost().queue_info(QUEUES[queue]).expect("the queue is there")
    }

    /// A step of the work behind the log. True if it wrote the log: then everything before is written.
    pub fn tend(&mut self) -> bool {
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
        let (route, mut encoded) = (encode_route("", PROBES), Vec::new());
        properties.encode(&mut encoded);
        let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body: &[] };
        let (session, channel) = &mut self.prober;
        // Earlier ones were written since, or will be together with this one.
        channel.take_confirm(session);
        channel.publish(session, &publish).expect("the queue is there");
        session.flush();
        self.broker.tend();
        channel.take_confirm(session).is_some()
    }

    /// What a process that is killed now leaves.
    pub fn image(&self) -> Image {
        self.disk.image()
    }

    /// Takes everything: what it has can be seen in no other way.
    pub fn drain(mut self) -> Vec<Vec<Seen>> {
        let all = |queue| std::iter::from_fn(|| self.get(PLAIN, queue, false).map(|(_, seen)| seen)).collect();
        (0..QUEUES.len()).map(all).collect()
    }
}

fn open(disk: &Arc<MemoryDisk>) -> Result<(Broker, Recovery), OpenError> {
    let storage = Storage { segment_size: 64 * 1024, ..Storage::new(disk.clone()) };
    let environment = Environment { random: Box::new(|| 7), now: Box::new(|| 0), elapsed: Box::new(|| 0), ticks: true };
    Broker::recover(Limits::default(), environment, storage)
}

fn connect(broker: &Broker) -> (Session, [Channel; 3]) {
    let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
    let mut channels = [1, 2, 3].map(Channel::new);
    channels[CONFIRM].select_confirm().expect("a new channel");
    channels[TRANSACTION].select_transaction().expect("a new channel");
    (session, channels)
}

/// A body says which message it is, and how long.
fn body(id: Id, size: usize) -> Vec<u8> {
    let mut body = vec![id as u8; size];
    body[..4].copy_from_slice(&id.to_le_bytes());
    body[4..8].copy_from_slice(&(size as u32).to_le_bytes());
    body
}

fn seen(delivery: &Delivery, offset: usize) -> Seen {
    let seen = of_body(delivery.block.at(offset).0.body, delivery.returned);
    Seen { redelivered: delivery.redelivered, ..seen }
}

fn of_body(bytes: &[u8], returned: u64) -> Seen {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let id = number(0);
    assert!(bytes == body(id, number(4) as usize), "message {id} is something else");
    Seen { id, redelivered: false, returned }
}
