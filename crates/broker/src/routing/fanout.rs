//! The fanout exchange: every binding, whatever its key.

use super::{Destination, Subject, Targets};
use crate::filter::Filter;
use std::sync::Arc;

/// All destinations.
#[derive(Debug, Default)]
pub struct Fanout {
    all: Targets,
}

impl Fanout {
    pub(super) fn insert(&mut self, filter: Option<Arc<Filter>>, to: &Destination) {
        self.all.insert(filter, to);
    }

    pub(super) fn remove(&mut self, filter: Option<&Filter>, to: &Destination) {
        self.all.remove(filter, to);
    }

    pub(super) fn route(&self, subject: &mut Subject<'_>, found: &mut dyn FnMut(&Destination)) {
        self.all.each(subject, found);
    }
}
