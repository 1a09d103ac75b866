//! Items 9 and 10: everything that a client can pile up has a limit, which costs the one who reaches it and nobody else.

use crate::client::{Client, method, publish};
use crate::server::{Canary, Server, eventually};
use leveret_wire::method::{basic, channel, connection, exchange, queue, tx};
use std::time::Duration;

#[test]
fn item_09_a_transaction_is_bounded_in_messages_and_bytes() {
    let server = Server::start(&["--max-transaction-messages", "100", "--max-transaction-bytes", "100000"]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(2);
    let queue = client.declare(2, "");
    let text = "PRECONDITION_FAILED - transaction is larger than configured max size: 100 messages, 100000 bytes";
    for (count, body, routing_key) in [(101, 0, &*queue), (11, 10_000, &*queue), (101, 0, "nowhere")] {
        client.channel(1);
        client.call(1, tx::Select, tx::SelectOk::ID);
        client.send(&publish(1, "", routing_key, &vec![1; body]).repeat(count));
        client.expect_channel_close(1, 406, text, basic::Publish::ID);
        assert_eq!(client.ready(2, &queue), 0, "nothing of it has happened");
    }
    // Up to the limits it is a transaction, and a commit makes room for the next.
    client.channel(1);
    client.call(1, tx::Select, tx::SelectOk::ID);
    for committed in 1..=3 {
        client.send(&publish(1, "", &queue, b"").repeat(100));
        client.call(1, tx::Commit, tx::CommitOk::ID);
        assert_eq!(client.ready(2, &queue), committed * 100);
    }
    canary.sing();
}

#[test]
fn item_10_connections() {
    let server = Server::start(&["--max-connections", "5"]);
    let mut canary = Canary::new(&server);
    let mut held: Vec<Client> = (0..3).map(|_| Client::open(&server)).collect();
    // One that has only connected counts too: it is what it costs that is limited.
    let silent = Client::connect(server.address);
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..20 {
        let refused = Client::connect(server.address).time_to_end(Duration::from_secs(2));
        assert!(refused < Duration::from_secs(1), "the sixth is closed at once, not after {refused:?}");
    }
    canary.sing();
    drop((silent, held.pop()));
    eventually("two have ended", Duration::from_secs(2), || {
        let mut client = Client::connect(server.address);
        client.send(&leveret_wire::frame::PROTOCOL_HEADER);
        client.next().is_some_and(|frame| frame.is(connection::Start::ID))
    });
    eventually("there is room again", Duration::from_secs(2), || server.sockets() < 12);
    held.push(Client::open(&server));
    assert!(server.log().contains("max_connections is reached"), "{}", server.log());
    canary.sing();
}

#[test]
fn item_10_channels() {
    let server = Server::start(&["--channel-max", "3"]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    for _ in 0..3 {
        (1..=3).for_each(|number| client.channel(number));
        for number in 1..=3 {
            let close = channel::Close { reply_code: 200, ..Default::default() };
            client.call(number, close, channel::CloseOk::ID);
        }
    }
    (1..=3).for_each(|number| client.channel(number));
    client.say(4, channel::Open);
    let text = "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)";
    client.expect_close(530, text, channel::Open::ID);
    // Fewer channels with higher numbers than agreed are no way around.
    let mut client = Client::open(&server);
    client.say(4, channel::Open);
    let text = "NOT_ALLOWED - channel number 4 is higher than the negotiated channel_max (3)";
    client.expect_close(530, text, channel::Open::ID);
    canary.sing();
}

#[test]
fn item_10_consumers() {
    let server = Server::start(&["--max-consumers", "2"]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    let text =
        "PRECONDITION_FAILED - cannot have more than 2 consumers on a channel; the broker's limit is max_consumers";
    client.consume(1, &queue, "one", true);
    for round in 0..3 {
        client.consume(1, &queue, &format!("two-{round}"), true);
        let tag = format!("two-{round}");
        client.call(1, basic::Cancel { consumer_tag: &tag, no_wait: false }, basic::CancelOk::ID);
    }
    client.consume(1, &queue, "two", true);
    client.say(1, basic::Consume { queue: &queue, consumer_tag: "three", ..Default::default() });
    client.expect_channel_close(1, 406, text, basic::Consume::ID);
    // The channel's consumers have ended with it.
    client.channel(1);
    client.consume(1, &queue, "one", true);
    client.consume(1, &queue, "two", true);
    canary.sing();
}

#[test]
fn item_10_queues() {
    let server = Server::start(&["--max-queues", "5"]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    let text = "PRECONDITION_FAILED - cannot have more than 5 queues; the broker's limit is max_queues";
    client.channel(2);
    let names: Vec<String> = (0..4).map(|_| client.declare(2, "")).collect();
    for name in ["", "named", "amq.rabbitmq.reply-to"] {
        client.channel(1);
        let id = if name.starts_with("amq") {
            client.say(1, basic::Consume { queue: name, no_ack: true, ..Default::default() });
            basic::Consume::ID
        } else {
            client.say(1, queue::Declare { queue: name, ..Default::default() });
            queue::Declare::ID
        };
        client.expect_channel_close(1, 406, text, id);
    }
    // Those that are there can be declared again, and each that goes makes room.
    assert_eq!(client.declare(2, &names[0]), names[0]);
    client.call(2, queue::Delete { queue: &names[0], ..Default::default() }, queue::DeleteOk::ID);
    client.declare(2, "");
    client.close();
    let mut client = Client::open(&server);
    client.channel(1);
    (0..4).for_each(|_| drop(client.declare(1, "")));
    canary.sing();
}

#[test]
fn item_10_exchanges_and_bindings() {
    // The predeclared exchanges are six.
    let server = Server::start(&["--max-bindings", "4", "--max-exchanges", "8"]);
    let mut canary = Canary::new(&server);
    let mut client = Client::open(&server);
    client.channel(2);
    let queue = client.declare(2, "");
    let key = |i: usize| ["a", "b", "c", "d", "e"][i];
    let bind = |i| queue::Bind { queue: &queue, exchange: "amq.direct", routing_key: key(i), ..Default::default() };
    (0..4).for_each(|i| drop(client.call(2, bind(i), queue::BindOk::ID)));
    client.channel(1);
    client.say(1, bind(4));
    let text = "PRECONDITION_FAILED - cannot have more than 4 bindings; the broker's limit is max_bindings";
    client.expect_channel_close(1, 406, text, queue::Bind::ID);
    client.channel(1);
    client.say(1, exchange::Bind { source: "amq.topic", destination: "amq.fanout", ..Default::default() });
    client.expect_channel_close(1, 406, text, exchange::Bind::ID);
    // One that is there is no new one; one that goes makes room, and a queue takes all of its with it.
    client.call(2, bind(0), queue::BindOk::ID);
    let unbind = queue::Unbind { queue: &queue, exchange: "amq.direct", routing_key: "a", ..Default::default() };
    client.call(2, unbind, queue::UnbindOk::ID);
    client.call(2, bind(4), queue::BindOk::ID);
    client.call(2, queue::Delete { queue: &queue, ..Default::default() }, queue::DeleteOk::ID);
    let again = client.declare(2, "");
    for i in 0..4 {
        client.call(2, queue::Bind { queue: &again, ..bind(i) }, queue::BindOk::ID);
    }
    let declare = |exchange| exchange::Declare { exchange, r#type: "fanout", ..Default::default() };
    client.call(2, declare("one"), exchange::DeclareOk::ID);
    client.call(2, declare("two"), exchange::DeclareOk::ID);
    client.channel(1);
    client.send(&method(1, declare("three")));
    let text = "PRECONDITION_FAILED - cannot have more than 8 exchanges; the broker's limit is max_exchanges";
    client.expect_channel_close(1, 406, text, exchange::Declare::ID);
    client.call(2, exchange::Delete { exchange: "one", ..Default::default() }, exchange::DeleteOk::ID);
    client.call(2, declare("three"), exchange::DeclareOk::ID);
    canary.sing();
}
