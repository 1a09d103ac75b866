//! One thing at a time.

use crate::disk::{Image, MemoryDisk};
use crate::world::{Bench, Expected, body, build};
use leveret_broker::{Damage, FileKind, OpenError, Report, check};
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

/// Where a message is: the file, and where its body begins.
fn find(image: &Image, number: u32) -> (String, usize) {
    let wanted = body(number);
    let wanted = &wanted[..wanted.len().min(100)];
    let find = |(name, bytes): (&String, &Vec<u8>)| {
        Some((name.clone(), bytes.windows(wanted.len()).position(|window| window == wanted)?))
    };
    image.iter().filter(|(name, _)| !name.ends_with("index")).find_map(find).expect("it was written")
}

fn flip(image: &mut Image, file: &str, offset: usize) {
    image.get_mut(file).expect("it is there")[offset] ^= 4;
}

fn checked(image: &Image) -> Report {
    check(&MemoryDisk::read_only(image)).expect("it can be read")
}

/// The name of a queue, and positions in it.
type Named<'a> = (Option<&'a str>, Option<(u64, u64)>);

/// Of each damage: queue and positions.
fn named(damage: &[Damage]) -> Vec<Named<'_>> {
    damage.iter().map(|it| (it.queue.as_ref().map(|(_, name)| name.as_str()), it.positions)).collect()
}

/// Ten messages in each of two queues, in one segment that is replayed.
fn two_queues() -> (Image, Expected) {
    let mut bench = Bench::open(MemoryDisk::default(), false).expect("a new directory");
    ["a", "b"].iter().for_each(|name| bench.declare(name));
    for number in 0..20 {
        bench.publish("", ["a", "b"][number as usize % 2], number).expect("nothing is damaged");
        bench.broker.write_log();
    }
    bench.publish("", "b", 20).expect("nothing is damaged");
    let numbers = |rest, last: u32| (0..last).filter(|number| number % 2 == rest).collect();
    (bench.kill(), [("a".to_string(), numbers(0, 20)), ("b".to_string(), [numbers(1, 20), vec![20]].concat())].into())
}

#[test]
fn a_damaged_body_closes_its_queue_at_every_start_until_the_loss_is_accepted() {
    let (mut image, expected) = two_queues();
    let (file, offset) = find(&image, 6);
    flip(&mut image, &file, offset + 1);
    assert_eq!(named(&checked(&image).damage), [(Some("a"), Some((3, 1)))]);
    for _ in 0..3 {
        let mut bench = Bench::open(MemoryDisk::of(&image), false).expect("the others are served");
        assert_eq!(named(&bench.recovery.damage), [(Some("a"), Some((3, 1)))]);
        assert_eq!(bench.recovery.messages, 20);
        let (seen, error) = bench.drain("a", |_| true);
        let text = error.expect("it is closed").text;
        assert!(seen.is_empty() && text.contains("'leveret check' lists them"), "{text}");
        assert_eq!(bench.drain("b", |_| true), (expected["b"].clone(), None));
        // What is adopted, and in no segment that is replayed, is not forgotten.
        for number in 0..100 {
            bench.publish("", "b", 100 + number).expect("it is open");
            bench.drain("b", |index| index < 11);
        }
        bench.tend();
        image = bench.kill();
    }
    let mut bench = Bench::open(MemoryDisk::of(&image), true).expect("loss is accepted");
    let without: Vec<u32> = expected["a"].iter().copied().filter(|&number| number != 6).collect();
    assert_eq!(bench.drain("a", |_| true), (without.clone(), None));
    bench.tend();
    let mut bench = Bench::open(MemoryDisk::of(&bench.kill()), false).expect("nothing is damaged any more");
    assert_eq!((bench.recovery.damage.len(), bench.drain("a", |_| true)), (0, (without, None)));
}

#[test]
fn a_damaged_header_costs_one_batch_header_or_one_record_and_nothing_behind_it() {
    let (image, expected) = two_queues();
    let (file, offset) = find(&image, 6);
    // The header of the batch: all its records are found without it.
    let mut headless = image.clone();
    flip(&mut headless, &file, (offset & !4095) + 20);
    let mut bench = Bench::open(MemoryDisk::of(&headless), false).expect("it can be read");
    assert_eq!(named(&bench.recovery.damage), [(None, None)]);
    for (queue, numbers) in &expected {
        assert_eq!(bench.drain(queue, |_| true), (numbers.clone(), None));
    }
    // The header of the record: nobody knows what it was, but a gap in a queue tells.
    let mut nameless = image;
    flip(&mut nameless, &file, (offset & !4095) + 64 + 8);
    let mut bench = Bench::open(MemoryDisk::of(&nameless), false).expect("it can be read");
    assert_eq!(named(&bench.recovery.damage), [(None, None), (Some("a"), Some((3, 1)))]);
    assert_eq!(named(&checked(&nameless).damage), named(&bench.recovery.damage));
    assert_eq!(bench.drain("b", |_| true), (expected["b"].clone(), None));
    assert!(bench.drain("a", |_| true).1.is_some());
}

