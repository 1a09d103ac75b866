//! The only place with locks, wake-ups and shared ownership: the broker, its virtual hosts and its queues.
//!
//! Lock order: a virtual host's topology, then a queue, then a mailbox. No lock is held while a connection is woken.

use crate::arguments;
use crate::consumers::Wakes;
use crate::dead_letter::{self, Letter};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::log::{OpenError, Recovery, Storage};
use crate::mailbox::{Event, Mailbox};
use crate::message::{Account, Message, Run, SHARE_MIN};
use crate::queue::{Delivery, Queue};
use crate::routing::Destination;
use crate::session::Session;
use crate::topology::{
    ExchangeDeclare, QueueRecord, Routed, SessionId, Topology, check_not_default, check_not_reserved,
};
use leveret_wire::table::{FieldTable, Table};
use parking_lot::{Mutex, MutexGuard, RwLock};
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

/// What a broker does not know by itself. Tests pass counters.
pub struct Environment {
    /// Where generated names come from: 128 random bits a call.
    pub random: Box<dyn Fn() -> u128 + Send + Sync>,
    /// The time: seconds since 1970.
    pub now: Box<dyn Fn() -> u64 + Send + Sync>,
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
    account: Account,
    environment: Arc<Environment>,
    vhosts: RwLock<FxHashMap<Arc<str>, Arc<VirtualHost>>>,
    sessions: Mutex<FxHashMap<SessionId, Arc<Mailbox>>>,
    next_session: AtomicU64,
    blocked: AtomicBool,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker in memory with one virtual host, `/`.
    pub fn new(limits: Limits, environment: Environment) -> Broker {
        let broker = Broker {
            inner: Arc::new(Inner {
                limits,
                account: Account::default(),
                environment: Arc::new(environment),
                vhosts: RwLock::default(),
                sessions: Mutex::default(),
                next_session: AtomicU64::new(1),
                blocked: AtomicBool::new(false),
            }),
        };
        broker.create_vhost("/");
        broker
    }

    /// Opens a durable broker: recovers what `storage` holds and starts the threads that write and tend the log.
    ///
    /// # Errors
    /// [`OpenError`] if the directory cannot be read or is not what it should be.
    pub fn open(
        limits: Limits,
        environment: Environment,
        storage: Storage,
    ) -> std::result::Result<(Broker, Recovery), OpenError> {
        Broker::recover(limits, environment, storage)
    }

    /// As [`Broker::open`], without threads: the caller drives [`Broker::write_log`] and [`Broker::tend`].
    pub fn recover(
        limits: Limits,
        environment: Environment,
        _storage: Storage,
    ) -> std::result::Result<(Broker, Recovery), OpenError> {
        Ok((Broker::new(limits, environment), Recovery::default()))
    }

    /// Writes and syncs what is pending in the log; false if there was nothing.
    pub fn write_log(&self) -> bool {
        false
    }

    /// A step of the work behind the log: adopting, merging, checkpoints, deleting. False if there was nothing to do.
    pub fn tend(&self) -> bool {
        false
    }

    /// Writes what is pending and a checkpoint, and ends the threads. What is published later is not durable.
    pub fn shut_down(&self) {}

    /// The limits that it was made with.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Adds a virtual host; one that is there stays as it is.
    pub fn create_vhost(&self, name: &str) {
        let mut vhosts = self.inner.vhosts.write();
        if !vhosts.contains_key(name) {
            let name: Arc<str> = name.into();
            let topology = Topology::new(&name, self.inner.limits.clone());
            let vhost = Arc::new_cyclic(|own| VirtualHost {
                own: own.clone(),
                name: name.clone(),
                generation: AtomicU64::new(topology.generation()),
                topology: RwLock::new(topology),
                account: self.inner.account.clone(),
                environment: self.inner.environment.clone(),
            });
            vhosts.insert(name, vhost);
        }
    }

    /// The virtual host of this name.
    pub fn vhost(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.inner.vhosts.read().get(name).cloned()
    }

    /// Opens a session, the broker's side of a connection, on a virtual host.
    pub fn open_session(&self, vhost: Arc<VirtualHost>) -> Session {
        let id = self.inner.next_session.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::default());
        let mut sessions = self.inner.sessions.lock();
        if self.is_blocked() {
            mailbox.post(Event::Blocked);
        }
        sessions.insert(id, mailbox.clone());
        drop(sessions);
        Session::new(self.clone(), vhost, id, mailbox)
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

    /// Bytes that messages hold in memory.
    pub fn memory_used(&self) -> u64 {
        self.inner.account.used()
    }

