//! Choices that a seed repeats.

/// A sequence of numbers from a seed (splitmix64: Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is far below what anybody could notice here.
        if end == 0 { 0 } else { self.number() % end }
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number from `low` to `high`, small ones as likely as large ones at every scale.
    pub fn at_any_scale(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low.max(1)).max(1).ilog2() + 1;
        let scale = low << self.below(doublings.into());
        (scale + self.below(scale)).clamp(low, high)
    }

    /// Another sequence, for somebody else.
    pub fn fork(&mut self) -> Chance {
        Chance(self.number())
    }
}

/// Spreads a number's bits over all of them.
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_choices_and_stays_in_its_bounds() {
        let (mut one, mut other) = (Chance::new(7), Chance::new(7));
        for _ in 0..1000 {
            let chosen = one.at_any_scale(16, 2048);
            assert!((16..=2048).contains(&chosen));
            assert_eq!(chosen, other.at_any_scale(16, 2048));
            assert_eq!(one.below(10), other.below(10));
        }
        assert_ne!(Chance::new(7).number(), Chance::new(8).number());
    }
}
