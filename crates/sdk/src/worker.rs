//! What receives messages, lets them be handled, and settles them.

use crate::bus::Bus;
use crate::delivery::{Delivery, Handled, Origin, Service};
use crate::driver::{Receipt, Received, Receiver, Settlement, SubscriptionSpec};
use crate::error::{BoxError, Error, Result};
use crate::handler::States;
use crate::message::{Incoming, MessageId, Outgoing};
use crate::meters::Meters;
use crate::outcome::Outcome;
use crate::trace;
use std::future::{Future, poll_fn};
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service as _;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// What is received, and how it is handled.
pub(crate) struct Work {
    pub(crate) source: Source,
    /// Handled at a time.
    pub(crate) concurrency: u16,
    pub(crate) deadline: Duration,
    /// Messages that are handled together, at most, and how long the first of them waits for others.
    pub(crate) batch: Option<(u16, Duration)>,
}

/// Where messages come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Subscription(SubscriptionSpec),
    /// Requests for a name.
    Requests(&'static str),
}

/// What every message of a worker needs.
struct Shared {
    work: Work,
    states: Arc<States>,
    bus: Bus,
    meters: Meters,
    pace: Pace,
}

/// Whether handlers give their thread back soon. Those that do begin, and if they need not wait also end, where their message was received; others
/// get a task of their own at once, so that several processors can work on them.
#[derive(Default)]
struct Pace {
    /// Handlers that have to be quick before all count as that.
    on_trial: AtomicU32,
}

/// A handler that keeps its thread for longer is not quick: what a task of its own costs is little beside that.
const QUICK: Duration = Duration::from_micros(50);

/// Quick handlers after one that was not.
const TRIAL: u32 = 64;

impl Pace {
    fn is_quick(&self) -> bool {
        self.on_trial.load(Ordering::Relaxed) == 0
    }

    fn note(&self, took: Duration) {
        let left = if took > QUICK { TRIAL } else { self.on_trial.load(Ordering::Relaxed).saturating_sub(1) };
        // Two at a time may count as one.
        self.on_trial.store(left, Ordering::Relaxed);
    }
}

impl Source {
    /// The name of a subscription's queue, or that of requests.
    pub(crate) fn name(&self) -> String {
        match self {
            Source::Subscription(spec) => spec.queue(),
            Source::Requests(name) => name.to_string(),
        }
    }

    /// As texts call it.
    pub(crate) fn description(&self) -> String {
        match self {
            Source::Subscription(_) => format!("subscription '{}'", self.name()),
            Source::Requests(_) => format!("request '{}'", self.name()),
        }
    }

    fn origin(&self) -> Origin {
        match self {
            Source::Subscription(spec) => Origin { topic: spec.topic.name, subscription: Some(spec.name) },
            Source::Requests(name) => Origin { topic: name, subscription: None },
        }
    }
}

impl Work {
    pub(crate) async fn receive(&self, bus: &Bus) -> Result<Box<dyn Receiver>> {
        // What waits for its batch is not settled either.
        let most = self.batch.map_or(1, |(most, _)| most);
        let prefetch = self.concurrency.saturating_mul(most);
        match &self.source {
            Source::Subscription(spec) => {
                bus.declare_subscription(spec).await?;
                bus.driver().receive(spec, false, prefetch).await
            }
            Source::Requests(name) => bus.respond(name, prefetch).await,
        }
    }

    /// Handles messages until it is told to stop; then those that are being handled.
    pub(crate) async fn run(
        self,
        mut receiver: Box<dyn Receiver>,
        mut service: Service,
        states: Arc<States>,
        bus: Bus,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let meters = Meters::of(&self.source);
        let shared = Arc::new(Shared { work: self, states, bus, meters, pace: Pace::default() });
        let (mut tasks, mut waiting) = (JoinSet::new(), Vec::new());
        let ended = 'ended: loop {
            let more = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break Ok(()),
                more = shared.next(&mut *receiver, &mut waiting) => more,
            };
            match more {
                Ok(true) => {}
                Ok(false) => break Err(Error::Engine(format!("{} was deleted", shared.work.source.description()))),
                Err(error) => break Err(error),
            }
            for batch in shared.batches(&mut waiting) {
                let ready = tokio::select! {
                    biased;
                    ready = poll_fn(|context| service.poll_ready(context)) => ready,
                    // What was received and is not being handled goes back when it is dropped.
                    _ = stop.wait_for(|stop| *stop) => break 'ended Ok(()),
                };
                let (messages, receipts): (Vec<_>, Vec<_>) = batch.into_iter().map(open).unzip();
                let of = Of::these(&messages);
                shared.meters.begin(&messages[0].meta);
                let call = ready.map(|()| {
                    let (states, bus) = (shared.states.clone(), shared.bus.clone());
                    service.call(Delivery::new(shared.work.source.origin(), messages, states, bus))
                });
                let (is_quick, shared) = (shared.pace.is_quick(), shared.clone());
                let mut handling = Box::pin(async move { shared.handle(call, of, receipts).await });
                if !is_quick || !poll_once(handling.as_mut()).await {
                    tasks.spawn(handling);
                }
            }
            tokio::task::consume_budget().await;
            while tasks.try_join_next().is_some() {}
        };
        if let Err(error) = &ended {
            tracing::error!(source = shared.work.source.name(), %error, "no more messages are handled");
        }
        while tasks.join_next().await.is_some() {}
        ended
    }
}

