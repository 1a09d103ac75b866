//! Exchanges: listed, declared, deleted.

use super::answer::{Answer, Refusal, done, ok, put};
use super::call::{Call, expected};
use super::fields::{Columns, Fields};
use super::fieldtable;
use super::listing::List;
use super::stats::round;
use crate::auth::Permission;
use leveret_broker::table::Value as Field;
use leveret_broker::{ExchangeDeclare, ExchangeInfo, VirtualHost};
use serde_json::{Value, json};
use std::sync::Arc;

/// An exchange with its virtual host.
struct Listed {
    vhost: Arc<str>,
    exchange: ExchangeInfo,
}

/// What the default exchange is called in paths, where its own name would be nothing.
const DEFAULT: &str = "amq.default";

/// `GET /api/exchanges`
pub fn list_all(call: &Call) -> Answer {
    list(call, &call.visible_vhosts())
}

/// `GET /api/exchanges/{vhost}`
pub fn list_in(call: &Call) -> Answer {
    list(call, &[call.vhost()?])
}

fn list(call: &Call, vhosts: &[Arc<VirtualHost>]) -> Answer {
    let mut items = Vec::new();
    for vhost in vhosts {
        let mut exchanges = vhost.exchanges();
        exchanges.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        items.extend(exchanges.into_iter().map(|exchange| Listed { vhost: vhost.name().clone(), exchange }));
    }
    let fill = |listed: &Listed, fields: &mut Fields<'_>| fill(call, listed, fields);
    List { items, name: |listed: &Listed| &*listed.exchange.name, fill }.answer(&call.query)
}

/// `GET /api/exchanges/{vhost}/{name}`
pub fn get(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let exchange = vhost.exchange_info(name_in(call)).ok_or_else(Refusal::missing)?;
    let columns = Columns::of(&call.query);
    let mut fields = Fields::new(&columns);
    // RabbitMQ's rates by channel and by queue, which are off there, too, unless rates_mode is detailed.
    fields.put("incoming", Vec::<Value>::new());
    fields.put("outgoing", Vec::<Value>::new());
    fill(call, &Listed { vhost: vhost.name().clone(), exchange }, &mut fields);
    ok(&fields.finish())
}

fn fill(call: &Call, listed: &Listed, fields: &mut Fields<'_>) {
    let exchange = &listed.exchange;
    fields.put("name", &*exchange.name);
    fields.put("vhost", &*listed.vhost);
    fields.put("type", exchange.kind);
    fields.put("durable", exchange.durable);
    fields.put("auto_delete", exchange.auto_delete);
    fields.put("internal", exchange.internal);
    fields.put_with("arguments", || fieldtable::to_json(exchange.arguments.as_table()));
    fields.put("user_who_performed_action", call.caller.name());
    if let Some(policy) = &exchange.policies.policy {
        fields.put("policy", policy.name.as_str());
    }
    let counters = exchange.counters;
    if fields.wants("message_stats") && counters.published_in > 0 {
        let rates = call.api.rates.exchange(&(listed.vhost.clone(), exchange.name.clone()));
        let stats = json!({
            "publish_in": counters.published_in,
            "publish_in_details": { "rate": round(rates[0]) },
            "publish_out": counters.published_out,
            "publish_out_details": { "rate": round(rates[1]) },
        });
        fields.put("message_stats", stats);
    }
    fields.put("leveret", json!({ "unroutable": counters.unroutable, "waiting": exchange.delayed }));
}

/// The exchange in the path, by its real name.
pub fn name_in(call: &Call) -> &str {
    real_name(call.part("name"))
}

/// The name that an exchange in a path has.
pub fn real_name(name: &str) -> &str {
    if name == DEFAULT { "" } else { name }
}

/// `PUT /api/exchanges/{vhost}/{name}`
pub fn declare(call: &Call) -> Answer {
    let vhost = call.vhost_for_change()?;
    let name = name_in(call);
    if name.len() > 255 {
        return Err(Refusal::bad(format!("name: it has {} bytes, and at most 255 are possible", name.len())));
    }
    let body = call.body()?;
    let arguments = fieldtable::from_json(&body.object("arguments")?, "arguments")?;
    call.check(Permission::Configure, "exchange", name)?;
    match arguments.get("alternate-exchange") {
        None => {}
        Some(Field::LongString(alternate)) => {
            call.check(Permission::Read, "exchange", name)?;
            call.check(Permission::Write, "exchange", &String::from_utf8_lossy(alternate))?;
        }
        Some(_) => return Err(expected("arguments", "the name of an exchange as alternate-exchange", &json!(null))),
    }
    let is_new = vhost.exchange_info(name).is_none();
    vhost.declare_exchange(ExchangeDeclare {
        name,
        kind: body.text("type")?.unwrap_or("direct"),
        durable: body.flag("durable")?.unwrap_or(false),
        auto_delete: body.flag("auto_delete")?.unwrap_or(false),
        internal: body.flag("internal")?.unwrap_or(false),
        arguments: arguments.as_table(),
    })?;
    call.stored()?;
    put(is_new)
}

/// `DELETE /api/exchanges/{vhost}/{name}`
pub fn delete(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost()?, name_in(call));
    vhost.exchange_info(name).ok_or_else(Refusal::missing)?;
    call.check(Permission::Configure, "exchange", name)?;
    vhost.delete_exchange(name, call.query.is_true("if-unused"))?;
    call.stored()?;
    done()
}
