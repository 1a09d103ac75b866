//! An application: handlers and what they need, started and stopped together.

use crate::bus::Bus;
use crate::driver::{Received, Receiver, Settlement, SubscriptionSpec};
use crate::error::{BoxError, Error, Result};
use crate::handler::{Context, Handler, States};
use crate::outcome::{Events, Outcome};
use crate::subscription::Subscription;
use std::any::type_name;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Handlers, and what they need.
///
/// ```no_run
/// use leveret::{App, Bus, State, Subscription, Topic};
///
/// static SIGNUPS: Topic<String> = Topic::new("signups");
/// static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
///
/// async fn welcome(email: String, State(from): State<&'static str>) {
///     println!("{from}: welcome, {email}");
/// }
///
/// #[tokio::main]
/// async fn main() -> leveret::Result<()> {
///     let bus = Bus::from_env("BUS_URL", "local:./data").await?;
///     let stop = async { _ = tokio::signal::ctrl_c().await };
///     App::new(&bus).state("hello@example.com").handle(&EMAIL, welcome).run_until(stop).await
/// }
/// ```
pub struct App {
    bus: Bus,
    states: States,
    /// A type of which there are two.
    twice: Option<&'static str>,
    routes: Vec<Box<dyn Route>>,
}

/// A subscription and its handler, whatever their types.
trait Route: Send + Sync {
    fn spec(&self) -> SubscriptionSpec;
    fn concurrency(&self) -> u16;
    fn check(&self, states: &States) -> Result<()>;
    /// Handles a message and settles it.
    fn handle(&self, received: Received, states: Arc<States>, bus: Bus) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

struct Handled<T: 'static, H, A> {
    subscription: &'static Subscription<T>,
    handler: H,
    arguments: std::marker::PhantomData<fn(A)>,
}

impl App {
    /// An application on a bus.
    pub fn new(bus: &Bus) -> App {
        App { bus: bus.clone(), states: States::default(), twice: None, routes: Vec::new() }
    }

    /// Gives handlers something that they get as [`State`](crate::State), by its type.
    #[must_use]
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> App {
        if !self.states.insert(state) {
            self.twice = Some(type_name::<S>());
        }
        self
    }

    /// Handles the messages of a subscription.
    #[must_use]
    pub fn handle<T: Send + 'static, A: 'static>(
        mut self,
        subscription: &'static Subscription<T>,
        handler: impl Handler<T, A>,
    ) -> App {
        self.routes.push(Box::new(Handled { subscription, handler, arguments: std::marker::PhantomData }));
        self
    }

    /// Declares the subscriptions and begins to handle their messages.
    ///
    /// # Errors
    /// [`Error::Configuration`] if a handler needs what was not given, if two states have the same type or two handlers the same
    /// subscription; otherwise as [`Bus::declare`]. Nothing was started then.
    pub async fn start(self) -> Result<Running> {
        let App { bus, states, twice, routes } = self;
        if let Some(name) = twice {
            return Err(Error::Configuration(format!("App::state was given two values of type {name}")));
        }
        let mut seen = HashSet::new();
        for route in &routes {
            let queue = route.spec().queue();
            route.check(&states)?;
            if !seen.insert(queue.clone()) {
                return Err(Error::Configuration(format!("subscription '{queue}' has two handlers in this App")));
            }
        }
        let mut receivers = Vec::new();
        for route in &routes {
            bus.declare_subscription(&route.spec()).await?;
            receivers.push(bus.driver().receive(&route.spec(), false, route.concurrency()).await?);
        }
        let (stop, states) = (watch::Sender::new(false), Arc::new(states));
        let workers = routes.into_iter().zip(receivers).map(|(route, receiver)| {
            let work = work(route.into(), receiver, states.clone(), bus.clone(), stop.subscribe());
            tokio::spawn(work)
        });
        Ok(Running { workers: workers.collect(), stop })
    }

    /// Handles messages until `stop` is done; then those that are being handled, and ends.
    ///
    /// # Errors
    /// As [`App::start`], and as [`Running::drain`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let running = self.start().await?;
        stop.await;
        running.drain().await
    }
}

