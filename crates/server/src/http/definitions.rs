//! Definitions: users, virtual hosts, permissions, policies, queues, exchanges and bindings in RabbitMQ's JSON format.

use super::answer::{Answer, Refusal, done, ok, with_header};
use super::call::{Body, Call, expected};
use super::fields::{Columns, Fields};
use super::fieldtable;
use super::node::{RABBITMQ_VERSION, VERSION};
use super::vhosts::Metadata;
use super::{parameters, permissions, policies, users};
use crate::auth::{Permissions, TopicPermissions, Users};
use axum::http::header;
use leveret_broker::{
    Broker, Channel, Destination, ExchangeDeclare, PolicyKind, QueueDeclare, VirtualHost, has_effect, policy_has_effect,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `GET /api/definitions`
pub fn export_all(call: &Call) -> Answer {
    let (broker, users) = (&call.server().broker, &call.server().users);
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    fields.put("rabbit_version", RABBITMQ_VERSION);
    fields.put("rabbitmq_version", RABBITMQ_VERSION);
    fields.put("product_name", "Leveret");
    fields.put("product_version", VERSION);
    fields.put("users", users.users().iter().map(|user| users::show(broker, user)).collect::<Vec<_>>());
    fields.put("permissions", users.rights().iter().map(permissions::show).collect::<Vec<_>>());
    fields.put("topic_permissions", users.topic_rights().iter().map(permissions::show_topic).collect::<Vec<_>>());
    fields.put("global_parameters", parameters::shown_global(broker));
    let vhosts = broker.vhosts();
    fields.put("vhosts", vhosts.iter().map(|vhost| vhost_of(broker, vhost)).collect::<Vec<_>>());
    put_all(broker, &vhosts, true, &mut fields);
    answer(call, &fields.finish())
}

/// `GET /api/definitions/{vhost}`
pub fn export_vhost(call: &Call) -> Answer {
    let broker = &call.server().broker;
    let vhost = broker.vhost(call.part("vhost")).ok_or_else(|| Refusal::bad("vhost_not_found"))?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    fields.put("rabbit_version", RABBITMQ_VERSION);
    put_all(broker, &[vhost], false, &mut fields);
    answer(call, &fields.finish())
}

fn answer(call: &Call, definitions: &Value) -> Answer {
    let response = ok(definitions)?;
    match call.query.get("download") {
        None => Ok(response),
        Some(name) => {
            let safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let name: String = name.chars().filter(safe).take(100).collect();
            let name = if name.is_empty() { "definitions.json".to_string() } else { name };
            Ok(with_header(response, header::CONTENT_DISPOSITION, &format!("attachment; filename={name}")))
        }
    }
}

fn vhost_of(broker: &Broker, vhost: &VirtualHost) -> Value {
    let metadata = Metadata::of(broker, vhost.name());
    let mut shown = json!({ "name": &**vhost.name() });
    if metadata != Metadata::default() {
        shown["description"] = metadata.description.clone().into();
        shown["tags"] = metadata.tags.clone().into();
        shown["metadata"] = json!({ "description": metadata.description, "tags": metadata.tags });
        if let Some(kind) = &metadata.default_queue_type {
            shown["default_queue_type"] = kind.as_str().into();
            shown["metadata"]["default_queue_type"] = kind.as_str().into();
        }
        if metadata.tracing {
            shown["tracing"] = true.into();
        }
    }
    shown
}

/// What is in virtual hosts; each with the name of its own if `named`.
fn put_all(broker: &Broker, vhosts: &[Arc<VirtualHost>], named: bool, fields: &mut Fields<'_>) {
    let (mut kept, mut rules, mut queues, mut exchanges, mut bindings) = (vec![], vec![], vec![], vec![], vec![]);
    for vhost in vhosts {
        kept.extend(parameters::shown(broker, vhost));
        rules.extend(policies::shown(vhost, PolicyKind::User));
        let own = |mut value: Value| {
            if named {
                value["vhost"] = (&**vhost.name()).into();
            }
            value
        };
        queues.extend(queues_of(vhost).into_iter().map(own));
        exchanges.extend(exchanges_of(vhost).into_iter().map(own));
        bindings.extend(bindings_of(vhost).into_iter().map(own));
    }
    fields.put("parameters", kept);
    fields.put("policies", rules);
    fields.put("queues", queues);
    fields.put("exchanges", exchanges);
    fields.put("bindings", bindings);
}

/// Those that are not one connection's own.
fn queues_of(vhost: &VirtualHost) -> Vec<Value> {
    let mut queues = vhost.queues();
    queues.retain(|queue| queue.owner.is_none());
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let show = |queue: &leveret_broker::QueueInfo| {
        json!({
            "name": &*queue.name,
            "durable": queue.durable,
            "auto_delete": queue.auto_delete,
            "arguments": fieldtable::to_json(queue.arguments.as_table()),
        })
    };
    queues.iter().map(show).collect()
}

/// Those that are not there anyway.
fn exchanges_of(vhost: &VirtualHost) -> Vec<Value> {
    let mut exchanges = vhost.exchanges();
    exchanges.retain(|exchange| !exchange.name.is_empty() && !exchange.name.starts_with("amq."));
    exchanges.sort_by(|a, b| a.name.cmp(&b.name));
    let show = |exchange: &leveret_broker::ExchangeInfo| {
        json!({
            "name": &*exchange.name,
            "type": exchange.kind,
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": fieldtable::to_json(exchange.arguments.as_table()),
        })
    };
    exchanges.iter().map(show).collect()
}

fn bindings_of(vhost: &VirtualHost) -> Vec<Value> {
    let exclusive: Vec<Arc<str>> =
        vhost.queues().into_iter().filter(|queue| queue.owner.is_some()).map(|queue| queue.name).collect();
    let show = |binding: leveret_broker::BindingInfo| {
        let (kind, name) = match &binding.destination {
            Destination::Queue(name) if exclusive.contains(name) => return None,
            Destination::Queue(name) => ("queue", name),
            Destination::Exchange(name) => ("exchange", name),
        };
        Some(json!({
            "source": &*binding.source,
            "destination": &**name,
            "destination_type": kind,
            "routing_key": &*binding.key,
            "arguments": fieldtable::to_json(binding.arguments.as_table()),
        }))
    };
    let mut shown: Vec<Value> = vhost.bindings().into_iter().filter_map(show).collect();
    shown.sort_by_cached_key(Value::to_string);
    shown
}

/// `POST /api/definitions`
pub fn import_all(call: &Call) -> Answer {
    import(call, None)
}

/// `POST /api/definitions/{vhost}`
pub fn import_vhost(call: &Call) -> Answer {
    let vhost = call.vhost_for_change()?;
    import(call, Some(vhost.name()))
}

fn import(call: &Call, vhost: Option<&str>) -> Answer {
    let Ok(Value::Object(definitions)) = serde_json::from_slice(&call.bytes) else {
        return Err(Refusal::bad("failed_to_parse_json"));
    };
    let idle = apply(&call.server().broker, &call.server().users, vhost, &definitions)?;
    call.stored()?;
    if idle.is_empty() {
        return done();
    }
    ok(&json!({ "without_effect": idle }))
}

/// The lists of definitions.
const LISTS: [&str; 10] = [
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
];

/// Takes definitions over, for the whole broker or into one virtual host. What is there already stays as it is, but users,
/// permissions, policies and parameters become what is said. Returns what has no effect here, by name.
///
/// It stops at the first mistake; what was before it is taken over.
///
/// # Errors
/// 400 that names what is wrong.
pub fn apply(
    broker: &Broker,
    users: &Users,
    vhost: Option<&str>,
    definitions: &Map<String, Value>,
) -> Result<Vec<String>, Refusal> {
    let lists = LISTS.map(|name| list(definitions, name));
    let [
        of_users,
        of_vhosts,
        of_permissions,
        of_topics,
        of_parameters,
        of_global,
        of_policies,
        queues,
        exchanges,
        bindings,
    ] = lists;
    let mut import = Import { broker, users, vhost, idle: Vec::new() };
    // Only the whole broker's definitions have these.
    if vhost.is_none() {
        each("users", of_users?, |item| import.user(item))?;
        each("vhosts", of_vhosts?, |item| import.vhost(item))?;
        each("permissions", of_permissions?, |item| import.permissions(item))?;
        each("topic_permissions", of_topics?, |item| import.topics(item))?;
        each("global_parameters", of_global?, |item| import.global(item))?;
    }
    each("parameters", of_parameters?, |item| import.parameter(item))?;
    each("policies", of_policies?, |item| import.policy(item))?;
    each("queues", queues?, |item| import.queue(item))?;
    each("exchanges", exchanges?, |item| import.exchange(item))?;
    each("bindings", bindings?, |item| import.binding(item))?;
    Ok(import.idle)
}

fn list<'a>(definitions: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], Refusal> {
    match definitions.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(expected(name, "a list", other)),
    }
}

