//! What is beside the virtual host of a run: entries, and another virtual host that comes and goes, with what is in it,
//! policies among that.
//! All of it is things that are there or not, each of which begins and ends with an operation; none comes again.

use crate::client::{Step, expect_that, text};
use crate::judge::{Found, Trial};
use crate::model::{Event, Model, Seq, Unit};
use crate::random::Random;
use leveret_broker::message::encode_route;
use leveret_broker::table::{FieldTable, Table};
use leveret_broker::{
    ApplyTo, Broker, Channel, ExchangeDeclare, MoveTo, Policy, PolicyKind, Properties, Publish, Published,
    QueueDeclare, QueueState, Redriven, Session, Stored, VirtualHost,
};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The other virtual host, the queue and the exchange in it, and the queue that messages are moved to.
const VHOST: &str = "side";
const QUEUE: &str = "s";
const OTHER: &str = "t";
const EXCHANGE: &str = "x";

/// The last one's entries end with the other virtual host.
const TABLES: [&str; 3] = ["user", "limits:/", "limits:side"];
const KEYS: [&str; 5] = ["", "a", "b", "c", "d"];

/// Something that is there, by a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// Table, key and value.
    Entry(usize, usize, u32),
    Vhost(u32),
    Queue(u32),
    Exchange(u32),
    Binding(u32),
    Message(u32),
    Other(u32),
    /// The message of this number, in the other queue.
    Moved(u32),
    /// The queue hands nothing out.
    Paused(u32),
    /// Whether it is the operator's, name, number.
    Policy(bool, usize, u32),
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    priority: i64,
    /// It is for the queue.
    matches: bool,
    max_length: u64,
}

const POLICIES: [&str; 3] = ["a", "b", "c"];

/// A policy's number is in its definition, as a limit that is never reached.
const MANY_BYTES: i64 = 1_000_000_000;

impl Thing {
    fn is_in_vhost(self) -> bool {
        !matches!(self, Thing::Entry(table, ..) if TABLES[table] != "limits:side")
    }

    fn is_in_queue(self) -> bool {
        matches!(self, Thing::Queue(_) | Thing::Binding(_) | Thing::Message(_) | Thing::Paused(_))
    }

    fn is_in_other(self) -> bool {
        matches!(self, Thing::Other(_) | Thing::Moved(_))
    }
}

#[derive(Clone, Copy, Debug)]
struct Fact {
    thing: Thing,
    begun: Event,
    ended: Option<Event>,
}

/// What a run has of it.
#[derive(Debug)]
pub struct Side {
    /// A source of its own, so that other runs are what they were.
    random: Random,
    facts: Vec<Fact>,
    /// By their numbers.
    rules: BTreeMap<u32, Rule>,
    next: u32,
    /// Entries whose answers have not come.
    pending: Vec<(Stored, Seq)>,
}

impl Side {
    pub fn new(seed: u64) -> Side {
        Side {
            random: Random::new(seed ^ 0x7369_6465),
            facts: Vec::new(),
            rules: BTreeMap::new(),
            next: 1,
            pending: Vec::new(),
        }
    }

    pub fn is_due(&mut self) -> bool {
        self.random.chance(30)
    }

    /// Nobody waits for an answer any more.
    pub fn forget_answers(&mut self) {
        self.pending.clear();
    }

    fn live(&self, which: impl Fn(Thing) -> bool) -> Vec<Thing> {
        self.facts.iter().filter(|fact| fact.ended.is_none() && which(fact.thing)).map(|fact| fact.thing).collect()
    }

    fn has(&self, which: impl Fn(Thing) -> bool) -> bool {
        self.facts.iter().any(|fact| fact.ended.is_none() && which(fact.thing))
    }

    fn end(&mut self, event: Event, which: impl Fn(Thing) -> bool) {
        let live = self.facts.iter_mut().filter(|fact| fact.ended.is_none() && which(fact.thing));
        live.for_each(|fact| fact.ended = Some(event));
    }

