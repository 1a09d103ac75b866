//! Exchanges, queues and bindings of one virtual host: plain data and AMQP's rules about it.
//!
//! `Q` is whatever a queue's name leads to. The engine puts a locked [`crate::queue::Queue`] there; nothing here looks
//! inside.

use crate::arguments::{check_equal, check_exchange, check_flag};
use crate::channel::REPLY_TO;
use crate::counters::{ExchangeCounters, ExchangeMeter};
use crate::dedup::{self, Guard, Known, Point, Rule};
use crate::delay::{DELAYED_TYPE, INNER_TYPE, delay_of};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::limits::Limits;
use crate::listing::BindingInfo;
use crate::log::{Bound, Change, QueueId};
use crate::policy::{Applied, Compiled, Named, Policies, Policy, PolicyKind};
use crate::routing::{Destination, ExchangeType, Filters, Router, Subject};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Table, Value};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Names a connection as the owner of its exclusive queues.
pub type SessionId = u64;

/// The session of those who have none: no exclusive queue is theirs.
pub(crate) const NOBODY: SessionId = 0;

/// The exchanges, queues and bindings of a virtual host.
#[derive(Debug)]
pub struct Topology<Q> {
    vhost: Arc<str>,
    limits: Limits,
    exchanges: FxHashMap<Arc<str>, Exchange>,
    queues: FxHashMap<Arc<str>, QueueRecord<Q>>,
    /// Names of the exclusive queues of each connection that has one.
    owned: FxHashMap<SessionId, FxHashSet<Arc<str>>>,
    /// Destination -> the bindings that lead there.
    bound_to: FxHashMap<Destination, FxHashSet<Binding>>,
    bindings: usize,
    filters: Filters,
    policies: Policies,
    generation: u64,
    /// The virtual host was deleted: there is nothing any more, and nothing comes.
    closed: bool,
    /// What the log has to be told: kinds and metas of records.
    journal: Vec<(u8, Vec<u8>)>,
    /// Queues that belonged to exchanges which are gone.
    abandoned: Vec<Q>,
    /// Numbers for exchanges that leave duplicates out.
    next_point: u64,
    points: Points,
    /// Of exchanges that are gone.
    retired: ExchangeCounters,
}

/// Exchanges that leave duplicates out, for the owner to know.
#[derive(Debug, Default)]
pub(crate) struct Points {
    /// New ones; by what the log knows them, if it does.
    pub(crate) added: Vec<(Guard, Option<Known>)>,
    pub(crate) removed: Vec<Point>,
}

/// A queue as it was declared.
#[derive(Clone, Debug)]
pub struct QueueRecord<Q> {
    /// Its name.
    pub name: Arc<str>,
    /// The log knows it by this; 0 if it does not.
    pub id: QueueId,
    /// Survives a restart.
    pub durable: bool,
    /// Is deleted when its last consumer is gone.
    pub auto_delete: bool,
    /// The connection that alone may use it.
    pub owner: Option<SessionId>,
    /// As declared, byte for byte.
    pub arguments: FieldTable,
    /// Policies that count for it.
    pub(crate) applied: Applied,
    /// What the engine keeps for it.
    pub handle: Q,
}

/// An exchange and its bindings.
#[derive(Debug)]
pub struct Exchange {
    /// Its type.
    pub kind: ExchangeType,
    /// Messages wait in it before they are routed, if they ask for that.
    pub delayed: bool,
    /// It leaves out what was published before.
    pub(crate) guard: Option<Guard>,
    type_name: &'static str,
    /// Survives a restart.
    pub durable: bool,
    /// Is deleted when the last binding from it is gone.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// As declared, byte for byte.
    pub arguments: FieldTable,
    /// What is published to it.
    pub(crate) meter: Arc<ExchangeMeter>,
    /// As declared, or as its policies say.
    alternate: Option<Arc<str>>,
    pub(crate) applied: Applied,
    router: Router,
    bindings: FxHashSet<(Destination, Box<str>, FieldTable)>,
}

/// A binding as its destination sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The exchange that it leads from.
    pub source: Arc<str>,
    /// Its key.
    pub key: Box<str>,
    /// Its arguments, byte for byte.
    pub arguments: FieldTable,
}

