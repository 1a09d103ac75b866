//! The data directory: what is there after a kill and a restart, and starts that fail.

use crate::client::{Client, Login, PATIENCE, method, persistent, publish_method};
use crate::server::{Directory, Server, command, eventually};
use leveret_wire::method::{Method, basic, channel, confirm, connection, queue, tx};
use std::io::Write;
use std::process::Command;

/// Segments as small as they may be, so that little data fills several.
const SMALL: [&str; 2] = ["--segment-size", "65536"];

fn durable(client: &mut Client, names: &[&str]) {
    for name in names {
        client.declare_with(1, queue::Declare { queue: name, durable: true, ..Default::default() });
    }
}

/// Waits until so many messages are confirmed.
fn confirmed(client: &mut Client, upto: u64) {
    let mut confirmed = 0;
    while confirmed < upto {
        let ack = client.expect(1, basic::Ack::ID);
        let Method::BasicAck(ack) = ack.method() else { unreachable!("expected above") };
        assert!(ack.delivery_tag > confirmed && (ack.multiple || ack.delivery_tag == confirmed + 1), "{ack:?}");
        confirmed = ack.delivery_tag;
    }
    assert_eq!(confirmed, upto);
}

/// Bodies of what is in a queue, which is empty afterwards.
fn drain(client: &mut Client, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        client.say(1, basic::Get { queue, no_ack: true });
        let answer = client.frame();
        if answer.is(basic::GetEmpty::ID) {
            return bodies;
        }
        assert!(answer.is(basic::GetOk::ID), "{answer:?}");
        bodies.push(String::from_utf8(client.content(1)).expect("text"));
    }
}

fn open(server: &Server) -> Client {
    let mut client = Client::open(server);
    client.channel(1);
    client
}

#[test]
fn what_was_confirmed_survives_a_kill_and_what_was_acked_before_a_confirm_is_gone() {
    let directory = Directory::new("kill");
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    durable(&mut client, &["a", "b"]);
    client.call(1, confirm::Select::default(), confirm::SelectOk::ID);
    let bodies: Vec<String> = (0..500).map(|number| format!("{number:0>1000}")).collect();
    bodies.iter().for_each(|body| client.send(&persistent(1, "", "a", body.as_bytes())));
    confirmed(&mut client, 500);
    client.say(1, basic::Get { queue: "a", no_ack: false });
    client.expect(1, basic::GetOk::ID);
    client.content(1);
    client.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    // A confirm means that everything before it is durable.
    client.send(&persistent(1, "", "b", b"last"));
    client.expect(1, basic::Ack::ID);
    server.kill();
    let server = Server::on_disk(&directory, &SMALL);
    assert!(server.log().contains("recovered queues=2 messages=500 "), "{}", server.log());
    let mut client = open(&server);
    assert_eq!(drain(&mut client, "a"), bodies[1..]);
    assert_eq!(drain(&mut client, "b"), ["last"]);
    server.stop();
    let server = Server::on_disk(&directory, &SMALL);
    assert!(server.log().contains("recovered queues=2 messages=0 "), "{}", server.log());
}

#[test]
fn transient_messages_and_queues_end_with_the_process() {
    let directory = Directory::new("transient");
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    durable(&mut client, &["durable"]);
    client.declare_with(1, queue::Declare { queue: "transient", ..Default::default() });
    for queue in ["durable", "transient"] {
        client.send(&persistent(1, "", queue, b"persistent"));
        client.publish_bytes(1, "", queue, b"not");
    }
    client.close();
    server.stop();
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    assert_eq!(drain(&mut client, "durable"), ["persistent"]);
    client.say(1, queue::Declare { queue: "transient", passive: true, ..Default::default() });
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'transient' in vhost '/'", queue::Declare::ID);
}

#[test]
fn a_commit_is_answered_behind_its_returns_and_before_what_comes_behind_it() {
    let directory = Directory::new("order");
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    durable(&mut client, &["a"]);
    client.call(1, tx::Select, tx::SelectOk::ID);
    client.channel(2);
    let nowhere = basic::Publish { routing_key: "nowhere", mandatory: true, ..Default::default() };
    let nowhere = [method(1, nowhere), persistent(1, "", "", b"returned").split_off(publish_method(1, "", "").len())];
    for number in 0..50 {
        let body = number.to_string();
        client.send(
            &[
                nowhere.concat(),
                persistent(1, "", "a", body.as_bytes()),
                method(1, tx::Commit),
                method(1, basic::Qos::default()),
                persistent(1, "", "a", b"rolled back"),
                method(1, tx::Rollback),
                method(2, basic::Qos::default()),
            ]
            .concat(),
        );
        client.expect(1, basic::Return::ID);
        assert_eq!(client.content(1), b"returned");
        let mut answers = vec![basic::QosOk::ID, tx::CommitOk::ID, basic::QosOk::ID, tx::RollbackOk::ID];
        while !answers.is_empty() {
            let answer = client.frame();
            let expected = if answer.channel == 2 { 0 } else { 1.min(answers.len() - 1) };
            assert!(answer.is(answers.remove(expected)), "{answer:?} in round {number}");
        }
    }
    server.kill();
    let server = Server::on_disk(&directory, &SMALL);
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(drain(&mut open(&server), "a"), expected);
}