    fn begin(&mut self, begun: Event, thing: impl Fn(u32) -> Thing) -> u32 {
        let number = self.next;
        self.next += 1;
        self.facts.push(Fact { thing: thing(number), begun, ended: None });
        number
    }

    /// The policies that count for the queue: a user's and the operator's.
    fn counting(&self) -> [Option<u32>; 2] {
        [false, true].map(|operator| {
            let of_kind = self.facts.iter().filter(|fact| fact.ended.is_none()).filter_map(|fact| match fact.thing {
                Thing::Policy(of, name, number) if of == operator => Some((self.rules[&number], name, number)),
                _ => None,
            });
            let matching = of_kind.filter(|(rule, ..)| rule.matches);
            matching.max_by_key(|(rule, name, _)| (rule.priority, *name)).map(|(.., number)| number)
        })
    }

    /// The oldest messages beyond the limit of the policies are dropped.
    fn drop_excess(&mut self, event: Event) {
        let limit = self.counting().iter().flatten().map(|number| self.rules[number].max_length).min();
        let messages = self.live(|thing| matches!(thing, Thing::Message(_)));
        let over = messages.len().saturating_sub(limit.map_or(usize::MAX, |limit| limit as usize));
        self.end(event, |thing| messages[..over].contains(&thing));
    }

    /// What a start has found is durable, and all there is.
    pub fn adopt(&mut self, found: &Found, settled: Event) {
        self.facts.retain(|fact| found.side.contains(&fact.thing));
        self.facts.iter_mut().for_each(|fact| (fact.begun, fact.ended) = (settled, None));
        if found.has_side {
            self.begin(settled, Thing::Vhost);
        }
        if found.is_bound_beside {
            self.begin(settled, Thing::Binding);
        }
        if found.is_paused_beside {
            self.begin(settled, Thing::Paused);
        }
    }
}

/// Does something with it.
pub fn operate(broker: &Broker, model: &mut Model) -> Step {
    let what = model.side.random.weighted(&[35, 10, 8, 4, 12, 25, 10, 8, 2, 12, 8, 12]);
    model.say(|| format!("beside: {}", NAMES[what]));
    let is_there = model.side.has(|thing| matches!(thing, Thing::Vhost(_)));
    match what {
        0 => set_entry(broker, model, true),
        1 => set_entry(broker, model, false),
        2 => create_vhost(broker, model),
        3 if is_there => delete_vhost(broker, model),
        7 => take_answers(model),
        _ if !is_there => Ok(()),
        4 => declare(&mut session(broker)?, model),
        5 => publish(&mut session(broker)?, model),
        6 => acknowledge(&mut session(broker)?, model),
        9 => change_policy(broker, model),
        10 => pause_or_resume(broker, model),
        11 => move_some(broker, model),
        _ => delete_queue(&mut session(broker)?, model),
    }
}

const NAMES: [&str; 12] = [
    "set an entry",
    "delete an entry",
    "create a vhost",
    "delete the vhost",
    "declare",
    "publish",
    "acknowledge",
    "answers",
    "delete the queue",
    "change a policy",
    "pause or resume",
    "move",
];

fn session(broker: &Broker) -> Result<Session, String> {
    Ok(broker.open_session(broker.vhost(VHOST).ok_or("the other virtual host is gone")?))
}

