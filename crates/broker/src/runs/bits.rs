//! A stretch of positions as bits. Positions are counted from the beginning of the stretch.

/// Positions in a stretch. A power of two; stretches begin at its multiples.
pub(super) const STRETCH: u64 = 4096;

const WORD: u64 = u64::BITS as u64;

/// One bit per position of a stretch.
pub(super) type Words = [u64; (STRETCH / WORD) as usize];

/// Nothing is set.
pub(super) const EMPTY: Words = [0; (STRETCH / WORD) as usize];

/// Sets `from .. to`; returns how many were not set before.
pub(super) fn set(words: &mut Words, from: u64, to: u64) -> u64 {
    let mut new = 0;
    for (index, mask) in masks(from, to) {
        new += (mask & !words[index]).count_ones();
        words[index] |= mask;
    }
    new.into()
}

/// Clears `from .. to`; returns how many were set.
pub(super) fn clear(words: &mut Words, from: u64, to: u64) -> u64 {
    let mut old = 0;
    for (index, mask) in masks(from, to) {
        old += (mask & words[index]).count_ones();
        words[index] &= !mask;
    }
    old.into()
}

/// How many of `from .. to` are set.
pub(super) fn count(words: &Words, from: u64, to: u64) -> u64 {
    masks(from, to).map(|(index, mask)| u64::from((mask & words[index]).count_ones())).sum()
}

pub(super) fn has(words: &Words, at: u64) -> bool {
    words[(at / WORD) as usize] >> (at % WORD) & 1 == 1
}

/// The first set one from `at` on; the stretch's end if there is none.
pub(super) fn next_one(words: &Words, at: u64) -> u64 {
    next(words, at, 0)
}

/// The first one from `at` on that is not set; the stretch's end if there is none.
pub(super) fn next_zero(words: &Words, at: u64) -> u64 {
    next(words, at, u64::MAX)
}

/// Where the set ones begin that `at` is the last of.
pub(super) fn run_start(words: &Words, at: u64) -> u64 {
    let (mut index, mut shift) = (at / WORD, WORD - 1 - at % WORD);
    loop {
        let ones = u64::from((words[index as usize] << shift).leading_ones());
        let start = index * WORD + WORD - shift - ones;
        if ones + shift < WORD || index == 0 {
            return start;
        }
        (index, shift) = (index - 1, 0);
    }
}

/// The runs of set ones from `at` on, in order: first and length.
pub(super) struct SetRuns<W> {
    pub(super) words: W,
    pub(super) at: u64,
}

impl<W: std::ops::Deref<Target = Words>> Iterator for SetRuns<W> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let first = next_one(&self.words, self.at);
        if first == STRETCH {
            return None;
        }
        self.at = next_zero(&self.words, first);
        Some((first, self.at - first))
    }
}

/// The first bit from `at` on that is another one than those of `flip`.
fn next(words: &Words, at: u64, flip: u64) -> u64 {
    if at >= STRETCH {
        return STRETCH;
    }
    let (mut index, mut rest) = ((at / WORD) as usize, u64::MAX << (at % WORD));
    loop {
        let word = (words[index] ^ flip) & rest;
        if word != 0 {
            return index as u64 * WORD + u64::from(word.trailing_zeros());
        }
        (index, rest) = (index + 1, u64::MAX);
        if index == words.len() {
            return STRETCH;
        }
    }
}

/// The words that `from .. to` is in, and its bits in each.
fn masks(from: u64, to: u64) -> impl Iterator<Item = (usize, u64)> {
    (from / WORD..to.div_ceil(WORD)).map(move |index| {
        let (low, high) = (from.max(index * WORD) % WORD, to.min(index * WORD + WORD) - index * WORD);
        (index as usize, u64::MAX >> (WORD - high) & u64::MAX << low)
    })
}
