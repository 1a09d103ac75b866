//! Kills Leveret under load, and checks that it keeps its promises.
//!
//! Exit codes: 0 if all were kept, 1 if one was broken, 2 if it could not be found out.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use leveret_interop::crash::campaign::{self, Options, Summary};
use leveret_interop::crash::chance::Chance;
use leveret_interop::crash::ledger::Kind;
use leveret_interop::crash::victim::{MEMORY, Start, Way, free_port, last_words};

/// Kills a broker with SIGKILL under load, restarts it and holds what it has against an outside ledger of confirms.
#[derive(Parser)]
struct Args {
    /// The executable
    #[arg(long, value_name = "PATH")]
    leveret: PathBuf,
    /// How often to kill it under load
    #[arg(long, value_name = "N", default_value_t = 20)]
    cycles: u64,
    /// Repeat the choices of another run; the timing of the broker and its clients is never the same
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Confirms before a kill
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    confirms: u64,
    /// Where the broker keeps its data: new or empty; removed in the end if nothing was found
    #[arg(long, value_name = "DIR", default_value = "crash-data")]
    data_dir: PathBuf,
    /// Bytes of a segment of the broker's log: few, so that it rolls over, merges and deletes all the time. Now and
    /// then it is started with four times as many
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    segment_size: u64,
    /// Start the broker with this level of sync each time; without this and --max-memory, in many ways
    #[arg(long, value_name = "WHEN")]
    sync: Option<String>,
    /// Start the broker with so many bytes of memory for messages each time
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<u64>,
    /// Copy the data directory before each restart to DIR.killed, and keep both
    #[arg(long)]
    keep: bool,
    /// Keep nothing on disk, kill once, and succeed only if the losses are noticed
    #[arg(long, conflicts_with = "dry")]
    memory: bool,
    /// Keep nothing on disk, and cut the clients' connections instead of killing the broker
    #[arg(long)]
    dry: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    println!("seed {seed}");
    let summary = match run(&args, seed) {
        Ok(summary) => summary,
        Err(error) => {
            eprintln!("crash: seed {seed}: {error:#}");
            eprintln!("the broker's last words:\n{}", last_words(&log_of(&args.data_dir)));
            eprintln!("crash: the data and the broker's log are kept: {}*", args.data_dir.display());
            return ExitCode::from(2);
        }
    };
    print!("{summary}");
    if args.memory {
        let noticed = summary.findings.count(Kind::Lost) > 0;
        println!("{}", if noticed { "the losses were noticed, as they should" } else { "the losses were NOT noticed" });
        return if noticed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if summary.findings.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("seed {seed}; the data and the broker's log are kept: {}*", args.data_dir.display());
    ExitCode::FAILURE
}

fn run(args: &Args, seed: u64) -> Result<Summary> {
    let on_disk = !args.memory && !args.dry;
    if let Some(parent) = args.data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    must_be_new(&args.data_dir)?;
    let start = Start {
        leveret: args.leveret.clone(),
        port: free_port(&mut Chance::new(seed))?,
        data: on_disk.then(|| args.data_dir.clone()),
        way: Way {
            segment_size: args.segment_size,
            sync: args.sync.clone().unwrap_or("always".into()),
            max_memory: args.max_memory.unwrap_or(MEMORY),
        },
        log: log_of(&args.data_dir),
    };
    let options = Options {
        start,
        cycles: if args.memory { 1 } else { args.cycles },
        seed,
        confirms: args.confirms,
        one_way: args.sync.is_some() || args.max_memory.is_some(),
        dry: args.dry,
        copy: args.keep.then(|| beside(&args.data_dir, ".killed")),
    };
    let summary = campaign::run(&options)?;
    if !args.keep && (summary.findings.is_empty() || args.memory) {
        // Nobody misses what can't be removed.
        let _ = std::fs::remove_dir_all(&args.data_dir);
        let _ = std::fs::remove_file(&options.start.log);
    }
    Ok(summary)
}

/// What the broker prints goes here.
fn log_of(data: &Path) -> PathBuf {
    beside(data, ".log")
}

fn beside(data: &Path, extension: &str) -> PathBuf {
    let mut name = data.to_owned().into_os_string();
    name.push(extension);
    PathBuf::from(name)
}

fn must_be_new(directory: &Path) -> Result<()> {
    if directory.read_dir().is_ok_and(|mut files| files.next().is_some()) {
        bail!("{} is not empty; give another --data-dir, or remove it", directory.display());
    }
    Ok(())
}
