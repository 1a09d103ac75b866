//! When what failed is tried again.

use std::time::Duration;

/// How often a message is tried, and how long it waits in between: `min` before the second attempt, twice as long before
/// each further one, up to `max`, and each wait shortened at random by any part of it, so that what failed together does not come
/// back together ("full jitter": Brooker, Exponential Backoff And Jitter, 2015).
///
/// ```
/// use leveret::RetryPolicy;
/// use std::time::Duration;
///
/// const PATIENT: RetryPolicy = RetryPolicy { attempts: 50, max: Duration::from_secs(3600), ..RetryPolicy::DEFAULT };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the second attempt, without jitter.
    pub min: Duration,
    /// Between two attempts, at most.
    pub max: Duration,
    /// Attempts in all. When the last one has failed, the message goes to the dead-letter queue.
    pub attempts: u32,
}

impl RetryPolicy {
    /// 10 attempts, 1 second to 10 minutes apart.
    pub const DEFAULT: RetryPolicy =
        RetryPolicy { min: Duration::from_secs(1), max: Duration::from_secs(600), attempts: 10 };

    /// The first failure is the last.
    pub const NEVER: RetryPolicy = RetryPolicy { attempts: 1, ..RetryPolicy::DEFAULT };

    /// # Panics
    /// If it makes no sense.
    pub(crate) const fn check(&self) {
        assert!(self.attempts >= 1, "a message is tried at least once");
        assert!(self.min.as_millis() >= 1, "RetryPolicy::min is at least a millisecond");
        assert!(self.min.as_millis() <= self.max.as_millis(), "RetryPolicy::min is more than RetryPolicy::max");
        assert!(self.max.as_secs() <= 365 * 24 * 3600, "RetryPolicy::max is more than a year");
    }
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy::DEFAULT
    }
}
