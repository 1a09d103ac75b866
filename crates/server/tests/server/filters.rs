//! Bindings with a filter, over the wire.

use crate::client::{Client, header, publish_method};
use crate::server::shared;
use leveret_wire::frame;
use leveret_wire::method::{exchange, queue};
use leveret_wire::table::{FieldTable, Table};

fn publish(client: &mut Client, key: &str, headers: Table<'_>, body: &[u8]) {
    let mut out = publish_method(1, "amq.topic", key);
    out.extend(header(1, body.len() as u64, headers));
    frame::write_body(&mut out, 1, body, 4096);
    client.send(&out);
}

#[test]
fn a_filter_on_a_binding_is_in_effect_and_a_bad_one_is_refused() {
    let server = shared();
    let mut client = Client::open(&server);
    client.channel(1);
    let queue = client.declare(1, "");
    let arguments = FieldTable::new().with("x-filter", r#"attributes.region = "eu" AND NOT attributes:test"#);
    let (exchange, routing_key) = ("amq.topic", "orders.#");
    let bind =
        queue::Bind { queue: &queue, exchange, routing_key, arguments: arguments.as_table(), ..Default::default() };
    client.call(1, bind, queue::BindOk::ID);
    let headers = FieldTable::new().with("region", "eu");
    publish(&mut client, "orders.1", headers.as_table(), b"passes");
    publish(&mut client, "orders.1", headers.clone().with("test", true).as_table(), b"a test");
    publish(&mut client, "orders.1", Table::EMPTY, b"from nowhere");
    publish(&mut client, "invoices.1", headers.as_table(), b"another key");
    publish(&mut client, "orders.1", headers.as_table(), b"passes as well");
    client.consume(1, &queue, "c", true);
    assert_eq!(client.delivery(1), b"passes");
    assert_eq!(client.delivery(1), b"passes as well");
    assert_eq!(client.ready(1, &queue), 0);
    let arguments = arguments.as_table();
    let unbind = queue::Unbind { queue: &queue, exchange, routing_key, arguments };
    client.call(1, unbind, queue::UnbindOk::ID);
    publish(&mut client, "orders.1", headers.as_table(), b"too late");
    assert_eq!(client.ready(1, &queue), 0);

    let arguments = FieldTable::new().with("x-filter", "attributes.region eu");
    let bad = exchange::Bind {
        destination: "amq.fanout",
        source: "amq.topic",
        arguments: arguments.as_table(),
        ..Default::default()
    };
    client.say(1, bad);
    let text = "PRECONDITION_FAILED - invalid arg 'x-filter': expected '=', '!=', '<', '<=', '>' or '>=' at byte 18, found \
                'eu' (binding from exchange 'amq.topic' to exchange 'amq.fanout' in vhost '/')";
    client.expect_channel_close(1, 406, text, exchange::Bind::ID);
}
