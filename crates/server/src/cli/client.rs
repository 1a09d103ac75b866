//! A small blocking client for the commands that talk to a broker over the wire: any AMQP 0-9-1 broker.
//!
//! One connection, one channel, one thread. Heartbeats are turned off (the operating system's keep-alive notices a
//! dead peer), so a connection costs nothing while it waits.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use leveret_wire::frame::{self, Frame};
use leveret_wire::method::{Method, channel, connection};
use leveret_wire::table::FieldTable;
use socket2::{SockRef, TcpKeepalive};

/// The only channel these commands open.
pub const CHANNEL: u16 = 1;
/// The largest frame we agree to; RabbitMQ's default.
pub const FRAME_MAX: u32 = 131_072;

/// class 10, method 51.
const CLOSE_OK: [u8; 4] = [0, 10, 0, 51];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a broker is and who logs in, from `amqp://user:password@host:port/vhost`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// A name or an address.
    pub host: String,
    /// 5672 unless given.
    pub port: u16,
    /// `guest` unless given.
    pub user: String,
    /// `guest` unless given.
    pub password: String,
    /// `/` unless given.
    pub vhost: String,
}

impl Url {
    /// The broker on this machine.
    pub const DEFAULT: &str = "amqp://guest:guest@localhost:5672";
}

/// Without the password: this goes to terminals and logs.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "amqp://{}@{}:{}/{}", self.user, self.host, self.port, self.vhost)
    }
}

impl FromStr for Url {
    type Err = anyhow::Error;

    /// As RabbitMQ's URI specification says, and as its clients do where that differs: a path of only `/` is the
    /// default virtual host.
    fn from_str(text: &str) -> Result<Self> {
        ensure!(!text.starts_with("amqps://"), "amqps:// isn't supported by this command: use amqp://");
        let rest = text
            .strip_prefix("amqp://")
            .with_context(|| format!("a broker's URL starts with amqp://, for example {}", Self::DEFAULT))?;
        if let Some((_, query)) = rest.split_once('?') {
            bail!("unknown URL parameters: {query}");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        // The brackets of [::1] keep the colons of an IPv6 address apart from the port's.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (address, ""),
        };
        let port = match port {
            "" => 5672,
            port => port.parse().with_context(|| format!("{port} is no port number"))?,
        };
        let host = percent_decoded(host.trim_start_matches('[').trim_end_matches(']'))?;
        Ok(Self {
            host: if host.is_empty() { "localhost".into() } else { host },
            port,
            user: percent_decoded(user)?,
            password: percent_decoded(password)?,
            vhost: if path.is_empty() { "/".into() } else { percent_decoded(path)? },
        })
    }
}

pub(super) fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).with_context(|| format!("% needs two digits in {text}"))?;
        let digits = std::str::from_utf8(digits)?;
        bytes.push(u8::from_str_radix(digits, 16).with_context(|| format!("%{digits} isn't hexadecimal in {text}"))?);
        rest = tail;
    }
    String::from_utf8(bytes).with_context(|| format!("{text} isn't UTF-8 when its escapes are decoded"))
}

/// An open connection with [`CHANNEL`] open on it.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Where what hasn't been used of `input` starts.
    start: usize,
    /// Octets of a whole frame that both sides agreed to.
    pub frame_max: u32,
    /// What the broker calls itself, from its properties.
    pub broker: String,
}

impl Connection {
    /// Connects, logs in, and opens [`CHANNEL`].
    ///
    /// # Errors
    /// With what to do about it: nobody listens there, the login is refused, the virtual host doesn't exist.
    pub fn open(url: &Url) -> Result<Self> {
        let stream = connect(url)?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
        let mut connection = Self { stream, input: Vec::new(), start: 0, frame_max: FRAME_MAX, broker: String::new() };
        connection.log_in(url).with_context(|| format!("cannot log in at {}:{}", url.host, url.port))?;
        connection.call(channel::Open {}.into(), |method| matches!(method, Method::ChannelOpenOk(_)).then_some(()))?;
        Ok(connection)
    }

