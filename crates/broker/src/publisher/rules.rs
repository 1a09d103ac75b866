//! Publishing to queues that have rules for it: messages that expire, and queues that are full.

use super::{Appended, Aside, Notes, Own, Route};
use crate::consumers::{Wakes, wake};
use crate::engine::{SharedQueue, VirtualHost};
use crate::error::{Error, Result};
use crate::log::QueueId;
use crate::mailbox::Mailbox;
use crate::message::{Run, body_lengths};
use crate::settings::{Overflow, Settings};
use crate::times::{Time, What};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A message that may live no longer than it takes to hand it out gets so many milliseconds where somebody waits for it.
const AT_ONCE: u64 = 100;

/// When the messages of a run expire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives<'a> {
    /// Milliseconds since 1970.
    pub(crate) now: u64,
    /// Of those with times of their own.
    pub(crate) own: &'a [Own],
}

impl Lives<'_> {
    /// What is to happen to these messages in a queue, and when; `wanted` if somebody waits for them there.
    pub(crate) fn times(&self, queue: &SharedQueue, position: u64, count: u32, wanted: bool, out: &mut Vec<Time>) {
        let (mut own, mut at, settings) = (self.own.iter().peekable(), 0, queue.settings());
        while at < count {
            let (own, until) = match own.next_if(|own| own.number == at) {
                Some(own) => (Some(own), at + 1),
                None => (None, own.peek().map_or(count, |own| own.number.min(count))),
            };
            if let Some((due, what)) = self.time(&settings, own, wanted) {
                let (position, count) = (position + u64::from(at), u64::from(until - at));
                out.push(Time { due, what, queue: queue.number, position, count });
            }
            at = until;
        }
    }

    fn time(&self, settings: &Settings, own: Option<&Own>, wanted: bool) -> Option<(u64, What)> {
        if settings.delays_for.is_some() {
            return Some((self.now + own.and_then(|own| own.delay).unwrap_or(0), What::Wake));
        }
        let life = own.and_then(|own| own.life).into_iter().chain(settings.ttl).min()?;
        Some((self.now + if life == 0 && wanted { AT_ONCE } else { life }, What::Expire))
    }
}

impl Route {
    /// Appends a run to queues of which some have rules.
    pub(super) fn append_by_rules(
        &self,
        run: &mut Run,
        notes: Notes,
        logged: bool,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
    ) -> Appended {
        let lives = Lives { now: vhost.timer().now(), own: &notes.own };
        let mut wakes = Wakes::new();
        let aside = Aside { lives: Some(&lives), seen: &[] };
        let appended = match self.refuses {
            false => self.append_living(run, aside, logged, vhost, publisher, &mut wakes),
            true => self.append_where_room_is(run, &notes, &lives, logged, vhost, publisher),
        };
        wake(wakes);
        run.clear();
        self.drop_excess();
        appended
    }

    /// Appends a run that nobody could be told was refused: a transaction's, or dead letters.
    pub(crate) fn append_in_any_case(&self, run: &mut Run, notes: &Notes, vhost: &VirtualHost, by: &Arc<Mailbox>) {
        let lives = Lives { now: vhost.timer().now(), own: &notes.own };
        let (mut wakes, aside) = (Wakes::new(), Aside { lives: Some(&lives), seen: &[] });
        self.append_living(run, aside, false, vhost, by, &mut wakes);
        wake(wakes);
        self.drop_excess();
    }

    /// Drops what is too much in those of its queues that drop their oldest messages.
    pub(crate) fn drop_excess(&self) {
        self.queues.iter().filter(|queue| queue.drops()).for_each(SharedQueue::drop_excess);
    }

    /// Whether every queue that may refuse has room for a run, and what was meant for it before; 406 if not. `planned`
    /// has the bodies' lengths of that by the queues' numbers.
    pub(crate) fn check_room(&self, run: &Run, planned: &mut FxHashMap<QueueId, Vec<u64>>) -> Result<()> {
        for queue in self.queues.iter().filter(|queue| queue.settings().refuses()) {
            let lengths = planned.entry(queue.number).or_default();
            lengths.extend(body_lengths(run.bytes(), run.count()));
            let room = queue.change(|state| state.room(&queue.settings(), lengths.iter().copied()));
            if (room as usize) < lengths.len() {
                let text = format!(
                    "queue '{}' is full and has no room for the transaction: nothing of it is done",
                    queue.name
                );
                return Err(Error::precondition(text));
            }
        }
        Ok(())
    }

    /// Each queue that may refuse gets what it has room for, the others get all.
    fn append_where_room_is(
        &self,
        run: &mut Run,
        notes: &Notes,
        lives: &Lives<'_>,
        logged: bool,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
    ) -> Appended {
        let (mut appended, mut taken_by_all, mut wakes) = (Appended::default(), run.count(), Wakes::new());
        let (refusing, others): (Vec<_>, Vec<_>) =
            self.queues.iter().cloned().partition(|queue| queue.settings().refuses());
        for queue in refusing {
            let room = queue.change(|state| state.room(&queue.settings(), body_lengths(run.bytes(), run.count())));
            taken_by_all = taken_by_all.min(room);
            if room < run.count() {
                queue.count_refused(u64::from(run.count() - room));
            }
            if room < run.count() && queue.settings().overflow == Overflow::RejectDeadLetter {
                queue.bury_refused(&run.part(room, run.count() - room));
            }
            if room > 0 {
                let route = Route::new([queue].into());
                let own = &lives.own[..lives.own.partition_point(|own| own.number < room)];
                let aside = Aside { lives: Some(&Lives { own, ..*lives }), seen: &[] };
                let mut part = run.part(0, room);
                let part = route.append_living(&mut part, aside, logged, vhost, publisher, &mut wakes);
                appended.join(part);
            }
        }
        if !others.is_empty() {
            let (route, aside) = (Route::new(others.into()), Aside { lives: Some(lives), seen: &[] });
            appended.join(route.append_living(run, aside, logged, vhost, publisher, &mut wakes));
        }
        wake(wakes);
        // Without confirms there is nobody to tell.
        let refused = notes.tags.iter().skip(taken_by_all as usize).filter(|(_, tag)| *tag != 0);
        appended.refused = refused.copied().collect();
        appended
    }
}

impl Appended {
    pub(super) fn join(&mut self, other: Appended) {
        self.crowded |= other.crowded;
        self.lsn = self.lsn.max(other.lsn);
        self.ticket = other.ticket.or(self.ticket.take());
    }
}
