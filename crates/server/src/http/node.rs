//! The node: this process and its machine. There is one.

use super::answer::{Answer, Refusal, ok};
use super::call::Call;
use super::fields::{Columns, Fields};
use crate::auth::Door;
use crate::server::Server;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The version of RabbitMQ whose API this is.
pub const RABBITMQ_VERSION: &str = "3.10.8";

/// Leveret's own.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The node's name: `leveret@` and the machine's.
pub fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().split('.').next().unwrap_or_default();
        format!("leveret@{}", if host.is_empty() { "localhost" } else { host })
    })
}

/// `GET /api/nodes`
pub fn list(call: &Call) -> Answer {
    let columns = Columns::of(&call.query);
    ok(&Value::Array(vec![show(call.server(), &columns)]))
}

/// `GET /api/nodes/{node}`
pub fn get(call: &Call) -> Answer {
    check(call)?;
    ok(&show(call.server(), &Columns::of(&call.query)))
}

/// `GET /api/nodes/{node}/memory`
pub fn memory(call: &Call) -> Answer {
    check(call)?;
    let (total, messages) = (memory_used(), call.server().broker.memory_used());
    let other = total.saturating_sub(messages);
    // Clients require all names, most of which are of Erlang's parts: there are none.
    let mut memory: Map<String, Value> = ERLANG_MEMORY.iter().map(|name| (name.to_string(), json!(0))).collect();
    memory.insert("binary".to_string(), json!(messages));
    memory.insert("other_system".to_string(), json!(other));
    memory.insert("strategy".to_string(), json!("rss"));
    memory.insert("total".to_string(), json!({ "rss": total, "allocated": total, "erlang": total }));
    ok(&json!({ "memory": memory }))
}

/// What RabbitMQ up to 4.2 tells the memory of, beside what is told here.
const ERLANG_MEMORY: &[&str] = &[
    "allocated_unused",
    "atom",
    "code",
    "connection_channels",
    "connection_other",
    "connection_readers",
    "connection_writers",
    "metadata_store",
    "metadata_store_ets",
    "metrics",
    "mgmt_db",
    "mnesia",
    "msg_index",
    "other_ets",
    "other_proc",
    "plugins",
    "queue_procs",
    "queue_slave_procs",
    "quorum_ets",
    "quorum_queue_dlx_procs",
    "quorum_queue_procs",
    "reserved_unallocated",
    "stream_queue_coordinator_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
];

/// `GET /api/auth/attempts/{node}`: logins since the start.
pub fn auth_attempts(call: &Call) -> Answer {
    check(call)?;
    let of = |protocol: &str, door| {
        let (succeeded, failed) = call.server().users.attempts(door);
        json!({
            "protocol": protocol,
            "auth_attempts": succeeded + failed,
            "auth_attempts_failed": failed,
            "auth_attempts_succeeded": succeeded,
        })
    };
    ok(&json!([of("amqp091", Door::Amqp), of("http", Door::Http)]))
}

/// 404 unless the path names this node.
///
/// # Errors
/// If it names another.
pub fn check(call: &Call) -> Result<(), Refusal> {
    if call.part("node") == name() { Ok(()) } else { Err(Refusal::missing()) }
}

/// Types of exchanges, with RabbitMQ's descriptions where they are RabbitMQ's.
pub fn exchange_types() -> Value {
    let types = [
        ("direct", "AMQP direct exchange, as per the AMQP specification"),
        ("fanout", "AMQP fanout exchange, as per the AMQP specification"),
        ("headers", "AMQP headers exchange, as per the AMQP specification"),
        ("topic", "AMQP topic exchange, as per the AMQP specification"),
        ("x-delayed-message", "Messages wait in it for as long as their header x-delay says"),
        ("x-message-deduplication", "Leaves out messages that were published before"),
    ];
    let types = types.map(|(name, about)| json!({ "name": name, "description": about, "enabled": true }));
    Value::Array(types.to_vec())
}

fn show(server: &Server, columns: &Columns) -> Value {
    let mut fields = Fields::new(columns);
    let (broker, limits) = (&server.broker, server.broker.limits());
    fields.put("name", name());
    fields.put("type", "disc");
    fields.put("running", true);
    fields.put("being_drained", false);
    fields.put("partitions", Vec::<Value>::new());
    fields.put("cluster_links", Vec::<Value>::new());
    fields.put("os_pid", std::process::id().to_string());
    fields.put("rates_mode", "basic");
    fields.put("uptime", uptime(server));
    fields.put("processors", std::thread::available_parallelism().map_or(1, usize::from));
    fields.put_with("run_queue", run_queue);
    fields.put_with("exchange_types", exchange_types);
    fields.put_with("auth_mechanisms", || {
        let plain = json!({ "name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true });
        let amqplain = json!({ "name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true });
        vec![plain, amqplain]
    });
    fields
        .put_with("applications", || vec![json!({ "name": "leveret", "description": "Leveret", "version": VERSION })]);
    fields.put("enabled_plugins", vec![json!("rabbitmq_management")]);
    fields.put("contexts", super::overview::contexts(server));
    fields.put("fd_total", file_limit());
    fields.put_with("fd_used", files_open);
    fields.put("sockets_total", server.limits.max_connections);
    fields.put("sockets_used", server.registry.len());
    fields.put_with("mem_used", memory_used);
    fields.put("mem_limit", limits.max_memory);
    fields.put("mem_alarm", broker.is_short_of_memory());
    fields.put("mem_calculation_strategy", "rss");
    fields.put("disk_free_limit", limits.min_free_disk);
    fields.put_with("disk_free", || broker.disk_free());
    fields.put("disk_free_alarm", broker.is_disk_full());
    fields.put("net_ticktime", 60);
    if let Some(disk) = broker.statistics().disk {
        fields.put("write_amplification", disk.write_amplification());
        fields.put("recovery_seconds", disk.recovery.time.as_secs_f64());
        fields.put("log_pending", disk.pending);
    }
    let (opened, closed) = server.registry.churn();
    fields.put("connection_created", opened);
    fields.put("connection_closed", closed);
    fields.finish()
}

/// Milliseconds since the server was made.
pub fn uptime(server: &Server) -> u64 {
    let since = SystemTime::now().duration_since(server.started_at).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes of memory that this process has, as the kernel counts them; 0 if it does not tell.
pub fn memory_used() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

/// Tasks that are ready to run on this machine; 0 if the kernel does not tell.
fn run_queue() -> u64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = load.split_ascii_whitespace().nth(3).and_then(|tasks| tasks.split('/').next()?.parse().ok());
    tasks.unwrap_or(0)
}

/// Files that this process has open; 0 if the kernel does not tell.
pub fn files_open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Files that this process may have open.
pub fn file_limit() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}
