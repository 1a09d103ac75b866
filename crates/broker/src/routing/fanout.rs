//! The fanout exchange: every binding, whatever its key.

use super::{Destination, Targets};

/// All destinations.
#[derive(Debug, Default)]
pub struct Fanout {
    all: Targets,
}

impl Fanout {
    pub(super) fn insert(&mut self, to: &Destination) {
        self.all.insert(to);
    }

    pub(super) fn remove(&mut self, to: &Destination) {
        self.all.remove(to);
    }

    pub(super) fn route(&self, found: &mut dyn FnMut(&Destination)) {
        self.all.each(found);
    }
}
