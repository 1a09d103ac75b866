//! Users and what they may do, changed while they are connected; topic permissions; what is kept over a restart.

use crate::client::{Client, Login, PATIENCE, header, method, persistent, publish, publish_method, raw_frame};
use crate::inside::Inside;
use crate::server::{Directory, eventually};
use leveret_broker::{Broker, Limits};
use leveret_server::{PasswordHash, Pattern, Permissions, TopicPermissions, UserError, Users};
use leveret_wire::frame;
use leveret_wire::method::{basic, channel, connection, exchange, queue, tx};
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;
use std::time::Instant;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a pattern")
}

fn permissions(configure: &str, write: &str, read: &str) -> Permissions {
    Permissions { configure: pattern(configure), write: pattern(write), read: pattern(read) }
}

fn topics(write: &str, read: &str) -> TopicPermissions {
    TopicPermissions { write: pattern(write), read: pattern(read) }
}

const ANN: (&str, &str) = ("ann", "secret");

fn ann() -> Login<'static> {
    Login { user: ANN.0, password: ANN.1, ..Login::default() }
}

/// A server with ann, who may do everything on `/`.
fn with_ann() -> Inside {
    let inside = Inside::start(Users::guest_only());
    inside.server.users.add_with_all_rights(ANN.0, ANN.1, "/").expect("a user");
    inside
}

fn refused(what: &str) -> String {
    format!("ACCESS_REFUSED - {what} in vhost '/' refused for user 'ann'")
}

/// A message with these properties.
fn with_properties(channel: u16, exchange: &str, key: &str, properties: &Properties<'_>) -> Vec<u8> {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let mut out = publish_method(channel, exchange, key);
    frame::write_header(&mut out, channel, 1, &encoded);
    frame::write_body(&mut out, channel, b"x", 131_072);
    out
}

#[test]
fn a_change_of_permissions_reaches_those_who_are_connected() {
    let inside = with_ann();
    let users = &inside.server.users;
    let mut client = inside.open(&ann());
    client.channel(1);
    client.declare(1, "q");
    client.send(&publish(1, "", "q", b"allowed"));
    assert_eq!(client.ready(1, "q"), 1);
    // What was allowed a moment ago is looked up anew.
    assert!(!users.set_permissions("ann", "/", permissions(".*", "^q$", ".*")).expect("set").happened());
    client.send(&publish(1, "", "q", b"refused"));
    client.expect_channel_close(1, 403, &refused("write access to exchange 'amq.default'"), basic::Publish::ID);
    client.channel(1);
    assert_eq!(client.ready(1, "q"), 1);
    // And back.
    assert!(!users.set_permissions("ann", "/", Permissions::all()).expect("set").happened());
    client.send(&publish(1, "", "q", b"allowed again"));
    assert_eq!(client.ready(1, "q"), 2);
    // Without any, the connection stays open, and may do nothing.
    assert!(users.clear_permissions("ann", "/").expect("cleared").happened());
    client.say(1, basic::Get { queue: "q", no_ack: true });
    client.expect_channel_close(1, 403, &refused("read access to queue 'q'"), basic::Get::ID);
    assert!(users.set_permissions("ann", "/", Permissions::all()).expect("set").happened());
    client.channel(1);
    client.call(1, basic::Get { queue: "q", no_ack: true }, basic::GetOk::ID);
}

#[test]
fn an_empty_pattern_allows_nothing_not_even_generated_names() {
    let inside = with_ann();
    drop(inside.server.users.set_permissions("ann", "/", permissions("", ".*", ".*")).expect("set"));
    let mut client = inside.open(&ann());
    client.channel(1);
    client.say(1, queue::Declare { queue: "q", ..Default::default() });
    client.expect_channel_close(1, 403, &refused("configure access to queue 'q'"), queue::Declare::ID);
    client.channel(1);
    client.say(1, queue::Declare { queue: "", exclusive: true, ..Default::default() });
    let closed = client.expect(1, channel::Close::ID);
    assert!(format!("{:?}", closed.method()).contains("configure access to queue 'amq.gen-"), "{closed:?}");
    client.say(1, channel::CloseOk);
    drop(inside.server.users.set_permissions("ann", "/", permissions("^amq\\.gen-", ".*", ".*")).expect("set"));
    client.channel(1);
    client.declare(1, "");
}

