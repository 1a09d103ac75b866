//! What a connection may do while memory runs out: its messages are parked, the rest of what it says is served.

use crate::client::{Client, Login, PATIENCE, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, Server, eventually};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, confirm, connection, queue, tx};
use leveret_wire::table::Table;
use std::io::Write;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_millis(200);

/// A server whose memory is full, and the connection that filled it.
struct Full {
    server: Server,
    filler: Client,
}

impl Full {
    fn new(options: &[&str]) -> Full {
        let server = Server::start(&[&["--max-memory", "1000000"], options].concat());
        let mut filler = Client::open_as(&server, &Login::default().capable("connection.blocked"));
        filler.channel(1);
        filler.declare(1, "ballast");
        for name in ["one", "two"] {
            filler.declare_with(1, queue::Declare { queue: name, ..Default::default() });
        }
        filler.publish_bytes(1, "", "one", b"before");
        filler.publish_bytes(1, "", "ballast", &vec![7; 1_100_000]);
        filler.expect(0, connection::Blocked::ID);
        Full { server, filler }
    }

    /// A connection with channel 1, which is told that it has to wait once it publishes.
    fn client(&self) -> Client {
        let mut client = Client::open_as(&self.server, &Login::default().capable("connection.blocked"));
        client.channel(1);
        client
    }

    /// As [`Full::client`]; it has published a message to queue `one` that is parked.
    fn waiting(&self) -> Client {
        let mut client = self.client();
        client.publish_bytes(1, "", "one", b"parked");
        client.expect(0, connection::Blocked::ID);
        client
    }

    /// Makes room.
    fn relieve(&mut self) {
        self.filler.call(1, queue::Purge { queue: "ballast", no_wait: false }, queue::PurgeOk::ID);
        self.filler.expect(0, connection::Unblocked::ID);
    }

    /// Bodies of what is in a queue, which is empty afterwards.
    fn drain(&mut self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            self.filler.say(1, basic::Get { queue, no_ack: true });
            let answer = self.filler.frame();
            if answer.is(basic::GetEmpty::ID) {
                return bodies;
            }
            assert!(answer.is(basic::GetOk::ID), "{answer:?}");
            bodies.push(String::from_utf8(self.filler.content(1)).expect("text"));
        }
    }
}

#[test]
fn a_connection_that_publishes_and_acks_flows_whatever_the_limit_is() {
    let server = Server::start(&["--max-memory", "1000000"]);
    let mut client = Client::open(&server);
    client.channel(1);
    client.call(1, basic::Qos { prefetch_count: 5, ..Default::default() }, basic::QosOk::ID);
    let queue = client.declare(1, "");
    client.consume(1, &queue, "c", false);
    let body = |number: u8| vec![number; 50_000];
    // More than may be in memory, all of it said before the first ack, and no more than may be parked besides.
    for number in 0..30 {
        client.publish_bytes(1, "", &queue, &body(number));
    }
    eventually("the publisher is blocked", PATIENCE, || server.log().contains("publisher blocked"));
    for number in 0..30 {
        let delivered = client.delivery(1);
        assert!(delivered == body(number), "message {number} comes in its turn, not {}", delivered[0]);
        client.say(1, basic::Ack { delivery_tag: u64::from(number) + 1, multiple: false });
    }
    client.close();
    Canary::new(&server).sing();
}

#[test]
fn what_does_not_depend_on_parked_messages_is_served() {
    let mut full = Full::new(&[]);
    let mut client = full.client();
    client.consume(1, "one", "first", false);
    assert_eq!(client.delivery(1), b"before");
    client.publish_bytes(1, "", "two", b"parked");
    client.expect(0, connection::Blocked::ID);
    // On the channel that publishes.
    client.say(1, basic::Nack { delivery_tag: 1, multiple: false, requeue: true });
    assert_eq!(client.delivery(1), b"before");
    client.call(1, basic::Recover { requeue: true }, basic::RecoverOk::ID);
    assert_eq!(client.delivery(1), b"before");
    client.say(1, basic::Ack { delivery_tag: 3, multiple: false });
    client.call(1, basic::Qos { prefetch_count: 1, ..Default::default() }, basic::QosOk::ID);
    client.call(1, basic::Cancel { consumer_tag: "first", no_wait: false }, basic::CancelOk::ID);
    client.call(1, channel::Flow { active: true }, channel::FlowOk::ID);
    client.consume(1, "two", "second", true);
    // On others, everything.
    client.channel(2);
    assert_eq!(client.ready(2, "one"), 0);
    client.call(2, confirm::Select { nowait: false }, confirm::SelectOk::ID);
    client.call(2, channel::Close { reply_code: 200, ..Default::default() }, channel::CloseOk::ID);
    client.expect_silence(A_WHILE);
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    assert_eq!(client.delivery(1), b"parked");
    Canary::new(&full.server).sing();
}

