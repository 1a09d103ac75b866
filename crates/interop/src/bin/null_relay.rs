//! The floor: the least that anything between a producer and a consumer of AMQP 0-9-1 can do.
//!
//! It answers just enough of the protocol for `leveret bench` with one producer and one consumer, and forwards each
//! publish as a delivery, straight from the producer's socket to the consumer's: one read, one write, no queue, no
//! routing, no acknowledgements. With `--sync FILE` each batch is written over pre-written blocks of a file and
//! flushed to the device before it is confirmed. A broker's speed is judged by how close to this it comes, since
//! machines differ and this differs with them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, confirm, connection, exchange, queue};
use leveret_wire::properties::ContentHeader;
use leveret_wire::table::Table;

/// The floor of `cargo xtask bench`: forwards messages from one producer to one consumer and does nothing else.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:5672")]
    listen: String,
    /// Write each batch to this file, recycled in place, and flush it to the device before confirming.
    #[arg(long)]
    sync: Option<PathBuf>,
}

const FRAME_MAX: u32 = 131_072;
/// One read, one write. It stays in the cache of a core, together with what is written.
const BATCH: usize = 128 << 10;
/// With a flush to the device for each batch, more in a batch is worth more than the cache.
const SYNC_BATCH: usize = 1 << 20;
const SYNC_FILE: u64 = 64 << 20;
/// How long a producer waits for a consumer to come.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let args = Args::parse();
    let sync = args.sync.as_deref().map(SyncFile::create).transpose()?.map(Mutex::new);
    let listener = TcpListener::bind(&args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on {}", listener.local_addr()?);
    let relay: &Relay = Box::leak(Box::new(Relay { sync, ..Relay::default() }));
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        thread::spawn(move || {
            // A run ends with this for its producer, if the consumer goes first.
            if let Err(error) = Client::new(relay, stream).serve() {
                eprintln!("connection ended: {error:#}");
            }
        });
    }
    Ok(())
}

/// What the connections share: where deliveries go.
#[derive(Default)]
struct Relay {
    consumer: Mutex<Option<Consumer>>,
    arrived: Condvar,
    sync: Option<Mutex<SyncFile>>,
}

struct Consumer {
    stream: TcpStream,
    tag: String,
}

impl Relay {
    fn lock(&self) -> MutexGuard<'_, Option<Consumer>> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a consumer, and sets up forwarding to it.
    fn forward(&self) -> Result<Forward> {
        let (consumer, _) = self
            .arrived
            .wait_timeout_while(self.lock(), PATIENCE, |consumer| consumer.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let consumer = consumer.as_ref().context("there is no consumer to forward to")?;
        Ok(Forward::new(consumer.stream.try_clone()?, consumer.tag.clone()))
    }
}

/// One connection and its thread.
struct Client<'r> {
    relay: &'r Relay,
    stream: TcpStream,
    replies: Vec<u8>,
    confirming: bool,
    consumes: bool,
    closed: bool,
    forward: Option<Forward>,
}

impl<'r> Client<'r> {
    fn new(relay: &'r Relay, stream: TcpStream) -> Self {
        Self { relay, stream, replies: Vec::new(), confirming: false, consumes: false, closed: false, forward: None }
    }

