//! Foreign judges: unmodified AMQP 0-9-1 clients of other people, each in its own language, run the same named
//! situations against a broker and print a verdict on each.
//!
//! The scripts are in `clients/`, a directory per language. What they say on standard output is the contract between
//! them and this crate, and is read by [`verdict`]. [`clients`] knows how each is installed and started, [`run`] runs
//! them side by side, [`report`] prints the outcome, [`compare`] holds two brokers against each other and [`brokers`]
//! starts brokers to be judged. [`tools`] are the judges of the management API.

pub mod brokers;
pub mod clients;
pub mod compare;
pub mod crash;
pub mod go_suites;
pub mod install;
pub mod process;
pub mod rabbit_hole;
pub mod report;
pub mod run;
pub mod sdk;
pub mod tools;
pub mod verdict;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where the scripts are and where their clients are installed.
#[derive(Debug, Clone)]
pub struct Layout {
    /// `crates/interop/clients`: what is committed.
    pub sources: PathBuf,
    /// `target/interop`: what package managers and compilers produce.
    pub installed: PathBuf,
}

impl Layout {
    /// The layout of the checkout that this crate was built in.
    ///
    /// # Errors
    /// If the checkout isn't there any more, or its target directory can't be made.
    pub fn of_checkout() -> Result<Layout> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.join("../..").canonicalize().context("the checkout that built judge is gone")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let installed = target.join("interop");
        std::fs::create_dir_all(&installed).with_context(|| format!("cannot create {}", installed.display()))?;
        Ok(Layout { sources: package.join("clients"), installed })
    }

    /// The directory of a language's scripts.
    pub fn source(&self, language: &str) -> PathBuf {
        self.sources.join(language)
    }

    /// The directory of a language's installed packages and built programs.
    pub fn installed(&self, language: &str) -> PathBuf {
        self.installed.join(language)
    }

    /// What every client expects of a broker that ends a channel or a connection.
    pub fn expectations(&self) -> PathBuf {
        self.sources.join("expected.txt")
    }
}