    fn log_in(&mut self, url: &Url) -> Result<()> {
        self.stream.write_all(&frame::PROTOCOL_HEADER)?;
        self.broker = self.wait(0, |method| match method {
            Method::ConnectionStart(start) => {
                let text = |key| start.server_properties.get(key).and_then(|value| value.as_str()).unwrap_or("?");
                Some(format!("{} {}", text("product"), text("version")))
            }
            _ => None,
        })?;
        let properties = client_properties();
        let response = format!("\0{}\0{}", url.user, url.password);
        let start_ok = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        self.send(0, start_ok.into())?;
        let tune = |method: Method<'_>| match method {
            Method::ConnectionTune(tune) => Some((tune.channel_max, tune.frame_max)),
            _ => None,
        };
        let (channel_max, frame_max) = self.wait(0, tune).context(
            "the broker refused the login: check user and password (guest is usually accepted from the same machine only)",
        )?;
        let frame_max = if frame_max == 0 { FRAME_MAX } else { frame_max.min(FRAME_MAX) };
        self.frame_max = frame_max;
        self.send(0, connection::TuneOk { channel_max, frame_max, heartbeat: 0 }.into())?;
        self.send(0, connection::Open { virtual_host: &url.vhost }.into())?;
        self.wait(0, |method| matches!(method, Method::ConnectionOpenOk(_)).then_some(()))
            .with_context(|| format!("cannot open the virtual host {}", url.vhost))
    }

    /// Sends a method on [`CHANNEL`] and waits until `expected` finds its answer. Everything else that arrives in the
    /// meantime is dropped.
    ///
    /// # Errors
    /// When the broker closes the channel or the connection, or doesn't answer within a minute.
    pub fn call<T>(&mut self, method: Method<'_>, expected: impl Fn(Method<'_>) -> Option<T>) -> Result<T> {
        let name = method.name();
        self.send(CHANNEL, method)?;
        self.wait(CHANNEL, expected).with_context(|| format!("{name} failed"))
    }

    /// Sends a method without waiting.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, channel: u16, method: Method<'_>) -> Result<()> {
        let mut out = Vec::new();
        frame::write_method(&mut out, channel, &method);
        Ok(self.stream.write_all(&out)?)
    }

    /// Sends encoded frames.
    ///
    /// # Errors
    /// When the connection is gone: with the broker's reason if it gave one.
    pub fn send_frames(&mut self, frames: &[u8]) -> Result<()> {
        self.stream.write_all(frames).map_err(|error| self.why_closed(error))
    }

    /// Waits for the next frame and hands it to `use_frame`.
    ///
    /// # Errors
    /// When the broker closes the channel or the connection, or cancels a consumer; or what `use_frame` returns.
    pub fn receive<T>(&mut self, use_frame: impl FnOnce(Frame<'_>) -> Result<T>) -> Result<T> {
        loop {
            if let Some((frame, size)) = frame::parse(&self.input[self.start..], FRAME_MAX)? {
                self.start += size;
                if frame.kind == frame::METHOD {
                    refuse_close(frame.payload)?;
                }
                return use_frame(frame);
            }
            self.input.drain(..self.start);
            self.start = 0;
            let before = self.input.len();
            self.input.resize(before + 65536, 0);
            let outcome = read(&mut self.stream, &mut self.input[before..]);
            self.input.truncate(before + *outcome.as_ref().unwrap_or(&0));
            outcome?;
        }
    }

    /// Says goodbye and waits for the answer, so that the broker doesn't log an abrupt end. What goes wrong here doesn't
    /// matter any more.
    pub fn close(mut self) {
        let close = connection::Close { reply_code: 200, reply_text: "goodbye", class_id: 0, method_id: 0 };
        let ready = self.stream.set_read_timeout(Some(Duration::from_millis(500))).is_ok();
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut answered = !ready || self.send(0, close.into()).is_err();
        while !answered && Instant::now() < deadline {
            // Deliveries may be under way before the answer.
            let is_answer = |frame: Frame<'_>| Ok(frame.payload.starts_with(&CLOSE_OK) && frame.channel == 0);
            answered = self.receive(is_answer).unwrap_or(true);
        }
    }

    /// The socket, and what has been read from it beyond the last answer.
    pub fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.input.drain(..self.start);
        (self.stream, self.input)
    }

    /// The reverse of [`into_parts`](Self::into_parts).
    pub fn from_parts(stream: TcpStream, input: Vec<u8>) -> Self {
        Self { stream, input, start: 0, frame_max: FRAME_MAX, broker: String::new() }
    }

    fn wait<T>(&mut self, channel: u16, expected: impl Fn(Method<'_>) -> Option<T>) -> Result<T> {
        self.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        loop {
            let found = self.receive(|frame| {
                let wanted = frame.kind == frame::METHOD && frame.channel == channel;
                Ok(if wanted { expected(Method::decode(frame.payload)?) } else { None })
            });
            if let Some(found) = found? {
                self.stream.set_read_timeout(None)?;
                return Ok(found);
            }
        }
    }

    /// A write fails when the broker has closed the connection; what it said before is still there to be read.
    fn why_closed(&mut self, error: std::io::Error) -> anyhow::Error {
        let timeout = self.stream.set_read_timeout(Some(Duration::from_millis(500)));
        while timeout.is_ok() {
            match self.receive(|_| Ok(())) {
                Ok(()) => {}
                Err(reason) if reason.downcast_ref::<std::io::Error>().is_none() => return reason,
                Err(_) => break,
            }
        }
        anyhow!(error).context("the connection to the broker is gone")
    }
}

