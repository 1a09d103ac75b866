//! Other people's tools that ask the management API: RabbitMQ's, Celery's and kombu's, Prometheus, a fuzzer.
//!
//! Each gets a Leveret of its own, since some of them delete what they find. Their scripts are in `clients/python/tools`
//! and print verdicts like those of the clients.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::clients::{Client, Kind, Language, client};
use crate::install::{crates_io, python};
use crate::process::exists;
use crate::run::{Broker, run_one};
use crate::verdict::Judgement;
use crate::{Layout, brokers};

/// The slowest first.
pub const ALL: [Client; 7] = [
    client(RABBIT_HOLE, Language::Go, Kind::RabbitHole, "rabbit-hole.txt"),
    client("schemathesis", Language::Python, Kind::Tool, "tools/openapi.py"),
    client("flower", Language::Python, Kind::Tool, "tools/flower_page.py"),
    client("prometheus", Language::Python, Kind::Tool, "tools/scrape.py"),
    client("rabbitmqadmin-2", Language::Python, Kind::Tool, "tools/rabbitmqadmin_2.py"),
    client("rabbitmqadmin", Language::Python, Kind::Tool, "tools/rabbitmqadmin_1.py"),
    client("kombu", Language::Python, Kind::Tool, "tools/kombu_manager.py"),
];

const RABBIT_HOLE: &str = "rabbit-hole";

/// Of the rewrite of rabbitmqadmin in Rust.
const RABBITMQADMIN_2: &str = "2.35.0";

/// Those of these names, or all.
///
/// # Errors
/// If there is none of a name.
pub fn select(names: &[String]) -> Result<Vec<Client>> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|tool| tool.name != name.as_str())) {
        bail!("no tool `{unknown}`; there are {}", ALL.map(|tool| tool.name).join(", "));
    }
    Ok(ALL.into_iter().filter(|tool| names.is_empty() || names.iter().any(|name| name == tool.name)).collect())
}

/// Installs the tools and runs all side by side: they wait more than they work.
///
/// # Errors
/// If the executable isn't there. A tool that fails is a judgement, not an error.
pub fn run(layout: &Layout, tools: &[Client], leveret: &Path) -> Result<Vec<Judgement>> {
    let leveret = &leveret.canonicalize().with_context(|| format!("no {}", leveret.display()))?;
    let absent: Vec<Option<String>> = tools.iter().map(|tool| absent(layout, tool)).collect();
    Ok(thread::scope(|scope| {
        let start = |(tool, absent): (&Client, Option<String>)| {
            let tool = *tool;
            scope.spawn(move || judged(layout, &tool, absent, leveret))
        };
        let threads: Vec<_> = tools.iter().zip(absent).map(start).collect();
        let join =
            |thread: thread::ScopedJoinHandle<'_, Judgement>| thread.join().unwrap_or_else(|it| resume_unwind(it));
        threads.into_iter().map(join).collect()
    }))
}

/// The command that judges a broker.
pub(crate) fn command(layout: &Layout, tool: &Client, broker: &Broker) -> Command {
    let sources = layout.source(tool.language.name());
    let mut python = Command::new(environment(layout).join("venv/bin/python"));
    python.arg("-B").arg(sources.join(tool.script)).arg(&broker.url).arg(broker.http.as_deref().unwrap_or_default());
    python.env("PYTHONPATH", sources).env("INTEROP_HOME", layout.installed("tools-data").join(tool.name));
    python.env("RABBITMQADMIN_2", rabbitmqadmin_2(layout).join("bin/rabbitmqadmin"));
    python
}

fn judged(layout: &Layout, tool: &Client, absent: Option<String>, leveret: &Path) -> Judgement {
    let mut judgement = Judgement::new(tool.name);
    if absent.is_some() {
        judgement.absent = absent;
        return judgement;
    }
    // rabbit-hole's specs know no other ports.
    let run = brokers::start_managed(layout, leveret, tool.name, tool.name == RABBIT_HOLE).and_then(|managed| {
        let (name, url, http) = ("leveret".into(), managed.started.url.clone(), Some(managed.http.clone()));
        run_one(layout, tool, &Broker { name, url, http, binary: None })
    });
    run.unwrap_or_else(|error| {
        judgement.fail(format!("{error:#}"));
        judgement
    })
}

/// Installs a tool; if it can't be had, says why.
fn absent(layout: &Layout, tool: &Client) -> Option<String> {
    let needed: &[&str] = match tool.name {
        RABBIT_HOLE => &["go", "curl"],
        "rabbitmqadmin" => &["python3", "rabbitmqadmin"],
        "prometheus" => &["python3", "prometheus", "promtool"],
        _ => &["python3"],
    };
    if let Some(missing) = needed.iter().find(|program| !exists(program)) {
        return Some(format!("{missing} is not installed"));
    }
    let installed = match tool.kind {
        Kind::RabbitHole => Ok(()),
        _ => python(&layout.source("python").join("tools"), &environment(layout)).map(drop),
    };
    let installed = installed.and_then(|()| match tool.name {
        "rabbitmqadmin-2" => crates_io("rabbitmqadmin", RABBITMQADMIN_2, &rabbitmqadmin_2(layout)),
        _ => Ok(()),
    });
    installed.err().map(|error| format!("{error:#}"))
}

/// Where the tools in Python and what their scripts import are.
fn environment(layout: &Layout) -> PathBuf {
    layout.installed("tools")
}

fn rabbitmqadmin_2(layout: &Layout) -> PathBuf {
    layout.installed("rabbitmqadmin")
}
