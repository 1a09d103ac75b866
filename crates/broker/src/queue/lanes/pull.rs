//! How consumers take messages that not everybody may take.

use super::filters::Class;
use super::held::Hold;
use super::{Holder, LaneId, Lanes, Verdict};
use crate::consumers::{ConsumerId, Reach, Wakes};
use crate::filter::Filter;
use crate::mailbox::{Event, Mailbox};
use crate::message::Block;
use crate::queue::stored::RESIDENT;
use crate::queue::{Delivery, Missing, Queue};
use leveret_wire::properties::Properties;
use std::sync::Arc;

/// Messages that are looked at before others get the queue's lock.
pub(super) const LOOKS: u64 = 2048;

/// What came of an attempt to take messages.
#[derive(Debug)]
pub(crate) enum Taken {
    /// So many were taken, perhaps none.
    Some {
        count: u64,
        /// There is nothing more that this one could take.
        dry: bool,
    },
    /// None yet: something has to be read first.
    Missing(Missing),
    /// None yet, but there is more to look at. Others should have the queue meanwhile.
    Unfinished,
}

/// Where a position is among what is ready.
#[derive(Clone, Copy, Debug)]
enum Source {
    Head,
    Requeued,
    Restored,
    /// Parked before, when consumers had other filters.
    Unlooked,
    /// In a lane whose messages may be of groups that are in use by now.
    Unkeyed(LaneId),
    /// In a lane that can be taken from without another look.
    Lane(LaneId),
}

/// One who takes messages, and what is left of that.
struct Pull<'a> {
    taker: Holder,
    class: Class,
    no_ack: bool,
    left: u64,
    bytes: usize,
    max_bytes: usize,
    looks: u64,
    out: &'a mut Vec<Delivery>,
}

/// Why a pull ended.
enum End {
    Enough,
    Dry,
    Missing(u64),
    Unfinished,
}

/// Messages in a row, in one block.
struct Stretch {
    block: Arc<Block>,
    /// Of the first, in the block.
    offset: usize,
    position: u64,
    count: u64,
    redelivered: bool,
    returned: u64,
    tells_count: bool,
}

impl Queue {
    /// Adds a consumer without credit; `event` is what its mailbox gets when there is something to pull. `None` if its
    /// filter is one too many.
    pub(crate) fn add_consumer(
        &mut self,
        priority: i32,
        exclusive: bool,
        filter: Option<Filter>,
        mailbox: Arc<Mailbox>,
        event: Event,
    ) -> Option<ConsumerId> {
        if let (Some(filter), Some(lanes)) = (&filter, &self.lanes)
            && !lanes.has_room(filter)
        {
            return None;
        }
        let id = self.consumers.add(priority, exclusive, mailbox, event);
        if let Some(filter) = filter {
            self.lanes.get_or_insert_default().add_filter(id, filter);
        }
        Some(id)
    }

    /// Removes a consumer; what it holds is not settled by that.
    pub(crate) fn remove_consumer(&mut self, id: ConsumerId) {
        self.consumers.remove(id);
        if let Some(lanes) = &mut self.lanes {
            lanes.remove_consumer(id);
            if lanes.is_superfluous() {
                self.lanes = None;
            }
        }
    }

    /// Hands out up to `max` messages that this one may take, the first of them first, until their records exceed
    /// `max_bytes`. With `no_ack` they are gone; otherwise each is to be settled.
    pub(crate) fn take_for(
        &mut self,
        taker: Holder,
        max: u64,
        max_bytes: usize,
        no_ack: bool,
        out: &mut Vec<Delivery>,
    ) -> Taken {
        if self.consumers.is_paused() {
            return Taken::Some { count: 0, dry: true };
        }
        let take = |queue: &mut Queue, out: &mut Vec<Delivery>| queue.take_some(taker, max, max_bytes, no_ack, out);
        self.count_handed_out(taker, no_ack, out, take)
    }

