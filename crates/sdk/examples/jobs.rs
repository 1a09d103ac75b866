//! A job queue with progress. Jobs are events of a topic with one subscription, so each is done by one worker; what they say of
//! their progress is a broadcast, which everybody sees who looks. A worker that fails is tried again, and nothing is lost meanwhile.
//!
//! `cargo run -p leveret --example jobs`

use leveret::{App, Bus, Meta, PublishError, RetryPolicy, State, Subscription, Topic};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    video: String,
    minutes: u32,
}

#[derive(Serialize, Deserialize)]
struct Progress {
    video: String,
    percent: u32,
}

const SOON: RetryPolicy = RetryPolicy { min: Duration::from_millis(20), max: Duration::from_millis(100), attempts: 5 };

static JOBS: Topic<Job> = Topic::new("jobs");
/// Two at a time in each program, whatever is waiting.
static CONVERT: Subscription<Job> = JOBS.subscription("convert").concurrency(2).retry(SOON);
static PROGRESS: Topic<Progress> = Topic::new("progress");
static WATCH: Subscription<Progress> = PROGRESS.subscription("watch").broadcast();

async fn convert(job: Job, meta: Meta, bus: Bus) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for done in 1..=job.minutes {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if job.video == "hares.mkv" && meta.attempt == 1 && done == 2 {
            return Err("the disk of the worker is full".into());
        }
        let percent = 100 * done / job.minutes;
        let progress = Progress { video: job.video.clone(), percent };
        // Who watches sees what is current. A job is done also if nobody does.
        let published: Result<_, PublishError> = PROGRESS.publish(&bus, &progress).await;
        published?;
    }
    Ok(())
}

async fn watch(progress: Progress, State(seen): State<mpsc::UnboundedSender<Progress>>) {
    // Nobody looks any more at the end.
    _ = seen.send(progress);
}

/// Converts some videos.
pub async fn run(url: &str, print: Arc<dyn Fn(String) + Send + Sync>) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(url).await?;
    let (seen, mut progress) = mpsc::unbounded_channel();
    let worker = App::new(&bus).handle(&CONVERT, convert).start().await?;
    let watcher = App::new(&bus).state(seen).handle(&WATCH, watch).start().await?;
    let videos = [("hares.mkv", 4), ("burrows.mkv", 2), ("meadow.mkv", 10), ("night.mkv", 5)];
    for (video, minutes) in videos {
        JOBS.publish(&bus, &Job { video: video.to_string(), minutes }).await?;
    }
    let mut left = videos.len();
    while left > 0 {
        let Progress { video, percent } = progress.recv().await.ok_or("nobody watches")?;
        print(format!("{video:<12} {percent:>3} % {}", "#".repeat(percent as usize / 5)));
        left -= usize::from(percent == 100);
    }
    worker.drain().await?;
    watcher.drain().await?;
    Ok(bus.close().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("BUS_URL").unwrap_or("local:".to_string());
    run(&url, Arc::new(|line| println!("{line}"))).await
}
