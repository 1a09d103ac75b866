//! Running many judges side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clients::{Client, Kind, Language};
use crate::install::{install, missing_tool};
use crate::verdict::{Judgement, Verdict};
use crate::{Layout, go_suites, process, rabbit_hole, tools};

/// How many judges are busy at once. More would measure the machine's patience and not the broker's.
const BUSY: usize = 3;
/// A judge that isn't done by then is killed. Its idle minute is most of it.
const LIMIT: Duration = Duration::from_secs(180);

/// A broker to be judged.
#[derive(Debug, Clone)]
pub struct Broker {
    /// `leveret` or `rabbitmq`: whose rows of expected.txt apply besides those of every broker.
    pub name: String,
    /// `amqp://user:password@host:port`
    pub url: String,
    /// `http://host:port` of its management API, for the tools that judge it.
    pub http: Option<String>,
    /// The executable, for scripts that start brokers of their own to kill them.
    pub binary: Option<PathBuf>,
}

/// Installs what the clients need; returns why a language's clients can't run, per language.
pub fn prepare(layout: &Layout, clients: &[Client]) -> BTreeMap<Language, String> {
    let wanted: BTreeSet<Language> = clients.iter().map(|client| client.language).collect();
    let mut absent = BTreeMap::new();
    for language in Language::ALL.into_iter().filter(|language| wanted.contains(language)) {
        if let Some(why) = missing_tool(language) {
            absent.insert(language, why);
        } else if let Err(error) = install(layout, language) {
            absent.insert(language, format!("{error:#}"));
        }
    }
    absent
}

/// Runs the clients against a broker, at most three busy at once, and returns their judgements in the same order.
///
/// # Errors
/// If the directory of the logs can't be made. A client that fails is a judgement, not an error.
pub fn run(
    layout: &Layout,
    clients: &[Client],
    absent: &BTreeMap<Language, String>,
    broker: &Broker,
) -> Result<Vec<Judgement>> {
    let logs = layout.installed("logs").join(&broker.name);
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let slots = Slots::new(BUSY);
    let judgements = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .map(|client| {
                let (slots, logs) = (&slots, &logs);
                scope.spawn(move || match absent.get(&client.language) {
                    Some(why) => Judgement { absent: Some(why.clone()), ..Judgement::new(client.name) },
                    None => judge(layout, client, broker, logs, slots),
                })
            })
            .collect();
        threads
            .into_iter()
            .zip(clients)
            .map(|(thread, client)| thread.join().unwrap_or_else(|_| broken(client)))
            .collect()
    });
    Ok(judgements)
}

/// Runs one client against a broker.
///
/// # Errors
/// As [`run`].
pub fn run_one(layout: &Layout, client: &Client, broker: &Broker) -> Result<Judgement> {
    let logs = layout.installed("logs").join(&broker.name);
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    Ok(judge(layout, client, broker, &logs, &Slots::new(1)))
}

fn broken(client: &Client) -> Judgement {
    let mut judgement = Judgement::new(client.name);
    judgement.fail("the thread that ran it panicked");
    judgement
}

fn judge(layout: &Layout, client: &Client, broker: &Broker, logs: &Path, slots: &Slots) -> Judgement {
    let mut slot = Some(slots.take());
    let began = Instant::now();
    let mut judgement = Judgement::new(client.name);
    let log = logs.join(client.name).with_extension("log");
    if matches!(client.kind, Kind::GoSuites | Kind::RabbitHole) {
        let run = if client.kind == Kind::GoSuites { go_suites::run } else { rabbit_hole::run };
        let result = run(layout, broker, logs, &mut judgement);
        judgement.settle(result.map(|()| Some(i32::from(judgement.failed()))).map_err(|error| format!("{error:#}")));
    } else {
        let mut command = if client.kind == Kind::Tool {
            tools::command(layout, client, broker)
        } else {
            client.command(layout, &broker.url)
        };
        command.env("INTEROP_BROKER", &broker.name);
        if let Some(binary) = &broker.binary {
            command.env("INTEROP_LEVERET", binary);
        }
        let mut messages = Vec::new();
        let exit = process::lines(&mut command, &log, LIMIT, |line| {
            if judgement.add(line) {
                slot = None;
            }
            messages.push(line.to_string());
        });
        if client.kind == Kind::Reference {
            judgement.verdicts.push(("reference-program".into(), reference(&messages)));
        }
        judgement.settle(exit.map_err(|error| format!("{error:#}")));
    }
    judgement.seconds = began.elapsed().as_secs_f64();
    judgement
}

/// The reference program prints three numbers in order, each with the time at which it was published.
fn reference(lines: &[String]) -> Verdict {
    let in_order = lines.iter().zip(1..).all(|(line, number)| {
        let (found, time) = line.split_once(' ').unwrap_or((line, ""));
        found == number.to_string() && time.starts_with("20")
    });
    if in_order && lines.len() == 3 { Verdict::Ok } else { Verdict::Fail(format!("expected 1, 2, 3, got {lines:?}")) }
}

/// A counting semaphore: the standard library has none.
struct Slots {
    free: Mutex<usize>,
    changed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count), changed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.changed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_program_must_print_its_three_messages_in_order() {
        let lines = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let time = "2026-11-21T07:19:19Z";
        let good = lines(&[&format!("1 {time}"), &format!("2 {time}"), &format!("3 {time}")]);
        assert_eq!(reference(&good), Verdict::Ok);
        assert_ne!(reference(&good[..2]), Verdict::Ok);
        assert_ne!(reference(&lines(&["1", "2", "3"])), Verdict::Ok);
        let swapped = lines(&[&format!("2 {time}"), &format!("1 {time}"), &format!("3 {time}")]);
        assert_ne!(reference(&swapped), Verdict::Ok);
    }
}
