//! A client that consumes, transforms and produces: each transaction acknowledges one message and publishes five.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use leveret_wire::method::{basic, tx};

use crate::crash::account::{Account, Fate, Outcome, Seen, Transaction};
use crate::crash::amqp::{Connection, Delivery, Event, Outgoing};
use crate::crash::chance::Chance;
use crate::crash::load::{Client, Load, refuse};
use crate::crash::message::{Id, SHORTEST};
use crate::crash::topology::{OUTPUTS, QUEUES, TX_IN, TX_ROUTES};

/// Transactional channels of the connection. Each counts as a publisher, because order is promised by channel.
const CHANNELS: u16 = 3;
/// Messages, and therefore commits, that are on their way on a channel.
const PREFETCH: u16 = 4;
/// One transaction in so many is first done, taken back and done again.
const ROLLBACK: u64 = 40;

/// A client that works in transactions.
pub struct Transactor {
    chance: Chance,
    account: Account,
    lanes: Vec<Lane>,
}

/// A channel.
struct Lane {
    publisher: u32,
    /// Messages published.
    count: u64,
    /// The transactions that wait for commit-ok, by their place in the account.
    waiting: VecDeque<usize>,
}

impl Transactor {
    /// `numbers` gives numbers that no publisher had before.
    pub fn new(numbers: &mut impl FnMut() -> u32, chance: Chance) -> Transactor {
        let lane = |_| Lane { publisher: numbers(), count: 0, waiting: VecDeque::new() };
        Transactor { chance, account: Account::default(), lanes: (0..CHANNELS).map(lane).collect() }
    }

    fn subscribe(&self, connection: &mut Connection) -> Result<()> {
        for channel in 1..=CHANNELS {
            connection.open_channel(channel)?;
            connection.call(channel, tx::Select)?;
            connection.call(channel, basic::Qos { prefetch_count: PREFETCH, ..Default::default() })?;
        }
        for channel in 1..=CHANNELS {
            connection.send(channel, basic::Consume { queue: QUEUES[TX_IN], no_wait: true, ..Default::default() });
        }
        connection.flush()
    }

    fn event(&mut self, load: &Load, connection: &mut Connection, event: Event) -> Result<()> {
        match event {
            Event::Delivery(delivery) => self.delivery(load, connection, delivery)?,
            Event::Answer(answer) if answer.id == tx::RollbackOk::ID => {}
            Event::Answer(answer) if answer.id == tx::CommitOk::ID => {
                let lane = self.lanes.get_mut(usize::from(answer.channel).wrapping_sub(1));
                let committed = lane.and_then(|lane| lane.waiting.pop_front()).context("a commit-ok for nothing")?;
                self.account.transactions[committed].outcome = Outcome::Committed;
                load.commits.fetch_add(1, Ordering::Relaxed);
            }
            other => refuse(other)?,
        }
        Ok(())
    }

    fn delivery(&mut self, load: &Load, connection: &mut Connection, delivery: Delivery) -> Result<()> {
        ensure!((1..=CHANNELS).contains(&delivery.channel), "a delivery on a channel without consumer");
        let Delivery { channel, tag, redelivered } = delivery;
        let input = match connection.identify(&load.pattern) {
            Ok(id) => id,
            Err(what) => {
                self.account.damaged.push((TX_IN, what));
                return Ok(());
            }
        };
        let at = load.now();
        let seen = Seen { queue: TX_IN, consumer: channel, id: input, redelivered, at, fate: Fate::Held };
        if self.chance.one_in(ROLLBACK) {
            self.transaction(load, connection, (channel, tag), input, Outcome::RolledBack);
            connection.send(channel, tx::Rollback);
        }
        let begun = self.transaction(load, connection, (channel, tag), input, Outcome::Open);
        self.account.seen.push(Seen { fate: Fate::InTransaction(begun), ..seen });
        connection.send(channel, tx::Commit);
        self.lanes[usize::from(channel) - 1].waiting.push_back(begun);
        Ok(())
    }

    /// Publishes and acknowledges, up to the commit; returns the transaction's place in the account.
    fn transaction(
        &mut self,
        load: &Load,
        connection: &mut Connection,
        (channel, delivery_tag): (u16, u64),
        input: Id,
        outcome: Outcome,
    ) -> usize {
        let index = self.account.transactions.len();
        let lane = &mut self.lanes[usize::from(channel) - 1];
        let first = Id::new(lane.publisher, lane.count);
        lane.count += OUTPUTS as u64;
        let transaction = Transaction { input, first, at: load.now(), outcome };
        self.account.transactions.push(transaction);
        for (id, route) in transaction.outputs().zip(&TX_ROUTES) {
            let length = if self.chance.one_in(500) {
                self.chance.at_any_scale(8 << 10, 150 << 10)
            } else {
                self.chance.at_any_scale(SHORTEST as u64, 2 << 10)
            };
            let message = Outgoing { id, persistent: true, length: length as usize };
            connection.publish(channel, route, &message, &load.pattern);
        }
        connection.send(channel, basic::Ack { delivery_tag, multiple: false });
        index
    }
}

impl Client for Transactor {
    fn run(&mut self, load: &Load) -> Result<()> {
        let mut connection = load.connect()?;
        self.subscribe(&mut connection)?;
        loop {
            while let Some(event) = connection.poll()? {
                self.event(load, &mut connection, event)?;
            }
            connection.flush()?;
            connection.read()?;
        }
    }

    fn account(self) -> Account {
        self.account
    }
}
