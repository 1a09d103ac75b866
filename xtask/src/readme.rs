//! The README's first session, run as it is written. A fenced block of the language `console` that begins with
//! `$ target/release/leveret ` holds one command and what it prints; `subscribe` runs on in its own terminal until the
//! others are done. Dates and times can't be known beforehand, so they are compared by their shape.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::parts::Run;
use crate::servers::Process;

const PROMPT: &str = "$ target/release/leveret ";
/// How long a message may take from one terminal to the other on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the session against the broker at `url` and compares what each command prints with what README.md shows.
pub fn check(run: &Run, binary: &Path, url: &str) -> Result<()> {
    let page = fs::read_to_string(run.root.join("README.md")).context("cannot read README.md")?;
    let sessions = sessions(&page);
    if sessions.is_empty() {
        bail!("README.md shows no session: a block ```console that begins with `{PROMPT}`");
    }
    let directory = run.fresh_directory("readme")?;
    let mut subscribers = Vec::new();
    for (number, session) in sessions.iter().enumerate() {
        run.note(&format!("$ {} {}", binary.display(), session.arguments))?;
        let printed = directory.join(format!("{number}.txt"));
        let mut shell = Command::new("sh");
        // `exec`, so that stopping the shell stops the command.
        shell.arg("-c").arg(format!("exec '{}' {} --url {url}", binary.display(), session.arguments));
        // A terminal shows both streams, and so does the README.
        let terminal = File::create(&printed)?;
        shell.stdin(Stdio::null()).stdout(terminal.try_clone()?).stderr(terminal);
        let mut process = Process::spawn(&mut shell)?;
        if session.arguments.starts_with("subscribe ") {
            // Its first line says that it listens; what is published before that isn't for it.
            await_lines(&printed, &session.output[..session.output.len().min(1)], PATIENCE)
                .with_context(|| session.arguments.clone())?;
            subscribers.push((session, printed, process));
        } else {
            let status = process.wait(PATIENCE)?;
            if !status.success() {
                bail!("`leveret {}`: {status}", session.arguments);
            }
            await_lines(&printed, &session.output, PATIENCE).with_context(|| session.arguments.clone())?;
        }
    }
    for (session, printed, mut process) in subscribers {
        await_lines(&printed, &session.output, PATIENCE).with_context(|| session.arguments.clone())?;
        process.terminate(PATIENCE)?;
    }
    Ok(())
}

/// A command of README.md and the lines that it is shown to print.
#[derive(Debug, PartialEq)]
struct Session<'a> {
    arguments: String,
    output: Vec<&'a str>,
}

fn sessions(page: &str) -> Vec<Session<'_>> {
    let mut sessions = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line != "```console" {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(arguments) = block.first().and_then(|line| line.strip_prefix(PROMPT)) {
            sessions.push(Session { arguments: arguments.to_string(), output: block[1..].to_vec() });
        }
    }
    sessions
}

/// Waits until the file holds these lines and no others.
fn await_lines(printed: &Path, expected: &[&str], patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let masked_lines = |lines: &[&str]| lines.iter().map(|line| masked(line)).collect::<Vec<_>>();
    loop {
        let text = fs::read_to_string(printed)?;
        let lines: Vec<&str> = text.lines().collect();
        if masked_lines(&lines) == masked_lines(expected) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("README.md shows\n{}\nbut it printed\n{}", expected.join("\n"), text);
        }
        sleep(Duration::from_millis(20));
    }
}

/// Dates and times differ from run to run: of their digits, only that they are there is compared.
fn masked(line: &str) -> String {
    let words = line.split(' ').map(|word| if is_time(word) { digits_as_zero(word) } else { word.to_string() });
    words.collect::<Vec<_>>().join(" ")
}

/// A date, a time of day, or both in one word.
fn is_time(word: &str) -> bool {
    let separators = word.bytes().filter(|byte| b"-:".contains(byte)).count();
    separators >= 2 && word.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TZ".contains(&byte))
}

/// Every run of digits becomes one zero.
fn digits_as_zero(word: &str) -> String {
    let mut masked = String::new();
    for char in word.chars() {
        let char = if char.is_ascii_digit() { '0' } else { char };
        if char != '0' || !masked.ends_with('0') {
            masked.push(char);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_a_command_and_its_output() {
        let page = "```console\n$ cargo run\n```\n```console\n$ target/release/leveret subscribe 'a.#'\nb\nc\n```\n";
        let expected = Session { arguments: "subscribe 'a.#'".into(), output: vec!["b", "c"] };
        assert_eq!(sessions(page), [expected]);
    }

    #[test]
    fn times_are_masked_and_bodies_are_not() {
        assert_eq!(masked("2026-01-02T03:04:05.678Z orders.eu 42"), "0-0-0T0:0:0.0Z orders.eu 42");
        assert_eq!(masked("2026-01-02 03:04:05  orders.eu"), masked("2030-11-12 13:14:15  orders.eu"));
        assert_ne!(masked("orders.eu 42"), masked("orders.eu 43"));
    }

    #[test]
    fn output_that_differs_is_an_error_that_shows_both() {
        let path = std::env::temp_dir().join(format!("leveret-readme-{}", std::process::id()));
        fs::write(&path, "12:00:00 a\n").unwrap();
        let patience = Duration::from_millis(10);
        let same = await_lines(&path, &["13:30:59 a"], patience);
        let other = await_lines(&path, &["13:30:59 b"], patience);
        fs::remove_file(&path).unwrap();
        assert!(same.is_ok());
        assert!(other.unwrap_err().to_string().contains("12:00:00 a"));
    }
}
