//! Duplicates on a disk that fails: whatever happens, what is sent again is there once, and what was confirmed is there.

use crate::coverage::{Fault, Phase};
use crate::disk::{Comeback, SimDisk};
use crate::random::Random;
use leveret_broker::message::encode_route;
use leveret_broker::table::{FieldTable, Table};
use leveret_broker::{
    Broker, Channel, Environment, ExchangeDeclare, Limits, Properties, Publish, QueueDeclare, Session, Settle, Storage,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Different messages, each of which is sent again and again.
const IDS: u64 = 120;

/// A queue that leaves duplicates out; two behind an exchange that does; one for a producer's messages.
const QUEUES: [&str; 4] = ["once", "left", "right", "numbered"];

/// To which of these a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Once,
    Exchange,
    Numbered,
}

struct World {
    disk: SimDisk,
    random: Random,
    /// Confirmed, in any life.
    confirmed: BTreeSet<(To, u64)>,
    /// Taken out of the first queue, and maybe back again.
    acked: BTreeSet<u64>,
    /// The producer's next number, and the first that is not confirmed.
    next: u64,
    unconfirmed: u64,
}

struct Life {
    broker: Broker,
    session: Session,
    channel: Channel,
    sent: VecDeque<(To, u64)>,
    confirmed: u64,
    transactional: Channel,
    committing: Vec<(To, u64)>,
}

impl Life {
    fn begin(disk: &SimDisk) -> Option<Life> {
        let environment =
            Environment { random: Box::new(|| 7), now: Box::new(|| 1000), elapsed: Box::new(|| 0), ticks: true };
        let storage = Storage { segment_size: 128 * 1024, ..Storage::new(Arc::new(disk.clone())) };
        let broker = Broker::recover(Limits::default(), environment, storage).ok()?.0;
        let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
        let (mut channel, mut transactional) = (Channel::new(1), Channel::new(2));
        channel.select_confirm().expect("a new channel");
        transactional.select_transaction().expect("a new channel");
        let (sent, committing) = (VecDeque::new(), Vec::new());
        let mut life = Life { broker, session, channel, sent, confirmed: 0, transactional, committing };
        life.declare();
        Some(life)
    }

    fn declare(&mut self) {
        let once = FieldTable::new().with("x-message-deduplication", true);
        for name in QUEUES {
            let arguments = if name == "once" { once.as_table() } else { Table::EMPTY };
            let declare = QueueDeclare { name, durable: true, exclusive: false, auto_delete: false, arguments };
            self.channel.declare_queue(&mut self.session, declare).expect("the same each time");
        }
        let (vhost, id) = (self.session.vhost().clone(), self.session.id());
        let (name, arguments) = ("fan", once.as_table());
        let (durable, auto_delete, internal, kind) = (true, false, false, "fanout");
        vhost
            .declare_exchange(ExchangeDeclare { name, kind, durable, auto_delete, internal, arguments })
            .expect("the same each time");
        for queue in ["left", "right"] {
            vhost.bind_queue(queue, "fan", "", Table::EMPTY, id).expect("both are there");
        }
    }

    /// Publishes without a flush.
    fn publish(&mut self, to: To, id: u64, size: usize, in_transaction: bool) {
        let (exchange, key) = match to {
            To::Once => ("", "once"),
            To::Exchange => ("fan", ""),
            To::Numbered => ("", "numbered"),
        };
        let (text, mut body) = (id.to_string(), id.to_le_bytes().to_vec());
        body.resize(8 + size, 1);
        let headers = FieldTable::new().with("x-producer", "p").with("x-producer-sequence", id as i64);
        let headers = (to == To::Numbered).then_some(headers.as_table());
        let message_id = (to != To::Numbered).then_some(text.as_bytes());
        let properties = Properties { headers, message_id, delivery_mode: Some(2), ..Properties::EMPTY };
        let (route, mut encoded) = (encode_route(exchange, key), Vec::new());
        properties.encode(&mut encoded);
        let publish = Publish { route: &route, mandatory: true, properties, encoded: &encoded, body: &body };
        let channel = if in_transaction { &mut self.transactional } else { &mut self.channel };
        channel.publish(&mut self.session, &publish).expect("everything is declared");
        match in_transaction {
            true => self.committing.push((to, id)),
            false => self.sent.push_back((to, id)),
        }
    }

    /// The numbers in a queue, which stay there.
    fn look(&mut self, queue: &str) -> BTreeMap<u64, u32> {
        let (mut found, mut channel) = (BTreeMap::new(), Channel::new(3));
        while let Some((delivery, ..)) = channel.get(&mut self.session, queue, false).expect("it is there") {
            let body = delivery.block.at(delivery.offset).0.body;
            *found.entry(u64::from_le_bytes(body[..8].try_into().expect("eight bytes"))).or_default() += 1;
        }
        channel.close(&mut self.session);
        found
    }
}

