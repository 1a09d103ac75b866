//! What a durable broker has beside one in memory: the store, and which queue has which id in it.

use super::meters::DiskMeter;
use super::{Broker, Inner, QueueDeclare, SharedQueue, VirtualHost};
use crate::dedup::Point;
use crate::error::Error;
use crate::log::{
    Change, Contents, Entry, FileSpan, Lsn, OpenError, QueueId, Recovery, Round, Snapshot, Span, Store, View,
    report_lost,
};
use crate::mailbox::Mailbox;
use crate::overflow::Overflow;
use crate::queue::{Journal, Queue, RESIDENT};
use crate::runs::Runs;
use crate::topology::{ExchangeDeclare, QueueRecord, Topology};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Above this part of the memory limit, transient messages are written to the disk.
const OVERFLOW_PERCENT: u64 = 60;

/// Reports of damage that are kept until somebody asks.
const REPORTS: usize = 1000;

/// The store and the queues in it.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) store: Store,
    queues: RwLock<FxHashMap<QueueId, Weak<SharedQueue>>>,
    reports: Mutex<Vec<String>>,
    overflow: Overflow,
    /// What is damaged is given up.
    accept_loss: bool,
    pub(super) meter: Arc<DiskMeter>,
}

impl Durable {
    pub(super) fn new(store: Store, accept_loss: bool, meter: Arc<DiskMeter>) -> Durable {
        let overflow = Overflow::new(store.files.disk.clone());
        Durable { store, queues: RwLock::default(), reports: Mutex::default(), overflow, accept_loss, meter }
    }

    /// Writes and syncs what is pending.
    pub(super) fn write(&self) -> bool {
        self.store.log.write(true) == Round::Wrote
    }

    pub(super) fn add_queue(&self, queue: &Arc<SharedQueue>) {
        self.queues.write().insert(queue.id, Arc::downgrade(queue));
    }

    pub(super) fn remove_queue(&self, id: QueueId) {
        self.queues.write().remove(&id);
    }

    fn queue(&self, id: QueueId) -> Option<Arc<SharedQueue>> {
        self.queues.read().get(&id)?.upgrade()
    }

    /// Tells the log what happened to a queue's messages.
    pub(super) fn write_journal(&self, id: QueueId, journal: Journal) {
        if !journal.done.is_empty() {
            self.store.log.done(&journal.done);
        }
        if !journal.requeued.is_empty() {
            self.store.log.requeued(&journal.requeued);
        }
        if let Some(upto) = journal.handed_out {
            self.store.log.delivered(id, upto);
        }
    }

    /// Tells the log of changes of topology: kinds and metas.
    pub(super) fn write_changes(&self, changes: &[(u8, Vec<u8>)]) {
        for (kind, meta) in changes {
            self.store.log.copy(*kind, meta, &[]);
        }
        self.store.log.kick();
    }

    pub(super) fn write_vhost(&self, name: &str) {
        self.store.log.change(&Change::Vhost(name));
    }

    pub(super) fn write_vhost_deleted(&self, name: &str) {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::VhostStays) {
            return;
        }
        self.store.log.change(&Change::VhostDeleted(name));
        self.store.log.kick();
    }

    /// Asks for [`crate::Event::Durable`] when a record may be confirmed; false if it may already.
    pub(crate) fn wait(&self, lsn: Lsn, mailbox: &Arc<Mailbox>) -> bool {
        self.store.log.wait(lsn, mailbox)
    }

    /// What is damaged is given up, and its queue goes on.
    pub(super) fn accepts_loss(&self) -> bool {
        self.accept_loss
    }

    /// Makes damaged indexes of these files again; true if there was one.
    pub(super) fn repair(&self, spans: &[FileSpan]) -> bool {
        let files: Vec<u32> = spans.iter().map(|span| span.file).collect();
        match self.store.repair(&files, &mut |number, spans| self.reindex(number, spans)) {
            Ok(repaired) => {
                repaired.iter().for_each(|text| self.report(text.clone()));
                !repaired.is_empty()
            }
            Err(error) => {
                self.report(format!("an index cannot be made again: {error}"));
                false
            }
        }
    }

    /// A file has got another index.
    fn reindex(&self, number: u32, spans: &[Span]) {
        let queues: Vec<_> = self.queues.read().values().filter_map(Weak::upgrade).collect();
        for queue in queues {
            let own = spans.iter().filter(|span| span.queue == queue.id);
            let own: Vec<_> = own.map(|&span| FileSpan { file: number, span }).collect();
            queue.state.lock().index(&[number], &own);
        }
    }

    pub(super) fn report(&self, text: String) {
        let mut reports = self.reports.lock();
        if reports.len() < REPORTS {
            reports.push(text);
        }
    }

    pub(super) fn take_reports(&self) -> Vec<String> {
        std::mem::take(&mut self.reports.lock())
    }
}

