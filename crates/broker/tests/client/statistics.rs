//! What a broker tells of itself.

use crate::{Scratch, drain, in_memory, publish};
use leveret_broker::{Broker, Distribution, QueueChurn, QueueCounters};
use std::time::Duration;

#[test]
fn a_durable_broker_measures_its_log_and_its_start() {
    let scratch = Scratch::new("statistics");
    let broker = scratch.broker();
    let client = broker.connect();
    client.declare_queue("q").expect("a new queue");
    for _ in 0..5 {
        publish(&client, "q", &["0123456789"; 4]);
    }
    let statistics = broker.statistics();
    let disk = statistics.disk.expect("it is durable");
    assert_eq!(
        (statistics.confirmed, statistics.queues.of_all().published, statistics.exchanges.published_in),
        (20, 20, 20)
    );
    assert_eq!(statistics.confirm_latency.count, 20, "all waited for the log");
    assert!(
        disk.sync_time.count > 0 && disk.sync_time.quantile(0.5).is_some_and(|time| time < Duration::from_secs(20))
    );
    assert!(disk.messages_in >= 200 && disk.log_written >= disk.messages_in && disk.written >= disk.log_written);
    assert!(disk.write_amplification().is_some_and(|by| by > 1.0));
    assert!(
        disk.files.iter().any(|files| files.kind == "log" && files.files > 0 && files.bytes > 0),
        "{:?}",
        disk.files
    );
    assert!(disk.free.is_some_and(|free| free > 0) && !statistics.memory_alarm && !statistics.disk_alarm);
    broker.shut_down().expect("a healthy disk");
    drop((client, broker));

    let broker = scratch.broker();
    let statistics = broker.statistics();
    let recovery = statistics.disk.expect("it is durable").recovery;
    assert_eq!((recovery.queues, recovery.messages, recovery.damaged), (1, 20, 0));
    assert!(recovery.time > Duration::ZERO && recovery.time < Duration::from_secs(20));
    assert_eq!((statistics.confirmed, statistics.queues.of_all().published), (0, 0), "counters begin anew");
    assert_eq!(drain(&broker.connect(), "q").len(), 20);
    let vhost = broker.vhost("/").expect("the default virtual host");
    assert!(broker.statistics().disk.expect("it is durable").read > 0 || vhost.queue_info("q").is_some());
}

#[test]
fn sums_keep_what_is_gone() {
    let client = in_memory(&["a", "b"]);
    publish(&client, "a", &["1", "2", "3"]);
    publish(&client, "b", &["4"]);
    drain(&client, "a");
    client.delete_queue("a").expect("it is there");
    let vhost = client.vhost();
    let totals = vhost.queue_totals();
    assert_eq!((totals.of_all().published, totals.of_all().handed_out()), (4, 3));
    assert_eq!((totals.classic, totals.quorum), (totals.of_all(), QueueCounters::default()));
    client.declare_queue("b").expect("it is there");
    let QueueChurn { declared, created, deleted } = vhost.queue_churn();
    assert_eq!((declared, created, deleted), (3, 2, 1));
    assert_eq!(vhost.exchange_counters().published_in, 4);

    let broker = Broker::in_memory();
    broker.create_vhost("other");
    let client = broker.connect_to("other").expect("it is there");
    client.declare_queue("q").expect("a new queue");
    publish(&client, "q", &["1", "2"]);
    assert!(broker.delete_vhost("other"));
    let statistics = broker.statistics();
    assert_eq!((statistics.queues.of_all().published, statistics.exchanges.published_out), (2, 2));
    assert!(statistics.disk.is_none() && statistics.confirm_latency == Distribution::default());
}

#[test]
fn sums_never_fall_while_a_virtual_host_is_deleted() {
    const QUEUES: u64 = 5000;
    let broker = Broker::in_memory();
    broker.create_vhost("other");
    let client = broker.connect_to("other").expect("it is there");
    for number in 0..QUEUES {
        let queue = number.to_string();
        client.declare_queue(&queue).expect("a new queue");
        publish(&client, &queue, &["1"]);
    }
    let counted = || {
        let (statistics, churn) = (broker.statistics(), broker.queue_churn());
        (statistics.queues.of_all().published, statistics.exchanges.published_in, churn.created)
    };
    let all = (QUEUES, QUEUES, QUEUES);
    assert_eq!(counted(), all);
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| broker.delete_vhost("other"));
        while !deleting.is_finished() {
            assert_eq!(counted(), all);
        }
    });
    assert_eq!((counted(), broker.queue_churn().deleted), (all, QUEUES));
}
