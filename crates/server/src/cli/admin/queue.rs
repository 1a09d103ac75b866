//! `leveret queue`: what is in a queue, and what may be done to it.

use super::api::{Api, empty};
use super::{ApiArgs, print};
use crate::cli::table::shown;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::fmt::Write;

/// Messages that are moved by one request: few enough for a bar that moves, and for Ctrl-C to be soon enough.
const STEP: u64 = 10_000;

/// `leveret queue`.
#[derive(Args, Clone, Debug)]
pub struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum QueueCommand {
    /// Print messages without taking them out
    #[command(after_help = "\
Example:
  leveret queue peek orders.dead --contains hare --filter 'attributes.country = \"de\"'")]
    Peek {
        #[command(flatten)]
        queue: Queue,
        /// How many
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=500))]
        count: u64,
        /// Begin behind so many messages
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Only those for which this holds: a condition on headers and properties, as bindings may have
        #[arg(long, value_name = "FILTER")]
        filter: Option<String>,
        /// Only those with this text in their body
        #[arg(long, value_name = "TEXT")]
        contains: Option<String>,
        /// Only those with this text in their routing key
        #[arg(long, value_name = "TEXT")]
        key: Option<String>,
    },
    /// Drop all messages that wait for a consumer
    Purge {
        #[command(flatten)]
        queue: Queue,
    },
    /// Give dead letters back to the queues in which they died
    Redrive {
        #[command(flatten)]
        queue: Queue,
        /// At most so many
        #[arg(long, short = 'n')]
        count: Option<u64>,
    },
    /// Move messages to another queue
    Move {
        #[command(flatten)]
        queue: Queue,
        /// The other queue
        #[arg(value_name = "TO")]
        to: String,
        /// At most so many
        #[arg(long, short = 'n')]
        count: Option<u64>,
    },
    /// Let consumers get nothing until it is resumed; publishers go on
    Pause {
        #[command(flatten)]
        queue: Queue,
    },
    /// Let consumers go on
    Resume {
        #[command(flatten)]
        queue: Queue,
    },
    /// Delete it with its messages
    Delete {
        #[command(flatten)]
        queue: Queue,
        /// Only if nobody consumes from it
        #[arg(long)]
        if_unused: bool,
        /// Only if nothing is in it
        #[arg(long)]
        if_empty: bool,
    },
}

#[derive(Args, Clone, Debug)]
struct Queue {
    /// The queue's name
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Its virtual host
    #[arg(long, default_value = "/")]
    vhost: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Queue {
    fn path(&self) -> [&str; 3] {
        ["queues", &self.vhost, &self.name]
    }

    fn below<'a>(&'a self, what: &'a str) -> [&'a str; 4] {
        ["queues", &self.vhost, &self.name, what]
    }

    fn ready(&self, api: &Api) -> Result<u64> {
        Ok(api.get(&self.path(), &[])?["messages_ready"].as_u64().unwrap_or(0))
    }
}

/// Runs the command to its end.
///
/// # Errors
/// With what the broker says.
pub fn run(args: &QueueArgs) -> Result<()> {
    match &args.command {
        QueueCommand::Peek { queue, count, offset, filter, contains, key } => {
            let conditions = [("filter", filter), ("contains", contains), ("key", key)];
            peek(queue, *count, *offset, conditions)
        }
        QueueCommand::Purge { queue } => {
            let api = queue.api.api();
            let ready = queue.ready(&api)?;
            api.delete(&queue.below("contents"))?;
            tell(queue, "purged", ready);
            Ok(())
        }
        QueueCommand::Redrive { queue, count } => transfer(queue, "redrive", "redriven", &empty(), *count),
        QueueCommand::Move { queue, to, count } => transfer(queue, "move", "moved", &json!({ "queue": to }), *count),
        QueueCommand::Pause { queue } => queue.api.api().put(&queue.below("pause"), &empty()).map(drop),
        QueueCommand::Resume { queue } => queue.api.api().put(&queue.below("resume"), &empty()).map(drop),
        QueueCommand::Delete { queue, if_unused, if_empty } => {
            let conditions = [("if-unused", if_unused), ("if-empty", if_empty)];
            let query: Vec<(&str, &str)> =
                conditions.into_iter().filter(|(_, set)| **set).map(|(name, _)| (name, "true")).collect();
            queue.api.api().delete_if(&queue.path(), &query).map(drop)
        }
    }
}

