//! A connection with three channels - plain, confirming and transactional - each operation done on the broker and on
//! the model, and compared.

use crate::content::{Address, Content, DEAD, EXCHANGES, ExchangeName, Id, LATER, QUEUES, past_of};
use crate::ends::LATE;
use crate::groups::{FILTERS, Holder, Taker};
use crate::history::Reason;
use crate::model::{Event, Model, Place, Queue, Seq, State, Target, Unit, UnitId};
use crate::random::Random;
use crate::rules::Rules;
use leveret_broker::message::Message;
use leveret_broker::{
    Broker, Channel, Consume, Delivery, Error, Event as Word, ExchangeDeclare, Publish, Published, QueueDeclare,
    Session, Settle,
};
use leveret_wire::table::{FieldTable, Table};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What went wrong in an operation.
pub type Step = Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Confirm,
    Transaction,
}

pub struct Conn {
    /// Its place among the connections.
    index: usize,
    pub session: Session,
    pub chans: Vec<Chan>,
    /// The broker numbers a session's consumers one by one.
    consumers: u32,
    words: Vec<Word>,
}

#[derive(Debug)]
pub struct Chan {
    pub channel: Channel,
    pub mode: Mode,
    /// Delivery tag -> message.
    pub held: BTreeMap<u64, Place>,
    pub consumers: Vec<Consumer>,
    /// Published and not confirmed.
    pub published: VecDeque<PublishedOne>,
    tags: u64,
    /// Not confirmed, and not to be.
    refused: BTreeSet<u64>,
    pub transaction: Transaction,
    /// A commit that was not answered.
    pub committing: Option<Committing>,
}

#[derive(Debug)]
pub struct Consumer {
    number: u32,
    pub tag: Arc<str>,
    queue: usize,
    queue_number: u32,
    no_ack: bool,
    /// Index of its filter.
    filter: usize,
    /// It was told of a grant.
    pub ready: bool,
}

#[derive(Debug)]
pub struct PublishedOne {
    tag: u64,
    id: Id,
    /// The log has it: its confirm means something.
    logged: bool,
    /// A queue has refused it.
    refused: bool,
    seq: Seq,
}

#[derive(Debug, Default)]
pub struct Transaction {
    messages: Vec<(Id, Vec<Target>)>,
    settled: Vec<(Place, Settle, u64)>,
}

