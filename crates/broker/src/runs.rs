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

    /// Takes a position that is in the set, and those behind it in its run, up to `max`: how many.
    pub fn take_at(&mut self, position: u64, max: u64) -> u64 {
        let Some((first, len)) = self.run_at(position) else { return 0 };
        let taken = max.min(first + len - position);
        self.remove(position, taken);
        taken
    }

    /// The run that has this position: its first and its length.
    pub fn run_at(&self, position: u64) -> Option<(u64, u64)> {
        let (&first, &len) = self.runs.range(..=position).next_back()?;
        (position < first + len).then_some((first, len))
    }

    /// The lowest position of the set that is not below this one.
    pub fn next_from(&self, position: u64) -> Option<u64> {
        match self.run_at(position) {
            Some(_) => Some(position),
            None => self.runs.range(position..).next().map(|(&first, _)| first),
        }
    }

    /// Adds positions of which some may be in the set already.
    pub fn add(&mut self, first: u64, count: u64) {
        if count > 0 {
            self.remove(first, count);
            self.insert(first, count);
        }
    }

    /// Removes positions of which some may not be in the set.
    pub fn remove(&mut self, first: u64, count: u64) {
        let end = first + count;
        while let Some((&start, &len)) = self.runs.range(..end).next_back() {
            if start + len <= first {
                break;
            }
            self.runs.remove(&start);
            self.total -= start + len - first.max(start) - (start + len).saturating_sub(end);
            if start + len > end {
                self.runs.insert(end, start + len - end);
            }
            if start < first {
                self.runs.insert(start, first - start);
                break;
            }
        }
    }

    /// The parts of `first .. first + count` that are not in the set, in order.
    pub fn gaps(&self, first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = first + count;
        let from = self.runs.range(..=first).next_back().map_or(first, |(&start, _)| start);
        let inside = self.runs.range(from..end).map(|(&start, &len)| (start, start + len));
        let mut at = first;
        inside.chain([(end, end)]).filter_map(move |(start, stop)| {
            let gap = (at, start.min(end).saturating_sub(at));
            at = at.max(stop);
            (gap.1 > 0).then_some(gap)
        })
    }

    /// All runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(&first, &len)| (first, len))
    }

    /// Empties the set and gives what was in it, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, u64)> {
        self.total = 0;
        std::mem::take(&mut self.runs).into_iter()
    }
}

/// How often messages were returned to their queue, for those that were.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// First position -> length and count. Runs do not overlap.
    runs: BTreeMap<u64, (u64, u64)>,
}

impl Counts {
    /// Counts up.
    pub fn add(&mut self, first: u64, count: u64) {
        let (mut at, end) = (first, first + count);
        while at < end {
            let (deliveries, same) = self.get(at, end - at);
            self.set(at, same, deliveries + 1);
            at += same;
        }
    }

    /// Sets the count of positions.
    pub fn set(&mut self, first: u64, count: u64, deliveries: u64) {
        self.remove(first, count);
        match self.runs.range_mut(..first).next_back() {
            Some((&before, (len, same))) if before + *len == first && *same == deliveries => *len += count,
            _ => drop(self.runs.insert(first, (count, deliveries))),
        }
    }

    /// Forgets positions.
    pub fn remove(&mut self, first: u64, count: u64) {
        if self.runs.is_empty() {
            return;
        }
        let end = first + count;
        while let Some((&start, &(len, deliveries))) = self.runs.range(..end).next_back() {
            if start + len <= first {
                break;
            }
            self.runs.remove(&start);
            if start + len > end {
                self.runs.insert(end, (start + len - end, deliveries));
            }
            if start < first {
                self.runs.insert(start, (first - start, deliveries));
                break;
            }
        }
    }

    /// The count of a position, and how many from it on have the same, up to `max`.
    pub fn get(&self, position: u64, max: u64) -> (u64, u64) {
        match self.runs.range(..=position).next_back() {
            Some((&first, &(len, deliveries))) if position < first + len => {
                (deliveries, max.min(first + len - position))
            }
            _ => {
                let next = self.runs.range(position..).next().map_or(u64::MAX, |(&next, _)| next);
                (0, max.min(next - position))
            }
        }
    }

    /// All runs, in order: first, length, count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.runs.iter().map(|(&first, &(len, deliveries))| (first, len, deliveries))
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
        assert_eq!(runs.take_at(10, 3), 3);
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
        fn behaves_as_a_sorted_set(steps in proptest::collection::vec((0u64..64, 1u64..8, 0u8..5), 1..100)) {
            let mut runs = Runs::default();
            let mut model = std::collections::BTreeSet::new();
            for (first, count, step) in steps {
                let range = first..first + count;
                match step {
                    0 if range.clone().all(|p| !model.contains(&p)) => {
                        runs.insert(first, count);
                        model.extend(range);
                    }
                    1 => {
                        runs.add(first, count);
                        model.extend(range);
                    }
                    2 => {
                        runs.remove(first, count);
                        model.retain(|p| !range.contains(p));
                    }
                    3 => {
                        let taken = runs.take_at(first, count);
                        prop_assert_eq!(taken, range.clone().take_while(|p| model.contains(p)).count() as u64);
                        model.retain(|p| !(first..first + taken).contains(p));
                    }
                    _ => prop_assert_eq!(runs.first().map(|(first, _)| first), model.first().copied()),
                }
                prop_assert_eq!(runs.len(), model.len() as u64);
                let flat: Vec<u64> = runs.iter().flat_map(|(first, count)| first..first + count).collect();
                prop_assert_eq!(flat, model.iter().copied().collect::<Vec<_>>());
                let gaps: Vec<u64> = runs.gaps(first, count).flat_map(|(first, count)| first..first + count).collect();
                prop_assert_eq!(gaps, (first..first + count).filter(|p| !model.contains(p)).collect::<Vec<_>>());
            }
        }

        #[test]
        fn counts_are_those_of_each_position(steps in proptest::collection::vec((0u64..40, 1u64..8, any::<bool>()), 1..60)) {
            let (mut counts, mut model) = (Counts::default(), std::collections::BTreeMap::new());
            for (first, count, add) in steps {
                if add {
                    counts.add(first, count);
                    (first..first + count).for_each(|p| *model.entry(p).or_insert(0u64) += 1);
                } else {
                    counts.remove(first, count);
                    model.retain(|p, _| !(first..first + count).contains(p));
                }
                for position in 0..48 {
                    let (count, same) = counts.get(position, 5);
                    prop_assert_eq!(count, model.get(&position).copied().unwrap_or(0));
                    prop_assert!((1..=5).contains(&same));
                    for next in position..position + same {
                        prop_assert_eq!(model.get(&next).copied().unwrap_or(0), count);
                    }
                }
            }
        }
    }
}
