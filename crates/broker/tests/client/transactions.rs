//! Transactions: all or nothing, for everybody who looks.

use crate::{Scratch, declare, drain, in_memory, publish, ready, soon, text};
use leveret_broker::Wait;
use leveret_broker::table::Table;
use leveret_broker::{Broker, Client, ClientError, Consume, Content, Environment, Limits, Published};
use std::time::Duration;

/// Runs a test on a broker in memory and on one on a disk.
fn on_both(name: &str, test: impl Fn(&Client)) {
    test(&Broker::in_memory().connect());
    let scratch = Scratch::new(name);
    let broker = scratch.broker();
    test(&broker.connect());
    broker.shut_down().expect("it stops");
}

#[test]
fn nothing_is_seen_before_the_commit_and_everything_after_it() {
    on_both("commit", |client| {
        declare(client, &["in", "a", "b"]);
        publish(client, "in", &["one", "two"]);
        let mut subscription = client.subscribe("in", 2).expect("it is there");
        let mut transaction = client.transaction();
        for queue in ["a", "b", "a"] {
            assert_eq!(transaction.publish("", queue, "done"), Ok(Published::Routed));
        }
        for _ in 0..2 {
            let message = soon(subscription.next()).expect("it runs").expect("it is there");
            transaction.ack(message).expect("it was not acknowledged");
        }
        publish(client, "in", &["three"]);
        assert_eq!((ready(client, "a"), ready(client, "b")), (0, 0));
        assert_eq!(subscription.try_next().map(|next| next.is_none()), Ok(true), "the prefetch is used up");
        soon(transaction.commit()).expect("committed");
        assert_eq!((ready(client, "a"), ready(client, "b")), (2, 1));
        let three = soon(subscription.next()).expect("it runs").expect("there is room again");
        assert_eq!(text(&three), "three");
    });
}

#[test]
fn a_dropped_transaction_is_rolled_back() {
    on_both("rollback", |client| {
        declare(client, &["in", "out"]);
        publish(client, "in", &["one", "two"]);
        // Both have the same delivery tag on different channels.
        let mut subscription = client.subscribe("in", 1).expect("it is there");
        let mut other = client.subscribe("in", 1).expect("it is there");
        let mut transaction = client.transaction();
        transaction.publish("", "out", "done").expect("taken");
        transaction.ack(soon(subscription.next()).expect("it runs").expect("there")).expect("not acknowledged");
        transaction.ack(soon(other.next()).expect("it runs").expect("there")).expect("not acknowledged");
        transaction.rollback();
        let mut again = Vec::new();
        for subscription in [&mut subscription, &mut other] {
            let message = soon(subscription.next()).expect("it runs").expect("it came back");
            again.push((text(&message), message.redelivered()));
            message.ack().expect("acknowledged");
        }
        again.sort();
        assert_eq!(again, [("one".to_string(), true), ("two".to_string(), true)]);
        assert_eq!((ready(client, "in"), ready(client, "out")), (0, 0));
    });
}

#[test]
fn a_commit_is_atomic_across_a_restart() {
    let scratch = Scratch::new("atomic");
    {
        let broker = scratch.broker();
        let client = broker.connect();
        declare(&client, &["in", "a", "b"]);
        publish(&client, "in", &["one", "two"]);
        let mut committed = client.transaction();
        let mut open = client.transaction();
        for (transaction, body) in [(&mut committed, "committed"), (&mut open, "open")] {
            transaction.publish("", "a", body).expect("taken");
            transaction.publish("", "b", body).expect("taken");
            transaction.ack(client.get("in").expect("there").expect("a message")).expect("not acknowledged");
        }
        soon(committed.commit()).expect("committed");
        broker.shut_down().expect("it stops");
        drop(open);
    }
    let client = scratch.broker().connect();
    let queues = ["in", "a", "b"].map(|queue| drain(&client, queue));
    assert_eq!(queues, [["two"], ["committed"], ["committed"]]);
}

