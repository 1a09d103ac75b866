//! The direct exchange: one hash lookup.

use super::{Destination, Targets};
use rustc_hash::FxHashMap;

/// Bindings by key.
#[derive(Debug, Default)]
pub struct Direct {
    keys: FxHashMap<Box<str>, Targets>,
}

impl Direct {
    pub(super) fn insert(&mut self, key: &str, to: &Destination) {
        self.keys.entry(key.into()).or_default().insert(to);
    }

    pub(super) fn remove(&mut self, key: &str, to: &Destination) {
        if let Some(targets) = self.keys.get_mut(key) {
            targets.remove(to);
            if targets.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    pub(super) fn route(&self, key: &str, found: &mut dyn FnMut(&Destination)) {
        if let Some(targets) = self.keys.get(key) {
            targets.each(found);
        }
    }
}
