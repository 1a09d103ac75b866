//! The part `browser`: Debian's Chromium looks at the dashboard of a broker with a data directory, and works with it
//! (`crates/interop/clients/browser`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::parts::{Outcome, Run};
use crate::servers::{Broker, in_path};
use crate::test::install_package;

/// Its screenshots are in the target directory, below `xtask-data/screenshots`.
pub fn run(run: &Run) -> Result<Outcome> {
    if let Some(tool) = ["node", "npm"].into_iter().find(|tool| in_path(tool).is_none()) {
        return Ok(Outcome::skipped("browser", format!("{tool} is not installed")));
    }
    if in_path("chromium").is_none() {
        if !run.install {
            let why = "chromium is not installed; `cargo xtask test --install` installs it";
            return Ok(Outcome::skipped("browser", why));
        }
        install_package(run, "chromium")?;
    }
    let chromium = in_path("chromium").context("the package chromium has no program of that name")?;
    let source = run.root.join("crates/interop/clients/browser");
    let modules = install(run, &source)?;
    let binary = run.release_binary("leveret")?;
    let data = run.fresh_directory("browser")?;
    let broker = Broker::managed(run, &binary, &data)?;
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).env("CHROMIUM", chromium).arg(source.join("dashboard.js"));
    node.args([broker.http_url(), broker.url()]).arg(run.fresh_directory("screenshots")?);
    run.command(&mut node)?;
    broker.stop()?;
    Ok(Outcome::Passed)
}

/// Installs the script's packages, unless that was done with the same lock file; returns where they are.
fn install(run: &Run, source: &Path) -> Result<PathBuf> {
    const LOCK: &str = "package-lock.json";
    let target = run.target.join("interop/browser");
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    let modules = target.join("node_modules");
    let same = |path: &Path| fs::read(path).ok() == fs::read(source.join(LOCK)).ok();
    if !(modules.exists() && same(&target.join("installed"))) {
        for file in ["package.json", LOCK] {
            fs::copy(source.join(file), target.join(file)).with_context(|| format!("cannot copy {file}"))?;
        }
        run.command(Command::new("npm").current_dir(&target).args(["ci", "--no-audit", "--no-fund", "--silent"]))?;
        fs::copy(source.join(LOCK), target.join("installed")).context("cannot note what is installed")?;
    }
    Ok(modules)
}
