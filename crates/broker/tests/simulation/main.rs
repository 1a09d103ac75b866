//! Seeded runs of the real broker on a disk that fails, compared with a model too plain to be wrong.
//!
//! `LEVERET_SIM_SEEDS` says how many seeds, `LEVERET_SIM_FIRST` which is the first; `LEVERET_SIM_TRACE` prints what a
//! run does. A seed that fails is added to `seeds.txt`, which every run begins with.

mod client;
mod content;
mod coverage;
mod disk;
mod driver;
mod inspect;
mod judge;
mod model;
mod random;
mod sites;

#[test]
fn smoke() {
    for seed in 0..200 {
        let plan = driver::Plan { faults: false, ..driver::Plan::of_seed(seed) };
        let mut sim = driver::Sim::start(plan).unwrap();
        for _ in 0..plan.operations {
            if let Err(error) = sim.operation() {
                panic!("seed {seed}: {error}");
            }
        }
    }
}
