//! A queue's part of a block: which of its messages are still there, and where they are on disk.

use crate::log::{Lsn, Place, file_of};
use crate::message::{Block, OpenRun, Run};
use crate::overflow::Extent;
use std::sync::{Arc, OnceLock};

/// A block is rewritten without its dead messages when at most this part of them lives: copying one message then frees
/// several, so the work stays in proportion.
const SPARSE: u32 = 8;

/// Blocks that are smaller than this are not worth it.
const COMPACT_MIN: usize = 4096;

/// Messages at consecutive positions; they are named here by their distance from the first.
#[derive(Debug)]
pub(crate) struct Segment {
    count: u32,
    live: u32,
    /// So many at the front are dead.
    dead_front: u32,
    /// Dead ones behind that, a bit each; empty as long as there are none.
    dead: Vec<u64>,
    data: Data,
    places: Places,
}

/// Where a segment's messages are on disk.
#[derive(Clone, Debug)]
pub(crate) enum Places {
    /// In memory only.
    Nowhere,
    /// In records of one file; each with the number of its first message in the segment.
    At(Vec<(u32, Place)>),
    /// In the record whose place is told when it is written.
    Later(Arc<OnceLock<Place>>),
    /// In files with an index, where the positions lead to them.
    Indexed,
    /// In a file that ends with the process.
    Overflow(Extent),
}

#[derive(Debug)]
enum Data {
    /// Still appended to; only a queue's last segment.
    Open(OpenRun),
    /// All messages, dead ones too.
    Whole(Arc<Block>),
    /// Only the messages whose numbers are listed.
    Compact(Arc<Block>, Box<[u32]>),
    /// Nothing: they are on disk.
    Stored,
}

impl Segment {
    /// All messages of a block.
    pub(crate) fn whole(block: Arc<Block>, places: Places) -> Segment {
        Segment::new(block.count(), Data::Whole(block), places)
    }

    /// A segment that more can be appended to.
    pub(crate) fn open(run: OpenRun, count: u32, places: Places) -> Segment {
        Segment::new(count, Data::Open(run), places)
    }

    /// Messages that are on disk only.
    pub(crate) fn stored(count: u32, places: Vec<(u32, Place)>) -> Segment {
        Segment::new(count, Data::Stored, Places::At(places))
    }

    fn new(count: u32, data: Data, places: Places) -> Segment {
        Segment { count, live: count, dead_front: 0, dead: Vec::new(), data, places }
    }

    /// Appends a run if it fits. False if the segment is closed, would become longer than `max` bytes, or if the run is
    /// not on disk where the segment is.
    pub(crate) fn append(&mut self, run: &Run, place: Option<Place>, max: usize) -> bool {
        match &mut self.data {
            Data::Open(open) if open.len() + run.len() <= max => {
                match (&mut self.places, place) {
                    (Places::Nowhere, None) => {}
                    (Places::At(places), Some(place)) if places.iter().all(|(_, at)| at.file() == place.file()) => {
                        places.push((self.count, place));
                    }
                    _ => return false,
                }
                open.extend(run);
                self.count += run.count();
                self.live += run.count();
                true
            }
            _ => false,
        }
    }

