//! Clients that keep the rules and still want to harm: what they may cost the process and the other clients.

use crate::client::{Client, Login, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, Server, eventually, shared};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection, exchange, queue};
use leveret_wire::table::Table;
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
