//! Policies that come and go while a queue is in use.

use crate::{PATIENCE, Scratch, declare, drain, publish, ready, soon};
use leveret_broker::table::FieldTable;
use leveret_broker::{ApplyTo, Broker, Policy, PolicyKind, Wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn set(broker: &Broker, definition: FieldTable) {
    let (name, pattern) = ("p".to_string(), "^q$".to_string());
    let policy = Policy { name, pattern, apply_to: ApplyTo::Queues, priority: 0, definition };
    broker.vhost("/").expect("it is there").set_policy(PolicyKind::User, policy).expect("it is valid");
}

/// None of these drops anything, so everything comes, once and in order.
fn harmless(round: usize) -> FieldTable {
    let table = FieldTable::new();
    match round % 5 {
        0 => table.with("max-length-bytes", 1i64 << 40),
        1 => table.with("message-ttl", 3_600_000i64),
        2 => table.with("max-length", 1i64 << 40).with("overflow", "reject-publish"),
        3 => table.with("expires", 3_600_000i64).with("dead-letter-exchange", ""),
        _ => table.with("max-length-bytes", 1i64 << 40).with("overflow", "reject-publish"),
    }
}

#[test]
fn policies_change_while_a_queue_is_in_use() {
    const MESSAGES: u32 = 30_000;
    let scratch = Scratch::new("policies");
    let broker = scratch.broker();
    declare(&broker.connect(), &["q"]);
    let (over, publisher, consumer) = (AtomicBool::new(false), broker.connect(), broker.connect());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for chunk in (0..MESSAGES).collect::<Vec<_>>().chunks(50) {
                let bodies: Vec<String> = chunk.iter().map(|number| format!("{number:06}")).collect();
                let messages = bodies.iter().map(|body| ("", "q", body.as_str()));
                assert_eq!(soon(publisher.publish_all(messages)).expect("confirmed"), 0);
            }
        });
        let changes = scope.spawn(|| {
            let (vhost, mut round) = (broker.vhost("/").expect("it is there"), 0);
            while !over.load(Ordering::Relaxed) {
                set(&broker, harmless(round));
                if round % 3 == 0 {
                    assert!(vhost.delete_policy(PolicyKind::User, "p"));
                }
                round += 1;
            }
            round
        });
        let mut subscription = consumer.subscribe("q", 500).expect("it is there");
        for expected in 0..MESSAGES {
            let message = subscription.next().wait_for(PATIENCE).expect("it comes").expect("it runs").expect("there");
            assert_eq!(message.body(), format!("{expected:06}").as_bytes());
            message.ack().expect("acknowledged");
        }
        over.store(true, Ordering::Relaxed);
        assert!(changes.join().expect("it ends") > 10);
    });
    // What is counted is right again.
    let client = broker.connect();
    set(&broker, FieldTable::new().with("max-length-bytes", 10i64));
    publish(&client, "q", &["12345", "12345", "123456"]);
    assert_eq!(drain(&client, "q"), ["123456"]);
    soon(broker.stored()).expect("the log works");
    broker.shut_down().expect("it stops");
}

#[test]
fn a_thousand_queues_follow_a_policy_soon() {
    let broker = Broker::in_memory();
    let client = broker.connect();
    (0..1000).for_each(|number| declare(&client, &[&format!("q{number}")]));
    publish(&client, "q7", &["1", "2", "3"]);
    let vhost = broker.vhost("/").expect("it is there");
    let definition = FieldTable::new().with("max-length", 1i64);
    let policy =
        Policy { name: "all".to_string(), pattern: "^q".to_string(), apply_to: ApplyTo::All, priority: 0, definition };
    let begun = Instant::now();
    assert!(vhost.set_policy(PolicyKind::Operator, policy).expect("it is valid"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(ready(&client, "q7"), 1);
    let applied = vhost.queue_policies("q999").expect("it is there");
    assert_eq!(applied.operator.expect("it has one").name, "all");
}
