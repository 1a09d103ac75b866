//! Situations that end a channel or a connection; expected.txt says how.

use crate::api::table;
use crate::api::{AUTO_DELETE, Channel, Client, EXCLUSIVE, Flags, Outcome, PASSIVE, PLAIN, Properties, Table, Value};
use crate::case::Case;

pub const NAMES: &[&str] = &[
    "err-no-queue",
    "err-no-queue-bind",
    "err-no-queue-consume",
    "err-no-queue-get",
    "err-no-previous-queue",
    "err-purge-missing",
    "err-no-exchange",
    "err-publish-no-exchange",
    "err-invalid-arg",
    "err-unknown-tag",
    "err-unknown-tag-nack",
    "err-unknown-tag-reject",
    "err-reserved-queue",
    "err-reserved-exchange",
    "err-predeclared-delete",
    "err-default-exchange-declare",
    "err-default-exchange-delete",
    "err-unknown-exchange-type",
    "err-immediate",
    "err-recover-norequeue",
    "err-prefetch-size",
    "err-flow-inactive",
    "err-user-id",
    "err-invalid-expiration",
    "err-reply-to-no-consumer",
    "err-commit-without-tx",
    "err-bad-login",
    "err-vhost-missing",
    "err-no-exchange-bind",
    "err-locked",
    "err-locked-consume",
    "err-inequivalent-arg",
    "err-inequivalent-flag",
    "err-inequivalent-exchange",
    "err-double-ack",
    "err-default-exchange-bind",
    "err-internal-exchange",
    "err-exclusive-consumer",
    "err-reuse-consumer-tag",
    "err-in-use",
    "err-not-empty",
    "err-exchange-in-use",
    "err-tx-then-confirm",
    "err-confirm-then-tx",
];

/// Provokes the error by one call on a fresh channel, or hands over to `prepared`.
pub async fn perform<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    if ["err-bad-login", "err-vhost-missing"].contains(&c.situation) {
        return connecting(c).await;
    }
    c.open().await?;
    let (ch, n, none) = (c.ch(), c.n.as_str(), &Table::new());
    match c.situation {
        "err-no-queue" => ch.queue_declare(n, PASSIVE, none).await.map(drop),
        "err-no-queue-bind" => ch.queue_bind(n, "amq.direct", "k", none).await,
        "err-no-queue-consume" => consume(ch, n, "t").await,
        "err-no-queue-get" => ch.get(n, false).await.map(drop),
        "err-no-previous-queue" => consume(ch, "", "t").await,
        "err-purge-missing" => ch.queue_purge(n).await.map(drop),
        "err-no-exchange" => ch.exchange_declare(n, "direct", PASSIVE, none).await,
        "err-publish-no-exchange" => c.publish(n, "k", &["1"]).await,
        "err-invalid-arg" => ch.queue_declare(n, EXCLUSIVE, &table([("x-expires", Value::Int(-1))])).await.map(drop),
        "err-unknown-tag" => ch.ack(7, false).await,
        "err-unknown-tag-nack" => ch.nack(7, false, true).await,
        "err-unknown-tag-reject" => ch.reject(7, true).await,
        "err-reserved-queue" => ch.queue_declare(&format!("amq.{n}"), PLAIN, none).await.map(drop),
        "err-reserved-exchange" => ch.exchange_declare(&format!("amq.{n}"), "direct", PLAIN, none).await,
        "err-predeclared-delete" => ch.exchange_delete("amq.direct", false).await,
        "err-default-exchange-declare" => ch.exchange_declare("", "direct", PLAIN, none).await,
        "err-default-exchange-delete" => ch.exchange_delete("", false).await,
        "err-unknown-exchange-type" => ch.exchange_declare(n, "nosuch", PLAIN, none).await,
        "err-immediate" => ch.publish_immediate("amq.direct", n).await,
        "err-recover-norequeue" => ch.recover(false).await,
        "err-prefetch-size" => ch.qos(1, 0, false).await,
        "err-flow-inactive" => ch.flow(false).await,
        "err-user-id" => {
            let properties = Properties { user_id: Some("mallory".into()), ..Properties::default() };
            ch.publish(("amq.direct", n), b"1", &properties, false).await
        }
        "err-invalid-expiration" => {
            let properties = Properties { expiration: Some("soon".into()), ..Properties::default() };
            ch.publish(("amq.direct", n), b"1", &properties, false).await
        }
        "err-reply-to-no-consumer" => {
            let properties = Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Properties::default() };
            ch.publish(("", n), b"1", &properties, false).await
        }
        "err-commit-without-tx" => ch.tx_commit().await,
        _ => prepared(c).await,
    }
}

