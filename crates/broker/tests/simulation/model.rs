//! What the broker should hold, and what of it must be there after a crash: plain, slow and meant to be obvious.
//!
//! Operations are numbered. What one of them changes for good is an [`Event`], and the log keeps events in order: if
//! one is durable, so are all before it. So a crash leaves the events up to some number, and the model has to find one
//! that explains what is found (`judge.rs`).

use crate::content::{Address, Content, DELAY_QUEUE, EXCHANGES, Id, LATER, QUEUES, keys};
use crate::groups::Holder;
use crate::history::History;
use crate::random::Random;
use crate::rules::{Rules, World};
use crate::side::Side;
use std::collections::{BTreeMap, BTreeSet};

/// Number of an operation.
pub type Seq = u32;

/// Index of a transaction that was committed, or of a move.
pub type UnitId = usize;

/// Something that is in the log, or should be.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub seq: Seq,
    /// It takes effect together with others.
    pub unit: Option<UnitId>,
    /// So large that others may be written before it, although they came later.
    pub late: bool,
    /// The broker said that it is durable.
    pub certain: bool,
    /// It may have happened earlier.
    pub vague: bool,
}

/// A committed transaction, or a message that is moved.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    pub seq: Seq,
    pub late: bool,
    pub certain: bool,
}

impl Unit {
    pub fn new(seq: Seq, late: bool) -> Unit {
        Unit { seq, late, certain: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// With a channel.
    Held,
    /// There as soon as this transaction is durable.
    Waits(UnitId),
    /// Held until this transaction gives it back; its consumer has failed, or not.
    Returns(UnitId, bool),
    /// Ready when its time has come.
    Delayed,
    Gone,
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: Id,
    pub enqueued: Event,
    /// By when it had its place: a transaction's messages get theirs between the commit and its answer. [`Seq::MAX`]
    /// if that is not known yet.
    pub placed_by: Seq,
    pub removed: Option<Event>,
    pub state: State,
    /// Its last delivery's tag and position.
    pub given: Option<(u64, u64)>,
    /// First handed out in this life.
    pub delivered: Option<Seq>,
    /// It was flagged when this life began.
    pub was_flagged: bool,
    /// It is to be flagged at its next delivery.
    pub flagged: bool,
    /// When it expires, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// That was while it was held.
    pub overdue: bool,
    /// That was, and it may be done again after a restart with another time of day.
    pub was_due: bool,
    /// When it is or was tried again, or routed.
    pub wakes: Option<u64>,
    /// What said so, and for when: the last one counts.
    pub waits: Vec<(Event, u64)>,
    /// How often it had come back when this life began.
    pub returned: u64,
    /// And since then.
    pub returns: Vec<Event>,
    /// The transaction that was to give it back when its queue was deleted: it is not known whether it had.
    pub last_return: Option<UnitId>,
    /// It is a copy: where it is among others of the same operation is not known.
    pub moved: bool,
    /// Its place is not known: it waited at a start.
    pub loose: bool,
}

/// A queue from its declaration to its deletion.
#[derive(Clone, Debug)]
pub struct Queue {
    pub rules: Rules,
    /// No other queue of the run has it; an argument.
    pub number: u32,
    pub durable: bool,
    pub declared: Event,
    pub deleted: Option<Event>,
    /// In the order in which they were placed.
    pub entries: Vec<Entry>,
    /// Messages that it had before a start at which they were gone.
    pub before: BTreeSet<Id>,
    /// Indexes of entries that are ready.
    pub ready: BTreeSet<usize>,
    /// Entries that wait for a transaction.
    pub waiting: BTreeSet<usize>,
    /// Entries that wait for their time.
    pub delayed: BTreeSet<usize>,
    /// Entries that were handed out and are not settled, by whom their keys are held.
    pub holds: BTreeMap<usize, Holder>,
    /// Those there are, in order of arrival.
    pub consumers: Vec<Holder>,
    /// When it was used last, if it ends without use.
    pub used: u64,
}

/// An exchange from its declaration to its deletion.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub number: u32,
    pub durable: bool,
    pub declared: Event,
    pub deleted: Option<Event>,
}

#[derive(Clone, Debug)]
pub struct Binding {
    pub address: Address,
    pub queue: usize,
    pub exchange_number: u32,
    pub queue_number: u32,
    pub durable: bool,
    pub bound: Event,
    pub removed: Option<Event>,
}

/// All that had a name since the last start; the last one may be alive.
pub type Lives<T> = Vec<T>;

/// A queue that a message goes to: index of the name, and number.
pub type Target = (usize, u32);

/// An entry, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub queue: usize,
    pub number: u32,
    pub entry: usize,
}

