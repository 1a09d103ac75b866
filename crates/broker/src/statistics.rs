//! What the broker as a whole tells of itself.

use crate::counters::{ExchangeCounters, QueueTotals};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A broker at one moment, and what happened in it since it was started.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// When it was started, in milliseconds since 1970.
    pub started: u64,
    /// Bytes that messages hold in memory.
    pub memory: u64,
    /// Bytes that they may hold, from [`crate::Limits`].
    pub memory_limit: u64,
    /// Publishers are blocked because of the memory.
    pub memory_alarm: bool,
    /// Publishers are blocked because of the disk.
    pub disk_alarm: bool,
    /// Why nothing is confirmed any more, if the log has failed.
    pub failure: Option<String>,
    /// Sessions that are open.
    pub sessions: usize,
    /// What happened in all queues, also in those that are gone.
    pub queues: QueueTotals,
    /// What happened in all exchanges, also in those that are gone.
    pub exchanges: ExchangeCounters,
    /// Messages that were confirmed.
    pub confirmed: u64,
    /// How long messages waited for the log before they were confirmed; those that had not to wait are not in it.
    pub confirm_latency: Distribution,
    /// What is durable; `None` in a broker that keeps nothing.
    pub disk: Option<DiskStatistics>,
}

/// A durable broker's log and files.
#[derive(Clone, Debug)]
pub struct DiskStatistics {
    /// Bytes that can still be written; `None` if the system does not tell.
    pub free: Option<u64>,
    /// Bytes that must be free, from [`crate::Limits`].
    pub min_free: u64,
    /// How long syncs of the log took.
    pub sync_time: Distribution,
    /// Bytes of messages that came into the log since the start: bodies with their properties, exchanges and keys.
    pub messages_in: u64,
    /// Bytes of the log that were written since the start.
    pub log_written: u64,
    /// Bytes that were written to all files since the start, the log among them: also those that merge old messages, and
    /// those that prepare files.
    pub written: u64,
    /// Bytes that were read from all files since the start.
    pub read: u64,
    /// Bytes of the log that are on their way to the disk.
    pub pending: u64,
    /// The files, by what their names end with: a file and bytes of each kind.
    pub files: Vec<FileUse>,
    /// What the start found and took.
    pub recovery: RecoveryStatistics,
}

/// Files of a kind in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileUse {
    /// What their names end with: `log` are segments of the log, also those that are kept to be written over, `merged` are
    /// messages of old segments, `index`, `checkpoint` and `times` what docs/format.md says.
    pub kind: String,
    /// How many there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a start found and took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryStatistics {
    /// The time until everything could be used.
    pub time: Duration,
    /// Durable queues.
    pub queues: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of the log that had to be replayed.
    pub replayed: u64,
    /// Bytes at the end of the log that were never confirmed and did not survive.
    pub torn: u64,
    /// Places that are damaged.
    pub damaged: u64,
}

impl DiskStatistics {
    /// Bytes written for each byte of a message; `None` as long as there was none.
    pub fn write_amplification(&self) -> Option<f64> {
        (self.messages_in > 0).then(|| self.written as f64 / self.messages_in as f64)
    }
}

/// How often something took how long, in buckets whose bounds grow by a fifth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How often, by bucket; see [`Distribution::bound`]. Empty if never.
    pub buckets: Vec<u64>,
    /// How often in all.
    pub count: u64,
    /// The sum of all times.
    pub sum: Duration,
}

/// Buckets of a distribution. The last one has no bound.
const BUCKETS: usize = 4 * 26 + 1;

/// Below this, all is one: microseconds.
const LEAST: f64 = 1.0;

impl Distribution {
    /// What is in a bucket took at most this long: 1 us in the first, and a quarter of an octave more in each, up to a minute.
    /// `None` for the last one, which has no bound.
    pub fn bound(bucket: usize) -> Option<Duration> {
        (bucket + 1 < BUCKETS).then(|| Duration::from_nanos(bound_nanos(bucket)))
    }

    /// This part of all took no longer; `part` is in `0.0 ..= 1.0`. The bound of its bucket: up to a fifth too much. `None` if
    /// there is none, or no bound.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = (part.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Distribution::bound(bucket)
    }
}

fn bound_nanos(bucket: usize) -> u64 {
    (LEAST * 1000.0 * 2f64.powf(bucket as f64 / 4.0)).round() as u64
}

/// A [`Distribution`] that several threads add to.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Something took so long so many times.
    pub(crate) fn record(&self, time: Duration, times: u64) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].fetch_add(times, Ordering::Relaxed);
        self.sum.fetch_add(nanos.saturating_mul(times), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Distribution {
        let buckets: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count = buckets.iter().sum();
        let buckets = if count == 0 { Vec::new() } else { buckets };
        Distribution { buckets, count, sum: Duration::from_nanos(self.sum.load(Ordering::Relaxed)) }
    }
}

/// The first bucket whose bound is not below.
fn bucket_of(nanos: u64) -> usize {
    let (mut low, mut high) = (0, BUCKETS - 1);
    while low < high {
        let middle = (low + high) / 2;
        if bound_nanos(middle) < nanos { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_is_in_the_bucket_of_the_next_bound(nanos in prop_oneof![0..5000u64, any::<u32>().prop_map(u64::from), any::<u64>()]) {
            let bucket = bucket_of(nanos);
            let time = Duration::from_nanos(nanos);
            prop_assert!(Distribution::bound(bucket).is_none_or(|bound| time <= bound));
            prop_assert!(bucket == 0 || Distribution::bound(bucket - 1).is_some_and(|bound| bound < time));
        }
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), None);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros), 2);
        }
        let read = histogram.read();
        assert_eq!((read.count, read.sum), (2000, Duration::from_micros(1000 * 1001)));
        for (part, expected) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = read.quantile(part).expect("there are some").as_secs_f64() * 1e6;
            assert!(told >= expected && told < expected * 1.2, "{part}: {told} us for {expected}");
        }
        histogram.record(Duration::from_secs(100), 100_000);
        assert_eq!(histogram.read().quantile(1.0), None, "what is beyond all bounds has none");
    }
}