impl Broker {
    /// Builds what a start has found. With `suspicious`, a queue with gaps that nothing explains has lost messages.
    pub(super) fn restore(
        &self,
        mut contents: Contents,
        recovery: &mut Recovery,
        suspicious: bool,
    ) -> Result<(), OpenError> {
        let Some(durable) = &self.inner.durable else { return Ok(()) };
        self.restore_vhosts(&mut contents);
        self.restore_exchanges(&mut contents)?;
        for ((vhost_name, name), found) in std::mem::take(&mut contents.queues) {
            let Some(vhost) = self.vhost(&vhost_name) else { continue };
            if vhost.has_lost_exchange(&found.arguments) {
                let mut meta = Vec::new();
                let kind = Change::QueueDeleted { id: found.id }.encode(&mut meta);
                durable.write_changes(&[(kind, meta)]);
                continue;
            }
            let (mut restored, unknown) = contents.restore(found.id);
            recovery.messages += restored.live.len();
            report_lost(&vhost_name, &name, &restored.lost, "found at an earlier start", &mut recovery.damage);
            if suspicious {
                unknown.iter().for_each(|(first, count)| restored.lost.add(first, count));
                report_lost(&vhost_name, &name, &unknown, "the log", &mut recovery.damage);
            }
            let damaged = restored.lost.len() > 0 && !durable.accept_loss;
            if !damaged {
                restored.lost = Runs::default();
            }
            let (arguments, auto_delete) = (found.arguments, found.auto_delete);
            let table = arguments.as_table();
            let declare = QueueDeclare { name: &name, durable: true, exclusive: false, auto_delete, arguments: table };
            let name: Arc<str> = name.as_str().into();
            let mut state = Queue::restore(vhost.account.clone(), found.id, restored);
            state.note_found((vhost.environment.now)());
            let applied = vhost.topology.read().policies_of_queue(&name, table);
            let handle = vhost.share_queue(name.clone(), found.id, declare, applied.clone(), state);
            handle.damaged.store(damaged, Ordering::Relaxed);
            vhost.watch(&handle);
            if let Some(ring) = contents.seen.take_queue(found.id) {
                vhost.dedup().lock().restore(Point::Queue(found.id), ring);
            }
            let (id, durable, owner) = (found.id, true, None);
            let record = QueueRecord { name, id, durable, auto_delete, owner, arguments, applied, handle };
            let handle = record.handle.clone();
            vhost.restore(|topology| topology.insert_queue(record))?;
            if !damaged {
                handle.settle_in();
            }
        }
        let vhosts: Vec<_> = self.inner.vhosts.read().values().cloned().collect();
        vhosts.iter().for_each(|vhost| vhost.restore_paused(self));
        for vhost in vhosts {
            vhost.restore_delay_queues()?;
            recovery.queues += vhost.topology.read().handles().len() as u64;
        }
        self.restore_producers(&mut contents);
        self.restore_bindings(&contents);
        Ok(())
    }

    fn restore_bindings(&self, contents: &Contents) {
        for ((vhost, to), bindings) in &contents.bindings {
            let Some(vhost) = self.vhost(vhost) else { continue };
            for (source, key, arguments) in bindings {
                // An end that is not durable, or was deleted since, is no error.
                let _ = vhost.restore(|topology| topology.bind(source, to.clone(), key, arguments.as_table()));
            }
        }
    }

    /// Virtual hosts, and what has to be known before anything is declared in them.
    fn restore_vhosts(&self, contents: &mut Contents) {
        for name in &contents.vhosts {
            self.create_vhost(name);
        }
        if contents.vhosts.is_empty() {
            self.create_vhost("/");
        }
        *self.inner.entries.write() = std::mem::take(&mut contents.entries);
        self.inner.vhosts.read().values().for_each(|vhost| vhost.restore_policies());
    }

    fn restore_exchanges(&self, contents: &mut Contents) -> Result<(), OpenError> {
        for ((vhost, name), found) in &contents.exchanges {
            let declare = ExchangeDeclare {
                name,
                kind: &found.kind,
                durable: true,
                auto_delete: found.auto_delete,
                internal: found.internal,
                arguments: found.arguments.as_table(),
            };
            let Some(vhost) = self.vhost(vhost) else { continue };
            let guard = vhost.restore(|topology| {
                topology.declare_exchange(declare)?;
                Ok(topology.exchange(name)?.guard.clone())
            })?;
            if let (Some(guard), Some(ring)) = (guard, contents.seen.take_exchange(&vhost.name, name)) {
                vhost.dedup().lock().restore(guard.point, ring);
            }
        }
        Ok(())
    }

    fn restore_producers(&self, contents: &mut Contents) {
        for (vhost, producers) in std::mem::take(&mut contents.seen.producers) {
            if let Some(vhost) = self.vhost(&vhost) {
                vhost.dedup().lock().restore_producers(producers, self.inner.limits.max_producers);
            }
        }
    }

    /// Background work that failed is tried again; a full disk blocks publishers.
    pub(super) fn note_tend_error(&self, error: &io::Error) {
        let Some(durable) = &self.inner.durable else { return };
        match error.kind() {
            io::ErrorKind::StorageFull => self.set_disk_full(true),
            _ => durable.report(format!("the work behind the log stopped and will be tried again: {error}")),
        }
    }

