//! Users, virtual hosts and permissions from a definitions file; guest from this machine only.

use crate::client::{Client, Login, publish};
use crate::server::{Directory, Server, command};
use base64::Engine;
use leveret_wire::method::{Method, basic, connection, exchange, queue};
use leveret_wire::table::FieldTable;
use sha2::{Digest, Sha256};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

/// RabbitMQ's salted hash of a password.
fn hash(password: &str) -> String {
    let salt = [1, 2, 3, 4];
    let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
    base64::engine::general_purpose::STANDARD.encode([&salt[..], &digest].concat())
}

/// A file that is deleted when its test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("leveret-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a temporary file can be written");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn definitions() -> File {
    let text = format!(
        r#"{{
            "vhosts": [{{"name": "/"}}, {{"name": "shop"}}],
            "users": [
                {{"name": "ann", "password_hash": "{}", "hashing_algorithm": "rabbit_password_hashing_sha256"}},
                {{"name": "bob", "password_hash": "{}"}}
            ],
            "permissions": [
                {{"user": "ann", "vhost": "shop", "configure": "^ann-", "write": "^(ann-|amq\\.topic)", "read": "^ann-"}},
                {{"user": "bob", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}}
            ]
        }}"#,
        hash("secret"),
        hash("hidden")
    );
    File::new("definitions.json", &text)
}

