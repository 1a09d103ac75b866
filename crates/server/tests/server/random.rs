//! A client that means no good and has no plan: mutations of valid sessions, from a seed that is printed.
//!
//! `LEVERET_SEED` repeats a run, `LEVERET_CONNECTIONS` makes it longer.

use crate::client::{Client, Login, header, method, publish, publish_method, raw_frame};
use crate::server::{Canary, Server, eventually};
use leveret_wire::frame::{self, PROTOCOL_HEADER};
use leveret_wire::method::{access, basic, channel, confirm, connection, exchange, queue, tx};
use leveret_wire::table::{FieldArray, FieldTable, Table};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CONNECTIONS: u64 = 20_000;

/// SplitMix64: good enough for mischief, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// The frames of a session that uses everything, behind its handshake.
fn valid_session() -> Vec<Vec<u8>> {
    let nested = FieldTable::new().with("b", &FieldArray::new().with("c").with(1i64));
    let arguments = FieldTable::new().with("x-max-length", 100i32).with("a", &nested);
    let copies = FieldArray::new().with("random-2").with("random-3");
    let headers = FieldTable::new().with("CC", &copies).with("BCC", &copies).with("x-match", "any");
    let table = arguments.as_table();
    let mut frames = vec![raw_frame(frame::HEARTBEAT, 0, b"")];
    for number in [1, 2] {
        frames.push(method(number, channel::Open));
        let q = ["random-1", "random-2"][usize::from(number - 1)];
        let exchange = ["random-direct", "amq.headers"][usize::from(number - 1)];
        frames.extend([
            method(number, queue::Declare { queue: q, arguments: table, ..Default::default() }),
            method(
                number,
                exchange::Declare {
                    exchange: "random-direct",
                    r#type: "direct",
                    auto_delete: true,
                    ..Default::default()
                },
            ),
            method(
                number,
                queue::Bind {
                    queue: q,
                    exchange,
                    routing_key: "k",
                    arguments: headers.as_table(),
                    ..Default::default()
                },
            ),
            method(number, exchange::Bind { source: "random-direct", destination: "amq.topic", ..Default::default() }),
            method(number, queue::Bind { queue: q, exchange: "amq.topic", routing_key: "#.k.*", ..Default::default() }),
            method(number, basic::Qos { prefetch_count: 3, global: number == 2, ..Default::default() }),
            match number {
                1 => method(number, confirm::Select { nowait: false }),
                _ => method(number, tx::Select),
            },
            method(number, basic::Consume { queue: q, consumer_tag: "c", arguments: table, ..Default::default() }),
            method(number, basic::Consume { queue: "amq.rabbitmq.reply-to", no_ack: true, ..Default::default() }),
            publish(number, "", q, &[7; 300]),
            [publish_method(number, exchange, "k"), header(number, 5, headers.as_table())].concat(),
            raw_frame(frame::BODY, number, b"he"),
            raw_frame(frame::BODY, number, b"llo"),
            method(
                number,
                basic::Publish { exchange: "amq.direct", routing_key: "none", mandatory: true, immediate: false },
            ),
            header(number, 0, Table::EMPTY),
            method(number, basic::Get { queue: q, no_ack: false }),
            method(number, basic::Ack { delivery_tag: 1, multiple: false }),
            method(number, basic::Nack { delivery_tag: 0, multiple: true, requeue: true }),
            method(number, basic::Reject { delivery_tag: 2, requeue: false }),
            method(number, basic::Recover { requeue: true }),
            method(number, access::Request::default()),
            method(number, channel::Flow { active: true }),
            method(number, basic::Cancel { consumer_tag: "c", no_wait: false }),
            method(number, queue::Purge { queue: q, no_wait: false }),
            match number {
                1 => method(number, queue::Unbind { queue: q, exchange, routing_key: "k", arguments: Table::EMPTY }),
                _ => method(number, tx::Commit),
            },
            method(number, queue::Delete { queue: q, ..Default::default() }),
            method(number, channel::Close { reply_code: 200, ..Default::default() }),
        ]);
    }
    frames.push(method(0, connection::Close { reply_code: 200, ..Default::default() }));
    frames
}

fn handshake() -> Vec<Vec<u8>> {
    vec![
        PROTOCOL_HEADER.to_vec(),
        Login::default().capable("connection.blocked").start_ok(),
        method(0, Login::default().heartbeat(1).tune),
        method(0, connection::Open { virtual_host: "/" }),
    ]
}

