//! The connections that are open, and their channels: what management shows of them, and how it closes them.
//!
//! A connection's task writes what there is to see, once per batch; everybody else reads, and takes a lock only against
//! that writer.

use leveret_broker::{ChannelCounters, Event, Mailbox};
use leveret_wire::table::FieldTable;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// All open connections.
#[derive(Debug, Default)]
pub struct Registry {
    connections: RwLock<BTreeMap<u64, Arc<ConnectionInfo>>>,
    opened: AtomicU64,
    closed: AtomicU64,
    /// What the channels of closed connections have done.
    past: Mutex<ChannelTotals>,
}

/// What channels have done, those that are closed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelTotals {
    /// Channels that were opened.
    pub opened: u64,
    /// Channels that were closed.
    pub closed: u64,
    /// What all of them did.
    pub counters: ChannelCounters,
    /// Of the messages published, those on channels with publisher confirms.
    pub to_confirm: u64,
}

impl ChannelTotals {
    fn add_channel(&mut self, status: &ChannelStatus) {
        self.counters += status.counters;
        self.to_confirm += if status.confirms { status.counters.publish } else { 0 };
    }

    fn add(&mut self, other: &ChannelTotals) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.counters += other.counters;
        self.to_confirm += other.to_confirm;
    }
}

impl Registry {
    /// The connections, in the order in which they were opened.
    pub fn connections(&self) -> Vec<Arc<ConnectionInfo>> {
        self.connections.read().values().cloned().collect()
    }

    /// The connection of this name ([`ConnectionInfo::name`]).
    pub fn connection(&self, name: &str) -> Option<Arc<ConnectionInfo>> {
        self.connections.read().values().find(|connection| connection.name() == name).cloned()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.connections.read().len()
    }

    /// None is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were opened and closed since the start.
    pub fn churn(&self) -> (u64, u64) {
        // The closed first: there must not seem to be more of them.
        let closed = self.closed.load(Ordering::Acquire);
        (self.opened.load(Ordering::Acquire), closed)
    }

    /// What all channels did since the start.
    pub fn channel_totals(&self) -> ChannelTotals {
        // A connection that is closed in between counts once: it leaves the list under the lock of the past.
        let past = self.past.lock();
        let (mut totals, open) = (*past, self.connections());
        drop(past);
        open.iter().for_each(|connection| totals.add(&connection.totals()));
        totals
    }

    /// Closes all connections for which this holds; returns how many.
    pub fn close_where(&self, reason: &str, is_meant: impl Fn(&ConnectionInfo) -> bool) -> usize {
        // Not under the lock: they are woken.
        let meant: Vec<_> = self.connections.read().values().filter(|it| is_meant(it)).cloned().collect();
        meant.iter().for_each(|connection| connection.close(reason));
        meant.len()
    }

    /// Lists a connection for as long as the entry lives.
    pub(crate) fn enter(self: &Arc<Self>, connection: ConnectionInfo) -> Entry {
        let connection = Arc::new(connection);
        self.opened.fetch_add(1, Ordering::Release);
        self.connections.write().insert(connection.id, connection.clone());
        Entry { connection, registry: self.clone() }
    }
}

/// A connection's own place in the registry.
#[derive(Debug)]
pub(crate) struct Entry {
    connection: Arc<ConnectionInfo>,
    registry: Arc<Registry>,
}

impl std::ops::Deref for Entry {
    type Target = ConnectionInfo;

    fn deref(&self) -> &ConnectionInfo {
        &self.connection
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut totals = self.connection.totals();
        totals.closed = totals.opened;
        let mut past = self.registry.past.lock();
        past.add(&totals);
        self.registry.connections.write().remove(&self.connection.id);
        drop(past);
        self.registry.closed.fetch_add(1, Ordering::Release);
    }
}

/// An open connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Its session's number, which no other connection has.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it has connected to.
    pub local: SocketAddr,
    /// Who has logged in.
    pub user: Arc<str>,
    /// The virtual host.
    pub vhost: Arc<str>,
    /// What the client says about itself.
    pub client_properties: FieldTable,
    /// `PLAIN` or `AMQPLAIN`.
    pub auth_mechanism: &'static str,
    /// Channels that were agreed on at most; 0 for no limit.
    pub channel_max: u16,
    /// Bytes of a frame at most.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat: u16,
    /// Milliseconds since 1970.
    pub connected_at: u64,
    pub(crate) traffic: Counters,
    pub(crate) state: AtomicU8,
    pub(crate) channels: Mutex<Vec<Arc<ChannelInfo>>>,
    /// What its closed channels have done.
    past: Mutex<ChannelTotals>,
    /// Why it is to close.
    closing: Mutex<Option<Arc<str>>>,
    mailbox: Arc<Mailbox>,
}

/// Bytes and packets: what was read or written at once.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// What has gone over a connection since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the client.
    pub received_bytes: u64,
    /// Bytes to the client.
    pub sent_bytes: u64,
    /// Reads from the socket.
    pub received: u64,
    /// Writes to the socket.
    pub sent: u64,
}

