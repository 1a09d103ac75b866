//! One look at everything that is counted.

use super::Place;
use crate::server::Server;
use leveret_broker::{ChannelCounters, Distribution, QueueCounters, QueueInfo};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// RabbitMQ's names of what is counted about messages, in the order of [`Counts`].
pub const COUNTS: [&str; 12] = [
    "publish",
    "confirm",
    "return_unroutable",
    "drop_unroutable",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "redeliver",
    "ack",
    "deliver_get",
];

/// Messages, by [`COUNTS`].
pub type Counts = [u64; COUNTS.len()];

/// What is known of a queue: [`COUNTS`], then ready, unacknowledged, dead letters and all that have expired.
pub const QUEUE_VALUES: usize = COUNTS.len() + 4;

/// What is measured of the whole broker beside [`COUNTS`], in the order of [`Whole::gauges`].
pub const GAUGES: [&str; 15] = [
    "messages_ready",
    "messages_unacknowledged",
    "dead_lettered",
    "expired",
    "connections",
    "channels",
    "consumers",
    "queues",
    "memory",
    "disk_free",
    "recv_oct",
    "send_oct",
    "disk",
    "confirm_p50",
    "confirm_p99",
];

/// The whole broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whole {
    /// Since the start.
    pub counts: Counts,
    /// Now. Octets are since the start, and latencies nanoseconds since the last look; 0 if there was none.
    pub gauges: [u64; GAUGES.len()],
}

impl Whole {
    /// How many numbers it is.
    pub const LEN: usize = COUNTS.len() + GAUGES.len();

    /// All its numbers.
    pub fn values(&self) -> [u64; Whole::LEN] {
        std::array::from_fn(|at| match at.checked_sub(COUNTS.len()) {
            None => self.counts[at],
            Some(at) => self.gauges[at],
        })
    }
}

/// What one look has found.
#[derive(Debug, Default)]
pub struct Looked {
    pub whole: Whole,
    pub queues: Vec<(Place, [u64; QUEUE_VALUES])>,
    pub exchanges: Vec<(Place, [u64; 3])>,
    pub vhosts: FxHashMap<Arc<str>, [u64; QUEUE_VALUES]>,
    pub connections: Vec<(u64, [u64; 2])>,
    pub channels: Vec<((u64, u16), Counts)>,
}

/// A channel's counters in the order of [`COUNTS`].
pub fn counts_of(counters: &ChannelCounters) -> Counts {
    let handed_out = counters.deliver + counters.deliver_no_ack + counters.get + counters.get_no_ack;
    [
        counters.publish,
        counters.confirm,
        counters.return_unroutable,
        counters.drop_unroutable,
        counters.deliver,
        counters.deliver_no_ack,
        counters.get,
        counters.get_no_ack,
        counters.get_empty,
        counters.redeliver,
        counters.ack,
        handed_out,
    ]
}

fn counts_of_queue(counters: &QueueCounters) -> Counts {
    let mut counts = [0; COUNTS.len()];
    counts[0] = counters.published;
    // Confirms and what could not be routed are no queue's.
    counts[4..].copy_from_slice(&[
        counters.delivered,
        counters.delivered_no_ack,
        counters.got,
        counters.got_no_ack,
        counters.get_empty,
        counters.redelivered,
        counters.acked,
        counters.handed_out(),
    ]);
    counts
}

/// What is known of a queue, as numbers.
pub fn queue_values(queue: &QueueInfo) -> [u64; QUEUE_VALUES] {
    let counts = counts_of_queue(&queue.counters);
    let rest = lengths_and_deaths(queue.ready + queue.waiting, queue.unacked, &queue.counters);
    std::array::from_fn(|at| counts.get(at).copied().unwrap_or_else(|| rest[at - counts.len()]))
}

fn lengths_and_deaths(ready: u64, unacked: u64, counters: &QueueCounters) -> [u64; 4] {
    [ready, unacked, counters.dead_lettered.total(), counters.died.expired]
}

/// What has been added to a distribution.
fn since(before: &Distribution, now: &Distribution) -> Distribution {
    let earlier = |at: usize| before.buckets.get(at).copied().unwrap_or(0);
    let added = now.buckets.iter().enumerate().map(|(at, count)| count.saturating_sub(earlier(at)));
    let buckets: Vec<u64> = added.collect();
    Distribution { count: buckets.iter().sum(), buckets, sum: now.sum.saturating_sub(before.sum) }
}

/// Asks the broker and the connections. `confirms` are those up to the last time.
pub fn look(server: &Server, confirms: &mut Distribution) -> Looked {
    let mut looked = Looked::default();
    let whole = &mut looked.whole;
    let mut consumers = 0;
    for vhost in server.broker.vhosts() {
        let name = vhost.name();
        let (mut ready, mut unacked) = (0, 0);
        vhost.visit_queues(
            |_| true,
            |queue| {
                ready += queue.ready + queue.waiting;
                unacked += queue.unacked;
                consumers += queue.consumers as u64;
                looked.queues.push(((name.clone(), queue.name.clone()), queue_values(&queue)));
            },
        );
        let (mut published, mut unroutable) = (0, 0);
        for exchange in vhost.exchanges() {
            let counters = exchange.counters;
            let values = [counters.published_in, counters.published_out, counters.unroutable];
            looked.exchanges.push(((name.clone(), exchange.name), values));
        }
        let counters = vhost.exchange_counters();
        published += counters.published_in;
        unroutable += counters.unroutable;
        // Those of queues that are gone count, too.
        let gone_too = vhost.queue_totals().of_all();
        let mut counts = counts_of_queue(&gone_too);
        counts[0] = published;
        counts[3] = unroutable;
        let rest = lengths_and_deaths(ready, unacked, &gone_too);
        for (sum, count) in whole.counts.iter_mut().zip(counts) {
            *sum += count;
        }
        for (sum, count) in whole.gauges.iter_mut().zip(rest) {
            *sum += count;
        }
        let values = std::array::from_fn(|at| counts.get(at).copied().unwrap_or_else(|| rest[at - counts.len()]));
        looked.vhosts.insert(name.clone(), values);
    }
    whole.counts[1] = server.broker.confirmed();
    let mut channels = 0;
    for connection in server.registry.connections() {
        let traffic = connection.traffic();
        looked.connections.push((connection.id, [traffic.received_bytes, traffic.sent_bytes]));
        whole.gauges[10] += traffic.received_bytes;
        whole.gauges[11] += traffic.sent_bytes;
        for channel in connection.channels() {
            channels += 1;
            let counts = counts_of(&channel.status().counters);
            looked.channels.push(((connection.id, channel.number), counts));
        }
    }
    let connections = looked.connections.len() as u64;
    whole.gauges[4..8].copy_from_slice(&[connections, channels, consumers, looked.queues.len() as u64]);
    whole.gauges[8] = super::super::node::memory_used();
    let statistics = server.broker.statistics();
    if let Some(disk) = &statistics.disk {
        whole.gauges[9] = disk.free.unwrap_or(0);
        whole.gauges[12] = disk.files.iter().map(|files| files.bytes).sum();
    }
    let lately = since(confirms, &statistics.confirm_latency);
    let nanoseconds = |part| lately.quantile(part).map_or(0, |time| time.as_nanos() as u64);
    whole.gauges[13] = nanoseconds(0.5);
    whole.gauges[14] = nanoseconds(0.99);
    *confirms = statistics.confirm_latency;
    looked
}