#[test]
fn a_committed_transaction_survives_a_kill_whole() {
    let directory = Directory::new("commit");
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    durable(&mut client, &["in", "a", "b"]);
    client.send(&persistent(1, "", "in", b"task"));
    client.call(1, tx::Select, tx::SelectOk::ID);
    client.say(1, basic::Get { queue: "in", no_ack: false });
    client.expect(1, basic::GetOk::ID);
    assert_eq!(client.content(1), b"task");
    client.send(&[persistent(1, "", "a", b"result"), persistent(1, "", "b", &[b'x'; 200_000])].concat());
    client.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    client.call(1, tx::Commit, tx::CommitOk::ID);
    client.send(&persistent(1, "", "a", b"never committed"));
    server.kill();
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    assert!(drain(&mut client, "in").is_empty());
    assert_eq!(drain(&mut client, "a"), ["result"]);
    assert_eq!(drain(&mut client, "b")[0].len(), 200_000);
}

#[test]
fn a_client_may_go_while_its_commit_waits_for_the_disk() {
    let directory = Directory::new("gone");
    let server = Server::on_disk(&directory, &SMALL);
    durable(&mut open(&server), &["a"]);
    for round in 0..20 {
        let mut client = open(&server);
        client.call(1, tx::Select, tx::SelectOk::ID);
        let commit = [persistent(1, "", "a", b"committed"), method(1, tx::Commit)].concat();
        match round % 3 {
            0 => {
                client.send(&[commit, method(1, channel::Close { reply_code: 200, ..Default::default() })].concat());
                client.expect(1, tx::CommitOk::ID);
                client.expect(1, channel::CloseOk::ID);
            }
            1 => {
                client.send(&[commit, method(0, connection::Close { reply_code: 200, ..Default::default() })].concat());
                while !client.frame().is(connection::CloseOk::ID) {}
            }
            _ => client.stream.write_all(&commit).expect("it is written"),
        }
    }
    let mut client = open(&server);
    eventually("all that was committed is there", PATIENCE, || client.ready(1, "a") == 20);
}

#[test]
fn confirms_of_a_channel_that_was_closed_do_not_reach_its_successor() {
    let directory = Directory::new("successor");
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    durable(&mut client, &["a"]);
    for _ in 0..20 {
        client.call(1, confirm::Select::default(), confirm::SelectOk::ID);
        client.send(
            &[
                persistent(1, "", "a", b"old").repeat(5),
                method(1, channel::Close { reply_code: 200, ..Default::default() }),
                method(1, channel::Open),
                method(1, confirm::Select::default()),
                persistent(1, "", "a", b"new"),
            ]
            .concat(),
        );
        while !client.frame().is(confirm::SelectOk::ID) {}
        let ack = client.expect(1, basic::Ack::ID);
        assert_eq!(ack.method(), basic::Ack { delivery_tag: 1, multiple: false }.into());
    }
    assert_eq!(client.ready(1, "a"), 120);
}

#[test]
fn publishers_wait_when_the_disk_is_nearly_full() {
    let directory = Directory::new("full");
    let server = Server::on_disk(&directory, &["--min-free-disk", "1000000000000000000"]);
    let mut client = Client::open_as(&server, &Login::default().capable("connection.blocked"));
    client.channel(1);
    durable(&mut client, &["a"]);
    // It publishes, so it is told as soon as the disk was looked at.
    client.send(&persistent(1, "", "a", b"x"));
    let told = client.expect(0, connection::Blocked::ID);
    assert_eq!(told.method(), connection::Blocked { reason: "low on disk" }.into());
    client.call(1, basic::Qos::default(), basic::QosOk::ID);
}

/// How a start ends that fails: the last line, with the directory's path as DIR.
fn failing(directory: &Directory, options: &[&str]) -> String {
    let mut command = command(&["serve", "--http", "none", "--amqp", "127.0.0.1:0", "--log", "error"]);
    let output = command.args(["--data-dir", directory.path()]).args(options).output().expect("the executable starts");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    message.trim_end().replace(directory.path(), "DIR")
}

#[test]
fn a_directory_has_one_process() {
    let directory = Directory::new("lock");
    let server = Server::on_disk(&directory, &[]);
    let expected = "leveret: DIR is in use by another process; stop that, or give this broker its own with --data-dir";
    assert_eq!(failing(&directory, &[]), expected);
    server.stop();
    Server::on_disk(&directory, &[]).stop();
}

