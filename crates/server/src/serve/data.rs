//! The data directory: its options, opening it, and what a start says about it.

use anyhow::{Error, Result, anyhow};
use clap::Args;
use leveret_broker::disk::Directory;
use leveret_broker::{Broker, Damage, Environment, Limits, OpenError, Recovery, Storage, Sync};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Damaged queues that a start names one by one.
const DAMAGE_SHOWN: usize = 20;

/// Bytes of a segment unless told otherwise: as [`Storage::new`] has it.
const SEGMENT_SIZE: u32 = 32 * 1024 * 1024;

/// Longest time between two syncs: whoever wants more wants `never`.
const INTERVAL_MAX: u64 = 60_000;

/// Where durable messages are, and how safe.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Keep what is durable here; made if it is missing. Only one process can use it at a time
    #[arg(long, value_name = "DIR", default_value = "./leveret-data")]
    data_dir: PathBuf,
    /// Keep everything in memory: what is in the broker is gone when it stops
    #[arg(long, conflicts_with_all = ["data_dir", "sync", "accept_loss", "min_free_disk", "segment_size"])]
    memory: bool,
    /// When a persistent message is confirmed: `always` after a sync, so that it survives a power cut; `interval:<ms>`
    /// after the write, with a sync within that time; `never` after the write, and the operating system syncs when it
    /// likes. A killed process loses nothing that was confirmed, whatever is chosen
    #[arg(long, value_name = "WHEN", default_value = "always", value_parser = parse_sync)]
    sync: Sync,
    /// Start although files are missing, and serve damaged queues without what is damaged
    #[arg(long)]
    accept_loss: bool,
    /// Bytes that must be free on the disk: with less, publishers are blocked. The default is RabbitMQ's
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().min_free_disk, help_heading = "Limits")]
    min_free_disk: u64,
    /// Bytes of a segment of the log, which is what disk space is taken and given back in
    #[arg(long, value_name = "BYTES", default_value_t = SEGMENT_SIZE, help_heading = "Limits",
          value_parser = clap::value_parser!(u32).range(64 * 1024..=1024 * 1024 * 1024))]
    segment_size: u32,
}

impl DataArgs {
    /// The limit on the disk.
    pub fn min_free_disk(&self) -> u64 {
        self.min_free_disk
    }

    /// Opens the broker: with what its directory holds, or empty in memory. Takes as long as the recovery.
    ///
    /// # Errors
    /// If the directory is in use, cannot be read or is incomplete; the text says what to do.
    pub fn open(&self, limits: Limits, environment: Environment) -> Result<Broker> {
        if self.memory {
            info!(max_memory = limits.max_memory, "everything is kept in memory and ends with this process");
            return Ok(Broker::new(limits, environment));
        }
        let begin = Instant::now();
        let disk = Directory::open(&self.data_dir).map_err(|error| cannot_use(&self.data_dir, error))?;
        let (sync, max_memory) = (shown(self.sync), limits.max_memory);
        let storage = Storage {
            sync: self.sync,
            segment_size: self.segment_size,
            accept_loss: self.accept_loss,
            ..Storage::new(Arc::new(disk))
        };
        let (broker, recovery) =
            Broker::open_with(limits, environment, storage).map_err(|error| cannot_open(&self.data_dir, error))?;
        let directory = self.data_dir.canonicalize().unwrap_or_else(|_| self.data_dir.clone());
        info!(directory = %directory.display(), max_memory, "durable queues and messages are kept on disk");
        info!(sync, "{}", promise(self.sync));
        self.report(&recovery, begin.elapsed());
        Ok(broker)
    }

    /// Says what the directory held.
    fn report(&self, recovery: &Recovery, took: Duration) {
        let &Recovery { queues, messages, torn, .. } = recovery;
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        info!(queues, messages, seconds, "recovered");
        if torn > 0 {
            info!(
                bytes = torn,
                "the log ended in the middle of a write; nothing in that was confirmed, and it is dropped"
            );
        }
        self.report_damage(&damage_lines(&recovery.damage));
    }

    /// Warns of damage, a line each, but not of more than a person reads.
    pub fn report_damage(&self, lines: &[String]) {
        let consequence = match self.accept_loss {
            true => "the queue is served without it, as --accept-loss says".to_string(),
            false => format!(
                "the queue is closed, the others are served; stop and run `leveret check {}` to see all, start with \
                 --accept-loss to go on without it",
                self.data_dir.display()
            ),
        };
        for line in lines.iter().take(DAMAGE_SHOWN) {
            warn!("damage: {line}; {consequence}");
        }
        if lines.len() > DAMAGE_SHOWN {
            warn!(more = lines.len() - DAMAGE_SHOWN, "damage: there is more");
        }
    }
}

