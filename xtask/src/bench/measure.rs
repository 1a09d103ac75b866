//! One run of one row on one server.

mod backlog;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::rows::{Engine, Load, Peer, Row};
use super::server::{Programs, Server, System};
use super::{disk, median};

/// What a run gives. Rates are per second, latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    PublishRate,
    ConfirmRate,
    ConsumeRate,
    ConfirmP50,
    ConfirmP99,
    LatencyP50,
    LatencyP99,
    /// Microseconds of the server's CPU per message received, its connections and warm-up included.
    CpuPerMessage,
    /// How far the luckiest or the unluckiest consumer is from an equal share, in percent.
    ShareDeviation,
    /// Of overwriting a page and flushing it, just before and after the load, with no server in between.
    SyncP50,
    /// `ConfirmP50` less `SyncP50`.
    ConfirmBeyondSync,
    /// Bytes written to the disk for each byte of the bodies that were confirmed.
    WrittenPerByte,
    /// MiB written to the disk.
    Written,
    /// `ConfirmP99` before somebody else is loud.
    QuietP99,
    /// `ConfirmP99` over `QuietP99`.
    SlowDown,
    /// What somebody else published meanwhile, in MiB per second.
    LoudRate,
    /// What a plain queue reaches, of messages consumed or else confirmed.
    PlainRate,
    /// `CpuPerMessage` of the same without the SDK.
    PlainCpu,
    /// The rate over `PlainRate`, or the CPU over `PlainCpu`.
    OfPlain,
    FillRate,
    DrainRate,
    /// Resident bytes that a message in a backlog costs.
    BacklogMemory,
    /// MiB of memory without a file behind it that a backlog costs.
    MemoryGrowth,
    /// The same once the server has been killed and started again, over one that has just started on nothing.
    MemoryAfterRestart,
    /// MiB by which the directory has grown.
    DiskGrowth,
    /// Resident KiB that an idle connection costs.
    IdleMemory,
    /// Per cent of a processor while nothing happens.
    IdleCpu,
    /// Milliseconds.
    StartTime,
    /// Milliseconds from the start after a kill until the queues hold what they held.
    RecoveryTime,
}

/// The metrics of a run; a row's load decides which there are.
pub type Sample = BTreeMap<Metric, f64>;

/// A server frees, collects or allocates a little after its last answer.
const SETTLE: Duration = Duration::from_secs(1);
/// A server that has just started prepares files in the background.
const PREPARED: Duration = Duration::from_millis(300);
/// After a load a server may tidy up what it wrote, at times of its own choosing.
const IDLE: Duration = Duration::from_secs(2);
/// How long a load goes on before the server is killed under it.
const BEFORE_KILL: Duration = Duration::from_secs(3);
const MIB: f64 = 1_048_576.0;

/// Starts the server, does what the row says, and ends the server.
///
/// # Errors
/// When the server or the load generator fails.
pub fn measure(programs: &Programs, row: &Row, system: System, seconds: f64) -> Result<Sample> {
    let server = Server::start(programs, system, row.durable())?;
    let start_time = Sample::from([(Metric::StartTime, millis(server.start_time))]);
    if matches!(row.load, Load::Start) {
        return Ok(start_time);
    }
    server.settle(PREPARED)?;
    match &row.load {
        Load::BenchAndNats { size, .. } if system == System::Nats => {
            loaded(&server, row, &mut nats(programs, &server, *size, seconds))
        }
        Load::Bench(options) | Load::BenchAndNats { options, .. } => {
            let mut command = timed(programs, &server, options, seconds);
            if row.shows(Metric::SyncP50) {
                between_syncs(&server, || loaded(&server, row, &mut command))
            } else {
                loaded(&server, row, &mut command)
            }
        }
        Load::Beside { options, loud } => beside(programs, &server, [options, loud], seconds),
        Load::Against { plain, rule } => against(programs, &server, plain, rule, seconds),
        Load::Delayed { count, options } => backlog::delayed(programs, &server, *count, options),
        Load::Backlog(backlog) => backlog::measure(programs, server, row, backlog, system),
        Load::Sdk { engine, options, beside } => sdk(programs, &server, (*engine, options), *beside, seconds),
        Load::Idle { connections } => idle(programs, &server, *connections),
        Load::Start => Ok(start_time),
        Load::StartAfterKill(options) => start_after_kill(programs, server, options),
    }
}

