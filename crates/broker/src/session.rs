//! A connection as the broker sees it: what its channels share.

use crate::channel::Channel;
use crate::engine::{Broker, QueueDeclare, QueueStatus, VirtualHost};
use crate::error::Result;
use crate::limits::Limits;
#[cfg(doc)]
use crate::mailbox::Event;
use crate::mailbox::Mailbox;
use crate::publisher::{Publisher, Waiting};
use crate::topology::SessionId;
use std::sync::Arc;

/// The log is written at once when more bytes than this are pending, whether or not somebody waits for a confirm.
const WRITE_AT: u64 = 256 * 1024;

/// The broker's side of a connection. Dropping it deletes its exclusive queues; its channels are to be closed before.
#[derive(Debug)]
pub struct Session {
    pub(crate) broker: Broker,
    pub(crate) vhost: Arc<VirtualHost>,
    pub(crate) id: SessionId,
    /// The broker's list of mailboxes knows it by this: its id, or another one if it is beside the session of that id.
    pub(crate) listed: SessionId,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) publisher: Publisher,
    /// basic.qos with global=false also changes the consumers that are there. RabbitMQ changes new ones only, but
    /// kombu relies on the live change wherever the server's product is not RabbitMQ.
    pub(crate) live_prefetch: bool,
    /// Numbers consumers across all channels: an event about one that is gone must not meet its successor.
    pub(crate) next_consumer: u32,
    /// Calls what blocks for as long as the disk takes.
    blocking: Option<Blocking>,
}

/// Calls what it is given, which blocks; for example so that other tasks of the thread don't wait for it.
pub type Blocking = fn(&mut dyn FnMut());

impl Session {
    pub(crate) fn new(broker: Broker, vhost: Arc<VirtualHost>, id: SessionId, mailbox: Arc<Mailbox>) -> Session {
        let publisher = Publisher::new(vhost.clone(), mailbox.clone());
        let (live_prefetch, next_consumer, blocking) = (false, 0, None);
        Session { broker, vhost, id, listed: id, mailbox, publisher, live_prefetch, next_consumer, blocking }
    }

    /// A session of the same connection with a mailbox of its own. The exclusive queues are both's, and go with `self`.
    pub(crate) fn beside(&self) -> Session {
        let mut session = self.broker.open_session(self.vhost.clone());
        session.id = self.id;
        session
    }

    /// The broker's limits.
    pub fn limits(&self) -> &Limits {
        self.broker.limits()
    }

    /// Its virtual host.
    pub fn vhost(&self) -> &Arc<VirtualHost> {
        &self.vhost
    }

    /// Its number, which no other session of this broker has.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Where the broker leaves word for it.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Lets basic.qos(global=false) change existing consumers too; see the field.
    pub fn set_live_prefetch(&mut self, live: bool) {
        self.live_prefetch = live;
    }

    /// Lets [`Channel::take_confirm`] write the log by itself if nobody else does: a lone publisher gets its confirm
    /// without a change of threads.
    pub fn set_blocking(&mut self, blocking: Blocking) {
        self.blocking = Some(blocking);
    }

    /// Appends what was published to its queues. To be called whenever the input is exhausted.
    #[inline]
    pub fn flush(&mut self) {
        self.publisher.flush();
        if let Some(durable) = self.broker.durable()
            && durable.store.log.pending() > WRITE_AT
        {
            durable.store.log.kick();
        }
        if self.broker.memory_used() > self.broker.limits().max_memory {
            self.broker.check_memory();
        }
    }

    /// Whether what was published up to here may be confirmed; if not, [`crate::Event::Durable`] will come.
    pub(crate) fn is_released(&self, waiting: &Waiting) -> bool {
        self.broker.durable().is_none_or(|durable| waiting.is_released(&durable.store.log))
    }

    /// Lets [`crate::Event::Durable`] come when this may be confirmed, unless it may be now. Units see to it by
    /// themselves.
    pub(crate) fn await_log(&self, waiting: &Waiting) {
        let Some(durable) = self.broker.durable().filter(|_| waiting.lsn != 0) else { return };
        if !self.blocking.is_some_and(|blocking| durable.store.log.lead(blocking)) {
            durable.wait(waiting.lsn, &self.mailbox);
        }
    }

    /// Whether it would be good to pause before publishing more, until [`Event::Relaxed`] or for a millisecond or so:
    /// consumers that keep pace have a lot before them (this is said once), or so has the disk (as long as it has).
    pub fn take_crowded(&mut self) -> bool {
        let behind = |durable: &Arc<crate::engine::Durable>| self.publisher.is_behind(&durable.store.log);
        let behind = self.broker.durable().is_some_and(behind);
        self.publisher.take_crowded() || behind
    }

    /// Frees buffers and cached routes; they come back with the next message.
    pub fn release_memory(&mut self) {
        self.publisher.release_memory();
    }

    /// A name as queues get that are declared without one; each is new.
    pub fn generated_name(&self) -> String {
        self.broker.random_name("amq.gen-")
    }

    pub(crate) fn declare_queue(&mut self, declare: QueueDeclare<'_>) -> Result<QueueStatus> {
        match declare.name {
            "" => {
                let name = self.generated_name();
                self.vhost.declare_queue(QueueDeclare { name: &name, ..declare }, true, self.id)
            }
            _ => self.vhost.declare_queue(declare, false, self.id),
        }
    }

    /// Deletes the queues that only this session may use. Dropping the session does it too.
    pub fn delete_exclusive_queues(&mut self) {
        self.publisher.flush();
        self.vhost.delete_owned_queues(self.id);
    }

    /// Ends the session: its channels are closed, its exclusive queues deleted.
    pub fn close(mut self, channels: impl Iterator<Item = Channel>) {
        for channel in channels {
            channel.close(&mut self);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.listed == self.id {
            self.delete_exclusive_queues();
        }
        self.broker.forget_session(self.listed);
    }
}
