//! Metrics for Prometheus: the names of RabbitMQ 3.10's plugin, and samples that say what has happened.

use crate::api::{Answer, Api, eventually};
use leveret_broker::Wait;
use std::collections::BTreeMap;

/// Names and types that RabbitMQ's plugin rabbitmq_prometheus has at /metrics, without those of Erlang.
const OF_RABBITMQ: &str = include_str!("rabbitmq/metrics.txt");

/// Names that are left out, or how they begin, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("rabbitmq_raft_", "there is no Raft"),
    ("rabbitmq_schema_db_", "there is no Mnesia"),
    ("rabbitmq_msg_store_", "the inside of RabbitMQ's message store"),
    ("rabbitmq_queue_index_", "the inside of RabbitMQ's queues"),
    ("rabbitmq_io_read_ops_total", "bytes are counted, and syncs"),
    ("rabbitmq_io_write_ops_total", "bytes are counted, and syncs"),
    ("rabbitmq_io_seek_", "nothing seeks"),
    ("rabbitmq_io_reopen_ops_total", "files stay open"),
    ("rabbitmq_io_read_time_seconds_total", "syncs are timed"),
    ("rabbitmq_io_write_time_seconds_total", "syncs are timed"),
    ("rabbitmq_queue_process_", "Erlang's processes"),
    ("rabbitmq_channel_process_", "Erlang's processes"),
    ("rabbitmq_connection_process_", "Erlang's processes"),
    ("rabbitmq_connection_pending_packets", "output is counted in bytes"),
    ("rabbitmq_queue_consumer_", "not measured"),
    ("rabbitmq_queue_messages_ram", "messages are in blocks: only their bytes are known"),
    ("rabbitmq_queue_messages_ready_ram", "messages are in blocks"),
    ("rabbitmq_queue_messages_unacked_ram", "messages are in blocks"),
    ("rabbitmq_queue_messages_paged_out", "messages are in blocks: only their bytes are known"),
    ("rabbitmq_queue_messages_persistent_bytes", "not measured"),
    (
        "rabbitmq_queue_head_message_timestamp",
        "leveret_queue_oldest_message_age_seconds, which does not trust publishers",
    ),
    ("rabbitmq_queue_disk_", "counted in bytes, for all queues together"),
    ("rabbitmq_global_publishers", "a channel is no publisher before it publishes, and one for ever behind that"),
    ("rabbitmq_global_messages_dead_lettered_confirmed_total", "a letter is moved by one record: all arrive"),
];

impl Answer {
    /// The sample of this name and these labels, as it is written.
    fn sample(&self, name: &str) -> Option<f64> {
        let rest = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        rest.and_then(|value| value.parse().ok())
    }

    fn types(&self) -> BTreeMap<&str, &str> {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        lines.collect()
    }
}