    fn serve(mut self) -> Result<()> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header)?;
        ensure!(header == frame::PROTOCOL_HEADER, "this isn't AMQP 0-9-1");
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: Table::EMPTY,
            mechanisms: b"PLAIN",
            locales: b"en_US",
        };
        self.reply(0, start.into());
        let batch = if self.relay.sync.is_some() { SYNC_BATCH } else { BATCH };
        let mut input = vec![0; batch + 2 * FRAME_MAX as usize];
        let mut filled = 0;
        while !self.closed {
            if !self.replies.is_empty() {
                self.stream.write_all(&self.replies)?;
                self.replies.clear();
            }
            let end = input.len().min(filled + batch);
            let size = self.stream.read(&mut input[filled..end])?;
            if size == 0 {
                break;
            }
            filled += size;
            let used = self.batch(&input[..filled])?;
            input.copy_within(used..filled, 0);
            filled -= used;
        }
        self.stream.write_all(&self.replies)?;
        Ok(())
    }

    /// Everything that one read brought; returns how much of it was whole frames.
    fn batch(&mut self, input: &[u8]) -> Result<usize> {
        let mut at = 0;
        loop {
            if let Some(forward) = &mut self.forward {
                at += forward.alike(&input[at..]);
            }
            let Some((frame, size)) = frame::parse(&input[at..], FRAME_MAX)? else { break };
            let bytes = &input[at..at + size];
            at += size;
            match frame.kind {
                frame::METHOD if frame.payload.starts_with(&[0, 60, 0, 40]) => {
                    if self.forward.is_none() {
                        self.forward = Some(self.relay.forward()?);
                    }
                    if let Some(forward) = &mut self.forward {
                        forward.publish(bytes, frame.payload)?;
                    }
                }
                frame::METHOD => self.method(frame.channel, Method::decode(frame.payload)?)?,
                frame::HEARTBEAT => {}
                _ => self.forward.as_mut().context("content before any publish")?.content(bytes, &frame)?,
            }
        }
        self.flush(&input[..at])?;
        Ok(at)
    }

    fn flush(&mut self, batch: &[u8]) -> Result<()> {
        let Some(forward) = &mut self.forward else { return Ok(()) };
        forward.flush()?;
        if self.confirming && forward.completed > forward.confirmed {
            if let Some(file) = &self.relay.sync {
                file.lock().unwrap_or_else(PoisonError::into_inner).write(batch)?;
            }
            forward.confirmed = forward.completed;
            let ack = basic::Ack { delivery_tag: forward.completed, multiple: true };
            frame::write_method(&mut self.replies, 1, &ack.into());
        }
        Ok(())
    }

    fn method(&mut self, on: u16, method: Method<'_>) -> Result<()> {
        match method {
            Method::ConnectionStartOk(_) => {
                self.reply(0, connection::Tune { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 }.into());
            }
            Method::ConnectionOpen(_) => self.reply(0, connection::OpenOk.into()),
            Method::ConnectionClose(_) => {
                self.reply(0, connection::CloseOk.into());
                self.closed = true;
            }
            Method::ChannelOpen(_) => self.reply(on, channel::OpenOk.into()),
            Method::ChannelClose(_) => self.reply(on, channel::CloseOk.into()),
            Method::ExchangeDeclare(_) => self.reply(on, exchange::DeclareOk.into()),
            Method::QueueDeclare(declare) => {
                let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 };
                self.reply(on, ok.into());
            }
            Method::QueueBind(_) => self.reply(on, queue::BindOk.into()),
            Method::QueueDelete(_) => self.reply(on, queue::DeleteOk { message_count: 0 }.into()),
            Method::ConfirmSelect(_) => {
                self.confirming = true;
                self.reply(on, confirm::SelectOk.into());
            }
            Method::BasicQos(_) => self.reply(on, basic::QosOk.into()),
            Method::BasicConsume(consume) => {
                // Answered at once: the first delivery may come from another thread the moment after.
                let ok = basic::ConsumeOk { consumer_tag: consume.consumer_tag };
                self.reply(on, ok.into());
                self.stream.write_all(&self.replies)?;
                self.replies.clear();
                let consumer = Consumer { stream: self.stream.try_clone()?, tag: consume.consumer_tag.to_owned() };
                *self.relay.lock() = Some(consumer);
                self.relay.arrived.notify_all();
                self.consumes = true;
            }
            Method::ConnectionTuneOk(_) | Method::ConnectionCloseOk(_) | Method::BasicAck(_) => {}
            other => bail!("the null relay doesn't know {}", other.name()),
        }
        Ok(())
    }

    fn reply(&mut self, on: u16, method: Method<'_>) {
        frame::write_method(&mut self.replies, on, &method);
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if self.consumes {
            *self.relay.lock() = None;
        }
    }
}

/// From a producer's bytes to a consumer's.
struct Forward {
    consumer: TcpStream,
    consumer_tag: String,
    out: Vec<u8>,
    /// Messages whose delivery has begun; the last delivery tag.
    begun: u64,
    /// Messages forwarded completely.
    completed: u64,
    /// Messages confirmed to the producer.
    confirmed: u64,
    /// Body bytes of the current message still to come.
    remaining: u64,
    body_size: u64,
    /// The frame of the last publish, and the deliver frame it became.
    publish: Vec<u8>,
    deliver: Vec<u8>,
    /// The heads of the last message's header and body frame, and their sizes together.
    header: [u8; 7],
    body: [u8; 7],
    header_size: usize,
    content_size: usize,
}