/// What exchange.declare asks for.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeDeclare<'a> {
    /// The name.
    pub name: &'a str,
    /// The name of the type.
    pub kind: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// Is deleted when the last binding from it is gone.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// `alternate-exchange` is the one with a meaning.
    pub arguments: Table<'a>,
}

/// Where a message goes.
#[derive(Debug)]
pub struct Routed<Q> {
    /// Each queue once.
    pub queues: Vec<Q>,
    /// The answer depends on the headers, so it holds for this message only.
    pub reads_headers: bool,
    /// The filters that were asked, see [`Subject::into_answers`]: it holds for messages that they answer alike.
    pub answers: Vec<(Arc<Filter>, bool)>,
    /// The exchange leaves out what was published before.
    pub(crate) guard: Option<Guard>,
    /// Of the exchange.
    pub(crate) meter: Arc<ExchangeMeter>,
}

impl<Q: Clone> Topology<Q> {
    /// A virtual host with the default exchange and the predeclared `amq.*` ones.
    pub fn new(vhost: &str, limits: Limits) -> Topology<Q> {
        let mut topology = Topology {
            vhost: vhost.into(),
            limits,
            exchanges: FxHashMap::default(),
            queues: FxHashMap::default(),
            owned: FxHashMap::default(),
            bound_to: FxHashMap::default(),
            bindings: 0,
            filters: Filters::default(),
            policies: Policies::default(),
            generation: 0,
            closed: false,
            journal: Vec::new(),
            abandoned: Vec::new(),
            next_point: 1,
            points: Points::default(),
            retired: ExchangeCounters::default(),
        };
        let predeclared = [
            ("", ExchangeType::Direct),
            ("amq.direct", ExchangeType::Direct),
            ("amq.fanout", ExchangeType::Fanout),
            ("amq.topic", ExchangeType::Topic),
            ("amq.headers", ExchangeType::Headers),
            ("amq.match", ExchangeType::Headers),
        ];
        for (name, kind) in predeclared {
            topology.exchanges.insert(name.into(), Exchange::new(kind, true, false, false, FieldTable::new(), None));
        }
        topology
    }

    /// Counts up with every change that can alter a route.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[cfg(test)]
    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Lets every route be looked up anew.
    pub(crate) fn touch(&mut self) {
        self.generation += 1;
    }

    /// The policies that count for an exchange.
    pub(crate) fn policies_of_exchange(&self, name: &str) -> Result<Applied> {
        Ok(self.exchange(name)?.applied.clone())
    }

    /// What the log has to be told since the last call.
    pub(crate) fn take_journal(&mut self) -> Vec<(u8, Vec<u8>)> {
        std::mem::take(&mut self.journal)
    }

    /// Queues that belonged to exchanges which were deleted since the last call, for the owner to delete as well.
    pub(crate) fn take_abandoned(&mut self) -> Vec<Q> {
        std::mem::take(&mut self.abandoned)
    }

    /// Exchanges that leave duplicates out and have come or gone since the last call.
    pub(crate) fn take_points(&mut self) -> Points {
        std::mem::take(&mut self.points)
    }

    fn note(&mut self, change: &Change<'_>) {
        let mut meta = Vec::new();
        let kind = change.encode(&mut meta);
        self.journal.push((kind, meta));
    }

