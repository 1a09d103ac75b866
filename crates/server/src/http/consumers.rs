//! Consumers, with the channels that they are on.

use super::answer::Answer;
use super::call::Call;
use super::fields::{Columns, Fields};
use super::fieldtable;
use super::listing::List;
use super::node;
use crate::registry::ConnectionInfo;
use leveret_broker::{ConsumerInfo, SessionId, VirtualHost};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// Connections by their session.
type Connections = FxHashMap<SessionId, Arc<ConnectionInfo>>;

/// `GET /api/consumers`
pub fn list_all(call: &Call) -> Answer {
    // A monitor sees all, as in RabbitMQ, others those where they may log in and which are theirs.
    let vhosts = if call.caller.is_monitor() { call.server().broker.vhosts() } else { call.visible_vhosts() };
    list(call, &vhosts)
}

/// `GET /api/consumers/{vhost}`
pub fn list_in(call: &Call) -> Answer {
    list(call, &[call.vhost()?])
}

fn list(call: &Call, vhosts: &[Arc<VirtualHost>]) -> Answer {
    let connections = connections(call);
    let mut items: Vec<(Arc<str>, ConsumerInfo)> = Vec::new();
    for vhost in vhosts {
        let mut consumers = vhost.consumers();
        consumers.retain(|consumer| sees(call, &connections, consumer));
        consumers.sort_by(|a, b| (a.session, a.channel, &a.tag).cmp(&(b.session, b.channel, &b.tag)));
        items.extend(consumers.into_iter().map(|consumer| (vhost.name().clone(), consumer)));
    }
    let fill = |(vhost, consumer): &(Arc<str>, ConsumerInfo), fields: &mut Fields<'_>| {
        fill(&connections, vhost, consumer, fields);
    };
    List { items, name: |(_, consumer): &(Arc<str>, ConsumerInfo)| &*consumer.tag, fill }.answer_whole(&call.query)
}

fn connections(call: &Call) -> Connections {
    call.server().registry.connections().into_iter().map(|connection| (connection.id, connection)).collect()
}

fn sees(call: &Call, connections: &Connections, consumer: &ConsumerInfo) -> bool {
    let own = || connections.get(&consumer.session).is_some_and(|it| *it.user == *call.caller.name());
    call.caller.is_monitor() || own()
}

/// The consumers of a queue or a channel, as they are shown with it.
pub fn details(call: &Call, vhost: &VirtualHost, consumers: Vec<ConsumerInfo>) -> Vec<Value> {
    let connections = connections(call);
    let show = |consumer: ConsumerInfo| {
        let mut fields = Fields::new(&Columns::ALL);
        fill(&connections, vhost.name(), &consumer, &mut fields);
        fields.finish()
    };
    consumers.into_iter().map(show).collect()
}

fn fill(connections: &Connections, vhost: &str, consumer: &ConsumerInfo, fields: &mut Fields<'_>) {
    fields.put_with("arguments", || fieldtable::to_json(consumer.arguments.as_table()));
    fields.put("ack_required", consumer.ack_required);
    fields.put("active", consumer.active);
    fields.put("activity_status", if consumer.active { "up" } else { "waiting" });
    fields.put("consumer_tag", &*consumer.tag);
    fields.put("exclusive", consumer.exclusive);
    fields.put("prefetch_count", consumer.prefetch);
    fields.put("queue", json!({ "name": &*consumer.queue, "vhost": vhost }));
    fields.put_with("channel_details", || match connections.get(&consumer.session) {
        Some(connection) => json!({
            "connection_name": connection.name(),
            "name": format!("{} ({})", connection.name(), consumer.channel),
            "node": node::name(),
            "number": consumer.channel,
            "peer_host": connection.peer.ip().to_string(),
            "peer_port": connection.peer.port(),
            "user": &*connection.user,
        }),
        // A client in this very process.
        None => json!({ "name": "", "connection_name": "", "node": node::name(), "number": consumer.channel }),
    });
    fields.put("leveret", json!({ "priority": consumer.priority, "unacknowledged": consumer.unacked }));
}