    fn take_some(&mut self, taker: Holder, max: u64, max_bytes: usize, no_ack: bool, out: &mut Vec<Delivery>) -> Taken {
        let Some(mut lanes) = self.lanes.take() else {
            let count = self.take(max, max_bytes, no_ack, out);
            let missing = if count == 0 && max > 0 { self.missing() } else { None };
            return missing.map_or(Taken::Some { count, dry: false }, Taken::Missing);
        };
        let (begin, class) = (out.len(), lanes.filters.class_of(taker));
        let mut pull = Pull { taker, class, no_ack, left: max, bytes: 0, max_bytes, looks: LOOKS, out };
        let end = self.pull(&mut lanes, &mut pull);
        let count = max - pull.left;
        self.lanes = Some(lanes).filter(|lanes| !lanes.is_superfluous());
        for delivery in &out[begin..] {
            self.settle_taken(delivery, no_ack);
        }
        if let Some(upto) = out[begin..].iter().map(|it| it.position + u64::from(it.count)).max() {
            self.note_upto(upto);
        }
        match end {
            End::Missing(position) if count == 0 => {
                self.missing_alone(position).map_or(Taken::Some { count, dry: true }, Taken::Missing)
            }
            End::Unfinished if count == 0 => Taken::Unfinished,
            end => Taken::Some { count, dry: matches!(end, End::Dry) },
        }
    }

    /// Grants what each consumer could take, and what could be for it.
    pub(in crate::queue) fn grant_lanes(&mut self, wakes: &mut Wakes) {
        let Some(lanes) = &self.lanes else { return };
        let unlooked = self.ready() - lanes.parked();
        if unlooked == 0 && lanes.is_out_of_reach() && !self.consumers.has_grants() {
            return;
        }
        let reach = |id| {
            let (own, free) = lanes.reach(Holder::Consumer(id));
            Reach { own, shared: free + unlooked }
        };
        self.consumers.grant_within(unlooked + lanes.free(), reach, wakes);
    }

    fn pull(&mut self, lanes: &mut Lanes, pull: &mut Pull<'_>) -> End {
        while let Some((position, count)) = lanes.unknown.first() {
            if pull.looks == 0 {
                return End::Unfinished;
            }
            let Some(stretch) = self.stretch(lanes, position, count.min(pull.looks)) else {
                return End::Missing(position);
            };
            pull.looks -= stretch.count;
            lanes.get_to_know(&stretch);
        }
        while pull.left > 0 && pull.bytes < pull.max_bytes {
            if pull.looks == 0 {
                return End::Unfinished;
            }
            let Some((source, position, max)) = self.next_source(lanes, pull) else { return End::Dry };
            let Some(mut stretch) = self.stretch(lanes, position, max) else { return End::Missing(position) };
            self.bound(lanes, source, &mut stretch);
            match source {
                Source::Lane(lane) => lanes.take_lane(lane, stretch, pull),
                source => self.look(lanes, source, stretch, pull),
            }
        }
        End::Enough
    }

    /// The first position that could be taken or has not been looked at, and how many from there on at most come before
    /// anything else.
    fn next_source(&mut self, lanes: &mut Lanes, pull: &Pull<'_>) -> Option<(Source, u64, u64)> {
        self.skip();
        let requeued = self.requeued.first().map(|(first, count)| (first, count, Source::Requeued));
        let restored = self.stored.as_ref().and_then(|stored| stored.restored.first());
        let restored = restored.map(|(first, count)| (first, count, Source::Restored));
        let unlooked = lanes.unlooked.first().map(|(first, count)| (first, count, Source::Unlooked));
        let head = (self.ahead > 0).then(|| {
            let first = self.head.position;
            (first, self.holes.next_from(first).map_or(u64::MAX, |hole| hole - first), Source::Head)
        });
        let sources = requeued.into_iter().chain(restored).chain(unlooked).chain(head);
        let first = sources.min_by_key(|(first, ..)| *first);
        let Some((parked, lane)) = lanes.next_for(pull.taker, pull.class) else {
            return first.map(|(first, count, source)| (source, first, count.min(pull.looks)));
        };
        match first {
            Some((first, count, source)) if first < parked => {
                Some((source, first, count.min(parked - first).min(pull.looks)))
            }
            first => {
                let is_unkeyed = lanes.header.is_some() && lanes.lanes[lane as usize].key.is_none();
                let (source, most) =
                    if is_unkeyed { (Source::Unkeyed(lane), pull.looks) } else { (Source::Lane(lane), u64::MAX) };
                Some((source, parked, first.map_or(most, |(first, ..)| most.min(first - parked))))
            }
        }
    }

