//! `cargo xtask bench`: Leveret, RabbitMQ, nats-server and the null relay under the same load, one after the other, and
//! a table of what they did beside the goals that were set for a reference machine.
//!
//! Machines differ, and so does one machine from day to day. The null relay does the least that anything between a
//! producer and a consumer can do, so a goal is scaled by what the relay reached here over what it reached where the
//! goal was set.

mod disk;
mod family;
mod measure;
mod rows;
mod server;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::measure::{Metric, Sample};
use self::rows::{DISK_REFERENCE, REFERENCE, Reference, Row, Scale};
use self::server::{Programs, System};
use self::table::Speed;
use crate::parts;

/// What `cargo xtask bench` may be told.
#[derive(Args)]
pub struct BenchArgs {
    /// Only the rows of this group (transient, persistent, backlog, start), or whose names contain this
    #[arg(long, value_name = "GROUP|SUBSTRING")]
    rows: Option<String>,
    /// Seconds to measure in each run
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Runs of each row; the table has their medians. Deep backlogs are measured once
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only Leveret and the null relay, which is the measure
    #[arg(long)]
    leveret_only: bool,
    /// Install RabbitMQ and nats-server with apt-get if they are missing
    #[arg(long)]
    install: bool,
}

/// The medians of a row on each system, and what went wrong.
#[derive(Default)]
pub struct Outcome {
    samples: BTreeMap<System, Sample>,
    failures: Vec<String>,
}

/// Builds, measures and prints.
///
/// # Errors
/// When something can't be built, or a row failed on any system: the table is printed before.
pub fn run(args: &BenchArgs) -> Result<()> {
    ensure!(args.runs > 0, "--runs must be at least 1");
    let rows: Vec<&Row> = rows::all().filter(|row| args.rows.as_ref().is_none_or(|text| row.is_called(text))).collect();
    if rows.is_empty() {
        let names: Vec<_> = rows::all().map(|row| format!("  {}: {}", row.group.name(), row.name)).collect();
        bail!("no row matches; the rows are\n{}", names.join("\n"));
    }
    // Before the build, which is a load of its own.
    let machine = table::Machine::here();
    let programs = build()?;
    let systems = systems(args)?;
    let outcomes: Vec<_> = rows.iter().map(|row| measure_row(args, &programs, row, &systems)).collect();
    let speed = Speed {
        processor: speed(args, &programs, &rows, &outcomes, (Scale::Processor, REFERENCE))?,
        disk: speed(args, &programs, &rows, &outcomes, (Scale::Disk, DISK_REFERENCE))?,
    };
    let lines = table::lines(&rows, &outcomes, speed);
    println!("{}", table::render(&machine, &lines));
    if let Some(path) = &args.json {
        let json = table::json(&machine, &lines, &rows, &outcomes)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failures: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.failures).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// The release build, as it is shipped.
fn build() -> Result<Programs> {
    let packages = ["--package", "leveret-server", "--package", "leveret-interop"];
    let status = Command::new(crate::cargo())
        .current_dir(crate::root())
        .args([
            "build",
            "--release",
            "--bin",
            "leveret",
            "--bin",
            "null_relay",
            "--bin",
            "nats_bench",
            "--bin",
            "sdk_bench",
        ])
        .args(packages)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the release build failed");
    Ok(Programs::new(parts::target()?))
}

/// Those that are here, or can be brought here.
fn systems(args: &BenchArgs) -> Result<Vec<System>> {
    let wanted = if args.leveret_only {
        vec![System::Floor, System::Leveret]
    } else {
        vec![System::Floor, System::Nats, System::RabbitMq, System::Leveret]
    };
    let missing: Vec<_> = wanted.iter().filter_map(|system| system.missing_package()).collect();
    if args.install && !missing.is_empty() {
        for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends"]] {
            let packages = if arguments[0] == "install" { &missing[..] } else { &[] };
            let status =
                Command::new("apt-get").args(arguments).args(packages).status().context("cannot run apt-get")?;
            ensure!(status.success(), "apt-get could not install {}", missing.join(" "));
        }
    }
    let (here, absent): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|system| system.missing_package().is_none());
    for system in absent {
        println!("skipped: {}: not installed (use --install)", system.missing_package().unwrap_or_default());
    }
    Ok(here)
}

/// How fast this machine is today beside the one that the goals were set on: by the floor of a reference row, which
/// is measured for this alone if the row wasn't asked for. `None` if no goal depends on it.
fn speed(
    args: &BenchArgs,
    programs: &Programs,
    rows: &[&Row],
    outcomes: &[Outcome],
    (scale, (name, metric, design)): (Scale, Reference),
) -> Result<Option<f64>> {
    let alone;
    let outcome = match rows.iter().position(|row| row.name == name) {
        Some(at) => &outcomes[at],
        None if rows.iter().flat_map(|row| row.outputs).all(|output| !output.follows(scale)) => return Ok(None),
        None => {
            let row = rows::all().find(|row| row.name == name).context("the reference row is missing")?;
            alone = measure_row(args, programs, row, &[System::Floor]);
            &alone
        }
    };
    let floor = outcome.samples.get(&System::Floor).and_then(|sample| sample.get(&metric));
    Ok(floor.map(|floor| floor / design))
}

/// The medians of a row's runs. Systems take turns, so that a machine that is busy for a while is so for all of them.
fn measure_row(args: &BenchArgs, programs: &Programs, row: &Row, systems: &[System]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut values: BTreeMap<(System, Metric), Vec<f64>> = BTreeMap::new();
    for run in 1..=args.runs {
        for &system in systems {
            if !row.runs_on(system) || run > 1 && row.once_on(system) {
                continue;
            }
            match measure::measure(programs, row, system, args.seconds) {
                Ok(sample) => {
                    progress(row, system, run, &sample);
                    for (metric, value) in sample {
                        values.entry((system, metric)).or_default().push(value);
                    }
                }
                Err(error) => outcome.failures.push(format!("{} on {}: {error:#}", row.name, system.name())),
            }
        }
    }
    for ((system, metric), values) in values {
        outcome.samples.entry(system).or_default().insert(metric, median(values));
    }
    outcome
}

fn progress(row: &Row, system: System, run: usize, sample: &Sample) {
    let shown = row.outputs.iter().filter_map(|output| {
        let value = sample.get(&output.metric)?;
        Some(format!("{} {}", output.show(*value), output.unit))
    });
    eprintln!("{}, run {run}, {}: {}", row.name, system.name(), shown.collect::<Vec<_>>().join(", "));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