#[test]
fn the_connections_of_a_user_end_with_the_user() {
    let inside = with_ann();
    let (mut ann, mut guest) = (inside.open(&ann()), inside.open(&Login::default()));
    assert!(inside.server.delete_user("ann").expect("deleted").happened());
    ann.expect_close(320, "CONNECTION_FORCED - user 'ann' is deleted", (0, 0));
    assert!(!inside.server.delete_user("ann").expect("nothing to do").happened());
    inside.expect_no_login(&self::ann());
    guest.channel(1);
    // Whoever comes under the name again has nothing of what the one before had.
    drop(inside.server.users.set_user("ann", PasswordHash::new("secret"), &[]).expect("a user"));
    let mut again = Client::started(inside.address);
    again.send(&self::ann().start_ok());
    again.expect(0, connection::Tune::ID);
    again.say(0, self::ann().tune);
    again.say(0, connection::Open { virtual_host: "/" });
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'ann'";
    again.expect_close(530, text, connection::Open::ID);
}

#[test]
fn the_connections_of_a_virtual_host_end_with_it() {
    let inside = with_ann();
    inside.server.broker.create_vhost("shop");
    drop(inside.server.users.set_permissions("ann", "shop", Permissions::all()).expect("set"));
    let shop = Login { vhost: "shop", ..ann() };
    let (mut there, mut elsewhere) = (inside.open(&shop), inside.open(&ann()));
    there.channel(1);
    there.declare(1, "q");
    assert!(inside.server.delete_vhost("shop"));
    there.expect_close(320, "CONNECTION_FORCED - vhost 'shop' is deleted", (0, 0));
    assert!(!inside.server.delete_vhost("shop"));
    elsewhere.channel(1);
    // Rights do not come back with the name.
    inside.server.broker.create_vhost("shop");
    assert!(inside.server.users.permissions("ann", "shop").is_none());
}

#[test]
fn a_password_that_was_changed_is_no_longer_right() {
    let inside = with_ann();
    let mut client = inside.open(&ann());
    drop(inside.open(&ann()));
    drop(inside.server.users.set_user("ann", PasswordHash::new("new"), &["monitoring"]).expect("changed"));
    inside.expect_no_login(&ann());
    drop(inside.open(&Login { password: "new", ..ann() }));
    // Who is connected stays, as in RabbitMQ.
    client.channel(1);
    drop(inside.server.users.set_user("ann", PasswordHash::none(), &[]).expect("changed"));
    for password in ["new", "secret", ""] {
        inside.expect_no_login(&Login { password, ..ann() });
    }
}

