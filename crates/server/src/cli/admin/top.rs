//! `leveret top`: the busiest queues, live.

use super::api::Api;
use super::list::{QUEUES, at, bytes, rate};
use super::{ApiArgs, print};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use console::Term;
use serde_json::Value;
use std::time::Duration;

/// `leveret top`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Ends with Ctrl-C.")]
pub struct TopArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Which queues come first
    #[arg(long, value_enum, default_value_t = Order::Out)]
    by: Order,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    looks: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// Messages per second that were published to it
    In,
    /// Messages per second that were delivered
    Out,
    /// Messages that wait
    Ready,
    /// Bytes of messages
    Size,
}

impl Order {
    fn key(self) -> &'static str {
        match self {
            Order::In => "message_stats.publish_details.rate",
            Order::Out => "message_stats.deliver_get_details.rate",
            Order::Ready => "messages_ready",
            Order::Size => "message_bytes",
        }
    }
}

/// Looks at the broker again and again. On a terminal each look takes the place of the one before.
///
/// # Errors
/// If the broker cannot be asked.
pub fn run(args: &TopArgs) -> Result<()> {
    let (api, term) = (args.api.api(), Term::stdout());
    ensure!(!args.api.json, "top is for people; `leveret queues --json` is for programs");
    let lines = if term.is_term() { usize::from(term.size().0) } else { 24 };
    for look in 0..args.looks.unwrap_or(u64::MAX) {
        if look > 0 {
            std::thread::sleep(Duration::from_secs(args.every));
        }
        // Asked before the screen is cleared: it does not stay empty while the broker thinks.
        let text = screen(&api, args.by, lines)?;
        if term.is_term() {
            term.clear_screen()?;
        }
        print(&text);
    }
    Ok(())
}

fn screen(api: &Api, by: Order, lines: usize) -> Result<String> {
    let overview = api.get(&["overview"], &[])?;
    let head = head(&overview);
    let size = lines.saturating_sub(head.lines().count() + 2).clamp(1, 100).to_string();
    let query = [("page", "1"), ("page_size", &size), ("sort", by.key()), ("sort_reverse", "true")];
    let queues = api.get(&["queues"], &query)?;
    Ok(format!("{head}\n{}", QUEUES.table(queues["items"].as_array().map_or(&[], Vec::as_slice))))
}

fn head(overview: &Value) -> String {
    let number = |path: &str| at(overview, path).as_f64().unwrap_or(0.0);
    let text = |path: &str| at(overview, path).as_str().unwrap_or_default().to_string();
    let stats = |name: &str| rate(number(&format!("message_stats.{name}_details.rate")));
    format!(
        "{} {}  {} connections, {} channels, {} queues, {} consumers\n\
         {} ready, {} unacked; {}/s published, {}/s confirmed, {}/s delivered, {}/s acknowledged{}\n",
        text("product_name"),
        text("product_version"),
        number("object_totals.connections"),
        number("object_totals.channels"),
        number("object_totals.queues"),
        number("object_totals.consumers"),
        number("queue_totals.messages_ready"),
        number("queue_totals.messages_unacknowledged"),
        stats("publish"),
        stats("confirm"),
        stats("deliver_get"),
        stats("ack"),
        match number("queue_totals.message_bytes") {
            0.0 => String::new(),
            size => format!("; {}", bytes(size)),
        },
    )
}
