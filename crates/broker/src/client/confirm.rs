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
/// [`LogFailed`](super::ClientError::LogFailed) and [`ShutDown`](super::ClientError::ShutDown): after either the message
/// may be there or not.
#[derive(Debug)]
#[must_use = "nothing is known of a message before its confirm"]
pub struct Confirm {
    line: Arc<Line>,
    tag: u64,
    published: Published,
    seat: Option<Seat>,
}

impl Confirm {
    pub(super) fn new(line: Arc<Line>, tag: u64, published: Published) -> Confirm {
        Confirm { line, tag, published, seat: None }
    }
}

impl Future for Confirm {
    type Output = Result<Published>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Published>> {
        let Confirm { line, tag, published, seat } = self.get_mut();
        line.poll(seat, context, |core| core.is_confirmed(*tag).then_some(Ok(*published)))
    }
}
