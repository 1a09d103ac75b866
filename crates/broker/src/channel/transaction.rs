//! What a transaction holds back until its commit.

use super::Settled;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::{BLOCK_MAX, Run};
use crate::publisher::{Held, Marks, Notes, Publish, Route};
use std::sync::Arc;

/// Publishes and acks since the last commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// In order of publishing; consecutive messages for the same queues share a run.
    pub(super) runs: Vec<Held>,
    pub(super) settled: Vec<Settled>,
    /// Mandatory messages without a queue: returned at the commit.
    pub(super) unroutable: Run,
    pub(super) messages: usize,
    /// Deliveries that were settled.
    pub(super) acks: u64,
    bytes: usize,
}

impl Transaction {
    /// Where so many deliveries more are to be noted.
    pub(super) fn settled_mut(&mut self, count: u64) -> &mut Vec<Settled> {
        self.acks += count;
        &mut self.settled
    }

    /// Holds a message back. 406 above the limits, so that an open transaction costs a bounded amount of memory.
    pub(super) fn publish(
        &mut self,
        route: &Arc<Route>,
        publish: &Publish<'_>,
        encoded: &[u8],
        marks: &Marks,
        limits: &Limits,
    ) -> Result<()> {
        self.messages += 1;
        self.bytes += publish.body.len() + encoded.len();
        if self.messages > limits.max_transaction_messages || self.bytes > limits.max_transaction_bytes {
            return Err(Error::precondition(format!(
                "transaction is larger than configured max size: {} messages, {} bytes",
                limits.max_transaction_messages, limits.max_transaction_bytes
            )));
        }
        let persistent = publish.properties.delivery_mode == Some(2);
        let run = if route.queues.is_empty() {
            match publish.mandatory {
                true => &mut self.unroutable,
                false => return Ok(()),
            }
        } else {
            let logged = persistent && route.is_durable();
            let fits = |last: &Held| last.logged == logged && last.run.len() < BLOCK_MAX && last.route.is_same(route);
            if !self.runs.last().is_some_and(fits) {
                self.runs.push(Held { route: route.clone(), logged, run: Run::default(), notes: Notes::default() });
            }
            let Some(held) = self.runs.last_mut() else { unreachable!("pushed above") };
            held.notes.note(held.run.count(), &held.route, publish, marks, (0, 0));
            &mut held.run
        };
        run.push(publish.route, encoded, publish.body, persistent);
        Ok(())
    }
}
