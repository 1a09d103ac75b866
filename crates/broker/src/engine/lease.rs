//! Queues that end when nobody uses them (`x-expires`).

use super::SharedQueue;
use crate::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl SharedQueue {
    /// From now on it has to be used. After a restart that begins anew (RabbitMQ's rule).
    pub(super) fn begin_lease(&self) {
        self.touch();
        self.renew_lease();
    }

    /// It is used: declared, got from or consumed.
    #[inline]
    pub(crate) fn touch(&self) {
        if self.leased.load(Ordering::Relaxed)
            && let Some(vhost) = self.vhost.upgrade()
        {
            self.used.store(vhost.timer().now(), Ordering::Relaxed);
        }
    }

    fn renew_lease(&self) {
        if let (Some(expires), Some(vhost)) = (self.settings().expires, self.vhost.upgrade()) {
            vhost.timer().lease(self.used.load(Ordering::Relaxed) + expires, self.number);
        }
    }

    /// Deletes the queue if it was not used for as long as it may be; otherwise it is looked at again later.
    pub(super) fn end_lease(self: &Arc<Self>) {
        let (Some(expires), Some(vhost)) = (self.settings().expires, self.vhost.upgrade()) else { return };
        let deleted = vhost.delete_queue_if(self, |queue| {
            let now = vhost.timer().now();
            if !queue.consumers.is_empty() {
                self.used.store(now, Ordering::Relaxed);
            }
            #[cfg(feature = "mutants")]
            if crate::mutants::is_on(crate::mutants::Mutant::LeaseNotRenewed) {
                return Ok(());
            }
            match self.used.load(Ordering::Relaxed) + expires <= now {
                true => Ok(()),
                false => Err(Error::precondition("in use")),
            }
        });
        if deleted.is_err() {
            self.renew_lease();
        }
    }
}
