//! Channels, of all connections or of one.

use super::answer::{Answer, Refusal, ok};
use super::call::Call;
use super::connections;
use super::consumers;
use super::fields::{Columns, Fields};
use super::listing::List;
use super::node;
use super::rates::counts_of;
use super::stats::{OF_ALL, Past, put_message_stats};
use crate::registry::{ChannelInfo, ConnectionInfo};
use serde_json::{Value, json};
use std::sync::Arc;

struct Listed {
    name: String,
    connection: Arc<ConnectionInfo>,
    channel: Arc<ChannelInfo>,
}

/// `GET /api/channels`
pub fn list_all(call: &Call) -> Answer {
    list(call, call.server().registry.connections())
}

/// `GET /api/vhosts/{vhost}/channels`
pub fn list_in(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let mut connections = call.server().registry.connections();
    connections.retain(|connection| connection.vhost == *vhost.name());
    list(call, connections)
}

/// `GET /api/connections/{name}/channels`
pub fn of_connection(call: &Call) -> Answer {
    list(call, vec![connections::named(call)?])
}

fn list(call: &Call, mut connections: Vec<Arc<ConnectionInfo>>) -> Answer {
    connections.retain(|connection| connections::sees(call, connection));
    let mut items: Vec<Listed> = connections.into_iter().flat_map(listed).collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    let fill = |listed: &Listed, fields: &mut Fields<'_>| fill(call, listed, fields);
    List { items, name: |listed: &Listed| &*listed.name, fill }.answer(&call.query)
}

fn listed(connection: Arc<ConnectionInfo>) -> Vec<Listed> {
    let name = connection.name();
    let listed = connection.channels().into_iter().map(|channel| Listed {
        name: format!("{name} ({})", channel.number),
        connection: connection.clone(),
        channel,
    });
    listed.collect()
}

/// `GET /api/channels/{name}`
pub fn get(call: &Call) -> Answer {
    let name = call.part("name");
    let connection = name.rsplit_once(" (").and_then(|(connection, _)| call.server().registry.connection(connection));
    let connection = connection.ok_or_else(Refusal::missing)?;
    if !connections::sees(call, &connection) {
        return Err(Refusal::not_allowed("User not authorised to access object"));
    }
    let it = listed(connection).into_iter().find(|listed| listed.name == name).ok_or_else(Refusal::missing)?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    fields.put_with("consumer_details", || consumer_details(call, &it));
    fields.put("publishes", Vec::<Value>::new());
    fields.put("deliveries", Vec::<Value>::new());
    fill(call, &it, &mut fields);
    ok(&fields.finish())
}

fn consumer_details(call: &Call, listed: &Listed) -> Vec<Value> {
    let Some(vhost) = call.server().broker.vhost(&listed.connection.vhost) else { return Vec::new() };
    let mut own = vhost.consumers();
    own.retain(|it| it.session == listed.connection.id && it.channel == listed.channel.number);
    consumers::details(call, &vhost, own)
}

fn fill(call: &Call, listed: &Listed, fields: &mut Fields<'_>) {
    let Listed { name, connection, channel } = listed;
    let status = channel.status();
    fields.put("name", name.as_str());
    fields.put("number", channel.number);
    fields.put("node", node::name());
    fields.put("user", &*connection.user);
    fields.put("user_who_performed_action", &*connection.user);
    fields.put("vhost", &*connection.vhost);
    fields.put("state", if connection.state().name() == "flow" { "flow" } else { "running" });
    fields.put("confirm", status.confirms);
    fields.put("transactional", status.transacts);
    fields.put("consumer_count", status.consumers);
    fields.put("prefetch_count", status.prefetch);
    fields.put("global_prefetch_count", status.channel_prefetch);
    fields.put("messages_unacknowledged", status.unacked);
    fields.put("messages_unconfirmed", status.unconfirmed);
    fields.put("messages_uncommitted", status.uncommitted);
    fields.put("acks_uncommitted", status.uncommitted_acks);
    fields.put_with("connection_details", || {
        json!({
            "name": connection.name(),
            "peer_host": connection.peer.ip().to_string(),
            "peer_port": connection.peer.port(),
        })
    });
    if fields.wants("message_stats") {
        let rates = call.api.rates.channel(connection.id, channel.number);
        put_message_stats::<0>(fields, &counts_of(&status.counters), &rates, OF_ALL, &Past::new(None));
    }
}
