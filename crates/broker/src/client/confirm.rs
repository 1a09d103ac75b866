//! Waiting for a confirm.

use super::Result;
use super::bell::Seat;
use super::line::Line;
use crate::publisher::Published;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Done when a message is confirmed: it is in its queues, and safe on disk where it and its queue are durable. Who drops
/// it only gives up knowing.
///
/// Confirms come in the order of publishing, so the last of many stands for all of its client's. They cost nothing but
/// their place: there is no allocation for each.
///
/// # Errors
/// [`QueueFull`](super::ClientError::QueueFull) if a queue has refused it; [`LogFailed`](super::ClientError::LogFailed) and
/// [`ShutDown`](super::ClientError::ShutDown): after either of these the message may be there or not.
#[derive(Debug)]
#[must_use = "nothing is known of a message before its confirm"]
pub struct Confirm {
    line: Arc<Line>,
    /// The first of the messages that it stands for, and the last.
    tags: (u64, u64),
    published: Published,
    seat: Option<Seat>,
}

impl Confirm {
    pub(super) fn new(line: Arc<Line>, tags: (u64, u64), published: Published) -> Confirm {
        Confirm { line, tags, published, seat: None }
    }
}

impl Future for Confirm {
    type Output = Result<Published>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Published>> {
        let Confirm { line, tags: (first, last), published, seat } = self.get_mut();
        line.poll(seat, context, |core| Some(core.confirmed(*first, *last)?.map(|()| *published)))
    }
}
