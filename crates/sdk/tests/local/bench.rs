//! A bus whose broker's time goes by only when a test says so.

use leveret::Bus;
use leveret::local::LocalDriver;
use leveret_broker::{Broker, Environment, Limits};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Bench {
    pub bus: Bus,
    broker: Broker,
    clock: Arc<AtomicU64>,
}

impl Bench {
    pub fn new() -> Bench {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let (now, elapsed, system) = (clock.clone(), clock.clone(), Environment::system());
        let environment = Environment {
            random: system.random,
            now: Box::new(move || now.load(Ordering::Relaxed)),
            elapsed: Box::new(move || elapsed.load(Ordering::Relaxed)),
            ticks: true,
        };
        let broker = Broker::new(Limits::default(), environment);
        Bench { bus: Bus::with_driver(LocalDriver::new(&broker, false)), broker, clock }
    }

    /// Lets time go by, and what is due happen.
    pub fn advance(&self, by: Duration) {
        self.clock.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        while self.broker.tick() {}
    }
}

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
