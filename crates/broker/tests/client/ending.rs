//! How a broker ends, and what is there when it is opened again.

use crate::{Scratch, declare, disk, drain, in_memory, publish, ready, soon, text};
use expect_test::expect;
use leveret_broker::{Broker, Client, ClientError, OpenError, Wait};
use std::io::ErrorKind;
use std::time::Duration;

#[test]
fn what_was_not_acknowledged_is_there_after_a_restart() {
    let scratch = Scratch::new("restart");
    {
        let broker = scratch.broker();
        let client = broker.connect();
        declare(&client, &["q"]);
        client.bind_queue("q", "amq.topic", "hares.#").expect("bound");
        publish(&client, "q", &["one", "two", "three"]);
        soon(client.publish("", "q", leveret_broker::Content::from("transient").transient())).expect("confirmed");
        let one = client.get("q").expect("there").expect("a message");
        let mut subscription = client.subscribe("q", 1).expect("there");
        let two = soon(subscription.next()).expect("it runs").expect("there");
        assert_eq!((text(&one).as_str(), text(&two).as_str()), ("one", "two"));
        two.ack().expect("acknowledged");
        broker.shut_down().expect("it stops");
    }
    let broker = scratch.broker();
    let client = broker.connect();
    let one = client.get("q").expect("there").expect("a message");
    assert_eq!((text(&one).as_str(), one.redelivered()), ("one", true));
    one.ack().expect("acknowledged");
    assert_eq!(drain(&client, "q"), ["three"]);
    soon(client.publish("amq.topic", "hares.eu", "four")).expect("confirmed");
    assert_eq!(drain(&client, "q"), ["four"], "the binding is there, too");
    broker.shut_down().expect("it stops");
}

#[test]
fn a_directory_is_for_one_broker_at_a_time() {
    let scratch = Scratch::new("lock");
    let broker = scratch.broker();
    let client = broker.connect();
    let refused = Broker::open(scratch.path()).expect_err("it is in use");
    assert!(matches!(&refused, OpenError::Io { source, .. } if source.kind() == ErrorKind::ResourceBusy), "{refused}");
    broker.shut_down().expect("it stops");
    drop(broker);
    assert!(Broker::open(scratch.path()).is_err(), "a client still has it");
    drop(client);
    Broker::open(scratch.path()).expect("it is free").shut_down().expect("it stops");
}

/// Everything that can wait, each on a thread of its own; and what it is told by `end`.
fn told_at_the_end(client: &Client, end: impl FnOnce()) -> Vec<(&'static str, ClientError)> {
    declare(client, &["empty"]);
    let (mut first, mut second) =
        (client.subscribe("empty", 1).expect("there"), client.subscribe("empty", 1).expect("there"));
    std::thread::scope(|scope| {
        let next = scope.spawn(move || soon(first.next()).expect_err("it ends"));
        let again = scope.spawn(move || {
            let error = soon(second.next()).expect_err("it ends");
            assert_eq!(soon(second.next()).expect_err("it has ended"), error);
            error
        });
        std::thread::sleep(Duration::from_millis(20));
        end();
        vec![("next", next.join().expect("no panic")), ("next again", again.join().expect("no panic"))]
    })
}

#[test]
fn who_waits_when_the_broker_is_shut_down_is_told() {
    let scratch = Scratch::new("told");
    for broker in [scratch.broker(), Broker::in_memory()] {
        let client = broker.connect();
        for (what, error) in told_at_the_end(&client, || broker.shut_down().expect("it stops")) {
            assert_eq!(error, ClientError::ShutDown, "{what}");
        }
        assert_eq!(soon(client.publish("", "empty", "late")), Err(ClientError::ShutDown));
        assert_eq!(soon(client.publish_all([("", "empty", "late")])), Err(ClientError::ShutDown));
        assert_eq!(client.declare_queue("late"), Err(ClientError::ShutDown));
        assert_eq!(client.get("empty").map(drop), Err(ClientError::ShutDown));
        assert_eq!(soon(client.transaction().commit()), Err(ClientError::ShutDown));
        broker.shut_down().expect("again is no error");
    }
}