/// An application that was started. Dropping it stops it, and lets what is being handled come to its end.
#[must_use = "dropping it stops the handlers"]
#[derive(Debug)]
pub struct Running {
    workers: Vec<JoinHandle<Result<()>>>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Takes no more messages, and waits until those that are being handled are settled.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine has failed meanwhile.
    pub async fn drain(self) -> Result<()> {
        self.stop.send_replace(true);
        for worker in self.workers {
            worker.await.map_err(|error| Error::Engine(format!("a worker has ended: {error}")))??;
        }
        Ok(())
    }
}

async fn work(
    route: Arc<dyn Route>,
    mut receiver: Box<dyn Receiver>,
    states: Arc<States>,
    bus: Bus,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let (mut tasks, mut batch) = (JoinSet::new(), Vec::new());
    let ended = loop {
        let more = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break Ok(()),
            more = receiver.next(&mut batch) => more,
        };
        match more {
            Ok(true) => {}
            Ok(false) => break Err(Error::Engine(format!("subscription '{}' was deleted", route.spec().queue()))),
            Err(error) => break Err(error),
        }
        for received in batch.drain(..) {
            let (route, states, bus) = (route.clone(), states.clone(), bus.clone());
            tasks.spawn(async move { route.handle(received, states, bus).await });
        }
        while tasks.try_join_next().is_some() {}
    };
    if let Err(error) = &ended {
        tracing::error!(subscription = route.spec().queue(), %error, "no more messages are handled");
    }
    while tasks.join_next().await.is_some() {}
    ended
}

impl<T: Send + 'static, A: 'static, H: Handler<T, A>> Route for Handled<T, H, A> {
    fn spec(&self) -> SubscriptionSpec {
        self.subscription.spec()
    }

    fn concurrency(&self) -> u16 {
        self.subscription.limits().0
    }

    fn check(&self, states: &States) -> Result<()> {
        self.handler.check(states)
    }

    fn handle(&self, received: Received, states: Arc<States>, bus: Bus) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (handler, subscription) = (self.handler.clone(), self.subscription);
        Box::pin(async move {
            let Received { message, receipt, .. } = received;
            let (id, attempt) = (message.meta.id.clone(), message.meta.attempt);
            let how = match subscription.topic().codec().decode(&message.body) {
                Err(error) => Settlement::Dead { reason: "undecodable", error: error.to_string() },
                Ok(event) => {
                    let context = Context { meta: message.meta, states, bus };
                    let ended = attempt_to(subscription, handler.handle(event, &context)).await;
                    settlement(ended, attempt, subscription)
                }
            };
            report(&how, subscription, &id.to_string(), attempt);
            if let Err(error) = receipt.settle(how).await {
                let queue = subscription.spec().queue();
                tracing::error!(subscription = queue, message = %id, %error, "not settled: it will be delivered again");
            }
        })
    }
}

/// Runs a handler, up to its deadline. A panic is a failure.
async fn attempt_to<T>(
    subscription: &Subscription<T>,
    handler: impl Future<Output = (Outcome, Events)>,
) -> (Outcome, Events) {
    let deadline = subscription.limits().1;
    let failed = |why: String| (Outcome::Retry(BoxError::from(why)), Events::default());
    let mut handler = pin!(handler);
    let guarded = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
            Poll::Ready(Err(text.to_string()))
        }
    });
    match tokio::time::timeout(deadline, guarded).await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => failed(format!("the handler panicked: {panic}")),
        Err(_) => failed(format!("the handler took longer than {deadline:?}")),
    }
}

fn settlement<T>((outcome, events): (Outcome, Events), attempt: u32, subscription: &Subscription<T>) -> Settlement {
    let spec = subscription.spec();
    let (error, after) = match outcome {
        Outcome::Done => return Settlement::Done(events.into_messages()),
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

fn report<T>(how: &Settlement, subscription: &Subscription<T>, id: &str, attempt: u32) {
    if let Settlement::Dead { reason, error } = how {
        let queue = subscription.spec().dead_queue();
        tracing::warn!(queue, message = id, attempt, reason, error, "a message goes to the dead-letter queue");
    }
}
