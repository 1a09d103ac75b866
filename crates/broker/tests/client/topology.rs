//! Queues, exchanges and bindings.

use crate::{drain, in_memory, publish, ready, soon};
use expect_test::{Expect, expect};
use leveret_broker::table::{FieldTable, Table};
use leveret_broker::{Broker, Client, ClientError, ExchangeType, Properties, QueueDeclare};

fn exclusive(name: &str) -> QueueDeclare<'_> {
    QueueDeclare { name, durable: false, exclusive: true, auto_delete: false, arguments: Table::EMPTY }
}

#[test]
fn a_message_goes_where_its_exchange_is_bound() {
    let client = in_memory(&["hares", "all"]);
    client.declare_exchange("animals", ExchangeType::Topic).expect("declared");
    client.declare_exchange("copies", ExchangeType::Fanout).expect("declared");
    client.bind_queue("hares", "animals", "*.hare").expect("bound");
    client.bind_exchange("copies", "animals", "#").expect("bound");
    client.bind_queue("all", "copies", "").expect("bound");
    soon(client.publish("animals", "eu.hare", "one")).expect("confirmed");
    soon(client.publish("animals", "eu.rabbit", "two")).expect("confirmed");
    assert_eq!(
        (drain(&client, "hares"), drain(&client, "all")),
        (vec!["one".into()], vec!["one".into(), "two".into()])
    );
    client.unbind_queue("hares", "animals", "*.hare", Table::EMPTY).expect("unbound");
    soon(client.publish("animals", "eu.hare", "three")).expect("confirmed");
    assert_eq!((ready(&client, "hares"), ready(&client, "all")), (0, 1));
    client.delete_exchange("animals").expect("deleted");
    assert!(client.bind_queue("all", "animals", "").is_err());
}

#[test]
fn a_headers_exchange_compares_what_a_binding_says() {
    let client = in_memory(&["large"]);
    let size = FieldTable::new().with("size", "large");
    client.bind_queue_with("large", "amq.headers", "", size.as_table()).expect("bound");
    let properties = Properties { headers: Some(size.as_table()), ..Properties::EMPTY };
    let content = leveret_broker::Content::new(b"hare").properties(properties);
    soon(client.publish("amq.headers", "", content.mandatory())).expect("confirmed");
    assert_eq!(soon(client.publish("amq.headers", "", "leveret")), Ok(leveret_broker::Published::Unroutable));
    let message = client.get("large").expect("it is there").expect("one message");
    let headers = message.properties().expect("it can be read").headers.expect("they were published");
    assert_eq!(headers.get("size").and_then(|value| value.as_str()), Some("large"));
}

#[test]
fn queues_are_purged_and_deleted_and_say_how_many_messages_that_were() {
    let client = in_memory(&["q"]);
    publish(&client, "q", &["one", "two"]);
    assert_eq!(client.purge_queue("q"), Ok(2));
    publish(&client, "q", &["three"]);
    assert_eq!(client.delete_queue("q"), Ok(1));
    assert_eq!(client.delete_queue("q"), Ok(0));
}

#[test]
fn an_exclusive_queue_is_for_its_client_and_goes_with_the_last_that_belongs_to_it() {
    let broker = Broker::in_memory();
    let (client, other) = (broker.connect(), broker.connect());
    let name = client.declare_queue_with(exclusive("")).expect("declared").name;
    let mut subscription = client.clone().subscribe(&name, 1).expect("it is this client's");
    let refused = other.subscribe(&name, 1).expect_err("it is another client's");
    assert!(matches!(refused, ClientError::Refused(error) if error.code == 405));
    drop(client);
    publish(&other, &name, &["one"]);
    let message = soon(subscription.next()).expect("it runs").expect("the subscription belongs to the client");
    drop(subscription);
    assert_eq!(other.queue_status(&name).expect_err("another's").to_string().split(' ').next(), Some("405"));
    drop(message);
    assert_eq!(other.queue_status(&name).expect_err("gone").to_string().split(' ').next(), Some("404"));
}

#[test]
fn virtual_hosts_are_apart() {
    let broker = Broker::in_memory();
    assert_eq!(
        broker.connect_to("other").expect_err("it was not created"),
        ClientError::Refused(leveret_broker::Error::connection(530, "vhost other not found"))
    );
    broker.create_vhost("other");
    let (here, there) = (broker.connect(), broker.connect_to("other").expect("it was created"));
    here.declare_queue("q").expect("declared");
    assert!(there.queue_status("q").is_err());
    assert_eq!(&**there.vhost().name(), "other");
}

#[test]
fn a_refusal_has_the_text_of_amqp_and_the_client_goes_on() {
    fn check(act: impl FnOnce(&Client) -> Result<(), ClientError>, expected: Expect) {
        let client = in_memory(&["q"]);
        expected.assert_eq(&act(&client).expect_err("refused").to_string());
        publish(&client, "q", &["afterwards"]);
        assert_eq!(drain(&client, "q"), ["afterwards"]);
    }
    check(|client| client.subscribe("gone", 1).map(drop), expect!["404 - no queue 'gone' in vhost '/'"]);
    check(|client| client.get("gone").map(drop), expect!["404 - no queue 'gone' in vhost '/'"]);
    check(|client| soon(client.publish("gone", "", "x")).map(drop), expect!["404 - no exchange 'gone' in vhost '/'"]);
    check(
        |client| client.transaction().publish("gone", "", "x").map(drop),
        expect!["404 - no exchange 'gone' in vhost '/'"],
    );
    check(
        |client| client.declare_exchange("amq.topic", ExchangeType::Direct),
        expect![
            "406 - inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': received 'direct' but current is 'topic'"
        ],
    );
    let long = "k".repeat(256);
    check(
        |client| soon(client.publish("", &long, "x")).map(drop),
        expect!["406 - the routing key has 256 bytes; 255 fit"],
    );
    check(
        |client| client.subscribe("amq.rabbitmq.reply-to", 1).map(drop),
        expect!["406 - direct reply-to is for AMQP connections: declare an exclusive queue for the answers"],
    );
}
