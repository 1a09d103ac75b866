//! Who gets the next messages of a queue: grants in rotation and by priority.
//!
//! A consumer says how many messages it may take (its credit). The queue grants its ready messages to consumers; the
//! consumer's connection, told once, pulls what it was granted when its socket can take it. Grants are counts, not
//! messages: who pulls first gets the older ones.

use crate::mailbox::{Event, Mailbox};
use crate::topology::SessionId;
use leveret_wire::table::FieldTable;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Names a consumer within its queue.
pub type ConsumerId = u64;

/// Credit of a consumer without prefetch limit.
pub const UNLIMITED: u64 = u64::MAX;

/// With several consumers on a queue, one is granted at most this many messages before it has pulled them: large
/// enough for a full write, small enough to share.
const TURN: u64 = 512;

/// A consumer may be this many messages ahead of another one that also wants them.
const AHEAD: u64 = 4 * TURN;

/// Connections to tell, once the queue's lock is released.
pub type Wakes = Vec<(Arc<Mailbox>, Event)>;

/// Tells them. To be called without a lock.
pub(crate) fn wake(wakes: Wakes) {
    wakes.into_iter().for_each(|(mailbox, event)| mailbox.post(event));
}

/// The consumers of one queue.
#[derive(Debug, Default)]
pub struct Consumers {
    /// Highest priority first; among equals in order of arrival.
    list: Vec<Entry>,
    /// Sum of all grants.
    granted: u64,
    rotation: usize,
    next_id: ConsumerId,
    exclusive: bool,
    had_one: bool,
    /// Only one at a time gets anything,
    single_active: bool,
    /// and this is it.
    active: Option<ConsumerId>,
    /// Nobody gets anything.
    paused: bool,
}

/// What a consumer could take of a queue whose messages are not for every consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Messages that only this one could take.
    pub(crate) own: u64,
    /// Messages that others could take, too.
    pub(crate) shared: u64,
}

/// Who a consumer is, for those who ask.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) tag: Arc<str>,
    pub(crate) session: SessionId,
    pub(crate) channel: u16,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: FieldTable,
    /// 0 is no limit.
    pub(crate) prefetch: AtomicU64,
    /// Messages that it holds, as its channel has told last.
    pub(crate) unacked: AtomicU64,
}

/// A consumer as its queue sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) identity: Arc<Identity>,
    pub(crate) priority: i32,
    /// It would get messages if there were any; others of the queue come first otherwise.
    pub(crate) active: bool,
}

#[derive(Debug)]
struct Entry {
    id: ConsumerId,
    identity: Option<Arc<Identity>>,
    priority: i32,
    /// May take this many beyond its grant.
    demand: u64,
    granted: u64,
    /// It was told of its grant and has not pulled since.
    told: bool,
    /// Messages taken, set forward to the others' level whenever it begins to want again.
    served: u64,
    mailbox: Arc<Mailbox>,
    event: Event,
}

impl Entry {
    fn wants(&self) -> bool {
        self.demand > 0 || self.granted > 0
    }

    fn level(&self) -> u64 {
        self.served + self.granted
    }

    /// Grants some of its demand, of which it is told if it was not before.
    fn grant(&mut self, grant: u64, wakes: &mut Wakes) {
        if self.demand != UNLIMITED {
            self.demand -= grant;
        }
        self.granted += grant;
        if !self.told {
            self.told = true;
            wakes.push((self.mailbox.clone(), self.event));
        }
    }

    /// Keeps at most so much of its grant.
    fn keep(&mut self, most: u64) {
        if self.granted > most {
            self.demand = self.demand.saturating_add(self.granted - most);
            self.granted = most;
        }
    }
}

impl Consumers {
    /// True without a consumer.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Somebody was granted messages and has not pulled them.
    pub fn has_grants(&self) -> bool {
        self.granted > 0
    }

    /// Messages that were granted and not pulled.
    pub fn granted(&self) -> u64 {
        self.granted
    }

    /// Number of consumers.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// An exclusive consumer is present.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// There was a consumer at some time.
    pub fn had_one(&self) -> bool {
        self.had_one
    }

    /// Somebody would take a message now.
    pub fn is_wanting(&self) -> bool {
        self.list.iter().any(Entry::wants)
    }

    /// From now on one consumer at a time gets messages: the one that came first, until it goes; then the next one, of
    /// the highest priority first.
    pub fn set_single_active(&mut self, single_active: bool) {
        #[cfg(feature = "mutants")]
        let single_active = single_active && !crate::mutants::is_on(crate::mutants::Mutant::AllActive);
        self.single_active = single_active;
    }

