//! Whether what is found after a crash can be explained: by some number, so that the events below it survived and the
//! others did not, nothing that the broker called durable is missing, and every transaction is whole or absent.

use crate::content::{Address, Content, EXCHANGES, Id, QUEUES};
use crate::groups::Waiting;
use crate::model::{Binding, Entry, Event, Exchange, Model, Queue, Seq, State, UnitId};
use crate::side::Thing;
use std::collections::{BTreeMap, BTreeSet};

/// What a broker had after its start.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub queues: BTreeMap<usize, FoundQueue>,
    /// Index of the exchange -> its number.
    pub exchanges: BTreeMap<usize, u32>,
    /// Which queues a message for an address comes to.
    pub bindings: BTreeSet<(usize, usize, usize)>,
    pub excuse: Excuse,
    /// When the broker was started, as it saw that.
    pub now: u64,
    /// What is beside the virtual host, if the other one is there, and if its queue is bound.
    pub side: BTreeSet<Thing>,
    pub has_side: bool,
    pub is_bound_beside: bool,
    /// The queue beside hands nothing out.
    pub is_paused_beside: bool,
    /// A bit is another: an older checkpoint may know of times that have passed.
    pub flipped: bool,
}

#[derive(Clone, Debug, Default)]
pub struct FoundQueue {
    pub number: u32,
    /// In their order, as far as they were ready.
    pub messages: Vec<FoundMessage>,
    /// How many of them wait for another attempt; others may wait for those.
    pub waiting: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct FoundMessage {
    pub id: Id,
    /// As redelivered.
    pub flagged: bool,
    /// How often it came back, as its delivery says.
    pub returned: u64,
    /// It was not ready before the broker held this to be the time, or not later than its start.
    pub waits: Option<u64>,
    /// Where it was in its queue, unless it waited in an exchange.
    pub position: Option<u64>,
}

/// What a run has damaged, and the broker has reported: no more is expected of it.
#[derive(Clone, Debug, Default)]
pub struct Excuse {
    /// Anything may be missing.
    pub everything: bool,
    /// Messages of these queues may be missing.
    pub queues: BTreeSet<usize>,
    /// So may those beside.
    pub side: bool,
}

impl Excuse {
    pub fn is_any(&self) -> bool {
        self.everything || !self.queues.is_empty() || self.side
    }
}

/// Finds what contradicts the model.
pub fn judge(model: &Model, found: &Found) -> Result<(), String> {
    let mut trial = Trial {
        model,
        low: model.durable,
        high: model.seq + 1,
        why_low: "the broker said so".to_string(),
        why_high: "nothing came later".to_string(),
        gaps: Vec::new(),
        votes: vec![None; model.units.len()],
        doubts: Vec::new(),
        unflagged: Vec::new(),
        flipped: found.flipped,
        lenient: found.excuse.is_any(),
    };
    for queue in 0..QUEUES.len() {
        if found.excuse.everything || found.excuse.queues.contains(&queue) {
            trial.damaged_queue(queue, found.queues.get(&queue))?;
        } else {
            trial.queue(queue, found.queues.get(&queue), found.now)?;
        }
    }
    if !found.excuse.everything {
        trial.side(found)?;
        for exchange in 0..EXCHANGES.len() {
            trial.exchange(exchange, found.exchanges.get(&exchange).copied())?;
        }
        if found.excuse.queues.is_empty() {
            trial.bindings(found)?;
        }
    }
    if trial.lenient { Ok(()) } else { trial.verdict() }
}

/// A message that is missing: because it was never durable, or because its removal was.
struct Doubt {
    what: String,
    enqueued: Event,
    removed: Event,
}

pub struct Trial<'a> {
    pub model: &'a Model,
    /// The cut is between these: events below it survived, events above it did not. Of the operation at the cut
    /// itself any part may have survived.
    low: Seq,
    high: Seq,
    why_low: String,
    why_high: String,
    /// Where the cut cannot be: strictly between the two.
    gaps: Vec<(Seq, Seq, String)>,
    /// Whether a transaction survived, as far as that is known.
    votes: Vec<Option<bool>>,
    doubts: Vec<Doubt>,
    /// Messages that were delivered in these operations, and are not flagged.
    unflagged: Vec<(Seq, String)>,
    /// An older checkpoint may know of times that have passed.
    flipped: bool,
    /// Something is damaged, so absence proves nothing.
    lenient: bool,
}

