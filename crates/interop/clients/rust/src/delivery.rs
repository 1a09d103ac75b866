//! Situations about connections, publishing, consuming and acknowledging.

use std::time::Duration;

use crate::api::{
    Channel, Client, Connection, DURABLE, EXCLUSIVE, Event, Failure, Message, Outcome, PASSIVE, Properties,
};
use crate::api::{Table, Value, table};
use crate::case::{Case, collect};
use crate::report::{equal, eventually};

pub const NAMES: &[&str] = &[
    "tune",
    "capabilities",
    "declare",
    "publish-confirm",
    "consume",
    "ack",
    "nack-requeue",
    "reject",
    "return-mandatory",
    "return-before-ack",
    "body-10mib",
    "channels-2000",
    "get-empty",
    "purge",
    "cancel-unknown",
    "delete-missing",
    "server-named",
    "passive-declare",
    "unicode-names",
    "table-roundtrip",
    "direct-reply-to",
    "consumer-priority",
    "prefetch-consumer",
    "prefetch-global",
    "prefetch-change",
    "cancel-notify",
    "requeue-order",
    "recover-requeue",
    "redelivered-after-close",
    "tx-commit",
    "tx-rollback",
];

pub async fn perform<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    match c.situation {
        "tune" => tune(c),
        "capabilities" => capabilities(c),
        "declare" => declare(c).await,
        "publish-confirm" => publish_confirm(c).await,
        "consume" => consume(c).await,
        "ack" => ack(c).await,
        "nack-requeue" => nack_requeue(c).await,
        "reject" => reject(c).await,
        "return-mandatory" => return_mandatory(c).await,
        "return-before-ack" => return_before_ack(c).await,
        "body-10mib" => body_10mib(c).await,
        "channels-2000" => channels_2000(c).await,
        "get-empty" => get_empty(c).await,
        "purge" => purge(c).await,
        "cancel-unknown" => c.ch().cancel("never-existed").await,
        "delete-missing" => delete_missing(c).await,
        "server-named" => server_named(c).await,
        "passive-declare" => passive_declare(c).await,
        "unicode-names" => unicode_names(c).await,
        "table-roundtrip" => table_roundtrip(c).await,
        "direct-reply-to" => direct_reply_to(c).await,
        "consumer-priority" => consumer_priority(c).await,
        "prefetch-consumer" => prefetch_consumer(c).await,
        "prefetch-global" => prefetch_global(c).await,
        "prefetch-change" => prefetch_change(c).await,
        "cancel-notify" => cancel_notify(c).await,
        "requeue-order" => requeue_order(c).await,
        "recover-requeue" => recover_requeue(c).await,
        "redelivered-after-close" => redelivered_after_close(c).await,
        "tx-commit" => tx_commit(c).await,
        "tx-rollback" => tx_rollback(c).await,
        other => Err(format!("no such situation: {other}").into()),
    }
}

const TEN: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

fn is_message(message: &Message, body: &str, redelivered: bool) -> Outcome<()> {
    equal((message.text(), message.redelivered), (body.to_string(), redelivered))
}

fn tune<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (channel_max, frame_max) = c.connections[0].tuned();
    c.observe(&format!("negotiated channel_max={channel_max} frame_max={frame_max}"));
    equal((channel_max, frame_max), (2047, 131_072))
}

fn capabilities<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let found = c.connections[0].capabilities().ok_or(Failure::Skip("the client doesn't show them"))?;
    c.observe(&format!("{found:?}"));
    let wanted = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| found.get(*name) != Some(&Value::Bool(true))).collect();
    equal(missing, [""; 0])
}

async fn declare<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let none = &Table::new();
    c.ch().queue_delete(&c.n, false, false).await?;
    c.ch().exchange_delete(&c.n, false).await?;
    for _ in 0..2 {
        c.ch().exchange_declare(&c.n, "direct", DURABLE, none).await?;
        equal(c.ch().queue_declare(&c.n, DURABLE, none).await?, (c.n.clone(), 0, 0))?;
    }
    c.ch().exchange_declare(&c.n, "direct", PASSIVE, none).await?;
    equal(c.ch().queue_delete(&c.n, false, false).await?, 0)?;
    c.ch().exchange_delete(&c.n, false).await
}

