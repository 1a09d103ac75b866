//! Pages in a real browser: Debian's Chromium, driven by the scenarios in `crates/interop/clients/browser`.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::parts::{Outcome, Run};
use crate::servers::{Broker, Process, in_path};
use crate::test::install_package;

/// What drives pages, and where it was installed.
pub struct Browser {
    chromium: PathBuf,
    scenarios: PathBuf,
    modules: PathBuf,
}

impl Browser {
    /// Finds Chromium and Node, and installs what the scenarios need below the target directory. Without them it says why; Chromium is
    /// installed if the run may.
    pub fn prepare(run: &Run) -> Result<Result<Browser, String>> {
        for tool in ["node", "npm"] {
            if in_path(tool).is_none() {
                return Ok(Err(format!("{tool} is not installed")));
            }
        }
        if chromium().is_none() {
            if !run.install {
                return Ok(Err("chromium is not installed; `cargo xtask test --install` installs it".to_string()));
            }
            install_package(run, "chromium")?;
        }
        let chromium = chromium().context("the package chromium has no executable")?;
        let scenarios = run.root.join("crates/interop/clients/browser");
        let modules = install(run, &scenarios)?;
        Ok(Ok(Browser { chromium, scenarios, modules }))
    }

    /// Runs a scenario, which fails if a page complains.
    pub fn play(&self, run: &Run, scenario: &str, arguments: &[&OsStr]) -> Result<()> {
        let mut node = Command::new("node");
        node.env("NODE_PATH", &self.modules).env("CHROMIUM", &self.chromium).arg(self.scenarios.join(scenario));
        run.command(node.args(arguments))
    }
}

fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser"].into_iter().find_map(in_path)
}

/// The part `browser`: the dashboard, then the chat.
pub fn run(run: &Run) -> Result<Outcome> {
    let browser = match Browser::prepare(run)? {
        Ok(browser) => browser,
        Err(why) => return Ok(Outcome::skipped("browser", why)),
    };
    dashboard(run, &browser)?;
    chat(run, &browser)?;
    Ok(Outcome::Passed)
}

/// The dashboard of a broker with a data directory. Its screenshots are in the target directory, below
/// `xtask-data/screenshots`.
fn dashboard(run: &Run, browser: &Browser) -> Result<()> {
    let binary = run.release_binary("leveret")?;
    let broker = Broker::managed(run, &binary, &run.fresh_directory("browser")?)?;
    let screenshots = run.fresh_directory("screenshots")?;
    browser.play(run, "dashboard.js", &[broker.http_url().as_ref(), broker.url().as_ref(), screenshots.as_os_str()])?;
    broker.stop()
}

/// The chat of the SDK's examples: two programs on one broker, a browser at each.
fn chat(run: &Run, browser: &Browser) -> Result<()> {
    let binary = run.release_binary("leveret")?;
    run.cargo(&["build", "--release", "--package", "leveret", "--example", "chat"])?;
    let chat = run.target.join("release/examples/chat");
    let broker = Broker::leveret(run, &binary)?;
    let (_one, here) = serve(run, &chat, &broker.url())?;
    let (_two, there) = serve(run, &chat, &broker.url())?;
    browser.play(run, "chat.js", &[here.as_ref(), there.as_ref()])?;
    broker.stop()
}

/// Starts the chat on a free port; gives its page's address, which it prints.
fn serve(run: &Run, chat: &Path, url: &str) -> Result<(Process, String)> {
    let mut command = Command::new(chat);
    command.arg("127.0.0.1:0").env("BUS_URL", url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(run.log()?);
    let mut process = Process::spawn(&mut command)?;
    let output = process.output().context("its output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.split_whitespace().find(|word| word.starts_with("http://")) {
        Some(address) => Ok((process, address.to_string())),
        None => bail!("the chat has not said where it is, but '{}'", line.trim()),
    }
}

/// Installs the scenarios' packages, unless that was done with the same lock file; returns where they are.
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
