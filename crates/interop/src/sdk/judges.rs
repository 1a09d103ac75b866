//! Programs in other languages beside the SDK, on one broker; and the SDK's own list of behaviours.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use leveret::driver::Support;
use leveret::{App, Bus, Meta, State, Subscription, Topic};

use crate::Layout;
use crate::clients::Language;
use crate::install::{install, missing_tool};
use crate::process::checked;

/// How long another program's events may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events that are exchanged.
const COUNT: usize = 20;

static FROM_GO: Topic<serde_json::Value> = Topic::new("interop.from-go");
static TO_RUST: Subscription<serde_json::Value> = FROM_GO.subscription("rust");
static FROM_RUST: Topic<serde_json::Value> = Topic::new("interop.from-rust");
static TO_PYTHON: Subscription<serde_json::Value> = FROM_RUST.subscription("python");
static NOT_A_TOPIC: Topic<u64> = Topic::new("amq.topic");

/// What a handler was given, as text.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

async fn see(event: serde_json::Value, State(seen): State<Seen>, meta: Meta) {
    let (plan, size) = (meta.attribute("plan").unwrap_or("none"), meta.attribute("size").unwrap_or("none"));
    let line = format!("{event} {} {plan} {size} {} {}", meta.id, meta.attempt, meta.published.is_some());
    seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Runs all of them, and prints what they say. What cannot run here is skipped, or is an error if `all` must.
///
/// # Errors
/// What did not hold.
pub async fn run(layout: &Layout, url: &str, all: bool) -> Result<()> {
    for (language, name) in [(Language::Go, "a Go program publishes"), (Language::Python, "pika reads")] {
        if let Some(why) = missing_tool(language) {
            ensure!(!all, "{name}: {why}");
            println!("skipped: {name}: {why}");
            continue;
        }
        install(layout, language)?;
        match language {
            Language::Go => go_publishes(layout, url).await?,
            _ => pika_reads(layout, url).await?,
        }
        println!("ok      {name}");
    }
    others_exchanges_are_refused(url).await?;
    println!("ok      an exchange that is no topic is refused");
    conformance(url).await
}

async fn go_publishes(layout: &Layout, url: &str) -> Result<()> {
    let (bus, seen) = (Bus::open(url).await?, Seen::default());
    let app = App::new(&bus).state(seen.clone()).handle(&TO_RUST, see).start().await?;
    let mut go = Command::new(layout.installed("go").join("bin/sdk"));
    go.args([url, FROM_GO.name(), &COUNT.to_string()]);
    tokio::task::spawn_blocking(move || checked(&mut go)).await??;
    let start = Instant::now();
    let mut lines = loop {
        let lines = seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if lines.len() >= COUNT {
            break lines;
        }
        ensure!(start.elapsed() < PATIENCE, "{} of {COUNT} events of the Go program have come", lines.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    lines.sort();
    let mut expected: Vec<_> = (0..COUNT)
        .map(|number| format!(r#"{{"from":"go","number":{number}}} go-{number} pro {number} 1 true"#))
        .collect();
    expected.sort();
    ensure!(lines == expected, "the events of the Go program have come as {lines:#?}");
    app.drain().await?;
    Ok(bus.close().await?)
}

async fn pika_reads(layout: &Layout, url: &str) -> Result<()> {
    let bus = Bus::open(url).await?;
    bus.declare(&TO_PYTHON).await?;
    let mut ids = Vec::new();
    for number in 0..COUNT {
        let event = serde_json::json!({ "number": number });
        ids.push(FROM_RUST.publish(&bus, &event).attribute("plan", "pro").key("k").await?);
    }
    let mut python = Command::new(layout.installed("python").join("venv/bin/python"));
    let queue = format!("{}.{}", FROM_RUST.name(), TO_PYTHON.name());
    python.arg("-B").arg(layout.source("python").join("sdk_reader.py")).args([url, &queue, &COUNT.to_string()]);
    let out = tokio::task::spawn_blocking(move || checked(&mut python)).await??;
    let lines: Vec<serde_json::Value> = out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == COUNT, "pika has read {} of {COUNT} events", lines.len());
    for (number, (line, id)) in lines.iter().zip(&ids).enumerate() {
        let headers = &line["headers"];
        let is_right = line["id"] == id.to_string()
            && line["type"] == "application/json"
            && line["mode"] == 2
            && line["event"]["number"] == number
            && headers["plan"] == "pro"
            && headers["leveret-key"] == "k"
            && headers["leveret-published"].is_u64();
        ensure!(is_right, "pika has read {line} for event {number} with id {id}");
    }
    Ok(bus.close().await?)
}

/// A topic is a fanout exchange: other exchanges, such as that of the reference program, are none.
async fn others_exchanges_are_refused(url: &str) -> Result<()> {
    let bus = Bus::open(url).await?;
    if bus.declare(&NOT_A_TOPIC).await.is_ok() {
        bail!("'amq.topic' was declared as a topic");
    }
    Ok(bus.close().await?)
}

/// What an engine may lack or emulate is in docs/wire-contract.md.
async fn conformance(url: &str) -> Result<()> {
    let report = leveret::conformance::run(async || Bus::open(url).await).await;
    print!("{report}");
    let failed = report.failed();
    ensure!(failed.is_empty(), "{} of {} behaviours do not hold", failed.len(), report.rows.len());
    println!(
        "{} native, {} emulated, {} absent",
        report.with(Support::Native).len(),
        report.with(Support::Emulated).len(),
        report.with(Support::Absent).len()
    );
    Ok(())
}
