//! What rules do to messages: they die and become letters, wait, come back, are too many.

use crate::content::{Content, DELAY_QUEUE, Id, LATER, QUEUES};
use crate::history::{History, Reason};
use crate::model::{Entry, Event, Model, Place, Seq, State, Target, Unit, UnitId};
use crate::random::Random;
use crate::rules::Overflow;

/// Messages of an operation that together have so many bytes may be written later than what comes after them.
pub const LATE: usize = 60_000;

impl Model {
    /// Appends what was published, as far as the queues take it; true if one of them refuses.
    pub fn publish(&mut self, id: Id, targets: &[Target], enqueued: Event) -> bool {
        let has_room = |&&(queue, _): &&Target| {
            let life = self.queue(queue).expect("a target is there");
            !life.rules.refuses() || !life.rules.is_over(life.counted() + 1, 0)
        };
        let taking: Vec<Target> = targets.iter().filter(has_room).copied().collect();
        for &(queue, _) in targets.iter().filter(|target| !taking.contains(target)) {
            if self.queue(queue).is_some_and(|life| life.rules.overflow == Overflow::RefuseWithLetter) {
                self.say(|| format!("    message {id} is refused by {} and dies", QUEUES[queue]));
                self.move_on(id, queue, Reason::MaxLength, false);
            }
        }
        self.append(id, &taking, enqueued, State::Ready);
        taking.iter().for_each(|&(queue, _)| self.drop_excess(queue));
        taking.len() < targets.len()
    }

    /// Gives some messages a time to live or to wait. What may wait for another attempt does not expire: it could not be
    /// told from what was never there.
    pub fn give_times(&self, random: &mut Random, content: &mut Content) {
        let delays = content.exchange == LATER;
        if random.chance(if delays { 70 } else { 5 }) {
            content.delay = Some(random.pick(&[1, 30, 300, 2500]));
            if random.chance(5) {
                content.length = random.between(120_000, 200_000) as usize;
            }
        }
        let targets = self.targets(content);
        let retries = |&(queue, _): &Target| self.queue(queue).is_some_and(|life| life.rules.retry.is_some());
        if !delays
            && random.chance(if self.world.near_times.is_some() { 30 } else { 15 })
            && !targets.iter().any(retries)
        {
            content.life = Some(random.pick(&[5, 50, 500, 3000]));
            // So that much waits for its time.
            if self.world.near_times.is_some() && random.chance(50) {
                content.life = Some(random.pick(&[30_000, 200_000]) + random.below(1000) as u32);
            }
        }
    }

    /// Whether every queue has room for a transaction.
    pub fn has_room(&self, messages: &[(Id, Vec<Target>)]) -> bool {
        (0..QUEUES.len()).all(|queue| {
            let Some(life) = self.queue(queue).filter(|life| life.rules.refuses()) else { return true };
            let count = messages.iter().filter(|(_, targets)| targets.contains(&(queue, life.number))).count() as u64;
            count == 0 || !life.rules.is_over(life.counted() + count, 0)
        })
    }

    /// A message's copy with another history, which goes where the copy says.
    fn copy(&mut self, id: Id, copy: Content) -> Id {
        let key = (copy.origin(id), copy.history());
        if let Some(&(known, before)) = self.copies.get(&key) {
            self.confused |= before != id || self.contents[known as usize].route() != copy.route();
            return known;
        }
        let number = self.contents.len() as Id;
        self.contents.push(copy);
        self.copies.insert(key, (number, id));
        number
    }

    /// The number of a message with this past.
    pub fn find(&self, origin: Id, history: History) -> Option<Id> {
        match history == History::default() {
            true => Some(origin).filter(|id| (*id as usize) < self.contents.len()),
            false => self.copies.get(&(origin, history)).map(|(id, _)| *id),
        }
    }

