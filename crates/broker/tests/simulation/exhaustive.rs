//! Short scripts with a crash at every call of the disk that they make.

use crate::coverage::Fault;
use crate::disk::Comeback;
use crate::driver::{Plan, Sim};

/// Operations of a script, besides the declarations that each begins with.
const OPERATIONS: u32 = 14;

/// Calls that a script makes at most; each is a crash of its own.
const CALLS: u64 = 120;

/// Seeds of the scripts.
const SCRIPTS: [u64; 50] = {
    let mut seeds = [0; 50];
    let mut index = 0;
    while index < seeds.len() {
        seeds[index] = index as u64 + 1;
        index += 1;
    }
    seeds
};

/// How the process ends, and what the next one finds.
const ENDS: [(Fault, Comeback); 3] = [
    (Fault::Kill, Comeback::Process),
    (Fault::Power, Comeback::Power { writes: 0, names: 0 }),
    (Fault::Power, Comeback::Power { writes: 100, names: 0 }),
];

#[test]
fn fifty_scripts_survive_a_crash_at_every_call_of_the_disk() {
    for seed in SCRIPTS {
        let calls = calls_of(seed);
        assert!(calls <= CALLS, "script {seed} makes {calls} calls of the disk, {CALLS} at most");
        for call in 1..=calls {
            for (death, comeback) in ENDS {
                if let Err(error) = run(seed, Some((call, death)), comeback) {
                    panic!("script {seed}, {death:?} at call {call} of {calls}, then {comeback:?}: {error}");
                }
            }
        }
    }
}

fn plan(seed: u64, comeback: Comeback) -> Plan {
    let patience = if seed.is_multiple_of(2) { 2 } else { 3 };
    let trace = std::env::var("LEVERET_SIM_TRACE").is_ok_and(|script| script == seed.to_string());
    Plan { seed, operations: OPERATIONS, patience, faults: false, alone: false, comeback: Some(comeback), trace }
}

fn calls_of(seed: u64) -> u64 {
    run(seed, None, Comeback::Process).unwrap_or_else(|error| panic!("script {seed} without a crash: {error}"))
}

/// Runs a script up to its crash, or to its end; returns how many calls it made. What was recovered is durable, so
/// that a power cut right afterwards changes nothing.
fn run(seed: u64, death: Option<(u64, Fault)>, comeback: Comeback) -> Result<u64, String> {
    let mut sim = Sim::new(plan(seed, comeback));
    if let Some((call, how)) = death {
        sim.disk.die_at(call, how);
    }
    sim.begin()?;
    while sim.crashes() == 0 && sim.operations() < OPERATIONS {
        sim.operation()?;
    }
    let calls = sim.disk.calls();
    if death.is_some() {
        sim.crash(Some(Comeback::Power { writes: 0, names: 0 }))?;
    }
    Ok(calls)
}
