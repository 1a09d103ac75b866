//! Entries, and virtual hosts that come and go.

use crate::{PATIENCE, Scratch, declare, disk, drain, publish, soon};
use expect_test::expect;
use leveret_broker::{Broker, ClientError, Wait};
use std::time::Duration;

/// Everything in a table, in words.
fn table(broker: &Broker, table: &str) -> Vec<String> {
    let entries = broker.entries(table);
    entries.iter().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value))).collect()
}

fn set(broker: &Broker, table: &str, key: &str, value: Option<&str>) {
    let stored = broker.set_entry(table, key, value.map(str::as_bytes)).expect("within the limits");
    soon(stored).expect("the log works");
}

#[test]
fn an_entry_survives_once_it_is_stored() {
    let scratch = Scratch::new("entries");
    {
        let broker = scratch.broker();
        for (key, value) in [("b", "1"), ("a", "2"), ("c", "3"), ("a", "4")] {
            set(&broker, "user", key, Some(value));
        }
        set(&broker, "user", "c", None);
        set(&broker, "user", "never there", None);
        set(&broker, "other", "a", Some(""));
        assert_eq!(table(&broker, "user"), ["a=4", "b=1"]);
        // Nothing was shut down: this is what a killed process leaves.
        let copy = Scratch::new("entries-copy");
        std::fs::create_dir_all(copy.path()).expect("a directory of our own");
        for file in std::fs::read_dir(scratch.path()).expect("it is there").flatten() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
        }
        let restarted = copy.broker();
        assert_eq!(
            (table(&restarted, "user"), table(&restarted, "other")),
            (vec!["a=4".into(), "b=1".into()], vec!["a=".into()])
        );
        // From a checkpoint as well.
        restarted.shut_down().expect("it stops");
        drop(restarted);
        let restarted = copy.broker();
        assert_eq!(table(&restarted, "user"), ["a=4", "b=1"]);
        assert_eq!(restarted.entry("user", "b").as_deref(), Some(&b"1"[..]));
        assert_eq!(restarted.entry("user", "c"), None);
    }
}

#[test]
fn a_broker_in_memory_has_entries_too() {
    let broker = Broker::in_memory();
    set(&broker, "user", "a", Some("1"));
    assert_eq!(table(&broker, "user"), ["a=1"]);
    soon(broker.stored()).expect("there is nothing to wait for");
}

#[test]
fn who_waits_for_an_entry_is_told_when_the_log_fails_or_the_broker_ends() {
    let scratch = Scratch::new("entries-failing");
    let (broker, switch) = disk::broker(scratch.path());
    set(&broker, "user", "a", Some("1"));
    let held = switch.hold();
    let mut stored = std::pin::pin!(broker.set_entry("user", "b", Some(b"2")).expect("within the limits"));
    assert_eq!(stored.as_mut().wait_for(Duration::from_millis(50)), None, "no sync is done");
    switch.fail();
    drop(held);
    let error = stored.wait_for(PATIENCE).expect("it ends").expect_err("the log has failed");
    assert!(matches!(error, ClientError::LogFailed(_)), "{error}");

    let scratch = Scratch::new("entries-ending");
    let broker = scratch.broker();
    broker.shut_down().expect("it stops");
    let stored = broker.set_entry("user", "b", Some(b"2")).expect("within the limits");
    assert_eq!(soon(stored).expect_err("it was too late"), ClientError::ShutDown);
}

#[test]
fn a_virtual_host_ends_with_everything_in_it() {
    let scratch = Scratch::new("vhosts");
    let broker = scratch.broker();
    assert!(broker.create_vhost("a") && broker.create_vhost("b") && !broker.create_vhost("a"));
    let (a, b) = (broker.connect_to("a").expect("there"), broker.connect_to("b").expect("there"));
    for client in [&a, &b] {
        declare(client, &["q"]);
        client.declare_exchange("e", leveret_broker::ExchangeType::Fanout).expect("declared");
        client.bind_queue("q", "e", "").expect("bound");
        publish(client, "q", &["one", "two"]);
    }
    set(&broker, "policy:a", "p", Some("of a"));
    set(&broker, "policy:b", "p", Some("of b"));
    let mut subscription = a.subscribe("q", 1).expect("there");
    let one = soon(subscription.next()).expect("it runs").expect("there");
    assert!(broker.delete_vhost("a") && !broker.delete_vhost("a"));
    expect![[r#"
        Refused(
            Error {
                scope: Connection,
                code: 320,
                text: "vhost 'a' is deleted",
            },
        )
    "#]]
    .assert_debug_eq(&soon(a.publish("", "q", "three")).expect_err("it is deleted"));
    assert!(a.declare_queue("q").is_err() && a.bind_queue("q", "e", "").is_err() && a.queue_status("q").is_err());
    assert!(soon(subscription.next()).expect("it runs").is_none(), "the subscription ends");
    drop(one);
    assert!(broker.set_entry("policy:a", "p", Some(b"nobody's")).is_err(), "there is no such virtual host");
    let names: Vec<_> = broker.vhosts().iter().map(|vhost| vhost.name().to_string()).collect();
    assert_eq!(names, ["/", "b"]);

    // Another one of that name has nothing of the first.
    assert!(broker.create_vhost("a"));
    let again = broker.connect_to("a").expect("there");
    assert_eq!(table(&broker, "policy:a"), [""; 0]);
    assert!(again.queue_status("q").is_err() && again.delete_exchange("e").is_ok());
    declare(&again, &["q"]);
    publish(&again, "q", &["three"]);
    for _ in 0..2 {
        let copy = Scratch::new("vhosts-copy");
        std::fs::create_dir_all(copy.path()).expect("a directory of our own");
        for file in std::fs::read_dir(scratch.path()).expect("it is there").flatten() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
        }
        let restarted = copy.broker();
        let of = |vhost: &str| drain(&restarted.connect_to(vhost).expect("there"), "q");
        assert_eq!((of("a"), of("b")), (vec!["three".to_string()], vec!["one".to_string(), "two".to_string()]));
        assert_eq!((table(&restarted, "policy:a").len(), table(&restarted, "policy:b").len()), (0, 1));
        // The second time from a checkpoint.
        broker.shut_down().expect("it stops");
    }
}

#[test]
fn the_first_virtual_host_can_be_deleted_and_stays_so() {
    let scratch = Scratch::new("vhosts-first");
    let broker = scratch.broker();
    assert!(broker.create_vhost("a") && broker.delete_vhost("/"));
    broker.shut_down().expect("it stops");
    drop(broker);
    let broker = scratch.broker();
    assert!(broker.vhost("/").is_none() && broker.vhost("a").is_some());
    assert!(broker.delete_vhost("a"));
    soon(broker.stored()).expect("the log works");
    let client = broker.connect();
    declare(&client, &["q"]);
    assert_eq!(broker.vhosts().len(), 1, "who connects to it makes it");
}