#[test]
fn names_and_types_are_those_of_rabbitmq() {
    let directory = std::env::temp_dir().join(format!("leveret-metrics-{}", std::process::id()));
    let broker = leveret_broker::Broker::open(&directory).expect("a broker");
    let api = Api::of(broker, leveret_server::ServerLimits::default());
    let answer = api.must("GET /metrics", "", 200);
    let ours = answer.types();
    let is_left_out =
        |name: &str| LEFT_OUT.iter().any(|(left, _)| *left == name || left.ends_with('_') && name.starts_with(left));
    for line in OF_RABBITMQ.lines() {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        match ours.get(name) {
            Some(found) => {
                assert_eq!(*found, kind, "the type of {name}");
                assert!(!is_left_out(name), "{name} is there, and listed as left out");
            }
            None => assert!(is_left_out(name), "{name} is missing"),
        }
    }
    drop(api);
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn samples_tell_what_has_happened() {
    let api = Api::start();
    let client = api.client();
    client.declare_queue("a\"b").expect("declared");
    for body in ["one", "three"] {
        client.publish("", "a\"b", body).wait().expect("published");
    }
    client.get("a\"b").expect("got").expect("a message").ack().expect("acknowledged");
    let answer = api.must("GET /metrics", "", 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.sample("rabbitmq_queue_messages_ready"), Some(1.0));
    assert_eq!(answer.sample("rabbitmq_queue_messages_ready_bytes"), Some(5.0));
    assert_eq!(answer.sample("rabbitmq_queues"), Some(1.0));
    let acked = "rabbitmq_global_messages_acknowledged_total{protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}";
    eventually("the acknowledgement is counted", || api.ask("GET /metrics").sample(acked) == Some(1.0));

    let ready = "rabbitmq_queue_messages_ready{vhost=\"/\",queue=\"a\\\"b\"}";
    assert_eq!(api.must("GET /metrics/per-object", "", 200).sample(ready), Some(1.0));
    let detailed = "GET /metrics/detailed?family=queue_coarse_metrics";
    let ready = ready.replace("rabbitmq_", "rabbitmq_detailed_");
    let answer = api.must(detailed, "", 200);
    assert_eq!(answer.sample(&ready), Some(1.0));
    assert!(answer.types().keys().all(|name| name.starts_with("rabbitmq_detailed_queue_messages")), "{}", answer.body);
    assert_eq!(api.must(&format!("{detailed}&vhost=other"), "", 200).sample(&ready), None);
}

#[test]
fn counters_keep_what_happened_in_queues_and_virtual_hosts_that_are_gone() {
    let api = Api::start();
    api.must("PUT /api/vhosts/other", "", 201);
    for (kind, label) in [("classic", "rabbit_classic_queue"), ("quorum", "rabbit_quorum_queue")] {
        let queue = format!("/api/queues/other/{kind}");
        let body = format!(r#"{{"durable": true, "arguments": {{"x-queue-type": "{kind}"}}}}"#);
        api.must(&format!("PUT {queue}"), &body, 201);
        let message =
            format!(r#"{{"properties": {{}}, "routing_key": "{kind}", "payload": "x", "payload_encoding": "string"}}"#);
        api.must("POST /api/exchanges/other/amq.default/publish", &message, 200);
        let get = r#"{"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}"#;
        api.must(&format!("POST {queue}/get"), get, 200);
        let got = "rabbitmq_global_messages_delivered_get_manual_ack_total";
        let got = format!("{got}{{protocol=\"amqp091\",queue_type=\"{label}\"}}");
        let is_counted = || api.ask("GET /metrics").sample(&got) == Some(1.0);
        eventually("the message is counted", is_counted);
        api.must(&format!("DELETE {queue}"), "", 204);
        assert!(is_counted(), "{kind}: {}", api.ask("GET /metrics").body);
    }
    let routed = "rabbitmq_global_messages_routed_total{protocol=\"amqp091\"}";
    api.must("DELETE /api/vhosts/other", "", 204);
    let answer = api.must("GET /metrics", "", 200);
    assert_eq!(answer.sample(routed), Some(2.0));
    for (name, count) in [("declared", 2.0), ("created", 2.0), ("deleted", 2.0)] {
        assert_eq!(answer.sample(&format!("rabbitmq_queues_{name}_total")), Some(count), "{name}");
    }
}

#[test]
fn logins_are_counted() {
    let api = Api::start();
    let count = |outcome: &str| {
        let text = api.must("GET /metrics", "", 200);
        text.sample(&format!("rabbitmq_auth_attempts{outcome}_total{{protocol=\"http\"}}")).unwrap_or(0.0)
    };
    let (all, failed) = (count(""), count("_failed"));
    assert_eq!(api.ask_as("guest:wrong", "GET /api/whoami", "").status, 401);
    assert_eq!(count("_failed"), failed + 1.0);
    assert!(count("") >= all + 2.0, "that one, and this one's own");
    assert_eq!(count(""), count("_succeeded") + count("_failed") - 1.0, "a scrape counts itself");
}

#[test]
fn they_are_for_those_who_may_monitor() {
    let api = Api::start();
    assert_eq!(api.ask_as("", "GET /metrics", "").status, 401);
    api.must("PUT /api/users/ann", r#"{"password": "a", "tags": "management"}"#, 201);
    assert_eq!(api.ask_as("ann:a", "GET /metrics", "").status, 401);
    api.must("PUT /api/users/ann", r#"{"password": "a", "tags": "monitoring"}"#, 204);
    assert_eq!(api.ask_as("ann:a", "GET /metrics/per-object", "").status, 200);
}
