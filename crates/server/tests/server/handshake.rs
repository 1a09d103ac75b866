//! From the protocol header to connection.open-ok.

use crate::client::{Case, Client, Frame, Login, PATIENCE, method, raw_frame};
use crate::server::shared;
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection};
use leveret_wire::table::{FieldTable, Table, Value};
use std::io::Read;

#[test]
fn a_header_that_is_not_amqp_is_answered_with_ours() {
    let server = shared();
    let headers: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
        b"AMQP\x00\x00\x09\x02",
        b"AMQP\x01\x01\x08\x00",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        &[0; 8],
    ];
    for header in headers {
        let mut client = Client::connect(server.address);
        client.send(header);
        let mut answer = Vec::new();
        // A reset behind the answer is as good as an end.
        let _ = client.stream.read_to_end(&mut answer);
        assert_eq!(answer, b"AMQP\0\0\x09\x01", "{}", header.escape_ascii());
    }
}

#[test]
fn the_header_of_an_older_revision_is_accepted() {
    let server = shared();
    let mut client = Client::connect(server.address);
    client.send(b"AMQP\x01\x01\x00\x09");
    client.expect(0, connection::Start::ID);
}

#[test]
fn what_the_server_says_about_itself() {
    let server = shared();
    let mut client = Client::connect(server.address);
    client.send(&frame::PROTOCOL_HEADER);
    let start = client.expect(0, connection::Start::ID);
    let Method::ConnectionStart(start) = start.method() else { unreachable!("expected above") };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!((start.mechanisms, start.locales), (&b"PLAIN AMQPLAIN"[..], &b"en_US"[..]));
    let properties = start.server_properties;
    assert_eq!(properties.get("product").as_ref().and_then(Value::as_str), Some("Leveret"));
    let Some(Value::Table(capabilities)) = properties.get("capabilities") else { panic!("{properties:?}") };
    let mut names: Vec<_> = capabilities.iter().map(|(name, value)| (name, value == Value::Bool(true))).collect();
    names.sort_unstable();
    let expected = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "consumer_priorities",
        "direct_reply_to",
        "exchange_exchange_bindings",
        "per_consumer_qos",
        "publisher_confirms",
    ];
    assert_eq!(names, expected.map(|name| (name, true)));
    client.send(&Login::default().start_ok());
    let tune = client.expect(0, connection::Tune::ID);
    let offer = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    assert_eq!(tune.method(), offer.into());
}

#[test]
fn a_refused_login_is_explained_to_those_who_understand_it() {
    let server = shared();
    let login = |user, password| Login { user, password, ..Login::default() };
    for refused in [login("guest", "wrong"), login("nobody", "guest"), login("", "")] {
        let mut client = Client::started(server.address);
        client.send(&refused.start_ok());
        client.expect_end();
        let mut client = Client::started(server.address);
        client.send(&refused.capable("authentication_failure_close").start_ok());
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                    For details see the broker logfile.";
        client.expect_close(403, text, (0, 0));
    }
    assert!(server.log().contains("login refused"));
}

#[test]
fn amqplain_and_mechanisms_that_are_not_there() {
    let server = shared();
    let table = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "guest");
    let start_ok = |mechanism, response| {
        let client_properties = Table::EMPTY;
        method(0, connection::StartOk { client_properties, mechanism, response, locale: "en_US" })
    };
    let table = table.as_table();
    let mut client = Client::started(server.address);
    client.send(&start_ok("AMQPLAIN", table.as_bytes()));
    client.expect(0, connection::Tune::ID);
    let unknown = "CHANNEL_ERROR - unsupported authentication mechanism 'EXTERNAL'";
    let mut client = Client::started(server.address);
    client.send(&start_ok("EXTERNAL", b""));
    client.expect_close(504, unknown, connection::StartOk::ID);
    // A response that is none of the mechanism's is a wrong login.
    for (mechanism, response) in
        [("PLAIN", &b"guest"[..]), ("PLAIN", b""), ("AMQPLAIN", b"\x05LOGIN"), ("AMQPLAIN", b"")]
    {
        let mut client = Client::started(server.address);
        client.send(&start_ok(mechanism, response));
        client.expect_end();
    }
}

#[test]
fn steps_in_the_wrong_order_end_the_handshake() {
    let server = shared();
    let publish = basic::Publish::default();
    let cases: [Case<'_>; 5] = [
        (
            "tune-ok",
            method(0, connection::TuneOk::default()),
            503,
            "COMMAND_INVALID - expected 'connection.start-ok', got 'connection.tune-ok'",
            (10, 31),
        ),
        (
            "a method with content",
            method(0, publish),
            503,
            "COMMAND_INVALID - expected 'connection.start-ok', got 'basic.publish'",
            (60, 40),
        ),
        (
            "a channel",
            method(1, channel::Open),
            505,
            "UNEXPECTED_FRAME - unexpected frame of type 1 on channel 1",
            (0, 0),
        ),
        (
            "a body",
            raw_frame(frame::BODY, 0, b"x"),
            505,
            "UNEXPECTED_FRAME - unexpected frame of type 3 on channel 0",
            (0, 0),
        ),
        ("no frame", raw_frame(7, 0, b"x"), 501, "FRAME_ERROR - type 7: unknown_frame", (0, 0)),
    ];
    for (what, bytes, code, text, id) in cases {
        println!("{what}");
        let mut client = Client::started(server.address);
        client.send(&bytes);
        client.expect_close(code, text, id);
    }
    // A client may give up properly in the middle.
    let mut client = Client::tuning(server.address);
    client.call(0, connection::Close { reply_code: 200, ..Default::default() }, connection::CloseOk::ID);
    client.expect_end();
}

#[test]
fn a_virtual_host_that_is_not_there() {
    let server = shared();
    let mut client = Client::tuning(server.address);
    client.say(0, Login::default().tune);
    client.say(0, connection::Open { virtual_host: "nowhere" });
    client.expect_close(530, "NOT_ALLOWED - vhost nowhere not found", connection::Open::ID);
}

#[test]
fn a_whole_session_in_one_packet() {
    let server = shared();
    let mut client = Client::connect(server.address);
    let close = connection::Close { reply_code: 200, ..Default::default() };
    client.send(
        &[
            &frame::PROTOCOL_HEADER[..],
            &Login::default().start_ok(),
            &raw_frame(frame::HEARTBEAT, 0, b""),
            &method(0, Login::default().tune),
            &method(0, connection::Open { virtual_host: "/" }),
            &method(1, channel::Open),
            &method(0, close),
        ]
        .concat(),
    );
    let answers: Vec<Frame> = std::iter::from_fn(|| client.next()).collect();
    let names: Vec<_> = answers.iter().map(|answer| answer.method().name()).collect();
    let expected =
        ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok", "connection.close-ok"];
    assert_eq!(names, expected);
}

#[test]
fn what_a_client_calls_itself_cannot_forge_lines_of_the_log() {
    let server = shared();
    let forged = "x\n2026-01-01T00:00:00Z  INFO listening for lies \u{1b}[31m";
    let mut client = Client::started(server.address);
    client.send(&Login { user: forged, ..Login::default() }.start_ok());
    client.expect_end();
    let mut client = Client::tuning(server.address);
    client.say(0, Login::default().tune);
    client.say(0, connection::Open { virtual_host: forged });
    client.expect(0, connection::Close::ID);
    drop(client);
    crate::server::eventually("both are logged", PATIENCE, || server.log().matches("listening for lies").count() >= 3);
    let log = server.log();
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")) && !log.contains('\u{1b}'), "{log}");
}
