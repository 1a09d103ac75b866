//! The last keys of a queue or exchange: a ring of them in the order in which they came, and a table to find them.

use super::hash::Hash;
use crate::times::MAX_DUE;
use std::collections::VecDeque;

/// A key that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// In halves: as one number it would be aligned to 16 bytes.
    pub(crate) key: [u64; 2],
    /// Remembered until then, in milliseconds since 1970; 0 for no key at all.
    until: u64,
}

/// The bit in `until` of a key that the log does not know.
const UNLOGGED: u64 = 1 << 63;

impl Seen {
    /// A number whose key is not known.
    pub(crate) const NONE: Seen = Seen { key: [0; 2], until: 0 };

    pub(crate) fn new(key: Hash, until: u64, logged: bool) -> Seen {
        let until = until.clamp(1, MAX_DUE);
        Seen { key: [key as u64, (key >> 64) as u64], until: if logged { until } else { until | UNLOGGED } }
    }

    /// As a record has it.
    pub(crate) fn from_halves(key: [u64; 2], until: u64) -> Seen {
        Seen { key, until: until & !UNLOGGED }
    }

    pub(crate) fn until(&self) -> u64 {
        self.until & !UNLOGGED
    }

    fn is_none(&self) -> bool {
        self.until == 0
    }
}

/// Keys by consecutive numbers, of which the first have been forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    first: u64,
    keys: VecDeque<Seen>,
}

impl Ring {
    /// The number of the next key.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.keys.len() as u64
    }

    /// Takes what a record says: in order, and once more. At most `max` are kept.
    pub(crate) fn put(&mut self, number: u64, seen: Seen, max: usize) {
        if self.keys.is_empty() || number >= self.next() + max as u64 {
            (self.first, self.keys) = (self.first.max(number), VecDeque::new());
        }
        if number < self.first {
            return;
        }
        while self.next() <= number {
            self.keys.push_back(Seen::NONE);
        }
        let slot = &mut self.keys[(number - self.first) as usize];
        if slot.is_none() {
            *slot = seen;
        }
        self.shorten(max);
    }

    /// Earlier numbers are forgotten, or were never said.
    pub(crate) fn reach(&mut self, number: u64) {
        if self.keys.is_empty() {
            self.first = self.first.max(number);
        }
    }

    fn shorten(&mut self, max: usize) {
        let excess = self.keys.len().saturating_sub(max);
        self.keys.drain(..excess);
        self.first += excess as u64;
    }
}

/// So many keys that are forgotten because of their time go with each new one.
const EXPIRE_STEP: usize = 4;

/// The last keys that were seen. A key is remembered until so many newer ones have come, or until its time is over.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    ring: Ring,
    /// Open addressing with linear probing: the lower 31 bits of a key's number, and one; above these the lower 32 bits of
    /// the key, so that others are told apart without a look at the ring. 0 is a free place. At most half of it is taken,
    /// and its length is a power of two.
    table: Vec<u64>,
    taken: usize,
}

/// Bits of a number in the table.
const NUMBER: u64 = (1 << 31) - 1;

impl Window {
    pub(crate) fn new(size: usize) -> Window {
        Window { size, ring: Ring::default(), table: Vec::new(), taken: 0 }
    }

    /// With what a start has found.
    pub(crate) fn restore(size: usize, mut ring: Ring) -> Window {
        ring.shorten(size);
        let mut window = Window { size, ring, table: Vec::new(), taken: 0 };
        for number in window.ring.first..window.ring.next() {
            window.enter(number);
        }
        window
    }

    /// The number of the next key.
    pub(crate) fn next(&self) -> u64 {
        self.ring.next()
    }

    /// Whether a key is remembered.
    pub(crate) fn has(&self, key: Hash, now: u64) -> bool {
        self.find([key as u64, (key >> 64) as u64]).is_some_and(|at| self.seen_at(at).until() > now)
    }

