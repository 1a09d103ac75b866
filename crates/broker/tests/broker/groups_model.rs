//! Random operations on a queue with groups and filters, compared after each with a model too simple to be wrong.
//!
//! A body is the message's number, in order of position. Whoever takes must get the first message that it may take: one
//! that its filter matches, of no group or of one that nobody else holds and of which no message waits for its next
//! attempt.

use crate::client::Client;
use crate::script::{Clock, broker_at, open};
use leveret_broker::message::encode_route;
use leveret_broker::{Broker, Consume, Publish, QueueDeclare, Settle};
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CLIENTS: usize = 3;

/// Milliseconds before a message that came back is tried again.
const RETRY: u64 = 100;

/// What a consumer takes.
const FILTERS: [(&str, u8); 4] =
    [("", 0), ("attributes:a", 1), ("attributes:b", 2), ("attributes:a AND attributes:b", 3)];

#[derive(Clone, Debug)]
enum Step {
    Publish { client: usize, group: u8, marks: u8, life: Option<u64>, count: u64 },
    Consume { client: usize, prefetch: u16, no_ack: bool, filter: usize },
    Cancel { client: usize, pick: usize },
    Pull { client: usize, max_bytes: usize },
    Get { client: usize, no_ack: bool },
    Settle { client: usize, pick: usize, multiple: bool, how: Settle },
    Purge { client: usize },
    Reopen { client: usize },
    Advance { by: u64 },
    Restart,
    Quiet,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, pick) = (0..CLIENTS, any::<usize>());
    let how = prop_oneof![4 => Just(Settle::Ack), 1 => Just(Settle::Reject), 3 => Just(Settle::Requeue)];
    let life = prop::option::weighted(0.1, prop_oneof![Just(50u64), Just(150)]);
    let count = prop_oneof![8 => 1..6u64, 1 => 50..300u64];
    prop_oneof![
        10 => (client.clone(), 0..5u8, 0..4u8, life, count)
            .prop_map(|(client, group, marks, life, count)| Step::Publish { client, group, marks, life, count }),
        4 => (client.clone(), 0..6u16, prop::bool::weighted(0.2), 0..FILTERS.len())
            .prop_map(|(client, prefetch, no_ack, filter)| Step::Consume { client, prefetch, no_ack, filter }),
        1 => (client.clone(), pick).prop_map(|(client, pick)| Step::Cancel { client, pick }),
        8 => (client.clone(), prop_oneof![Just(1usize), Just(1 << 16)]).prop_map(|(client, max_bytes)| Step::Pull { client, max_bytes }),
        4 => (client.clone(), any::<bool>()).prop_map(|(client, no_ack)| Step::Get { client, no_ack }),
        10 => (client.clone(), pick, prop::bool::weighted(0.2), how)
            .prop_map(|(client, pick, multiple, how)| Step::Settle { client, pick, multiple, how }),
        1 => client.clone().prop_map(|client| Step::Purge { client }),
        1 => client.prop_map(|client| Step::Reopen { client }),
        3 => prop_oneof![Just(50u64), Just(100)].prop_map(|by| Step::Advance { by }),
        1 => Just(Step::Restart),
        2 => Just(Step::Quiet),
    ]
}

/// A client's life, and its consumer or `None` for its channel.
type Holder = (u64, Option<u32>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Ready,
    Held(Holder),
    Waits(u64),
}

struct Message {
    group: u8,
    marks: u8,
    due: Option<u64>,
    state: State,
    seen: bool,
}

struct Consumer {
    tag: Arc<str>,
    number: u32,
    prefetch: u16,
    no_ack: bool,
    filter: u8,
}

struct Side {
    client: Client,
    life: u64,
    consumers: Vec<Consumer>,
    next_consumer: u32,
    next_tag: u64,
    /// Message and consumer by tag.
    held: BTreeMap<u64, (u64, Option<u32>)>,
}

struct World {
    broker: Broker,
    clock: Arc<Clock>,
    directory: Option<PathBuf>,
    now: u64,
    /// Not gone.
    messages: BTreeMap<u64, Message>,
    next: u64,
    lives: u64,
    sides: Vec<Side>,
    restarted: bool,
    grouped: bool,
    /// How many messages of a group may be held.
    prefetch: u64,
    retries: bool,
    /// Bytes of a header that nobody asks for.
    ballast: usize,
}

static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

impl Side {
    fn new(broker: &Broker, life: u64) -> Side {
        let (consumers, held) = (Vec::new(), BTreeMap::new());
        Side { client: Client::new(broker), life, consumers, next_consumer: 0, next_tag: 1, held }
    }

