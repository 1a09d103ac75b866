//! A virtual host: AMQP's operations on its exchanges, queues and bindings.

use super::dedup::SharedDedup;
use super::durable::Durable;
use super::listing::is_listed;
use super::timer::Timer;
use super::{Broker, Environment, Inner, QueueDeclare, QueueStatus, SharedQueue};
use crate::arguments;
use crate::counters::QueueTotals;
use crate::dead_letter::Letter;
use crate::dedup::Point;
use crate::entries::Entries;
use crate::error::{Error, Result};
use crate::log::QueueId;
use crate::mailbox::Event;
use crate::message::Account;
use crate::policy::Applied;
use crate::publisher::Route;
use crate::queue::Queue;
use crate::routing::Destination;
use crate::settings::Settings;
use crate::topology::{
    ExchangeDeclare, NOBODY, QueueRecord, Routed, SessionId, Topology, check_not_default, check_not_reserved,
    delay_queue,
};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Table};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// One virtual host: a name space of exchanges and queues.
#[derive(Debug)]
pub struct VirtualHost {
    /// For its queues, whose dead letters come back to it.
    pub(super) own: Weak<VirtualHost>,
    pub(super) broker: Weak<Inner>,
    pub(super) name: Arc<str>,
    pub(super) topology: RwLock<Topology<Arc<SharedQueue>>>,
    /// The topology's, to be read without its lock.
    pub(super) generation: AtomicU64,
    pub(super) account: Account,
    pub(super) environment: Arc<Environment>,
    pub(super) timer: Arc<Timer>,
    pub(crate) durable: Option<Arc<Durable>>,
    pub(super) dedup: SharedDedup,
    /// What was counted in queues that are gone, and of queues.
    pub(super) retired: Mutex<QueueTotals>,
    /// The broker's, for its policies.
    pub(super) entries: Arc<RwLock<Entries>>,
    /// One policy takes effect after the other.
    pub(super) policing: Mutex<()>,
    /// It was deleted.
    pub(super) closed: AtomicBool,
}

impl VirtualHost {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The broker that it is of; 404 if that is gone.
    pub(super) fn broker(&self) -> Result<Broker> {
        let inner = self.broker.upgrade();
        inner.map(|inner| Broker { inner }).ok_or_else(|| Error::channel(404, "the broker has ended"))
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Something in `0.0 .. 1.0`.
    pub(super) fn chance(&self) -> f64 {
        ((self.environment.random)() as u32) as f64 / (f64::from(u32::MAX) + 1.0)
    }

    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> u64 {
        (self.environment.now)() / 1000
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Topology<Arc<SharedQueue>>) -> R) -> R {
        let mut topology = self.topology.write();
        let result = change(&mut topology);
        let abandoned = topology.take_abandoned();
        self.follow_points(&mut topology);
        self.generation.store(topology.generation(), Ordering::Release);
        let journal = topology.take_journal();
        if let Some(durable) = self.durable.as_ref().filter(|_| !journal.is_empty()) {
            durable.write_changes(&journal);
        }
        drop(topology);
        self.delete_all(&abandoned);
        result
    }

    /// Exchanges that leave duplicates out have come or gone.
    pub(super) fn follow_points(&self, topology: &mut Topology<Arc<SharedQueue>>) {
        let points = topology.take_points();
        if !points.added.is_empty() || !points.removed.is_empty() {
            self.dedup.follow(&points);
        }
    }

    /// Ends with everything in it, and lets the log know; its queues are still to be deleted.
    pub(super) fn close(&self) -> Vec<Arc<SharedQueue>> {
        let queues = self.change(|topology| {
            let queues = topology.close();
            // Before the log is told: behind this, no record tells of what was seen here.
            self.dedup.lock().close();
            if let Some(durable) = &self.durable {
                durable.write_vhost_deleted(&self.name);
            }
            queues
        });
        self.closed.store(true, Ordering::Release);
        queues
    }

    pub(super) fn delete_all(&self, queues: &[Arc<SharedQueue>]) {
        for queue in queues {
            // Nothing is refused: there is no condition.
            let _ = self.delete_queue_if(queue, |_| Ok(()));
        }
    }

    /// Lets every publisher look up its routes anew.
    pub(super) fn forget_routes(&self) {
        self.change(Topology::touch);
    }