    /// Brings into the caches what looking up and remembering these keys will need. The table is larger than they are, and
    /// places in it that are read one after the other, each before a decision, cost a wait for memory each; read like this
    /// the waits overlap.
    pub(crate) fn warm(&self, keys: impl Iterator<Item = Hash>) {
        if self.table.is_empty() {
            return;
        }
        let (mut read, mut count) = (0, 0);
        for key in keys {
            read |= self.table[key as usize & self.mask()];
            count += 1;
        }
        // As many are forgotten.
        let forgotten = (self.ring.keys.len() + count).saturating_sub(self.size);
        self.ring.keys.iter().take(forgotten).for_each(|seen| read |= self.table[seen.key[0] as usize & self.mask()]);
        std::hint::black_box(read);
    }

    /// Remembers a key. To be called for one that it does not have.
    pub(crate) fn add(&mut self, seen: Seen, now: u64) {
        if self.ring.keys.len() >= self.size {
            self.forget_first();
        }
        self.expire(now, EXPIRE_STEP);
        self.ring.keys.push_back(seen);
        self.enter(self.ring.next() - 1);
    }

    /// Forgets the first keys whose time is over, at most so many.
    pub(crate) fn expire(&mut self, now: u64, most: usize) {
        for _ in 0..most {
            match self.ring.keys.front() {
                Some(first) if first.until() <= now => self.forget_first(),
                _ => return,
            }
        }
    }

    /// The keys of these numbers that the log knows, from the first that is remembered on, and its number. Those
    /// in between that it does not know are none.
    pub(crate) fn logged(&self, from: u64, upto: u64, most: usize) -> (u64, impl ExactSizeIterator<Item = Seen> + '_) {
        let from = from.max(self.ring.first).min(self.ring.next());
        let upto = upto.clamp(from, self.ring.next()).min(from.saturating_add(most as u64));
        let range = (from - self.ring.first) as usize..(upto - self.ring.first) as usize;
        let keys = self.ring.keys.range(range);
        (from, keys.map(|seen| if seen.until & UNLOGGED == 0 { *seen } else { Seen::NONE }))
    }

    fn forget_first(&mut self) {
        let Some(seen) = self.ring.keys.front().copied() else { return };
        // Unless it came again after its time, and that is in the table.
        if let Some(at) = self.find(seen.key).filter(|at| self.table[*at] == entry(self.ring.first, seen.key)) {
            self.remove(at);
        }
        self.ring.keys.pop_front();
        self.ring.first += 1;
    }

    /// Notes the key of this number in the table.
    fn enter(&mut self, number: u64) {
        let seen = self.ring.keys[(number - self.ring.first) as usize];
        if seen.is_none() {
            return;
        }
        if (self.taken + 1) * 2 > self.table.len() {
            self.grow();
        }
        match self.find(seen.key) {
            Some(at) => self.table[at] = entry(number, seen.key),
            None => {
                let mut at = seen.key[0] as usize & self.mask();
                while self.table[at] != 0 {
                    at = (at + 1) & self.mask();
                }
                self.table[at] = entry(number, seen.key);
                self.taken += 1;
            }
        }
    }

    fn grow(&mut self) {
        let len = (self.table.len() * 2).max(16);
        let old = std::mem::replace(&mut self.table, vec![0; len]);
        for entry in old.into_iter().filter(|entry| *entry != 0) {
            let mut at = (entry >> 32) as usize & self.mask();
            while self.table[at] != 0 {
                at = (at + 1) & self.mask();
            }
            self.table[at] = entry;
        }
    }

