//! `leveret check`: its exit codes, and that it finds what a start finds.

use crate::client::{Client, persistent};
use crate::server::{Directory, Server, command};
use leveret_wire::method::{basic, confirm, queue};
use std::path::{Path, PathBuf};

/// Runs it on a directory: its exit code, and what it printed.
fn check(directory: &Directory, options: &[&str]) -> (Option<i32>, String) {
    let mut command = command(&["check", directory.path()]);
    let output = command.args(options).stdout(std::process::Stdio::piped()).output().expect("the executable starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace(directory.path(), "DIR");
    (output.status.code(), text)
}

/// A directory with ten messages in queue `a` and five in `b`, all confirmed, and its broker stopped.
fn filled(name: &str) -> Directory {
    let directory = Directory::new(name);
    let server = Server::on_disk(&directory, &["--segment-size", "65536"]);
    let mut client = Client::open(&server);
    client.channel(1);
    client.call(1, confirm::Select::default(), confirm::SelectOk::ID);
    for (queue, count) in [("a", 10), ("b", 5)] {
        client.declare_with(1, queue::Declare { queue, durable: true, ..Default::default() });
        for number in 0..count {
            client.send(&persistent(1, "", queue, format!("message {number} of {queue}").as_bytes()));
            client.expect(1, basic::Ack::ID);
        }
    }
    server.stop();
    directory
}

/// The file that has these bytes, and where.
fn find(directory: &Directory, wanted: &[u8]) -> (PathBuf, usize) {
    let files =
        std::fs::read_dir(directory.path()).expect("it is there").map(|file| file.expect("it is listed").path());
    let mut found = files.filter_map(|path| {
        let bytes = std::fs::read(&path).ok()?;
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some((path, at))
    });
    found.next().expect("it is in one of the files")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("it is there");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("it is ours");
}

fn names(directory: &Directory) -> Vec<(PathBuf, u64)> {
    let files = std::fs::read_dir(directory.path()).expect("it is there");
    let mut files: Vec<_> = files
        .map(|file| file.expect("it is listed"))
        .map(|file| (file.path(), file.metadata().expect("it is a file").len()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_sound_directory_is_counted_and_left_as_it_is() {
    let directory = filled("sound");
    let before = names(&directory);
    let (code, text) = check(&directory, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("15 messages in 2 durable queues\n") && text.ends_with("no damage\n"), "{text}");
    let (code, text) = check(&directory, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, Some(0), "{text}");
    let queues: Vec<_> =
        report["queues"].as_array().expect("a list").iter().map(|it| it["messages"].as_u64()).collect();
    assert_eq!(queues, [Some(10), Some(5)]);
    assert_eq!(names(&directory), before);
}

#[test]
fn damage_is_found_without_a_start_and_closes_its_queue_at_one() {
    let directory = filled("damage");
    let (path, at) = find(&directory, b"message 3 of a");
    flip(&path, at);
    let (code, text) = check(&directory, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("queue 'a' in vhost '/', message 3\n"), "{text}");
    assert!(text.ends_with("damaged places: 1\n"), "{text}");
    let server = Server::on_disk(&directory, &["--segment-size", "65536"]);
    assert!(
        server.log().contains("WARN damage: messages of queue 'a' in vhost '/' cannot be read: 1,"),
        "{}",
        server.log()
    );
    let mut client = Client::open(&server);
    client.channel(1);
    assert_eq!(client.ready(1, "b"), 5);
    client.say(1, basic::Get { queue: "b", no_ack: true });
    client.expect(1, basic::GetOk::ID);
    assert_eq!(client.content(1), b"message 0 of b");
    server.stop();
}

#[test]
fn what_cannot_be_checked_is_said_so() {
    let directory = Directory::new("check");
    let (code, text) = check(&directory, &[]);
    assert_eq!(
        (code, &*text),
        (Some(2), "leveret: cannot read the data directory DIR: No such file or directory (os error 2)\n")
    );
    std::fs::create_dir(directory.path()).expect("a temporary directory");
    let (code, text) = check(&directory, &[]);
    let expected = "leveret: DIR holds no data; is it the directory that was given to `leveret serve --data-dir`?\n";
    assert_eq!((code, &*text), (Some(2), expected));
    let server = Server::on_disk(&directory, &[]);
    let (code, text) = check(&directory, &[]);
    assert_eq!((code, &*text), (Some(2), "leveret: DIR is in use by another process; stop the broker first\n"));
    server.stop();
}