    /// Says everything durable.
    pub(crate) fn say<E>(
        &self,
        say: &mut dyn FnMut(&Change<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let vhost = &*self.vhost;
        let durable = self.exchanges.iter().filter(|(name, exchange)| exchange.durable && !is_predeclared(name));
        durable.map(|(name, exchange)| exchange.change(vhost, name)).try_for_each(|change| say(&change))?;
        let durable = self.queues.values().filter(|queue| queue.id != 0);
        durable.map(|queue| queue.change(vhost)).try_for_each(|change| say(&change))?;
        for (to, bindings) in self.bound_to.iter().filter(|(to, _)| self.is_durable(to)) {
            let durable = bindings.iter().filter(|binding| self.is_durable_exchange(&binding.source));
            durable.map(|binding| bound(vhost, to, binding)).try_for_each(|bound| say(&Change::Binding(bound)))?;
        }
        Ok(())
    }

    fn is_durable(&self, to: &Destination) -> bool {
        match to {
            Destination::Queue(name) => self.queues.get(name).is_some_and(|queue| queue.id != 0),
            Destination::Exchange(name) => self.is_durable_exchange(name),
        }
    }

    fn is_durable_exchange(&self, name: &str) -> bool {
        self.exchanges.get(name).is_some_and(|exchange| exchange.durable)
    }

    /// The names of exchanges in which messages wait before they are routed.
    pub(crate) fn delayed_exchanges(&self) -> Vec<Arc<str>> {
        self.exchanges.iter().filter(|(_, exchange)| exchange.delayed).map(|(name, _)| name.clone()).collect()
    }

    /// The exchange of this name, or 404.
    pub fn exchange(&self, name: &str) -> Result<&Exchange> {
        self.exchanges.get(name).ok_or_else(|| self.missing("exchange", name))
    }

    fn missing(&self, kind: &str, name: &str) -> Error {
        self.check_open().err().unwrap_or_else(|| Error::not_found(kind, name, &self.vhost))
    }

    /// What it allows.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// 320 if the virtual host was deleted.
    pub(crate) fn check_open(&self) -> Result<()> {
        match self.closed {
            false => Ok(()),
            true => Err(Error::connection(320, format!("vhost '{}' is deleted", self.vhost))),
        }
    }

    /// Ends with everything that is in it, of which the log need not be told one by one. Gives what queues' names led to.
    pub(crate) fn close(&mut self) -> Vec<Q> {
        let fresh = Topology::new(&self.vhost, self.limits.clone());
        let ended = std::mem::replace(self, fresh);
        self.exchanges.clear();
        (self.closed, self.generation) = (true, ended.generation + 1);
        ended.queues.into_values().map(|queue| queue.handle).collect()
    }

    /// Declares an exchange: 406 if it exists and differs, or if the type is unknown; 403 for reserved names.
    pub fn declare_exchange(&mut self, declare: ExchangeDeclare<'_>) -> Result<()> {
        self.check_open()?;
        let delayed = declare.kind == DELAYED_TYPE;
        let kind = match delayed {
            true => inner_type(declare.arguments)?,
            false if declare.kind == dedup::EXCHANGE_TYPE => ExchangeType::Fanout,
            false => ExchangeType::from_name(declare.kind)
                .ok_or_else(|| Error::precondition(format!("unknown exchange type '{}'", declare.kind)))?,
        };
        check_not_default(declare.name)?;
        if let Some(current) = self.exchanges.get(declare.name) {
            return current.check_equivalent(&declare, &self.vhost);
        }
        check_not_reserved("exchange", declare.name)?;
        if self.exchanges.len() >= self.limits.max_exchanges {
            return Err(Error::limit("exchanges", "max_exchanges", self.limits.max_exchanges as u64));
        }
        let applied = self.policies.resolve(&Named::Exchange(declare.name));
        let alternate = match declare.arguments.get("alternate-exchange") {
            None => alternate_of(&applied),
            Some(Value::LongString(name)) => Some(Arc::from(String::from_utf8_lossy(name).as_ref())),
            Some(_) => {
                let text = "invalid arg 'alternate-exchange': expected a string that names an exchange";
                return Err(Error::precondition(text));
            }
        };
        let by_type = declare.kind == dedup::EXCHANGE_TYPE;
        check_exchange(declare.arguments, declare.name, by_type, &self.vhost)?;
        let arguments = FieldTable::from(declare.arguments);
        let mut exchange =
            Exchange::new(kind, declare.durable, declare.auto_delete, declare.internal, arguments, alternate);
        (exchange.delayed, exchange.applied) = (delayed, applied);
        match (delayed, by_type) {
            (true, _) => exchange.type_name = DELAYED_TYPE,
            (_, true) => exchange.type_name = dedup::EXCHANGE_TYPE,
            _ => {}
        }
        if let Some(rule) = Rule::from_arguments(declare.arguments, by_type) {
            exchange.guard = Some(self.guard(declare.name, exchange.durable, rule));
        }
        if exchange.durable {
            self.note(&exchange.change(&self.vhost.clone(), declare.name));
        }
        self.exchanges.insert(declare.name.into(), exchange);
        self.generation += 1;
        Ok(())
    }

    fn guard(&mut self, exchange: &str, durable: bool, rule: Rule) -> Guard {
        let guard = Guard { point: Point::Exchange(self.next_point), rule: rule.into() };
        self.next_point += 1;
        self.points.added.push((guard.clone(), durable.then(|| Known::Exchange(exchange.into()))));
        guard
    }

    /// Deletes an exchange with all its bindings. A missing one is no error (RabbitMQ since 3.2).
    pub fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<()> {
        check_not_default(name)?;
        if name.starts_with("amq.") && self.exchanges.contains_key(name) {
            let text = format!("deletion of system exchange '{name}' in vhost '{}' not allowed", self.vhost);
            return Err(Error::access_refused(text));
        }
        let Some(exchange) = self.exchanges.get(name) else { return Ok(()) };
        if if_unused && !exchange.bindings.is_empty() {
            return Err(Error::precondition(format!("exchange '{name}' in vhost '{}' in use", self.vhost)));
        }
        self.remove_exchange(name);
        Ok(())
    }

    /// Removes exchanges, and those that lived by bindings to them: iterative, as a chain of them may be long.
    fn remove_exchange(&mut self, name: &str) {
        let mut todo: Vec<Arc<str>> = vec![name.into()];
        while let Some(name) = todo.pop() {
            let Some((name, exchange)) = self.exchanges.remove_entry(&name) else { continue };
            self.generation += 1;
            self.retired += exchange.meter.read();
            self.points.removed.extend(exchange.guard.as_ref().map(|guard| guard.point));
            if exchange.delayed {
                let queue = self.queues.get(delay_queue(&name).as_str());
                self.abandoned.extend(queue.map(|queue| queue.handle.clone()));
            }
            if exchange.durable {
                self.note(&Change::ExchangeDeleted { vhost: &self.vhost.clone(), name: &name });
            }
            drop(exchange.router);
            for (to, key, arguments) in exchange.bindings {
                self.release_filter(&arguments);
                self.forget_binding(&to, &Binding { source: name.clone(), key, arguments });
            }
            self.remove_bindings_to(&Destination::Exchange(name), &mut todo);
        }
    }

    fn forget_binding(&mut self, to: &Destination, binding: &Binding) {
        self.bindings -= 1;
        if let Some(set) = self.bound_to.get_mut(to) {
            set.remove(binding);
            if set.is_empty() {
                self.bound_to.remove(to);
            }
        }
    }

    /// Removes every binding that leads to `to`; exchanges that lived by them are added to `ended`.
    fn remove_bindings_to(&mut self, to: &Destination, ended: &mut Vec<Arc<str>>) {
        let Some(bindings) = self.bound_to.remove(to) else { return };
        self.bindings -= bindings.len();
        for binding in bindings {
            if self.remove_from_source(to, &binding) {
                ended.push(binding.source);
            }
        }
    }

    /// True if the source lived by this binding.
    fn remove_from_source(&mut self, to: &Destination, binding: &Binding) -> bool {
        let Some(source) = self.exchanges.get_mut(&binding.source) else { return false };
        source.bindings.remove(&(to.clone(), binding.key.clone(), binding.arguments.clone()));
        source.router.remove(&binding.key, &binding.arguments, filter_of(&binding.arguments).as_ref(), to);
        let ended = source.auto_delete && source.bindings.is_empty();
        self.release_filter(&binding.arguments);
        ended
    }

    /// Forgets the filter of a binding that is gone, if it was the last with it.
    fn release_filter(&mut self, arguments: &FieldTable) {
        if let Some(filter) = filter_of(arguments) {
            self.filters.release(&filter);
        }
    }

    /// Adds a binding; one that is there already is not added again. 404 if either end is missing.
    pub fn bind(&mut self, source: &str, to: Destination, key: &str, arguments: Table<'_>) -> Result<()> {
        let Some((source, _)) = self.exchanges.get_key_value(source) else {
            return Err(self.missing("exchange", source));
        };
        let source = source.clone();
        self.check_destination(&to)?;
        let Some(exchange) = self.exchanges.get_mut(&source) else { unreachable!("looked up above") };
        exchange.router.check_arguments(arguments).map_err(Error::precondition)?;
        let filter = Filters::parse(arguments).map_err(|why| refuse_filter(&source, &to, &self.vhost, &why))?;
        let arguments = FieldTable::from(arguments);
        let entry = (to, Box::from(key), arguments);
        if exchange.bindings.contains(&entry) {
            return Ok(());
        }
        if self.bindings >= self.limits.max_bindings {
            return Err(Error::limit("bindings", "max_bindings", self.limits.max_bindings as u64));
        }
        let filter = filter.map(|filter| self.filters.shared(filter));
        exchange.router.insert(key, &entry.2, filter, &entry.0);
        let source_name = source.clone();
        let binding = Binding { source, key: entry.1.clone(), arguments: entry.2.clone() };
        let durable = exchange.durable;
        if durable && self.is_durable(&entry.0) {
            self.note(&Change::Binding(bound(&self.vhost.clone(), &entry.0, &binding)));
        }
        self.bound_to.entry(entry.0.clone()).or_default().insert(binding);
        let Some(exchange) = self.exchanges.get_mut(source_name.as_ref()) else { unreachable!("looked up above") };
        exchange.bindings.insert(entry);
        self.bindings += 1;
        self.generation += 1;
        Ok(())
    }

    /// Removes a binding. One that is not there is no error (RabbitMQ since 3.2), a missing end is 404.
    pub fn unbind(&mut self, source: &str, to: Destination, key: &str, arguments: Table<'_>) -> Result<()> {
        self.exchange(source)?;
        self.check_destination(&to)?;
        let binding = Binding { source: source.into(), key: key.into(), arguments: FieldTable::from(arguments) };
        if !self.bound_to.get(&to).is_some_and(|set| set.contains(&binding)) {
            return Ok(());
        }
        if self.is_durable_exchange(source) && self.is_durable(&to) {
            self.note(&Change::Unbound(bound(&self.vhost.clone(), &to, &binding)));
        }
        self.forget_binding(&to, &binding);
        if self.remove_from_source(&to, &binding) {
            self.remove_exchange(source);
        }
        self.generation += 1;
        Ok(())
    }

    fn check_destination(&self, to: &Destination) -> Result<()> {
        match to {
            Destination::Queue(name) => self.queue(name).map(|_| ()),
            Destination::Exchange(name) => self.exchange(name).map(|_| ()),
        }
    }

    /// The queue of this name, or 404.
    pub fn queue(&self, name: &str) -> Result<&QueueRecord<Q>> {
        self.queues.get(name).ok_or_else(|| self.missing("queue", name))
    }

    /// The queue of this name for this connection: 404 if missing, 405 if it is another's.
    pub fn queue_for(&self, name: &str, session: SessionId) -> Result<&QueueRecord<Q>> {
        let queue = self.queue(name)?;
        if let Some(exchange) = name.strip_prefix(DELAY_QUEUE) {
            let text = format!("queue '{name}' in vhost '{}' belongs to exchange '{exchange}'", self.vhost);
            return Err(Error::access_refused(text));
        }
        match queue.owner {
            Some(owner) if owner != session => Err(Error::resource_locked(name, &self.vhost)),
            _ => Ok(queue),
        }
    }

    /// The exclusive queues of a connection.
    pub fn owned_by(&self, session: SessionId) -> Vec<Q> {
        let names = self.owned.get(&session).into_iter().flatten();
        names.filter_map(|name| Some(self.queues.get(name)?.handle.clone())).collect()
    }

    /// Adds a queue.
    ///
    /// # Panics
    /// If the name is taken: the caller has looked.
    pub fn insert_queue(&mut self, queue: QueueRecord<Q>) -> Result<()> {
        self.check_open()?;
        if self.queues.len() >= self.limits.max_queues {
            return Err(Error::limit("queues", "max_queues", self.limits.max_queues as u64));
        }
        self.generation += 1;
        if let Some(owner) = queue.owner {
            self.owned.entry(owner).or_default().insert(queue.name.clone());
        }
        if queue.id != 0 {
            self.note(&queue.change(&self.vhost.clone()));
        }
        let before = self.queues.insert(queue.name.clone(), queue);
        assert!(before.is_none(), "the queue's name was free");
        Ok(())
    }

    /// The virtual host's policies.
    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The policies that would count for a queue.
    pub(crate) fn policies_of_queue(&self, name: &str, arguments: Table<'_>) -> Applied {
        match is_hidden(name) {
            true => Applied::default(),
            false => self.policies.resolve(&named_of(name, arguments)),
        }
    }

    /// Sets a policy, or without one removes it. Exchanges follow at once; gives the queues that have to: what their names
    /// lead to, their arguments, and the policies that count for them now.
    pub(crate) fn set_policy(
        &mut self,
        kind: PolicyKind,
        name: &str,
        policy: Option<Arc<Compiled>>,
    ) -> Vec<(Q, FieldTable, Applied)> {
        let old = self.policies.set(kind, name, policy.clone()).map(|old| old.policy.clone());
        let concerns = |applied: &Applied, named: &Named<'_>| {
            old.as_ref().is_some_and(|old| applied.has(old))
                || policy.as_ref().is_some_and(|policy| policy.is_for(named))
        };
        let mut changed = Vec::new();
        for queue in self.queues.values_mut().filter(|queue| !is_hidden(&queue.name)) {
            let named = named_of(&queue.name, queue.arguments.as_table());
            if concerns(&queue.applied, &named) {
                let applied = self.policies.resolve(&named);
                if queue.applied != applied {
                    queue.applied = applied.clone();
                    changed.push((queue.handle.clone(), queue.arguments.clone(), applied));
                }
            }
        }
        for (name, exchange) in &mut self.exchanges {
            let named = Named::Exchange(name);
            if concerns(&exchange.applied, &named) {
                exchange.applied = self.policies.resolve(&named);
                if exchange.arguments.get("alternate-exchange").is_none() {
                    exchange.alternate = alternate_of(&exchange.applied);
                }
            }
        }
        self.generation += 1;
        changed
    }