fn set_entry(broker: &Broker, model: &mut Model, sets: bool) -> Step {
    let (event, side) = (model.event(), &mut model.side);
    let (table, key) = (side.random.index(TABLES.len()), side.random.index(KEYS.len()));
    let is_there = side.has(|thing| matches!(thing, Thing::Vhost(_)));
    side.end(event, |thing| matches!(thing, Thing::Entry(of, at, _) if (of, at) == (table, key)));
    let value = if sets && (is_there || TABLES[table] != "limits:side") {
        let number = side.begin(event, |number| Thing::Entry(table, key, number));
        let length = if side.random.chance(3) { 30_000 } else { side.random.index(300) };
        Some(format!("{number} {}", ".".repeat(length)))
    } else if sets {
        let refused = broker.set_entry(TABLES[table], KEYS[key], Some(b"nobody's"));
        return expect_that(refused.is_err_and(|error| error.code == 404), || "an entry of nobody's".to_string());
    } else {
        None
    };
    match broker.set_entry(TABLES[table], KEYS[key], value.as_deref().map(str::as_bytes)) {
        Ok(stored) => side.pending.push((stored, event.seq)),
        // Of a virtual host that is not there.
        Err(error) if error.code == 404 && !is_there => {}
        Err(error) => return Err(text(error)),
    }
    let seen = broker.entry(TABLES[table], KEYS[key]);
    expect_that(seen.as_deref() == value.as_deref().map(str::as_bytes), || "an entry is not what it was set to".into())
}

/// An entry that was answered is durable.
pub fn take_answers(model: &mut Model) -> Step {
    let (mut context, mut durable, mut failed) = (Context::from_waker(Waker::noop()), Vec::new(), false);
    model.side.pending.retain_mut(|(stored, seq)| match Pin::new(stored).poll(&mut context) {
        Poll::Pending => true,
        Poll::Ready(Ok(())) => {
            durable.push(*seq);
            false
        }
        Poll::Ready(Err(_)) => {
            failed = true;
            false
        }
    });
    durable.into_iter().for_each(|seq| model.note_durable(seq));
    if failed {
        model.say(|| "    the log has failed".to_string());
    }
    Ok(())
}

/// When everything is written, all answers are there.
pub fn all_answered(model: &mut Model) -> Step {
    take_answers(model)?;
    expect_that(model.side.pending.is_empty(), || "everything is written and an entry still waits".to_string())
}

fn create_vhost(broker: &Broker, model: &mut Model) -> Step {
    let is_new = !model.side.has(|thing| matches!(thing, Thing::Vhost(_)));
    if is_new {
        let event = model.event();
        model.side.begin(event, Thing::Vhost);
    }
    expect_that(broker.create_vhost(VHOST) == is_new, || format!("the other virtual host is new: {is_new}"))
}

fn delete_vhost(broker: &Broker, model: &mut Model) -> Step {
    let event = model.event();
    model.side.end(event, Thing::is_in_vhost);
    expect_that(broker.delete_vhost(VHOST), || "the other virtual host was not there".to_string())?;
    expect_that(broker.entries("limits:side").is_empty(), || "its entries are still there".to_string())
}

/// What is missing: the queue, the exchange, or the binding between them.
fn declare(session: &mut Session, model: &mut Model) -> Step {
    let (event, side) = (model.event(), &mut model.side);
    if !side.has(|thing| matches!(thing, Thing::Queue(_))) {
        let number = side.begin(event, Thing::Queue);
        return declare_queue(session, QUEUE, number);
    }
    if !side.has(|thing| matches!(thing, Thing::Exchange(_))) {
        let number = side.begin(event, Thing::Exchange);
        return declare_exchange(session, number);
    }
    if !side.has(|thing| matches!(thing, Thing::Binding(_))) {
        side.begin(event, Thing::Binding);
        return session.vhost().bind_queue(QUEUE, EXCHANGE, "", Table::EMPTY, session.id()).map_err(text);
    }
    if side.random.chance(50) {
        side.end(event, |thing| matches!(thing, Thing::Exchange(_) | Thing::Binding(_)));
        return session.vhost().delete_exchange(EXCHANGE, false).map_err(text);
    }
    side.end(event, |thing| matches!(thing, Thing::Binding(_)));
    session.vhost().unbind_queue(QUEUE, EXCHANGE, "", Table::EMPTY, session.id()).map_err(text)
}

