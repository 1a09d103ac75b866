//! What behaviours are tried with: topics of their own, and what handlers have seen.

use super::Verdict;
use crate::app::{App, Running};
use crate::bus::Bus;
use crate::driver::Backlog;
use crate::message::Meta;
use crate::retry::RetryPolicy;
use crate::subscription::Subscription;
use crate::topic::Topic;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

/// Soon, for an engine and for a person who waits.
pub(super) const SOON: RetryPolicy =
    RetryPolicy { min: Duration::from_millis(100), max: Duration::from_millis(400), attempts: 4 };

/// How long something takes that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one waits for what must not happen.
const QUIET: Duration = Duration::from_millis(300);

/// A bus, and names that nobody else has.
pub(super) struct Scene {
    pub(super) bus: Bus,
    name: String,
}

/// What handlers tell, in order.
#[derive(Clone)]
pub(super) struct Seen {
    tell: mpsc::UnboundedSender<(String, Meta)>,
    told: Arc<Mutex<mpsc::UnboundedReceiver<(String, Meta)>>>,
}

impl Scene {
    pub(super) fn new(bus: Bus) -> Scene {
        Scene { bus, name: format!("conformance-{}", Uuid::now_v7().simple()) }
    }

    /// A topic; the same one for the same word. Behaviours are few, so that what they leak is little.
    pub(super) fn topic(&self, word: &str) -> &'static Topic<String> {
        Box::leak(Box::new(Topic::new(self.named(word))))
    }

    pub(super) fn named(&self, word: &str) -> &'static str {
        Box::leak(format!("{}.{word}", self.name).into_boxed_str())
    }

    /// A topic and a subscription of it that was declared.
    pub(super) async fn subscribed(
        &self,
        word: &str,
        with: impl FnOnce(Subscription<String>) -> Subscription<String>,
    ) -> Result<(&'static Topic<String>, &'static Subscription<String>), String> {
        let topic = self.topic(word);
        let subscription = subscription(topic, "s", with);
        self.bus.declare(subscription).await.map_err(text)?;
        Ok((topic, subscription))
    }

    pub(super) fn app(&self) -> App {
        App::new(&self.bus)
    }

    pub(super) async fn publish(&self, topic: &'static Topic<String>, event: &str) -> Verdict {
        topic.publish(&self.bus, &event.to_string()).await.map(drop).map_err(text)
    }

    /// Waits until the dead letters of a subscription are so many, and takes them.
    pub(super) async fn dead(
        &self,
        of: &Subscription<String>,
        count: usize,
    ) -> Result<Vec<crate::dead::Dead<String>>, String> {
        self.until(of, &format!("{count} dead letters"), |backlog| backlog.dead == count as u64).await?;
        let dead = self.bus.dead(of, u16::MAX).await.map_err(text)?;
        same("dead letters", dead.len(), count)?;
        Ok(dead)
    }

    /// Waits until a subscription's backlog is as it should be.
    pub(super) async fn until(
        &self,
        of: &Subscription<String>,
        what: &str,
        holds: impl Fn(&Backlog) -> bool,
    ) -> Verdict {
        let begin = Instant::now();
        loop {
            let backlog = self.bus.backlog(of).await.map_err(text)?;
            if holds(&backlog) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("there are never {what}: {backlog:?}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A subscription with a patience that fits a test.
pub(super) fn subscription(
    topic: &'static Topic<String>,
    name: &'static str,
    with: impl FnOnce(Subscription<String>) -> Subscription<String>,
) -> &'static Subscription<String> {
    Box::leak(Box::new(with(topic.subscription(name).retry(SOON))))
}

impl Seen {
    pub(super) fn new() -> Seen {
        let (tell, told) = mpsc::unbounded_channel();
        Seen { tell, told: Arc::new(Mutex::new(told)) }
    }

    pub(super) fn note(&self, what: impl Into<String>, meta: &Meta) {
        // Nobody looks any more when a behaviour was found wanting.
        _ = self.tell.send((what.into(), meta.clone()));
    }

    /// Waits for what comes next.
    pub(super) async fn next(&self) -> Result<(String, Meta), String> {
        let next = tokio::time::timeout(PATIENCE, async { self.told.lock().await.recv().await }).await;
        next.ok().flatten().ok_or_else(|| "a handler is not called".to_string())
    }

    /// Waits for so many, and sorts them.
    pub(super) async fn sorted(&self, count: usize) -> Result<Vec<String>, String> {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.push(self.next().await?.0);
        }
        seen.sort();
        Ok(seen)
    }

    /// Nothing more comes.
    pub(super) async fn nothing(&self) -> Verdict {
        match tokio::time::timeout(QUIET, async { self.told.lock().await.recv().await }).await {
            Ok(Some((what, meta))) => Err(format!("'{what}' was handled, attempt {}", meta.attempt)),
            _ => Ok(()),
        }
    }
}

pub(super) fn text(error: impl Display) -> String {
    error.to_string()
}

pub(super) fn same<T: Debug + PartialEq>(what: &str, found: T, expected: T) -> Verdict {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, expected {expected:?}")),
    }
}

pub(super) async fn ended(app: Running) -> Verdict {
    app.drain().await.map_err(text)
}
