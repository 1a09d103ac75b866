//! Frames: their order, their sizes, and several channels at once.

use crate::client::{Case, Client, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, shared};
use leveret_wire::frame;
use leveret_wire::method::{access, basic, channel, connection, queue, tx};
use leveret_wire::table::Table;

const NO_HEADER: &str = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
const NO_BODY: &str = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
const NO_METHOD: &str = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";

#[test]
fn frames_in_the_wrong_order_end_the_connection() {
    let server = shared();
    let mut canary = Canary::new(&server);
    let begun = publish_method(1, "", "k");
    let header = header(1, 3, Table::EMPTY);
    let body = raw_frame(frame::BODY, 1, b"abc");
    let mut other_class = header.clone();
    other_class[8] = 50;
    let class_50 = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead";
    let publish = basic::Publish::ID;
    type Order<'a> = (&'a str, Vec<&'a [u8]>, &'a str, (u16, u16));
    let cases: [Order<'_>; 9] = [
        ("a body for a header", vec![&begun, &body], NO_HEADER, publish),
        ("a method for a header", vec![&begun, &begun], NO_HEADER, publish),
        ("a header for a body", vec![&begun, &header, &header], NO_BODY, publish),
        ("a method for a body", vec![&begun, &header, &begun], NO_BODY, publish),
        ("a header of another class", vec![&begun, &other_class], class_50, publish),
        ("a header for a method", vec![&header], NO_METHOD, (0, 0)),
        ("a body for a method", vec![&body], NO_METHOD, (0, 0)),
        ("a body behind the last", vec![&begun, &header, &body, &body], NO_METHOD, (0, 0)),
        ("another method in the middle", vec![&begun, &[1, 0, 1, 0, 0, 0, 4, 0, 90, 0, 10, 0xce]], NO_HEADER, publish),
    ];
    for (what, frames, text, id) in cases {
        // All at once, and each on its own: whole messages take another way through the server than pieces.
        for apart in [false, true] {
            println!("{what}, apart: {apart}");
            let mut client = Client::open(&server);
            client.channel(1);
            match apart {
                false => client.send(&frames.concat()),
                true => frames.iter().for_each(|frame| {
                    client.send(frame);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }),
            }
            client.expect_close(505, text, id);
        }
    }
    canary.sing();
}

#[test]
fn methods_where_they_do_not_belong() {
    let server = shared();
    let cases: [Case<'_>; 9] = [
        ("open twice", method(1, channel::Open), 504, "CHANNEL_ERROR - second 'channel.open' seen", (20, 10)),
        ("not opened", method(9, queue::Declare::default()), 504, "CHANNEL_ERROR - expected 'channel.open'", (50, 10)),
        ("publish there", publish(9, "", "k", b"x"), 504, "CHANNEL_ERROR - expected 'channel.open'", (60, 40)),
        ("close there", method(9, channel::Close::default()), 504, "CHANNEL_ERROR - expected 'channel.open'", (20, 40)),
        (
            "the connection's on a channel",
            method(1, connection::Open { virtual_host: "/" }),
            503,
            "COMMAND_INVALID - 'connection.open' is only allowed on channel 0",
            (10, 40),
        ),
        (
            "the channel's on the connection",
            method(0, channel::Open),
            503,
            "COMMAND_INVALID - unexpected method 'channel.open' on channel 0",
            (20, 10),
        ),
        (
            "the handshake's after it",
            method(0, connection::TuneOk::default()),
            503,
            "COMMAND_INVALID - unexpected method 'connection.tune-ok' on channel 0",
            (10, 31),
        ),
        (
            "the server's own",
            method(1, tx::SelectOk),
            503,
            "COMMAND_INVALID - unexpected method 'tx.select-ok'",
            (90, 11),
        ),
        (
            "none at all",
            raw_frame(frame::METHOD, 1, &[0, 99, 0, 1]),
            503,
            "COMMAND_INVALID - unknown method: class 99, method 1",
            (99, 1),
        ),
    ];
    for (what, bytes, code, text, id) in cases {
        println!("{what}");
        let mut client = Client::open(&server);
        client.channel(1);
        client.send(&bytes);
        client.expect_close(code, text, id);
    }
}

