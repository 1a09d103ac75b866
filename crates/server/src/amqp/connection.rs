//! A connection after its handshake: one task that reads, acts, pulls for its consumers and writes.
//!
//! ```text
//! wait for: input, room for output, the mailbox, the heartbeat
//! read a chunk -> act on every frame in it -> flush runs, acks and confirms once
//! pull what consumers were granted -> encode -> one write
//! ```

use super::buffers;
use super::content::Content;
use super::failure::{Failure, contain};
use super::handshake::{Client, Opened};
use super::heart::Heart;
use super::parking::{Gate, Parked};
use crate::auth::Access;
use crate::registry::{Agreed, ChannelInfo, ConnectionInfo, ConnectionState, Entry};
use crate::server::{Server, user_deleted};
use leveret_broker::{Channel, Delivery, Event, Scope, Session};
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, channel, connection, reply_code};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

/// How long a client may take to answer connection.close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a client that has closed its connection may take to close its socket before we do.
const CLIENT_FIRST: Duration = Duration::from_millis(200);

/// How long a client may take to close its socket after ours.
const LINGER: Duration = Duration::from_secs(1);

/// How long a publisher pauses at most when its queues are crowded.
const BREATH: Duration = Duration::from_millis(1);

/// Per pull, so that many consumers on a connection take turns.
const PULL: usize = 64 * 1024;

/// An open connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) server: Arc<Server>,
    pub(super) access: Access,
    /// What others see of it.
    pub(super) entry: Entry,
    pub(super) client: Client,
    pub(super) session: Session,
    pub(super) channels: FxHashMap<u16, ChannelState>,
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    /// Encoded and not written yet.
    pub(super) out: Vec<u8>,
    written: usize,
    /// The beginning of a frame whose end has not come.
    pub(super) partial: Vec<u8>,
    /// `partial` may hold whole frames, because acting on them was interrupted.
    pub(super) interrupted: bool,
    /// Bytes of message bodies that are not complete, on all channels.
    pub(super) unfinished: u64,
    /// Channels with something to flush.
    pub(super) dirty: Vec<u16>,
    /// Channels whose confirms or commit wait for the log.
    pub(super) awaiting: Vec<u16>,
    pub(super) gate: Gate,
    /// The exchange that the user was last allowed to publish to, as a short string.
    pub(super) may_publish_to: Vec<u8>,
    /// Consumers with a grant to pull.
    ready: VecDeque<(u16, u32)>,
    paused: Vec<(u16, u32)>,
    deliveries: Vec<Delivery>,
    events: Vec<Event>,
    pub(super) heart: Heart,
    pub(super) state: State,
    /// The client sent connection.close.
    pub(super) client_closed: bool,
    /// When the socket is closed even if the client does not answer, or does not take what is left.
    end_by: Option<Instant>,
    /// Its consumers have much before them: input can wait for a moment.
    crowded: bool,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// We have sent connection.close; only its answer matters.
    Closing,
    /// As `Closing`, but where the next frame begins is unknown: what comes is dropped. The socket stays open, because
    /// closing it with unread input could take our last word from a client that is still writing.
    Deaf,
    /// Nothing more to do but to write what is left.
    Closed,
}

/// A channel as its connection keeps it.
pub(super) enum ChannelState {
    Open(Box<OpenChannel>),
    /// We have sent channel.close; everything but its answer is ignored.
    Closing,
}

pub(super) struct OpenChannel {
    pub(super) broker: Channel,
    /// What others see of it.
    pub(super) info: Arc<ChannelInfo>,
    /// A message whose body is not complete.
    pub(super) content: Option<Content>,
    pub(super) is_dirty: bool,
    /// It is one of those that wait for the log.
    pub(super) is_awaiting: bool,
    /// tx.commit was not answered yet.
    pub(super) commit_due: bool,
    /// tx.select was answered.
    pub(super) transacts: bool,
    pub(super) parked: Parked,
}