#[test]
fn topic_permissions_limit_routing_keys() {
    let inside = with_ann();
    let users = &inside.server.users;
    let limited = topics("^{username}\\.", "^{vhost}-");
    assert!(users.set_topic_permissions("ann", "/", "amq.topic", limited).expect("set").happened());
    let mut client = inside.open(&ann());
    client.channel(2);
    client.declare(2, "q");
    let topic = |what: &str, key: &str| refused(&format!("{what} access to topic '{key}' in exchange 'amq.topic'"));
    let mut expect_refused = |bytes: &[u8], text: String, id| {
        client.channel(1);
        client.send(bytes);
        client.expect_channel_close(1, 403, &text, id);
    };
    let bind = |key| queue::Bind { queue: "q", exchange: "amq.topic", routing_key: key, ..Default::default() };
    let unbind = |key| queue::Unbind { queue: "q", exchange: "amq.topic", routing_key: key, ..Default::default() };
    expect_refused(&method(1, bind("x")), topic("read", "x"), queue::Bind::ID);
    expect_refused(&method(1, unbind("x")), topic("read", "x"), queue::Unbind::ID);
    let onwards =
        exchange::Bind { source: "amq.topic", destination: "amq.fanout", routing_key: "y", ..Default::default() };
    expect_refused(&method(1, onwards), topic("read", "y"), exchange::Bind::ID);
    // In one piece, in two, and as a copy; also behind a message that is allowed.
    let (fine, not) = (publish(1, "amq.topic", "ann.x", b"x"), publish(1, "amq.topic", "bob.x", b"x"));
    let wrong = topic("write", "bob.x");
    expect_refused(&[&fine[..], &fine, &not].concat(), wrong.clone(), basic::Publish::ID);
    let pieces = [
        publish_method(1, "amq.topic", "bob.x"),
        header(1, 2, FieldTable::new().as_table()),
        raw_frame(frame::BODY, 1, b"x"),
        raw_frame(frame::BODY, 1, b"y"),
    ];
    expect_refused(&pieces.concat(), wrong.clone(), basic::Publish::ID);
    let mut copies = leveret_wire::table::FieldArray::new();
    copies.push("bob.x");
    let headers = FieldTable::new().with("CC", &copies);
    let copied = Properties { headers: Some(headers.as_table()), ..Default::default() };
    expect_refused(&with_properties(1, "amq.topic", "ann.x", &copied), wrong.clone(), basic::Publish::ID);
    // Other exchanges are none of its business.
    client.channel(1);
    client.send(&publish(1, "amq.direct", "bob.x", b"x"));
    client.call(1, bind("/-#"), queue::BindOk::ID);
    client.call(1, queue::Bind { exchange: "amq.direct", ..bind("bob.x") }, queue::BindOk::ID);
    client.send(&publish(1, "amq.direct", "bob.x", b"x"));
    assert_eq!(client.ready(1, "q"), 1);
    // Taken away while the client is there.
    assert!(users.clear_topic_permissions("ann", "/", Some("amq.topic")).expect("cleared").happened());
    client.call(1, bind("bob.#"), queue::BindOk::ID);
    client.send(&publish(1, "amq.topic", "bob.x", b"x"));
    assert_eq!(client.ready(1, "q"), 2);
}

