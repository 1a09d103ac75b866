//! A client that publishes with confirms.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use leveret_wire::method::confirm;

use crate::crash::account::Account;
use crate::crash::amqp::{Connection, Event};
use crate::crash::chance::Chance;
use crate::crash::load::{Client, Load, Outbox, any_length, refuse};
use crate::crash::topology::Route;

const CHANNEL: u16 = 1;
/// Messages in a write.
const BURST: usize = 100;
/// Behind its share a publisher sends this many at a time, and pauses.
const TRICKLE: usize = 5;
const PAUSE: Duration = Duration::from_millis(2);
/// One message in so many needn't survive.
const TRANSIENT: u64 = 10;

/// A client that publishes.
pub struct Publisher {
    outbox: Outbox,
    window: usize,
    share: u64,
    routes: Vec<Route>,
    chance: Chance,
}

impl Publisher {
    /// At most `window` messages are unconfirmed; `share` messages go out at full speed, those behind slowly.
    pub fn new(number: u32, window: usize, share: u64, routes: Vec<Route>, chance: Chance) -> Publisher {
        Publisher { outbox: Outbox::new(CHANNEL, number), window, share, routes, chance }
    }

    fn publish(&mut self, load: &Load, connection: &mut Connection) {
        let room = self.window - self.outbox.unconfirmed();
        let slow = self.outbox.count() as u64 >= self.share;
        for _ in 0..room.min(if slow { TRICKLE } else { BURST }) {
            let route = self.routes[self.chance.below(self.routes.len() as u64) as usize];
            let persistent = !self.chance.one_in(TRANSIENT);
            let length = any_length(&mut self.chance);
            self.outbox.publish(load, connection, route, persistent, length);
        }
        if slow {
            sleep(PAUSE);
        }
    }
}

impl Client for Publisher {
    fn run(&mut self, load: &Load) -> Result<()> {
        let mut connection = load.connect()?;
        connection.open_channel(CHANNEL)?;
        connection.call(CHANNEL, confirm::Select { nowait: false })?;
        loop {
            self.publish(load, &mut connection);
            connection.flush()?;
            loop {
                match connection.poll()? {
                    Some(Event::Confirmed { tag, multiple, .. }) => self.outbox.confirmed(load, tag, multiple)?,
                    Some(other) => refuse(other)?,
                    None if self.outbox.unconfirmed() < self.window => break,
                    None => connection.read()?,
                }
            }
        }
    }

    fn account(self) -> Account {
        Account { sent: self.outbox.into_sent(), ..Account::default() }
    }
}
