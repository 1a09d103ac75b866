//! What was confirmed, and what was handled: a number each.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Clones are the same ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    confirmed: Vec<u64>,
    failed: Vec<String>,
    /// How often each was handled, and how often what its handler has published was.
    handled: HashMap<u64, u64>,
    followed: HashMap<u64, u64>,
}

/// One number in so many has its handler publish something.
pub const FOLLOWED: u64 = 5;

impl Ledger {
    /// A publisher was told that it is safe.
    pub fn confirm(&self, number: u64) {
        self.lock().confirmed.push(number);
    }

    /// A publisher was told that it may be lost.
    pub fn fail(&self, why: String) {
        self.lock().failed.push(why);
    }

    /// A handler has seen it.
    pub fn handle(&self, number: u64) {
        *self.lock().handled.entry(number).or_default() += 1;
    }

    /// What a handler has published was seen.
    pub fn follow(&self, number: u64) {
        *self.lock().followed.entry(number).or_default() += 1;
    }

    /// Confirmed so far.
    pub fn confirmed(&self) -> usize {
        self.lock().confirmed.len()
    }

    /// Waits until everything that was confirmed was handled, with what follows from it; what is missing then.
    pub async fn settle(&self, patience: Duration) -> Vec<u64> {
        let start = Instant::now();
        loop {
            let missing = self.missing();
            if missing.is_empty() || start.elapsed() > patience {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn missing(&self) -> Vec<u64> {
        let entries = self.lock();
        let is_missing = |number: &u64| {
            !entries.handled.contains_key(number)
                || number.is_multiple_of(FOLLOWED) && !entries.followed.contains_key(number)
        };
        entries.confirmed.iter().copied().filter(is_missing).collect()
    }

    /// Why publishing has failed.
    pub fn failures(&self) -> Vec<String> {
        self.lock().failed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.lock();
        let twice = |counts: &HashMap<u64, u64>| counts.values().filter(|count| **count > 1).count();
        write!(
            f,
            "{} confirmed, {} failed, {} handled ({} more than once), {} followed ({} more than once)",
            entries.confirmed.len(),
            entries.failed.len(),
            entries.handled.len(),
            twice(&entries.handled),
            entries.followed.len(),
            twice(&entries.followed)
        )
    }
}
