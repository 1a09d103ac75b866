//! A consumer: one connection, one thread.

use std::io::Read;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Result, bail};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic};
use leveret_wire::table::Table;

use super::args::{BenchArgs, Plan};
use super::clock::{self, Latency};
use super::run::{self, Counters, Run};
use super::scan::Scanner;
use crate::cli::client::{self, CHANNEL, Connection};

/// Few consumers read large pieces; many share the processor's cache.
const BUFFER: usize = 256 << 10;
const SMALL_BUFFER: usize = 64 << 10;
const MANY: usize = 8;

/// How often an idle consumer looks whether the run is over.
const IDLE: Duration = Duration::from_millis(100);

/// Consumes until the run stops; returns the end-to-end latencies.
///
/// # Errors
/// When the connection fails or the broker ends it.
pub fn consume(args: &BenchArgs, plan: &Plan, run: &Run, index: usize, mut connection: Connection) -> Result<Latency> {
    // Everybody waits at both barriers, whatever has gone wrong.
    let outcome = set_prefetch(args, &mut connection);
    run.opened.wait();
    let outcome = outcome.and_then(|()| start(args, plan, index, &mut connection));
    run.consuming.wait();
    outcome?;
    let mut scanner = Scanner::new(args.ack, tag(plan, index, 0).len());
    let mut latency = Latency::start();
    let (mut stream, input) = connection.into_parts();
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let size = if run.consumers.len() > MANY { SMALL_BUFFER } else { BUFFER };
    // A frame that is larger than the buffer could never be read.
    let mut buffer = vec![0; size.max(input.len() + 2 * client::FRAME_MAX as usize)];
    let mut filled = input.len();
    buffer[..filled].copy_from_slice(&input);
    let mut acks = Vec::new();
    while !run.stopped() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(size) => filled += size,
            Err(error) if run::is_timeout(&error) => acknowledge_rest(&mut scanner, &mut acks),
            Err(error) => return Err(error.into()),
        }
        latency.now = clock::now();
        latency.recording = run.recording.load(Relaxed);
        let used = scanner.scan(&buffer[..filled], &mut acks, &mut latency)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
        count(&run.consumers[index], &scanner, latency.now);
        if !acks.is_empty() {
            run::write_all(&mut stream, &acks, run)?;
            acks.clear();
        }
    }
    acknowledge_rest(&mut scanner, &mut acks);
    if run::write_all(&mut stream, &acks, run)? {
        Connection::from_parts(stream, buffer[..filled].to_vec()).close();
    }
    Ok(latency)
}

fn set_prefetch(args: &BenchArgs, connection: &mut Connection) -> Result<()> {
    if args.prefetch > 0 {
        let qos = basic::Qos { prefetch_size: 0, prefetch_count: args.prefetch, global: false };
        connection.call(qos.into(), |method| matches!(method, Method::BasicQosOk(_)).then_some(()))?;
    }
    Ok(())
}

/// Begins to consume from all of this consumer's queues. Only with one queue the broker's answer is waited for: with
/// more, deliveries from the first would be under way before the answer for the last, and be taken for it.
fn start(args: &BenchArgs, plan: &Plan, index: usize, connection: &mut Connection) -> Result<()> {
    let queues = &plan.consumer_queues[index];
    let no_wait = queues.len() > 1;
    let mut frames = Vec::new();
    for (i, queue) in queues.iter().enumerate() {
        let consume = basic::Consume {
            queue,
            consumer_tag: &tag(plan, index, i),
            no_local: false,
            no_ack: args.ack == 0,
            exclusive: false,
            no_wait,
            arguments: Table::EMPTY,
        };
        if !no_wait {
            let answered = |method: Method<'_>| matches!(method, Method::BasicConsumeOk(_)).then_some(());
            return connection.call(consume.into(), answered);
        }
        frame::write_method(&mut frames, CHANNEL, &consume.into());
    }
    connection.send_frames(&frames)
}

/// The consumer tag for one of a consumer's queues. All have the same length, and it is as short as can be: it is part
/// of every delivery.
fn tag(plan: &Plan, consumer: usize, queue: usize) -> String {
    match plan.consumer_queues[consumer].len() {
        1 => "c".to_owned(),
        count => format!("{queue:0width$}", width = (count - 1).to_string().len()),
    }
}

/// When nothing more arrives, what is left of the last stride is acknowledged too: otherwise it would be requeued.
fn acknowledge_rest(scanner: &mut Scanner, acks: &mut Vec<u8>) {
    if scanner.ack_every != 0 && scanner.last_tag > scanner.acked_tag {
        scanner.acked_tag = scanner.last_tag;
        client::write_ack(acks, scanner.last_tag);
    }
}

fn count(counters: &Counters, scanner: &Scanner, now: u64) {
    if counters.messages.load(Relaxed) != scanner.messages {
        counters.messages.store(scanner.messages, Relaxed);
        counters.bytes.store(scanner.body_bytes, Relaxed);
        counters.last.store(now, Relaxed);
    }
}