fn declare_queue(session: &mut Session, name: &str, number: u32) -> Step {
    let arguments = FieldTable::new().with("x-number", i64::from(number));
    let (durable, exclusive, auto_delete, arguments) = (true, false, false, arguments.as_table());
    let declare = QueueDeclare { name, durable, exclusive, auto_delete, arguments };
    Channel::new(1).declare_queue(session, declare).map(|_| ()).map_err(text)
}

fn declare_exchange(session: &Session, number: u32) -> Step {
    let arguments = FieldTable::new().with("x-number", i64::from(number));
    let (durable, auto_delete, internal, arguments) = (true, false, false, arguments.as_table());
    let declare = ExchangeDeclare { name: EXCHANGE, kind: "fanout", durable, auto_delete, internal, arguments };
    session.vhost().declare_exchange(declare).map_err(text)
}

fn publish(session: &mut Session, model: &mut Model) -> Step {
    let (event, side, mut channel) = (model.event(), &mut model.side, Channel::new(1));
    let bound = side.has(|thing| matches!(thing, Thing::Binding(_)));
    let (exchange, key) = if bound { (EXCHANGE, "") } else { ("", QUEUE) };
    let is_there = side.has(|thing| matches!(thing, Thing::Queue(_)));
    for _ in 0..side.random.between(1, 8) {
        let mut body = Vec::new();
        if is_there {
            body.extend_from_slice(&side.begin(event, Thing::Message).to_le_bytes());
        }
        body.resize(4 + side.random.index(400), 0);
        expect_that(publish_one(&mut channel, session, (exchange, key), &body)? == is_there, || {
            format!("a message beside is routed: {}", !is_there)
        })?;
    }
    session.flush();
    if is_there {
        model.side.drop_excess(event);
    }
    Ok(())
}

fn publish_one(
    channel: &mut Channel,
    session: &mut Session,
    (exchange, key): (&str, &str),
    body: &[u8],
) -> Result<bool, String> {
    let (route, mut encoded) = (encode_route(exchange, key), Vec::new());
    let properties = Properties { delivery_mode: Some(2), ..Properties::EMPTY };
    properties.encode(&mut encoded);
    let publish = Publish { route: &route, mandatory: false, properties, encoded: &encoded, body };
    Ok(channel.publish(session, &publish).map_err(text)? == Published::Routed)
}

/// Takes the first messages, which must be those that should be.
fn acknowledge(session: &mut Session, model: &mut Model) -> Step {
    let (event, mut channel) = (model.event(), Channel::new(1));
    if !model.side.has(|thing| matches!(thing, Thing::Queue(_))) {
        return Ok(());
    }
    for _ in 0..model.side.random.between(1, 6) {
        let paused = model.side.has(|thing| matches!(thing, Thing::Paused(_)));
        let first = model.side.live(|thing| matches!(thing, Thing::Message(_))).first().copied().filter(|_| !paused);
        let got = channel.get(session, QUEUE, true).map_err(text)?;
        let got = got.map(|(delivery, ..)| number_of(delivery.block.at(delivery.offset).0.body)).transpose()?;
        expect_that(got.map(Thing::Message) == first, || format!("beside {got:?} comes, expected {first:?}"))?;
        model.side.end(event, |thing| Some(thing) == first);
    }
    channel.close(session);
    Ok(())
}

/// Moves the first messages to the other queue, each by a record of its own.
fn move_some(broker: &Broker, model: &mut Model) -> Step {
    let mut session = session(broker)?;
    if !model.side.has(|thing| matches!(thing, Thing::Other(_))) {
        let event = model.event();
        let number = model.side.begin(event, Thing::Other);
        return declare_queue(&mut session, OTHER, number);
    }
    let is_there = model.side.has(|thing| matches!(thing, Thing::Queue(_)));
    let most = model.side.random.between(1, 8);
    let messages = model.side.live(|thing| matches!(thing, Thing::Message(_)));
    let messages = &messages[..messages.len().min(most as usize)];
    for &thing in messages {
        let Thing::Message(number) = thing else { continue };
        model.units.push(Unit::new(model.seq, false));
        // It is in one of the two, and never in both.
        let event = Event { unit: Some(model.units.len() - 1), ..model.event() };
        model.side.end(event, |live| live == thing);
        model.side.facts.push(Fact { thing: Thing::Moved(number), begun: event, ended: None });
    }
    match session.vhost().move_messages(QUEUE, MoveTo::Queue(OTHER), most, |_| true) {
        Ok(done) => {
            let expected = Redriven { moved: messages.len() as u64, kept: 0 };
            expect_that(is_there && done == expected, || format!("beside {done:?}, expected {expected:?}"))
        }
        Err(error) => expect_that(!is_there && error.code == 404, || text(error)),
    }
}

