//! Who may take which messages of a queue: groups, filters of consumers, the one consumer that is active.

use crate::content::{Content, GROUPS};
use crate::history::Reason;
use crate::judge::{FoundMessage, Trial};
use crate::model::{Entry, Event, Model, Place, Queue, State, UnitId};

/// Who takes messages, and holds the keys of their groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// By basic.get: a connection's index and that of its channel.
    Channel(usize, usize),
    /// A connection's index, and its number for the consumer.
    Consumer(usize, u32),
}

/// One that takes messages.
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    pub holder: Holder,
    /// Index of its filter.
    pub filter: usize,
}

/// What consumers may ask for; the first one is anything.
pub const FILTERS: [&str; 5] = [
    "",
    "attributes:note",
    "properties:content_type",
    "attributes.group = \"1\" OR attributes.group = \"2\"",
    "NOT attributes.x-first-death-reason = \"rejected\"",
];

/// Whether a filter of that index takes a message.
fn matches(filter: usize, content: &Content) -> bool {
    match filter {
        1 => content.has_note(),
        2 => content.has_type(),
        3 => matches!(content.group(), Some(1 | 2)),
        4 => content.history().first.is_none_or(|(_, reason)| reason != Reason::Rejected),
        _ => true,
    }
}

impl Model {
    /// Whether this one may take this entry of a queue now.
    pub fn may_take<'a>(&'a self, life: &'a Queue, taker: Taker) -> impl Fn(usize) -> bool + 'a {
        let closed = self.closed(life, taker.holder);
        let waits_its_turn = life.rules.single_active
            && matches!(taker.holder, Holder::Consumer(..))
            && life.consumers.first() != Some(&taker.holder);
        move |entry| {
            let content = &self.contents[life.entries[entry].id as usize];
            !waits_its_turn && matches(taker.filter, content) && closed & group_bit(content) == 0
        }
    }

    /// The groups, as bits, of which this one may take nothing: others have messages of them, or one of them waits for its
    /// next attempt.
    fn closed(&self, life: &Queue, taker: Holder) -> u32 {
        if !life.rules.groups {
            return 0;
        }
        let of_others = life.holds.iter().filter(|(_, holder)| **holder != taker).map(|(entry, _)| entry);
        let bits = of_others.chain(&life.delayed).map(|&entry| self.content(life, entry)).map(group_bit);
        bits.fold(0, |bits, bit| bits | bit)
    }

    fn content(&self, life: &Queue, entry: usize) -> &Content {
        &self.contents[life.entries[entry].id as usize]
    }

    /// A message was handed out: its key is held until it is settled.
    pub fn hold(&mut self, place: Place, holder: Holder) {
        let life = self.queue_mut(place.queue).filter(|life| life.number == place.number && life.rules.groups);
        life.into_iter().for_each(|life| _ = life.holds.insert(place.entry, holder));
    }

    /// What was settled by a transaction or a move does not hold its key any more.
    pub fn release_keys(&mut self, unit: UnitId) {
        for life in self.queues.iter_mut().filter_map(|lives| lives.last_mut()).filter(|life| !life.holds.is_empty()) {
            let Queue { holds, entries, .. } = life;
            holds.retain(|entry, _| entries[*entry].removed.and_then(|event| event.unit) != Some(unit));
        }
    }

    /// A consumer of the queue with this number has come.
    pub fn add_consumer(&mut self, queue: usize, holder: Holder) {
        self.touch(queue);
        self.queue_mut(queue).into_iter().for_each(|life| life.consumers.push(holder));
    }

    /// A consumer of the queue with this number has gone.
    pub fn remove_consumer(&mut self, queue: usize, number: u32, holder: Holder) {
        if let Some(life) = self.queue_mut(queue).filter(|life| life.number == number) {
            life.consumers.retain(|other| *other != holder);
            self.touch(queue);
        }
    }
}

fn group_bit(content: &Content) -> u32 {
    content.group().map_or(0, |group| 1 << group)
}

/// Messages of one group as they were found.
type Members<'a> = Vec<(&'a Entry, FoundMessage)>;

