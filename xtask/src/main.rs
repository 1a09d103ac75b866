//! Everything with an `if` in it.
fn main() {}
