//! Messages as they wait in queues: records packed into shared, immutable blocks.
//!
//! A publisher's run of messages becomes one block that every queue of the route refers to, so a batch costs one
//! allocation and one reference count however many messages and queues there are. A record is
//!
//! ```text
//! 0        4           8           10      11     12
//! body_len properties_ route_len   flags   zero   route          properties     body
//! u32 LE   len u32 LE  u16 LE      u8             exchange, key  flags + list
//! ```
//!
//! `route` is the exchange and the routing key as AMQP short strings and `properties` the content header's property
//! flags and list: both are exactly the bytes that a delivery puts on the wire.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs of at least this many bytes become a block of their own, shared by all queues; shorter ones are copied into
/// each queue's open block. Below it, the copy costs less than a block's bookkeeping.
pub const SHARE_MIN: usize = 4096;

/// A block is closed when it has grown to this many bytes (one message may exceed it).
pub const BLOCK_MAX: usize = 64 * 1024;

const HEAD: usize = 12;
const PERSISTENT: u8 = 1;

/// One message, borrowed from its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The exchange it was published to and its routing key, as two AMQP short strings.
    pub route: &'a [u8],
    /// Property flags and property list, as in the content header.
    pub properties: &'a [u8],
    /// The payload.
    pub body: &'a [u8],
    /// Published with delivery mode 2.
    pub persistent: bool,
}

impl<'a> Message<'a> {
    /// The exchange that it was published to.
    pub fn exchange(&self) -> &'a str {
        self.names().0
    }

    /// Its routing key.
    pub fn routing_key(&self) -> &'a str {
        self.names().1
    }

    fn names(&self) -> (&'a str, &'a str) {
        decode_route(self.route).expect("routes are checked before they enter a record")
    }
}

/// Exchange and routing key as a record holds them: two AMQP short strings.
///
/// # Panics
/// If one is longer than 255 bytes: the wire cannot express it.
pub fn encode_route(exchange: &str, routing_key: &str) -> Vec<u8> {
    assert!(exchange.len() <= 255 && routing_key.len() <= 255, "short strings have at most 255 bytes");
    let mut route = Vec::with_capacity(2 + exchange.len() + routing_key.len());
    for part in [exchange, routing_key] {
        route.push(part.len() as u8);
        route.extend_from_slice(part.as_bytes());
    }
    route
}

/// Splits what [`encode_route`] gives. `None` unless it is exactly two short strings of valid UTF-8.
pub fn decode_route(route: &[u8]) -> Option<(&str, &str)> {
    let (exchange, rest) = route.split_first().and_then(|(len, rest)| rest.split_at_checked(*len as usize))?;
    let (key, end) = rest.split_first().and_then(|(len, rest)| rest.split_at_checked(*len as usize))?;
    if !end.is_empty() {
        return None;
    }
    Some((std::str::from_utf8(exchange).ok()?, std::str::from_utf8(key).ok()?))
}

/// The memory of a broker's messages: what all blocks hold together, and a few buffers for the next ones.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<Memory>);

#[derive(Debug, Default)]
struct Memory {
    used: AtomicU64,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Buffers kept for the next blocks, so that a steady flow allocates none: enough for what is between a busy publisher
/// and its consumer.
const SPARE_MAX: usize = 64;

/// Capacity of the buffers that are kept: a full block and the message that closed it.
const SPARE_CAPACITY: usize = BLOCK_MAX + 8 * 1024;

impl Account {
    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    fn charge(&self, bytes: usize) {
        self.0.used.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// An empty buffer for a run of about one block.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        let spare = self.0.spare.lock().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(SPARE_CAPACITY))
    }

    fn recycle(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == SPARE_CAPACITY {
            let mut spare = self.0.spare.lock();
            if spare.len() < SPARE_MAX {
                buffer.clear();
                spare.push(buffer);
            }
        }
    }
}

/// Records under construction.
#[derive(Debug, Default)]
pub struct Run {
    bytes: Vec<u8>,
    count: u32,
    /// Bytes of their bodies.
    bodies: u64,
}

impl Run {
    /// Appends a message. `route` is what [`encode_route`] gives; on the wire it stands like that in basic.publish.
    #[inline]
    pub fn push(&mut self, route: &[u8], properties: &[u8], body: &[u8], persistent: bool) {
        let mut head = [0u8; HEAD];
        head[0..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(properties.len() as u32).to_le_bytes());
        head[8..10].copy_from_slice(&(route.len() as u16).to_le_bytes());
        head[10] = if persistent { PERSISTENT } else { 0 };
        self.bytes.reserve(HEAD + route.len() + properties.len() + body.len());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(route);
        self.bytes.extend_from_slice(properties);
        self.bytes.extend_from_slice(body);
        self.count += 1;
        self.bodies += body.len() as u64;
    }

