//! Duplicates and the disk: what is confirmed when, what a crash leaves, and several who publish the same.

use leveret_broker::disk::Directory;
use leveret_broker::message::encode_route;
use leveret_broker::table::FieldTable;
use leveret_broker::{
    Broker, Channel, Content, Environment, Limits, Properties, Publish, Published, QueueDeclare, Session, Storage, Wait,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("leveret-dedup-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// A broker without threads: nothing is written unless a test says so.
fn open(path: &Path) -> Broker {
    let mut storage = Storage::new(Arc::new(Directory::open(path).expect("a directory of our own")));
    storage.segment_size = 64 * 1024;
    let environment = Environment { random: Box::new(|| 7), now: Box::new(|| 0), elapsed: Box::new(|| 0), ticks: true };
    Broker::recover(Limits::default(), environment, storage).expect("it can be read").0
}

/// What a crash at this moment leaves.
fn image(path: &Path, name: &str) -> PathBuf {
    let copy = scratch(name);
    std::fs::create_dir_all(&copy).expect("a directory of our own");
    for file in std::fs::read_dir(path).expect("ours") {
        let file = file.expect("ours").path();
        std::fs::copy(&file, copy.join(file.file_name().expect("a file"))).expect("there is room");
    }
    copy
}

/// A connection with a channel that gets confirms.
struct Line {
    session: Session,
    channel: Channel,
}

impl Line {
    fn new(broker: &Broker) -> Line {
        let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
        let mut channel = Channel::new(1);
        channel.select_confirm().expect("a new channel");
        Line { session, channel }
    }

    fn declare(&mut self, name: &str) {
        let arguments = FieldTable::new().with("x-message-deduplication", true);
        let arguments = arguments.as_table();
        let declare = QueueDeclare { name, durable: true, exclusive: false, auto_delete: false, arguments };
        self.channel.declare_queue(&mut self.session, declare).expect("a queue");
    }

    /// Publishes without flushing.
    fn push(&mut self, queue: &str, properties: Properties<'_>, body: &[u8]) {
        let (route, mut encoded) = (encode_route("", queue), Vec::new());
        properties.encode(&mut encoded);
        let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body };
        let published = self.channel.publish(&mut self.session, &publish).expect("the queue is there");
        assert_eq!(published, Published::Routed);
    }

    fn publish(&mut self, queue: &str, id: &str, body: &[u8]) {
        self.push(queue, with_id(id), body);
        self.session.flush();
    }

    fn confirmed(&mut self) -> u64 {
        self.channel.take_confirm(&self.session).map_or(0, |(tag, _)| tag)
    }

    fn ready(&mut self, queue: &str) -> u64 {
        self.channel.check_queue(&mut self.session, queue).expect("it is there").ready
    }
}

fn with_id(id: &str) -> Properties<'_> {
    Properties { message_id: Some(id.as_bytes()), delivery_mode: Some(2), ..Properties::EMPTY }
}

fn numbered(sequence: i64) -> FieldTable {
    FieldTable::new().with("x-producer", "p").with("x-producer-sequence", sequence)
}

#[test]
fn a_duplicate_is_confirmed_with_its_original_and_a_crash_before_forgets_both() {
    let path = scratch("confirm");
    let broker = open(&path);
    let (mut first, mut second) = (Line::new(&broker), Line::new(&broker));
    first.declare("q");
    first.publish("q", "1", b"a");
    assert_eq!(first.confirmed(), 0);
    broker.write_log();
    assert_eq!(first.confirmed(), 1);
    second.publish("q", "1", b"again");
    assert_eq!(second.confirmed(), 1);
    first.publish("q", "2", b"b");
    second.publish("q", "2", b"again");
    assert_eq!((first.confirmed(), second.confirmed()), (0, 0));
    let crashed = image(&path, "confirm-crashed");
    broker.write_log();
    assert_eq!((first.confirmed(), second.confirmed()), (2, 2));
    assert_eq!(first.ready("q"), 2);
    drop((first, second, broker));
    let broker = open(&crashed);
    let mut line = Line::new(&broker);
    assert_eq!(line.ready("q"), 1);
    ["1", "2", "2"].iter().for_each(|id| line.publish("q", id, b"once more"));
    assert_eq!(line.ready("q"), 2);
    drop((line, broker));
    [path, crashed].iter().for_each(|path| std::fs::remove_dir_all(path).expect("ours"));
}

