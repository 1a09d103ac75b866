//! The end of channels and connections, from either side and from both at once.

use crate::client::{Client, PATIENCE, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, shared};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, confirm, connection, queue};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldArray, FieldTable, Table};
use std::time::Duration;

const QUIET: Duration = Duration::from_millis(200);

/// Something that closes the channel.
fn misdeed(channel: u16) -> Vec<u8> {
    method(channel, queue::Purge { queue: "no such queue", no_wait: false })
}

const MISSING: &str = "NOT_FOUND - no queue 'no such queue' in vhost '/'";

#[test]
fn after_channel_close_nothing_else_is_sent_on_the_channel() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    client.consume(1, &queue, "c", false);
    client.call(1, confirm::Select { nowait: false }, confirm::SelectOk::ID);
    // What was published before is confirmed before; what comes behind the misdeed is not heard of again.
    client.send(&[publish(1, "", "nowhere", b"x"), misdeed(1), publish(1, "", &queue, b"late")].concat());
    assert_eq!(client.expect(1, basic::Ack::ID).method(), basic::Ack { delivery_tag: 1, multiple: false }.into());
    let close = client.expect(1, channel::Close::ID);
    let Method::ChannelClose(close) = close.method() else { unreachable!("expected above") };
    assert_eq!((close.reply_code, close.reply_text, close.class_id, close.method_id), (404, MISSING, 50, 30));
    // Late requests, acks, content in every state: discarded, without an answer.
    client.send(
        &[
            method(1, basic::Ack { delivery_tag: 99, multiple: false }),
            method(1, queue::Declare::default()),
            method(1, channel::Open),
            publish_method(1, "", &queue),
            header(1, 3, Table::EMPTY),
            raw_frame(frame::BODY, 1, b"abc"),
            raw_frame(frame::BODY, 1, b"abc"),
        ]
        .concat(),
    );
    // A message for the consumer that was there.
    client.channel(2);
    client.publish_bytes(2, "", &queue, b"for nobody");
    client.expect_silence(QUIET);
    client.say(1, channel::CloseOk);
    client.channel(1);
    assert_eq!(client.ready(1, &queue), 1, "the late message was dropped, the other one waits");
}

#[test]
fn closes_of_both_sides_cross() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    // Of the channel: each answers the other.
    client.send(&[misdeed(1), method(1, channel::Close { reply_code: 200, ..Default::default() })].concat());
    client.expect(1, channel::Close::ID);
    client.expect(1, channel::CloseOk::ID);
    // Its answer to ours may come now, or after it has opened the channel again.
    client.say(1, channel::CloseOk);
    client.channel(1);
    client.say(1, channel::CloseOk);
    client.say(7, channel::CloseOk);
    client.call(1, basic::Qos::default(), basic::QosOk::ID);
    // Of the connection.
    let unknown = method(9, channel::Close::default());
    client.send(&[unknown, method(0, connection::Close { reply_code: 200, ..Default::default() })].concat());
    client.expect(0, connection::Close::ID);
    client.expect(0, connection::CloseOk::ID);
    client.expect_end();
}

#[test]
fn what_a_client_sends_behind_its_close_does_not_take_the_answer_from_it() {
    let server = shared();
    let mut client = Client::open(&server);
    client.say(0, connection::Close { reply_code: 200, ..Default::default() });
    // Threads of a client that have not heard of the close yet. A socket that is closed with unread input resets the
    // connection, and the reset may overtake close-ok.
    for _ in 0..40 {
        client.send(&raw_frame(frame::HEARTBEAT, 0, b""));
        std::thread::sleep(QUIET / 40);
    }
    client.expect(0, connection::CloseOk::ID);
    client.expect_end();
}

#[test]
fn a_client_that_closes_may_close_its_socket_first() {
    let server = shared();
    let mut client = Client::open(&server);
    client.say(0, connection::Close { reply_code: 200, ..Default::default() });
    client.expect(0, connection::CloseOk::ID);
    client.expect_silence(QUIET / 4);
    client.expect_end();
}

#[test]
fn while_the_connection_closes_everything_but_the_answer_is_ignored() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    client.send(&method(1, channel::Open));
    client.expect(0, connection::Close::ID);
    let late =
        [publish(1, "", &queue, b"x"), method(1, queue::Declare::default()), raw_frame(frame::HEARTBEAT, 0, b"")];
    client.send(&late.concat());
    client.expect_silence(QUIET);
    client.say(0, connection::CloseOk);
    client.expect_end();
}

