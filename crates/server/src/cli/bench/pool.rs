//! Publishes, encoded before the measurement starts.

use std::ops::Range;

use leveret_wire::frame;
use leveret_wire::method::basic;

use super::args::{BenchArgs, Field, Plan};
use crate::cli::client::CHANNEL;
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;

/// Random pools are this large, so that a broker meets keys and sizes in many combinations.
const RANDOM_BYTES: usize = 8 << 20;

/// Messages in a row, as they go to the socket. A batch is a range of them; only its time stamps are written anew.
pub struct Pool {
    bytes: Vec<u8>,
    /// Where each message starts; one more entry for the end.
    starts: Vec<usize>,
    /// Where the first byte of each body is; `None` if it is too short to hold a time stamp.
    stamps: Vec<Option<usize>>,
    /// Where the digits of each message's id begin, if messages have ids.
    ids: Vec<usize>,
    /// Numbers the ids.
    next_id: u64,
    /// The body bytes of all messages before each message; one more entry for all.
    bodies: Vec<u64>,
    /// Keys are used in turn in cycles of this many messages.
    cycle: usize,
    next: usize,
}

/// A range of messages to write at once.
pub struct Batch {
    messages: Range<usize>,
    /// Their bytes.
    pub bytes: Range<usize>,
    /// The bytes of their bodies.
    pub body_bytes: u64,
}

impl Batch {
    /// The number of messages.
    pub fn len(&self) -> u64 {
        self.messages.len() as u64
    }
}

impl Pool {
    /// Encodes what one producer publishes, with its keys in turn or drawn at random.
    pub fn new(args: &BenchArgs, plan: &Plan, producer: usize, frame_max: u32) -> Self {
        let sizes = args.size.0.clone();
        let (exchange, keys) = (plan.exchange.as_str(), &plan.producer_keys[producer]);
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15 ^ (producer as u64 + 1));
        let varies = args.header.iter().any(Field::varies);
        let random = plan.random || sizes.start() != sizes.end() || varies;
        let mut properties = properties(args, &mut numbers);
        let mut pool = Self {
            bytes: Vec::new(),
            starts: vec![0],
            stamps: Vec::new(),
            ids: Vec::new(),
            // No two producers' ids are equal.
            next_id: (producer as u64) << 40,
            bodies: vec![0],
            cycle: if random { 1 } else { keys.len() },
            next: 0,
        };
        let body = vec![0; *sizes.end()];
        let mut after_batch = 0;
        // Beyond one batch there is one cycle, so that a batch can start at any key.
        while after_batch < pool.cycle || random && pool.bytes.len() < RANDOM_BYTES {
            let message = pool.stamps.len();
            let key = if random { numbers.below(keys.len()) } else { message % keys.len() };
            let size = sizes.start() + numbers.below(sizes.end() - sizes.start() + 1);
            if varies && message > 0 {
                properties = self::properties(args, &mut numbers);
            }
            let publish = basic::Publish { exchange, routing_key: &keys[key], mandatory: false, immediate: false };
            frame::write_method(&mut pool.bytes, CHANNEL, &publish.into());
            frame::write_header(&mut pool.bytes, CHANNEL, size as u64, &properties);
            if args.message_ids {
                // The last property that there is.
                pool.ids.push(pool.bytes.len() - 1 - ID_DIGITS);
            }
            pool.stamps.push((size >= 8).then_some(pool.bytes.len() + frame::OVERHEAD - 1));
            frame::write_body(&mut pool.bytes, CHANNEL, &body[..size], frame_max);
            pool.starts.push(pool.bytes.len());
            pool.bodies.push(pool.bodies[message] + size as u64);
            after_batch += usize::from(pool.bytes.len() >= args.batch);
        }
        pool
    }

    /// The next batch: at least one message, at most `most`, as many as fit into `bytes`.
    pub fn next(&mut self, most: u64, bytes: usize) -> Batch {
        let count = self.stamps.len();
        let most = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, count);
        if self.starts[count] - self.starts[self.next] < bytes && self.next + most > count {
            self.next %= self.cycle;
        }
        let first = self.next;
        let fitting = self.starts[first..].partition_point(|start| start - self.starts[first] <= bytes);
        let len = most.min(fitting.saturating_sub(1).max(1)).min(count - first);
        self.next = (first + len) % count;
        let messages = first..first + len;
        Batch {
            body_bytes: self.bodies[messages.end] - self.bodies[messages.start],
            bytes: self.starts[messages.start]..self.starts[messages.end],
            messages,
        }
    }

    /// The bytes of `batch`, with `now` in its first and last message: the luckiest and the unluckiest one. Ids are new.
    pub fn stamped(&mut self, batch: &Batch, now: u64) -> &[u8] {
        self.stamp(batch, now);
        if !self.ids.is_empty() {
            for &at in &self.ids[batch.messages.clone()] {
                write_id(&mut self.bytes[at..at + ID_DIGITS], self.next_id);
                self.next_id += 1;
            }
        }
        &self.bytes[batch.bytes.clone()]
    }

    /// Takes the stamps out again.
    pub fn unstamp(&mut self, batch: &Batch) {
        self.stamp(batch, 0);
    }

    fn stamp(&mut self, batch: &Batch, stamp: u64) {
        for message in [batch.messages.start, batch.messages.end - 1] {
            if let Some(at) = self.stamps[message] {
                self.bytes[at..at + 8].copy_from_slice(&stamp.to_be_bytes());
            }
        }
    }
}

