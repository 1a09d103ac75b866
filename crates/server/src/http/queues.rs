//! Queues: listed, declared, deleted, emptied.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Call, expected};
use super::consumers;
use super::fields::{Columns, Fields};
use super::fieldtable;
use super::listing::List;
use super::node;
use super::rates::{COUNTS, Place, QUEUE_VALUES, queue_values};
use super::stats::{OF_QUEUE, Past, Wanted, put_lengths, put_message_stats};
use crate::auth::Permission;
use crate::registry::ConnectionInfo;
use leveret_broker::table::{FieldTable, Value as Field};
use leveret_broker::{
    Channel, Deaths, QueueDeclare, QueueInfo, QueueState, Session, SessionId, VirtualHost, has_effect,
};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// A queue with its virtual host. What is in it is asked for when it is to be shown: a page of ten thousand queues looks
/// at its own alone.
struct Listed {
    vhost: Arc<VirtualHost>,
    name: Arc<str>,
}

/// What else is needed to show queues.
pub struct View<'a> {
    call: &'a Call,
    wanted: Wanted,
    owners: FxHashMap<SessionId, Arc<ConnectionInfo>>,
    /// Nothing that is counted.
    plain: bool,
    /// Lengths nevertheless.
    totals: bool,
}

/// `GET /api/queues`
pub fn list_all(call: &Call) -> Answer {
    list(call, &call.visible_vhosts())
}

/// `GET /api/queues/{vhost}`
pub fn list_in(call: &Call) -> Answer {
    list(call, &[call.vhost()?])
}

fn list(call: &Call, vhosts: &[Arc<VirtualHost>]) -> Answer {
    let view = View::of(call)?;
    let mut items = Vec::new();
    for vhost in vhosts {
        let first = items.len();
        items.extend(vhost.queue_names().into_iter().map(|name| Listed { vhost: vhost.clone(), name }));
        items[first..].sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }
    let fill = |listed: &Listed, fields: &mut Fields<'_>| match listed.vhost.queue_info(&listed.name) {
        Some(queue) => view.fill(listed.vhost.name(), &queue, fields),
        // It was deleted meanwhile.
        None => {
            fields.put("name", &*listed.name);
            fields.put("vhost", &**listed.vhost.name());
        }
    };
    List { items, name: |listed: &Listed| &*listed.name, fill }.answer(&call.query)
}

/// `GET /api/queues/{vhost}/{name}`
pub fn get(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let queue = vhost.queue_info(call.part("name")).ok_or_else(Refusal::missing)?;
    let view = View::of(call)?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    fields.put_with("consumer_details", || consumers::details(call, &vhost, vhost.consumers_of(&queue.name)));
    // RabbitMQ's rates by channel and by exchange, which are off there, too, unless rates_mode is detailed.
    fields.put("deliveries", Vec::<Value>::new());
    fields.put("incoming", Vec::<Value>::new());
    view.fill(vhost.name(), &queue, &mut fields);
    ok(&fields.finish())
}