    /// Frees memory of durable messages in queues that nobody uses at the moment.
    pub(super) fn release_memory(&self) {
        let Some(durable) = &self.inner.durable else { return };
        if self.inner.account.used() < RESIDENT {
            return;
        }
        let short = self.memory_used() > self.inner.limits.max_memory / 100 * OVERFLOW_PERCENT;
        let queues: Vec<_> = durable.queues.read().values().filter_map(Weak::upgrade).collect();
        for queue in queues {
            queue.change(if short { Queue::release_all } else { Queue::release });
        }
    }

    /// Writes transient messages to the disk while they take more memory than they should. True if there may be more to
    /// write.
    pub(super) fn overflow(&self) -> io::Result<bool> {
        let Some(durable) = &self.inner.durable else { return Ok(false) };
        let most = self.inner.limits.max_memory / 100 * OVERFLOW_PERCENT;
        if self.memory_used() <= most || self.inner.disk_full.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let vhosts: Vec<_> = self.inner.vhosts.read().values().cloned().collect();
        let mut freed = 0;
        for vhost in vhosts {
            let queues = vhost.topology.read().handles();
            for queue in queues {
                freed += queue.overflow(&durable.overflow)?;
            }
        }
        Ok(freed > 0)
    }

    /// Blocks or unblocks publishers because of the disk: without a free log file, or with less space than the limit.
    pub(super) fn set_disk_full(&self, full: bool) {
        self.inner.set_disk_full(full);
        self.check_memory();
    }
}

impl Inner {
    pub(super) fn set_disk_full(&self, full: bool) {
        let Some(durable) = &self.durable else { return };
        let low = durable.store.files.disk.free().is_ok_and(|free| free < self.limits.min_free_disk);
        self.disk_full.store(full || low || durable.store.log.is_full(), Ordering::Relaxed);
    }
}

impl VirtualHost {
    /// Changes topology without telling the log, which knows.
    fn restore<R>(
        &self,
        change: impl FnOnce(&mut Topology<Arc<SharedQueue>>) -> crate::Result<R>,
    ) -> Result<R, OpenError> {
        let mut topology = self.topology.write();
        let result = change(&mut topology);
        self.follow_points(&mut topology);
        self.generation.store(topology.generation(), Ordering::Release);
        topology.take_journal();
        result.map_err(limits_too_low)
    }
}

/// What is stored does not fit.
pub(super) fn limits_too_low(error: Error) -> OpenError {
    OpenError::Missing(format!("the broker's limits are too low for what is stored: {error}"))
}

impl View for Inner {
    fn living(&self, queue: QueueId, position: u64, count: u64, out: &mut Vec<(u64, u64)>) {
        let queue = self.durable.as_ref().and_then(|durable| durable.queue(queue));
        if let Some(queue) = queue {
            queue.state.lock().living(position, count, out);
        }
    }

    fn keep_living(&self, queue: QueueId, entries: &mut [Entry]) -> usize {
        let queue = self.durable.as_ref().and_then(|durable| durable.queue(queue));
        let Some(queue) = queue else { return 0 };
        let (state, mut alive, mut kept) = (queue.state.lock(), Vec::new(), 0);
        for at in 0..entries.len() {
            alive.clear();
            state.living(entries[at].position, entries[at].count.into(), &mut alive);
            if !alive.is_empty() {
                entries[kept] = entries[at];
                kept += 1;
            }
        }
        kept
    }

    fn index(&self, queue: QueueId, removed: &[u32], added: &[FileSpan]) {
        let queue = self.durable.as_ref().and_then(|durable| durable.queue(queue));
        if let Some(queue) = queue {
            queue.state.lock().index(removed, added);
        }
    }

    fn reindex(&self, number: u32, spans: &[Span]) {
        if let Some(durable) = &self.durable {
            durable.reindex(number, spans);
        }
    }

    fn damaged(&self, queue: QueueId, position: u64, count: u64, why: &str) {
        let Some(durable) = &self.durable else { return };
        let Some(queue) = durable.queue(queue) else { return };
        let text = format!("{count} messages from {position} on cannot be read: {why}");
        match durable.accept_loss {
            true => queue.give_up(position, count, text),
            false => queue.close_damaged(text),
        }
    }

    fn report(&self, text: String) {
        if let Some(durable) = &self.durable {
            durable.report(text);
        }
    }

    fn changes(&self, say: &mut dyn FnMut(&Change<'_>) -> io::Result<()>) -> io::Result<()> {
        for (name, vhost) in self.vhosts.read().iter() {
            say(&Change::Vhost(name))?;
            vhost.topology.read().say(say)?;
        }
        self.say_entries(say)
    }

    fn seen(&self, say: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        vhosts.iter().try_for_each(|vhost| vhost.say_seen(say))
    }

    fn snapshots(&self, say: &mut dyn FnMut(Snapshot) -> io::Result<()>) -> io::Result<()> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let queues: Vec<_> = durable.queues.read().values().filter_map(Weak::upgrade).collect();
        for queue in queues {
            let snapshot = {
                let mut state = queue.state.lock();
                let end = durable.store.log.end();
                state.snapshot(end)
            };
            snapshot.map_or(Ok(()), &mut *say)?;
        }
        Ok(())
    }
}