#[derive(Debug)]
pub struct Model {
    /// What is done is printed.
    pub trace: bool,
    /// The operation that is under way.
    pub seq: Seq,
    /// Every event before this operation is durable, except late ones.
    pub durable: Seq,
    /// So are late ones before this.
    pub late_durable: Seq,
    pub contents: Vec<Content>,
    /// Messages that were confirmed.
    pub confirmed: BTreeSet<Id>,
    pub queues: Vec<Lives<Queue>>,
    pub exchanges: Vec<Lives<Exchange>>,
    pub bindings: Vec<Binding>,
    pub units: Vec<Unit>,
    /// Units that are not known to be durable.
    pub outstanding: Vec<UnitId>,
    /// Bytes that were moved in this operation.
    pub moved_bytes: usize,
    /// What the broker holds to be the time: milliseconds since 1970.
    pub now: u64,
    pub world: World,
    pub side: Side,
    /// Copies by the number of what was published and their history, and what each was before.
    pub copies: BTreeMap<(Id, History), (Id, Id)>,
    /// What happens now may have happened earlier.
    pub vague: bool,
    /// Two copies cannot be told from each other.
    pub confused: bool,
    /// At the last start, messages may have waited for a time that had come already.
    pub may_be_over: bool,
    /// It could not be told what of a group waits: nothing is said about that any more.
    pub unclear: bool,
    next_number: u32,
}

