//! From the protocol header to connection.open (specification, section 2.2.4). Bounded in bytes and time.

use super::failure::Failure;
use crate::auth::{Access, Door, User};
use crate::limits::{FRAME_MAX_BEFORE_OPEN, FRAME_MIN};
use crate::server::Server;
use anyhow::{Context, Result, bail};
use leveret_broker::VirtualHost;
use leveret_wire::frame;
use leveret_wire::method::{Method, connection};
use leveret_wire::table::{FieldTable, Table, Value};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that has been opened: what was agreed.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) access: Access,
    pub(super) vhost: Arc<VirtualHost>,
    pub(super) client: Client,
    /// What the client says about itself, for whoever looks at the connections.
    pub(super) properties: FieldTable,
    /// `PLAIN` or `AMQPLAIN`.
    pub(super) mechanism: &'static str,
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) heartbeat: u16,
    /// Bytes that the client sent behind connection.open.
    pub(super) rest: Vec<u8>,
}

impl Opened {
    pub(super) fn user(&self) -> &str {
        self.access.user()
    }

    pub(super) fn vhost_name(&self) -> &Arc<str> {
        self.vhost.name()
    }
}

/// What a client says about itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    /// Wants connection.close for a refused login, not a closed socket.
    authentication_failure_close: bool,
    /// Understands connection.blocked.
    pub(super) blocked: bool,
    /// Understands basic.cancel from the server.
    pub(super) cancel_notify: bool,
    /// It is py-amqp, below kombu and celery: see `Session::set_live_prefetch`.
    pub(super) py_amqp: bool,
}

impl Client {
    fn new(properties: Table<'_>) -> Client {
        let capabilities = match properties.get("capabilities") {
            Some(Value::Table(table)) => table,
            _ => Table::EMPTY,
        };
        let has = |name| matches!(capabilities.get(name), Some(Value::Bool(true)));
        Client {
            authentication_failure_close: has("authentication_failure_close"),
            blocked: has("connection.blocked"),
            cancel_notify: has("consumer_cancel_notify"),
            py_amqp: properties.get("product").and_then(|product| product.as_str()) == Some("py-amqp"),
        }
    }
}

/// Runs the handshake up to connection.open-ok, which the connection itself says when it is listed. An error is for the
/// log: the client has been told what it has to know.
pub(super) async fn run(stream: &mut TcpStream, peer: SocketAddr, server: &Server) -> Result<Opened> {
    let mut io = Io { stream, buffer: Vec::new(), used: 0 };
    io.protocol_header().await?;
    let properties = server_properties();
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: properties.as_table(),
        mechanisms: b"PLAIN AMQPLAIN",
        locales: b"en_US",
    };
    io.write(&start.into()).await?;
    let LoggedIn { user, client, properties, mechanism } = io.login(peer, server).await?;
    let (channel_max, frame_max, heartbeat) = io.tune(server).await?;
    let (access, vhost) = io.open(&user, server).await?;
    let rest = io.buffer.split_off(io.used);
    Ok(Opened { access, vhost, client, properties, mechanism, channel_max, frame_max, heartbeat, rest })
}

fn server_properties() -> FieldTable {
    let mut capabilities = FieldTable::new();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name, true);
    }
    FieldTable::new()
        .with("capabilities", &capabilities)
        .with("product", "Leveret")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("platform", "Rust")
        .with("copyright", "The Leveret authors")
        .with("information", "Licensed under MIT or Apache-2.0")
        .with("cluster_name", "leveret")
}

/// A client that has said who it is, and has shown it.
struct LoggedIn {
    user: Arc<User>,
    client: Client,
    properties: FieldTable,
    mechanism: &'static str,
}

struct Io<'a> {
    stream: &'a mut TcpStream,
    /// At most one frame and what came with it.
    buffer: Vec<u8>,
    used: usize,
}

