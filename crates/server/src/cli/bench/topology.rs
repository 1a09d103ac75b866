//! Declaring what a benchmark needs at the broker, and removing it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_wire::method::{Method, exchange, queue};
use leveret_wire::table::{FieldTable, Table};

use super::args::{BenchArgs, Plan};
use crate::cli::client::Connection;

/// Declares the exchange, the queues and the bindings. Queues of an earlier run are deleted first.
///
/// # Errors
/// When the broker refuses.
pub fn declare(connection: &mut Connection, args: &BenchArgs, plan: &Plan) -> Result<()> {
    if let (Some(kind), false) = (plan.exchange_type, plan.exchange.starts_with("amq.")) {
        let mut arguments = FieldTable::new();
        if args.delayed {
            arguments.insert("x-delayed-type", kind.name());
        }
        let declare = exchange::Declare {
            exchange: &plan.exchange,
            r#type: if args.delayed { "x-delayed-message" } else { kind.name() },
            passive: false,
            durable: args.persistent,
            auto_delete: true,
            internal: false,
            no_wait: false,
            arguments: arguments.as_table(),
        };
        connection.call(declare.into(), |method| matches!(method, Method::ExchangeDeclareOk(_)).then_some(()))?;
    }
    delete(connection, plan)?;
    let mut arguments = FieldTable::new();
    args.queue_argument.iter().for_each(|field| field.insert(&mut arguments, |_| 0));
    for queue in &plan.queues {
        let declare = queue::Declare {
            queue,
            passive: false,
            durable: args.persistent,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: arguments.as_table(),
        };
        connection.call(declare.into(), |method| matches!(method, Method::QueueDeclareOk(_)).then_some(()))?;
    }
    for (queue, routing_key) in plan.bindings() {
        let bind =
            queue::Bind { queue, exchange: &plan.exchange, routing_key, no_wait: false, arguments: Table::EMPTY };
        connection.call(bind.into(), |method| matches!(method, Method::QueueBindOk(_)).then_some(()))?;
    }
    Ok(())
}

/// Deletes the queues with what they hold. A queue that doesn't exist is fine.
///
/// # Errors
/// When the broker refuses.
pub fn delete(connection: &mut Connection, plan: &Plan) -> Result<()> {
    for queue in &plan.queues {
        let delete = queue::Delete { queue, if_unused: false, if_empty: false, no_wait: false };
        connection.call(delete.into(), |method| matches!(method, Method::QueueDeleteOk(_)).then_some(()))?;
    }
    Ok(())
}

/// How many messages wait in all queues.
///
/// # Errors
/// When a queue doesn't exist.
pub fn backlog(connection: &mut Connection, plan: &Plan) -> Result<u64> {
    let mut total = 0;
    for queue in &plan.queues {
        total += depth(connection, queue).context("is there something to drain? Start with --fill-only")?;
    }
    Ok(total)
}

/// Waits until the queues hold `count` messages, as a broker that recovers in the background does at some time.
///
/// # Errors
/// When they don't within a minute, or hold more, or a queue doesn't exist.
pub fn await_backlog(connection: &mut Connection, plan: &Plan, count: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let waiting = backlog(connection, plan)?;
        if waiting == count {
            return Ok(());
        }
        ensure!(waiting < count, "the queues hold {waiting} messages, more than {count}");
        ensure!(Instant::now() < deadline, "the queues hold {waiting} messages after a minute, not {count}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How many messages wait in a queue. Since a broker serves a channel's methods in order, everything published on it
/// before has been taken in when the answer is here.
///
/// # Errors
/// When the queue doesn't exist.
pub fn depth(connection: &mut Connection, queue: &str) -> Result<u64> {
    let declare = queue::Declare {
        queue,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    connection.call(declare.into(), |method| match method {
        Method::QueueDeclareOk(ok) => Some(u64::from(ok.message_count)),
        _ => None,
    })
}