/// `always`, `interval:<ms>` or `never`.
fn parse_sync(text: &str) -> Result<Sync, String> {
    let allowed =
        || format!("say always, never, or interval:<ms>, for example interval:100; at most {INTERVAL_MAX} ms");
    match text {
        "always" => Ok(Sync::Always),
        "never" => Ok(Sync::Never),
        _ => {
            let milliseconds = text.strip_prefix("interval:").and_then(|text| text.parse().ok());
            let milliseconds = milliseconds.filter(|&milliseconds| (1..=INTERVAL_MAX).contains(&milliseconds));
            milliseconds.map(|milliseconds| Sync::Interval(Duration::from_millis(milliseconds))).ok_or_else(allowed)
        }
    }
}

/// As it is given on the command line.
fn shown(sync: Sync) -> String {
    match sync {
        Sync::Always => "always".to_string(),
        Sync::Interval(interval) => format!("interval:{}", interval.as_millis()),
        Sync::Never => "never".to_string(),
    }
}

/// What a confirm means.
fn promise(sync: Sync) -> &'static str {
    match sync {
        Sync::Always => "a confirm means synced: it survives a killed process and a power cut",
        Sync::Interval(_) => "a confirm means written, and synced soon: a power cut takes what came in the interval",
        Sync::Never => "a confirm means written: it survives a killed process, but no power cut",
    }
}

fn cannot_use(path: &Path, error: std::io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        ErrorKind::ResourceBusy => {
            anyhow!("{path} is in use by another process; stop that, or give this broker its own with --data-dir")
        }
        _ => {
            let hint = "choose another with --data-dir, or keep everything in memory with --memory";
            Error::new(error).context(format!("cannot use the data directory {path}; {hint}"))
        }
    }
}

fn cannot_open(path: &Path, error: OpenError) -> Error {
    let path = path.display();
    match error {
        OpenError::Missing(what) => anyhow!(
            "the data directory {path} is incomplete: {what}. Restore it; or start with --accept-loss, which gives up \
             what is missing for good"
        ),
        error => Error::new(error).context(format!("cannot open the data directory {path}")),
    }
}

/// A line for each damaged queue; what belongs to no known queue comes first.
fn damage_lines(damage: &[Damage]) -> Vec<String> {
    let mut queues: BTreeMap<_, Vec<&Damage>> = BTreeMap::new();
    for damage in damage {
        queues.entry(&damage.queue).or_default().push(damage);
    }
    let line = |(queue, parts): (&Option<(String, String)>, Vec<&Damage>)| {
        let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
        let messages: Option<u64> = parts.iter().map(|part| Some(part.positions?.1)).sum();
        let messages = messages.map_or("an unknown number".to_string(), |messages| messages.to_string());
        let queue = match queue {
            Some((vhost, name)) => format!("queue '{name}' in vhost '{vhost}'"),
            None => "unknown queues".to_string(),
        };
        let Damage { file, offset, .. } = parts[0];
        format!("messages of {queue} cannot be read: {messages}, {bytes} bytes, from {file} at {offset} on")
    };
    queues.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&match parse_sync(text) {
            Ok(sync) => format!("{}: {}", shown(sync), promise(sync)),
            Err(error) => error,
        });
    }

    #[test]
    fn a_sync_level_is_shown_as_it_was_given_with_its_promise() {
        check("always", expect!["always: a confirm means synced: it survives a killed process and a power cut"]);
        check(
            "interval:250",
            expect![
                "interval:250: a confirm means written, and synced soon: a power cut takes what came in the interval"
            ],
        );
        check("never", expect!["never: a confirm means written: it survives a killed process, but no power cut"]);
    }

    #[test]
    fn what_is_no_sync_level_is_an_error_that_lists_them() {
        check("sometimes", expect!["say always, never, or interval:<ms>, for example interval:100; at most 60000 ms"]);
        for text in
            ["", "Always", "interval", "interval:", "interval:0", "interval:-1", "interval:60001", "interval:1s"]
        {
            assert_eq!(parse_sync(text), parse_sync("sometimes"), "{text}");
        }
    }

    #[test]
    fn damage_is_told_queue_by_queue() {
        let part = |queue: Option<&str>, offset, positions| Damage {
            file: "00000007.log".to_string(),
            offset,
            bytes: 100,
            queue: queue.map(|name| ("/".to_string(), name.to_string())),
            positions,
        };
        let damage = [
            part(Some("b"), 4096, Some((10, 5))),
            part(Some("a"), 8192, None),
            part(Some("b"), 12288, Some((20, 1))),
            part(None, 16384, None),
        ];
        expect![[r#"
            messages of unknown queues cannot be read: an unknown number, 100 bytes, from 00000007.log at 16384 on
            messages of queue 'a' in vhost '/' cannot be read: an unknown number, 100 bytes, from 00000007.log at 8192 on
            messages of queue 'b' in vhost '/' cannot be read: 6, 200 bytes, from 00000007.log at 4096 on"#]].assert_eq(&damage_lines(&damage).join("\n"));
    }
}
