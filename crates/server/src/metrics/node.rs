//! What is told of the process, of the log and of the broker as a whole.

use super::View;
use super::text::{Kind, Text};
use crate::auth::Door;
use crate::http::node;
use crate::registry::ChannelTotals;
use crate::server::Server;
use Kind::{Counter, Gauge, Untyped};
use leveret_broker::{Deaths, DiskStatistics, Distribution, QueueCounters, QueueTotals, Statistics};
use std::time::UNIX_EPOCH;

/// RabbitMQ's labels: one protocol, and two types of queues.
const PROTOCOL: (&str, &str) = ("protocol", "amqp091");
const CLASSIC: (&str, &str) = ("queue_type", "rabbit_classic_queue");
const QUORUM: (&str, &str) = ("queue_type", "rabbit_quorum_queue");

/// Writes what does not depend on queues, channels and connections.
pub fn put(text: &mut Text, server: &Server, view: &View, statistics: Option<&Statistics>) {
    if view.has("alarms") {
        put_alarms(text, server);
    }
    if view.has("connection_churn_metrics") {
        let (opened, closed) = server.registry.churn();
        let help = "Total number of connections opened";
        text.family("connections_opened_total", Counter, help).value(opened as f64);
        let help = "Total number of connections closed or terminated";
        text.family("connections_closed_total", Counter, help).value(closed as f64);
    }
    if view.has("auth_attempt_metrics") {
        put_logins(text, server);
    }
    if view.has("node_coarse_metrics") {
        put_process(text, server);
    }
    if view.has("node_metrics") {
        put_limits(text, server);
    }
    if view.has("node_persister_metrics")
        && let Some(disk) = statistics.and_then(|statistics| statistics.disk.as_ref())
    {
        put_disk(text, disk);
    }
}

fn put_alarms(text: &mut Text, server: &Server) {
    let is = |on: bool| f64::from(u8::from(on));
    let help = "is 1 if free disk space watermark alarm is in effect";
    text.family("alarms_free_disk_space_watermark", Untyped, help).value(is(server.broker.is_disk_full()));
    let help = "is 1 if VM memory watermark alarm is in effect";
    text.family("alarms_memory_used_watermark", Untyped, help).value(is(server.broker.is_short_of_memory()));
    let full = server.registry.len() >= server.limits.max_connections;
    let help = "is 1 if file descriptor limit alarm is in effect";
    text.family("alarms_file_descriptor_limit", Untyped, help).value(is(full));
}

fn put_logins(text: &mut Text, server: &Server) {
    let doors = [("amqp091", Door::Amqp), ("http", Door::Http)].map(|(name, door)| (name, server.users.attempts(door)));
    let mut put = |name, help, of: fn((u64, u64)) -> u64| {
        let mut family = text.family(name, Counter, help);
        doors.iter().for_each(|(name, attempts)| family.sample(&[("protocol", name)], of(*attempts) as f64));
    };
    put("auth_attempts_total", "Total number of authorization attempts", |(succeeded, failed)| succeeded + failed);
    let help = "Total number of successful authentication attempts";
    put("auth_attempts_succeeded_total", help, |(succeeded, _)| succeeded);
    put("auth_attempts_failed_total", "Total number of failed authentication attempts", |(_, failed)| failed);
}

fn put_process(text: &mut Text, server: &Server) {
    text.family("process_open_fds", Gauge, "Open file descriptors").value(node::files_open() as f64);
    text.family("process_open_tcp_sockets", Gauge, "Open TCP sockets").value(server.registry.len() as f64);
    text.family("process_resident_memory_bytes", Gauge, "Memory used in bytes").value(node::memory_used() as f64);
    if let Some(free) = server.broker.disk_free() {
        text.family("disk_space_available_bytes", Gauge, "Disk space available in bytes").value(free as f64);
    }
}

/// What the log does: under RabbitMQ's names where it has them.
fn put_disk(text: &mut Text, disk: &DiskStatistics) {
    text.family("io_read_bytes_total", Counter, "Total number of I/O bytes read").value(disk.read as f64);
    text.family("io_write_bytes_total", Counter, "Total number of I/O bytes written").value(disk.written as f64);
    let syncs = disk.sync_time.count as f64;
    text.family("io_sync_ops_total", Counter, "Total number of I/O sync operations").value(syncs);
    let time = disk.sync_time.sum.as_secs_f64();
    text.family("io_sync_time_seconds_total", Counter, "Total I/O sync time").value(time);
}

