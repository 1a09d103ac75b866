//! A load on the SDK, in one process: what publishes, the engine if it is `local:`, and what handles.
//!
//! Events are JSON of about 100 bytes. Latency is from before an event is encoded until its handler begins.

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use futures_core::Stream;
use lapin::BasicProperties;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use leveret::{App, Bus, Outcome, State, Subscription, Topic};
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Publish and handle events as fast as the SDK can; prints one JSON object.
#[derive(Parser)]
struct Args {
    /// The engine.
    #[arg(long, default_value = "local:")]
    url: String,
    /// What is done.
    #[arg(long, value_enum, default_value = "single")]
    mode: Mode,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    duration: f64,
    /// Seconds to run before measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Tasks that publish. Each waits for the confirm of what it has published.
    #[arg(long, default_value_t = 4)]
    publishers: usize,
    /// Events in a batch.
    #[arg(long, default_value_t = 500)]
    batch: u16,
    /// Events that may be published and not handled.
    #[arg(long, default_value_t = 100_000)]
    ahead: u64,
    /// Do the same as `--mode single` with lapin alone, on a URL that begins with `amqp:`.
    #[arg(long)]
    bare: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    /// One event after the other, and a handler for each.
    Single,
    /// Many events at once, and a handler for many.
    Batch,
    /// An event every millisecond.
    Latency,
    /// Ten thousand events that fail at first, and wait.
    Waiting,
}

#[derive(Serialize, Deserialize)]
struct Event {
    number: u64,
    /// Nanoseconds since the program began.
    made: u64,
    text: String,
}

static TOPIC: Topic<Event> = Topic::new("bench");
/// How many wait, and for how long.
const WAITING: u64 = 10_000;
const WAIT: Duration = Duration::from_secs(3600);

static ONE: Subscription<Event> = TOPIC.subscription("load").concurrency(256);
static MANY: Subscription<Event> = TOPIC.subscription("load").concurrency(4);

#[derive(Clone)]
struct Run(Arc<Counts>);

struct Counts {
    begin: Instant,
    published: AtomicU64,
    handled: AtomicU64,
    stop: AtomicBool,
    /// By microseconds, up to the last one.
    latencies: Vec<AtomicU64>,
}

impl Run {
    fn event(&self, number: u64) -> Event {
        let made = self.0.begin.elapsed().as_nanos() as u64;
        Event { number, made, text: "an event of about a hundred bytes in all, as they are".to_string() }
    }

    fn handled(&self, events: &[Event]) {
        let now = self.0.begin.elapsed().as_nanos() as u64;
        for event in events {
            let micros = (now.saturating_sub(event.made) / 1000) as usize;
            self.0.latencies[micros.min(self.0.latencies.len() - 1)].fetch_add(1, Relaxed);
        }
        self.0.handled.fetch_add(events.len() as u64, Relaxed);
    }

    fn percentile(&self, part: f64) -> u64 {
        let counts: Vec<u64> = self.0.latencies.iter().map(|count| count.load(Relaxed)).collect();
        let (total, mut seen) = (counts.iter().sum::<u64>() as f64, 0);
        let reached = |count: &u64| {
            seen += count;
            seen as f64 >= total * part
        };
        counts.iter().position(reached).unwrap_or(0) as u64
    }
}

async fn one(event: Event, State(run): State<Run>) {
    run.handled(&[event]);
}

async fn fails(event: Event, State(run): State<Run>) -> Outcome {
    run.handled(&[event]);
    Outcome::RetryAfter("not now".into(), WAIT)
}

async fn many(events: Vec<Event>, State(run): State<Run>) {
    run.handled(&events);
}