#[test]
fn a_directory_that_cannot_be_used_is_said_so() {
    let directory = Directory::new("no-directory");
    std::fs::write(directory.path(), "a file").expect("a temporary file can be written");
    let message = failing(&directory, &[]);
    let expected = "leveret: cannot use the data directory DIR; choose another with --data-dir, or keep everything in \
                    memory with --memory: ";
    assert!(message.starts_with(expected), "{message}");
    std::fs::remove_file(directory.path()).expect("it is ours");
}

#[test]
fn a_missing_file_is_an_error_unless_its_loss_is_accepted() {
    let directory = Directory::new("missing");
    let server = Server::on_disk(&directory, &SMALL);
    let mut client = open(&server);
    durable(&mut client, &["a"]);
    client.call(1, confirm::Select::default(), confirm::SelectOk::ID);
    (0..100).for_each(|_| client.send(&persistent(1, "", "a", &[b'x'; 5000])));
    confirmed(&mut client, 100);
    server.kill();
    let mut files: Vec<_> = std::fs::read_dir(directory.path())
        .expect("it is there")
        .map(|file| file.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log" || extension == "merged"))
        .collect();
    files.sort();
    std::fs::remove_file(&files[1]).expect("it is ours");
    let message = failing(&directory, &SMALL);
    assert!(message.starts_with("leveret: the data directory DIR is incomplete: "), "{message}");
    assert!(message.contains("or start with --accept-loss, which gives up what is missing for good"), "{message}");
    let server = Server::on_disk(&directory, &["--segment-size", "65536", "--accept-loss"]);
    let left = drain(&mut open(&server), "a").len();
    assert!((1..100).contains(&left), "{left} of 100 messages:\n{}", server.log());
}

#[test]
fn a_log_that_fails_ends_the_process_and_nothing_is_confirmed() {
    let directory = Directory::new("fails");
    // No file may grow beyond 100 kB, and the signal for it is ignored: a write fails as on a broken disk.
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    let leveret = command(&["serve", "--http", "none", "--amqp", "127.0.0.1:0", "--data-dir", directory.path()]);
    shell.args(["-c", script]).arg(leveret.get_program()).args(leveret.get_args()).args(SMALL);
    let server = Server::spawn(shell.stderr(std::process::Stdio::piped()));
    let mut client = open(&server);
    durable(&mut client, &["a"]);
    client.call(1, confirm::Select::default(), confirm::SelectOk::ID);
    client.send(&persistent(1, "", "a", b"safe"));
    confirmed(&mut client, 1);
    client.send(&persistent(1, "", "a", &[b'x'; 200_000]));
    let frame = client.expect(0, connection::Close::ID);
    let Method::ConnectionClose(close) = frame.method() else { unreachable!("expected above") };
    assert_eq!(close.reply_code, 541);
    assert!(close.reply_text.starts_with("INTERNAL_ERROR - the log has failed: "), "{}", close.reply_text);
    // It is not answered, and the end does not wait for that.
    assert_eq!(server.wait(PATIENCE).code(), Some(1), "{}", server.log());
    let told = ["ERROR the log has failed, all connections are closed: ", "\nleveret: the log has failed: "];
    eventually("it says why", PATIENCE, || told.iter().all(|told| server.log().contains(told)));
    let server = Server::on_disk(&directory, &SMALL);
    assert_eq!(drain(&mut open(&server), "a"), ["safe"]);
}

#[test]
fn a_start_says_where_the_data_is_and_what_a_confirm_means() {
    let directory = Directory::new("says");
    let server = Server::on_disk(&directory, &["--sync", "interval:50"]);
    let log = server.log();
    assert!(
        log.contains(&format!("durable queues and messages are kept on disk directory={}", directory.path())),
        "{log}"
    );
    assert!(log.contains("a confirm means written, and synced soon"), "{log}");
    assert!(log.contains("sync=\"interval:50\""), "{log}");
    server.stop();
    eventually("it says goodbye", PATIENCE, || server.log().contains("stopped"));
    let server = Server::on_disk(&directory, &["--sync", "never"]);
    assert!(server.log().contains("sync=\"never\""), "{}", server.log());
    let log = Server::start(&[]).log();
    assert!(log.contains("everything is kept in memory and ends with this process"), "{log}");
}

#[test]
fn options_that_contradict_each_other_or_mean_nothing_are_refused() {
    let refused = |options: &[&str]| {
        let output = command(&["serve"]).args(options).output().expect("the executable starts");
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (option, value) in [("--data-dir", "x"), ("--sync", "never"), ("--min-free-disk", "1"), SMALL.into()] {
        let message = refused(&["--memory", option, value]);
        assert!(message.contains("'--memory' cannot be used with") && message.contains(option), "{message}");
    }
    assert!(refused(&["--memory", "--accept-loss"]).contains("cannot be used with"));
    let message = refused(&["--sync", "sometimes"]);
    assert!(message.contains("say always, never, or interval:<ms>"), "{message}");
    assert!(refused(&["--segment-size", "1000"]).contains("65536..=1073741824"));
}
