//! Sets of queue positions. Ten million of them next to each other cost one entry; where a set is full of holes, it is
//! bits, so that it costs about a quarter of a byte for each position from its first to its last, at most.

mod bits;
mod counts;
mod encoding;
#[cfg(test)]
mod tests;

pub use counts::Counts;

use bits::{STRETCH, SetRuns, Words};
use std::collections::BTreeMap;
use std::ops::Deref;

/// More runs than these beginning in one stretch become bits: then they need more memory than those, with about 35 bytes
/// per entry of the map.
const CROWDED: usize = 24;

/// Positions as disjoint pieces.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// By first position. No two runs touch each other; runs may touch bits, and bits others.
    pieces: BTreeMap<u64, Piece>,
    total: u64,
}

#[derive(Clone, Debug)]
enum Piece {
    /// So many positions. None of them is in a stretch that is bits.
    Run(u64),
    /// A whole stretch, of which so many are in the set: neither none nor all.
    Bits(u16, Box<Words>),
}

impl Runs {
    /// Number of positions.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Adds `first .. first + count`, joined with its neighbours.
    ///
    /// # Panics
    /// If one of them is in the set already: a position has one owner at a time.
    pub fn insert(&mut self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.total += count;
        // What comes in order comes last.
        if let Some(mut last) = self.pieces.last_entry() {
            let start = *last.key();
            if let Piece::Run(len) = last.get_mut() {
                if start + *len == first {
                    *len += count;
                    return;
                }
                if start + *len < first {
                    self.pieces.insert(first, Piece::Run(count));
                    return self.relieve(first);
                }
            }
        }
        let (mut at, end) = (first, first + count);
        while at < end {
            at = self.insert_front(at, end);
        }
    }

    /// The first run: position and length.
    pub fn first(&self) -> Option<(u64, u64)> {
        let (&start, piece) = self.pieces.first_key_value()?;
        let first = match piece {
            Piece::Run(_) => start,
            Piece::Bits(_, words) => start + bits::next_one(words, 0),
        };
        let end = piece.run_end(start, first)?;
        Some((first, self.follow(end, u64::MAX) - first))
    }

    /// Takes a position that is in the set, and those behind it in its run, up to `max`: how many.
    pub fn take_at(&mut self, position: u64, max: u64) -> u64 {
        // What is taken in order comes first.
        if let Some((&start, &Piece::Run(len))) = self.pieces.first_key_value()
            && start == position
            && max < len
            && max > 0
        {
            self.total -= max;
            self.pieces.insert(position + max, Piece::Run(len - max));
            self.pieces.pop_first();
            return max;
        }
        let enough = position.saturating_add(max);
        let Some((&start, piece)) = self.pieces.range_mut(..=position).next_back() else { return 0 };
        let Some(mut end) = piece.run_end(start, position) else { return 0 };
        if end < enough && end.is_multiple_of(STRETCH) {
            end = self.follow(end, enough);
            self.remove(position, end.min(enough) - position);
        } else if let Piece::Run(len) = piece {
            self.total -= end.min(enough) - position;
            let before = position - start;
            *len = before;
            self.cut(start, before, end.min(enough), end);
        } else {
            self.remove(position, end.min(enough) - position);
        }
        end.min(enough) - position
    }

    /// The run that has this position: its first and its length.
    pub fn run_at(&self, position: u64) -> Option<(u64, u64)> {
        let end = self.run_end(position, u64::MAX)?;
        let mut first = position;
        while let Some((&start, piece)) = self.pieces.range(..=first).next_back() {
            first = piece.run_start(start, first);
            // Only where a stretch begins, another piece may go on with it.
            if first != start || start % STRETCH != 0 || start == 0 {
                break;
            }
            let Some((&before, piece)) = self.pieces.range(..start).next_back() else { break };
            if piece.run_end(before, start - 1).is_none() {
                break;
            }
            first = start - 1;
        }
        Some((first, end - first))
    }

    /// The lowest position of the set that is not below this one.
    pub fn next_from(&self, position: u64) -> Option<u64> {
        let pieces = self.pieces.range(self.piece_before(position)..);
        let mut parts = pieces.flat_map(move |(&start, piece)| piece.parts(start, position));
        parts.find(|(start, len)| start + len > position).map(|(start, _)| start.max(position))
    }

    /// Adds positions of which some may be in the set already.
    pub fn add(&mut self, first: u64, count: u64) {
        let is_behind = match self.pieces.last_key_value() {
            Some((&start, Piece::Run(len))) => start + len <= first,
            Some((&start, Piece::Bits(..))) => start + STRETCH <= first,
            None => true,
        };
        if is_behind {
            return self.insert(first, count);
        }
        let (mut at, end) = (first, first + count);
        while at < end {
            let Some((gap, len)) = self.gaps(at, end - at).next() else { return };
            self.insert(gap, len);
            at = gap + len;
        }
    }

