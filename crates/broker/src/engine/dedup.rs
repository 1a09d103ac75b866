//! What was published before, behind its lock: one for a virtual host, held while messages with keys are appended.

use super::VirtualHost;
use crate::dedup::{Dedup, Guard, Known, Point, Seed};
use crate::topology::Points;
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was seen in a virtual host. Its lock comes behind that of the topology, and before those of queues.
#[derive(Debug)]
pub(crate) struct SharedDedup {
    state: Mutex<Dedup>,
    /// Counts the epochs of producers that have begun: whoever has looked need not look again as long as it stays.
    fences: AtomicU64,
    seed: Seed,
}

impl SharedDedup {
    pub(super) fn new(vhost: Arc<str>, max_producers: usize, seed: Seed) -> SharedDedup {
        SharedDedup { state: Mutex::new(Dedup::new(vhost, max_producers)), fences: AtomicU64::new(0), seed }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Dedup> {
        self.state.lock()
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    /// Changes whenever the epoch of a producer does.
    pub(crate) fn fences(&self) -> u64 {
        self.fences.load(Ordering::Acquire)
    }

    /// The epoch of a producer has changed.
    pub(crate) fn fence(&self) {
        self.fences.fetch_add(1, Ordering::AcqRel);
    }

    /// Exchanges have come or gone. Before the log is told: behind the end of an exchange, no record tells of its keys.
    pub(super) fn follow(&self, points: &Points) {
        let mut state = self.state.lock();
        points.removed.iter().for_each(|point| state.remove(*point));
        points.added.iter().for_each(|(guard, known)| state.add(guard, known.clone()));
    }
}

impl VirtualHost {
    pub(crate) fn dedup(&self) -> &SharedDedup {
        &self.dedup
    }

    /// Keys of a queue's messages are remembered from now on, if it leaves duplicates out.
    pub(super) fn guard_queue(&self, queue: &super::SharedQueue) {
        if let Some(rule) = &queue.settings().dedup {
            let guard = Guard { point: Point::Queue(queue.number), rule: rule.clone() };
            self.dedup.lock().add(&guard, (queue.id != 0).then_some(Known::Queue(queue.id)));
        }
    }

    /// Says what was seen, for a checkpoint, as metas of records. The lock is held for a record at a time: what is seen
    /// meanwhile comes behind the checkpoint's beginning in the log.
    pub(super) fn say_seen(&self, say: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let points = self.dedup.lock().points(self.timer.now());
        for (point, upto) in points {
            let mut from = Some(0);
            while let Some(first) = from {
                let mut meta = Vec::new();
                from = self.dedup.lock().dump(point, first, upto, &mut meta);
                if !meta.is_empty() {
                    say(&meta)?;
                }
            }
        }
        let producers = self.dedup.lock().dump_producers();
        producers.iter().try_for_each(|meta| say(meta))
    }
}
