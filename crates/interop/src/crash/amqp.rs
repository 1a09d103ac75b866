//! A client for one thread: it sees every answer, and knows how many of its bytes were written.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use leveret_wire::frame::{self, Frame};
use leveret_wire::method::{Method, basic, channel, connection};
use leveret_wire::properties::ContentHeader;
use leveret_wire::table::FieldTable;

use crate::crash::message::{Id, Pattern, write_properties};
use crate::crash::topology::Route;

const FRAME_MAX: u32 = 131_072;
const READ: usize = 64 << 10;
/// How long a broker may say nothing at all. A cycle is shorter.
const SILENCE: Duration = Duration::from_secs(60);

/// Something that the broker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A message: its body is in [`Connection::body`] until the next event.
    Delivery(Delivery),
    /// A confirm of what was published on this channel.
    Confirmed {
        /// The channel.
        channel: u16,
        /// Counts publishes from 1.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// Any other method.
    Answer(Answer),
}

/// A method that answers another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The channel.
    pub channel: u16,
    /// Class and method.
    pub id: (u16, u16),
    /// Messages that were ready, if it is queue.declare-ok.
    pub messages: u32,
    /// Consumers, likewise.
    pub consumers: u32,
}

/// A delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The channel.
    pub channel: u16,
    /// The delivery tag.
    pub tag: u64,
    /// The broker says that it may have been delivered before.
    pub redelivered: bool,
}

/// A connection as guest to a broker on this machine.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// What of `input` is read and not used.
    unused: std::ops::Range<usize>,
    out: Vec<u8>,
    incoming: Incoming,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// If nobody listens, or the broker refuses.
    pub fn open(port: u16) -> Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let (input, incoming) = (vec![0; 2 * FRAME_MAX as usize], Incoming::default());
        let mut connection = Connection { stream, input, unused: 0..0, out: Vec::new(), incoming };
        connection.out.extend_from_slice(&frame::PROTOCOL_HEADER);
        connection.answer(0, connection::Start::ID)?;
        let properties = FieldTable::new().with("product", "leveret crash test");
        let start_ok = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        connection.send(0, start_ok);
        connection.answer(0, connection::Tune::ID)?;
        connection.send(0, connection::TuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 });
        connection.send(0, connection::Open { virtual_host: "/" });
        connection.answer(0, connection::OpenOk::ID)?;
        Ok(connection)
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn open_channel(&mut self, number: u16) -> Result<()> {
        self.call(number, channel::Open).map(drop)
    }

    /// Sends a method and waits for its answer. To be used as long as nothing else is expected on the connection.
    ///
    /// # Errors
    /// If the broker closes channel or connection, or says something else.
    pub fn call<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Result<Answer> {
        let method = method.into();
        let (class, number) = method.id();
        let name = method.name();
        frame::write_method(&mut self.out, channel, &method);
        // The answer's number is the next one, in all classes that are used here.
        self.answer(channel, (class, number + 1)).with_context(|| format!("{name} failed"))
    }

    fn answer(&mut self, channel: u16, id: (u16, u16)) -> Result<Answer> {
        self.flush()?;
        match self.event()? {
            Event::Answer(answer) if answer.channel == channel && answer.id == id => Ok(answer),
            other => bail!("the broker answered {other:?} instead of {id:?} on channel {channel}"),
        }
    }

    /// Appends a method to what the next [`Connection::flush`] writes.
    pub fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        frame::write_method(&mut self.out, channel, &method.into());
    }

    /// Appends a message.
    pub fn publish(&mut self, channel: u16, route: &Route, message: &Outgoing, pattern: &Pattern) {
        let &Outgoing { id, persistent, length } = message;
        let publish = basic::Publish { exchange: route.exchange, routing_key: route.key, ..Default::default() };
        self.send(channel, publish);
        frame::write_header(&mut self.out, channel, length as u64, &write_properties(id, persistent));
        let body = &mut self.incoming.scratch;
        body.clear();
        pattern.write_body(id, length, body);
        frame::write_body(&mut self.out, channel, body, FRAME_MAX);
    }

    /// Writes what was appended.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn flush(&mut self) -> Result<()> {
        let written = self.stream.write_all(&self.out);
        self.out.clear();
        written.context("the connection is gone")
    }

    /// What the broker said next, if it has been read already.
    ///
    /// # Errors
    /// If the broker closed channel or connection, or sent what it never should.
    pub fn poll(&mut self) -> Result<Option<Event>> {
        while let Some((frame, size)) = frame::parse(&self.input[self.unused.clone()], FRAME_MAX)? {
            let event = self.incoming.take(&frame)?;
            self.unused.start += size;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Waits until more has been read.
    ///
    /// # Errors
    /// If the connection is gone, or nothing comes for a minute.
    pub fn read(&mut self) -> Result<()> {
        self.input.copy_within(self.unused.clone(), 0);
        self.unused = 0..self.unused.len();
        let end = self.input.len().min(self.unused.end + READ);
        let size = loop {
            match self.stream.read(&mut self.input[self.unused.end..end]) {
                Ok(0) => bail!("the broker closed the connection without a word"),
                Ok(size) => break size,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(anyhow!(error).context("the broker says nothing"));
                }
                Err(error) => return Err(anyhow!(error).context("the connection is gone")),
            }
        };
        self.unused.end += size;
        Ok(())
    }

    /// Waits for what the broker says next.
    ///
    /// # Errors
    /// Those of [`Connection::poll`] and [`Connection::read`].
    pub fn event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.poll()? {
                return Ok(event);
            }
            self.read()?;
        }
    }

    /// The body of the last delivery.
    pub fn body(&self) -> &[u8] {
        &self.incoming.body
    }

    /// Which message the last delivery is.
    ///
    /// # Errors
    /// If it isn't octet for octet what was published.
    pub fn identify(&self, pattern: &Pattern) -> Result<Id, String> {
        pattern.check(&self.incoming.properties, &self.incoming.body)
    }

    /// How long [`Connection::read`] waits.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// Another handle of the socket, to cut the connection from another thread.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn handle(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Says goodbye. What goes wrong here doesn't matter any more.
    pub fn close(mut self) {
        let close = connection::Close { reply_code: 200, reply_text: "goodbye", class_id: 0, method_id: 0 };
        let _ = self.call(0, close);
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The broker closed a channel.
#[derive(Debug)]
pub struct ChannelClosed {
    channel: u16,
    /// AMQP's reply code.
    pub code: u16,
    text: String,
}

impl fmt::Display for ChannelClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker closed channel {}: {} {}", self.channel, self.code, self.text)
    }
}

