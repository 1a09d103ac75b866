//! What a start finds in the log about what was seen.

use super::codec::{Scope, take};
use super::producers::Producers;
use super::window::Ring;
use crate::log::QueueId;
use std::collections::BTreeMap;

/// Keys and producers, gathered record by record.
#[derive(Debug, Default)]
pub(crate) struct Found {
    queues: BTreeMap<QueueId, Ring>,
    /// By virtual host and name.
    exchanges: BTreeMap<(String, String), Ring>,
    /// By virtual host.
    pub(crate) producers: BTreeMap<String, Producers>,
}

impl Found {
    /// Takes the meta of a record into account. `None` if it is not one.
    pub(crate) fn apply(&mut self, meta: &[u8]) -> Option<()> {
        let mut check = meta;
        while !check.is_empty() {
            take(&mut check)?;
        }
        let mut rest = meta;
        while let Some(section) = take(&mut rest) {
            let ring = match section.scope {
                Scope::Queue(id) => self.queues.entry(id).or_default(),
                Scope::Exchange { vhost, name } => {
                    self.exchanges.entry((vhost.to_string(), name.to_string())).or_default()
                }
                Scope::Producers { vhost } => {
                    let producers =
                        self.producers.entry(vhost.to_string()).or_insert_with(|| Producers::new(usize::MAX));
                    for it in section.producers() {
                        producers.advance(&it, true);
                    }
                    continue;
                }
            };
            ring.reach(section.first);
            section.keys().for_each(|(number, seen)| ring.put(number, seen, section.size.max(1)));
        }
        Some(())
    }

    pub(crate) fn forget_queue(&mut self, id: QueueId) {
        self.queues.remove(&id);
    }

    pub(crate) fn forget_exchange(&mut self, vhost: &str, name: &str) {
        self.exchanges.remove(&(vhost.to_string(), name.to_string()));
    }

    pub(crate) fn forget_vhost(&mut self, name: &str) {
        self.exchanges.retain(|(vhost, _), _| vhost != name);
        self.producers.remove(name);
    }

    pub(crate) fn take_queue(&mut self, id: QueueId) -> Option<Ring> {
        self.queues.remove(&id)
    }

    pub(crate) fn take_exchange(&mut self, vhost: &str, name: &str) -> Option<Ring> {
        self.exchanges.remove(&(vhost.to_string(), name.to_string()))
    }
}