/// Pauses the queue, or lets it go on.
fn pause_or_resume(broker: &Broker, model: &mut Model) -> Step {
    let vhost = broker.vhost(VHOST).ok_or("the other virtual host is gone")?;
    let (event, side) = (model.event(), &mut model.side);
    if !side.has(|thing| matches!(thing, Thing::Queue(_))) {
        return expect_that(vhost.pause(QUEUE).is_err(), || "a queue was paused that is not there".to_string());
    }
    let stored = match side.has(|thing| matches!(thing, Thing::Paused(_))) {
        true => {
            side.end(event, |thing| matches!(thing, Thing::Paused(_)));
            vhost.resume(QUEUE)
        }
        false => {
            side.begin(event, Thing::Paused);
            vhost.pause(QUEUE)
        }
    };
    side.pending.push((stored.map_err(text)?, event.seq));
    Ok(())
}

/// Whether the queue is paused; it is not any more after that.
fn look_at_pause(vhost: &VirtualHost, found: &mut Found) -> Step {
    found.is_paused_beside = vhost.queue_info(QUEUE).is_some_and(|info| info.state == QueueState::Paused);
    if found.is_paused_beside {
        drop(vhost.resume(QUEUE).map_err(text)?);
    }
    Ok(())
}

/// Sets a policy or deletes it, and looks at what that does to the queue at once.
fn change_policy(broker: &Broker, model: &mut Model) -> Step {
    let vhost = broker.vhost(VHOST).ok_or("the other virtual host is gone")?;
    let (event, side) = (model.event(), &mut model.side);
    let (operator, name) = (side.random.chance(35), side.random.index(POLICIES.len()));
    let same = |thing| matches!(thing, Thing::Policy(of, at, _) if (of, at) == (operator, name));
    let (was_there, before) = (side.has(same), side.counting());
    side.end(event, same);
    if side.random.chance(30) {
        let deleted = vhost.delete_policy(kind(operator), POLICIES[name]);
        expect_that(deleted == was_there, || format!("policy {} was there: {deleted}", POLICIES[name]))?;
    } else {
        let rule = Rule {
            priority: side.random.between(0, 2) as i64,
            matches: side.random.chance(70),
            max_length: side.random.pick(&[0, 3, 10, 40, 1000]),
        };
        let number = side.begin(event, |number| Thing::Policy(operator, name, number));
        side.rules.insert(number, rule);
        let is_new = vhost.set_policy(kind(operator), policy(name, number, rule)).map_err(|error| error.to_string())?;
        expect_that(is_new != was_there, || format!("policy {} is new: {is_new}", POLICIES[name]))?;
    }
    if side.counting() != before {
        side.drop_excess(event);
    }
    model.say(|| format!("    policies {:?}", model.side.counting()));
    let (mut session, ready) = (session(broker)?, model.side.live(|thing| matches!(thing, Thing::Message(_))).len());
    if !model.side.has(|thing| matches!(thing, Thing::Queue(_))) {
        return Ok(());
    }
    let status = Channel::new(1).check_queue(&mut session, QUEUE).map_err(text)?;
    expect_that(status.ready == ready as u64, || format!("beside are {} messages, expected {ready}", status.ready))
}

fn kind(operator: bool) -> PolicyKind {
    if operator { PolicyKind::Operator } else { PolicyKind::User }
}