#[test]
fn a_torn_end_has_messages_and_keys_or_neither() {
    let path = scratch("torn");
    let broker = open(&path);
    let mut line = Line::new(&broker);
    line.declare("q");
    ["1", "2"].iter().for_each(|id| line.publish("q", id, &[1; 40]));
    broker.write_log();
    line.publish("q", "3", &[2; 40]);
    line.push("q", with_id("4"), &[3; 40]);
    line.push("q", with_id("5"), &[3; 40]);
    line.session.flush();
    broker.write_log();
    let crashed = image(&path, "torn-whole");
    drop((line, broker));
    // The log's only segment, as far as something is in it.
    let files = std::fs::read_dir(&crashed).expect("ours").map(|file| file.expect("ours").path());
    let log = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
    let end = |file: &PathBuf| std::fs::read(file).expect("ours").iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let log = log.max_by_key(end).expect("there is a log");
    let (name, end) = (log.file_name().expect("a file").to_owned(), end(&log));
    let mut survived = [0; 6];
    for cut in (end.saturating_sub(1200)..end + 32).step_by(16) {
        let torn = image(&crashed, "torn-cut");
        let mut bytes = std::fs::read(torn.join(&name)).expect("ours");
        bytes[cut..].fill(0);
        std::fs::write(torn.join(&name), bytes).expect("ours");
        let broker = open(&torn);
        let mut line = Line::new(&broker);
        let found = line.ready("q");
        survived[found as usize] += 1;
        ["1", "2", "3", "4", "5"].iter().for_each(|id| line.publish("q", id, b"again"));
        assert_eq!(line.ready("q"), 5, "{found} had survived the cut at {cut} of {end}");
        drop((line, broker));
        std::fs::remove_dir_all(torn).expect("ours");
    }
    assert!([2, 3, 5].iter().all(|found| survived[*found] > 0) && survived[4] == 0, "{survived:?}");
    [path, crashed].iter().for_each(|path| std::fs::remove_dir_all(path).expect("ours"));
}

