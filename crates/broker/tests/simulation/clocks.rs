//! The clocks of a simulated machine: one that goes on, and one that is set.

use crate::driver::{Sim, Step};
use crate::random::Random;
use leveret_broker::Environment;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds of both clocks.
#[derive(Debug, Default)]
pub struct Clocks {
    /// Since 1970.
    wall: Arc<AtomicU64>,
    /// Since some beginning.
    elapsed: Arc<AtomicU64>,
    /// Both at the last start of a broker.
    start: (u64, u64),
    /// What random numbers a broker gets.
    counter: Arc<AtomicU64>,
}

impl Clocks {
    pub fn new() -> Clocks {
        Clocks { start: (1_700_000_000_000, 0), ..Clocks::default() }
    }

    /// Of a copy of the machine that has just been started.
    pub fn fork(&self) -> Clocks {
        let (wall, elapsed) = self.start;
        let clocks = Clocks { start: self.start, counter: self.counter.clone(), ..Clocks::default() };
        clocks.wall.store(wall, Ordering::Relaxed);
        clocks.elapsed.store(elapsed, Ordering::Relaxed);
        clocks
    }

    /// A broker is started at this time of day; what goes on begins anew.
    pub fn start(&mut self, wall: u64, random: &mut Random) {
        self.start = (wall, random.below(1_000_000));
        self.wall.store(wall, Ordering::Relaxed);
        self.elapsed.store(self.start.1, Ordering::Relaxed);
    }

    /// What a broker has to hold to be the time, whatever the time of day was set to since its start.
    pub fn now(&self) -> u64 {
        self.start.0 + self.elapsed.load(Ordering::Relaxed) - self.start.1
    }

    pub fn advance(&self, by: u64) {
        self.elapsed.fetch_add(by, Ordering::Relaxed);
        self.wall.fetch_add(by, Ordering::Relaxed);
    }

    /// Somebody sets the time of day.
    pub fn set(&self, wall: u64) {
        self.wall.store(wall, Ordering::Relaxed);
    }

    pub fn environment(&self) -> Environment {
        let (counter, wall, elapsed) = (self.counter.clone(), self.wall.clone(), self.elapsed.clone());
        let random = move || u128::from(Random::new(counter.fetch_add(1, Ordering::Relaxed)).next());
        Environment {
            random: Box::new(random),
            now: Box::new(move || wall.load(Ordering::Relaxed)),
            elapsed: Box::new(move || elapsed.load(Ordering::Relaxed)),
            ticks: true,
        }
    }
}

impl Sim {
    /// Lets time go by, and what is due happen.
    pub fn pass_time(&mut self) -> Step {
        let by = self.random.pick(&[0, 1, 20, 100, 400, 2000, 10_000]);
        self.clocks.advance(by);
        if self.random.chance(10) {
            self.clocks.set(self.random.below(2_000_000_000_000));
        }
        self.model.now = self.clocks.now();
        self.say(|| format!("{by} milliseconds later"));
        self.meet_time();
        Ok(())
    }

    /// Lets happen what is due.
    pub fn meet_time(&mut self) {
        // More is due than is done only if too much waits to be written: then nothing has happened.
        let behind = self.broker().tick();
        self.model.end_leases();
        if !behind {
            self.model.tick();
        }
    }

    /// The time of day at the next start, which may be one that has been.
    pub fn next_run(&mut self) {
        let jump = match self.random.below(10) {
            0..4 => 0,
            4..7 => self.random.below(100) as i64,
            7 => 3000,
            8 => 100_000,
            _ if self.model.has_overdue() => 1,
            _ => -(self.random.pick(&[50, 1000, 20_000]) as i64),
        };
        let wall = self.clocks.now().saturating_add_signed(jump);
        self.clocks.start(wall, &mut self.random);
        self.say(|| format!("the clock is set {jump} milliseconds on"));
    }
}
