//! The broker as a whole, and small things that clients ask about first.

use super::answer::{Answer, Refusal, done, ok};
use super::call::Call;
use super::fields::{Columns, Fields};
use super::node::{self, RABBITMQ_VERSION, VERSION};
use super::parameters;
use super::rates::{COUNTS, Whole};
use super::stats::{OF_ALL, Past, Wanted, put_lengths, put_message_stats};
use crate::server::Server;
use serde_json::{Value, json};

/// The parameter that is the broker's name.
const CLUSTER_NAME: &str = "cluster_name";

/// `GET /api/overview`
pub fn show(call: &Call) -> Answer {
    let wanted = Wanted::of(&call.query)?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    let server = call.server();
    fields.put("management_version", RABBITMQ_VERSION);
    fields.put("rabbitmq_version", RABBITMQ_VERSION);
    fields.put("product_name", "Leveret");
    fields.put("product_version", VERSION);
    fields.put("leveret_version", VERSION);
    fields.put("rates_mode", "basic");
    fields.put("sample_retention_policies", json!({ "global": [600, 3600, 86400], "basic": [600, 3600, 86400] }));
    fields.put_with("exchange_types", node::exchange_types);
    fields.put("cluster_name", cluster_name(server));
    fields.put("node", node::name());
    fields.put("disable_stats", false);
    fields.put("enable_queue_totals", false);
    fields.put("statistics_db_event_queue", 0);
    // An Erlang node would tell these, and clients require them.
    fields.put("erlang_version", "");
    fields.put("erlang_full_version", "");
    if call.caller.is_monitor() {
        fields.put("listeners", listeners(server));
        fields.put("contexts", contexts(server));
    }
    let totals = call.api.rates.totals();
    let span = wanted.any().map(|age| call.api.rates.past(age));
    let past = Past::<{ Whole::LEN }>::new(span.as_ref());
    // Only what the caller sees, as in RabbitMQ.
    let (counts, rates, objects) = match call.caller.is_administrator() || call.caller.is_monitor() {
        true => (totals.values.to_vec(), totals.rates.to_vec(), objects(call, None)),
        false => visible(call),
    };
    put_message_stats(&mut fields, &counts, &rates, OF_ALL, &past);
    fields.put_with("queue_totals", || {
        let mut lengths = Fields::new(&Columns::ALL);
        let at = COUNTS.len();
        put_lengths(&mut lengths, (counts[at], counts[at + 1]), &rates, at, &past);
        lengths.finish()
    });
    fields.put("object_totals", objects);
    fields.put_with("churn_rates", || {
        let (opened, closed) = server.registry.churn();
        let (channels, queues) = (server.registry.channel_totals(), server.broker.queue_churn());
        json!({
            "connection_created": opened,
            "connection_closed": closed,
            "channel_created": channels.opened,
            "channel_closed": channels.closed,
            "queue_declared": queues.declared,
            "queue_created": queues.created,
            "queue_deleted": queues.deleted,
        })
    });
    ok(&fields.finish())
}

/// The sums over the virtual hosts that the caller may use.
fn visible(call: &Call) -> (Vec<u64>, Vec<f32>, Value) {
    let (mut counts, mut rates) = (vec![0; Whole::LEN], vec![0.0; Whole::LEN]);
    let vhosts = call.visible_vhosts();
    for vhost in &vhosts {
        let meter = call.api.rates.vhost(vhost.name());
        for (at, value) in meter.values.iter().enumerate() {
            counts[at] += value;
            rates[at] += meter.rates[at];
        }
    }
    (counts, rates, objects(call, Some(call.caller.name())))
}

/// How much of everything there is, of what the caller sees; of connections only this user's.
fn objects(call: &Call, user: Option<&str>) -> Value {
    let (mut queues, mut consumers, mut exchanges) = (0, 0, 0);
    for vhost in call.visible_vhosts() {
        exchanges += vhost.exchanges().len();
        vhost.visit_queues(
            |_| true,
            |queue| {
                queues += 1;
                consumers += queue.consumers;
            },
        );
    }
    let connections = call.server().registry.connections();
    let own: Vec<_> = connections.iter().filter(|it| user.is_none_or(|user| *it.user == *user)).collect();
    let channels: usize = own.iter().map(|connection| connection.channels().len()).sum();
    json!({
        "channels": channels,
        "connections": own.len(),
        "consumers": consumers,
        "exchanges": exchanges,
        "queues": queues,
    })
}

