//! What RabbitMQ 3.10 answered, and what is answered here: the same names, with the same types.

use crate::api::{Api, eventually};
use leveret_broker::Wait;
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection};
use leveret_wire::table::{FieldTable, Table};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

/// What RabbitMQ answered when it had about the same in it.
const OF_RABBITMQ: &str = include_str!("rabbitmq/answers.json");

/// Fields that are left out, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("socket_opts", "Erlang's names of a socket's options"),
    ("overview.sample_retention_policies.detailed", "rates_mode is basic"),
    ("vhost.cluster_state", "its fields are names of nodes"),
    ("vhost.message_stats.confirm", "counted for the broker and for channels"),
    ("vhost.message_stats.confirm_details", "counted for the broker and for channels"),
    ("vhost.message_stats.return_unroutable", "together with drop_unroutable"),
    ("vhost.message_stats.return_unroutable_details", "together with drop_unroutable"),
    ("connections[].client_properties", "what the client says"),
    ("global_parameters[].value", "what somebody has set"),
    ("garbage_collection", "Erlang's memory"),
    ("reductions", "Erlang's work"),
    ("reductions_details", "Erlang's work"),
    ("backing_queue_status", "the inside of RabbitMQ's queues"),
    ("pending_raft_commands", "the inside of RabbitMQ's quorum queues"),
    ("recoverable_slaves", "mirrors"),
    ("consumer_capacity", "not measured"),
    ("consumer_utilisation", "not measured"),
    ("idle_since", "not measured: last_arrival_at of `leveret` is near to it"),
    ("messages_ram", "messages are in blocks: `memory` says what they take"),
    ("messages_ready_ram", "messages are in blocks"),
    ("messages_unacknowledged_ram", "messages are in blocks"),
    ("messages_paged_out", "messages are in blocks: disk_bytes of `leveret` says what they take"),
    ("message_bytes_ram", "messages are in blocks"),
    ("message_bytes_paged_out", "messages are in blocks"),
    ("message_bytes_persistent", "not measured"),
    ("disk_reads", "counted in bytes, not in messages"),
    ("disk_reads_details", "counted in bytes, not in messages"),
    ("disk_writes", "counted in bytes, not in messages"),
    ("disk_writes_details", "counted in bytes, not in messages"),
    ("release_series_support_status", "RabbitMQ's releases"),
    ("channel_closed", "not counted"),
    ("channel_created", "not counted"),
    ("queue_created", "not counted"),
    ("queue_declared", "not counted"),
    ("queue_deleted", "not counted"),
    ("channel_closed_details", "not counted"),
    ("channel_created_details", "not counted"),
    ("queue_created_details", "not counted"),
    ("queue_declared_details", "not counted"),
    ("queue_deleted_details", "not counted"),
    ("connection_closed_details", "without a rate"),
    ("connection_created_details", "without a rate"),
    ("proc_total", "Erlang's processes"),
    ("proc_used", "Erlang's processes"),
    ("db_dir", "RabbitMQ's files"),
    ("config_files", "there is no configuration file"),
    ("log_files", "the log is standard error"),
    ("metrics_gc_queue_length", "the inside of RabbitMQ's statistics"),
    ("ra_open_file_metrics", "the inside of RabbitMQ's quorum queues"),
];

/// Of a node: `context_switches`, `gc_num`, `io_*`, `mnesia_*`, `msg_store_*`, `queue_index_*`, and `*_details` of those.
const LEFT_OUT_OF_NODES: &[&str] = &["context_switches", "gc_", "io_", "mnesia_", "msg_store_", "queue_index_"];

/// In [`LEFT_OUT`] by its name or its path, or a detail of the node that is left out, or a rate of such.
fn is_left_out(path: &str, field: &str) -> bool {
    let full = format!("{path}.{field}");
    let of_node = LEFT_OUT_OF_NODES.iter().any(|prefix| field.starts_with(prefix));
    let rate = field.ends_with("_details")
        && ["fd_used", "sockets_used", "mem_used", "disk_free", "proc_used"].iter().any(|it| field.starts_with(it));
    of_node || rate || LEFT_OUT.iter().any(|(name, _)| *name == field || *name == full)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is missing in `ours`, or of another type.
fn compare(theirs: &Value, ours: &Value, path: &str, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (field, value) in theirs.iter().filter(|(field, _)| !is_left_out(path, field)) {
                match ours.get(field) {
                    None => found.push(format!("{path}.{field} is missing")),
                    Some(own) => compare(value, own, &format!("{path}.{field}"), found),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(theirs), Some(own)) = (theirs.first(), ours.first()) {
                compare(theirs, own, &format!("{path}[]"), found);
            }
        }
        // What may be null here may have a value there.
        (Value::Null, _) | (_, Value::Null) => {}
        _ if kind(theirs) == kind(ours) => {}
        _ => found.push(format!("{path} is {} and not {}", kind(ours), kind(theirs))),
    }
}

