//! Looks at everything that a broker has, and spoils it by that: it is to be one that nobody needs any more.

use crate::client::{declare_exchange, declare_queue, expect_that, identify, text};
use crate::clocks::Clocks;
use crate::content::{Address, DELAY_QUEUE, EXCHANGES, LATER, QUEUES, past_of};
use crate::history::History;
use crate::judge::{Excuse, Found, FoundMessage, FoundQueue};
use crate::model::Model;
use crate::rules::Rules;
use crate::side;
use leveret_broker::message::{Message, encode_route};
use leveret_broker::{Broker, Channel, Consume, Delivery, Error, Event, Publish, QueueDeclare, Recovery, Session};
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;
use std::collections::BTreeMap;

/// What a broker has after its start. `damaged` allows it to miss what it reports to be damaged.
pub fn inspect(
    (broker, recovery): (&Broker, &Recovery),
    clocks: &Clocks,
    model: &Model,
    damaged: bool,
) -> Result<Found, String> {
    let mut look = Look {
        model,
        broker,
        clocks,
        waiting: 0,
        ends: BTreeMap::new(),
        session: broker.open_session(broker.vhost("/").ok_or("the virtual host is gone")?),
        found: Found { excuse: excuse(recovery)?, now: clocks.now(), flipped: damaged, ..Found::default() },
        damaged,
        total: 0,
    };
    expect_that(damaged || recovery.damage.is_empty(), || format!("damage that is none: {:?}", recovery.damage))?;
    for queue in 0..DELAY_QUEUE {
        look.queue(queue)?;
    }
    for exchange in 0..EXCHANGES.len() {
        look.exchange(exchange)?;
    }
    look.what_waits(recovery.messages)?;
    Address::bound().try_for_each(|address| look.bindings(address))?;
    // Nobody but the broker looks at what waits in an exchange.
    if damaged && broker.take_damage().iter().any(|text| text.contains(QUEUES[DELAY_QUEUE])) {
        look.found.excuse.queues.insert(DELAY_QUEUE);
    }
    let Look { mut found, mut total, .. } = look;
    let (messages, queues) = side::look(broker, model, &mut found)?;
    total += messages;
    if found.excuse.is_any() {
        return Ok(found);
    }
    expect_that(recovery.messages == total, || format!("{} messages reported, {total} found", recovery.messages))?;
    let queues = queues + found.queues.len() as u64;
    // Of the exchange that delays and its queue only the first may have survived.
    let without = u64::from(found.queues.contains_key(&DELAY_QUEUE));
    expect_that((queues - without..=queues).contains(&recovery.queues), || {
        format!("{} queues reported, {queues} found", recovery.queues)
    })?;
    Ok(found)
}

fn excuse(recovery: &Recovery) -> Result<Excuse, String> {
    let mut excuse = Excuse::default();
    for damage in &recovery.damage {
        match &damage.queue {
            None => excuse.everything = true,
            Some((vhost, _)) if vhost == "side" => excuse.side = true,
            Some((vhost, name)) => {
                let index = QUEUES.iter().position(|known| known == name).filter(|_| vhost == "/");
                excuse.queues.insert(index.ok_or_else(|| format!("damage in an unknown queue {name}"))?);
            }
        }
    }
    Ok(excuse)
}

/// Where messages come that have waited in the exchange that delays.
const PROBE: &str = "probe";

struct Look<'a> {
    model: &'a Model,
    broker: &'a Broker,
    clocks: &'a Clocks,
    /// Messages that wait for another attempt, as their queues say, and those that cannot be had before them.
    waiting: u64,
    /// Of queues with groups: positions from here on are of what came later.
    ends: BTreeMap<usize, u64>,
    session: Session,
    found: Found,
    damaged: bool,
    total: u64,
}