/// A xorshift generator: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % bound as u64) as usize
    }
}

/// Hexadecimal digits of a message's id.
const ID_DIGITS: usize = 16;

fn write_id(digits: &mut [u8], id: u64) {
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id >> (60 - 4 * index)) as usize & 15];
    }
}

/// Flags and list of a message's properties.
fn properties(args: &BenchArgs, numbers: &mut Numbers) -> Vec<u8> {
    let mut headers = (0..args.headers)
        .fold(FieldTable::new(), |table, i| table.with(&format!("header-{i}"), format!("value-{i}").as_str()));
    args.header.iter().for_each(|field| field.insert(&mut headers, |bound| numbers.below(bound as usize) as u64));
    let mut encoded = Vec::new();
    let properties = Properties {
        headers: Some(headers.as_table()).filter(|headers| !headers.is_empty()),
        message_id: args.message_ids.then_some(&[b'0'; ID_DIGITS]),
        delivery_mode: args.persistent.then_some(2),
        ..Properties::EMPTY
    };
    properties.encode(&mut encoded);
    encoded
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn pool(options: &str) -> Pool {
        let args = Cli::parse_from(["bench"].into_iter().chain(options.split_whitespace())).bench;
        let plan = Plan::new(&args).unwrap();
        Pool::new(&args, &plan, 0, 131_072)
    }

    /// The routing keys and body sizes in a batch, decoded from its bytes.
    fn decoded(pool: &Pool, batch: &Batch) -> Vec<(String, usize)> {
        let mut bytes = &pool.bytes[batch.bytes.clone()];
        let mut messages = Vec::new();
        while let Some((frame, size)) = frame::parse(bytes, 131_072).unwrap() {
            match frame.kind {
                frame::METHOD => match leveret_wire::method::Method::decode(frame.payload).unwrap() {
                    leveret_wire::method::Method::BasicPublish(publish) => {
                        messages.push((publish.routing_key.to_owned(), 0));
                    }
                    other => panic!("{}", other.name()),
                },
                frame::BODY => messages.last_mut().unwrap().1 += frame.payload.len(),
                _ => {}
            }
            bytes = &bytes[size..];
        }
        assert!(bytes.is_empty());
        messages
    }

    #[test]
    fn keys_stay_in_turn_over_batches_of_any_size() {
        let mut pool = pool("--queues 7 --batch 1000");
        let mut expected = (0..7).cycle();
        for most in [1, 3, 1000, 5, 1000, 1000, 2, 1, 1, 1000] {
            let batch = pool.next(most, 1000);
            let messages = decoded(&pool, &batch);
            assert_eq!(messages.len() as u64, batch.len());
            assert!(batch.len() <= most);
            for (key, size) in messages {
                assert_eq!((key, size), (format!("bench-{}", expected.next().unwrap()), 16));
            }
        }
    }

    #[test]
    fn full_batches_fill_the_write() {
        let mut pool = pool("--size 16");
        for _ in 0..3 {
            let batch = pool.next(u64::MAX, 65536);
            assert!((65_400..=65_536).contains(&batch.bytes.len()), "{}", batch.bytes.len());
        }
    }

    #[test]
    fn sizes_and_keys_spread_over_their_ranges() {
        let mut pool = pool("--exchange amq.topic --random-keys 100 --size 16..4096 --headers 3");
        let mut keys = std::collections::BTreeSet::new();
        let (mut smallest, mut largest) = (usize::MAX, 0);
        for _ in 0..100 {
            let batch = pool.next(u64::MAX, 65536);
            let messages = decoded(&pool, &batch);
            assert_eq!(messages.iter().map(|(_, size)| *size as u64).sum::<u64>(), batch.body_bytes);
            for (key, size) in messages {
                keys.insert(key);
                (smallest, largest) = (smallest.min(size), largest.max(size));
            }
        }
        assert_eq!(keys.len(), 100);
        assert!((16..50).contains(&smallest) && (4050..=4096).contains(&largest), "{smallest} {largest}");
    }

    #[test]
    fn stamps_are_in_the_first_and_last_body_and_are_taken_out_again() {
        let mut pool = pool("--size 16");
        let batch = pool.next(10, 65536);
        let clean = pool.bytes.clone();
        let stamp = 0x1122_3344_5566_7788_u64;
        let stamped = pool.stamped(&batch, stamp).to_vec();
        let found: Vec<_> = stamped.windows(8).enumerate().filter(|(_, bytes)| *bytes == stamp.to_be_bytes()).collect();
        assert_eq!(found.len(), 2);
        pool.unstamp(&batch);
        assert!(pool.bytes == clean);
    }
}
