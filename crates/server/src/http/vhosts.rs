//! Virtual hosts, and what is said about them.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Call, expected};
use super::fields::{Columns, Fields};
use super::listing::List;
use super::node;
use super::rates::COUNTS;
use super::stats::{OF_VHOST, Past, put_lengths, put_message_stats, round};
use leveret_broker::{Broker, VirtualHost};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// What is said about a virtual host, as it is kept.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Metadata {
    /// For people.
    pub description: String,
    /// For people and their tools.
    pub tags: Vec<String>,
    /// `classic` or `quorum`; kept, and without effect.
    pub default_queue_type: Option<String>,
    /// Kept, and without effect.
    pub tracing: bool,
}

const KEY: &str = "metadata";

/// Entries of this table end with the virtual host.
fn table(vhost: &str) -> String {
    format!("vhost:{vhost}")
}

impl Metadata {
    /// What is said about a virtual host.
    pub fn of(broker: &Broker, vhost: &str) -> Metadata {
        match broker.entry(&table(vhost), KEY) {
            Some(value) => serde_json::from_slice(&value).unwrap_or_default(),
            None if vhost == "/" => Metadata { description: "Default virtual host".to_string(), ..Metadata::default() },
            None => Metadata::default(),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// If it is too large, or if the virtual host is not there.
    pub fn keep(&self, broker: &Broker, vhost: &str) -> Result<(), Refusal> {
        let value = serde_json::to_vec(self).map_err(|error| Refusal::bad(error.to_string()))?;
        drop(broker.set_entry(&table(vhost), KEY, Some(&value))?);
        Ok(())
    }
}

/// `GET /api/vhosts`
pub fn list(call: &Call) -> Answer {
    let items = match call.caller.is_monitor() {
        true => call.server().broker.vhosts(),
        false => call.visible_vhosts(),
    };
    let fill = |vhost: &Arc<VirtualHost>, fields: &mut Fields<'_>| fill(call, vhost, fields);
    List { items, name: |vhost: &Arc<VirtualHost>| &**vhost.name(), fill }.answer(&call.query)
}

/// `GET /api/vhosts/{vhost}`
pub fn get(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    fill(call, &vhost, &mut fields);
    ok(&fields.finish())
}

fn fill(call: &Call, vhost: &Arc<VirtualHost>, fields: &mut Fields<'_>) {
    fields.put("name", &**vhost.name());
    let metadata = Metadata::of(&call.server().broker, vhost.name());
    let queue_type = metadata.default_queue_type.as_deref().unwrap_or("undefined");
    fields.put("description", metadata.description.as_str());
    fields.put("tags", metadata.tags.clone());
    fields.put("default_queue_type", queue_type);
    fields.put("tracing", metadata.tracing);
    fields.put("metadata", json!({ "description": metadata.description, "tags": metadata.tags }));
    fields.put("cluster_state", json!({ node::name(): "running" }));
    let meter = call.api.rates.vhost(vhost.name());
    if meter.values.iter().any(|value| *value > 0) {
        let past = Past::<0>::new(None);
        put_message_stats(fields, &meter.values, &meter.rates, OF_VHOST, &past);
        let at = COUNTS.len();
        put_lengths(fields, (meter.values[at], meter.values[at + 1]), &meter.rates, at, &past);
    }
    if fields.wants("recv_oct") || fields.wants("send_oct") || fields.wants("recv_oct_details") {
        fill_traffic(call, vhost, fields);
    }
}

/// Of the connections that are open.
fn fill_traffic(call: &Call, vhost: &VirtualHost, fields: &mut Fields<'_>) {
    let (mut bytes, mut rates) = ([0, 0], [0.0, 0.0]);
    for connection in call.server().registry.connections() {
        if connection.vhost == *vhost.name() {
            let (traffic, rate) = (connection.traffic(), call.api.rates.connection(connection.id));
            bytes = [bytes[0] + traffic.received_bytes, bytes[1] + traffic.sent_bytes];
            rates = [rates[0] + rate[0], rates[1] + rate[1]];
        }
    }
    fields.put("recv_oct", bytes[0]);
    fields.put("send_oct", bytes[1]);
    fields.put("recv_oct_details", json!({ "rate": round(rates[0]) }));
    fields.put("send_oct_details", json!({ "rate": round(rates[1]) }));
}

/// `PUT /api/vhosts/{vhost}`: what the body does not say is set back, as in RabbitMQ.
pub fn set(call: &Call) -> Answer {
    let name = call.part("vhost");
    let metadata = asked(call)?;
    let is_new = create(&call.server().broker, name, &metadata)?;
    if is_new {
        // As in RabbitMQ: who makes it may use it.
        let user = call.caller.name();
        let given = call.server().users.set_permissions(user, name, crate::auth::Permissions::all());
        call.wait(given.map_err(super::users::refuse)?.durable())??;
    }
    call.stored()?;
    put(is_new)
}

fn asked(call: &Call) -> Result<Metadata, Refusal> {
    let body = call.body()?;
    let default_queue_type = match body.text("default_queue_type")? {
        None | Some("undefined") => None,
        Some(kind @ ("classic" | "quorum")) => Some(kind.to_string()),
        Some(other) => return Err(expected("default_queue_type", "classic or quorum", &json!(other))),
    };
    Ok(Metadata {
        description: body.text("description")?.unwrap_or_default().to_string(),
        tags: body.texts("tags")?.unwrap_or_default(),
        default_queue_type,
        tracing: body.flag("tracing")?.unwrap_or(false),
    })
}

/// Makes a virtual host, or says something else about one; whether it is new.
///
/// # Errors
/// 400 if the name cannot be one, or if there is too much to keep.
pub fn create(broker: &Broker, name: &str, metadata: &Metadata) -> Result<bool, Refusal> {
    if name.is_empty() || name.len() > 255 {
        let reason = format!("vhost: expected a name of 1 to 255 bytes, got one of {}", name.len());
        return Err(Refusal::bad(reason));
    }
    let is_new = broker.create_vhost(name);
    // What every virtual host has need not be kept.
    if *metadata != Metadata::of(broker, name) {
        metadata.keep(broker, name)?;
    }
    Ok(is_new)
}

/// `DELETE /api/vhosts/{vhost}`
pub fn delete(call: &Call) -> Answer {
    let name = call.part("vhost");
    if !call.server().delete_vhost(name) {
        return Err(Refusal::missing());
    }
    call.stored()?;
    done()
}

/// `POST /api/vhosts/{vhost}/start/{node}`: all virtual hosts run.
pub fn start(call: &Call) -> Answer {
    call.vhost()?;
    node::check(call)?;
    done()
}
