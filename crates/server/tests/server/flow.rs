//! Heartbeats, and what happens to publishers when memory is short.

use crate::client::{Client, Login, PATIENCE, publish, raw_frame};
use crate::server::{Canary, Server, shared};
use leveret_wire::frame;
use leveret_wire::method::{basic, connection, queue};
use std::time::{Duration, Instant};

#[test]
fn the_server_beats_at_half_the_interval() {
    let server = shared();
    let mut client = Client::open_as(&server, &Login::default().heartbeat(2));
    let mut beats = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(3500) {
        // What is sent keeps the server from taking the client for dead.
        client.send(&raw_frame(frame::HEARTBEAT, 0, b""));
        let frame = client.frame();
        assert_eq!((frame.kind, frame.channel, frame.payload.len()), (frame::HEARTBEAT, 0, 0));
        beats.push(begin.elapsed().as_secs_f64());
    }
    for (i, beat) in beats.iter().enumerate() {
        let expected = (i + 1) as f64;
        assert!((expected - 0.3..expected + 0.5).contains(beat), "heartbeats came after {beats:?} s");
    }
}

#[test]
fn a_silent_peer_is_dropped_after_two_intervals() {
    let server = shared();
    let mut client = Client::open_as(&server, &Login::default().heartbeat(1));
    let took = client.time_to_end(PATIENCE).as_secs_f64();
    assert!((1.9..3.5).contains(&took), "dropped after {took} s");
}

#[test]
fn any_octet_is_a_sign_of_life() {
    let server = shared();
    let mut client = Client::open_as(&server, &Login::default().heartbeat(1));
    client.channel(1);
    let queue = client.declare(1, "");
    for octet in publish(1, "", &queue, b"x").iter().cycle().take(16) {
        client.send(&[*octet]);
        std::thread::sleep(Duration::from_millis(250));
    }
    let took = client.time_to_end(PATIENCE).as_secs_f64();
    assert!((1.9..3.5).contains(&took), "dropped {took} s after the last");
}

/// More than the sockets of a connection hold.
const LARGE: usize = 15 * 1024 * 1024;

/// A connection whose consumer has more to take than its sockets hold, and takes nothing.
fn stuck(server: &Server) -> Client {
    let mut client = Client::open_as(server, &Login::default().heartbeat(1));
    client.channel(1);
    let queue = client.declare(1, "");
    let message = publish(1, "", &queue, &vec![7; LARGE]);
    (0..3).for_each(|_| client.send(&message));
    client.ready(1, &queue);
    client.consume(1, &queue, "c", true);
    client
}

#[test]
fn a_peer_that_neither_reads_nor_writes_is_dropped_too() {
    let server = Server::start(&[]);
    let before = server.sockets();
    let _client = stuck(&server);
    crate::server::eventually("it is dropped", PATIENCE, || server.sockets() == before);
}

#[test]
fn a_peer_that_reads_nothing_for_a_while_and_beats_is_kept() {
    let server = Server::start(&[]);
    let mut client = stuck(&server);
    for _ in 0..10 {
        client.send(&raw_frame(frame::HEARTBEAT, 0, b""));
        std::thread::sleep(Duration::from_millis(500));
    }
    for _ in 0..3 {
        assert_eq!(client.delivery(1).len(), LARGE);
    }
}

#[test]
fn publishers_are_blocked_when_memory_is_short_and_go_on_when_it_is_not() {
    let server = Server::start(&["--max-memory", "4000000"]);
    let mut consumer = Client::open_as(&server, &Login::default().capable("connection.blocked"));
    consumer.channel(1);
    let queue = consumer.declare_with(1, queue::Declare { queue: "backlog", ..Default::default() });
    let mut told = Client::open_as(&server, &Login::default().capable("connection.blocked"));
    let mut untold = Client::open(&server);
    for publisher in [&mut told, &mut untold] {
        publisher.channel(1);
        publisher.publish_bytes(1, "", &queue, b"so it publishes");
        publisher.call(1, basic::Qos::default(), basic::QosOk::ID);
    }
    let message = publish(1, "", &queue, &vec![7; 500_000]);
    (0..9).for_each(|_| told.send(&message));
    let blocked = told.expect(0, connection::Blocked::ID);
    assert_eq!(blocked.method(), connection::Blocked { reason: "low on memory" }.into());
    // What it sends now waits in the sockets, and so does what one says that was not told.
    (0..3).for_each(|_| told.publish_bytes(1, "", &queue, b"later"));
    untold.send(&publish(1, "", &queue, b"later"));
    untold.expect_silence(Duration::from_millis(300));
    // One that does not publish is not told, and is served. It drains the queue, which ends it for all.
    let ready = consumer.ready(1, &queue);
    assert!((9..=11).contains(&ready), "{ready} messages, none of the later ones");
    consumer.consume(1, &queue, "c", true);
    let mut small = 0;
    for _ in 0..15 {
        small += usize::from(consumer.delivery(1).len() < 100);
    }
    assert_eq!(small, 6, "two before, four after");
    told.expect(0, connection::Unblocked::ID);
    told.call(1, basic::Qos::default(), basic::QosOk::ID);
    untold.call(1, basic::Qos::default(), basic::QosOk::ID);
    consumer.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_connection_that_begins_to_publish_while_others_are_blocked_is_blocked_too() {
    let server = Server::start(&["--max-memory", "1000000"]);
    let mut first = Client::open_as(&server, &Login::default().capable("connection.blocked"));
    first.channel(1);
    let queue = first.declare_with(1, queue::Declare { queue: "backlog", ..Default::default() });
    first.publish_bytes(1, "", &queue, &vec![7; 1_100_000]);
    first.expect(0, connection::Blocked::ID);
    let mut second = Client::open_as(&server, &Login::default().capable("connection.blocked"));
    second.channel(1);
    second.expect_silence(Duration::from_millis(100));
    second.publish_bytes(1, "", &queue, b"one");
    second.expect(0, connection::Blocked::ID);
    second.publish_bytes(1, "", &queue, b"two");
    second.expect_silence(Duration::from_millis(200));
    let mut third = Client::open(&server);
    third.channel(1);
    third.call(1, queue::Purge { queue: &queue, no_wait: false }, queue::PurgeOk::ID);
    first.expect(0, connection::Unblocked::ID);
    second.expect(0, connection::Unblocked::ID);
    second.call(1, basic::Qos::default(), basic::QosOk::ID);
    Canary::new(&server).sing();
}