/// Where the server can be reached.
pub fn listeners(server: &Server) -> Vec<Value> {
    let show = |listening: crate::server::Listening| {
        json!({
            "node": node::name(),
            "protocol": listening.protocol,
            "ip_address": listening.address.ip().to_string(),
            "port": listening.address.port(),
            "socket_opts": {},
        })
    };
    server.listeners().into_iter().map(show).collect()
}

/// Where this API can be reached.
pub fn contexts(server: &Server) -> Vec<Value> {
    let http = server.listeners().into_iter().filter(|listening| listening.protocol == "http");
    let show = |listening: crate::server::Listening| {
        json!({
            "node": node::name(),
            "description": "Leveret Management",
            "path": "/",
            "ip": listening.address.ip().to_string(),
            "port": listening.address.port().to_string(),
            "ssl_opts": [],
            "cowboy_opts": "[]",
        })
    };
    http.map(show).collect()
}

/// What the broker is called; the node's name, unless it was given another.
pub fn cluster_name(server: &Server) -> String {
    let set = server.broker.entry(parameters::GLOBAL, CLUSTER_NAME);
    let name = set.and_then(|value| serde_json::from_slice::<String>(&value).ok());
    name.unwrap_or_else(|| node::name().to_string())
}

/// `GET /api/cluster-name`
pub fn get_cluster_name(call: &Call) -> Answer {
    ok(&json!({ "name": cluster_name(call.server()) }))
}

/// `PUT /api/cluster-name`
pub fn set_cluster_name(call: &Call) -> Answer {
    let body = call.body()?;
    let name = body.need_text("name")?;
    let value = serde_json::to_vec(name).map_err(|error| Refusal::bad(error.to_string()))?;
    drop(call.server().broker.set_entry(parameters::GLOBAL, CLUSTER_NAME, Some(&value))?);
    call.stored()?;
    done()
}

/// `GET /api/whoami`
pub fn whoami(call: &Call) -> Answer {
    ok(&json!({ "name": call.caller.name(), "tags": call.caller.tags() }))
}

/// `GET /api/auth`: how to log in. There is basic authentication and nothing else.
pub fn auth(_: &Call) -> Answer {
    ok(&json!({ "enable_uaa": false, "oauth_enabled": false, "uaa_client_id": "", "uaa_location": "" }))
}

/// `POST /api/rebalance/queues`: on one node they are where they can be.
pub fn rebalance(_: &Call) -> Answer {
    done()
}

/// `GET /api/extensions`: what RabbitMQ's plugins add to its pages. Ours has none.
pub fn extensions(_: &Call) -> Answer {
    ok(&Value::Array(Vec::new()))
}

/// What RabbitMQ 3.10 can be asked to do and what is always done here, with the reason in its words.
const FEATURE_FLAGS: [(&str, &str); 5] = [
    ("drop_unroutable_metric", "Count unroutable publishes to be dropped in stats"),
    ("empty_basic_get_metric", "Count AMQP `basic.get` on empty queues in stats"),
    ("implicit_default_bindings", "Default bindings are now implicit, instead of being stored in the database"),
    ("quorum_queue", "Support queues of type `quorum`"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)"),
];

/// `PUT /api/feature-flags/{name}/enable`: they all are.
pub fn enable_feature_flag(call: &Call) -> Answer {
    let is_known = FEATURE_FLAGS.iter().any(|(name, _)| *name == call.part("name"));
    if is_known { done() } else { Err(Refusal::missing()) }
}

/// `GET /api/feature-flags`
pub fn feature_flags(_: &Call) -> Answer {
    let show = |(name, about): (&str, &str)| {
        json!({
            "name": name,
            "desc": about,
            "doc_url": "",
            "state": "enabled",
            "stability": "stable",
            "provided_by": "leveret",
        })
    };
    ok(&Value::Array(FEATURE_FLAGS.into_iter().map(show).collect()))
}