impl Look<'_> {
    fn queue(&mut self, queue: usize) -> Result<(), String> {
        // One channel, so that what it holds of a group keeps it from nothing.
        let mut channel = Channel::new(CHANNEL);
        let status = match channel.check_queue(&mut self.session, QUEUES[queue]) {
            Ok(status) => status,
            Err(error) if error.code == 404 => return Ok(()),
            Err(error) => return self.refused(queue, &error.to_string()),
        };
        let durable = |life: &&crate::model::Queue| {
            declare_queue(&mut channel, &mut self.session, (queue, life.durable, life.number), &life.rules).is_ok()
        };
        let life = self.model.queues[queue].iter().find(durable);
        let life = match life {
            Some(life) => life,
            // What is damaged may be what said that it was deleted, before the model's memory begins.
            None if self.found.excuse.everything => return Ok(()),
            None => return Err(format!("{} is not as it ever was", QUEUES[queue])),
        };
        let (number, groups) = (life.number, life.rules.groups);
        let (excuse, mut messages) = (&self.found.excuse, Vec::new());
        let excused = excuse.everything || excuse.queues.contains(&queue);
        let mut end = None;
        let mut take = |delivery: &Delivery, position: u64, message: &Message<'_>| {
            match groups && message.properties == PLAIN {
                true => end = Some(position),
                false => messages.push(note(delivery, position, message, self.model)?),
            }
            Ok(())
        };
        let marked = if groups { publish_plain(&mut channel, &mut self.session, "", QUEUES[queue]) } else { Ok(()) };
        let drained = marked.map_err(text).and_then(|()| match queue % 2 {
            0 => drain_by_get(&mut channel, &mut self.session, QUEUES[queue], &mut take),
            // It would hold the keys of what it gets.
            _ => drain_by_consumer(&mut channel, &mut self.session, QUEUES[queue], groups, &mut take),
        });
        // A consumer of a queue that turns out to be damaged is cancelled, and gets no error.
        let drained = drained.and_then(|()| channel.get(&mut self.session, QUEUES[queue], false).map_err(text));
        if let Err(error) = drained {
            self.refused(queue, &error)?;
        } else {
            // Others of a group wait together with what waits for another attempt.
            let (count, some) = (messages.len() as u64, groups && status.waiting > 0);
            expect_that(excused || count == status.ready || some && count < status.ready, || {
                format!("{} has {} ready and gives {count}", QUEUES[queue], status.ready)
            })?;
            expect_that(excused || end.is_some() || !groups, || {
                format!("{} hides what is in no group", QUEUES[queue])
            })?;
            self.waiting += status.ready.saturating_sub(count);
        }
        if life.rules.expires.is_some() {
            // Not while time goes by here.
            let consume =
                Consume { queue: QUEUES[queue], tag: "user", no_ack: true, exclusive: false, arguments: Table::EMPTY };
            if let Err(error) = channel.consume(&mut self.session, consume) {
                self.refused(queue, &error.to_string())?;
            }
        }
        self.ends.extend(end.map(|end| (queue, end)));
        self.total += messages.len() as u64;
        self.waiting += status.waiting;
        self.found.queues.insert(queue, FoundQueue { number, messages, waiting: status.waiting });
        Ok(())
    }

    /// A queue that does not serve says that it is damaged.
    fn refused(&mut self, queue: usize, why: &str) -> Result<(), String> {
        // What is closed has no consumers, and may end by that.
        let known = !self.found.excuse.queues.insert(queue);
        expect_that(known || self.damaged && why.contains("damage"), || format!("{}: {why}", QUEUES[queue]))
    }

    /// Lets time go by and sees what becomes ready, and when. What is held meanwhile does not come back.
    fn what_waits(&mut self, messages: u64) -> Result<(), String> {
        let (mut channel, mut ready) = (Channel::new(CHANNEL), 0);
        let later = self.found.exchanges.get(&LATER).copied();
        let queue = later.map(|number| (DELAY_QUEUE, FoundQueue { number, ..FoundQueue::default() }));
        self.found.queues.extend(queue);
        if self.total == messages && !self.damaged {
            return Ok(());
        }
        let delays = later.is_some();
        if delays {
            declare_queue_named(&mut channel, &mut self.session, PROBE)?;
            let vhost = self.session.vhost();
            let bound = vhost.bind_queue(PROBE, EXCHANGES[LATER].name, "", Table::EMPTY, self.session.id());
            bound.map_err(text)?;
        }
        let now = self.clocks.now();
        // What an older checkpoint says may wait for a time of an earlier life, which nobody has noted. Nor are the times
        // known if it could not be told what of a group waits; all of it comes back even so.
        let last = (self.damaged || self.model.unclear).then_some(now + 1_000_000_000);
        for at in self.model.dues(now).into_iter().chain(last) {
            if self.total == messages && !self.damaged {
                break;
            }
            self.clocks.advance(at - self.clocks.now());
            // What has lost its time comes a step later.
            for _ in 0..if self.damaged { 3 } else { 1 } {
                self.broker.tick();
                while self.broker.write_log() {}
            }
            ready += self.what_is_ready(&mut channel, at)?;
            if delays {
                self.what_has_waited(&mut channel, at)?;
            }
        }
        expect_that(self.damaged || ready == self.waiting, || {
            format!("{} wait, and {ready} of them come back", self.waiting)
        })?;
        if delays {
            channel.delete_queue(&mut self.session, PROBE, false, false).map_err(text)?;
        }
        Ok(())
    }

    /// What was handed out in an earlier life comes back now; what was not is something that came just now.
    fn what_is_ready(&mut self, channel: &mut Channel, at: u64) -> Result<u64, String> {
        let (mut ready, queues) = (0, self.found.queues.keys().copied().filter(|queue| *queue != DELAY_QUEUE));
        for queue in queues.collect::<Vec<_>>() {
            let mut messages = Vec::new();
            let end = self.ends.get(&queue);
            let mut take = |delivery: &Delivery, position: u64, message: &Message<'_>| {
                if end.map_or(delivery.redelivered, |end| position < *end) {
                    messages.push(FoundMessage { waits: Some(at), ..note(delivery, position, message, self.model)? });
                }
                Ok(())
            };
            let drained = drain_by_get(channel, &mut self.session, QUEUES[queue], &mut take);
            if let Err(error) = drained {
                self.refused(queue, &error)?;
            }
            ready += messages.len() as u64;
            self.total += messages.len() as u64;
            self.found.queues.entry(queue).or_default().messages.extend(messages);
        }
        Ok(ready)
    }

    fn what_has_waited(&mut self, channel: &mut Channel, at: u64) -> Result<(), String> {
        let mut messages = Vec::new();
        let mut take = |_: &Delivery, _: u64, message: &Message<'_>| {
            messages.push(FoundMessage {
                id: note_waited(message, self.model)?,
                flagged: true,
                returned: 0,
                waits: Some(at),
                position: None,
            });
            Ok(())
        };
        drain_by_get(channel, &mut self.session, PROBE, &mut take)?;
        self.total += messages.len() as u64;
        self.found.queues.entry(DELAY_QUEUE).or_default().messages.extend(messages);
        Ok(())
    }

    fn exchange(&mut self, exchange: usize) -> Result<(), String> {
        let name = EXCHANGES[exchange].name;
        if EXCHANGES[exchange].predeclared {
            self.found.exchanges.insert(exchange, 0);
        } else if self.session.vhost().check_exchange(name).is_ok() {
            let mut lives = self.model.exchanges[exchange].iter();
            let life = lives.find(|life| declare_exchange(&self.session, exchange, life.number).is_ok());
            match life {
                Some(life) => _ = self.found.exchanges.insert(exchange, life.number),
                None if self.found.excuse.everything => {}
                None => return Err(format!("exchange '{name}' is not as it ever was")),
            }
        }
        Ok(())
    }

    /// Sends something and looks where it arrives.
    fn bindings(&mut self, address: Address) -> Result<(), String> {
        let name = EXCHANGES[address.exchange].name;
        if !self.found.exchanges.contains_key(&address.exchange) {
            return Ok(());
        }
        let mut channel = Channel::new(CHANNEL);
        match publish_plain(&mut channel, &mut self.session, name, address.routing_key()) {
            // A closed queue refuses what is published to it.
            Err(error) if self.damaged && error.text.contains("damage") => return Ok(()),
            published => published.map_err(text)?,
        }
        let queues = self.found.queues.keys().copied().filter(|queue| *queue != DELAY_QUEUE);
        for queue in queues.collect::<Vec<_>>() {
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

/// The encoded properties of a message that has none.
const PLAIN: &[u8] = &[0, 0];

/// The number of all channels.
const CHANNEL: u16 = 1;

/// Publishes a message without anything in it.
fn publish_plain(channel: &mut Channel, session: &mut Session, exchange: &str, key: &str) -> Result<(), Error> {
    let (route, properties) = (encode_route(exchange, key), Properties::EMPTY);
    channel.publish(session, &Publish { route: &route, mandatory: false, properties, encoded: PLAIN, body: &[] })?;
    session.flush();
    Ok(())
}

/// What to do with each message, at which position.
type Take<'a> = &'a mut dyn FnMut(&Delivery, u64, &Message<'_>) -> Result<(), String>;

fn drain_by_get(channel: &mut Channel, session: &mut Session, queue: &str, take: Take<'_>) -> Result<(), String> {
    while let Some((delivery, ..)) = channel.get(session, queue, false).map_err(text)? {
        take(&delivery, delivery.position, &delivery.block.at(delivery.offset).0)?;
    }
    Ok(())
}

fn drain_by_consumer(
    channel: &mut Channel,
    session: &mut Session,
    queue: &str,
    no_ack: bool,
    take: Take<'_>,
) -> Result<(), String> {
    let consume = Consume { queue, tag: "drain", no_ack, exclusive: false, arguments: Table::EMPTY };
    channel.consume(session, consume).map_err(text)?;
    // With much to read, a consumer is told once more.
    let next = |session: &Session| {
        let mut events = Vec::new();
        session.mailbox().take(&mut events);
        events
            .into_iter()
            .find_map(|event| if let Event::Ready { consumer, .. } = event { Some(consumer) } else { None })
    };
    while let Some(consumer) = next(session) {
        loop {
            let mut deliveries: Vec<Delivery> = Vec::new();
            let pulled = channel.pull(session, consumer, 65_536, &mut deliveries);
            for delivery in &deliveries {
                let mut at = delivery.offset;
                for position in delivery.position..delivery.position + u64::from(delivery.count) {
                    let (message, next) = delivery.block.at(at);
                    take(delivery, position, &message)?;
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

/// A transient queue without rules, under a name that no run uses.
fn declare_queue_named(channel: &mut Channel, session: &mut Session, name: &str) -> Result<(), String> {
    let arguments = Rules::default().arguments(0);
    let (durable, exclusive, auto_delete) = (false, false, false);
    let declare = QueueDeclare { name, durable, exclusive, auto_delete, arguments: arguments.as_table() };
    channel.declare_queue(session, declare).map(|_| ()).map_err(text)
}

fn note(delivery: &Delivery, position: u64, message: &Message<'_>, model: &Model) -> Result<FoundMessage, String> {
    let id = identify(model, message)?;
    Ok(FoundMessage {
        id,
        flagged: delivery.redelivered,
        returned: delivery.returned,
        waits: None,
        position: Some(position),
    })
}

/// The number that a message had while it waited.
fn note_waited(message: &Message<'_>, model: &Model) -> Result<u32, String> {
    let (origin, history) = past_of(message).ok_or("there is a message that nobody published")?;
    let id = model.find(origin, History { waited: false, ..history });
    let id = id.ok_or_else(|| format!("message {origin} waits with a history that it does not have"))?;
    let waited = model.contents[id as usize].waited(id);
    expect_that(waited.is(id, message), || format!("message {id} is not what was published, having waited"))?;
    Ok(id)
}
