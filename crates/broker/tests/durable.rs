//! What a directory holds when the broker that wrote it is gone.

use leveret_broker::disk::Directory;
use leveret_broker::message::encode_route;
use leveret_broker::{
    Broker, Channel, Consume, Delivery, Environment, Event, Limits, Publish, QueueDeclare, Recovery, Session, Settle,
    Storage,
};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Table};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A broker without threads, and a connection to it.
struct Bench {
    broker: Broker,
    session: Session,
    channel: Channel,
    recovery: Recovery,
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("leveret-durable-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn open(path: &Path) -> Bench {
    open_with(path, Limits::default())
}

fn open_with(path: &Path, limits: Limits) -> Bench {
    let mut storage = Storage::new(Arc::new(Directory::open(path).expect("a directory of our own")));
    storage.segment_size = 64 * 1024;
    let environment = Environment { random: Box::new(|| 7), now: Box::new(|| 0), elapsed: Box::new(|| 0), ticks: true };
    let (broker, recovery) = Broker::recover(limits, environment, storage).expect("it can be read");
    let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
    Bench { broker, session, channel: Channel::new(1), recovery }
}

impl Bench {
    fn declare(&mut self, name: &str) {
        let declare =
            QueueDeclare { name, durable: true, exclusive: false, auto_delete: false, arguments: Table::EMPTY };
        self.channel.declare_queue(&mut self.session, declare).expect("a new queue");
    }

    fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) {
        self.publish_as(2, exchange, key, body);
    }

    fn publish_as(&mut self, delivery_mode: u8, exchange: &str, key: &str, body: &[u8]) {
        let properties = Properties { delivery_mode: Some(delivery_mode), ..Properties::default() };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let route = encode_route(exchange, key);
        let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body };
        self.channel.publish(&mut self.session, &publish).expect("the exchange is there");
        self.session.flush();
    }

    /// Everything in a queue: bodies, and whether they are flagged. It stays there.
    fn peek(&mut self, queue: &str) -> Vec<(Vec<u8>, bool)> {
        let (mut seen, mut last) = (Vec::new(), 0);
        while let Some((delivery, tag, _)) = self.channel.get(&mut self.session, queue, false).expect("it is there") {
            seen.push((delivery.block.at(delivery.offset).0.body.to_vec(), delivery.redelivered));
            last = tag;
        }
        if last > 0 {
            self.channel.settle(last, true, Settle::Requeue).expect("they were delivered");
            self.channel.apply_settled();
        }
        seen
    }

    fn consume(&mut self, queue: &str, max: usize) -> Vec<(u64, Vec<u8>)> {
        let consume = Consume { queue, tag: "", no_ack: false, exclusive: false, arguments: Table::EMPTY };
        let tag = self.channel.consume(&mut self.session, consume).expect("it is there");
        let (mut events, mut out, mut seen) = (Vec::new(), Vec::<Delivery>::new(), Vec::new());
        while seen.len() < max {
            self.session.mailbox().take(&mut events);
            let Some(Event::Ready { consumer, .. }) = events.pop() else { break };
            let mut more = true;
            while more && seen.len() < max {
                let pulled = self.channel.pull(&self.session, consumer, 1, &mut out).expect("a consumer");
                let mut tag = pulled.first_tag;
                for delivery in out.drain(..) {
                    let mut at = delivery.offset;
                    for _ in 0..delivery.count {
                        let (message, next) = delivery.block.at(at);
                        seen.push((tag, message.body.to_vec()));
                        (at, tag) = (next, tag + 1);
                    }
                }
                more = pulled.more;
            }
        }
        self.channel.cancel(&mut self.session, &tag);
        seen
    }

    fn ack(&mut self, tag: u64, multiple: bool) {
        self.channel.settle(tag, multiple, Settle::Ack).expect("it was delivered");
        self.channel.apply_settled();
    }

    fn tend(&self) {
        while self.broker.write_log() | self.broker.tend() {}
    }

    /// As after a killed process: nothing is said goodbye to.
    fn kill(self) {
        self.broker.write_log();
        drop(self);
    }
}

fn body(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 100)
}

