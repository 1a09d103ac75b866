//! The integration tests that the two Go clients ship with their modules, run from an unmodified copy of each module.
//!
//! Tests that no broker could pass here are named, with the reason, in `clients/go/not-applicable.txt`; every other
//! test must pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Layout;
use crate::process::{checked, lines};
use crate::verdict::{Judgement, Verdict};

const MODULES: [&str; 2] = ["github.com/rabbitmq/amqp091-go", "github.com/streadway/amqp"];
const LIMIT: Duration = Duration::from_secs(150);

/// Runs both suites one after the other, since they use the same queue names with other flags, and adds a verdict per
/// test, named `module/TestName`.
///
/// # Errors
/// If a module can't be fetched, copied, or cleaned up after, or its tests take too long.
pub fn run(layout: &Layout, url: &str, logs: &Path, judgement: &mut Judgement) -> Result<()> {
    let listed = fs::read_to_string(layout.source("go").join("not-applicable.txt"));
    let exceptions = exceptions(&listed.context("cannot read not-applicable.txt")?)?;
    let cleanup = layout.installed("go").join("bin/cleanup");
    checked(Command::new(&cleanup).arg(url))?;
    for module in MODULES {
        let copy = copy_module(layout, module)?;
        suite(module, &copy, url, logs, &exceptions, judgement)?;
        checked(Command::new(&cleanup).arg(url))?;
    }
    Ok(())
}

/// A test that can't pass on any broker here.
#[derive(Debug, PartialEq)]
struct Exception {
    module: String,
    test: String,
    reason: String,
}

fn exceptions(text: &str) -> Result<Vec<Exception>> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    rows.map(|row| {
        let parts: Vec<&str> = row.split('|').map(str::trim).collect();
        let [module, test, reason] = parts[..] else {
            bail!("not-applicable.txt: `{row}` isn't `module | test | reason`");
        };
        Ok(Exception { module: module.into(), test: test.into(), reason: reason.into() })
    })
    .collect()
}

/// Go's module cache is read-only and shared, and the tests of a dependency can't be run from outside its module.
fn copy_module(layout: &Layout, module: &str) -> Result<PathBuf> {
    let mut list = Command::new("go");
    list.current_dir(layout.source("go")).args(["list", "-m", "-f", "{{.Dir}}", module]);
    let cached = checked(&mut list)?;
    let copy = layout.installed("go").join("suites").join(short(module));
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("cannot empty {}", copy.display()))?;
    }
    copy_tree(Path::new(cached.trim()), &copy)?;
    Ok(copy)
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
    let mine: Vec<&Exception> = exceptions.iter().filter(|exception| exception.module == module).collect();
    let skip: Vec<String> = mine.iter().map(|exception| format!("^{}$", exception.test)).collect();
    let mut go = Command::new("go");
    go.current_dir(copy).env("AMQP_URL", format!("{url}/")).args(["test", "-tags", "integration", "-count=1", "-v"]);
    go.arg(format!("-skip={}", skip.join("|"))).arg("./...");
    let before = judgement.verdicts.len();
    let log = logs.join(format!("go-suite-{}.log", short(module)));
    let exit = lines(&mut go, &log, LIMIT, |line| {
        if let Some((test, verdict)) = test_line(line) {
            judgement.verdicts.push((format!("{}/{test}", short(module)), verdict));
        }
    })?;
    for exception in mine {
        let situation = format!("{}/{}", short(module), exception.test);
        judgement.verdicts.push((situation, Verdict::Skip(exception.reason.clone())));
    }
    let ran = &judgement.verdicts[before..];
    let passed = ran.iter().any(|(_, verdict)| *verdict == Verdict::Ok);
    let failed = ran.iter().any(|(_, verdict)| matches!(verdict, Verdict::Fail(_)));
    if !passed || (exit != Some(0) && !failed) {
        judgement.fail(format!("go test of {module} ended with {exit:?}; see {}", log.display()));
    }
    Ok(())
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
        assert!(exceptions("a | b").is_err());
    }
}
