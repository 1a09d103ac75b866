//! What queues should hold, now and after a crash: plain lists, no files, no log.

use std::collections::{BTreeMap, BTreeSet};

/// Number of a message; no two are the same, and later ones are higher.
pub type Id = u32;

/// A queue, and where in it.
pub type Place = (usize, u64);

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: Id,
    pub persistent: bool,
    pub state: State,
    /// Whether it is flagged when it is handed out next.
    pub flag: Flag,
    /// How often it was returned.
    pub returned: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// With a channel, or with a transaction.
    Held,
    /// Its transaction is not durable yet.
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    No,
    /// The log reserves ahead what may have been handed out.
    Maybe,
    Yes,
}

#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub durable: bool,
    /// By place, which ascends with the time at which it was given out.
    pub entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Somebody consumes, or something was taken, since the last start.
    pub touched: bool,
}

/// All queues at a moment.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    pub all: Vec<Queue>,
    /// Large messages whose pieces are written over several rounds: after a crash they may be there or not.
    pub late: BTreeSet<Id>,
}

/// A message as a broker hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: Id,
    pub redelivered: bool,
    pub returned: u64,
}

impl Queue {
    pub fn ready(&self) -> u64 {
        self.entries.values().filter(|entry| entry.state == State::Ready).count() as u64
    }
}

impl Queues {
    /// Appends a message to some queues.
    pub fn append(&mut self, to: &[usize], id: Id, persistent: bool, state: State) -> Vec<Place> {
        let append = |&at: &usize| {
            let queue = &mut self.all[at];
            let entry = Entry { id, persistent, state, flag: Flag::No, returned: 0 };
            queue.entries.insert(queue.next, entry);
            queue.next += 1;
            (at, queue.next - 1)
        };
        to.iter().map(append).collect()
    }

    pub fn entry(&mut self, (queue, at): Place) -> &mut Entry {
        self.all[queue].entries.get_mut(&at).expect("nobody else could remove it")
    }

    pub fn remove(&mut self, (queue, at): Place) {
        self.all[queue].entries.remove(&at).expect("nobody else could remove it");
    }

    pub fn requeue(&mut self, place: Place) {
        let entry = self.entry(place);
        entry.state = State::Ready;
        entry.returned += 1;
    }

    /// A message is handed out: it must be the first ready one, and flagged if it was handed out before.
    pub fn hand_out(&mut self, at: usize, seen: Seen) -> Place {
        let queue = &mut self.all[at];
        queue.touched = true;
        let first = queue.entries.iter_mut().find(|(_, entry)| entry.state == State::Ready);
        let (&place, entry) = first.expect("what is handed out should be ready");
        assert_eq!((seen.id, seen.returned), (entry.id, entry.returned), "the first ready message, and its returns");
        let fits = entry.flag == Flag::Maybe || seen.redelivered == (entry.flag == Flag::Yes);
        assert!(fits, "message {} is redelivered: {}, expected {:?}", seen.id, seen.redelivered, entry.flag);
        (entry.state, entry.flag) = (State::Held, Flag::Yes);
        (at, place)
    }

    /// Drops what is ready; returns how much that was.
    pub fn purge(&mut self, at: usize) -> u64 {
        let ready = self.all[at].ready();
        self.all[at].entries.retain(|_, entry| entry.state != State::Ready);
        ready
    }

    /// What a start must find if this is what was written: without queues and messages that are not durable, nothing
    /// held by anybody, and nothing returned by that.
    pub fn restart(mut self) -> Queues {
        for queue in &mut self.all {
            let touched = std::mem::take(&mut queue.touched);
            queue.entries.retain(|_, entry| queue.durable && entry.persistent && entry.state != State::Hidden);
            for entry in queue.entries.values_mut() {
                entry.state = State::Ready;
                if touched && entry.flag == Flag::No {
                    entry.flag = Flag::Maybe;
                }
            }
        }
        self
    }

    /// Compares with what a start has found, queue by queue; takes over what is left open: which of the large messages are
    /// there, and which are flagged although they need not be.
    pub fn judge(&mut self, found: &[Vec<Seen>]) {
        let there: BTreeSet<Id> = found.iter().flatten().map(|seen| seen.id).collect();
        let lost: BTreeSet<Id> = std::mem::take(&mut self.late).difference(&there).copied().collect();
        for (at, (queue, found)) in self.all.iter_mut().zip(found).enumerate() {
            queue.entries.retain(|_, entry| !lost.contains(&entry.id));
            let expected: Vec<_> = queue.entries.values().map(|entry| (entry.id, entry.returned)).collect();
            let seen: Vec<_> = found.iter().map(|seen| (seen.id, seen.returned)).collect();
            assert_eq!(seen, expected, "messages and returns in queue {at} after a restart");
            for (entry, seen) in queue.entries.values_mut().zip(found) {
                let flag = if seen.redelivered { Flag::Yes } else { Flag::No };
                let fits = entry.flag == Flag::Maybe || entry.flag == flag;
                assert!(fits, "message {} in queue {at} is flagged: {flag:?}, expected {:?}", entry.id, entry.flag);
                entry.flag = flag;
            }
        }
    }
}