#[test]
fn what_was_sent_before_a_shutdown_is_confirmed_by_it() {
    let scratch = Scratch::new("flushed");
    let broker = scratch.broker();
    let client = broker.connect();
    declare(&client, &["q"]);
    let message = {
        publish(&client, "q", &["held"]);
        client.get("q").expect("there").expect("a message")
    };
    let confirm = soon(client.send("", "q", "one")).expect("taken");
    broker.shut_down().expect("it stops");
    assert!(confirm.wait_for(Duration::ZERO).expect("it is known").is_ok());
    assert_eq!(message.ack(), Err(ClientError::ShutDown), "it would not be kept");
    drop((broker, client));
    assert_eq!(drain(&scratch.broker().connect(), "q"), ["held", "one"]);
}

#[test]
fn a_confirm_that_is_waited_for_while_the_broker_stops_still_comes() {
    let scratch = Scratch::new("stopping");
    let (broker, switch) = disk::broker(scratch.path());
    let client = broker.connect();
    declare(&client, &["q"]);
    publish(&client, "q", &["one"]);
    let held = switch.hold();
    let mut confirm = soon(client.send("", "q", "two")).expect("taken");
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| broker.shut_down());
        while client.queue_status("q") != Err(ClientError::ShutDown) {
            std::thread::yield_now();
        }
        assert_eq!((&mut confirm).wait_for(Duration::from_millis(20)), None, "nobody knows yet");
        drop(held);
        stopping.join().expect("no panic").expect("it stops");
    });
    assert!(soon(confirm).is_ok());
}

#[test]
fn a_disk_that_fails_is_told_to_everybody_who_waits_and_nobody_hangs() {
    let scratch = Scratch::new("failed");
    let (broker, switch) = disk::broker(scratch.path());
    let client = broker.connect();
    declare(&client, &["q"]);
    publish(&client, "q", &["kept"]);
    let kept = client.get("q").expect("there").expect("a message");
    let mut committing = client.transaction();
    committing.publish("", "q", "in a transaction").expect("taken");
    let large = vec![1; 1_000_000];
    let told = std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        let told = told_at_the_end(&client, || {
            switch.fail();
            waiting.push(scope.spawn(|| soon(client.publish("", "q", "lost")).map(drop)));
            waiting.push(scope.spawn(|| soon(client.publish("", "q", &large)).map(drop)));
            waiting.push(scope.spawn(|| soon(client.publish_all([("", "q", "lost"), ("", "q", "too")])).map(drop)));
            waiting.push(scope.spawn(|| soon(committing.commit())));
        });
        let others = waiting.into_iter().map(|it| ("waiting", it.join().expect("no panic").expect_err("it fails")));
        told.into_iter().chain(others).collect::<Vec<_>>()
    });
    for (what, error) in &told {
        let ClientError::LogFailed(why) = error else { panic!("{what}: {error:?}") };
        assert!(why.contains("the cable is out"), "{what}: {why}");
    }
    expect!["the log cannot be written: the cable is out; nothing is confirmed any more, restart to recover"]
        .assert_eq(&told[0].1.to_string());
    assert!(matches!(soon(client.publish("", "q", "late")), Err(ClientError::LogFailed(_))));
    assert!(matches!(kept.ack(), Err(ClientError::LogFailed(_))));
    assert!(broker.shut_down().is_err());
    drop((client, broker));
    // What was confirmed is there; what was not may be.
    let client = scratch.broker().connect();
    assert!(ready(&client, "q") >= 1);
    assert_eq!(drain(&client, "q").first().map(String::as_str), Some("kept"));
}

#[test]
fn what_is_in_memory_ends_with_its_broker() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one"]);
    let broker = Broker::in_memory();
    assert!(broker.connect().queue_status("q").is_err());
    assert_eq!(drain(&client, "q"), ["one"]);
}
