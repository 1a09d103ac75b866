//! A broker's statistics, put together.

use super::{Broker, VirtualHost};
use crate::counters::{ExchangeCounters, QueueChurn, QueueTotals};
use crate::statistics::{DiskStatistics, Statistics};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Broker {
    /// What the broker tells of itself at this moment. It looks at each queue for a moment, and at the list of files; to be
    /// asked for each second or so.
    pub fn statistics(&self) -> Statistics {
        let inner = &self.inner;
        let (queues, exchanges) = self.totals();
        let memory = self.memory_used();
        let blocked = self.is_blocked();
        Statistics {
            started: inner.started,
            memory,
            memory_limit: inner.limits.max_memory,
            memory_alarm: blocked && memory > inner.limits.max_memory / 10 * 9,
            disk_alarm: inner.disk_full.load(Ordering::Relaxed),
            failure: self.failure(),
            sessions: inner.sessions.lock().len(),
            queues,
            exchanges,
            confirmed: inner.confirmed.load(Ordering::Relaxed),
            confirm_latency: inner.meters.confirm_latency.read(),
            disk: self.disk_statistics(),
        }
    }

    /// How queues came and went since the broker was started. It looks at no queue.
    pub fn queue_churn(&self) -> QueueChurn {
        let vhosts = self.inner.vhosts.read();
        let mut churn = self.inner.retired.lock().queues().churn;
        vhosts.values().for_each(|vhost| churn += vhost.queue_churn());
        churn
    }

    /// What was counted in all virtual hosts, also in those that are gone.
    fn totals(&self) -> (QueueTotals, ExchangeCounters) {
        // Held until all is read: one that is being deleted is here or among those that are gone.
        let vhosts = self.inner.vhosts.read();
        let (mut queues, mut exchanges) = {
            let retired = self.inner.retired.lock();
            (retired.queues(), retired.exchanges)
        };
        for vhost in vhosts.values() {
            queues += vhost.queue_totals();
            exchanges += vhost.exchange_counters();
        }
        (queues, exchanges)
    }

    fn disk_statistics(&self) -> Option<DiskStatistics> {
        let durable = self.durable()?;
        let (store, meter) = (&durable.store, &durable.meter);
        Some(DiskStatistics {
            free: store.files.disk.free().ok(),
            min_free: self.inner.limits.min_free_disk,
            sync_time: self.inner.meters.sync_time.read(),
            messages_in: store.log.messages_in(),
            log_written: store.log.written_bytes(),
            written: meter.written.load(Ordering::Relaxed),
            read: meter.read.load(Ordering::Relaxed),
            pending: store.log.pending(),
            files: meter.files(store.files.disk.as_ref()).unwrap_or_default(),
            recovery: self.inner.recovery.get().copied().unwrap_or_default(),
        })
    }
}

/// What was counted in virtual hosts that are gone.
#[derive(Debug, Default)]
pub(super) struct Retired {
    queues: QueueTotals,
    exchanges: ExchangeCounters,
    /// Those whose queues are being deleted, with what was counted in these before: while that goes on, nobody can tell.
    leaving: Vec<(Arc<VirtualHost>, QueueTotals)>,
}

impl Retired {
    /// A virtual host is about to be closed.
    pub(super) fn begin(&mut self, vhost: &Arc<VirtualHost>) {
        self.exchanges += vhost.exchange_counters();
        self.leaving.push((vhost.clone(), vhost.queue_totals()));
    }

    /// Its queues are deleted.
    pub(super) fn end(&mut self, vhost: &Arc<VirtualHost>) {
        self.leaving.retain(|(leaving, _)| !Arc::ptr_eq(leaving, vhost));
        self.queues += vhost.queue_totals();
    }

    fn queues(&self) -> QueueTotals {
        let mut queues = self.queues;
        self.leaving.iter().for_each(|(_, counted)| queues += *counted);
        queues
    }
}