fn policy(name: usize, number: u32, rule: Rule) -> Policy {
    let definition = FieldTable::new().with("max-length", rule.max_length as i64);
    Policy {
        name: POLICIES[name].to_string(),
        pattern: if rule.matches { "^s$" } else { "^other" }.to_string(),
        apply_to: ApplyTo::Queues,
        priority: rule.priority,
        definition: definition.with("max-length-bytes", MANY_BYTES + i64::from(number)),
    }
}

/// Looks at the policies.
fn look_at_policies(vhost: &VirtualHost, model: &Model, found: &mut Found) -> Step {
    for operator in [false, true] {
        for policy_found in vhost.policies(kind(operator)) {
            let bytes = policy_found.definition.get("max-length-bytes").and_then(|bytes| bytes.as_i64());
            let number =
                bytes.and_then(|bytes| u32::try_from(bytes - MANY_BYTES).ok()).ok_or("a policy of nobody's")?;
            let name = POLICIES.iter().position(|known| *known == policy_found.name).ok_or("an unknown policy")?;
            let rule = model.side.rules.get(&number).ok_or("a policy that nobody has set")?;
            expect_that(*policy_found == policy(name, number, *rule), || {
                format!("a changed policy: {policy_found:?}")
            })?;
            found.side.insert(Thing::Policy(operator, name, number));
        }
    }
    Ok(())
}

fn delete_queue(session: &mut Session, model: &mut Model) -> Step {
    let event = model.event();
    model.side.end(event, Thing::is_in_queue);
    Channel::new(1).delete_queue(session, QUEUE, false, false).map(|_| ()).map_err(text)
}

fn number_of(body: &[u8]) -> Result<u32, String> {
    let number = body.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or("a message beside is too short")?;
    Ok(u32::from_le_bytes(number))
}

/// Looks at all of it; with the number of its messages, and whether its queue is closed because of damage.
pub fn look(broker: &Broker, model: &Model, found: &mut Found) -> Result<(u64, u64), String> {
    for (table, name) in TABLES.iter().enumerate() {
        for (key, value) in broker.entries(name) {
            let key = KEYS.iter().position(|known| **known == *key).ok_or("an entry under an unknown key")?;
            let number = std::str::from_utf8(&value).ok().and_then(|value| value.split(' ').next()?.parse().ok());
            found.side.insert(Thing::Entry(table, key, number.ok_or("an entry that nobody has set")?));
        }
    }
    let Some(vhost) = broker.vhost(VHOST) else { return Ok((0, 0)) };
    found.has_side = true;
    look_at_policies(&vhost, model, found)?;
    let (mut session, mut channel) = (broker.open_session(vhost), Channel::new(1));
    if session.vhost().check_exchange(EXCHANGE).is_ok() {
        let number = model.side.facts.iter().find_map(|fact| match fact.thing {
            Thing::Exchange(number) if declare_exchange(&session, number).is_ok() => Some(number),
            _ => None,
        });
        match number {
            Some(number) => _ = found.side.insert(Thing::Exchange(number)),
            // What is damaged may be what said that it was deleted, before the model's memory begins.
            None => expect_that(found.excuse.everything, || "the exchange beside is not as it ever was".to_string())?,
        }
    }
    look_at_pause(session.vhost(), found)?;
    let (messages, queues) = look_at_queue(&mut session, model, found, QUEUE)?;
    let other = look_at_queue(&mut session, model, found, OTHER)?;
    let there = (messages + other.0, queues + other.1);
    if queues == 0 {
        return Ok(there);
    }
    if found.side.iter().any(|thing| matches!(thing, Thing::Exchange(_))) {
        // Nothing is to be dropped.
        for (operator, name) in [false, true].into_iter().flat_map(|operator| POLICIES.map(|name| (operator, name))) {
            session.vhost().delete_policy(kind(operator), name);
        }
        publish_one(&mut channel, &mut session, (EXCHANGE, ""), &[0; 4])?;
        session.flush();
        if channel.purge_queue(&mut session, QUEUE).map_err(text)? > 0 {
            found.is_bound_beside = true;
        }
    }
    Ok(there)
}

