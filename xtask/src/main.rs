//! Everything with an `if` in it: `cargo xtask --help` lists what there is.

mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own tasks")]
enum Task {
    /// Check what the project asks of its source: layers, sizes, the code map, wording
    Tidy,
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The table of contents.
fn run(task: Task) -> Result<()> {
    match task {
        Task::Tidy => tidy::run(),
    }
}

/// The repository's root, where every task runs whatever directory it was called from.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// The cargo that runs this, so that tasks use the toolchain they were called with.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}
