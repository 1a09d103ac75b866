//! A broker on a disk in memory, and a directory that it has filled with everything that there is.

use crate::disk::{Image, MemoryDisk};
use leveret_broker::message::encode_route;
use leveret_broker::{
    Broker, Channel, Environment, Limits, OpenError, Publish, QueueDeclare, Recovery, Session, Settle, Storage,
};
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A broker without threads, and a connection to it.
pub struct Bench {
    pub broker: Broker,
    pub session: Session,
    pub channel: Channel,
    pub recovery: Recovery,
    pub disk: Arc<MemoryDisk>,
}

/// Of each queue, the numbers of the messages in it.
pub type Expected = BTreeMap<String, Vec<u32>>;

impl Bench {
    pub fn open(disk: MemoryDisk, accept_loss: bool) -> Result<Bench, OpenError> {
        let disk = Arc::new(disk);
        let mut storage = Storage::new(disk.clone());
        (storage.segment_size, storage.accept_loss) = (64 * 1024, accept_loss);
        let environment =
            Environment { random: Box::new(|| 7), now: Box::new(|| 0), elapsed: Box::new(|| 0), ticks: true };
        let (broker, recovery) = Broker::recover(Limits::default(), environment, storage)?;
        let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
        Ok(Bench { broker, session, channel: Channel::new(1), recovery, disk })
    }

    pub fn declare(&mut self, name: &str) {
        let declare =
            QueueDeclare { name, durable: true, exclusive: false, auto_delete: false, arguments: Table::EMPTY };
        self.channel.declare_queue(&mut self.session, declare).expect("a new queue");
    }

    pub fn bind(&mut self, queue: &str) {
        self.broker
            .vhost("/")
            .expect("the default virtual host")
            .bind_queue(queue, "amq.fanout", "", Table::EMPTY, self.session.id())
            .expect("both are there");
    }

    /// Publishes; an error if the queue is closed.
    pub fn publish(&mut self, exchange: &str, key: &str, number: u32) -> leveret_broker::Result<()> {
        let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let (route, body) = (encode_route(exchange, key), body(number));
        let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body: &body };
        self.channel.publish(&mut self.session, &publish)?;
        self.session.flush();
        Ok(())
    }

    /// Publishes to several queues at once; returns when it is committed.
    pub fn commit(&mut self, messages: &[(&str, u32)]) {
        let mut channel = Channel::new(2);
        channel.select_transaction().expect("a new channel");
        std::mem::swap(&mut self.channel, &mut channel);
        messages.iter().for_each(|(queue, number)| self.publish("", queue, *number).expect("nothing is damaged"));
        if !self.channel.commit(&mut self.session, |_| ()).expect("a transaction") {
            self.broker.write_log();
            assert!(self.channel.take_committed(&self.session), "everything is written");
        }
        std::mem::swap(&mut self.channel, &mut channel);
    }

    /// Takes and acks the messages of a queue; `keep` says which stay. The numbers of all, in order; an error when the
    /// queue is closed on the way.
    pub fn drain(&mut self, queue: &str, keep: impl Fn(usize) -> bool) -> (Vec<u32>, Option<leveret_broker::Error>) {
        let (mut seen, mut kept) = (Vec::new(), Vec::new());
        let error = loop {
            match self.channel.get(&mut self.session, queue, false) {
                Ok(Some((delivery, tag, _))) => {
                    seen.push(number(delivery.block.at(delivery.offset).0.body));
                    match keep(seen.len() - 1) {
                        true => kept.push(tag),
                        false => self.channel.settle(tag, false, Settle::Ack).expect("it was delivered"),
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        for tag in kept {
            self.channel.settle(tag, false, Settle::Requeue).expect("it was delivered");
        }
        self.channel.apply_settled();
        (seen, error)
    }

    /// All work behind the log, what is done only when nothing else is included.
    pub fn tend(&self) {
        for _ in 0..120 {
            while self.broker.write_log() | self.broker.tend() {}
        }
    }

    /// As after a killed process.
    pub fn kill(self) -> Image {
        self.broker.write_log();
        let disk = self.disk.clone();
        drop(self);
        disk.image()
    }
}

/// The body of a message: it says which it is, again and again. Some are large.
pub fn body(number: u32) -> Vec<u8> {
    let words = if number % 100 == 77 { 50_000 } else { 20 + number as usize % 300 };
    number.to_le_bytes().repeat(words)
}

/// Which message it is. Panics if it is none.
fn number(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes.get(..4).expect("a number").try_into().expect("4 bytes"));
    assert!(bytes == body(number), "what is delivered as message {number} is something else");
    number
}

/// Fills a directory: adopted and merged files, segments to be replayed, two checkpoints, large messages, messages of
/// several queues, acknowledgements, spare files.
pub fn build(seed: u32) -> (Image, Expected) {
    let mut bench = Bench::open(MemoryDisk::default(), false).expect("a new directory");
    let queues = ["plain", "acked", "fan-1", "fan-2", "fan-3", "idle"];
    queues.iter().for_each(|name| bench.declare(name));
    queues[2..5].iter().for_each(|name| bench.bind(name));
    let mut expected = Expected::new();
    let mut next = seed * 10_000;
    for round in 0..6 {
        for turn in 0..80 {
            let (exchange, key) = if turn % 3 == 0 { ("amq.fanout", "") } else { ("", queues[turn % 2]) };
            bench.publish(exchange, key, next).expect("nothing is damaged");
            let to = if turn % 3 == 0 { &queues[2..5] } else { std::slice::from_ref(&queues[turn % 2]) };
            to.iter().for_each(|queue| expected.entry(queue.to_string()).or_default().push(next));
            next += 1;
            if turn % 4 == 0 {
                bench.broker.write_log();
            }
            if turn % 16 == 0 {
                bench.broker.tend();
            }
        }
        let together: Vec<_> = queues.iter().take(5).zip(next..).map(|(queue, number)| (*queue, number)).collect();
        bench.commit(&together);
        together.iter().for_each(|(queue, number)| expected.entry(queue.to_string()).or_default().push(*number));
        next += 5;
        if round == 0 {
            bench.publish("", "idle", next).expect("nothing is damaged");
            expected.insert("idle".to_string(), vec![next]);
            next += 1;
        }
        // Of one queue nearly everything goes, of one every second message, of the others little.
        for (queue, every) in [("acked", 10), ("plain", 2), ("fan-1", 3)] {
            if round % 2 == 1 {
                let (seen, error) = bench.drain(queue, |index| index % every == 0);
                assert_eq!((Some(&seen), error), (expected.get(queue), None), "nothing is damaged");
                expected.insert(queue.to_string(), seen.into_iter().step_by(every).collect());
            }
        }
        if round < 5 {
            bench.tend();
        }
    }
    // Also spare files, and what says that all of it is durable but the last message.
    for _ in 0..8 {
        bench.broker.write_log();
        bench.broker.tend();
    }
    bench.publish("", "plain", next).expect("nothing is damaged");
    expected.entry("plain".to_string()).or_default().push(next);
    (bench.kill(), expected)
}
