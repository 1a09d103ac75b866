//! What is declared for topics and subscriptions: for Leveret what `local:` declares, so that programs may have either; for RabbitMQ
//! the same names, without the arguments that it does not know. docs/wire-contract.md tells other programs.

use super::engine::Engine;
use super::ladder;
use crate::contract::{FILTER, KEY, later, millis, requests, retry};
use crate::driver::{SubscriptionSpec, TopicSpec};
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const DELAYED: &str = "x-delayed-message";

/// Something that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Exchange {
        name: String,
        kind: ExchangeKind,
        arguments: FieldTable,
    },
    Queue {
        name: String,
        lives: Lives,
        arguments: FieldTable,
    },
    /// From an exchange to a queue.
    Bind {
        queue: String,
        exchange: String,
        key: String,
        arguments: FieldTable,
    },
    /// From an exchange to an exchange.
    Chain {
        to: String,
        from: String,
        key: String,
    },
}

/// How long a queue is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lives {
    /// For ever.
    Durable,
    /// As long as somebody consumes from it.
    WithConsumers,
    /// As long as its connection.
    WithConnection,
}

pub(super) fn exchange(name: impl Into<String>, kind: ExchangeKind, arguments: FieldTable) -> Step {
    Step::Exchange { name: name.into(), kind, arguments }
}

pub(super) fn queue(name: impl Into<String>, lives: Lives, arguments: FieldTable) -> Step {
    Step::Queue { name: name.into(), lives, arguments }
}

/// Arguments by their names.
pub(super) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    entries.into_iter().for_each(|(name, value)| _ = table.insert(name.into(), value));
    table
}

/// A text in a table.
pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(super) fn topic(engine: Engine, topic: &TopicSpec) -> Vec<Step> {
    let mut arguments = FieldTable::default();
    if topic.exactly_once {
        arguments.insert("x-message-deduplication".into(), AMQPValue::Boolean(true));
    }
    let to_all = exchange(topic.name, ExchangeKind::Fanout, arguments.clone());
    match engine {
        Engine::Leveret => {
            let later = later(topic.name);
            arguments.insert("x-delayed-type".into(), text("fanout"));
            let delayed = exchange(&later, ExchangeKind::Custom(DELAYED.to_string()), arguments);
            vec![to_all, delayed, Step::Chain { to: topic.name.to_string(), from: later, key: String::new() }]
        }
        Engine::RabbitMq => vec![to_all],
    }
}

/// Of a broadcast there is nothing before somebody receives.
pub(super) fn subscription(engine: Engine, spec: &SubscriptionSpec) -> Vec<Step> {
    if spec.broadcast {
        return Vec::new();
    }
    let (name, dead) = (spec.queue(), spec.dead_queue());
    // A consumer that gives a message back has not failed: quorum queues make that difference.
    let mut arguments = retries(engine, spec);
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(&dead));
    let mut steps = vec![dead_letters(&dead)];
    if engine == Engine::RabbitMq {
        steps.push(policy(spec));
    }
    steps.push(queue(&name, Lives::Durable, arguments));
    steps.extend(bindings(engine, spec, &name));
    steps
}

/// The queue of a subscription's dead letters.
pub(super) fn dead_letters(name: &str) -> Step {
    queue(name, Lives::Durable, table([("x-queue-type", text("quorum"))]))
}

/// A queue of one's own for a broadcast, which ends with its consumer.
pub(super) fn broadcast(engine: Engine, spec: &SubscriptionSpec, name: &str) -> Vec<Step> {
    let mut steps = vec![queue(name, Lives::WithConnection, retries(engine, spec))];
    steps.extend(bindings(engine, spec, name));
    steps
}

/// The queue of the requests for a name. It ends with the last who responds, so that requests are not left waiting for nobody.
pub(super) fn responder(name: &str) -> Vec<Step> {
    vec![queue(requests(name), Lives::WithConsumers, FieldTable::default())]
}

