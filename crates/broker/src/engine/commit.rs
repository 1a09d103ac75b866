//! Publishes and acknowledgements that take effect together: one unit of the log, whose effects are seen when it is
//! durable.

use super::{SharedQueue, VirtualHost};
use crate::channel::{Settle, Settled};
use crate::log::{Part, Place, Stretch, Target, Ticket, Unit};
use crate::mailbox::Mailbox;
use crate::message::Block;
use crate::publisher::{Held, Lives, Own, Route};
use crate::segment::Places;
use crate::unacked::Outstanding;
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

/// Lets publishes and acknowledgements take effect. The ticket tells when they have; without one they have already,
/// because nothing of them is in the log.
///
/// What is rejected and has a dead-letter exchange goes there in the same unit.
pub(crate) fn commit(
    vhost: &Arc<VirtualHost>,
    mailbox: &Arc<Mailbox>,
    mut runs: Vec<Held>,
    mut settled: Vec<Settled>,
) -> Option<Arc<Ticket>> {
    for Settled { run, how } in &mut settled {
        if *how == Settle::Reject && run.queue.settings.dead_letters.is_some() {
            run.queue.letters_for_rejected(run.position, run.count, &mut runs);
            *how = Settle::Ack;
        }
    }
    let is_logged = |settled: &Settled| settled.run.queue.is_durable() && !settled.how.comes_back();
    let durable =
        vhost.durable.as_ref().filter(|_| runs.iter().any(|held| held.logged) || settled.iter().any(is_logged));
    let Some(durable) = durable else {
        runs.into_iter().map(Effect::Append).chain(settled.into_iter().map(Effect::Settle)).for_each(|effect| {
            effect.take(vhost, mailbox);
        });
        return None;
    };
    let (mut parts, mut effects, mut done, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let now = vhost.timer().now();
    for mut held in runs {
        if !held.route.is_durable() {
            effects.push(Effect::Append(held));
            continue;
        }
        let (block, own) = (held.run.seal(vhost.account()), held.notes.own);
        let (targets, due) = held.route.reserve(block.count(), Some(&Lives { now, own: &own }));
        let place = held.logged.then(Arc::<OnceLock<Place>>::default);
        // Transient ones get their places now, too: between persistent ones for the same queue they must stay in order.
        if let Some(place) = &place {
            times.extend(due);
            parts.push(Part::Enqueue { block: block.clone(), targets: targets.clone(), place: Arc::clone(place) });
        }
        effects.push(Effect::Fill { route: held.route, block, targets, own, place });
    }
    for settled in settled {
        if !is_logged(&settled) {
            effects.push(Effect::Settle(settled));
            continue;
        }
        let (queue, position, count) = (settled.run.queue.id, settled.run.position, settled.run.count);
        done.push(Stretch { queue, position, count });
        effects.push(Effect::Forget(settled));
    }
    #[cfg(feature = "mutants")]
    if !parts.is_empty() && crate::mutants::is_on(crate::mutants::Mutant::NoMoveDone) {
        done.clear();
    }
    parts.extend((!times.is_empty()).then_some(Part::Times(times)));
    parts.extend((!done.is_empty()).then_some(Part::Done(done)));
    let (ticket, vhost, own): (Arc<Ticket>, _, _) = (Arc::default(), vhost.clone(), mailbox.clone());
    let then = Box::new(move || effects.into_iter().for_each(|effect| effect.take(&vhost, &own)));
    durable.store.log.unit(Unit { parts, then: Some(then), ticket: ticket.clone(), mailbox: mailbox.clone() });
    Some(ticket)
}

impl Effect {
    fn take(self, vhost: &VirtualHost, publisher: &Arc<Mailbox>) {
        match self {
            Effect::Fill { route, block, targets, own, place } => {
                let at = place.map(|place| *place.get().expect("what is durable has its place"));
                let places = at.map_or(Places::Nowhere, |at| Places::At(vec![(0, at)]));
                let lives = Lives { now: vhost.timer().now(), own: &own };
                route.fill(&block, &targets, Some(&lives), &places, publisher);
                route.drop_excess();
            }
            Effect::Append(mut held) => {
                held.route.append_in_any_case(&mut held.run, &held.notes, vhost, publisher);
            }
            Effect::Settle(settled) => settled.run.settle(settled.how, |_| ()),
            Effect::Forget(Settled { run, .. }) => {
                run.queue.change(|queue| queue.ack_logged(run.position, run.count));
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
