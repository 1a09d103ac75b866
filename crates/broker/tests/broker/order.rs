//! Messages of one connection are in each queue in the order in which they were published, whatever is published to
//! other queues in between and however the publisher packs them on their way.

use crate::client::Client;
use crate::script::broker;
use leveret_broker::message::encode_route;
use leveret_broker::{Limits, Publish};
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;
use proptest::prelude::*;

/// Exchange, key, and the queues that they lead to.
const ROUTES: [(&str, &str, &[usize]); 7] = [
    ("", "q0", &[0]),
    ("", "q1", &[1]),
    ("", "q2", &[2]),
    ("amq.direct", "low", &[0, 1]),
    ("amq.direct", "high", &[1, 2]),
    ("amq.fanout", "any", &[0, 1, 2]),
    ("", "nowhere", &[]),
];

/// A client with the queues and bindings of [`ROUTES`].
fn client() -> Client {
    let mut client = Client::new(&broker(Limits::default()));
    (0..3).for_each(|queue| client.declare(&format!("q{queue}")));
    for (exchange, key, queues) in ROUTES.iter().filter(|(exchange, ..)| !exchange.is_empty()) {
        for queue in *queues {
            let (session, name) = (&client.session, format!("q{queue}"));
            session.vhost().bind_queue(&name, exchange, key, Table::EMPTY, session.id()).expect("both ends are there");
        }
    }
    client
}

/// Publishes a number, padded to a size.
fn publish(client: &mut Client, (exchange, key): (&str, &str), number: u64, size: usize) {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(size.max(8), 0);
    let route = encode_route(exchange, key);
    let properties = Properties::default();
    let publish = Publish { route: &route, mandatory: false, properties, encoded: &[0, 0], body: &body };
    client.channel.publish(&mut client.session, &publish).expect("the exchange is there");
}

/// All numbers in a queue.
fn drain(client: &mut Client, queue: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((delivery, ..)) = client.channel.get(&mut client.session, queue, true).expect("the queue is there") {
        let body = delivery.block.at(delivery.offset).0.body;
        numbers.push(u64::from_be_bytes(body[..8].try_into().expect("at least 8 bytes")));
    }
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_queue_has_its_messages_in_order(
        messages in proptest::collection::vec(
            (0..ROUTES.len(), prop_oneof![8 => Just(8usize), 1 => Just(5000), 1 => Just(70_000)], prop::bool::weighted(0.1)),
            1..200,
        )
    ) {
        let mut client = client();
        let mut expected = [const { Vec::new() }; 3];
        for (number, (route, size, flush)) in messages.into_iter().enumerate() {
            let (exchange, key, queues) = ROUTES[route];
            publish(&mut client, (exchange, key), number as u64, size);
            queues.iter().for_each(|queue| expected[*queue].push(number as u64));
            if flush {
                client.session.flush();
            }
        }
        client.session.flush();
        for (queue, expected) in expected.into_iter().enumerate() {
            prop_assert_eq!(drain(&mut client, &format!("q{queue}")), expected);
        }
    }
}

/// More queues in turn than a publisher fills side by side.
#[test]
fn many_queues_in_turn() {
    const QUEUES: u64 = 500;
    let mut client = Client::new(&broker(Limits::default()));
    let names: Vec<_> = (0..QUEUES).map(|queue| format!("q{queue}")).collect();
    names.iter().for_each(|name| client.declare(name));
    for number in 0..QUEUES * 10 {
        publish(&mut client, ("", &names[(number % QUEUES) as usize]), number, 8);
    }
    client.session.flush();
    for (queue, name) in names.iter().enumerate() {
        let expected: Vec<_> = (0..10).map(|round| round * QUEUES + queue as u64).collect();
        assert_eq!(drain(&mut client, name), expected);
    }
}
