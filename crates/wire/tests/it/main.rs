//! The tests of the codec, in one binary.
//!
//! `snapshots` shows what the encodings look like, `round_trip` holds them against random values, `differential`
//! against another implementation, `malformed` and `fuzz` against hostile bytes.

mod bodies;
mod differential;
mod fields;
mod fuzz;
mod malformed;
mod round_trip;
mod sample;
mod snapshots;
