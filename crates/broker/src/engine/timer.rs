//! What time it is for the broker, and what is to happen when.

use super::{Broker, Environment, Inner, SharedQueue};
use crate::log::QueueId;
use crate::times::{TRANSIENT, Time, Times, What};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

/// So many are taken at a time, before the clock is looked at again.
const TAKE: usize = 64 * 1024;

/// When more than this are due at once, they happen in the order of their messages' arrival instead of their times, so
/// that what is read from the disk for it is read once.
const MASS: usize = 1024;

/// While more bytes than this wait to be written to the log, what is due waits.
const BEHIND: u64 = 8 * 1024 * 1024;

/// The time, what is to happen when, and to whom.
///
/// Its clock is the system's at the start, and goes on as steadily as time does: whoever sets the system's clock makes no
/// message expire. A clock that was set before the start counts.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) times: Arc<Times>,
    environment: Arc<Environment>,
    /// At the start: milliseconds since 1970, and what had elapsed.
    start: (u64, u64),
    /// By their numbers.
    queues: RwLock<FxHashMap<QueueId, Weak<SharedQueue>>>,
    next_number: AtomicU64,
    /// When to look whether a queue is still used.
    leases: Mutex<BinaryHeap<Reverse<(u64, QueueId)>>>,
    /// For its thread, which begins with the first time that is to be waited for.
    broker: Weak<Inner>,
    runs: AtomicBool,
    stopped: AtomicBool,
}

/// Something that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) what: What,
    pub(super) position: u64,
    pub(super) count: u64,
}