    /// Appends all records of another run.
    pub fn extend(&mut self, other: &Run) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
        self.bodies += other.bodies;
    }

    /// A copy of so many records from the one of this number on.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn part(&self, first: u32, count: u32) -> Run {
        let bytes = slice(&self.bytes, first, count).expect("a run has its records").to_vec();
        let bodies = body_bytes(&bytes, 0, count);
        Run { bytes, count, bodies }
    }

    /// A copy of the records whose numbers are to be kept.
    pub(crate) fn kept(&self, mut keep: impl FnMut(u32) -> bool) -> Run {
        let (mut kept, mut at) = (Run::default(), 0);
        for number in 0..self.count {
            let end = at + record_len(&self.bytes, at);
            if keep(number) {
                kept.bytes.extend_from_slice(&self.bytes[at..end]);
                kept.count += 1;
                kept.bodies += u32_at(&self.bytes, at) as u64;
            }
            at = end;
        }
        kept
    }

    /// Bytes of all records.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of all bodies.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.bodies
    }

    /// The records, one behind the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True without a record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.bodies) = (0, 0);
    }

    /// Takes a block's worth of memory at once, if it has none.
    pub(crate) fn reserve_block(&mut self, account: &Account) {
        if self.bytes.capacity() == 0 {
            self.bytes = account.buffer();
        }
    }

    /// Gives the memory back, for another connection to use: this one may not publish again for a long time.
    pub(crate) fn return_block(&mut self, account: &Account) {
        (self.count, self.bodies) = (0, 0);
        account.recycle(std::mem::take(&mut self.bytes));
    }

    /// Frees the memory too.
    pub fn release(&mut self) {
        *self = Run::default();
    }

    /// The records as a block; the run is empty afterwards.
    ///
    /// A well-filled buffer is given away, a sparse one is copied into an exact allocation, so that a block never pins
    /// more than twice what it holds.
    pub fn seal(&mut self, account: &Account) -> Arc<Block> {
        let bytes = if self.bytes.len() * 2 >= self.bytes.capacity() {
            std::mem::take(&mut self.bytes)
        } else {
            let exact = self.bytes.as_slice().to_vec();
            self.bytes.clear();
            exact
        };
        let (count, bodies) = (std::mem::take(&mut self.count), std::mem::take(&mut self.bodies));
        account.charge(bytes.capacity());
        Arc::new(Block { bytes, count, bodies, account: account.clone() })
    }

    /// The record that starts at byte `offset`, and the offset of the next.
    pub fn at(&self, offset: usize) -> (Message<'_>, usize) {
        read(&self.bytes, offset)
    }
}

/// A run that a queue appends to, charged as it grows.
#[derive(Debug)]
pub(crate) struct OpenRun {
    run: Run,
    charged: usize,
    account: Account,
}

impl OpenRun {
    pub(crate) fn new(account: &Account) -> OpenRun {
        OpenRun { run: Run::default(), charged: 0, account: account.clone() }
    }

    pub(crate) fn extend(&mut self, other: &Run) {
        self.run.extend(other);
        let capacity = self.run.bytes.capacity();
        if capacity > self.charged {
            self.account.charge(capacity - self.charged);
            self.charged = capacity;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.run.len()
    }

    pub(crate) fn seal(&mut self) -> Arc<Block> {
        self.run.seal(&self.account)
    }
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        self.account.release(self.charged);
    }
}

