//! Items 1 to 8: frames and values that lie about sizes, depths, channels and limits.

use crate::client::{Case, Client, Login, header, method, publish_method, raw_frame};
use crate::server::{Canary, Server, eventually, shared};
use leveret_wire::frame::{self, PROTOCOL_HEADER};
use leveret_wire::method::{basic, channel, connection, queue, tx};
use leveret_wire::table::Table;
use std::time::{Duration, Instant};

/// Memory that may come and go for reasons of the allocator and the runtime, in KiB.
const NOISE: u64 = 4096;

const PAST_THE_END: &str = "SYNTAX_ERROR - cannot decode: a length points past the end";

#[test]
fn item_01_a_frame_announcing_4_gib_is_refused_at_its_head() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = server.resident();
    let huge = [frame::METHOD, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut client = Client::started(server.address);
        client.send(&huge);
        client.send(&[0x41; 1000]);
        let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,8184}";
        let close = client.expect(0, connection::Close::ID);
        assert_eq!(
            close.method(),
            connection::Close { reply_code: 501, reply_text: text, class_id: 0, method_id: 0 }.into()
        );
        held.push(client);
    }
    assert!(server.resident() < before + NOISE, "nothing is allocated for what is announced");
    // A login of 8 KiB, which may hold a token, passes; an octet more than RabbitMQ tolerates does not.
    for (size, accepted) in [(8192u32, true), (8193, false)] {
        let mut client = Client::started(server.address);
        let [a, b, c, d] = size.to_be_bytes();
        client.send(&[frame::METHOD, 0, 0, a, b, c, d]);
        match accepted {
            true => client.expect_silence(Duration::from_millis(200)),
            false => {
                let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}";
                client.expect_close(501, text, (0, 0));
            }
        }
    }
    // The same on an open connection, where frame_max holds.
    let mut client = Client::open(&server);
    client.send(&huge);
    let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,131064}";
    client.expect_close(501, text, (0, 0));
    canary.sing();
}

#[test]
fn item_02_before_authentication_a_connection_costs_at_most_64_kib() {
    const CONNECTIONS: u64 = 500;
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = server.resident();
    // The longest frame that is waited for, without its last octet.
    let mut unfinished = raw_frame(frame::METHOD, 0, &[0; 8192]);
    unfinished.pop();
    let heartbeats = raw_frame(frame::HEARTBEAT, 0, &[]).repeat(1024);
    let held: Vec<Client> = (0..CONNECTIONS)
        .map(|i| {
            let mut client = Client::started(server.address);
            if i % 2 == 0 {
                // As much as the sockets take: it is read and leads nowhere.
                for _ in 0..32 {
                    client.send(&heartbeats);
                }
            }
            client.send(&unfinished);
            client.stream.set_nonblocking(true).expect("a socket");
            client
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let grown = server.resident().saturating_sub(before);
    assert!(grown <= CONNECTIONS * 64, "{CONNECTIONS} connections cost {grown} KiB");
    canary.sing();
    drop(held);
    eventually("their sockets are closed", Duration::from_secs(5), || server.sockets() < 20);
}

#[test]
fn item_03_a_handshake_has_ten_seconds_of_wall_clock() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let login = Login::default().start_ok();
    // What each sends, octet by octet, after a beginning at once.
    let drips: [(&str, Vec<u8>, Vec<u8>); 5] = [
        ("silence", vec![], vec![]),
        ("the protocol header", vec![], PROTOCOL_HEADER[..7].to_vec()),
        ("start-ok", PROTOCOL_HEADER.to_vec(), login.clone()),
        ("heartbeats", PROTOCOL_HEADER.to_vec(), raw_frame(frame::HEARTBEAT, 0, &[]).repeat(100)),
        ("tune-ok", [&PROTOCOL_HEADER[..], &login].concat(), vec![frame::METHOD, 0, 0, 0, 0, 0, 12]),
    ];
    std::thread::scope(|scope| {
        for (what, at_once, slowly) in drips {
            let address = server.address;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                let begin = Instant::now();
                client.send(&at_once);
                for octet in slowly.iter().take(40) {
                    std::thread::sleep(Duration::from_millis(200));
                    client.send(&[*octet]);
                }
                client.time_to_end(Duration::from_secs(12));
                let took = begin.elapsed();
                assert!((9.5..11.5).contains(&took.as_secs_f64()), "{what}: closed after {took:?}");
            });
        }
        for _ in 0..10 {
            std::thread::sleep(Duration::from_secs(1));
            canary.sing();
        }
    });
    assert!(server.log().contains("handshake took too long"), "{}", server.log());
}