impl Trial<'_> {
    pub fn survived(&mut self, event: Event, why: impl Fn() -> String) -> Result<(), String> {
        if let Some(unit) = event.unit {
            self.vote(unit, true, why)?;
        } else if event.seq > self.low && !event.certain && !event.vague {
            (self.low, self.why_low) = (event.seq, why());
        }
        Ok(())
    }

    pub fn did_not_survive(&mut self, event: Event, why: impl Fn() -> String) -> Result<(), String> {
        if self.model.is_certain(event) {
            return Err(format!("{}, although operation {} was durable", why(), event.seq));
        }
        if self.lenient {
            return Ok(());
        }
        if let Some(unit) = event.unit {
            self.vote(unit, false, why)?;
        } else if !self.model.is_late(event) && !event.vague && event.seq < self.high {
            (self.high, self.why_high) = (event.seq, why());
        }
        Ok(())
    }

    fn vote(&mut self, unit: UnitId, survived: bool, why: impl Fn() -> String) -> Result<(), String> {
        match self.votes[unit] {
            Some(other) if other == survived => return Ok(()),
            Some(_) if self.lenient => return Ok(()),
            Some(_) => {
                return Err(format!(
                    "half a transaction: {} speaks {} the commit in operation {}, other things do not",
                    why(),
                    if survived { "for" } else { "against" },
                    self.model.units[unit].seq
                ));
            }
            None => self.votes[unit] = Some(survived),
        }
        let crate::model::Unit { seq, late, .. } = self.model.units[unit];
        if survived && seq > self.low {
            (self.low, self.why_low) = (seq, why());
        }
        if !survived && !late && seq < self.high {
            (self.high, self.why_high) = (seq, why());
        }
        Ok(())
    }

    /// Something that is missing was made and then removed again, or was never durable.
    pub fn is_absent(
        &mut self,
        made: Event,
        removed: Option<Event>,
        what: impl Fn() -> String + Copy,
    ) -> Result<(), String> {
        let missing = || format!("{} is missing", what());
        match removed {
            None => self.did_not_survive(made, missing),
            Some(removed) if self.model.is_certain(made) => self.survived(removed, missing),
            Some(_) if self.model.is_late(made) => Ok(()),
            Some(removed) => {
                self.doubts.push(Doubt { what: missing(), enqueued: made, removed });
                Ok(())
            }
        }
    }

    pub fn is_present(
        &mut self,
        made: Event,
        removed: Option<Event>,
        what: impl Fn() -> String + Copy,
    ) -> Result<(), String> {
        let there = || format!("{} is there", what());
        self.survived(made, there)?;
        removed.map_or(Ok(()), |removed| self.did_not_survive(removed, there))
    }

    fn damaged_queue(&mut self, queue: usize, found: Option<&FoundQueue>) -> Result<(), String> {
        let Some(found) = found else { return Ok(()) };
        let life = self.model.queues[queue].iter().find(|life| life.number == found.number);
        let life = life.ok_or_else(|| format!("{} was never declared like that", QUEUES[queue]))?;
        // What is damaged may be what said that a message is gone.
        let known: BTreeSet<Id> = life.entries.iter().map(|entry| entry.id).collect();
        match found.messages.iter().map(|it| it.id).find(|id| !known.contains(id) && !life.before.contains(id)) {
            Some(id) => Err(format!("message {id} was never in {}", QUEUES[queue])),
            None => Ok(()),
        }
    }

    fn queue(&mut self, queue: usize, found: Option<&FoundQueue>, now: u64) -> Result<(), String> {
        let (lives, name) = (&self.model.queues[queue], QUEUES[queue]);
        let what = || format!("{name} as found");
        if let Some(found) = found
            && !lives.iter().any(|life| life.durable && life.number == found.number)
        {
            return Err(format!("{name} is there as number {}, which it never was", found.number));
        }
        for life in lives.iter().filter(|life| life.durable) {
            match found.filter(|found| found.number == life.number) {
                Some(found) => {
                    self.is_present(life.declared, life.deleted, what)?;
                    self.messages(name, life, found, now)?;
                }
                None => self.is_absent(life.declared, life.deleted, || format!("{name} number {}", life.number))?,
            }
        }
        Ok(())
    }

    fn messages(&mut self, name: &str, life: &Queue, found: &FoundQueue, now: u64) -> Result<(), String> {
        let places: BTreeMap<Id, usize> = life.entries.iter().enumerate().map(|(at, entry)| (entry.id, at)).collect();
        let mut seen = vec![None; life.entries.len()];
        let mut last: Vec<usize> = Vec::new();
        for message in &found.messages {
            let id = message.id;
            let Some(&place) = places.get(&id) else { return Err(format!("message {id} was never in {name}")) };
            if seen[place].replace(*message).is_some() {
                return Err(format!("message {id} is twice in {name}"));
            }
            if message.waits.is_some() {
                continue;
            }
            // Usually places ascend, so that comparing with the last one is enough.
            if last.last().is_some_and(|&before| before > place)
                && let Some(before) = last.iter().find(|&&before| life.precedes(place, before))
            {
                return Err(format!("{name} has message {id} behind message {}", life.entries[*before].id));
            }
            last.push(place);
        }
        for (entry, seen) in life.entries.iter().zip(&seen) {
            let what = || format!("message {} of operation {} in {name}", entry.id, entry.enqueued.seq);
            let persistent = self.model.contents[entry.id as usize].persistent;
            match seen {
                Some(_) if !persistent => return Err(format!("{} is there and was not persistent", what())),
                Some(seen) => {
                    self.is_present(self.model.enqueued(entry), entry.removed, what)?;
                    self.returns(entry, seen, what)?;
                    let in_group = life.rules.groups && self.model.contents[entry.id as usize].group().is_some();
                    if !in_group {
                        self.wait(entry, seen, now, what)?;
                    }
                }
                None if !persistent => {}
                None => self.is_absent(self.model.enqueued(entry), entry.removed, what)?,
            }
        }
        if !self.flipped {
            self.group_waits(name, life, &seen, now)?;
        }
        let unflagged = |seen: &Option<FoundMessage>| seen.is_some_and(|seen| !seen.flagged && seen.waits.is_none());
        for (entry, _) in life.entries.iter().zip(&seen).filter(|(_, seen)| unflagged(seen)) {
            let since = if entry.was_flagged { Some(0) } else { entry.delivered };
            let what = |since| (since, format!("message {} in {name}, delivered in operation {since}", entry.id));
            self.unflagged.extend(since.map(what));
        }
        Ok(())
    }

    /// It came back as often as is told: the first returns survived, the others did not.
    fn returns(&mut self, entry: &Entry, seen: &FoundMessage, what: impl Fn() -> String) -> Result<(), String> {
        let survived = seen.returned.checked_sub(entry.returned).map(|survived| survived as usize);
        let most = entry.returns.len() + usize::from(entry.last_return.is_some());
        let Some(survived) = survived.filter(|survived| *survived <= most) else {
            let (least, most) = (entry.returned, entry.returned + most as u64);
            return Err(format!("{} came back {} times, expected {least} to {most}", what(), seen.returned));
        };
        let why = || format!("{} came back {} times", what(), seen.returned);
        // Nothing comes back by a transaction that is not durable.
        if let Some(unit) = entry.last_return.filter(|_| survived > entry.returns.len()) {
            self.vote(unit, true, why)?;
        }
        let survived = survived.min(entry.returns.len());
        entry.returns[..survived].iter().try_for_each(|event| self.survived(*event, why))?;
        entry.returns[survived..].iter().try_for_each(|event| self.did_not_survive(*event, why))
    }

    /// What had to wait does so still, until the time that was said last, and nothing else waits.
    fn wait(&mut self, entry: &Entry, seen: &FoundMessage, now: u64, what: impl Fn() -> String) -> Result<(), String> {
        if self.flipped {
            return Ok(());
        }
        let Some(at) = seen.waits else {
            let last = entry.waits.last().filter(|_| entry.state == State::Delayed);
            return last.map_or(Ok(()), |(event, due)| {
                self.did_not_survive(*event, || format!("{} does not wait until {due}", what()))
            });
        };
        let waits = |(_, due): &(Event, u64)| at == now.max(*due);
        let (first, last) = (entry.waits.iter().position(waits), entry.waits.iter().rposition(waits));
        let (Some(first), Some(last)) = (first, last) else {
            let dues: Vec<u64> = entry.waits.iter().map(|(_, due)| *due).collect();
            return Err(format!("{} is ready at {at}, expected {dues:?}, after a start at {now}", what()));
        };
        self.survived(entry.waits[first].0, || format!("{} waits until {at}", what()))?;
        for (event, due) in &entry.waits[last + 1..] {
            self.did_not_survive(*event, || format!("{} is ready at {at} and not at {due}", what()))?;
        }
        Ok(())
    }

    fn exchange(&mut self, exchange: usize, found: Option<u32>) -> Result<(), String> {
        let (lives, name) = (&self.model.exchanges[exchange], EXCHANGES[exchange].name);
        if let Some(number) = found
            && !lives.iter().any(|life| life.durable && life.number == number)
        {
            return Err(format!("exchange '{name}' is there as number {number}, which it never was"));
        }
        for Exchange { number, durable, declared, deleted } in lives {
            let what = || format!("exchange '{name}' number {number}");
            match found {
                _ if !durable => {}
                Some(found) if found == *number => self.is_present(*declared, *deleted, what)?,
                _ => self.is_absent(*declared, *deleted, what)?,
            }
        }
        Ok(())
    }

    fn bindings(&mut self, found: &Found) -> Result<(), String> {
        let known: BTreeSet<(usize, usize, usize)> =
            self.model.bindings.iter().filter(|binding| binding.durable).map(triple).collect();
        for &(exchange, key, queue) in &found.bindings {
            let address = Address { exchange, key };
            if !known.contains(&(exchange, key, queue)) {
                return Err(format!("{} is bound to {address:?} and never was", QUEUES[queue]));
            }
        }
        for of in known {
            self.binding(of, found)?;
        }
        Ok(())
    }

    /// All bindings of one queue to one address.
    fn binding(&mut self, of: (usize, usize, usize), found: &Found) -> Result<(), String> {
        let (exchange, _, queue) = of;
        let what = || format!("the binding of {} to exchange and key {:?}", QUEUES[queue], (of.0, of.1));
        let (there, mut end) = (found.bindings.contains(&of), None);
        // One that led from or to something that is gone, or was another, is gone with it.
        let fits = |binding: &Binding| {
            found.exchanges.get(&exchange) == Some(&binding.exchange_number)
                && found.queues.get(&queue).is_some_and(|queue| queue.number == binding.queue_number)
        };
        let all = self.model.bindings.iter().filter(|binding| binding.durable && triple(binding) == of);
        for binding in all.filter(|binding| fits(binding)) {
            if !there {
                self.is_absent(binding.bound, binding.removed, what)?;
                continue;
            }
            // Between the removal of one and the next there was none.
            match end.replace(binding.removed) {
                None => self.survived(binding.bound, what)?,
                Some(Some(removed)) => self.gap(removed, binding.bound, what),
                Some(None) => {}
            }
        }
        match end {
            None if there => Err(format!("{} is there and should not be", what())),
            Some(Some(removed)) => self.did_not_survive(removed, || format!("{} is there", what())),
            _ => Ok(()),
        }
    }

    fn gap(&mut self, from: Event, to: Event, why: impl Fn() -> String) {
        self.gaps.push((from.seq, to.seq, why()));
    }

    fn verdict(mut self) -> Result<(), String> {
        // What survived and what did not explains some of what is missing, and that may explain more.
        for _ in 0..3 {
            for Doubt { what, enqueued, removed } in std::mem::take(&mut self.doubts) {
                let was_there = match enqueued.unit {
                    Some(unit) => self.votes[unit] == Some(true),
                    None => enqueued.seq < self.low,
                };
                if was_there {
                    self.survived(removed, || what.clone())?;
                } else {
                    self.doubts.push(Doubt { what, enqueued, removed });
                }
            }
        }
        for Doubt { what, enqueued, removed } in std::mem::take(&mut self.doubts) {
            if !self.model.is_late(removed) && !self.model.is_late(enqueued) {
                self.gaps.push((enqueued.seq, removed.seq, what));
            }
        }
        self.gaps.sort();
        let mut cut = self.low;
        let mut why = self.why_low.clone();
        for (begin, end, reason) in &self.gaps {
            if (begin + 1..*end).contains(&cut) {
                (cut, why) = (*end, reason.clone());
            }
        }
        if let Some((_, what)) = self.unflagged.iter().find(|(delivered, _)| *delivered < cut) {
            return Err(format!("{what}, is not flagged, although operations up to {cut} survived ({why})"));
        }
        if cut <= self.high {
            return Ok(());
        }
        Err(format!(
            "operations up to {cut} must have survived ({why}), and those from {} on did not ({})",
            self.high, self.why_high
        ))
    }
}