/// The rest of it, and of confirms: Leveret's own.
fn put_own(text: &mut Text, statistics: &Statistics) {
    let help = "Time from a message's way into the log to its confirm";
    put_distribution(text, "leveret_confirm_latency_seconds", help, &statistics.confirm_latency);
    let Some(disk) = &statistics.disk else { return };
    put_distribution(text, "leveret_log_sync_seconds", "Time of syncs of the log", &disk.sync_time);
    let help = "Bytes of messages that came into the log: bodies with their properties";
    text.family("leveret_log_messages_bytes_total", Counter, help).value(disk.messages_in as f64);
    text.family("leveret_log_written_bytes_total", Counter, "Bytes of the log written").value(disk.log_written as f64);
    if let Some(factor) = disk.write_amplification() {
        let help = "Bytes written to all files per byte of messages that came into the log";
        text.family("leveret_write_amplification", Gauge, help).value(factor);
    }
    let mut family = text.family("leveret_files_bytes", Gauge, "Bytes of files in the data directory, by kind");
    disk.files.iter().for_each(|files| family.sample(&[("kind", &files.kind)], files.bytes as f64));
    let help = "Time that the start took to find what there was";
    text.family("leveret_recovery_seconds", Gauge, help).value(disk.recovery.time.as_secs_f64());
}

/// Of the distribution's four buckets to an octave, one.
fn put_distribution(text: &mut Text, name: &str, help: &str, distribution: &Distribution) {
    let (mut below, mut buckets) = (0, Vec::new());
    for (at, count) in distribution.buckets.iter().enumerate() {
        below += count;
        if let Some(bound) = Distribution::bound(at).filter(|_| at % 4 == 0) {
            buckets.push((bound.as_secs_f64(), below));
        }
    }
    text.histogram(name, help, &buckets, distribution.count, distribution.sum.as_secs_f64());
}

fn put_limits(text: &mut Text, server: &Server) {
    let limits = server.broker.limits();
    text.family("process_max_fds", Gauge, "Open file descriptors limit").value(node::file_limit() as f64);
    let sockets = server.limits.max_connections as f64;
    text.family("process_max_tcp_sockets", Gauge, "Open TCP sockets limit").value(sockets);
    let help = "Memory high watermark in bytes";
    text.family("resident_memory_limit_bytes", Gauge, help).value(limits.max_memory as f64);
    let help = "Free disk space low watermark in bytes";
    text.family("disk_space_available_limit_bytes", Gauge, help).value(limits.min_free_disk as f64);
}

/// Writes what is told of everything together.
pub fn put_totals(text: &mut Text, server: &Server, statistics: &Statistics) {
    let start = server.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let help = "Start time of the process since unix epoch in seconds";
    text.family("process_start_time_seconds", Gauge, help).value(start);
    let version = [("rabbitmq_version", node::RABBITMQ_VERSION), ("leveret_version", node::VERSION)];
    text.family("build_info", Untyped, "Version info").sample(&version, 1.0);
    let cluster = crate::http::cluster_name(server);
    let identity = [("rabbitmq_node", node::name()), ("rabbitmq_cluster", &cluster)];
    text.family("identity_info", Untyped, "Node & cluster identity info").sample(&identity, 1.0);
    let whole = Whole::look(server, statistics);
    whole.put_objects(text);
    whole.put_messages(text);
    put_own(text, statistics);
}

/// All that is counted of the broker.
struct Whole {
    connections: usize,
    open_channels: usize,
    queues: usize,
    consumers: usize,
    /// Those that are gone included.
    totals: QueueTotals,
    routed: u64,
    channels: ChannelTotals,
}

impl Whole {
    fn look(server: &Server, statistics: &Statistics) -> Whole {
        let connections = server.registry.connections();
        let mut whole = Whole {
            connections: connections.len(),
            open_channels: connections.iter().map(|connection| connection.channels().len()).sum(),
            queues: 0,
            consumers: 0,
            totals: statistics.queues,
            routed: statistics.exchanges.published_out,
            channels: server.registry.channel_totals(),
        };
        for vhost in server.broker.vhosts() {
            vhost.visit_queues(
                |_| true,
                |queue| {
                    whole.queues += 1;
                    whole.consumers += queue.consumers;
                },
            );
        }
        whole
    }

    fn put_objects(&self, text: &mut Text) {
        let mut gauge = |name, value: usize, help| text.family(name, Gauge, help).value(value as f64);
        gauge("connections", self.connections, "Connections currently open");
        gauge("channels", self.open_channels, "Channels currently open");
        gauge("consumers", self.consumers, "Consumers currently connected");
        gauge("queues", self.queues, "Queues available");
        let mut counter = |name, value: u64, help| text.family(name, Counter, help).value(value as f64);
        counter("channels_opened_total", self.channels.opened, "Total number of channels opened");
        counter("channels_closed_total", self.channels.closed, "Total number of channels closed");
        counter("queues_declared_total", self.totals.churn.declared, "Total number of queues declared");
        counter("queues_created_total", self.totals.churn.created, "Total number of queues created");
        counter("queues_deleted_total", self.totals.churn.deleted, "Total number of queues deleted");
    }