#[test]
fn sequences_hold_across_the_runs_of_a_connection() {
    let path = scratch("runs");
    let broker = open(&path);
    let mut line = Line::new(&broker);
    ["q", "p"].iter().for_each(|queue| line.declare(queue));
    for _ in 0..2 {
        for (queue, sequence) in [("q", 1), ("p", 2), ("q", 3), ("q", 4), ("p", 4), ("p", 5)] {
            let headers = numbered(sequence);
            let headers = Some(headers.as_table());
            line.push(queue, Properties { headers, delivery_mode: Some(2), ..Properties::EMPTY }, b"m");
        }
        line.session.flush();
        assert_eq!((line.ready("q"), line.ready("p")), (3, 2));
    }
    broker.write_log();
    assert_eq!(line.confirmed(), 12);
    drop((line, broker));
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn a_run_keeps_what_is_new_in_it() {
    let path = scratch("run");
    let broker = open(&path);
    let mut line = Line::new(&broker);
    line.declare("q");
    for round in 0..3u32 {
        for number in 0..1000u32 {
            // Every other one was there in the round before, and each comes twice.
            let id = format!("{}", number / 2 * 2 + 500 * round);
            line.push("q", with_id(&id), &number.to_le_bytes());
        }
        line.session.flush();
    }
    assert_eq!(line.ready("q"), 500 + 250 + 250);
    broker.write_log();
    drop((line, broker));
    let broker = open(&path);
    let mut line = Line::new(&broker);
    for number in 0..1000u32 {
        line.push("q", with_id(&(number * 2).to_string()), b"");
    }
    line.session.flush();
    assert_eq!(line.ready("q"), 1000);
    drop((line, broker));
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn large_messages_are_known_as_well() {
    let path = scratch("large");
    let large = vec![7; 300 * 1024];
    let broker = open(&path);
    let mut line = Line::new(&broker);
    ["q", "p"].iter().for_each(|queue| line.declare(queue));
    ["1", "2", "1"].iter().for_each(|id| line.publish("q", id, &large));
    let (mut channel, mut other) = (Channel::new(2), Line::new(&broker));
    channel.select_transaction().expect("a new channel");
    for (queue, id) in [("q", "3"), ("p", "3"), ("q", "1")] {
        let (route, mut encoded, properties) = (encode_route("", queue), Vec::new(), with_id(id));
        properties.encode(&mut encoded);
        let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body: &large };
        channel.publish(&mut other.session, &publish).expect("the queue is there");
    }
    assert!(!channel.commit(&mut other.session, |_| ()).expect("there is room"));
    // A commit shows when it is durable, and counts as seen from now on.
    line.publish("q", "3", &large);
    assert_eq!((line.ready("q"), line.confirmed()), (2, 0));
    broker.write_log();
    assert_eq!((line.ready("q"), line.ready("p"), line.confirmed()), (3, 1, 4));
    channel.close(&mut other.session);
    drop((line, other, broker));
    for _ in 0..2 {
        let broker = open(&path);
        let mut line = Line::new(&broker);
        for (queue, id) in [("q", "1"), ("q", "2"), ("q", "3"), ("p", "3")] {
            line.publish(queue, id, &large);
        }
        assert_eq!((line.ready("q"), line.ready("p"), line.confirmed()), (3, 1, 4));
        while broker.write_log() | broker.tend() {}
    }
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn many_keys_survive_checkpoints_and_restarts() {
    let path = scratch("many");
    let id = |number: u32| format!("{number:08}");
    let mut next = 0;
    for round in 0..4 {
        let broker = open(&path);
        let mut line = Line::new(&broker);
        line.declare("q");
        for number in 0..next {
            line.push("q", with_id(&id(number)), b"");
        }
        line.session.flush();
        assert_eq!(line.ready("q"), u64::from(next), "round {round}");
        for _ in 0..12_000 {
            line.push("q", with_id(&id(next)), b"");
            next += 1;
            if next % 1000 == 0 {
                line.session.flush();
                broker.write_log();
                broker.tend();
            }
        }
        assert_eq!(line.ready("q"), u64::from(next));
        if round % 2 == 1 {
            while broker.write_log() | broker.tend() {}
        }
        broker.write_log();
    }
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn two_clients_that_publish_the_same_store_it_once() {
    const MESSAGES: u32 = 2000;
    let path = scratch("clients");
    let broker = Broker::open(&path).expect("a directory of our own");
    let client = broker.connect();
    let arguments = FieldTable::new().with("x-message-deduplication", true);
    let declare = QueueDeclare {
        name: "q",
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: arguments.as_table(),
    };
    client.declare_queue_with(declare).expect("a new queue");
    let send = || {
        let client = broker.connect();
        let mut confirms = Vec::new();
        for number in 0..MESSAGES {
            let id = number.to_string();
            let properties = Properties { message_id: Some(id.as_bytes()), ..Properties::EMPTY };
            let content = Content::new(id.as_bytes()).properties(properties);
            confirms.push(client.send("", "q", content).wait().expect("it is taken"));
        }
        for confirm in confirms {
            confirm.wait().expect("it is confirmed");
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(send), scope.spawn(send)];
        threads.into_iter().for_each(|thread| thread.join().expect("nothing fails"));
    });
    assert_eq!(client.queue_status("q").expect("it is there").ready, u64::from(MESSAGES));
    let mut seen = Vec::new();
    while let Some(message) = client.get("q").expect("it is there") {
        seen.push(String::from_utf8(message.body().to_vec()).expect("digits").parse::<u32>().expect("a number"));
        message.ack().expect("it was delivered");
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..MESSAGES));
    drop((client, broker));
    std::fs::remove_dir_all(path).expect("ours");
}