/// Says of a mistake where it is.
fn each(name: &str, items: &[Value], mut take: impl FnMut(&Body) -> Result<(), Refusal>) -> Result<(), Refusal> {
    for (at, item) in items.iter().enumerate() {
        let Value::Object(item) = item else { return Err(expected(&format!("{name}[{at}]"), "an object", item)) };
        let what = item.get("name").and_then(Value::as_str).map_or(String::new(), |name| format!(" '{name}'"));
        take(&Body(item.clone())).map_err(|refusal| Refusal::bad(format!("{name}[{at}]{what}: {}", refusal.reason)))?;
    }
    Ok(())
}

/// Definitions on their way.
struct Import<'a> {
    broker: &'a Broker,
    users: &'a Users,
    vhost: Option<&'a str>,
    /// What has no effect.
    idle: Vec<String>,
}

impl Import<'_> {
    /// The virtual host of an item: the one that was asked for, or its own.
    fn home(&self, item: &Body) -> Result<Arc<VirtualHost>, Refusal> {
        let name = match self.vhost {
            Some(name) => name,
            None => item.need_text("vhost")?,
        };
        self.broker.vhost(name).ok_or_else(|| Refusal::bad(format!("vhost: there is no virtual host '{name}'")))
    }

    fn user(&mut self, item: &Body) -> Result<(), Refusal> {
        let name = item.need_text("name")?;
        let tags = item.texts("tags")?.unwrap_or_default();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        // Durable with the rest.
        drop(self.users.set_user(name, users::password(item)?, &tags).map_err(users::refuse)?);
        let limits = item.object("limits")?;
        self.idle.extend(limits.keys().map(|limit| format!("limit {limit} of user '{name}'")));
        parameters::keep_limits_of_user(self.broker, name, &limits)
    }

    fn vhost(&mut self, item: &Body) -> Result<(), Refusal> {
        let name = item.need_text("name")?;
        let more = Body(item.object("metadata")?);
        let text = |field: &str| -> Result<Option<String>, Refusal> {
            Ok(item.text(field)?.or(more.text(field)?).map(str::to_string))
        };
        let tags = match item.texts("tags")? {
            Some(tags) => tags,
            None => more.texts("tags")?.unwrap_or_default(),
        };
        let metadata = Metadata {
            description: text("description")?.unwrap_or_default(),
            tags,
            default_queue_type: text("default_queue_type")?.filter(|kind| kind != "undefined"),
            tracing: item.flag("tracing")?.unwrap_or(false),
        };
        if let Some(kind) = &metadata.default_queue_type {
            self.idle.push(format!("default_queue_type {kind} of vhost '{name}'"));
        }
        if metadata.tracing {
            self.idle.push(format!("tracing of vhost '{name}'"));
        }
        super::vhosts::create(self.broker, name, &metadata)?;
        Ok(())
    }

    fn permissions(&mut self, item: &Body) -> Result<(), Refusal> {
        let (user, vhost) = (item.need_text("user")?, self.home(item)?);
        let permissions = Permissions {
            configure: permissions::pattern(item, "configure")?,
            write: permissions::pattern(item, "write")?,
            read: permissions::pattern(item, "read")?,
        };
        self.check_user(user)?;
        drop(self.users.set_permissions(user, vhost.name(), permissions).map_err(users::refuse)?);
        Ok(())
    }

    fn check_user(&self, user: &str) -> Result<(), Refusal> {
        let known = self.users.user(user).is_some();
        if known { Ok(()) } else { Err(Refusal::bad(format!("user: there is no user '{user}'"))) }
    }

    fn topics(&mut self, item: &Body) -> Result<(), Refusal> {
        let (user, vhost, exchange) = (item.need_text("user")?, self.home(item)?, item.need_text("exchange")?);
        let permissions =
            TopicPermissions { write: permissions::pattern(item, "write")?, read: permissions::pattern(item, "read")? };
        self.check_user(user)?;
        let set = self.users.set_topic_permissions(user, vhost.name(), exchange, permissions);
        drop(set.map_err(users::refuse)?);
        Ok(())
    }

    fn global(&mut self, item: &Body) -> Result<(), Refusal> {
        item.needs(&["value"])?;
        parameters::keep_global(self.broker, item.need_text("name")?, &item.0["value"])?;
        Ok(())
    }

    fn parameter(&mut self, item: &Body) -> Result<(), Refusal> {
        item.needs(&["value"])?;
        let (vhost, component, name) = (self.home(item)?, item.need_text("component")?, item.need_text("name")?);
        if component == "operator_policy" {
            return self.policy_of(&vhost, PolicyKind::Operator, name, &Body(item.object("value")?));
        }
        self.idle.push(format!("parameter '{name}' of component {component} in vhost '{}'", vhost.name()));
        parameters::keep(self.broker, vhost.name(), component, name, &item.0["value"])
    }

    fn policy(&mut self, item: &Body) -> Result<(), Refusal> {
        let (vhost, name) = (self.home(item)?, item.need_text("name")?);
        self.policy_of(&vhost, PolicyKind::User, name, item)
    }

    fn policy_of(&mut self, vhost: &VirtualHost, kind: PolicyKind, name: &str, item: &Body) -> Result<(), Refusal> {
        policies::set_from(vhost, kind, name, item)?;
        let idle = item.object("definition")?.into_iter().map(|(key, _)| key).filter(|key| !policy_has_effect(key));
        self.idle.extend(idle.map(|key| format!("{key} of policy '{name}' in vhost '{}'", vhost.name())));
        Ok(())
    }

    fn queue(&mut self, item: &Body) -> Result<(), Refusal> {
        let (vhost, name) = (self.home(item)?, item.need_text("name")?);
        let mut arguments = item.object("arguments")?;
        // Beside the arguments since RabbitMQ 4.
        if let Some(kind) = item.text("type")?.filter(|kind| *kind != "classic") {
            arguments.entry("x-queue-type").or_insert_with(|| kind.into());
        }
        let arguments = fieldtable::from_json(&arguments, "arguments")?;
        if vhost.queue_info(name).is_some() {
            return Ok(());
        }
        let idle = arguments.as_table().iter().map(|(key, _)| key).filter(|key| !has_effect(key));
        self.idle.extend(idle.map(|key| format!("argument {key} of queue '{name}' in vhost '{}'", vhost.name())));
        let declare = QueueDeclare {
            name,
            durable: item.flag("durable")?.unwrap_or(true),
            exclusive: false,
            auto_delete: item.flag("auto_delete")?.unwrap_or(false),
            arguments: arguments.as_table(),
        };
        let mut session = self.broker.open_session(vhost);
        let mut channel = Channel::new(1);
        let declared = channel.declare_queue(&mut session, declare);
        channel.close(&mut session);
        declared?;
        Ok(())
    }

    fn exchange(&mut self, item: &Body) -> Result<(), Refusal> {
        let (vhost, name) = (self.home(item)?, item.need_text("name")?);
        let arguments = fieldtable::from_json(&item.object("arguments")?, "arguments")?;
        if vhost.exchange_info(name).is_some() {
            return Ok(());
        }
        let declare = ExchangeDeclare {
            name,
            kind: item.text("type")?.unwrap_or("direct"),
            durable: item.flag("durable")?.unwrap_or(true),
            auto_delete: item.flag("auto_delete")?.unwrap_or(false),
            internal: item.flag("internal")?.unwrap_or(false),
            arguments: arguments.as_table(),
        };
        Ok(vhost.declare_exchange(declare)?)
    }

    fn binding(&mut self, item: &Body) -> Result<(), Refusal> {
        let vhost = self.home(item)?;
        let (source, destination) = (item.need_text("source")?, item.need_text("destination")?);
        let key = item.text("routing_key")?.unwrap_or_default();
        let arguments = fieldtable::from_json(&item.object("arguments")?, "arguments")?;
        match item.text("destination_type")?.unwrap_or("queue") {
            "queue" => Ok(vhost.bind_queue(destination, source, key, arguments.as_table(), super::queues::NOBODY)?),
            "exchange" => Ok(vhost.bind_exchange(destination, source, key, arguments.as_table())?),
            other => Err(expected("destination_type", "queue or exchange", &json!(other))),
        }
    }
}
