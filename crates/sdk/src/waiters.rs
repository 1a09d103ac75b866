//! Who waits for a reply, by the ids of their requests.

use crate::driver::Reply;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// All who wait on a bus.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<String, oneshot::Sender<Reply>>>);

/// One who waits. Dropping it gives up.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    all: &'a Waiters,
    id: String,
    told: oneshot::Receiver<Reply>,
}

impl Waiters {
    /// Begins to wait for the reply to a request.
    pub(crate) fn wait(&self, id: String) -> Waiter<'_> {
        let (tell, told) = oneshot::channel();
        self.lock().insert(id.clone(), tell);
        Waiter { all: self, id, told }
    }

    /// A reply has come: for a late one nobody waits, and it is not made.
    pub(crate) fn answer(&self, id: &str, reply: impl FnOnce() -> Reply) {
        let waiting = self.lock().remove(id);
        if let Some(waiting) = waiting {
            // Who gives up at this moment does not want it either.
            _ = waiting.send(reply());
        }
    }

    /// Nothing comes any more, and who waits is told.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Reply>>> {
        // Nothing that is done with it can panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// The request's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// # Errors
    /// [`Error::Closed`] if nothing comes any more.
    pub(crate) async fn reply(mut self) -> Result<Reply> {
        (&mut self.told).await.map_err(|_| Error::Closed)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}
