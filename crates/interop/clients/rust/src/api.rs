//! What the situations need of a client.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::mpsc::UnboundedReceiver;

/// What the broker said when it ended a channel or a connection.
#[derive(Debug, Clone)]
pub struct Closed {
    /// `channel` or `connection`.
    pub scope: &'static str,
    pub code: u16,
    /// Class and method of what failed, where the client shows them.
    pub failed: Option<(u16, u16)>,
    pub text: String,
}

/// Why a situation didn't go on.
#[derive(Debug)]
pub enum Failure {
    /// The broker ended the channel or connection.
    Closed(Closed),
    /// The broker closed the socket without a word, or the client didn't keep it.
    SocketClosed,
    /// The client can't express the situation.
    Skip(&'static str),
    /// Anything else.
    Other(String),
}

impl From<&str> for Failure {
    fn from(text: &str) -> Failure {
        Failure::Other(text.into())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Other(text)
    }
}

pub type Outcome<T> = Result<T, Failure>;

/// A field value; the type of each is kept through the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Decimal(u8, u32),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Table(Table),
    Time(u64),
    Nothing,
}

pub type Table = BTreeMap<String, Value>;

/// A table of a few entries.
pub fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

/// The flags of queue.declare and exchange.declare.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags {
    pub passive: bool,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub internal: bool,
}

pub const PLAIN: Flags =
    Flags { passive: false, durable: false, exclusive: false, auto_delete: false, internal: false };
pub const PASSIVE: Flags = Flags { passive: true, ..PLAIN };
pub const DURABLE: Flags = Flags { durable: true, ..PLAIN };
pub const EXCLUSIVE: Flags = Flags { exclusive: true, ..PLAIN };
pub const AUTO_DELETE: Flags = Flags { auto_delete: true, ..PLAIN };

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub headers: Option<Table>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub expiration: Option<String>,
    pub message_id: Option<String>,
    pub timestamp: Option<u64>,
    pub kind: Option<String>,
    pub user_id: Option<String>,
    pub app_id: Option<String>,
}

/// A delivery, or the answer to basic.get.
#[derive(Debug, Clone)]
pub struct Message {
    pub body: Vec<u8>,
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    pub tag: u64,
    pub properties: Properties,
    /// How many messages are left in the queue; basic.get only.
    pub remaining: Option<u32>,
}

impl Message {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What happened on a channel besides deliveries and answers, in the order in which it arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Ack,
    Return(String),
    Cancelled(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Ack => f.write_str("ack"),
            Event::Return(text) => write!(f, "return {text}"),
            Event::Cancelled(tag) => write!(f, "cancelled {tag}"),
        }
    }
}

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct Login {
    pub host: String,
    pub port: u16,
    pub password: String,
    pub vhost: String,
    /// Seconds; the broker's wish if it isn't given.
    pub heartbeat: Option<u16>,
}

#[allow(async_fn_in_trait)] // Nothing here is spawned.
pub trait Client {
    const NAME: &'static str;
    /// Whether it announces authentication_failure_close; a broker just closes the socket of one that doesn't.
    const ASKS_WHY_LOGIN_FAILED: bool;
    type Connection: Connection;
    async fn connect(login: &Login) -> Outcome<Self::Connection>;
}

#[allow(async_fn_in_trait)]
pub trait Connection {
    type Channel: Channel;
    async fn channel(&self) -> Outcome<Self::Channel>;
    /// Negotiated channel_max and frame_max.
    fn tuned(&self) -> (u16, u32);
    /// The server's capabilities, if the client shows them.
    fn capabilities(&self) -> Option<Table>;
    /// Returns after the broker's close-ok.
    async fn close(self) -> Outcome<()>;
}

#[allow(async_fn_in_trait)]
pub trait Channel {
    async fn exchange_declare(&self, name: &str, kind: &str, flags: Flags, arguments: &Table) -> Outcome<()>;
    async fn exchange_delete(&self, name: &str, if_unused: bool) -> Outcome<()>;
    async fn exchange_bind(&self, destination: &str, source: &str, key: &str) -> Outcome<()>;
    async fn exchange_unbind(&self, destination: &str, source: &str, key: &str) -> Outcome<()>;
    /// Name, messages and consumers.
    async fn queue_declare(&self, name: &str, flags: Flags, arguments: &Table) -> Outcome<(String, u32, u32)>;
    async fn queue_bind(&self, queue: &str, exchange: &str, key: &str, arguments: &Table) -> Outcome<()>;
    async fn queue_unbind(&self, queue: &str, exchange: &str, key: &str) -> Outcome<()>;
    async fn queue_purge(&self, queue: &str) -> Outcome<u32>;
    async fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Outcome<u32>;
    async fn publish(&self, to: (&str, &str), body: &[u8], properties: &Properties, mandatory: bool) -> Outcome<()>;
    async fn publish_immediate(&self, exchange: &str, key: &str) -> Outcome<()>;
    async fn get(&self, queue: &str, no_ack: bool) -> Outcome<Option<Message>>;
    async fn consume(
        &self,
        queue: &str,
        tag: &str,
        no_ack: bool,
        exclusive: bool,
        arguments: &Table,
    ) -> Outcome<(String, UnboundedReceiver<Message>)>;
    async fn cancel(&self, tag: &str) -> Outcome<()>;
    async fn ack(&self, tag: u64, multiple: bool) -> Outcome<()>;
    async fn nack(&self, tag: u64, multiple: bool, requeue: bool) -> Outcome<()>;
    async fn reject(&self, tag: u64, requeue: bool) -> Outcome<()>;
    async fn recover(&self, requeue: bool) -> Outcome<()>;
    async fn qos(&self, size: u32, count: u16, global: bool) -> Outcome<()>;
    async fn flow(&self, active: bool) -> Outcome<()>;
    async fn confirm_select(&self) -> Outcome<()>;
    async fn tx_select(&self) -> Outcome<()>;
    async fn tx_commit(&self) -> Outcome<()>;
    async fn tx_rollback(&self) -> Outcome<()>;
    /// Acks (one per message, whatever `multiple` said), returns and cancellations so far.
    async fn events(&self) -> Vec<Event>;

    /// A synchronous method: what the broker had to say about earlier ones has arrived after it.
    async fn barrier(&self) -> Outcome<()> {
        self.qos(0, 0, false).await
    }
}
