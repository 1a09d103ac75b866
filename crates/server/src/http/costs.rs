//! What each queue and each exchange costs: bytes, and its part of the time that queues take.

use super::answer::{Answer, ok};
use super::call::Call;
use leveret_broker::{Destination, QueueInfo, VirtualHost};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::ops::AddAssign;
use std::sync::Arc;

/// Queues and exchanges in an answer, if the request does not say; those that cost most.
const LIMIT: u64 = 200;

/// What something has cost since the broker was started.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    nanoseconds: u64,
    bytes_in: u64,
    bytes_out: u64,
    bytes_stored: u64,
    messages_in: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.nanoseconds += other.nanoseconds;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.bytes_stored += other.bytes_stored;
        self.messages_in += other.messages_in;
    }
}

impl Cost {
    fn of(queue: &QueueInfo) -> Cost {
        Cost {
            nanoseconds: queue.cost,
            bytes_in: queue.counters.published_bytes,
            bytes_out: queue.counters.delivered_bytes,
            bytes_stored: queue.ready_bytes + queue.unacked_bytes,
            messages_in: queue.counters.published,
        }
    }

    /// A part of it, where it is divided.
    fn divided(self, parts: u64) -> Cost {
        let parts = parts.max(1);
        Cost {
            nanoseconds: self.nanoseconds / parts,
            bytes_in: self.bytes_in / parts,
            bytes_out: self.bytes_out / parts,
            bytes_stored: self.bytes_stored / parts,
            messages_in: self.messages_in / parts,
        }
    }
}

type Priced = (Arc<str>, Arc<str>, Cost);

/// `GET /api/costs`
pub fn list(call: &Call) -> Answer {
    let limit = call.query.number("limit", 1, 10_000)?.unwrap_or(LIMIT) as usize;
    let (mut queues, mut exchanges) = (Vec::new(), Vec::new());
    for vhost in call.visible_vhosts() {
        price(&vhost, &mut queues, &mut exchanges);
    }
    let total: u64 = queues.iter().map(|(_, _, cost)| cost.nanoseconds).sum();
    ok(&json!({
        "cpu_ns": total,
        "queues": dearest(queues, total, limit),
        "topics": dearest(exchanges, total, limit),
    }))
}

/// A queue's cost is its own; that of an exchange is what its queues cost, each divided among the exchanges that it is
/// bound to. A queue that is bound to none is the default exchange's.
fn price(vhost: &VirtualHost, queues: &mut Vec<Priced>, exchanges: &mut Vec<Priced>) {
    let mut sources: FxHashMap<Arc<str>, Vec<Arc<str>>> = FxHashMap::default();
    for binding in vhost.bindings() {
        if let Destination::Queue(queue) = binding.destination {
            let sources = sources.entry(queue).or_default();
            if !sources.contains(&binding.source) {
                sources.push(binding.source);
            }
        }
    }
    let mut by_exchange: FxHashMap<Arc<str>, Cost> = FxHashMap::default();
    let default: Vec<Arc<str>> = vec!["".into()];
    vhost.visit_queues(
        |_| true,
        |queue| {
            let cost = Cost::of(&queue);
            let bound = sources.get(&queue.name).unwrap_or(&default);
            for source in bound {
                *by_exchange.entry(source.clone()).or_default() += cost.divided(bound.len() as u64);
            }
            queues.push((vhost.name().clone(), queue.name, cost));
        },
    );
    for exchange in vhost.exchanges() {
        let mut cost = by_exchange.remove(&exchange.name).unwrap_or_default();
        // This is counted, not divided.
        cost.messages_in = exchange.counters.published_in;
        if cost.messages_in > 0 || cost.bytes_in > 0 || cost.bytes_stored > 0 {
            exchanges.push((vhost.name().clone(), exchange.name, cost));
        }
    }
}

fn dearest(mut priced: Vec<Priced>, total: u64, limit: usize) -> Vec<Value> {
    priced.sort_by(|(_, a_name, a), (_, b_name, b)| {
        (b.nanoseconds, b.bytes_in, a_name).cmp(&(a.nanoseconds, a.bytes_in, b_name))
    });
    priced.truncate(limit);
    let show = |(vhost, name, cost): Priced| {
        json!({
            "vhost": &*vhost,
            "name": &*name,
            "cpu_ns": cost.nanoseconds,
            "cpu_share": if total > 0 { cost.nanoseconds as f64 / total as f64 } else { 0.0 },
            "bytes_in": cost.bytes_in,
            "bytes_out": cost.bytes_out,
            "bytes_stored": cost.bytes_stored,
            "messages_in": cost.messages_in,
        })
    };
    priced.into_iter().map(show).collect()
}