async fn publish_confirm<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.ch().confirm_select().await?;
    for _ in 0..5 {
        c.publish("", &queue, &TEN).await?;
    }
    equal(c.events(50).await?, vec![Event::Ack; 50])?;
    equal(c.bodies(&queue).await?, TEN.repeat(5))
}

async fn consume<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    let text = |text: &str| Some(text.to_string());
    let properties = Properties {
        content_type: text("text/plain"),
        content_encoding: text("utf-8"),
        headers: Some(table([("a", Value::Int(1))])),
        delivery_mode: Some(1),
        priority: Some(5),
        correlation_id: text("c"),
        reply_to: text("r"),
        expiration: text("60000"),
        message_id: text("m"),
        timestamp: Some(1_700_000_000),
        kind: text("t"),
        user_id: text("guest"),
        app_id: text("app"),
    };
    for body in TEN {
        c.ch().publish(("", &queue), body.as_bytes(), &properties, false).await?;
    }
    let (tag, mut messages) = c.ch().consume(&queue, "mine", true, false, &Table::new()).await?;
    equal(tag, "mine")?;
    for (number, message) in collect(&mut messages, 10).await?.into_iter().enumerate() {
        is_message(&message, TEN[number], false)?;
        equal(message.tag, number as u64 + 1)?;
        equal((message.exchange.as_str(), &message.routing_key), ("", &queue))?;
        equal(&message.properties, &properties)?;
    }
    c.ch().cancel("mine").await
}

async fn ack<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN[..4]).await?;
    for tag in 1..=4 {
        equal(c.get(&queue).await?.tag, tag)?;
    }
    c.ch().ack(1, false).await?;
    c.ch().ack(3, true).await?;
    c.ch().recover(true).await?;
    equal(c.bodies(&queue).await?, ["4"])
}

async fn nack_requeue<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN[..3]).await?;
    c.ch().nack(c.get(&queue).await?.tag, false, true).await?;
    let again = c.get(&queue).await?;
    is_message(&again, "1", true)?;
    c.ch().nack(again.tag, false, false).await?;
    c.get(&queue).await?;
    c.get(&queue).await?;
    c.ch().nack(0, true, true).await?;
    equal(c.bodies(&queue).await?, ["2", "3"])
}

async fn reject<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &["1"]).await?;
    c.ch().reject(c.get(&queue).await?.tag, true).await?;
    let again = c.get(&queue).await?;
    is_message(&again, "1", true)?;
    c.ch().reject(again.tag, false).await?;
    equal(c.bodies(&queue).await?, [""; 0])
}

/// With confirms, because lapin hands out returned messages with their confirm only.
async fn lost<C: Client>(c: &Case<'_, C>) -> Outcome<Vec<Event>> {
    c.ch().confirm_select().await?;
    c.ch().publish(("amq.direct", &c.n), b"lost", &Properties::default(), true).await?;
    c.events(2).await
}

async fn return_mandatory<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let returned = lost(c).await?.remove(0).to_string();
    c.observe(&returned);
    equal(returned, format!("return 312 NO_ROUTE amq.direct {} lost", c.n))
}

async fn return_before_ack<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let events = lost(c).await?;
    equal((matches!(events[0], Event::Return(_)), &events[1]), (true, &Event::Ack))
}

async fn body_10mib<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    let body: Vec<u8> = (0..10_usize << 20).map(|index| (index * 31 + index / 256) as u8).collect();
    c.ch().publish(("", &queue), &body, &Properties::default(), false).await?;
    c.publish("", &queue, &[""]).await?;
    c.ch().barrier().await?;
    equal(c.get(&queue).await?.body == body, true)?;
    equal(c.get(&queue).await?.body.len(), 0)
}

async fn channels_2000<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    let mut channels = Vec::new();
    for _ in 1..2000 {
        channels.push(c.channel().await?);
    }
    let last = channels.last().ok_or("no channel")?;
    last.publish(("", &queue), b"from the last", &Properties::default(), false).await?;
    last.barrier().await?;
    equal(c.bodies(&queue).await?, ["from the last"])
}

async fn get_empty<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    equal(c.ch().get(&queue, false).await?.is_none(), true)?;
    c.publish("", &queue, &TEN[..3]).await?;
    equal(c.get(&queue).await?.remaining, Some(2))
}