/// Appends an acknowledgement of everything up to `tag`.
pub fn write_ack(out: &mut Vec<u8>, tag: u64) {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = tag.to_be_bytes();
    out.extend_from_slice(&[
        frame::METHOD,
        0,
        CHANNEL as u8,
        0,
        0,
        0,
        13,
        0,
        60,
        0,
        80,
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        t6,
        t7,
        1,
        frame::END,
    ]);
}

/// Whether a method from the broker, given as a whole frame, leaves the connection usable.
///
/// # Errors
/// If it closes the channel or the connection, or cancels a consumer.
pub fn refuse_unexpected(frame: &[u8]) -> Result<()> {
    match frame::parse(frame, FRAME_MAX)? {
        Some((frame, _)) => refuse_close(frame.payload),
        None => Ok(()),
    }
}

fn refuse_close(payload: &[u8]) -> Result<()> {
    match Method::decode(payload)? {
        Method::ConnectionClose(close) => {
            bail!("the broker closed the connection: {} {}", close.reply_code, close.reply_text)
        }
        Method::ChannelClose(close) => {
            bail!("the broker closed the channel: {} {}", close.reply_code, close.reply_text)
        }
        Method::BasicCancel(_) => bail!("the broker cancelled the consumer: was the queue deleted?"),
        _ => Ok(()),
    }
}

/// Reads at least one byte.
fn read(stream: &mut TcpStream, into: &mut [u8]) -> Result<usize> {
    loop {
        match stream.read(into) {
            Ok(0) => bail!("the broker closed the connection without a word"),
            Ok(size) => return Ok(size),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(anyhow!(error).context("the broker doesn't answer"));
            }
            Err(error) => return Err(anyhow!(error).context("the connection to the broker is gone")),
        }
    }
}

fn connect(url: &Url) -> Result<TcpStream> {
    let address = format!("{}:{}", url.host, url.port);
    let candidates = (url.host.as_str(), url.port)
        .to_socket_addrs()
        .with_context(|| format!("cannot find the host {}", url.host))?;
    let mut last = None;
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some((candidate, error)),
        }
    }
    match last {
        Some((at, error)) if error.kind() == ErrorKind::ConnectionRefused => {
            bail!("cannot reach broker at {at}: connection refused. Is it running? Start one with `leveret`")
        }
        Some((at, error)) => bail!("cannot reach broker at {at}: {error}"),
        None => bail!("cannot reach broker at {address}: the name has no address"),
    }
}

fn client_properties() -> FieldTable {
    // With the first, a refused login is answered with a reason instead of a closed socket.
    let capabilities = ["authentication_failure_close", "publisher_confirms", "consumer_cancel_notify", "basic.nack"]
        .into_iter()
        .fold(FieldTable::new(), |table, name| table.with(name, true));
    FieldTable::new()
        .with("product", "leveret command line")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("capabilities", &capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, u16, String, String, String) {
        let url: Url = text.parse().unwrap();
        (url.host, url.port, url.user, url.password, url.vhost)
    }

    fn parts(host: &str, port: u16, user: &str, password: &str, vhost: &str) -> (String, u16, String, String, String) {
        (host.into(), port, user.into(), password.into(), vhost.into())
    }

    #[test]
    fn urls_as_other_clients_read_them() {
        assert_eq!(parsed("amqp://localhost"), parts("localhost", 5672, "guest", "guest", "/"));
        assert_eq!(parsed("amqp://"), parts("localhost", 5672, "guest", "guest", "/"));
        assert_eq!(parsed("amqp://h:1/"), parts("h", 1, "guest", "guest", "/"));
        assert_eq!(parsed("amqp://u:p@h/%2F"), parts("h", 5672, "u", "p", "/"));
        assert_eq!(parsed("amqp://u:p%40%3a@h:10/v%2fw"), parts("h", 10, "u", "p@:", "v/w"));
        assert_eq!(parsed("amqp://u@[::1]/v"), parts("::1", 5672, "u", "", "v"));
        assert_eq!(parsed("amqp://[::1]:5673"), parts("::1", 5673, "guest", "guest", "/"));
    }

    #[test]
    fn urls_that_would_be_misread_are_errors() {
        for text in
            ["localhost", "http://h", "amqps://h", "amqp://h:x", "amqp://h/?heartbeat=1", "amqp://%zz", "amqp://%2"]
        {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url: Url = "amqp://u:secret@h".parse().unwrap();
        assert!(!format!("{url:?}").contains("secret"));
    }
}
