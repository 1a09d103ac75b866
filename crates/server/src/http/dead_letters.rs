//! Queues to which others send their dead letters, and what those letters say of their death.

use super::answer::{Answer, ok};
use super::call::Call;
use crate::auth::Permission;
use leveret_broker::table::FieldTable;
use leveret_broker::{Browse, Destination, QueueInfo, VirtualHost};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Messages that are looked into for their reasons, in each queue.
const SAMPLE: usize = 500;

/// The time for that, in each queue, and queues for which there is time.
const PATIENCE: Duration = Duration::from_millis(100);
const QUEUES_MAX: usize = 100;

/// `GET /api/dead-letters`
pub fn list(call: &Call) -> Answer {
    let wanted = call.query.get("vhost");
    let mut rows = Vec::new();
    for vhost in call.visible_vhosts() {
        if wanted.is_some_and(|wanted| wanted != &**vhost.name()) {
            continue;
        }
        let access = call.caller.access(call.server(), vhost.name());
        for queue in buried_in(&vhost) {
            let may_read =
                access.as_ref().is_some_and(|access| access.check(Permission::Read, "queue", &queue).is_ok());
            let looks = may_read && rows.len() < QUEUES_MAX;
            rows.extend(show(&vhost, &queue, looks));
        }
    }
    ok(&Value::Array(rows))
}

/// Where a queue's arguments send what dies in it: exchange and key.
fn sends_to(arguments: &FieldTable) -> Option<(String, Option<String>)> {
    let text = |key: &str| arguments.get(key).as_ref().and_then(|value| value.as_str()).map(str::to_string);
    Some((text("x-dead-letter-exchange")?, text("x-dead-letter-routing-key")))
}

/// The same in its policies, whose names have no `x-`.
fn by_policy(queue: &QueueInfo) -> Option<(String, Option<String>)> {
    let effective = queue.policies.effective();
    let text = |key: &str| effective.get(key).as_ref().and_then(|value| value.as_str()).map(str::to_string);
    Some((text("dead-letter-exchange")?, text("dead-letter-routing-key")))
}

/// The queues that dead letters can get to, by name.
fn buried_in(vhost: &VirtualHost) -> Vec<Arc<str>> {
    let mut exchanges: FxHashSet<Arc<str>> = FxHashSet::default();
    let mut found: BTreeMap<Arc<str>, ()> = BTreeMap::new();
    vhost.visit_queues(
        |_| true,
        |queue| match sends_to(&queue.arguments).or_else(|| by_policy(&queue)) {
            Some((exchange, Some(key))) if exchange.is_empty() => drop(found.insert(key.into(), ())),
            Some((exchange, _)) if !exchange.is_empty() => drop(exchanges.insert(exchange.into())),
            _ => {}
        },
    );
    let mut todo: Vec<Arc<str>> = exchanges.iter().cloned().collect();
    while let Some(exchange) = todo.pop() {
        for binding in vhost.bindings_from(&exchange) {
            match binding.destination {
                Destination::Queue(queue) => drop(found.insert(queue, ())),
                Destination::Exchange(next) => {
                    if exchanges.insert(next.clone()) {
                        todo.push(next);
                    }
                }
            }
        }
    }
    found.into_keys().filter(|queue| vhost.queue_info(queue).is_some()).collect()
}

fn show(vhost: &VirtualHost, name: &str, looks: bool) -> Option<Value> {
    let queue = vhost.queue_info(name)?;
    let (mut reasons, mut sampled) = (FxHashMap::<(String, String), u64>::default(), 0);
    if looks && queue.ready + queue.waiting + queue.unacked > 0 {
        let asked = Browse { count: SAMPLE, max_body: 0, patience: PATIENCE, ..Browse::default() };
        for message in vhost.browse(name, &asked).ok()?.messages {
            sampled += 1;
            let properties = message.properties();
            let headers = properties.headers.unwrap_or_default();
            let text = |key: &str| headers.get(key).as_ref().and_then(|it| it.as_str()).map(str::to_string);
            if let (Some(reason), Some(queue)) = (text("x-first-death-reason"), text("x-first-death-queue")) {
                *reasons.entry((reason, queue)).or_default() += 1;
            }
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by(|(a_why, a), (b_why, b)| b.cmp(a).then_with(|| a_why.cmp(b_why)));
    let reasons =
        reasons.into_iter().map(|((reason, queue), count)| json!({ "reason": reason, "queue": queue, "count": count }));
    let age = queue.oldest.map(|at| super::now().saturating_sub(at) as f64 / 1000.0);
    Some(json!({
        "vhost": &**vhost.name(),
        "queue": name,
        "messages": queue.ready + queue.waiting + queue.unacked,
        "oldest_age": age,
        "sampled": sampled,
        "reasons": reasons.collect::<Vec<_>>(),
    }))
}
