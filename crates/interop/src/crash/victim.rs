//! The broker that is killed.

use std::collections::BTreeSet;
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

/// How to start the broker.
#[derive(Debug, Clone)]
pub struct Start {
    /// The executable `leveret`.
    pub leveret: PathBuf,
    /// Where it listens.
    pub port: u16,
    /// Where it keeps everything; without it, in memory.
    pub data: Option<PathBuf>,
    /// Bytes of a segment of its log.
    pub segment_size: u64,
    /// What it prints is appended here.
    pub log: PathBuf,
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
        command.args(["serve", "--amqp", &format!("127.0.0.1:{}", self.port)]);
        match &self.data {
            Some(data) => {
                command.arg("--data-dir").arg(data).args(["--segment-size", &self.segment_size.to_string()]);
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

/// The files of a data directory that background work makes: merged files, indexes and checkpoints.
pub fn background_files(data: &Path) -> BTreeSet<String> {
    let Ok(files) = fs::read_dir(data) else { return BTreeSet::new() };
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| !name.ends_with(".log") && name != "lock").collect()
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
