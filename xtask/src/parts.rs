//! Runs tables of parts, keeps what each printed in a log of its own, and says what became of it.
//! `cargo xtask test` and `cargo xtask soak` are two such tables.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// A row of a table: what it is called on the command line, what it is for, and what it does.
#[derive(Clone, Copy)]
pub struct Part {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Run) -> Result<Outcome>,
}

/// What a part that didn't fail has to say.
pub enum Outcome {
    Passed,
    /// What could not be tested because it isn't here, as (name, why). The rest of the part passed.
    Missing(Vec<(String, String)>),
}

impl Outcome {
    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Outcome {
        Outcome::Missing(vec![(name.into(), why.into())])
    }
}

/// What parts start: the broker, and what judges it.
const BINARIES: [&str; 4] = ["leveret", "judge", "crash", "sdk"];

/// What a part works with.
pub struct Run {
    /// The repository's root.
    pub root: PathBuf,
    /// Cargo's target directory: everything that a part writes or installs is below it.
    pub target: PathBuf,
    /// Whether missing packages of the operating system may be installed.
    pub install: bool,
    log: File,
    log_path: PathBuf,
}

/// Runs the parts named in `only`, or all: lanes side by side, the parts of a lane one after the other. Under CI=true what
/// is missing is installed, and what still has to be skipped is a failure: a green run there means that everything ran.
///
/// The last line that is printed counts them; the exit code says whether one failed.
pub fn run(task: &str, lanes: &[&[Part]], only: &[String], install: bool) -> Result<ExitCode> {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    check_names(lanes, only)?;
    let logs = target()?.join(format!("xtask-{task}"));
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let install = install || ci;
    let counts: Vec<Result<Counts>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = lanes.iter().map(|lane| scope.spawn(|| run_lane(lane, only, &logs, install, ci))).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut total = Counts::default();
    for lane in counts {
        let Counts { passed, failed, skipped } = lane?;
        total =
            Counts { passed: total.passed + passed, failed: total.failed + failed, skipped: total.skipped + skipped };
    }
    let Counts { passed, failed, skipped } = total;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of parts.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

fn run_lane(lane: &[Part], only: &[String], logs: &Path, install: bool, ci: bool) -> Result<Counts> {
    let mut counts = Counts::default();
    for part in selected(lane, only) {
        let path = logs.join(format!("{}.log", part.name));
        let log = create(&path)?;
        let run = Run { root: crate::root(), target: target()?, install, log, log_path: path.clone() };
        let start = Instant::now();
        let outcome = (part.run)(&run);
        let begin = format!("{:<10} {:>7.1} s ", part.name, start.elapsed().as_secs_f64());
        // Another lane says what it has to say before this or behind it.
        let _whole = std::io::stdout().lock();
        match outcome {
            Ok(Outcome::Passed) => {
                println!("{begin} ok");
                counts.passed += 1;
            }
            Ok(Outcome::Missing(missing)) => {
                println!("{begin} {}", if ci { "FAILED: under CI=true nothing may be skipped" } else { "ok but" });
                for (name, why) in &missing {
                    println!("skipped: {name}: {why}");
                }
                counts.skipped += missing.len();
                counts.failed += usize::from(ci);
            }
            Err(error) => {
                println!("{begin} FAILED: {error:#}");
                print_tail(&path)?;
                counts.failed += 1;
            }
        }
    }
    Ok(counts)
}

impl Run {
    /// Runs a command to its end with its output in the part's log; it must succeed.
    pub fn command(&self, command: &mut Command) -> Result<()> {
        self.note(&format!("$ {command:?}"))?;
        command
            .env("CARGO_TERM_COLOR", "never")
            .stdin(Stdio::null())
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?);
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command.status().with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!("{program}: {status}");
        }
        Ok(())
    }

    /// Runs cargo in the repository's root.
    pub fn cargo(&self, arguments: &[&str]) -> Result<()> {
        self.command(Command::new(crate::cargo()).current_dir(&self.root).args(arguments))
    }

    /// Writes a line to the part's log.
    pub fn note(&self, line: &str) -> Result<()> {
        writeln!(&self.log, "{line}").context("cannot write the log")
    }

    /// The part's log, for the output of a process that runs beside it.
    pub fn log(&self) -> Result<File> {
        self.log.try_clone().context("cannot share the log")
    }

    /// What a program that the part ran said it skipped, in lines `skipped: <name>: <why>`.
    pub fn missing_in_log(&self) -> Result<Outcome> {
        let text = fs::read_to_string(&self.log_path).context("cannot read the log")?;
        let missing = skipped_lines(&text);
        Ok(if missing.is_empty() { Outcome::Passed } else { Outcome::Missing(missing) })
    }

    /// A directory of the part's own below the target directory, empty.
    pub fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.target.join("xtask-data").join(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// A release build of one of [`BINARIES`]. The profile is the one that is shipped and measured, and the only one that
    /// parts which start processes use, so that nothing is built in one more profile.
    ///
    /// All are built at once, and always all: what the packages share has the features that they need together, and is
    /// built once.
    pub fn release_binary(&self, binary: &str) -> Result<PathBuf> {
        assert!(BINARIES.contains(&binary), "{binary} is not among the binaries that are built");
        let binaries = BINARIES.iter().flat_map(|binary| ["--bin", binary]);
        let packages = ["build", "--release", "--package", "leveret-server", "--package", "leveret-interop"];
        self.cargo(&packages.into_iter().chain(binaries).collect::<Vec<_>>())?;
        Ok(self.target.join("release").join(binary))
    }
}