    /// The letter of a message that died, and the queues that take it.
    fn letter(&mut self, id: Id, queue: usize, reason: Reason) -> Option<(Id, Vec<Target>)> {
        let to = self.queue(queue)?.rules.letters?;
        let letter = self.contents[id as usize].letter(id, queue, reason, to);
        let (mut targets, history) = (self.targets(&letter), letter.history());
        targets.retain(|&(queue, _)| reason == Reason::Rejected || !history.would_cycle(queue));
        let letter = self.copy(id, letter);
        self.say(|| {
            format!("    message {id} dies in {} ({reason:?}) and becomes {letter}, to {targets:?}", QUEUES[queue])
        });
        Some((letter, targets))
    }

    /// Sends the letter of a message that dies, in a unit of its own if the log has to know. The event of its end.
    fn move_on(&mut self, id: Id, queue: usize, reason: Reason, is_logged: bool) -> Event {
        let Some((letter, targets)) = self.letter(id, queue, reason) else { return self.event() };
        self.send(letter, &targets, is_logged)
    }

    fn send(&mut self, id: Id, targets: &[Target], is_logged: bool) -> Event {
        if !is_logged && !self.is_logged(&self.contents[id as usize], targets) {
            self.append(id, targets, self.event(), State::Ready);
            return self.event();
        }
        let unit = self.begin_unit(self.contents[id as usize].length);
        let event = Event { unit: Some(unit), ..self.event() };
        self.append(id, targets, event, State::Waits(unit));
        event
    }

    /// Something takes effect when it is durable. What is moved in one operation may be one unit of the log.
    fn begin_unit(&mut self, bytes: usize) -> UnitId {
        let (unit, seq) = (self.units.len(), self.seq);
        self.units.push(Unit::new(seq, false));
        self.outstanding.push(unit);
        self.moved_bytes += bytes;
        if self.moved_bytes >= LATE {
            self.units.iter_mut().rev().take_while(|unit| unit.seq == seq).for_each(|unit| unit.late = true);
        }
        unit
    }

    /// Sends the letter of a message that a transaction rejects.
    pub fn reject_in(&mut self, place: Place, event: Event, state: State) {
        if let Some(id) = self.entry(place).map(|entry| entry.id)
            && let Some((letter, targets)) = self.letter(id, place.queue, Reason::Rejected)
        {
            self.append(letter, &targets, event, state);
        }
    }

    /// A message ends in its queue.
    pub fn die(&mut self, place: Place, reason: Reason) {
        let Some(id) = self.entry(place).map(|entry| entry.id) else { return };
        let is_logged = self.queue(place.queue).is_some_and(|life| life.durable);
        let event = self.move_on(id, place.queue, reason, is_logged);
        self.say(|| format!("    message {id} ends in {} ({reason:?})", QUEUES[place.queue]));
        self.remove(place, event);
    }

    /// Messages return to their queues from a channel, in order; of each it is told whether its consumer has failed.
    /// Those that were given one behind the other return as one, and then what is too much is dropped: a queue that a
    /// start has found with more than it may have drops more of them than if they came one by one.
    pub fn come_back(&mut self, returns: impl IntoIterator<Item = (Place, bool)>) {
        let mut before = None;
        for (place, failed) in returns {
            let Some(given) = self.entry(place).map(|entry| entry.given) else { continue };
            let continued = given.map(|given| (place.queue, failed, given));
            if let Some((queue, _)) = before.filter(|(_, next)| *next != continued) {
                self.drop_excess(queue);
            }
            self.return_one(place, failed);
            before = Some((place.queue, given.map(|(tag, position)| (place.queue, failed, (tag + 1, position + 1)))));
        }
        before.into_iter().for_each(|(queue, _)| self.drop_excess(queue));
    }

