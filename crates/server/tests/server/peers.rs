//! Clients that keep the rules and still want to harm: what they may cost the process and the other clients.

use crate::client::{Client, Login, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, Server, eventually, shared};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection, exchange, queue};
use leveret_wire::table::Table;
use std::io::Write;
use std::time::Duration;

#[test]
fn a_refusal_is_readable_while_the_client_still_writes() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    client.send(&raw_frame(9, 1, b"x"));
    // What follows a frame that isn't one is thrown away, but the socket stays open until the client has its answer.
    for _ in 0..100 {
        client.stream.write_all(&[0x55; 10_000]).expect("the server still takes what is sent");
        std::thread::sleep(Duration::from_millis(2));
    }
    client.expect_close(501, "FRAME_ERROR - type 9: unknown_frame", (0, 0));
}

#[test]
fn answers_wait_for_a_client_that_does_not_read_them() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    // 200 MiB of messages, asked for in one packet of 20 octets each.
    let message = publish(1, "", &queue, &vec![7; 1024 * 1024]);
    for _ in 0..200 {
        client.send(&message);
    }
    assert_eq!(client.ready(1, &queue), 200);
    let before = server.resident();
    client.send(&method(1, basic::Get { queue: &queue, no_ack: false }).repeat(200));
    std::thread::sleep(Duration::from_millis(500));
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 * 1024, "answers to basic.get that nobody reads cost {grown} KiB");
    for _ in 0..200 {
        client.expect(1, basic::GetOk::ID);
        assert_eq!(client.content(1).len(), 1024 * 1024);
    }
    canary.sing();
}

#[test]
fn a_client_that_closes_and_reads_nothing_is_let_go() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = server.sockets();
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    let message = publish(1, "", &queue, &vec![7; 200 * 1024]);
    for _ in 0..100 {
        client.send(&message);
    }
    client.ready(1, &queue);
    client.consume(1, &queue, "c", true);
    std::thread::sleep(Duration::from_millis(300));
    client.say(0, connection::Close { reply_code: 200, ..Default::default() });
    eventually("its socket is closed", Duration::from_secs(8), || server.sockets() == before);
    canary.sing();
}

#[test]
fn one_packet_of_expensive_requests_does_not_stop_the_others() {
    let server = Server::single_threaded();
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    for i in 0..1_000 {
        let tag = i.to_string();
        let consume = basic::Consume { queue: &queue, consumer_tag: &tag, no_wait: true, ..Default::default() };
        client.send(&method(1, consume));
    }
    client.call(1, basic::Qos::default(), basic::QosOk::ID);
    // Each of these changes the credit of every consumer.
    let qos = |prefetch_count| method(1, basic::Qos { prefetch_count, global: true, prefetch_size: 0 });
    client.send(&[qos(1), qos(2)].concat().repeat(100));
    let slowest = (0..20).map(|_| canary.sing()).max().expect("it sang");
    assert!(slowest < Duration::from_millis(500), "a message took {slowest:?} beside it");
    for _ in 0..200 {
        client.expect(1, basic::QosOk::ID);
    }
}