#[test]
fn what_depends_on_parked_messages_is_answered_behind_them() {
    let mut full = Full::new(&[]);
    let close = channel::Close { reply_code: 200, ..Default::default() };
    let mut clients: Vec<Client> = (0..3).map(|_| full.waiting()).collect();
    let [declares, gets, closes] = &mut clients[..] else { unreachable!("three of them") };
    let passive = queue::Declare { queue: "one", passive: true, ..Default::default() };
    // Behind such a method even what would be served has to wait, so that answers come in order.
    declares.send(&[method(1, passive), method(1, basic::Qos::default())].concat());
    gets.say(1, basic::Get { queue: "one", no_ack: true });
    // The channel that is opened behind its close is another one.
    closes.send(&[method(1, close), method(1, channel::Open), method(1, confirm::Select::default())].concat());
    for client in &mut clients {
        client.expect_silence(A_WHILE);
    }
    full.relieve();
    let [declares, gets, closes] = &mut clients[..] else { unreachable!("three of them") };
    declares.expect(0, connection::Unblocked::ID);
    let declared = declares.expect(1, queue::DeclareOk::ID);
    let Method::QueueDeclareOk(ok) = declared.method() else { unreachable!("expected above") };
    assert!(ok.message_count >= 1, "its own message, at least: {ok:?}");
    declares.expect(1, basic::QosOk::ID);
    gets.expect(0, connection::Unblocked::ID);
    gets.expect(1, basic::GetOk::ID);
    closes.expect(0, connection::Unblocked::ID);
    closes.expect(1, channel::CloseOk::ID);
    closes.expect(1, channel::OpenOk::ID);
    closes.expect(1, confirm::SelectOk::ID);
    closes.publish_bytes(1, "", "two", b"confirmed");
    closes.expect(1, basic::Ack::ID);
    assert_eq!(gets.content(1), b"before");
    full.drain("one");
    assert_eq!(full.drain("two"), ["confirmed"]);
}

#[test]
fn acks_go_on_behind_a_parked_method() {
    let mut full = Full::new(&[]);
    let mut client = full.client();
    client.say(1, basic::Get { queue: "one", no_ack: false });
    client.expect(1, basic::GetOk::ID);
    assert_eq!(client.content(1), b"before");
    client.publish_bytes(1, "", "one", b"parked");
    client.expect(0, connection::Blocked::ID);
    let passive = queue::Declare { queue: "one", passive: true, ..Default::default() };
    client.send(&[method(1, passive), method(1, basic::Ack { delivery_tag: 1, multiple: false })].concat());
    client.expect_silence(A_WHILE);
    // The message was acked at once: it does not come back with the end of the connection.
    drop(client);
    std::thread::sleep(A_WHILE);
    assert!(full.drain("one").is_empty());
    full.relieve();
}

#[test]
fn confirms_come_when_parked_messages_are_taken() {
    let mut full = Full::new(&[]);
    let mut client = full.client();
    client.call(1, confirm::Select::default(), confirm::SelectOk::ID);
    for body in ["a", "b", "c"] {
        client.publish_bytes(1, "", "two", body.as_bytes());
    }
    client.expect(0, connection::Blocked::ID);
    client.expect_silence(A_WHILE);
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    let mut confirmed = 0;
    while confirmed < 3 {
        let ack = client.expect(1, basic::Ack::ID);
        let Method::BasicAck(ack) = ack.method() else { unreachable!("expected above") };
        assert!(ack.delivery_tag > confirmed);
        confirmed = ack.delivery_tag;
    }
    assert_eq!(full.drain("two"), ["a", "b", "c"]);
}

