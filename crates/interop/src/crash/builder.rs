//! A client that declares durable queues, binds them, fills them, and deletes them again under the same few names.

use anyhow::{Result, bail};
use leveret_wire::method::{Method, confirm, queue};

use crate::crash::account::{Account, Built};
use crate::crash::amqp::{Connection, Event};
use crate::crash::chance::Chance;
use crate::crash::load::{Client, Load, Outbox, any_length, refuse};
use crate::crash::topology::{QUEUES, Route, SLOT, SLOTS};

const CHANNEL: u16 = 1;
/// Messages between two changes of the topology, at most.
const MESSAGES: u64 = 60;

/// A client that builds and tears down.
pub struct Builder {
    outbox: Outbox,
    chance: Chance,
    account: Account,
    /// By slot, what is there, by its place in the account.
    standing: [Option<usize>; SLOTS],
}

impl Builder {
    /// `number` is one that no publisher had before. None of the queues may be there.
    pub fn new(number: u32, chance: Chance) -> Builder {
        let outbox = Outbox::new(CHANNEL, number);
        Builder { outbox, chance, account: Account::default(), standing: [None; SLOTS] }
    }

    /// Sends a method and waits for its answer; confirms may come before it.
    fn call<'m>(&mut self, load: &Load, connection: &mut Connection, method: impl Into<Method<'m>>) -> Result<()> {
        let method = method.into();
        let (class, number) = method.id();
        connection.send(CHANNEL, method);
        connection.flush()?;
        loop {
            match connection.event()? {
                Event::Answer(answer) if answer.id == (class, number + 1) => return Ok(()),
                Event::Confirmed { tag, multiple, .. } => self.outbox.confirmed(load, tag, multiple)?,
                other => refuse(other)?,
            }
        }
    }

    fn build(&mut self, load: &Load, connection: &mut Connection, slot: usize) -> Result<()> {
        let name = QUEUES[SLOT + slot];
        let built = self.account.built.len();
        self.account.built.push(Built { slot, ..Built::default() });
        self.standing[slot] = Some(built);
        self.call(load, connection, queue::Declare { queue: name, durable: true, ..Default::default() })?;
        let bind = queue::Bind { queue: name, exchange: "slots", routing_key: name, ..Default::default() };
        self.call(load, connection, bind)?;
        self.account.built[built].declared = Some(load.now());
        Ok(())
    }

    fn fill(&mut self, load: &Load, connection: &mut Connection, slot: usize, built: usize) -> Result<()> {
        let route = Route { exchange: "slots", key: QUEUES[SLOT + slot], queues: &[] };
        for _ in 0..self.chance.below(MESSAGES) {
            self.account.built[built].messages.push(self.outbox.count());
            let length = any_length(&mut self.chance);
            self.outbox.publish(load, connection, route, true, length);
        }
        connection.flush()?;
        // Now and then the next change comes before the confirms.
        while self.outbox.unconfirmed() > 0 && !self.chance.one_in(4) {
            let event = connection.event()?;
            let Event::Confirmed { tag, multiple, .. } = event else { bail!("the broker said {event:?}") };
            self.outbox.confirmed(load, tag, multiple)?;
        }
        Ok(())
    }

    fn tear_down(&mut self, load: &Load, connection: &mut Connection, slot: usize, built: usize) -> Result<()> {
        self.account.built[built].delete_sent = true;
        self.call(load, connection, queue::Delete { queue: QUEUES[SLOT + slot], ..Default::default() })?;
        self.account.built[built].deleted = Some(load.now());
        self.standing[slot] = None;
        Ok(())
    }
}

impl Client for Builder {
    fn run(&mut self, load: &Load) -> Result<()> {
        let mut connection = load.connect()?;
        connection.open_channel(CHANNEL)?;
        connection.call(CHANNEL, confirm::Select { nowait: false })?;
        loop {
            let slot = self.chance.below(SLOTS as u64) as usize;
            match self.standing[slot] {
                None => self.build(load, &mut connection, slot)?,
                Some(built) if self.chance.one_in(3) => self.tear_down(load, &mut connection, slot, built)?,
                Some(built) => self.fill(load, &mut connection, slot, built)?,
            }
        }
    }

    fn account(self) -> Account {
        Account { sent: self.outbox.into_sent(), ..self.account }
    }
}
