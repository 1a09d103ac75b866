//! Everything with an `if` in it: `cargo xtask --help` lists what there is.

mod bench;
mod browser;
mod codegen;
mod fuzz;
mod parts;
mod readme;
mod servers;
mod sim;
mod soak;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own tasks")]
enum Task {
    /// Everything that is checked before a change is merged, part by part
    Test(test::TestArgs),
    /// Check what the project asks of its source: layers, sizes, the code map, wording
    Tidy,
    /// Write the protocol's methods into crates/wire from the protocol's definition
    Codegen {
        /// Only say whether the committed files are up to date
        #[arg(long)]
        check: bool,
    },
    /// Measure Leveret beside RabbitMQ, NATS and the floor of this machine
    Bench(bench::BenchArgs),
    /// What takes longer than minutes: millions of fuzz executions, a thousand crashes
    Soak(soak::SoakArgs),
    /// Run the fuzz targets of the wire codec
    Fuzz(fuzz::FuzzArgs),
    /// Run the broker on a simulated disk that fails, seed by seed
    Sim(sim::SimArgs),
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The table of contents.
fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test(args) => return test::run(&args),
        Task::Tidy => tidy::run()?,
        Task::Codegen { check } => codegen::run(check)?,
        Task::Bench(args) => bench::run(&args)?,
        Task::Soak(args) => return soak::run(&args),
        Task::Fuzz(args) => fuzz::run(&args)?,
        Task::Sim(args) => sim::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The repository's root, where every task runs whatever directory it was called from.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// The cargo that runs this, so that tasks use the toolchain they were called with.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}
