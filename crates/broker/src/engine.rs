//! The only place with locks, wake-ups, threads and shared ownership: the broker, its virtual hosts and its queues.
//!
//! Lock order: entries, then a virtual host's topology, then what was published before, then a queue, then the log, then a mailbox. No
//! lock is held while a connection is woken.

mod browse;
mod commit;
mod dead;
mod dedup;
mod delay;
mod durable;
mod entries;
mod lease;
mod listing;
mod meters;
mod moving;
mod park;
mod pause;
mod policies;
mod shared_queue;
mod statistics;
mod threads;
mod timer;
mod vhost;

pub use browse::{Browse, Browsed, BrowsedMessage};
pub(crate) use commit::commit;
pub use entries::Stored;
pub(crate) use meters::{Meters, Moment};
pub use moving::{MoveTo, Redriven};
pub(crate) use park::park;
pub use shared_queue::SharedQueue;
pub use vhost::VirtualHost;

use self::dedup::SharedDedup;
pub(crate) use self::durable::Durable;
use self::meters::MeteredDisk;
use self::statistics::Retired;
use self::threads::Threads;
use self::timer::Timer;
use crate::dedup::Seed;
use crate::entries::Entries;
use crate::limits::Limits;
use crate::log::{self, OpenError, Recovered, Recovery, Storage, recover};
use crate::mailbox::{Event, Mailbox};
use crate::message::Account;
#[cfg(test)]
use crate::queue::Queue;
use crate::session::Session;
use crate::statistics::RecoveryStatistics;
use crate::topology::{SessionId, Topology};
use leveret_wire::table::Table;
use parking_lot::{Mutex, MutexGuard, RwLock};
use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::{Instant, SystemTime};

/// What a broker does not know by itself. Tests pass counters.
pub struct Environment {
    /// Where generated names come from: 128 random bits a call.
    pub random: Box<dyn Fn() -> u128 + Send + Sync>,
    /// The time of day: milliseconds since 1970. It may be set while the broker runs.
    pub now: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Milliseconds since some beginning. It never goes back, and also counts what the machine slept.
    pub elapsed: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The owner calls [`Broker::tick`] when time has gone by, and a thread of the broker does not. For simulations.
    pub ticks: bool,
}

impl Environment {
    /// The operating system's randomness and clock.
    ///
    /// # Panics
    /// When a name is generated on a machine without a source of randomness: no name could be called unguessable.
    pub fn system() -> Environment {
        let random = || {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("the system has no randomness: {error}"));
            u128::from_le_bytes(bytes)
        };
        // A clock before 1970 is as good as one at it.
        let now = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        let elapsed = || {
            let since = clock_gettime(ClockId::Boottime);
            since.tv_sec as u64 * 1000 + since.tv_nsec as u64 / 1_000_000
        };
        Environment { random: Box::new(random), now: Box::new(now), elapsed: Box::new(elapsed), ticks: false }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// A broker. Clones are handles to the same one.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    /// For hashes of keys.
    seed: Seed,
    account: Account,
    environment: Arc<Environment>,
    vhosts: RwLock<FxHashMap<Arc<str>, Arc<VirtualHost>>>,
    entries: Arc<RwLock<Entries>>,
    sessions: Mutex<FxHashMap<SessionId, Listed>>,
    next_session: AtomicU64,
    blocked: AtomicBool,
    disk_full: AtomicBool,
    /// Nothing new is taken from the library's clients.
    stopping: AtomicBool,
    /// Nothing becomes durable any more.
    stopped: AtomicBool,
    durable: Option<Arc<Durable>>,
    timer: Arc<Timer>,
    threads: Mutex<Threads>,
    /// Messages that were confirmed.
    confirmed: AtomicU64,
    meters: Arc<Meters>,
    retired: Mutex<Retired>,
    /// Milliseconds since 1970.
    started: u64,
    recovery: OnceLock<RecoveryStatistics>,
}

