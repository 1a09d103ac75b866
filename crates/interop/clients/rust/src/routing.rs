//! Situations about where messages go and how long queues and exchanges live.

use crate::api::{AUTO_DELETE, Channel, Client, Connection, EXCLUSIVE, Event, Outcome, PASSIVE, PLAIN, Properties};
use crate::api::{Table, Value, table};
use crate::case::{Case, gone};
use crate::report::{equal, eventually};

pub const NAMES: &[&str] = &[
    "bind",
    "last-declared-per-channel",
    "exclusive-gone",
    "auto-delete-queue",
    "auto-delete-exchange",
    "alternate-exchange",
    "exchange-to-exchange",
    "headers-exchange",
    "topic-patterns",
    "cc-bcc",
];

pub async fn perform<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    match c.situation {
        "bind" => bind(c).await,
        "last-declared-per-channel" => last_declared(c).await,
        "exclusive-gone" => exclusive_gone(c).await,
        "auto-delete-queue" => auto_delete_queue(c).await,
        "auto-delete-exchange" => auto_delete_exchange(c).await,
        "alternate-exchange" => alternate_exchange(c).await,
        "exchange-to-exchange" => exchange_to_exchange(c).await,
        "headers-exchange" => headers_exchange(c).await,
        "topic-patterns" => topic_patterns(c).await,
        "cc-bcc" => cc_bcc(c).await,
        other => Err(format!("no such situation: {other}").into()),
    }
}

async fn bind<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (exchange, queue) = (c.exchange("direct", "").await?, c.queue("").await?);
    c.ch().queue_bind(&queue, &exchange, "here", &Table::new()).await?;
    c.publish(&exchange, "here", &["1"]).await?;
    c.publish(&exchange, "elsewhere", &["2"]).await?;
    equal(c.bodies(&queue).await?, ["1"])?;
    c.ch().queue_unbind(&queue, &exchange, "here").await?;
    c.publish(&exchange, "here", &["3"]).await?;
    equal(c.bodies(&queue).await?, [""; 0])?;
    c.ch().exchange_delete(&exchange, false).await
}

async fn last_declared<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (exchange, other) = (c.exchange("direct", "").await?, c.channel().await?);
    let first = c.queue(".a").await?;
    let second = other.queue_declare(&format!("{}.b", c.n), EXCLUSIVE, &Table::new()).await?.0;
    // With an empty key too, the queue's name is the key.
    c.ch().queue_bind("", &exchange, "", &Table::new()).await?;
    c.publish(&exchange, &first, &["for a"]).await?;
    eventually(async || Ok(c.count(&first).await? == 1)).await?;
    equal(c.count(&second).await?, 0)?;
    c.ch().exchange_delete(&exchange, false).await
}

async fn exclusive_gone<C: Client>(c: &mut Case<'_, C>) -> Outcome<()> {
    let owner = C::connect(&c.login()).await?;
    // lapin's close doesn't wait for the broker if a channel was dropped just before: it is kept until then.
    let channel = owner.channel().await?;
    channel.queue_declare(&c.n, EXCLUSIVE, &Table::new()).await?;
    owner.close().await?;
    drop(channel);
    equal(gone(c.ch().queue_declare(&c.n, PASSIVE, &Table::new()).await)?, true)
}

async fn queue_gone<C: Client>(c: &Case<'_, C>) -> Outcome<bool> {
    gone(c.channel().await?.queue_declare(&c.n, PASSIVE, &Table::new()).await)
}

async fn exchange_gone<C: Client>(c: &Case<'_, C>) -> Outcome<bool> {
    gone(c.channel().await?.exchange_declare(&c.n, "fanout", PASSIVE, &Table::new()).await)
}

async fn auto_delete_queue<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let queue = c.queue_with("", AUTO_DELETE, &Table::new()).await?;
    c.publish("", &queue, &["1"]).await?;
    equal(c.bodies(&queue).await?, ["1"])?;
    equal(queue_gone(c).await?, false)?;
    let _consumer = c.ch().consume(&queue, "last", false, false, &Table::new()).await?;
    c.ch().cancel("last").await?;
    eventually(|| queue_gone(c)).await
}

async fn auto_delete_exchange<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let exchange = c.exchange_with("fanout", "", AUTO_DELETE, &Table::new()).await?;
    let queue = c.queue("").await?;
    c.ch().queue_bind(&queue, &exchange, "", &Table::new()).await?;
    equal(exchange_gone(c).await?, false)?;
    c.ch().queue_unbind(&queue, &exchange, "").await?;
    eventually(|| exchange_gone(c)).await
}

