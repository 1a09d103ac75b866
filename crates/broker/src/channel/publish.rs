//! Publishing: plain, confirmed or in a transaction.

use super::transaction::Transaction;
use super::{Channel, Confirms, Mode, REPLY_TO};
use crate::engine::{Moment, commit};
use crate::error::{Error, Result};
use crate::publisher::{Publish, Published, rewrite};
use crate::session::Session;
use rustc_hash::FxHashMap;

impl Channel {
    /// Takes a message. It is in its queues after [`Session::flush`], or after the commit of a transaction.
    #[inline]
    pub fn publish(&mut self, session: &mut Session, publish: &Publish<'_>) -> Result<Published> {
        session.publisher.resolve(publish)?;
        self.counters.publish += 1;
        if let Mode::Confirm(confirms) = &mut self.mode {
            confirms.published += 1;
        }
        let rewritten = match session.publisher.has_bcc() || publish.properties.reply_to == Some(REPLY_TO) {
            true => self.rewritten(publish)?,
            false => None,
        };
        let encoded = rewritten.as_deref().unwrap_or(publish.encoded);
        let marks = session.publisher.marks(&publish.properties)?;
        if session.publisher.route().queues.is_empty() {
            let counters = &mut self.counters;
            *(if publish.mandatory { &mut counters.return_unroutable } else { &mut counters.drop_unroutable }) += 1;
        }
        if let Mode::Transaction(transaction) = &mut self.mode {
            transaction.publish(session.publisher.route(), publish, encoded, &marks, session.broker.limits())?;
            return Ok(Published::Routed);
        }
        if session.publisher.route().queues.is_empty() {
            return match &marks.sequence {
                None => Ok(Published::Unroutable),
                Some(sequence) => {
                    let tag = (self.number, self.last_published());
                    session.publisher.note_unrouted(sequence, &publish.properties, tag)
                }
            };
        }
        session.publisher.push(publish, encoded, &marks, (self.number, self.last_published()));
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

    /// Everything up to this tag has had its answer: it was confirmed or refused.
    pub(crate) fn is_settled(&self, tag: u64) -> bool {
        matches!(&self.mode, Mode::Confirm(confirms) if confirms.confirmed >= tag)
    }

    /// Turns on publisher confirms. 406 in a transaction.
    pub fn select_confirm(&mut self) -> Result<()> {
        match self.mode {
            Mode::Transaction(_) => Err(Error::precondition("cannot switch from tx to confirm mode")),
            Mode::Confirm(_) => Ok(()),
            Mode::Plain => {
                self.mode = Mode::Confirm(Confirms::default());
                Ok(())
            }
        }
    }

    /// Publisher confirms are on.
    pub fn confirms(&self) -> bool {
        matches!(self.mode, Mode::Confirm(_))
    }

    /// The tag of the last message that was taken; 0 without confirms.
    pub(crate) fn last_published(&self) -> u64 {
        if let Mode::Confirm(confirms) = &self.mode { confirms.published } else { 0 }
    }

    /// Tags of messages that a full queue has refused (`x-overflow`) since the last call: each is to be answered by
    /// basic.nack. To be called before [`Channel::take_confirm`], which leaves them out.
    pub fn take_refused(&mut self, session: &mut Session) -> Vec<u64> {
        let Mode::Confirm(confirms) = &mut self.mode else { return Vec::new() };
        let refused = session.publisher.take_refused(self.number);
        confirms.refused.extend(&refused);
        refused
    }

    /// What can be confirmed now: the highest tag, and whether it stands for several. To be called after
    /// [`Session::flush`], and after [`crate::Event::Durable`] as long as [`Channel::awaits_log`].
    pub fn take_confirm(&mut self, session: &Session) -> Option<(u64, bool)> {
        let Mode::Confirm(confirms) = &mut self.mode else { return None };
        let taken = confirms.take(session);
        let confirmed = std::mem::take(&mut confirms.uncounted);
        if confirmed > 0 {
            self.counters.confirm += confirmed;
            session.broker.count_confirmed(confirmed);
        }
        taken
    }

    /// Starts transactions. 406 in confirm mode.
    pub fn select_transaction(&mut self) -> Result<()> {
        match self.mode {
            Mode::Confirm(_) => Err(Error::precondition("cannot switch from confirm to tx mode")),
            Mode::Transaction(_) => Ok(()),
            Mode::Plain => {
                self.apply_settled();
                self.mode = Mode::Transaction(Box::default());
                Ok(())
            }
        }
    }

    /// Makes the publishes and acks since the last commit take effect, all of them. Calls `returned` with each
    /// mandatory message that no queue takes. 406 without [`Channel::select_transaction`], or if a queue that refuses what
    /// is too much has no room: then nothing is done.
    ///
    /// True if it is done. False if the log has to be durable first: [`Channel::take_committed`] tells when, after
    /// [`crate::Event::Durable`]. Until then nothing else that is answered should be done on this channel.
    pub fn commit(
        &mut self,
        session: &mut Session,
        mut returned: impl FnMut(crate::message::Message<'_>),
    ) -> Result<bool> {
        let mut planned = FxHashMap::default();
        let runs = &self.transaction()?.runs;
        runs.iter().try_for_each(|held| held.route.check_room(&held.run, &mut planned))?;
        session.flush();
        let Transaction { runs, settled, unroutable, .. } = std::mem::take(self.transaction()?);
        let released: Vec<_> = settled.iter().map(|it| (it.run.consumer, it.run.count)).collect();
        let waiting = match commit(&session.vhost, &session.mailbox, runs, settled) {
            Ok(waiting) => waiting,
            Err((error, settled)) => {
                settled.into_iter().for_each(|settled| self.unacked.insert(settled.run));
                return Err(error);
            }
        };
        for (message, _) in messages(&unroutable) {
            returned(message);
        }
        released.into_iter().for_each(|(consumer, count)| self.release(consumer, count));
        let Some(waiting) = waiting else { return Ok(true) };
        session.await_log(&waiting);
        self.committing = Some(waiting);
        Ok(self.take_committed(session))
    }

    /// Whether a commit that was not done at once has been done now. Says it once.
    pub fn take_committed(&mut self, session: &Session) -> bool {
        let done = self.committing.as_ref().is_some_and(|waiting| session.is_released(waiting));
        if done {
            self.committing = None;
            self.announce_credit();
        }
        done
    }

    /// Confirms or a commit wait for [`crate::Event::Durable`].
    pub fn awaits_log(&self) -> bool {
        self.committing.is_some() || matches!(&self.mode, Mode::Confirm(confirms) if !confirms.waiting.is_empty())
    }

    /// Forgets the publishes and acks since the last commit; the acked deliveries are outstanding again.
    pub fn rollback(&mut self) -> Result<()> {
        let transaction = std::mem::take(self.transaction()?);
        for settled in transaction.settled {
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

impl Confirms {
    fn take(&mut self, session: &Session) -> Option<(u64, bool)> {
        let noted = self.waiting.back().map_or(self.confirmed, |(tag, ..)| *tag);
        if noted != self.published {
            let waiting = session.publisher.waiting();
            if self.waiting.is_empty() && session.is_released(waiting) {
                return self.confirm(self.published);
            }
            // It may be written at once, on this thread.
            let since = Moment::now();
            session.await_log(waiting);
            self.waiting.push_back((self.published, waiting.clone(), since));
        }
        let (mut upto, mut before) = (None, self.confirmed);
        while let Some((tag, waiting, since)) = self.waiting.front()
            && session.is_released(waiting)
        {
            session.broker.meters().confirmed(*since, tag - before);
            (upto, before) = (Some(*tag), *tag);
            self.waiting.pop_front();
        }
        upto.and_then(|tag| self.confirm(tag))
    }

    /// Everything up to `tag` is confirmed now.
    fn confirm(&mut self, tag: u64) -> Option<(u64, bool)> {
        let (before, mut upto) = (std::mem::replace(&mut self.confirmed, tag), tag);
        let mut count = tag - before;
        if !self.refused.is_empty() {
            let later = self.refused.split_off(&(tag + 1));
            let refused = std::mem::replace(&mut self.refused, later);
            count -= refused.len() as u64;
            // The last one that was not refused; what was before it and was, has its answer already.
            while refused.contains(&upto) {
                upto -= 1;
            }
        }
        self.uncounted += count;
        (upto > before).then_some((upto, count > 1))
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