/// Looks at one of its queues, which has nothing in it after that.
fn look_at_queue(session: &mut Session, model: &Model, found: &mut Found, name: &str) -> Result<(u64, u64), String> {
    let mut channel = Channel::new(1);
    let status = match channel.check_queue(session, name) {
        Ok(status) => status,
        Err(error) if error.code == 404 => return Ok((0, 0)),
        Err(error) => {
            found.excuse.side = true;
            return expect_that(error.text.contains("damage"), || text(error)).map(|()| (0, 0));
        }
    };
    let of = |thing| match thing {
        Thing::Queue(number) if name == QUEUE => Some(number),
        Thing::Other(number) if name == OTHER => Some(number),
        _ => None,
    };
    let is_it = |fact: &Fact| of(fact.thing).filter(|number| declare_queue(session, name, *number).is_ok());
    let Some(number) = model.side.facts.iter().find_map(is_it) else {
        let is_excused = found.excuse.everything;
        return expect_that(is_excused, || "a queue beside is not as it ever was".to_string()).map(|()| (0, 1));
    };
    let (queue, message): (_, fn(u32) -> Thing) = match name {
        QUEUE => (Thing::Queue(number), Thing::Message),
        _ => (Thing::Other(number), Thing::Moved),
    };
    found.side.insert(queue);
    let mut last = 0;
    for _ in 0..status.ready {
        let got = match channel.get(session, name, true) {
            Ok(got) => got,
            Err(error) if error.text.contains("damage") => {
                found.excuse.side = true;
                return Ok((0, 1));
            }
            Err(error) => return Err(text(error)),
        };
        let (delivery, ..) = got.ok_or("a queue beside gives fewer messages than it has")?;
        let number = number_of(delivery.block.at(delivery.offset).0.body)?;
        expect_that(number > last, || format!("beside message {number} is behind message {last}"))?;
        found.side.insert(message(number));
        last = number;
    }
    Ok((status.ready, 1))
}

impl Trial<'_> {
    /// What is there has begun and not ended, and what is not the other way round.
    pub fn side(&mut self, found: &Found) -> Result<(), String> {
        let side = &self.model.side;
        if let Some(thing) = found.side.iter().find(|thing| side.facts.iter().all(|fact| fact.thing != **thing)) {
            return Err(format!("{thing:?} is there and never was"));
        }
        for Fact { thing, begun, ended } in &side.facts {
            let what = || format!("{thing:?} of operation {}", begun.seq);
            match thing {
                _ if found.excuse.side && (thing.is_in_queue() || thing.is_in_other()) => {}
                // One of them is, nobody can tell which.
                Thing::Vhost(_) if found.has_side => {}
                Thing::Binding(_) if found.is_bound_beside => {}
                Thing::Paused(_) if found.is_paused_beside => {}
                _ if found.side.contains(thing) => self.is_present(*begun, *ended, what)?,
                _ => self.is_absent(*begun, *ended, what)?,
            }
        }
        let vhosts: Vec<&Fact> = side.facts.iter().filter(|fact| matches!(fact.thing, Thing::Vhost(_))).collect();
        let bindings: Vec<&Fact> = side.facts.iter().filter(|fact| matches!(fact.thing, Thing::Binding(_))).collect();
        let pauses: Vec<&Fact> = side.facts.iter().filter(|fact| matches!(fact.thing, Thing::Paused(_))).collect();
        let several = [(found.has_side, vhosts), (found.is_bound_beside, bindings), (found.is_paused_beside, pauses)];
        for (is_there, facts) in several {
            match facts[..] {
                [] if is_there => return Err("beside is something that never was".to_string()),
                [Fact { thing, begun, ended }] if is_there => {
                    self.is_present(*begun, *ended, || format!("{thing:?} of operation {}", begun.seq))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