    fn has_credit(&self, consumer: &Consumer) -> bool {
        let held = self.held.values().filter(|(_, by)| *by == Some(consumer.number)).count();
        consumer.no_ack || consumer.prefetch == 0 || held < usize::from(consumer.prefetch)
    }
}

impl World {
    fn new(durable: bool, grouped: bool, prefetch: Option<u64>, retries: bool) -> World {
        let clock = Arc::<Clock>::default();
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = || std::env::temp_dir().join(format!("leveret-groups-{}-{number}", std::process::id()));
        let directory = durable.then(path);
        let broker = match &directory {
            Some(path) => open(path, &clock),
            None => broker_at(&clock),
        };
        let (messages, sides) = (BTreeMap::new(), Vec::new());
        let mut world = World {
            broker,
            clock,
            directory,
            now: 0,
            messages,
            next: 0,
            lives: 0,
            sides,
            restarted: false,
            grouped,
            prefetch: prefetch.unwrap_or(u64::MAX),
            retries,
            ballast: 0,
        };
        world.connect();
        let mut arguments = FieldTable::new();
        if grouped {
            arguments.insert("x-group-header", "group");
            if let Some(prefetch) = prefetch {
                arguments.insert("x-group-prefetch", prefetch as i64);
            }
        }
        if retries {
            arguments.insert("x-delayed-retry-min", RETRY as i64);
            arguments.insert("x-delayed-retry-max", RETRY as i64);
        }
        let Client { session, channel, .. } = &mut world.sides[0].client;
        let declare =
            QueueDeclare { name: "q", durable, exclusive: false, auto_delete: false, arguments: arguments.as_table() };
        channel.declare_queue(session, declare).expect("it can be declared");
        world
    }

    fn connect(&mut self) {
        while self.sides.len() < CLIENTS {
            self.lives += 1;
            self.sides.push(Side::new(&self.broker, self.lives));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish { client, group, marks, life, count } => self.publish(client, group, marks, life, count),
            Step::Consume { client, prefetch, no_ack, filter } => self.consume(client, prefetch, no_ack, filter),
            Step::Cancel { client, pick } => {
                let side = &mut self.sides[client];
                if !side.consumers.is_empty() {
                    let consumer = side.consumers.remove(pick % side.consumers.len());
                    side.client.channel.cancel(&mut side.client.session, &consumer.tag);
                }
            }
            Step::Pull { client, max_bytes } => drop(self.pull(client, max_bytes)),
            Step::Get { client, no_ack } => self.get(client, no_ack),
            Step::Settle { client, pick, multiple, how } => self.settle(client, pick, multiple, how),
            Step::Purge { client } => {
                let Client { session, channel, .. } = &mut self.sides[client].client;
                let purged = channel.purge_queue(session, "q").expect("the queue is there");
                assert_eq!(purged, self.ready());
                self.messages.retain(|_, message| matches!(message.state, State::Held(_)));
            }
            Step::Reopen { client } => {
                self.lives += 1;
                let side = std::mem::replace(&mut self.sides[client], Side::new(&self.broker, self.lives));
                side.client.close();
                side.held.into_values().for_each(|(number, _)| self.come_back(number));
            }
            Step::Advance { by } => self.advance(by),
            Step::Restart => self.restart(),
            Step::Quiet => self.quiet(),
        }
        if self.directory.is_some() {
            while self.broker.write_log() {}
        }
        self.check_counts();
    }