#[test]
fn permissions_are_checked_method_by_method() {
    let file = definitions();
    let server = Server::start(&["--definitions", file.path()]);
    let ann = Login { user: "ann", password: "secret", vhost: "shop", ..Login::default() };
    let mut client = Client::open_as(&server, &ann);
    let refused = |what: &str| format!("ACCESS_REFUSED - {what} in vhost 'shop' refused for user 'ann'");
    client.channel(2);
    client.declare(2, "ann-own");
    let dead_letters = FieldTable::new().with("x-dead-letter-exchange", "amq.direct");
    let alternate = FieldTable::new().with("alternate-exchange", "amq.direct");
    let declare = exchange::Declare { exchange: "ann-e", r#type: "fanout", ..Default::default() };
    let cases: [(Method<'_>, &str); 12] = [
        (queue::Declare { queue: "other", ..Default::default() }.into(), "configure access to queue 'other'"),
        (
            queue::Declare { queue: "ann-q", arguments: dead_letters.as_table(), ..Default::default() }.into(),
            "write access to exchange 'amq.direct'",
        ),
        (queue::Delete { queue: "other", ..Default::default() }.into(), "configure access to queue 'other'"),
        (queue::Purge { queue: "other", ..Default::default() }.into(), "read access to queue 'other'"),
        (
            queue::Bind { queue: "ann-own", exchange: "amq.topic", ..Default::default() }.into(),
            "read access to exchange 'amq.topic'",
        ),
        (
            queue::Unbind { queue: "other", exchange: "ann-e", ..Default::default() }.into(),
            "write access to queue 'other'",
        ),
        (exchange::Declare { exchange: "other", ..declare }.into(), "configure access to exchange 'other'"),
        (
            exchange::Declare { arguments: alternate.as_table(), ..declare }.into(),
            "write access to exchange 'amq.direct'",
        ),
        (exchange::Delete { exchange: "other", ..Default::default() }.into(), "configure access to exchange 'other'"),
        (
            exchange::Bind { source: "amq.topic", destination: "ann-e", ..Default::default() }.into(),
            "read access to exchange 'amq.topic'",
        ),
        (basic::Get { queue: "other", no_ack: true }.into(), "read access to queue 'other'"),
        (basic::Consume { queue: "other", ..Default::default() }.into(), "read access to queue 'other'"),
    ];
    for (method, what) in cases {
        client.channel(1);
        client.say(1, method);
        client.expect_channel_close(1, 403, &refused(what), method.id());
    }
    // Publishing is checked per exchange, also when the one before was allowed.
    for exchange in ["amq.direct", ""] {
        client.channel(1);
        client.send(&[publish(1, "amq.topic", "k", b"fine"), publish(1, exchange, "ann-own", b"refused")].concat());
        let shown = if exchange.is_empty() { "amq.default" } else { exchange };
        let what = format!("write access to exchange '{shown}'");
        client.expect_channel_close(1, 403, &refused(&what), basic::Publish::ID);
    }
    assert_eq!(client.ready(2, "ann-own"), 0);
    client.close();
}

#[test]
fn virtual_hosts_are_open_to_those_who_have_permissions_there() {
    let file = definitions();
    let server = Server::start(&["--definitions", file.path()]);
    let refused = |user, password, vhost, text: &str| {
        let login = Login { user, password, vhost, ..Login::default() };
        let mut client = Client::started(server.address);
        client.send(&login.start_ok());
        client.expect(0, connection::Tune::ID);
        client.say(0, login.tune);
        client.say(0, connection::Open { virtual_host: vhost });
        client.expect_close(530, &format!("NOT_ALLOWED - {text}"), connection::Open::ID);
    };
    refused("ann", "secret", "/", "access to vhost '/' refused for user 'ann'");
    refused("bob", "hidden", "shop", "access to vhost 'shop' refused for user 'bob'");
    refused("bob", "hidden", "none", "vhost none not found");
    // With definitions there is no guest, and one user's password is not another's.
    for (user, password) in [("guest", "guest"), ("ann", "hidden")] {
        let mut client = Client::started(server.address);
        client.send(&Login { user, password, ..Login::default() }.start_ok());
        client.expect_end();
    }
    // A virtual host is a name space.
    let mut bob = Client::open_as(&server, &Login { user: "bob", password: "hidden", ..Login::default() });
    let mut ann =
        Client::open_as(&server, &Login { user: "ann", password: "secret", vhost: "shop", ..Login::default() });
    bob.channel(1);
    ann.channel(1);
    bob.declare(1, "ann-q");
    ann.declare(1, "ann-q");
    let log = server.log();
    assert!(!log.contains("secret") && !log.contains("hidden"), "{log}");
}

#[test]
fn guest_is_refused_from_another_address_than_loopback() {
    // The address that this machine has towards others; nothing is sent.
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(outside) = outside.map(|address| address.ip()).map_err(|error| println!("no interface: {error}")) else {
        return;
    };
    let server = Server::start_at("0.0.0.0:0", &[]);
    let mut client = Client::started(SocketAddr::new(outside, server.address.port()));
    client.send(&Login::default().capable("authentication_failure_close").start_ok());
    if outside.is_loopback() {
        client.expect(0, connection::Tune::ID);
        return;
    }
    let text =
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    client.expect_close(403, text, (0, 0));
    let mut client = Client::started(SocketAddr::from(([127, 0, 0, 1], server.address.port())));
    client.send(&Login::default().start_ok());
    client.expect(0, connection::Tune::ID);
}

#[test]
fn definitions_that_cannot_be_used_are_explained() {
    let cases = [
        ("broken.json", "{", "not a definitions file"),
        ("queues.json", r#"{"queues": [{"name": "q"}]}"#, "queues[0] 'q': [{key_missing,vhost}]"),
    ];
    for (name, text, expected) in cases {
        let file = File::new(name, text);
        let output =
            command(&["serve", "--http", "none", "--memory", "--amqp", "127.0.0.1:0", "--definitions", file.path()])
                .output();
        let output = output.expect("the executable starts");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected) && message.contains(file.path()), "{message}");
    }
}

#[test]
fn users_of_a_definitions_file_are_kept_in_the_data_directory() {
    let (file, directory) = (definitions(), Directory::new("kept-definitions"));
    let ann = Login { user: "ann", password: "secret", vhost: "shop", ..Login::default() };
    let server = Server::on_disk(&directory, &["--definitions", file.path()]);
    drop(Client::open_as(&server, &ann));
    server.stop();
    // Also by a process that is killed.
    for kill in [true, false] {
        let server = Server::on_disk(&directory, &[]);
        drop(Client::open_as(&server, &ann));
        let mut guest = Client::started(server.address);
        guest.send(&Login::default().start_ok());
        guest.expect_end();
        if kill { server.kill() } else { server.stop() }
    }
    // A file that comes later adds to them, and changes those that it names.
    let text = format!(r#"{{"users": [{{"name": "ann", "password_hash": "{}", "tags": "a,b"}}]}}"#, hash("changed"));
    let later = File::new("later.json", &text);
    let server = Server::on_disk(&directory, &["--definitions", later.path()]);
    drop(Client::open_as(&server, &Login { password: "changed", ..ann }));
    drop(Client::open_as(&server, &Login { user: "bob", password: "hidden", ..Login::default() }));
    server.stop();
}
