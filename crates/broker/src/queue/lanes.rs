//! Messages that not every consumer may take: those of groups, whose key is bound to one consumer at a time, and those
//! that consumers' filters select.
//!
//! Each ready message is looked at once, in order of position. If the consumer that asks may take it, it does; otherwise
//! its position is parked in a lane: that of its key while the key is in use, or else that of the filters it matches.
//! Shelves know the first position of each lane that a consumer could take from, so what is parked slows nobody down. A
//! consumer gets what has the lowest position of all that it may take, parked or not looked at yet.
//!
//! What is parked is a set; lanes are an index to it. What leaves the queue out of turn (expired, dropped, purged) leaves
//! the set, and is found missing when its lane comes to it, or when lanes have too much of that.

mod filters;
mod held;
mod keys;
mod pull;
mod shelves;
#[cfg(test)]
mod tests;

pub(crate) use filters::FILTERS_MAX;
#[cfg(test)]
use pull::LOOKS;
pub(crate) use pull::Taken;

use crate::consumers::ConsumerId;
use crate::filter::Filter;
use crate::message::Message;
use crate::runs::Runs;
use filters::{Class, Filters};
use held::{Held, Hold};
use keys::{KeyId, Keys};
use leveret_wire::properties::Properties;
use rustc_hash::FxHashMap;
use shelves::{Place, Shelves};

/// A bit for each filter that a message matches.
type Mask = u64;

type LaneId = u32;

/// Lanes may have so many positions that are not parked any more, and as many again as are.
const STALE_MAX: u64 = 1024;

/// Who takes messages of a group, and holds its key until they are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Consumer(ConsumerId),
    /// By basic.get: the number of a session, and of its channel.
    Channel(u64, u16),
}

/// What is parked, and for whom.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The header whose value is a message's key.
    header: Option<Box<str>>,
    filters: Filters,
    keys: Keys,
    lanes: Vec<Lane>,
    vacant: Vec<LaneId>,
    /// Lanes of messages whose key was free, if they have one.
    by_mask: FxHashMap<Mask, LaneId>,
    shelves: Shelves,
    parked: Runs,
    /// Sum of what lanes have.
    indexed: u64,
    /// Were parked, and are to be looked at again.
    unlooked: Runs,
    /// Those of both that were handed out before.
    again: Runs,
    /// Messages that hold their key: they were handed out, or wait for their next attempt.
    held: Held,
    /// They wait for their next attempt since before a start, and nobody knows their keys.
    unknown: Runs,
    /// The name of the key that was looked at last.
    name: Vec<u8>,
    /// A segment's first position, another position in it and where in the block that is.
    cursor: (u64, u64, usize),
    #[cfg(test)]
    looked_at: u64,
}

/// Messages with the same key, if any, that match the same filters.
#[derive(Debug, Default)]
struct Lane {
    key: Option<KeyId>,
    mask: Mask,
    runs: Runs,
    /// As the shelves have it.
    place: Place,
    first: u64,
    count: u64,
}

/// What becomes of a message that is looked at.
enum Verdict {
    /// The one who asks may take it; with its key, if that is to be held.
    Take(Option<KeyId>),
    Park(LaneId),
}

impl Lanes {
    /// For messages grouped by this header, of which some may wait for their next attempt already.
    pub(super) fn new(header: Option<Box<str>>, prefetch: u64, waiting: &Runs) -> Lanes {
        let unknown = if header.is_some() { waiting.clone() } else { Runs::default() };
        Lanes { header, keys: Keys::new(prefetch), unknown, ..Lanes::default() }
    }

    /// Messages that were looked at, or will be once more.
    pub(super) fn len(&self) -> u64 {
        self.parked.len() + self.unlooked.len()
    }

    /// Parked messages.
    pub(super) fn parked(&self) -> u64 {
        self.parked.len()
    }

    /// Some of these positions are here.
    pub(super) fn has_any(&self, first: u64, count: u64) -> bool {
        self.parked.count(first, count) + self.unlooked.count(first, count) > 0
    }

    /// Parked ones, those that are to be looked at again, and those of both that were handed out before.
    pub(super) fn sets(&self) -> [&Runs; 3] {
        [&self.parked, &self.unlooked, &self.again]
    }

    /// The first position that is here.
    pub(super) fn first(&self) -> Option<u64> {
        self.parked.first().into_iter().chain(self.unlooked.first()).map(|(first, _)| first).min()
    }

