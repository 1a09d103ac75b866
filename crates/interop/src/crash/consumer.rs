//! A client that consumes, and acknowledges in one of several ways.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use leveret_wire::method::{basic, confirm};

use crate::crash::account::{Account, Fate, Receipt, Seen};
use crate::crash::amqp::{Connection, Delivery, Event};
use crate::crash::chance::Chance;
use crate::crash::load::{Client, Load, Outbox, refuse};
use crate::crash::topology::{QUEUES, RECEIPTS, to};

/// Acks after which a message is published whose confirm says that they were acted on.
const RECEIPT_EVERY: u64 = 300;

/// How a consumer acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Each by itself.
    Single,
    /// Several at a time.
    Multiple,
    /// All but one in ten, by themselves.
    Sparse,
    /// As `Single`, but one in five is given back, now and then with all before it.
    Requeue,
    /// Not at all: the broker forgets what it sends. Ends after some messages.
    Automatic,
}

/// One consumer of the connection.
#[derive(Debug)]
pub struct Subscription {
    queue: usize,
    habit: Habit,
    prefetch: u16,
    /// Delivery tag and place in the account of what wasn't answered.
    waiting: VecDeque<(u64, usize)>,
    /// How many to wait for before something is answered.
    patience: usize,
    /// Deliveries that are left before an automatic consumer ends.
    left: u64,
    cancelled: bool,
}

impl Subscription {
    /// A prefetch of 0 is none.
    pub fn new(queue: usize, habit: Habit, prefetch: u16) -> Subscription {
        Subscription { queue, habit, prefetch, waiting: VecDeque::new(), patience: 0, left: 0, cancelled: false }
    }
}

/// A connection with several consumers, each on a channel of its own, and one channel to publish on.
pub struct Consumer {
    outbox: Outbox,
    subscriptions: Vec<Subscription>,
    chance: Chance,
    account: Account,
    acks: u64,
    /// Acks that the unconfirmed receipt stands for.
    receipt: Option<u64>,
}

impl Consumer {
    /// The subscriptions get the channels from 1 on.
    pub fn new(number: u32, subscriptions: Vec<Subscription>, chance: Chance) -> Consumer {
        let outbox = Outbox::new(subscriptions.len() as u16 + 1, number);
        Consumer { outbox, subscriptions, chance, account: Account::default(), acks: 0, receipt: None }
    }

    fn subscribe(&mut self, connection: &mut Connection) -> Result<()> {
        let publishing = self.subscriptions.len() as u16 + 1;
        for channel in 1..=publishing {
            connection.open_channel(channel)?;
        }
        connection.call(publishing, confirm::Select { nowait: false })?;
        for (channel, subscription) in (1..).zip(&mut self.subscriptions) {
            let prefetch_count = subscription.prefetch;
            connection.call(channel, basic::Qos { prefetch_count, ..Default::default() })?;
            subscription.left = self.chance.below(20_000);
        }
        for (channel, subscription) in (1..).zip(&self.subscriptions) {
            let no_ack = subscription.habit == Habit::Automatic;
            let queue = QUEUES[subscription.queue];
            let consume = basic::Consume { queue, consumer_tag: queue, no_ack, no_wait: true, ..Default::default() };
            connection.send(channel, consume);
            if no_ack {
                self.account.exposed = Some(subscription.queue);
            }
        }
        connection.flush()
    }

    fn event(&mut self, load: &Load, connection: &mut Connection, event: Event) -> Result<()> {
        match event {
            Event::Delivery(delivery) => self.delivery(load, connection, delivery),
            Event::Confirmed { tag, multiple, .. } => {
                self.outbox.confirmed(load, tag, multiple)?;
                if let Some(acks) = self.receipt.take() {
                    self.account.receipts.push(Receipt { acks, at: load.now() });
                }
                Ok(())
            }
            Event::Answer(answer) if answer.id == basic::CancelOk::ID => {
                // What was sent came before this answer.
                self.account.exposed = None;
                Ok(())
            }
            other => refuse(other),
        }
    }

