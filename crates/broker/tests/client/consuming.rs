//! Subscriptions, and settling what they give out.

use crate::{PATIENCE, declare, drain, in_memory, publish, ready, soon, text};
use leveret_broker::table::{FieldTable, Table};
use leveret_broker::{Broker, ClientError, Consume, Message, QueueDeclare, Subscription, Wait};
use std::time::Duration;

fn next(subscription: &mut Subscription) -> Message {
    soon(subscription.next()).expect("the broker runs").expect("the queue is there")
}

/// Nothing comes within a moment.
fn is_quiet(subscription: &mut Subscription) -> bool {
    subscription.next().wait_for(Duration::from_millis(50)).is_none()
}

#[test]
fn messages_come_in_their_order_those_before_and_those_after_the_subscription() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two"]);
    let mut subscription = client.subscribe("q", 10).expect("it is there");
    publish(&client, "q", &["three"]);
    for expected in ["one", "two", "three"] {
        let message = next(&mut subscription);
        assert_eq!((text(&message).as_str(), message.redelivered()), (expected, false));
        message.ack().expect("acknowledged");
    }
    assert!(is_quiet(&mut subscription));
    assert_eq!(subscription.try_next().map(|next| next.is_none()), Ok(true));
    assert_eq!((ready(&client, "q"), subscription.queue()), (0, "q"));
}

#[test]
fn a_subscription_that_waits_is_woken() {
    let client = in_memory(&["q"]);
    let mut subscription = client.subscribe("q", 1).expect("it is there");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || text(&next(&mut subscription)));
        publish(&client, "q", &["one"]);
        assert_eq!(waiting.join().expect("no panic"), "one");
    });
}

#[test]
fn no_more_than_the_prefetch_is_given_out() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two", "three"]);
    let mut subscription = client.subscribe("q", 2).expect("it is there");
    let (one, _two) = (next(&mut subscription), next(&mut subscription));
    assert!(is_quiet(&mut subscription));
    one.ack().expect("acknowledged");
    assert_eq!(text(&next(&mut subscription)), "three");
}

#[test]
fn a_dropped_message_goes_back_to_its_place() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two"]);
    let mut subscription = client.subscribe("q", 1).expect("it is there");
    drop(next(&mut subscription));
    let again = next(&mut subscription);
    assert_eq!((text(&again).as_str(), again.redelivered(), again.delivery_count()), ("one", true, 1));
    again.nack(true).expect("returned");
    let again = next(&mut subscription);
    assert_eq!((text(&again).as_str(), again.delivery_count()), ("one", 2));
    again.ack().expect("acknowledged");
    assert_eq!(text(&next(&mut subscription)), "two");
}

#[test]
fn a_dropped_subscription_gives_back_what_it_has_not_given_out() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two", "three"]);
    let mut subscription = client.subscribe("q", 0).expect("it is there");
    let one = next(&mut subscription);
    assert_eq!(ready(&client, "q"), 0);
    drop(subscription);
    let status = client.queue_status("q").expect("it is there");
    assert_eq!((status.ready, status.consumers), (2, 0));
    // What was given out can still be settled.
    one.ack().expect("acknowledged");
    assert_eq!(drain(&client, "q"), ["two", "three"]);
}

#[test]
fn a_dropped_future_loses_no_message() {
    let client = in_memory(&["q"]);
    let mut subscription = client.subscribe("q", 1).expect("it is there");
    assert!(is_quiet(&mut subscription));
    publish(&client, "q", &["one"]);
    assert_eq!(text(&next(&mut subscription)), "one");
}

#[test]
fn a_client_that_is_dropped_with_everything_of_it_leaves_its_messages() {
    let broker = Broker::in_memory();
    let (client, other) = (broker.connect(), broker.connect());
    declare(&client, &["q"]);
    publish(&client, "q", &["one", "two", "three"]);
    let got = client.get("q").expect("it is there").expect("a message");
    let mut subscription = client.subscribe("q", 10).expect("it is there");
    let received = next(&mut subscription);
    drop((client, subscription, got, received));
    assert_eq!(drain(&other, "q"), ["one", "two", "three"]);
}

#[test]
fn one_ack_may_stand_for_all_before_it() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two", "three", "four"]);
    let mut subscription = client.subscribe("q", 4).expect("it is there");
    let (one, two, three) = (next(&mut subscription), next(&mut subscription), next(&mut subscription));
    two.ack_through().expect("acknowledged");
    let late = one.ack().expect_err("it is acknowledged already");
    assert_eq!(late.to_string(), "406 - unknown delivery tag 1");
    drop((three, subscription));
    assert_eq!(drain(&client, "q"), ["three", "four"]);
}

#[test]
fn a_rejected_message_goes_to_the_dead_letter_exchange() {
    let client = in_memory(&["dead"]);
    let arguments = FieldTable::new().with("x-dead-letter-exchange", "").with("x-dead-letter-routing-key", "dead");
    let (name, exclusive, auto_delete) = ("q", false, false);
    let declare = QueueDeclare { name, durable: true, exclusive, auto_delete, arguments: arguments.as_table() };
    client.declare_queue_with(declare).expect("declared");
    publish(&client, "q", &["one", "two"]);
    client.get("q").expect("it is there").expect("a message").reject().expect("rejected");
    client.get("q").expect("it is there").expect("a message").nack(false).expect("rejected");
    assert_eq!(drain(&client, "dead"), ["one", "two"]);
}

#[test]
fn without_acknowledgement_a_message_is_settled_by_its_delivery() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two"]);
    let consume = Consume { queue: "q", tag: "me", no_ack: true, exclusive: true, arguments: Table::EMPTY };
    let mut subscription = client.consume(consume, 0).expect("it is there");
    assert_eq!(subscription.consumer_tag(), "me");
    let refused = client.subscribe("q", 1).expect_err("it is consumed exclusively");
    assert!(matches!(refused, ClientError::Refused(error) if error.code == 403));
    drop(next(&mut subscription));
    let two = next(&mut subscription);
    two.ack().expect("it is settled, which is no error");
    drop(subscription);
    assert_eq!(ready(&client, "q"), 0);
}

#[test]
fn a_subscription_ends_with_its_queue() {
    let client = in_memory(&["q"]);
    let mut subscription = client.subscribe("q", 1).expect("it is there");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let ends = [soon(subscription.next()), soon(subscription.next())];
            ends.map(|end| end.map(|message| message.is_none()))
        });
        client.delete_queue("q").expect("deleted");
        assert_eq!(waiting.join().expect("no panic"), [Ok(true), Ok(true)]);
    });
}

#[test]
fn two_subscriptions_share_a_queue() {
    let client = in_memory(&["q"]);
    let (mut first, mut second) = (client.subscribe("q", 1).expect("there"), client.subscribe("q", 1).expect("there"));
    publish(&client, "q", &["one", "two", "three"]);
    let (one, two) = (next(&mut first), next(&mut second));
    assert_ne!(text(&one), text(&two));
    drop(first);
    drop(one);
    two.ack().expect("acknowledged");
    let mut rest = Vec::new();
    for _ in 0..2 {
        let message = next(&mut second);
        rest.push(text(&message));
        message.ack().expect("acknowledged");
    }
    rest.sort();
    assert_eq!(rest, ["one", "three"]);
}

#[test]
fn waiting_for_a_message_can_have_an_end() {
    let client = in_memory(&["q"]);
    let mut subscription = client.subscribe("q", 1).expect("it is there");
    assert!(subscription.next().wait_for(Duration::ZERO).is_none());
    publish(&client, "q", &["one"]);
    assert!(subscription.next().wait_for(PATIENCE).is_some());
}
