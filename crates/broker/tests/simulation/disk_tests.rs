//! What the simulated disk promises and what it does not.

use crate::coverage::{Fault, Kind, Op, Phase, Site};
use crate::disk::{Armed, Comeback, SimDisk};
use leveret_broker::disk::{Disk, DiskFile};
use std::collections::BTreeSet;

const NOTHING: Comeback = Comeback::Power { writes: 0, names: 0 };
const EVERYTHING: Comeback = Comeback::Power { writes: 100, names: 100 };

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    let read = file.read(0, &mut bytes).expect("a read");
    assert_eq!(read, bytes.len());
    bytes
}

fn reopened(disk: &SimDisk, name: &str) -> Vec<u8> {
    content(disk.open(name).expect("the file is there").as_ref())
}

/// A disk with a durable file of `length` bytes.
fn with_file(length: usize) -> SimDisk {
    let disk = SimDisk::new(1);
    let file = disk.create("a.log").expect("created");
    file.write(0, &vec![1; length]).expect("written");
    file.sync().expect("synced");
    disk.sync().expect("synced");
    disk
}

fn fail_next(disk: &SimDisk, op: Op, fault: Fault) {
    disk.enter(Phase::Write);
    disk.arm(Armed { site: Site { phase: Phase::Write, op, kind: Kind::Log }, fault, spared: 0 });
}

#[test]
fn reads_see_what_was_written_and_a_power_cut_takes_what_was_not_synced() {
    let disk = with_file(4);
    let file = disk.open("a.log").expect("there");
    file.write(2, &[2; 4]).expect("written");
    assert_eq!(content(file.as_ref()), [1, 1, 2, 2, 2, 2]);
    assert_eq!(file.read(5, &mut [0; 8]).expect("a read"), 1);
    assert_eq!(file.read(6, &mut [0; 8]).expect("a read"), 0);
    let killed = disk.fork();
    killed.come_back(Comeback::Process);
    assert_eq!(reopened(&killed, "a.log"), [1, 1, 2, 2, 2, 2]);
    disk.come_back(NOTHING);
    assert_eq!(reopened(&disk, "a.log"), [1, 1, 1, 1]);
}

#[test]
fn handles_of_an_earlier_life_are_dead() {
    let disk = with_file(4);
    let file = disk.open("a.log").expect("there");
    disk.come_back(Comeback::Process);
    assert!(file.write(0, &[2]).is_err() && file.sync().is_err() && file.read(0, &mut [0]).is_err());
    assert_eq!(reopened(&disk, "a.log"), [1; 4]);
}

#[test]
fn a_name_is_durable_when_the_directory_is_synced_and_not_before() {
    let disk = with_file(4);
    let new = disk.create("b.index").expect("created");
    new.write(0, b"new").expect("written");
    new.sync().expect("synced");
    disk.remove("a.log").expect("removed");
    assert_eq!(disk.list().expect("names"), ["b.index"]);
    let lost = disk.fork();
    lost.come_back(Comeback::Power { writes: 100, names: 0 });
    assert_eq!(lost.list().expect("names"), ["a.log"], "the creation is lost, the removal too");
    assert_eq!(reopened(&lost, "a.log"), [1; 4]);
    disk.sync().expect("synced");
    disk.come_back(NOTHING);
    assert_eq!(disk.list().expect("names"), ["b.index"]);
    assert_eq!(reopened(&disk, "b.index"), b"new");
}

#[test]
fn a_removed_file_can_be_used_by_who_has_it_open() {
    let disk = with_file(4096);
    let (full, file) = (disk.free().expect("space"), disk.open("a.log").expect("there"));
    disk.remove("a.log").expect("removed");
    assert_eq!((content(file.as_ref()).len(), disk.free().expect("space")), (4096, full));
    drop(file);
    assert_eq!(disk.free().expect("space"), full + 4096);
}

/// Which sectors of an overwritten file of four are new after many power cuts.
fn survivors(writes: &[(u64, usize)]) -> BTreeSet<Vec<u8>> {
    (0..500)
        .map(|seed| {
            let disk = with_file(2048);
            let disk_of_seed = SimDisk::reseeded(&disk, seed);
            let file = disk_of_seed.open("a.log").expect("there");
            for (number, &(offset, length)) in writes.iter().enumerate() {
                file.write(offset, &vec![number as u8 + 2; length]).expect("written");
            }
            disk_of_seed.come_back(Comeback::Power { writes: 50, names: 50 });
            reopened(&disk_of_seed, "a.log").chunks(512).map(|sector| sector[0]).collect()
        })
        .collect()
}