    /// The messages from a position on that are in one block. `None` if they are not in memory.
    fn stretch(&mut self, lanes: &mut Lanes, position: u64, max: u64) -> Option<Stretch> {
        let (&first, segment) = self.segments.range_mut(..=position).next_back()?;
        let end = first + u64::from(segment.count());
        if end <= position || segment.is_stored() {
            return None;
        }
        let block = segment.seal();
        let known =
            (self.head.position == position && self.head.segment == first).then_some(self.head.offset).flatten();
        let whole = block.count() == segment.count();
        let offset = known.unwrap_or_else(|| match lanes.cursor {
            (segment, before, offset) if whole && segment == first && before <= position => {
                block.skip(offset, (position - before) as u32)
            }
            _ => segment.offset((position - first) as u32),
        });
        if whole {
            lanes.cursor = (first, position, offset);
        }
        let (count, tells_count) = (max.min(end - position), self.tells_count);
        Some(Stretch { block, offset, position, count, redelivered: false, returned: 0, tells_count })
    }

    /// Shortens a stretch to messages that were handed out equally often.
    fn bound(&self, lanes: &Lanes, source: Source, stretch: &mut Stretch) {
        let position = stretch.position;
        if matches!(source, Source::Head) {
            return;
        }
        (stretch.returned, stretch.count) = self.returned.get(position, stretch.count);
        let (again, same) = match source {
            Source::Requeued => (true, stretch.count),
            Source::Head | Source::Restored => (false, stretch.count),
            Source::Unlooked | Source::Unkeyed(_) | Source::Lane(_) => lanes.same_again(position, stretch.count),
        };
        let flagged = self.stored.as_ref().map_or(0, |stored| stored.flagged());
        stretch.redelivered = again || position < flagged;
        stretch.count = if !again && position < flagged { same.min(flagged - position) } else { same };
        // A lane need not have all that is between its first position and what comes before others.
        if let Source::Unkeyed(lane) = source {
            let run = lanes.lanes[lane as usize].runs.run_at(position).into_iter().chain(lanes.parked.run_at(position));
            stretch.count = run.map(|(first, count)| first + count - position).fold(stretch.count, u64::min);
        }
    }

    /// Looks at messages one after the other: they are taken, or parked.
    fn look(&mut self, lanes: &mut Lanes, source: Source, stretch: Stretch, pull: &mut Pull<'_>) {
        let (begin, mut at, mut looked) = (pull.out.len(), stretch.offset, 0);
        // Of those behind the last that was parked.
        let (mut run, mut from) = (0, at);
        let mut parked = Vec::new();
        while looked < stretch.count && pull.left > 0 {
            let position = stretch.position + looked;
            let (message, next) = stretch.block.at(at);
            match lanes.judge(&message, pull.taker, pull.class, pull.no_ack) {
                Verdict::Take(key) => {
                    if let Some(key) = key {
                        lanes.hold(position, 1, key, pull.taker);
                    }
                    (run, pull.left) = (run + 1, pull.left - 1);
                }
                Verdict::Park(lane) => {
                    pull.deliver(&stretch, position - run, from, run);
                    parked.push((position, lane));
                    (run, from) = (0, next);
                }
            }
            (at, looked) = (next, looked + 1);
        }
        pull.deliver(&stretch, stretch.position + looked - run, from, run);
        pull.looks -= looked.min(pull.looks);
        self.leave(lanes, source, &stretch, looked, at);
        let again = stretch.redelivered;
        parked.iter().for_each(|(position, lane)| lanes.park(*position, again, *lane));
        if pull.out.len() == begin {
            self.free_looked_at(stretch.position + looked);
        }
    }

