//! Publishing and confirms.

use crate::{Scratch, drain, in_memory, publish, ready, soon};
use leveret_broker::{Broker, ClientError, Content, Environment, Limits, Properties, Published, Wait};
use std::time::Duration;

#[test]
fn a_message_arrives_as_it_was_published() {
    let client = in_memory(&["q"]);
    let properties = Properties {
        content_type: Some("text/plain"),
        message_id: Some(b"\xff1"),
        correlation_id: Some(b"c"),
        timestamp: Some(7),
        ..Properties::EMPTY
    };
    soon(client.publish("", "q", Content::from("two hares").properties(properties))).expect("confirmed");
    let message = client.get("q").expect("it is there").expect("one message");
    assert_eq!((message.body(), message.exchange(), message.routing_key()), (&b"two hares"[..], "", "q"));
    assert_eq!((message.redelivered(), message.delivery_count(), message.is_persistent()), (false, 0, true));
    let expected = Properties { delivery_mode: Some(2), ..properties };
    assert_eq!(message.properties(), Ok(expected));
}

#[test]
fn a_transient_message_stays_transient_with_properties() {
    let client = in_memory(&["q"]);
    let content = Content::new(b"").transient().properties(Properties { priority: Some(1), ..Properties::EMPTY });
    soon(client.publish("", "q", content)).expect("confirmed");
    let message = client.get("q").expect("it is there").expect("one message");
    assert!(!message.is_persistent());
}

#[test]
fn a_mandatory_message_without_a_queue_is_an_error_and_another_is_told() {
    let client = in_memory(&["q"]);
    let nowhere = Content::from("lost").mandatory();
    assert_eq!(soon(client.publish("", "gone", nowhere)), Err(ClientError::Unroutable));
    assert_eq!(soon(client.publish("", "gone", "lost")), Ok(Published::Unroutable));
    assert_eq!(soon(client.publish("", "q", nowhere)), Ok(Published::Routed));
}

#[test]
fn many_are_on_their_way_and_each_has_its_confirm() {
    let scratch = Scratch::new("pipelined");
    let client = scratch.broker().connect();
    client.declare_queue("q").expect("declared");
    let bodies: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let send = |body: &String| soon(client.send("", "q", body)).expect("taken");
    let mut confirms: Vec<_> = bodies.iter().map(send).collect();
    assert_eq!(ready(&client, "q"), 1000, "what was sent can be received");
    // The last stands for all, so that the others are done at once.
    assert_eq!(soon(confirms.pop().expect("there are some")), Ok(Published::Routed));
    for confirm in confirms {
        assert_eq!(confirm.wait_for(Duration::ZERO), Some(Ok(Published::Routed)));
    }
    assert_eq!(drain(&client, "q"), bodies);
}

#[test]
fn a_dropped_confirm_does_not_take_the_message_back() {
    let scratch = Scratch::new("dropped-confirm");
    let client = scratch.broker().connect();
    client.declare_queue("q").expect("declared");
    drop(soon(client.send("", "q", "one")).expect("taken"));
    // Polled once, so that it waits for the log, and then dropped.
    let confirm = soon(client.send("", "q", "two")).expect("taken");
    let _ = confirm.wait_for(Duration::ZERO);
    publish(&client, "q", &["three"]);
    assert_eq!(drain(&client, "q"), ["one", "two", "three"]);
}

#[test]
fn all_of_an_iterator_is_published_with_one_wait() {
    let scratch = Scratch::new("all");
    let client = scratch.broker().connect();
    for queue in ["even", "odd"] {
        client.declare_queue(queue).expect("declared");
    }
    let bodies: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let queue = |n: usize| ["even", "odd", "gone"][if n == 1000 { 2 } else { n % 2 }];
    let messages = bodies.iter().enumerate().map(|(n, body)| ("", queue(n), body));
    // The iterator may use the client while it is asked.
    let messages = messages.inspect(|_| drop(client.queue_status("even")));
    assert_eq!(soon(client.publish_all(messages)), Ok(1), "one is for no queue");
    assert_eq!((ready(&client, "even"), ready(&client, "odd")), (500, 500));
    assert_eq!(soon(client.publish_all(std::iter::empty::<(&str, &str, &str)>())), Ok(0));
}

#[test]
fn what_is_before_a_refused_message_is_published_and_what_is_behind_it_is_not() {
    let client = in_memory(&["q"]);
    let messages = [("", "q", "one"), ("gone", "q", "two"), ("", "q", "three")];
    assert!(matches!(soon(client.publish_all(messages)), Err(ClientError::Refused(error)) if error.code == 404));
    assert_eq!(drain(&client, "q"), ["one"]);
    publish(&client, "q", &["four"]);
    assert_eq!(drain(&client, "q"), ["four"]);
}

#[test]
fn what_is_larger_than_a_limit_is_refused_with_it() {
    let limits = Limits { max_message_size: 10, ..Limits::default() };
    let client = Broker::new(limits, Environment::system()).connect();
    client.declare_queue("q").expect("declared");
    publish(&client, "q", &["0123456789"]);
    let refused = soon(client.publish("", "q", "0123456789a")).expect_err("too large");
    assert_eq!(refused.to_string(), "406 - message size 11 is larger than configured max size 10");
    let long = "x".repeat(256);
    let properties = Properties { app_id: Some(&long), ..Properties::EMPTY };
    let refused = soon(client.publish("", "q", Content::from("").properties(properties))).expect_err("too long");
    assert_eq!(refused.to_string(), "406 - app_id has 256 bytes; 255 fit");
}

#[test]
fn publishing_waits_while_memory_runs_out_and_goes_on_when_it_does_not() {
    let limits = Limits { max_memory: 1_000_000, ..Limits::default() };
    let broker = Broker::new(limits, Environment::system());
    let client = broker.connect();
    client.declare_queue("q").expect("declared");
    let body = vec![0; 100_000];
    let mut published = 0;
    while client.publish("", "q", &body).wait_for(Duration::from_millis(50)).is_some() {
        published += 1;
        assert!(published < 100, "the limit counts");
    }
    assert!(broker.is_blocked());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| soon(client.publish("", "q", "at last")));
        let acking = broker.connect();
        for _ in 0..published {
            let message = acking.get("q").expect("it is there").expect("a message");
            message.ack().expect("acknowledged");
        }
        assert_eq!(waiting.join().expect("no panic"), Ok(Published::Routed));
    });
    assert_eq!(drain(&client, "q"), ["at last"]);
}