#[test]
fn a_client_that_does_not_answer_a_close_is_let_go_after_three_seconds() {
    let server = shared();
    let mut client = Client::open(&server);
    client.say(3, queue::Declare::default());
    client.expect(0, connection::Close::ID);
    let took = client.time_to_end(PATIENCE).as_secs_f64();
    assert!((2.5..4.5).contains(&took), "it took {took} s");
}

#[test]
fn unacknowledged_messages_return_when_their_channel_is_closed() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    client.channel(2);
    let queue = client.declare(2, "");
    client.send(&[publish(2, "", &queue, b"1"), publish(2, "", &queue, b"2")].concat());
    client.consume(1, &queue, "c", false);
    assert_eq!((client.delivery(1), client.delivery(1)), (b"1".to_vec(), b"2".to_vec()));
    client.send(&[misdeed(1), method(1, basic::Ack { delivery_tag: 1, multiple: false })].concat());
    client.expect_channel_close(1, 404, MISSING, queue::Purge::ID);
    assert_eq!(client.ready(2, &queue), 2, "an ack behind the close is too late");
    // An ack on the channel that was opened after is of another time.
    client.channel(1);
    client.say(1, basic::Ack { delivery_tag: 2, multiple: false });
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 2", basic::Ack::ID);
}

#[test]
fn exclusive_queues_are_gone_before_close_ok() {
    let server = shared();
    let mut other = Client::open(&server);
    for round in 0..50 {
        let name = format!("exclusive-{round}");
        let mut client = Client::open(&server);
        client.channel(1);
        client.declare(1, &name);
        client.say(0, connection::Close { reply_code: 200, ..Default::default() });
        client.expect(0, connection::CloseOk::ID);
        other.channel(1);
        other.say(1, queue::Declare { queue: &name, passive: true, ..Default::default() });
        other.expect_channel_close(1, 404, &format!("NOT_FOUND - no queue '{name}' in vhost '/'"), queue::Declare::ID);
    }
}

#[test]
fn bcc_routes_and_is_not_delivered() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    let (to, copy, blind) = (client.declare(1, ""), client.declare(1, ""), client.declare(1, ""));
    let array = |name: &str| FieldArray::new().with(name);
    let (cc, bcc) = (array(&copy), array(&blind));
    let headers = FieldTable::new().with("CC", &cc).with("BCC", &bcc).with("kept", 7i32);
    client.send(&[publish_method(1, "", &to), header(1, 0, headers.as_table())].concat());
    let left = FieldTable::new().with("CC", &cc).with("kept", 7i32);
    for queue in [&to, &copy, &blind] {
        client.call(1, basic::Get { queue, no_ack: true }, basic::GetOk::ID);
        let header = client.frame();
        let properties = Properties::decode(&header.payload[12..]).expect("valid properties");
        assert_eq!(properties.headers, Some(left.as_table()), "{queue}");
    }
    // Not an array of strings: refused, nothing routed.
    let headers = FieldTable::new().with("BCC", "a string");
    client.send(&[publish_method(1, "", &to), header(1, 0, headers.as_table())].concat());
    let text = "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"BCC\",longstr}";
    client.expect_channel_close(1, 406, text, basic::Publish::ID);
}

#[test]
fn a_lost_connection_takes_its_half_of_everything_with_it() {
    let server = shared();
    let mut canary = Canary::new(&server);
    let mut other = Client::open(&server);
    other.channel(1);
    let queue = other.declare_with(1, queue::Declare { queue: "survivor", auto_delete: false, ..Default::default() });
    other.publish_bytes(1, "", &queue, b"1");
    let mut client = Client::open(&server);
    client.channel(1);
    client.consume(1, &queue, "c", false);
    client.delivery(1);
    // In the middle of a message, and of a frame.
    client.send(&[publish_method(1, "", &queue), header(1, 10, Table::EMPTY)].concat());
    client.send(&raw_frame(frame::BODY, 1, b"12345")[..9]);
    drop(client);
    crate::server::eventually("the message is back", PATIENCE, || other.ready(1, &queue) == 1);
    let answer = other.call(1, basic::Get { queue: &queue, no_ack: true }, basic::GetOk::ID);
    let Method::BasicGetOk(got) = answer.method() else { unreachable!("expected above") };
    assert!(got.redelivered && got.message_count == 0);
    other.content(1);
    other.call(1, queue::Delete { queue: &queue, ..Default::default() }, queue::DeleteOk::ID);
    canary.sing();
}
