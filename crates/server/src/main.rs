//! The executable `leveret`: the broker, and commands that talk to one.

mod cli;
mod serve;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A publish/subscribe broker that speaks AMQP 0-9-1.
///
/// Without a command it serves: programs written for RabbitMQ connect to amqp://localhost.
#[derive(Debug, Parser)]
#[command(name = "leveret", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

// Parsed once; the size of its variants does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default)
    Serve(serve::ServeArgs),
    /// Verify the data directory of a broker that does not run
    Check(cli::check::CheckArgs),
    #[command(flatten)]
    Client(cli::ClientCommand),
    #[command(flatten)]
    Admin(cli::admin::AdminCommand),
    /// Print a shell's completions: add them to what your shell reads at its start
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// Into this directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::serve(cli.serve),
        Some(Command::Serve(args)) => serve::serve(args),
        Some(Command::Check(args)) => return cli::check::check(&args),
        Some(Command::Client(command)) => cli::run(command),
        Some(Command::Admin(command)) => match cli::admin::run(command) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "leveret", &mut std::io::stdout());
            Ok(())
        }
        Some(Command::Man { directory }) => write_manual(&directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leveret: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Manual pages as `man` reads them: leveret.1, leveret-serve.1 and so on.
fn write_manual(directory: &Path) -> anyhow::Result<()> {
    let write = || {
        std::fs::create_dir_all(directory)?;
        clap_mangen::generate_to(Cli::command(), directory)
    };
    write().with_context(|| format!("cannot write manual pages to {}", directory.display()))
}
