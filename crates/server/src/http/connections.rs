//! Connections: listed, and closed.

use super::answer::{Answer, Refusal, done, ok};
use super::call::Call;
use super::fields::{Columns, Fields};
use super::fieldtable;
use super::listing::List;
use super::node;
use super::stats::round;
use crate::registry::ConnectionInfo;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a closed connection is told, as by RabbitMQ.
const CLOSED: &str = "Closed via management plugin";

/// The most bytes of a reason that somebody gives for closing a connection: a reply's text has 255.
const REASON_MAX: usize = 200;

/// A connection with its name, which is made each time.
pub struct Listed {
    name: String,
    connection: Arc<ConnectionInfo>,
}

/// `GET /api/connections`
pub fn list_all(call: &Call) -> Answer {
    list(call, |_| true)
}

/// `GET /api/vhosts/{vhost}/connections`
pub fn list_in(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    list(call, |connection| connection.vhost == *vhost.name())
}

fn list(call: &Call, is_meant: impl Fn(&ConnectionInfo) -> bool) -> Answer {
    let fill = |listed: &Listed, fields: &mut Fields<'_>| fill(call, listed, fields);
    List { items: visible(call, is_meant), name: |listed: &Listed| &*listed.name, fill }.answer(&call.query)
}

/// A monitor sees all connections, others their own.
fn visible(call: &Call, is_meant: impl Fn(&ConnectionInfo) -> bool) -> Vec<Listed> {
    let mut connections = call.server().registry.connections();
    connections.retain(|connection| is_meant(connection) && sees(call, connection));
    let listed = connections.into_iter().map(|connection| Listed { name: connection.name(), connection });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed
}

/// Whether the caller may see a connection.
pub fn sees(call: &Call, connection: &ConnectionInfo) -> bool {
    call.caller.is_monitor() || *connection.user == *call.caller.name()
}

/// The connection in the path, if the caller may see it.
///
/// # Errors
/// 404 and 401 as RabbitMQ.
pub fn named(call: &Call) -> Result<Arc<ConnectionInfo>, Refusal> {
    let connection = call.server().registry.connection(call.part("name")).ok_or_else(Refusal::missing)?;
    match sees(call, &connection) {
        true => Ok(connection),
        false => Err(Refusal::not_allowed("User not authorised to access object")),
    }
}

/// `GET /api/connections/{name}`
pub fn get(call: &Call) -> Answer {
    let connection = named(call)?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    fill(call, &Listed { name: connection.name(), connection }, &mut fields);
    ok(&fields.finish())
}

fn fill(call: &Call, listed: &Listed, fields: &mut Fields<'_>) {
    let Listed { name, connection } = listed;
    fields.put("name", name.as_str());
    fields.put("node", node::name());
    fields.put("type", "network");
    fields.put("protocol", "AMQP 0-9-1");
    fields.put("user", &*connection.user);
    fields.put("user_who_performed_action", &*connection.user);
    fields.put("vhost", &*connection.vhost);
    fields.put("state", connection.state().name());
    fields.put("auth_mechanism", connection.auth_mechanism);
    fields.put("channel_max", connection.channel_max);
    fields.put("frame_max", connection.frame_max);
    fields.put("timeout", connection.heartbeat);
    fields.put("connected_at", connection.connected_at);
    fields.put_with("host", || connection.local.ip().to_string());
    fields.put("port", connection.local.port());
    fields.put_with("peer_host", || connection.peer.ip().to_string());
    fields.put("peer_port", connection.peer.port());
    fields.put_with("channels", || connection.channels().len());
    fields.put("ssl", false);
    let nothing = [
        "ssl_protocol",
        "ssl_key_exchange",
        "ssl_cipher",
        "ssl_hash",
        "peer_cert_subject",
        "peer_cert_issuer",
        "peer_cert_validity",
    ];
    nothing.into_iter().for_each(|field| fields.put(field, Value::Null));
    fields.put_with("client_properties", || fieldtable::to_json(connection.client_properties.as_table()));
    if let Some(given) = connection.client_properties.get("connection_name").as_ref().and_then(|name| name.as_str()) {
        fields.put("user_provided_name", given);
    }
    let traffic = connection.traffic();
    fields.put("recv_oct", traffic.received_bytes);
    fields.put("send_oct", traffic.sent_bytes);
    fields.put("recv_cnt", traffic.received);
    fields.put("send_cnt", traffic.sent);
    fields.put("send_pend", 0);
    if fields.wants("recv_oct_details") || fields.wants("send_oct_details") {
        let rates = call.api.rates.connection(connection.id);
        fields.put("recv_oct_details", json!({ "rate": round(rates[0]) }));
        fields.put("send_oct_details", json!({ "rate": round(rates[1]) }));
    }
}

/// `DELETE /api/connections/{name}`
pub fn close(call: &Call) -> Answer {
    let reason = reason(&call.headers);
    named(call)?.close(&reason);
    done()
}

/// `GET /api/connections/username/{user}`
pub fn list_of_user(call: &Call) -> Answer {
    let user = call.part("user");
    let items = visible(call, |connection| *connection.user == *user);
    let fill = |listed: &Listed, fields: &mut Fields<'_>| {
        fields.put("name", listed.name.as_str());
        fields.put("vhost", &*listed.connection.vhost);
        fields.put("user", &*listed.connection.user);
        fields.put("node", node::name());
    };
    List { items, name: |listed: &Listed| &*listed.name, fill }.answer_whole(&call.query)
}

/// `DELETE /api/connections/username/{user}`
pub fn close_of_user(call: &Call) -> Answer {
    let (user, reason) = (call.part("user"), reason(&call.headers));
    visible(call, |connection| *connection.user == *user).iter().for_each(|listed| listed.connection.close(&reason));
    done()
}

/// Why it is closed, for the client to read: what the header X-Reason says, else RabbitMQ's words.
fn reason(headers: &HeaderMap) -> String {
    let given = headers.get("x-reason").and_then(|value| value.to_str().ok()).filter(|reason| !reason.is_empty());
    given.unwrap_or(CLOSED).chars().take(REASON_MAX).collect()
}
