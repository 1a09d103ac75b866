//! Many threads at once, each a connection that sleeps until its mailbox wakes it.

use crate::client::Client;
use crate::script::broker;
use leveret_broker::{Broker, Limits, Settle};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

const QUEUES: [&str; 2] = ["a", "b"];
const PUBLISHERS: u64 = 4;
const CONSUMERS: u64 = 4;

/// Longer than anything here takes: who sleeps for so long was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What all threads of a test see.
struct Shared {
    broker: Broker,
    /// Messages that arrived.
    arrived: AtomicU64,
    /// How many will have arrived at the end; unknown while it is `u64::MAX`.
    expected: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn new(expected: u64) -> Arc<Shared> {
        let shared = Shared {
            broker: broker(Limits::default()),
            arrived: AtomicU64::new(0),
            expected: AtomicU64::new(expected),
            stop: AtomicBool::new(false),
        };
        let mut client = Client::new(&shared.broker);
        QUEUES.iter().for_each(|queue| client.declare(queue));
        client.close();
        Arc::new(shared)
    }

    fn done(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
            || self.arrived.load(Ordering::Relaxed) >= self.expected.load(Ordering::Relaxed)
    }
}

/// Body of the `n`th message of a publisher.
fn body(publisher: u64, n: u64) -> u64 {
    publisher << 32 | n
}

/// Publishes `count` messages in uneven batches, to both queues.
fn publish(shared: &Shared, publisher: u64, count: u64) {
    let mut client = Client::new(&shared.broker);
    for batch in batches(count) {
        client.publish(QUEUES[(batch.start % 2) as usize], batch.map(|n| body(publisher, n)));
    }
    client.close();
}

/// The numbers of `count` messages in batches of 1 to 300.
fn batches(count: u64) -> impl Iterator<Item = Range<u64>> {
    let sizes = (1..).map(|i: u64| 1 + i * 7919 % 300);
    sizes
        .scan(0, move |at, size| {
            let batch = *at..count.min(*at + size);
            *at = batch.end;
            Some(batch)
        })
        .take_while(|batch| !batch.is_empty())
}

/// Sleeps until the mailbox has something or a consumer is ready. False when the test is over.
fn sleep(shared: &Shared, client: &mut Client, waker: &Waker) -> bool {
    while !shared.done() {
        if client.poll(&mut Context::from_waker(waker)) || !client.ready.is_empty() {
            return true;
        }
        // It may return early: an earlier wake-up may have come while nobody slept.
        let (before, since) = (shared.arrived.load(Ordering::Relaxed), Instant::now());
        thread::park_timeout(FORGOTTEN);
        let stuck = since.elapsed() >= FORGOTTEN && before == shared.arrived.load(Ordering::Relaxed);
        assert!(!stuck || shared.done(), "a wake-up was lost");
    }
    false
}

/// Consumes both queues; gives everything that arrived, in order.
fn consume(shared: &Shared, prefetch: u16, no_ack: bool) -> Vec<u64> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut client = Client::new(&shared.broker);
    QUEUES.iter().for_each(|queue| drop(client.consume(queue, prefetch, no_ack)));
    let mut arrived = Vec::new();
    while sleep(shared, &mut client, &waker) {
        let received = client.pull(1 << 14);
        if let (Some(last), false) = (received.last(), no_ack) {
            client.settle(last.tag, true, Settle::Ack);
        }
        arrived.extend(received.iter().map(|message| message.body));
        shared.arrived.fetch_add(received.len() as u64, Ordering::Relaxed);
    }
    client.close();
    arrived
}

#[test]
fn a_million_messages_arrive_once() {
    const EACH: u64 = 250_000;
    let shared = Shared::new(PUBLISHERS * EACH);
    let arrived: Vec<Vec<u64>> = thread::scope(|scope| {
        let shared = &shared;
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|i| {
                let (prefetch, no_ack) = [(0, true), (0, false), (1000, false), (7, false)][i as usize];
                scope.spawn(move || consume(shared, prefetch, no_ack))
            })
            .collect();
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || publish(shared, publisher, EACH));
        }
        // The last to arrive ends the test; the others are asleep.
        while !shared.done() && !consumers.iter().any(|consumer| consumer.is_finished()) {
            thread::sleep(Duration::from_millis(5));
        }
        consumers.iter().for_each(|consumer| consumer.thread().unpark());
        consumers.into_iter().map(|consumer| consumer.join().expect("a consumer failed")).collect()
    });
    let queue_of = queue_by_number(EACH);
    for one in &arrived {
        let mut last = BTreeMap::new();
        for body in one {
            let (publisher, n) = (body >> 32, body & 0xffff_ffff);
            let before = last.insert((publisher, queue_of[n as usize]), n);
            assert!(before.is_none_or(|before| before < n), "out of order");
        }
    }
    let mut all: Vec<u64> = arrived.into_iter().flatten().collect();
    all.sort_unstable();
    let expected = (0..PUBLISHERS).flat_map(|publisher| (0..EACH).map(move |n| body(publisher, n)));
    assert!(all.iter().copied().eq(expected), "lost or twice");
    assert_eq!(shared.broker.memory_used(), 0);
}

