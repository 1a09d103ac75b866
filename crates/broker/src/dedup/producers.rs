//! Who has published up to which sequence.

use super::hash::Hash;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// What a producer says of a message: who it is, in which of its lives, and the how-manieth message that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) producer: Hash,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

/// How a message stands to what its producer has sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    New,
    Duplicate,
    /// This epoch has begun, and ended the message's.
    Fenced(u64),
    /// This sequence was refused, and has to come again before.
    Held(u64),
}

/// The last epoch and sequence of each producer. The one that was silent for longest is forgotten for a new one too many.
#[derive(Debug)]
pub(crate) struct Producers {
    max: usize,
    known: FxHashMap<Hash, Producer>,
    /// By when they were heard of.
    order: BTreeMap<u64, Hash>,
    clock: u64,
}

/// Epochs and sequences.
#[derive(Clone, Copy, Debug, Default)]
struct Producer {
    last: Option<(u64, u64)>,
    /// As far as the log knows.
    logged: Option<(u64, u64)>,
    /// Refused by a full queue. If later ones went on, this would seem a duplicate when it comes again.
    refused: Option<(u64, u64)>,
    heard: u64,
}

impl Producers {
    pub(crate) fn new(max: usize) -> Producers {
        Producers { max: max.max(1), known: FxHashMap::default(), order: BTreeMap::new(), clock: 0 }
    }

    pub(crate) fn standing(&self, it: &Sequence) -> Standing {
        let Some(Producer { last, refused, .. }) = self.known.get(&it.producer) else { return Standing::New };
        match (last, refused) {
            (Some((epoch, _)), _) if it.epoch < *epoch => Standing::Fenced(*epoch),
            (Some(last), _) if (it.epoch, it.sequence) <= *last => Standing::Duplicate,
            (_, Some((epoch, sequence))) if it.epoch == *epoch && it.sequence > *sequence => Standing::Held(*sequence),
            _ => Standing::New,
        }
    }

    /// A message has taken effect. True if an epoch has begun by it.
    pub(crate) fn advance(&mut self, it: &Sequence, logged: bool) -> bool {
        let now = (it.epoch, it.sequence);
        let known = self.hear(it.producer);
        let begins = known.last.is_some_and(|(epoch, _)| it.epoch > epoch);
        known.last = known.last.max(Some(now));
        if logged {
            known.logged = known.logged.max(Some(now));
        }
        known.refused = known.refused.filter(|refused| *refused > now);
        self.shorten(self.max);
        begins
    }

    /// A full queue has refused a message that was new, and its producer is told.
    pub(crate) fn refuse(&mut self, it: &Sequence) {
        self.hear(it.producer).refused = Some((it.epoch, it.sequence));
        self.shorten(self.max);
    }

    fn hear(&mut self, producer: Hash) -> &mut Producer {
        let known = self.known.entry(producer).or_default();
        if known.heard == 0 || known.heard != self.clock {
            self.order.remove(&known.heard);
            self.clock += 1;
            known.heard = self.clock;
            self.order.insert(self.clock, producer);
        }
        known
    }

    /// Forgets those that are too many.
    pub(crate) fn shorten(&mut self, max: usize) {
        self.max = max.max(1);
        while self.known.len() > self.max
            && let Some((_, producer)) = self.order.pop_first()
        {
            self.known.remove(&producer);
        }
    }

    /// What the log knows of a producer.
    pub(crate) fn logged(&self, producer: Hash) -> Option<Sequence> {
        let (epoch, sequence) = self.known.get(&producer)?.logged?;
        Some(Sequence { producer, epoch, sequence })
    }

    /// What the log knows of all, in the order in which they were heard of.
    pub(crate) fn all_logged(&self) -> Vec<Sequence> {
        self.order.values().filter_map(|producer| self.logged(*producer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(producer: Hash, epoch: u64, sequence: u64) -> Sequence {
        Sequence { producer, epoch, sequence }
    }

    #[test]
    fn sequences_ascend_within_an_epoch_and_begin_anew_with_the_next() {
        let mut producers = Producers::new(10);
        assert_eq!(producers.standing(&of(1, 0, 0)), Standing::New);
        assert!(!producers.advance(&of(1, 0, 0), true));
        assert_eq!(producers.standing(&of(1, 0, 0)), Standing::Duplicate);
        producers.advance(&of(1, 0, 5), true);
        assert_eq!(
            [4, 5, 6].map(|sequence| producers.standing(&of(1, 0, sequence))),
            [Standing::Duplicate, Standing::Duplicate, Standing::New]
        );
        assert!(producers.advance(&of(1, 2, 0), true));
        assert_eq!(producers.standing(&of(1, 1, 9)), Standing::Fenced(2));
        assert_eq!(producers.standing(&of(1, 2, 1)), Standing::New);
        assert_eq!(producers.standing(&of(2, 0, 0)), Standing::New);
    }

    #[test]
    fn what_was_refused_comes_again_before_others() {
        let mut producers = Producers::new(2);
        producers.refuse(&of(1, 0, 0));
        assert_eq!([0, 1].map(|sequence| producers.standing(&of(1, 0, sequence))), [Standing::New, Standing::Held(0)]);
        assert_eq!(producers.standing(&of(1, 1, 5)), Standing::New);
        producers.advance(&of(1, 0, 0), true);
        assert_eq!(producers.standing(&of(1, 0, 1)), Standing::New);
        producers.refuse(&of(1, 0, 3));
        producers.advance(&of(1, 1, 0), true);
        assert_eq!(producers.standing(&of(1, 1, 4)), Standing::New);
    }

    #[test]
    fn the_one_that_was_silent_for_longest_is_forgotten() {
        let mut producers = Producers::new(2);
        for (name, sequence) in [(1, 1), (2, 1), (1, 2), (3, 1)] {
            producers.advance(&of(name, 0, sequence), true);
        }
        assert_eq!(
            [1, 2, 3].map(|name| producers.standing(&of(name, 0, 1))),
            [Standing::Duplicate, Standing::New, Standing::Duplicate]
        );
        assert_eq!(producers.all_logged(), [of(1, 0, 2), of(3, 0, 1)]);
    }

    #[test]
    fn the_log_is_told_what_it_is_to_know() {
        let mut producers = Producers::new(2);
        producers.advance(&of(1, 0, 1), true);
        producers.advance(&of(1, 0, 2), false);
        producers.advance(&of(2, 0, 2), false);
        assert_eq!(producers.standing(&of(1, 0, 2)), Standing::Duplicate);
        assert_eq!(producers.all_logged(), [of(1, 0, 1)]);
    }
}