impl World {
    fn step(&mut self, life: &mut Life) {
        let size = if self.random.chance(3) { 200_000 } else { self.random.index(300) };
        match self.random.weighted(&[40, 20, 20, 6, 10, 20, 8]) {
            0 => (0..self.random.below(20)).for_each(|_| life.publish(To::Once, self.random.below(IDS), size, false)),
            1 => {
                (0..self.random.below(5)).for_each(|_| life.publish(To::Exchange, self.random.below(IDS), size, false))
            }
            2 => {
                for _ in 0..self.random.below(5) {
                    life.publish(To::Numbered, self.next, size, false);
                    self.next += 1;
                }
            }
            3 if life.committing.is_empty() => {
                for to in [To::Once, To::Exchange, To::Once] {
                    life.publish(to, self.random.below(IDS), size, true);
                }
                if life.transactional.commit(&mut life.session, |_| ()).expect("nothing refuses it") {
                    self.confirmed.extend(life.committing.drain(..));
                }
            }
            4 => {
                // On a dead disk nothing can be read.
                while let Ok(Some((delivery, tag, _))) = life.channel.get(&mut life.session, "once", false) {
                    let body = delivery.block.at(delivery.offset).0.body;
                    self.acked.insert(u64::from_le_bytes(body[..8].try_into().expect("eight bytes")));
                    life.channel.settle(tag, false, Settle::Ack).expect("it was delivered");
                    if self.random.chance(20) {
                        break;
                    }
                }
                life.channel.apply_settled();
            }
            5 => drop(life.broker.write_log()),
            _ => drop(life.broker.tend()),
        }
        // Some of them with more behind them in the same run.
        if self.random.chance(70) {
            life.session.flush();
            self.take_confirms(life);
        }
    }

    fn take_confirms(&mut self, life: &mut Life) {
        if let Some((tag, _)) = life.channel.take_confirm(&life.session) {
            for (to, id) in life.sent.drain(..(tag - life.confirmed) as usize) {
                self.confirmed.insert((to, id));
                if to == To::Numbered {
                    self.unconfirmed = self.unconfirmed.max(id + 1);
                }
            }
            life.confirmed = tag;
        }
        if life.transactional.take_committed(&life.session) {
            self.confirmed.extend(life.committing.drain(..));
        }
    }

    /// What was confirmed is there, and nothing is twice.
    fn judge(&self, life: &mut Life, all: bool) {
        for queue in QUEUES {
            let found = life.look(queue);
            let (to, end) = match queue {
                "once" => (To::Once, IDS),
                "numbered" => (To::Numbered, self.next),
                _ => (To::Exchange, IDS),
            };
            for id in 0..end {
                let count = found.get(&id).copied().unwrap_or(0);
                assert!(count <= 1, "{queue} has {id} {count} times");
                let wanted = all || self.confirmed.contains(&(to, id));
                let excused = to == To::Once && self.acked.contains(&id);
                assert!(count == 1 || !wanted || excused, "{queue} does not have {id}");
            }
        }
    }

    /// The producer goes on from its first message that was not confirmed.
    fn resend_numbered(&self, life: &mut Life) {
        (self.unconfirmed..self.next).for_each(|id| life.publish(To::Numbered, id, 10, false));
    }

    fn run(&mut self, lives: u32) {
        for round in 0..lives {
            let mut life = loop {
                let opened = Life::begin(&self.disk);
                if self.disk.death().is_none() {
                    break opened.expect("nothing fails");
                }
                drop(opened);
                self.come_back();
            };
            self.disk.disarm();
            self.disk.enter(Phase::Serve);
            self.judge(&mut life, false);
            self.resend_numbered(&mut life);
            if round % 3 == 2 {
                for id in 0..IDS {
                    life.publish(To::Once, id, 10, false);
                    life.publish(To::Exchange, id, 10, false);
                }
                life.session.flush();
                self.judge(&mut life, true);
            }
            let end = self.disk.calls() + self.random.below(150);
            self.disk.die_at(end, if self.random.chance(50) { Fault::Kill } else { Fault::Power });
            for _ in 0..self.random.below(200) {
                self.step(&mut life);
                if self.disk.death().is_some() {
                    break;
                }
            }
            // The process is gone before the broker could write anything on its way out.
            self.disk.die(Fault::Kill);
            drop(life);
            self.come_back();
        }
    }

    fn come_back(&mut self) {
        let percent = [0, 20, 50, 80, 100];
        let how = match self.disk.death() == Some(Fault::Kill) && self.random.chance(60) {
            true => Comeback::Process,
            false => Comeback::Power { writes: self.random.pick(&percent), names: self.random.pick(&percent) },
        };
        self.disk.come_back(how);
        if self.random.chance(30) {
            let call = self.disk.calls() + self.random.below(60);
            self.disk.die_at(call, Fault::Kill);
        }
    }
}

#[test]
fn what_is_sent_again_is_there_once_whenever_the_broker_dies() {
    let number = |name, default| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (first, seeds): (u64, u64) = (number("LEVERET_DEDUP_FIRST", 0), number("LEVERET_DEDUP_SEEDS", 12));
    for seed in first..first + seeds {
        // Of the seed that fails, this is the last.
        println!("LEVERET_DEDUP_FIRST={seed}");
        let (confirmed, acked) = (BTreeSet::new(), BTreeSet::new());
        let (disk, random) = (SimDisk::new(seed), Random::new(seed ^ 0x64_6564_7570));
        World { disk, random, confirmed, acked, next: 0, unconfirmed: 0 }.run(12);
    }
}
