//! The management API over real sockets, on a server in this process.
//!
//! `api` starts it and asks; `access` is about who may do what; `refusals` about bad requests; `listing` about lists;
//! `topology`, `messages`, `users`, `policies` and `definitions` about what can be changed; `events` about streams; `commands` are those of
//! the executable. `shapes` and `metrics` compare with what RabbitMQ 3.10 answered (`rabbitmq/`); `many` measures with ten thousand queues, when it is asked for.

mod access;
mod api;
mod commands;
mod definitions;
mod events;
mod listing;
mod many;
mod messages;
mod metrics;
mod policies;
mod refusals;
mod shapes;
mod topology;
mod users;
