//! Policies of a virtual host: set and deleted while its queues and exchanges are in use.

use super::{SharedQueue, VirtualHost};
use crate::error::{Error, Result};
use crate::log::Change;
use crate::policy::{Applied, Compiled, Policy, PolicyError, PolicyKind};
use crate::settings::Settings;
use leveret_wire::table::FieldTable;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Policies. They are durable, see [`Broker::stored`](super::Broker::stored), and end with their virtual host.
impl VirtualHost {
    /// Sets a policy; one of the same kind and name is replaced. It takes effect on queues and exchanges that are there
    /// before this returns, and on those that are declared later. Tells whether it is new.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`] with what is wrong with it; [`PolicyError::Refused`] beyond the broker's limits, and in a
    /// virtual host that was deleted.
    pub fn set_policy(&self, kind: PolicyKind, policy: Policy) -> std::result::Result<bool, PolicyError> {
        let compiled = Arc::new(Compiled::new(kind, policy)?);
        let name = compiled.policy.name.clone();
        Ok(self.change_policy(kind, &name, Some(compiled))?.is_none())
    }

    /// Deletes a policy; false if there is none of this name. What it asked for ends before this returns: messages that
    /// have got a time to expire keep it.
    pub fn delete_policy(&self, kind: PolicyKind, name: &str) -> bool {
        // A virtual host that was deleted has none.
        self.change_policy(kind, name, None).is_ok_and(|old| old.is_some())
    }

    /// The policies of a kind, by name.
    pub fn policies(&self, kind: PolicyKind) -> Vec<Arc<Policy>> {
        self.topology.read().policies().all(kind)
    }

    /// A policy by its name.
    pub fn policy(&self, kind: PolicyKind, name: &str) -> Option<Arc<Policy>> {
        self.topology.read().policies().get(kind, name).cloned()
    }

    /// The policies that count for an exchange; 404 if there is none of this name.
    pub fn exchange_policies(&self, exchange: &str) -> Result<Applied> {
        self.topology.read().policies_of_exchange(exchange)
    }

    /// The policies that count for a queue; 404 if there is none of this name.
    pub fn queue_policies(&self, queue: &str) -> Result<Applied> {
        Ok(self.topology.read().queue(queue)?.applied.clone())
    }

    /// Gives what had the name.
    fn change_policy(&self, kind: PolicyKind, name: &str, new: Option<Arc<Compiled>>) -> Result<Option<Arc<Policy>>> {
        let _one_after_the_other = self.policing.lock();
        let (table, value) = (kind.table(&self.name), new.as_ref().map(|new| new.encode()));
        let value = value.as_ref().map(|value| value.as_table().as_bytes());
        let old = self.policy(kind, name);
        if old.is_none() && new.is_none() {
            return Ok(None);
        }
        let mut entries = self.entries.write();
        let concerned = self.change(|topology| {
            topology.check_open()?;
            let limits = topology.limits();
            entries.check(&table, name, value, limits)?;
            if old.is_none() && topology.policies().len(kind) >= limits.max_policies {
                return Err(Error::limit("policies", "max_policies", limits.max_policies as u64));
            }
            // Before what follows from it, and before a queue is declared with it.
            if let Some(durable) = &self.durable {
                durable.store.log.change(&Change::Entry { table: &table, key: name, value });
            }
            entries.set(&table, name, value.map(Arc::from));
            Ok(topology.set_policy(kind, name, new))
        })?;
        drop(entries);
        self.reconfigure(&concerned);
        if let Some(durable) = &self.durable {
            durable.store.log.kick();
        }
        Ok(old)
    }

    /// Queues follow their policies.
    fn reconfigure(&self, queues: &[(Arc<SharedQueue>, FieldTable, Applied)]) {
        let settings = |(queue, arguments, applied): &(Arc<SharedQueue>, FieldTable, Applied)| {
            let new = Arc::new(Settings::new(arguments.as_table(), applied.clone()));
            (queue.clone(), queue.reconfigure(new.clone()), new)
        };
        let changed: Vec<_> = queues.iter().map(settings).collect();
        // What is published from now on is published by the new rules.
        self.forget_routes();
        for (queue, old, new) in changed {
            queue.follow(&old, &new);
        }
    }

    /// Takes the policies that a start has found among the entries.
    pub(super) fn restore_policies(&self) {
        let (entries, mut topology) = (self.entries.read(), self.topology.write());
        for kind in [PolicyKind::User, PolicyKind::Operator] {
            for (name, value) in entries.of(&kind.table(&self.name)) {
                match Compiled::decode(kind, name, value) {
                    Ok(policy) => drop(topology.set_policy(kind, name, Some(Arc::new(policy)))),
                    Err(why) => {
                        let text = format!("policy '{name}' in vhost '{}' has no effect: {why}", self.name);
                        self.durable.iter().for_each(|durable| durable.report(text.clone()));
                    }
                }
            }
        }
    }
}

impl SharedQueue {
    /// Takes other settings; gives those that it had.
    fn reconfigure(&self, new: Arc<Settings>) -> Arc<Settings> {
        if new.counts_bytes() && !self.settings().counts_bytes() {
            self.count_bytes();
        }
        self.change(|queue| {
            queue.reconfigure(&new);
            self.drops.store(new.drops(), Ordering::Relaxed);
            self.timed.store(new.ttl.is_some(), Ordering::Relaxed);
            self.leased.store(new.expires.is_some(), Ordering::Relaxed);
            std::mem::replace(&mut *self.settings.write(), new)
        })
    }

    /// Lets happen what other settings ask for at once: messages get a time to expire, those that are too many are dropped,
    /// and the time without use begins again.
    fn follow(self: &Arc<Self>, old: &Settings, new: &Settings) {
        if let (Some(ttl), Some(vhost)) =
            (new.ttl.filter(|ttl| old.ttl.is_none_or(|old| old > *ttl)), self.vhost.upgrade())
        {
            let due = vhost.timer().now() + ttl;
            self.change(|queue| queue.expire_all_at(due));
        }
        if new.drops() {
            self.drop_excess();
        }
        if new.expires.is_some() && new.expires != old.expires {
            self.begin_lease();
        }
    }
}
