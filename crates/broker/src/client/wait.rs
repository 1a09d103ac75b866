//! Blocking instead of awaiting.

use crate::engine::park;
use std::future::Future;
use std::time::Duration;

/// Blocks the thread until a future is done: for programs without an executor. Every future has it.
///
/// In a task of an executor, `.await` it: a task that blocks keeps others from running.
pub trait Wait: Future + Sized {
    /// Waits for as long as it takes.
    fn wait(self) -> Self::Output {
        park(self, None).expect("without a limit it waits until the future is done")
    }

    /// Waits for so long at most. `None` if it was not done: the future is dropped then.
    fn wait_for(self, patience: Duration) -> Option<Self::Output> {
        park(self, Some(patience))
    }
}

impl<F: Future> Wait for F {}