#[test]
fn an_ack_behind_a_parked_commit_belongs_to_the_next_transaction() {
    let mut full = Full::new(&[]);
    let mut client = full.client();
    client.call(1, tx::Select, tx::SelectOk::ID);
    client.say(1, basic::Get { queue: "one", no_ack: false });
    client.expect(1, basic::GetOk::ID);
    assert_eq!(client.content(1), b"before");
    client.publish_bytes(1, "", "two", b"committed");
    client.say(1, tx::Commit);
    client.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    client.publish_bytes(1, "", "two", b"rolled back");
    client.say(1, tx::Rollback);
    client.expect(0, connection::Blocked::ID);
    client.expect_silence(A_WHILE);
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    client.expect(1, tx::CommitOk::ID);
    client.expect(1, tx::RollbackOk::ID);
    client.call(1, channel::Close { reply_code: 200, ..Default::default() }, channel::CloseOk::ID);
    assert_eq!(full.drain("one"), ["before"]);
    assert_eq!(full.drain("two"), ["committed"]);
}

#[test]
fn a_transaction_that_begins_behind_a_parked_message_keeps_its_acks() {
    let mut full = Full::new(&[]);
    let mut client = full.client();
    client.say(1, basic::Get { queue: "one", no_ack: false });
    client.expect(1, basic::GetOk::ID);
    assert_eq!(client.content(1), b"before");
    client.publish_bytes(1, "", "two", b"plain");
    client.say(1, tx::Select);
    client.say(1, basic::Ack { delivery_tag: 1, multiple: false });
    client.say(1, tx::Rollback);
    client.expect(0, connection::Blocked::ID);
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    client.expect(1, tx::SelectOk::ID);
    client.expect(1, tx::RollbackOk::ID);
    client.call(1, channel::Close { reply_code: 200, ..Default::default() }, channel::CloseOk::ID);
    assert_eq!((full.drain("one"), full.drain("two")), (vec!["before".to_string()], vec!["plain".to_string()]));
}

/// Frames of a message of 300 kB in pieces, beside which another channel says something.
fn in_pieces(number: u16) -> Vec<Vec<u8>> {
    let mut frames = vec![publish_method(number, "", "two"), header(number, 300_000, Table::EMPTY)];
    for piece in 0..3 {
        frames.push(raw_frame(frame::BODY, number, &[b'0' + piece; 100_000]));
    }
    frames
}

#[test]
fn a_message_that_had_begun_is_finished_afterwards() {
    let server = Server::start(&["--max-memory", "1000000"]);
    let mut client = Client::open_as(&server, &Login::default().capable("connection.blocked"));
    client.channel(1);
    client.channel(2);
    client.declare_with(1, queue::Declare { queue: "two", ..Default::default() });
    let frames = in_pieces(1);
    frames[..3].iter().for_each(|frame| client.send(frame));
    client.publish_bytes(2, "", "two", &vec![7; 1_100_000]);
    client.expect(0, connection::Blocked::ID);
    client.send(&frames[3]);
    assert_eq!(client.ready(2, "two"), 1);
    client.send(&frames[4]);
    client.say(1, basic::Get { queue: "two", no_ack: true });
    client.expect_silence(A_WHILE);
    client.call(2, queue::Purge { queue: "two", no_wait: false }, queue::PurgeOk::ID);
    client.expect(0, connection::Unblocked::ID);
    client.expect(1, basic::GetOk::ID);
    let body = client.content(1);
    assert!(body.len() == 300_000 && body.is_sorted() && body.ends_with(b"2"), "{} octets", body.len());
    Canary::new(&server).sing();
}

#[test]
fn past_the_limit_the_socket_is_not_read_and_nothing_is_lost() {
    for limit in ["0", "1000", "100100", "250000"] {
        let mut full = Full::new(&["--max-parked-bytes", limit]);
        let mut client = full.client();
        for frame in in_pieces(1) {
            client.send(&frame);
        }
        client.publish_bytes(1, "", "two", b"last");
        client.expect(0, connection::Blocked::ID);
        client.say(2, channel::Open);
        client.expect_silence(A_WHILE);
        // It is not read, so what it sends stays in the sockets until they are full.
        client.stream.set_write_timeout(Some(A_WHILE)).expect("a socket");
        let heartbeats = raw_frame(frame::HEARTBEAT, 0, b"").repeat(10_000);
        let mut left = 0;
        let is_full = (0..1000).any(|_| match client.stream.write(&heartbeats[left..]) {
            Ok(written) => {
                left = (left + written) % heartbeats.len();
                false
            }
            Err(_) => true,
        });
        assert!(is_full, "with {limit} the sockets took everything");
        full.relieve();
        client.stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        client.send(&heartbeats[left..]);
        client.expect(0, connection::Unblocked::ID);
        client.expect(2, channel::OpenOk::ID);
        client.call(1, channel::Close { reply_code: 200, ..Default::default() }, channel::CloseOk::ID);
        let bodies = full.drain("two");
        let sizes: Vec<usize> = bodies.iter().map(String::len).collect();
        assert_eq!(sizes, [300_000, 4], "with {limit}");
        Canary::new(&full.server).sing();
    }
}