    /// What all queues' names lead to.
    pub(crate) fn handles(&self) -> Vec<Q> {
        self.queues.values().map(|queue| queue.handle.clone()).collect()
    }

    /// All queues.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &QueueRecord<Q>> {
        self.queues.values()
    }

    /// The names of all exchanges.
    pub(crate) fn exchange_names(&self) -> Vec<Arc<str>> {
        self.exchanges.keys().cloned().collect()
    }

    /// What was counted in all exchanges, also in those that are gone.
    pub(crate) fn exchange_counters(&self) -> ExchangeCounters {
        let mut all = self.retired;
        self.exchanges.values().for_each(|exchange| all += exchange.meter.read());
        all
    }

    /// All bindings.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = BindingInfo> {
        self.bound_to.keys().flat_map(|to| self.bindings_to(to))
    }

    /// The bindings that lead to a queue or an exchange.
    pub(crate) fn bindings_to(&self, to: &Destination) -> impl Iterator<Item = BindingInfo> {
        let found = self.bound_to.get_key_value(to);
        found.into_iter().flat_map(|(to, bindings)| bindings.iter().map(move |binding| binding.info(to)))
    }

    /// The bindings that lead from an exchange.
    pub(crate) fn bindings_from(&self, exchange: &str) -> Vec<BindingInfo> {
        let Some((source, exchange)) = self.exchanges.get_key_value(exchange) else { return Vec::new() };
        let info = |(to, key, arguments): &(Destination, Box<str>, FieldTable)| BindingInfo {
            source: source.clone(),
            destination: to.clone(),
            key: key.clone(),
            arguments: arguments.clone(),
        };
        exchange.bindings.iter().map(info).collect()
    }

    /// Removes a queue with its bindings.
    pub fn remove_queue(&mut self, name: &str) -> Option<QueueRecord<Q>> {
        let queue = self.queues.remove(name)?;
        self.generation += 1;
        if queue.id != 0 {
            self.note(&Change::QueueDeleted { id: queue.id });
        }
        if let Some(owner) = queue.owner
            && let Some(names) = self.owned.get_mut(&owner)
        {
            names.remove(name);
            if names.is_empty() {
                self.owned.remove(&owner);
            }
        }
        let mut ended = Vec::new();
        self.remove_bindings_to(&Destination::Queue(queue.name.clone()), &mut ended);
        for exchange in ended {
            self.remove_exchange(&exchange);
        }
        Some(queue)
    }

    /// The queues that a message goes to: by key, by the extra keys of its CC and BCC headers, through exchange
    /// bindings, and by an exchange's alternate where nothing matched. 404 if the exchange is missing.
    pub fn route(&self, exchange: &str, keys: &[&str], properties: &Properties<'_>) -> Result<Routed<Q>> {
        self.walk(exchange, keys, properties, false)
    }

    /// As [`Topology::route`], for a message that has waited in the exchange for as long as it was to.
    pub(crate) fn route_onwards(
        &self,
        exchange: &str,
        keys: &[&str],
        properties: &Properties<'_>,
    ) -> Result<Routed<Q>> {
        self.walk(exchange, keys, properties, true)
    }

    fn walk(&self, exchange: &str, keys: &[&str], properties: &Properties<'_>, has_waited: bool) -> Result<Routed<Q>> {
        let (subject, headers) = (Subject::new(properties), properties.headers.unwrap_or_default());
        let delayed = !has_waited && delay_of(headers).is_some();
        let mut walk = Walk { topology: self, subject, delayed, queues: FxHashSet::default(), reads_headers: false };
        let (guard, meter) = (self.exchange(exchange)?.guard.clone(), self.exchange(exchange)?.meter.clone());
        walk.exchange(exchange, keys);
        let queues = walk.queues.iter().filter_map(|name| Some(self.queues.get(name)?.handle.clone())).collect();
        Ok(Routed { queues, reads_headers: walk.reads_headers, answers: walk.subject.into_answers(), guard, meter })
    }
}

