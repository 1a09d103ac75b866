//! How fast things go, and how they went: counters and gauges are looked at every few seconds, and two looks make a rate.
//!
//! Everything has a rate; the past is kept for the whole broker, and for queues that somebody has asked about lately.

mod collect;
mod history;
mod meter;

pub use collect::{COUNTS, GAUGES, QUEUE_VALUES, Whole, counts_of, queue_values};
pub use history::{Age, History, Range, Span};
pub use meter::{Meter, Meters};

use crate::server::Server;
use leveret_broker::Distribution;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at everything, as in RabbitMQ.
const STEP: Duration = Duration::from_secs(5);

/// Between two looks at the totals, if they cost little.
const TOTALS_STEP: Duration = Duration::from_secs(1);

/// A look that took some time is followed by this many times as long without one: half a percent of a processor.
const PAUSE: u32 = 200;

/// Queues of which the past is kept.
const HISTORIES_MAX: usize = 128;

/// Milliseconds after which nobody is taken to be interested in a queue's past any more.
const FORGOTTEN: u64 = 3_600_000;

/// A queue or exchange: its virtual host and its name.
pub type Place = (Arc<str>, Arc<str>);

/// What is known about speeds.
#[derive(Debug, Default)]
pub struct Rates {
    state: Mutex<State>,
    /// How long confirms took, up to the last look.
    confirms: Mutex<Distribution>,
}

#[derive(Debug, Default)]
struct State {
    totals: Meter<{ Whole::LEN }>,
    past: History<{ Whole::LEN }>,
    queues: Meters<Place, QUEUE_VALUES>,
    exchanges: Meters<Place, 3>,
    vhosts: Meters<Arc<str>, QUEUE_VALUES>,
    connections: Meters<u64, 2>,
    channels: Meters<(u64, u16), { COUNTS.len() }>,
    histories: FxHashMap<Place, Watched>,
}

/// The past of a queue that somebody has asked about.
#[derive(Debug, Default)]
struct Watched {
    asked_at: u64,
    past: History<QUEUE_VALUES>,
}

impl Rates {
    /// Looks at everything for as long as it is polled.
    pub async fn run(self: Arc<Self>, server: Arc<Server>) {
        let mut last_full: Option<Instant> = None;
        loop {
            let begin = Instant::now();
            let full = last_full.is_none_or(|last| begin.duration_since(last) >= STEP - TOTALS_STEP / 2);
            if full {
                last_full = Some(begin);
            }
            let (rates, looked_at) = (self.clone(), server.clone());
            // A panic in there is told by the runtime; the next look may go better.
            let _ = tokio::task::spawn_blocking(move || rates.look(&looked_at, full)).await;
            tokio::time::sleep(TOTALS_STEP.max(begin.elapsed() * PAUSE)).await;
        }
    }

    /// Looks at the totals, and with `full` at everything.
    pub fn look(&self, server: &Server, full: bool) {
        let now = super::now();
        // Nobody who asks waits for this lock.
        let looked = collect::look(server, &mut self.confirms.lock());
        let mut state = self.state.lock();
        state.totals.update(now, looked.whole.values());
        state.past.add(now, looked.whole.values());
        if full {
            state.queues.update_all(now, looked.queues.iter().map(|(place, values)| (place, *values)));
            state.exchanges.update_all(now, looked.exchanges.iter().map(|(place, values)| (place, *values)));
            state.vhosts.update_all(now, looked.vhosts.iter().map(|(name, values)| (name, *values)));
            state.connections.update_all(now, looked.connections.iter().map(|(id, values)| (id, *values)));
            state.channels.update_all(now, looked.channels.iter().map(|(id, values)| (id, *values)));
            state.histories.retain(|_, watched| now.saturating_sub(watched.asked_at) < FORGOTTEN);
            if !state.histories.is_empty() {
                for (place, values) in &looked.queues {
                    if let Some(watched) = state.histories.get_mut(place) {
                        watched.past.add(now, *values);
                    }
                }
            }
        }
    }

    /// The totals at the last look, and how fast they change.
    pub fn totals(&self) -> Meter<{ Whole::LEN }> {
        self.state.lock().totals
    }

    /// How the totals were.
    pub fn past(&self, age: Age) -> Span<{ Whole::LEN }> {
        self.state.lock().past.span(age, super::now())
    }

    /// How fast a queue's counters and lengths change.
    pub fn queue(&self, place: &Place) -> [f32; QUEUE_VALUES] {
        self.state.lock().queues.rate(place)
    }

    /// How the totals were, for a chart.
    pub fn points(&self, range: Range) -> Vec<(u64, [u64; Whole::LEN])> {
        self.state.lock().past.points(range)
    }

    /// How a queue was. Its past is kept from the first time on that somebody asks.
    pub fn queue_past(&self, place: &Place, age: Age, values: [u64; QUEUE_VALUES]) -> Span<QUEUE_VALUES> {
        let now = super::now();
        self.state.lock().watched(place, now, values).span(age, now)
    }

    /// How a queue was, for a chart.
    pub fn queue_points(
        &self,
        place: &Place,
        range: Range,
        values: [u64; QUEUE_VALUES],
    ) -> Vec<(u64, [u64; QUEUE_VALUES])> {
        self.state.lock().watched(place, super::now(), values).points(range)
    }

    /// How fast messages go through an exchange: in, out, and nowhere.
    pub fn exchange(&self, place: &Place) -> [f32; 3] {
        self.state.lock().exchanges.rate(place)
    }

    /// A virtual host's counters and lengths at the last look, and how fast they change.
    pub fn vhost(&self, name: &Arc<str>) -> Meter<QUEUE_VALUES> {
        self.state.lock().vhosts.get(name)
    }

    /// Bytes per second from and to a client.
    pub fn connection(&self, id: u64) -> [f32; 2] {
        self.state.lock().connections.rate(&id)
    }

    /// How fast a channel's counters change.
    pub fn channel(&self, connection: u64, number: u16) -> [f32; COUNTS.len()] {
        self.state.lock().channels.rate(&(connection, number))
    }
}

impl State {
    /// The past of a queue in which somebody is interested now.
    fn watched(&mut self, place: &Place, now: u64, values: [u64; QUEUE_VALUES]) -> &History<QUEUE_VALUES> {
        if !self.histories.contains_key(place) && self.histories.len() >= HISTORIES_MAX {
            let oldest = self.histories.iter().min_by_key(|(_, watched)| watched.asked_at);
            if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
                self.histories.remove(&oldest);
            }
        }
        let watched = self.histories.entry(place.clone()).or_insert_with(|| {
            let mut past = History::default();
            past.add(now, values);
            Watched { asked_at: now, past }
        });
        watched.asked_at = now;
        &watched.past
    }
}
