//! The example is run, so that it stays true.

use crate::{Scratch, drain};

#[path = "../../examples/embedded.rs"]
// Its `main` is not called.
#[allow(dead_code)]
mod embedded;

#[test]
fn the_embedded_example_keeps_its_orders() {
    let scratch = Scratch::new("example");
    embedded::run(scratch.path()).expect("it runs");
    let client = scratch.broker().connect();
    assert!(drain(&client, "orders").is_empty());
    assert_eq!(drain(&client, "invoices"), ["for two hares", "for a leveret", "for seven rabbits"]);
}
