//! Sets of queue positions held as runs, so that ten million of them next to each other cost one entry.

use std::collections::BTreeMap;

/// Positions as disjoint, non-adjacent runs.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// First position -> length.
    runs: BTreeMap<u64, u64>,
    total: u64,
}

impl Runs {
    /// Number of positions.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Adds `first .. first + count`, joined with its neighbours.
    ///
    /// # Panics
    /// If one of them is in the set already: a position has one owner at a time.
    pub fn insert(&mut self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.total += count;
        let (mut start, mut len) = (first, count);
        if let Some((&before, before_len)) = self.runs.range_mut(..=first).next_back() {
            assert!(before + *before_len <= first, "position {first} is in the set already");
            if before + *before_len == first {
                (start, len) = (before, *before_len + count);
            }
        }
        if let Some((&after, &after_len)) = self.runs.range(first..).next() {
            assert!(first + count <= after, "position {after} is in the set already");
            if first + count == after {
                self.runs.remove(&after);
                len += after_len;
            }
        }
        self.runs.insert(start, len);
    }

    /// The first run: position and length.
    pub fn first(&self) -> Option<(u64, u64)> {
        self.runs.first_key_value().map(|(&first, &len)| (first, len))
    }

    /// Takes up to `max` positions from the front of the first run.
    pub fn take_front(&mut self, max: u64) -> Option<(u64, u64)> {
        let entry = self.runs.first_entry()?;
        let (first, len) = (*entry.key(), *entry.get());
        let taken = len.min(max);
        if taken == 0 {
            return None;
        }
        entry.remove();
        if taken < len {
            self.runs.insert(first + taken, len - taken);
        }
        self.total -= taken;
        Some((first, taken))
    }

    /// Empties the set and gives what was in it, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, u64)> {
        self.total = 0;
        std::mem::take(&mut self.runs).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_join_and_the_front_comes_first() {
        let mut runs = Runs::default();
        runs.insert(10, 5);
        runs.insert(20, 1);
        runs.insert(15, 5);
        assert_eq!((runs.first(), runs.len()), (Some((10, 11)), 11));
        assert_eq!(runs.take_front(3), Some((10, 3)));
        assert_eq!(runs.drain().collect::<Vec<_>>(), [(13, 8)]);
        assert_eq!(runs.len(), 0);
    }

    #[test]
    #[should_panic(expected = "in the set already")]
    fn a_position_is_there_once() {
        let mut runs = Runs::default();
        runs.insert(10, 5);
        runs.insert(14, 1);
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set(steps in proptest::collection::vec((0u64..64, 1u64..8, any::<bool>()), 1..100)) {
            let mut runs = Runs::default();
            let mut model = std::collections::BTreeSet::new();
            for (first, count, insert) in steps {
                if insert {
                    if (first..first + count).all(|p| !model.contains(&p)) {
                        runs.insert(first, count);
                        model.extend(first..first + count);
                    }
                } else if let Some((at, taken)) = runs.take_front(count) {
                    for position in at..at + taken {
                        prop_assert_eq!(model.pop_first(), Some(position));
                    }
                } else {
                    prop_assert!(model.is_empty());
                }
                prop_assert_eq!(runs.len(), model.len() as u64);
            }
        }
    }
}