#[test]
fn topic_permissions_hold_at_topic_exchanges_only_and_also_in_transactions() {
    let inside = with_ann();
    drop(inside.server.users.set_topic_permissions("ann", "/", "e", topics("^a$", "^a$")).expect("set"));
    let mut client = inside.open(&ann());
    client.channel(1);
    let declare = exchange::Declare { exchange: "e", r#type: "direct", ..Default::default() };
    client.call(1, declare, exchange::DeclareOk::ID);
    client.send(&publish(1, "e", "b", b"x"));
    client.call(1, exchange::Delete { exchange: "e", ..Default::default() }, exchange::DeleteOk::ID);
    // The same name, now a topic exchange.
    client.call(1, exchange::Declare { r#type: "topic", ..declare }, exchange::DeclareOk::ID);
    client.call(1, tx::Select, tx::SelectOk::ID);
    client.send(&publish(1, "e", "a", b"x"));
    client.send(&publish(1, "e", "b", b"x"));
    let text = refused("write access to topic 'b' in exchange 'e'");
    client.expect_channel_close(1, 403, &text, basic::Publish::ID);
}

#[test]
fn only_an_impersonator_publishes_in_anothers_name() {
    let inside = with_ann();
    let mut client = inside.open(&ann());
    client.channel(1);
    client.declare(1, "q");
    let message = with_properties(1, "", "q", &Properties { user_id: Some("bob"), ..Default::default() });
    client.send(&message);
    let text = "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'ann'";
    client.expect_channel_close(1, 406, text, basic::Publish::ID);
    drop(inside.server.users.set_user("ann", PasswordHash::new("secret"), &["impersonator"]).expect("changed"));
    client.channel(1);
    client.send(&message);
    assert_eq!(client.ready(1, "q"), 1);
}

#[test]
fn a_password_is_slow_once() {
    let inside = with_ann();
    drop(inside.open(&ann()));
    // Slow ones would take at least ten times as long, and wait for each other.
    let begin = Instant::now();
    for _ in 0..20 {
        drop(inside.open(&ann()));
    }
    let fast = begin.elapsed();
    let begin = Instant::now();
    for _ in 0..5 {
        inside.expect_no_login(&Login { password: "wrong", ..ann() });
        inside.expect_no_login(&Login { user: "nobody", ..ann() });
    }
    let slow = begin.elapsed();
    assert!(fast / 20 < slow / 10, "{fast:?} for 20, {slow:?} for 10 that are wrong");
}

#[test]
fn many_who_log_in_at_once_all_get_in() {
    let inside = with_ann();
    let address = inside.address;
    let clients: Vec<_> = (0..40)
        .map(|number| {
            std::thread::spawn(move || {
                let password = if number % 4 == 0 { "wrong" } else { ANN.1 };
                let mut client = Client::started(address);
                client.stream.set_read_timeout(Some(4 * PATIENCE)).expect("a socket");
                client.send(&Login { password, ..ann() }.start_ok());
                client.next().is_some_and(|frame| frame.is(connection::Tune::ID))
            })
        })
        .collect();
    let let_in = clients.into_iter().filter_map(|client| client.join().ok()).filter(|&let_in| let_in).count();
    assert_eq!(let_in, 30);
}

#[test]
fn users_are_kept_over_a_restart() {
    let directory = Directory::new("users-kept");
    let hash = PasswordHash::new("secret");
    {
        let inside = Inside::on_disk(&directory);
        let users = &inside.server.users;
        assert_eq!(users.users().len(), 1, "guest");
        inside.server.broker.create_vhost("a:b");
        inside.server.broker.create_vhost("gone");
        let set = users.set_user("ann", hash.clone(), &["monitoring", "other"]).expect("set");
        inside.wait(set.durable()).expect("durable");
        drop(users.set_permissions("ann", "a:b", permissions("^(?!amq\\.)", "", ".*")).expect("set"));
        drop(users.set_permissions("ann", "gone", Permissions::all()).expect("set"));
        drop(users.set_topic_permissions("ann", "a:b", "e:1", topics("^{username}", ".*")).expect("set"));
        drop(users.set_topic_permissions("ann", "gone", "e", topics("", "")).expect("set"));
        drop(users.set_user("bob", PasswordHash::none(), &[]).expect("set"));
        drop(users.set_permissions("bob", "/", Permissions::all()).expect("set"));
        drop(users.set_topic_permissions("bob", "/", "e", topics("", "")).expect("set"));
        assert!(inside.server.delete_vhost("gone"));
        assert!(inside.server.delete_user("guest").expect("deleted").happened());
        inside.wait(inside.server.delete_user("bob").expect("deleted").durable()).expect("durable");
        inside.stop();
    }
    let inside = Inside::on_disk(&directory);
    let users = &inside.server.users;
    // Guest was deleted, and is not made again.
    assert_eq!(users.users().iter().map(|user| user.name().to_string()).collect::<Vec<_>>(), ["ann"]);
    let ann = users.user("ann").expect("there");
    assert_eq!((ann.password() == &hash, ann.tags()), (true, &["monitoring".to_string(), "other".to_string()][..]));
    let shown = format!("{:?} {:?}", users.rights(), users.topic_rights());
    expect_test::expect![[r#"[UserRights { user: "ann", vhost: "a:b", permissions: Permissions { configure: "^(?!amq\\.)", write: "", read: ".*" } }] [TopicRights { user: "ann", vhost: "a:b", exchange: "e:1", permissions: TopicPermissions { write: "^{username}", read: ".*" } }]"#]].assert_eq(&shown);
    let access = users.access("ann", "a:b").expect("there");
    assert!(access.check_topic(leveret_server::Permission::Write, "e:1", "ann.x").is_ok());
    assert!(access.check_topic(leveret_server::Permission::Write, "e:1", "bob.x").is_err());
    drop(inside.open(&Login { vhost: "a:b", ..self::ann() }));
    inside.stop();
}

#[test]
fn what_a_crash_leaves_of_a_deletion_does_not_come_back() {
    let broker = Broker::in_memory();
    let users = Users::open(&broker).expect("nothing is kept yet");
    users.add_with_all_rights("ann", "secret", "/").expect("set");
    drop(users.set_topic_permissions("ann", "/", "e", topics("", "")).expect("set"));
    // The record of the deletion of the user, without those of the permissions.
    drop(broker.set_entry("user", "ann", None).expect("deleted"));
    let users = Users::open(&broker).expect("readable");
    assert!(users.users().is_empty() && users.rights().is_empty());
    assert!(broker.entries("permission:/").is_empty() && broker.entries("topic_permission:/").is_empty());
    // What cannot be read is said, not skipped.
    drop(broker.set_entry("user", "bob", Some(b"{}")).expect("set"));
    let error = format!("{:#}", Users::open(&broker).expect_err("it cannot be read"));
    assert!(error.starts_with("cannot read the users that are kept in the data directory: user 'bob': "), "{error}");
}

#[test]
fn users_and_permissions_have_limits() {
    let users = Users::new();
    let hash = PasswordHash::none;
    for name in ["", &"n".repeat(256)] {
        let error = users.set_user(name, hash(), &[]).expect_err("refused").to_string();
        assert!(error.starts_with("the name of a user has 1 to 255 bytes; this has "), "{error}");
    }
    users.set_user("ann", hash(), &["a"; 33]).expect_err("too many tags");
    drop(users.set_user("ann", hash(), &[]).expect("fine"));
    let unknown = users.set_permissions("bob", "/", Permissions::all()).expect_err("refused");
    assert_eq!(unknown, UserError::NoSuchUser("bob".to_string()));
    for number in 0..1000 {
        drop(users.set_topic_permissions("ann", "/", &format!("e{number}"), topics("", "")).expect("fine"));
    }
    let error = users.set_topic_permissions("ann", "/", "one more", topics("", "")).expect_err("refused").to_string();
    assert_eq!(error, "there cannot be more than 1000 topic permissions of a user in a virtual host");
    // Where a broker keeps them, its limit counts, too.
    let broker = leveret_broker::Broker::new(
        Limits { max_entries: 3, ..Limits::default() },
        leveret_broker::Environment::system(),
    );
    let users = Users::open(&broker).expect("nothing is kept yet");
    users.add_guest_at_first().expect("three entries");
    let error = users.set_user("ann", hash(), &[]).expect_err("refused").to_string();
    assert!(error.contains("max_entries"), "{error}");
    assert!(users.user("ann").is_none(), "what is not kept does not count");
}

#[test]
fn a_connection_can_be_closed_by_name() {
    let inside = with_ann();
    let (mut client, mut other) = (inside.open(&ann()), inside.open(&ann()));
    let local = client.stream.local_addr().expect("a socket");
    let name = format!("{local} -> {}", inside.address);
    let connection = inside.server.registry.connection(&name).expect("it is listed");
    connection.close("Closed via management plugin");
    client.expect_close(320, "CONNECTION_FORCED - Closed via management plugin", (0, 0));
    other.channel(1);
    eventually("it is not listed any more", PATIENCE, || inside.server.registry.len() == 1);
    // Closing what is closed does nothing.
    connection.close("again");
    assert_eq!(inside.server.registry.churn(), (2, 1));
}

#[test]
fn what_a_connection_does_can_be_seen() {
    let inside = with_ann();
    let mut login = ann().capable("basic.nack");
    login.properties = login.properties.with("product", "hare");
    let mut client = inside.open(&login.heartbeat(600));
    let [connection] = &inside.server.registry.connections()[..] else { panic!("one connection") };
    assert_eq!((&*connection.user, &*connection.vhost, connection.auth_mechanism), ("ann", "/", "PLAIN"));
    assert_eq!((connection.channel_max, connection.frame_max, connection.heartbeat), (2047, 131_072, 600));
    let product = connection.client_properties.as_table().get("product");
    assert_eq!(product.and_then(|value| value.as_str()), Some("hare"));
    assert_eq!(connection.state().name(), "running");
    let before = connection.traffic();
    client.channel(3);
    client.channel(1);
    client.call(1, basic::Qos { prefetch_count: 7, ..Default::default() }, basic::QosOk::ID);
    client.call(1, basic::Qos { prefetch_count: 9, global: true, ..Default::default() }, basic::QosOk::ID);
    client.call(3, tx::Select, tx::SelectOk::ID);
    client.declare(1, "q");
    client.consume(1, "q", "c", false);
    client.send(&[publish(1, "", "q", b"x"), persistent(3, "", "q", b"y")].concat());
    client.delivery(1);
    // A transaction that has acknowledged and not committed.
    client.channel(5);
    client.declare(5, "t");
    client.send(&publish(5, "", "t", b"z"));
    client.call(5, tx::Select, tx::SelectOk::ID);
    client.call(5, basic::Get { queue: "t", no_ack: false }, basic::GetOk::ID);
    client.content(5);
    client.say(5, basic::Ack { delivery_tag: 1, multiple: false });
    let status = |at: usize| connection.channels()[at].status();
    eventually("both have been seen", PATIENCE, || status(0).unacked == 1 && status(1).uncommitted == 1);
    let (one, three) = (status(0), status(1));
    assert_eq!((connection.channels()[0].number, connection.channels()[1].number), (1, 3));
    assert_eq!((one.prefetch, one.channel_prefetch, one.consumers, one.transacts), (7, 9, 1, false));
    assert_eq!((one.counters.publish, one.counters.deliver), (1, 1));
    eventually("the transaction has been seen", PATIENCE, || status(2).uncommitted_acks == 1);
    assert_eq!((three.consumers, three.transacts, three.unacked), (0, true, 0));
    let after = connection.traffic();
    assert!(after.received_bytes > before.received_bytes + 200 && after.sent_bytes > before.sent_bytes + 100);
    assert!(after.received > before.received && after.sent > before.sent);
    client.call(3, channel::Close { reply_code: 200, ..Default::default() }, channel::CloseOk::ID);
    assert_eq!(connection.channels().len(), 2);
    let listening: Vec<_> = inside.server.listeners().into_iter().map(|it| (it.protocol, it.address)).collect();
    assert_eq!(listening, [("amqp", inside.address)]);
}

#[test]
fn a_connection_that_is_blocked_shows_it() {
    let limits = Limits { max_memory: 100_000, ..Limits::default() };
    let broker = Broker::new(limits, leveret_broker::Environment::system());
    let inside = Inside::with(broker, Users::guest_only());
    let mut publisher = inside.open(&Login::default());
    let reader = inside.open(&Login::default());
    publisher.channel(1);
    publisher.declare(1, "q");
    publisher.send(&publish(1, "", "q", &[0; 120_000]));
    let states = || {
        let connections = inside.server.registry.connections();
        connections.iter().map(|connection| connection.state().name()).collect::<Vec<_>>()
    };
    eventually("publishers wait", PATIENCE, || states() == ["blocked", "blocking"]);
    publisher.call(1, queue::Purge { queue: "q", ..Default::default() }, queue::PurgeOk::ID);
    eventually("they go on", PATIENCE, || states() == ["running", "running"]);
    drop(reader);
}
