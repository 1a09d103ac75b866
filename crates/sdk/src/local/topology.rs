//! Exchanges and queues of topics and subscriptions.
//!
//! A topic is a fanout exchange of its name. What is to be delivered later goes to `<topic>.later`, which delays it and
//! leads to the topic. A subscription is the queue `<topic>.<subscription>`, and its dead letters are in
//! `<topic>.<subscription>.dead`; a broadcast has a queue `<topic>.<subscription>.<uuid>` for each receiver, and no dead letters. A message that is to be tried again at a time of its own goes
//! there through `<topic>.<subscription>.retry`.

use super::engine;
use crate::contract::{FILTER, KEY, later, millis, retry};
use crate::driver::{SubscriptionSpec, TopicSpec};
use crate::error::{Error, Result};
use leveret_broker::table::FieldTable;
use leveret_broker::{Client, ClientError, ExchangeDeclare, QueueDeclare};
use uuid::Uuid;

const DELAYED: &str = "x-delayed-message";

pub(super) fn declare_topic(client: &Client, topic: &TopicSpec) -> Result<()> {
    let (later, mut arguments) = (later(topic.name), FieldTable::new());
    if topic.exactly_once {
        arguments.insert("x-message-deduplication", true);
    }
    let declare = || {
        declare_exchange(client, topic.name, "fanout", &arguments)?;
        declare_exchange(client, &later, DELAYED, &arguments.clone().with("x-delayed-type", "fanout"))?;
        client.bind_exchange(topic.name, &later, "")
    };
    declare().map_err(|error| differs("topic", topic.name, error))
}

/// Of a broadcast there is nothing before somebody receives.
pub(super) fn declare_subscription(client: &Client, spec: &SubscriptionSpec) -> Result<()> {
    if spec.broadcast {
        return Ok(());
    }
    let (queue, dead) = (spec.queue(), spec.dead_queue());
    // A consumer that gives a message back has not failed: quorum queues make that difference.
    let arguments = retries(spec)
        .with("x-queue-type", "quorum")
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", dead.as_str());
    let declare = || {
        declare_queue(client, &dead, &FieldTable::new().with("x-queue-type", "quorum"))?;
        declare_queue(client, &queue, &arguments)?;
        bind(client, spec, &queue)
    };
    declare().map_err(|error| differs("subscription", &queue, error))
}

/// Makes a queue of one's own for a broadcast, which ends with its consumer; gives its name.
pub(super) fn declare_broadcast(client: &Client, spec: &SubscriptionSpec) -> Result<String> {
    let name = format!("{}.{}", spec.queue(), Uuid::now_v7());
    let (durable, exclusive, auto_delete) = (false, true, true);
    let arguments = retries(spec);
    let declare = || {
        let arguments = arguments.as_table();
        client.declare_queue_with(QueueDeclare { name: &name, durable, exclusive, auto_delete, arguments })?;
        bind(client, spec, &name)
    };
    declare().map_err(|error| differs("subscription", &spec.queue(), error))?;
    Ok(name)
}

/// The arguments of a queue whose messages are tried again.
fn retries(spec: &SubscriptionSpec) -> FieldTable {
    let mut arguments = FieldTable::new()
        .with("x-delivery-limit", i64::from(spec.retry.attempts) - 1)
        .with("x-delayed-retry-type", "failed")
        .with("x-delayed-retry-min", millis(spec.retry.min))
        .with("x-delayed-retry-max", millis(spec.retry.max))
        .with("x-delayed-retry-multiplier", 2i32)
        .with("x-delayed-retry-jitter", 100i32);
    if spec.ordered {
        arguments.insert("x-group-header", KEY);
        // What comes behind a message that fails must not have been delivered before.
        arguments.insert("x-group-prefetch", 1i32);
    }
    if let Some(filter) = spec.filter {
        arguments.insert(FILTER, filter);
    }
    arguments
}

/// Lets a queue have its topic's messages, and those of its own that come back later.
fn bind(client: &Client, spec: &SubscriptionSpec, queue: &str) -> Result<(), ClientError> {
    let mut binding = FieldTable::new();
    if let Some(filter) = spec.filter {
        binding.insert("x-filter", filter);
    }
    let retry = retry(queue, spec.broadcast);
    declare_exchange(client, &retry, DELAYED, &FieldTable::new().with("x-delayed-type", "direct"))?;
    client.bind_queue(queue, &retry, queue)?;
    client.bind_queue_with(queue, spec.topic.name, "", binding.as_table())
}

fn declare_exchange(client: &Client, name: &str, kind: &str, arguments: &FieldTable) -> Result<(), ClientError> {
    let (durable, auto_delete, internal) = (true, false, false);
    let arguments = arguments.as_table();
    client.declare_exchange_with(ExchangeDeclare { name, kind, durable, auto_delete, internal, arguments })
}

fn declare_queue(client: &Client, name: &str, arguments: &FieldTable) -> Result<(), ClientError> {
    let (durable, exclusive, auto_delete) = (true, false, false);
    let arguments = arguments.as_table();
    client.declare_queue_with(QueueDeclare { name, durable, exclusive, auto_delete, arguments }).map(|_| ())
}

/// 406 says that something is there already, and is different.
fn differs(what: &str, name: &str, error: ClientError) -> Error {
    match &error {
        ClientError::Refused(refused) if refused.code == 406 => {
            Error::Mismatch(format!("{what} '{name}': {}", refused.text))
        }
        _ => engine(error),
    }
}
