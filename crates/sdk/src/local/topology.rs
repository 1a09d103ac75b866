//! Exchanges and queues of topics and subscriptions.
//!
//! A topic is a fanout exchange of its name. What is to be delivered later goes to `<topic>.later`, which delays it and
//! leads to the topic. A subscription is the queue `<topic>.<subscription>`, and its dead letters are in
//! `<topic>.<subscription>.dead`. A message that is to be tried again at a time of its own goes there through [`RETRY`].

use super::engine;
use crate::driver::{SubscriptionSpec, TopicSpec};
use crate::error::{Error, Result};
use crate::message::Outgoing;
use leveret_broker::table::FieldTable;
use leveret_broker::{Client, ClientError, ExchangeDeclare, QueueDeclare};
use std::borrow::Cow;

/// The exchange that delays a message on its way to a queue, which is its key.
pub(super) const RETRY: &str = "leveret.retry";

/// The header with a message's ordering key.
pub(super) const KEY: &str = "leveret-key";

/// An argument of a subscription's queue: the filter of its binding, so that one with another filter is another queue.
const FILTER: &str = "leveret-filter";

const DELAYED: &str = "x-delayed-message";

/// The exchange that a message is published to.
pub(super) fn exchange_of(message: &Outgoing) -> Cow<'static, str> {
    match message.delay {
        None => message.topic.into(),
        Some(_) => later(message.topic).into(),
    }
}

fn later(topic: &str) -> String {
    format!("{topic}.later")
}

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

pub(super) fn declare_subscription(client: &Client, spec: &SubscriptionSpec) -> Result<()> {
    let (queue, dead) = (spec.queue(), spec.dead_queue());
    let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // A consumer that gives a message back has not failed: quorum queues make that difference.
    let mut arguments = FieldTable::new()
        .with("x-queue-type", "quorum")
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", dead.as_str())
        .with("x-delivery-limit", i64::from(spec.retry.attempts) - 1)
        .with("x-delayed-retry-type", "failed")
        .with("x-delayed-retry-min", millis(spec.retry.min))
        .with("x-delayed-retry-max", millis(spec.retry.max))
        .with("x-delayed-retry-multiplier", 2i32)
        .with("x-delayed-retry-jitter", 100i32);
    let mut binding = FieldTable::new();
    if spec.ordered {
        arguments.insert("x-group-header", KEY);
    }
    if let Some(filter) = spec.filter {
        arguments.insert(FILTER, filter);
        binding.insert("x-filter", filter);
    }
    let declare = || {
        declare_queue(client, &dead, &FieldTable::new().with("x-queue-type", "quorum"))?;
        declare_queue(client, &queue, &arguments)?;
        declare_exchange(client, RETRY, DELAYED, &FieldTable::new().with("x-delayed-type", "direct"))?;
        client.bind_queue(&queue, RETRY, &queue)?;
        client.bind_queue_with(&queue, spec.topic.name, "", binding.as_table())
    };
    declare().map_err(|error| differs("subscription", &queue, error))
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
