//! The direct exchange: one hash lookup.

use super::{Destination, Subject, Targets};
use crate::filter::Filter;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Bindings by key.
#[derive(Debug, Default)]
pub struct Direct {
    keys: FxHashMap<Box<str>, Targets>,
}

impl Direct {
    pub(super) fn insert(&mut self, key: &str, filter: Option<Arc<Filter>>, to: &Destination) {
        self.keys.entry(key.into()).or_default().insert(filter, to);
    }

    pub(super) fn remove(&mut self, key: &str, filter: Option<&Filter>, to: &Destination) {
        if let Some(targets) = self.keys.get_mut(key) {
            targets.remove(filter, to);
            if targets.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    pub(super) fn route(&self, key: &str, subject: &mut Subject<'_>, found: &mut dyn FnMut(&Destination)) {
        if let Some(targets) = self.keys.get(key) {
            targets.each(subject, found);
        }
    }
}
