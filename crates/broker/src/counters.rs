//! What happened, counted: by queue, exchange, channel and broker. Counters only grow, as long as what they are of is there;
//! they begin with zero at each start. They are kept by run of messages, under locks that are held anyway.

use crate::dead_letter::Reason;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened in a queue since the broker was started, in messages unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Came into the queue, by whatever way: published, dead-lettered, moved.
    pub published: u64,
    /// Bytes of their bodies.
    pub published_bytes: u64,
    /// Handed to consumers that acknowledge.
    pub delivered: u64,
    /// Handed to consumers that don't.
    pub delivered_no_ack: u64,
    /// Handed out by basic.get, to be acknowledged.
    pub got: u64,
    /// Handed out by basic.get, without acknowledgement.
    pub got_no_ack: u64,
    /// basic.get found nothing: the number of times.
    pub get_empty: u64,
    /// Of what was handed out, was handed out before.
    pub redelivered: u64,
    /// Bytes of the bodies of what was handed out.
    pub delivered_bytes: u64,
    /// Acknowledged by clients.
    pub acked: u64,
    /// Came back to be delivered again: nacked, rejected, or held by a channel that ended.
    pub returned: u64,
    /// What died, whether or not it has become a dead letter.
    pub died: Deaths,
    /// Of what died, became a dead letter in some other queue, or in several.
    pub dead_lettered: Deaths,
    /// Refused since the queue was full (`x-overflow`).
    pub refused: u64,
    /// Dropped by a purge.
    pub purged: u64,
    /// Went to other queues by a move or a redrive.
    pub moved: u64,
}

/// What happened in many queues together since the broker was started, also in those that are gone, by RabbitMQ's two types
/// of queues; and to the queues themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// In queues whose `x-queue-type` is not `quorum`.
    pub classic: QueueCounters,
    /// In the others.
    pub quorum: QueueCounters,
    /// To the queues themselves.
    pub churn: QueueChurn,
}

/// How queues came and went since the broker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueChurn {
    /// Declarations of queues that were accepted, also of those that were there.
    pub declared: u64,
    /// Queues that were not there before their declaration.
    pub created: u64,
    /// Queues deleted, by whomever.
    pub deleted: u64,
}

/// Messages that died, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deaths {
    /// Their time was over.
    pub expired: u64,
    /// They were rejected for good.
    pub rejected: u64,
    /// There were too many.
    pub max_length: u64,
    /// They came back too often.
    pub delivery_limit: u64,
}

/// What happened in an exchange since the broker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounters {
    /// Messages that clients published to it.
    pub published_in: u64,
    /// Copies of them that went to queues.
    pub published_out: u64,
    /// Messages among them that no queue took.
    pub unroutable: u64,
}

/// What a channel has done since it was opened, under RabbitMQ's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Messages published.
    pub publish: u64,
    /// Messages confirmed.
    pub confirm: u64,
    /// Mandatory messages that no queue took: they were returned.
    pub return_unroutable: u64,
    /// Other messages that no queue took.
    pub drop_unroutable: u64,
    /// Messages delivered to consumers that acknowledge.
    pub deliver: u64,
    /// Messages delivered to consumers that don't.
    pub deliver_no_ack: u64,
    /// Messages got, to be acknowledged.
    pub get: u64,
    /// Messages got without acknowledgement.
    pub get_no_ack: u64,
    /// Gets that found nothing.
    pub get_empty: u64,
    /// Of what was delivered or got, was before.
    pub redeliver: u64,
    /// Messages acknowledged.
    pub ack: u64,
}

impl Deaths {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.expired + self.rejected + self.max_length + self.delivery_limit
    }

    pub(crate) fn count(&mut self, reason: Reason, messages: u64) {
        *match reason {
            Reason::Expired => &mut self.expired,
            Reason::Rejected => &mut self.rejected,
            Reason::MaxLength => &mut self.max_length,
            Reason::DeliveryLimit => &mut self.delivery_limit,
        } += messages;
    }
}

impl QueueCounters {
    /// Everything that was handed out.
    pub fn handed_out(&self) -> u64 {
        self.delivered + self.delivered_no_ack + self.got + self.got_no_ack
    }
}

impl QueueTotals {
    /// What happened in queues of both types.
    pub fn of_all(&self) -> QueueCounters {
        let mut all = self.classic;
        all += self.quorum;
        all
    }

    pub(crate) fn add(&mut self, quorum: bool, counters: QueueCounters) {
        *if quorum { &mut self.quorum } else { &mut self.classic } += counters;
    }
}

impl AddAssign for QueueTotals {
    fn add_assign(&mut self, other: QueueTotals) {
        self.classic += other.classic;
        self.quorum += other.quorum;
        self.churn += other.churn;
    }
}

impl AddAssign for QueueChurn {
    fn add_assign(&mut self, other: QueueChurn) {
        self.declared += other.declared;
        self.created += other.created;
        self.deleted += other.deleted;
    }
}

impl AddAssign for Deaths {
    fn add_assign(&mut self, other: Deaths) {
        self.expired += other.expired;
        self.rejected += other.rejected;
        self.max_length += other.max_length;
        self.delivery_limit += other.delivery_limit;
    }
}

impl AddAssign for QueueCounters {
    fn add_assign(&mut self, other: QueueCounters) {
        self.published += other.published;
        self.published_bytes += other.published_bytes;
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.get_empty += other.get_empty;
        self.redelivered += other.redelivered;
        self.delivered_bytes += other.delivered_bytes;
        self.acked += other.acked;
        self.returned += other.returned;
        self.died += other.died;
        self.dead_lettered += other.dead_lettered;
        self.refused += other.refused;
        self.purged += other.purged;
        self.moved += other.moved;
    }
}

impl AddAssign for ExchangeCounters {
    fn add_assign(&mut self, other: ExchangeCounters) {
        self.published_in += other.published_in;
        self.published_out += other.published_out;
        self.unroutable += other.unroutable;
    }
}

impl AddAssign for ChannelCounters {
    fn add_assign(&mut self, other: ChannelCounters) {
        self.publish += other.publish;
        self.confirm += other.confirm;
        self.return_unroutable += other.return_unroutable;
        self.drop_unroutable += other.drop_unroutable;
        self.deliver += other.deliver;
        self.deliver_no_ack += other.deliver_no_ack;
        self.get += other.get;
        self.get_no_ack += other.get_no_ack;
        self.get_empty += other.get_empty;
        self.redeliver += other.redeliver;
        self.ack += other.ack;
    }
}

/// [`ExchangeCounters`] that publishers of several connections add to, each a run of messages at a time.
#[derive(Debug, Default)]
pub(crate) struct ExchangeMeter {
    published_in: AtomicU64,
    published_out: AtomicU64,
    unroutable: AtomicU64,
}

impl ExchangeMeter {
    /// So many messages went to so many queues each.
    pub(crate) fn count(&self, messages: u64, queues: u64) {
        self.published_in.fetch_add(messages, Ordering::Relaxed);
        match queues {
            0 => self.unroutable.fetch_add(messages, Ordering::Relaxed),
            queues => self.published_out.fetch_add(messages * queues, Ordering::Relaxed),
        };
    }

    pub(crate) fn read(&self) -> ExchangeCounters {
        ExchangeCounters {
            published_in: self.published_in.load(Ordering::Relaxed),
            published_out: self.published_out.load(Ordering::Relaxed),
            unroutable: self.unroutable.load(Ordering::Relaxed),
        }
    }
}