/// One message on its way through the exchanges.
struct Walk<'a, Q> {
    topology: &'a Topology<Q>,
    subject: Subject<'a>,
    /// It is to wait where messages can.
    delayed: bool,
    queues: FxHashSet<Arc<str>>,
    reads_headers: bool,
}

impl<Q: Clone> Walk<'_, Q> {
    /// Visits an exchange and those behind it, each once, so that cycles end. Iterative: a chain may be long.
    fn exchange(&mut self, name: &str, keys: &[&str]) {
        let topology = self.topology;
        let mut seen = FxHashSet::default();
        let mut todo: Vec<Arc<str>> = vec![name.into()];
        while let Some(name) = todo.pop() {
            let Some((name, exchange)) = topology.exchanges.get_key_value(&name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            // The default exchange has an implied binding to each queue by its name.
            if name.is_empty() {
                let queues = keys.iter().filter(|key| !key.starts_with(DELAY_QUEUE));
                let queues = queues.filter_map(|key| topology.queues.get_key_value(*key));
                self.queues.extend(queues.map(|(queue, _)| queue.clone()));
                continue;
            }
            self.reads_headers |= exchange.router.reads_headers() || exchange.delayed;
            if exchange.delayed && self.delayed {
                self.queues.insert(delay_queue(name).into());
                continue;
            }
            let mut matched = false;
            let keys = match exchange.kind {
                ExchangeType::Direct | ExchangeType::Topic => keys,
                // The same for any key.
                ExchangeType::Fanout | ExchangeType::Headers => keys.get(..1).unwrap_or_default(),
            };
            for key in keys {
                exchange.router.route(key, &mut self.subject, &mut |to| {
                    matched = true;
                    match to {
                        Destination::Queue(queue) => drop(self.queues.insert(queue.clone())),
                        Destination::Exchange(next) => todo.push(next.clone()),
                    }
                });
            }
            // None of the keys: a copy that found its queue is not also lost (RabbitMQ's rule).
            if !matched {
                todo.extend(exchange.alternate.clone());
            }
        }
    }
}