/// `CARGO_TARGET_DIR` or `target`, whatever cargo itself would use.
pub fn target() -> Result<PathBuf> {
    let output = Command::new(crate::cargo())
        .current_dir(crate::root())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata failed")?;
    Ok(PathBuf::from(metadata["target_directory"].as_str().unwrap_or("target")))
}

/// An error that lists all parts, if one of `only` is none of them.
fn check_names(lanes: &[&[Part]], only: &[String]) -> Result<()> {
    let mut parts = lanes.iter().copied().flatten();
    if let Some(unknown) = only.iter().find(|name| !parts.clone().any(|part| part.name == name.as_str())) {
        let known: Vec<String> = parts.by_ref().map(|part| format!("  {:<10} {}", part.name, part.about)).collect();
        bail!("there is no part `{unknown}`; the parts are\n{}", known.join("\n"));
    }
    Ok(())
}

fn selected<'a>(lane: &'a [Part], only: &[String]) -> impl Iterator<Item = &'a Part> {
    lane.iter().filter(|part| only.is_empty() || only.iter().any(|name| name == part.name))
}

/// Each once, although a program that judged two brokers said it twice.
fn skipped_lines(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("skipped: "));
    let skipped = lines.map(|line| line.split_once(": ").unwrap_or((line, "no reason given")));
    let unique: BTreeSet<(&str, &str)> = skipped.collect();
    unique.into_iter().map(|(name, why)| (name.to_string(), why.to_string())).collect()
}

/// Opened for appending, because several processes write to it and none may overwrite another's lines.
fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    File::options().append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Prints the end of a log: enough to see the error, without the hour of output before it.
fn print_tail(path: &Path) -> Result<()> {
    const BYTES: u64 = 64 << 10;
    const LINES: usize = 60;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        println!("  | {line}");
    }
    println!("  the whole output is in {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 2] = [
        Part { name: "one", about: "the first", run: |_| Ok(Outcome::Passed) },
        Part { name: "two", about: "the second", run: |_| Ok(Outcome::Passed) },
    ];

    fn names(only: &[&str]) -> Result<Vec<&'static str>> {
        const LANES: [&[Part]; 2] = [&[PARTS[0]], &[PARTS[1]]];
        let only: Vec<String> = only.iter().map(|name| name.to_string()).collect();
        check_names(&LANES, &only)?;
        Ok(LANES.iter().flat_map(|lane| selected(lane, &only)).map(|part| part.name).collect())
    }

    #[test]
    fn skips_are_read_from_output() {
        let text = "ok\nskipped: java: no JDK: install one\nnot skipped: x\nskipped: java: no JDK: install one\n";
        assert_eq!(skipped_lines(text), [("java".to_string(), "no JDK: install one".to_string())]);
    }

    #[test]
    fn parts_are_chosen_by_name_and_unknown_ones_refused() {
        assert_eq!(names(&[]).unwrap(), ["one", "two"]);
        assert_eq!(names(&["two"]).unwrap(), ["two"]);
        assert!(names(&["two", "three"]).unwrap_err().to_string().contains("the second"));
    }
}
