//! Directories as released formats wrote them, kept in the repository: every later version has to open them.
//!
//! `golden/1` is one of format 1, beside it `contents.txt` with what is in it, for people as well. Zeros at the end of log
//! files are left off. The newest one is what `golden_script/script.rs` writes today; `LEVERET_GOLDEN=write` writes it anew.

#[path = "golden_script/bench.rs"]
mod bench;
#[path = "golden_script/contents.rs"]
mod contents;
#[path = "damage/disk.rs"]
#[expect(dead_code, reason = "no disk of these tests fails")]
mod disk;
#[path = "golden_script/script.rs"]
mod script;

use crate::bench::Bench;
use crate::contents::Contents;
use crate::disk::{Image, MemoryDisk};
use leveret_broker::{FileKind, Report};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// All golden directories; the last one is today's format.
const FORMATS: [&str; 1] = ["1"];

/// What a directory should hold.
const CONTENTS: &str = "contents.txt";

fn newest() -> &'static str {
    FORMATS[FORMATS.len() - 1]
}

fn path(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format)
}

/// A golden directory, with the zeros at the ends of its files.
fn load(format: &str) -> (Image, Contents) {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(write_if_asked);
    let path = path(format);
    let text = std::fs::read_to_string(path.join(CONTENTS)).expect("a golden directory");
    let (contents, mut image) = (Contents::parse(&text), Image::new());
    for entry in std::fs::read_dir(&path).expect("a golden directory") {
        let entry = entry.expect("a golden directory");
        let name = entry.file_name().into_string().expect("our names are plain");
        if name != CONTENTS {
            let mut bytes = std::fs::read(entry.path()).expect("a golden directory");
            bytes.resize(contents.lengths.get(&name).map_or(bytes.len(), |length| *length as usize), 0);
            image.insert(name, bytes);
        }
    }
    (image, contents)
}

/// What the script of today writes, with the lengths of files that are stored without their last zeros.
fn written_today() -> (Image, Contents) {
    let (image, mut contents) = script::run();
    for (name, bytes) in &image {
        if bytes.last() == Some(&0) {
            contents.lengths.insert(name.clone(), bytes.len() as u64);
        }
    }
    (image, contents)
}

/// Writes the newest golden directory anew.
fn write_if_asked() {
    match std::env::var("LEVERET_GOLDEN") {
        Err(_) => return,
        Ok(word) => assert!(word == "write", "LEVERET_GOLDEN is '{word}'; only 'write' means something"),
    }
    let (path, (image, contents)) = (path(newest()), written_today());
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the repository can be written");
    for (name, bytes) in &image {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        std::fs::write(path.join(name), &bytes[..end]).expect("the repository can be written");
    }
    std::fs::write(path.join(CONTENTS), contents.text()).expect("the repository can be written");
}

/// Opens a directory, does something, and gives what is on the disk then.
fn after(image: &Image, act: impl FnOnce(&Bench)) -> Image {
    let bench = Bench::open(image);
    act(&bench);
    bench.image()
}

fn kinds(report: &Report, kind: FileKind) -> usize {
    report.files.iter().filter(|file| file.kind == kind && file.records > 0).count()
}

#[test]
fn every_golden_directory_is_opened_and_holds_what_was_written() {
    for format in FORMATS {
        let (image, expected) = load(format);
        let mut bench = Bench::open(&image);
        assert_eq!(bench.recovery.damage, [], "format {format}");
        let messages: usize = expected.queues.values().map(Vec::len).sum();
        let queues = expected.topology.iter().filter(|line| line.starts_with("queue ")).count();
        assert_eq!((bench.recovery.messages, bench.recovery.queues), (messages as u64, queues as u64));
        expected.compare(&bench.look(&expected), &format!("format {format}"));
        let names: Vec<_> = expected.queues.keys().cloned().collect();
        expected.topology.iter().for_each(|line| contents::check(&mut bench, line, &names));
        assert_eq!(bench.broker.take_damage(), [""; 0], "format {format}");
    }
}