/// The filter in the arguments of a binding that was accepted.
fn filter_of(arguments: &FieldTable) -> Option<Filter> {
    Filters::parse(arguments.as_table()).ok().flatten()
}

fn refuse_filter(source: &str, to: &Destination, vhost: &str, why: &str) -> Error {
    let (kind, name) = match to {
        Destination::Queue(name) => ("queue", name),
        Destination::Exchange(name) => ("exchange", name),
    };
    let binding = format!("binding from exchange '{source}' to {kind} '{name}' in vhost '{vhost}'");
    // What is wrong comes first: a reply's text has at most 255 bytes, and names may be long.
    Error::precondition(format!("invalid arg 'x-filter': {why} ({binding})"))
}

fn bound<'a>(vhost: &'a str, to: &Destination, binding: &'a Binding) -> Bound<'a> {
    let (to, arguments) = (to.clone(), binding.arguments.as_table());
    Bound { vhost, source: &binding.source, to, key: &binding.key, arguments }
}

/// The default exchange and the `amq.*` ones are there in any case.
fn is_predeclared(exchange: &str) -> bool {
    exchange.is_empty() || exchange.starts_with("amq.")
}

impl Binding {
    fn info(&self, to: &Destination) -> BindingInfo {
        let Binding { source, key, arguments } = self.clone();
        BindingInfo { source, destination: to.clone(), key, arguments }
    }
}