    /// All positions that are here.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.parked.iter().chain(self.unlooked.iter())
    }

    /// Messages that only this one could take, and those that others could take, too.
    pub(super) fn reach(&self, taker: Holder) -> (u64, u64) {
        (self.shelves.own(taker), self.shelves.free(self.filters.class_of(taker)))
    }

    /// Messages that could be taken by whoever takes anything.
    pub(super) fn free(&self) -> u64 {
        self.shelves.free(filters::ANYTHING)
    }

    /// Nobody could take anything that is parked.
    pub(super) fn is_out_of_reach(&self) -> bool {
        self.shelves.are_empty()
    }

    /// There is nothing that only this could do.
    pub(super) fn is_superfluous(&self) -> bool {
        self.header.is_none() && self.filters.is_empty() && self.len() == 0
    }

    /// Another filter would not be too many.
    pub(super) fn has_room(&self, filter: &Filter) -> bool {
        self.filters.has_room(filter)
    }

    /// Gives a consumer its filter. What is parked is looked at again if nobody had it before.
    pub(super) fn add_filter(&mut self, consumer: ConsumerId, filter: Filter) {
        if self.filters.add(consumer, filter) {
            let parked: Vec<_> = self.parked.drain().collect();
            self.clear();
            parked.into_iter().for_each(|(first, count)| self.unlooked.insert(first, count));
        }
    }

    /// A consumer is gone. What it has not settled stays its own.
    pub(super) fn remove_consumer(&mut self, consumer: ConsumerId) {
        self.filters.remove(consumer);
    }

    /// Nothing is parked any more.
    fn clear(&mut self) {
        (self.parked, self.indexed) = (Runs::default(), 0);
        (self.lanes, self.vacant) = (Vec::new(), Vec::new());
        (self.by_mask, self.shelves) = (FxHashMap::default(), Shelves::default());
        self.keys.clear_lanes();
    }

    /// Takes all that is here.
    pub(super) fn drain(&mut self) -> Vec<(u64, u64)> {
        let all = self.parked.drain().chain(self.unlooked.drain()).collect();
        self.clear();
        self.again = Runs::default();
        all
    }

    /// Takes those of `first .. end` that are here.
    pub(super) fn take_out(&mut self, first: u64, end: u64, out: &mut Vec<(u64, u64)>) {
        out.extend(super::stored::take_all(&mut self.parked, first, end));
        out.extend(super::stored::take_all(&mut self.unlooked, first, end));
        self.forget_again(first, end - first);
        self.sweep();
    }

    /// Takes a position that is here, and those behind it, up to `max`, whoever may take them. How many, and whether
    /// they were handed out before.
    pub(super) fn take_at(&mut self, position: u64, max: u64) -> (u64, bool) {
        let (again, max) = self.same_again(position, max);
        let set = if self.unlooked.count(position, 1) > 0 { &mut self.unlooked } else { &mut self.parked };
        let count = set.take_at(position, max);
        self.forget_again(position, count);
        self.sweep();
        (count, again)
    }

    /// Whether a message that is here was handed out before, and how many from it on are the same in that, up to `max`.
    fn same_again(&self, position: u64, max: u64) -> (bool, u64) {
        match self.again.next_from(position) {
            Some(next) if next == position => {
                let end = self.again.run_at(position).map_or(position + 1, |(first, count)| first + count);
                (true, max.min(end - position))
            }
            Some(next) => (false, max.min(next - position)),
            None => (false, max),
        }
    }

    fn forget_again(&mut self, first: u64, count: u64) {
        if self.again.len() > 0 {
            self.again.remove(first, count);
        }
    }

    /// Looks at a message for somebody who could take it.
    fn judge(&mut self, message: &Message<'_>, taker: Holder, class: Class, no_ack: bool) -> Verdict {
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        // Checked when it was published.
        let properties = Properties::decode_stored(message.properties).unwrap_or_default();
        let in_group = self.read_name(&properties);
        let known = if in_group { self.keys.find(&self.name) } else { None };
        let busy = known.filter(|key| self.keys.room_for(*key, taker) == 0);
        if busy.is_none() && self.filters.match_class(class, &properties) {
            return Verdict::Take((in_group && !no_ack).then(|| known.unwrap_or_else(|| self.keys.enter(&self.name))));
        }
        let mask = if self.filters.is_empty() { 0 } else { self.filters.mask(&properties) };
        Verdict::Park(self.lane(busy, mask))
    }

    /// Notes the name of a message's key; false if it has none.
    fn read_name(&mut self, properties: &Properties<'_>) -> bool {
        let (Some(header), Some(headers)) = (&self.header, properties.headers) else { return false };
        headers.get(header).is_some_and(|value| keys::write_name(value, &mut self.name))
    }

    fn lane(&mut self, key: Option<KeyId>, mask: Mask) -> LaneId {
        let known = match key {
            None => self.by_mask.get(&mask).copied(),
            Some(key) => self.keys.get(key).lanes.iter().find(|(it, _)| *it == mask).map(|(_, lane)| *lane),
        };
        if let Some(known) = known {
            return known;
        }
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            (self.lanes.len() - 1) as LaneId
        });
        self.lanes[id as usize] = Lane { key, mask, ..Lane::default() };
        match key {
            None => _ = self.by_mask.insert(mask, id),
            Some(key) => _ = self.keys.change(key, |key| key.lanes.push((mask, id))),
        }
        id
    }

    /// Puts a message into a lane.
    fn park(&mut self, position: u64, again: bool, lane: LaneId) {
        self.parked.insert(position, 1);
        if again {
            self.again.add(position, 1);
        }
        let runs = &mut self.lanes[lane as usize].runs;
        let before = runs.len();
        runs.add(position, 1);
        self.indexed += runs.len() - before;
        self.shelve(lane);
    }

    /// Brings a lane to where it belongs now; without messages it ends.
    fn shelve(&mut self, id: LaneId) {
        let lane = &self.lanes[id as usize];
        let (first, count) = (lane.runs.first().map_or(0, |(first, _)| first), lane.runs.len());
        let place = match lane.key.map(|key| self.keys.get(key)) {
            _ if count == 0 => Place::Nowhere,
            None => Place::Free,
            Some(key) if key.waiting > 0 || key.held >= self.keys.prefetch => Place::Nowhere,
            Some(key) => match key.holder {
                None => Place::Free,
                Some(holder) if filters::takes(self.filters.class_of(holder), lane.mask) => Place::Of(holder),
                Some(_) => Place::Nowhere,
            },
        };
        let classes = || filters::classes(lane.mask);
        if (place, first) == (lane.place, lane.first) && count >= lane.count {
            self.shelves.grow(place, classes(), count - lane.count);
        } else {
            self.shelves.remove(lane.place, classes(), (lane.first, id), lane.count);
            self.shelves.add(place, classes(), (first, id), count);
        }
        let lane = &mut self.lanes[id as usize];
        (lane.place, lane.first, lane.count) = (place, first, count);
        if count > 0 {
            return;
        }
        let (key, mask) = (lane.key, lane.mask);
        match key {
            None => _ = self.by_mask.remove(&mask),
            Some(key) => _ = self.keys.change(key, |key| key.lanes.retain(|(_, lane)| *lane != id)),
        }
        self.vacant.push(id);
    }

    /// The first parked message that one could take.
    fn next_for(&mut self, taker: Holder, class: Class) -> Option<(u64, LaneId)> {
        loop {
            let (first, id) = self.shelves.first(class, taker)?;
            let alive = if self.indexed == self.parked.len() { Some(first) } else { self.parked.next_from(first) };
            if alive == Some(first) {
                return Some((first, id));
            }
            let runs = &mut self.lanes[id as usize].runs;
            let before = runs.len();
            runs.remove(first, alive.unwrap_or(u64::MAX) - first);
            self.indexed -= before - runs.len();
            self.shelve(id);
        }
    }

    /// Takes parked messages out of their lane: so many from a position on as are there in a row, up to `max`.
    fn unpark(&mut self, id: LaneId, position: u64, max: u64) -> u64 {
        let max = match self.parked.run_at(position) {
            Some((first, count)) => max.min(first + count - position),
            None => 0,
        };
        let count = self.lanes[id as usize].runs.take_at(position, max);
        self.parked.remove(position, count);
        self.forget_again(position, count);
        self.indexed -= count;
        self.shelve(id);
        count
    }

    /// Lanes forget what is not parked any more, if that is much.
    fn sweep(&mut self) {
        if self.indexed > 2 * self.parked.len() + STALE_MAX {
            self.forget_stale();
        }
    }

    /// Lanes forget what is not parked any more.
    pub(super) fn forget_stale(&mut self) {
        if self.indexed == self.parked.len() {
            return;
        }
        for id in 0..self.lanes.len() {
            let lane = &mut self.lanes[id];
            if lane.runs.len() > 0 {
                lane.runs.retain(&self.parked);
                self.shelve(id as LaneId);
            }
        }
        self.indexed = self.lanes.iter().map(|lane| lane.runs.len()).sum();
    }

    /// Messages were handed out, and hold their key from now on.
    fn hold(&mut self, position: u64, count: u64, key: KeyId, taker: Holder) {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::KeyNotHeld) {
            return;
        }
        self.held.insert(Hold { position, count, key, waiting: false });
        self.change_key(key, |key| {
            key.held += count;
            key.holder = Some(taker);
        });
    }

    /// Its lanes have messages, so none ends by that.
    fn shelve_all_of(&mut self, key: KeyId) {
        let mut at = 0;
        while let Some(&(_, lane)) = self.keys.get(key).lanes.get(at) {
            self.shelve(lane);
            at += 1;
        }
    }

    /// Messages don't hold their keys any more: they were settled or came back, or don't wait for another attempt.
    pub(super) fn release(&mut self, position: u64, count: u64) {
        if self.unknown.len() > 0 {
            self.unknown.remove(position, count);
        }
        let (mut at, end) = (position, position + count);
        while let Some(hold) = self.held.take(at, end) {
            self.change_key(hold.key, |key| match hold.waiting {
                true => key.waiting -= hold.count,
                false => key.held -= hold.count,
            });
            at = hold.position + hold.count;
        }
    }

    /// Messages that were handed out wait for their next attempt, and so does what comes behind them in their groups.
    pub(super) fn wait(&mut self, position: u64, count: u64) {
        let (mut at, end) = (position, position + count);
        while let Some(hold) = self.held.take(at, end) {
            self.change_key(hold.key, |key| {
                key.held -= hold.count;
                key.waiting += hold.count;
            });
            self.held.insert(Hold { waiting: true, ..hold });
            at = hold.position + hold.count;
        }
    }

    fn change_key(&mut self, key: KeyId, change: impl FnOnce(&mut keys::Key)) {
        if self.keys.change(key, change) {
            self.shelve_all_of(key);
        }
    }
}