#[test]
fn what_is_refused_is_not_part_of_it() {
    on_both("refused", |client| {
        declare(client, &["in", "out"]);
        publish(client, "in", &["one", "two"]);
        let mut transaction = client.transaction();
        assert_eq!(transaction.publish("", "gone", Content::from("x").mandatory()), Err(ClientError::Unroutable));
        assert_eq!(transaction.publish("", "gone", "x"), Ok(Published::Unroutable));
        assert!(transaction.publish("gone", "", "x").is_err());
        let foreign = in_memory(&["in"]);
        publish(&foreign, "in", &["foreign"]);
        let refused = transaction.ack(foreign.get("in").expect("there").expect("a message")).expect_err("another's");
        assert_eq!(refused.to_string(), "406 - the message is another broker's");
        assert_eq!(drain(&foreign, "in"), ["foreign"], "it went back");
        let consume = Consume { queue: "in", tag: "", no_ack: true, exclusive: false, arguments: Table::EMPTY };
        let mut settled = client.consume(consume, 0).expect("it is there");
        let message = soon(settled.next()).expect("it runs").expect("there");
        let refused = transaction.ack(message).expect_err("settled");
        assert_eq!(refused.to_string(), "406 - the message was acknowledged before, or by its delivery");
        transaction.publish("", "out", "done").expect("taken");
        soon(transaction.commit()).expect("committed");
        assert_eq!(drain(client, "out"), ["done"]);
    });
}

#[test]
fn a_large_transaction_is_one_too() {
    on_both("large", |client| {
        declare(client, &["a", "b"]);
        let body = vec![7; 300_000];
        let mut transaction = client.transaction();
        for n in 0..20 {
            transaction.publish("", ["a", "b"][n % 2], &body).expect("taken");
        }
        soon(transaction.commit()).expect("committed");
        assert_eq!((drain(client, "a").len(), drain(client, "b").len()), (10, 10));
    });
}

#[test]
fn a_transaction_has_a_limit() {
    let limits = Limits { max_transaction_messages: 2, ..Limits::default() };
    let client = Broker::new(limits, Environment::system()).connect();
    declare(&client, &["q"]);
    let mut transaction = client.transaction();
    transaction.publish("", "q", "one").expect("taken");
    transaction.publish("", "q", "two").expect("taken");
    let refused = transaction.publish("", "q", "three").expect_err("too many");
    assert!(refused.to_string().contains("transaction is larger than configured max size: 2 messages"), "{refused}");
}

#[test]
fn a_commit_that_publishes_waits_while_memory_runs_out_and_one_that_only_acks_does_not() {
    let limits = Limits { max_memory: 300_000, ..Limits::default() };
    let broker = Broker::new(limits, Environment::system());
    let client = broker.connect();
    declare(&client, &["q", "out"]);
    let body = vec![0; 200_000];
    for _ in 0..2 {
        soon(client.publish("", "q", &body)).expect("confirmed");
    }
    assert!(broker.is_blocked());
    let mut publishing = client.transaction();
    publishing.publish("", "out", "done").expect("taken");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| soon(publishing.commit()));
        let mut acking = client.transaction();
        for _ in 0..2 {
            acking.ack(client.get("q").expect("there").expect("a message")).expect("not acknowledged");
        }
        soon(acking.commit()).expect("committed");
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
    });
    assert_eq!(drain(&client, "out"), ["done"]);
}

#[test]
fn a_commit_that_is_dropped_leaves_the_client_as_it_was() {
    let scratch = Scratch::new("dropped-commit");
    let client = scratch.broker().connect();
    declare(&client, &["in", "out"]);
    publish(&client, "in", &["one", "two"]);
    let mut subscription = client.subscribe("in", 1).expect("it is there");
    let mut transaction = client.transaction();
    transaction.ack(soon(subscription.next()).expect("it runs").expect("there")).expect("not acknowledged");
    transaction.publish("", "out", "done").expect("taken");
    let _ = transaction.commit().wait_for(Duration::ZERO);
    // It was on its way, so it is in the log before what follows.
    assert_eq!(text(&soon(subscription.next()).expect("it runs").expect("there")), "two");
    publish(&client, "out", &["afterwards"]);
    assert_eq!(drain(&client, "out"), ["done", "afterwards"]);
}