async fn purge<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN[..3]).await?;
    c.get(&queue).await?; // Unacknowledged messages are not purged, nor counted.
    equal(c.ch().queue_purge(&queue).await?, 2)
}

async fn delete_missing<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    equal(c.ch().queue_delete(&c.n, false, false).await?, 0)?;
    c.ch().exchange_delete(&c.n, false).await
}

async fn server_named<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (queue, ..) = c.ch().queue_declare("", EXCLUSIVE, &Table::new()).await?;
    let (tag, _messages) = c.ch().consume(&queue, "", false, false, &Table::new()).await?;
    let names = format!("{:.8}* {:.9}*", queue, tag);
    c.observe(&names);
    equal(names, "amq.gen-* amq.ctag-*")
}

async fn passive_declare<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue_with("", EXCLUSIVE, &table([("x-max-length", Value::Int(10))])).await?;
    c.publish("", &queue, &["1"]).await?;
    let _consumer = c.ch().consume(&queue, "one", false, false, &Table::new()).await?;
    let wanted = (queue.clone(), 0, 1);
    eventually(async || Ok(c.ch().queue_declare(&queue, PASSIVE, &Table::new()).await? == wanted)).await?;
    let exchange = c.exchange("topic", "").await?;
    c.ch().exchange_declare(&exchange, "topic", PASSIVE, &Table::new()).await?;
    c.ch().exchange_delete(&exchange, false).await
}

async fn unicode_names<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (exchange, queue) = (c.exchange("direct", ".échange-交換").await?, c.queue(".file-キュー-🐇").await?);
    c.ch().queue_bind(&queue, &exchange, "clé-鍵", &Table::new()).await?;
    c.publish(&exchange, "clé-鍵", &["Grüße"]).await?;
    let message = c.get(&queue).await?;
    equal((&message.exchange, message.routing_key.as_str(), message.text()), (&exchange, "clé-鍵", "Grüße".into()))?;
    c.ch().exchange_delete(&exchange, false).await
}

async fn table_roundtrip<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    let sent = table([
        ("true", Value::Bool(true)),
        ("byte", Value::Byte(-3)),
        ("short", Value::Short(-300)),
        ("int", Value::Int(-70_000)),
        ("long", Value::Long(1 << 40)),
        ("float", Value::Float(2.5)),
        ("double", Value::Double(2.25)),
        ("decimal", Value::Decimal(2, 1234)),
        ("string", "é".into()),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("none", Value::Nothing),
        ("time", Value::Time(1_700_000_000)),
        ("list", Value::List(vec![Value::Int(1), "two".into(), Value::List(vec![Value::Int(3)])])),
        ("table", Value::Table(table([("inner", Value::Table(table([("deep", Value::Int(1))])))]))),
    ]);
    let properties = Properties { headers: Some(sent.clone()), ..Properties::default() };
    c.ch().publish(("", &queue), b"", &properties, false).await?;
    let got = c.get(&queue).await?.properties.headers;
    c.observe(&format!("{got:?}"));
    equal(got, Some(sent))
}

async fn direct_reply_to<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (queue, server) = (c.queue("").await?, c.channel().await?);
    let (_tag, mut answers) = c.ch().consume("amq.rabbitmq.reply-to", "reply", true, false, &Table::new()).await?;
    let correlated = Properties { correlation_id: Some("7".into()), ..Properties::default() };
    let request = Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..correlated.clone() };
    c.ch().publish(("", &queue), b"ping", &request, false).await?;
    c.ch().barrier().await?;
    let received = server.get(&queue, true).await?.ok_or("no request")?;
    let reply_to = received.properties.reply_to.unwrap_or_default();
    equal(reply_to.starts_with("amq.rabbitmq.reply-to."), true)?;
    server.publish(("", &reply_to), b"pong", &correlated, false).await?;
    let answer = collect(&mut answers, 1).await?.remove(0);
    equal((answer.text(), answer.properties), ("pong".into(), correlated))
}

async fn consumer_priority<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    let (_low, mut low) = c.ch().consume(&queue, "low", true, false, &Table::new()).await?;
    let priority = table([("x-priority", Value::Int(10))]);
    let (_high, mut high) = c.ch().consume(&queue, "high", true, false, &priority).await?;
    c.publish("", &queue, &TEN).await?;
    collect(&mut high, 10).await?;
    collect(&mut low, 0).await.map(drop)
}