    /// Nobody gets anything at present.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Nobody gets anything from now on, or those get something again who would.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        if paused {
            self.revoke_grants();
        }
    }

    /// One consumer at a time gets messages.
    pub fn is_single_active(&self) -> bool {
        self.single_active
    }

    /// Adds a consumer without credit. `event` is what its mailbox gets when there is something to pull.
    pub fn add(&mut self, priority: i32, exclusive: bool, mailbox: Arc<Mailbox>, event: Event) -> ConsumerId {
        self.next_id += 1;
        let entry = Entry {
            id: self.next_id,
            identity: None,
            priority,
            demand: 0,
            granted: 0,
            told: false,
            served: 0,
            mailbox,
            event,
        };
        let at = self.list.partition_point(|other| other.priority >= priority);
        self.list.insert(at, entry);
        self.exclusive = exclusive;
        self.had_one = true;
        // A single consumer's grant has no bound; from now on there is somebody to share with.
        self.revoke_grants();
        self.next_id
    }

    /// Says who a consumer is.
    pub(crate) fn identify(&mut self, id: ConsumerId, identity: Arc<Identity>) {
        if let Some(entry) = self.list.iter_mut().find(|entry| entry.id == id) {
            entry.identity = Some(identity);
        }
    }

    /// Those that have said who they are; those that get messages first come first.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Seen> + '_ {
        let active = self.active.or_else(|| self.list.first().map(|first| first.id));
        self.list.iter().filter_map(move |entry| {
            let active = !self.single_active || active == Some(entry.id);
            Some(Seen { identity: entry.identity.clone()?, priority: entry.priority, active })
        })
    }

    /// The tag of the consumer that alone gets messages, where only one may.
    pub(crate) fn single_active(&self) -> Option<Arc<str>> {
        let active = self.single_active.then(|| self.seen().find(|seen| seen.active)).flatten();
        active.map(|seen| seen.identity.tag.clone())
    }

    /// Removes a consumer; its grant returns to the queue. False if it is not there.
    pub fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(at) = self.list.iter().position(|entry| entry.id == id) else { return false };
        let entry = self.list.remove(at);
        self.granted -= entry.granted;
        self.exclusive = false;
        self.active = self.active.filter(|active| *active != id);
        true
    }

    /// Removes all and gives whom to tell what.
    pub fn drain(&mut self) -> Vec<(Arc<Mailbox>, Event)> {
        self.granted = 0;
        self.exclusive = false;
        self.active = None;
        self.list.drain(..).map(|entry| (entry.mailbox, entry.event)).collect()
    }

    /// Takes all grants back, for the next [`Consumers::grant`] to distribute anew. Who was told already is not told
    /// again before it has pulled, so that nobody's mailbox can be filled by it.
    pub fn revoke_grants(&mut self) {
        for entry in &mut self.list {
            entry.demand = entry.demand.saturating_add(entry.granted);
            entry.granted = 0;
        }
        self.granted = 0;
    }

    /// Sets what a consumer may take in all. What it was granted beyond that returns to the queue.
    pub fn set_credit(&mut self, id: ConsumerId, credit: u64) {
        let Some(at) = self.list.iter().position(|entry| entry.id == id) else { return };
        if !self.list[at].wants() {
            let level = self.level_beside(at);
            let entry = &mut self.list[at];
            entry.served = entry.served.max(level);
        }
        let entry = &mut self.list[at];
        let kept = entry.granted.min(credit);
        self.granted -= entry.granted - kept;
        entry.granted = kept;
        entry.demand = credit - kept;
        entry.told = entry.told && kept > 0;
    }

    /// Where a consumer that begins to want is to start, so that it owes nothing to the others of its priority and
    /// they owe it nothing: the lowest level of those that want. If none does at this moment they are all at work,
    /// and will want again; a lower start than the highest of them would make that one wait for long.
    fn level_beside(&self, at: usize) -> u64 {
        let priority = self.list[at].priority;
        let (mut lowest, mut highest) = (None, 0);
        for (i, entry) in self.list.iter().enumerate() {
            if i != at && entry.priority == priority {
                highest = highest.max(entry.level());
                if entry.wants() {
                    lowest = Some(lowest.unwrap_or(u64::MAX).min(entry.level()));
                }
            }
        }
        lowest.unwrap_or(highest)
    }

    /// What the consumer may pull now.
    pub fn granted_to(&self, id: ConsumerId) -> u64 {
        self.list.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.granted)
    }

    /// Notes that the consumer pulled `taken` of its grant. With none left it is told of the next one.
    pub fn pulled(&mut self, id: ConsumerId, taken: u64) {
        let Some(entry) = self.list.iter_mut().find(|entry| entry.id == id) else { return };
        entry.granted -= taken;
        entry.served += taken;
        entry.told = entry.granted > 0;
        self.granted -= taken;
    }

    /// Distributes what of `ready` is not granted yet: to the highest priority that has room, in rotation, in equal
    /// parts. A lower priority gets something only when no higher one could take it (RabbitMQ's rule).
    pub fn grant(&mut self, ready: u64, wakes: &mut Wakes) {
        // Somebody else took what was granted (basic.get, a purge): a grant of nothing would be pulled for ever.
        if self.granted > ready {
            self.revoke_grants();
        }
        let mut free = ready.saturating_sub(self.granted);
        if self.single_active {
            self.granted += self.grant_active(free, wakes);
            return;
        }
        let cap = if self.list.len() == 1 { UNLIMITED } else { TURN };
        let mut start = 0;
        while free > 0 && start < self.list.len() {
            let priority = self.list[start].priority;
            let len = self.list[start..].iter().take_while(|entry| entry.priority == priority).count();
            let group = &mut self.list[start..start + len];
            let before = free;
            free = grant_group(group, free, cap, &mut self.rotation, wakes);
            self.granted += before - free;
            if group.iter().any(|entry| entry.demand > 0) {
                return;
            }
            start += len;
        }
    }

    /// A consumer has found nothing that it could take: what it was granted returns to the queue.
    pub(crate) fn give_back(&mut self, id: ConsumerId) {
        let Some(entry) = self.list.iter_mut().find(|entry| entry.id == id) else { return };
        self.granted -= entry.granted;
        entry.keep(0);
        entry.told = false;
    }

    /// As [`Consumers::grant`], of a queue in which each consumer has its own reach; `pool` is how many messages more than
    /// one of them could take. Grants are only guesses then: who pulls may find that others were to have the messages.
    pub(crate) fn grant_within(&mut self, pool: u64, reach: impl Fn(ConsumerId) -> Reach, wakes: &mut Wakes) {
        let cap = if self.list.len() == 1 { UNLIMITED } else { TURN };
        let (mut granted, mut shared) = (0, 0);
        for entry in &mut self.list {
            let reach = reach(entry.id);
            entry.keep(reach.own.saturating_add(reach.shared));
            let grant = entry.demand.min(reach.own.min(cap).saturating_sub(entry.granted));
            if grant > 0 {
                entry.grant(grant, wakes);
            }
            granted += entry.granted;
            shared += entry.granted.saturating_sub(reach.own);
        }
        self.granted = granted;
        let room = |entry: &Entry, cap: u64| {
            let Reach { own, shared } = reach(entry.id);
            entry.demand.min(own.saturating_add(shared).min(cap).saturating_sub(entry.granted))
        };
        let (mut free, mut start) = (pool.saturating_sub(shared), 0);
        if self.single_active {
            let Some(active) = self.active_one() else { return };
            self.granted +=
                free - distribute(&mut self.list[active..=active], free, &mut 0, wakes, |it| room(it, UNLIMITED));
            return;
        }
        while free > 0 && start < self.list.len() {
            let priority = self.list[start].priority;
            let len = self.list[start..].iter().take_while(|entry| entry.priority == priority).count();
            let group = &mut self.list[start..start + len];
            let before = free;
            free = distribute(group, free, &mut self.rotation, wakes, |entry| room(entry, cap));
            self.granted += before - free;
            if group.iter().any(|entry| room(entry, UNLIMITED) > 0) {
                return;
            }
            start += len;
        }
    }

    /// Which one is active, if only one may be.
    fn active_one(&mut self) -> Option<usize> {
        let active = *self.active.get_or_insert(self.list.first()?.id);
        self.list.iter().position(|entry| entry.id == active)
    }

    /// Grants to the active consumer; returns how much.
    fn grant_active(&mut self, free: u64, wakes: &mut Wakes) -> u64 {
        let Some(at) = self.active_one() else { return 0 };
        free - grant_group(&mut self.list[at..=at], free, UNLIMITED, &mut 0, wakes)
    }
}