/// A session, as the broker knows it.
struct Listed {
    mailbox: Arc<Mailbox>,
    /// `None` for who only waits for the log.
    vhost: Option<Weak<VirtualHost>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timer.stop();
        self.threads.lock().stop();
        if let Some(durable) = &self.durable {
            durable.store.log.write(true);
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker in memory with one virtual host, `/`.
    pub fn new(limits: Limits, environment: Environment) -> Broker {
        let broker = Broker::build(limits, environment, Account::default(), None);
        broker.create_vhost("/");
        broker
    }

    fn build(limits: Limits, environment: Environment, account: Account, durable: Option<Arc<Durable>>) -> Broker {
        let has_thread = !environment.ticks;
        let environment = Arc::new(environment);
        let times = durable.as_ref().map_or_else(Arc::default, |durable| durable.store.times.clone());
        let epoch = durable.as_ref().map_or(0, |durable| durable.store.log.epoch);
        // What is durable has hashes that are to be the same again.
        let seed = durable.as_ref().map_or_else(|| (environment.now)(), |durable| durable.store.log.id.id);
        let meters = durable.as_ref().map_or_else(Arc::default, |durable| durable.store.log.meters.clone());
        let started = (environment.now)();
        let inner = Arc::new_cyclic(|own| Inner {
            limits,
            seed: Seed(seed),
            account,
            timer: Arc::new(Timer::new(times, epoch, environment.clone(), own.clone(), has_thread)),
            environment,
            vhosts: RwLock::default(),
            entries: Arc::default(),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            blocked: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            durable,
            threads: Mutex::default(),
            confirmed: AtomicU64::new(0),
            meters,
            retired: Mutex::default(),
            started,
            recovery: OnceLock::new(),
        });
        Broker { inner }
    }

    /// A broker in memory with the defaults and one virtual host, `/`. What is in it ends with it.
    pub fn in_memory() -> Broker {
        Broker::new(Limits::default(), Environment::system())
    }

    /// Opens a broker that keeps what is durable in a directory, which is made if it is missing. It has the default
    /// limits and syncs before it confirms; [`Broker::open_with`] lets you choose, and tells what was found: a queue
    /// of which messages are damaged is closed, and using it says so.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is in use or cannot be read, or if files are missing without which messages would
    /// be lost.
    pub fn open(directory: impl Into<PathBuf>) -> std::result::Result<Broker, OpenError> {
        let storage = Storage::in_directory(directory)?;
        Ok(Broker::open_with(Limits::default(), Environment::system(), storage)?.0)
    }

    /// Opens a durable broker: recovers what `storage` holds and starts the threads that write and tend the log.
    /// [`Broker::shut_down`] ends it; one that is dropped writes what is pending, too.
    ///
    /// # Errors
    /// [`OpenError`] if the directory cannot be read, or if files are missing without which messages would be lost.
    pub fn open_with(
        limits: Limits,
        environment: Environment,
        storage: Storage,
    ) -> std::result::Result<(Broker, Recovery), OpenError> {
        let sync = storage.sync;
        let (broker, recovery) = Broker::recover(limits, environment, storage)?;
        broker.start(sync)?;
        Ok((broker, recovery))
    }

    fn start(&self, sync: log::Sync) -> std::result::Result<(), OpenError> {
        let Some(durable) = &self.inner.durable else { return Ok(()) };
        let threads = Threads::start(durable.clone(), Arc::downgrade(&self.inner), sync);
        *self.inner.threads.lock() =
            threads.map_err(|source| OpenError::Io { what: "start the log's threads".into(), source })?;
        Ok(())
    }

    /// As [`Broker::open_with`], without threads: the caller drives [`Broker::write_log`] and [`Broker::tend`]. For
    /// simulations.
    ///
    /// # Errors
    /// As [`Broker::open_with`].
    pub fn recover(
        limits: Limits,
        environment: Environment,
        storage: Storage,
    ) -> std::result::Result<(Broker, Recovery), OpenError> {
        let (begun, account) = (Instant::now(), Account::default());
        let (disk, meter) = MeteredDisk::over(storage.disk.clone());
        let storage = Storage { disk, ..storage };
        let id = (environment.random)() as u64;
        let Recovered { store, contents, mut recovery, unnamed, missing } = recover(&storage, id, &account)?;
        let durable = Arc::new(Durable::new(store, storage.accept_loss, meter));
        let broker = Broker::build(limits, environment, account, Some(durable));
        broker.restore(contents, &mut recovery, unnamed)?;
        if let Some(durable) = broker.durable().filter(|_| storage.accept_loss && !recovery.damage.is_empty()) {
            let settled = durable.store.settle(&*broker.inner, missing);
            settled.map_err(|source| OpenError::Io { what: "write what was accepted".to_string(), source })?;
        }
        // It is new: nobody has set it.
        let _ = broker.inner.recovery.set(RecoveryStatistics {
            time: begun.elapsed(),
            queues: recovery.queues,
            messages: recovery.messages,
            replayed: recovery.replayed,
            torn: recovery.torn,
            damaged: recovery.damage.len() as u64,
        });
        Ok((broker, recovery))
    }

    /// Writes and syncs what is pending in the log; false if there was nothing.
    pub fn write_log(&self) -> bool {
        self.inner.durable.as_ref().is_some_and(|durable| durable.write())
    }

    /// A step of the work behind the log: adopting, merging, checkpoints, removing, preparing files; and of
    /// writing transient messages to the disk when memory runs short. False if there was
    /// nothing to do, or if it could not be done now because the disk is full.
    pub fn tend(&self) -> bool {
        let tend = |durable: &Arc<Durable>| {
            Ok(self.overflow()? || durable.store.tend(&*self.inner)? || durable.store.merge(&*self.inner)?)
        };
        let tended = self.inner.durable.as_ref().map(tend);
        match tended {
            None => false,
            Some(Ok(more)) => {
                self.set_disk_full(false);
                more
            }
            Some(Err(error)) => {
                self.note_tend_error(&error);
                false
            }
        }
    }

    /// Writes what is pending and a checkpoint, and ends the threads. Whoever waits for something that has not happened
    /// then gets an error. What is published later is not durable.
    ///
    /// The directory is free for another broker when the last handle is gone: this one, its clones, and everything that
    /// came from them, messages included.
    ///
    /// # Errors
    /// If the log or the checkpoint cannot be written. Nothing that was confirmed is lost by that.
    pub fn shut_down(&self) -> std::io::Result<()> {
        self.inner.stopping.store(true, Ordering::Release);
        let closed = self.close_log();
        self.inner.stopped.store(true, Ordering::Release);
        self.broadcast(Event::Shutdown);
        closed
    }

    /// [`Broker::shut_down`] was called: nothing new is taken.
    pub(crate) fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Acquire)
    }

    /// [`Broker::shut_down`] is done: what is not durable now will not be.
    pub(crate) fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// Both are handles to one broker.
    pub(crate) fn is_same(&self, other: &Broker) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn close_log(&self) -> std::io::Result<()> {
        let Some(durable) = &self.inner.durable else { return Ok(()) };
        self.inner.timer.stop();
        let mut threads = std::mem::take(&mut *self.inner.threads.lock());
        threads.stop();
        threads.join();
        durable.store.shut_down(&*self.inner)
    }

    /// The limits that it was made with.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Adds a virtual host; one that is there stays as it is. Tells whether it is new.
    pub fn create_vhost(&self, name: &str) -> bool {
        let mut vhosts = self.inner.vhosts.write();
        if vhosts.contains_key(name) {
            return false;
        }
        let name: Arc<str> = name.into();
        let topology = Topology::new(&name, self.inner.limits.clone());
        if let Some(durable) = &self.inner.durable {
            durable.write_vhost(&name);
        }
        let vhost = Arc::new_cyclic(|own| VirtualHost {
            own: own.clone(),
            broker: Arc::downgrade(&self.inner),
            name: name.clone(),
            generation: AtomicU64::new(topology.generation()),
            topology: RwLock::new(topology),
            account: self.inner.account.clone(),
            environment: self.inner.environment.clone(),
            timer: self.inner.timer.clone(),
            durable: self.inner.durable.clone(),
            dedup: SharedDedup::new(name.clone(), self.inner.limits.max_producers, self.inner.seed),
            entries: self.inner.entries.clone(),
            policing: Mutex::default(),
            retired: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        vhosts.insert(name, vhost);
        true
    }

    /// Deletes a virtual host with all that is in it, entries of its tables included; false if there is none of this name.
    /// Its sessions are told by [`Event::VhostDeleted`], and what they ask for from now on is refused.
    ///
    /// A directory without any virtual host gets `/` at its next start.
    pub fn delete_vhost(&self, name: &str) -> bool {
        let mut vhosts = self.inner.vhosts.write();
        let Some(vhost) = vhosts.remove(name) else { return false };
        // Both locks are held meanwhile: a checkpoint sees all of it or nothing.
        let mut entries = self.inner.entries.write();
        self.inner.retired.lock().begin(&vhost);
        let queues = vhost.close();
        entries.forget_vhost(name);
        drop((entries, vhosts));
        vhost.delete_all(&queues);
        self.inner.retired.lock().end(&vhost);
        let sessions = self.inner.sessions.lock();
        let of_it = |listed: &&Listed| listed.vhost.as_ref().is_some_and(|of| std::ptr::eq(of.as_ptr(), &*vhost));
        let told: Vec<_> = sessions.values().filter(of_it).map(|listed| listed.mailbox.clone()).collect();
        drop(sessions);
        told.iter().for_each(|mailbox| mailbox.post(Event::VhostDeleted));
        true
    }

    /// The virtual host of this name.
    pub fn vhost(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.inner.vhosts.read().get(name).cloned()
    }

    /// All virtual hosts, by name.
    pub fn vhosts(&self) -> Vec<Arc<VirtualHost>> {
        let mut vhosts: Vec<_> = self.inner.vhosts.read().values().cloned().collect();
        vhosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        vhosts
    }

    /// Opens a session, the broker's side of a connection, on a virtual host.
    pub fn open_session(&self, vhost: Arc<VirtualHost>) -> Session {
        let (mailbox, id) = self.list_mailbox(Some(&vhost));
        // Who deletes it tells the sessions after it is closed.
        if vhost.closed.load(Ordering::Acquire) {
            mailbox.post(Event::VhostDeleted);
        }
        Session::new(self.clone(), vhost, id, mailbox)
    }

    /// A mailbox that everybody is told through from now on, and what it is known by.
    pub(crate) fn list_mailbox(&self, vhost: Option<&Arc<VirtualHost>>) -> (Arc<Mailbox>, SessionId) {
        let id = self.inner.next_session.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::default());
        let mut sessions = self.inner.sessions.lock();
        if self.is_blocked() {
            mailbox.post(Event::Blocked);
        }
        sessions.insert(id, Listed { mailbox: mailbox.clone(), vhost: vhost.map(Arc::downgrade) });
        (mailbox, id)
    }

    pub(crate) fn forget_session(&self, id: SessionId) {
        self.inner.sessions.lock().remove(&id);
    }

    pub(crate) fn random_name(&self, prefix: &str) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bits = (self.inner.environment.random)();
        let mut name = String::with_capacity(prefix.len() + 22);
        name.push_str(prefix);
        for _ in 0..22 {
            name.push(ALPHABET[(bits & 63) as usize] as char);
            bits >>= 6;
        }
        name
    }

    pub(crate) fn durable(&self) -> Option<&Arc<Durable>> {
        self.inner.durable.as_ref()
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    pub(crate) fn count_confirmed(&self, messages: u64) {
        self.inner.confirmed.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages that were confirmed since the broker was started.
    pub fn confirmed(&self) -> u64 {
        self.inner.confirmed.load(Ordering::Relaxed)
    }

    /// Bytes that messages hold in memory, those on their way to the disk included.
    pub fn memory_used(&self) -> u64 {
        self.inner.account.used() + self.inner.durable.as_ref().map_or(0, |durable| durable.store.log.pending())
    }

    /// Why the broker stops, if its log has failed: nothing is confirmed any more.
    pub fn failure(&self) -> Option<String> {
        Some(self.inner.durable.as_ref()?.store.log.failure()?.to_string())
    }

    /// Damage that was met since the last call, in words.
    pub fn take_damage(&self) -> Vec<String> {
        self.inner.durable.as_ref().map(|durable| durable.take_reports()).unwrap_or_default()
    }

    /// What is blocking publishers, in RabbitMQ's words for connection.blocked.
    pub fn blocked_reason(&self) -> &'static str {
        let memory = self.memory_used() > self.inner.limits.max_memory / 10 * 9;
        match (memory, self.inner.disk_full.load(Ordering::Relaxed)) {
            (true, true) => "low on memory & disk",
            (false, true) => "low on disk",
            _ => "low on memory",
        }
    }

    /// More memory is used by messages than publishers may use.
    pub fn is_short_of_memory(&self) -> bool {
        let max = self.inner.limits.max_memory;
        self.memory_used() > if self.is_blocked() { max / 10 * 9 } else { max }
    }

    /// There is less room on the disk of the data directory than there has to be.
    pub fn is_disk_full(&self) -> bool {
        self.inner.disk_full.load(Ordering::Relaxed)
    }

    /// Bytes that are free on the disk of the data directory; `None` without one, or if the system does not tell.
    pub fn disk_free(&self) -> Option<u64> {
        self.inner.durable.as_ref()?.store.files.disk.free().ok()
    }

    /// Publishers are blocked because memory or disk runs out.
    pub fn is_blocked(&self) -> bool {
        self.inner.blocked.load(Ordering::Relaxed)
    }

    /// Blocks publishers above the memory limit and lets them go on below nine tenths of it. To be called every
    /// 100 ms or so; publishing itself calls it too.
    pub fn check_memory(&self) {
        if self.blocks_now() == self.is_blocked() {
            return;
        }
        // Decided and told under one lock, so that every session hears of the changes in their order: one that heard
        // of the last block after its end would wait for ever.
        let sessions = self.inner.sessions.lock();
        let now = self.blocks_now();
        if self.inner.blocked.swap(now, Ordering::Relaxed) != now {
            tell(sessions, if now { Event::Blocked } else { Event::Unblocked });
        }
    }

    fn blocks_now(&self) -> bool {
        if self.inner.disk_full.load(Ordering::Relaxed) {
            return true;
        }
        let (used, max) = (self.memory_used(), self.inner.limits.max_memory);
        if self.is_blocked() { used > max / 10 * 9 } else { used > max }
    }

    /// Tells every session.
    pub fn broadcast(&self, event: Event) {
        tell(self.inner.sessions.lock(), event);
    }
}