    /// Looked-at messages leave the place where they were; `after` is where in the block the next one is.
    fn leave(&mut self, lanes: &mut Lanes, source: Source, stretch: &Stretch, looked: u64, after: usize) {
        let position = stretch.position;
        match source {
            Source::Head => {
                let segment = self.segments.range(..=position).next_back();
                let (first, count) = segment.map_or((position, looked), |(first, it)| (*first, it.count().into()));
                self.move_head(first..first + count, looked, stretch.offset, after);
            }
            Source::Requeued => _ = self.requeued.take_at(position, looked),
            Source::Restored => _ = self.stored.as_mut().map(|stored| stored.restored.take_at(position, looked)),
            Source::Unlooked => {
                lanes.unlooked.take_at(position, looked);
                lanes.forget_again(position, looked);
            }
            Source::Unkeyed(lane) | Source::Lane(lane) => _ = lanes.unpark(lane, position, looked),
        }
    }

    /// All of a segment before this position was looked at, and parked: its memory is freed if much is in use.
    fn free_looked_at(&mut self, upto: u64) {
        if self.account.used() < RESIDENT || upto == 0 {
            return;
        }
        let written = self.stored.as_ref().map_or(0, |stored| stored.written());
        let Some((&first, segment)) = self.segments.range_mut(..upto).next_back() else { return };
        if first + u64::from(segment.count()) == upto && segment.release(written) == Some(false) {
            self.segments.remove(&first);
        }
    }

    /// As [`Queue::missing_at`], without reading ahead where that would not be taken next.
    fn missing_alone(&self, position: u64) -> Option<Missing> {
        let missing = self.missing_at(position)?;
        Some(match missing {
            Missing::Blocks(mut wanted)
                if position < self.head.position && self.lanes.as_ref().is_some_and(|it| it.parked() > 0) =>
            {
                wanted.truncate(1);
                Missing::Blocks(wanted)
            }
            missing => missing,
        })
    }
}

impl Pull<'_> {
    /// Hands out messages of a stretch.
    fn deliver(&mut self, stretch: &Stretch, position: u64, offset: usize, count: u64) {
        if count == 0 {
            return;
        }
        let (block, count) = (stretch.block.clone(), count as u32);
        self.bytes += block.len() * count as usize / block.count() as usize;
        let Stretch { redelivered, returned, tells_count, .. } = *stretch;
        self.out.push(Delivery { block, offset, count, position, redelivered, returned, tells_count });
    }
}

impl Lanes {
    /// Takes from a lane without looking.
    fn take_lane(&mut self, id: LaneId, stretch: Stretch, pull: &mut Pull<'_>) {
        let key = self.lanes[id as usize].key;
        let room = key.filter(|_| !pull.no_ack).map_or(u64::MAX, |key| self.keys.room_for(key, pull.taker));
        let count = self.unpark(id, stretch.position, stretch.count.min(pull.left).min(room));
        if let (Some(key), false) = (key, pull.no_ack) {
            self.hold(stretch.position, count, key, pull.taker);
        }
        pull.left -= count;
        pull.deliver(&stretch, stretch.position, stretch.offset, count);
    }

    /// Messages that have waited since before the start hold their keys.
    fn get_to_know(&mut self, stretch: &Stretch) {
        let mut at = stretch.offset;
        for position in stretch.position..stretch.position + stretch.count {
            let (message, next) = stretch.block.at(at);
            if self.read_name(&Properties::decode_stored(message.properties).unwrap_or_default()) {
                let key = self.keys.enter(&self.name);
                self.change_key(key, |key| key.waiting += 1);
                self.held.insert(Hold { position, count: 1, key, waiting: true });
            }
            at = next;
        }
        self.unknown.remove(stretch.position, stretch.count);
    }
}
