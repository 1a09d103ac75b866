//! The broker as its users see it. Most tests are scripts, see `broker/script.rs`; one binary, so one link.

#[path = "broker/client.rs"]
mod client;
#[path = "broker/consumers.rs"]
mod consumers;
#[path = "broker/dedup.rs"]
mod dedup;
#[path = "broker/dedup_disk.rs"]
mod dedup_disk;
#[path = "broker/delays.rs"]
mod delays;
#[path = "broker/ends.rs"]
mod ends;
#[path = "broker/exchanges.rs"]
mod exchanges;
#[path = "broker/fairness.rs"]
mod fairness;
#[path = "broker/filters.rs"]
mod filters;
#[path = "broker/groups.rs"]
mod groups;
#[path = "broker/groups_model.rs"]
mod groups_model;
#[path = "broker/model.rs"]
mod model;
#[path = "broker/modes.rs"]
mod modes;
#[path = "broker/operate.rs"]
mod operate;
#[path = "broker/operating.rs"]
mod operating;
#[path = "broker/order.rs"]
mod order;
#[path = "broker/policies.rs"]
mod policies;
#[path = "broker/queues.rs"]
mod queues;
#[path = "broker/restarts.rs"]
mod restarts;
#[path = "broker/retries.rs"]
mod retries;
#[path = "broker/script.rs"]
mod script;
#[path = "broker/settling.rs"]
mod settling;
#[path = "broker/threads.rs"]
mod threads;
