//! Publishing to queues that have rules for it: messages that expire, and queues that are full.

use super::{Appended, Notes, Route};
use crate::engine::{SharedQueue, VirtualHost};
use crate::mailbox::Mailbox;
use crate::message::{Run, body_lengths};
use crate::settings::{Overflow, Settings};
use crate::times::{Time, What};
use std::sync::Arc;

/// A message that may live no longer than it takes to hand it out gets so many milliseconds where somebody waits for it.
const AT_ONCE: u64 = 100;

/// When the messages of a run expire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives<'a> {
    /// Milliseconds since 1970.
    pub(crate) now: u64,
    /// Of those with a time of their own, their number in the run and how many milliseconds they may live.
    pub(crate) own: &'a [(u32, u64)],
}

impl Lives<'_> {
    /// When these messages expire in a queue; `wanted` if somebody waits for them there.
    pub(crate) fn times(&self, queue: &SharedQueue, position: u64, count: u32, wanted: bool, out: &mut Vec<Time>) {
        let (ttl, mut own, mut at) = (queue.settings.ttl, self.own.iter().peekable(), 0);
        while at < count {
            let (life, until) = match own.next_if(|(number, _)| *number == at) {
                Some((_, life)) => (Some(ttl.map_or(*life, |ttl| ttl.min(*life))), at + 1),
                None => (ttl, own.peek().map_or(count, |(number, _)| *number)),
            };
            if let Some(life) = life {
                let due = self.now + if life == 0 && wanted { AT_ONCE } else { life };
                let next = Time {
                    due,
                    what: What::Expire,
                    queue: queue.number,
                    position: position + u64::from(at),
                    count: u64::from(until - at),
                };
                match out.last_mut() {
                    Some(last)
                        if (last.due, last.queue, last.position + last.count) == (due, next.queue, next.position) =>
                    {
                        last.count += next.count;
                    }
                    _ => out.push(next),
                }
            }
            at = until;
        }
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
        let lives = Lives { now: vhost.timer().now(), own: &notes.lives };
        let appended = match self.refuses {
            false => self.append_living(run, Some(&lives), logged, vhost, publisher),
            true => self.append_where_room_is(run, &notes, &lives, logged, vhost, publisher),
        };
        run.clear();
        self.drop_excess();
        appended
    }

    /// Appends a run that nobody could be told was refused: a transaction's, or dead letters.
    pub(crate) fn append_in_any_case(&self, run: &mut Run, notes: &Notes, vhost: &VirtualHost, by: &Arc<Mailbox>) {
        let lives = Lives { now: vhost.timer().now(), own: &notes.lives };
        self.append_living(run, Some(&lives), false, vhost, by);
        self.drop_excess();
    }

    /// Drops what is too much in those of its queues that drop their oldest messages.
    pub(crate) fn drop_excess(&self) {
        if self.special {
            let drops = |settings: &Settings| settings.is_limited() && settings.overflow == Overflow::DropHead;
            self.queues.iter().filter(|queue| drops(&queue.settings)).for_each(SharedQueue::drop_excess);
        }
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
        let (mut appended, mut taken_by_all) = (Appended::default(), run.count());
        let (refusing, others): (Vec<_>, Vec<_>) =
            self.queues.iter().cloned().partition(|queue| queue.settings.refuses());
        for queue in refusing {
            let room = queue.change(|state| state.room(&queue.settings, body_lengths(run.bytes(), run.count())));
            taken_by_all = taken_by_all.min(room);
            if room < run.count() && queue.settings.overflow == Overflow::RejectDeadLetter {
                queue.bury_refused(&run.part(room, run.count() - room));
            }
            if room > 0 {
                let route = Route::new([queue].into());
                let own = &lives.own[..lives.own.partition_point(|(number, _)| *number < room)];
                let lives = Lives { own, ..*lives };
                let part = route.append_living(&mut run.part(0, room), Some(&lives), logged, vhost, publisher);
                appended.join(part);
            }
        }
        if !others.is_empty() {
            appended.join(Route::new(others.into()).append_living(run, Some(lives), logged, vhost, publisher));
        }
        // Without confirms there is nobody to tell.
        let refused = notes.tags.iter().skip(taken_by_all as usize).filter(|(_, tag)| *tag != 0);
        appended.refused = refused.copied().collect();
        appended
    }
}

impl Appended {
    fn join(&mut self, other: Appended) {
        self.crowded |= other.crowded;
        self.lsn = self.lsn.max(other.lsn);
        self.ticket = other.ticket.or(self.ticket.take());
    }
}