    /// RabbitMQ's global counters.
    fn put_messages(&self, text: &mut Text) {
        let ChannelTotals { counters, to_confirm, .. } = self.channels;
        let consumers = "Current number of consumers";
        text.family("global_consumers", Gauge, consumers).sample(&[PROTOCOL], self.consumers as f64);
        let by_protocol: [(&'static str, u64, &str); 6] = [
            ("global_messages_received_total", counters.publish, "Total number of messages received from publishers"),
            (
                "global_messages_received_confirm_total",
                to_confirm,
                "Total number of messages received from publishers expecting confirmations",
            ),
            ("global_messages_confirmed_total", counters.confirm, "Total number of messages confirmed to publishers"),
            ("global_messages_routed_total", self.routed, "Total number of messages routed to queues or streams"),
            (
                "global_messages_unroutable_dropped_total",
                counters.drop_unroutable,
                "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
            ),
            (
                "global_messages_unroutable_returned_total",
                counters.return_unroutable,
                "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
            ),
        ];
        for (name, value, help) in by_protocol {
            text.family(name, Counter, help).sample(&[PROTOCOL], value as f64);
        }
        for (name, of, help) in BY_TYPE {
            let mut family = text.family(name, Counter, help);
            family.sample(&[PROTOCOL, CLASSIC], of(&self.totals.classic) as f64);
            family.sample(&[PROTOCOL, QUORUM], of(&self.totals.quorum) as f64);
        }
        for (name, of, help) in DEAD_LETTERED {
            let mut family = text.family(name, Counter, help);
            for (kind, counters) in [(CLASSIC, &self.totals.classic), (QUORUM, &self.totals.quorum)] {
                // A letter is moved by one record of the log: it is never lost on its way.
                let (moved, died) = (of(&counters.dead_lettered), of(&counters.died));
                family.sample(&[kind, ("dead_letter_strategy", "at_least_once")], moved as f64);
                family.sample(&[kind, ("dead_letter_strategy", "disabled")], died.saturating_sub(moved) as f64);
            }
        }
    }
}

type Row<T> = (&'static str, fn(&T) -> u64, &'static str);

/// By type of queue.
const BY_TYPE: &[Row<QueueCounters>] = &[
    ("global_messages_acknowledged_total", |it| it.acked, "Total number of messages acknowledged by consumers"),
    ("global_messages_delivered_total", |it| it.handed_out(), "Total number of messages delivered to consumers"),
    (
        "global_messages_delivered_consume_auto_ack_total",
        |it| it.delivered_no_ack,
        "Total number of messages delivered to consumers using basic.consume with automatic acknowledgment",
    ),
    (
        "global_messages_delivered_consume_manual_ack_total",
        |it| it.delivered,
        "Total number of messages delivered to consumers using basic.consume with manual acknowledgment",
    ),
    (
        "global_messages_delivered_get_auto_ack_total",
        |it| it.got_no_ack,
        "Total number of messages delivered to consumers using basic.get with automatic acknowledgment",
    ),
    (
        "global_messages_delivered_get_manual_ack_total",
        |it| it.got,
        "Total number of messages delivered to consumers using basic.get with manual acknowledgment",
    ),
    (
        "global_messages_get_empty_total",
        |it| it.get_empty,
        "Total number of times basic.get operations fetched no message",
    ),
    ("global_messages_redelivered_total", |it| it.redelivered, "Total number of messages redelivered to consumers"),
];

/// By type of queue, and by what became of the messages.
const DEAD_LETTERED: &[Row<Deaths>] = &[
    (
        "global_messages_dead_lettered_delivery_limit_total",
        |it| it.delivery_limit,
        "Total number of messages dead-lettered due to delivery-limit exceeded",
    ),
    (
        "global_messages_dead_lettered_expired_total",
        |it| it.expired,
        "Total number of messages dead-lettered due to message TTL exceeded",
    ),
    (
        "global_messages_dead_lettered_maxlen_total",
        |it| it.max_length,
        "Total number of messages dead-lettered due to overflow drop-head or reject-publish-dlx",
    ),
    (
        "global_messages_dead_lettered_rejected_total",
        |it| it.rejected,
        "Total number of messages dead-lettered due to basic.reject or basic.nack",
    ),
];
