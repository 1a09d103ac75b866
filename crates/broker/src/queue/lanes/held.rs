//! Which messages hold their keys: they were handed out, or wait for their next attempt.

use super::keys::KeyId;
use rustc_hash::FxHashMap;

/// Positions in a piece. A message alone in its piece costs about 300 bytes.
const PIECE: u64 = 64;

/// The keys of some positions.
#[derive(Debug)]
struct Piece {
    /// Bits of those that hold a key, and of those of them that wait.
    held: u64,
    waiting: u64,
    keys: [KeyId; PIECE as usize],
}

/// Keys by position.
#[derive(Debug, Default)]
pub(super) struct Held {
    pieces: FxHashMap<u64, Box<Piece>>,
    /// One that became empty, for the next.
    spare: Option<Box<Piece>>,
}

/// Messages in a row that hold the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) position: u64,
    pub(super) count: u64,
    pub(super) key: KeyId,
    pub(super) waiting: bool,
}

impl Held {
    /// Notes messages that hold no key yet.
    pub(super) fn insert(&mut self, hold: Hold) {
        for position in hold.position..hold.position + hold.count {
            let spare = &mut self.spare;
            let piece = self.pieces.entry(position / PIECE).or_insert_with(|| {
                let empty = || Box::new(Piece { held: 0, waiting: 0, keys: [0; PIECE as usize] });
                spare.take().unwrap_or_else(empty)
            });
            let at = position % PIECE;
            piece.held |= 1 << at;
            piece.waiting |= u64::from(hold.waiting) << at;
            piece.keys[at as usize] = hold.key;
        }
    }

    /// Takes the first messages out of `first .. end` that hold a key.
    pub(super) fn take(&mut self, first: u64, end: u64) -> Option<Hold> {
        let mut taken: Option<Hold> = None;
        let mut at = first;
        while at < end && !self.pieces.is_empty() {
            let number = at / PIECE;
            let until = end.min((number + 1) * PIECE);
            let Some(piece) = self.pieces.get_mut(&number) else {
                if taken.is_some() {
                    break;
                }
                at = until;
                continue;
            };
            let goes_on = piece.take(number * PIECE, at, until, &mut taken);
            if piece.held == 0 {
                self.spare = self.pieces.remove(&number);
            }
            if !goes_on {
                break;
            }
            at = until;
        }
        taken
    }
}

impl Piece {
    /// Takes those of `from .. until`; false if what was taken ends here.
    fn take(&mut self, base: u64, from: u64, until: u64, taken: &mut Option<Hold>) -> bool {
        let mut at = from;
        while at < until {
            let bit = at - base;
            let is_held = self.held >> bit & 1 != 0;
            if !is_held && taken.is_none() {
                let ahead = self.held >> bit;
                at = (at + u64::from(ahead.trailing_zeros())).min(until);
                continue;
            }
            let (key, waiting) = (self.keys[bit as usize], self.waiting >> bit & 1 != 0);
            match taken {
                Some(hold) if !is_held || (hold.key, hold.waiting) != (key, waiting) => return false,
                Some(hold) => hold.count += 1,
                None => *taken = Some(Hold { position: at, count: 1, key, waiting }),
            }
            self.held &= !(1 << bit);
            self.waiting &= !(1 << bit);
            at += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_as_a_map_from_position_to_key(
            steps in proptest::collection::vec((0u64..300, 1u64..100, 0u32..3, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let (mut held, mut model) = (Held::default(), BTreeMap::new());
            for (first, count, key, waiting, take) in steps {
                if !take {
                    for position in first..first + count {
                        model.entry(position).or_insert_with(|| {
                            held.insert(Hold { position, count: 1, key, waiting });
                            (key, waiting)
                        });
                    }
                    continue;
                }
                let mut at = first;
                while let Some(hold) = held.take(at, first + count) {
                    for position in hold.position..hold.position + hold.count {
                        prop_assert_eq!(model.remove(&position), Some((hold.key, hold.waiting)));
                    }
                    at = hold.position + hold.count;
                }
                prop_assert_eq!(model.range(first..first + count).next(), None);
            }
            prop_assert_eq!(held.pieces.is_empty(), model.is_empty());
        }
    }
}
