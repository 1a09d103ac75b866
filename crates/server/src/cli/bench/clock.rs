//! Time stamps inside message bodies, and the latencies they give.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

/// The wall clock at start plus what the monotonic clock counts from there: never runs backwards within a process,
/// and two processes of one machine agree closely enough to measure from one to the other.
static START: LazyLock<(u64, Instant)> = LazyLock::new(|| {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (wall.as_nanos() as u64, Instant::now())
});

/// A stamp older than this isn't ours: the body of somebody else's message.
const OLDEST: u64 = 3600 * 1_000_000_000;

/// Nanoseconds since the Unix epoch.
pub fn now() -> u64 {
    let (wall, start) = *START;
    wall + start.elapsed().as_nanos() as u64
}

/// Latencies in nanoseconds, collected by one thread.
pub struct Latency {
    /// What was recorded while `recording`.
    pub histogram: Histogram<u64>,
    /// Off during warm-up.
    pub recording: bool,
    /// The time that stamps are compared with; set once per batch, since reading the clock per message would cost more
    /// than the rest of the work on it.
    pub now: u64,
}

impl Latency {
    /// An empty collection.
    pub fn start() -> Self {
        Self { histogram: histogram(), recording: false, now: now() }
    }

    /// Records the time from `stamp`, as found in a message's body, to `now`.
    #[inline(never)]
    pub fn record_stamp(&mut self, stamp: u64) {
        if let Some(nanos) = self.now.checked_sub(stamp).filter(|&nanos| nanos < OLDEST) {
            self.record(nanos);
        }
    }

    /// Records a latency in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        if self.recording {
            self.histogram.saturating_record(nanos);
        }
    }
}

/// From 1 us to an hour with two significant digits: 60 KiB, small enough for one per connection.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, OLDEST, 2).expect("the bounds are valid")
}
