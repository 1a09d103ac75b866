//! Random operations of several connections, compared after each with a model too simple to be wrong.
//!
//! A body says which message it is: the queue, which of the queues that had this name, and its number there. Numbers
//! ascend with positions, so whoever takes from a queue must get the lowest ready ones, whatever happened before.

use crate::client::{Client, Received};
use crate::script::broker;
use leveret_broker::{Broker, Browse, Limits, MessageState, Settle};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const QUEUES: [&str; 3] = ["a", "b", "c"];
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Publish { client: usize, queue: usize, count: u64 },
    Consume { client: usize, queue: usize, prefetch: u16, no_ack: bool },
    Cancel { client: usize, pick: usize },
    Pull { client: usize, max_bytes: usize },
    Get { client: usize, queue: usize, no_ack: bool },
    Settle { client: usize, pick: usize, multiple: bool, how: Settle },
    Recover { client: usize },
    Purge { client: usize, queue: usize },
    Replace { client: usize, queue: usize },
    Reopen { client: usize },
    Pause { client: usize, pick: usize },
    Resume { client: usize, pick: usize },
    ChannelPrefetch { client: usize, prefetch: u16 },
    LivePrefetch { client: usize, prefetch: u16 },
    Browse { queue: usize, offset: u64, count: usize, states: Vec<MessageState> },
    SetPaused { queue: usize, paused: bool },
    Quiet,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, queue, pick) = (0..CLIENTS, 0..QUEUES.len(), any::<usize>());
    let how = prop_oneof![3 => Just(Settle::Ack), 1 => Just(Settle::Reject), 3 => Just(Settle::Requeue)];
    let count = prop_oneof![6 => 1..6u64, 1 => 100..400u64, 1 => Just(3000u64)];
    let max_bytes = prop_oneof![Just(1usize), Just(100), Just(1 << 16)];
    prop_oneof![
        8 => (client.clone(), queue.clone(), count).prop_map(|(client, queue, count)| Step::Publish { client, queue, count }),
        4 => (client.clone(), queue.clone(), 0..5u16, prop::bool::weighted(0.2))
            .prop_map(|(client, queue, prefetch, no_ack)| Step::Consume { client, queue, prefetch, no_ack }),
        1 => (client.clone(), pick).prop_map(|(client, pick)| Step::Cancel { client, pick }),
        8 => (client.clone(), max_bytes).prop_map(|(client, max_bytes)| Step::Pull { client, max_bytes }),
        4 => (client.clone(), queue.clone(), any::<bool>()).prop_map(|(client, queue, no_ack)| Step::Get { client, queue, no_ack }),
        10 => (client.clone(), pick, prop::bool::weighted(0.2), how)
            .prop_map(|(client, pick, multiple, how)| Step::Settle { client, pick, multiple, how }),
        1 => client.clone().prop_map(|client| Step::Recover { client }),
        1 => (client.clone(), queue.clone()).prop_map(|(client, queue)| Step::Purge { client, queue }),
        1 => (client.clone(), queue).prop_map(|(client, queue)| Step::Replace { client, queue }),
        1 => client.clone().prop_map(|client| Step::Reopen { client }),
        2 => (client.clone(), pick).prop_map(|(client, pick)| Step::Pause { client, pick }),
        2 => (client.clone(), pick).prop_map(|(client, pick)| Step::Resume { client, pick }),
        1 => (client.clone(), 0..6u16).prop_map(|(client, prefetch)| Step::ChannelPrefetch { client, prefetch }),
        8 => browse(),
        1 => (0..QUEUES.len(), any::<bool>()).prop_map(|(queue, paused)| Step::SetPaused { queue, paused }),
        1 => (client, 0..6u16).prop_map(|(client, prefetch)| Step::LivePrefetch { client, prefetch }),
        2 => Just(Step::Quiet),
    ]
}