/// What the task woke up for.
#[derive(Default)]
struct Woken {
    readable: bool,
    writable: bool,
    tick: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, server: Arc<Server>, opened: Opened) -> Connection {
        let mut session = server.broker.open_session(opened.vhost.clone());
        session.set_live_prefetch(opened.client.py_amqp);
        // With other threads to go on meanwhile.
        if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            session.set_blocking(|write| tokio::task::block_in_place(write));
        }
        let entry = server.registry.enter(describe(&stream, &session, &opened));
        let mut out = Vec::new();
        frame::write_method(&mut out, 0, &connection::OpenOk.into());
        Connection {
            stream,
            entry,
            server,
            access: opened.access,
            client: opened.client,
            session,
            channels: FxHashMap::default(),
            channel_max: opened.channel_max,
            frame_max: opened.frame_max,
            out,
            written: 0,
            interrupted: !opened.rest.is_empty(),
            partial: opened.rest,
            unfinished: 0,
            dirty: Vec::new(),
            awaiting: Vec::new(),
            gate: Gate::default(),
            may_publish_to: Vec::new(),
            ready: VecDeque::new(),
            paused: Vec::new(),
            deliveries: Vec::new(),
            events: Vec::new(),
            heart: Heart::new(opened.heartbeat),
            state: State::Open,
            client_closed: false,
            end_by: None,
            crowded: false,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let ended = contain(self.serve()).await;
        self.drop_all_parked();
        let Connection { stream, session, mut channels, client_closed, entry, .. } = self;
        let channels = channels.drain().filter_map(|(_, channel)| match channel {
            ChannelState::Open(open) => Some(open.broker),
            ChannelState::Closing => None,
        });
        session.close(channels.collect::<Vec<_>>().into_iter());
        drop(entry);
        if ended.is_ok() {
            // On the heap: connections that are open have no use for its buffer.
            Box::pin(linger(stream, client_closed)).await;
        }
        ended
    }

    async fn serve(&mut self) -> io::Result<()> {
        // connection.open-ok, which is the end of the handshake.
        self.write()?;
        self.heart.begin();
        loop {
            // A client that keeps this task busy shares the thread with the others.
            tokio::task::coop::consume_budget().await;
            self.crowded |= self.session.take_crowded();
            let woken = match self.crowded {
                false => poll_fn(|context| self.poll(context)).await?,
                true => match tokio::time::timeout(BREATH, poll_fn(|context| self.poll(context))).await {
                    Ok(woken) => woken?,
                    Err(_) => {
                        self.crowded = false;
                        continue;
                    }
                },
            };
            if woken.tick {
                self.tick()?;
            }
            if !self.events.is_empty() {
                self.handle_events();
            }
            if woken.readable {
                self.receive()?;
                if self.interrupted && !self.gate.held {
                    tokio::task::yield_now().await;
                }
            }
            if woken.writable || self.written == 0 {
                self.deliver()?;
            }
            self.show_state();
            if self.state != State::Open && self.has_ended()? {
                return Ok(());
            }
        }
    }

    /// A connection that is not open any more gets a little time for its last words.
    fn has_ended(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let end_by = *self.end_by.get_or_insert_with(|| {
            self.heart.timer.reset_after(CLOSE_TIMEOUT);
            now + CLOSE_TIMEOUT
        });
        match self.state {
            State::Closed if self.out.is_empty() => Ok(true),
            _ if end_by <= now => Err(io::Error::other("the client did not answer, or not take, connection.close")),
            _ => Ok(false),
        }
    }

    /// Ready when there is anything to do.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Woken>> {
        let mut woken = Woken::default();
        if self.out.is_empty() {
            // Consumers with more to pull go on at once, but input and the mailbox get their turn.
            woken.writable = !self.ready.is_empty();
        } else {
            woken.writable = self.stream.poll_write_ready(context)?.is_ready();
        }
        if self.reads() {
            woken.readable = self.interrupted || self.stream.poll_read_ready(context)?.is_ready();
        }
        woken.tick = self.heart.timer.poll_tick(context).is_ready();
        let mail = self.session.mailbox().poll(context, &mut self.events);
        if woken.writable || woken.readable || woken.tick || mail {
            return Poll::Ready(Ok(woken));
        }
        Poll::Pending
    }

    /// So much waits for the client's socket that nothing more is answered. It is more than consumers are pulled for: a
    /// consumer that is slow to read can still ack, and close.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() - self.written > 4 * self.server.limits.output
    }

    /// Input is wanted: not where it has to wait at the gate, nor from a client that does not take its answers.
    fn reads(&self) -> bool {
        let held = self.gate.held && self.state == State::Open;
        !self.is_full() && !self.crowded && !held && self.state != State::Closed
    }

    /// Reads what is there and acts on it; after an interruption, goes on with what was read before.
    fn receive(&mut self) -> io::Result<()> {
        let buffered = std::mem::take(&mut self.interrupted);
        let old = self.partial.len();
        let mut input = buffers::take_input(&self.partial);
        let read = if buffered {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            self.stream.try_read(&mut input[old..old + buffers::READ])
        };
        let len = match read {
            Ok(0) => {
                buffers::return_input(input);
                return match self.state {
                    State::Open => Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => {
                        self.state = State::Closed;
                        Ok(())
                    }
                };
            }
            Ok(len) => {
                self.entry.traffic.add_received(len);
                len
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && buffered => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                buffers::return_input(input);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.heart.hear();
        let end = old + len;
        let used = self.act(&input[..end]);
        self.partial.clear();
        if used < end && self.partial.capacity() <= buffers::READ {
            self.partial.extend_from_slice(&input[used..end]);
        } else {
            // Also when there was much more, for example what had been parked.
            self.partial = input[used..end].to_vec();
        }
        buffers::return_input(input);
        Ok(())
    }

    fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        let mut advanced = false;
        for event in events.drain(..) {
            match event {
                Event::Ready { channel, consumer } => self.ready.push_back((channel, consumer)),
                Event::Cancelled { channel, consumer } => self.cancelled(channel, consumer),
                Event::Relaxed => self.crowded = false,
                Event::Durable => advanced = true,
                Event::Blocked => self.block(),
                Event::Unblocked => self.unblock(),
                Event::Notice => self.forced(),
                Event::Shutdown => self.shut_down(),
                Event::VhostDeleted => self.vhost_deleted(),
            }
        }
        self.events = events;
        if advanced {
            self.log_advanced();
        }
        self.unpark();
    }

    fn show_state(&self) {
        self.entry.set_state(match (self.state, self.gate.blocks()) {
            (State::Open, None) if self.crowded => ConnectionState::Flow,
            (State::Open, None) => ConnectionState::Running,
            (State::Open, Some(true)) => ConnectionState::Blocked,
            (State::Open, Some(false)) => ConnectionState::Blocking,
            _ => ConnectionState::Closing,
        });
    }

    /// Somebody wants it closed.
    fn forced(&mut self) {
        if let Some(reason) = self.entry.take_closing() {
            self.fail(0, Failure::connection(reply_code::CONNECTION_FORCED, &*reason, (0, 0)));
        }
    }

    /// Learns what the user may do now, if anybody's rights were changed. To be called once per batch.
    #[inline]
    pub(super) fn follow_users(&mut self) {
        if !self.server.users.is_current(&self.access) {
            self.look_up_access();
        }
    }

    #[cold]
    fn look_up_access(&mut self) {
        self.may_publish_to.clear();
        match self.server.users.access(self.access.user(), self.access.vhost()) {
            Some(access) => self.access = access,
            None => {
                let text = user_deleted(self.access.user());
                self.fail(0, Failure::connection(reply_code::CONNECTION_FORCED, text, (0, 0)));
            }
        }
    }

    fn shut_down(&mut self) {
        let failure = match self.server.broker.failure() {
            Some(why) => {
                let text = format!("the log has failed: {why}");
                Failure::connection(reply_code::INTERNAL_ERROR, text, (0, 0))
            }
            None => {
                let text = "broker forced connection closure with reason 'shutdown'";
                Failure::connection(reply_code::CONNECTION_FORCED, text, (0, 0))
            }
        };
        self.fail(0, failure);
    }

    fn vhost_deleted(&mut self) {
        // RabbitMQ's words.
        let text = format!("vhost '{}' is deleted", self.session.vhost().name());
        self.fail(0, Failure::connection(reply_code::CONNECTION_FORCED, text, (0, 0)));
    }

    fn cancelled(&mut self, channel: u16, consumer: u32) {
        let Some(ChannelState::Open(open)) = self.channels.get_mut(&channel) else { return };
        if let Some(tag) = open.broker.cancelled(&self.session, consumer)
            && self.client.cancel_notify
            && self.state == State::Open
        {
            let cancel = basic::Cancel { consumer_tag: &tag, no_wait: true };
            frame::write_method(&mut self.out, channel, &cancel.into());
        }
    }

    /// Pulls for consumers while the socket takes it, one write per full buffer.
    fn deliver(&mut self) -> io::Result<()> {
        if self.state != State::Open {
            self.ready.clear();
        }
        if self.written == 0 && self.out.capacity() == 0 && !self.ready.is_empty() {
            self.out = buffers::take_output();
        }
        let limit = self.server.limits.output;
        while self.out.len() < limit {
            let Some((number, consumer)) = self.ready.pop_front() else { break };
            let Some(ChannelState::Open(open)) = self.channels.get_mut(&number) else { continue };
            let Some(pulled) = open.broker.pull(&self.session, consumer, PULL, &mut self.deliveries) else { continue };
            super::output::deliveries(&mut self.out, number, &pulled, &self.deliveries, self.frame_max);
            self.deliveries.clear();
            open.show();
            if pulled.more {
                self.ready.push_back((number, consumer));
            }
        }
        self.write()?;
        if self.out.is_empty() {
            for (number, consumer) in std::mem::take(&mut self.paused) {
                if let Some(ChannelState::Open(open)) = self.channels.get_mut(&number) {
                    open.broker.resume(consumer);
                }
            }
        } else {
            self.pause_ready();
        }
        Ok(())
    }

    /// The socket takes no more: what these consumers were granted goes to others, if there are others.
    fn pause_ready(&mut self) {
        let Connection { ready, channels, paused, .. } = self;
        ready.retain(|&(number, consumer)| match channels.get_mut(&number) {
            Some(ChannelState::Open(open)) => {
                let now_paused = open.broker.pause(consumer);
                if now_paused {
                    paused.push((number, consumer));
                }
                !now_paused
            }
            _ => false,
        });
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.written += len;
                    self.entry.traffic.add_sent(len);
                    self.heart.wrote();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if self.state != State::Open => {
                    // The client has gone after its last word; nobody misses the rest.
                    tracing::debug!(%error, "cannot write the rest");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        buffers::return_output(std::mem::take(&mut self.out));
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        match self.reads() {
            true => {}
            false if self.is_full() => self.heart.feel(&self.stream),
            // It cannot be heard while its input has to wait.
            false => self.heart.hear(),
        }
        if let Some(limit) = self.heart.silence() {
            let text = format!("no heartbeat from the client within {} s", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        if self.heart.is_due() && self.out.is_empty() {
            frame::write_heartbeat(&mut self.out);
        }
        if self.heart.is_idle() {
            self.session.release_memory();
            self.channels.shrink_to_fit();
            self.deliveries = Vec::new();
            self.events = Vec::new();
            self.ready.shrink_to_fit();
            self.dirty = Vec::new();
            self.awaiting.shrink_to_fit();
        }
        Ok(())
    }

    /// Closes what the failure says: the channel, or the connection.
    pub(super) fn fail(&mut self, number: u16, failure: Failure) {
        if self.state != State::Open {
            return;
        }
        let (class_id, method_id) = failure.method;
        self.flush();
        match failure.scope {
            Scope::Channel => {
                tracing::info!(channel = number, reason = failure.text, "channel closed");
                self.close_channel(number);
                self.channels.insert(number, ChannelState::Closing);
                let close = channel::Close { reply_code: failure.code, reply_text: &failure.text, class_id, method_id };
                frame::write_method(&mut self.out, number, &close.into());
            }
            Scope::Connection => {
                tracing::info!(channel = number, reason = failure.text, "connection is being closed");
                let close =
                    connection::Close { reply_code: failure.code, reply_text: &failure.text, class_id, method_id };
                frame::write_method(&mut self.out, 0, &close.into());
                self.close_all();
                self.state = State::Closing;
            }
        }
    }

    /// Ends a channel in the broker.
    pub(super) fn close_channel(&mut self, number: u16) {
        if let Some(ChannelState::Open(open)) = self.channels.remove(&number) {
            self.unfinished -= open.content.as_ref().map_or(0, Content::held);
            self.drop_awaited(number, &open);
            self.drop_parked(number, &open);
            self.entry.remove_channel(number);
            open.broker.close(&mut self.session);
        }
    }

    /// Ends all channels in the broker, and deletes exclusive queues: before connection.close-ok, so that a client can
    /// rely on it.
    pub(super) fn close_all(&mut self) {
        self.drop_all_parked();
        self.awaiting.clear();
        for number in self.channels.keys().copied().collect::<Vec<_>>() {
            self.close_channel(number);
        }
        self.session.delete_exclusive_queues();
    }

    /// Writes a method. Its channel is open.
    pub(super) fn send<'a>(&mut self, number: u16, method: impl Into<Method<'a>>) {
        frame::write_method(&mut self.out, number, &method.into());
    }
}

/// A connection as the registry lists it.
fn describe(stream: &TcpStream, session: &Session, opened: &Opened) -> ConnectionInfo {
    // A socket that is gone already has no addresses; its task will notice.
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let agreed = Agreed {
        addresses: (stream.peer_addr().unwrap_or(nowhere), stream.local_addr().unwrap_or(nowhere)),
        user: opened.access.user().into(),
        vhost: opened.vhost_name().clone(),
        client_properties: opened.properties.clone(),
        auth_mechanism: opened.mechanism,
        channel_max: opened.channel_max,
        frame_max: opened.frame_max,
        heartbeat: opened.heartbeat,
    };
    ConnectionInfo::new(session.id(), session.mailbox().clone(), agreed)
}

/// Lets the client read the last word and close. A socket that is closed with unread input resets the connection, and
/// the reset can overtake what was written. A client that has closed the connection itself is given a moment to close
/// its socket first: some take the end of the stream for a failure when other threads still use the connection.
async fn linger(mut stream: TcpStream, client_first: bool) {
    let mut ignored = [0; 4096];
    if client_first && tokio::time::timeout(CLIENT_FIRST, drain(&mut stream, &mut ignored)).await.is_ok() {
        return;
    }
    // A client that does not close in time is not waited for, and one that is gone has nothing to read.
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(LINGER, drain(&mut stream, &mut ignored)).await;
}

/// Reads until the client has closed its side.
async fn drain(stream: &mut TcpStream, ignored: &mut [u8]) {
    while stream.read(ignored).await.is_ok_and(|read| read > 0) {}
}

impl OpenChannel {
    /// A channel with this number, as channel.open makes it.
    pub(super) fn new(number: u16, info: Arc<ChannelInfo>) -> OpenChannel {
        OpenChannel {
            broker: Channel::new(number),
            info,
            content: None,
            is_dirty: false,
            is_awaiting: false,
            commit_due: false,
            transacts: false,
            parked: Parked::Nothing,
        }
    }

    /// Lets others see how it is now. To be called once per batch.
    pub(super) fn show(&self) {
        self.info.set_status(self.broker.status());
    }
}