    /// Why the broker stops, if its log has failed: nothing is confirmed any more.
    pub fn failure(&self) -> Option<String> {
        None
    }

    /// What is blocking publishers, in RabbitMQ's words for connection.blocked.
    pub fn blocked_reason(&self) -> &'static str {
        "low on memory"
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
        let (used, max) = (self.memory_used(), self.inner.limits.max_memory);
        if self.is_blocked() { used > max / 10 * 9 } else { used > max }
    }

    /// Tells every session.
    pub fn broadcast(&self, event: Event) {
        tell(self.inner.sessions.lock(), event);
    }
}

/// Leaves word with every session, and wakes them once their list is unlocked.
fn tell(sessions: MutexGuard<'_, FxHashMap<SessionId, Arc<Mailbox>>>, event: Event) {
    let wakers: Vec<_> = sessions.values().filter_map(|mailbox| mailbox.leave(event)).collect();
    drop(sessions);
    wakers.into_iter().for_each(Waker::wake);
}

/// A queue behind its lock.
#[derive(Debug)]
pub struct SharedQueue {
    /// Its name.
    pub name: Arc<str>,
    /// Is deleted when its last consumer is gone.
    pub auto_delete: bool,
    dead_letters: Option<dead_letter::Target>,
    vhost: Weak<VirtualHost>,
    state: Mutex<Queue>,
}

impl SharedQueue {
    /// Changes the queue, lets it grant what became ready, and wakes who was granted something.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut wakes = Wakes::new();
        let result = self.change_quietly(change, &mut wakes);
        wakes.into_iter().for_each(|(mailbox, event)| mailbox.post(event));
        result
    }

    /// As [`SharedQueue::change`], with the wake-ups left to the caller.
    pub(crate) fn change_quietly<R>(&self, change: impl FnOnce(&mut Queue) -> R, wakes: &mut Wakes) -> R {
        let mut queue = self.state.lock();
        let result = change(&mut queue);
        queue.dispatch(wakes);
        result
    }

    /// Rejected messages go somewhere.
    pub(crate) fn has_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// Sends rejected messages to the dead-letter exchange. One that is missing, or has no queue for them, loses them
    /// (RabbitMQ's rule).
    pub(crate) fn send_dead_letters(&self, rejected: &[Delivery]) {
        let (Some(target), Some(vhost)) = (&self.dead_letters, self.vhost.upgrade()) else { return };
        let now = (vhost.environment.now)();
        for delivery in rejected {
            let mut at = delivery.offset;
            for _ in 0..delivery.count {
                let (message, next) = delivery.block.at(at);
                let letter = dead_letter::rejected(&message, &self.name, target, now);
                vhost.publish_dead_letter(target.exchange(), &letter, &message);
                at = next;
            }
        }
    }

    fn status(&self) -> QueueStatus {
        let queue = self.state.lock();
        QueueStatus { name: self.name.clone(), ready: queue.ready(), consumers: queue.consumers.len() }
    }
}

/// What queue.declare-ok tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The name, generated if none was given.
    pub name: Arc<str>,
    /// Messages that wait for a consumer.
    pub ready: u64,
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

/// One virtual host: a name space of exchanges and queues.
#[derive(Debug)]
pub struct VirtualHost {
    /// For its queues, whose dead letters come back to it.
    own: Weak<VirtualHost>,
    name: Arc<str>,
    topology: RwLock<Topology<Arc<SharedQueue>>>,
    /// The topology's, to be read without its lock.
    generation: AtomicU64,
    account: Account,
    environment: Arc<Environment>,
}

