//! Queues, channels and connections: a table each of what is told of one of them. Summed up, the sum over all is told.

use super::View;
use super::text::{Kind, Text};
use crate::registry::{ConnectionInfo, Traffic};
use crate::server::Server;
use Kind::{Counter, Gauge};
use leveret_broker::{ChannelStatus, QueueInfo, QueueState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// One number of an object.
struct Metric<T> {
    /// RabbitMQ's family of metrics.
    family: &'static str,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    of: fn(&T) -> f64,
}

const fn metric<T>(
    family: &'static str,
    name: &'static str,
    kind: Kind,
    of: fn(&T) -> f64,
    help: &'static str,
) -> Metric<T> {
    Metric { family, name, kind, help, of }
}

const COARSE: &str = "queue_coarse_metrics";
const QUEUE: &str = "queue_metrics";

/// RabbitMQ counts what waits for another attempt as ready.
fn ready(queue: &QueueInfo) -> u64 {
    queue.ready + queue.waiting
}

/// What is told of a queue under RabbitMQ's names.
const QUEUE_METRICS: &[Metric<QueueInfo>] = &[
    metric(COARSE, "queue_messages_ready", Gauge, |it| ready(it) as f64, "Messages ready to be delivered to consumers"),
    metric(
        COARSE,
        "queue_messages_unacked",
        Gauge,
        |it| it.unacked as f64,
        "Messages delivered to consumers but not yet acknowledged",
    ),
    metric(
        COARSE,
        "queue_messages",
        Gauge,
        |it| (ready(it) + it.unacked) as f64,
        "Sum of ready and unacknowledged messages - total queue depth",
    ),
    metric("queue_consumer_count", "queue_consumers", Gauge, |it| it.consumers as f64, "Consumers on a queue"),
    metric(QUEUE, "queue_messages_persistent", Gauge, |it| it.persistent as f64, "Persistent messages"),
    metric(
        QUEUE,
        "queue_messages_bytes",
        Gauge,
        |it| (it.ready_bytes + it.unacked_bytes) as f64,
        "Size in bytes of ready and unacknowledged messages",
    ),
    metric(QUEUE, "queue_messages_ready_bytes", Gauge, |it| it.ready_bytes as f64, "Size in bytes of ready messages"),
    metric(
        QUEUE,
        "queue_messages_unacked_bytes",
        Gauge,
        |it| it.unacked_bytes as f64,
        "Size in bytes of all unacknowledged messages",
    ),
    metric(
        QUEUE,
        "queue_messages_ram_bytes",
        Gauge,
        |it| it.memory as f64,
        "Size of ready and unacknowledged messages stored in memory",
    ),
    metric(
        QUEUE,
        "queue_messages_paged_out_bytes",
        Gauge,
        |it| it.disk as f64,
        "Size in bytes of messages paged out to disk",
    ),
    metric(
        QUEUE,
        "queue_messages_published_total",
        Counter,
        |it| it.counters.published as f64,
        "Total number of messages published to queues",
    ),
    metric(
        QUEUE,
        "queue_messages_delivered_ack_total",
        Counter,
        |it| it.counters.delivered as f64,
        "Total number of messages delivered to consumers in manual acknowledgement mode",
    ),
    metric(
        QUEUE,
        "queue_messages_delivered_total",
        Counter,
        |it| it.counters.delivered_no_ack as f64,
        "Total number of messages delivered to consumers in automatic acknowledgement mode",
    ),
    metric(
        QUEUE,
        "queue_messages_redelivered_total",
        Counter,
        |it| it.counters.redelivered as f64,
        "Total number of messages redelivered to consumers",
    ),
    metric(
        QUEUE,
        "queue_messages_acked_total",
        Counter,
        |it| it.counters.acked as f64,
        "Total number of messages acknowledged by consumers",
    ),
];

/// What Leveret tells of a queue beside that.
const OWN_QUEUE_METRICS: &[Metric<QueueInfo>] = &[
    metric(
        QUEUE,
        "leveret_queue_messages_waiting",
        Gauge,
        |it| it.waiting as f64,
        "Messages that wait for their next attempt",
    ),
    metric(
        QUEUE,
        "leveret_queue_messages_dead_lettered_total",
        Counter,
        |it| it.counters.dead_lettered.total() as f64,
        "Messages that became dead letters",
    ),
    metric(
        QUEUE,
        "leveret_queue_messages_died_total",
        Counter,
        |it| it.counters.died.total() as f64,
        "Messages that expired, were rejected, were too many or came back too often",
    ),
    metric(
        QUEUE,
        "leveret_queue_processor_seconds_total",
        Counter,
        |it| it.cost as f64 / 1e9,
        "Time of a processor that the queue itself took, estimated from samples",
    ),
    metric(
        QUEUE,
        "leveret_queue_paused",
        Gauge,
        |it| f64::from(u8::from(it.state == QueueState::Paused)),
        "1 if consumers get nothing because an operator has paused the queue",
    ),
    metric(
        QUEUE,
        "leveret_queue_damaged",
        Gauge,
        |it| f64::from(u8::from(it.state == QueueState::Damaged)),
        "1 if the queue is closed because messages of it are damaged on disk",
    ),
];

/// All queues that a view shows.
pub struct Queues(Vec<(Arc<str>, QueueInfo)>);

impl Queues {
    /// Looks at them, one after the other.
    pub fn look(server: &Server, view: &View) -> Queues {
        let mut queues = Vec::new();
        if QUEUE_METRICS.iter().any(|metric| view.has(metric.family)) {
            for vhost in server.broker.vhosts().into_iter().filter(|vhost| view.has_vhost(vhost.name())) {
                vhost.visit_queues(|_| true, |info| queues.push((vhost.name().clone(), info)));
            }
        }
        queues.sort_by(|(vhost, one), (other, two)| (vhost, &one.name).cmp(&(other, &two.name)));
        Queues(queues)
    }

    /// Writes what the view shows of them.
    pub fn put(&self, text: &mut Text, view: &View) {
        let objects: Vec<Labelled<'_, QueueInfo>> =
            self.0.iter().map(|it| (vec![("vhost", &*it.0), ("queue", &*it.1.name)], &it.1)).collect();
        put_table(text, view, QUEUE_METRICS, &objects);
        if matches!(view, View::Detailed { .. }) {
            return;
        }
        put_table(text, view, OWN_QUEUE_METRICS, &objects);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let age = |queue: &QueueInfo| queue.oldest.map_or(0.0, |oldest| now.saturating_sub(oldest) as f64 / 1000.0);
        let help = "Age of the oldest message that is there; of all queues the greatest";
        let mut family = text.family("leveret_queue_oldest_message_age_seconds", Gauge, help);
        match view {
            View::Aggregated => family.value(objects.iter().map(|(_, queue)| age(queue)).fold(0.0, f64::max)),
            _ => objects.iter().for_each(|(labels, queue)| family.sample(labels, age(queue))),
        }
        self.put_lag(text);
    }

    /// Subscriptions of the SDK, which docs/wire-contract.md lets one recognize: they are quorum queues whose dead letters go to
    /// a queue of their name and `.dead`.
    fn put_lag(&self, text: &mut Text) {
        let help = "Events of a subscription that are not done: ready, handed out, or waiting for their next attempt";
        let mut family = text.family("leveret_subscription_lag", Gauge, help);
        for (vhost, queue) in &self.0 {
            let letters = queue.arguments.as_table().get("x-dead-letter-routing-key");
            let letters = letters.and_then(|value| value.as_str().map(str::to_string));
            let is_own = letters.is_some_and(|key| key.strip_suffix(".dead") == Some(&*queue.name));
            let Some((topic, subscription)) = queue.name.rsplit_once('.').filter(|_| is_own) else { continue };
            let lag = queue.ready + queue.unacked + queue.waiting;
            let labels = [("vhost", &**vhost), ("topic", topic), ("subscription", subscription)];
            family.sample(&labels, lag as f64);
        }
    }
}

/// An object with the labels that tell it from others.
type Labelled<'a, T> = (Vec<(&'a str, &'a str)>, &'a T);