fn triple(binding: &Binding) -> (usize, usize, usize) {
    (binding.address.exchange, binding.address.key, binding.queue)
}

impl Model {
    /// Times at which something could become ready, from now on.
    pub fn dues(&self, now: u64) -> BTreeSet<u64> {
        let entries = self.queues.iter().flatten().flat_map(|life| &life.entries);
        let dues = entries.flat_map(|entry| entry.waits.iter().map(|(_, due)| now.max(*due)));
        dues.chain([now]).collect()
    }

    /// Goes on with what was found: it is all there is, and durable.
    pub fn adopt(&mut self, found: &Found) {
        self.may_be_over = false;
        self.seq += 1;
        let settled = self.settled();
        let mut bindings = Vec::new();
        for binding in self.bindings.drain(..).filter(|binding| binding.durable) {
            let Some(queue) = found.queues.get(&binding.queue) else { continue };
            let there = found.bindings.contains(&triple(&binding));
            let fits = queue.number == binding.queue_number
                && found.exchanges.get(&binding.address.exchange) == Some(&binding.exchange_number);
            if there && fits && !bindings.iter().any(|other| triple(other) == triple(&binding)) {
                bindings.push(Binding { bound: settled, removed: None, ..binding });
            }
        }
        self.bindings = bindings;
        for (index, lives) in self.exchanges.iter_mut().enumerate() {
            let number = found.exchanges.get(&index);
            lives.retain(|life| Some(&life.number) == number);
            lives.iter_mut().for_each(|life| (life.declared, life.deleted) = (settled, None));
        }
        for (index, lives) in self.queues.iter_mut().enumerate() {
            let there = found.queues.get(&index);
            lives.retain(|life| there.is_some_and(|there| there.number == life.number));
            if let (Some(life), Some(there)) = (lives.last_mut(), there) {
                (life.declared, life.deleted) = (settled, None);
                let waiting = life.adopt(there, settled, found.now, &self.contents);
                self.may_be_over |= waiting.as_ref().is_some_and(|waiting| waiting.may_be_over);
                self.unclear |= waiting.is_some_and(|waiting| waiting.unclear);
            }
        }
        self.side.adopt(found, settled);
        self.units.clear();
        self.outstanding.clear();
        self.confirmed.clear();
        self.seq += 1;
        self.note_all_durable();
    }
}

