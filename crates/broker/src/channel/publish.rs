//! Publishing: plain, confirmed or in a transaction.

use super::transaction::Transaction;
use super::{Channel, Mode, REPLY_TO};
use crate::error::{Error, Result};
use crate::publisher::{Publish, Published, rewrite};
use crate::session::Session;

impl Channel {
    /// Takes a message. It is in its queues after [`Session::flush`], or after the commit of a transaction.
    #[inline]
    pub fn publish(&mut self, session: &mut Session, publish: &Publish<'_>) -> Result<Published> {
        session.publisher.resolve(publish)?;
        if let Mode::Confirm { published, .. } = &mut self.mode {
            *published += 1;
        }
        let rewritten = match publish.properties.headers.is_some() || publish.properties.reply_to == Some(REPLY_TO) {
            true => self.rewritten(publish)?,
            false => None,
        };
        let encoded = rewritten.as_deref().unwrap_or(publish.encoded);
        if let Mode::Transaction(transaction) = &mut self.mode {
            transaction.publish(session.publisher.route(), publish, encoded, session.broker.limits())?;
            return Ok(Published::Routed);
        }
        if session.publisher.route().queues.is_empty() {
            return Ok(Published::Unroutable);
        }
        session.publisher.push(publish, encoded);
        Ok(Published::Routed)
    }

    fn rewritten(&self, publish: &Publish<'_>) -> Result<Option<Vec<u8>>> {
        let reply_to = match (publish.properties.reply_to == Some(REPLY_TO), &self.reply_queue) {
            (false, _) => None,
            (true, Some(queue)) => Some(&*queue.name),
            (true, None) => return Err(Error::precondition("fast reply consumer does not exist")),
        };
        Ok(rewrite(&publish.properties, reply_to))
    }

    /// Turns on publisher confirms. 406 in a transaction.
    pub fn select_confirm(&mut self) -> Result<()> {
        match self.mode {
            Mode::Transaction(_) => Err(Error::precondition("cannot switch from tx to confirm mode")),
            Mode::Confirm { .. } => Ok(()),
            Mode::Plain => {
                self.mode = Mode::Confirm { published: 0, confirmed: 0 };
                Ok(())
            }
        }
    }

    /// Publisher confirms are on.
    pub fn confirms(&self) -> bool {
        matches!(self.mode, Mode::Confirm { .. })
    }

    /// What can be confirmed now: the highest tag, and whether it stands for several. To be called after
    /// [`Session::flush`], and after [`crate::Event::Durable`] as long as [`Channel::awaits_log`].
    pub fn take_confirm(&mut self, _session: &Session) -> Option<(u64, bool)> {
        match &mut self.mode {
            Mode::Confirm { published, confirmed } if published != confirmed => {
                let multiple = *published - *confirmed > 1;
                *confirmed = *published;
                Some((*published, multiple))
            }
            _ => None,
        }
    }

    /// Starts transactions. 406 in confirm mode.
    pub fn select_transaction(&mut self) -> Result<()> {
        match self.mode {
            Mode::Confirm { .. } => Err(Error::precondition("cannot switch from confirm to tx mode")),
            Mode::Transaction(_) => Ok(()),
            Mode::Plain => {
                self.apply_settled();
                self.mode = Mode::Transaction(Box::default());
                Ok(())
            }
        }
    }

    /// Makes the publishes and acks since the last commit take effect, all of them. Calls `returned` with each
    /// mandatory message that no queue takes. 406 without [`Channel::select_transaction`].
    ///
    /// True if it is done. False if the log has to be durable first: [`Channel::take_committed`] tells when, after
    /// [`crate::Event::Durable`]. Until then nothing else that is answered should be done on this channel.
    pub fn commit(
        &mut self,
        session: &mut Session,
        mut returned: impl FnMut(crate::message::Message<'_>),
    ) -> Result<bool> {
        let Transaction { mut runs, settled, unroutable, .. } = std::mem::take(self.transaction()?);
        session.flush();
        for (message, _) in messages(&unroutable) {
            returned(message);
        }
        for (route, run) in &mut runs {
            route.append(run, &session.vhost, &session.mailbox);
        }
        self.settled = settled;
        self.apply_settled();
        Ok(true)
    }

    /// Whether a commit that was not done at once has been done now. Says it once.
    pub fn take_committed(&mut self, _session: &Session) -> bool {
        false
    }

    /// Confirms or a commit wait for [`crate::Event::Durable`].
    pub fn awaits_log(&self) -> bool {
        false
    }

    /// Forgets the publishes and acks since the last commit; the acked deliveries are outstanding again.
    pub fn rollback(&mut self) -> Result<()> {
        let transaction = std::mem::take(self.transaction()?);
        for settled in transaction.settled {
            if let Some(consumer) = settled.run.consumer.and_then(|number| self.consumers.get_mut(&number)) {
                consumer.unacked += settled.run.count;
            }
            self.unacked.insert(settled.run);
        }
        Ok(())
    }

    pub(super) fn rollback_open(&mut self) {
        if let Mode::Transaction(_) = self.mode {
            // Cannot fail: the mode is right.
            let _ = self.rollback();
        }
    }

    fn transaction(&mut self) -> Result<&mut Transaction> {
        match &mut self.mode {
            Mode::Transaction(transaction) => Ok(transaction),
            _ => Err(Error::precondition("channel is not transactional")),
        }
    }
}

/// The messages of a run with the offset behind each.
fn messages(run: &crate::message::Run) -> impl Iterator<Item = (crate::message::Message<'_>, usize)> {
    let mut at = 0;
    (0..run.count()).map(move |_| {
        let (message, next) = run.at(at);
        at = next;
        (message, next)
    })
}