/// Grants up to `free` messages within one priority; returns what is left.
fn grant_group(group: &mut [Entry], free: u64, cap: u64, rotation: &mut usize, wakes: &mut Wakes) -> u64 {
    let limit = match group {
        [_] => UNLIMITED,
        _ => group.iter().filter(|e| e.wants()).map(Entry::level).min().unwrap_or(0).saturating_add(AHEAD),
    };
    let room = |entry: &Entry| match entry.level() < limit {
        true => entry.demand.min(cap.saturating_sub(entry.granted)),
        false => 0,
    };
    distribute(group, free, rotation, wakes, room)
}

/// Grants up to `free` messages in rotation, to each what it has room for; returns what is left.
fn distribute(
    group: &mut [Entry],
    mut free: u64,
    rotation: &mut usize,
    wakes: &mut Wakes,
    room: impl Fn(&Entry) -> u64,
) -> u64 {
    while free > 0 {
        let takers = if free == 1 { 1 } else { group.iter().filter(|entry| room(entry) > 0).count() as u64 };
        let share = free.div_ceil(takers.max(1));
        let (begin, before) = (*rotation, free);
        for i in 0..group.len() {
            let at = (begin + i) % group.len();
            let entry = &mut group[at];
            let grant = room(entry).min(share).min(free);
            if grant == 0 {
                continue;
            }
            entry.grant(grant, wakes);
            free -= grant;
            *rotation = at + 1;
            if free == 0 {
                break;
            }
        }
        if free == before {
            break;
        }
    }
    free
}
