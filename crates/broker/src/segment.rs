//! A queue's part of a block: which of its messages are still there.

use crate::message::{Block, OpenRun, Run};
use std::sync::Arc;

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
}

#[derive(Debug)]
enum Data {
    /// Still appended to; only a queue's last segment.
    Open(OpenRun),
    /// All messages, dead ones too.
    Whole(Arc<Block>),
    /// Only the messages whose numbers are listed.
    Compact(Arc<Block>, Box<[u32]>),
}

impl Segment {
    /// All messages of a block.
    pub(crate) fn whole(block: Arc<Block>) -> Segment {
        let count = block.count();
        Segment { count, live: count, dead_front: 0, dead: Vec::new(), data: Data::Whole(block) }
    }

    /// A segment that more can be appended to.
    pub(crate) fn open(run: OpenRun, count: u32) -> Segment {
        Segment { count, live: count, dead_front: 0, dead: Vec::new(), data: Data::Open(run) }
    }

    /// Appends a run if it fits. False if the segment is closed or would become longer than `max` bytes.
    pub(crate) fn append(&mut self, run: &Run, max: usize) -> bool {
        match &mut self.data {
            Data::Open(open) if open.len() + run.len() <= max => {
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

    /// No message is left.
    pub(crate) fn is_dead(&self) -> bool {
        self.live == 0
    }

    /// The records as a block; what was open is closed by it.
    pub(crate) fn seal(&mut self) -> Arc<Block> {
        if let Data::Open(run) = &mut self.data {
            self.data = Data::Whole(run.seal());
        }
        match &self.data {
            Data::Whole(block) | Data::Compact(block, _) => block.clone(),
            Data::Open(_) => unreachable!("sealed above"),
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
            Data::Open(_) => unreachable!("offsets are of sealed segments"),
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

    /// Rewrites a block that few living messages keep in memory. To be called only when all messages were handed out:
    /// the head of the queue finds its way by offsets, which change.
    pub(crate) fn compact(&mut self, copy: impl FnOnce(&mut Run) -> Arc<Block>) {
        let (block, numbers) = match &self.data {
            Data::Whole(block) => (block, None),
            Data::Compact(block, numbers) => (block, Some(numbers)),
            Data::Open(_) => return,
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
            let mut segment = Segment::whole(run.seal(&account));
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
