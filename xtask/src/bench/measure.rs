//! One run of one row on one server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::rows::{Load, Row};
use super::server::{Programs, Server, System};

/// What a run gives. Rates are per second, latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    PublishRate,
    ConfirmRate,
    ConsumeRate,
    ConfirmP50,
    LatencyP50,
    LatencyP99,
    /// Microseconds of the server's CPU per message received, its connections and warm-up included.
    CpuPerMessage,
    /// How far the luckiest or the unluckiest consumer is from an equal share, in percent.
    ShareDeviation,
    FillRate,
    DrainRate,
    /// Resident bytes that a message in a backlog costs.
    BacklogMemory,
    /// Resident KiB that an idle connection costs.
    IdleMemory,
    /// Milliseconds.
    StartTime,
}

/// The metrics of a run; a row's load decides which there are.
pub type Sample = BTreeMap<Metric, f64>;

/// RabbitMQ takes a minute and a half to fill with five million messages, and no different rate.
const RABBITMQ_BACKLOG: u64 = 1_000_000;
/// A server frees, collects or allocates a little after its last answer.
const SETTLE: Duration = Duration::from_secs(1);

/// Starts the server, does what the row says, and ends the server.
///
/// # Errors
/// When the server or the load generator fails.
pub fn measure(programs: &Programs, row: &Row, system: System, seconds: f64) -> Result<Sample> {
    let server = Server::start(programs, system)?;
    match row.load {
        Load::BenchAndNats { size, .. } if system == System::Nats => nats(programs, &server, size, seconds),
        Load::Bench(options) | Load::BenchAndNats { options, .. } => bench(programs, &server, options, seconds),
        Load::Backlog { count, options } => {
            let count = if system == System::RabbitMq { count.min(RABBITMQ_BACKLOG) } else { count };
            backlog(programs, &server, count, options)
        }
        Load::Idle { connections } => idle(programs, &server, connections),
        Load::Start => Ok(Sample::from([(Metric::StartTime, server.start_time.as_secs_f64() * 1e3)])),
    }
}

fn bench(programs: &Programs, server: &Server, options: &[&str], seconds: f64) -> Result<Sample> {
    let mut command = programs.bench(server);
    command.args(["--duration", &seconds.to_string()]).args(options);
    loaded(server, &mut command)
}

fn nats(programs: &Programs, server: &Server, size: usize, seconds: f64) -> Result<Sample> {
    let mut command = Command::new(programs.binary("nats_bench"));
    command.args(["--server", &server.address.to_string(), "--size", &size.to_string()]);
    command.args(["--duration", &seconds.to_string()]);
    loaded(server, &mut command)
}

/// Runs a load generator to its end and reads what it and the kernel say.
fn loaded(server: &Server, command: &mut Command) -> Result<Sample> {
    let before = server.cpu_seconds()?;
    let report = report(command)?;
    let cpu = server.cpu_seconds()? - before;
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
    Ok(sample)
}

fn backlog(programs: &Programs, server: &Server, count: u64, options: &[&str]) -> Result<Sample> {
    let phase = |phase: &str, rate: &str| {
        let mut command = programs.bench(server);
        command.args([phase, "--count", &count.to_string()]).args(options);
        report(&mut command)?[rate].as_f64().context("the load generator reports no rate")
    };
    let before = server.memory()?;
    let fill = phase("--fill-only", "publish_rate")?;
    sleep(SETTLE);
    let memory = server.memory()?.saturating_sub(before) as f64 / count as f64;
    let drain = phase("--drain-only", "consume_rate")?;
    Ok(Sample::from([(Metric::FillRate, fill), (Metric::DrainRate, drain), (Metric::BacklogMemory, memory)]))
}

fn idle(programs: &Programs, server: &Server, connections: usize) -> Result<Sample> {
    sleep(SETTLE);
    let before = server.memory()?;
    let mut command = programs.bench(server);
    command.args(["--idle-connections", &connections.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().context("cannot start leveret bench")?;
    let output = holder.stdout.take().context("leveret bench has no output")?;
    let mut line = String::new();
    let opened = BufReader::new(output).read_line(&mut line);
    sleep(SETTLE);
    let after = server.memory();
    // The end of its input ends it.
    drop(holder.stdin.take());
    let status = holder.wait()?;
    if opened? == 0 || !status.success() {
        bail!("leveret bench could not hold {connections} connections: {status}");
    }
    let each = after?.saturating_sub(before) as f64 / connections as f64 / 1024.0;
    Ok(Sample::from([(Metric::IdleMemory, each)]))
}

/// The JSON object that a load generator prints.
fn report(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load generator failed: {}", errors.trim());
    serde_json::from_slice(&output.stdout).context("the load generator's result isn't JSON")
}