/// To which queue each message of a publisher goes, by its number.
fn queue_by_number(count: u64) -> Vec<u64> {
    batches(count).flat_map(|batch| batch.clone().map(move |_| batch.start % 2)).collect()
}

/// Consumes both queues; now and then cancels a consumer, and starts again those that were cancelled or whose queue
/// was deleted.
fn come_and_go(shared: &Shared, seed: u64) -> Vec<u64> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut client = Client::new(&shared.broker);
    // Tag and number of the consumer of each queue.
    let mut consumers = [const { None }; 2];
    let (mut next, mut arrived, mut turn) = (0, Vec::new(), seed);
    while !shared.done() {
        for (queue, consumer) in QUEUES.iter().zip(&mut consumers) {
            if consumer.is_none()
                && let Ok(tag) = client.try_consume(queue, 20, false)
            {
                *consumer = Some((tag, next));
                next += 1;
            }
        }
        if consumers.iter().all(Option::is_some) && !sleep(shared, &mut client, &waker) {
            break;
        }
        let received = client.pull(1 << 14);
        if let Some(last) = received.last() {
            client.settle(last.tag, true, Settle::Ack);
        }
        arrived.extend(received.iter().map(|message| message.body));
        shared.arrived.fetch_add(received.len() as u64, Ordering::Relaxed);
        for number in std::mem::take(&mut client.cancelled) {
            client.channel.cancelled(&client.session, number);
            consumers.iter_mut().filter(|c| c.as_ref().is_some_and(|c| c.1 == number)).for_each(|c| *c = None);
        }
        turn += 1;
        if turn % 50 == 0
            && shared.expected.load(Ordering::Relaxed) == u64::MAX
            && let Some((tag, _)) = consumers[(turn / 50 % 2) as usize].take()
        {
            client.channel.cancel(&mut client.session, &tag);
        }
    }
    client.close();
    arrived
}

#[test]
fn queues_and_consumers_come_and_go() {
    const EACH: u64 = 50_000;
    const LAST: u64 = 10_000;
    let shared = Shared::new(u64::MAX);
    let arrived: Vec<Vec<u64>> = thread::scope(|scope| {
        let shared = &shared;
        let consumers: Vec<_> = (0..CONSUMERS).map(|i| scope.spawn(move || come_and_go(shared, i * 11))).collect();
        let publishers: Vec<_> =
            (0..PUBLISHERS).map(|publisher| scope.spawn(move || publish(shared, publisher, EACH))).collect();
        let mut client = Client::new(&shared.broker);
        let mut rounds = 0;
        while rounds < 200 || publishers.iter().any(|publisher| !publisher.is_finished()) {
            let queue = QUEUES[rounds % 2];
            client.channel.delete_queue(&mut client.session, queue, false, false).expect("nothing is asked of it");
            thread::yield_now();
            client.declare(queue);
            rounds += 1;
            thread::sleep(Duration::from_micros(rounds as u64 % 7 * 100));
        }
        check_everybody_is_there(&client);
        // What was in a deleted queue is gone; what comes from now on is not.
        for queue in QUEUES {
            client.channel.purge_queue(&mut client.session, queue).expect("it is there");
        }
        thread::sleep(Duration::from_millis(50));
        shared.expected.store(shared.arrived.load(Ordering::Relaxed) + LAST, Ordering::Relaxed);
        client.publish(QUEUES[0], (0..LAST / 2).map(|n| body(PUBLISHERS, n)));
        client.publish(QUEUES[1], (LAST / 2..LAST).map(|n| body(PUBLISHERS, n)));
        while !shared.done() && !consumers.iter().any(|consumer| consumer.is_finished()) {
            thread::sleep(Duration::from_millis(5));
        }
        consumers.iter().for_each(|consumer| consumer.thread().unpark());
        let arrived = consumers.into_iter().map(|consumer| consumer.join().expect("a consumer failed")).collect();
        QUEUES.iter().for_each(|queue| {
            drop(client.channel.delete_queue(&mut client.session, queue, false, false));
        });
        client.close();
        arrived
    });
    let mut all: Vec<u64> = arrived.into_iter().flatten().collect();
    all.sort_unstable();
    assert!(all.is_sorted_by(|a, b| a < b), "something arrived twice");
    assert_eq!(all.iter().filter(|body| **body >> 32 == PUBLISHERS).count() as u64, LAST);
    assert_eq!(shared.broker.memory_used(), 0);
}

/// Consumers of a deleted queue were told, and have come back: a second is plenty.
fn check_everybody_is_there(client: &Client) {
    let (session, patience) = (&client.session, 1000);
    for queue in QUEUES {
        let count = || session.vhost().queue_status(queue, session.id()).expect("it is there").consumers as u64;
        let there = (0..patience).any(|_| {
            thread::sleep(Duration::from_millis(1));
            count() == CONSUMERS
        });
        assert!(there, "{} consumers of {CONSUMERS} on {queue}", count());
    }
}