    /// Removes positions of which some may not be in the set.
    pub fn remove(&mut self, first: u64, count: u64) {
        let mut end = first + count;
        while first < end {
            let Some((&start, piece)) = self.pieces.range_mut(..end).next_back() else { return };
            match piece {
                Piece::Run(len) => {
                    let stop = start + *len;
                    if stop <= first {
                        return;
                    }
                    self.total -= stop.min(end) - start.max(first);
                    let before = first.saturating_sub(start);
                    *len = before;
                    self.cut(start, before, end, stop);
                }
                Piece::Bits(ones, words) => {
                    if start + STRETCH <= first {
                        return;
                    }
                    let cleared = bits::clear(words, first.max(start) - start, (end - start).min(STRETCH));
                    self.total -= cleared;
                    *ones -= cleared as u16;
                    if *ones == 0 {
                        self.pieces.remove(&start);
                    }
                }
            }
            end = start;
        }
    }

    /// Removes what is not in another set.
    pub fn retain(&mut self, other: &Runs) {
        let (Some((first, _)), Some((&last, piece))) = (self.first(), self.pieces.last_key_value()) else { return };
        let end = match piece {
            Piece::Run(len) => last + len,
            Piece::Bits(..) => last + STRETCH,
        };
        other.gaps(first, end - first).for_each(|(first, count)| self.remove(first, count));
    }

    /// How many of `first .. first + count` are in the set.
    pub fn count(&self, first: u64, count: u64) -> u64 {
        let end = first + count;
        let inside = self.pieces.range(self.piece_before(first)..end).map(|(&start, piece)| match piece {
            Piece::Run(len) => (start + len).min(end).saturating_sub(start.max(first)),
            Piece::Bits(..) if start + STRETCH <= first => 0,
            Piece::Bits(_, words) => bits::count(words, first.max(start) - start, (end - start).min(STRETCH)),
        });
        inside.sum()
    }

    /// The parts of `first .. first + count` that are not in the set, in order.
    pub fn gaps(&self, first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = first + count;
        let pieces = self.pieces.range(self.piece_before(first)..end);
        let parts = pieces.flat_map(move |(&start, piece)| piece.parts(start, first));
        let mut at = first;
        parts.take_while(move |(start, _)| *start < end).chain([(end, 0)]).filter_map(move |(start, len)| {
            let gap = (at, start.saturating_sub(at));
            at = at.max(start + len);
            (gap.1 > 0).then_some(gap)
        })
    }