#[test]
fn the_end_of_the_log_is_missed_after_a_clean_end() {
    let (image, expected) = two_queues();
    let bench = Bench::open(MemoryDisk::of(&image), false).expect("nothing is damaged");
    bench.broker.shut_down().expect("a healthy disk");
    let image = bench.kill();
    let segments: Vec<_> = checked(&image).files.into_iter().filter(|file| file.kind == FileKind::Segment).collect();
    for file in segments {
        let mut removed = image.clone();
        removed.remove(&file.name);
        let error =
            Bench::open(MemoryDisk::of(&removed), false).map(|bench| bench.recovery).expect_err("a file is missing");
        assert!(matches!(error, OpenError::Missing(_)) && error.to_string().contains("accept_loss"), "{error}");
        assert!(!checked(&removed).damage.is_empty());
        for lost in [removed, cut(&image, &file.name)] {
            let mut bench = Bench::open(MemoryDisk::of(&lost), true).expect("loss is accepted");
            let left: Vec<_> = expected.keys().map(|queue| bench.drain(queue, |_| true)).collect();
            // Once is enough.
            let mut bench = Bench::open(MemoryDisk::of(&bench.kill()), false).expect("loss was accepted");
            let again: Vec<_> = expected.keys().map(|queue| bench.drain(queue, |_| true)).collect();
            assert_eq!(left, again);
        }
    }
}

fn cut(image: &Image, file: &str) -> Image {
    let mut image = image.clone();
    image.get_mut(file).expect("it is there").clear();
    image
}

#[test]
fn a_start_that_is_cut_off_while_it_writes_the_end_of_the_log_again_loses_nothing() {
    let mut bench = Bench::open(MemoryDisk::default(), false).expect("a new directory");
    bench.declare("q");
    bench.broker.write_log();
    // Each large one gets a segment of its own, and nothing yet says that any of it is durable.
    let numbers = [1, 77, 2, 177, 277, 3];
    numbers.iter().for_each(|number| bench.publish("", "q", *number).expect("nothing is damaged"));
    while bench.broker.write_log() {}
    let image = bench.kill();
    let (mut writes, mut done) = (0, false);
    while !done {
        let failing = MemoryDisk::failing(&image, writes);
        let half = match Bench::open(failing, false) {
            Ok(bench) => {
                done = true;
                bench.kill()
            }
            Err(OpenError::Io { .. }) => half(&image, writes),
            Err(error) => panic!("{error}"),
        };
        let mut bench = Bench::open(MemoryDisk::of(&half), false).expect("it can be read");
        assert_eq!(bench.recovery.damage, [], "after {writes} writes");
        let (mut seen, error) = bench.drain("q", |_| true);
        seen.sort_unstable();
        assert_eq!((seen, error), (vec![1, 2, 3, 77, 177, 277], None), "after {writes} writes");
        writes += 1;
    }
    assert!(writes > 10);
}

/// What a start leaves that has so many writes.
fn half(image: &Image, writes: i64) -> Image {
    let disk = std::sync::Arc::new(MemoryDisk::failing(image, writes));
    let storage = leveret_broker::Storage { segment_size: 64 * 1024, ..leveret_broker::Storage::new(disk.clone()) };
    let environment = leveret_broker::Environment {
        random: Box::new(|| 7),
        now: Box::new(|| 0),
        elapsed: Box::new(|| 0),
        ticks: true,
    };
    let opened = leveret_broker::Broker::recover(leveret_broker::Limits::default(), environment, storage);
    assert!(opened.is_err(), "there are not enough writes");
    disk.image()
}

#[test]
fn a_damaged_index_is_made_again_while_it_is_read() {
    let mut bench = Bench::open(MemoryDisk::default(), false).expect("a new directory");
    bench.declare("q");
    for number in 0..400 {
        bench.publish("", "q", number * 100 + 1).expect("nothing is damaged");
        bench.broker.write_log();
    }
    bench.tend();
    let mut image = bench.kill();
    let indexes: Vec<String> = image.keys().filter(|name| name.ends_with(".index")).cloned().collect();
    // A block of entries, which no start looks at.
    indexes.iter().for_each(|name| flip(&mut image, name, 100));
    let report = checked(&image);
    assert!(report.damage.is_empty() && !report.repairs.is_empty(), "{report:?}");
    let mut bench = Bench::open(MemoryDisk::of(&image), false).expect("it can be read");
    assert_eq!(bench.drain("q", |_| true).0, (0..400).map(|number| number * 100 + 1).collect::<Vec<_>>());
    let told = bench.broker.take_damage();
    assert!(!told.is_empty() && told.iter().all(|text| text.contains("is made again")), "{told:?}");
    assert!(checked(&bench.kill()).is_clean());
}