/// Leaves word with every session, and wakes them once their list is unlocked.
fn tell(sessions: MutexGuard<'_, FxHashMap<SessionId, Listed>>, event: Event) {
    let wakers: Vec<_> = sessions.values().filter_map(|listed| listed.mailbox.leave(event)).collect();
    drop(sessions);
    wakers.into_iter().for_each(Waker::wake);
}

/// What queue.declare-ok tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The name, generated if none was given.
    pub name: Arc<str>,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that wait for their next attempt.
    pub waiting: u64,
    /// Messages that were handed out, and are not settled.
    pub unacked: u64,
    /// Number of consumers.
    pub consumers: usize,
}

/// What queue.declare asks for.
#[derive(Clone, Copy, Debug)]
pub struct QueueDeclare<'a> {
    /// The name; empty for a generated one.
    pub name: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// For this connection alone; deleted with it.
    pub exclusive: bool,
    /// Is deleted when its last consumer is gone.
    pub auto_delete: bool,
    /// `x-` arguments.
    pub arguments: Table<'a>,
}

/// A queue that no virtual host knows.
#[cfg(test)]
pub(crate) fn detached_queue(name: &str) -> Arc<SharedQueue> {
    Arc::new(SharedQueue {
        name: name.into(),
        auto_delete: false,
        id: 0,
        number: 0,
        settings: RwLock::new(Arc::new(crate::settings::Settings::new(Table::EMPTY, Default::default()))),
        drops: AtomicBool::new(false),
        timed: AtomicBool::new(false),
        leased: AtomicBool::new(false),
        used: AtomicU64::new(0),
        vhost: Weak::new(),
        environment: Arc::new(Environment::system()),
        damaged: AtomicBool::new(false),
        durable: None,
        state: Mutex::new(Queue::new(Account::default())),
    })
}