impl Forward {
    fn new(consumer: TcpStream, consumer_tag: String) -> Self {
        Self {
            consumer,
            consumer_tag,
            out: Vec::with_capacity(2 * BATCH),
            begun: 0,
            completed: 0,
            confirmed: 0,
            remaining: 0,
            body_size: 0,
            publish: Vec::new(),
            deliver: Vec::new(),
            header: [0; 7],
            body: [0; 7],
            header_size: 0,
            content_size: 0,
        }
    }

    /// Forwards the messages that look like the last one: the same publish, frames of the same sizes.
    fn alike(&mut self, input: &[u8]) -> usize {
        if self.content_size == 0 || self.remaining > 0 || self.begun > self.completed {
            return 0;
        }
        let mut at = 0;
        for message in input.chunks_exact(self.publish.len() + self.content_size) {
            let (publish, content) = message.split_at(self.publish.len());
            let alike = publish == self.publish
                && content[..7] == self.header
                && content[self.header_size..self.header_size + 7] == self.body
                && content[content.len() - 1] == frame::END;
            if !alike {
                break;
            }
            self.begun += 1;
            self.put_deliver();
            self.out.extend_from_slice(content);
            at += message.len();
        }
        self.completed = self.begun;
        at
    }

    fn publish(&mut self, bytes: &[u8], payload: &[u8]) -> Result<()> {
        let Method::BasicPublish(publish) = Method::decode(payload)? else { bail!("this isn't a publish") };
        self.begun += 1;
        if self.publish != bytes {
            self.publish = bytes.to_vec();
            self.deliver.clear();
            let deliver = basic::Deliver {
                consumer_tag: &self.consumer_tag,
                delivery_tag: 0,
                redelivered: false,
                exchange: publish.exchange,
                routing_key: publish.routing_key,
            };
            frame::write_method(&mut self.deliver, 1, &deliver.into());
        }
        self.put_deliver();
        Ok(())
    }

    fn put_deliver(&mut self) {
        let tag_at = self.out.len() + 7 + 4 + 1 + self.consumer_tag.len();
        self.out.extend_from_slice(&self.deliver);
        self.out[tag_at..tag_at + 8].copy_from_slice(&self.begun.to_be_bytes());
    }

    fn content(&mut self, bytes: &[u8], frame: &frame::Frame<'_>) -> Result<()> {
        let head = |into: &mut [u8; 7]| into.copy_from_slice(&bytes[..7]);
        self.out.extend_from_slice(bytes);
        if frame.kind == frame::HEADER {
            self.body_size = ContentHeader::decode(frame.payload)?.body_size;
            self.remaining = self.body_size;
            head(&mut self.header);
            self.header_size = bytes.len();
            self.content_size = 0;
        } else {
            let size = frame.payload.len() as u64;
            self.remaining = self.remaining.checked_sub(size).context("more body than announced")?;
            head(&mut self.body);
            // A message in several body frames isn't the case to be fast at.
            let whole = self.remaining == 0 && size == self.body_size;
            self.content_size = if whole { self.header_size + bytes.len() } else { 0 };
        }
        self.completed += u64::from(self.remaining == 0);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.consumer.write_all(&self.out).context("the consumer has gone")?;
        self.out.clear();
        Ok(())
    }
}

/// Pre-written blocks, overwritten in turn.
struct SyncFile {
    file: File,
    at: u64,
}

impl SyncFile {
    fn create(path: &Path) -> Result<Self> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let mut file = open.with_context(|| format!("cannot write {}", path.display()))?;
        if file.metadata()?.len() < SYNC_FILE {
            // Not set_len: blocks that were never written cost more at their first flush.
            for _ in 0..SYNC_FILE >> 20 {
                file.write_all(&vec![0xA5; 1 << 20])?;
            }
            file.sync_all()?;
        }
        Ok(Self { file, at: 0 })
    }

    fn write(&mut self, batch: &[u8]) -> Result<()> {
        if self.at + batch.len() as u64 > SYNC_FILE {
            self.at = 0;
        }
        self.file.write_all_at(batch, self.at)?;
        self.at += batch.len() as u64;
        Ok(self.file.sync_data()?)
    }
}
