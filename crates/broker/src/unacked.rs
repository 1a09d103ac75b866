//! What a channel was given and has not settled: runs of delivery tags at runs of positions.

use crate::engine::SharedQueue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A queue, as each delivery of a consumer refers to it. It is counted twice, since the queue's own count belongs to all
/// connections: processors would pass it to and fro for every short run.
pub(crate) type Handle = Arc<Arc<SharedQueue>>;

/// Deliveries with consecutive tags from consecutive positions of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) first_tag: u64,
    pub(crate) count: u64,
    /// Position of the first in its queue.
    pub(crate) position: u64,
    pub(crate) queue: Handle,
    /// The consumer's number on the channel; `None` for basic.get.
    pub(crate) consumer: Option<u32>,
}

impl Outstanding {
    fn last_tag(&self) -> u64 {
        self.first_tag + self.count - 1
    }

    /// Splits off the front, up to and with `tag`.
    fn split_front(&mut self, tag: u64) -> Outstanding {
        let taken = tag - self.first_tag + 1;
        let front = Outstanding { count: taken, ..self.clone() };
        self.first_tag += taken;
        self.position += taken;
        self.count -= taken;
        front
    }

    /// These deliveries are of this queue.
    pub(crate) fn is_of(&self, queue: &Arc<SharedQueue>) -> bool {
        Arc::ptr_eq(&*self.queue, queue)
    }

    /// `next` continues this run in tags and positions.
    pub(crate) fn continues(&self, next: &Outstanding) -> bool {
        self.first_tag + self.count == next.first_tag
            && self.position + self.count == next.position
            && self.consumer == next.consumer
            && self.is_of(&next.queue)
    }
}

/// The unsettled deliveries of a channel, by tag. What is settled in order, as nearly all is, costs no search.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    /// By the *last* tag of each run: those before something that was settled alone.
    passed: BTreeMap<u64, Outstanding>,
    /// All later ones, in order.
    recent: VecDeque<Outstanding>,
    total: u64,
}

/// Runs that there is room for, whether they are needed or not: 48 KiB.
const ROOM: usize = 1024;

impl Unacked {
    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    /// Adds a run whose tags are not in yet: new ones, or what a rollback brings back.
    pub(crate) fn insert(&mut self, run: Outstanding) {
        self.total += run.count;
        match self.recent.back_mut() {
            Some(last) if last.continues(&run) => last.count += run.count,
            Some(last) if last.last_tag() > run.first_tag => self.insert_between(run),
            Some(_) => self.recent.push_back(run),
            None if self.passed.last_key_value().is_some_and(|(last, _)| *last > run.first_tag) => {
                self.insert_between(run);
            }
            None => self.recent.push_back(run),
        }
    }

    /// Adds a run that comes before others.
    fn insert_between(&mut self, run: Outstanding) {
        while let Some(before) = pop_if(&mut self.recent, |other| other.first_tag < run.first_tag) {
            self.passed.insert(before.last_tag(), before);
        }
        self.passed.insert(run.last_tag(), run);
    }