impl View<'_> {
    fn of(call: &Call) -> Result<View<'_>, Refusal> {
        let connections = call.server().registry.connections();
        let owners = connections.into_iter().map(|connection| (connection.id, connection)).collect();
        let (plain, totals) = (call.query.is_true("disable_stats"), call.query.is_true("enable_queue_totals"));
        Ok(View { call, wanted: Wanted::of(&call.query)?, owners, plain, totals })
    }

    fn fill(&self, vhost: &Arc<str>, queue: &QueueInfo, fields: &mut Fields<'_>) {
        fields.put("name", &*queue.name);
        fields.put("vhost", &**vhost);
        fields.put("durable", queue.durable);
        fields.put("auto_delete", queue.auto_delete);
        fields.put("exclusive", queue.owner.is_some());
        fields.put_with("arguments", || fieldtable::to_json(queue.arguments.as_table()));
        fields.put("node", node::name());
        fields.put_with("type", || type_of(&queue.arguments));
        fields.put("state", state(queue.state));
        if let Some(owner) = queue.owner {
            fields.put_with("owner_pid_details", || self.owner(owner));
        }
        let policies = &queue.policies;
        fields.put("policy", policies.policy.as_ref().map(|policy| policy.name.as_str()));
        fields.put("operator_policy", policies.operator.as_ref().map(|policy| policy.name.as_str()));
        fields.put_with("effective_policy_definition", || fieldtable::to_json(policies.effective().as_table()));
        match (self.plain, self.totals) {
            (false, _) => self.fill_counted((vhost.clone(), queue.name.clone()), queue, fields),
            (true, true) => {
                fields.put("messages", queue.ready + queue.waiting + queue.unacked);
                fields.put("messages_ready", queue.ready + queue.waiting);
                fields.put("messages_unacknowledged", queue.unacked);
            }
            (true, false) => {}
        }
    }

    fn fill_counted(&self, place: Place, queue: &QueueInfo, fields: &mut Fields<'_>) {
        let wants_rates =
            ["message_stats", "messages_details", "messages_ready_details", "messages_unacknowledged_details"];
        let wants_rates = wants_rates.iter().any(|field| fields.wants(field));
        let (rates, span) = match wants_rates {
            false => ([0.0; QUEUE_VALUES], None),
            true => {
                let values = queue_values(queue);
                let span = self.wanted.any().map(|age| self.call.api.rates.queue_past(&place, age, values));
                (self.call.api.rates.queue(&place), span)
            }
        };
        let past = Past::new(span.as_ref());
        if fields.wants("message_stats") {
            put_message_stats(fields, &queue_values(queue), &rates, OF_QUEUE, &past);
        }
        let ready = queue.ready + queue.waiting;
        put_lengths(fields, (ready, queue.unacked), &rates, COUNTS.len(), &past);
        fields.put("consumers", queue.consumers);
        fields.put("single_active_consumer_tag", queue.single_active_consumer.as_deref());
        fields.put("exclusive_consumer_tag", Value::Null);
        fields.put("head_message_timestamp", Value::Null);
        fields.put("memory", queue.memory);
        fields.put("message_bytes", queue.ready_bytes + queue.unacked_bytes);
        fields.put("message_bytes_ready", queue.ready_bytes);
        fields.put("message_bytes_unacknowledged", queue.unacked_bytes);
        fields.put("messages_persistent", queue.persistent);
        fields.put_with("leveret", || beyond(queue));
    }

    fn owner(&self, owner: SessionId) -> Value {
        match self.owners.get(&owner) {
            Some(connection) => json!({
                "name": connection.name(),
                "peer_host": connection.peer.ip().to_string(),
                "peer_port": connection.peer.port(),
            }),
            None => json!({}),
        }
    }
}

/// What RabbitMQ does not tell.
fn beyond(queue: &QueueInfo) -> Value {
    let counters = &queue.counters;
    let idle = queue.arguments.as_table().iter().map(|(key, _)| key).filter(|key| !has_effect(key));
    json!({
        "waiting": queue.waiting,
        "oldest_at": queue.oldest,
        "last_arrival_at": queue.last_arrival,
        "cpu_ns": queue.cost,
        "disk_bytes": queue.disk,
        "published_bytes": counters.published_bytes,
        "delivered_bytes": counters.delivered_bytes,
        "returned": counters.returned,
        "refused": counters.refused,
        "purged": counters.purged,
        "moved": counters.moved,
        "died": deaths(&counters.died),
        "dead_lettered": deaths(&counters.dead_lettered),
        "arguments_without_effect": idle.collect::<Vec<_>>(),
    })
}

fn deaths(deaths: &Deaths) -> Value {
    json!({
        "expired": deaths.expired,
        "rejected": deaths.rejected,
        "maxlen": deaths.max_length,
        "delivery_limit": deaths.delivery_limit,
    })
}

/// `classic` or `quorum`.
pub fn type_of(arguments: &FieldTable) -> &str {
    match arguments.get("x-queue-type") {
        Some(Field::LongString(b"quorum")) => "quorum",
        _ => "classic",
    }
}

