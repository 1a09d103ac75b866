//! What the threads of a benchmark share.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, PoisonError};

use anyhow::{Result, anyhow};

/// What one connection has done. Written by its thread only, once per batch; on a cache line of its own, so that
/// threads don't slow each other down.
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    /// Messages published or received.
    pub messages: AtomicU64,
    /// Bytes of their bodies.
    pub bytes: AtomicU64,
    /// Publishes that the broker confirmed.
    pub confirmed: AtomicU64,
    /// Publishes that the broker refused.
    pub nacked: AtomicU64,
    /// When `messages` last changed, as [`now`](super::clock::now) counts.
    pub last: AtomicU64,
}

/// One benchmark while it runs.
pub struct Run {
    /// Set by whoever ends the run: everybody else leaves at the next batch.
    pub stop: AtomicBool,
    /// Set while latencies are recorded.
    pub recording: AtomicBool,
    /// Passed when all connections are open.
    pub opened: Barrier,
    /// Passed when all consumers consume.
    pub consuming: Barrier,
    /// One for each producer.
    pub producers: Vec<Counters>,
    /// One for each consumer.
    pub consumers: Vec<Counters>,
    /// Producers that have published all they should.
    pub finished: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl Run {
    /// A run for this many threads, and the one that measures.
    pub fn new(producers: usize, consumers: usize) -> Self {
        let counters = |count| (0..count).map(|_| Counters::default()).collect();
        Self {
            stop: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            opened: Barrier::new(producers + consumers + 1),
            consuming: Barrier::new(producers + consumers + 1),
            producers: counters(producers),
            consumers: counters(consumers),
            finished: AtomicU64::new(0),
            errors: Mutex::default(),
        }
    }

    /// Whether it's time to leave.
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Ends the run because of an error. What fails while everybody is leaving is a consequence and isn't kept.
    pub fn fail(&self, who: &str, error: &anyhow::Error) {
        if !self.stop.swap(true, Relaxed) {
            self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{who}: {error:#}"));
        }
    }

    /// The errors so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum of a counter over connections.
    pub fn sum(counters: &[Counters], value: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        counters.iter().map(|counters| value(counters).load(Relaxed)).sum()
    }
}

/// Whether an error only says that a socket's timeout has passed, or that a signal came.
pub fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Writes all of `bytes`, or says `false` when the run ended while the broker didn't take them. The socket has a write
/// timeout: a broker may block a publisher for as long as it likes.
///
/// # Errors
/// When the connection is gone.
pub fn write_all(stream: &mut TcpStream, mut bytes: &[u8], run: &Run) -> Result<bool> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(anyhow!("the connection to the broker is gone")),
            Ok(size) => bytes = &bytes[size..],
            Err(error) if is_timeout(&error) && run.stopped() => return Ok(false),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(anyhow!(error).context("cannot write to the broker")),
        }
    }
    Ok(true)
}