impl Timer {
    /// Without `has_thread`, the broker's owner calls [`Broker::tick`]. `epoch` is of this start: what files still have for
    /// queues in memory of earlier ones is for none of this one's.
    pub(super) fn new(
        times: Arc<Times>,
        epoch: u32,
        environment: Arc<Environment>,
        broker: Weak<Inner>,
        has_thread: bool,
    ) -> Timer {
        let start = ((environment.now)(), (environment.elapsed)());
        #[cfg(feature = "mutants")]
        let epoch = if crate::mutants::is_on(crate::mutants::Mutant::SameNumbers) { 0 } else { epoch };
        Timer {
            times,
            environment,
            start,
            queues: RwLock::default(),
            next_number: AtomicU64::new((u64::from(epoch) << 32) + 1),
            leases: Mutex::default(),
            broker,
            runs: AtomicBool::new(!has_thread),
            stopped: AtomicBool::new(false),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        let (now, elapsed) = self.start;
        now + (self.environment.elapsed)().saturating_sub(elapsed)
    }

    /// A number for a queue that the log does not know.
    pub(super) fn next_number(&self) -> QueueId {
        self.next_number.fetch_add(1, Ordering::Relaxed) | TRANSIENT
    }

    /// Lets it find a queue.
    pub(super) fn add_queue(&self, queue: &Arc<SharedQueue>) {
        self.queues.write().insert(queue.number, Arc::downgrade(queue));
    }

    pub(super) fn remove_queue(&self, number: QueueId) {
        self.queues.write().remove(&number);
    }

    pub(super) fn queue(&self, number: QueueId) -> Option<Arc<SharedQueue>> {
        self.queues.read().get(&number)?.upgrade()
    }

    fn queues(&self) -> Vec<Arc<SharedQueue>> {
        self.queues.read().values().filter_map(Weak::upgrade).collect()
    }

    /// Notes what is to happen.
    pub(crate) fn add(&self, times: &[Time]) {
        if !times.is_empty() {
            self.times.add(times);
            self.run();
        }
    }

    /// Lets a queue be deleted when it was not used until then.
    pub(super) fn lease(&self, until: u64, queue: QueueId) {
        self.leases.lock().push(Reverse((until, queue)));
        self.times.kick();
        self.run();
    }

    /// Begins the thread, unless it runs or is not wanted.
    fn run(&self) {
        if self.runs.load(Ordering::Relaxed) || self.runs.swap(true, Ordering::Relaxed) {
            return;
        }
        let (broker, times) = (self.broker.clone(), self.times.clone());
        let spawned = thread::Builder::new().name("leveret-timer".into()).spawn(move || run(&broker, &times));
        // The next time tries again.
        self.runs.store(spawned.is_ok(), Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.times.kick();
    }

    /// Milliseconds until something is due; `None` if nothing is to come.
    fn patience(&self) -> Option<u64> {
        let lease = self.leases.lock().peek().map(|Reverse((until, _))| *until);
        Some(self.times.next().into_iter().chain(lease).min()?.saturating_sub(self.now()))
    }

    /// The queues whose lease ends now.
    fn expired_leases(&self) -> Vec<QueueId> {
        let (now, mut leases, mut expired) = (self.now(), self.leases.lock(), Vec::new());
        while leases.peek().is_some_and(|Reverse((until, _))| *until <= now) {
            expired.extend(leases.pop().map(|Reverse((_, queue))| queue));
        }
        expired
    }
}

fn run(broker: &Weak<Inner>, times: &Times) {
    loop {
        let patience = {
            let Some(inner) = broker.upgrade().filter(|inner| !inner.timer.stopped.load(Ordering::Relaxed)) else {
                return;
            };
            let broker = Broker { inner };
            match broker.tick() {
                true if broker.is_behind() => Some(1),
                true => continue,
                // What could not be read is tried again.
                false => broker.inner.timer.patience().map(|milliseconds| milliseconds.max(1)),
            }
        };
        times.wait(patience);
    }
}

impl Broker {
    /// Lets happen what is due: messages expire or become ready, unused queues are deleted. True if more is due. A thread
    /// of the broker calls it, unless [`Environment::ticks`] says otherwise.
    pub fn tick(&self) -> bool {
        let timer = &self.inner.timer;
        for queue in timer.expired_leases().into_iter().filter_map(|number| timer.queue(number)) {
            queue.end_lease();
        }
        if self.is_behind() {
            return true;
        }
        self.tend_times();
        let mut due = Vec::new();
        let more = match timer.times.take_due(timer.now(), TAKE, &mut due) {
            Ok(more) => more,
            Err(error) => {
                if let Some(durable) = self.durable() {
                    durable.report(format!("what is due cannot be read, and will be tried again: {error}"));
                }
                return false;
            }
        };
        match due.len() > MASS {
            true => due.sort_unstable_by_key(|time| (time.queue, time.position, time.due)),
            false => due.sort_by_key(|time| time.queue),
        }
        for times in due.chunk_by(|a, b| a.queue == b.queue) {
            let due: Vec<Due> =
                times.iter().map(|&Time { what, position, count, .. }| Due { what, position, count }).collect();
            if let Some(queue) = times.first().and_then(|time| timer.queue(time.queue)) {
                queue.meet(&due);
            }
        }
        timer.times.settled();
        more
    }

    fn tend_times(&self) {
        let timer = &self.inner.timer;
        if timer.times.take_damaged() {
            self.wake_forgotten();
        }
        // A durable broker does it where it writes them to files.
        if self.durable().is_none() {
            timer.times.drop_dead(&mut |time| timer.queue(time.queue).is_some_and(|queue| queue.has_any(time)));
        }
    }

    /// Times were lost to damage: messages that wait, and for which there is none, are to wait no longer.
    fn wake_forgotten(&self) {
        let Some(durable) = self.durable() else { return };
        match self.inner.timer.times.to_wake() {
            Ok(known) => self.inner.timer.queues().iter().for_each(|queue| {
                let woken = queue.wake_forgotten(known.get(&queue.number));
                if woken > 0 {
                    let text = "waited for times that were lost to damage, and wait no longer";
                    durable.report(format!("{woken} messages in queue '{}' {text}", queue.name));
                }
            }),
            Err(error) => {
                durable.report(format!("times cannot be read, and will be tried again: {error}"));
                self.inner.timer.times.note_damage();
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.durable().is_some_and(|durable| durable.store.log.pending() > BEHIND)
    }
}