impl Counters {
    /// Only the connection's task writes, so nothing is lost between load and store.
    pub(crate) fn add_received(&self, bytes: usize) {
        bump(&self.received_bytes, bytes as u64);
        bump(&self.received, 1);
    }

    pub(crate) fn add_sent(&self, bytes: usize) {
        bump(&self.sent_bytes, bytes as u64);
        bump(&self.sent, 1);
    }
}

fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

/// What a connection is doing, in RabbitMQ's words ([`ConnectionState::name`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectionState {
    /// Nothing special.
    Running,
    /// It is not read for a moment, because its queues are crowded or the disk is behind.
    Flow,
    /// Publishers wait because memory or disk runs out; this one has published nothing.
    Blocking,
    /// Publishers wait because memory or disk runs out; this is one.
    Blocked,
    /// It is being closed.
    Closing,
}

impl ConnectionState {
    const ALL: [ConnectionState; 5] = [
        ConnectionState::Running,
        ConnectionState::Flow,
        ConnectionState::Blocking,
        ConnectionState::Blocked,
        ConnectionState::Closing,
    ];

    /// RabbitMQ's name for it.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionState::Running => "running",
            ConnectionState::Flow => "flow",
            ConnectionState::Blocking => "blocking",
            ConnectionState::Blocked => "blocked",
            ConnectionState::Closing => "closing",
        }
    }
}

/// What was agreed in a handshake.
pub(crate) struct Agreed {
    pub(crate) addresses: (SocketAddr, SocketAddr),
    pub(crate) user: Arc<str>,
    pub(crate) vhost: Arc<str>,
    pub(crate) client_properties: FieldTable,
    pub(crate) auth_mechanism: &'static str,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
}

impl ConnectionInfo {
    pub(crate) fn new(id: u64, mailbox: Arc<Mailbox>, agreed: Agreed) -> ConnectionInfo {
        let Agreed { addresses, user, vhost, client_properties, auth_mechanism, channel_max, frame_max, heartbeat } =
            agreed;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ConnectionInfo {
            id,
            peer: canonical(addresses.0),
            local: canonical(addresses.1),
            user,
            vhost,
            client_properties,
            auth_mechanism,
            channel_max,
            frame_max,
            heartbeat,
            connected_at: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            traffic: Counters::default(),
            state: AtomicU8::new(ConnectionState::Running as u8),
            channels: Mutex::default(),
            past: Mutex::default(),
            closing: Mutex::default(),
            mailbox,
        }
    }

    /// `127.0.0.1:53018 -> 127.0.0.1:5672`
    pub fn name(&self) -> String {
        format!("{} -> {}", self.peer, self.local)
    }

    /// What has gone over it.
    pub fn traffic(&self) -> Traffic {
        let Counters { received_bytes, sent_bytes, received, sent } = &self.traffic;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            received_bytes: read(received_bytes),
            sent_bytes: read(sent_bytes),
            received: read(received),
            sent: read(sent),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> ConnectionState {
        let state = self.state.load(Ordering::Relaxed);
        ConnectionState::ALL.into_iter().find(|it| *it as u8 == state).unwrap_or(ConnectionState::Running)
    }

    pub(crate) fn set_state(&self, state: ConnectionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Its channels, by number.
    pub fn channels(&self) -> Vec<Arc<ChannelInfo>> {
        let mut channels = self.channels.lock().clone();
        channels.sort_by_key(|channel| channel.number);
        channels
    }

    /// Closes it with 320 CONNECTION_FORCED and this text. Returns at once; the client has a few seconds to answer.
    pub fn close(&self, reason: &str) {
        self.closing.lock().get_or_insert_with(|| reason.into());
        self.mailbox.post(Event::Notice);
    }

    /// Why it is to close, once.
    pub(crate) fn take_closing(&self) -> Option<Arc<str>> {
        self.closing.lock().take()
    }

    pub(crate) fn add_channel(&self, number: u16) -> Arc<ChannelInfo> {
        let channel = Arc::new(ChannelInfo { number, status: Mutex::default() });
        self.channels.lock().push(channel.clone());
        self.past.lock().opened += 1;
        channel
    }

    pub(crate) fn remove_channel(&self, number: u16) {
        let mut past = self.past.lock();
        self.channels.lock().retain(|channel| {
            if channel.number == number {
                past.closed += 1;
                past.add_channel(&channel.status());
            }
            channel.number != number
        });
    }

    /// What all its channels did.
    fn totals(&self) -> ChannelTotals {
        let past = self.past.lock();
        let mut totals = *past;
        self.channels.lock().iter().for_each(|channel| totals.add_channel(&channel.status()));
        totals
    }
}

/// Without the IPv6 form of IPv4 addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An open channel.
#[derive(Debug)]
pub struct ChannelInfo {
    /// Its number on the connection.
    pub number: u16,
    status: Mutex<ChannelStatus>,
}

impl ChannelInfo {
    /// How it was after the last batch.
    pub fn status(&self) -> ChannelStatus {
        self.status.lock().clone()
    }

    pub(crate) fn set_status(&self, status: ChannelStatus) {
        *self.status.lock() = status;
    }
}

pub use leveret_broker::ChannelStatus;