impl Model {
    pub fn new(trace: bool) -> Model {
        let mut model = Model {
            trace,
            seq: 0,
            durable: 0,
            late_durable: 0,
            contents: Vec::new(),
            confirmed: BTreeSet::new(),
            queues: vec![Vec::new(); QUEUES.len()],
            exchanges: vec![Vec::new(); EXCHANGES.len()],
            bindings: Vec::new(),
            units: Vec::new(),
            outstanding: Vec::new(),
            moved_bytes: 0,
            now: 0,
            world: World::default(),
            side: Side::new(0),
            copies: BTreeMap::new(),
            vague: false,
            confused: false,
            may_be_over: false,
            unclear: false,
            next_number: 1,
        };
        model.declare_predeclared();
        model
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>5} {}", self.seq, what());
        }
    }

    pub fn declare_predeclared(&mut self) {
        for (index, exchange) in EXCHANGES.iter().enumerate().filter(|(_, exchange)| exchange.predeclared) {
            if self.exchanges[index].is_empty() {
                let declared = self.settled();
                let life = Exchange { number: 0, durable: exchange.durable, declared, deleted: None };
                self.exchanges[index].push(life);
            }
        }
    }

    /// An event of the operation that is under way.
    pub fn event(&self) -> Event {
        Event { seq: self.seq, unit: None, late: false, certain: false, vague: self.vague }
    }

    /// An event that needs no log any more.
    pub fn settled(&self) -> Event {
        Event { certain: true, ..self.event() }
    }

    pub fn new_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// The event is durable, and it must be so after a crash.
    pub fn is_certain(&self, event: Event) -> bool {
        let below = if self.is_late(event) { self.late_durable } else { self.durable };
        event.certain || event.seq < below || event.unit.is_some_and(|unit| self.units[unit].certain)
    }

    /// Others that came later may be durable before it.
    pub fn is_late(&self, event: Event) -> bool {
        event.late || event.unit.is_some_and(|unit| self.units[unit].late)
    }

    /// The broker said that something of this operation is durable; so are all operations before it.
    pub fn note_durable(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
    }

    /// Nothing is left to be written.
    pub fn note_all_durable(&mut self) {
        self.durable = self.seq;
        self.late_durable = self.seq;
    }

    pub fn queue(&self, queue: usize) -> Option<&Queue> {
        self.queues[queue].last().filter(|life| life.deleted.is_none())
    }

    pub fn queue_mut(&mut self, queue: usize) -> Option<&mut Queue> {
        self.queues[queue].last_mut().filter(|life| life.deleted.is_none())
    }

    pub fn exchange(&self, exchange: usize) -> Option<&Exchange> {
        self.exchanges[exchange].last().filter(|life| life.deleted.is_none())
    }

    pub fn declare_queue(&mut self, queue: usize, number: u32, durable: bool) {
        let declared = self.event();
        let rules = if queue == DELAY_QUEUE { Rules::default() } else { self.world.rules(queue, durable, number) };
        self.say(|| format!("    {} has the rules {rules:?}", QUEUES[queue]));
        self.queues[queue].push(Queue {
            rules,
            number,
            durable,
            declared,
            deleted: None,
            entries: Vec::new(),
            before: BTreeSet::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            delayed: BTreeSet::new(),
            holds: BTreeMap::new(),
            consumers: Vec::new(),
            used: self.now,
        });
    }

    pub fn declare_exchange(&mut self, exchange: usize, number: u32) {
        let life = Exchange { number, durable: EXCHANGES[exchange].durable, declared: self.event(), deleted: None };
        self.exchanges[exchange].push(life);
        if exchange == LATER {
            self.declare_queue(DELAY_QUEUE, number, true);
        }
    }

    pub fn delete_queue(&mut self, queue: usize) {
        let (event, ruled) = (self.event(), self.world.ruled);
        if let Some(life) = self.queue_mut(queue) {
            life.deleted = Some(event);
            // A crash may undo the deletion and leave a return that came before it. With rules it is known when
            // transactions take effect.
            if !ruled {
                life.note_last_returns();
            }
            self.remove_bindings(|binding| binding.queue == queue);
        }
    }

    pub fn delete_exchange(&mut self, exchange: usize) {
        let event = self.event();
        if let Some(life) = self.exchanges[exchange].last_mut().filter(|life| life.deleted.is_none()) {
            life.deleted = Some(event);
            self.remove_bindings(|binding| binding.address.exchange == exchange);
            if exchange == LATER {
                self.delete_queue(DELAY_QUEUE);
            }
        }
    }

    pub fn bind(&mut self, address: Address, queue: usize) {
        let (Some(to), Some(from)) = (self.queue(queue), self.exchange(address.exchange)) else { return };
        if self.bound(address).any(|bound| bound == queue) {
            return;
        }
        let (exchange_number, queue_number) = (from.number, to.number);
        let durable = from.durable && to.durable;
        let bound = self.event();
        let binding = Binding { address, queue, exchange_number, queue_number, durable, bound, removed: None };
        self.bindings.push(binding);
    }

    pub fn unbind(&mut self, address: Address, queue: usize) {
        self.remove_bindings(|binding| binding.address == address && binding.queue == queue);
    }

    fn remove_bindings(&mut self, which: impl Fn(&Binding) -> bool) {
        let event = self.event();
        let live = self.bindings.iter_mut().filter(|binding| binding.removed.is_none() && which(binding));
        live.for_each(|binding| binding.removed = Some(event));
    }

    /// Queues that are bound to an address.
    pub fn bound(&self, address: Address) -> impl Iterator<Item = usize> {
        let live = self.bindings.iter().filter(move |it| it.removed.is_none() && it.address == address);
        live.map(|binding| binding.queue)
    }

    /// An address whose exchange is there.
    pub fn some_address(&self, random: &mut Random, queues: usize) -> Address {
        let exchange =
            random.weighted(if self.world.ruled { &[45, 13, 13, 13, 4, 10, 2] } else { &[50, 15, 15, 15, 5] });
        match exchange {
            _ if self.exchange(exchange).is_none() => Address { exchange: 0, key: 0 },
            0 => Address { exchange, key: random.index(queues) },
            _ => Address { exchange, key: random.index(keys(exchange)) },
        }
    }

    /// Where a message goes now.
    pub fn targets(&self, content: &Content) -> Vec<Target> {
        let number = |queue: usize| self.queue(queue).map(|life| (queue, life.number));
        match content.exchange {
            0 => QUEUES.iter().position(|name| *name == content.key).and_then(number).into_iter().collect(),
            LATER if content.delay.is_some() && !content.has_waited() => number(DELAY_QUEUE).into_iter().collect(),
            exchange => {
                let addresses = (0..keys(exchange)).map(|key| Address { exchange, key });
                let mut addresses =
                    addresses.filter(|address| keys(exchange) == 1 || address.routing_key() == content.key);
                addresses.next().map_or(Vec::new(), |address| self.bound(address).filter_map(number).collect())
            }
        }
    }

    /// Whether the log has a record of this message's way to these queues.
    pub fn is_logged(&self, content: &Content, targets: &[Target]) -> bool {
        content.persistent && targets.iter().any(|&(queue, _)| self.queue(queue).is_some_and(|life| life.durable))
    }

    /// Appends a message to its queues, those of them that are still there.
    pub fn append(&mut self, id: Id, targets: &[Target], enqueued: Event, state: State) {
        let waits = matches!(state, State::Waits(_));
        let placed_by = if waits { Seq::MAX } else { self.seq };
        let (content, now) = (&self.contents[id as usize], self.now);
        let (moved, life_of_its_own) = (content.past.is_some(), content.life);
        let wakes = content.delay.map(|delay| now + u64::from(delay));
        for &(queue, number) in targets {
            let Some(life) = self.queue_mut(queue).filter(|life| life.number == number) else { continue };
            let index = life.entries.len();
            let mut entry = Entry::new(id, enqueued, state);
            (entry.placed_by, entry.moved) = (placed_by, moved);
            // A transient queue's messages get their places, and their times, when they can be seen.
            if life.durable || !waits {
                entry.expires = life.rules.expires(now, life_of_its_own);
            }
            if queue == DELAY_QUEUE {
                entry.wakes = wakes;
                entry.waits.extend(wakes.map(|due| (enqueued, due)));
            }
            life.entries.push(entry);
            let state = if queue == DELAY_QUEUE && !waits { State::Delayed } else { state };
            life.note_state(index, state);
        }
    }

    /// A message was confirmed; `logged` is the operation that published it, if the log has it.
    pub fn confirm(&mut self, id: Id, logged: Option<Seq>) {
        if let Some(seq) = logged {
            self.confirmed.insert(id);
            self.note_durable(seq);
        }
    }

    /// The event that put a message into a queue.
    pub fn enqueued(&self, entry: &Entry) -> Event {
        let certain = entry.enqueued.certain || self.confirmed.contains(&entry.id);
        Event { certain, ..entry.enqueued }
    }

    /// Whether the log has a record of what happens to a message.
    pub fn is_place_logged(&self, place: Place) -> bool {
        let life = self.queue(place.queue).filter(|life| life.number == place.number && life.durable);
        life.is_some_and(|life| self.contents[life.entries[place.entry].id as usize].persistent)
    }

    /// Which message of which queue is at a place.
    pub fn name(&self, place: Place) -> Option<(&'static str, Id)> {
        let life = self.queues[place.queue].iter().find(|life| life.number == place.number)?;
        Some((QUEUES[place.queue], life.entries[place.entry].id))
    }

    pub fn entry(&mut self, place: Place) -> Option<&mut Entry> {
        let life = self.queue_mut(place.queue).filter(|life| life.number == place.number)?;
        life.entries.get_mut(place.entry)
    }

    pub fn set_state(&mut self, place: Place, state: State) {
        if let Some(life) = self.queue_mut(place.queue).filter(|life| life.number == place.number) {
            life.note_state(place.entry, state);
        }
    }

    /// A message is acknowledged, rejected or dropped.
    pub fn remove(&mut self, place: Place, event: Event) {
        self.set_state(place, State::Gone);
        let settled = event.unit.is_none_or(|unit| !self.outstanding.contains(&unit));
        if let Some(life) = self.queue_mut(place.queue).filter(|life| life.number == place.number) {
            life.entries[place.entry].removed = Some(event);
            if settled {
                life.holds.remove(&place.entry);
            }
        }
    }
}

