//! Which publishes the broker has confirmed. Brokers confirm one by one or many at once, in order or not.

use std::collections::VecDeque;

/// The publishes of one channel in confirm mode.
#[derive(Default)]
pub struct Confirms {
    /// Positive confirms.
    pub confirmed: u64,
    /// Negative ones.
    pub nacked: u64,
    /// All publishes up to this delivery tag are settled.
    base: u64,
    sent: u64,
    /// Settled publishes from `base` + 1 on; the first entry is never settled.
    settled: VecDeque<bool>,
    /// Settled publishes past `base`.
    ahead: u64,
}

impl Confirms {
    /// Publishes that are neither confirmed nor refused.
    pub fn outstanding(&self) -> u64 {
        self.sent - self.base - self.ahead
    }

    /// Every publish up to this delivery tag is settled.
    pub fn settled(&self) -> u64 {
        self.base
    }

    /// Counts publishes that have been written.
    pub fn sent(&mut self, count: u64) {
        self.sent += count;
    }

    /// A basic.ack arrived.
    pub fn acked(&mut self, tag: u64, multiple: bool) {
        self.confirmed += self.settle(tag, multiple);
    }

    /// A basic.nack arrived.
    pub fn nacked(&mut self, tag: u64, multiple: bool) {
        self.nacked += self.settle(tag, multiple);
    }

    /// How many publishes this settles that weren't settled before. Tags that were never sent are ignored.
    fn settle(&mut self, tag: u64, multiple: bool) -> u64 {
        let before = self.base + self.ahead;
        if tag <= self.base || tag > self.sent {
            return 0;
        }
        let position = (tag - self.base) as usize;
        if multiple || position == 1 {
            for _ in 0..position {
                self.ahead -= u64::from(self.settled.pop_front() == Some(true));
            }
            self.base = tag;
            while self.settled.front() == Some(&true) {
                self.settled.pop_front();
                self.base += 1;
                self.ahead -= 1;
            }
        } else {
            if self.settled.len() < position {
                self.settled.resize(position, false);
            }
            let settled = &mut self.settled[position - 1];
            self.ahead += u64::from(!std::mem::replace(settled, true));
        }
        self.base + self.ahead - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_in_any_order_count_once() {
        let mut confirms = Confirms::default();
        confirms.sent(10);
        confirms.acked(3, false);
        confirms.acked(3, false);
        confirms.acked(2, false);
        assert_eq!((confirms.outstanding(), confirms.settled(), confirms.confirmed), (8, 0, 2));
        confirms.acked(1, false);
        assert_eq!((confirms.outstanding(), confirms.settled(), confirms.confirmed), (7, 3, 3));
        confirms.nacked(7, false);
        confirms.acked(8, true);
        assert_eq!((confirms.outstanding(), confirms.settled(), confirms.confirmed), (2, 8, 7));
        assert_eq!(confirms.nacked, 1);
        confirms.acked(11, true);
        confirms.acked(10, false);
        confirms.acked(10, true);
        assert_eq!((confirms.outstanding(), confirms.settled(), confirms.confirmed), (0, 10, 9));
    }

    #[test]
    fn one_by_one_in_order() {
        let mut confirms = Confirms::default();
        for tag in 1..=1000 {
            confirms.sent(1);
            confirms.acked(tag, false);
            assert_eq!((confirms.outstanding(), confirms.settled()), (0, tag));
        }
    }
}