    fn return_one(&mut self, place: Place, failed: bool) {
        let (event, now) = (self.event(), self.now);
        let Some(rules) = self.queue(place.queue).filter(|life| life.number == place.number).map(|life| life.rules)
        else {
            return;
        };
        let Some(entry) = self.entry(place) else { return };
        entry.flagged = true;
        if failed || !rules.quorum {
            entry.returns.push(event);
        }
        let (overdue, count) = (entry.overdue, entry.count());
        if overdue {
            self.die(place, Reason::Expired);
        } else if rules.delivery_limit.is_some_and(|limit| count > limit) {
            self.die(place, Reason::DeliveryLimit);
        } else if let Some(delay) = rules.delay(count, failed) {
            entry.wakes = Some(now + delay);
            entry.waits.push((event, now + delay));
            self.set_state(place, State::Delayed);
        } else {
            self.set_state(place, State::Ready);
        }
    }

    /// Drops the oldest messages of a queue that has too many.
    pub fn drop_excess(&mut self, queue: usize) {
        let Some(rules) = self.queue(queue).map(|life| life.rules).filter(|rules| !rules.refuses()) else { return };
        while let Some(life) = self.queue(queue)
            && rules.is_over(life.counted(), if rules.max_bytes.is_some() { self.bytes(queue) } else { 0 })
            && let Some(&entry) = life.ready.first()
        {
            let place = Place { queue, number: life.number, entry };
            self.die(place, Reason::MaxLength);
        }
    }

    fn bytes(&self, queue: usize) -> u64 {
        let Some(life) = self.queue(queue) else { return 0 };
        let counted = life.ready.iter().chain(&life.delayed);
        counted.map(|&entry| self.contents[life.entries[entry].id as usize].length as u64).sum()
    }

    /// A queue is used.
    pub fn touch(&mut self, queue: usize) {
        let now = self.now;
        self.queue_mut(queue).into_iter().for_each(|life| life.used = now);
    }

    /// Deletes the queues that nobody has used for as long as they may be.
    pub fn end_leases(&mut self) {
        for (queue, name) in QUEUES.iter().enumerate() {
            let Some(life) = self.queue(queue) else { continue };
            let expires = life.rules.expires.filter(|_| life.consumers.is_empty());
            if expires.is_some_and(|expires| life.used + expires <= self.now) {
                self.say(|| format!("    nobody uses {name}: it ends"));
                self.delete_queue(queue);
            }
        }
    }

    /// Lets happen what is due.
    pub fn tick(&mut self) {
        let now = self.now;
        for queue in 0..QUEUES.len() {
            let Some(life) = self.queue(queue) else { continue };
            let is_due = |&entry: &usize| {
                let entry = &life.entries[entry];
                // The broker remembers it of what is gone as well, until that is durable.
                if entry.state == State::Gone && (entry.was_due || self.is_ended(entry)) {
                    return false;
                }
                let wakes = (queue == DELAY_QUEUE || entry.state == State::Delayed)
                    && entry.wakes.is_some_and(|wakes| wakes <= now);
                wakes || entry.expires.is_some_and(|expires| expires <= now)
            };
            let due: Vec<usize> = (0..life.entries.len()).filter(is_due).collect();
            for entry in due {
                self.meet(Place { queue, number: self.queue(queue).expect("it is there").number, entry });
            }
        }
    }

    fn meet(&mut self, place: Place) {
        let now = self.now;
        let Some(entry) = self.entry(place) else { return };
        let expired = entry.expires.is_some_and(|expires| expires <= now);
        entry.was_due |= expired || place.queue == DELAY_QUEUE;
        match entry.state {
            State::Ready | State::Delayed if expired => self.die(place, Reason::Expired),
            State::Held | State::Returns(..) => entry.overdue |= expired,
            State::Delayed if place.queue == DELAY_QUEUE => self.route_onwards(place),
            State::Delayed => {
                self.say(|| format!("    {:?} is ready", self.name(place)));
                self.set_state(place, State::Ready);
            }
            _ => {}
        }
    }