/// A connection with a channel that says as little as possible.
pub fn connect(api: &Api) -> TcpStream {
    let mut socket = TcpStream::connect(api.amqp).expect("it listens");
    socket.write_all(&frame::PROTOCOL_HEADER).expect("it reads");
    let say = |socket: &mut TcpStream, channel: u16, method: &Method<'_>| {
        let mut bytes = Vec::new();
        frame::write_method(&mut bytes, channel, method);
        socket.write_all(&bytes).expect("it reads");
    };
    skip_frame(&mut socket);
    let properties = FieldTable::new().with("connection_name", "shop-1").with("product", "test");
    let start = connection::StartOk {
        client_properties: properties.as_table(),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    say(&mut socket, 0, &Method::ConnectionStartOk(start));
    skip_frame(&mut socket);
    let tune = connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 };
    say(&mut socket, 0, &Method::ConnectionTuneOk(tune));
    say(&mut socket, 0, &Method::ConnectionOpen(connection::Open { virtual_host: "/" }));
    skip_frame(&mut socket);
    say(&mut socket, 1, &Method::ChannelOpen(channel::Open {}));
    skip_frame(&mut socket);
    socket
}

/// Publishes a message to a queue, and consumes from it without acknowledging.
fn use_queue(socket: &mut TcpStream, queue: &str) {
    let mut bytes = Vec::new();
    let publish = basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false };
    frame::write_method(&mut bytes, 1, &Method::BasicPublish(publish));
    frame::write_header(&mut bytes, 1, 1, &[0, 0]);
    frame::write_body(&mut bytes, 1, b"x", 131_072);
    let consume = basic::Consume {
        queue,
        consumer_tag: "tag",
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    frame::write_method(&mut bytes, 1, &Method::BasicConsume(consume));
    socket.write_all(&bytes).expect("it reads");
}

fn skip_frame(socket: &mut TcpStream) {
    let mut head = [0; 7];
    socket.read_exact(&mut head).expect("a frame");
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    socket.read_exact(&mut vec![0; length + 1]).expect("its end");
}

#[test]
fn names_and_types_are_rabbitmqs() {
    let theirs: Value = serde_json::from_str(OF_RABBITMQ).expect("JSON");
    let api = Api::start();
    let mut connection = connect(&api);
    api.must("PUT /api/exchanges/%2F/orders", r#"{"type":"topic","arguments":{"alternate-exchange":"lost"}}"#, 201);
    api.must("PUT /api/exchanges/%2F/lost", r#"{"type":"fanout"}"#, 201);
    api.must(
        "PUT /api/queues/%2F/orders-eu",
        r#"{"arguments":{"x-dead-letter-exchange":"lost","x-max-length":1000}}"#,
        201,
    );
    api.must("PUT /api/queues/%2F/lost", "", 201);
    api.must("POST /api/bindings/%2F/e/orders/q/orders-eu", r#"{"routing_key":"eu.#"}"#, 201);
    api.must(
        "PUT /api/policies/%2F/ttl",
        r#"{"pattern":"^lost","definition":{"message-ttl":600000},"apply-to":"queues"}"#,
        201,
    );
    api.must("PUT /api/operator-policies/%2F/cap", r#"{"pattern":"^lost","definition":{"max-length":50000}}"#, 201);
    api.must("PUT /api/topic-permissions/%2F/guest", r#"{"exchange":"orders","write":".*","read":".*"}"#, 201);
    api.must("PUT /api/global-parameters/own", r#"{"value":{"a":1}}"#, 201);
    let client = api.client();
    use_queue(&mut connection, "orders-eu");
    for queue in ["lost", "orders-eu"] {
        client.publish("", queue, "x").wait().expect("it is there");
    }
    client.publish("orders", "eu.de", "x").wait().expect("it is there");
    eventually("the channel has done something", || {
        api.must("GET /api/channels", "", 200).json()[0].get("message_stats").is_some()
    });
    eventually("there are totals", || api.must("GET /api/overview", "", 200).json().get("message_stats").is_some());
    eventually("and of the virtual host", || {
        api.must("GET /api/vhosts/%2F", "", 200).json().get("message_stats").is_some()
    });
    let connection = api.must("GET /api/connections", "", 200).json()[0]["name"].as_str().expect("a name").to_string();
    let channel = format!("GET /api/channels/{}", format!("{connection} (1)").replace(' ', "%20").replace('>', "%3E"));
    let node =
        format!("GET /api/nodes/{}", api.must("GET /api/overview", "", 200).json()["node"].as_str().expect("a name"));
    let table = [
        ("overview", "GET /api/overview"),
        ("node", &node),
        ("vhost", "GET /api/vhosts/%2F"),
        ("queue", "GET /api/queues/%2F/orders-eu"),
        ("queues", "GET /api/queues/%2F"),
        ("exchange", "GET /api/exchanges/%2F/orders"),
        ("bindings", "GET /api/bindings/%2F"),
        ("connections", "GET /api/connections"),
        ("channels", "GET /api/channels"),
        ("channel", &channel),
        ("consumers", "GET /api/consumers"),
        ("users", "GET /api/users"),
        ("permissions", "GET /api/permissions"),
        ("topic_permissions", "GET /api/topic-permissions"),
        ("policies", "GET /api/policies"),
        ("operator_policies", "GET /api/operator-policies"),
        ("parameters", "GET /api/parameters"),
        ("global_parameters", "GET /api/global-parameters"),
        ("whoami", "GET /api/whoami"),
        ("cluster_name", "GET /api/cluster-name"),
    ];
    let mut found = Vec::new();
    for (name, what) in table {
        compare(&theirs[name], &api.must(what, "", 200).json(), name, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}
