//! The executable `leveret`: the broker, and commands that talk to one.

mod cli;
mod serve;

use clap::{Parser, Subcommand};
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
    #[command(flatten)]
    Client(cli::ClientCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve::serve(cli.serve),
        Some(Command::Serve(args)) => serve::serve(args),
        Some(Command::Client(command)) => cli::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leveret: {error:#}");
            ExitCode::FAILURE
        }
    }
}
