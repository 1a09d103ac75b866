//! A look at a queue's messages that changes nothing: where they are, and in what state.

use super::Queue;
use super::stored::{FileSpan, Wanted};
use crate::message::Block;
use crate::runs::Runs;
use crate::segment::Segment;
use std::sync::Arc;

/// In what state a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageState {
    /// It waits for a consumer.
    Ready,
    /// It was handed out, and is not settled.
    Unacked,
    /// It waits for a time: for its next attempt.
    Waiting,
}

/// Messages at consecutive positions that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) position: u64,
    pub(crate) count: u64,
    pub(crate) state: MessageState,
    /// They were handed out before what holds them now, or may have been before a start.
    pub(crate) redelivered: bool,
    /// How often they came back.
    pub(crate) returned: u64,
}

/// Where messages are that can be looked at.
#[derive(Debug)]
pub(crate) enum Source {
    /// In memory: the first of them at this byte of the block, and so many behind it.
    Memory { block: Arc<Block>, offset: usize, count: u32 },
    /// On the disk.
    Stored(Wanted),
    /// In one of these files, before this position.
    Index { spans: Vec<FileSpan>, end: u64 },
}

impl Queue {
    /// The first messages from a position on that are alike. `None` if there are no more.
    pub(crate) fn glance(&self, from: u64) -> Option<Glance> {
        let (position, end) = self.first_alive(from)?;
        let (state, known, until) = self.state_of(position);
        let (returned, same) = self.returned.get(position, end.min(until) - position);
        let redelivered = known || returned > 0;
        Some(Glance { position, count: same, state, redelivered, returned })
    }

    /// The first stretch of messages from a position on that are there.
    fn first_alive(&self, from: u64) -> Option<(u64, u64)> {
        if from >= self.next {
            return None;
        }
        let Some(stored) = &self.stored else {
            let first = self.segments.range(..=from).next_back().map_or(from, |(&first, _)| first);
            let living = |(&first, segment): (&u64, &Segment)| {
                let (number, count) = segment.next_living(from.saturating_sub(first))?;
                Some((first + u64::from(number), first + u64::from(number + count)))
            };
            return self.segments.range(first..).find_map(living);
        };
        let mut at = from;
        loop {
            let (first, count) = stored.gone.gaps(at, self.next - at).next()?;
            match stored.hidden.run_at(first) {
                Some((hidden, length)) => at = hidden + length,
                None => {
                    let end = first + count;
                    return Some((first, stored.hidden.next_from(first).map_or(end, |hidden| hidden.min(end))));
                }
            }
            if at >= self.next {
                return None;
            }
        }
    }

    /// The state of a message, whether it counts as delivered before, and the position before which that holds.
    fn state_of(&self, position: u64) -> (MessageState, bool, u64) {
        let mut next = u64::MAX;
        let mut has = |runs: &Runs| {
            let first = runs.next_from(position);
            let end = match first == Some(position) {
                true => runs.run_at(position).map(|(first, count)| first + count),
                false => first,
            };
            next = next.min(end.unwrap_or(u64::MAX));
            first == Some(position)
        };
        let waits = has(&self.waiting);
        let requeued = has(&self.requeued);
        let (restored, flagged) = match &self.stored {
            Some(stored) => (has(&stored.restored), stored.flagged()),
            None => (false, 0),
        };
        let (mut parked, mut again) = (false, false);
        if let Some(lanes) = &self.lanes {
            let [parked_set, unlooked, again_set] = lanes.sets();
            parked = has(parked_set) | has(unlooked);
            again = has(again_set);
        }
        let hole = has(&self.holes);
        let ahead = position >= self.head.position && !hole;
        for border in [flagged, self.head.position] {
            if border > position {
                next = next.min(border);
            }
        }
        let restart = position < flagged;
        match () {
            () if waits => (MessageState::Waiting, false, next),
            () if requeued => (MessageState::Ready, true, next),
            () if restored => (MessageState::Ready, restart, next),
            () if parked => (MessageState::Ready, again, next),
            () if ahead => (MessageState::Ready, false, next),
            () => (MessageState::Unacked, restart, next),
        }
    }

    /// Where the messages of a glance are, or the first of them.
    pub(crate) fn source(&mut self, glance: &Glance) -> Option<Source> {
        let (position, end) = (glance.position, glance.position + glance.count);
        let before = self.segments.range_mut(..=position).next_back();
        if let Some((&first, segment)) = before.filter(|(first, it)| **first + u64::from(it.count()) > position) {
            if segment.is_stored() {
                let (places, overflow) = (segment.places().to_vec(), segment.extent().cloned());
                return Some(Source::Stored(Wanted { first, count: segment.count(), places, overflow }));
            }
            let count = (first + u64::from(segment.count())).min(end) - position;
            let block = segment.seal();
            let offset = segment.offset((position - first) as u32);
            return Some(Source::Memory { block, offset, count: count as u32 });
        }
        let end = self.segments.range(position..end).next().map_or(end, |(&next, _)| next);
        Some(Source::Index { spans: self.stored.as_ref()?.spans_of(position), end })
    }
}