fn timed(programs: &Programs, server: &Server, options: &[&str], seconds: f64) -> Command {
    let mut command = programs.bench(server);
    command.args(["--duration", &seconds.to_string()]).args(options);
    command
}

fn nats(programs: &Programs, server: &Server, size: usize, seconds: f64) -> Command {
    let mut command = Command::new(programs.binary("nats_bench"));
    command.args(["--server", &server.address.to_string(), "--size", &size.to_string()]);
    command.args(["--duration", &seconds.to_string()]);
    command
}

/// Both ends, and the engine unless it is the server, are one process.
fn sdk(
    programs: &Programs,
    server: &Server,
    (engine, options): (Engine, &[&str]),
    beside: Option<Peer>,
    seconds: f64,
) -> Result<Sample> {
    let url = match engine {
        Engine::Memory => "local:".to_string(),
        Engine::Directory => format!("local:{}", programs.fresh_directory("sdk")?.display()),
        Engine::Amqp => format!("amqp://guest:guest@{}", server.address),
    };
    let run = |more: &[&str]| {
        let mut command = Command::new(programs.binary("sdk_bench"));
        sdk_report(command.args(["--url", &url, "--duration", &seconds.to_string()]).args(options).args(more))
    };
    let mut sample = run(&[])?;
    match beside {
        None => {}
        Some(Peer::Bench(options)) => {
            let report = report(&mut timed(programs, server, options, seconds))?;
            let plain = report["consume_rate"].as_f64().filter(|rate| *rate > 0.0).context("nothing came through")?;
            sample.insert(Metric::PlainRate, plain);
            sample.insert(Metric::OfPlain, sample[&Metric::ConsumeRate] / plain);
        }
        Some(Peer::Lapin) => {
            let plain = run(&["--bare"])?[&Metric::CpuPerMessage];
            sample.insert(Metric::PlainCpu, plain);
            sample.insert(Metric::OfPlain, sample[&Metric::CpuPerMessage] / plain);
        }
    }
    Ok(sample)
}

/// What a run of `sdk_bench` says.
fn sdk_report(command: &mut Command) -> Result<Sample> {
    let report = report(command)?;
    let metrics = [
        (Metric::ConsumeRate, "handled_per_second"),
        (Metric::LatencyP50, "latency_p50_us"),
        (Metric::LatencyP99, "latency_p99_us"),
        (Metric::CpuPerMessage, "cpu_us_per_message"),
        (Metric::IdleCpu, "idle_cpu_percent"),
    ];
    Ok(metrics.into_iter().filter_map(|(metric, name)| Some((metric, report[name].as_f64()?))).collect())
}

/// Runs a load generator to its end and reads what it and the kernel say.
fn loaded(server: &Server, row: &Row, command: &mut Command) -> Result<Sample> {
    let (cpu, written) = (server.family()?.cpu_seconds(), server.written()?);
    let report = report(command)?;
    let cpu = server.family()?.cpu_seconds() - cpu;
    let mut sample = Sample::new();
    let mut take = |metric, value: Option<f64>| value.and_then(|value| sample.insert(metric, value));
    take(Metric::PublishRate, report["publish_rate"].as_f64());
    take(Metric::ConfirmRate, report["confirm_rate"].as_f64());
    take(Metric::ConfirmP50, report["confirm_latency_us"]["p50"].as_f64());
    take(Metric::ConsumeRate, report["consume_rate"].as_f64());
    take(Metric::LatencyP50, report["end_to_end_latency_us"]["p50"].as_f64());
    take(Metric::LatencyP99, report["end_to_end_latency_us"]["p99"].as_f64());
    let messages = report["total_consumed"].as_f64().filter(|&messages| messages > 0.0);
    take(Metric::CpuPerMessage, messages.map(|messages| cpu * 1e6 / messages));
    let deviation = |name: &str| report["shares"][name].as_f64().map(|share| (share - 1.0).abs() * 100.0);
    take(Metric::ShareDeviation, deviation("min").zip(deviation("max")).map(|(min, max)| min.max(max)));
    if row.shows(Metric::WrittenPerByte) {
        server.settle(IDLE)?;
        let written = server.written()?.since(written) as f64;
        take(Metric::WrittenPerByte, report["total_published_bytes"].as_f64().map(|bytes| written / bytes));
    }
    Ok(sample)
}

