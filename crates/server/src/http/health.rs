//! Health checks: 200 and `ok`, or 503 and why not.

use super::answer::{Answer, Refusal, ok, with};
use super::call::Call;
use super::node;
use super::queues::Desk;
use crate::auth::Permission;
use axum::http::StatusCode;
use leveret_broker::{Broker, Content, QueueDeclare, QueueState};
use serde_json::{Value, json};

/// Alarms that are on now.
pub fn alarms(broker: &Broker) -> Vec<Value> {
    let alarm = |resource: &str| json!({ "node": node::name(), "resource": resource });
    let memory = broker.is_short_of_memory().then(|| alarm("memory"));
    let disk = broker.is_disk_full().then(|| alarm("disk"));
    memory.into_iter().chain(disk).collect()
}

/// `GET /api/alarms`: what needs somebody now. Queues whose messages are damaged are among it.
pub fn list_alarms(call: &Call) -> Answer {
    let broker = &call.server().broker;
    let mut alarms = Vec::new();
    if broker.is_short_of_memory() {
        let reason = format!("messages have {} of {} bytes", broker.memory_used(), broker.limits().max_memory);
        alarms.push(json!({ "name": "memory", "node": node::name(), "reason": reason }));
    }
    if broker.is_disk_full() {
        let reason = format!("less than {} bytes are free", broker.limits().min_free_disk);
        alarms.push(json!({ "name": "disk", "node": node::name(), "reason": reason }));
    }
    if let Some(why) = broker.failure() {
        alarms.push(json!({ "name": "log", "node": node::name(), "reason": why }));
    }
    for vhost in call.visible_vhosts() {
        vhost.visit_queues(
            |_| true,
            |queue| {
                if queue.state == QueueState::Damaged {
                    let (vhost, queue) = (&**vhost.name(), &*queue.name);
                    let reason = format!("messages of queue '{queue}' in vhost '{vhost}' are damaged on disk");
                    alarms.push(json!({ "name": "damage", "vhost": vhost, "queue": queue, "reason": reason }));
                }
            },
        );
    }
    ok(&Value::Array(alarms))
}

/// `GET /api/health/checks/alarms` and `.../local-alarms`: there is one node.
pub fn check_alarms(call: &Call) -> Answer {
    let alarms = alarms(&call.server().broker);
    if alarms.is_empty() {
        return good();
    }
    let reason = "There are alarms in effect in the cluster";
    failed(json!({ "reason": reason, "alarms": alarms }))
}

fn good() -> Answer {
    ok(&json!({ "status": "ok" }))
}

fn failed(mut more: Value) -> Answer {
    more["status"] = "failed".into();
    Ok(with(StatusCode::SERVICE_UNAVAILABLE, &more))
}

/// `GET /api/health/checks/virtual-hosts`: all of them run as long as the log can be written.
pub fn check_vhosts(call: &Call) -> Answer {
    match call.server().broker.failure() {
        None => good(),
        Some(why) => {
            let names: Vec<String> = call.server().broker.vhosts().iter().map(|it| it.name().to_string()).collect();
            failed(json!({ "reason": why, "virtual-hosts": names }))
        }
    }
}

/// `GET /api/health/checks/port-listener/{port}`
pub fn check_port(call: &Call) -> Answer {
    let Ok(port) = call.part("port").parse::<u16>() else { return Err(Refusal::bad("Invalid port")) };
    let ports: Vec<u16> = call.server().listeners().iter().map(|listening| listening.address.port()).collect();
    match ports.contains(&port) {
        true => ok(&json!({ "status": "ok", "port": port })),
        false => failed(json!({ "reason": "No active listener", "missing": port, "ports": ports })),
    }
}

/// `GET /api/health/checks/protocol-listener/{protocol}`
pub fn check_protocol(call: &Call) -> Answer {
    let asked = call.part("protocol");
    let wanted = match asked {
        "amqp" | "amqp091" | "amqp0.9.1" | "amqp-0-9-1" => "amqp",
        other => other,
    };
    let mut protocols: Vec<&str> = call.server().listeners().iter().map(|listening| listening.protocol).collect();
    protocols.dedup();
    match protocols.contains(&wanted) {
        true => ok(&json!({ "status": "ok", "protocol": wanted })),
        false => failed(json!({ "reason": "No active listener", "missing": asked, "protocols": protocols })),
    }
}

/// `GET /api/health/checks/certificate-expiration/{within}/{unit}`: there are no certificates that could expire.
pub fn check_certificates(call: &Call) -> Answer {
    let units = ["days", "weeks", "months", "years"];
    let within = call.part("within").parse::<u32>().is_ok_and(|within| within > 0);
    match within && units.contains(&call.part("unit")) {
        true => good(),
        false => Err(Refusal::bad("Invalid expiration value.")),
    }
}

/// `GET /api/health/checks/node-is-mirror-sync-critical` and `.../node-is-quorum-critical`
pub fn check_copies(_: &Call) -> Answer {
    ok(&json!({ "status": "ok", "reason": "single node cluster" }))
}

/// `GET /api/health/checks/ready-to-serve-clients`: it listens, its log can be written, and publishers are not blocked.
pub fn check_ready(call: &Call) -> Answer {
    let broker = &call.server().broker;
    if let Some(why) = broker.failure() {
        return failed(json!({ "reason": why }));
    }
    if !call.server().listeners().iter().any(|listening| listening.protocol == "amqp") {
        return failed(json!({ "reason": "No active listener for AMQP" }));
    }
    match broker.is_blocked() {
        true => failed(json!({ "reason": format!("publishers are blocked: {}", broker.blocked_reason()) })),
        false => good(),
    }
}

/// `GET /api/health/checks/is-in-service`
pub fn check_in_service(_: &Call) -> Answer {
    good()
}

/// `GET /api/aliveness-test/{vhost}`: publishes a message and gets it back.
pub fn check_alive(call: &Call) -> Answer {
    const QUEUE: &str = "aliveness-test";
    let vhost = call.vhost()?;
    let access = call.access()?;
    let allowed = [Permission::Configure, Permission::Write, Permission::Read]
        .into_iter()
        .try_for_each(|permission| access.check(permission, "queue", QUEUE));
    allowed.map_err(|error| Refusal::not_allowed(format!("ACCESS_REFUSED - {}", error.text)))?;
    {
        let mut desk = Desk::open(call, vhost.clone());
        let (channel, session) = desk.parts();
        let declare = QueueDeclare {
            name: QUEUE,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: leveret_broker::table::Table::EMPTY,
        };
        channel.declare_queue(session, declare)?;
    }
    let client = call.server().broker.connect_to(vhost.name())?;
    call.wait(client.publish("", QUEUE, Content::from("test_message").transient()))??;
    let got = client.get(QUEUE)?;
    match got.map(|message| message.ack()) {
        Some(_) => good(),
        None => failed(json!({ "reason": "the message that was published did not come back" })),
    }
}