#[test]
fn a_write_is_torn_at_any_sector() {
    let seen = survivors(&[(0, 2048)]);
    assert_eq!(seen.len(), 16, "every set of sectors survives some time: {seen:?}");
}

#[test]
fn writes_reach_the_platter_in_any_order() {
    let seen = survivors(&[(0, 512), (512, 512), (0, 512)]);
    for (first, second) in [(1, 1), (2, 1), (4, 1), (1, 3), (2, 3), (4, 3)] {
        assert!(seen.contains(&vec![first, second, 1, 1]), "{first} and {second} are missing in {seen:?}");
    }
}

#[test]
fn after_a_failed_sync_reads_lie_and_syncing_again_helps_nothing() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::reseeded(&with_file(4), seed);
        let file = disk.open("a.log").expect("there");
        file.write(0, &[2; 4]).expect("written");
        fail_next(&disk, Op::Sync, Fault::Eio);
        assert!(file.sync().is_err());
        file.sync().expect("the second one finds nothing to write");
        assert_eq!(content(file.as_ref()), [2; 4]);
        disk.come_back(EVERYTHING);
        lost += usize::from(reopened(&disk, "a.log") == [1; 4]);
    }
    assert!(lost > 10, "{lost} of 50 were lost");
}

#[test]
fn writes_fail_whole_or_after_a_part_and_a_full_disk_takes_nothing_new() {
    for (fault, op) in [(Fault::Eio, Op::Write), (Fault::Short, Op::Write), (Fault::Full, Op::Extend)] {
        let disk = with_file(4);
        let file = disk.open("a.log").expect("there");
        fail_next(&disk, op, fault);
        let bytes = if op == Op::Write { vec![2; 4] } else { vec![2; 8] };
        let error = file.write(0, &bytes).expect_err("it fails");
        assert_eq!(error.kind() == std::io::ErrorKind::StorageFull, fault == Fault::Full);
        let written = content(file.as_ref()).iter().filter(|&&byte| byte == 2).count();
        assert!(written < bytes.len() || fault == Fault::Short, "{fault:?} wrote {written}");
        assert!(fault != Fault::Eio || written == 0);
        file.write(0, &bytes).expect("the next one succeeds");
    }
    let disk = with_file(4);
    let file = disk.open("a.log").expect("there");
    disk.set_full(true);
    assert!(file.write(4, &[1]).is_err() && disk.create("b.log").is_err());
    assert_eq!(disk.free().expect("space"), 0);
    file.write(0, &[3; 4]).expect("overwriting needs no space");
}

#[test]
fn it_dies_at_the_call_that_was_named_and_counts_them_the_same_way_again() {
    let disk = with_file(4);
    let calls = disk.calls();
    disk.die_at(calls + 2, Fault::Power);
    let file = disk.open("a.log").expect("the first call");
    assert!(file.write(0, &[2]).is_err(), "the second");
    assert!(file.sync().is_err() && disk.list().is_err());
    assert_eq!((disk.death(), disk.calls()), (Some(Fault::Power), calls + 2));
    disk.come_back(NOTHING);
    assert_eq!(reopened(&disk, "a.log"), [1; 4]);
}

#[test]
fn bits_flip_in_what_was_synced_except_by_the_last_sync_of_a_log() {
    let disk = with_file(512);
    assert_eq!(disk.flip(), None, "all of it was written by the last sync");
    let file = disk.open("a.log").expect("there");
    file.write(0, &[2; 256]).expect("written");
    file.sync().expect("synced");
    for _ in 0..20 {
        disk.flip().expect("a bit that was synced before");
    }
    let now = reopened(&disk, "a.log");
    assert_eq!(now[..256], [2; 256]);
    assert_ne!(now[256..], [1; 256]);
}

#[test]
fn a_fork_is_a_disk_of_its_own() {
    let disk = with_file(4);
    let fork = disk.fork();
    fork.open("a.log").expect("there").write(0, &[2; 4]).expect("written");
    fork.remove("a.log").expect("removed");
    assert_eq!(reopened(&disk, "a.log"), [1; 4]);
}
