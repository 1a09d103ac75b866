//! Metrics, by the facade of the crate `metrics`: they go to whatever recorder a program has installed before it opens its bus. Without one
//! they cost next to nothing.

use crate::driver::Settlement;
use crate::message::Meta;
use crate::worker::Source;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use std::time::{Duration, SystemTime};

/// What is counted of one source of messages.
pub(crate) struct Meters {
    handled: Counter,
    failed: Counter,
    retried: Counter,
    dead: Counter,
    seconds: Histogram,
    lag: Histogram,
}

/// What is counted of what is published to one topic.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) published: Counter,
    pub(crate) unheard: Counter,
}

impl Meters {
    pub(crate) fn of(source: &Source) -> Meters {
        describe_counter!("leveret_handled_total", "Messages that were handled");
        describe_counter!("leveret_failed_total", "Attempts to handle a message that failed");
        describe_counter!("leveret_retried_total", "Failed attempts after which a message will be tried again");
        describe_counter!("leveret_dead_total", "Messages that went to a dead-letter queue");
        describe_histogram!("leveret_handler_seconds", "How long handling took, with the layers");
        describe_histogram!("leveret_lag_seconds", "How old a message was when its handler began");
        let labels = [("source", source.name())];
        Meters {
            handled: counter!("leveret_handled_total", &labels),
            failed: counter!("leveret_failed_total", &labels),
            retried: counter!("leveret_retried_total", &labels),
            dead: counter!("leveret_dead_total", &labels),
            seconds: histogram!("leveret_handler_seconds", &labels),
            lag: histogram!("leveret_lag_seconds", &labels),
        }
    }

    /// A handler begins.
    pub(crate) fn begin(&self, meta: &Meta, now: SystemTime) {
        if let Some(published) = meta.published {
            // Clocks of two machines differ.
            self.lag.record(now.duration_since(published).unwrap_or_default());
        }
    }

    /// A handler has ended.
    pub(crate) fn end(&self, took: Duration) {
        self.seconds.record(took);
    }

    pub(crate) fn settled(&self, how: &Settlement, count: u64) {
        match how {
            Settlement::Done(_) | Settlement::Reply(Ok(_)) => self.handled.increment(count),
            Settlement::Retry { .. } => {
                self.failed.increment(count);
                self.retried.increment(count);
            }
            Settlement::Dead { .. } => {
                self.failed.increment(count);
                self.dead.increment(count);
            }
            Settlement::Reply(Err(_)) => self.failed.increment(count),
            Settlement::Redrive | Settlement::Release => {}
        }
    }
}

impl Published {
    pub(crate) fn to(topic: &'static str) -> Published {
        describe_counter!("leveret_published_total", "Messages that were published, and confirmed");
        describe_counter!("leveret_unheard_total", "Messages that went to no subscription");
        Published {
            published: counter!("leveret_published_total", "topic" => topic),
            unheard: counter!("leveret_unheard_total", "topic" => topic),
        }
    }
}
