//! The past of some numbers: ten minutes, an hour and a day, each with as many points as a chart has room for.

use std::collections::VecDeque;

/// Seconds between points, and how many are kept: ten minutes (and a little), an hour, a day.
const RINGS: [(u64, usize); 3] = [(5, 122), (30, 122), (300, 290)];

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Ten minutes.
    Minutes,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Range {
    /// How far it goes back, in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Range::Minutes => 600,
            Range::Hour => 3600,
            Range::Day => 86_400,
        }
    }

    /// Seconds between its points.
    pub fn step(self) -> u64 {
        RINGS[self as usize].0
    }
}

/// Snapshots of numbers, at three distances.
#[derive(Debug)]
pub struct History<const N: usize>([VecDeque<Point<N>>; 3]);

#[derive(Clone, Copy, Debug)]
struct Point<const N: usize> {
    at: u64,
    values: [u64; N],
}

/// What part of the past is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Seconds back from now.
    pub seconds: u64,
    /// Seconds between samples.
    pub step: u64,
}

/// Values at equal distances, the newest first.
#[derive(Clone, Debug)]
pub struct Span<const N: usize> {
    /// Milliseconds since 1970, and the values then.
    pub samples: Vec<(u64, [u64; N])>,
}

impl<const N: usize> Default for History<N> {
    fn default() -> History<N> {
        History(Default::default())
    }
}

impl<const N: usize> History<N> {
    /// Another snapshot. It is kept wherever the last one is old enough.
    pub fn add(&mut self, now: u64, values: [u64; N]) {
        for (ring, (seconds, count)) in self.0.iter_mut().zip(RINGS) {
            // Looks are not to the millisecond.
            let due = ring.back().is_none_or(|last| now.saturating_sub(last.at) + 500 >= seconds * 1000);
            if due {
                if ring.len() == count {
                    ring.pop_front();
                }
                ring.push_back(Point { at: now, values });
            }
        }
    }

    /// The points of a range, the oldest first: when, in milliseconds since 1970, and what.
    pub fn points(&self, range: Range) -> Vec<(u64, [u64; N])> {
        self.0[range as usize].iter().map(|point| (point.at, point.values)).collect()
    }

    /// Samples at multiples of the step. What is older than the past that is known was 0, as in RabbitMQ; nothing is known of
    /// what was never looked at.
    pub fn span(&self, age: Age, now: u64) -> Span<N> {
        let covers = |(seconds, count): (u64, usize)| seconds * count as u64 >= age.seconds;
        let at = RINGS.iter().position(|ring| covers(*ring)).unwrap_or(RINGS.len() - 1);
        let (ring, step) = (&self.0[at], age.step.max(1) * 1000);
        let newest = now / step * step;
        let mut samples = Vec::new();
        if ring.is_empty() {
            return Span { samples };
        }
        let mut back = ring.iter().rev().peekable();
        for at in (0..=age.seconds / age.step.max(1)).map_while(|i| newest.checked_sub(i * step)) {
            // The last look that was not later.
            while back.peek().is_some_and(|point| point.at > at) {
                back.next();
            }
            samples.push((at, back.peek().map_or([0; N], |point| point.values)));
        }
        Span { samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_at_multiples_of_the_step_and_were_0_before() {
        let mut history = History::<1>::default();
        assert_eq!(history.span(Age { seconds: 60, step: 20 }, 1_099_000).samples, []);
        for second in 0..100 {
            history.add(1_000_000 + second * 1000, [second]);
        }
        let span = history.span(Age { seconds: 60, step: 20 }, 1_099_000);
        let seen: Vec<_> = span.samples.iter().map(|(at, [value])| (at / 1000, *value)).collect();
        assert_eq!(seen, [(1080, 80), (1060, 60), (1040, 40), (1020, 20)]);
        let span = history.span(Age { seconds: 600, step: 50 }, 1_099_000);
        let seen: Vec<_> = span.samples.iter().map(|(at, [value])| (at / 1000, *value)).take(4).collect();
        assert_eq!(seen, [(1050, 50), (1000, 0), (950, 0), (900, 0)]);
        assert_eq!(span.samples.len(), 13);
    }
}