    /// A message has waited in its exchange.
    fn route_onwards(&mut self, place: Place) {
        let Some(id) = self.entry(place).map(|entry| entry.id) else { return };
        let copy = self.contents[id as usize].waited(id);
        let bound: Vec<usize> = self.bound(crate::content::Address { exchange: LATER, key: 0 }).collect();
        let targets: Vec<Target> =
            bound.into_iter().filter_map(|queue| Some((queue, self.queue(queue)?.number))).collect();
        let copy = self.copy(id, copy);
        self.say(|| format!("    message {id} has waited and becomes {copy}, to {targets:?}"));
        let event = self.send(copy, &targets, true);
        self.remove(place, event);
    }

    /// Everything that was appended before is durable, except what is late, and has had its effects.
    pub fn finish_written(&mut self) {
        let units: Vec<UnitId> = self.outstanding.iter().copied().filter(|&unit| !self.units[unit].late).collect();
        units.into_iter().for_each(|unit| self.finish_unit(unit, true));
    }

    /// So is what is late, and what followed from it.
    pub fn finish_all(&mut self) {
        while let Some(&unit) = self.outstanding.first() {
            self.finish_unit(unit, true);
        }
    }

    /// A transaction or a move is known to be durable: what waited for it takes effect.
    pub fn finish_unit(&mut self, unit: UnitId, logged: bool) {
        self.units[unit].certain = true;
        if logged {
            self.note_durable(self.units[unit].seq);
        }
        self.take_effect(unit);
    }

    /// Any unit may have become durable before a crash, and had effects that may have survived, too.
    pub fn suppose_all(&mut self) {
        while let Some(&unit) = self.outstanding.first() {
            self.take_effect(unit);
        }
    }

    fn take_effect(&mut self, unit: UnitId) {
        let seq = self.seq;
        self.outstanding.retain(|other| *other != unit);
        self.release_keys(unit);
        let mut returns = Vec::new();
        for queue in 0..QUEUES.len() {
            let filled = self.fill(queue, unit, seq);
            let Some(life) = self.queue(queue) else { continue };
            let number = life.number;
            returns.extend(life.waiting.iter().filter_map(|&entry| match life.entries[entry].state {
                State::Returns(by, failed) if by == unit => Some((Place { queue, number, entry }, failed)),
                _ => None,
            }));
            if filled {
                self.drop_excess(queue);
            }
        }
        // Without rules nobody has to know when.
        self.vague = !self.world.ruled;
        self.come_back(returns);
        self.vague = false;
    }

    /// Lets be seen what a queue gets by a unit; true if there was something.
    fn fill(&mut self, queue: usize, unit: UnitId, seq: Seq) -> bool {
        let (now, contents) = (self.now, &self.contents);
        // What follows in this operation from other units may have been written before one that is late.
        let placed_by = if self.units[unit].late { seq + 1 } else { seq };
        let Some(life) = self.queues[queue].last_mut() else { return false };
        let mut filled = false;
        for index in life.waiting.clone() {
            let entry = &mut life.entries[index];
            if entry.state != State::Waits(unit) {
                continue;
            }
            entry.note_placed(placed_by);
            if !life.durable {
                entry.expires = life.rules.expires(now, contents[entry.id as usize].life);
            }
            life.note_state(index, if queue == DELAY_QUEUE { State::Delayed } else { State::Ready });
            filled = true;
        }
        filled
    }

    /// What waits for a unit has no effect before it; a failed log lets nothing happen any more.
    pub fn has_late_units(&self) -> bool {
        self.outstanding.iter().any(|&unit| self.units[unit].late)
    }

    /// Something had its time that would have it again if the time of day were set back.
    pub fn has_overdue(&self) -> bool {
        let mut entries = self.queues.iter().flatten().flat_map(|life| &life.entries);
        entries.any(|entry| entry.was_due && !self.is_ended(entry))
    }

    /// No crash brings it back.
    fn is_ended(&self, entry: &Entry) -> bool {
        entry.removed.is_some_and(|event| self.is_certain(event))
    }
}

impl crate::model::Queue {
    /// Messages that count for limits.
    pub fn counted(&self) -> u64 {
        (self.ready.len() + self.delayed.len()) as u64
    }
}