impl Queue {
    /// Gives what waits of it if that has to be told from what waits for that.
    fn adopt(&mut self, found: &FoundQueue, settled: Event, now: u64, contents: &[Content]) -> Option<Waiting> {
        self.before.extend(self.entries.iter().map(|entry| entry.id));
        let old: BTreeMap<Id, Entry> = self.entries.drain(..).map(|entry| (entry.id, entry)).collect();
        [&mut self.ready, &mut self.waiting, &mut self.delayed].into_iter().for_each(BTreeSet::clear);
        (self.holds, self.consumers, self.used) = (BTreeMap::new(), Vec::new(), now);
        let mut messages: Vec<&FoundMessage> = found.messages.iter().collect();
        messages.sort_by_key(|message| message.position);
        let mut waiting = None;
        if self.rules.groups && messages.iter().any(|message| message.waits.is_some()) {
            // What is damaged may bring messages back that were forgotten.
            let unknown = Entry::new(0, settled, State::Ready);
            let group = |message: &FoundMessage| contents[message.id as usize].group();
            let known = messages
                .iter()
                .map(|message| (old.get(&message.id).unwrap_or(&unknown), *message, group(message).is_some()));
            waiting = Some(Waiting::at_start(&known.collect::<Vec<_>>(), found.waiting, now));
        }
        for (index, message) in messages.into_iter().enumerate() {
            let waits = match &waiting {
                Some(waiting) => waiting.dues[index].map(|due| now.max(due)),
                None => message.waits,
            };
            let state = if waits.is_some() { State::Delayed } else { State::Ready };
            let mut entry = Entry::new(message.id, settled, state);
            (entry.flagged, entry.was_flagged, entry.returned) = (message.flagged, message.flagged, message.returned);
            if let Some(old) = old.get(&message.id) {
                (entry.expires, entry.was_due, entry.moved) = (old.expires, old.was_due, old.moved);
            }
            entry.loose = message.position.is_none();
            if let (Some(at), Some(old)) = (waits, old.get(&message.id)) {
                let dues = old.waits.iter().map(|(_, due)| *due).filter(|due| at == now.max(*due));
                entry.waits.extend(dues.map(|due| (settled, due)));
                // If several have passed, nobody knows which of them was said last, as far as that survived.
                entry.was_due |= entry.waits.len() > 1;
                entry.wakes = entry.waits.last().map(|(_, due)| *due);
            }
            self.entries.push(entry);
            self.note_state(index, state);
        }
        waiting
    }
}
