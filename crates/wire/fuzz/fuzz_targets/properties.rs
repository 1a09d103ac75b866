//! See `properties` in crates/wire/tests/it/bodies.rs, which `cargo test` runs too.

#![no_main]

#[path = "../../tests/it/bodies.rs"]
#[allow(dead_code, reason = "a target uses one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::properties(data));
