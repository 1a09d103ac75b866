//! Pages in a real browser: Debian's Chromium, driven by the scenarios in `crates/interop/clients/browser`.

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
        let (source, scenarios) = (run.root.join("crates/interop/clients/browser"), run.fresh_directory("browser")?);
        for entry in std::fs::read_dir(&source).with_context(|| format!("cannot read {}", source.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), scenarios.join(entry.file_name()))?;
            }
        }
        let mut npm = Command::new("npm");
        run.command(npm.current_dir(&scenarios).args(["ci", "--no-audit", "--no-fund", "--silent"]))?;
        Ok(Ok(Browser { chromium, scenarios }))
    }

    /// Runs a scenario, which fails if a page complains.
    pub fn play(&self, run: &Run, scenario: &str, arguments: &[&str]) -> Result<()> {
        let mut node = Command::new("node");
        node.env("CHROMIUM", &self.chromium).arg(self.scenarios.join(scenario));
        run.command(node.args(arguments))
    }
}

fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser"].into_iter().find_map(in_path)
}

/// The chat of the SDK's examples: two programs on one broker, a browser at each.
pub fn chat(run: &Run) -> Result<Outcome> {
    let browser = match Browser::prepare(run)? {
        Ok(browser) => browser,
        Err(why) => return Ok(Outcome::skipped("the chat in a browser", why)),
    };
    let binary = run.release_binary("leveret-server", "leveret")?;
    run.cargo(&["build", "--release", "--package", "leveret", "--example", "chat"])?;
    let chat = run.target.join("release/examples/chat");
    let broker = Broker::leveret(run, &binary)?;
    let (_one, here) = serve(run, &chat, &broker.url())?;
    let (_two, there) = serve(run, &chat, &broker.url())?;
    browser.play(run, "chat.js", &[&here, &there])?;
    broker.stop()?;
    Ok(Outcome::Passed)
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
