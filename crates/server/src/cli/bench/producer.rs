//! A producer: one connection, one thread. Confirms are read when the window is full, on the same thread: a second
//! one would add the time of waking it to every confirm.

use std::collections::VecDeque;
use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use leveret_wire::frame;
use leveret_wire::method::{Method, confirm};

use super::args::{BenchArgs, Plan};
use super::clock::{self, Latency};
use super::confirms::Confirms;
use super::pool::Pool;
use super::run::{self, Run};
use super::topology;
use crate::cli::client::{self, Connection};

/// How often a producer that waits for the broker looks whether the run is over.
const IDLE: Duration = Duration::from_millis(100);

/// Publishes until the run stops or everything is published; returns the confirm latencies.
///
/// # Errors
/// When the connection fails or the broker ends it.
pub fn publish(args: &BenchArgs, plan: &Plan, run: &Run, index: usize, mut connection: Connection) -> Result<Latency> {
    let outcome = select_confirms(args, &mut connection);
    let pool = Pool::new(args, plan, index, connection.frame_max);
    run.opened.wait();
    run.consuming.wait();
    outcome?;
    let (stream, _) = connection.into_parts();
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut producer = Producer {
        args,
        run,
        index,
        pool,
        stream,
        confirms: Confirms::default(),
        sent: VecDeque::new(),
        latency: Latency::start(),
        published: 0,
        bytes: 0,
        left: share(args.count, index, plan.producer_keys.len()),
        pace: args.rate.map(|rate| Pace { start: Instant::now(), rate: rate / plan.producer_keys.len() as f64 }),
        input: vec![0; 65536],
        filled: 0,
    };
    let clean = match producer.run() {
        Ok(clean) => clean,
        Err(error) => return Err(producer.why_closed(error)),
    };
    let mut connection = Connection::from_parts(producer.stream, producer.input[..producer.filled].to_vec());
    if clean && args.count.is_some() && args.confirm == 0 {
        // Written isn't taken in: the broker's answer to a question on the same channel is.
        topology::depth(&mut connection, &plan.queues[index % plan.queues.len()])?;
        run.producers[index].last.store(clock::now(), Relaxed);
    }
    run.finished.fetch_add(1, Relaxed);
    if clean {
        connection.close();
    }
    Ok(producer.latency)
}

fn select_confirms(args: &BenchArgs, connection: &mut Connection) -> Result<()> {
    if args.confirm > 0 {
        let select = confirm::Select { nowait: false };
        connection.call(select.into(), |method| matches!(method, Method::ConfirmSelectOk(_)).then_some(()))?;
    }
    Ok(())
}

/// The part of `count` messages that one of several producers publishes.
fn share(count: Option<u64>, index: usize, producers: usize) -> u64 {
    let Some(count) = count else { return u64::MAX };
    let (index, producers) = (index as u64, producers as u64);
    count / producers + u64::from(index < count % producers)
}

/// A steady rate.
struct Pace {
    start: Instant,
    /// Messages per second.
    rate: f64,
}

impl Pace {
    /// How many messages should have been sent by now.
    fn due(&self) -> u64 {
        (self.start.elapsed().as_secs_f64() * self.rate) as u64
    }

    /// Sleeps until message number `published` is due, at most as long as a stop may go unnoticed.
    fn sleep(&self, published: u64) {
        let at = Duration::from_secs_f64((published + 1) as f64 / self.rate);
        std::thread::sleep(at.saturating_sub(self.start.elapsed()).min(IDLE));
    }
}

struct Producer<'r> {
    args: &'r BenchArgs,
    run: &'r Run,
    index: usize,
    pool: Pool,
    stream: TcpStream,
    confirms: Confirms,
    /// The last tag of a batch and when it was written, for the confirm latency.
    sent: VecDeque<(u64, u64)>,
    latency: Latency,
    published: u64,
    bytes: u64,
    /// Messages still to publish.
    left: u64,
    pace: Option<Pace>,
    input: Vec<u8>,
    filled: usize,
}

impl Producer<'_> {
    /// Whether the connection is between two frames at the end, so that it can be closed in good order.
    fn run(&mut self) -> Result<bool> {
        while self.left > 0 && !self.run.stopped() {
            let mut most = self.left;
            if self.args.confirm > 0 {
                let window = self.args.confirm - self.confirms.outstanding();
                if window == 0 {
                    self.read_confirms()?;
                    continue;
                }
                most = most.min(window);
            }
            if let Some(pace) = &self.pace {
                let due = pace.due().saturating_sub(self.published);
                if due == 0 && self.confirms.outstanding() > 0 {
                    // Read before sleeping: the time a confirm lies in the socket is not the broker's.
                    self.read_confirms()?;
                    continue;
                }
                if due == 0 {
                    pace.sleep(self.published);
                    continue;
                }
                most = most.min(due);
            }
            if !self.write_batch(most)? {
                return Ok(false);
            }
        }
        while self.left == 0 && self.confirms.outstanding() > 0 && !self.run.stopped() {
            self.read_confirms()?;
        }
        Ok(true)
    }

    fn write_batch(&mut self, most: u64) -> Result<bool> {
        let batch = self.pool.next(most, self.args.batch);
        let now = clock::now();
        let bytes = self.pool.stamped(&batch, now);
        let written = run::write_all(&mut self.stream, bytes, self.run)?;
        self.pool.unstamp(&batch);
        self.left -= batch.len();
        self.published += batch.len();
        self.bytes += batch.body_bytes;
        if self.args.confirm > 0 {
            self.confirms.sent(batch.len());
            self.sent.push_back((self.published, now));
        }
        let counters = &self.run.producers[self.index];
        counters.messages.store(self.published, Relaxed);
        counters.bytes.store(self.bytes, Relaxed);
        counters.last.store(now, Relaxed);
        Ok(written)
    }

    /// Waits for confirms and takes all that have arrived.
    fn read_confirms(&mut self) -> Result<()> {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(size) => self.filled += size,
            Err(error) if run::is_timeout(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let now = clock::now();
        let mut used = 0;
        while let Some((frame, size)) = frame::parse(&self.input[used..self.filled], client::FRAME_MAX)? {
            if frame.kind == frame::METHOD {
                match Method::decode(frame.payload)? {
                    Method::BasicAck(ack) => self.confirms.acked(ack.delivery_tag, ack.multiple),
                    Method::BasicNack(nack) => self.confirms.nacked(nack.delivery_tag, nack.multiple),
                    _ => client::refuse_unexpected(&self.input[used..used + size])?,
                }
            }
            used += size;
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.latency.recording = self.run.recording.load(Relaxed);
        while let Some(&(_, at)) = self.sent.front().filter(|(tag, _)| *tag <= self.confirms.settled()) {
            self.sent.pop_front();
            self.latency.record(now.saturating_sub(at));
        }
        let counters = &self.run.producers[self.index];
        counters.confirmed.store(self.confirms.confirmed, Relaxed);
        counters.nacked.store(self.confirms.nacked, Relaxed);
        counters.last.store(now, Relaxed);
        Ok(())
    }

    /// When writing fails, the broker's reason may still be there to be read.
    fn why_closed(&mut self, error: anyhow::Error) -> anyhow::Error {
        for _ in 0..5 {
            match self.read_confirms() {
                Ok(()) => {}
                Err(reason) if reason.downcast_ref::<std::io::Error>().is_none() => {
                    return reason.context(error.to_string());
                }
                Err(_) => break,
            }
        }
        error
    }
}