#[test]
fn what_was_written_is_there_again_and_what_was_acked_is_not() {
    let path = scratch("plain");
    let mut bench = open(&path);
    bench.declare("q");
    for number in 0..10 {
        bench.publish("", "q", &body(number));
    }
    let taken = bench.consume("q", 4);
    assert!(taken.len() >= 4);
    bench.ack(taken[1].0, false);
    bench.kill();
    let mut bench = open(&path);
    assert_eq!((bench.recovery.queues, bench.recovery.messages), (1, 9));
    assert!(bench.recovery.damage.is_empty());
    let expected: Vec<_> = (0..10).filter(|&number| number != 1).map(body).collect();
    assert_eq!(bench.peek("q").into_iter().map(|(body, _)| body).collect::<Vec<_>>(), expected);
    bench.kill();
    let mut bench = open(&path);
    assert_eq!(bench.peek("q").into_iter().map(|(body, _)| body).collect::<Vec<_>>(), expected);
    drop(bench);
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn a_filter_of_a_durable_binding_is_in_effect_after_a_restart_until_it_is_unbound() {
    let path = scratch("filter");
    let mut bench = open(&path);
    bench.declare("q");
    let filter = FieldTable::new().with("x-filter", "properties.delivery_mode = \"2\"");
    let (vhost, session) = (bench.session.vhost().clone(), bench.session.id());
    vhost.bind_queue("q", "amq.topic", "k.#", filter.as_table(), session).expect("both are there");
    drop(vhost);
    bench.kill();
    let mut bench = open(&path);
    let (persistent, transient) = (2, 1);
    bench.publish_as(persistent, "amq.topic", "k.a", b"passes");
    bench.publish_as(transient, "amq.topic", "k.a", b"does not");
    assert_eq!(bench.peek("q"), [(b"passes".to_vec(), false)]);
    let (vhost, session) = (bench.session.vhost().clone(), bench.session.id());
    vhost.unbind_queue("q", "amq.topic", "k.#", filter.as_table(), session).expect("both are there");
    drop(vhost);
    bench.kill();
    let mut bench = open(&path);
    bench.publish_as(persistent, "amq.topic", "k.a", b"too late");
    assert_eq!(bench.peek("q"), [(b"passes".to_vec(), true)]);
    drop(bench);
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn a_backlog_survives_rollover_adoption_merging_and_restarts() {
    let path = scratch("backlog");
    let mut bench = open(&path);
    (0..3).for_each(|queue| bench.declare(&format!("q{queue}")));
    let mut expected: Vec<Vec<u32>> = vec![Vec::new(); 3];
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..1500 {
            let queue = number as usize % 3;
            bench.publish("", &format!("q{queue}"), &body(number));
            expected[queue].push(number);
            number += 1;
            if number % 50 == 0 {
                bench.broker.write_log();
                bench.broker.tend();
            }
        }
        for queue in 0..3 {
            // Of one queue nearly all is acked, of one every second message, of one none.
            let count = [900, 300, 0][queue];
            let taken = bench.consume(&format!("q{queue}"), count);
            let mut kept = Vec::new();
            for (index, (tag, said)) in taken.iter().enumerate() {
                let number = expected[queue][index];
                assert_eq!(said, &body(number), "round {round}, queue {queue}, message {index}");
                if queue == 1 && index % 2 == 1 { kept.push(number) } else { bench.ack(*tag, false) }
            }
            let rest = expected[queue].split_off(taken.len());
            expected[queue] = kept.into_iter().chain(rest).collect();
        }
        bench.tend();
        bench.kill();
        bench = open(&path);
        assert!(bench.recovery.damage.is_empty(), "{:?}", bench.recovery.damage);
        for (queue, expected) in expected.iter().enumerate() {
            let found: Vec<_> = bench.peek(&format!("q{queue}")).into_iter().map(|(body, _)| body).collect();
            let wanted: Vec<_> = expected.iter().copied().map(body).collect();
            assert_eq!(found.len(), wanted.len(), "round {round}, queue {queue}");
            assert!(found == wanted, "round {round}, queue {queue}");
        }
    }
    let on_disk: u64 = std::fs::read_dir(&path)
        .expect("ours")
        .map(|file| file.and_then(|file| file.metadata()).expect("ours").len())
        .sum();
    let live: usize = expected.iter().flatten().map(|&number| body(number).len() + 120).sum();
    // Half of a file may be dead before it is merged; and there is a reserve of some segments.
    assert!(on_disk < 2 * live as u64 + 12 * 64 * 1024, "{on_disk} bytes on disk for {live} bytes of messages");
    drop(bench);
    std::fs::remove_dir_all(path).expect("ours");
}

#[test]
fn transient_messages_go_to_the_disk_when_memory_runs_short_and_come_back_in_order() {
    let path = scratch("overflow");
    let max_memory = 16 * 1024 * 1024;
    let mut bench = open_with(&path, Limits { max_memory, ..Limits::default() });
    for (name, durable) in [("transient", false), ("durable", true)] {
        let declare = QueueDeclare { name, durable, exclusive: false, auto_delete: false, arguments: Table::EMPTY };
        bench.channel.declare_queue(&mut bench.session, declare).expect("a new queue");
    }
    let large = |number: u32| number.to_le_bytes().repeat(1000);
    for number in 0..16_000 {
        bench.publish_as(1, "", if number % 2 == 0 { "transient" } else { "durable" }, &large(number));
        if number % 100 == 0 {
            while bench.broker.tend() {}
        }
    }
    assert!(bench.broker.memory_used() < max_memory, "{} bytes in memory", bench.broker.memory_used());
    for (queue, first) in [("transient", 0), ("durable", 1)] {
        let taken = bench.consume(queue, 8000);
        let numbers: Vec<_> = taken.iter().map(|(_, body)| body.clone()).collect();
        assert_eq!(numbers.len(), 8000);
        assert!(numbers.iter().zip((first..).step_by(2)).all(|(body, number)| *body == large(number)), "{queue}");
        bench.ack(taken[7999].0, true);
    }
    assert_eq!(bench.broker.memory_used() / 1024 / 1024, 0);
    bench.kill();
    let names: Vec<_> = std::fs::read_dir(&path).expect("ours").map(|file| file.expect("ours").file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("overflow")), "{names:?}");
    assert_eq!(open(&path).recovery.messages, 0);
    std::fs::remove_dir_all(path).expect("ours");
}
