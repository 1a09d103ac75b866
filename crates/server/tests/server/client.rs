//! A client that says exactly what it is told to say, and reads one frame at a time.

use crate::server::Server;
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection, queue};
use leveret_wire::table::{FieldTable, Table};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is done, its bytes, and how the connection is closed for it: code, text, class and method id.
pub type Case<'a> = (&'a str, Vec<u8>, u16, &'a str, (u16, u16));

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The method in it; panics with the frame if there is none.
    pub fn method(&self) -> Method<'_> {
        assert_eq!(self.kind, frame::METHOD, "a method: {self:?}");
        Method::decode(&self.payload).expect("the server writes valid methods")
    }

    /// Whether it is the method with these ids.
    pub fn is(&self, id: (u16, u16)) -> bool {
        self.kind == frame::METHOD && self.method().id() == id
    }
}

/// What a client says in its handshake.
#[derive(Clone)]
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub vhost: &'a str,
    pub properties: FieldTable,
    pub tune: connection::TuneOk,
}

impl Default for Login<'_> {
    fn default() -> Self {
        let tune = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        Login { user: "guest", password: "guest", vhost: "/", properties: FieldTable::new(), tune }
    }
}

impl Login<'_> {
    /// Asks for a heartbeat every so many seconds.
    pub fn heartbeat(mut self, seconds: u16) -> Self {
        self.tune.heartbeat = seconds;
        self
    }

    /// Declares a capability.
    pub fn capable(mut self, of: &str) -> Self {
        let capabilities = FieldTable::new().with(of, true);
        self.properties = FieldTable::new().with("capabilities", &capabilities);
        self
    }

    /// connection.start-ok as bytes.
    pub fn start_ok(&self) -> Vec<u8> {
        let response = format!("\0{}\0{}", self.user, self.password);
        let start_ok = connection::StartOk {
            client_properties: self.properties.as_table(),
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        method(0, start_ok)
    }
}

/// A socket to the server and what was read from it.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and says nothing.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Client { stream, buffer: Vec::new() }
    }

    /// Connects, sends the protocol header and reads connection.start.
    pub fn started(address: SocketAddr) -> Client {
        let mut client = Client::connect(address);
        client.send(&frame::PROTOCOL_HEADER);
        client.expect(0, connection::Start::ID);
        client
    }

    /// As [`Client::started`], and logs in up to connection.tune.
    pub fn tuning(address: SocketAddr) -> Client {
        let mut client = Client::started(address);
        client.send(&Login::default().start_ok());
        client.expect(0, connection::Tune::ID);
        client
    }

    /// An open connection of guest.
    pub fn open(server: &Server) -> Client {
        Client::open_as(server, &Login::default())
    }

    /// An open connection.
    pub fn open_as(server: &Server, login: &Login<'_>) -> Client {
        Client::open_at(server.address, login)
    }

    /// An open connection to this address.
    pub fn open_at(address: SocketAddr, login: &Login<'_>) -> Client {
        let mut client = Client::started(address);
        client.send(&login.start_ok());
        let offer = client.expect(0, connection::Tune::ID);
        let Method::ConnectionTune(offer) = offer.method() else { unreachable!("expected above") };
        let channel_max = login.tune.channel_max.min(offer.channel_max);
        client.say(0, connection::TuneOk { channel_max, ..login.tune });
        client.call(0, connection::Open { virtual_host: login.vhost }, connection::OpenOk::ID);
        client
    }

    /// Writes bytes. A server that has closed is no failure here: what it said before is still to be read.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "it is written: {error}");
        }
    }

    /// Sends a method.
    pub fn say<'a>(&mut self, channel: u16, what: impl Into<Method<'a>>) {
        self.send(&method(channel, what));
    }

    /// Sends a method and returns its answer, which has these ids.
    pub fn call<'a>(&mut self, channel: u16, what: impl Into<Method<'a>>, answer: (u16, u16)) -> Frame {
        self.say(channel, what);
        self.expect(channel, answer)
    }

    /// The next frame; `None` if the server has closed the socket.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            let head = frame::parse(&self.buffer, 0).expect("the server writes valid frames");
            if let Some((frame::Frame { kind, channel, payload }, len)) = head {
                let read = Frame { kind, channel, payload: payload.to_vec() };
                self.buffer.drain(..len);
                return Some(read);
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("a frame is read: {error}"),
            }
        }
    }

    /// The next frame, whatever it is.
    pub fn frame(&mut self) -> Frame {
        self.next().expect("the connection is open")
    }

    /// The next frame, which is this method.
    pub fn expect(&mut self, channel: u16, id: (u16, u16)) -> Frame {
        let frame = self.frame();
        assert!(frame.channel == channel && frame.is(id), "method {id:?} on channel {channel}, got {}", shown(&frame));
        frame
    }

    /// Nothing comes for a while.
    pub fn expect_silence(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a socket");
        let mut chunk = [0; 4096];
        let read = if self.buffer.is_empty() { self.stream.read(&mut chunk) } else { Ok(self.buffer.len()) };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        match read {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("nothing is expected, got {other:?} {:?} {:?}", self.buffer, &chunk[..64]),
        }
    }

    /// The server closes the socket without another word; heartbeats don't count.
    pub fn expect_end(&mut self) {
        while let Some(frame) = self.next() {
            assert_eq!(frame.kind, frame::HEARTBEAT, "the end, got {}", shown(&frame));
        }
    }

    /// The server closes the connection with these; it gets its answer, and the socket ends.
    pub fn expect_close(&mut self, code: u16, text: &str, id: (u16, u16)) {
        let frame = self.expect(0, connection::Close::ID);
        let Method::ConnectionClose(close) = frame.method() else { unreachable!("expected above") };
        assert_eq!((close.reply_code, close.reply_text, (close.class_id, close.method_id)), (code, text, id));
        self.say(0, connection::CloseOk);
        let _ = self.stream.shutdown(Shutdown::Write);
        self.expect_end();
    }

    /// The server closes the channel with these; it gets its answer.
    pub fn expect_channel_close(&mut self, channel: u16, code: u16, text: &str, id: (u16, u16)) {
        let frame = self.expect(channel, channel::Close::ID);
        let Method::ChannelClose(close) = frame.method() else { unreachable!("expected above") };
        assert_eq!((close.reply_code, close.reply_text, (close.class_id, close.method_id)), (code, text, id));
        self.say(channel, channel::CloseOk);
    }

    /// Opens a channel.
    pub fn channel(&mut self, number: u16) {
        self.call(number, channel::Open, channel::OpenOk::ID);
    }

    /// Declares an exclusive queue; returns its name.
    pub fn declare(&mut self, channel: u16, name: &str) -> String {
        self.declare_with(channel, queue::Declare { queue: name, exclusive: true, ..queue::Declare::default() })
    }

    /// Declares a queue; returns its name.
    pub fn declare_with(&mut self, channel: u16, declare: queue::Declare<'_>) -> String {
        let answer = self.call(channel, declare, queue::DeclareOk::ID);
        let Method::QueueDeclareOk(ok) = answer.method() else { unreachable!("expected above") };
        ok.queue.to_string()
    }

    /// Messages that are ready in a queue.
    pub fn ready(&mut self, channel: u16, name: &str) -> u32 {
        let declare = queue::Declare { queue: name, passive: true, ..queue::Declare::default() };
        let answer = self.call(channel, declare, queue::DeclareOk::ID);
        let Method::QueueDeclareOk(ok) = answer.method() else { unreachable!("expected above") };
        ok.message_count
    }

    /// Starts a consumer.
    pub fn consume(&mut self, channel: u16, queue: &str, consumer_tag: &str, no_ack: bool) {
        let consume = basic::Consume { queue, consumer_tag, no_ack, ..basic::Consume::default() };
        self.call(channel, consume, basic::ConsumeOk::ID);
    }

    /// Publishes a message in frames of the usual size.
    pub fn publish_bytes(&mut self, channel: u16, exchange: &str, routing_key: &str, body: &[u8]) {
        self.send(&publish(channel, exchange, routing_key, body));
    }

    /// Reads basic.deliver with its content; returns the body.
    pub fn delivery(&mut self, channel: u16) -> Vec<u8> {
        self.expect(channel, basic::Deliver::ID);
        self.content(channel)
    }

    /// Reads header and body frames; returns the body.
    pub fn content(&mut self, channel: u16) -> Vec<u8> {
        let header = self.frame();
        assert_eq!((header.kind, header.channel), (frame::HEADER, channel));
        let size = u64::from_be_bytes(header.payload[4..12].try_into().expect("8 octets"));
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let piece = self.frame();
            assert_eq!((piece.kind, piece.channel), (frame::BODY, channel));
            body.extend_from_slice(&piece.payload);
        }
        body
    }

    /// Closes the connection as it should be done.
    pub fn close(mut self) {
        self.say(0, connection::Close { reply_code: 200, ..connection::Close::default() });
        while !self.frame().is(connection::CloseOk::ID) {}
        self.expect_end();
    }

    /// How long it takes until the server closes the socket; what it says before is dropped.
    pub fn time_to_end(&mut self, limit: Duration) -> Duration {
        let begin = Instant::now();
        self.stream.set_read_timeout(Some(limit)).expect("a socket");
        while self.next().is_some() {}
        begin.elapsed()
    }
}