/// A field table nested this many times, the outermost one included; arrays cost fewer octets a level.
fn nested(depth: usize, arrays: bool) -> Vec<u8> {
    let mut entries = Vec::new();
    for level in 1..depth {
        let mut outer =
            if arrays && level < depth - 1 { vec![b'A'] } else { vec![1, b'a', if arrays { b'A' } else { b'F' }] };
        outer.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        outer.append(&mut entries);
        entries = outer;
    }
    entries
}

/// A method's arguments where a table, given as entries, stands between two pieces.
fn with_table(id: (u16, u16), before: &[u8], entries: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut payload = [id.0.to_be_bytes(), id.1.to_be_bytes()].concat();
    payload.extend_from_slice(before);
    payload.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    payload.extend_from_slice(entries);
    payload.extend_from_slice(behind);
    payload
}

#[test]
fn item_04_nested_tables_end_at_depth_32() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = server.resident();
    let text = "SYNTAX_ERROR - cannot decode: tables and arrays are nested more than 32 deep";
    let declare = |depth, arrays| {
        let payload = with_table(queue::Declare::ID, b"\0\0\0\x04", &nested(depth, arrays), b"");
        raw_frame(frame::METHOD, 1, &payload)
    };
    let message = |depth, arrays| {
        let entries = nested(depth, arrays);
        let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0];
        payload.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        payload.extend(entries);
        [publish_method(1, "", "nowhere"), raw_frame(frame::HEADER, 1, &payload)].concat()
    };
    for arrays in [false, true] {
        // As deep as fits into the frames of a login.
        let mut client = Client::started(server.address);
        let response = b"\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
        let payload = with_table(connection::StartOk::ID, b"", &nested(1100, arrays), response);
        client.send(&raw_frame(frame::METHOD, 0, &payload));
        client.expect_close(502, text, (0, 0));
        for depth in [33, 18_000] {
            let mut client = Client::open(&server);
            client.channel(1);
            client.send(&declare(depth, arrays));
            client.expect_close(502, text, (0, 0));
            let mut client = Client::open(&server);
            client.channel(1);
            client.send(&message(depth, arrays));
            client.expect_close(502, text, (0, 0));
        }
        // The deepest that is allowed works.
        let mut client = Client::open(&server);
        client.channel(1);
        client.send(&declare(32, arrays));
        client.expect(1, queue::DeclareOk::ID);
        client.send(&message(32, arrays));
        client.call(1, queue::Declare { exclusive: true, ..Default::default() }, queue::DeclareOk::ID);
        client.close();
    }
    canary.sing();
    assert!(server.resident() < before + NOISE);
}

