//! The commands that talk to a broker over the wire, as any client does, or to its management API, and the one that looks
//! at a directory.

pub mod admin;
pub mod bench;
pub mod check;
pub mod client;
pub mod publish;
pub mod subscribe;
pub mod table;

use anyhow::{Context, Result};
use clap::Subcommand;
use std::io::{ErrorKind, Write, stdout};

/// Commands for any AMQP 0-9-1 broker.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Publish a message, or one for each line of standard input
    Publish(publish::PublishArgs),
    /// Print messages as they come
    Subscribe(subscribe::SubscribeArgs),
    /// Measure a broker: rates and latencies, of any AMQP 0-9-1 broker by URL
    Bench(bench::BenchArgs),
}

/// Runs a command to its end.
///
/// # Errors
/// With what a person should know: the text goes to standard error, and the process exits with a failure.
pub fn run(command: ClientCommand) -> Result<()> {
    match command {
        ClientCommand::Publish(args) => publish::publish(&args),
        ClientCommand::Subscribe(args) => subscribe::subscribe(&args),
        ClientCommand::Bench(args) => bench::bench(args),
    }
}

/// Prints a text. Whoever reads it may have seen enough, as `head` does: false then.
///
/// # Errors
/// If standard output cannot be written for another reason.
fn print(text: &str) -> Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        outcome => outcome.map(|()| true).context("cannot write to standard output"),
    }
}