impl VirtualHost {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Topology<Arc<SharedQueue>>) -> R) -> R {
        let mut topology = self.topology.write();
        let result = change(&mut topology);
        self.generation.store(topology.generation(), Ordering::Release);
        result
    }

    /// Declares an exchange: 406 if it exists and differs, or if the type is unknown; 403 for reserved names.
    pub fn declare_exchange(&self, declare: ExchangeDeclare<'_>) -> Result<()> {
        self.change(|topology| topology.declare_exchange(declare))
    }

    /// Checks that an exchange exists (a passive declaration).
    pub fn check_exchange(&self, name: &str) -> Result<()> {
        check_not_default(name)?;
        self.topology.read().exchange(name).map(|_| ())
    }

    /// Deletes an exchange with all its bindings. A missing one is no error; 406 with `if_unused` and bindings.
    pub fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<()> {
        self.change(|topology| topology.delete_exchange(name, if_unused))
    }

    /// Binds a queue to an exchange on behalf of a connection.
    pub fn bind_queue(&self, queue: &str, source: &str, key: &str, args: Table<'_>, session: SessionId) -> Result<()> {
        self.change(|topology| {
            let name = topology.queue_for(queue, session)?.name.clone();
            check_not_default(source)?;
            topology.bind(source, Destination::Queue(name), key, args)
        })
    }

    /// Removes a queue's binding on behalf of a connection.
    pub fn unbind_queue(
        &self,
        queue: &str,
        source: &str,
        key: &str,
        args: Table<'_>,
        session: SessionId,
    ) -> Result<()> {
        self.change(|topology| {
            let name = topology.queue_for(queue, session)?.name.clone();
            check_not_default(source)?;
            topology.unbind(source, Destination::Queue(name), key, args)
        })
    }

    /// Binds an exchange to an exchange (RabbitMQ's extension).
    pub fn bind_exchange(&self, destination: &str, source: &str, key: &str, arguments: Table<'_>) -> Result<()> {
        check_not_default(destination)?;
        check_not_default(source)?;
        self.change(|topology| topology.bind(source, Destination::Exchange(destination.into()), key, arguments))
    }

    /// Removes an exchange's binding.
    pub fn unbind_exchange(&self, destination: &str, source: &str, key: &str, arguments: Table<'_>) -> Result<()> {
        check_not_default(destination)?;
        check_not_default(source)?;
        self.change(|topology| topology.unbind(source, Destination::Exchange(destination.into()), key, arguments))
    }

    /// Declares a queue with a non-empty name. 406 if it exists and differs, 405 if it is another connection's, 403 if
    /// it is new and the name is reserved, unless the broker has generated it.
    pub(crate) fn declare_queue(
        &self,
        declare: QueueDeclare<'_>,
        generated: bool,
        session: SessionId,
    ) -> Result<QueueStatus> {
        let queue = self.change(|topology| {
            if topology.queue(declare.name).is_ok() {
                return self.check_equivalent(topology.queue_for(declare.name, session)?, &declare);
            }
            if !generated {
                check_not_reserved("queue", declare.name)?;
            }
            arguments::check_queue(declare.arguments, declare.name, &self.name)?;
            let name: Arc<str> = declare.name.into();
            self.insert_queue(topology, name, declare, declare.exclusive.then_some(session))
        })?;
        Ok(queue.status())
    }

    fn insert_queue(
        &self,
        topology: &mut Topology<Arc<SharedQueue>>,
        name: Arc<str>,
        declare: QueueDeclare<'_>,
        owner: Option<SessionId>,
    ) -> Result<Arc<SharedQueue>> {
        let state = Mutex::new(Queue::new(self.account.clone()));
        let handle = Arc::new(SharedQueue {
            name: name.clone(),
            auto_delete: declare.auto_delete,
            dead_letters: dead_letter::Target::from_arguments(declare.arguments),
            vhost: self.own.clone(),
            state,
        });
        let (durable, auto_delete) = (declare.durable, declare.auto_delete);
        let arguments = FieldTable::from(declare.arguments);
        topology.insert_queue(QueueRecord { name, durable, auto_delete, owner, arguments, handle: handle.clone() })?;
        Ok(handle)
    }

    fn check_equivalent(
        &self,
        current: &QueueRecord<Arc<SharedQueue>>,
        declare: &QueueDeclare<'_>,
    ) -> Result<Arc<SharedQueue>> {
        if current.owner.is_some() != declare.exclusive {
            return Err(Error::resource_locked(declare.name, &self.name));
        }
        let what = format!("queue '{}'", declare.name);
        arguments::check_flag("durable", current.durable, declare.durable, &what, &self.name)?;
        arguments::check_flag("auto_delete", current.auto_delete, declare.auto_delete, &what, &self.name)?;
        arguments::check_equal(current.arguments.as_table(), declare.arguments, &what, &self.name)?;
        Ok(current.handle.clone())
    }

    /// Adds the hidden queue behind a direct reply-to consumer.
    pub(crate) fn declare_reply_queue(&self, name: &str) -> Result<Arc<SharedQueue>> {
        let (durable, exclusive, auto_delete, arguments) = (false, false, true, Table::EMPTY);
        let declare = QueueDeclare { name, durable, exclusive, auto_delete, arguments };
        self.change(|topology| self.insert_queue(topology, name.into(), declare, None))
    }

    /// Name and counts of a queue; 404 or 405 as in every use of it.
    pub fn queue_status(&self, name: &str, session: SessionId) -> Result<QueueStatus> {
        Ok(self.queue(name, session)?.status())
    }

    pub(crate) fn queue(&self, name: &str, session: SessionId) -> Result<Arc<SharedQueue>> {
        Ok(self.topology.read().queue_for(name, session)?.handle.clone())
    }

    /// Drops a queue's ready messages; returns how many.
    pub(crate) fn purge_queue(&self, name: &str, session: SessionId) -> Result<u64> {
        Ok(self.queue(name, session)?.change(Queue::purge))
    }

    /// Deletes a queue; returns how many messages were ready. A missing one counts as empty (RabbitMQ since 3.2).
    pub(crate) fn delete_queue(&self, name: &str, if_unused: bool, if_empty: bool, session: SessionId) -> Result<u64> {
        let queue = match self.topology.read().queue_for(name, session) {
            Ok(queue) => queue.handle.clone(),
            Err(error) if error.code == 404 => return Ok(0),
            Err(error) => return Err(error),
        };
        let refuse = |why| Err(Error::precondition(format!("queue '{name}' in vhost '{}' {why}", self.name)));
        self.delete_queue_if(&queue, |queue| match () {
            () if if_unused && !queue.consumers.is_empty() => refuse("in use"),
            () if if_empty && queue.ready() > 0 => refuse("not empty"),
            () => Ok(()),
        })
    }

    /// Deletes the exclusive queues of a session that ends.
    pub(crate) fn delete_owned_queues(&self, session: SessionId) {
        let owned = self.topology.read().owned_by(session);
        for queue in owned {
            // Nothing is refused: there is no condition.
            let _ = self.delete_queue_if(&queue, |_| Ok(()));
        }
    }

    /// Deletes `queue` unless `check`, called under its lock, refuses. Its consumers are told.
    fn delete_queue_if(&self, queue: &SharedQueue, check: impl FnOnce(&Queue) -> Result<()>) -> Result<u64> {
        let (ready, remains, orphans) = self.change(|topology| {
            let mut state = queue.state.lock();
            check(&state)?;
            if state.is_deleted() {
                return Ok(Default::default());
            }
            topology.remove_queue(&queue.name);
            let (ready, remains) = state.delete();
            Ok((ready, remains, state.consumers.drain()))
        })?;
        drop(remains);
        for (mailbox, event) in orphans {
            if let Event::Ready { channel, consumer } = event {
                mailbox.post(Event::Cancelled { channel, consumer });
            }
        }
        Ok(ready)
    }

    /// Deletes an auto-delete queue if it has had consumers and has none now.
    pub(crate) fn delete_if_abandoned(&self, queue: &SharedQueue) {
        if !queue.auto_delete {
            return;
        }
        // A refusal means that somebody has come back: the queue stays.
        let _ = self.delete_queue_if(queue, |queue| match queue.consumers.had_one() && queue.consumers.is_empty() {
            true => Ok(()),
            false => Err(Error::precondition("in use")),
        });
    }

    fn publish_dead_letter(&self, exchange: &str, letter: &Letter, message: &Message<'_>) {
        let keys: Vec<&str> = letter.keys.iter().map(String::as_str).collect();
        let Ok(routed) = self.topology.read().route(exchange, &keys, letter.headers.as_table()) else { return };
        let mut run = Run::default();
        run.push(&letter.route, &letter.properties, message.body, message.persistent);
        if run.len() < SHARE_MIN {
            routed.queues.iter().for_each(|queue| queue.change(|queue| queue.append_run(&run)));
        } else {
            let block = run.seal(&self.account);
            routed.queues.iter().for_each(|queue| queue.change(|queue| queue.append_block(block.clone())));
        }
    }

    /// The queues of a message, and whether its exchange is internal.
    pub(crate) fn route(
        &self,
        exchange: &str,
        keys: &[&str],
        headers: Table<'_>,
    ) -> Result<(Routed<Arc<SharedQueue>>, u64)> {
        let topology = self.topology.read();
        if topology.exchange(exchange)?.internal {
            return Err(Error::access_refused(format!(
                "cannot publish to internal exchange '{exchange}' in vhost '{}'",
                self.name
            )));
        }
        Ok((topology.route(exchange, keys, headers)?, topology.generation()))
    }
}

/// A queue that no virtual host knows.
#[cfg(test)]
pub(crate) fn detached_queue(name: &str) -> Arc<SharedQueue> {
    let state = Mutex::new(Queue::new(Account::default()));
    Arc::new(SharedQueue { name: name.into(), auto_delete: false, dead_letters: None, vhost: Weak::new(), state })
}
