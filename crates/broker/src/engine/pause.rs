//! Queues that hand nothing out for as long as somebody wants that.

use super::{Broker, SharedQueue, Stored, VirtualHost};
use crate::error::Result;
use crate::topology::NOBODY;

impl VirtualHost {
    /// Pauses a queue: it takes messages, and hands none out, neither to consumers nor by basic.get, until
    /// [`VirtualHost::resume`]. What was handed out can be settled; what expires, or is too much, goes as always. A durable
    /// queue is still paused after a restart, once what is returned is done. To pause one that is paused already changes nothing.
    ///
    /// # Errors
    /// 404, 405 and 406 as in every use of a queue by one who has no session, 406 if there are too many entries.
    pub fn pause(&self, queue: &str) -> Result<Stored> {
        self.set_paused(queue, true)
    }

    /// Lets a queue go on that was paused. It does at once; that it still does after a restart is certain when what is
    /// returned is done. To resume one that is not paused changes nothing.
    ///
    /// # Errors
    /// 404, 405 and 406 as in every use of a queue by one who has no session.
    pub fn resume(&self, queue: &str) -> Result<Stored> {
        self.set_paused(queue, false)
    }

    fn set_paused(&self, name: &str, paused: bool) -> Result<Stored> {
        let (queue, broker) = (self.queue(name, NOBODY)?, self.broker()?);
        let stored = match queue.is_durable() {
            true => {
                let value = queue.id.to_string();
                broker.set_entry(&self.paused_table(), name, paused.then_some(value.as_bytes()))?
            }
            false => broker.stored(),
        };
        queue.change(|queue| queue.consumers.set_paused(paused));
        Ok(stored)
    }

    /// The table of the queues that are paused: their names, and the numbers by which the log knows them, so that nothing is
    /// said of another queue that gets the name of one that is gone.
    fn paused_table(&self) -> String {
        format!("paused:{}", self.name)
    }

    /// A queue is gone, and with it that it was paused.
    pub(super) fn forget_paused(&self, queue: &SharedQueue) {
        let Ok(broker) = self.broker() else { return };
        let table = self.paused_table();
        if broker.entry(&table, &queue.name).is_some_and(|id| *id == *queue.id.to_string().as_bytes()) {
            // To remove what is there is never too much. If its virtual host is gone, so are its entries.
            let _ = broker.set_entry(&table, &queue.name, None);
        }
    }

    /// Of a start: pauses the queues that were paused, and forgets those that are gone.
    pub(super) fn restore_paused(&self, broker: &Broker) {
        let table = self.paused_table();
        for (name, id) in broker.entries(&table) {
            let queue = self.topology.read().queue(&name).ok().map(|record| record.handle.clone());
            match queue.filter(|queue| *id == *queue.id.to_string().as_bytes()) {
                Some(queue) => queue.state.lock().consumers.set_paused(true),
                None => _ = broker.set_entry(&table, &name, None),
            }
        }
    }
}
