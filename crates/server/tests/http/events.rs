//! Streams of events.

use crate::api::{Api, PATIENCE, read_head};
use base64::Engine;
use leveret_broker::Wait;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

/// A stream that was opened.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(api: &Api, path: &str) -> Stream {
        let mut socket = TcpStream::connect(api.http).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let login = base64::engine::general_purpose::STANDARD.encode("guest:guest");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {login}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut socket = BufReader::new(socket);
        let (status, headers) = read_head(&mut socket);
        assert_eq!(status, 200, "{headers:?}");
        let kind = headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
        assert_eq!(kind, Some("text/event-stream"));
        Stream(socket)
    }

    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("an event") > 0, "it goes on");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }
}

#[test]
fn what_changes_is_told() {
    let api = Api::start();
    let mut stream = Stream::open(&api, "/api/stream?every=1&get=/api/queues?columns=name&get=/api/queues/%2F/none");
    let first = stream.next();
    assert_eq!((&first["get"], &first["body"]), (&"/api/queues?columns=name".into(), &serde_json::json!([])));
    let missing = stream.next();
    assert_eq!((&missing["status"], &missing["body"]["reason"]), (&404.into(), &"Not Found".into()));
    // Only what is different is told.
    api.must("PUT /api/queues/%2F/q", "", 201);
    let changed = stream.next();
    assert_eq!(changed["body"], serde_json::json!([{ "name": "q" }]));
    // As somebody who may not any more.
    api.must("PUT /api/users/guest", r#"{"password":"other","tags":"administrator"}"#, 204);
    assert_eq!(stream.next()["status"], 401);
}

#[test]
fn what_is_published_is_told() {
    let api = Api::start();
    let mut stream = Stream::open(&api, "/api/exchanges/%2F/amq.topic/tail?key=a.%23");
    let client = api.client();
    client.publish("amq.topic", "b.x", "not this").wait().expect("it goes nowhere");
    client.publish("amq.topic", "a.x", "this").wait().expect("it is there");
    let event = stream.next();
    assert_eq!(
        (&event["routing_key"], &event["payload"], &event["exchange"]),
        (&"a.x".into(), &"this".into(), &"amq.topic".into())
    );
    // More than can be told.
    let many = (0..5000).map(|_| ("amq.topic", "a.y", "many"));
    client.publish_all(many).wait().expect("they are there");
    let (mut told, mut left_out) = (0, 0);
    while told + left_out < 5000 {
        let event = stream.next();
        match event["left_out"].as_u64() {
            Some(count) => left_out += count,
            None => told += 1,
        }
    }
    assert!(told > 0 && left_out > 4000, "{told} told, {left_out} left out");
    // The queue goes with the listener.
    assert_eq!(api.must("GET /api/queues", "", 200).json().as_array().map(Vec::len), Some(1));
    drop(stream);
    crate::api::eventually("its queue is gone", || api.must("GET /api/queues", "", 200).body == "[]");
}