fn state(state: QueueState) -> &'static str {
    match state {
        QueueState::Running => "running",
        QueueState::Paused => "paused",
        // RabbitMQ's word for a queue that cannot be used any more.
        QueueState::Damaged => "crashed",
    }
}

/// A session for one request, whose channel is closed behind it.
pub struct Desk {
    /// The session.
    pub session: Session,
    /// Its channel; there until the end.
    channel: Option<Channel>,
}

impl Desk {
    /// Opens one on a virtual host.
    pub fn open(call: &Call, vhost: Arc<VirtualHost>) -> Desk {
        Desk { session: call.server().broker.open_session(vhost), channel: Some(Channel::new(1)) }
    }

    /// Both of it.
    pub fn parts(&mut self) -> (&mut Channel, &mut Session) {
        (self.channel.get_or_insert_with(|| Channel::new(1)), &mut self.session)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.close(&mut self.session);
        }
    }
}

/// `PUT /api/queues/{vhost}/{name}`
pub fn declare(call: &Call) -> Answer {
    let vhost = call.vhost_for_change()?;
    let name = named(call)?;
    let body = call.body()?;
    let arguments = fieldtable::from_json(&body.object("arguments")?, "arguments")?;
    call.check(Permission::Configure, "queue", name)?;
    if let Some(Field::LongString(exchange)) = arguments.get("x-dead-letter-exchange") {
        call.check(Permission::Read, "queue", name)?;
        call.check(Permission::Write, "exchange", &String::from_utf8_lossy(exchange))?;
    }
    let is_new = vhost.queue_info(name).is_none();
    let declare = QueueDeclare {
        name,
        durable: body.flag("durable")?.unwrap_or(false),
        exclusive: false,
        auto_delete: body.flag("auto_delete")?.unwrap_or(false),
        arguments: arguments.as_table(),
    };
    let mut desk = Desk::open(call, vhost);
    let (channel, session) = desk.parts();
    channel.declare_queue(session, declare)?;
    call.stored()?;
    put(is_new)
}

/// The name in the path, which is not to be generated.
fn named(call: &Call) -> Result<&str, Refusal> {
    match call.part("name") {
        "" => Err(expected("name", "the name of a queue", &json!(""))),
        name if name.len() > 255 => {
            Err(Refusal::bad(format!("name: it has {} bytes, and at most 255 are possible", name.len())))
        }
        name => Ok(name),
    }
}

/// `DELETE /api/queues/{vhost}/{name}`
pub fn delete(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost()?, call.part("name"));
    vhost.queue_info(name).ok_or_else(Refusal::missing)?;
    call.check(Permission::Configure, "queue", name)?;
    let (if_unused, if_empty) = (call.query.is_true("if-unused"), call.query.is_true("if-empty"));
    let mut desk = Desk::open(call, vhost);
    let (channel, session) = desk.parts();
    channel.delete_queue(session, name, if_unused, if_empty)?;
    call.stored()?;
    done()
}

/// `DELETE /api/queues/{vhost}/{name}/contents`
pub fn purge(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost()?, call.part("name"));
    vhost.queue_info(name).ok_or_else(Refusal::missing)?;
    call.check(Permission::Read, "queue", name)?;
    let mut desk = Desk::open(call, vhost);
    let (channel, session) = desk.parts();
    channel.purge_queue(session, name)?;
    call.server().broker.check_memory();
    call.stored()?;
    done()
}

/// `POST /api/queues/{vhost}/{name}/actions`: about mirrors, of which there are none.
pub fn act(call: &Call) -> Answer {
    call.vhost_for_change()?.queue_info(call.part("name")).ok_or_else(Refusal::missing)?;
    match call.body()?.need_text("action")? {
        // A queue without mirrors is always in step with them.
        "sync" | "cancel_sync" => done(),
        other => Err(expected("action", "sync or cancel_sync", &json!(other))),
    }
}

/// No session has this number, so what belongs to a session is not nobody's.
pub const NOBODY: SessionId = 0;
