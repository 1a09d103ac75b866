//! Delivery counts of positions.

use std::collections::BTreeMap;

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
