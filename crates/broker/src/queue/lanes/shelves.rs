//! Which lanes each consumer could take from, by the first position of each.

use super::filters::Class;
use super::{Holder, LaneId};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// Lanes that the same consumers could take from.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    order: BTreeSet<(u64, LaneId)>,
    /// Messages in them.
    count: u64,
}

/// Who could take from a lane now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody.
    #[default]
    Nowhere,
    /// Whoever takes what is in it.
    Free,
    /// Only this one.
    Of(Holder),
}

/// All shelves of a queue.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    /// By class.
    free: Vec<Shelf>,
    of: FxHashMap<Holder, Shelf>,
}

impl Shelf {
    fn add(&mut self, first: u64, lane: LaneId, count: u64) {
        self.order.insert((first, lane));
        self.count += count;
    }

    fn remove(&mut self, first: u64, lane: LaneId, count: u64) {
        self.order.remove(&(first, lane));
        self.count -= count;
    }
}

impl Shelves {
    /// The first lane that this one could take from, by position.
    pub(super) fn first(&self, class: Class, taker: Holder) -> Option<(u64, LaneId)> {
        let free = self.free.get(class).and_then(|shelf| shelf.order.first());
        let own = if self.of.is_empty() { None } else { self.of.get(&taker).and_then(|shelf| shelf.order.first()) };
        free.into_iter().chain(own).min().copied()
    }

    /// Messages that any consumer of a class could take.
    pub(super) fn free(&self, class: Class) -> u64 {
        self.free.get(class).map_or(0, |shelf| shelf.count)
    }

    /// Messages that only this one could take.
    pub(super) fn own(&self, taker: Holder) -> u64 {
        if self.of.is_empty() { 0 } else { self.of.get(&taker).map_or(0, |shelf| shelf.count) }
    }

    /// Nobody could take anything.
    pub(super) fn are_empty(&self) -> bool {
        self.of.is_empty() && self.free.first().is_none_or(|shelf| shelf.order.is_empty())
    }

    pub(super) fn add(&mut self, at: Place, classes: impl Iterator<Item = Class>, lane: (u64, LaneId), count: u64) {
        match at {
            Place::Nowhere => {}
            Place::Of(holder) => self.of.entry(holder).or_default().add(lane.0, lane.1, count),
            Place::Free => classes.for_each(|class| {
                if self.free.len() <= class {
                    self.free.resize_with(class + 1, Shelf::default);
                }
                self.free[class].add(lane.0, lane.1, count);
            }),
        }
    }

    pub(super) fn remove(&mut self, at: Place, classes: impl Iterator<Item = Class>, lane: (u64, LaneId), count: u64) {
        match at {
            Place::Nowhere => {}
            Place::Of(holder) => {
                let Some(shelf) = self.of.get_mut(&holder) else { return };
                shelf.remove(lane.0, lane.1, count);
                if shelf.order.is_empty() {
                    self.of.remove(&holder);
                }
            }
            Place::Free => classes.for_each(|class| self.free[class].remove(lane.0, lane.1, count)),
        }
    }

    /// A lane of a shelf has grown behind its first position.
    pub(super) fn grow(&mut self, at: Place, classes: impl Iterator<Item = Class>, by: u64) {
        match at {
            Place::Nowhere => {}
            Place::Of(holder) => self.of.entry(holder).or_default().count += by,
            Place::Free => classes.for_each(|class| self.free[class].count += by),
        }
    }
}