/// Publishes until it is told to stop. With `bare`, on a channel of lapin in place of the bus.
async fn publish(args: Arc<Args>, bus: Bus, bare: Option<lapin::Channel>, run: Run) -> Result<()> {
    let counts = &run.0;
    while !counts.stop.load(Relaxed) {
        let published = counts.published.load(Relaxed);
        if published.saturating_sub(counts.handled.load(Relaxed)) > args.ahead {
            tokio::time::sleep(Duration::from_micros(200)).await;
            continue;
        }
        if let Some(channel) = &bare {
            publish_bare(channel, &run.event(published)).await?;
            counts.published.fetch_add(1, Relaxed);
            continue;
        }
        let count = match args.mode {
            Mode::Single | Mode::Waiting => {
                TOPIC.publish(&bus, &run.event(published)).await?;
                1
            }
            Mode::Batch => {
                let events: Vec<_> = (0..args.batch.into()).map(|number| run.event(published + number)).collect();
                TOPIC.publish_all(&bus, &events).await?;
                events.len() as u64
            }
            Mode::Latency => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                TOPIC.publish(&bus, &run.event(published)).await?;
                1
            }
        };
        counts.published.fetch_add(count, Relaxed);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Arc::new(Args::parse());
    let bus = Bus::open(&args.url).await?;
    let latencies = (0..1_000_000).map(|_| AtomicU64::new(0)).collect();
    let (published, handled, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let run = Run(Arc::new(Counts { begin: Instant::now(), published, handled, stop, latencies }));
    let app = App::new(&bus).state(run.clone());
    if args.mode == Mode::Waiting {
        return waiting(&args, &bus, run).await;
    }
    let app = match args.mode {
        Mode::Batch => app.handle_batch(&MANY, (args.batch, Duration::from_millis(1)), many),
        Mode::Single | Mode::Latency | Mode::Waiting => app.handle(&ONE, one),
    };
    let bare = if args.bare { Some(handle_bare(&args.url, run.clone()).await?) } else { None };
    let app = if args.bare { App::new(&bus) } else { app };
    let app = app.start().await?;
    let publishers = if args.mode == Mode::Latency { 1 } else { args.publishers };
    let tasks: Vec<_> =
        (0..publishers).map(|_| tokio::spawn(publish(args.clone(), bus.clone(), bare.clone(), run.clone()))).collect();
    tokio::time::sleep(Duration::from_secs_f64(args.warm_up)).await;
    run.0.latencies.iter().for_each(|count| count.store(0, Relaxed));
    let (start, before, cpu) = (Instant::now(), run.0.handled.load(Relaxed), cpu()?);
    tokio::time::sleep(Duration::from_secs_f64(args.duration)).await;
    let (seconds, handled) = (start.elapsed().as_secs_f64(), run.0.handled.load(Relaxed) - before);
    let cpu = self::cpu()? - cpu;
    run.0.stop.store(true, Relaxed);
    for task in tasks {
        task.await??;
    }
    app.drain().await?;
    println!(
        "{{\"handled_per_second\": {:.0}, \"latency_p50_us\": {}, \"latency_p99_us\": {}, \"cpu_us_per_message\": {:.3}}}",
        handled as f64 / seconds,
        run.percentile(0.5),
        run.percentile(0.99),
        cpu * 1e6 / handled.max(1) as f64
    );
    bus.close().await?;
    Ok(())
}

/// Where `--bare` publishes to.
const BARE: &str = "sdk-bench-bare";

/// Handles what comes to a durable queue, as the SDK does it, and gives the channel to publish on, with confirms.
async fn handle_bare(url: &str, run: Run) -> Result<lapin::Channel> {
    let connect = || lapin::Connection::connect(url, lapin::ConnectionProperties::default());
    let (publishing, consuming) = (connect().await?.create_channel().await?, connect().await?.create_channel().await?);
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    consuming.queue_declare(BARE.into(), durable, FieldTable::default()).await?;
    consuming.queue_purge(BARE.into(), QueuePurgeOptions::default()).await?;
    consuming.basic_qos(256, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = consuming.basic_consume(BARE.into(), "".into(), options, FieldTable::default()).await?;
    tokio::spawn(async move {
        // Also to keep the channel.
        let _consuming = consuming;
        while let Some(Ok(delivery)) = poll_fn(|context| Pin::new(&mut consumer).poll_next(context)).await {
            let event: Event = serde_json::from_slice(&delivery.data)?;
            run.handled(&[event]);
            delivery.ack(BasicAckOptions::default()).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    Ok(publishing)
}

/// Publishes a persistent event and waits for its confirm.
async fn publish_bare(channel: &lapin::Channel, event: &Event) -> Result<()> {
    let (options, body) = (BasicPublishOptions::default(), serde_json::to_vec(event)?);
    let properties = BasicProperties::default().with_delivery_mode(2);
    channel.basic_publish("".into(), BARE.into(), options, &body, properties).await?.await?;
    Ok(())
}

/// Lets events fail once, and then nothing happens.
async fn waiting(args: &Args, bus: &Bus, run: Run) -> Result<()> {
    let app = App::new(bus).state(run.clone()).handle(&ONE, fails).start().await?;
    let events: Vec<_> = (0..WAITING).map(|number| run.event(number)).collect();
    TOPIC.publish_all(bus, &events).await?;
    while bus.backlog(&ONE).await?.waiting < WAITING {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs_f64(args.warm_up)).await;
    let (start, before) = (Instant::now(), cpu()?);
    tokio::time::sleep(Duration::from_secs_f64(args.duration)).await;
    println!("{{\"idle_cpu_percent\": {:.3}}}", (cpu()? - before) / start.elapsed().as_secs_f64() * 100.0);
    app.drain().await?;
    Ok(bus.clone().close().await?)
}

/// Seconds of processor time of this process: proc(5), fields 14 and 15 of stat, in ticks of 10 ms.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("no name")?.1.split(' ').skip(11).take(2);
    let ticks: Vec<u64> = fields.map(|field| field.parse()).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}