async fn alternate_exchange<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let alternate = c.exchange("fanout", ".alternate").await?;
    let arguments = table([("alternate-exchange", alternate.as_str().into())]);
    let exchange = c.exchange_with("direct", "", PLAIN, &arguments).await?;
    let (queue, rest) = (c.queue("").await?, c.queue(".rest").await?);
    c.ch().queue_bind(&queue, &exchange, "k", &Table::new()).await?;
    c.ch().queue_bind(&rest, &alternate, "", &Table::new()).await?;
    c.ch().confirm_select().await?;
    c.publish(&exchange, "k", &["routed"]).await?;
    c.ch().publish((&exchange, "other"), b"unrouted", &Properties::default(), true).await?;
    equal(c.events(2).await?, [Event::Ack, Event::Ack])?;
    equal(c.bodies(&queue).await?, ["routed"])?;
    equal(c.bodies(&rest).await?, ["unrouted"])?;
    c.ch().exchange_delete(&exchange, false).await?;
    c.ch().exchange_delete(&alternate, false).await
}

async fn exchange_to_exchange<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (source, target) = (c.exchange("topic", ".source").await?, c.exchange("fanout", ".target").await?);
    let queue = c.queue("").await?;
    c.ch().queue_bind(&queue, &target, "", &Table::new()).await?;
    c.ch().exchange_bind(&target, &source, "a.#").await?;
    c.publish(&source, "a.b", &["1"]).await?;
    c.publish(&source, "b.a", &["2"]).await?;
    c.ch().exchange_unbind(&target, &source, "a.#").await?;
    c.publish(&source, "a.b", &["3"]).await?;
    equal(c.bodies(&queue).await?, ["1"])?;
    c.ch().exchange_delete(&source, false).await?;
    c.ch().exchange_delete(&target, false).await
}

async fn headers_exchange<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let exchange = c.exchange("headers", "").await?;
    let matches = ["all", "any", "all-with-x", "any-with-x"];
    for of in matches {
        let mut wanted = table([("a", Value::Int(1)), ("b", "x".into())]);
        if of.ends_with("with-x") {
            wanted = table([("x-a", Value::Int(1))]);
        }
        wanted.insert("x-match".into(), of.into());
        c.ch().queue_bind(&c.queue(&format!(".{of}")).await?, &exchange, "", &wanted).await?;
    }
    let published = [
        table([("a", Value::Int(1)), ("b", "x".into())]),
        table([("a", Value::Int(1))]),
        table([("b", "x".into()), ("c", Value::Bool(true))]),
        table([("x-a", Value::Int(1))]),
        Table::new(),
    ];
    for (number, headers) in published.into_iter().enumerate() {
        let properties = Properties { headers: Some(headers), ..Properties::default() };
        c.ch().publish((&exchange, ""), number.to_string().as_bytes(), &properties, false).await?;
    }
    let mut got = Vec::new();
    for of in matches {
        got.push(format!("{of}: {}", c.bodies(&format!("{}.{of}", c.n)).await?.join(" ")));
    }
    c.observe(&got.join(", "));
    equal(got.join(", "), "all: 0, any: 0 1 2, all-with-x: 3, any-with-x: 3")?;
    c.ch().exchange_delete(&exchange, false).await
}

async fn topic_patterns<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let exchange = c.exchange("topic", "").await?;
    let patterns = ["#", "*", "a.*", "a.#", "*.b", "#.b", "a.*.c", "a.#.c", "#.#", "*.#.*", "", "a..b"];
    let keys = ["", "a", "a.b", "a.b.c", "a.c", "b", "a.x.y.c", "a..b", "A.b"];
    for (number, pattern) in patterns.iter().enumerate() {
        c.ch().queue_bind(&c.queue(&format!(".{number}")).await?, &exchange, pattern, &Table::new()).await?;
    }
    for key in keys {
        c.publish(&exchange, key, &[key]).await?;
    }
    let mut matched = Vec::new();
    for (number, pattern) in patterns.iter().enumerate() {
        matched.extend(c.bodies(&format!("{}.{number}", c.n)).await?.into_iter().map(|key| (key, *pattern)));
    }
    let of =
        |key: &str| matched.iter().filter(|(found, _)| found == key).map(|(_, pattern)| *pattern).collect::<Vec<_>>();
    for key in keys {
        c.observe(&format!("{key:?} matches {:?}", of(key)));
    }
    equal(of("a.b.c"), ["#", "a.#", "a.*.c", "a.#.c", "#.#", "*.#.*"])?;
    equal(of("a.b"), ["#", "a.*", "a.#", "*.b", "#.b", "#.#", "*.#.*"])?;
    equal(of(""), ["#", "#.#", ""])?;
    c.ch().exchange_delete(&exchange, false).await
}

async fn cc_bcc<C: Client>(c: &Case<'_, C>) -> Outcome<()> {
    let (to, cc, bcc) = (c.queue(".to").await?, c.queue(".cc").await?, c.queue(".bcc").await?);
    let copies = |queue: &str| Value::List(vec![queue.into()]);
    let headers = table([("CC", copies(&cc)), ("BCC", copies(&bcc)), ("kept", Value::Int(1))]);
    let properties = Properties { headers: Some(headers), ..Properties::default() };
    c.ch().publish(("", &to), b"1", &properties, false).await?;
    for queue in [&to, &cc, &bcc] {
        let headers = c.get(queue).await?.properties.headers;
        equal(headers, Some(table([("CC", copies(&cc)), ("kept", Value::Int(1))])))?;
    }
    Ok(())
}