/// What is remembered of messages while they are handled.
struct Of {
    id: MessageId,
    attempt: u32,
    trace: Option<trace::Parent>,
}

impl Of {
    fn these(messages: &[Incoming]) -> Of {
        let meta = &messages[0].meta;
        Of { id: meta.id.clone(), attempt: meta.attempt, trace: meta.trace.clone() }
    }
}

fn open(received: Received) -> (Incoming, Box<dyn Receipt>) {
    (received.message, received.receipt)
}

impl Shared {
    /// Waits for messages; for enough of them, or long enough, if they are handled in batches.
    async fn next(&self, receiver: &mut dyn Receiver, out: &mut Vec<Received>) -> Result<bool> {
        let Some((most, wait)) = self.work.batch else { return receiver.next(out).await };
        if out.is_empty() && !receiver.next(out).await? {
            return Ok(false);
        }
        let collect = async {
            while out.len() < most.into() {
                if !receiver.next(out).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(wait, collect).await.unwrap_or(Ok(true))
    }

    /// What is handled together. A batch that has failed comes back one by one, so that a message that cannot be handled takes no others
    /// with it.
    fn batches(&self, waiting: &mut Vec<Received>) -> Vec<Vec<Received>> {
        let most = self.work.batch.map_or(1, |(most, _)| usize::from(most));
        let mut batches: Vec<Vec<Received>> = Vec::new();
        let mut open = Vec::new();
        for received in waiting.drain(..) {
            if most == 1 || received.message.meta.attempt > 1 {
                batches.push(vec![received]);
                continue;
            }
            open.push(received);
            if open.len() == most {
                batches.push(take(&mut open));
            }
        }
        batches.extend((!open.is_empty()).then_some(open));
        batches
    }

    /// Lets messages be handled, and settles them.
    async fn handle(
        &self,
        call: std::result::Result<impl Future<Output = std::result::Result<Handled, BoxError>>, BoxError>,
        of: Of,
        mut receipts: Vec<Box<dyn Receipt>>,
    ) {
        let handled = match call {
            Ok(call) => trace::within(of.trace.clone(), self.guarded(call).instrument(self.span(&of))).await,
            Err(error) => Err(error),
        };
        let mut handled = handled.unwrap_or_else(|error| Handled::new(Outcome::Retry(error)));
        for (before, (number, error)) in take(&mut handled.undecodable).into_iter().enumerate() {
            let receipt = receipts.remove(number - before);
            let how = match self.work.source {
                Source::Subscription(_) => Settlement::Dead { reason: "undecodable", error },
                Source::Requests(_) => Settlement::Reply(Err(format!("the request does not decode: {error}"))),
            };
            self.settle(receipt, how, &of).await;
        }
        let Some(first) = receipts.pop() else { return };
        let how = self.settlement(handled, &of).await;
        if receipts.is_empty() {
            return self.settle(first, how, &of).await;
        }
        self.settle_all(first, receipts, how, &of).await;
    }

    fn span(&self, of: &Of) -> Span {
        let Origin { topic, subscription } = self.work.source.origin();
        let span = tracing::info_span!("handle", topic, subscription, message = %of.id, of.attempt, trace = Empty, otel.kind = Empty);
        #[cfg(feature = "opentelemetry")]
        span.record("otel.kind", "consumer");
        if let Some(trace) = &of.trace {
            trace.set_parent_of(&span);
            span.record("trace", tracing::field::display(trace));
        }
        span
    }

    /// Runs a handler, up to its deadline. A panic is a failure.
    async fn guarded(
        &self,
        call: impl Future<Output = std::result::Result<Handled, BoxError>>,
    ) -> std::result::Result<Handled, BoxError> {
        let (mut call, mut begin, deadline) = (pin!(call), None, self.work.deadline);
        let caught = poll_fn(|context| {
            let is_first = begin.is_none();
            let begin = *begin.get_or_insert_with(Instant::now);
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
                Poll::Ready(Err(format!("the handler panicked: {text}").into()))
            });
            if is_first || polled.is_ready() {
                let took = begin.elapsed();
                if is_first {
                    self.pace.note(took);
                }
                if polled.is_ready() {
                    self.meters.end(took);
                }
            }
            polled
        });
        tokio::time::timeout(deadline, caught).await.unwrap_or_else(|_| {
            self.meters.end(deadline);
            Err(format!("the handler took longer than {deadline:?}").into())
        })
    }

