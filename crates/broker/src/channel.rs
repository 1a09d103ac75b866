//! A channel: its consumers, what they hold unacked, and its mode (plain, confirm or transaction).
//!
//! Acks are collected and applied in runs by [`Channel::apply_settled`], which the owner calls when its input is
//! exhausted; every operation that could see the difference calls it first.

mod publish;
mod settle;
mod transaction;

use self::transaction::Transaction;
use crate::consumers::{ConsumerId, Identity, UNLIMITED};
use crate::counters::ChannelCounters;
use crate::engine::{Moment, QueueDeclare, QueueStatus, SharedQueue};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::mailbox::Event;
use crate::publisher::Waiting;
use crate::queue::{Delivery, FILTERS_MAX, Holder, Queue, Taken};
use crate::session::Session;
use crate::unacked::{Outstanding, Unacked};
use leveret_wire::table::{FieldTable, Table, Value};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Consuming from it means to receive the answers to one's own requests (RabbitMQ's direct reply-to).
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A pull that has found nothing so often, and yet is not at an end, goes on later: there is much to look at, or to read.
const ROUNDS: u32 = 16;

/// One channel of a session.
#[derive(Debug)]
pub struct Channel {
    number: u16,
    consumers: FxHashMap<u32, Consumer>,
    tags: FxHashMap<Arc<str>, u32>,
    unacked: Unacked,
    next_tag: u64,
    /// For each new consumer; 0 is no limit.
    prefetch: u16,
    /// For all consumers together; 0 is no limit.
    channel_prefetch: u16,
    mode: Mode,
    /// Settled and not applied yet.
    settled: Vec<Settled>,
    /// A commit that has to be durable before it is done.
    committing: Option<Waiting>,
    last_queue: Option<Arc<str>>,
    reply_queue: Option<Arc<SharedQueue>>,
    counters: ChannelCounters,
}

#[derive(Debug)]
enum Mode {
    Plain,
    Confirm(Confirms),
    Transaction(Box<Transaction>),
}

/// Publisher confirms of a channel.
#[derive(Debug, Default)]
struct Confirms {
    published: u64,
    confirmed: u64,
    /// Up to this tag, what has to be durable before, and since when.
    waiting: VecDeque<(u64, Waiting, Moment)>,
    /// Not confirmed, and not to be.
    refused: BTreeSet<u64>,
    /// Confirmed, and not counted yet.
    uncounted: u64,
}

#[derive(Debug)]
struct Consumer {
    tag: Arc<str>,
    id: ConsumerId,
    queue: Arc<SharedQueue>,
    no_ack: bool,
    prefetch: u16,
    unacked: u64,
    identity: Arc<Identity>,
    /// Its connection can take nothing now.
    paused: bool,
}

/// What a client does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is done.
    Ack,
    /// It is rejected for good.
    Reject,
    /// It goes back to its place in the queue, or waits for its next attempt (basic.nack, basic.recover).
    Requeue,
    /// The same, and the attempt has failed (basic.reject, or the channel is lost): only in quorum queues is that
    /// different.
    Fail,
}

impl Settle {
    /// The message stays in the queue.
    pub(crate) fn comes_back(self) -> bool {
        matches!(self, Settle::Requeue | Settle::Fail)
    }
}

#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) run: Outstanding,
    pub(crate) how: Settle,
}

/// What basic.consume asks for.
#[derive(Clone, Copy, Debug)]
pub struct Consume<'a> {
    /// The queue; empty for the one that this channel declared last.
    pub queue: &'a str,
    /// The tag; empty for a generated one.
    pub tag: &'a str,
    /// Deliveries count as acked at once.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// `x-priority` and `x-filter` are those with a meaning.
    pub arguments: Table<'a>,
}

/// Deliveries for one consumer. The tags of all messages are consecutive.
#[derive(Debug)]
pub struct Pulled {
    /// The consumer's tag.
    pub tag: Arc<str>,
    /// Delivery tag of the first message.
    pub first_tag: u64,
    /// The consumer was granted more than fit: pull again when there is room.
    pub more: bool,
}