    fn publish(&mut self, client: usize, group: u8, marks: u8, life: Option<u64>, count: u64) {
        let mut headers = FieldTable::new();
        for (name, is_set) in [("a", marks & 1 != 0), ("b", marks & 2 != 0)] {
            if is_set {
                headers.insert(name, true);
            }
        }
        if group > 0 {
            headers.insert("group", i64::from(group));
        }
        if self.ballast > 0 {
            headers.insert("ballast", "x".repeat(self.ballast).as_str());
        }
        let expiration = life.map(|life| life.to_string());
        let (expiration, delivery_mode) = (expiration.as_deref(), Some(2));
        let properties =
            Properties { headers: Some(headers.as_table()), expiration, delivery_mode, ..Properties::EMPTY };
        let (mut encoded, route) = (Vec::new(), encode_route("", "q"));
        properties.encode(&mut encoded);
        let Client { session, channel, .. } = &mut self.sides[client].client;
        for number in self.next..self.next + count {
            let body = &number.to_be_bytes();
            let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body };
            channel.publish(session, &publish).expect("the default exchange is there");
            let (due, group) = (life.map(|life| self.now + life), if self.grouped { group } else { 0 });
            self.messages.insert(number, Message { group, marks, due, state: State::Ready, seen: false });
        }
        session.flush();
        self.next += count;
    }

    fn consume(&mut self, client: usize, prefetch: u16, no_ack: bool, filter: usize) {
        let side = &mut self.sides[client];
        let (text, filter) = FILTERS[filter];
        let mut arguments = FieldTable::new();
        if !text.is_empty() {
            arguments.insert("x-filter", text);
        }
        let Client { session, channel, .. } = &mut side.client;
        channel.qos(session, prefetch, false);
        let consume = Consume { queue: "q", tag: "", no_ack, exclusive: false, arguments: arguments.as_table() };
        let tag = channel.consume(session, consume).expect("the queue is there");
        side.consumers.push(Consumer { tag, number: side.next_consumer, prefetch, no_ack, filter });
        side.next_consumer += 1;
    }

    /// The first message that one may take.
    fn first_for(&self, holder: Holder, filter: u8) -> Option<u64> {
        let (mut closed, mut held) = ([false; 256], [0; 256]);
        for message in self.messages.values().filter(|message| message.group > 0) {
            let group = message.group as usize;
            held[group] += u64::from(matches!(message.state, State::Held(_)));
            closed[group] |= match message.state {
                State::Ready => false,
                State::Held(by) => by != holder || held[group] >= self.prefetch,
                State::Waits(_) => true,
            };
        }
        let may = |message: &Message| {
            message.state == State::Ready && message.marks & filter == filter && !closed[message.group as usize]
        };
        self.messages.iter().find(|(_, message)| may(message)).map(|(number, _)| *number)
    }

    fn pull(&mut self, client: usize, max_bytes: usize) -> usize {
        let side = &mut self.sides[client];
        side.client.listen();
        let mut count = 0;
        for number in std::mem::take(&mut side.client.ready) {
            let mut received = Vec::new();
            self.sides[client].client.pull_one(number, max_bytes, &mut received);
            count += received.len();
            for message in received {
                self.receive(client, Some(number), message.tag, message.body, message.redelivered);
            }
        }
        count
    }

    fn receive(&mut self, client: usize, consumer: Option<u32>, tag: u64, number: u64, redelivered: bool) {
        let side = &self.sides[client];
        assert_eq!(tag, side.next_tag);
        let (filter, no_ack) = match consumer {
            None => (0, false),
            Some(by) => {
                let consumer = side.consumers.iter().find(|it| it.number == by).expect("it was not cancelled");
                assert!(side.has_credit(consumer), "it gets more than its prefetch");
                (consumer.filter, consumer.no_ack)
            }
        };
        let holder = (side.life, consumer);
        assert_eq!(Some(number), self.first_for(holder, filter), "the first that {holder:?} may take");
        let side = &mut self.sides[client];
        side.next_tag += 1;
        let message = self.messages.get_mut(&number).expect("it is ready");
        assert!(redelivered == message.seen || self.restarted, "the redelivered flag of {number}");
        message.seen = true;
        message.state = State::Held(holder);
        if no_ack {
            self.messages.remove(&number);
        } else {
            side.held.insert(tag, (number, consumer));
        }
    }

    fn get(&mut self, client: usize, no_ack: bool) {
        let side = &mut self.sides[client];
        let got = side.client.channel.get(&mut side.client.session, "q", no_ack).expect("the queue is there");
        let Some((delivery, tag, _)) = got else {
            assert_eq!(self.first_for((self.sides[client].life, None), 0), None, "a get found nothing");
            return;
        };
        let body = u64::from_be_bytes(delivery.block.at(delivery.offset).0.body.try_into().expect("8 bytes"));
        self.receive(client, None, tag, body, delivery.redelivered);
        if no_ack {
            self.sides[client].held.remove(&tag);
            self.messages.remove(&body);
        }
    }

    fn settle(&mut self, client: usize, pick: usize, multiple: bool, how: Settle) {
        let side = &mut self.sides[client];
        let Some(&tag) = side.held.keys().nth(pick % side.held.len().max(1)) else { return };
        side.client.settle(tag, multiple, how);
        let settled: BTreeMap<_, _> = match multiple {
            true => {
                let rest = side.held.split_off(&(tag + 1));
                std::mem::replace(&mut side.held, rest)
            }
            false => side.held.remove_entry(&tag).into_iter().collect(),
        };
        for (number, _) in settled.into_values() {
            match how {
                Settle::Requeue => self.come_back(number),
                _ => drop(self.messages.remove(&number)),
            }
        }
    }

    fn come_back(&mut self, number: u64) {
        let message = self.messages.get_mut(&number).expect("it was held");
        if message.due.is_some_and(|due| due <= self.now) {
            self.messages.remove(&number);
        } else {
            message.state = if self.retries { State::Waits(self.now + RETRY) } else { State::Ready };
        }
    }

    fn advance(&mut self, by: u64) {
        self.now += by;
        self.clock.advance(by);
        while self.broker.tick() {}
        let now = self.now;
        self.messages
            .retain(|_, message| matches!(message.state, State::Held(_)) || message.due.is_none_or(|due| due > now));
        for message in self.messages.values_mut() {
            if matches!(message.state, State::Waits(until) if until <= now) {
                message.state = State::Ready;
            }
        }
    }

    /// As after a killed process.
    fn restart(&mut self) {
        let Some(path) = self.directory.clone() else { return };
        self.sides.clear();
        self.broker = Broker::in_memory();
        self.broker = open(&path, &self.clock);
        self.connect();
        self.restarted = true;
        for message in self.messages.values_mut() {
            if matches!(message.state, State::Held(_)) {
                message.state = State::Ready;
            }
        }
        self.advance(0);
    }

    /// Pulls until nobody is told of anything more: then nothing may be ready that a consumer could take.
    fn quiet(&mut self) {
        for turn in 0.. {
            let count: usize = (0..CLIENTS).map(|client| self.pull(client, 1 << 16)).sum();
            self.sides.iter_mut().for_each(|side| side.client.listen());
            if count == 0 && self.sides.iter().all(|side| side.client.ready.is_empty()) {
                break;
            }
            assert!(turn < 10_000, "pulling does not come to an end");
        }
        for side in &self.sides {
            for consumer in side.consumers.iter().filter(|consumer| side.has_credit(consumer)) {
                let first = self.first_for((side.life, Some(consumer.number)), consumer.filter);
                assert_eq!(first, None, "a message waits, and a consumer too");
            }
        }
    }

    fn ready(&self) -> u64 {
        self.messages.values().filter(|message| message.state == State::Ready).count() as u64
    }

    fn check_counts(&self) {
        let side = &self.sides[0].client.session;
        let status = side.vhost().queue_status("q", side.id()).expect("the queue is there");
        assert_eq!(status.ready, self.ready(), "ready messages");
        let waiting = self.messages.values().filter(|message| matches!(message.state, State::Waits(_))).count();
        assert_eq!(status.waiting, waiting as u64, "waiting messages");
    }

    /// One consumer that takes anything gets all that is left.
    fn end(mut self) {
        (0..CLIENTS).for_each(|client| self.step(Step::Reopen { client }));
        self.advance(RETRY);
        self.consume(0, 0, true, 0);
        self.quiet();
        assert_eq!(self.messages.len(), 0, "messages are left");
        let Client { session, channel, .. } = &mut self.sides[0].client;
        channel.delete_queue(session, "q", false, false).expect("nothing is asked of it");
        // The log has some of its own.
        assert!(self.directory.is_some() || self.broker.memory_used() == 0, "memory of messages that are gone");
        self.sides.into_iter().for_each(|side| side.client.close());
        drop(self.broker);
        if let Some(path) = self.directory {
            std::fs::remove_dir_all(path).expect("it is ours");
        }
    }
}