impl Trial<'_> {
    /// A group waits as a whole, until the last of its messages is ready that wait for their next attempt.
    pub fn group_waits(
        &mut self,
        name: &str,
        life: &Queue,
        seen: &[Option<FoundMessage>],
        now: u64,
    ) -> Result<(), String> {
        for group in (1..=GROUPS).filter(|_| life.rules.groups) {
            let found = life.entries.iter().zip(seen).filter_map(|(entry, seen)| Some((entry, (*seen)?)));
            let is_of = |id: u32| self.model.contents[id as usize].group() == Some(group);
            let members: Members = found.filter(|(entry, _)| is_of(entry.id)).collect();
            self.group_wait(name, &members, now)?;
        }
        Ok(())
    }

    fn group_wait(&mut self, name: &str, members: &Members<'_>, now: u64) -> Result<(), String> {
        let Some(&(first, FoundMessage { waits: at, .. })) = members.first() else { return Ok(()) };
        if let Some((other, seen)) = members.iter().find(|(_, seen)| seen.waits != at) {
            let (a, b) = (first.id, other.id);
            return Err(format!("message {a} in {name} is given at {at:?}, and {b} of its group at {:?}", seen.waits));
        }
        // What waits longer than that does not.
        let last = members.iter().filter(|(entry, _)| entry.state == State::Delayed);
        let last: Vec<(u32, Event, u64)> =
            last.filter_map(|(entry, _)| entry.waits.last().map(|&(event, due)| (entry.id, event, due))).collect();
        for (id, event, due) in last.into_iter().filter(|(.., due)| at.is_none_or(|at| now.max(*due) > at)) {
            self.did_not_survive(event, || format!("message {id} in {name} does not wait until {due}"))?;
        }
        let Some(at) = at else { return Ok(()) };
        let waits = members.iter().flat_map(|(entry, _)| entry.waits.iter().map(|wait| (entry.id, *wait)));
        let fitting: Vec<_> = waits.filter(|(_, (_, due))| now.max(*due) == at).collect();
        match fitting[..] {
            [] => Err(format!("the group of message {} in {name} waits until {at}, and nothing does so", first.id)),
            [(id, (event, _))] => self.survived(event, || format!("message {id} in {name} waits until {at}")),
            _ => Ok(()),
        }
    }
}

/// What waits of a queue with groups after a start, where the others of each group wait as well.
pub struct Waiting {
    /// By index in what was found.
    pub dues: Vec<Option<u64>>,
    /// Some of it may be ready already; all is by what happens at the time of the start.
    pub may_be_over: bool,
    /// It cannot be told.
    pub unclear: bool,
}

impl Waiting {
    /// From what was known and what was found of each message; `count` of them wait.
    pub fn at_start(messages: &[(&Entry, &FoundMessage, bool)], count: u64, now: u64) -> Waiting {
        let mut waiting = Waiting { dues: Vec::new(), may_be_over: false, unclear: false };
        // They were ready again, which may be forgotten; a clock that was set back makes them wait again.
        let (mut doubtful, mut over) = (Vec::new(), 0);
        for (index, (entry, seen, in_group)) in messages.iter().enumerate() {
            let fits = |due: &u64| seen.waits.is_some_and(|at| now.max(*due) == at || *in_group && now.max(*due) < at);
            let due = match in_group {
                false => entry.waits.iter().rev().map(|(_, due)| *due).find(fits),
                true => last_wait(entry, seen).filter(fits),
            };
            let is_last = due == entry.waits.last().map(|(_, due)| *due);
            match due {
                Some(due) if *in_group && !(is_last && entry.state == State::Delayed) => match due <= now {
                    true => over += 1,
                    false => doubtful.push(index),
                },
                _ => {}
            }
            waiting.dues.push(due);
        }
        waiting.may_be_over = over > 0;
        let most = waiting.dues.iter().flatten().count() as u64;
        if count + doubtful.len() as u64 == most && over == 0 {
            doubtful.into_iter().for_each(|index| waiting.dues[index] = None);
        } else {
            // Of what was being written at a crash, a return may have survived without its wait.
            waiting.unclear = count > most || count < most && (!doubtful.is_empty() || count + over < most);
        }
        waiting
    }
}

/// Until when a message waits that came back as often as it says.
fn last_wait(entry: &Entry, seen: &FoundMessage) -> Option<u64> {
    let survived = seen.returned.checked_sub(entry.returned)? as usize;
    let last = survived.checked_sub(1).map(|last| entry.returns.get(last).map(|event| event.seq));
    let is_last = |(event, _): &&(Event, u64)| match last {
        None => event.certain,
        Some(last) => !event.certain && Some(event.seq) == last,
    };
    entry.waits.iter().rfind(is_last).map(|(_, due)| *due)
}