/// A frame with a likely head and any payload.
fn random_frame(random: &mut Random) -> Vec<u8> {
    let kind = [1, 1, 2, 3, 8, random.next() as u8][random.below(6)];
    let len = random.below(64);
    let mut payload: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    if kind <= 2 && payload.len() >= 4 {
        let class = [10u8, 20, 40, 50, 60, 85, 90][random.below(7)];
        payload[..4].copy_from_slice(&[0, class, 0, 10 * random.below(12) as u8 + random.below(2) as u8]);
    }
    raw_frame(kind, [0, 1, 2, random.next() as u16][random.below(4)], &payload)
}

/// A valid session, and one to five things done to it.
fn mutated(random: &mut Random) -> Vec<u8> {
    let spare = if random.below(4) == 0 { 0 } else { 4 };
    let mut frames = handshake();
    frames.extend(valid_session());
    for _ in 0..1 + random.below(5) {
        let at = spare + random.below(frames.len() - spare);
        match random.below(8) {
            0 | 1 => {
                let octet = random.below(frames[at].len());
                if let Some(octet) = frames[at].get_mut(octet) {
                    *octet ^= 1 << random.below(8);
                }
            }
            2 => {
                let octet = random.below(frames[at].len());
                if let Some(octet) = frames[at].get_mut(octet) {
                    *octet = [0, 1, 0x7f, 0x80, 0xff][random.below(5)];
                }
            }
            3 => {
                let len = random.below(frames[at].len());
                frames[at].truncate(len);
            }
            4 => frames.insert(at, frames[at].clone()),
            5 => drop(frames.remove(at)),
            6 => {
                let other = spare + random.below(frames.len() - spare);
                frames.swap(at, other);
            }
            _ => frames.insert(at, random_frame(random)),
        }
        if frames.len() <= spare + 1 {
            break;
        }
    }
    let mut bytes = frames.concat();
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

/// Sends a session, in one piece or in some, and reads the answers or doesn't. How it ends is the server's business.
/// Returns how many methods were answered.
fn attack(address: SocketAddr, random: &mut Random) -> usize {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    let _ = stream.set_nodelay(true);
    let bytes = mutated(random);
    let pieces = 1 + random.below(3);
    for piece in bytes.chunks(bytes.len() / pieces + 1) {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    // Some go at once, which resets the connection; with the others the server gets through all of it.
    if random.below(8) == 0 {
        return 0;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    let (mut at, mut count) = (0, 0);
    while let Ok(Some((frame, len))) = frame::parse(&answers[at..], 0) {
        count += usize::from(frame.kind == frame::METHOD);
        at += len;
    }
    count
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn twenty_thousand_mutated_sessions_harm_nobody() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_nanos() as u64;
    let seed = number("LEVERET_SEED").unwrap_or(now);
    let connections = number("LEVERET_CONNECTIONS").unwrap_or(CONNECTIONS);
    println!("LEVERET_SEED={seed}");
    let server = Server::start(&[]);
    let mut canary = Canary::new(&server);
    let before = (server.resident(), server.sockets());
    let (next, done, answered) = (AtomicU64::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= connections {
                            break;
                        }
                        answered.fetch_add(attack(server.address, &mut Random(seed ^ (i << 20))), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let singer = scope.spawn(|| {
            let (mut songs, mut slowest) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                slowest = slowest.max(canary.sing());
                songs += 1;
            }
            (songs, slowest)
        });
        attackers.into_iter().for_each(|attacker| attacker.join().expect("attackers give up, they don't fail"));
        done.store(true, Ordering::Relaxed);
        let (songs, slowest) = singer.join().expect("the canary lives");
        println!("the canary sang {songs} times, the slowest took {slowest:?}");
        assert!(songs > 10);
    });
    let answered = answered.into_inner() as u64;
    println!("{answered} methods of {connections} sessions were answered");
    assert!(answered > 5 * connections, "most mutations get somewhere");
    // Those that still waited for something are closed by their heartbeat or the end of their socket.
    eventually("their connections end", Duration::from_secs(12), || server.sockets() <= before.1);
    let grown = server.resident().saturating_sub(before.0);
    println!("memory grew by {grown} KiB");
    // Messages stay in queues whose deletion was mutated away: some hundred octets for a session.
    assert!(grown < 32 * 1024 + connections * 2, "memory grew by {grown} KiB");
    // Nobody's queue or exchange is in a state that a valid session can't use.
    let mut client = Client::open(&server);
    client.channel(1);
    for name in ["random-1", "random-2"] {
        client.call(1, queue::Delete { queue: name, ..Default::default() }, queue::DeleteOk::ID);
        let name = client.declare(1, name);
        client.consume(1, &name, "c", true);
        client.publish_bytes(1, "", &name, b"sane");
        assert_eq!(client.delivery(1), b"sane");
        client.call(1, basic::Cancel { consumer_tag: "c", no_wait: false }, basic::CancelOk::ID);
    }
    client.close();
    canary.sing();
}
