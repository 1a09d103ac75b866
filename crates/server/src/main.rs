//! The executable `leveret`.
fn main() {}