/// The arguments of a queue whose messages are tried again.
fn retries(engine: Engine, spec: &SubscriptionSpec) -> FieldTable {
    if engine == Engine::RabbitMq {
        return FieldTable::default();
    }
    let number = AMQPValue::LongLongInt;
    let mut arguments = table([
        ("x-delivery-limit", number(i64::from(spec.retry.attempts) - 1)),
        ("x-delayed-retry-type", text("failed")),
        ("x-delayed-retry-min", number(millis(spec.retry.min))),
        ("x-delayed-retry-max", number(millis(spec.retry.max))),
        ("x-delayed-retry-multiplier", AMQPValue::LongInt(2)),
        ("x-delayed-retry-jitter", AMQPValue::LongInt(100)),
    ]);
    if spec.ordered {
        arguments.insert("x-group-header".into(), text(KEY));
        // What comes behind a message that fails must not have been delivered before.
        arguments.insert("x-group-prefetch".into(), AMQPValue::LongInt(1));
    }
    if let Some(filter) = spec.filter {
        arguments.insert(FILTER.into(), text(filter));
    }
    arguments
}

/// An exchange that nobody publishes to, so that a subscription with another policy or filter is refused. When something is declared
/// again, RabbitMQ compares a few arguments that it knows: none of a queue is free to say this, and of an exchange it is the alternate,
/// which need not be there.
fn policy(spec: &SubscriptionSpec) -> Step {
    let (retry, filter) = (spec.retry, spec.filter.unwrap_or_default());
    let says = format!("{} {} {} {filter}", retry.attempts, millis(retry.min), millis(retry.max));
    exchange(
        format!("{}.policy", spec.queue()),
        ExchangeKind::Direct,
        table([("alternate-exchange", text(says.trim_end()))]),
    )
}

/// Lets a queue have its topic's messages, and those of its own that come back later.
fn bindings(engine: Engine, spec: &SubscriptionSpec, name: &str) -> Vec<Step> {
    let from_topic = |arguments| Step::Bind {
        queue: name.to_string(),
        exchange: spec.topic.name.to_string(),
        key: String::new(),
        arguments,
    };
    match engine {
        Engine::Leveret => {
            let direct = table([("x-delayed-type", text("direct"))]);
            let filter = spec.filter.map(|filter| table([("x-filter", text(filter))])).unwrap_or_default();
            let (queue, key, arguments) = (name.to_string(), name.to_string(), FieldTable::default());
            let retry = retry(name, spec.broadcast);
            vec![
                exchange(&*retry, ExchangeKind::Custom(DELAYED.to_string()), direct),
                Step::Bind { queue, exchange: retry.into_owned(), key, arguments },
                from_topic(filter),
            ]
        }
        Engine::RabbitMq if spec.retry.attempts > 1 => vec![ladder::to_queue(name), from_topic(FieldTable::default())],
        Engine::RabbitMq => vec![from_topic(FieldTable::default())],
    }
}

/// Declares all of it, in its order and without waiting in between.
///
/// # Errors
/// The first one; nothing behind it was declared then, since it ends the channel.
pub(super) async fn declare(channel: &Channel, steps: &[Step]) -> lapin::Result<()> {
    let mut begun = Vec::with_capacity(steps.len());
    for step in steps {
        let mut work: Pin<Box<dyn Future<Output = lapin::Result<()>> + Send + '_>> = Box::pin(step.declare(channel));
        // Polled once it is on its way.
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            work = Box::pin(ready(done));
        }
        begun.push(work);
    }
    for work in begun {
        work.await?;
    }
    Ok(())
}

impl Step {
    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let short = |text: &String| ShortString::from(text.as_str());
        match self {
            Step::Exchange { name, kind, arguments } => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(short(name), kind.clone(), options, arguments.clone()).await
            }
            Step::Queue { name, lives, arguments } => {
                let options = QueueDeclareOptions {
                    durable: *lives != Lives::WithConnection,
                    exclusive: *lives == Lives::WithConnection,
                    auto_delete: *lives != Lives::Durable,
                    ..QueueDeclareOptions::default()
                };
                channel.queue_declare(short(name), options, arguments.clone()).await.map(drop)
            }
            Step::Bind { queue, exchange, key, arguments } => {
                let options = QueueBindOptions::default();
                channel.queue_bind(short(queue), short(exchange), short(key), options, arguments.clone()).await
            }
            Step::Chain { to, from, key } => {
                let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
                channel.exchange_bind(short(to), short(from), short(key), options, arguments).await
            }
        }
    }
}
