//! The order of a merge: the entries of all sources, by queue and position.

use super::batch::Batch;
use super::{MergeError, Placing, Source, failed};
use crate::log::index::{self, Entries, Entry};
use crate::log::record::QueueId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The entries of all sources, by queue and position.
pub(super) struct Order<'a> {
    cursors: Vec<Cursor<'a>>,
    heap: BinaryHeap<Reverse<(QueueId, u64, usize)>>,
    /// The queue that is read, and the position behind what it has in the new file.
    queue: QueueId,
    next: u64,
}

struct Cursor<'a> {
    number: u32,
    entries: Entries<'a>,
    /// The entry that is next.
    head: Option<Entry>,
}

impl<'a> Order<'a> {
    pub(super) fn new(sources: &'a [Source]) -> Result<Order<'a>, MergeError> {
        let mut order = Order { cursors: Vec::new(), heap: BinaryHeap::new(), queue: 0, next: 0 };
        for (at, Source { number, index, spans, .. }) in sources.iter().enumerate() {
            let mut cursor = Cursor { number: *number, entries: Entries::new(index, spans), head: None };
            if let Some(entry) = cursor.advance()? {
                order.heap.push(Reverse((entry.queue, entry.position, at)));
            }
            order.cursors.push(cursor);
        }
        Ok(order)
    }

    /// Fills a batch with entries that have living messages.
    pub(super) fn fill(&mut self, batch: &mut Batch, placing: &mut Placing<'_, '_>) -> Result<(), MergeError> {
        while !batch.is_full() {
            let Some((source, entry)) = self.next()? else { break };
            if self.queue != entry.queue {
                (self.queue, self.next) = (entry.queue, 0);
            }
            // Only what has no place yet: a message may be in two sources, if a crash came between copying and removing.
            let from = entry.position.max(self.next).min(entry.end());
            let runs = batch.runs();
            let before = runs.len();
            placing.ask(entry.queue, from, entry.end() - from, runs)?;
            if let Some(&(last, count)) = runs[before..].last() {
                self.next = last + count;
                batch.push(source, entry, !placing.knows(source as u32, &entry));
            }
        }
        Ok(())
    }

    /// The next entry, and which source's it is.
    fn next(&mut self) -> Result<Option<(usize, Entry)>, MergeError> {
        let Some(mut top) = self.heap.peek_mut() else { return Ok(None) };
        let at = top.0.2;
        let entry = self.cursors[at].head;
        match self.cursors[at].advance()? {
            Some(next) => *top = Reverse((next.queue, next.position, at)),
            None => drop(PeekMut::pop(top)),
        }
        Ok(entry.map(|entry| (at, entry)))
    }
}

impl Cursor<'_> {
    fn advance(&mut self) -> Result<Option<Entry>, MergeError> {
        let next = self.entries.next();
        self.head = next.map_err(|error| failed(&format!("read {}", index::name(self.number)))(error))?;
        Ok(self.head)
    }
}