/// What the disk does in the same minute is the measure of what waits for it.
fn between_syncs(server: &Server, load: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let mut syncs = disk::overwriting_syncs(server.directory())?;
    let mut sample = load()?;
    syncs.extend(disk::overwriting_syncs(server.directory())?);
    let sync = median(syncs);
    sample.insert(Metric::SyncP50, sync);
    if let Some(confirm) = sample.get(&Metric::ConfirmP50) {
        sample.insert(Metric::ConfirmBeyondSync, confirm - sync);
    }
    Ok(sample)
}

/// How long confirms take alone, and beside somebody loud.
fn beside(programs: &Programs, server: &Server, options: [&[&str]; 2], seconds: f64) -> Result<Sample> {
    let [options, loud] = options;
    let p99 = |report: Value| report["confirm_latency_us"]["p99"].as_f64().context("nothing was confirmed");
    let quiet = p99(report(&mut timed(programs, server, options, seconds))?)?;
    // It begins before and ends after what it is to disturb.
    let mut loud = timed(programs, server, loud, seconds + 2.0);
    let loud = loud.args(["--queue-prefix", "loud"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    sleep(SETTLE);
    let disturbed = report(&mut timed(programs, server, options, seconds)).and_then(p99);
    let loud = parsed(&loud.wait_with_output()?)?;
    let disturbed = disturbed?;
    let rate = loud["publish_bytes_per_second"].as_f64().context("the loud publisher published nothing")?;
    Ok(Sample::from([
        (Metric::QuietP99, quiet),
        (Metric::ConfirmP99, disturbed),
        (Metric::SlowDown, disturbed / quiet),
        (Metric::LoudRate, rate / MIB),
    ]))
}

/// What a plain queue and what one with rules reaches.
fn against(programs: &Programs, server: &Server, plain: &[&str], rule: &[&str], seconds: f64) -> Result<Sample> {
    let rate = |options: &[&str]| -> Result<f64> {
        let report = report(&mut timed(programs, server, options, seconds))?;
        server.settle(PREPARED)?;
        let name = if options.contains(&"--confirm") { "confirm_rate" } else { "consume_rate" };
        report[name].as_f64().filter(|rate| *rate > 0.0).context("nothing came through")
    };
    let (plain, ruled) = (rate(plain)?, rate(&[plain, rule].concat())?);
    Ok(Sample::from([(Metric::PlainRate, plain), (Metric::ConsumeRate, ruled), (Metric::OfPlain, ruled / plain)]))
}

fn start_after_kill(programs: &Programs, server: Server, options: &[&str]) -> Result<Sample> {
    let mut load = timed(programs, &server, options, 60.0);
    let mut load: Child = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    sleep(BEFORE_KILL);
    ensure!(load.try_wait()?.is_none(), "the load generator failed before the server was killed");
    // The load generator fails with its connections: that isn't what is measured.
    let server = server.restart(programs, || drop(load.wait()))?;
    Ok(Sample::from([(Metric::StartTime, millis(server.start_time))]))
}

fn idle(programs: &Programs, server: &Server, connections: usize) -> Result<Sample> {
    sleep(SETTLE);
    let before = server.family()?.memory();
    let mut command = programs.bench(server);
    command.args(["--idle-connections", &connections.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().context("cannot start leveret bench")?;
    let output = holder.stdout.take().context("leveret bench has no output")?;
    let mut line = String::new();
    let opened = BufReader::new(output).read_line(&mut line);
    sleep(SETTLE);
    let after = server.family();
    // The end of its input ends it.
    drop(holder.stdin.take());
    let status = holder.wait()?;
    if opened? == 0 || !status.success() {
        bail!("leveret bench could not hold {connections} connections: {status}");
    }
    let each = after?.memory().saturating_sub(before) as f64 / connections as f64 / 1024.0;
    Ok(Sample::from([(Metric::IdleMemory, each)]))
}

/// The JSON object that a load generator prints.
fn report(command: &mut Command) -> Result<Value> {
    parsed(&command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?)
}

fn parsed(output: &Output) -> Result<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load generator failed: {}", errors.trim());
    serde_json::from_slice(&output.stdout).context("the load generator's result isn't JSON")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
