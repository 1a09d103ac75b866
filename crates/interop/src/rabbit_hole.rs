//! The specs that rabbit-hole, the Go client of RabbitMQ's management API, ships with its module, run from an unmodified
//! copy of it.
//!
//! Specs that can't pass here are named, with the reason, in `clients/go/rabbit-hole.txt`. They are run all the same, and
//! one that passes must leave the list.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::Layout;
use crate::go_suites::{fresh_copy, of_gap};
use crate::process::{checked, lines};
use crate::run::Broker;
use crate::verdict::{Judgement, Verdict};

const MODULE: &str = "github.com/michaelklishin/rabbit-hole/v3@v3.5.0";
/// What go.sum would say about it. It is no requirement of the module in `clients/go`, which must build with an older Go.
const SUM: &str = "h1:20tB41aYKz4PKoKAIawO7HwP0shkkxhCBuZps3v/47M=";
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the specs and adds a verdict for each.
///
/// # Errors
/// If the module can't be fetched or copied, leaves no report, or takes too long.
pub fn run(layout: &Layout, broker: &Broker, logs: &Path, judgement: &mut Judgement) -> Result<()> {
    let listed = layout.source("go").join("rabbit-hole.txt");
    let listed = fs::read_to_string(&listed).with_context(|| format!("cannot read {}", listed.display()))?;
    let gaps = gaps(&listed)?;
    prepare(broker)?;
    let (copy, report) = (copy_module(layout)?, logs.join("rabbit-hole.json"));
    let mut go = Command::new("go");
    go.current_dir(&copy).args(["test", "-count=1", ".", "--ginkgo.no-color", "--ginkgo.json-report"]).arg(&report);
    let _ = fs::remove_file(&report);
    let log = logs.join("rabbit-hole-suite.log");
    lines(&mut go, &log, LIMIT, |_| ())?;
    let report = fs::read(&report).with_context(|| format!("it left no report; see {}", log.display()))?;
    let suites: Vec<Suite> = serde_json::from_slice(&report).context("Ginkgo's report is not what it was")?;
    for spec in suites.into_iter().flat_map(|suite| suite.specs).filter(|spec| spec.kind == "It") {
        let name = spec.name();
        let verdict = spec.verdict();
        let gap = gaps.iter().find(|(listed, _)| *listed == name);
        judgement.verdicts.push((name, gap.map_or(verdict.clone(), |(_, reason)| of_gap(reason, &verdict))));
    }
    let unknown = gaps.iter().filter(|(listed, _)| judgement.verdicts.iter().all(|(name, _)| name != listed));
    let unknown: Vec<&str> = unknown.map(|(listed, _)| *listed).collect();
    if !unknown.is_empty() {
        bail!("rabbit-hole.txt lists specs that there are not: {}", unknown.join("; "));
    }
    Ok(())
}

/// Spec and reason, in lines `spec | reason`.
fn gaps(text: &str) -> Result<Vec<(&str, &str)>> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    rows.map(|row| {
        let parts = row.split_once(" | ");
        parts.with_context(|| format!("rabbit-hole.txt: `{row}` isn't `spec | reason`"))
    })
    .collect()
}

/// What the module's own script has rabbitmqctl do before the specs.
fn prepare(broker: &Broker) -> Result<()> {
    let http = broker.http.as_deref().context("rabbit-hole judges the management API")?;
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    let calls = [
        ("users/policymaker", r#"{"password":"policymaker","tags":"policymaker"}"#),
        ("permissions/%2F/policymaker", everything),
        ("vhosts/rabbit%2Fhole", "{}"),
        ("permissions/rabbit%2Fhole/guest", everything),
        ("permissions/rabbit%2Fhole/policymaker", everything),
        ("cluster-name", r#"{"name":"rabbitmq@localhost"}"#),
    ];
    for (path, body) in calls {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--user", "guest:guest", "--request", "PUT", "--data", body]);
        checked(curl.arg(format!("{http}/api/{path}")))?;
    }
    Ok(())
}

/// Go's module cache is read-only and shared.
fn copy_module(layout: &Layout) -> Result<PathBuf> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Module {
        dir: PathBuf,
        sum: String,
    }
    let target = layout.installed("go").join("suites");
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    let module = checked(Command::new("go").current_dir(&target).args(["mod", "download", "-json", MODULE]))?;
    let module: Module = serde_json::from_str(&module).context("go mod download -json is not what it was")?;
    if module.sum != SUM {
        bail!("{MODULE} has the checksum {}, and not {SUM}", module.sum);
    }
    let copy = target.join("rabbit-hole");
    fresh_copy(&module.dir, &copy)?;
    Ok(copy)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(rename = "SpecReports")]
    specs: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    #[serde(rename = "LeafNodeType")]
    kind: String,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Spec {
    /// What it is about and what it says of it, without the line that all have in common.
    fn name(&self) -> String {
        let about = self.container_hierarchy_texts.as_deref().unwrap_or_default();
        let texts = about.iter().skip(1).chain([&self.leaf_node_text]);
        texts.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn verdict(&self) -> Verdict {
        match self.state.as_str() {
            "passed" => Verdict::Ok,
            "skipped" | "pending" => Verdict::Skip("the spec skips itself".into()),
            state => {
                let message = self.failure.as_ref().map_or("", |failure| &failure.message);
                Verdict::Fail(format!("{state}: {}", message.split_whitespace().collect::<Vec<_>>().join(" ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_a_report() {
        let report = r#"[{"SpecReports": [
            {"ContainerHierarchyTexts": null, "LeafNodeType": "BeforeSuite", "LeafNodeText": "", "State": "passed"},
            {"ContainerHierarchyTexts": ["client", "GET /nodes"], "LeafNodeType": "It", "LeafNodeText": "answers", "State": "passed"},
            {"ContainerHierarchyTexts": ["client"], "LeafNodeType": "It", "LeafNodeText": "fails", "State": "failed", "Failure": {"Message": "Expected\n    1"}}
        ]}]"#;
        let suites: Vec<Suite> = serde_json::from_str(report).unwrap();
        let specs: Vec<(String, Verdict)> = suites[0].specs.iter().map(|spec| (spec.name(), spec.verdict())).collect();
        assert_eq!(specs[1], ("GET /nodes answers".into(), Verdict::Ok));
        assert_eq!(specs[2], ("fails".into(), Verdict::Fail("failed: Expected 1".into())));
    }

    #[test]
    fn the_list_of_exceptions_is_well_formed() {
        let layout = Layout::of_checkout().unwrap();
        let text = fs::read_to_string(layout.source("go").join("rabbit-hole.txt")).unwrap();
        assert!(gaps(&text).unwrap().iter().all(|(spec, reason)| !spec.is_empty() && !reason.is_empty()));
        assert!(gaps("no reason").is_err());
    }
}