    /// Number of messages, dead ones too.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// It has to be loaded before its messages can be looked at.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.data, Data::Stored)
    }

    /// The log has it, or will have it.
    pub(crate) fn is_persistent(&self) -> bool {
        matches!(self.places, Places::At(_) | Places::Later(_) | Places::Indexed)
    }

    /// The block, if it is only in memory and could be written elsewhere.
    pub(crate) fn transient_block(&self) -> Option<&Arc<Block>> {
        match (&self.places, &self.data) {
            (Places::Nowhere, Data::Whole(block)) => Some(block),
            _ => None,
        }
    }

    /// Its block was written elsewhere, and need not be in memory.
    pub(crate) fn overflow(&mut self, block: &Arc<Block>, extent: Extent) {
        if self.transient_block().is_some_and(|own| Arc::ptr_eq(own, block)) {
            self.places = Places::Overflow(extent);
            self.data = Data::Stored;
        }
    }

    /// Where a transient block was written.
    pub(crate) fn extent(&self) -> Option<&Extent> {
        match &self.places {
            Places::Overflow(extent) => Some(extent),
            _ => None,
        }
    }

    /// Where its records are; none if only an index tells.
    pub(crate) fn places(&self) -> &[(u32, Place)] {
        match &self.places {
            Places::At(places) => places,
            _ => &[],
        }
    }

    /// Frees its memory if all of it is below `written` on disk. `None` if it is not; false if it can be forgotten, since
    /// an index leads to its messages.
    pub(crate) fn release(&mut self, written: Lsn) -> Option<bool> {
        if let Places::Later(place) = &self.places
            && let Some(place) = place.get()
        {
            self.places = Places::At(vec![(0, *place)]);
        }
        match &mut self.places {
            Places::At(places) if places.iter().all(|(_, place)| place.lsn < written) => {
                places.shrink_to_fit();
                self.data = Data::Stored;
                Some(true)
            }
            Places::Indexed => Some(false),
            Places::Overflow(_) => {
                self.data = Data::Stored;
                Some(true)
            }
            _ => None,
        }
    }

    /// Both are on disk in the same file, and would not be too much to read at once.
    pub(crate) fn can_join(&self, next: &Segment, max: u32) -> bool {
        let bytes = |segment: &Segment| segment.places().iter().map(|(_, place)| place.length).sum::<u32>();
        let whole = |segment: &Segment| segment.is_stored() && segment.live == segment.count;
        let file = |segment: &Segment| segment.places().first().map(|(_, place)| place.file());
        let small = |segment: &Segment| segment.places().len() < 4096;
        whole(self)
            && whole(next)
            && small(self)
            && file(self) == file(next)
            && file(self).is_some()
            && bytes(self) + bytes(next) <= max
    }

    /// Takes what follows, which [`Segment::can_join`] has allowed.
    pub(crate) fn join(&mut self, next: &Segment) {
        if let Places::At(places) = &mut self.places {
            places.extend(next.places().iter().map(|(number, place)| (self.count + number, *place)));
        }
        self.count += next.count;
        self.live += next.live;
    }

    /// The messages as they were read from disk.
    pub(crate) fn load(&mut self, block: Arc<Block>) {
        if self.is_stored() && block.count() == self.count {
            self.data = Data::Whole(block);
        }
    }

    /// Records of these files are found through an index from now on. False if that makes the segment superfluous.
    pub(crate) fn index(&mut self, files: &[u32]) -> bool {
        let Places::At(places) = &self.places else { return true };
        if places.first().is_none_or(|(_, place)| !files.contains(&file_of(place.lsn))) {
            return true;
        }
        self.places = Places::Indexed;
        !self.is_stored()
    }

    /// The number of the first message that lives.
    pub(crate) fn first_living(&self) -> u32 {
        self.dead_front
    }

    /// Bytes of memory that its messages are charged with.
    pub(crate) fn memory(&self) -> u64 {
        match &self.data {
            Data::Open(run) => run.len() as u64,
            Data::Whole(block) | Data::Compact(block, _) => block.len() as u64,
            Data::Stored => 0,
        }
    }

    /// About how many bytes its living messages have in files without an index.
    pub(crate) fn disk(&self) -> u64 {
        let bytes = match &self.places {
            Places::At(places) => places.iter().map(|(_, place)| u64::from(place.length)).sum(),
            Places::Overflow(extent) => extent.length() as u64,
            Places::Nowhere | Places::Later(_) | Places::Indexed => 0,
        };
        bytes * u64::from(self.live) / u64::from(self.count)
    }

    /// No message is left.
    pub(crate) fn is_dead(&self) -> bool {
        self.live == 0
    }

    /// Closes it if it is open.
    pub(crate) fn close(&mut self) {
        if let Data::Open(run) = &mut self.data {
            self.data = Data::Whole(run.seal());
        }
    }

    /// The records as a block; what was open is closed by it. It is in memory.
    pub(crate) fn seal(&mut self) -> Arc<Block> {
        self.close();
        match &self.data {
            Data::Whole(block) | Data::Compact(block, _) => block.clone(),
            Data::Open(_) | Data::Stored => unreachable!("sealed above, loaded before"),
        }
    }

    /// Where in the block a living message begins. A walk over the records before it.
    pub(crate) fn offset(&self, number: u32) -> usize {
        match &self.data {
            Data::Whole(block) => block.skip(0, number),
            Data::Compact(block, numbers) => {
                let index = numbers.partition_point(|&other| other < number);
                assert_eq!(numbers.get(index), Some(&number), "a message that lives was kept");
                block.skip(0, index as u32)
            }
            Data::Open(_) | Data::Stored => unreachable!("offsets are of sealed segments in memory"),
        }
    }

    /// Marks messages as dead. Each dies once.
    pub(crate) fn kill(&mut self, from: u32, to: u32) {
        self.live -= to - from;
        if self.live == 0 {
            return;
        }
        if from != self.dead_front {
            self.dead.resize(self.count.div_ceil(64) as usize, 0);
            (from..to).for_each(|number| self.dead[number as usize / 64] |= 1 << (number % 64));
            return;
        }
        self.dead_front = to;
        while self.is_marked(self.dead_front) {
            self.dead_front += 1;
        }
    }

    fn is_marked(&self, number: u32) -> bool {
        self.dead.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 != 0)
    }

    /// Says the runs of messages `from .. to` that live.
    pub(crate) fn living(&self, from: u64, to: u64, mut say: impl FnMut(u32, u32)) {
        let to = to.min(self.count.into()) as u32;
        let (mut at, mut begin) = (from.max(self.dead_front.into()).min(to.into()) as u32, None);
        while at < to {
            match (self.is_marked(at), begin) {
                (false, None) => begin = Some(at),
                (true, Some(first)) => {
                    say(first, at - first);
                    begin = None;
                }
                _ => {}
            }
            at += 1;
        }
        if let Some(first) = begin {
            say(first, to - first);
        }
    }

    /// The first run of messages from a number on that live: the first, and how many.
    pub(crate) fn next_living(&self, from: u64) -> Option<(u32, u32)> {
        let from = u32::try_from(from).ok()?.max(self.dead_front);
        let first = (from..self.count).find(|number| !self.is_marked(*number))?;
        let end = match self.dead.is_empty() {
            true => self.count,
            false => (first..self.count).find(|number| self.is_marked(*number)).unwrap_or(self.count),
        };
        Some((first, end - first))
    }

    /// Rewrites a block that few living messages keep in memory. To be called only when all messages were handed out:
    /// the head of the queue finds its way by offsets, which change.
    pub(crate) fn compact(&mut self, copy: impl FnOnce(&mut Run) -> Arc<Block>) {
        let (block, numbers) = match &self.data {
            Data::Whole(block) => (block, None),
            Data::Compact(block, numbers) => (block, Some(numbers)),
            Data::Open(_) | Data::Stored => return,
        };
        if block.len() < COMPACT_MIN || self.live > block.count() / SPARSE {
            return;
        }
        let (mut run, mut kept, mut at) = (Run::default(), Vec::with_capacity(self.live as usize), 0);
        for index in 0..block.count() {
            let number = numbers.map_or(index, |numbers| numbers[index as usize]);
            let (message, next) = block.at(at);
            if number >= self.dead_front && !self.is_marked(number) {
                run.push(message.route, message.properties, message.body, message.persistent);
                kept.push(number);
            }
            at = next;
        }
        self.data = Data::Compact(copy(&mut run), kept.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Account;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_lives_is_found_whatever_died_in_whatever_order(order in Just((0u32..80).collect::<Vec<_>>()).prop_shuffle(),
                                                               compact_each in 1usize..10) {
            let mut run = Run::default();
            for number in 0..80 {
                run.push(b"\0\0", &[0, 0], &[number as u8; 100], false);
            }
            let account = Account::default();
            let mut segment = Segment::whole(run.seal(&account), Places::Nowhere);
            let whole = account.used();
            for (died, number) in order.iter().enumerate() {
                segment.kill(*number, number + 1);
                if died % compact_each == 0 && !segment.is_dead() {
                    segment.compact(|run| run.seal(&account));
                }
                for alive in &order[died + 1..] {
                    let block = segment.seal();
                    prop_assert_eq!(block.at(segment.offset(*alive)).0.body[0], *alive as u8);
                }
            }
            prop_assert!(segment.is_dead());
            prop_assert!(account.used() < whole / 2, "it was compacted on the way");
        }
    }
}
