//! The integration tests that the two Go clients ship with their modules, run from an unmodified copy of each module.
//!
//! Tests that no broker could pass here are named, with the reason, in `clients/go/not-applicable.txt`; every other
//! test must pass. A row that names a broker is a known gap of that broker: the test is run, and the row must go as
//! soon as it passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Layout;
use crate::process::{checked, lines};
use crate::run::Broker;
use crate::verdict::{Judgement, Verdict};

const MODULES: [&str; 2] = ["github.com/rabbitmq/amqp091-go", "github.com/streadway/amqp"];
const EVERY_BROKER: &str = "*";
const LIMIT: Duration = Duration::from_secs(150);

/// Runs both suites one after the other, since they use the same queue names with other flags, and adds a verdict per
/// test, named `module/TestName`.
///
/// # Errors
/// If a module can't be fetched, copied, or cleaned up after, or its tests take too long.
pub fn run(layout: &Layout, broker: &Broker, logs: &Path, judgement: &mut Judgement) -> Result<()> {
    let url = &broker.url;
    let listed = fs::read_to_string(layout.source("go").join("not-applicable.txt"));
    let mut exceptions = exceptions(&listed.context("cannot read not-applicable.txt")?)?;
    exceptions.retain(|exception| [EVERY_BROKER, broker.name.as_str()].contains(&exception.broker.as_str()));
    let cleanup = layout.installed("go").join("bin/cleanup");
    checked(Command::new(&cleanup).arg(url))?;
    for module in MODULES {
        let copy = copy_module(layout, module)?;
        suite(module, &copy, url, logs, &exceptions, judgement)?;
        checked(Command::new(&cleanup).arg(url))?;
    }
    Ok(())
}

/// A test that can't pass on any broker here, or that one broker isn't ready for.
#[derive(Debug, PartialEq)]
struct Exception {
    module: String,
    test: String,
    broker: String,
    reason: String,
}

fn exceptions(text: &str) -> Result<Vec<Exception>> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    rows.map(|row| {
        let parts: Vec<&str> = row.split('|').map(str::trim).collect();
        let [module, test, broker, reason] = parts[..] else {
            bail!("not-applicable.txt: `{row}` isn't `module | test | broker or * | reason`");
        };
        Ok(Exception { module: module.into(), test: test.into(), broker: broker.into(), reason: reason.into() })
    })
    .collect()
}

/// Go's module cache is read-only and shared, and the tests of a dependency can't be run from outside its module.
fn copy_module(layout: &Layout, module: &str) -> Result<PathBuf> {
    let mut list = Command::new("go");
    list.current_dir(layout.source("go")).args(["list", "-m", "-f", "{{.Dir}}", module]);
    let cached = checked(&mut list)?;
    let copy = layout.installed("go").join("suites").join(short(module));
    fresh_copy(Path::new(cached.trim()), &copy)?;
    Ok(copy)
}

/// A copy of a module, in place of what an earlier run has left of it.
pub(crate) fn fresh_copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot empty {}", to.display()))?;
    }
    copy_tree(from, to)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            // By content, because fs::copy would copy the cache's read-only mode too.
            let content = fs::read(entry.path())?;
            fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

/// `rabbitmq` or `streadway`: both modules end in a name that says less.
fn short(module: &str) -> &str {
    module.split('/').nth(1).unwrap_or(module)
}

