//! Wakes everybody who waits for something of one session: a mailbox knows a single waker.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// What a session's mailbox wakes. It wakes all who have a seat, and they look for themselves.
#[derive(Debug, Default)]
pub(super) struct Bell {
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Bell {
    fn ring(&self) {
        let wakers: Vec<Waker> = self.seats.lock().wakers.iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !Quiet::defers(self) {
            self.ring();
        }
    }
}

/// A waiting future's place at the bell; empty when the future is gone.
#[derive(Debug)]
pub(super) struct Seat {
    bell: Arc<Bell>,
    number: usize,
}

impl Seat {
    /// Takes a seat unless there is one already, and leaves a waker there for the next time the bell rings.
    pub(super) fn take(seat: &mut Option<Seat>, bell: &Arc<Bell>, waker: &Waker) {
        let waker = waker.clone();
        let mut seats = bell.seats.lock();
        let number = match seat {
            Some(seat) => seat.number,
            None => {
                let number = seats.free.pop().unwrap_or(seats.wakers.len());
                if number == seats.wakers.len() {
                    seats.wakers.push(None);
                }
                *seat = Some(Seat { bell: bell.clone(), number });
                number
            }
        };
        let old = seats.wakers[number].replace(waker);
        // Dropping a waker may drop its task, which may come back here.
        drop(seats);
        drop(old);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.bell.seats.lock();
        let waker = seats.wakers[self.number].take();
        seats.free.push(self.number);
        drop(seats);
        drop(waker);
    }
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held { depth: 0, rung: Vec::new() }) };
}

/// Locks of clients that this thread holds, and the bells that were rung meanwhile.
struct Held {
    depth: u32,
    rung: Vec<Arc<Bell>>,
}

/// As long as it lives, bells that this thread rings are only noted: who wakes up may want the lock that is held.
pub(super) struct Quiet(());

impl Quiet {
    pub(super) fn begin() -> Quiet {
        // Fails only in a thread that is ending, where bells ring at once.
        let _ = HELD.try_with(|held| held.borrow_mut().depth += 1);
        Quiet(())
    }

    /// Whether the bell will be rung later.
    fn defers(bell: &Arc<Bell>) -> bool {
        let note = |held: &RefCell<Held>| {
            let mut held = held.borrow_mut();
            if held.depth > 0 {
                held.rung.push(bell.clone());
            }
            held.depth > 0
        };
        HELD.try_with(note).unwrap_or(false)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let end = |held: &RefCell<Held>| {
            let mut held = held.borrow_mut();
            held.depth -= 1;
            if held.depth == 0 { std::mem::take(&mut held.rung) } else { Vec::new() }
        };
        if let Ok(rung) = HELD.try_with(end) {
            rung.iter().for_each(|bell| bell.ring());
        }
    }
}
