//! The broker that is killed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::crash::chance::Chance;

/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_micros(300);

/// Enough memory for every message of a cycle.
pub const MEMORY: u64 = 1 << 30;
const LITTLE_MEMORY: u64 = 24 << 20;

/// How to start the broker.
#[derive(Debug, Clone)]
pub struct Start {
    /// The executable `leveret`.
    pub leveret: PathBuf,
    /// Where it listens.
    pub port: u16,
    /// Where it keeps everything; without it, in memory.
    pub data: Option<PathBuf>,
    /// How it keeps it.
    pub way: Way,
    /// What it prints is appended here.
    pub log: PathBuf,
}

/// How a broker keeps its data: whatever is chosen, a killed process loses nothing.
#[derive(Debug, Clone)]
pub struct Way {
    /// Bytes of a segment of the log: few, so that it rolls over, merges and deletes all the time.
    pub segment_size: u64,
    /// When it confirms, as its option `--sync` says it.
    pub sync: String,
    /// Bytes of messages in memory.
    pub max_memory: u64,
}

impl Way {
    /// Another way to go on: mostly with these segments, a sync before each confirm and enough memory.
    pub fn any(segment_size: u64, chance: &mut Chance) -> Way {
        let segment_size = if chance.one_in(4) { segment_size * 4 } else { segment_size };
        let sync = ["interval:30", "never", "always", "always", "always"][chance.below(5) as usize].into();
        // So little that messages are read back from the disk while others are written.
        let max_memory = if chance.one_in(3) { LITTLE_MEMORY } else { MEMORY };
        Way { segment_size, sync, max_memory }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segments of {} KiB, sync {}, memory {} MiB",
            self.segment_size >> 10,
            self.sync,
            self.max_memory >> 20
        )
    }
}

/// A running broker; killed when dropped.
pub struct Victim {
    child: Child,
    port: u16,
    started: Instant,
}

impl Start {
    /// Starts it, and doesn't wait for anything.
    ///
    /// # Errors
    /// If the executable can't be started.
    pub fn spawn(&self) -> Result<Victim> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new(&self.leveret);
        command.args(["serve", "--http", "none", "--amqp", &format!("127.0.0.1:{}", self.port)]);
        match &self.data {
            Some(data) => {
                let Way { segment_size, sync, max_memory } = &self.way;
                command.arg("--data-dir").arg(data).args(["--sync", sync.as_str()]);
                command.args(["--segment-size", &segment_size.to_string()]);
                command.args(["--max-memory", &max_memory.to_string()]);
            }
            None => {
                command.arg("--memory");
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", self.leveret.display()))?;
        Ok(Victim { child, port: self.port, started })
    }
}

impl Victim {
    /// True if it can be connected to.
    pub fn listens(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    /// Waits until it listens; returns how long that took from its start on.
    ///
    /// # Errors
    /// If it ends, or takes too long.
    pub fn wait_until_it_listens(&mut self) -> Result<Duration> {
        while !self.listens() {
            self.check()?;
            if self.started.elapsed() > PATIENCE {
                bail!("the broker doesn't listen {} s after its start", PATIENCE.as_secs());
            }
            sleep(POLL);
        }
        Ok(self.started.elapsed())
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// With how it ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the broker ended by itself: {status}"),
            None => Ok(()),
        }
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// If it had ended before.
    pub fn kill(mut self) -> Result<()> {
        self.check()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it with SIGTERM.
    ///
    /// # Errors
    /// If it doesn't end, or says that something failed.
    pub fn stop(mut self) -> Result<()> {
        // The shell's own `kill` is everywhere, and spares an unsafe call.
        Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return succeeded(status);
            }
            sleep(POLL);
        }
        bail!("the broker runs on after SIGTERM")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // One that has ended can't be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn succeeded(status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("the broker did not stop cleanly: {status}");
    }
    Ok(())
}

/// A port that is free now, below those that the kernel gives to outgoing connections: one of those could be given to
/// the very connection that asks whether the broker listens, which would then talk to itself.
///
/// # Errors
/// If none is free.
pub fn free_port(chance: &mut Chance) -> Result<u16> {
    let any = || 20_000 + chance.below(12_000) as u16;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(any).take(1000).find(free).context("no free port between 20000 and 32000")
}

/// What background work makes: files of a data directory, by the ends of their names.
pub const BACKGROUND: [&str; 3] = [".merged", ".index", ".checkpoint"];

/// The names of a directory's files that end like this.
pub fn names(data: &Path, end: &str) -> BTreeSet<String> {
    let Ok(files) = fs::read_dir(data) else { return BTreeSet::new() };
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| name.ends_with(end)).collect()
}

/// The last lines that a broker printed, without those about connections.
pub fn last_words(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("connection{")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Copies the files of a directory to another one, which is emptied first.
///
/// # Errors
/// If something can't be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot empty {}", to.display()))?;
    }
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for file in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name())).with_context(|| format!("cannot copy {:?}", file.path()))?;
    }
    Ok(())
}

/// Bytes of the files in a directory.
pub fn size(directory: &Path) -> u64 {
    let Ok(files) = fs::read_dir(directory) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
