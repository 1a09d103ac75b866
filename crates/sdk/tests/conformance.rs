//! The broker in this process does everything that the list asks for, and all of it itself.

use leveret::Bus;
use leveret::conformance::{Report, run};
use leveret::driver::Support;
use std::sync::atomic::{AtomicU32, Ordering};

fn check(report: &Report) {
    println!("{report}");
    assert!(report.failed().is_empty(), "{report}");
    assert_eq!(report.with(Support::Native).len(), report.rows.len(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    check(&run(async || Bus::open("local:").await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory() {
    let directory = std::env::temp_dir().join(format!("leveret-conformance-{}", std::process::id()));
    let opened = AtomicU32::new(0);
    let report = run(async || {
        let number = opened.fetch_add(1, Ordering::Relaxed);
        Bus::open(&format!("local:{}/{number}?sync=always", directory.display())).await
    });
    let report = report.await;
    std::fs::remove_dir_all(&directory).expect("it was made");
    check(&report);
}