impl<Q> QueueRecord<Q> {
    fn change<'a>(&'a self, vhost: &'a str) -> Change<'a> {
        let (id, auto_delete, arguments) = (self.id, self.auto_delete, self.arguments.as_table());
        Change::Queue { id, vhost, name: &self.name, auto_delete, arguments }
    }
}

impl Exchange {
    fn change<'a>(&'a self, vhost: &'a str, name: &'a str) -> Change<'a> {
        let (auto_delete, internal, arguments) = (self.auto_delete, self.internal, self.arguments.as_table());
        Change::Exchange { vhost, name, kind: self.type_name(), auto_delete, internal, arguments }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn new(
        kind: ExchangeType,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: FieldTable,
        alternate: Option<Arc<str>>,
    ) -> Exchange {
        let (router, bindings, meter) = (Router::new(kind), FxHashSet::default(), Arc::default());
        let (delayed, guard, type_name) = (false, None, kind.name());
        Exchange {
            kind,
            delayed,
            guard,
            type_name,
            durable,
            auto_delete,
            internal,
            arguments,
            meter,
            alternate,
            applied: Applied::default(),
            router,
            bindings,
        }
    }

    fn check_equivalent(&self, declare: &ExchangeDeclare<'_>, vhost: &str) -> Result<()> {
        let what = format!("exchange '{}'", declare.name);
        if self.type_name() != declare.kind {
            return Err(Error::precondition(format!(
                "inequivalent arg 'type' for {what} in vhost '{vhost}': received '{}' but current is '{}'",
                declare.kind,
                self.type_name()
            )));
        }
        check_flag("durable", self.durable, declare.durable, &what, vhost)?;
        check_flag("auto_delete", self.auto_delete, declare.auto_delete, &what, vhost)?;
        check_flag("internal", self.internal, declare.internal, &what, vhost)?;
        check_equal(self.arguments.as_table(), declare.arguments, &what, vhost)
    }
}

