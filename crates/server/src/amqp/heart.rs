//! Heartbeats: whether the client is there, and when it is to be told that we are (specification, section 4.2.7).

use socket2::SockRef;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Without heartbeats, how often idle memory is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// As much unread input is looked at to see whether there is more of it than before. A heartbeat has 8 octets.
const PEEK: usize = 64 * 1024;

/// The heartbeats of one connection.
pub(super) struct Heart {
    /// `None` if none were agreed on.
    interval: Option<Duration>,
    /// Ticks twice an interval.
    pub(super) timer: Interval,
    /// Something was written since the last tick that is no heartbeat of our own.
    wrote: bool,
    /// The next write is a heartbeat.
    beats: bool,
    heard: Instant,
    /// Octets that the client had sent at the last tick and nobody had read.
    unread: usize,
}

impl Heart {
    /// `seconds` between heartbeats, 0 for none.
    pub(super) fn new(seconds: u16) -> Heart {
        let interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let period = interval.map_or(HOUSEKEEPING, |interval| interval / 2);
        let mut timer = tokio::time::interval_at(Instant::now() + period, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Heart { interval, timer, wrote: false, beats: false, heard: Instant::now(), unread: 0 }
    }

    /// Something came from the client, or it could not be heard until now.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// What was written up to now was before its time.
    pub(super) fn begin(&mut self) {
        self.wrote = false;
    }

    /// The client took something of what we have for it.
    pub(super) fn wrote(&mut self) {
        self.wrote |= !std::mem::take(&mut self.beats);
    }

    /// Nothing has come for long enough to tidy up.
    pub(super) fn is_idle(&self) -> bool {
        self.heard.elapsed() > HOUSEKEEPING / 2
    }

    /// At a tick, while input is not read because the client takes no output: it lives if it takes some after all, or
    /// if more has come from it.
    pub(super) fn feel(&mut self, stream: &TcpStream) {
        if self.interval.is_none() {
            return;
        }
        let mut space = Vec::with_capacity(PEEK);
        let unread = SockRef::from(stream).peek(space.spare_capacity_mut()).unwrap_or(0);
        if self.wrote || unread > self.unread {
            self.hear();
        }
        self.unread = unread;
    }

    /// How long the client has been silent, if that is too long.
    pub(super) fn silence(&self) -> Option<Duration> {
        let limit = self.interval? * 2;
        (self.heard.elapsed() > limit).then_some(limit)
    }

    /// At a tick: whether a heartbeat is due, because nothing else was written since the last one.
    pub(super) fn is_due(&mut self) -> bool {
        self.beats = self.interval.is_some() && !self.wrote;
        self.wrote = false;
        self.beats
    }
}