impl Entry {
    pub fn new(id: Id, enqueued: Event, state: State) -> Entry {
        Entry {
            id,
            enqueued,
            placed_by: enqueued.seq,
            removed: None,
            state,
            given: None,
            delivered: None,
            was_flagged: false,
            flagged: false,
            expires: None,
            overdue: false,
            was_due: false,
            wakes: None,
            waits: Vec::new(),
            returned: 0,
            returns: Vec::new(),
            last_return: None,
            moved: false,
            loose: false,
        }
    }

    /// How often it came back.
    pub fn count(&self) -> u64 {
        self.returned + self.returns.len() as u64
    }

    pub fn note_placed(&mut self, seq: Seq) {
        self.placed_by = self.placed_by.min(seq);
    }
}

impl Queue {
    /// Whether the first of two entries must come before the second.
    pub fn precedes(&self, first: usize, second: usize) -> bool {
        let (a, b) = (&self.entries[first], &self.entries[second]);
        let same_unit = a.enqueued.unit.is_some() && a.enqueued.unit == b.enqueued.unit;
        let same_moves = (a.moved || b.moved) && a.enqueued.seq == b.enqueued.seq && !a.enqueued.certain;
        let unordered = same_moves || a.loose || b.loose;
        first < second && !unordered && (same_unit || a.placed_by <= b.enqueued.seq)
    }

    /// What a transaction gives back, whose effect is not known, came back before now or never does.
    fn note_last_returns(&mut self) {
        for &index in &self.waiting {
            let entry = &mut self.entries[index];
            if let State::Returns(unit, _) = entry.state {
                entry.last_return = Some(unit);
            }
        }
    }

    pub fn note_state(&mut self, index: usize, state: State) {
        self.entries[index].state = state;
        self.ready.remove(&index);
        self.waiting.remove(&index);
        self.delayed.remove(&index);
        if matches!(state, State::Ready | State::Delayed) {
            self.holds.remove(&index);
        }
        match state {
            State::Ready => _ = self.ready.insert(index),
            State::Waits(_) | State::Returns(..) => _ = self.waiting.insert(index),
            State::Delayed => _ = self.delayed.insert(index),
            State::Held | State::Gone => {}
        }
    }
}
