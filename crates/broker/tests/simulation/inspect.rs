//! Looks at everything that a broker has, and spoils it by that: it is to be one that nobody needs any more.

use crate::client::{check_content, declare_exchange, declare_queue, expect_that, text};
use crate::content::{Address, EXCHANGES, Id, QUEUES, id_of};
use crate::judge::{Excuse, Found, FoundQueue};
use crate::model::Model;
use leveret_broker::message::{Message, encode_route};
use leveret_broker::{Broker, Channel, Consume, Delivery, Event, Publish, Recovery, Session};
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;

/// What a broker has after its start. `damaged` allows it to miss what it reports to be damaged.
pub fn inspect(broker: &Broker, recovery: &Recovery, model: &Model, damaged: bool) -> Result<Found, String> {
    let mut look = Look {
        model,
        session: broker.open_session(broker.vhost("/").ok_or("the virtual host is gone")?),
        found: Found { excuse: excuse(recovery)?, ..Found::default() },
        damaged,
        total: 0,
    };
    expect_that(damaged || recovery.damage.is_empty(), || format!("damage that is none: {:?}", recovery.damage))?;
    for queue in 0..QUEUES.len() {
        look.queue(queue)?;
    }
    for exchange in 0..EXCHANGES.len() {
        look.exchange(exchange)?;
    }
    Address::bound().try_for_each(|address| look.bindings(address))?;
    let Look { found, total, .. } = look;
    if found.excuse.everything || !found.excuse.queues.is_empty() {
        return Ok(found);
    }
    expect_that(recovery.messages == total, || format!("{} messages reported, {total} found", recovery.messages))?;
    let queues = found.queues.len() as u64;
    expect_that(recovery.queues == queues, || format!("{} queues reported, {queues} found", recovery.queues))?;
    Ok(found)
}

fn excuse(recovery: &Recovery) -> Result<Excuse, String> {
    let mut excuse = Excuse::default();
    for damage in &recovery.damage {
        match &damage.queue {
            None => excuse.everything = true,
            Some((vhost, name)) => {
                let index = QUEUES.iter().position(|known| known == name).filter(|_| vhost == "/");
                excuse.queues.insert(index.ok_or_else(|| format!("damage in an unknown queue {name}"))?);
            }
        }
    }
    Ok(excuse)
}

struct Look<'a> {
    model: &'a Model,
    session: Session,
    found: Found,
    damaged: bool,
    total: u64,
}

