//! Publishes and acknowledgements that take effect together: one unit of the log, whose effects are seen when it is
//! durable.

use super::{SharedQueue, VirtualHost};
use crate::channel::{Settle, Settled};
use crate::consumers::{Wakes, wake};
use crate::dedup::{Dedup, News};
use crate::error::Error;
use crate::log::{Lsn, Part, Place, Stretch, Target, Ticket, Unit};
use crate::mailbox::Mailbox;
use crate::message::Block;
use crate::publisher::{Held, Lives, Own, Route, Sorting, Waiting, check_epochs};
use crate::segment::Places;
use crate::unacked::Outstanding;
use parking_lot::MutexGuard;
use std::sync::{Arc, OnceLock};

/// What remains to be done once the unit is durable.
enum Effect {
    Fill {
        route: Arc<Route>,
        block: Arc<Block>,
        targets: Vec<Target>,
        /// Of messages with times of their own.
        own: Vec<Own>,
        /// In the log; `None` if they are not in it.
        place: Option<Arc<OnceLock<Place>>>,
    },
    Append(Held),
    Settle(Settled),
    /// The log knows of it.
    Forget(Settled),
}

/// What is left of a commit without what was published before.
struct New<'a> {
    runs: Vec<Held>,
    /// What was seen, for the log.
    seen: Vec<u8>,
    /// What the log has to be durable up to, because of what was left out.
    upto: Lsn,
    /// Held until the log has what was seen.
    lock: Option<MutexGuard<'a, Dedup>>,
}

/// Lets publishes and acknowledgements take effect. What it gives tells when they have; without it they have already,
/// because nothing of them is in the log.
///
/// What is rejected and has a dead-letter exchange goes there in the same unit.
///
/// # Errors
/// If the epoch of a producer has ended: then nothing is done, and what was to be settled is given back.
pub(crate) fn commit(
    vhost: &Arc<VirtualHost>,
    mailbox: &Arc<Mailbox>,
    mut runs: Vec<Held>,
    mut settled: Vec<Settled>,
) -> Result<Option<Waiting>, (Error, Vec<Settled>)> {
    let (mut letters, mut dead) = (Vec::new(), Vec::new());
    for (index, Settled { run, how }) in settled.iter().enumerate() {
        if *how == Settle::Reject && run.queue.settings().dead_letters.is_some() {
            run.queue.letters_for_rejected(run.position, run.count, &mut letters);
            // Asked once: a policy may change in between.
            dead.push(index);
        }
    }
    runs.extend(letters);
    let New { runs, seen, upto, mut lock } = match vhost.keep_new(runs) {
        Ok(new) => new,
        Err(error) => return Err((error, settled)),
    };
    for index in dead {
        // It is no acknowledgement of the client's.
        (settled[index].how, settled[index].run.first_tag) = (Settle::Ack, 0);
    }
    let is_logged = |settled: &Settled| settled.run.queue.is_durable() && !settled.how.comes_back();
    let logs = runs.iter().any(|held| held.logged) || !seen.is_empty() || settled.iter().any(is_logged);
    let Some(durable) = vhost.durable.as_ref().filter(|_| logs) else {
        drop(lock);
        runs.into_iter().map(Effect::Append).chain(settled.into_iter().map(Effect::Settle)).for_each(|effect| {
            effect.take(vhost, mailbox);
        });
        return Ok((upto != 0).then(|| Waiting::of_record(upto)));
    };
    let (mut parts, mut effects, mut wakes) = (Vec::new(), Vec::new(), Wakes::new());
    reserve_all(vhost, runs, &mut parts, &mut effects, &mut wakes);
    let mut done = Vec::new();
    for settled in settled {
        if !is_logged(&settled) {
            effects.push(Effect::Settle(settled));
            continue;
        }
        let (queue, position, count) = (settled.run.queue.id, settled.run.position, settled.run.count);
        done.push(Stretch { queue, position, count });
        effects.push(Effect::Forget(settled));
    }
    let has_seen = !seen.is_empty();
    #[cfg(feature = "mutants")]
    if !parts.is_empty() && crate::mutants::is_on(crate::mutants::Mutant::NoMoveDone) {
        done.clear();
    }
    parts.extend((!done.is_empty()).then_some(Part::Done(done)));
    parts.extend(has_seen.then_some(Part::Seen(seen)));
    let (ticket, vhost, own): (Arc<Ticket>, _, _) = (Arc::default(), vhost.clone(), mailbox.clone());
    let then = Box::new(move || effects.into_iter().for_each(|effect| effect.take(&vhost, &own)));
    durable.store.log.unit(Unit { parts, then: Some(then), ticket: ticket.clone(), mailbox: mailbox.clone() });
    if let Some(lock) = lock.as_mut().filter(|_| has_seen) {
        // A log that has failed gives none, and confirms nothing more.
        lock.note_record(ticket.lsn().unwrap_or(Lsn::MAX));
    }
    drop(lock);
    wake(wakes);
    Ok(Some(Waiting::of(ticket)))
}