    fn find(&self, key: [u64; 2]) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let mut at = key[0] as usize & self.mask();
        while self.table[at] != 0 {
            if self.table[at] >> 32 == key[0] & u64::from(u32::MAX) && self.seen_at(at).key == key {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    /// Frees a place, and moves those behind it that are not at home to where they are found again.
    fn remove(&mut self, mut free: usize) {
        let mut at = free;
        loop {
            at = (at + 1) & self.mask();
            if self.table[at] == 0 {
                break;
            }
            let home = (self.table[at] >> 32) as usize;
            let (from_home, from_free) = (at.wrapping_sub(home) & self.mask(), at.wrapping_sub(free) & self.mask());
            if from_home >= from_free {
                self.table[free] = self.table[at];
                free = at;
            }
        }
        self.table[free] = 0;
        self.taken -= 1;
    }

    fn mask(&self) -> usize {
        self.table.len() - 1
    }

    fn seen_at(&self, at: usize) -> Seen {
        let behind = (self.table[at] - 1).wrapping_sub(self.ring.first) & NUMBER;
        self.ring.keys[behind as usize]
    }
}

fn entry(number: u64, key: [u64; 2]) -> u64 {
    (key[0] << 32) | ((number & NUMBER) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All keys that ever came, with when they are forgotten.
    #[derive(Default)]
    struct Model(Vec<(Hash, u64)>);

    impl Model {
        fn has(&self, size: usize, key: Hash, now: u64) -> bool {
            let newest = self.0.len().saturating_sub(size);
            self.0[newest..].iter().any(|(known, until)| *known == key && *until > now)
        }
    }

    proptest! {
        #[test]
        fn a_window_has_what_came_last_and_has_time(
            size in 1..20usize,
            // Few values, so that they come again; the low bits are where keys are at home in the table.
            steps in prop::collection::vec((0..60u128, 1..50u64, 0..4u64, any::<bool>()), 0..400),
        ) {
            let (mut window, mut model, mut now) = (Window::new(size), Model::default(), 1000);
            let mut disk = Ring::default();
            for (key, life, wait, restart) in steps {
                let key = (key << 64) | (key % 7);
                now += wait;
                prop_assert_eq!(window.has(key, now), model.has(size, key, now));
                if !window.has(key, now) {
                    window.add(Seen::new(key, now + life, true), now);
                    model.0.push((key, now + life));
                    let (number, mut said) = window.logged(window.next() - 1, u64::MAX, 1);
                    disk.put(number, said.next().expect("it was added"), size);
                }
                if restart {
                    window = Window::restore(size, disk.clone());
                }
            }
            for key in (0..60u128).map(|key| (key << 64) | (key % 7)) {
                prop_assert_eq!(window.has(key, now), model.has(size, key, now));
            }
        }

        #[test]
        fn a_ring_takes_records_again(first in 0..25u64, again in 0..30u64) {
            let mut ring = Ring::default();
            for number in (first..30).chain(again..30) {
                ring.put(number, Seen::new(number.into(), 50, true), 10);
            }
            let window = Window::restore(10, ring);
            for number in 0..30 {
                prop_assert_eq!(window.has(number.into(), 49), number >= first.max(20));
            }
        }
    }

    #[test]
    fn numbers_that_nobody_has_said_count() {
        let mut ring = Ring::default();
        [3, 4, 9].into_iter().for_each(|number| ring.put(number, Seen::new(number.into(), 50, true), 6));
        let window = Window::restore(6, ring);
        assert_eq!([3, 4, 9].map(|key| window.has(key, 0)), [false, true, true]);
        assert_eq!(window.next(), 10);
    }

    #[test]
    fn a_key_that_came_again_after_its_time_is_remembered_from_then_on() {
        let mut window = Window::new(3);
        window.add(Seen::new(1, 10, true), 0);
        window.add(Seen::new(2, 100, true), 0);
        assert!(!window.has(1, 10));
        window.add(Seen::new(1, 100, true), 10);
        window.add(Seen::new(3, 100, true), 10);
        window.add(Seen::new(4, 100, true), 10);
        assert_eq!([1, 2, 3, 4].map(|key| window.has(key, 20)), [true, false, true, true]);
    }

    #[test]
    fn what_the_log_does_not_know_is_not_said() {
        let mut window = Window::new(8);
        [true, false, true].iter().zip(1..).for_each(|(logged, key)| window.add(Seen::new(key, 10, *logged), 0));
        let (first, said) = window.logged(0, u64::MAX, 100);
        assert_eq!((first, said.map(|seen| seen.key[0]).collect::<Vec<_>>()), (0, vec![1, 0, 3]));
        assert!(window.has(2, 0));
    }
}