fn browse() -> impl Strategy<Value = Step> {
    let state = prop::sample::select(vec![MessageState::Ready, MessageState::Unacked]);
    let states = prop_oneof![Just(Vec::new()), state.prop_map(|state| vec![state])];
    let (offset, count) = (prop_oneof![Just(0), 0..3000u64], prop_oneof![Just(10_000usize), 0..20usize]);
    (0..QUEUES.len(), offset, count, states).prop_map(|(queue, offset, count, states)| Step::Browse {
        queue,
        offset,
        count,
        states,
    })
}

/// What a queue should hold, by number.
#[derive(Default)]
struct Queue {
    generation: u64,
    next: u64,
    ready: BTreeSet<u64>,
    /// Handed out before.
    seen: BTreeSet<u64>,
    paused: bool,
}

struct Consumer {
    tag: Arc<str>,
    number: u32,
    queue: usize,
    prefetch: u16,
    no_ack: bool,
    paused: bool,
}

struct Held {
    body: u64,
    consumer: Option<u32>,
}

/// A client and what the model knows of it.
struct Side {
    client: Client,
    consumers: Vec<Consumer>,
    next_consumer: u32,
    next_tag: u64,
    held: BTreeMap<u64, Held>,
    channel_prefetch: u16,
}

struct World {
    broker: Broker,
    queues: Vec<Queue>,
    sides: Vec<Side>,
}

fn body(queue: usize, generation: u64, number: u64) -> u64 {
    (queue as u64) << 56 | generation << 40 | number
}

impl Side {
    fn new(broker: &Broker) -> Side {
        let (consumers, held) = (Vec::new(), BTreeMap::new());
        Side { client: Client::new(broker), consumers, next_consumer: 0, next_tag: 1, held, channel_prefetch: 0 }
    }

    fn held_by(&self, consumer: u32) -> u64 {
        self.held.values().filter(|held| held.consumer == Some(consumer)).count() as u64
    }

    fn has_credit(&self, consumer: &Consumer) -> bool {
        let below = |limit: u16, held: u64| limit == 0 || held < u64::from(limit);
        let all = self.held.len() as u64;
        !consumer.paused
            && (consumer.no_ack
                || below(consumer.prefetch, self.held_by(consumer.number)) && below(self.channel_prefetch, all))
    }
}