/// Gives the messages of durable queues their positions.
fn reserve_all(
    vhost: &VirtualHost,
    runs: Vec<Held>,
    parts: &mut Vec<Part>,
    effects: &mut Vec<Effect>,
    wakes: &mut Wakes,
) {
    let (now, mut times) = (vhost.timer().now(), Vec::new());
    for mut held in runs {
        if !held.route.is_durable() {
            effects.push(Effect::Append(held));
            continue;
        }
        let (block, own) = (held.run.seal(vhost.account()), held.notes.own);
        let (targets, due) = held.route.reserve(block.count(), Some(&Lives { now, own: &own }), wakes);
        let place = held.logged.then(Arc::<OnceLock<Place>>::default);
        // Transient ones get their places now, too: between persistent ones for the same queue they must stay in order.
        if let Some(place) = &place {
            times.extend(due);
            parts.push(Part::Enqueue { block: block.clone(), targets: targets.clone(), place: Arc::clone(place) });
        }
        effects.push(Effect::Fill { route: held.route, block, targets, own, place });
    }
    parts.extend((!times.is_empty()).then_some(Part::Times(times)));
}

impl VirtualHost {
    /// Leaves out what was published before, and remembers the rest. 406 if the epoch of a producer has ended.
    fn keep_new(&self, runs: Vec<Held>) -> crate::Result<New<'_>> {
        if !runs.iter().any(Held::is_guarded) {
            return Ok(New { runs, seen: Vec::new(), upto: 0, lock: None });
        }
        let (mut lock, mut news, mut kept) = (self.dedup().lock(), News::default(), Vec::new());
        check_epochs(&runs, &lock)?;
        let (mut duplicates, mut fences) = (false, false);
        let mut sorting = Sorting { now: self.timer().now(), logged: false, dedup: &mut lock, news: &mut news };
        for held in runs {
            match held.is_guarded() {
                true => {
                    let sorted = held.keep_new(&mut sorting, &mut kept);
                    duplicates |= sorted.duplicates;
                    fences |= sorted.fences();
                }
                false => kept.push(held),
            }
        }
        if fences {
            self.dedup().fence();
        }
        let (seen, upto) = (lock.say(&news), if duplicates { lock.upto() } else { 0 });
        Ok(New { runs: kept, seen, upto, lock: Some(lock) })
    }
}

impl Effect {
    fn take(self, vhost: &VirtualHost, publisher: &Arc<Mailbox>) {
        match self {
            Effect::Fill { route, block, targets, own, place } => {
                let at = place.map(|place| *place.get().expect("what is durable has its place"));
                let places = at.map_or(Places::Nowhere, |at| Places::At(vec![(0, at)]));
                let lives = Lives { now: vhost.timer().now(), own: &own };
                let mut wakes = Wakes::new();
                route.fill(&block, &targets, Some(&lives), &places, publisher, &mut wakes);
                wake(wakes);
                route.drop_excess();
            }
            Effect::Append(mut held) => {
                held.route.append_in_any_case(&mut held.run, &held.notes, vhost, publisher);
            }
            Effect::Settle(settled) => settled.run.settle(settled.how, |_| ()),
            Effect::Forget(Settled { run, how }) => {
                run.queue.change(|queue| {
                    if how == Settle::Ack && run.first_tag != 0 {
                        queue.gauges.counters.acked += run.count;
                    }
                    queue.ack_logged(run.position, run.count);
                });
            }
        }
    }
}

impl SharedQueue {
    /// Handed-out messages of this queue, as a channel would settle them.
    pub(super) fn outstanding(self: &Arc<Self>, position: u64, count: u64) -> Outstanding {
        Outstanding { first_tag: 0, count, position, queue: self.clone(), consumer: None }
    }
}
