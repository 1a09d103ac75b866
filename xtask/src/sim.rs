//! `cargo xtask sim`: the simulation of crates/broker/tests/simulation with as many seeds as one has time for.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

/// What `cargo xtask sim` may be told.
#[derive(Args)]
pub struct SimArgs {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
}

pub fn run(args: &SimArgs) -> Result<()> {
    let mut command = seeds(args.first, args.seeds);
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("the simulation failed; the seeds are above and in crates/broker/tests/simulation/seeds.txt");
    }
    Ok(())
}

/// Runs seeds one after the other in a release build, and says every few seconds how far it is.
pub fn seeds(first: u64, count: u64) -> Command {
    let mut command = simulation(&[]);
    command.env("LEVERET_SIM_FIRST", first.to_string()).env("LEVERET_SIM_SEEDS", count.to_string());
    command.arg("seeds::");
    command
}

/// A crash at every call of the disk, and what the simulated disk and the judge are checked by themselves.
pub fn rest() -> Command {
    let mut command = simulation(&[]);
    command.args(["--skip", "seeds::"]);
    command
}

/// Defects put in on purpose, each of which has to be found.
pub fn mutants() -> Command {
    let mut command = simulation(&["--features", "mutants"]);
    command.arg("mutants::");
    command
}

fn simulation(arguments: &[&str]) -> Command {
    let mut command = Command::new(crate::cargo());
    command.current_dir(crate::root()).args([
        "test",
        "--release",
        "--package",
        "leveret-broker",
        "--test",
        "simulation",
    ]);
    command.args(arguments).args(["--", "--nocapture"]);
    command
}