fn shown(frame: &Frame) -> String {
    match frame.kind {
        frame::METHOD => format!("{:?} on channel {}", frame.method(), frame.channel),
        _ => format!("{frame:?}"),
    }
}

/// A method frame as bytes.
pub fn method<'a>(channel: u16, method: impl Into<Method<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_method(&mut out, channel, &method.into());
    out
}

/// Any frame as bytes.
pub fn raw_frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(frame::END);
    out
}

/// basic.publish as bytes, without content.
pub fn publish_method(channel: u16, exchange: &str, routing_key: &str) -> Vec<u8> {
    method(channel, basic::Publish { exchange, routing_key, ..basic::Publish::default() })
}

/// A content header as bytes.
pub fn header(channel: u16, size: u64, headers: Table<'_>) -> Vec<u8> {
    let mut properties = Vec::new();
    let headers = (!headers.is_empty()).then_some(headers);
    leveret_wire::properties::Properties { headers, ..Default::default() }.encode(&mut properties);
    let mut out = Vec::new();
    frame::write_header(&mut out, channel, size, &properties);
    out
}

/// A persistent message as bytes.
pub fn persistent(channel: u16, exchange: &str, routing_key: &str, body: &[u8]) -> Vec<u8> {
    let mut properties = Vec::new();
    let persistent = leveret_wire::properties::Properties { delivery_mode: Some(2), ..Default::default() };
    persistent.encode(&mut properties);
    let mut out = publish_method(channel, exchange, routing_key);
    frame::write_header(&mut out, channel, body.len() as u64, &properties);
    frame::write_body(&mut out, channel, body, 131_072);
    out
}

/// basic.publish with its content as bytes.
pub fn publish(channel: u16, exchange: &str, routing_key: &str, body: &[u8]) -> Vec<u8> {
    let mut out = publish_method(channel, exchange, routing_key);
    out.extend(header(channel, body.len() as u64, Table::EMPTY));
    frame::write_body(&mut out, channel, body, 131_072);
    out
}