async fn consume(ch: &impl Channel, queue: &str, tag: &str) -> Outcome<()> {
    ch.consume(queue, tag, false, false, &Table::new()).await.map(drop)
}

async fn connecting<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    let mut login = c.login();
    if c.situation == "err-bad-login" {
        login.password = "wrong".into();
    } else {
        login.vhost = "nowhere".into();
    }
    c.connect(&login).await?;
    Err("the broker accepted it".into())
}

/// Situations that need something declared, consumed or published first.
async fn prepared<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    let none = &Table::new();
    match c.situation {
        "err-locked" => {
            c.queue("").await?;
            let name = c.n.clone();
            return c.elsewhere().await?.queue_declare(&name, EXCLUSIVE, none).await.map(drop);
        }
        "err-locked-consume" => {
            c.queue("").await?;
            let name = c.n.clone();
            return consume(&c.elsewhere().await?, &name, "t").await;
        }
        _ => {}
    }
    let (ch, n) = (c.ch(), c.n.as_str());
    match c.situation {
        "err-no-exchange-bind" => ch.queue_bind(&c.queue(".queue").await?, n, "k", none).await,
        "err-inequivalent-arg" => {
            c.queue("").await?;
            c.queue_with("", EXCLUSIVE, &table([("x-message-ttl", Value::Int(1000))])).await.map(drop)
        }
        "err-inequivalent-flag" => {
            ch.queue_delete(n, false, false).await?;
            c.queue_with("", AUTO_DELETE, none).await?;
            c.queue_with("", Flags { durable: true, ..AUTO_DELETE }, none).await.map(drop)
        }
        "err-inequivalent-exchange" => {
            c.exchange("direct", "").await?;
            ch.exchange_declare(n, "fanout", PLAIN, none).await
        }
        "err-double-ack" => {
            let queue = c.queue("").await?;
            c.publish("", &queue, &["1"]).await?;
            let tag = c.get(&queue).await?.tag;
            ch.ack(tag, false).await?;
            ch.ack(tag, false).await
        }
        "err-default-exchange-bind" => ch.queue_bind(&c.queue("").await?, "", "k", none).await,
        "err-internal-exchange" => {
            c.exchange_with("fanout", "", Flags { internal: true, ..PLAIN }, none).await?;
            c.publish(n, "", &["1"]).await
        }
        _ => with_consumers(c).await,
    }
}

async fn with_consumers<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (ch, n) = (c.ch(), c.n.as_str());
    match c.situation {
        "err-exclusive-consumer" => {
            let queue = c.queue("").await?;
            let other = c.channel().await?;
            other.consume(&queue, "first", false, true, &Table::new()).await?;
            consume(ch, &queue, "second").await
        }
        "err-reuse-consumer-tag" => {
            let queue = c.queue("").await?;
            let _first = ch.consume(&queue, n, false, false, &Table::new()).await?;
            consume(ch, &queue, n).await
        }
        "err-in-use" => {
            let queue = c.queue("").await?;
            let _consumer = ch.consume(&queue, "t", false, false, &Table::new()).await?;
            ch.queue_delete(&queue, true, false).await.map(drop)
        }
        "err-not-empty" => {
            let queue = c.queue("").await?;
            c.publish("", &queue, &["1"]).await?;
            ch.queue_delete(&queue, false, true).await.map(drop)
        }
        "err-exchange-in-use" => {
            let exchange = c.exchange("fanout", "").await?;
            ch.queue_bind(&c.queue("").await?, &exchange, "", &Table::new()).await?;
            ch.exchange_delete(&exchange, true).await
        }
        "err-tx-then-confirm" => {
            ch.tx_select().await?;
            ch.confirm_select().await
        }
        "err-confirm-then-tx" => {
            ch.confirm_select().await?;
            ch.tx_select().await
        }
        other => Err(format!("no such situation: {other}").into()),
    }
}