impl Io<'_> {
    async fn protocol_header(&mut self) -> Result<()> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).await.context("no protocol header")?;
        // 1-1-0-9 is what some 0-9 clients send; RabbitMQ accepts it too.
        if header == frame::PROTOCOL_HEADER || header == *b"AMQP\x01\x01\x00\x09" {
            return Ok(());
        }
        self.stream.write_all(&frame::PROTOCOL_HEADER).await?;
        bail!("the client speaks another protocol: its first bytes are {:?}", String::from_utf8_lossy(&header));
    }

    async fn write(&mut self, method: &Method<'_>) -> Result<()> {
        let mut out = Vec::new();
        frame::write_method(&mut out, 0, method);
        self.stream.write_all(&out).await.context("cannot write to the client")
    }

    /// Makes the next method frame on channel 0 available; heartbeats are skipped. Returns its range in the buffer.
    async fn read(&mut self) -> Result<std::ops::Range<usize>> {
        loop {
            match frame::parse(&self.buffer[self.used..], FRAME_MAX_BEFORE_OPEN) {
                Ok(Some((frame, len))) => {
                    let start = self.used + 7;
                    let range = start..start + frame.payload.len();
                    let (kind, channel) = (frame.kind, frame.channel);
                    self.used += len;
                    match (kind, channel) {
                        (frame::HEARTBEAT, _) => continue,
                        (frame::METHOD, 0) => return Ok(range),
                        _ => {
                            let text = format!("unexpected frame of type {kind} on channel {channel}");
                            return self.fail(Failure::connection(505, text, (0, 0))).await;
                        }
                    }
                }
                Ok(None) => {
                    self.buffer.drain(..self.used);
                    self.used = 0;
                    self.buffer.reserve(1024);
                    let read = self.stream.read_buf(&mut self.buffer).await.context("cannot read from the client")?;
                    if read == 0 {
                        bail!("the client went away");
                    }
                }
                Err(error) => return self.fail(Failure::wire(error)).await,
            }
        }
    }

    /// Closes the connection with a reply code, waits briefly for the answer and returns the error.
    async fn fail<T>(&mut self, failure: Failure) -> Result<T> {
        let (class_id, method_id) = failure.method;
        let close = connection::Close { reply_code: failure.code, reply_text: &failure.text, class_id, method_id };
        self.write(&close.into()).await?;
        let mut ignored = [0; 512];
        // Until the client has read it and closes; a closed socket with unread input would discard what we wrote.
        let answer = async { while self.stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {} };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), answer).await;
        bail!("{}", failure.text)
    }

    async fn login(&mut self, peer: SocketAddr, server: &Server) -> Result<LoggedIn> {
        let range = self.read().await?;
        let ok = match Method::decode(&self.buffer[range]) {
            Ok(Method::ConnectionStartOk(ok)) => ok,
            Ok(other) => return self.unexpected("connection.start-ok", other.name(), other.id()).await,
            Err(error) => return self.fail(Failure::wire(error)).await,
        };
        let (mechanism, credentials) = match ok.mechanism {
            "PLAIN" => ("PLAIN", plain(ok.response)),
            "AMQPLAIN" => ("AMQPLAIN", amqplain(ok.response)),
            other => {
                let text = format!("unsupported authentication mechanism '{}'", other.escape_debug());
                return self.fail(Failure::connection(504, text, connection::StartOk::ID)).await;
            }
        };
        let (client, properties) = (Client::new(ok.client_properties), FieldTable::from(ok.client_properties));
        let (name, password) = credentials.unwrap_or_default();
        if let Some(user) = server.users.login(&name, &password, peer.ip(), Door::Amqp).await {
            return Ok(LoggedIn { user, client, properties, mechanism });
        }
        tracing::warn!(user = name, %peer, "login refused");
        if client.authentication_failure_close {
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            return self.fail(Failure::connection(403, text, (0, 0))).await;
        }
        bail!("login refused for user '{name}'");
    }

    async fn tune(&mut self, server: &Server) -> Result<(u16, u32, u16)> {
        let limits = &server.limits;
        let offer = connection::Tune {
            channel_max: limits.channel_max,
            frame_max: limits.frame_max,
            heartbeat: limits.heartbeat,
        };
        self.write(&offer.into()).await?;
        let range = self.read().await?;
        let agreed = match Method::decode(&self.buffer[range]) {
            Ok(Method::ConnectionTuneOk(ok)) => ok,
            Ok(other) => return self.unexpected("connection.tune-ok", other.name(), other.id()).await,
            Err(error) => return self.fail(Failure::wire(error)).await,
        };
        let checked = above("channel_max", "", agreed.channel_max.into(), limits.channel_max.into())
            .or_else(|| above("frame_max", " bytes", agreed.frame_max, limits.frame_max))
            .or_else(|| below(agreed.frame_max));
        match checked {
            Some(text) => self.fail(Failure::connection(530, text, connection::TuneOk::ID)).await,
            None => Ok((agreed.channel_max, agreed.frame_max, agreed.heartbeat)),
        }
    }

    async fn open(&mut self, user: &User, server: &Server) -> Result<(Access, Arc<VirtualHost>)> {
        let range = self.read().await?;
        let name = match Method::decode(&self.buffer[range]) {
            Ok(Method::ConnectionOpen(open)) => open.virtual_host.to_string(),
            Ok(other) => return self.unexpected("connection.open", other.name(), other.id()).await,
            Err(error) => return self.fail(Failure::wire(error)).await,
        };
        let refuse = |text| Failure::connection(530, text, connection::Open::ID);
        let Some(vhost) = server.broker.vhost(&name) else {
            return self.fail(refuse(format!("vhost {name} not found"))).await;
        };
        let access = server.users.access(user.name(), &name).filter(Access::is_open);
        let Some(access) = access else {
            let text = format!("access to vhost '{name}' refused for user '{}'", user.name());
            return self.fail(refuse(text)).await;
        };
        Ok((access, vhost))
    }

    async fn unexpected<T>(&mut self, expected: &str, name: &str, id: (u16, u16)) -> Result<T> {
        // A client that gives up in the middle says so properly.
        if id == connection::Close::ID {
            self.write(&connection::CloseOk.into()).await?;
            bail!("the client closed the connection during the handshake");
        }
        let text = format!("expected '{expected}', got '{name}'");
        self.fail(Failure::connection(503, text, id)).await
    }
}

/// SASL PLAIN (RFC 4616): an identity that is ignored, the user and the password, each behind a zero octet.
fn plain(response: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut parts = response.splitn(3, |&byte| byte == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((String::from_utf8(user.to_vec()).ok()?, password.to_vec()))
}

/// AMQPLAIN: a field table's entries with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<(String, Vec<u8>)> {
    let table = Table::new(response).ok()?;
    match (table.get("LOGIN")?.as_str()?, table.get("PASSWORD")?) {
        (user, Value::LongString(password)) => Some((user.to_string(), password.to_vec())),
        _ => None,
    }
}

fn above(name: &str, unit: &str, value: u32, max: u32) -> Option<String> {
    let shown = if value == 0 { "0 (no limit)".to_string() } else { value.to_string() };
    (max != 0 && (value == 0 || value > max))
        .then(|| format!("negotiated {name} = {shown}{unit} is higher than the maximum allowed value ({max}{unit})"))
}

fn below(frame_max: u32) -> Option<String> {
    (frame_max < FRAME_MIN).then(|| {
        format!("negotiated frame_max = {frame_max} bytes is lower than the minimum allowed value ({FRAME_MIN} bytes)")
    })
}