impl Transaction {
    /// Bytes of what it publishes, and of what becomes a letter by it.
    fn bytes(&self, model: &mut Model) -> usize {
        let rejected = self.settled.iter().filter(|(_, how, _)| *how == Settle::Reject).map(|(place, ..)| *place);
        let letters: Vec<Id> = rejected.filter_map(|place| Some(model.entry(place)?.id)).collect();
        let ids = self.messages.iter().map(|(id, _)| id).chain(&letters);
        ids.map(|id| model.contents[*id as usize].length).sum()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Committing {
    unit: UnitId,
    logged: bool,
}

impl Conn {
    pub fn new(broker: &Broker, index: usize) -> Conn {
        let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
        let modes = [Mode::Plain, Mode::Confirm, Mode::Transaction];
        let chans = modes.iter().enumerate().map(|(index, &mode)| Chan::new(index as u16 + 1, mode)).collect();
        Conn { index, session, chans, consumers: 0, words: Vec::new() }
    }

    /// Reads the mailbox.
    fn listen(&mut self) {
        self.session.mailbox().take(&mut self.words);
        for word in std::mem::take(&mut self.words) {
            match word {
                Word::Ready { channel, consumer } => {
                    let chan = &mut self.chans[usize::from(channel) - 1];
                    let consumers = chan.consumers.iter_mut().filter(|it| it.number == consumer);
                    consumers.for_each(|it| it.ready = true);
                }
                Word::Cancelled { channel, consumer } => {
                    let chan = &mut self.chans[usize::from(channel) - 1];
                    chan.channel.cancelled(&self.session, consumer);
                    chan.consumers.retain(|it| it.number != consumer);
                }
                _ => {}
            }
        }
    }

    pub fn publish(&mut self, chan: usize, messages: &[Content], model: &mut Model) -> Step {
        let bytes: usize = messages.iter().map(|content| content.length).sum();
        let (seq, mut body) = (model.seq, Vec::new());
        for content in messages {
            let id = model.contents.len() as Id;
            model.contents.push(content.clone());
            let targets = model.targets(content);
            model.say(|| {
                format!(
                    "    message {id}, {} bytes, to {targets:?}, persistent: {}, life {:?}, delay {:?}",
                    content.length, content.persistent, content.life, content.delay
                )
            });
            let chan = &mut self.chans[chan];
            content.body(id, &mut body);
            let route = content.route();
            let published = content.properties(id, |properties, encoded| {
                let publish = Publish { route: &route, mandatory: false, properties, encoded, body: &body };
                chan.channel.publish(&mut self.session, &publish)
            });
            let routed = published.map_err(|error| format!("message {id} is refused: {error}"))?;
            if chan.mode == Mode::Transaction {
                chan.transaction.messages.push((id, targets));
                continue;
            }
            let expected = if targets.is_empty() { Published::Unroutable } else { Published::Routed };
            expect_that(routed == expected, || format!("message {id} was {routed:?}, expected {expected:?}"))?;
            let event = Event { late: bytes >= LATE, ..model.event() };
            let logged = model.is_logged(content, &targets);
            let refused = model.publish(id, &targets, event);
            if chan.mode == Mode::Confirm {
                chan.tags += 1;
                chan.published.push_back(PublishedOne { tag: chan.tags, id, logged, refused, seq });
            }
        }
        self.session.flush();
        Ok(())
    }

    pub fn get(&mut self, chan: usize, queue: usize, no_ack: bool, model: &mut Model) -> Step {
        let taker = Taker { holder: Holder::Channel(self.index, chan), filter: 0 };
        let chan = &mut self.chans[chan];
        let Some(number) = model.queue(queue).map(|life| life.number) else { return Ok(()) };
        model.touch(queue);
        let got = chan.channel.get(&mut self.session, QUEUES[queue], no_ack).map_err(text)?;
        let Some((delivery, tag, left)) = got else {
            let Some(life) = model.queue(queue) else { return Ok(()) };
            let (may_take, mut ready) = (model.may_take(life, taker), life.ready.iter());
            let first = ready.find(|&&entry| may_take(entry)).map(|&entry| life.entries[entry].id);
            return expect_that(first.is_none(), || format!("{} gives nothing, {first:?} is ready", QUEUES[queue]));
        };
        let place = receive(model, (queue, number), &delivery, delivery.offset, taker, no_ack)?;
        if !no_ack {
            chan.hold(tag, delivery.position, place, model);
        }
        check_ready(model, queue, left)
    }

    pub fn consume(
        &mut self,
        chan: usize,
        queue: usize,
        prefetch: u16,
        (no_ack, filter): (bool, usize),
        model: &mut Model,
    ) -> Step {
        let Some(queue_number) = model.queue(queue).map(|life| life.number) else { return Ok(()) };
        let chan = &mut self.chans[chan];
        chan.channel.qos(&self.session, prefetch, false);
        let mut arguments = FieldTable::new();
        if filter > 0 {
            arguments.insert("x-filter", FILTERS[filter]);
        }
        let arguments = arguments.as_table();
        let consume = Consume { queue: QUEUES[queue], tag: "", no_ack, exclusive: false, arguments };
        let tag = chan.channel.consume(&mut self.session, consume).map_err(text)?;
        let number = self.consumers;
        self.consumers += 1;
        model.say(|| format!("    consumer {number}, prefetch {prefetch}, no_ack: {no_ack}, filter {filter}"));
        chan.consumers.push(Consumer { number, tag, queue, queue_number, no_ack, filter, ready: false });
        model.add_consumer(queue, Holder::Consumer(self.index, number));
        self.listen();
        Ok(())
    }

    /// Pulls for some of the consumers that were told of a grant.
    pub fn pull(&mut self, random: &mut Random, model: &mut Model) -> Step {
        self.listen();
        for chan in 0..self.chans.len() {
            for index in 0..self.chans[chan].consumers.len() {
                if self.chans[chan].consumers[index].ready && random.chance(80) {
                    let max_bytes = random.pick(&[1, 1000, 65_536]);
                    self.pull_one(chan, index, max_bytes, model)?;
                }
            }
            self.chans[chan].consumers.retain(|consumer| consumer.number != u32::MAX);
        }
        Ok(())
    }

    fn pull_one(&mut self, chan: usize, index: usize, max_bytes: usize, model: &mut Model) -> Step {
        let (session, chan, mut out) = (&self.session, &mut self.chans[chan], Vec::new());
        let consumer = &mut chan.consumers[index];
        let taker = Taker { holder: Holder::Consumer(self.index, consumer.number), filter: consumer.filter };
        let (from, no_ack) = ((consumer.queue, consumer.queue_number), consumer.no_ack);
        let Some(pulled) = chan.channel.pull(session, consumer.number, max_bytes, &mut out) else {
            consumer.number = u32::MAX;
            return Ok(());
        };
        consumer.ready = pulled.more;
        let mut tag = pulled.first_tag;
        for delivery in &out {
            let mut at = delivery.offset;
            for position in delivery.position..delivery.position + u64::from(delivery.count) {
                let place = receive(model, from, delivery, at, taker, no_ack)?;
                if !no_ack {
                    chan.hold(tag, position, place, model);
                }
                tag += 1;
                at = delivery.block.skip(at, 1);
            }
        }
        Ok(())
    }

    pub fn settle(&mut self, chan: usize, tag: u64, multiple: bool, how: Settle, model: &mut Model) -> Step {
        let chan = &mut self.chans[chan];
        chan.channel.settle(tag, multiple, how).map_err(text)?;
        let tags: Vec<u64> = match multiple {
            true => chan.held.range(..=tag).map(|(tag, _)| *tag).collect(),
            false => vec![tag],
        };
        model.say(|| format!("    {how:?} {tag}, multiple: {multiple}"));
        let mut returns = Vec::new();
        for tag in tags {
            let Some(place) = chan.held.remove(&tag) else { return Err(format!("tag {tag} is not held")) };
            model.say(|| format!("    {:?}", model.name(place)));
            match (chan.mode, how) {
                (Mode::Transaction, _) => chan.transaction.settled.push((place, how, tag)),
                (_, Settle::Requeue | Settle::Fail) => returns.push((place, how == Settle::Fail)),
                (_, Settle::Reject) => model.die(place, Reason::Rejected),
                (_, Settle::Ack) => model.remove(place, model.event()),
            }
        }
        model.come_back(returns);
        chan.channel.apply_settled();
        Ok(())
    }

    pub fn recover(&mut self, chan: usize, model: &mut Model) -> Step {
        let chan = &mut self.chans[chan];
        chan.channel.recover(&mut self.session);
        model.come_back(std::mem::take(&mut chan.held).into_values().map(|place| (place, false)));
        Ok(())
    }

    pub fn cancel(&mut self, chan: usize, index: usize, model: &mut Model) -> Step {
        let chan = &mut self.chans[chan];
        let consumer = chan.consumers.remove(index);
        chan.channel.cancel(&mut self.session, &consumer.tag);
        model.remove_consumer(consumer.queue, consumer.queue_number, Holder::Consumer(self.index, consumer.number));
        Ok(())
    }

    pub fn commit(&mut self, chan: usize, model: &mut Model) -> Step {
        let number = chan;
        let chan = &mut self.chans[chan];
        if !model.has_room(&chan.transaction.messages) {
            model.say(|| "    there is no room for it".to_string());
            let done = chan.channel.commit(&mut self.session, |_| ());
            expect_that(done.is_err_and(|error| error.code == 406), || "a full queue takes a transaction".to_string())?;
            return self.reopen(number, model);
        }
        let late = chan.transaction.bytes(model) >= LATE;
        let is_limited = |&(queue, _): &Target| model.world.is_limited(queue);
        if late && chan.transaction.messages.iter().flat_map(|(_, targets)| targets).any(is_limited) {
            // When it takes effect is not known, and so it is not what is too much then.
            return self.rollback(number);
        }
        let Transaction { messages, settled } = std::mem::take(&mut chan.transaction);
        let done = chan.channel.commit(&mut self.session, |_| ()).map_err(text)?;
        model.say(|| format!("    {} messages, {} settled, done: {done}", messages.len(), settled.len()));
        let unit = model.units.len();
        model.units.push(Unit::new(model.seq, late));
        if !done {
            model.outstanding.push(unit);
        }
        let event = Event { unit: Some(unit), late, ..model.event() };
        let state = if done { State::Ready } else { State::Waits(unit) };
        let mut logged = false;
        for (id, targets) in messages {
            logged |= model.is_logged(&model.contents[id as usize], &targets);
            model.append(id, &targets, event, state);
            targets.iter().filter(|_| done).for_each(|&(queue, _)| model.drop_excess(queue));
        }
        let mut returns = Vec::new();
        for (place, how, _) in settled {
            let failed = how == Settle::Fail;
            let comes_back = failed || how == Settle::Requeue;
            logged |= !comes_back && model.is_place_logged(place);
            match how {
                _ if comes_back && done => returns.push((place, failed)),
                _ if comes_back => model.set_state(place, State::Returns(unit, failed)),
                Settle::Reject => {
                    model.reject_in(place, event, state);
                    model.remove(place, event);
                }
                _ => model.remove(place, event),
            }
        }
        model.come_back(returns);
        match done {
            true => model.finish_unit(unit, logged),
            false => chan.committing = Some(Committing { unit, logged }),
        }
        Ok(())
    }

    pub fn rollback(&mut self, chan: usize) -> Step {
        let chan = &mut self.chans[chan];
        chan.channel.rollback().map_err(text)?;
        chan.roll_back();
        Ok(())
    }

    /// Takes what is confirmed and committed by now.
    pub fn take_answers(&mut self, model: &mut Model) -> Step {
        for chan in &mut self.chans {
            let refused = chan.channel.take_refused(&mut self.session);
            let told = |one: &mut PublishedOne| std::mem::take(&mut one.refused).then_some(one.tag);
            let expected: Vec<u64> = chan.published.iter_mut().filter_map(told).collect();
            expect_that(refused == expected, || format!("{refused:?} are refused, expected {expected:?}"))?;
            chan.refused.extend(refused);
            if let Some((tag, _)) = chan.channel.take_confirm(&self.session) {
                let first = chan.published.front().map(|first| first.tag);
                expect_that(first.is_some_and(|first| (first..=chan.tags).contains(&tag)), || {
                    format!("{tag} is confirmed, outstanding are {first:?} to {}", chan.tags)
                })?;
                model.say(|| format!("    confirmed up to tag {tag}"));
                while chan.published.front().is_some_and(|one| one.tag <= tag) {
                    let Some(one) = chan.published.pop_front() else { break };
                    if !chan.refused.remove(&one.tag) {
                        model.confirm(one.id, one.logged.then_some(one.seq));
                    }
                }
            }
            // What was refused has had its answer.
            while chan.published.front().is_some_and(|one| chan.refused.contains(&one.tag)) {
                chan.published.pop_front().into_iter().for_each(|one| _ = chan.refused.remove(&one.tag));
            }
            if let Some(Committing { unit, logged }) = chan.committing
                && chan.channel.take_committed(&self.session)
            {
                chan.committing = None;
                model.say(|| format!("    committed, of operation {}", model.units[unit].seq));
                model.finish_unit(unit, logged);
            }
        }
        Ok(())
    }

    pub fn purge(&mut self, chan: usize, queue: usize, model: &mut Model) -> Step {
        let (ready, delayed) = match model.queue(queue) {
            Some(life) if life.waiting.is_empty() => (life.ready.clone(), life.delayed.clone()),
            _ => return Ok(()),
        };
        model.touch(queue);
        let purged = self.chans[chan].channel.purge_queue(&mut self.session, QUEUES[queue]).map_err(text)?;
        expect_that(purged == ready.len() as u64, || format!("{purged} were purged, {} ready", ready.len()))?;
        let number = model.queue(queue).map_or(0, |life| life.number);
        ready.into_iter().chain(delayed).for_each(|entry| model.remove(Place { queue, number, entry }, model.event()));
        Ok(())
    }

    pub fn delete_queue(&mut self, chan: usize, queue: usize, model: &mut Model) -> Step {
        let deleted = self.chans[chan].channel.delete_queue(&mut self.session, QUEUES[queue], false, false);
        let deleted = deleted.map_err(text)?;
        let (ready, waiting) = model.queue(queue).map_or((0, 0), |life| (life.ready.len(), life.waiting.len()));
        expect_that((ready as u64..=(ready + waiting) as u64).contains(&deleted), || {
            format!("{} had {deleted} ready, expected {ready} (and {waiting} that wait)", QUEUES[queue])
        })?;
        model.delete_queue(queue);
        self.listen();
        Ok(())
    }

    pub fn declare_queue(&mut self, chan: usize, queue: usize, durable: bool, model: &mut Model) -> Step {
        let chan = &mut self.chans[chan];
        if let Some(Queue { number, rules, .. }) = model.queue(queue) {
            // Once more, and it is used by that.
            declare_queue(&mut chan.channel, &mut self.session, (queue, durable, *number), rules).map_err(text)?;
            model.touch(queue);
            return Ok(());
        }
        let number = model.new_number();
        model.declare_queue(queue, number, durable);
        let rules = model.world.rules(queue, durable, number);
        declare_queue(&mut chan.channel, &mut self.session, (queue, durable, number), &rules).map_err(text)
    }

    pub fn declare_exchange(&mut self, exchange: usize, model: &mut Model) -> Step {
        if model.exchange(exchange).is_some() {
            return Ok(());
        }
        let number = model.new_number();
        declare_exchange(&self.session, exchange, number).map_err(text)?;
        model.declare_exchange(exchange, number);
        Ok(())
    }

    pub fn delete_exchange(&mut self, exchange: usize, model: &mut Model) -> Step {
        self.session.vhost().delete_exchange(EXCHANGES[exchange].name, false).map_err(text)?;
        model.delete_exchange(exchange);
        Ok(())
    }

    pub fn bind(&mut self, address: Address, queue: usize, model: &mut Model) -> Step {
        if model.queue(queue).is_none() || model.exchange(address.exchange).is_none() {
            return Ok(());
        }
        if matches!(address.exchange, LATER | DEAD) && model.world.is_limited(queue) {
            return Ok(());
        }
        let (source, key) = (EXCHANGES[address.exchange].name, address.binding_key());
        let vhost = self.session.vhost();
        vhost.bind_queue(QUEUES[queue], source, key, Table::EMPTY, self.session.id()).map_err(text)?;
        model.bind(address, queue);
        Ok(())
    }

    pub fn unbind(&mut self, address: Address, queue: usize, model: &mut Model) -> Step {
        if model.queue(queue).is_none() || model.exchange(address.exchange).is_none() {
            return Ok(());
        }
        let (source, key) = (EXCHANGES[address.exchange].name, address.binding_key());
        let vhost = self.session.vhost();
        vhost.unbind_queue(QUEUES[queue], source, key, Table::EMPTY, self.session.id()).map_err(text)?;
        model.unbind(address, queue);
        Ok(())
    }

    /// Closes a channel and opens another: what it holds returns to its queues.
    pub fn reopen(&mut self, chan: usize, model: &mut Model) -> Step {
        let mode = self.chans[chan].mode;
        let mut old = std::mem::replace(&mut self.chans[chan], Chan::new(chan as u16 + 1, mode));
        old.roll_back();
        old.forget_consumers(self.index, model);
        old.channel.close(&mut self.session);
        model.come_back(old.held.into_values().map(|place| (place, true)));
        self.listen();
        Ok(())
    }

    /// What its channels hold returns to its queues.
    pub fn close(self, model: &mut Model) {
        let Conn { session, chans, index, .. } = self;
        let mut channels = Vec::new();
        for mut chan in chans {
            chan.roll_back();
            chan.forget_consumers(index, model);
            model.come_back(chan.held.into_values().map(|place| (place, true)));
            channels.push(chan.channel);
        }
        session.close(channels.into_iter());
    }
}

impl Chan {
    fn new(number: u16, mode: Mode) -> Chan {
        let mut channel = Channel::new(number);
        let selected = match mode {
            Mode::Plain => Ok(()),
            Mode::Confirm => channel.select_confirm(),
            Mode::Transaction => channel.select_transaction(),
        };
        selected.expect("a new channel has no mode yet");
        Chan {
            channel,
            mode,
            held: BTreeMap::new(),
            consumers: Vec::new(),
            published: VecDeque::new(),
            tags: 0,
            refused: BTreeSet::new(),
            transaction: Transaction::default(),
            committing: None,
        }
    }

    /// It was given a message that it has to settle.
    fn hold(&mut self, tag: u64, position: u64, place: Place, model: &mut Model) {
        self.held.insert(tag, place);
        model.entry(place).into_iter().for_each(|entry| entry.given = Some((tag, position)));
    }

    fn forget_consumers(&mut self, conn: usize, model: &mut Model) {
        for Consumer { number, queue, queue_number, .. } in self.consumers.drain(..) {
            model.remove_consumer(queue, queue_number, Holder::Consumer(conn, number));
        }
    }

    /// Forgets its transaction; what it settled is held again, in the order of its tags.
    fn roll_back(&mut self) {
        let Transaction { settled, .. } = std::mem::take(&mut self.transaction);
        self.held.extend(settled.into_iter().map(|(place, _, tag)| (tag, place)));
    }
}

/// Compares a delivery with what the model has ready, and hands it out there too.
fn receive(
    model: &mut Model,
    from: Target,
    delivery: &Delivery,
    at: usize,
    taker: Taker,
    no_ack: bool,
) -> Result<Place, String> {
    let (queue, number) = from;
    let (message, _) = delivery.block.at(at);
    let (name, removal, seq) = (QUEUES[queue], model.event(), model.seq);
    let id = identify(model, &message).map_err(|error| format!("{name} gives {error}"))?;
    let found = model.queue(queue).filter(|life| life.number == number).and_then(|life| {
        // When something late is done is not always known.
        let is_late = |entry: &&usize| match life.entries[**entry].state {
            State::Waits(unit) | State::Returns(unit, _) => !model.world.ruled || model.units[unit].late,
            _ => false,
        };
        let mut known = life.ready.iter().chain(life.waiting.iter().filter(is_late));
        known.find(|&&entry| life.entries[entry].id == id).map(|&entry| (life, entry))
    });
    let Some((life, entry)) = found else { return Err(format!("{name} gives message {id}, which is not ready")) };
    let may_take = model.may_take(life, taker);
    expect_that(may_take(entry), || format!("{name} gives message {id}, which is not for {taker:?}"))?;
    let mut ready = life.ready.iter();
    if let Some(first) = ready.find(|&&first| first != entry && life.precedes(first, entry) && may_take(first)) {
        return Err(format!("{name} gives message {id} before message {}", life.entries[*first].id));
    }
    drop(may_take);
    if let State::Waits(unit) | State::Returns(unit, _) = life.entries[entry].state {
        model.finish_unit(unit, true);
    }
    let place = Place { queue, number, entry };
    let (flagged, count) = model.entry(place).map_or((false, 0), |entry| (entry.flagged, entry.count()));
    expect_that(flagged == delivery.redelivered, || format!("message {id} in {name} should have flag {flagged}"))?;
    expect_that(count == delivery.returned, || {
        format!("message {id} in {name} came back {} times, expected {count}", delivery.returned)
    })?;
    model.say(|| format!("    message {id} from {name}, flagged: {flagged}, no_ack: {no_ack}"));
    match no_ack {
        true => model.remove(place, removal),
        false => {
            model.set_state(place, State::Held);
            model.hold(place, taker.holder);
        }
    }
    if let Some(entry) = model.entry(place) {
        entry.note_placed(seq);
        entry.delivered.get_or_insert(seq);
    }
    Ok(place)
}

/// The number of a message, which has all that the message under this number should have.
pub fn identify(model: &Model, message: &Message<'_>) -> Result<Id, String> {
    let (origin, history) = past_of(message).ok_or("something that was never published")?;
    let id = model.find(origin, history.clone());
    let id = id.ok_or_else(|| format!("message {origin} with a history that it does not have: {history:?}"))?;
    check_content(model, id, message)?;
    Ok(id)
}

/// Fails if a message is not what was published under its number.
pub fn check_content(model: &Model, id: Id, message: &Message<'_>) -> Step {
    let Some(content) = model.contents.get(id as usize) else {
        return Err(format!("message {id} was never published"));
    };
    expect_that(content.is(id, message), || {
        format!("message {id} is not what was published: {content:?}, but {} bytes in it", message.body.len())
    })
}

fn check_ready(model: &Model, queue: usize, left: u64) -> Step {
    let (ready, waiting) = model.queue(queue).map_or((0, 0), |life| (life.ready.len(), life.waiting.len()));
    expect_that((ready as u64..=(ready + waiting) as u64).contains(&left), || {
        format!("{} says that {left} are ready, expected {ready} (and {waiting} that wait)", QUEUES[queue])
    })
}

/// Declares a queue whose number is in an argument.
pub fn declare_queue(
    channel: &mut Channel,
    session: &mut Session,
    (queue, durable, number): (usize, bool, u32),
    rules: &Rules,
) -> Result<(), Error> {
    let arguments = rules.arguments(number);
    let (name, exclusive, auto_delete, arguments) = (QUEUES[queue], false, false, arguments.as_table());
    let declare = QueueDeclare { name, durable, exclusive, auto_delete, arguments };
    channel.declare_queue(session, declare).map(|_| ())
}

/// Declares an exchange whose number is in an argument.
pub fn declare_exchange(session: &Session, exchange: usize, number: u32) -> Result<(), Error> {
    let (mut arguments, ExchangeName { name, kind, durable, .. }) = (numbered(number), &EXCHANGES[exchange]);
    if exchange == LATER {
        arguments.insert("x-delayed-type", "fanout");
    }
    let (auto_delete, internal, arguments) = (false, false, arguments.as_table());
    let declare = ExchangeDeclare { name, kind, durable: *durable, auto_delete, internal, arguments };
    session.vhost().declare_exchange(declare)
}

fn numbered(number: u32) -> FieldTable {
    FieldTable::new().with("x-number", i64::from(number))
}

pub fn text(error: Error) -> String {
    error.to_string()
}

pub fn expect_that(holds: bool, what: impl FnOnce() -> String) -> Step {
    if holds { Ok(()) } else { Err(what()) }
}
