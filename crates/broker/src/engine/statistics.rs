//! A broker's statistics, put together.

use super::Broker;
use crate::counters::{ExchangeCounters, QueueChurn, QueueTotals};
use crate::statistics::{DiskStatistics, Statistics};
use std::sync::atomic::Ordering;

impl Broker {
    /// What the broker tells of itself at this moment. It looks at each queue for a moment, and at the list of files; to be
    /// asked for each second or so.
    pub fn statistics(&self) -> Statistics {
        let inner = &self.inner;
        let (mut queues, mut exchanges) = *inner.retired.lock();
        for vhost in self.vhosts() {
            queues += vhost.queue_totals();
            exchanges += vhost.exchange_counters();
        }
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
        let mut churn = self.inner.retired.lock().0.churn;
        self.vhosts().iter().for_each(|vhost| churn += vhost.queue_churn());
        churn
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

    /// A virtual host is gone, and what was counted in it is not.
    pub(super) fn retire(&self, queues: QueueTotals, exchanges: ExchangeCounters) {
        let mut retired = self.inner.retired.lock();
        retired.0 += queues;
        retired.1 += exchanges;
    }
}
