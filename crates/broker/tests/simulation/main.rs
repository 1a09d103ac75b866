//! Seeded runs of the real broker on a disk that fails, compared with a model too plain to be wrong.
//!
//! `LEVERET_SIM_SEEDS` says how many seeds, `LEVERET_SIM_FIRST` which is the first; `LEVERET_SIM_TRACE` prints what that
//! one does. A seed that fails is added to `seeds.txt`, which every run begins with.
//! The feature `mutants` adds the test of the tests.

mod client;
mod clocks;
mod content;
mod coverage;
mod dedup;
mod disk;
mod disk_tests;
mod driver;
mod ends;
mod exhaustive;
mod groups;
mod history;
mod inspect;
mod judge;
mod judge_tests;
mod model;
#[cfg(feature = "mutants")]
mod mutants;
mod random;
mod rules;
mod seeds;
mod side;
mod sites;