/// Writes a table: of each metric a sample per object, or the sum over all.
fn put_table<T>(text: &mut Text, view: &View, table: &[Metric<T>], objects: &[Labelled<'_, T>]) {
    for metric in table.iter().filter(|metric| view.has(metric.family)) {
        let mut family = text.family(metric.name, metric.kind, metric.help);
        match view {
            View::Aggregated => family.value(objects.iter().map(|(_, object)| (metric.of)(object)).sum()),
            _ => objects.iter().for_each(|(labels, object)| family.sample(labels, (metric.of)(object))),
        }
    }
}

const CHANNEL: &str = "channel_metrics";
const CHANNEL_QUEUE: &str = "channel_queue_metrics";

/// What is told of a channel.
const CHANNEL_METRICS: &[Metric<ChannelStatus>] = &[
    metric(CHANNEL, "channel_consumers", Gauge, |it| it.consumers as f64, "Consumers on a channel"),
    metric(
        CHANNEL,
        "channel_messages_unacked",
        Gauge,
        |it| it.unacked as f64,
        "Delivered but not yet acknowledged messages",
    ),
    metric(
        CHANNEL,
        "channel_messages_unconfirmed",
        Gauge,
        |it| it.unconfirmed as f64,
        "Published but not yet confirmed messages",
    ),
    metric(
        CHANNEL,
        "channel_messages_uncommitted",
        Gauge,
        |it| it.uncommitted as f64,
        "Messages received in a transaction but not yet committed",
    ),
    metric(
        CHANNEL,
        "channel_acks_uncommitted",
        Gauge,
        |it| it.uncommitted_acks as f64,
        "Message acknowledgements in a transaction not yet committed",
    ),
    metric(
        CHANNEL,
        "consumer_prefetch",
        Gauge,
        |it| f64::from(it.prefetch),
        "Limit of unacknowledged messages for each consumer",
    ),
    metric(
        CHANNEL,
        "channel_prefetch",
        Gauge,
        |it| f64::from(it.channel_prefetch),
        "Total limit of unacknowledged messages for all consumers on a channel",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_published_total",
        Counter,
        |it| it.counters.publish as f64,
        "Total number of messages published into an exchange on a channel",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_confirmed_total",
        Counter,
        |it| it.counters.confirm as f64,
        "Total number of messages published into an exchange and confirmed on the channel",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_unroutable_returned_total",
        Counter,
        |it| it.counters.return_unroutable as f64,
        "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_unroutable_dropped_total",
        Counter,
        |it| it.counters.drop_unroutable as f64,
        "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_get_ack_total",
        Counter,
        |it| it.counters.get as f64,
        "Total number of messages fetched with basic.get in manual acknowledgement mode",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_get_total",
        Counter,
        |it| it.counters.get_no_ack as f64,
        "Total number of messages fetched with basic.get in automatic acknowledgement mode",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_delivered_ack_total",
        Counter,
        |it| it.counters.deliver as f64,
        "Total number of messages delivered to consumers in manual acknowledgement mode",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_delivered_total",
        Counter,
        |it| it.counters.deliver_no_ack as f64,
        "Total number of messages delivered to consumers in automatic acknowledgement mode",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_redelivered_total",
        Counter,
        |it| it.counters.redeliver as f64,
        "Total number of messages redelivered to consumers",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_messages_acked_total",
        Counter,
        |it| it.counters.ack as f64,
        "Total number of messages acknowledged by consumers",
    ),
    metric(
        CHANNEL_QUEUE,
        "channel_get_empty_total",
        Counter,
        |it| it.counters.get_empty as f64,
        "Total number of times basic.get operations fetched no message",
    ),
];

/// All channels that a view shows.
pub struct Channels(Vec<(String, ChannelStatus)>);

impl Channels {
    /// Looks at them, one after the other.
    pub fn look(server: &Server, view: &View) -> Channels {
        let mut channels = Vec::new();
        for connection in connections(server, view, &[CHANNEL, CHANNEL_QUEUE]) {
            let name = connection.name();
            for channel in connection.channels() {
                channels.push((format!("{name} ({})", channel.number), channel.status()));
            }
        }
        Channels(channels)
    }

    /// Writes what the view shows of them.
    pub fn put(&self, text: &mut Text, view: &View) {
        let objects: Vec<_> = self.0.iter().map(|(name, it)| (vec![("channel", name.as_str())], it)).collect();
        put_table(text, view, CHANNEL_METRICS, &objects);
    }
}

const CONNECTION_COARSE: &str = "connection_coarse_metrics";
const CONNECTION: &str = "connection_metrics";

/// What is told of a connection: its traffic, and how many channels it has.
const CONNECTION_METRICS: &[Metric<(Traffic, usize)>] = &[
    metric(
        CONNECTION_COARSE,
        "connection_incoming_bytes_total",
        Counter,
        |it| it.0.received_bytes as f64,
        "Total number of bytes received on a connection",
    ),
    metric(
        CONNECTION_COARSE,
        "connection_outgoing_bytes_total",
        Counter,
        |it| it.0.sent_bytes as f64,
        "Total number of bytes sent on a connection",
    ),
    metric(
        CONNECTION,
        "connection_incoming_packets_total",
        Counter,
        |it| it.0.received as f64,
        "Total number of packets received on a connection",
    ),
    metric(
        CONNECTION,
        "connection_outgoing_packets_total",
        Counter,
        |it| it.0.sent as f64,
        "Total number of packets sent on a connection",
    ),
    metric(CONNECTION, "connection_channels", Gauge, |it| it.1 as f64, "Channels on a connection"),
];

/// All connections that a view shows.
pub struct Connections(Vec<(String, (Traffic, usize))>);

impl Connections {
    /// Looks at them, one after the other.
    pub fn look(server: &Server, view: &View) -> Connections {
        let look = |it: Arc<ConnectionInfo>| (it.name(), (it.traffic(), it.channels().len()));
        Connections(connections(server, view, &[CONNECTION_COARSE, CONNECTION]).map(look).collect())
    }

    /// Writes what the view shows of them.
    pub fn put(&self, text: &mut Text, view: &View) {
        let objects: Vec<_> = self.0.iter().map(|(name, it)| (vec![("connection", name.as_str())], it)).collect();
        put_table(text, view, CONNECTION_METRICS, &objects);
    }
}

/// The connections that a view shows; none if it has none of the families.
fn connections(server: &Server, view: &View, families: &[&str]) -> impl Iterator<Item = Arc<ConnectionInfo>> + use<> {
    let wanted = families.iter().any(|family| view.has(family));
    let all = if wanted { server.registry.connections() } else { Vec::new() };
    let meant: Vec<_> = all.into_iter().filter(|connection| view.has_vhost(&connection.vhost)).collect();
    meant.into_iter()
}
