//! One thing at a time.

use crate::disk::MemoryDisk;
use crate::world::{Bench, build};
use leveret_broker::{FileKind, check};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

#[test]
fn a_whole_directory_is_clean_and_checking_it_changes_nothing() {
    let (image, expected) = build(1);
    let disk = MemoryDisk::read_only(&image);
    let report = check(&disk).expect("it can be read");
    assert!(report.is_clean(), "{:?} {:?}", report.damage, report.repairs);
    let kinds: BTreeSet<String> = report.files.iter().map(|file| format!("{:?}", file.kind)).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>().join(" "), "Adopted Checkpoint Index Merged Segment Unused");
    for queue in &report.queues {
        let numbers = expected.get(&queue.name).map_or(0, Vec::len);
        assert_eq!((queue.messages as usize, queue.lost), (numbers, 0), "queue {}", queue.name);
        assert_eq!(queue.bytes > 0, numbers > 0);
    }
    assert_eq!(report.queues.len(), 6);
    let checkpoints = report.files.iter().filter(|file| file.kind == FileKind::Checkpoint).count();
    assert_eq!((checkpoints, disk.image() == image), (2, true));
    let mut bench = Bench::open(MemoryDisk::of(&image), false).expect("nothing is damaged");
    assert_eq!(bench.recovery.damage, []);
    for (queue, numbers) in &expected {
        assert_eq!(bench.drain(queue, |_| true), (numbers.clone(), None), "queue {queue}");
    }
}

#[test]
fn a_segment_is_not_forgotten_when_its_index_cannot_be_written() {
    let mut bench = Bench::open(MemoryDisk::default(), false).expect("a new directory");
    bench.declare("q");
    bench.tend();
    bench.disk.refuses_indexes.store(true, Ordering::Relaxed);
    for number in 0..300 {
        bench.publish("", "q", number * 100).expect("nothing is damaged");
        if number % 5 == 0 {
            bench.broker.write_log();
            bench.broker.tend();
        }
    }
    bench.disk.refuses_indexes.store(false, Ordering::Relaxed);
    bench.tend();
    let mut bench = Bench::open(MemoryDisk::of(&bench.kill()), false).expect("nothing is damaged");
    assert_eq!(bench.drain("q", |_| true).0, (0..300).map(|number| number * 100).collect::<Vec<_>>());
}