#[test]
fn every_golden_directory_is_clean_and_has_everything_that_a_directory_can_have() {
    for format in FORMATS {
        let (image, expected) = load(format);
        let report = leveret_broker::check(&MemoryDisk::read_only(&image)).expect("it can be read");
        assert!(report.is_clean(), "format {format}: {:?} {:?}", report.damage, report.repairs);
        for queue in &report.queues {
            let messages = expected.queues.get(&(queue.vhost.clone(), queue.name.clone())).map_or(0, Vec::len);
            assert_eq!((queue.messages, queue.lost), (messages as u64, 0), "format {format}: {}", queue.name);
        }
        assert!(report.replayed > 0 && report.torn > 0, "format {format}: {report:?}");
        for kind in [FileKind::Segment, FileKind::Adopted, FileKind::Merged, FileKind::Index, FileKind::Times] {
            assert!(kinds(&report, kind) > 0, "format {format} has none of {kind:?}: {:#?}", report.files);
        }
        assert_eq!(kinds(&report, FileKind::Checkpoint), 2, "format {format}: {:#?}", report.files);
    }
}

/// Record kinds of docs/format.md in a file, read without the broker's help; those in the middle of a transaction as well
/// as `true`.
fn record_kinds(bytes: &[u8], batches: bool, kinds: &mut BTreeSet<(u8, bool)>) {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
    let (mut at, mut end) = (0, bytes.len());
    if batches {
        for begin in (0..bytes.len()).step_by(4096).filter(|&begin| bytes[begin..].starts_with(b"LVB1")) {
            (at, end) = (begin + 64, begin + number(begin + 28));
            record_kinds(&bytes[at..end.min(bytes.len())], false, kinds);
        }
        return;
    }
    while at + 32 <= end {
        kinds.insert((bytes[at + 4], bytes[at + 5] & 1 == 1));
        at += 32 + number(at + 8) + number(at + 12);
    }
}

#[test]
fn the_newest_golden_directory_has_every_kind_of_record_where_a_start_reads_it() {
    let (image, _) = load(newest());
    let report = leveret_broker::check(&MemoryDisk::read_only(&image)).expect("it can be read");
    let (mut log, mut snapshot) = (BTreeSet::new(), BTreeSet::new());
    for file in &report.files {
        let bytes = &image[&file.name];
        match file.kind {
            FileKind::Segment | FileKind::Adopted => record_kinds(bytes, true, &mut log),
            FileKind::Merged => record_kinds(bytes, false, &mut log),
            FileKind::Checkpoint => record_kinds(bytes, true, &mut snapshot),
            FileKind::Index | FileKind::Times | FileKind::Unused => {}
        }
    }
    let in_transactions = |kinds: &BTreeSet<(u8, bool)>| kinds.iter().any(|(_, more)| *more);
    let all = |kinds: &BTreeSet<(u8, bool)>| kinds.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>();
    assert_eq!(all(&log), (1..=6).chain(8..=19).collect(), "in log and merged files");
    assert!(in_transactions(&log), "no transaction is left");
    assert_eq!(all(&snapshot), [7, 8, 9, 11, 13, 15, 16, 18, 32, 33, 34].into(), "in checkpoints");
}

#[test]
fn a_golden_directory_that_was_opened_and_closed_holds_the_same() {
    for format in FORMATS {
        let (image, expected) = load(format);
        let killed = after(&image, |_| ());
        let closed = after(&image, |bench| bench.broker.shut_down().expect("a healthy disk"));
        let tended = after(&image, Bench::tend);
        let twice = after(&closed, |bench| bench.broker.shut_down().expect("a healthy disk"));
        for (what, image) in [("killed", killed), ("closed", closed), ("tended", tended), ("closed twice", twice)] {
            let what = format!("format {format}, {what}");
            expected.compare(&Bench::open(&image).look(&expected), &what);
            let report = leveret_broker::check(&MemoryDisk::read_only(&image)).expect("it can be read");
            assert!(report.is_clean(), "{what}: {:?} {:?}", report.damage, report.repairs);
        }
    }
}

#[test]
fn the_same_script_writes_the_same_bytes_as_ever() {
    let (image, contents) = written_today();
    let newest = newest();
    let (golden, expected) = load(newest);
    let files = |image: &Image| image.keys().cloned().collect::<Vec<_>>();
    let help = format!(
        "a directory that is written today differs from tests/golden/{newest}. If the format was changed on purpose, \
         raise its version, keep the old directory as another case of FORMATS, and write the new one with \
         LEVERET_GOLDEN=write; if only the moment has changed at which something is written, LEVERET_GOLDEN=write alone"
    );
    assert_eq!(files(&image), files(&golden), "{help}");
    for (name, bytes) in &image {
        let at = bytes.iter().zip(&golden[name]).position(|(new, old)| new != old);
        assert!(*bytes == golden[name], "{name} differs, first at {at:?}: {help}");
    }
    assert_eq!((contents.lengths, contents.topology), (expected.lengths.clone(), expected.topology.clone()), "{help}");
    expected.compare(&contents.queues, &help);
}
