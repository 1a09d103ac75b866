//! Entries behind their lock, and waiting until what was said is durable.

use super::durable::Durable;
use super::{Broker, Inner};
use crate::client::ClientError;
use crate::entries::vhost_of;
use crate::error::{Error, Result};
use crate::log::{Change, Lsn};
use crate::mailbox::Mailbox;
use crate::topology::SessionId;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Entries: small values by table and key that are durable if the broker is. Whoever keeps something beside the broker's
/// queues keeps it here, so that it is in the same log.
///
/// A table whose name has a colon belongs to the virtual host that is named behind the first one: its entries end with it.
impl Broker {
    /// The value of an entry.
    pub fn entry(&self, table: &str, key: &str) -> Option<Arc<[u8]>> {
        self.inner.entries.read().get(table, key).cloned()
    }

    /// The entries of a table: keys and values, sorted by key.
    pub fn entries(&self, table: &str) -> Vec<(Arc<str>, Arc<[u8]>)> {
        self.inner.entries.read().of(table).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Sets an entry; `None` removes it. It holds at once; who has to know that it survives awaits what is returned.
    ///
    /// # Errors
    /// 406 if it is larger, or there are more, than the broker's limits allow, or if table or key have more than 1024
    /// bytes; 404 if the table belongs to a virtual host that is not there.
    pub fn set_entry(&self, table: &str, key: &str, value: Option<&[u8]>) -> Result<Stored> {
        let vhosts = self.inner.vhosts.read();
        if let Some(vhost) = vhost_of(table).filter(|vhost| !vhosts.contains_key(*vhost)) {
            return Err(Error::channel(404, format!("no vhost '{vhost}'")));
        }
        let mut entries = self.inner.entries.write();
        entries.check(table, key, value, &self.inner.limits)?;
        let lsn = self.durable().map_or(0, |durable| durable.store.log.change(&Change::Entry { table, key, value }));
        entries.set(table, key, value.map(Arc::from));
        drop((entries, vhosts));
        Ok(Stored::new(self, lsn))
    }

    /// Done when everything that was changed up to now is durable: entries, queues, exchanges and bindings.
    pub fn stored(&self) -> Stored {
        let end = self.durable().map_or(0, |durable| durable.store.log.end());
        Stored::new(self, end.saturating_sub(1))
    }
}

impl Inner {
    /// Says all entries, for a checkpoint.
    pub(super) fn say_entries(&self, say: &mut dyn FnMut(&Change<'_>) -> io::Result<()>) -> io::Result<()> {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::NoEntries) {
            return Ok(());
        }
        let entries = self.entries.read();
        entries.iter().try_for_each(|(table, key, value)| say(&Change::Entry { table, key, value: Some(value) }))
    }
}

/// Done when what it was returned for is durable: at once in a broker that keeps nothing. What it was returned for has
/// taken effect already; who drops it only gives up knowing.
///
/// # Errors
/// [`ClientError::LogFailed`] and [`ClientError::ShutDown`]: it may be there after a restart or not.
#[must_use = "nothing is known to be durable before it is done"]
pub struct Stored {
    broker: Broker,
    lsn: Lsn,
    waiting: Option<Waiting>,
}

/// Where word is left for it.
struct Waiting {
    mailbox: Arc<Mailbox>,
    listed: SessionId,
}

impl Stored {
    fn new(broker: &Broker, lsn: Lsn) -> Stored {
        Stored { broker: broker.clone(), lsn, waiting: None }
    }

    fn look(&self, durable: &Durable) -> Option<std::result::Result<(), ClientError>> {
        if durable.store.log.is_released(self.lsn) {
            return Some(Ok(()));
        }
        match self.broker.failure() {
            Some(why) => Some(Err(ClientError::LogFailed(why))),
            None => self.broker.is_stopped().then_some(Err(ClientError::ShutDown)),
        }
    }
}

impl Future for Stored {
    type Output = std::result::Result<(), ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let stored = self.get_mut();
        let Some(durable) = stored.broker.durable().cloned() else { return Poll::Ready(Ok(())) };
        if let Some(done) = stored.look(&durable) {
            return Poll::Ready(done);
        }
        let (broker, lsn) = (&stored.broker, stored.lsn);
        let waiting = stored.waiting.get_or_insert_with(|| {
            // Among the sessions, it also hears of the log's failure and of the end.
            let (mailbox, listed) = broker.list_mailbox(None);
            durable.store.log.wait(lsn, &mailbox);
            Waiting { mailbox, listed }
        });
        let mailbox = waiting.mailbox.clone();
        let mut events = Vec::new();
        while mailbox.poll(context, &mut events) {
            events.clear();
        }
        // What came before the waker was left is seen here.
        stored.look(&durable).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            self.broker.forget_session(waiting.listed);
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("lsn", &self.lsn).finish_non_exhaustive()
    }
}