impl std::error::Error for ChannelClosed {}

/// A message to be published.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Which one.
    pub id: Id,
    /// It is to survive.
    pub persistent: bool,
    /// Octets of its body.
    pub length: usize,
}

/// From frames to events.
#[derive(Default)]
struct Incoming {
    /// A message of which not all has come.
    delivery: Option<Delivery>,
    /// Octets of its body that have not.
    missing: usize,
    properties: Vec<u8>,
    body: Vec<u8>,
    /// Where bodies are made.
    scratch: Vec<u8>,
}

impl Incoming {
    fn take(&mut self, frame: &Frame<'_>) -> Result<Option<Event>> {
        match frame.kind {
            frame::METHOD => self.method(frame.channel, Method::decode(frame.payload)?),
            frame::HEARTBEAT => Ok(None),
            _ => self.content(frame),
        }
    }

    fn method(&mut self, channel: u16, method: Method<'_>) -> Result<Option<Event>> {
        ensure!(self.delivery.is_none(), "{} in the middle of a message", method.name());
        let answer = Answer { channel, id: method.id(), messages: 0, consumers: 0 };
        Ok(Some(match method {
            Method::BasicDeliver(deliver) => {
                let (tag, redelivered) = (deliver.delivery_tag, deliver.redelivered);
                self.delivery = Some(Delivery { channel, tag, redelivered });
                return Ok(None);
            }
            Method::BasicAck(ack) => Event::Confirmed { channel, tag: ack.delivery_tag, multiple: ack.multiple },
            Method::BasicNack(_) => bail!("the broker refused a message with basic.nack"),
            Method::BasicCancel(_) => bail!("the broker cancelled a consumer"),
            Method::ChannelClose(close) => {
                let (code, text) = (close.reply_code, close.reply_text.to_owned());
                return Err(ChannelClosed { channel, code, text }.into());
            }
            Method::ConnectionClose(close) => {
                bail!("the broker closed the connection: {} {}", close.reply_code, close.reply_text)
            }
            Method::ConnectionBlocked(_) | Method::ConnectionUnblocked(_) => return Ok(None),
            Method::QueueDeclareOk(ok) => {
                Event::Answer(Answer { messages: ok.message_count, consumers: ok.consumer_count, ..answer })
            }
            _ => Event::Answer(answer),
        }))
    }

    fn content(&mut self, frame: &Frame<'_>) -> Result<Option<Event>> {
        let delivery = self.delivery.context("content without a delivery")?;
        ensure!(delivery.channel == frame.channel, "content of another channel in the middle of a message");
        if frame.kind == frame::HEADER {
            let header = ContentHeader::decode(frame.payload)?;
            self.properties.clear();
            self.properties.extend_from_slice(header.properties);
            self.body.clear();
            self.missing = usize::try_from(header.body_size)?;
        } else {
            self.missing = self.missing.checked_sub(frame.payload.len()).context("more body than announced")?;
            self.body.extend_from_slice(frame.payload);
        }
        if self.missing > 0 {
            return Ok(None);
        }
        self.delivery = None;
        Ok(Some(Event::Delivery(delivery)))
    }
}
