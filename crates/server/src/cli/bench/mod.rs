//! `leveret bench`: a load generator for any AMQP 0-9-1 broker.
//!
//! One thread for each connection, blocking sockets, frames encoded before the start, one write per batch and no
//! allocation per message: on a small machine it shares the cores with the broker, and must not be the bottleneck.

mod args;
mod clock;
mod confirms;
mod consumer;
mod idle;
mod pool;
mod producer;
mod report;
mod run;
mod scan;
mod topology;

use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

pub use args::BenchArgs;
use args::Plan;
use clock::Latency;
pub use confirms::Confirms;
use report::{Count, Percentiles, Report, Shares};
use run::Run;

use crate::cli::client::Connection;
use crate::cli::print;

/// With --count, a run in which nothing moves for so long has failed.
const STALLED: Duration = Duration::from_secs(30);

/// Runs a benchmark and prints what it found.
///
/// # Errors
/// When options contradict each other, the broker can't be reached, or anything failed during the run.
pub fn bench(mut args: BenchArgs) -> Result<()> {
    if let Some(connections) = args.idle_connections {
        return idle::hold(&args, connections);
    }
    if args.drain_only {
        args.warm_up = 0.0;
    }
    let plan = Plan::new(&args)?;
    let mut control = Connection::open(&args.url)?;
    if args.declare_only {
        topology::declare(&mut control, &args, &plan)?;
        control.close();
        return Ok(());
    }
    if let Some(count) = args.await_backlog {
        return topology::await_backlog(&mut control, &plan, count);
    }
    if args.drain_only {
        let waiting = topology::backlog(&mut control, &plan)?;
        let count = *args.count.get_or_insert(waiting);
        if waiting < count {
            bail!("the queues hold {waiting} messages, not {count}: fill them with --fill-only");
        }
    } else if !args.declared {
        topology::declare(&mut control, &args, &plan)?;
    }
    let outcome = measure(&args, &plan, &control.broker);
    if !args.fill_only {
        topology::delete(&mut control, &plan)?;
    }
    control.close();
    let report = outcome?;
    print(&if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.to_string() })?;
    match report.errors.first() {
        Some(error) => bail!("the benchmark failed: {error}"),
        None => Ok(()),
    }
}

fn measure(args: &BenchArgs, plan: &Plan, broker: &str) -> Result<Report> {
    let run = Run::new(plan.producer_keys.len(), plan.consumer_queues.len());
    let open = |count| (0..count).map(|_| Connection::open(&args.url)).collect::<Result<Vec<_>>>();
    let consumers = open(run.consumers.len()).context("cannot open all consumers")?;
    let producers = open(run.producers.len()).context("cannot open all producers")?;
    let cpu = generator_cpu();
    thread::scope(|scope| {
        let run = &run;
        let consumers: Vec<_> = (0..)
            .zip(consumers)
            .map(|(i, connection)| {
                let work = move || consumer::consume(args, plan, run, i, connection);
                scope.spawn(move || guarded(run, format!("consumer {i}"), work))
            })
            .collect();
        let producers: Vec<_> = (0..)
            .zip(producers)
            .map(|(i, connection)| {
                let work = move || producer::publish(args, plan, run, i, connection);
                scope.spawn(move || guarded(run, format!("producer {i}"), work))
            })
            .collect();
        run.opened.wait();
        let start = clock::now();
        run.consuming.wait();
        let mut report = match args.count {
            Some(count) => measure_count(args, plan, run, count, start),
            None => measure_duration(args, run),
        };
        run.stop.store(true, Relaxed);
        report.broker = broker.to_owned();
        report.confirm_latency_us = Percentiles::of(&merged(producers));
        report.end_to_end_latency_us = Percentiles::of(&merged(consumers));
        report.nacked = Run::sum(&run.producers, |counters| &counters.nacked);
        report.total_published = Run::sum(&run.producers, |counters| &counters.messages);
        report.total_published_bytes = Run::sum(&run.producers, |counters| &counters.bytes);
        report.total_consumed = Run::sum(&run.consumers, |counters| &counters.messages);
        report.generator_cpu_seconds = generator_cpu().zip(cpu).map(|(after, before)| after - before);
        report.errors = run.errors();
        Ok(report)
    })
}

/// Runs a connection's work; its error ends the run.
fn guarded(run: &Run, who: String, work: impl FnOnce() -> Result<Latency>) -> Option<Latency> {
    work().map_err(|error| run.fail(&who, &error)).ok()
}

fn merged(threads: Vec<ScopedJoinHandle<'_, Option<Latency>>>) -> Histogram<u64> {
    let mut all = clock::histogram();
    for thread in threads {
        // A thread that panicked has said so on standard error already.
        if let Ok(Some(latency)) = thread.join() {
            all += latency.histogram;
        }
    }
    all
}

/// Sums over all connections at one moment.
struct Snapshot {
    at: Instant,
    published: u64,
    published_bytes: u64,
    confirmed: u64,
    received: Vec<u64>,
    received_bytes: u64,
}