fn check(mut world: World, steps: Vec<Step>) {
    for step in steps {
        world.step(step);
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_and_filters_behave_as_the_model(
        grouped in prop::bool::weighted(0.8), prefetch in prop::option::weighted(0.4, 1..4u64), retries: bool,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        check(World::new(false, grouped, prefetch, retries), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_do_on_disk_and_across_restarts(
        grouped in prop::bool::weighted(0.8), prefetch in prop::option::weighted(0.4, 1..4u64), retries: bool,
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        check(World::new(true, grouped, prefetch, retries), steps);
    }
}

#[test]
fn a_backlog_on_disk_is_sorted_without_being_in_memory() {
    const PIECE: u64 = 2000;
    let mut world = World::new(true, true, None, false);
    world.ballast = 4000;
    let publish = |group| Step::Publish { client: 0, group, marks: 0, life: None, count: PIECE };
    // 8 MB each.
    [1, 2, 1].into_iter().for_each(|group| world.step(publish(group)));
    world.step(Step::Restart);
    // A client holds the first group while another one empties the second.
    world.step(Step::Get { client: 0, no_ack: false });
    world.step(Step::Consume { client: 1, prefetch: 0, no_ack: true, filter: 0 });
    let mut most = 0;
    while world.ready() > 2 * PIECE - 1 {
        world.pull(1, 1 << 16);
        most = most.max(world.broker.memory_used());
    }
    assert!(most < 10 << 20, "{most} bytes were in memory");
    world.quiet();
    world.check_counts();
    world.step(Step::Settle { client: 0, pick: 0, multiple: false, how: Settle::Requeue });
    world.end();
}