impl World {
    fn new() -> World {
        let broker = broker(Limits::default());
        let mut sides: Vec<_> = (0..CLIENTS).map(|_| Side::new(&broker)).collect();
        QUEUES.iter().for_each(|queue| sides[0].client.declare(queue));
        World { broker, queues: QUEUES.iter().map(|_| Queue::default()).collect(), sides }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish { client, queue, count } => self.publish(client, queue, count),
            Step::Consume { client, queue, prefetch, no_ack } => {
                let side = &mut self.sides[client];
                let tag = side.client.consume(QUEUES[queue], prefetch, no_ack);
                let number = side.next_consumer;
                side.next_consumer += 1;
                side.consumers.push(Consumer { tag, number, queue, prefetch, no_ack, paused: false });
            }
            Step::Cancel { client, pick } => {
                let side = &mut self.sides[client];
                if !side.consumers.is_empty() {
                    let consumer = side.consumers.remove(pick % side.consumers.len());
                    side.client.channel.cancel(&mut side.client.session, &consumer.tag);
                }
            }
            Step::Pull { client, max_bytes } => {
                self.pull(client, max_bytes);
            }
            Step::Get { client, queue, no_ack } => self.get(client, queue, no_ack),
            Step::Settle { client, pick, multiple, how } => self.settle(client, pick, multiple, how),
            Step::Recover { client } => {
                let side = &mut self.sides[client];
                side.client.channel.recover(&mut side.client.session);
                self.requeue_all(client);
            }
            Step::Purge { client, queue } => {
                let Client { session, channel, .. } = &mut self.sides[client].client;
                let purged = channel.purge_queue(session, QUEUES[queue]).expect("the queue is there");
                let ready = std::mem::take(&mut self.queues[queue].ready);
                assert_eq!(purged, ready.len() as u64);
            }
            Step::Replace { client, queue } => self.replace(client, queue),
            Step::Reopen { client } => {
                let side = std::mem::replace(&mut self.sides[client], Side::new(&self.broker));
                let held: Vec<_> = side.held.values().map(|held| held.body).collect();
                side.client.close();
                held.into_iter().for_each(|body| self.requeue(body));
            }
            Step::Pause { client, pick } => self.pause(client, pick),
            Step::Resume { client, pick } => {
                let side = &mut self.sides[client];
                let at = pick % side.consumers.len().max(1);
                if let Some(consumer) = side.consumers.get_mut(at) {
                    consumer.paused = false;
                    side.client.channel.resume(consumer.number);
                }
            }
            Step::ChannelPrefetch { client, prefetch } => {
                let side = &mut self.sides[client];
                side.channel_prefetch = prefetch;
                side.client.channel.qos(&side.client.session, prefetch, true);
            }
            Step::LivePrefetch { client, prefetch } => {
                let side = &mut self.sides[client];
                side.client.session.set_live_prefetch(true);
                side.client.channel.qos(&side.client.session, prefetch, false);
                side.client.session.set_live_prefetch(false);
                side.consumers.iter_mut().for_each(|consumer| consumer.prefetch = prefetch);
            }
            Step::Browse { queue, offset, count, states } => self.browse(queue, offset, count, states),
            Step::SetPaused { queue, paused } => {
                let vhost = self.sides[0].client.session.vhost();
                let set = if paused { vhost.pause(QUEUES[queue]) } else { vhost.resume(QUEUES[queue]) };
                drop(set.expect("the queue is there"));
                self.queues[queue].paused = paused;
            }
            Step::Quiet => self.quiet(),
        }
        self.check_counts();
    }

    fn publish(&mut self, client: usize, at: usize, count: u64) {
        let queue = &mut self.queues[at];
        let numbers = queue.next..queue.next + count;
        queue.next += count;
        queue.ready.extend(numbers.clone());
        let generation = queue.generation;
        let routed = self.sides[client].client.publish(QUEUES[at], numbers.map(|number| body(at, generation, number)));
        assert!(routed);
    }

    /// Pulls once for each consumer that was told; how many messages came.
    fn pull(&mut self, client: usize, max_bytes: usize) -> usize {
        let side = &mut self.sides[client];
        side.client.listen();
        for number in std::mem::take(&mut side.client.cancelled) {
            side.client.channel.cancelled(&side.client.session, number);
        }
        let mut count = 0;
        for number in std::mem::take(&mut self.sides[client].client.ready) {
            let mut received = Vec::new();
            self.sides[client].client.pull_one(number, max_bytes, &mut received);
            count += received.len();
            self.receive(client, number, &received);
        }
        count
    }

    fn receive(&mut self, client: usize, number: u32, received: &[Received]) {
        if received.is_empty() {
            return;
        }
        let side = &mut self.sides[client];
        let consumer = side.consumers.iter().find(|consumer| consumer.number == number).expect("not cancelled");
        let (at, no_ack, prefetch) = (consumer.queue, consumer.no_ack, consumer.prefetch);
        assert!(!consumer.paused, "a paused consumer was given messages");
        for message in received {
            assert_eq!(message.tag, side.next_tag);
            side.next_tag += 1;
            self.queues[at].hand_out(at, message);
            if !no_ack {
                side.held.insert(message.tag, Held { body: message.body, consumer: Some(number) });
            }
        }
        if !no_ack {
            let (own, all) = (side.held_by(number), side.held.len() as u64);
            assert!(prefetch == 0 || own <= u64::from(prefetch), "{own} held, prefetch {prefetch}");
            let most = u64::from(side.channel_prefetch);
            assert!(most == 0 || all <= most, "{all} held on the channel, prefetch {most}");
        }
    }

    fn get(&mut self, client: usize, at: usize, no_ack: bool) {
        let side = &mut self.sides[client];
        let got = side.client.channel.get(&mut side.client.session, QUEUES[at], no_ack).expect("the queue is there");
        let Some((delivery, tag, left)) = got else {
            assert!(self.queues[at].ready.is_empty() || self.queues[at].paused);
            return;
        };
        assert_eq!(tag, side.next_tag);
        side.next_tag += 1;
        let body = u64::from_be_bytes(delivery.block.at(delivery.offset).0.body.try_into().expect("8 bytes"));
        self.queues[at].hand_out(at, &Received { tag, body, redelivered: delivery.redelivered });
        assert_eq!(left, self.queues[at].ready.len() as u64);
        if !no_ack {
            side.held.insert(tag, Held { body, consumer: None });
        }
    }

    fn settle(&mut self, client: usize, pick: usize, multiple: bool, how: Settle) {
        let side = &mut self.sides[client];
        let Some(&tag) = side.held.keys().nth(pick % side.held.len().max(1)) else {
            side.client.channel.settle(side.next_tag, multiple, how).expect_err("nothing is outstanding");
            return;
        };
        side.client.settle(tag, multiple, how);
        let settled = if multiple {
            let rest = side.held.split_off(&(tag + 1));
            std::mem::replace(&mut side.held, rest)
        } else {
            side.held.remove_entry(&tag).into_iter().collect()
        };
        if how == Settle::Requeue {
            settled.into_values().for_each(|held| self.requeue(held.body));
        }
    }

    fn requeue_all(&mut self, client: usize) {
        let held = std::mem::take(&mut self.sides[client].held);
        held.into_values().for_each(|held| self.requeue(held.body));
    }

    fn requeue(&mut self, message: u64) {
        let queue = &mut self.queues[(message >> 56) as usize];
        if message >> 40 & 0xffff == queue.generation {
            assert!(queue.ready.insert(message & 0xff_ffff_ffff));
        }
    }

    /// Deletes a queue and declares it again.
    fn replace(&mut self, client: usize, at: usize) {
        let side = &mut self.sides[client].client;
        let ready =
            side.channel.delete_queue(&mut side.session, QUEUES[at], false, false).expect("nothing is asked of it");
        assert_eq!(ready, self.queues[at].ready.len() as u64);
        side.declare(QUEUES[at]);
        let generation = self.queues[at].generation + 1;
        self.queues[at] = Queue { generation, ..Queue::default() };
        self.sides.iter_mut().for_each(|side| side.consumers.retain(|consumer| consumer.queue != at));
    }

    /// As a connection does it: only a consumer that is to be pulled for is paused.
    fn pause(&mut self, client: usize, pick: usize) {
        let side = &mut self.sides[client];
        side.client.listen();
        if side.client.ready.is_empty() {
            return;
        }
        let at = pick % side.client.ready.len();
        let number = side.client.ready[at];
        if side.client.channel.pause(number) {
            side.client.ready.retain(|ready| *ready != number);
            if let Some(consumer) = side.consumers.iter_mut().find(|consumer| consumer.number == number) {
                consumer.paused = true;
            }
        }
    }

    /// Pulls until nobody is told of anything more: then no ready message may have a consumer that could take it.
    fn quiet(&mut self) {
        for turn in 0.. {
            let count: usize = (0..CLIENTS).map(|client| self.pull(client, 1 << 16)).sum();
            // One that took nothing may have left its grant to one that was asked before it.
            self.sides.iter_mut().for_each(|side| side.client.listen());
            if count == 0 && self.sides.iter().all(|side| side.client.ready.is_empty()) {
                break;
            }
            assert!(turn < 10_000, "pulling does not come to an end");
        }
        for side in &self.sides {
            for consumer in &side.consumers {
                let Queue { ready, paused, .. } = &self.queues[consumer.queue];
                let ready = if *paused { 0 } else { ready.len() };
                assert!(ready == 0 || !side.has_credit(consumer), "{ready} messages wait, and a consumer too");
            }
        }
    }

    /// Looks at a queue's messages, in one go and in pages.
    fn browse(&self, at: usize, offset: u64, count: usize, states: Vec<MessageState>) {
        let (queue, vhost) = (&self.queues[at], self.sides[0].client.session.vhost());
        let held = self.sides.iter().flat_map(|side| side.held.values()).map(|held| held.body);
        let held = held.filter(|held| *held == body(at, queue.generation, held & ((1 << 40) - 1)));
        let held = held.map(|held| (held, MessageState::Unacked, None));
        let ready = |number: &u64| {
            (body(at, queue.generation, *number), MessageState::Ready, Some(queue.seen.contains(number)))
        };
        let mut all: Vec<_> = held.chain(queue.ready.iter().map(ready)).collect();
        all.sort_by_key(|(body, ..)| *body);
        all.retain(|(_, state, _)| states.is_empty() || states.contains(state));
        let expected: Vec<_> = all.into_iter().skip(offset as usize).take(count).collect();
        let (mut found, mut from, mut offset, mut rounds) = (Vec::new(), 0, offset, 0);
        loop {
            // Pages of seven, but all at once where much is asked for.
            let page = if count > 100 { count } else { 7.min(count - found.len()) };
            let browse = Browse { from, offset, count: page, states: states.clone(), ..Browse::default() };
            let browsed = vhost.browse(QUEUES[at], &browse).expect("the queue is there");
            assert!(browsed.messages.len() <= page);
            found.extend(browsed.messages.iter().map(|message| {
                let body = u64::from_be_bytes(message.body[..].try_into().expect("8 bytes"));
                let is_ready = message.state == MessageState::Ready;
                (body, message.state, is_ready.then_some(message.redelivered))
            }));
            (from, offset, rounds) = (browsed.next.unwrap_or(u64::MAX), 0, rounds + 1);
            if browsed.next.is_none() || found.len() >= count {
                break;
            }
            assert!(rounds < 10_000, "browsing does not come to an end");
        }
        assert_eq!(found, expected);
    }

    fn check_counts(&self) {
        for (name, queue) in QUEUES.iter().zip(&self.queues) {
            let side = &self.sides[0].client.session;
            let status = side.vhost().queue_status(name, side.id()).expect("the queue is there");
            assert_eq!(status.ready, queue.ready.len() as u64, "ready messages of {name}");
            let info = side.vhost().queue_info(name).expect("the queue is there");
            assert_eq!((info.ready, info.unacked == 0), (status.ready, status.unacked == 0));
            assert_eq!(info.ready_bytes, info.ready * 8, "bytes of bodies that are ready");
            assert_eq!(info.unacked_bytes, info.unacked * 8, "bytes of bodies that are handed out");
            assert_eq!(info.oldest.is_none(), info.ready + info.unacked == 0);
        }
        for side in &self.sides {
            assert_eq!(side.client.channel.unacked(), side.held.len() as u64, "unacked messages");
        }
    }

    fn end(mut self) {
        self.quiet();
        for name in QUEUES {
            let side = &mut self.sides[0].client;
            side.channel.delete_queue(&mut side.session, name, false, false).expect("nothing is asked of it");
        }
        assert_eq!(self.broker.memory_used(), 0);
        self.sides.into_iter().for_each(|side| side.client.close());
        assert_eq!(self.broker.memory_used(), 0);
    }
}

impl Queue {
    /// What is handed out is the first ready message, and flagged if it was handed out before.
    fn hand_out(&mut self, at: usize, message: &Received) {
        assert!(!self.paused, "a paused queue hands nothing out");
        let number = self.ready.pop_first().expect("a message is ready");
        assert_eq!(message.body, body(at, self.generation, number), "the first ready message");
        assert_eq!(message.redelivered, !self.seen.insert(number), "the redelivered flag of {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_model(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.end();
    }
}
