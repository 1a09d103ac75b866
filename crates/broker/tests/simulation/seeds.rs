//! Runs many seeds on all processors, keeps those that fail, and counts what was met.

use crate::coverage::Coverage;
use crate::driver::{Plan, run};
use crate::sites::{HARMS, RARE, SITES};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Without `LEVERET_SIM_SEEDS`: what a debug build does in seconds.
const FEW: u64 = 200;

/// From so many seeds on every cell of the matrix must have been hit, and how often.
const MANY: u64 = 10_000;
const HITS: u64 = 100;

/// After so many failures a run is over: they are likely to be the same.
const FAILURES: usize = 5;

/// How many seeds are run between two looks at the clock.
const CHUNK: u64 = 16;

#[test]
fn what_was_confirmed_survives_and_nothing_else_appears() {
    let (first, count) = (number("LEVERET_SIM_FIRST", 1), number("LEVERET_SIM_SEEDS", FEW));
    let alone = std::env::var("LEVERET_SIM_TRACE").is_ok();
    if alone {
        let coverage = run(Plan { trace: true, ..plan(first) });
        coverage.unwrap_or_else(|error| panic!("seed {first}: {error}"));
        return;
    }
    let seeds: Vec<u64> = kept().into_iter().chain(first..first + count).collect();
    let outcome = Outcome::of(&seeds);
    println!("{}", outcome.coverage.table());
    for (seed, error) in &outcome.failures {
        println!("seed {seed}: {error}");
        println!(
            "    LEVERET_SIM_TRACE=1 LEVERET_SIM_FIRST={seed} cargo test -p leveret-broker --test simulation -- --nocapture what_was"
        );
    }
    keep(outcome.failures.iter().map(|(seed, _)| *seed));
    assert!(outcome.failures.is_empty(), "{} seeds failed, see above", outcome.failures.len());
    let unknown = outcome.coverage.unknown(&[SITES, RARE].concat());
    assert!(unknown.is_empty(), "the disk is called where sites.rs does not say: {unknown:#?}");
    if count >= MANY {
        let missing = outcome.coverage.missing(SITES, HARMS, HITS);
        assert!(missing.is_empty(), "cells that were hit fewer than {HITS} times: {missing:#?}");
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")),
        Err(_) => default,
    }
}

/// What a run of many seeds came to.
pub struct Outcome {
    pub coverage: Coverage,
    pub failures: Vec<(u64, String)>,
}

impl Outcome {
    pub fn of(seeds: &[u64]) -> Outcome {
        let total = Mutex::new(Outcome { coverage: Coverage::default(), failures: Vec::new() });
        let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let begin = next.fetch_add(CHUNK, Ordering::Relaxed) as usize;
                        let Some(chunk) = seeds.get(begin..seeds.len().min(begin + CHUNK as usize)) else { break };
                        if chunk.is_empty() {
                            break;
                        }
                        let done = Outcome::of_chunk(chunk);
                        let mut total = total.lock().expect("no thread panics with it");
                        total.coverage.add(&done.coverage);
                        total.failures.extend(done.failures);
                        over.fetch_or(total.failures.len() >= FAILURES, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| progress(&next, &over, seeds.len() as u64));
        });
        total.into_inner().expect("no thread panics with it")
    }

    fn of_chunk(seeds: &[u64]) -> Outcome {
        let mut outcome = Outcome { coverage: Coverage::default(), failures: Vec::new() };
        for &seed in seeds {
            match run_guarded(plan(seed)) {
                Ok(coverage) => outcome.coverage.add(&coverage),
                Err(error) => outcome.failures.push((seed, error)),
            }
        }
        outcome
    }
}

/// Runs a plan; a panic of the broker is a failure of the seed.
pub fn run_guarded(plan: Plan) -> Result<Coverage, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// Says now and then how far it is, if that takes long.
fn progress(next: &AtomicU64, over: &AtomicBool, count: u64) {
    let (start, mut said) = (Instant::now(), Instant::now());
    while next.load(Ordering::Relaxed) < count && !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            let (done, seconds) = (next.load(Ordering::Relaxed).min(count), start.elapsed().as_secs_f64());
            let left = seconds / done.max(1) as f64 * (count - done) as f64;
            eprintln!("{done} of {count} seeds, {:.0} a second, {left:.0} s left", done as f64 / seconds);
        }
    }
}

/// What a seed is like; one of those that failed early as it was then.
fn plan(seed: u64) -> Plan {
    static EARLY_SEEDS: LazyLock<BTreeSet<u64>> = LazyLock::new(|| {
        let text = fs::read_to_string(path()).unwrap_or_default();
        text.split_once(EARLY).map(|(early, _)| seeds_in(early).collect()).unwrap_or_default()
    });
    Plan { alone: EARLY_SEEDS.contains(&seed), ..Plan::of_seed(seed) }
}

/// The line of the file behind the seeds that failed before there was anything beside the virtual host.
const EARLY: &str = "# The seeds above are run without";

fn seeds_in(text: &str) -> impl Iterator<Item = u64> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter_map(|line| line.parse().ok())
}

/// Seeds that failed once.
fn kept() -> BTreeSet<u64> {
    seeds_in(&fs::read_to_string(path()).unwrap_or_default()).collect()
}

fn keep(seeds: impl Iterator<Item = u64>) {
    let known = kept();
    for seed in seeds.filter(|seed| !known.contains(seed)) {
        let file = fs::OpenOptions::new().append(true).create(true).open(path());
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{seed}")) {
            println!("seed {seed} could not be kept: {error}");
        }
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/seeds.txt")
}
