//! Commands whose reader has seen enough, as `head` does.

use crate::server::{command, shared};
use std::process::Stdio;

#[test]
fn a_bench_whose_reader_is_gone_ends_quietly() {
    let server = shared();
    let url = format!("amqp://guest:guest@{}", server.address);
    for format in [&[][..], &["--json"]] {
        let mut command = command(&["bench", "--url", &url, "--count", "10"]);
        let mut bench = command.args(format).stdout(Stdio::piped()).spawn().expect("it starts");
        drop(bench.stdout.take());
        let output = bench.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    }
}