#[test]
fn a_connection_can_be_closed_while_its_messages_wait() {
    let mut full = Full::new(&[]);
    let mut client = full.waiting();
    client.publish_bytes(1, "", "one", b"parked, too");
    client.channel(2);
    client.close();
    let client = full.waiting();
    drop(client);
    eventually("what is dropped is logged", PATIENCE, || {
        let log = full.server.log();
        let dropped = |messages| {
            log.contains(&format!("dropped: their publisher ended before they were taken messages={messages}"))
        };
        dropped(1) && dropped(2)
    });
    full.relieve();
    assert_eq!(full.drain("one"), ["before"]);
}

#[test]
fn an_error_on_a_channel_drops_its_parked_messages_and_no_others() {
    let mut full = Full::new(&[]);
    let mut client = full.waiting();
    client.channel(2);
    client.publish_bytes(2, "", "two", b"kept");
    client.say(1, basic::Ack { delivery_tag: 99, multiple: false });
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 99", basic::Ack::ID);
    client.channel(1);
    client.publish_bytes(1, "", "two", b"of the next channel");
    client.expect_silence(A_WHILE);
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    client.call(1, basic::Qos::default(), basic::QosOk::ID);
    assert_eq!(full.drain("one"), ["before"]);
    assert_eq!(full.drain("two"), ["kept", "of the next channel"]);
}

#[test]
fn errors_of_parked_messages_come_when_they_are_taken() {
    let mut full = Full::new(&[]);
    let mut client = full.waiting();
    client.publish_bytes(1, "no-such-exchange", "", b"refused");
    client.publish_bytes(1, "", "one", b"behind the error");
    client.expect_silence(A_WHILE);
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    let text = "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'";
    client.expect_channel_close(1, 404, text, basic::Publish::ID);
    client.channel(1);
    assert_eq!(full.drain("one"), ["before", "parked"]);
}

#[test]
fn heartbeats_go_on_while_messages_wait() {
    let mut full = Full::new(&[]);
    let mut client = Client::open_as(&full.server, &Login::default().heartbeat(1));
    client.channel(1);
    client.publish_bytes(1, "", "one", b"parked");
    let mut beats = 0;
    for _ in 0..8 {
        client.send(&raw_frame(frame::HEARTBEAT, 0, b""));
        let frame = client.frame();
        assert_eq!(frame.kind, frame::HEARTBEAT);
        beats += 1;
    }
    assert_eq!(beats, 8);
    // A silent one is gone, however long publishers wait.
    let took = client.time_to_end(PATIENCE).as_secs_f64();
    assert!((1.0..3.5).contains(&took), "dropped after {took} s");
    full.relieve();
    assert_eq!(full.drain("one"), ["before"]);
}

#[test]
fn memory_of_parked_messages_is_given_back() {
    let mut full = Full::new(&["--max-parked-bytes", "100000000"]);
    let mut client = full.waiting();
    let before = full.server.resident();
    let message = publish(1, "no-such-exchange", "", &vec![7; 1_000_000]);
    for _ in 0..80 {
        client.send(&message);
    }
    client.channel(2);
    let grown = full.server.resident().saturating_sub(before);
    assert!(grown > 70_000, "they are parked: {grown} KiB");
    full.relieve();
    client.expect(0, connection::Unblocked::ID);
    // All of them are refused with the first; what is measured is what stays.
    client.expect(1, channel::Close::ID);
    client.say(1, channel::CloseOk);
    client.channel(1);
    let room = || full.server.resident() < before + 16 * 1024;
    eventually("their memory is free", PATIENCE, room);
}