    fn delivery(&mut self, load: &Load, connection: &mut Connection, delivery: Delivery) -> Result<()> {
        let Delivery { channel, tag, redelivered } = delivery;
        let at = usize::from(channel).wrapping_sub(1);
        let subscription = self.subscriptions.get_mut(at).context("a delivery on a channel without consumer")?;
        let queue = subscription.queue;
        match connection.identify(&load.pattern) {
            Err(what) => self.account.damaged.push((queue, what)),
            Ok(id) => {
                let fate = if subscription.habit == Habit::Automatic { Fate::Automatic } else { Fate::Held };
                subscription.waiting.push_back((tag, self.account.seen.len()));
                self.account.seen.push(Seen { queue, consumer: channel, id, redelivered, at: load.now(), fate });
            }
        }
        self.answer(connection, at);
        Ok(())
    }

    fn answer(&mut self, connection: &mut Connection, at: usize) {
        let channel = at as u16 + 1;
        let subscription = &mut self.subscriptions[at];
        match subscription.habit {
            Habit::Single => self.ack(connection, at, false),
            Habit::Sparse if self.chance.one_in(10) => subscription.waiting.clear(),
            Habit::Sparse => self.ack(connection, at, false),
            Habit::Multiple if subscription.waiting.len() > subscription.patience => {
                subscription.patience = self.chance.below(u64::from(subscription.prefetch) / 2) as usize;
                self.ack(connection, at, true);
            }
            Habit::Multiple => {}
            Habit::Requeue => match self.chance.below(25) {
                0 => self.requeue(connection, at, true),
                1..5 => self.requeue(connection, at, false),
                // It stays unanswered until one with all before it is.
                5 => {}
                _ => self.ack(connection, at, false),
            },
            Habit::Automatic => {
                subscription.waiting.clear();
                subscription.left = subscription.left.saturating_sub(1);
                if subscription.left == 0 && !subscription.cancelled {
                    subscription.cancelled = true;
                    let consumer_tag = QUEUES[subscription.queue];
                    connection.send(channel, basic::Cancel { consumer_tag, no_wait: false });
                }
            }
        }
    }

    fn ack(&mut self, connection: &mut Connection, at: usize, multiple: bool) {
        let Some(&(delivery_tag, _)) = self.subscriptions[at].waiting.back() else { return };
        connection.send(at as u16 + 1, basic::Ack { delivery_tag, multiple });
        self.acks += 1;
        self.settle(at, multiple, Fate::Acked(self.acks));
    }

    fn requeue(&mut self, connection: &mut Connection, at: usize, multiple: bool) {
        let Some(&(delivery_tag, _)) = self.subscriptions[at].waiting.back() else { return };
        connection.send(at as u16 + 1, basic::Nack { delivery_tag, multiple, requeue: true });
        self.settle(at, multiple, Fate::Requeued);
    }

    /// Notes the fate of the last delivery, or of all that wait.
    fn settle(&mut self, at: usize, multiple: bool, fate: Fate) {
        let waiting = &mut self.subscriptions[at].waiting;
        let first = if multiple { 0 } else { waiting.len() - 1 };
        for (_, seen) in waiting.drain(first..) {
            self.account.seen[seen].fate = fate;
        }
    }

    fn ask_for_receipt(&mut self, load: &Load, connection: &mut Connection) {
        let answered = self.account.receipts.last().map_or(0, |receipt| receipt.acks);
        if self.receipt.is_none() && self.acks - answered >= RECEIPT_EVERY {
            self.receipt = Some(self.acks);
            self.outbox.publish(load, connection, to(&[RECEIPTS]), true, 64);
        }
    }
}

impl Client for Consumer {
    fn run(&mut self, load: &Load) -> Result<()> {
        let mut connection = load.connect()?;
        self.subscribe(&mut connection)?;
        loop {
            while let Some(event) = connection.poll()? {
                self.event(load, &mut connection, event)?;
            }
            self.ask_for_receipt(load, &mut connection);
            connection.flush()?;
            connection.read()?;
        }
    }

    fn account(self) -> Account {
        Account { sent: self.outbox.into_sent(), ..self.account }
    }
}