impl Look<'_> {
    fn queue(&mut self, queue: usize) -> Result<(), String> {
        let mut channel = Channel::new(1);
        let status = match channel.check_queue(&mut self.session, QUEUES[queue]) {
            Ok(status) => status,
            Err(error) if error.code == 404 => return Ok(()),
            Err(error) => return self.refused(queue, &error.to_string()),
        };
        let durable = |life: &&crate::model::Queue| {
            declare_queue(&mut channel, &mut self.session, queue, life.durable, life.number).is_ok()
        };
        let number = self.model.queues[queue].iter().find(durable).map(|life| life.number);
        let Some(number) = number else { return Err(format!("{} is not as it ever was", QUEUES[queue])) };
        let (excuse, mut messages) = (&self.found.excuse, Vec::new());
        let excused = excuse.everything || excuse.queues.contains(&queue);
        let drained = match queue % 2 {
            0 => drain_by_get(&mut channel, &mut self.session, queue, self.model, &mut messages),
            _ => drain_by_consumer(&mut channel, &mut self.session, queue, self.model, &mut messages),
        };
        // A consumer of a queue that turns out to be damaged is cancelled, and gets no error.
        let drained = drained.and_then(|()| channel.get(&mut self.session, QUEUES[queue], false).map_err(text));
        if let Err(error) = drained {
            self.refused(queue, &error)?;
        } else {
            let count = messages.len() as u64;
            expect_that(excused || count == status.ready, || {
                format!("{} has {} ready and gives {count}", QUEUES[queue], status.ready)
            })?;
        }
        self.total += messages.len() as u64;
        self.found.queues.insert(queue, FoundQueue { number, messages });
        Ok(())
    }

    /// A queue that does not serve says that it is damaged.
    fn refused(&mut self, queue: usize, why: &str) -> Result<(), String> {
        self.found.excuse.queues.insert(queue);
        expect_that(self.damaged && why.contains("damage"), || format!("{}: {why}", QUEUES[queue]))
    }

    fn exchange(&mut self, exchange: usize) -> Result<(), String> {
        let name = EXCHANGES[exchange].name;
        if EXCHANGES[exchange].predeclared {
            self.found.exchanges.insert(exchange, 0);
        } else if self.session.vhost().check_exchange(name).is_ok() {
            let mut lives = self.model.exchanges[exchange].iter();
            let life = lives.find(|life| declare_exchange(&self.session, exchange, life.number).is_ok());
            let number = life.ok_or_else(|| format!("exchange '{name}' is not as it ever was"))?.number;
            self.found.exchanges.insert(exchange, number);
        }
        Ok(())
    }

    /// Sends something and looks where it arrives.
    fn bindings(&mut self, address: Address) -> Result<(), String> {
        let name = EXCHANGES[address.exchange].name;
        if !self.found.exchanges.contains_key(&address.exchange) {
            return Ok(());
        }
        let (route, mut channel) = (encode_route(name, address.routing_key()), Channel::new(1));
        let publish =
            Publish { route: &route, mandatory: false, properties: Properties::EMPTY, encoded: &[0, 0], body: &[] };
        match channel.publish(&mut self.session, &publish) {
            // A closed queue refuses what is published to it.
            Err(error) if self.damaged && error.text.contains("damage") => return Ok(()),
            published => _ = published.map_err(text)?,
        }
        self.session.flush();
        let queues: Vec<usize> = self.found.queues.keys().copied().collect();
        for queue in queues {
            // One that is damaged may refuse.
            let Ok(status) = channel.check_queue(&mut self.session, QUEUES[queue]) else { continue };
            if status.ready > 0 {
                self.found.bindings.insert((address.exchange, address.key, queue));
                if let Err(error) = channel.purge_queue(&mut self.session, QUEUES[queue]) {
                    self.refused(queue, &error.to_string())?;
                }
            }
        }
        Ok(())
    }
}

fn drain_by_get(
    channel: &mut Channel,
    session: &mut Session,
    queue: usize,
    model: &Model,
    out: &mut Vec<(Id, bool)>,
) -> Result<(), String> {
    while let Some((delivery, ..)) = channel.get(session, QUEUES[queue], false).map_err(text)? {
        out.push(note(&delivery.block.at(delivery.offset).0, delivery.redelivered, model)?);
    }
    Ok(())
}

fn drain_by_consumer(
    channel: &mut Channel,
    session: &mut Session,
    queue: usize,
    model: &Model,
    out: &mut Vec<(Id, bool)>,
) -> Result<(), String> {
    let consume =
        Consume { queue: QUEUES[queue], tag: "drain", no_ack: false, exclusive: false, arguments: Table::EMPTY };
    channel.consume(session, consume).map_err(text)?;
    let mut events = Vec::new();
    session.mailbox().take(&mut events);
    for event in events {
        let Event::Ready { consumer, .. } = event else { continue };
        loop {
            let mut deliveries: Vec<Delivery> = Vec::new();
            let pulled = channel.pull(session, consumer, 65_536, &mut deliveries);
            for delivery in &deliveries {
                let mut at = delivery.offset;
                for _ in 0..delivery.count {
                    let (message, next) = delivery.block.at(at);
                    out.push(note(&message, delivery.redelivered, model)?);
                    at = next;
                }
            }
            if !pulled.is_some_and(|pulled| pulled.more) {
                break;
            }
        }
    }
    channel.cancel(session, "drain");
    Ok(())
}

fn note(message: &Message<'_>, flagged: bool, model: &Model) -> Result<(Id, bool), String> {
    let id = id_of(message).ok_or("there is a message that nobody published")?;
    check_content(model, id, message)?;
    Ok((id, flagged))
}
