//! The end of the process, and beginnings that fail.

use crate::client::{Client, Login, publish};
use crate::server::{Server, command};
use leveret_wire::method::{Method, connection};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// Everybody is told, and once they have answered the process ends with 0.
fn stops_on(signal: &str) {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(&server)).collect();
    // Some are busy.
    for client in &mut clients[..10] {
        client.channel(1);
        let queue = client.declare(1, "");
        client.consume(1, &queue, "c", false);
        client.publish_bytes(1, "", &queue, b"unacked");
        client.delivery(1);
    }
    let _handshaking = Client::started(server.address);
    let begin = Instant::now();
    server.signal(signal);
    for mut client in clients {
        let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
        client.expect_close(320, text, (0, 0));
    }
    assert_eq!(server.wait(STOPS_WITHIN).code(), Some(0), "{}", server.log());
    assert!(begin.elapsed() < Duration::from_secs(2), "everybody answered, and it took {:?}", begin.elapsed());
    assert!(TcpStream::connect(server.address).is_err(), "nobody listens any more");
}

#[test]
fn sigterm_closes_every_connection_and_exits_with_0() {
    stops_on("TERM");
}

#[test]
fn sigint_is_the_same() {
    stops_on("INT");
}

#[test]
fn a_client_that_does_not_answer_delays_the_end_by_seconds_only() {
    let server = Server::start(&[]);
    let _silent = Client::open(&server);
    // One that takes nothing, with more waiting for it than the sockets hold.
    let mut stuck = Client::open_as(&server, &Login::default());
    stuck.channel(1);
    let queue = stuck.declare(1, "");
    let message = publish(1, "", &queue, &vec![7; 1024 * 1024]);
    (0..20).for_each(|_| stuck.send(&message));
    stuck.ready(1, &queue);
    stuck.consume(1, &queue, "c", true);
    let begin = Instant::now();
    server.signal("TERM");
    // New connections are refused meanwhile.
    crate::server::eventually("it stops listening", Duration::from_secs(1), || {
        TcpStream::connect(server.address).is_err()
    });
    assert_eq!(server.wait(STOPS_WITHIN).code(), Some(0), "{}", server.log());
    assert!(begin.elapsed() < STOPS_WITHIN);
}

#[test]
fn a_connection_that_opens_in_the_last_moment_is_closed_like_the_others() {
    for delay in 0..8 {
        let server = Server::start(&[]);
        let mut client = Client::tuning(server.address);
        client.say(0, Login::default().tune);
        let address = server.address;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(delay * 300));
                server.signal("TERM");
            });
            std::thread::sleep(Duration::from_millis(2));
            client.say(0, connection::Open { virtual_host: "/" });
        });
        while let Some(frame) = client.next() {
            if let Method::ConnectionClose(close) = frame.method() {
                assert_eq!(close.reply_code, 320);
                client.say(0, connection::CloseOk);
            }
        }
        assert_eq!(server.wait(Duration::from_secs(2)).code(), Some(0), "{address}: {}", server.log());
    }
}

#[test]
fn an_address_in_use_is_said_so() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("an address").to_string();
    let output =
        command(&["serve", "--http", "none", "--memory", "--amqp", &address]).output().expect("the executable starts");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    let expected = format!("leveret: cannot listen on {address}: is another broker running?");
    assert!(message.contains(&expected), "{message}");
    let output = command(&["serve", "--http", "none", "--memory", "--amqp", "no such host:1"])
        .output()
        .expect("the executable starts");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot resolve 'no such host:1'; give HOST:PORT"), "{message}");
}
