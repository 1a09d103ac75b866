//! What is published to an exchange, as it comes: copies in a queue that is there for this alone.

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::events::{self, Speaker};
use super::messages;
use crate::auth::Permission;
use leveret_broker::table::{FieldTable, Table};
use leveret_broker::{Client, Consume, Message, QueueDeclare, Subscription, VirtualHost};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Messages that wait to be told; older ones are left out.
const WAITING: i64 = 200;

/// Messages that are told in a [`STEP`]; others are left out.
const TOLD: u32 = 20;
const STEP: Duration = Duration::from_millis(200);

/// Bytes of a body that are told.
const BODY_MAX: usize = 4096;

/// `GET /api/exchanges/{vhost}/{name}/tail`
pub fn open(call: &Call) -> Answer {
    let (vhost, exchange) = (call.vhost()?, super::exchanges::name_in(call));
    let info = vhost.exchange_info(exchange).ok_or_else(Refusal::missing)?;
    let key = call.query.get("key").unwrap_or("#");
    if key.len() > 255 {
        return Err(Refusal::bad(format!("key: it has {} bytes, and at most 255 are possible", key.len())));
    }
    if exchange.is_empty() {
        let reason = "name: nothing but queues by their names can be bound to the default exchange: browse the queue";
        return Err(Refusal::bad(reason));
    }
    let access = call.access()?;
    access.check(Permission::Read, "exchange", exchange)?;
    if info.kind == "topic" {
        access.check_topic(Permission::Read, exchange, key)?;
    }
    let client = call.server().broker.connect_to(vhost.name())?;
    let arguments = FieldTable::new().with("x-max-length", WAITING);
    let declare =
        QueueDeclare { name: "", durable: false, exclusive: true, auto_delete: true, arguments: arguments.as_table() };
    let queue = client.declare_queue_with(declare)?.name;
    client.bind_queue(&queue, exchange, key)?;
    let consume = Consume { queue: &queue, tag: "", no_ack: true, exclusive: true, arguments: Table::EMPTY };
    let subscription = client.consume(consume, 0)?;
    events::answer(call, |speaker| run(Tail { _client: client, vhost, queue, subscription }, speaker))
}

/// The queue goes with the client.
struct Tail {
    subscription: Subscription,
    queue: Arc<str>,
    vhost: Arc<VirtualHost>,
    _client: Client,
}

async fn run(mut tail: Tail, mut speaker: Speaker) {
    let (mut told, mut left_out, mut pushed_out) = (0, 0, 0);
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = speaker.over() => return,
            _ = step.tick() => {
                told = 0;
                // What the queue had no room for.
                let pushed = tail.vhost.queue_info(&tail.queue).map_or(pushed_out, |it| it.counters.died.max_length);
                left_out += pushed - pushed_out;
                pushed_out = pushed;
                match std::mem::take(&mut left_out) {
                    0 => continue,
                    count => json!({ "left_out": count }),
                }
            }
            next = tail.subscription.next() => match next {
                Ok(Some(_)) if told >= TOLD => {
                    left_out += 1;
                    continue;
                }
                Ok(Some(message)) => {
                    told += 1;
                    Value::Object(show(&message))
                }
                // The exchange or the virtual host is gone, or the broker.
                Ok(None) | Err(_) => return,
            },
        };
        if !speaker.say(&event).await {
            return;
        }
    }
}

fn show(message: &Message) -> Map<String, Value> {
    let mut one = messages::payload(message.body(), Some(BODY_MAX), false);
    one.insert("payload_bytes".into(), message.body().len().into());
    one.insert("exchange".into(), message.exchange().into());
    one.insert("routing_key".into(), message.routing_key().into());
    one.insert("redelivered".into(), message.redelivered().into());
    let properties = message.properties().map(|properties| messages::show(&properties));
    one.insert("properties".into(), properties.unwrap_or_default());
    one
}