    /// Takes the delivery of this tag. `None` if it is not outstanding.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Outstanding> {
        let taken = match self.recent.front() {
            Some(first) if first.first_tag <= tag => self.take_recent(tag)?,
            _ => self.take_passed(tag)?,
        };
        self.total -= 1;
        Some(taken)
    }

    fn take_recent(&mut self, tag: u64) -> Option<Outstanding> {
        while let Some(before) = pop_if(&mut self.recent, |run| run.last_tag() < tag) {
            self.passed.insert(before.last_tag(), before);
        }
        self.give_back();
        let run = self.recent.front_mut().filter(|run| run.first_tag <= tag)?;
        if run.first_tag < tag {
            let before = run.split_front(tag - 1);
            self.passed.insert(before.last_tag(), before);
        }
        if run.count == 1 {
            return self.recent.pop_front();
        }
        Some(run.split_front(tag))
    }

    fn take_passed(&mut self, tag: u64) -> Option<Outstanding> {
        let (&last, run) = self.passed.range_mut(tag..).next()?;
        if run.first_tag > tag {
            return None;
        }
        let mut front = run.split_front(tag);
        if run.count == 0 {
            self.passed.remove(&last);
        }
        if front.first_tag < tag {
            let before = front.split_front(tag - 1);
            self.passed.insert(before.last_tag(), before);
        }
        Some(front)
    }

    /// Takes all deliveries up to and with this tag. `None`, and nothing is taken, if the tag is not outstanding.
    pub(crate) fn take_through(&mut self, tag: u64) -> Option<Vec<Outstanding>> {
        let run = match self.recent.front() {
            Some(first) if first.first_tag <= tag => {
                self.recent.get(self.recent.partition_point(|run| run.last_tag() < tag))?
            }
            _ => self.passed.range(tag..).next()?.1,
        };
        if run.first_tag > tag {
            return None;
        }
        let mut taken = Vec::new();
        while let Some(mut first) = self.passed.first_entry()
            && first.get().first_tag <= tag
        {
            let is_whole = first.get().last_tag() <= tag;
            taken.push(if is_whole { first.remove() } else { first.get_mut().split_front(tag) });
        }
        while let Some(run) = pop_if(&mut self.recent, |run| run.last_tag() <= tag) {
            taken.push(run);
        }
        if let Some(run) = self.recent.front_mut().filter(|run| run.first_tag <= tag) {
            taken.push(run.split_front(tag));
        }
        self.give_back();
        self.total -= taken.iter().map(|run| run.count).sum::<u64>();
        Some(taken)
    }

    /// Takes everything, in order of tags.
    pub(crate) fn take_all(&mut self) -> Vec<Outstanding> {
        let Unacked { passed, recent, .. } = std::mem::take(self);
        passed.into_values().chain(recent).collect()
    }

    /// Frees memory if little of it is needed any more.
    fn give_back(&mut self) {
        if self.recent.capacity() > ROOM && self.recent.len() < self.recent.capacity() / 4 {
            self.recent.shrink_to(ROOM.max(2 * self.recent.len()));
        }
    }
}

/// Takes the first run if this holds for it.
fn pop_if(runs: &mut VecDeque<Outstanding>, holds: impl FnOnce(&Outstanding) -> bool) -> Option<Outstanding> {
    if runs.front().is_some_and(holds) { runs.pop_front() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Model;

    fn run(queue: &Handle, first_tag: u64, count: u64, position: u64) -> Outstanding {
        Outstanding { first_tag, count, position, queue: queue.clone(), consumer: Some(1) }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_from_tag_to_position(
            steps in proptest::collection::vec((0u8..5, 1u64..40, 1u64..6, any::<bool>()), 1..80)
        ) {
            let queue = Handle::new(crate::engine::detached_queue("q"));
            let (mut unacked, mut model) = (Unacked::default(), Model::new());
            let (mut tag, mut position) = (1, 0);
            for (step, at, count, gap) in steps {
                let expected: Vec<(u64, u64)> = match step {
                    0 => {
                        position += u64::from(gap);
                        unacked.insert(run(&queue, tag, count, position));
                        model.extend((0..count).map(|i| (tag + i, position + i)));
                        (tag, position) = (tag + count, position + count);
                        continue;
                    }
                    1 | 4 => model.remove(&at).map(|position| (at, position)).into_iter().collect(),
                    2 if model.contains_key(&at) => {
                        let rest = model.split_off(&(at + 1));
                        std::mem::replace(&mut model, rest).into_iter().collect()
                    }
                    2 => Vec::new(),
                    _ => std::mem::take(&mut model).into_iter().collect(),
                };
                let taken = match step {
                    1 | 4 => unacked.take(at).into_iter().collect(),
                    2 => unacked.take_through(at).unwrap_or_default(),
                    _ => unacked.take_all(),
                };
                let flat: Vec<_> = taken
                    .iter()
                    .flat_map(|run| (0..run.count).map(|i| (run.first_tag + i, run.position + i)))
                    .collect();
                prop_assert_eq!(flat, expected);
                if step == 4 {
                    // As a rollback does.
                    for run in taken {
                        model.extend((0..run.count).map(|i| (run.first_tag + i, run.position + i)));
                        unacked.insert(run);
                    }
                }
                prop_assert_eq!(unacked.len(), model.len() as u64);
            }
        }
    }
}