fn suite(
    module: &str,
    copy: &Path,
    url: &str,
    logs: &Path,
    exceptions: &[Exception],
    judgement: &mut Judgement,
) -> Result<()> {
    let mine = exceptions.iter().filter(|exception| exception.module == module);
    let (skipped, gaps): (Vec<_>, Vec<_>) = mine.partition(|exception| exception.broker == EVERY_BROKER);
    let skip: Vec<String> = skipped.iter().map(|exception| format!("^{}$", exception.test)).collect();
    let mut go = Command::new("go");
    go.current_dir(copy).env("AMQP_URL", format!("{url}/")).args(["test", "-tags", "integration", "-count=1", "-v"]);
    go.arg(format!("-skip={}", skip.join("|"))).arg("./...");
    let before = judgement.verdicts.len();
    let log = logs.join(format!("go-suite-{}.log", short(module)));
    let exit = lines(&mut go, &log, LIMIT, |line| {
        if let Some((test, verdict)) = test_line(line) {
            let gap = gaps.iter().find(|gap| gap.test == test);
            let verdict = gap.map_or(verdict.clone(), |gap| of_gap(&gap.reason, &verdict));
            judgement.verdicts.push((format!("{}/{test}", short(module)), verdict));
        } else if line.starts_with("panic: ") {
            // It ends the run without a verdict on the tests to come.
            judgement.fail(format!("{module}: {line}"));
        }
    })?;
    for exception in skipped {
        let situation = format!("{}/{}", short(module), exception.test);
        judgement.verdicts.push((situation, Verdict::Skip(exception.reason.clone())));
    }
    let ran = &judgement.verdicts[before..];
    let passed = ran.iter().any(|(_, verdict)| *verdict == Verdict::Ok);
    let failed = ran.iter().any(|(_, verdict)| matches!(verdict, Verdict::Fail(_)));
    let ended = format!("go test of {module} ended with {exit:?}; see {}", log.display());
    let whole = gaps.iter().find(|gap| gap.test == WHOLE_RUN);
    let name = format!("{}/{WHOLE_RUN}", short(module));
    match (exit, whole) {
        (Some(0), Some(gap)) => judgement.verdicts.push((name, of_gap(&gap.reason, &Verdict::Ok))),
        (_, Some(gap)) => judgement.verdicts.push((name, Verdict::Skip(gap.reason.clone()))),
        (Some(0), None) => {}
        (_, None) if failed || !gaps.is_empty() => {}
        (_, None) => judgement.fail(ended.clone()),
    }
    if !passed {
        judgement.fail(ended);
    }
    Ok(())
}

/// Go's name for what runs around all tests: a known gap of this name is about the exit code of the whole run.
const WHOLE_RUN: &str = "TestMain";

/// What a known gap's test came to: a list that only grows would hide what works by now.
pub(crate) fn of_gap(reason: &str, verdict: &Verdict) -> Verdict {
    match verdict {
        Verdict::Ok => Verdict::Fail("it passes now; remove it from not-applicable.txt".into()),
        Verdict::Fail(_) | Verdict::Skip(_) => Verdict::Skip(reason.into()),
    }
}

/// `--- PASS: TestName (0.00s)`; subtests are indented and belong to their test.
fn test_line(line: &str) -> Option<(String, Verdict)> {
    let (outcome, rest) = line.strip_prefix("--- ")?.split_once(": ")?;
    let test = rest.split(' ').next()?.to_string();
    let verdict = match outcome {
        "PASS" => Verdict::Ok,
        "SKIP" => Verdict::Skip("the test skips itself".into()),
        _ => Verdict::Fail("see the suite's log".into()),
    };
    Some((test, verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_go_test() {
        assert_eq!(test_line("--- PASS: TestA (0.00s)"), Some(("TestA".into(), Verdict::Ok)));
        assert!(matches!(test_line("--- FAIL: TestB (1.2s)"), Some((_, Verdict::Fail(_)))));
        assert!(matches!(test_line("--- SKIP: TestC (0.00s)"), Some((_, Verdict::Skip(_)))));
        assert_eq!(test_line("    --- PASS: TestA/sub (0.00s)"), None);
        assert_eq!(test_line("=== RUN   TestA"), None);
    }

    #[test]
    fn the_list_of_exceptions_is_well_formed() {
        let layout = Layout::of_checkout().unwrap();
        let text = fs::read_to_string(layout.source("go").join("not-applicable.txt")).unwrap();
        let rows = exceptions(&text).unwrap();
        assert!(rows.iter().all(|row| MODULES.contains(&row.module.as_str()) && !row.reason.is_empty()));
        assert!(exceptions("a | b | c").is_err());
    }

    #[test]
    fn a_gap_that_is_closed_must_leave_the_list() {
        assert_eq!(of_gap("not yet", &Verdict::Fail("x".into())), Verdict::Skip("not yet".into()));
        assert!(matches!(of_gap("not yet", &Verdict::Ok), Verdict::Fail(_)));
    }
}
