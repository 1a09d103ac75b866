//! What a channel was given and has not settled: runs of delivery tags at runs of positions.

use crate::engine::SharedQueue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Deliveries with consecutive tags from consecutive positions of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) first_tag: u64,
    pub(crate) count: u64,
    /// Position of the first in its queue.
    pub(crate) position: u64,
    pub(crate) queue: Arc<SharedQueue>,
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

    /// `next` continues this run in tags and positions.
    pub(crate) fn continues(&self, next: &Outstanding) -> bool {
        self.first_tag + self.count == next.first_tag
            && self.position + self.count == next.position
            && self.consumer == next.consumer
            && Arc::ptr_eq(&self.queue, &next.queue)
    }
}

/// The unsettled deliveries of a channel, by tag.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    /// By the *last* tag of each run: acking in order then shortens a run in place.
    runs: BTreeMap<u64, Outstanding>,
    total: u64,
}

impl Unacked {
    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    /// Adds a run whose tags are not in yet.
    pub(crate) fn insert(&mut self, run: Outstanding) {
        self.total += run.count;
        if let Some(last) = self.runs.last_entry()
            && last.get().continues(&run)
        {
            let mut joined = last.remove();
            joined.count += run.count;
            self.runs.insert(joined.last_tag(), joined);
            return;
        }
        self.runs.insert(run.last_tag(), run);
    }

    /// Takes the delivery of this tag. `None` if it is not outstanding.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Outstanding> {
        let (&last, run) = self.runs.range_mut(tag..).next()?;
        if run.first_tag > tag {
            return None;
        }
        self.total -= 1;
        if run.first_tag == tag {
            let front = run.split_front(tag);
            if run.count == 0 {
                self.runs.remove(&last);
            }
            return Some(front);
        }
        let mut front = run.split_front(tag);
        if run.count == 0 {
            self.runs.remove(&last);
        }
        let mut before = front.split_front(tag - 1);
        std::mem::swap(&mut before, &mut front);
        // `front` is now what stays before the tag, `before` the single delivery.
        self.runs.insert(front.last_tag(), front);
        Some(before)
    }

    /// Takes all deliveries up to and with this tag. `None`, and nothing is taken, if the tag is not outstanding.
    pub(crate) fn take_through(&mut self, tag: u64) -> Option<Vec<Outstanding>> {
        let (_, run) = self.runs.range(tag..).next()?;
        if run.first_tag > tag {
            return None;
        }
        let mut taken = Vec::new();
        while let Some(mut first) = self.runs.first_entry() {
            if first.get().first_tag > tag {
                break;
            }
            let run = if first.get().last_tag() <= tag { first.remove() } else { first.get_mut().split_front(tag) };
            self.total -= run.count;
            taken.push(run);
        }
        Some(taken)
    }

    /// Takes everything, in order of tags.
    pub(crate) fn take_all(&mut self) -> Vec<Outstanding> {
        self.total = 0;
        std::mem::take(&mut self.runs).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Model;

    fn run(queue: &Arc<SharedQueue>, first_tag: u64, count: u64, position: u64) -> Outstanding {
        Outstanding { first_tag, count, position, queue: queue.clone(), consumer: Some(1) }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_from_tag_to_position(
            steps in proptest::collection::vec((0u8..4, 1u64..40, 1u64..6, any::<bool>()), 1..80)
        ) {
            let queue = crate::engine::detached_queue("q");
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
                    1 => model.remove(&at).map(|position| (at, position)).into_iter().collect(),
                    2 if model.contains_key(&at) => {
                        let rest = model.split_off(&(at + 1));
                        std::mem::replace(&mut model, rest).into_iter().collect()
                    }
                    2 => Vec::new(),
                    _ => std::mem::take(&mut model).into_iter().collect(),
                };
                let taken = match step {
                    1 => unacked.take(at).into_iter().collect(),
                    2 => unacked.take_through(at).unwrap_or_default(),
                    _ => unacked.take_all(),
                };
                let flat: Vec<_> = taken
                    .iter()
                    .flat_map(|run| (0..run.count).map(|i| (run.first_tag + i, run.position + i)))
                    .collect();
                prop_assert_eq!(flat, expected);
                prop_assert_eq!(unacked.len(), model.len() as u64);
            }
        }
    }
}