async fn prefetch_consumer<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN[..5]).await?;
    c.ch().qos(0, 2, false).await?;
    let (_tag, mut messages) = c.ch().consume(&queue, "limited", false, false, &Table::new()).await?;
    collect(&mut messages, 2).await?;
    c.ch().ack(2, true).await?;
    collect(&mut messages, 2).await.map(drop)
}

async fn prefetch_global<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN).await?;
    c.ch().qos(0, 3, true).await?;
    let (_one, mut one) = c.ch().consume(&queue, "one", false, false, &Table::new()).await?;
    let (_two, mut two) = c.ch().consume(&queue, "two", false, false, &Table::new()).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut count = 0;
    while one.try_recv().is_ok() || two.try_recv().is_ok() {
        count += 1;
    }
    equal(count, 3)
}

/// basic.qos(global=false) is for consumers to come.
async fn prefetch_change<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN).await?;
    c.ch().qos(0, 1, false).await?;
    let (_tag, mut messages) = c.ch().consume(&queue, "one", false, false, &Table::new()).await?;
    collect(&mut messages, 1).await?;
    c.ch().qos(0, 5, false).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    c.observe(&format!("{} outstanding after qos(1), consume, qos(5)", 1 + messages.len()));
    equal(messages.len(), 0)
}

async fn cancel_notify<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    let _consumer = c.ch().consume(&queue, "gone", false, false, &Table::new()).await?;
    c.channel().await?.queue_delete(&queue, false, false).await?;
    equal(c.events(1).await?, [Event::Cancelled("gone".into())])
}

async fn requeue_order<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN[..6]).await?;
    for _ in 0..5 {
        c.get(&queue).await?;
    }
    for tag in [3, 1, 5, 4, 2] {
        c.ch().nack(tag, false, true).await?;
    }
    for (number, body) in TEN[..6].iter().enumerate() {
        is_message(&c.get(&queue).await?, body, number < 5)?;
    }
    Ok(())
}

async fn recover_requeue<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &TEN[..2]).await?;
    c.get(&queue).await?;
    c.get(&queue).await?;
    c.ch().recover(true).await?;
    is_message(&c.get(&queue).await?, "1", true)?;
    is_message(&c.get(&queue).await?, "2", true)
}

async fn redelivered_after_close<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    c.ch().queue_delete(&c.n, false, false).await?;
    let queue = c.queue_with("", DURABLE, &Table::new()).await?;
    c.publish("", &queue, &["1"]).await?;
    c.ch().barrier().await?;
    let holder = C::connect(&c.login()).await?;
    let channel = holder.channel().await?;
    let held = channel.get(&queue, false).await?.ok_or("the queue is empty")?;
    is_message(&held, "1", false)?;
    holder.close().await?;
    drop(channel);
    eventually(async || match c.ch().get(&queue, true).await? {
        Some(message) => is_message(&message, "1", true).map(|()| true),
        None => Ok(false),
    })
    .await?;
    c.ch().queue_delete(&queue, false, false).await.map(drop)
}

async fn tx_commit<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (queue, observer) = (c.queue("").await?, c.channel().await?);
    let count = async || Ok::<_, Failure>(observer.queue_declare(&queue, PASSIVE, &Table::new()).await?.1);
    c.publish("", &queue, &["0"]).await?;
    c.ch().barrier().await?;
    c.ch().tx_select().await?;
    let held = c.get(&queue).await?;
    c.publish("", &queue, &["1", "2"]).await?;
    c.ch().ack(held.tag, false).await?;
    equal(count().await?, 0)?;
    c.ch().tx_commit().await?;
    eventually(async || Ok(count().await? == 2)).await?;
    c.ch().recover(true).await?;
    equal(c.bodies(&queue).await?, ["1", "2"])
}

async fn tx_rollback<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue("").await?;
    c.publish("", &queue, &["0"]).await?;
    c.ch().barrier().await?;
    c.ch().tx_select().await?;
    c.ch().ack(c.get(&queue).await?.tag, false).await?;
    c.publish("", &queue, &["1"]).await?;
    c.ch().tx_rollback().await?;
    equal(c.count(&queue).await?, 0)?;
    c.ch().recover(true).await?; // The ack was rolled back as well: the message is still ours to requeue.
    equal(c.bodies(&queue).await?, ["0"])
}
