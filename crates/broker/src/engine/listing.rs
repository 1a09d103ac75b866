//! Listings of a virtual host, and what was counted in it.

use super::{SharedQueue, VirtualHost};
use crate::channel::REPLY_TO;
use crate::counters::{ExchangeCounters, QueueChurn, QueueTotals};
use crate::error::{Error, Result};
use crate::listing::{BindingInfo, ConsumerInfo, ExchangeInfo, QueueInfo, QueueState};
use crate::queue::Holdings;
use crate::routing::Destination;
use crate::topology::{DELAY_QUEUE, QueueRecord, delay_queue};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl VirtualHost {
    /// The names of all queues, in no order. The hidden ones, behind direct reply-to and in exchanges that delay messages, are
    /// not listed, here and elsewhere.
    pub fn queue_names(&self) -> Vec<Arc<str>> {
        let topology = self.topology.read();
        topology.queues().filter(|record| is_listed(&record.name)).map(|record| record.name.clone()).collect()
    }

    /// All queues, in no order.
    pub fn queues(&self) -> Vec<QueueInfo> {
        let mut queues = Vec::new();
        self.visit_queues(|_| true, |info| queues.push(info));
        queues
    }

    /// Shows those queues whose names pass `filter`, in no order. Each is as it is when it is shown; the topology may change
    /// meanwhile.
    pub fn visit_queues(&self, mut filter: impl FnMut(&str) -> bool, mut visit: impl FnMut(QueueInfo)) {
        let records: Vec<_> = {
            let topology = self.topology.read();
            topology.queues().filter(|it| is_listed(&it.name) && filter(&it.name)).cloned().collect()
        };
        records.into_iter().for_each(|record| visit(info(record)));
    }

    /// The queue of this name, whosever it is: 404 if there is none.
    pub(super) fn listed_queue(&self, name: &str) -> Result<Arc<SharedQueue>> {
        if !is_listed(name) {
            return Err(Error::not_found("queue", name, &self.name));
        }
        Ok(self.topology.read().queue(name)?.handle.clone())
    }

    /// The queue of this name.
    pub fn queue_info(&self, name: &str) -> Option<QueueInfo> {
        let record = self.topology.read().queue(name).ok().filter(|_| is_listed(name)).cloned();
        record.map(info)
    }

    /// The consumers of all queues, in no order.
    pub fn consumers(&self) -> Vec<ConsumerInfo> {
        let handles = self.topology.read().handles();
        handles.iter().filter(|queue| is_listed(&queue.name)).flat_map(|queue| queue.consumers()).collect()
    }

    /// The consumers of a queue, those that get messages first before others; none if there is no such queue.
    pub fn consumers_of(&self, queue: &str) -> Vec<ConsumerInfo> {
        let handle = self.topology.read().queue(queue).ok().map(|record| record.handle.clone());
        handle.map(|queue| queue.consumers()).unwrap_or_default()
    }

    /// All exchanges, in no order.
    pub fn exchanges(&self) -> Vec<ExchangeInfo> {
        let names = self.topology.read().exchange_names();
        names.iter().filter_map(|name| self.exchange_info(name)).collect()
    }

    /// The exchange of this name.
    pub fn exchange_info(&self, name: &str) -> Option<ExchangeInfo> {
        let topology = self.topology.read();
        let exchange = topology.exchange(name).ok()?;
        let waiting = topology.queue(&delay_queue(name)).ok().map(|record| record.handle.clone());
        let info = ExchangeInfo {
            name: name.into(),
            kind: exchange.type_name(),
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
            policies: exchange.applied.clone(),
            counters: exchange.meter.read(),
            delayed: None,
        };
        drop(topology);
        let delayed = waiting.map(|queue| queue.status()).map(|status| status.ready + status.waiting);
        Some(ExchangeInfo { delayed, ..info })
    }

    /// Whether there is an exchange of this name, and its type is `topic`.
    pub fn is_topic_exchange(&self, name: &str) -> bool {
        self.topology.read().exchange(name).is_ok_and(|exchange| exchange.type_name() == "topic")
    }

    /// All bindings, in no order.
    pub fn bindings(&self) -> Vec<BindingInfo> {
        self.topology.read().bindings().collect()
    }

    /// The bindings that lead from an exchange, in no order.
    pub fn bindings_from(&self, exchange: &str) -> Vec<BindingInfo> {
        self.topology.read().bindings_from(exchange)
    }

    /// The bindings that lead to a queue or an exchange, in no order.
    pub fn bindings_to(&self, destination: &Destination) -> Vec<BindingInfo> {
        self.topology.read().bindings_to(destination).collect()
    }

    /// What happened in all queues together since the broker was started, also in those that are gone.
    pub fn queue_totals(&self) -> QueueTotals {
        // A queue is in one of them, and in no other: it moves under the topology's lock.
        let topology = self.topology.read();
        let (handles, mut all) = (topology.handles(), *self.retired.lock());
        drop(topology);
        for queue in handles.iter().filter(|queue| is_listed(&queue.name)) {
            let quorum = queue.settings().quorum;
            all.add(quorum, queue.state.lock().gauges.counters);
        }
        all
    }

    /// How queues came and went since the broker was started. It looks at no queue.
    pub fn queue_churn(&self) -> QueueChurn {
        self.retired.lock().churn
    }

    /// What happened in all exchanges together since the broker was started, also in those that are gone.
    pub fn exchange_counters(&self) -> ExchangeCounters {
        self.topology.read().exchange_counters()
    }
}

/// Whether the queue of this name is anybody's but the broker's.
pub(super) fn is_listed(name: &str) -> bool {
    !name.starts_with("amq.") || !name.starts_with(DELAY_QUEUE) && !name.starts_with(REPLY_TO)
}

fn info(record: QueueRecord<Arc<SharedQueue>>) -> QueueInfo {
    let QueueRecord { name, durable, auto_delete, owner, arguments, applied: policies, handle, .. } = record;
    let damaged = handle.damaged.load(Ordering::Relaxed);
    let mut queue = handle.state.lock();
    let state = match queue.consumers.is_paused() {
        _ if damaged => QueueState::Damaged,
        true => QueueState::Paused,
        false => QueueState::Running,
    };
    let Holdings { ready_bytes, unacked_bytes, persistent, memory, disk } = queue.holdings();
    QueueInfo {
        name,
        durable,
        auto_delete,
        owner,
        arguments,
        policies,
        state,
        ready: queue.ready(),
        unacked: queue.unacked(),
        waiting: queue.waiting(),
        persistent,
        ready_bytes,
        unacked_bytes,
        memory,
        disk,
        consumers: queue.consumers.len(),
        single_active_consumer: queue.consumers.single_active(),
        oldest: queue.oldest(),
        last_arrival: queue.last_arrival(),
        counters: queue.gauges.counters,
        cost: queue.gauges.cost.estimate(),
    }
}

impl SharedQueue {
    fn consumers(&self) -> Vec<ConsumerInfo> {
        let queue = self.state.lock();
        let info = |seen: crate::consumers::Seen| ConsumerInfo {
            queue: self.name.clone(),
            session: seen.identity.session,
            channel: seen.identity.channel,
            tag: seen.identity.tag.clone(),
            ack_required: !seen.identity.no_ack,
            exclusive: seen.identity.exclusive,
            prefetch: seen.identity.prefetch.load(Ordering::Relaxed),
            priority: seen.priority,
            arguments: seen.identity.arguments.clone(),
            active: seen.active,
            unacked: seen.identity.unacked.load(Ordering::Relaxed),
        };
        queue.consumers.seen().map(info).collect()
    }
}
