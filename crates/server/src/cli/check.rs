//! `leveret check`: what a data directory holds, and whether all of it can be read.

use anyhow::{Context, Result, bail};
use clap::Args;
use leveret_broker::disk::Directory;
use leveret_broker::{Damage, FileKind, FileReport, QueueReport, Report};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of the check.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Exit codes: 0 if nothing is damaged, 1 if something is, 2 if the directory cannot be read.")]
pub struct CheckArgs {
    /// The data directory of a broker that does not run
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads and verifies everything in a data directory, changes nothing, and prints what it found.
pub fn check(args: &CheckArgs) -> ExitCode {
    match report(args) {
        Ok(report) => {
            match args.json {
                true => print(&format!("{}\n", as_json(&report))),
                false => print(&as_text(&report)),
            }
            ExitCode::from(u8::from(!report.damage.is_empty()))
        }
        Err(error) => {
            eprintln!("leveret: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn report(args: &CheckArgs) -> Result<Report> {
    let path = args.directory.display();
    let disk = match Directory::open_to_read(&args.directory) {
        Ok(disk) => disk,
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            bail!("{path} is in use by another process; stop the broker first")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read the data directory {path}")),
    };
    let report = leveret_broker::check(&disk).with_context(|| format!("cannot check {path}"))?;
    if report.files.is_empty() {
        bail!("{path} holds no data; is it the directory that was given to `leveret serve --data-dir`?");
    }
    Ok(report)
}

/// Whoever reads it may have seen enough, as `head` does.
fn print(text: &str) {
    let _ = io::Write::write_all(&mut io::stdout().lock(), text.as_bytes());
}

fn as_text(report: &Report) -> String {
    let mut out = String::new();
    let files = report.files.iter().map(|FileReport { name, kind, bytes, records }| {
        [name.clone(), kind_name(*kind).to_string(), records.to_string(), bytes.to_string()]
    });
    table(&mut out, ["FILE", "KIND", "RECORDS", "BYTES"], files.collect());
    let queues = report.queues.iter().map(|QueueReport { vhost, name, messages, bytes, lost }| {
        [shown(vhost), shown(name), messages.to_string(), bytes.to_string(), lost.to_string()]
    });
    table(&mut out, ["VHOST", "QUEUE", "MESSAGES", "BYTES", "LOST"], queues.collect());
    let messages: u64 = report.queues.iter().map(|queue| queue.messages).sum();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("{messages} messages in {} durable queues", report.queues.len()));
    line(format!("{} entries: users, permissions, policies and the like", report.entries));
    line(format!("a start replays {} bytes of the log", report.replayed));
    if report.torn > 0 {
        line(format!("the log ends in the middle of a write: {} bytes that were never confirmed", report.torn));
    }
    report.repairs.iter().for_each(|damage| line(format!("a start makes good: {}", place(damage))));
    report.damage.iter().for_each(|damage| line(format!("damage: {}", lost(damage))));
    line(match report.damage.len() {
        0 => "no damage".to_string(),
        places => format!("damaged places: {places}"),
    });
    out
}

/// Columns as wide as their widest; numbers, from the third on, end at the right.
fn table<const N: usize>(out: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_string)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0 => write!(out, "{cell:width$}"),
                1 => write!(out, "  {cell:width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out.push('\n');
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Segment => "segment",
        FileKind::Adopted => "adopted",
        FileKind::Merged => "merged",
        FileKind::Index => "index",
        FileKind::Checkpoint => "checkpoint",
        FileKind::Times => "times",
        FileKind::Unused => "unused",
    }
}

/// A name that somebody chose, without what a terminal could take for a command.
fn shown(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for char in name.chars() {
        match char.is_control() {
            true => out.extend(char.escape_default()),
            false => out.push(char),
        }
    }
    out
}

fn place(damage: &Damage) -> String {
    format!("{} bytes of {} at {}", damage.bytes, damage.file, damage.offset)
}

fn lost(damage: &Damage) -> String {
    let mut out = place(damage);
    if let Some((vhost, name)) = &damage.queue {
        let _ = write!(out, ", queue '{}' in vhost '{}'", shown(name), shown(vhost));
    }
    let _ = match damage.positions {
        Some((first, 1)) => write!(out, ", message {first}"),
        Some((first, count)) => write!(out, ", messages {first} to {}", first + count.saturating_sub(1)),
        None => Ok(()),
    };
    out
}

fn as_json(report: &Report) -> Value {
    let files = report.files.iter().map(|FileReport { name, kind, bytes, records }| {
        json!({ "name": name, "kind": kind_name(*kind), "bytes": bytes, "records": records })
    });
    let queues = report.queues.iter().map(|QueueReport { vhost, name, messages, bytes, lost }| {
        json!({ "vhost": vhost, "name": name, "messages": messages, "bytes": bytes, "lost": lost })
    });
    let damage = |damage: &Damage| {
        let Damage { file, offset, bytes, queue, positions } = damage;
        let (vhost, queue) = queue.as_ref().map(|(vhost, name)| (vhost, name)).unzip();
        let (first, messages) = positions.unzip();
        json!({
            "file": file, "offset": offset, "bytes": bytes,
            "vhost": vhost, "queue": queue, "first": first, "messages": messages,
        })
    };
    json!({
        "files": files.collect::<Vec<_>>(),
        "queues": queues.collect::<Vec<_>>(),
        "entries": report.entries,
        "replayed": report.replayed,
        "torn": report.torn,
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "repairs": report.repairs.iter().map(damage).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn sample() -> Report {
        let file = |name: &str, kind, records| FileReport { name: name.to_string(), kind, bytes: 33_554_432, records };
        let damage = |offset, queue: Option<&str>, positions| Damage {
            file: "00000007.log".to_string(),
            offset,
            bytes: 100,
            queue: queue.map(|name| ("/".to_string(), name.to_string())),
            positions,
        };
        let queue = |name: &str, messages, lost| QueueReport {
            vhost: "/".to_string(),
            name: name.to_string(),
            messages,
            bytes: messages * 40,
            lost,
        };
        Report {
            files: vec![
                file("00000007.log", FileKind::Segment, 12),
                file("0000000a.checkpoint", FileKind::Checkpoint, 3),
            ],
            queues: vec![queue("hostile\u{1b}[2J", 0, 0), queue("orders", 1000, 5)],
            entries: 3,
            replayed: 4096,
            torn: 512,
            damage: vec![damage(4096, Some("orders"), Some((17, 5))), damage(8192, None, None)],
            repairs: vec![damage(0, None, None)],
        }
    }

    #[test]
    fn a_report_is_read_by_people() {
        expect![[r#"
            FILE                 KIND        RECORDS     BYTES
            00000007.log         segment          12  33554432
            0000000a.checkpoint  checkpoint        3  33554432

            VHOST  QUEUE             MESSAGES  BYTES  LOST
            /      hostile\u{1b}[2J         0      0     0
            /      orders                1000  40000     5

            1000 messages in 2 durable queues
            3 entries: users, permissions, policies and the like
            a start replays 4096 bytes of the log
            the log ends in the middle of a write: 512 bytes that were never confirmed
            a start makes good: 100 bytes of 00000007.log at 0
            damage: 100 bytes of 00000007.log at 4096, queue 'orders' in vhost '/', messages 17 to 21
            damage: 100 bytes of 00000007.log at 8192
            damaged places: 2
        "#]]
        .assert_eq(&as_text(&sample()));
    }

    #[test]
    fn a_report_is_read_by_programs() {
        expect![[r#"
            {
              "damage": [
                {
                  "bytes": 100,
                  "file": "00000007.log",
                  "first": 17,
                  "messages": 5,
                  "offset": 4096,
                  "queue": "orders",
                  "vhost": "/"
                },
                {
                  "bytes": 100,
                  "file": "00000007.log",
                  "first": null,
                  "messages": null,
                  "offset": 8192,
                  "queue": null,
                  "vhost": null
                }
              ],
              "entries": 3,
              "files": [
                {
                  "bytes": 33554432,
                  "kind": "segment",
                  "name": "00000007.log",
                  "records": 12
                },
                {
                  "bytes": 33554432,
                  "kind": "checkpoint",
                  "name": "0000000a.checkpoint",
                  "records": 3
                }
              ],
              "queues": [
                {
                  "bytes": 0,
                  "lost": 0,
                  "messages": 0,
                  "name": "hostile\u001b[2J",
                  "vhost": "/"
                },
                {
                  "bytes": 40000,
                  "lost": 5,
                  "messages": 1000,
                  "name": "orders",
                  "vhost": "/"
                }
              ],
              "repairs": [
                {
                  "bytes": 100,
                  "file": "00000007.log",
                  "first": null,
                  "messages": null,
                  "offset": 0,
                  "queue": null,
                  "vhost": null
                }
              ],
              "replayed": 4096,
              "torn": 512
            }"#]]
        .assert_eq(&format!("{:#}", as_json(&sample())));
    }

    #[test]
    fn without_damage_it_says_so() {
        let clean = Report { torn: 0, damage: Vec::new(), repairs: Vec::new(), ..sample() };
        assert!(as_text(&clean).ends_with("a start replays 4096 bytes of the log\nno damage\n"));
    }
}