impl Snapshot {
    fn take(run: &Run) -> Self {
        Self {
            at: Instant::now(),
            published: Run::sum(&run.producers, |counters| &counters.messages),
            published_bytes: Run::sum(&run.producers, |counters| &counters.bytes),
            confirmed: Run::sum(&run.producers, |counters| &counters.confirmed),
            received: run.consumers.iter().map(|counters| counters.messages.load(Relaxed)).collect(),
            received_bytes: Run::sum(&run.consumers, |counters| &counters.bytes),
        }
    }

    fn consumed(&self) -> u64 {
        self.received.iter().sum()
    }

    /// What happened since `earlier`, when publishing and consuming took so many seconds.
    fn since(&self, earlier: &Self, publishing: f64, consuming: f64) -> Report {
        let rate = |now: u64, before: u64, seconds: f64| (now - before) as f64 / seconds.max(1e-9);
        let received: Vec<_> = self.received.iter().zip(&earlier.received).map(|(now, before)| now - before).collect();
        Report {
            seconds: publishing.max(consuming),
            published: self.published - earlier.published,
            consumed: received.iter().sum(),
            publish_rate: rate(self.published, earlier.published, publishing),
            confirm_rate: rate(self.confirmed, earlier.confirmed, publishing),
            consume_rate: rate(self.consumed(), earlier.consumed(), consuming),
            publish_bytes_per_second: rate(self.published_bytes, earlier.published_bytes, publishing),
            consume_bytes_per_second: rate(self.received_bytes, earlier.received_bytes, consuming),
            shares: Shares::of(&received),
            ..Report::default()
        }
    }
}

fn measure_duration(args: &BenchArgs, run: &Run) -> Report {
    let mut progress = Progress::new(Some(args.warm_up + args.duration));
    progress.watch(run, Instant::now() + Duration::from_secs_f64(args.warm_up), "warming up");
    let before = Snapshot::take(run);
    run.recording.store(true, Relaxed);
    progress.watch(run, before.at + Duration::from_secs_f64(args.duration), "measuring");
    let after = Snapshot::take(run);
    let seconds = (after.at - before.at).as_secs_f64();
    after.since(&before, seconds, seconds)
}

fn measure_count(args: &BenchArgs, plan: &Plan, run: &Run, count: u64, start: u64) -> Report {
    let mut progress = Progress::new(None);
    run.recording.store(true, Relaxed);
    let expected = if args.fill_only {
        0
    } else if args.drain_only {
        count
    } else {
        count * plan.copies
    };
    let (mut moved, mut moved_at) = (0, Instant::now());
    let after = loop {
        progress.watch(run, Instant::now() + Duration::from_millis(20), "counting");
        let snapshot = Snapshot::take(run);
        let finished = run.finished.load(Relaxed) == run.producers.len() as u64;
        if finished && snapshot.consumed() >= expected || run.stopped() {
            break snapshot;
        }
        if moved != snapshot.published + snapshot.confirmed + snapshot.consumed() {
            moved = snapshot.published + snapshot.confirmed + snapshot.consumed();
            moved_at = snapshot.at;
        } else if moved_at.elapsed() > STALLED {
            let consumed = snapshot.consumed();
            run.fail("stalled", &anyhow::anyhow!("{consumed} of {expected} messages arrived, and then none for 30 s"));
        }
    };
    let seconds = |counters: &[run::Counters]| {
        let last = counters.iter().map(|counters| counters.last.load(Relaxed)).max().unwrap_or(0);
        last.saturating_sub(start) as f64 / 1e9
    };
    let zero = Snapshot {
        at: after.at,
        published: 0,
        published_bytes: 0,
        confirmed: 0,
        received: vec![0; after.received.len()],
        received_bytes: 0,
    };
    after.since(&zero, seconds(&run.producers), seconds(&run.consumers))
}

/// One line on a terminal, renewed every second. On anything else indicatif draws nothing.
struct Progress {
    bar: ProgressBar,
    start: Instant,
    last: Snapshot,
}

impl Progress {
    fn new(seconds: Option<f64>) -> Self {
        let bar = match seconds {
            Some(seconds) => ProgressBar::new(seconds.ceil() as u64).with_style(
                ProgressStyle::with_template("{bar:20} {pos}/{len} s  {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            ),
            None => ProgressBar::new_spinner(),
        };
        let nothing = Snapshot::take(&Run::new(0, 0));
        Self { bar, start: Instant::now(), last: nothing }
    }

    /// Waits until `end`, or until the run stops.
    fn watch(&mut self, run: &Run, end: Instant, phase: &str) {
        while Instant::now() < end && !run.stopped() {
            thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
            if self.last.at.elapsed() >= Duration::from_secs(1) {
                let now = Snapshot::take(run);
                let seconds = (now.at - self.last.at).as_secs_f64();
                let rate = |now: u64, before: u64| Count((now - before) as f64 / seconds);
                self.bar.set_message(format!(
                    "{phase}: {}/s published, {}/s confirmed, {}/s consumed",
                    rate(now.published, self.last.published),
                    rate(now.confirmed, self.last.confirmed),
                    rate(now.consumed(), self.last.consumed()),
                ));
                self.bar.set_position(self.start.elapsed().as_secs());
                self.last = now;
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds of CPU that this process has used, from /proc: in clock ticks, which are a hundredth of a second for
/// programs on every Linux.
fn generator_cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may contain anything; user and system time are the 14th and 15th field.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