    /// Declares an exchange: 406 if it exists and differs, or if the type is unknown; 403 for reserved names.
    pub fn declare_exchange(&self, declare: ExchangeDeclare<'_>) -> Result<()> {
        self.change(|topology| topology.declare_exchange(declare))?;
        self.declare_delay_queue(&declare)
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
            arguments::check_quorum(&declare, &self.name)?;
            let name: Arc<str> = declare.name.into();
            self.insert_queue(topology, name, declare, declare.exclusive.then_some(session))
        })?;
        self.retired.lock().churn.declared += 1;
        queue.touch();
        Ok(queue.status())
    }

    pub(super) fn insert_queue(
        &self,
        topology: &mut Topology<Arc<SharedQueue>>,
        name: Arc<str>,
        declare: QueueDeclare<'_>,
        owner: Option<SessionId>,
    ) -> Result<Arc<SharedQueue>> {
        // An exclusive queue ends with its connection, so at a restart there is none.
        let durable = self.durable.as_ref().filter(|_| declare.durable && owner.is_none());
        let id = durable.map_or(0, |durable| durable.store.next_queue());
        let state = match durable {
            Some(_) => Queue::durable(self.account.clone(), id),
            None => Queue::new(self.account.clone()),
        };
        let applied = topology.policies_of_queue(&name, declare.arguments);
        let handle = self.share_queue(name.clone(), id, declare, applied.clone(), state);
        let (durable, auto_delete) = (declare.durable, declare.auto_delete);
        let arguments = FieldTable::from(declare.arguments);
        let record = QueueRecord { name, id, durable, auto_delete, owner, arguments, applied, handle: handle.clone() };
        topology.insert_queue(record)?;
        if is_listed(&handle.name) {
            self.retired.lock().churn.created += 1;
        }
        self.watch(&handle);
        Ok(handle)
    }

    /// Puts a queue behind its lock.
    pub(super) fn share_queue(
        &self,
        name: Arc<str>,
        id: QueueId,
        declare: QueueDeclare<'_>,
        applied: Applied,
        mut state: Queue,
    ) -> Arc<SharedQueue> {
        let settings = Settings::new(declare.arguments, applied);
        let number = if id == 0 { self.timer.next_number() } else { id };
        state.configure(number, &settings);
        Arc::new(SharedQueue {
            name,
            auto_delete: declare.auto_delete,
            id,
            number,
            drops: AtomicBool::new(settings.drops()),
            timed: AtomicBool::new(settings.ttl.is_some()),
            leased: AtomicBool::new(settings.expires.is_some()),
            settings: RwLock::new(Arc::new(settings)),
            used: AtomicU64::new(0),
            vhost: self.own.clone(),
            environment: self.environment.clone(),
            damaged: AtomicBool::new(false),
            durable: self.durable.clone().filter(|_| id != 0),
            state: Mutex::new(state),
        })
    }

    /// Lets the log and the timer find a queue.
    pub(super) fn watch(&self, queue: &Arc<SharedQueue>) {
        if let Some(durable) = &queue.durable {
            durable.add_queue(queue);
        }
        self.timer.add_queue(queue);
        self.guard_queue(queue);
        queue.begin_lease();
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

    /// How many messages an exchange of type `x-delayed-message` has that wait for their time; 404 if there is no such exchange.
    pub fn delayed(&self, exchange: &str) -> Result<u64> {
        let topology = self.topology.read();
        topology.exchange(exchange)?;
        let status = topology.queue(&delay_queue(exchange))?.handle.status();
        Ok(status.ready + status.waiting)
    }

    pub(crate) fn queue(&self, name: &str, session: SessionId) -> Result<Arc<SharedQueue>> {
        let queue = self.topology.read().queue_for(name, session)?.handle.clone();
        queue.check_undamaged()?;
        queue.touch();
        Ok(queue)
    }

    /// Drops the ready messages of a queue, and those that wait; returns how many were ready.
    ///
    /// # Errors
    /// 404, 405 and 406 as in every use of a queue by one who has no session.
    pub fn purge(&self, queue: &str) -> Result<u64> {
        self.purge_queue(queue, NOBODY)
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
        self.delete_all(&owned);
    }

    /// Deletes `queue` unless `check`, called under its lock, refuses. Its consumers are told.
    pub(super) fn delete_queue_if(&self, queue: &SharedQueue, check: impl FnOnce(&Queue) -> Result<()>) -> Result<u64> {
        let quorum = queue.settings().quorum;
        let (ready, remains, orphans) = self.change(|topology| {
            let mut state = queue.state.lock();
            check(&state)?;
            if state.is_deleted() {
                return Ok(Default::default());
            }
            topology.remove_queue(&queue.name);
            if let Some(durable) = &queue.durable {
                durable.remove_queue(queue.id);
            }
            self.timer.remove_queue(queue.number);
            if is_listed(&queue.name) {
                let mut retired = self.retired.lock();
                retired.add(quorum, state.gauges.counters);
                retired.churn.deleted += 1;
            }
            let (ready, remains) = state.delete();
            Ok((ready, remains, state.consumers.drain()))
        })?;
        if queue.settings().dedup.is_some() {
            self.dedup.lock().remove(Point::Queue(queue.number));
        }
        if queue.is_durable() {
            self.forget_paused(queue);
        }
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

    /// Where a dead letter goes; `None` if nowhere. Queues that it would only come back to are left out.
    pub(super) fn route_letter(&self, exchange: &str, letter: &Letter) -> Option<Route> {
        let keys: Vec<&str> = letter.keys.iter().map(String::as_str).collect();
        // Its history may be nested deeper than a client's tables may be.
        let properties = Properties::decode_stored(&letter.properties).ok()?;
        let routed = self.topology.read().route(exchange, &keys, &properties).ok()?;
        let takes = |queue: &Arc<SharedQueue>| queue.check_undamaged().is_ok() && !letter.would_cycle(&queue.name);
        let queues: Box<[_]> = routed.queues.into_iter().filter(takes).collect();
        (!queues.is_empty()).then(|| Route::new(queues))
    }

    /// Where a message goes that has waited in an exchange; `None` if nowhere.
    pub(super) fn route_onwards(&self, exchange: &str, keys: &[&str], properties: &Properties<'_>) -> Option<Route> {
        let routed = self.topology.read().route_onwards(exchange, keys, properties).ok()?;
        let queues: Box<[_]> = routed.queues.into_iter().filter(|queue| queue.check_undamaged().is_ok()).collect();
        (!queues.is_empty()).then(|| Route::new(queues))
    }

    /// The queues of a message, and whether its exchange is internal.
    pub(crate) fn route(
        &self,
        exchange: &str,
        keys: &[&str],
        properties: &Properties<'_>,
    ) -> Result<(Routed<Arc<SharedQueue>>, u64)> {
        let topology = self.topology.read();
        if topology.exchange(exchange)?.internal {
            return Err(Error::access_refused(format!(
                "cannot publish to internal exchange '{exchange}' in vhost '{}'",
                self.name
            )));
        }
        let routed = topology.route(exchange, keys, properties)?;
        routed.queues.iter().try_for_each(|queue| queue.check_undamaged())?;
        Ok((routed, topology.generation()))
    }
}
