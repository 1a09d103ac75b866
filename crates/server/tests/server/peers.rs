//! Clients that keep the rules and still want to harm: what they may cost the process and the other clients.

use crate::client::{Client, Login, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, Server, eventually, shared};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection, exchange, queue};
use leveret_wire::table::{FieldTable, Table};
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
fn messages_granted_to_a_consumer_can_be_got_by_others() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    for body in [b"1", b"2"] {
        client.publish_bytes(1, "", &queue, body);
    }
    client.ready(1, &queue);
    // In one packet, so that the consumer is granted both messages and has not taken them when they are got.
    let consume = basic::Consume { queue: &queue, consumer_tag: "c", no_ack: true, ..Default::default() };
    let get = basic::Get { queue: &queue, no_ack: true };
    client.send(&[method(1, consume), method(1, get), method(1, get), method(1, get)].concat());
    client.expect(1, basic::ConsumeOk::ID);
    for body in [b"1", b"2"] {
        client.expect(1, basic::GetOk::ID);
        assert_eq!(client.content(1), body);
    }
    client.expect(1, basic::GetEmpty::ID);
    client.publish_bytes(1, "", &queue, b"3");
    assert_eq!(client.delivery(1), b"3");
    canary.sing();
}

#[test]
fn a_chain_of_auto_delete_exchanges_of_any_length_goes_with_its_end() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(1);
    let names: Vec<String> = (0..9_000).map(|i| format!("e{i}")).collect();
    let mut bytes = Vec::new();
    for name in &names {
        let declare = exchange::Declare {
            exchange: name,
            r#type: "fanout",
            auto_delete: true,
            no_wait: true,
            ..Default::default()
        };
        bytes.extend(method(1, declare));
    }
    for pair in names.windows(2) {
        let bind = exchange::Bind { source: &pair[0], destination: &pair[1], no_wait: true, ..Default::default() };
        bytes.extend(method(1, bind));
    }
    client.send(&bytes);
    let last = names.last().expect("there are some");
    client.call(1, exchange::Delete { exchange: last, ..Default::default() }, exchange::DeleteOk::ID);
    let passive = exchange::Declare { exchange: &names[0], passive: true, ..Default::default() };
    client.say(1, passive);
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'e0' in vhost '/'", exchange::Declare::ID);
    canary.sing();
}

#[test]
fn the_end_of_a_queue_does_not_cancel_the_consumer_of_a_reopened_channel() {
    let server = shared();
    let mut client = Client::open_as(&server, &Login::default().capable("consumer_cancel_notify"));
    client.channel(1);
    client.channel(2);
    let (gone, stays) = (client.declare(2, ""), client.declare(2, ""));
    client.consume(1, &gone, "c", true);
    let consume = basic::Consume { queue: &stays, consumer_tag: "c", no_ack: true, ..Default::default() };
    client.send(
        &[
            method(2, queue::Delete { queue: &gone, ..Default::default() }),
            method(1, channel::Close { reply_code: 200, ..Default::default() }),
            method(1, channel::Open),
            method(1, consume),
        ]
        .concat(),
    );
    client.expect(2, queue::DeleteOk::ID);
    client.expect(1, channel::CloseOk::ID);
    client.expect(1, channel::OpenOk::ID);
    client.expect(1, basic::ConsumeOk::ID);
    client.publish_bytes(2, "", &stays, b"still there");
    assert_eq!(client.delivery(1), b"still there");
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
fn unfinished_messages_of_a_connection_have_a_limit_together() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = server.resident();
    let mut client = Client::open(&server);
    let size = 16 * 1024 * 1024;
    // All but the last octet of sixteen messages of the largest size is allowed; of another sixteen it is not.
    let body = raw_body(1, size - 1);
    let mut refused = Vec::new();
    for number in 1..=32 {
        client.channel(number);
        client.send(&[publish_method(number, "", "k"), header(number, size as u64, Table::EMPTY)].concat());
        client.send(&renumbered(&body, number));
        // The answer on another channel comes when the frames before it were taken.
        client.say(2000, channel::Open);
        let mut answer = client.frame();
        if answer.is(channel::Close::ID) {
            let Method::ChannelClose(close) = answer.method() else { unreachable!("looked at above") };
            let text = "CONTENT_TOO_LARGE - unfinished messages of this connection hold more than 268435456 bytes";
            assert_eq!((close.reply_code, close.reply_text), (311, text));
            refused.push(answer.channel);
            client.say(number, channel::CloseOk);
            answer = client.frame();
        }
        assert!(answer.is(channel::OpenOk::ID));
        client.call(2000, channel::Close { reply_code: 200, ..Default::default() }, channel::CloseOk::ID);
    }
    assert_eq!(refused, (17..=32).collect::<Vec<u16>>());
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 400 * 1024, "unfinished messages cost {grown} KiB");
    // What was begun can be finished, and makes room.
    client.send(&raw_frame(frame::BODY, 1, &[1]));
    client.channel(17);
    client.send(&[publish_method(17, "", "k"), header(17, size as u64, Table::EMPTY)].concat());
    client.send(&renumbered(&body, 17));
    client.channel(18);
    canary.sing();
    drop(client);
    let room = || server.resident() < before + 64 * 1024;
    eventually("what was unfinished is freed", Duration::from_secs(5), room);
}

fn raw_body(channel: u16, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_body(&mut out, channel, &vec![1; size], 131_072);
    out
}

fn renumbered(frames: &[u8], channel: u16) -> Vec<u8> {
    let mut out = frames.to_vec();
    let mut at = 0;
    while at < out.len() {
        out[at + 1..at + 3].copy_from_slice(&channel.to_be_bytes());
        let size = u32::from_be_bytes([out[at + 3], out[at + 4], out[at + 5], out[at + 6]]) as usize;
        at += 8 + size;
    }
    out
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

#[test]
fn a_declaration_with_thousands_of_arguments_is_one_line_of_the_log() {
    let server = Server::start(&[]);
    let mut client = Client::open(&server);
    client.channel(1);
    let mut arguments = FieldTable::new();
    for i in 0..5_000 {
        arguments.insert(&format!("x-{i}"), true);
    }
    client.declare_with(1, queue::Declare { exclusive: true, arguments: arguments.as_table(), ..Default::default() });
    client.close();
    let log = server.log();
    assert!(log.contains("no effect") && log.len() < 10_000, "{} octets of log", log.len());
}
