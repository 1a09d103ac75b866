//! Child processes that can't outlive the program, can't hang it, and whose output ends in a log file.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A process and whatever it starts, in a process group of its own: killed when dropped.
#[derive(Debug)]
pub struct Group(Child);

impl Group {
    /// Starts the command with nothing to read.
    ///
    /// # Errors
    /// If its program can't be started.
    pub fn spawn(command: &mut Command) -> Result<Group> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        child.map(Group).with_context(|| format!("cannot start {program}"))
    }

    /// The exit code if it has ended by now; `Some(None)` if a signal ended it.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.0.try_wait().ok().flatten().map(|status| status.code())
    }

    /// Asks it to stop, with SIGTERM, and waits that long before it is killed.
    pub fn stop(mut self, patience: Duration) {
        self.signal("-TERM");
        let deadline = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Through kill(1), since the standard library signals a single process only.
    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The group may outlive its first process, so it is signalled even if that one has ended.
        self.signal("-KILL");
        let _ = self.0.wait();
    }
}

/// Runs a command, gives each line of its standard output to `line`, and keeps all its output in `log`.
///
/// Returns its exit code, `None` if a signal ended it.
///
/// # Errors
/// If it can't be started or takes longer than `limit`; it is killed then.
pub fn lines(command: &mut Command, log: &Path, limit: Duration, mut line: impl FnMut(&str)) -> Result<Option<i32>> {
    let mut log_file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    command.stdout(Stdio::piped()).stderr(log_file.try_clone().context("cannot share the log")?);
    let mut group = Group::spawn(command)?;
    let output = group.0.stdout.take().context("the output is piped")?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for text in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&text).into_owned()).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + limit;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => {
                writeln!(log_file, "{text}").context("cannot write the log")?;
                line(&text);
            }
            Err(RecvTimeoutError::Timeout) => bail!("it took longer than {} s; see {}", limit.as_secs(), log.display()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(group.0.wait().context("cannot wait for it")?.code())
}

/// Runs a command that must succeed, and returns its standard output.
///
/// # Errors
/// If it can't be started or fails; the error holds the end of what it printed.
pub fn checked(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let all = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    let tail: Vec<&str> = all.lines().rev().take(15).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    bail!("{program} failed ({}):\n{}", output.status, tail.join("\n"))
}

/// Whether a program of this name can be started.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
