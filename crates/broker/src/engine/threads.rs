//! The log's threads: one writes and syncs, one tends what is behind it, and one merges, which takes longer.

use super::durable::Durable;
use super::{Broker, Inner};
use crate::log::{Round, Sync};
use crate::mailbox::Event;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What nobody waits for, such as a lone acknowledgement, is written and synced within this time.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often the others look whether there is work.
const TEND_EVERY: Duration = Duration::from_millis(20);

/// After an error they wait so long.
const TEND_AGAIN: Duration = Duration::from_millis(500);

/// The threads of a durable broker.
#[derive(Debug, Default)]
pub(super) struct Threads {
    durable: Option<Arc<Durable>>,
    stop: Arc<Stop>,
    handles: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for so long, or until it is asked for; whether it was.
    fn wait(&self, patience: Duration) -> bool {
        let mut asked = self.asked.lock();
        if !*asked {
            self.changed.wait_for(&mut asked, patience);
        }
        *asked
    }
}

impl Threads {
    pub(super) fn start(durable: Arc<Durable>, inner: Weak<Inner>, sync: Sync) -> io::Result<Threads> {
        let stop = Arc::new(Stop::default());
        let mut threads = Threads { durable: Some(durable.clone()), stop: stop.clone(), handles: Vec::new() };
        let (for_writer, asked) = (inner.clone(), stop.clone());
        let writer = thread::Builder::new().name("leveret-log".into());
        threads.handles.push(writer.spawn(move || write(&durable, &for_writer, &asked, sync))?);
        let (for_tender, asked) = (inner.clone(), stop.clone());
        let tender = thread::Builder::new().name("leveret-tend".into());
        threads.handles.push(tender.spawn(move || tend(&for_tender, &asked))?);
        let merger = thread::Builder::new().name("leveret-merge".into());
        threads.handles.push(merger.spawn(move || merge(&inner, &stop))?);
        Ok(threads)
    }

    /// Asks them to end.
    pub(super) fn stop(&self) {
        *self.stop.asked.lock() = true;
        self.stop.changed.notify_all();
        if let Some(durable) = &self.durable {
            durable.store.log.kick();
        }
    }

    /// Waits for their end.
    pub(super) fn join(&mut self) {
        for handle in self.handles.drain(..) {
            // One that has panicked has said so.
            let _ = handle.join();
        }
    }
}

fn write(durable: &Durable, inner: &Weak<Inner>, stop: &Stop, sync: Sync) {
    let log = &durable.store.log;
    let mut synced = Instant::now();
    loop {
        log.await_work(PATIENCE);
        if *stop.asked.lock() {
            return;
        }
        let sync_now = match sync {
            Sync::Always => true,
            Sync::Interval(interval) => synced.elapsed() >= interval,
            Sync::Never => false,
        };
        if sync_now {
            synced = Instant::now();
        }
        match log.write(sync_now) {
            Round::Wrote => {}
            Round::Idle => drop(log.write_watermark(false)),
            Round::Full => {
                if let Some(inner) = inner.upgrade() {
                    Broker { inner }.set_disk_full(true);
                }
                if stop.wait(PATIENCE) {
                    return;
                }
            }
            // Who waits for nothing from the log has to know as well; `Broker::failure` says why.
            Round::Failed => {
                if let Some(inner) = inner.upgrade() {
                    Broker { inner }.broadcast(Event::Durable);
                }
                return;
            }
        }
    }
}

fn tend(inner: &Weak<Inner>, stop: &Stop) {
    let mut patience = Duration::ZERO;
    let mut checked = Instant::now();
    while !stop.wait(patience) {
        let Some(inner) = inner.upgrade() else { return };
        let broker = Broker { inner };
        let Some(durable) = broker.durable() else { return };
        patience = match durable.store.tend(&*broker.inner) {
            Ok(true) => Duration::ZERO,
            Ok(false) => TEND_EVERY,
            Err(error) => {
                broker.note_tend_error(&error);
                TEND_AGAIN
            }
        };
        match broker.overflow() {
            Ok(true) => patience = Duration::ZERO,
            Ok(false) => {}
            Err(error) => broker.note_tend_error(&error),
        }
        if checked.elapsed() >= PATIENCE && patience != TEND_AGAIN {
            checked = Instant::now();
            broker.set_disk_full(false);
            broker.release_memory();
        }
    }
}

fn merge(inner: &Weak<Inner>, stop: &Stop) {
    let mut patience = Duration::ZERO;
    while !stop.wait(patience) {
        let Some(inner) = inner.upgrade() else { return };
        let broker = Broker { inner };
        let Some(durable) = broker.durable() else { return };
        patience = match durable.store.merge(&*broker.inner) {
            Ok(true) => Duration::ZERO,
            Ok(false) => TEND_EVERY,
            Err(error) => {
                broker.note_tend_error(&error);
                TEND_AGAIN
            }
        };
    }
}
