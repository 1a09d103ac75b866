//! Several clients on several threads, and one client on several.

use crate::{PATIENCE, Scratch, declare, ready, soon};
use leveret_broker::{Broker, Client, Published, Wait};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PUBLISHERS: u64 = 4;
const CONSUMERS: u64 = 4;
const EACH: u64 = 500;

/// Publishers and consumers at once, each on a thread. `client` gives each thread its own, or all the same.
fn check(client: impl Fn() -> Client + Sync) {
    declare(&client(), &["in", "out"]);
    let (seen, arrived, begin) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let client = &client;
            scope.spawn(move || {
                let client = client();
                for n in 0..EACH {
                    let body = format!("{publisher} {n}");
                    assert_eq!(soon(client.publish("", "in", &body)), Ok(Published::Routed));
                }
            });
        }
        for consumer in 0..CONSUMERS {
            let (client, arrived) = (&client, &arrived);
            scope.spawn(move || {
                let client = client();
                let mut messages = client.subscribe("in", 10).expect("it is there");
                while arrived.load(Ordering::SeqCst) < PUBLISHERS * EACH {
                    assert!(begin.elapsed() < 3 * PATIENCE, "messages were forgotten");
                    let Some(next) = messages.next().wait_for(Duration::from_millis(20)) else { continue };
                    let message = next.expect("the broker runs").expect("the queue is there");
                    // Some forget to acknowledge, once.
                    if consumer == 0 && !message.redelivered() {
                        continue;
                    }
                    let mut transaction = client.transaction();
                    transaction.publish("", "out", message.body()).expect("taken");
                    transaction.ack(message).expect("not acknowledged");
                    soon(transaction.commit()).expect("committed");
                    arrived.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let (client, seen) = (&client, &seen);
        scope.spawn(move || {
            let mut messages = client().subscribe("out", 0).expect("it is there");
            for _ in 0..PUBLISHERS * EACH {
                let message = soon(messages.next()).expect("the broker runs").expect("the queue is there");
                let body = String::from_utf8(message.body().to_vec()).expect("text");
                assert!(seen.lock().expect("no panic").insert(body), "each comes once");
                message.ack().expect("acknowledged");
            }
        });
    });
    let client = client();
    assert_eq!((ready(&client, "in"), ready(&client, "out")), (0, 0));
}

#[test]
fn several_clients_on_several_threads() {
    let scratch = Scratch::new("threads");
    let broker = scratch.broker();
    check(|| broker.connect());
    broker.shut_down().expect("it stops");
}

#[test]
fn one_client_on_several_threads() {
    let scratch = Scratch::new("one-client");
    let broker = scratch.broker();
    let client = broker.connect();
    check(|| client.clone());
    broker.shut_down().expect("it stops");
}

#[test]
fn clients_in_memory_wake_each_other() {
    let broker = Broker::in_memory();
    check(|| broker.connect());
}

#[test]
fn a_hundred_confirms_of_one_client_are_waited_for_on_a_hundred_threads() {
    let scratch = Scratch::new("hundred");
    let client = scratch.broker().connect();
    declare(&client, &["q"]);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            let confirm = soon(client.send("", "q", "x")).expect("taken");
            scope.spawn(move || assert_eq!(confirm.wait_for(PATIENCE), Some(Ok(Published::Routed))));
        }
    });
    assert_eq!(ready(&client, "q"), 100);
}

#[test]
fn everything_can_be_given_to_another_thread() {
    fn check<T: Send + 'static>() {}
    fn check_shared<T: Send + Sync + 'static>() {}
    check_shared::<Broker>();
    check_shared::<Client>();
    check_shared::<leveret_broker::Message>();
    check::<leveret_broker::Confirm>();
    check::<leveret_broker::Subscription>();
    check::<leveret_broker::Transaction>();
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let client = crate::in_memory(&["q"]);
    soon(is_send(client.publish("", "q", "x"))).expect("confirmed");
    drop(soon(is_send(client.send("", "q", "x"))).expect("taken"));
    soon(is_send(client.publish_all([("", "q", "x")]))).expect("confirmed");
    let mut subscription = client.subscribe("q", 1).expect("there");
    drop(soon(is_send(subscription.next())));
    soon(is_send(client.transaction().commit())).expect("committed");
}