/// The type by which an exchange that delays messages routes them. 406 with the text of RabbitMQ's plugin.
fn inner_type(arguments: Table<'_>) -> Result<ExchangeType> {
    let inner = arguments.get(INNER_TYPE);
    inner.as_ref().and_then(Value::as_str).and_then(ExchangeType::from_name).ok_or_else(|| {
        Error::precondition(format!("Invalid argument, '{INNER_TYPE}' must be an existing exchange type"))
    })
}

/// The alternate exchange of policies.
fn alternate_of(applied: &Applied) -> Option<Arc<str>> {
    let of = |policy: &Arc<Policy>| policy.definition.get("alternate-exchange")?.as_str().map(Arc::from);
    applied.policy.as_ref().and_then(of)
}

fn named_of<'a>(queue: &'a str, arguments: Table<'_>) -> Named<'a> {
    let quorum = arguments.get("x-queue-type").is_some_and(|kind| kind.as_str() == Some("quorum"));
    Named::Queue { name: queue, quorum }
}

/// Queues that the broker has for itself, which have no policies.
fn is_hidden(queue: &str) -> bool {
    queue.starts_with(DELAY_QUEUE) || queue.starts_with(REPLY_TO)
}

/// How the queues in which messages wait for an exchange are called, before its name.
pub(crate) const DELAY_QUEUE: &str = "amq.delayed.";

/// The queue in which messages wait for an exchange.
pub(crate) fn delay_queue(exchange: &str) -> String {
    format!("{DELAY_QUEUE}{exchange}")
}

/// 403 for an operation that the default exchange does not allow.
pub fn check_not_default(exchange: &str) -> Result<()> {
    match exchange {
        "" => Err(Error::access_refused("operation not permitted on the default exchange")),
        _ => Ok(()),
    }
}

/// 403 for a new name that begins with `amq.`; `kind` is `queue` or `exchange`.
pub fn check_not_reserved(kind: &str, name: &str) -> Result<()> {
    match name.starts_with("amq.") {
        true => Err(Error::access_refused(format!("{kind} name '{name}' contains reserved prefix 'amq.*'"))),
        false => Ok(()),
    }
}