    /// All runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        Joined { parts: self.pieces.iter().flat_map(|(&start, piece)| piece.parts(start, start)), held: None }
    }

    /// Empties the set and gives what was in it, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, u64)> + use<> {
        self.total = 0;
        let pieces = std::mem::take(&mut self.pieces).into_iter();
        Joined { parts: pieces.flat_map(|(start, piece)| piece.into_parts(start)), held: None }
    }

    /// Adds positions from `at` on, up to `end` or to the next place where the kind of piece changes; returns that.
    fn insert_front(&mut self, at: u64, mut end: u64) -> u64 {
        let (mut joined, mut behind) = (None, 0);
        match self.pieces.range(at..).next() {
            Some((&after, &Piece::Run(len))) => {
                if end == after {
                    (joined, behind) = (Some(after), len);
                }
                assert!(end <= after, "position {after} is in the set already");
            }
            // Which may begin just here: then it is the piece before as well.
            Some((&after, Piece::Bits(..))) if at < after => end = end.min(after),
            _ => {}
        }
        match self.pieces.range_mut(..=at).next_back() {
            Some((&start, Piece::Run(len))) if at <= start + *len => {
                assert!(start + *len == at, "position {at} is in the set already");
                *len += end - at + behind;
                if let Some(after) = joined {
                    self.pieces.remove(&after);
                }
            }
            Some((&start, Piece::Bits(ones, words))) if at - start < STRETCH => {
                let to = (end - start).min(STRETCH);
                let count = to - (at - start);
                assert!(
                    bits::set(words, at - start, to) == count,
                    "position {at} or one behind it is in the set already"
                );
                *ones += count as u16;
                if u64::from(*ones) == STRETCH {
                    self.pieces.remove(&start);
                    self.insert_front(start, start + STRETCH);
                }
                return start + to;
            }
            _ => {
                if let Some(after) = joined {
                    self.pieces.remove(&after);
                }
                self.pieces.insert(at, Piece::Run(end - at + behind));
                if joined.is_none() {
                    self.relieve(at);
                }
            }
        }
        end
    }

    /// Puts right what a run is that begins here, of which `before` positions are left and those behind it up to `end`
    /// are gone; it ended at `stop`.
    fn cut(&mut self, start: u64, before: u64, end: u64, stop: u64) {
        if stop > end {
            self.pieces.insert(end, Piece::Run(stop - end));
        }
        // Not before: a map that is empty in between frees its memory.
        if before == 0 {
            self.pieces.remove(&start);
        } else if stop > end {
            self.relieve(end);
        }
    }

    /// Makes bits of the stretch that a position is in, if too many runs begin there.
    fn relieve(&mut self, position: u64) {
        let start = position - position % STRETCH;
        let Some(end) = start.checked_add(STRETCH).filter(|_| self.pieces.len() > CROWDED) else { return };
        if self.pieces.range(start..end).nth(CROWDED).is_none() {
            return;
        }
        let (mut words, mut ones) = (Box::new(bits::EMPTY), 0);
        if let Some((&before, Piece::Run(len))) = self.pieces.range_mut(..start).next_back()
            && before + *len > start
        {
            ones += bits::set(&mut words, 0, before + *len - start);
            *len = start - before;
        }
        while let Some((&first, &Piece::Run(len))) = self.pieces.range(start..end).next() {
            self.pieces.remove(&first);
            ones += bits::set(&mut words, first - start, (first + len - start).min(STRETCH));
            if first + len > end {
                self.pieces.insert(end, Piece::Run(first + len - end));
            }
        }
        self.pieces.insert(start, Piece::Bits(ones as u16, words));
    }

    /// Where the run ends that has this position, or some place in it that is not before `enough`.
    fn run_end(&self, position: u64, enough: u64) -> Option<u64> {
        let (&start, piece) = self.pieces.range(..=position).next_back()?;
        let end = piece.run_end(start, position)?;
        Some(self.follow(end, enough))
    }

    /// Where a run ends of which one piece ends here. Only where a stretch begins, another piece may go on with it.
    fn follow(&self, mut end: u64, enough: u64) -> u64 {
        while end.is_multiple_of(STRETCH) && end < enough {
            let Some(further) = self.pieces.get(&end).and_then(|piece| piece.run_end(end, end)) else { break };
            end = further;
        }
        end
    }

    /// The first position of the last piece that begins at or before this one; without any, it itself.
    fn piece_before(&self, position: u64) -> u64 {
        self.pieces.range(..=position).next_back().map_or(position, |(&start, _)| start)
    }
}

impl Piece {
    /// Where the run ends, or the piece, that has a position; `None` if the position is not in the set.
    fn run_end(&self, start: u64, position: u64) -> Option<u64> {
        let at = position - start;
        match self {
            Piece::Run(len) => (at < *len).then(|| start + len),
            Piece::Bits(_, words) => (at < STRETCH && bits::has(words, at)).then(|| start + bits::next_zero(words, at)),
        }
    }

    /// Where the run begins, or the piece, that has a position; which is in the set.
    fn run_start(&self, start: u64, position: u64) -> u64 {
        match self {
            Piece::Run(_) => start,
            Piece::Bits(_, words) => start + bits::run_start(words, position - start),
        }
    }

    /// The runs in this piece, without those bits that are before `from`.
    fn parts(&self, start: u64, from: u64) -> Parts<&Words> {
        match self {
            Piece::Run(len) => Parts::Run(Some((start, *len))),
            Piece::Bits(_, words) => Parts::Bits(start, SetRuns { words, at: from.saturating_sub(start) }),
        }
    }

    fn into_parts(self, start: u64) -> Parts<Box<Words>> {
        match self {
            Piece::Run(len) => Parts::Run(Some((start, len))),
            Piece::Bits(_, words) => Parts::Bits(start, SetRuns { words, at: 0 }),
        }
    }
}

/// The runs in a piece.
enum Parts<W> {
    Run(Option<(u64, u64)>),
    Bits(u64, SetRuns<W>),
}

impl<W: Deref<Target = Words>> Iterator for Parts<W> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        match self {
            Parts::Run(run) => run.take(),
            Parts::Bits(start, runs) => runs.next().map(|(first, len)| (*start + first, len)),
        }
    }
}

/// Joins runs that were cut where one piece ends and the next begins.
struct Joined<I> {
    parts: I,
    held: Option<(u64, u64)>,
}

impl<I: Iterator<Item = (u64, u64)>> Iterator for Joined<I> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        for part in self.parts.by_ref() {
            match &mut self.held {
                Some((first, len)) if *first + *len == part.0 => *len += part.1,
                held => {
                    if let Some(run) = held.replace(part) {
                        return Some(run);
                    }
                }
            }
        }
        self.held.take()
    }
}
