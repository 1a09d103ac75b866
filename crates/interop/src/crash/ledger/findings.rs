//! What is wrong, and how often.

use std::collections::BTreeMap;
use std::fmt;

use crate::crash::message::Id;
use crate::crash::topology::QUEUES;

/// Findings that are kept in words; more are only counted.
const KEPT: usize = 8;

/// What kind of promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A confirmed message is gone.
    Lost,
    /// A message is there that was never published, was settled for good, or is there twice.
    Ghost,
    /// A part of a transaction took effect.
    Half,
    /// The messages of a publisher are not in their order.
    Order,
    /// The redelivered flag is wrong.
    Flag,
    /// A queue says that it has another number of messages than it gives.
    Count,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub kind: Kind,
    /// Where, as a place in [`QUEUES`].
    pub queue: usize,
    /// The message, if it is known.
    pub id: Option<Id>,
    /// What was found, and what should have been.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind).to_lowercase();
        match self.id {
            Some(id) => write!(f, "{kind}: {id} in {}: {}", QUEUES[self.queue], self.what),
            None => write!(f, "{kind}: {}: {}", QUEUES[self.queue], self.what),
        }
    }
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first of each kind and queue.
    pub kept: Vec<Finding>,
    /// How many there are, by kind and queue.
    pub counts: BTreeMap<(Kind, usize), usize>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, kind: Kind, queue: usize, id: Option<Id>, what: String) {
        let count = self.counts.entry((kind, queue)).or_default();
        *count += 1;
        if *count <= KEPT {
            self.kept.push(Finding { kind, queue, id, what });
        }
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts.iter().filter(|((its, _), _)| *its == kind).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, queue), count) in &self.counts {
            writeln!(f, "{count} x {} in {}", format!("{kind:?}").to_lowercase(), QUEUES[*queue])?;
            for finding in self.kept.iter().filter(|it| (it.kind, it.queue) == (*kind, *queue)) {
                writeln!(f, "    {finding}")?;
            }
        }
        Ok(())
    }
}