    /// As an outcome asks for.
    async fn settlement(&self, handled: Handled, of: &Of) -> Settlement {
        let Handled { outcome, events, reply, .. } = handled;
        let events = events.into_messages();
        let outcome = prepare(&self.bus, &events, outcome).await;
        match &self.work.source {
            Source::Subscription(spec) => settlement(spec, outcome, events, of.attempt),
            Source::Requests(_) => Settlement::Reply(match outcome {
                Outcome::Done => Ok(reply),
                Outcome::Retry(error) | Outcome::RetryAfter(error, _) | Outcome::Dead(error) => Err(error.to_string()),
            }),
        }
    }

    async fn settle(&self, receipt: Box<dyn Receipt>, how: Settlement, of: &Of) {
        self.note(&how, 1, of);
        let topics = how.topics();
        self.check(receipt.settle(how).await, &topics, of);
    }

    async fn settle_all(&self, first: Box<dyn Receipt>, others: Vec<Box<dyn Receipt>>, how: Settlement, of: &Of) {
        self.note(&how, 1 + others.len() as u64, of);
        let topics = how.topics();
        self.check(first.settle_all(others, how).await, &topics, of);
    }

    /// `topics` are those of the events that were published with the end.
    fn check(&self, settled: Result<Vec<usize>>, topics: &[&'static str], of: &Of) {
        match settled {
            Ok(unheard) => self.bus.note_events(topics, &unheard),
            Err(error) => {
                let source = self.work.source.name();
                tracing::error!(source, message = %of.id, %error, "not settled: it will be delivered again");
            }
        }
    }

    fn note(&self, how: &Settlement, count: u64, of: &Of) {
        self.meters.settled(how, count);
        if let (Settlement::Dead { reason, error }, Source::Subscription(spec)) = (how, &self.work.source) {
            let (queue, attempt) = (spec.dead_queue(), of.attempt);
            if spec.broadcast {
                tracing::error!(subscription = spec.queue(), message = %of.id, attempt, reason, error, "an event is given up");
            } else {
                tracing::warn!(queue, message = %of.id, attempt, reason, error, "a message goes to the dead-letter queue");
            }
        }
    }
}

/// Lets work begin where one is; true if it has ended.
async fn poll_once(mut work: Pin<&mut impl Future<Output = ()>>) -> bool {
    poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await
}

/// Lets events of a handler be published. If that fails, so has the handler.
pub(crate) async fn prepare(bus: &Bus, events: &[Outgoing], outcome: Outcome) -> Outcome {
    if events.is_empty() {
        return outcome;
    }
    let prepared = async {
        bus.check(events)?;
        Ok(bus.declare_topics(events).await?)
    };
    prepared.await.map_or_else(Outcome::Retry, |()| outcome)
}

/// How a message of a subscription is to be settled.
pub(crate) fn settlement(spec: &SubscriptionSpec, outcome: Outcome, events: Vec<Outgoing>, attempt: u32) -> Settlement {
    let (error, after) = match outcome {
        Outcome::Done => return Settlement::Done(events),
        Outcome::Dead(error) => return Settlement::Dead { reason: "rejected", error: error.to_string() },
        Outcome::Retry(error) => (error, None),
        Outcome::RetryAfter(error, after) => (error, Some(after).filter(|_| !spec.ordered)),
    };
    match attempt < spec.retry.attempts {
        true => {
            tracing::info!(subscription = spec.queue(), attempt, %error, "failed, and will be tried again");
            Settlement::Retry { after }
        }
        false => Settlement::Dead { reason: "attempts", error: error.to_string() },
    }
}