#[test]
fn messages_of_several_channels_interleave() {
    let server = shared();
    let mut client = Client::open(&server);
    (1..=3).for_each(|number| client.channel(number));
    let queue = client.declare(3, "");
    client.consume(3, &queue, "c", true);
    let (one, two) = ([1u8; 3000], [2u8; 3000]);
    let piece = |channel, body: &[u8], i: usize| raw_frame(frame::BODY, channel, &body[i * 1000..(i + 1) * 1000]);
    client.send(
        &[
            publish_method(1, "", &queue),
            publish_method(2, "", &queue),
            header(2, 3000, Table::EMPTY),
            header(1, 3000, Table::EMPTY),
            piece(1, &one, 0),
            piece(2, &two, 0),
            raw_frame(frame::HEARTBEAT, 0, b""),
            piece(2, &two, 1),
            publish(3, "", &queue, b"whole"),
            piece(2, &two, 2),
            piece(1, &one, 1),
            piece(1, &one, 2),
        ]
        .concat(),
    );
    let mut bodies: Vec<Vec<u8>> = (0..3).map(|_| client.delivery(3)).collect();
    bodies.sort();
    assert_eq!(bodies, [one.to_vec(), two.to_vec(), b"whole".to_vec()]);
}

#[test]
fn bodies_in_no_frame_one_and_many() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    client.consume(1, &queue, "c", true);
    // No frame; and what is no body frame of a message is the next frame, of whatever kind.
    client.send(&[publish_method(1, "", &queue), header(1, 0, Table::EMPTY), publish(1, "", &queue, b"next")].concat());
    assert_eq!(client.delivery(1), b"");
    assert_eq!(client.delivery(1), b"next");
    // Empty body frames, as some clients send them, add nothing and end nothing.
    let empty = raw_frame(frame::BODY, 1, b"");
    let parts = [
        publish_method(1, "", &queue),
        header(1, 2, Table::EMPTY),
        empty.clone(),
        raw_frame(frame::BODY, 1, b"a"),
        empty,
    ];
    client.send(&[parts.concat(), raw_frame(frame::BODY, 1, b"b")].concat());
    assert_eq!(client.delivery(1), b"ab");
    // Every way to cut a session into packets is the same session.
    let bytes =
        [publish(1, "", &queue, b"one"), publish(1, "", &queue, b""), publish(1, "", &queue, &[3; 300])].concat();
    for cut in 1..bytes.len() {
        client.send(&bytes[..cut]);
        if cut % 16 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        client.send(&bytes[cut..]);
        assert_eq!((client.delivery(1), client.delivery(1)), (b"one".to_vec(), vec![]));
        assert_eq!(client.delivery(1), [3; 300]);
    }
    for octet in &bytes {
        client.send(&[*octet]);
    }
    assert_eq!((client.delivery(1), client.delivery(1), client.delivery(1).len()), (b"one".to_vec(), vec![], 300));
}

#[test]
fn eight_octets_over_frame_max_are_tolerated() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    client.consume(1, &queue, "c", true);
    client.send(&[publish_method(1, "", &queue), header(1, 131_072, Table::EMPTY)].concat());
    client.send(&raw_frame(frame::BODY, 1, &vec![1; 131_072]));
    client.expect(1, basic::Deliver::ID);
    client.frame();
    // Its own frames keep to what was agreed.
    assert_eq!([client.frame().payload.len(), client.frame().payload.len()], [131_064, 8]);
    client.send(&[publish_method(1, "", &queue), header(1, 131_073, Table::EMPTY)].concat());
    client.send(&raw_frame(frame::BODY, 1, &vec![1; 131_073]));
    client.expect_close(501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}", (0, 0));
}

#[test]
fn methods_that_ask_for_an_old_or_rare_answer_get_it() {
    let server = shared();
    let mut client = Client::open(&server);
    let secret = connection::UpdateSecret { new_secret: b"new", reason: "expired" };
    client.call(0, secret, connection::UpdateSecretOk::ID);
    client.channel(1);
    let answer = client.call(1, access::Request { realm: "/data", ..Default::default() }, access::RequestOk::ID);
    assert_eq!(answer.method(), access::RequestOk { ticket: 1 }.into());
    let answer = client.call(1, channel::Flow { active: true }, channel::FlowOk::ID);
    assert_eq!(answer.method(), channel::FlowOk { active: true }.into());
    client.close();
}
