//! `cargo xtask soak`: what finds the rare and takes longer than the minutes that `cargo xtask test` may take.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::fuzz;
use crate::parts::{self, Outcome, Part, Run};

/// What each fuzz target is given before a release.
const FUZZ_RUNS: u64 = 10_000_000;

/// How often the broker is killed before a release.
const KILLS: &str = "1000";

const PARTS: &[Part] = &[
    Part { name: "fuzz", about: "ten million inputs for each fuzz target of the wire codec", run: fuzz_wire },
    Part { name: "sdk", about: "fifty kills with the SDK on both sides, the broker away for up to 30 s", run: sdk },
    Part { name: "crash", about: "a thousand times kill -9 under load, and what is left", run: crash },
];

/// What `cargo xtask soak` may be told.
#[derive(Args)]
pub struct SoakArgs {
    /// Only these parts
    part: Vec<String>,
}

pub fn run(args: &SoakArgs) -> Result<ExitCode> {
    parts::run("soak", &[PARTS], &args.part, false)
}

fn fuzz_wire(run: &Run) -> Result<Outcome> {
    fuzz::fuzz(FUZZ_RUNS, None, &|command| run.command(command))?;
    Ok(Outcome::Passed)
}

fn sdk(run: &Run) -> Result<Outcome> {
    crate::test::chaos(run, &["--deeds", "50", "--away", "30000"])?;
    Ok(Outcome::Passed)
}

fn crash(run: &Run) -> Result<Outcome> {
    crate::test::kill(run, &["--cycles", KILLS])?;
    Ok(Outcome::Passed)
}
