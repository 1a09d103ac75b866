//! A commit on its way through the log: one unit, whose effects are seen when it is durable.

use super::transaction::Held;
use super::{Settle, Settled};
use crate::engine::VirtualHost;
use crate::log::{Log, Part, Place, Stretch, Target, Ticket, Unit};
use crate::mailbox::Mailbox;
use crate::message::Block;
use crate::publisher::Route;
use crate::segment::Places;
use crate::session::Session;
use std::sync::{Arc, OnceLock};

/// What remains to be done once the unit is durable.
enum Effect {
    Fill {
        route: Arc<Route>,
        block: Arc<Block>,
        targets: Vec<Target>,
        /// In the log; `None` if they are not in it.
        place: Option<Arc<OnceLock<Place>>>,
    },
    Append(Held),
    Settle(Settled),
    /// The log knows of it.
    Forget(Settled),
}

/// Appends a transaction to the log. The ticket tells when it is committed.
pub(super) fn append(log: &Log, session: &Session, runs: Vec<Held>, settled: Vec<Settled>) -> Arc<Ticket> {
    let (mut parts, mut effects, mut done) = (Vec::new(), Vec::new(), Vec::new());
    for mut held in runs {
        if !held.route.is_durable() {
            effects.push(Effect::Append(held));
            continue;
        }
        let block = held.run.seal(session.vhost.account());
        let (targets, place) = (held.route.reserve(block.count()), Arc::default());
        if !held.logged {
            // They get their places now, too: between persistent ones for the same queue they must stay in order.
            effects.push(Effect::Fill { route: held.route, block, targets, place: None });
            continue;
        }
        parts.push(Part::Enqueue { block: block.clone(), targets: targets.clone(), place: Arc::clone(&place) });
        effects.push(Effect::Fill { route: held.route, block, targets, place: Some(place) });
    }
    for settled in settled {
        let dead_letters = settled.how == Settle::Reject && settled.run.queue.has_dead_letters();
        if !settled.run.queue.is_durable() || settled.how == Settle::Requeue || dead_letters {
            effects.push(Effect::Settle(settled));
            continue;
        }
        let (queue, position, count) = (settled.run.queue.id, settled.run.position, settled.run.count);
        done.push(Stretch { queue, position, count });
        effects.push(Effect::Forget(settled));
    }
    if !done.is_empty() {
        parts.push(Part::Done(done));
    }
    let (ticket, vhost, mailbox): (Arc<Ticket>, _, _) =
        (Arc::default(), session.vhost.clone(), session.mailbox.clone());
    let own = mailbox.clone();
    let then = Box::new(move || effects.into_iter().for_each(|effect| effect.take(&vhost, &own)));
    log.unit(Unit { parts, then: Some(then), ticket: ticket.clone(), mailbox });
    ticket
}

impl Effect {
    fn take(self, vhost: &VirtualHost, publisher: &Arc<Mailbox>) {
        match self {
            Effect::Fill { route, block, targets, place } => {
                let at = place.map(|place| *place.get().expect("what is durable has its place"));
                let places = at.map_or(Places::Nowhere, |at| Places::At(vec![(0, at)]));
                route.fill(&block, &targets, &places, publisher);
            }
            Effect::Append(mut held) => {
                held.route.append(&mut held.run, false, vhost, publisher);
            }
            Effect::Settle(settled) => settled.run.settle(settled.how, |_| ()),
            Effect::Forget(Settled { run, .. }) => {
                run.queue.change(|queue| queue.ack_logged(run.position, run.count));
            }
        }
    }
}
