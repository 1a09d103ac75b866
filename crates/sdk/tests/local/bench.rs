//! What the tests look at, and how they wait for it.

use leveret::Bus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What handlers have seen.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("nobody panics with it").push(what.into());
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panics with it"))
    }

    /// Waits until so much was seen, and takes it.
    pub async fn wait(&self, count: usize) -> Vec<String> {
        until(|| self.0.lock().expect("nobody panics with it").len() >= count).await;
        self.take()
    }
}

/// Waits for something that happens soon.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// As [`until`], asking the bus.
pub async fn until_backlog<T>(bus: &Bus, subscription: &leveret::Subscription<T>, expected: (u64, u64, u64)) {
    let start = Instant::now();
    loop {
        let backlog = bus.backlog(subscription).await.expect("it was declared");
        let found = (backlog.ready, backlog.waiting, backlog.dead);
        if found == expected {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{found:?} ready, waiting and dead, expected {expected:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
