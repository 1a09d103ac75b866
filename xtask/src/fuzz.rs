//! `cargo xtask fuzz`: gives the fuzz targets of crates/wire/fuzz their inputs. They are run by cargo-fuzz, which needs
//! a nightly toolchain and is installed below the target directory if it isn't there yet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::parts;
use crate::servers::in_path;

/// What `cargo xtask fuzz` may be told.
#[derive(Args)]
pub struct FuzzArgs {
    /// How many inputs each target is given
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    runs: u64,
    /// The target; without it, each in turn
    target: Option<String>,
}

pub fn run(args: &FuzzArgs) -> Result<()> {
    let execute = |command: &mut Command| {
        let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
        if !status.success() {
            bail!("{:?}: {status}", command.get_program());
        }
        Ok(())
    };
    fuzz(args.runs, args.target.as_deref(), &execute)
}

/// Gives `runs` inputs to one target or to each; `execute` runs a command to its end and says whether it succeeded.
pub fn fuzz(runs: u64, only: Option<&str>, execute: &dyn Fn(&mut Command) -> Result<()>) -> Result<()> {
    let known = targets(&directory())?;
    let chosen: Vec<&String> = known.iter().filter(|name| only.is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        bail!("there is no such fuzz target; there are: {}", known.join(", "));
    }
    let tools = parts::target()?.join("tools");
    need_nightly()?;
    if in_path("cargo-fuzz").is_none() && !tools.join("bin/cargo-fuzz").exists() {
        let mut install = Command::new(crate::cargo());
        execute(install.args(["install", "--locked", "cargo-fuzz", "--root"]).arg(&tools))?;
    }
    // Mutation starts from valid encodings, and gets past the first length field.
    let mut seeds = Command::new(crate::cargo());
    seeds.current_dir(crate::root()).args(["test", "--package", "leveret-wire", "--test", "it", "--"]);
    execute(seeds.args(["--ignored", "--exact", "fuzz::write_seeds"]))?;
    for target in chosen {
        execute(&mut cargo_fuzz(&tools, target, runs)?).with_context(|| {
            format!("fuzz target {target}; an input that fails is kept in crates/wire/fuzz/artifacts")
        })?;
    }
    Ok(())
}

/// What is looked for are panics, overflows (debug assertions are on), hangs, allocations that a length field asked for,
/// and with cargo-fuzz's default sanitizer what the codec's one unsafe line could do to memory.
fn cargo_fuzz(tools: &Path, target: &str, runs: u64) -> Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools.join("bin")).chain(std::env::split_paths(&path)))?;
    let mut command = nightly();
    command
        .current_dir(directory())
        .env("PATH", path)
        .args(["cargo", "fuzz", "run", "--fuzz-dir", ".", target, "--"])
        .arg(format!("-runs={runs}"))
        .args(["-rss_limit_mb=2048", "-timeout=5", "-print_final_stats=1"]);
    Ok(command)
}

/// A command run by the nightly toolchain, whatever toolchain runs this one.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").args(["run", "nightly"]);
    command
}

fn need_nightly() -> Result<()> {
    let found = nightly().args(["rustc", "--version"]).output().is_ok_and(|output| output.status.success());
    if !found {
        bail!("fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal");
    }
    Ok(())
}

fn directory() -> PathBuf {
    crate::root().join("crates/wire/fuzz")
}

/// One target per file, as cargo-fuzz lays them out.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let directory = directory.join("fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    Ok(targets)
}