impl Channel {
    /// A channel with this number.
    pub fn new(number: u16) -> Channel {
        Channel {
            number,
            consumers: FxHashMap::default(),
            tags: FxHashMap::default(),
            unacked: Unacked::default(),
            next_tag: 1,
            prefetch: 0,
            channel_prefetch: 0,
            mode: Mode::Plain,
            settled: Vec::new(),
            committing: None,
            last_queue: None,
            reply_queue: None,
            counters: ChannelCounters::default(),
        }
    }

    /// What it has done since it was opened.
    pub fn counters(&self) -> &ChannelCounters {
        &self.counters
    }

    /// The queue that an empty name stands for: the one that this channel declared last, or 404.
    pub fn resolve_queue<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        match (name, &self.last_queue) {
            ("", Some(last)) => Ok(last),
            ("", None) => Err(Error::channel(404, "no previously declared queue")),
            (name, _) => Ok(name),
        }
    }

    /// Declares a queue; an empty name gets one generated.
    pub fn declare_queue(&mut self, session: &mut Session, declare: QueueDeclare<'_>) -> Result<QueueStatus> {
        // Direct reply-to's queues come and go with their consumers: declaring one only asks whether it is there.
        if declare.name.starts_with(REPLY_TO) {
            return self.check_queue(session, declare.name);
        }
        self.apply_settled();
        session.flush();
        let status = session.declare_queue(declare)?;
        self.last_queue = Some(status.name.clone());
        Ok(status)
    }

    /// Checks that a queue exists (a passive declaration).
    pub fn check_queue(&mut self, session: &mut Session, name: &str) -> Result<QueueStatus> {
        self.apply_settled();
        session.flush();
        let name = self.resolve_queue(name)?;
        if name == REPLY_TO {
            return Ok(QueueStatus { name: name.into(), ready: 0, waiting: 0, unacked: 0, consumers: 1 });
        }
        let status = session.vhost.queue_status(name, session.id)?;
        self.last_queue = Some(status.name.clone());
        Ok(status)
    }

    /// Drops a queue's ready messages; returns how many.
    pub fn purge_queue(&mut self, session: &mut Session, name: &str) -> Result<u64> {
        self.apply_settled();
        session.flush();
        session.vhost.purge_queue(self.resolve_queue(name)?, session.id)
    }

    /// Deletes a queue; returns how many messages were ready.
    pub fn delete_queue(&mut self, session: &mut Session, name: &str, if_unused: bool, if_empty: bool) -> Result<u64> {
        self.apply_settled();
        session.flush();
        let name = self.resolve_queue(name)?;
        session.vhost.delete_queue(name, if_unused, if_empty, session.id)
    }

    /// Sets the prefetch of new consumers, or with `global` of the channel. 0 is no limit.
    pub fn qos(&mut self, session: &Session, prefetch: u16, global: bool) {
        self.apply_settled();
        if global {
            self.channel_prefetch = prefetch;
        } else {
            self.prefetch = prefetch;
        }
        if global || session.live_prefetch {
            if !global {
                self.consumers.values_mut().for_each(|consumer| {
                    consumer.prefetch = prefetch;
                    consumer.identity.prefetch.store(prefetch.into(), Ordering::Relaxed);
                });
            }
            self.announce_credit();
        }
    }

    /// Starts a consumer and returns its tag. Its messages come by [`Channel::pull`] after [`Event::Ready`].
    pub fn consume(&mut self, session: &mut Session, consume: Consume<'_>) -> Result<Arc<str>> {
        session.flush();
        let max_consumers = session.limits().max_consumers;
        if self.tags.contains_key(consume.tag) {
            return Err(Error::connection(530, format!("attempt to reuse consumer tag '{}'", consume.tag)));
        }
        if self.consumers.len() >= max_consumers {
            return Err(Error::limit("consumers on a channel", "max_consumers", max_consumers as u64));
        }
        let priority = match consume.arguments.get("x-priority") {
            None => 0,
            Some(value) => priority(value)?,
        };
        let filter = filter(&consume)?;
        let queue = match consume.queue {
            REPLY_TO => self.reply_queue(session, consume.no_ack)?,
            name => session.vhost.queue(self.resolve_queue(name)?, session.id)?,
        };
        let tag: Arc<str> = match consume.tag {
            "" => session.broker.random_name("amq.ctag-").into(),
            tag => tag.into(),
        };
        let (number, limit) = (session.next_consumer, if consume.no_ack { 0 } else { self.prefetch });
        let event = Event::Ready { channel: self.number, consumer: number };
        let credit = self.credit_of(consume.no_ack, limit, 0);
        let identity = Arc::new(Identity {
            tag: tag.clone(),
            session: session.id,
            channel: self.number,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            arguments: FieldTable::from(consume.arguments),
            prefetch: AtomicU64::new(limit.into()),
            unacked: AtomicU64::new(0),
        });
        let id = queue.change(|state| {
            // Deleted since it was looked up: nobody would ever cancel this consumer.
            if state.is_deleted() {
                return Err(Error::not_found("queue", &queue.name, session.vhost.name()));
            }
            let exclusive_among_others =
                consume.exclusive && (!state.consumers.is_empty() || state.consumers.is_single_active());
            if state.consumers.is_exclusive() || exclusive_among_others {
                return Err(Error::access_refused(format!(
                    "queue '{}' in vhost '{}' in exclusive use",
                    queue.name,
                    session.vhost.name()
                )));
            }
            let id = state.add_consumer(priority, consume.exclusive, filter, session.mailbox.clone(), event);
            let id = id.ok_or_else(|| too_many_filters(&queue.name, session.vhost.name()))?;
            state.consumers.identify(id, identity.clone());
            state.consumers.set_credit(id, credit);
            Ok(id)
        })?;
        session.next_consumer = session.next_consumer.wrapping_add(1);
        self.tags.insert(tag.clone(), number);
        let consumer = Consumer {
            tag: tag.clone(),
            id,
            queue,
            no_ack: consume.no_ack,
            prefetch: limit,
            unacked: 0,
            identity,
            paused: false,
        };
        self.consumers.insert(number, consumer);
        Ok(tag)
    }

    fn reply_queue(&mut self, session: &mut Session, no_ack: bool) -> Result<Arc<SharedQueue>> {
        if !no_ack {
            return Err(Error::precondition("reply consumer cannot acknowledge"));
        }
        if self.reply_queue.is_some() {
            return Err(Error::precondition("reply consumer already set"));
        }
        let name = session.broker.random_name("amq.rabbitmq.reply-to.");
        let queue = session.vhost.declare_reply_queue(&name)?;
        self.reply_queue = Some(queue.clone());
        Ok(queue)
    }

    /// Stops a consumer; an unknown tag is no error. What it holds unacked stays with the channel.
    pub fn cancel(&mut self, session: &mut Session, tag: &str) {
        self.apply_settled();
        if let Some(number) = self.tags.get(tag).copied() {
            self.remove_consumer(session, number);
        }
    }

    fn remove_consumer(&mut self, session: &Session, number: u32) -> Option<Consumer> {
        let consumer = self.consumers.remove(&number)?;
        self.tags.remove(&consumer.tag);
        consumer.queue.change(|queue| queue.remove_consumer(consumer.id));
        consumer.queue.touch();
        session.vhost.delete_if_abandoned(&consumer.queue);
        if self.reply_queue.as_ref().is_some_and(|own| Arc::ptr_eq(own, &consumer.queue)) {
            self.reply_queue = None;
        }
        Some(consumer)
    }

    /// Forgets a consumer whose queue is gone ([`Event::Cancelled`]); gives its tag if it is still known.
    pub fn cancelled(&mut self, session: &Session, consumer: u32) -> Option<Arc<str>> {
        Some(self.remove_consumer(session, consumer)?.tag)
    }

    /// What a consumer may hold beyond what it holds.
    fn credit_of(&self, no_ack: bool, prefetch: u16, unacked: u64) -> u64 {
        if no_ack {
            return UNLIMITED;
        }
        let left = |limit: u16, held: u64| match limit {
            0 => UNLIMITED,
            limit => u64::from(limit).saturating_sub(held),
        };
        left(prefetch, unacked).min(left(self.channel_prefetch, self.unacked.len()))
    }

    fn credit(&self, consumer: &Consumer) -> u64 {
        if consumer.paused {
            return 0;
        }
        self.credit_of(consumer.no_ack, consumer.prefetch, consumer.unacked)
    }

    /// Tells all queues what this channel's consumers may take.
    fn announce_credit(&self) {
        for consumer in self.consumers.values() {
            self.announce(consumer);
        }
    }

    fn announce(&self, consumer: &Consumer) {
        let credit = self.credit(consumer);
        consumer.queue.change(|queue| queue.consumers.set_credit(consumer.id, credit));
    }

    /// Takes what a consumer was granted, about `max_bytes` of it. `None` if there is no such consumer any more.
    pub fn pull(
        &mut self,
        session: &Session,
        consumer: u32,
        max_bytes: usize,
        out: &mut Vec<Delivery>,
    ) -> Option<Pulled> {
        let entry = self.consumers.get(&consumer)?;
        let credit = self.credit(entry);
        let (id, no_ack, begin) = (entry.id, entry.no_ack, out.len());
        let mut wakes = Vec::new();
        let mut take = |queue: &mut Queue| {
            let granted = queue.consumers.granted_to(id).min(credit);
            let (taken, dry) = match queue.take_for(Holder::Consumer(id), granted, max_bytes, no_ack, out) {
                Taken::Some { count, dry } => (count, dry),
                Taken::Missing(missing) => return Err(Some(missing)),
                Taken::Unfinished => return Err(None),
            };
            queue.consumers.pulled(id, taken);
            if credit != UNLIMITED {
                queue.consumers.set_credit(id, credit - taken);
            }
            if dry {
                queue.consumers.give_back(id);
            }
            Ok((taken, queue.consumers.granted_to(id) > 0, dry))
        };
        let own = Event::Ready { channel: self.number, consumer };
        let mut rounds = 0;
        let (taken, mut more, dry) = loop {
            match entry.queue.change_quietly(&mut take, &mut wakes) {
                Ok(taken) => break taken,
                Err(missing) => {
                    let is_there = missing.is_none_or(|missing| entry.queue.load(missing));
                    if !is_there && entry.queue.check_undamaged().is_err() {
                        // The consumer is told that it is cancelled.
                        break (0, false, false);
                    }
                }
            }
            rounds += 1;
            if rounds == ROUNDS {
                // What else the connection has to do comes first.
                wakes.push((session.mailbox.clone(), own));
                break (0, false, false);
            }
        };
        for (mailbox, event) in wakes {
            // A new grant to this very consumer needs no detour through the mailbox.
            if taken > 0 && event == own && Arc::ptr_eq(&mailbox, &session.mailbox) {
                more = true;
            } else {
                mailbox.post(event);
            }
        }
        if dry && entry.queue.drops() {
            // What this consumer was to get did not count.
            entry.queue.drop_excess();
        }
        let pulled = Pulled { tag: entry.tag.clone(), first_tag: self.next_tag, more };
        self.count_pulled(no_ack, taken, &out[begin..]);
        if !no_ack {
            self.note_unacked(consumer, begin, out);
        }
        self.next_tag += taken;
        Some(pulled)
    }

    /// Gives back what a consumer was granted because its connection can take nothing now, so that another one gets it.
    /// False, and nothing happens, if it is the queue's only consumer. [`Channel::resume`] ends it.
    pub fn pause(&mut self, consumer: u32) -> bool {
        let Some(entry) = self.consumers.get_mut(&consumer) else { return false };
        let id = entry.id;
        entry.paused = entry.queue.change(|queue| {
            let shared = queue.consumers.len() > 1;
            if shared {
                queue.consumers.set_credit(id, 0);
            }
            shared
        });
        entry.paused
    }

    /// Lets a paused consumer be granted messages again.
    pub fn resume(&mut self, consumer: u32) {
        if let Some(entry) = self.consumers.get_mut(&consumer) {
            entry.paused = false;
        }
        if let Some(entry) = self.consumers.get(&consumer) {
            self.announce(entry);
        }
    }

    /// Takes one message without a consumer, with its delivery tag and how many stay. `None` if there is none.
    pub fn get(&mut self, session: &mut Session, queue: &str, no_ack: bool) -> Result<Option<(Delivery, u64, u64)>> {
        self.apply_settled();
        session.flush();
        let queue = session.vhost.queue(self.resolve_queue(queue)?, session.id)?;
        let mut out = Vec::new();
        let own = Holder::Channel(session.listed, self.number);
        let mut take = |state: &mut Queue| match state.take_for(own, 1, 1, no_ack, &mut out) {
            Taken::Some { .. } => Ok(state.ready()),
            Taken::Missing(missing) => Err(Some(missing)),
            Taken::Unfinished => Err(None),
        };
        let left = loop {
            match queue.change(&mut take) {
                Ok(left) => break left,
                Err(missing) => _ = missing.map(|missing| queue.load(missing)),
            }
            queue.check_undamaged()?;
        };
        let Some(delivery) = out.pop() else {
            self.counters.get_empty += 1;
            queue.count_get_empty();
            return Ok(None);
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        self.counters.redeliver += u64::from(delivery.redelivered);
        *(if no_ack { &mut self.counters.get_no_ack } else { &mut self.counters.get }) += 1;
        if !no_ack {
            let position = delivery.position;
            self.unacked.insert(Outstanding { first_tag: tag, count: 1, position, queue, consumer: None });
        }
        Ok(Some((delivery, tag, left)))
    }

    /// Deliveries that are not settled.
    pub fn unacked(&self) -> u64 {
        self.unacked.len()
    }

    /// Ends the channel: consumers go, unacked messages return to their queues, an open transaction is dropped.
    pub fn close(mut self, session: &mut Session) {
        self.rollback_open();
        self.apply_settled();
        session.flush();
        // Another channel may get this number, and has not published these.
        drop(session.publisher.take_refused(self.number));
        // Consumers first, so that what is requeued is not granted to them. Their queues may go with them.
        let consumers: Vec<_> = self.consumers.drain().map(|(_, consumer)| consumer).collect();
        for consumer in &consumers {
            consumer.queue.change(|queue| queue.remove_consumer(consumer.id));
        }
        for run in self.unacked.take_all() {
            run.settle(Settle::Fail, |_| ());
        }
        for consumer in consumers {
            consumer.queue.touch();
            session.vhost.delete_if_abandoned(&consumer.queue);
        }
    }

    fn note_unacked(&mut self, consumer: u32, begin: usize, out: &[Delivery]) {
        let Some(entry) = self.consumers.get_mut(&consumer) else { return };
        let mut first_tag = self.next_tag;
        for delivery in &out[begin..] {
            let (count, position) = (u64::from(delivery.count), delivery.position);
            let (queue, consumer) = (entry.queue.clone(), Some(consumer));
            self.unacked.insert(Outstanding { first_tag, count, position, queue, consumer });
            entry.unacked += count;
            first_tag += count;
        }
        entry.tell();
    }

    fn count_pulled(&mut self, no_ack: bool, taken: u64, deliveries: &[Delivery]) {
        *(if no_ack { &mut self.counters.deliver_no_ack } else { &mut self.counters.deliver }) += taken;
        let again = deliveries.iter().filter(|delivery| delivery.redelivered);
        self.counters.redeliver += again.map(|delivery| u64::from(delivery.count)).sum::<u64>();
    }
}

impl Consumer {
    /// Lets those who ask know how much it holds.
    fn tell(&self) {
        self.identity.unacked.store(self.unacked, Ordering::Relaxed);
    }
}

/// The value of `x-filter`.
fn filter(consume: &Consume<'_>) -> Result<Option<Filter>> {
    Filter::from_arguments(consume.arguments).map_err(|why| {
        let (tag, queue) = (consume.tag, consume.queue);
        Error::precondition(format!("invalid arg 'x-filter': {why} (consumer '{tag}' of queue '{queue}')"))
    })
}

fn too_many_filters(queue: &str, vhost: &str) -> Error {
    Error::precondition(format!(
        "queue '{queue}' in vhost '{vhost}' has consumers with {FILTERS_MAX} different filters, which is the most: use \
         one of theirs, or bind another queue"
    ))
}

/// The value of `x-priority`: any integer.
fn priority(value: Value<'_>) -> Result<i32> {
    let number = value.as_i64().ok_or_else(|| Error::precondition("invalid arg 'x-priority': expected an integer"))?;
    Ok(number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}