/// Moves messages a step at a time, until there are no more or there were enough.
fn transfer(queue: &Queue, what: &str, done: &str, body: &Value, count: Option<u64>) -> Result<()> {
    let api = queue.api.api();
    let mut left = queue.ready(&api)?.min(count.unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} messages, {per_sec}, {eta} left");
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(left).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (mut moved, mut kept) = (0, 0);
    while left > 0 {
        let mut body = body.clone();
        body["count"] = left.min(STEP).into();
        let answer = api.post(&queue.below(what), &body)?;
        let count =
            |what: &str| answer[what].as_u64().with_context(|| format!("the broker does not say what it {what}"));
        let (step, stays) = (count("moved")?, count("kept")?);
        (moved, kept) = (moved + step, kept + stays);
        left = left.saturating_sub(step + stays);
        bar.inc(step + stays);
        if step + stays == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    tell(queue, done, moved);
    if kept > 0 {
        eprintln!("{kept} messages stay: no queue takes them");
    }
    Ok(())
}

fn tell(queue: &Queue, done: &str, messages: u64) {
    match queue.api.is_for_people() {
        true => print(&format!("{messages} messages {done}\n")),
        false => print(&format!("{:#}\n", json!({ done: messages }))),
    }
}

fn peek(queue: &Queue, count: u64, offset: u64, conditions: [(&str, &Option<String>); 3]) -> Result<()> {
    let (count, offset) = (count.to_string(), offset.to_string());
    let mut query = vec![("count", count.as_str()), ("offset", offset.as_str())];
    query.extend(conditions.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
    let answer = queue.api.api().get(&queue.below("browse"), &query)?;
    if !queue.api.is_for_people() {
        print(&format!("{answer:#}\n"));
        return Ok(());
    }
    let messages = answer["messages"].as_array().context("the broker answers with something that is no list")?;
    print(&messages.iter().map(message).collect::<String>());
    if answer["complete"] != true {
        eprintln!("{} were looked at, and there are more: see --offset and --count", answer["scanned"]);
    }
    Ok(())
}

/// A message as people read it: what it is and where it came from, then its body.
fn message(message: &Value) -> String {
    let text = |name: &str| shown(message[name].as_str().unwrap_or_default());
    let mut out = format!("#{}  {} -> {}", message["position"], text("exchange"), text("routing_key"));
    let _ = write!(out, "  {} B", message["payload_bytes"]);
    if message["redelivered"] == true {
        out.push_str("  redelivered");
    }
    if let Some(state) = message["state"].as_str().filter(|state| *state != "ready") {
        let _ = write!(out, "  {}", shown(state));
    }
    out.push('\n');
    for (name, value) in message["properties"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "    {}: {}", shown(name), shown(&value.to_string()));
    }
    let encoding = if message["payload_encoding"] == "base64" { "base64 " } else { "" };
    let lines = message["payload"].as_str().unwrap_or_default().lines().map(shown);
    lines.for_each(|line| _ = writeln!(out, "  {encoding}{line}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn messages_for_people() {
        let one = json!({
            "position": 7, "exchange": "orders", "routing_key": "eu\u{7}", "redelivered": true, "state": "unacked",
            "properties": {"content_type": "text/plain", "headers": {"n": 1}},
            "payload": "two\nhares", "payload_bytes": 9, "payload_encoding": "string",
        });
        expect![[r#"
            #7  orders -> eu\u{7}  9 B  redelivered  unacked
                content_type: "text/plain"
                headers: {"n":1}
              two
              hares
        "#]]
        .assert_eq(&message(&one));
    }
}
