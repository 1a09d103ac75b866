//! The filters of a queue's consumers: each that is different has a bit.

use super::{Holder, Mask};
use crate::consumers::ConsumerId;
use crate::filter::Filter;
use leveret_wire::properties::Properties;
use rustc_hash::FxHashMap;

/// Different filters that a queue's consumers may have: a bit of a [`Mask`] each.
pub(crate) const FILTERS_MAX: usize = Mask::BITS as usize;

/// What a consumer takes: anything is 0, what matches a filter is one more than the filter's bit.
pub(super) type Class = usize;

/// Takes anything.
pub(super) const ANYTHING: Class = 0;

/// The classes that take messages which match these filters.
pub(super) fn classes(mask: Mask) -> impl Iterator<Item = Class> {
    let mut left = mask;
    let bits = std::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (bit < Mask::BITS).then_some(bit as Class + 1)
    });
    std::iter::once(ANYTHING).chain(bits)
}

/// Whether a class takes messages which match these filters.
pub(super) fn takes(class: Class, mask: Mask) -> bool {
    class == ANYTHING || mask >> (class - 1) & 1 != 0
}

/// The filters that consumers have.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// By bit; with how many consumers have it. Without any, the bit is free.
    slots: Vec<(Filter, usize)>,
    of: FxHashMap<ConsumerId, Class>,
}

impl Filters {
    /// Nobody has one.
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// There is a bit for this filter.
    pub(super) fn has_room(&self, filter: &Filter) -> bool {
        self.slots.len() < FILTERS_MAX || self.slots.iter().any(|(known, users)| *users == 0 || known == filter)
    }

    /// Gives a consumer its filter, for which [`Filters::has_room`]. True if nobody had it before.
    pub(super) fn add(&mut self, consumer: ConsumerId, filter: Filter) -> bool {
        let known = self.slots.iter().position(|(known, users)| *users > 0 && *known == filter);
        let bit = known.or_else(|| self.slots.iter().position(|(_, users)| *users == 0));
        let bit = bit.unwrap_or(self.slots.len());
        match self.slots.get_mut(bit) {
            None => self.slots.push((filter, 1)),
            Some(slot) => *slot = (filter, slot.1 + 1),
        }
        self.of.insert(consumer, bit + 1);
        known.is_none()
    }

    /// A consumer is gone.
    pub(super) fn remove(&mut self, consumer: ConsumerId) {
        if let Some(class) = self.of.remove(&consumer) {
            self.slots[class - 1].1 -= 1;
        }
    }

    pub(super) fn class_of(&self, taker: Holder) -> Class {
        match taker {
            Holder::Consumer(id) if !self.of.is_empty() => self.of.get(&id).copied().unwrap_or(ANYTHING),
            _ => ANYTHING,
        }
    }

    pub(super) fn match_class(&self, class: Class, properties: &Properties<'_>) -> bool {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::NoFilter) {
            return true;
        }
        class == ANYTHING || self.slots[class - 1].0.matches(properties)
    }

    /// The filters that a message matches.
    pub(super) fn mask(&self, properties: &Properties<'_>) -> Mask {
        let used = self.slots.iter().enumerate().filter(|(_, (_, users))| *users > 0);
        used.map(|(bit, (filter, _))| Mask::from(filter.matches(properties)) << bit).sum()
    }
}