/// The bytes of `count` records from the one that is `skip` records behind the first on. `None` if there are not so many, or
/// if they are not what records look like: these bytes come from a disk.
pub(crate) fn slice(bytes: &[u8], skip: u32, count: u32) -> Option<&[u8]> {
    let (mut at, mut begin) = (0usize, 0);
    for number in 0..skip.checked_add(count)? {
        if number == skip {
            begin = at;
        }
        let head = bytes.get(at..at.checked_add(HEAD)?)?;
        let (route, rest) = (usize::from(u16::from_le_bytes([head[8], head[9]])), u32_at(head, 0) + u32_at(head, 4));
        at = at.checked_add(HEAD + route)?.checked_add(rest)?;
        if at > bytes.len() {
            return None;
        }
    }
    bytes.get(begin..at)
}

/// Bytes of the bodies of so many records from an offset on.
pub(crate) fn body_bytes(bytes: &[u8], offset: usize, count: u32) -> u64 {
    body_lengths(&bytes[offset..], count).sum()
}

/// Bytes of the body of each of the first records.
pub(crate) fn body_lengths(bytes: &[u8], count: u32) -> impl Iterator<Item = u64> + '_ {
    let mut at = 0;
    (0..count).map(move |_| {
        let length = u32_at(bytes, at) as u64;
        at += record_len(bytes, at);
        length
    })
}

/// An immutable run of records, shared by the queues and consumers that refer to it.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    count: u32,
    /// Bytes of all bodies.
    bodies: u64,
    account: Account,
}

impl Block {
    /// Number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A block of records that [`slice()`] has accepted.
    pub(crate) fn from_disk(bytes: Vec<u8>, count: u32, account: &Account) -> Block {
        account.charge(bytes.capacity());
        let bodies = body_bytes(&bytes, 0, count);
        Block { bytes, count, bodies, account: account.clone() }
    }

    /// Bytes of all records.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the bodies of so many records from an offset on.
    pub(crate) fn body_bytes(&self, offset: usize, count: u32) -> u64 {
        if count == self.count { self.bodies } else { body_bytes(&self.bytes, offset, count) }
    }

    /// The records, one behind the other.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True without a record; no queue holds such a block.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record that starts at byte `offset`, and the offset of the next.
    #[inline]
    pub fn at(&self, offset: usize) -> (Message<'_>, usize) {
        read(&self.bytes, offset)
    }

    /// The offset of the record that is `n` records behind the one at `offset`.
    pub fn skip(&self, offset: usize, n: u32) -> usize {
        let mut at = offset;
        for _ in 0..n {
            at += record_len(&self.bytes, at);
        }
        at
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.account.release(self.bytes.capacity());
        self.account.recycle(std::mem::take(&mut self.bytes));
    }
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

#[inline]
fn record_len(bytes: &[u8], at: usize) -> usize {
    let head = &bytes[at..at + HEAD];
    HEAD + u32_at(head, 0) + u32_at(head, 4) + u16::from_le_bytes([head[8], head[9]]) as usize
}

#[inline]
fn read(bytes: &[u8], offset: usize) -> (Message<'_>, usize) {
    let head = &bytes[offset..offset + HEAD];
    let (body, properties) = (u32_at(head, 0), u32_at(head, 4));
    let route = u16::from_le_bytes([head[8], head[9]]) as usize;
    let rest = &bytes[offset + HEAD..offset + HEAD + route + properties + body];
    let (route_bytes, rest) = rest.split_at(route);
    let (properties_bytes, body_bytes) = rest.split_at(properties);
    let message = Message {
        route: route_bytes,
        properties: properties_bytes,
        body: body_bytes,
        persistent: head[10] & PERSISTENT != 0,
    };
    (message, offset + HEAD + route + properties + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_pushed() {
        let account = Account::default();
        let mut run = Run::default();
        run.push(&encode_route("ex", "key"), &[0, 0], b"one", false);
        run.push(&encode_route("", ""), &[0x10, 0, 2], b"", true);
        let block = run.seal(&account);
        assert!(run.is_empty() && block.count() == 2);
        let (first, next) = block.at(0);
        assert_eq!(
            (first.exchange(), first.routing_key(), first.body, first.persistent),
            ("ex", "key", &b"one"[..], false)
        );
        let (second, end) = block.at(next);
        assert_eq!((second.exchange(), second.properties, second.persistent), ("", &[0x10, 0, 2][..], true));
        assert_eq!((block.skip(0, 1), end), (next, block.len()));
        assert!(account.used() >= block.len() as u64);
        drop(block);
        assert_eq!(account.used(), 0);
    }
}
