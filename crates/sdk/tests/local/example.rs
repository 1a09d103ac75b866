//! The example is run, so that it stays true.

use crate::bench::Seen;
use std::sync::Arc;

#[path = "../../examples/signup.rs"]
// Its `main` is not called.
#[allow(dead_code)]
mod signup;

#[tokio::test]
async fn the_signup_example_welcomes_and_counts_everybody() {
    let seen = Seen::default();
    let lines = seen.clone();
    let print = move |line: String| {
        let (_, text) = line.split_once("ms  ").expect("each line has a time");
        // Neither ids nor numbers of attempts are the same each time.
        lines.note(text.split(" (").next().and_then(|text| text.split(" at ").next()).unwrap_or(text));
    };
    signup::run("local:", Arc::new(print)).await.expect("it runs");
    let mut lines = seen.take();
    let end = lines.split_off(lines.len() - 3);
    assert_eq!(
        end,
        [
            "dead       cid@localhost: rejected, an address has a dot",
            "redrive    1 after the fix",
            "email      welcomes cid@localhost"
        ]
    );
    lines.sort();
    assert_eq!(
        lines,
        [
            "analytics  counts user 1",
            "analytics  counts user 2",
            "analytics  counts user 3",
            "analytics  counts user 4",
            "email      refuses cid@localhost",
            "email      welcomes ann@example.com",
            "email      welcomes bob@example.com",
            "email      welcomes dan@example.com",
            "signup     has registered ann@example.com",
            "signup     has registered bob@example.com",
            "signup     has registered cid@localhost",
            "signup     has registered dan@example.com",
        ]
    );
}
