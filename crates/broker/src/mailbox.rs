//! What other threads have to say to a connection: a short list of events and one waker.

use parking_lot::Mutex;
use std::task::{Context, Waker};

/// Something that a connection has to look at. A consumer is named by its channel and its number on that channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A queue has granted messages to this consumer: pull them.
    Ready {
        /// The channel.
        channel: u16,
        /// The consumer's number on it.
        consumer: u32,
    },
    /// The queue of this consumer is gone.
    Cancelled {
        /// The channel.
        channel: u16,
        /// The consumer's number on it.
        consumer: u32,
    },
    /// A queue that was crowded has little waiting now: go on publishing.
    Relaxed,
    /// The log has become durable as far as this session was waiting for: confirms and commits may be due. Or it has
    /// failed, see [`crate::Broker::failure`].
    Durable,
    /// Memory or disk runs out: publishers wait.
    Blocked,
    /// Publishers may go on.
    Unblocked,
    /// Whoever owns the session has left word for it in a place of their own: look there. The broker never says so.
    Notice,
    /// Close with CONNECTION_FORCED (320): the broker stops.
    Shutdown,
    /// Close with CONNECTION_FORCED (320): the session's virtual host was deleted.
    VhostDeleted,
}

/// The address of a connection within the process.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Adds an event and wakes the connection if it sleeps.
    pub fn post(&self, event: Event) {
        if let Some(waker) = self.leave(event) {
            waker.wake();
        }
    }

    /// Adds an event; whoever sleeps is to be woken by the caller, who may hold a lock now.
    pub(crate) fn leave(&self, event: Event) -> Option<Waker> {
        let mut state = self.state.lock();
        state.events.push(event);
        state.waker.take()
    }

    /// Moves all events to `out`. With none, `context` is woken at the next; returns whether there were any.
    pub fn poll(&self, context: &mut Context<'_>, out: &mut Vec<Event>) -> bool {
        let mut state = self.state.lock();
        if state.events.is_empty() {
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return false;
        }
        out.append(&mut state.events);
        true
    }

    /// Moves all events to `out` without asking to be woken.
    pub fn take(&self, out: &mut Vec<Event>) {
        out.append(&mut self.state.lock().events);
    }
}
