//! The broker as an application uses it: what the documentation of `Client` promises, one test each. The threads and the
//! disk are real.

mod consuming;
mod disk;
mod ending;
mod entries;
mod example;
mod executor;
mod policies;
mod publishing;
mod statistics;
mod threads;
mod topology;
mod transactions;

use leveret_broker::{Broker, Client, Message, Wait};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than anything here takes: who waits for so long was forgotten.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of a test's own, removed with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("leveret-client-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn broker(&self) -> Broker {
        Broker::open(&self.0).expect("a directory of our own")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits, but not for ever.
fn soon<F: Future>(future: F) -> F::Output {
    future.wait_for(PATIENCE).expect("it comes to an end")
}

/// A client of a broker in memory, with these queues.
fn in_memory(queues: &[&str]) -> Client {
    let client = Broker::in_memory().connect();
    declare(&client, queues);
    client
}

fn declare(client: &Client, queues: &[&str]) {
    queues.iter().for_each(|queue| {
        client.declare_queue(queue).expect("a new queue");
    });
}

fn publish(client: &Client, queue: &str, bodies: &[&str]) {
    for body in bodies {
        soon(client.publish("", queue, *body)).expect("confirmed");
    }
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

/// Everything that waits in a queue, which is empty afterwards.
fn drain(client: &Client, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(message) = client.get(queue).expect("the queue is there") {
        bodies.push(text(&message));
        message.ack().expect("acknowledged");
    }
    bodies
}

fn ready(client: &Client, queue: &str) -> u64 {
    client.queue_status(queue).expect("the queue is there").ready
}
