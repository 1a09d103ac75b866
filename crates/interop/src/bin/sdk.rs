//! The SDK on a broker over AMQP: beside programs in other languages, and while the broker, its connections and channels are killed.
//!
//! Exit codes: 0 if all holds, 1 if something does not.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use leveret_interop::Layout;
use leveret_interop::crash::chance::Chance;
use leveret_interop::crash::victim::free_port;
use leveret_interop::sdk::chaos::{self, Plan, Target};
use leveret_interop::sdk::judges;

/// Checks the SDK on brokers.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs programs in other languages beside it, and its list of behaviours
    Judge {
        /// The broker
        #[arg(long)]
        url: String,
    },
    /// Kills connections, channels and the broker under load
    Chaos {
        /// The executable `leveret`, which is started and killed
        #[arg(long, value_name = "PATH", required_unless_present = "port")]
        leveret: Option<PathBuf>,
        /// The port of a broker that is not killed; with --leveret, the one that it gets
        #[arg(long)]
        port: Option<u16>,
        /// Where Leveret keeps its data: new or empty
        #[arg(long, value_name = "DIR", default_value = "sdk-chaos")]
        data_dir: PathBuf,
        /// How often something is killed
        #[arg(long, value_name = "N", default_value_t = 8)]
        deeds: u64,
        /// How long a killed broker stays away, at most, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 2000)]
        away: u64,
        /// Repeat the choices of another run
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sdk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(what: What) -> Result<()> {
    let all = std::env::var("CI").is_ok_and(|value| value == "true");
    match what {
        What::Judge { url } => judges::run(&Layout::of_checkout()?, &url, all).await,
        What::Chaos { leveret, port, data_dir, deeds, away, seed } => {
            let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
            println!("seed {seed}");
            let plan = Plan { deeds, seed, away: Duration::from_millis(away) };
            let target = match leveret {
                Some(binary) => {
                    std::fs::create_dir_all(&data_dir).context("cannot make the data directory")?;
                    let port = port.map_or_else(|| free_port(&mut Chance::new(seed)), Ok)?;
                    Target::leveret(&binary, port, &data_dir)
                }
                None => Target::Port(port.context("--port is missing")?),
            };
            chaos::run(&target, &plan).await.with_context(|| format!("seed {seed}"))
        }
    }
}
