//! Applications that use the SDK, as a graph: topics, their subscriptions and dead letters, and who handles them. They are
//! known by their names (docs/wire-contract.md).

use super::answer::{Answer, ok};
use super::call::Call;
use super::fieldtable;
use super::rates::{COUNTS, QUEUE_VALUES};
use super::stats::round;
use crate::registry::ConnectionInfo;
use leveret_broker::{BindingInfo, ConsumerInfo, Destination, QueueInfo, VirtualHost};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Nodes in an answer: more could not be drawn.
const NODES_MAX: usize = 1000;

/// What is in front of the name of a queue of requests.
const RPC: &str = "leveret.rpc.";

/// Where rates are among a queue's values.
const PUBLISH: usize = 0;
const HANDED_OUT: usize = 11;
const DEAD: usize = COUNTS.len() + 2;

#[derive(Default)]
struct Graph {
    nodes: Vec<Value>,
    edges: Vec<Value>,
    known: BTreeSet<String>,
}

/// `GET /api/apps`
pub fn list(call: &Call) -> Answer {
    let connections: FxHashMap<u64, Arc<ConnectionInfo>> =
        call.server().registry.connections().into_iter().map(|it| (it.id, it)).collect();
    let mut graph = Graph::default();
    for vhost in call.visible_vhosts() {
        draw(call, &vhost, &connections, &mut graph);
    }
    let truncated = graph.nodes.len() >= NODES_MAX;
    ok(&json!({ "nodes": graph.nodes, "edges": graph.edges, "truncated": truncated }))
}

type Connections = FxHashMap<u64, Arc<ConnectionInfo>>;

fn draw(call: &Call, vhost: &Arc<VirtualHost>, connections: &Connections, graph: &mut Graph) {
    let topics = vhost.bindings();
    let mut topics: Vec<&BindingInfo> = topics.iter().filter(|binding| subscription_of(binding).is_some()).collect();
    topics.sort_by(|a, b| (&a.source, subscription_of(a)).cmp(&(&b.source, subscription_of(b))));
    for binding in topics {
        let Destination::Queue(queue) = &binding.destination else { continue };
        let Some(queue) = vhost.queue_info(queue) else { continue };
        let topic = graph.topic(vhost.name(), &binding.source);
        graph.subscription(call, vhost, connections, (&topic, binding), &queue);
    }
    let mut requests = Vec::new();
    vhost.visit_queues(|name| name.starts_with(RPC), |queue| requests.push(queue));
    requests.sort_by(|a, b| a.name.cmp(&b.name));
    for queue in requests {
        let id = graph.queue(vhost.name(), &queue, "subscription", queue.name.trim_start_matches(RPC));
        graph.handlers(call, vhost, connections, &id, &queue);
    }
}

/// The name of the subscription that a binding is for: it leads from a topic, which has the key nothing, to a queue whose name is the
/// topic's with the subscription's behind it.
fn subscription_of(binding: &BindingInfo) -> Option<&str> {
    let Destination::Queue(queue) = &binding.destination else { return None };
    let name = queue.strip_prefix(&*binding.source)?.strip_prefix('.')?;
    // That of a broadcast has a receiver's number behind it.
    let subscription = name.split('.').next()?;
    let is_name = !binding.source.is_empty() && !subscription.is_empty() && binding.key.is_empty();
    is_name.then_some(name)
}

impl Graph {
    /// True if it was not there, and there is room.
    fn is_new(&mut self, id: &str) -> bool {
        self.nodes.len() < NODES_MAX && self.known.insert(id.to_string())
    }

    fn topic(&mut self, vhost: &str, exchange: &str) -> String {
        let id = format!("topic {vhost} {exchange}");
        if self.is_new(&id) {
            let node = json!({ "id": id, "kind": "topic", "vhost": vhost, "name": exchange, "exchange": exchange });
            self.nodes.push(node);
        }
        id
    }

    fn queue(&mut self, vhost: &str, queue: &QueueInfo, kind: &str, name: &str) -> String {
        let id = format!("{kind} {vhost} {}", queue.name);
        if self.is_new(&id) {
            self.nodes.push(json!({
                "id": id,
                "kind": kind,
                "vhost": vhost,
                "name": name,
                "queue": &*queue.name,
                "messages": queue.ready + queue.waiting + queue.unacked,
                "waiting": queue.waiting,
                "oldest_at": queue.oldest,
                "consumers": queue.consumers,
            }));
        }
        id
    }

    fn edge(&mut self, from: &str, to: &str, kind: &str, rate: Option<f32>) {
        if self.known.contains(from) && self.known.contains(to) {
            self.edges.push(json!({ "from": from, "to": to, "kind": kind, "rate": rate.map(round) }));
        }
    }

    fn subscription(
        &mut self,
        call: &Call,
        vhost: &Arc<VirtualHost>,
        connections: &Connections,
        (topic, binding): (&str, &BindingInfo),
        queue: &QueueInfo,
    ) {
        let name = subscription_of(binding).unwrap_or(&queue.name).to_string();
        let id = self.queue(vhost.name(), queue, "subscription", &name);
        let rates = self.rates(call, vhost, queue);
        self.edge(topic, &id, "delivers to", Some(rates[PUBLISH]));
        if let (Some(filter), Some(edge)) = (binding.arguments.get("x-filter"), self.edges.last_mut()) {
            edge["filter"] = filter.as_bytes().map(fieldtable::text).unwrap_or_default();
        }
        if let Some(dead) = vhost.queue_info(&format!("{}.dead", queue.name)) {
            let to = self.queue(vhost.name(), &dead, "dead", &format!("{name}.dead"));
            self.edge(&id, &to, "dead letters", Some(rates[DEAD]));
        }
        self.handlers(call, vhost, connections, &id, queue);
    }

    fn rates(&self, call: &Call, vhost: &VirtualHost, queue: &QueueInfo) -> [f32; QUEUE_VALUES] {
        call.api.rates.queue(&(vhost.name().clone(), queue.name.clone()))
    }

    /// The connections that consume from a queue.
    fn handlers(
        &mut self,
        call: &Call,
        vhost: &Arc<VirtualHost>,
        connections: &Connections,
        id: &str,
        queue: &QueueInfo,
    ) {
        let consumers = vhost.consumers_of(&queue.name);
        let sessions: BTreeSet<u64> = consumers.iter().map(|consumer: &ConsumerInfo| consumer.session).collect();
        let rate = self.rates(call, vhost, queue)[HANDED_OUT];
        // How they share it is not counted.
        let rate = (sessions.len() == 1).then_some(rate);
        for session in sessions {
            let handler = self.handler(session, connections.get(&session));
            self.edge(id, &handler, "is handled by", rate);
        }
    }

    fn handler(&mut self, session: u64, connection: Option<&Arc<ConnectionInfo>>) -> String {
        let id = format!("consumer {session}");
        if self.is_new(&id) {
            let text = |connection: &ConnectionInfo, key: &str| {
                connection.client_properties.get(key).as_ref().and_then(|value| value.as_str()).map(str::to_string)
            };
            let node = match connection {
                Some(connection) => {
                    let name = text(connection, "connection_name").or_else(|| text(connection, "product"));
                    let full = connection.name();
                    json!({
                        "id": id,
                        "kind": "consumer",
                        "name": name.unwrap_or_else(|| full.clone()),
                        "below": connection.peer.to_string(),
                        "connection": full,
                    })
                }
                None => json!({ "id": id, "kind": "consumer", "name": "this process", "below": "embedded" }),
            };
            self.nodes.push(node);
        }
        id
    }
}
