//! A backlog: messages published with nobody consuming, perhaps a kill and a start, and then a consumer.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::disk;
use super::super::rows::{Backlog, Row};
use super::super::server::{Programs, Server, System};
use super::{IDLE, MIB, Metric, SETTLE, Sample, millis, report};

/// Fills, restarts if that is asked for, and drains.
///
/// # Errors
/// When the server or the load generator fails, or not everything is there after a restart.
pub fn measure(programs: &Programs, server: Server, row: &Row, backlog: &Backlog, system: System) -> Result<Sample> {
    let count = if system == System::RabbitMq { backlog.count_on_rabbitmq } else { backlog.count };
    // What is tidied up after a load belongs to it, but only what writes to the disk can be waited for.
    let quiet = if row.durable() { IDLE } else { SETTLE };
    let load = Load { programs, row, backlog, count, quiet };
    // Queues are made before, so that only messages are measured.
    load.done(&server, &["--declare-only"])?;
    server.settle(quiet)?;
    let empty = server.family()?.anonymous_memory();
    let mut sample = Sample::new();
    if count > 0 {
        load.fill(&server, empty, &mut sample)?;
    }
    let server = if backlog.restart { load.restart(server, empty, &mut sample)? } else { server };
    if count > 0 {
        load.drain(&server, &mut sample)?;
    }
    Ok(sample)
}

/// Publishes messages that wait for their time, and looks what they cost.
///
/// # Errors
/// When the server or the load generator fails.
pub fn delayed(programs: &Programs, server: &Server, count: u64, options: &[&str]) -> Result<Sample> {
    server.settle(IDLE)?;
    let (memory, disk) = (server.family()?.anonymous_memory(), disk::used(server.directory())?);
    let mut command = programs.bench(server);
    let report = report(command.args(["--fill-only", "--count", &count.to_string()]).args(options))?;
    // What waits is written to files of its own meanwhile, and what was written in segments is merged.
    server.settle(2 * IDLE)?;
    let mib = |after: u64, before: u64| after.saturating_sub(before) as f64 / MIB;
    Ok(Sample::from([
        (Metric::FillRate, report["publish_rate"].as_f64().context("nothing was published")?),
        (Metric::MemoryGrowth, mib(server.family()?.anonymous_memory(), memory)),
        (Metric::DiskGrowth, mib(disk::used(server.directory())?, disk)),
    ]))
}

struct Load<'r> {
    programs: &'r Programs,
    row: &'r Row,
    backlog: &'r Backlog,
    /// Messages published.
    count: u64,
    /// How long nothing is written when a server is idle.
    quiet: Duration,
}

impl Load<'_> {
    /// `empty` is the server's memory without a file behind it, before.
    fn fill(&self, server: &Server, empty: u64, sample: &mut Sample) -> Result<()> {
        let (memory, written) = (server.family()?.memory(), server.written()?);
        let mut command = self.bench(server, &["--fill-only", "--declared", "--count", &self.count.to_string()]);
        let report = report(command.args(self.backlog.fill))?;
        server.settle(self.quiet)?;
        let (after, written) = (server.family()?, server.written()?.since(written) as f64);
        let memory = after.memory().saturating_sub(memory) as f64;
        let bytes = report["total_published_bytes"].as_f64().context("nothing was published")?;
        sample.extend([
            (Metric::FillRate, report["publish_rate"].as_f64().context("nothing was published")?),
            (Metric::BacklogMemory, memory / self.count as f64),
            (Metric::MemoryGrowth, after.anonymous_memory().saturating_sub(empty) as f64 / MIB),
            (Metric::Written, written / MIB),
            (Metric::WrittenPerByte, written / bytes),
        ]);
        Ok(())
    }

    /// Kills the server, has the kernel forget its files, and starts it again. Everything has to be there.
    fn restart(&self, server: Server, empty: u64, sample: &mut Sample) -> Result<Server> {
        let mut start = Instant::now();
        let server = server.restart(self.programs, || {
            if !disk::drop_caches() {
                eprintln!("{}: only root can empty the kernel's caches, so it starts on warm ones", self.row.name);
            }
            start = Instant::now();
        })?;
        let expected = (self.count * self.backlog.copies).to_string();
        self.done(&server, &["--await-backlog", &expected])?;
        sample.insert(Metric::RecoveryTime, millis(start.elapsed()));
        sample.insert(Metric::StartTime, millis(server.start_time));
        server.settle(self.quiet)?;
        let grown = server.family()?.anonymous_memory().saturating_sub(empty);
        sample.insert(Metric::MemoryAfterRestart, grown as f64 / MIB);
        Ok(server)
    }

    fn drain(&self, server: &Server, sample: &mut Sample) -> Result<()> {
        let report = report(self.bench(server, &["--drain-only"]).args(self.backlog.drain))?;
        let expected = self.count * self.backlog.copies;
        ensure!(report["consumed"] == expected, "{} messages of {expected} could be consumed", report["consumed"]);
        sample.insert(Metric::DrainRate, report["consume_rate"].as_f64().context("nothing was consumed")?);
        Ok(())
    }

    /// A command that only has to succeed.
    fn done(&self, server: &Server, options: &[&str]) -> Result<()> {
        let output = self.bench(server, options).stdin(Stdio::null()).output().context("cannot run leveret bench")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "leveret bench {} failed: {}", options.join(" "), errors.trim());
        Ok(())
    }

    fn bench(&self, server: &Server, options: &[&str]) -> Command {
        let mut command = self.programs.bench(server);
        command.args(options).args(self.backlog.options);
        command
    }
}