#[test]
fn item_05_lengths_past_the_end_are_syntax_errors() {
    let server = shared();
    let mut canary = Canary::new(&server);
    let cut = |id: (u16, u16), arguments: &[u8]| {
        raw_frame(frame::METHOD, 1, &[&id.0.to_be_bytes()[..], &id.1.to_be_bytes(), arguments].concat())
    };
    let content = |payload: &[u8]| [publish_method(1, "", "k"), raw_frame(frame::HEADER, 1, payload)].concat();
    let properties =
        |flags: [u8; 2], list: &[u8]| content(&[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &flags, list].concat());
    let publish = basic::Publish::ID;
    let mut bad_end = method(1, tx::Select);
    *bad_end.last_mut().expect("an octet") = 0;
    let cases: [Case<'_>; 17] = [
        ("a short string past the end", cut((50, 10), b"\0\0\xffabc"), 502, PAST_THE_END, (0, 0)),
        ("a table of 4 GiB", cut((50, 10), b"\0\0\x01q\0\xff\xff\xff\xff"), 502, PAST_THE_END, (0, 0)),
        (
            "a long string of 2 GiB in a table",
            cut((50, 10), b"\0\0\x01q\0\0\0\0\x08\x01aS\x7f\xff\xff\xff\0"),
            502,
            PAST_THE_END,
            (0, 0),
        ),
        ("an array past its table", cut((50, 10), b"\0\0\x01q\0\0\0\0\x07\x01aA\0\0\0\x01"), 502, PAST_THE_END, (0, 0)),
        ("a key past its table", cut((50, 10), b"\0\0\x01q\0\0\0\0\x02\xffa"), 502, PAST_THE_END, (0, 0)),
        (
            "a type that isn't one",
            cut((50, 10), b"\0\0\x01q\0\0\0\0\x03\x01a?"),
            502,
            "SYNTAX_ERROR - cannot decode: a field table holds a value of unknown type",
            (0, 0),
        ),
        (
            "a name that isn't UTF-8",
            cut((50, 10), b"\0\0\x02\xc3\x28\0\0\0\0\0"),
            502,
            "SYNTAX_ERROR - cannot decode: a short string is not UTF-8",
            (0, 0),
        ),
        ("arguments missing", cut((60, 80), b"\0\0\0"), 502, PAST_THE_END, (0, 0)),
        (
            "octets behind the arguments",
            cut((60, 80), b"\0\0\0\0\0\0\0\x01\0\0"),
            502,
            "SYNTAX_ERROR - cannot decode: octets follow the last argument",
            (0, 0),
        ),
        (
            "basic.publish without a key",
            cut(publish, b"\0\0\0"),
            502,
            "SYNTAX_ERROR - basic.publish is cut short",
            publish,
        ),
        (
            "basic.publish with a key past the end",
            cut(publish, b"\0\0\0\xffabc\0"),
            502,
            "SYNTAX_ERROR - basic.publish is cut short",
            publish,
        ),
        (
            "basic.publish with octets behind",
            cut(publish, b"\0\0\0\0\0\0"),
            502,
            "SYNTAX_ERROR - basic.publish is too long",
            publish,
        ),
        (
            "half a method id",
            raw_frame(frame::METHOD, 1, &[0, 60, 0]),
            501,
            "FRAME_ERROR - type 1: unknown_frame, a payload of 3 octets is not possible",
            (0, 0),
        ),
        (
            "half a content header",
            content(&[0, 60, 0, 0, 0]),
            501,
            "FRAME_ERROR - type 2: unknown_frame, a payload of 5 octets is not possible",
            (0, 0),
        ),
        ("a property past the end", properties([0x80, 0], b"\xffabc"), 502, PAST_THE_END, (0, 0)),
        ("a property that is flagged and missing", properties([0x08, 0], b""), 502, PAST_THE_END, (0, 0)),
        ("no end octet", bad_end, 501, "FRAME_ERROR - type 1: {invalid_frame_end_marker,0}", (0, 0)),
    ];
    for (what, bytes, code, text, id) in cases {
        println!("{what}");
        let mut client = Client::open(&server);
        client.channel(1);
        client.send(&bytes);
        client.expect_close(code, text, id);
    }
    // The same before authentication.
    let mut client = Client::started(server.address);
    client.send(&raw_frame(frame::METHOD, 0, b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\xff\xff\xff\xff\0"));
    client.expect_close(502, PAST_THE_END, (0, 0));
    canary.sing();
}

#[test]
fn item_06_a_content_header_over_the_limit_is_refused_and_nothing_is_allocated() {
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = server.resident();
    let mut client = Client::open(&server);
    for size in [1 << 63, u64::MAX, 16 * 1024 * 1024 + 1] {
        client.channel(1);
        client.send(&[publish_method(1, "", "k"), header(1, size, Table::EMPTY)].concat());
        let text = format!("PRECONDITION_FAILED - message size {size} is larger than configured max size 16777216");
        // The body may be on its way already: it is dropped until the client answers.
        client.send(&raw_frame(frame::BODY, 1, &[0; 1000]));
        client.expect_channel_close(1, 406, &text, basic::Publish::ID);
    }
    // A thousand messages of the allowed size are announced, and nothing of them is sent.
    for number in 1..=1000 {
        client.send(&method(number, channel::Open));
        client.send(&[publish_method(number, "", "k"), header(number, 16 * 1024 * 1024, Table::EMPTY)].concat());
        client.expect(number, channel::OpenOk::ID);
    }
    assert!(server.resident() < before + NOISE, "memory grows with what has come, not with what is announced");
    // A body octet by octet is a body.
    client.channel(2000);
    let queue = client.declare(2000, "");
    client.consume(2000, &queue, "c", true);
    let body: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    let mut bytes = [publish_method(2000, "", &queue), header(2000, body.len() as u64, Table::EMPTY)].concat();
    for octet in &body {
        bytes.extend(raw_frame(frame::BODY, 2000, &[*octet]));
    }
    client.send(&bytes);
    assert_eq!(client.delivery(2000), body);
    canary.sing();
    client.close();
}

#[test]
fn item_07_bodies_channels_and_types_that_do_not_fit() {
    let server = shared();
    let mut canary = Canary::new(&server);
    let overrun = "FRAME_ERROR - content body is larger than the 3 bytes that its header announced";
    let announced = [publish_method(1, "", "k"), header(1, 3, Table::EMPTY)].concat();
    let cases: [Case<'_>; 9] = [
        ("a body in one frame", [&announced[..], &raw_frame(frame::BODY, 1, b"four")].concat(), 501, overrun, (60, 40)),
        (
            "a body in two frames",
            [&announced[..], &raw_frame(frame::BODY, 1, b"fo"), &raw_frame(frame::BODY, 1, b"ur")].concat(),
            501,
            overrun,
            (60, 40),
        ),
        ("an unknown channel", method(7, tx::Select), 504, "CHANNEL_ERROR - expected 'channel.open'", (90, 10)),
        ("content on it", raw_frame(frame::BODY, 7, b"x"), 504, "CHANNEL_ERROR - expected 'channel.open'", (0, 0)),
        ("an unknown frame type", raw_frame(9, 1, b"x"), 501, "FRAME_ERROR - type 9: unknown_frame", (0, 0)),
        ("another one", raw_frame(0, 0, b""), 501, "FRAME_ERROR - type 0: unknown_frame", (0, 0)),
        (
            "a channel above channel_max",
            method(2048, channel::Open),
            530,
            "NOT_ALLOWED - channel number 2048 is higher than the negotiated channel_max (2047)",
            (20, 10),
        ),
        (
            "a heartbeat on a channel",
            raw_frame(frame::HEARTBEAT, 1, b""),
            505,
            "UNEXPECTED_FRAME - unexpected heartbeat frame on channel 1, expected it on channel 0",
            (0, 0),
        ),
        (
            "a heartbeat with a payload",
            raw_frame(frame::HEARTBEAT, 0, b"beat"),
            501,
            "FRAME_ERROR - type 8: unknown_frame, a payload of 4 octets is not possible",
            (0, 0),
        ),
    ];
    for (what, bytes, code, text, id) in cases {
        println!("{what}");
        let mut client = Client::open(&server);
        client.channel(1);
        client.send(&bytes);
        client.expect_close(code, text, id);
    }
    canary.sing();
}

#[test]
fn item_08_tuning_outside_of_what_was_offered_ends_the_connection() {
    let server = shared();
    let mut canary = Canary::new(&server);
    let refused = |channel_max, frame_max, text: &str| {
        let mut client = Client::tuning(server.address);
        client.say(0, connection::TuneOk { channel_max, frame_max, heartbeat: 0 });
        client.expect_close(530, &format!("NOT_ALLOWED - negotiated {text}"), connection::TuneOk::ID);
    };
    refused(2047, 4095, "frame_max = 4095 bytes is lower than the minimum allowed value (4096 bytes)");
    refused(2047, 131_073, "frame_max = 131073 bytes is higher than the maximum allowed value (131072 bytes)");
    refused(2047, 0, "frame_max = 0 (no limit) bytes is higher than the maximum allowed value (131072 bytes)");
    refused(2048, 131_072, "channel_max = 2048 is higher than the maximum allowed value (2047)");
    refused(0, 131_072, "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)");
    // The smallest frames that the specification allows are kept to by the server.
    let mut login = Login::default();
    login.tune.frame_max = 4096;
    let mut client = Client::open_as(&server, &login);
    client.channel(1);
    let queue = client.declare(1, "");
    client.consume(1, &queue, "c", true);
    client.send(&[publish_method(1, "", &queue), header(1, 10_000, Table::EMPTY)].concat());
    for size in [4088, 4088, 1824] {
        client.send(&raw_frame(frame::BODY, 1, &vec![1; size]));
    }
    client.expect(1, basic::Deliver::ID);
    client.frame();
    assert_eq!([(); 3].map(|()| client.frame().payload.len()), [4088, 4088, 1824]);
    // Eight octets more are tolerated from the client, as in RabbitMQ, and no more.
    client.send(&[publish_method(1, "", &queue), header(1, 4096, Table::EMPTY)].concat());
    client.send(&raw_frame(frame::BODY, 1, &[1; 4096]));
    assert_eq!(client.delivery(1).len(), 4096);
    client.send(&raw_frame(frame::BODY, 1, &[1; 4097]));
    client.expect_close(501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}", (0, 0));
    canary.sing();
}
