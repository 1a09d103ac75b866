//! Waiting for a future on a thread that has nothing else to do.

use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Blocks the thread until the future is done; with `patience`, at most for so long: then it is dropped.
pub(crate) fn park<F: Future>(future: F, patience: Option<Duration>) -> Option<F::Output> {
    // Without an end if the end of the wait is beyond what the clock can tell.
    let until = patience.and_then(|patience| Instant::now().checked_add(patience));
    let parked = Arc::new(Parked::default());
    let waker = Waker::from(parked.clone());
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if !parked.wait(until) {
            return None;
        }
    }
}

/// A thread that sleeps until it is woken.
#[derive(Default)]
struct Parked {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parked {
    /// False if nobody woke it in time.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            match until {
                None => self.changed.wait(&mut woken),
                Some(until) if self.changed.wait_until(&mut woken, until).timed_out() => break,
                Some(_) => {}
            }
        }
        std::mem::take(&mut *woken)
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}
