//! Defects that are put in on purpose: a simulation that does not find them would not find others either.

use crate::driver::Plan;
use crate::seeds::run_guarded;
use leveret_broker::mutants::{Mutant, switch_on};

/// Within so many seeds each has to be found: most are by one of the first ten, but what an old file of times does to a new
/// queue in memory takes a thousand.
const SEEDS: u64 = 5000;

#[test]
fn every_mutant_is_caught() {
    let mutants = [
        Mutant::NoFsync,
        Mutant::NoCrc,
        Mutant::NoDirSync,
        Mutant::NoAckRecord,
        Mutant::EarlyDelete,
        Mutant::NoMoveDone,
        Mutant::NoTimes,
        Mutant::KeyNotHeld,
        Mutant::NoFilter,
        Mutant::AllActive,
        Mutant::LeaseNotRenewed,
        Mutant::NoTimesFiles,
        Mutant::SameNumbers,
        Mutant::NoEntries,
        Mutant::VhostStays,
    ];
    let mut survivors = Vec::new();
    for mutant in mutants {
        switch_on(Some(mutant));
        let caught = (1..=SEEDS).find_map(|seed| Some((seed, run_guarded(Plan::of_seed(seed)).err()?)));
        match caught {
            Some((seed, error)) => println!("{mutant:?} is caught by seed {seed}: {error}"),
            None => survivors.push(mutant),
        }
    }
    switch_on(None);
    assert!(survivors.is_empty(), "not caught by {SEEDS} seeds: {survivors:?}");
}
