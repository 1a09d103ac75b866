//! Connections that do nothing: what does one cost the broker?

use std::io::stdin;

use anyhow::{Context, Result};

use super::args::BenchArgs;
use crate::cli::client::Connection;
use crate::cli::print;

/// Opens connections, each with one channel, says so on standard output, and holds them until standard input ends.
///
/// # Errors
/// When not all can be opened.
pub fn hold(args: &BenchArgs, connections: usize) -> Result<()> {
    let mut open = Vec::with_capacity(connections);
    for i in 0..connections {
        let connection = Connection::open(&args.url).with_context(|| {
            format!("{i} connections are open, the next fails (the broker's limit, or this shell's: see `ulimit -n`)")
        })?;
        open.push(connection);
    }
    print(&match args.json {
        true => format!("{{\"idle_connections\":{connections}}}\n"),
        false => format!("{connections} connections are open; end standard input (Ctrl-D) to close them\n"),
    })?;
    std::io::copy(&mut stdin(), &mut std::io::sink())?;
    open.into_iter().for_each(Connection::close);
    Ok(())
}
