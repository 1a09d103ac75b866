//! An application: handlers and what they need, started and stopped together.

#[cfg(feature = "asyncapi")]
use crate::asyncapi::Page;
use crate::bus::Bus;
use crate::delivery::{Delivery, Each, Handled, Service};
use crate::driver::TopicSpec;
use crate::error::{BoxError, Error, Result};
use crate::handler::{Handler, States};
use crate::outcome::{IntoOutcome, IntoReply, Outcome};
use crate::rpc::Rpc;
use crate::subscription::Subscription;
use crate::topic::Topic;
use crate::worker::{Source, Work};
use std::any::type_name;
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::util::BoxService;
use tower::{Layer, service_fn};

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
    routes: Vec<Route>,
    /// Topics that it publishes to.
    topics: Vec<TopicSpec>,
    #[cfg(feature = "asyncapi")]
    pages: Vec<Page>,
}

/// Whether a handler has all that it needs.
type Check = Box<dyn Fn(&States) -> Result<()> + Send>;

/// What is received, and what handles it.
struct Route {
    work: Work,
    check: Check,
    service: Service,
}

impl App {
    /// An application on a bus.
    pub fn new(bus: &Bus) -> App {
        App {
            bus: bus.clone(),
            states: States::default(),
            twice: None,
            routes: Vec::new(),
            topics: Vec::new(),
            #[cfg(feature = "asyncapi")]
            pages: Vec::new(),
        }
    }

    /// Gives handlers something that they get as [`State`](crate::State), by its type.
    ///
    /// ```
    /// use leveret::{App, Bus, State};
    /// use std::sync::Arc;
    ///
    /// struct Mailer;
    ///
    /// async fn welcome(email: String, State(mailer): State<Arc<Mailer>>) {
    ///     // ...
    /// #   let _ = (email, mailer);
    /// }
    ///
    /// fn app(bus: &Bus) -> App {
    ///     App::new(bus).state(Arc::new(Mailer))
    /// }
    /// ```
    #[must_use]
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> App {
        if !self.states.insert(state) {
            self.twice = Some(type_name::<S>());
        }
        self
    }

    /// Says that it publishes to a topic, which is declared when it starts. Publishing works without; the application's document
    /// and its engine know of it then.
    ///
    /// ```
    /// use leveret::{App, Bus, Topic};
    ///
    /// static INVOICES: Topic<u32> = Topic::new("invoices");
    ///
    /// fn app(bus: &Bus) -> App {
    ///     App::new(bus).publishes(&INVOICES)
    /// }
    /// ```
    #[must_use]
    pub fn publishes<T>(mut self, topic: &'static Topic<T>) -> App {
        self.topics.push(topic.spec());
        #[cfg(feature = "asyncapi")]
        self.pages.push(Page::Send(topic.page()));
        self
    }

    /// The AsyncAPI 3 document of what was given so far: topics that it [publishes](App::publishes) to, subscriptions and requests
    /// that it handles, with the schemas of those that have [one](Topic::schema).
    ///
    /// ```
    /// # use leveret::{App, Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// let app = App::new(&bus).handle(&EMAIL, async |_: String| {});
    /// let document = app.asyncapi("users", "1.0.0");
    /// assert_eq!(document["channels"]["signups"]["address"], "signups");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "asyncapi")]
    pub fn asyncapi(&self, title: &str, version: &str) -> serde_json::Value {
        crate::asyncapi::document(title, version, &self.pages)
    }

    /// Handles the messages of a subscription.
    ///
    /// ```
    /// # use leveret::{App, Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// async fn welcome(email: String) -> Result<(), std::io::Error> {
    ///     println!("welcome, {email}");
    ///     Ok(())
    /// }
    ///
    /// let bus = Bus::open("local:").await?;
    /// let app = App::new(&bus).handle(&EMAIL, welcome).start().await?;
    /// app.drain().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handle<T, A, H>(self, subscription: &'static Subscription<T>, handler: H) -> App
    where
        T: Send + 'static,
        A: 'static,
        H: Handler<T, A, Output: IntoOutcome>,
    {
        self.subscribe(subscription, None, handler, |mut events| events.pop())
    }

    /// Handles the messages of a subscription in batches: `max` of them, or fewer when the first one has waited for `wait`. The
    /// outcome is that of all; if they fail, each comes back alone, so that one that cannot be handled takes no others with
    /// it. Events that are returned are published together with the end of the whole batch. [`Metas`](crate::Metas) tells what
    /// is known of each.
    ///
    /// # Panics
    /// If `max` is 0.
    ///
    /// ```
    /// # use leveret::{App, Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// async fn store(emails: Vec<String>) -> Result<(), std::io::Error> {
    ///     println!("{} at once", emails.len());
    ///     Ok(())
    /// }
    ///
    /// let bus = Bus::open("local:").await?;
    /// // Up to 500, or what there is after 50 ms.
    /// let app = App::new(&bus).handle_batch(&EMAIL, (500, Duration::from_millis(50)), store).start().await?;
    /// app.drain().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn handle_batch<T, A, H>(
        self,
        subscription: &'static Subscription<T>,
        (max, wait): (u16, Duration),
        handler: H,
    ) -> App
    where
        T: Send + 'static,
        A: 'static,
        H: Handler<Vec<T>, A, Output: IntoOutcome>,
    {
        assert!(max > 0, "a batch has at least one message");
        self.subscribe(subscription, Some((max, wait)), handler, |events| {
            (!events.is_empty()).then(|| events.into_vec())
        })
    }

    /// `pick` makes of the events that could be read what the handler takes; nothing if there are none.
    fn subscribe<T, E, A, H>(
        mut self,
        subscription: &'static Subscription<T>,
        batch: Option<(u16, Duration)>,
        handler: H,
        pick: fn(Each<T>) -> Option<E>,
    ) -> App
    where
        T: Send + 'static,
        E: Send + 'static,
        A: 'static,
        H: Handler<E, A, Output: IntoOutcome>,
    {
        let call = {
            let handler = handler.clone();
            move |delivery: Delivery| {
                let handler = handler.clone();
                async move {
                    let (events, context, undecodable) = delivery.decode(subscription.topic().codec());
                    let Some(events) = pick(events) else { return Ok(Handled::unread(undecodable)) };
                    let (outcome, events) = handler.handle(events, &context).await.into_outcome();
                    Ok(Handled { outcome, events, ..Handled::unread(undecodable) })
                }
            }
        };
        #[cfg(feature = "asyncapi")]
        self.pages.push(Page::Receive(subscription.topic().page(), subscription.name()));
        let (concurrency, deadline) = subscription.limits();
        let work = Work { source: Source::Subscription(subscription.spec()), concurrency, deadline, batch };
        let check = Box::new(move |states: &States| handler.check(states));
        self.routes.push(Route { work, check, service: BoxService::new(service_fn(call)) });
        self
    }

    /// Responds to requests. Programs that respond to the same name share its requests.
    ///
    /// ```
    /// use leveret::{App, Bus, Rpc};
    ///
    /// static DOUBLE: Rpc<u64, u64> = Rpc::new("double");
    ///
    /// fn app(bus: &Bus) -> App {
    ///     App::new(bus).respond(&DOUBLE, async |number: u64| number.checked_mul(2).ok_or("it is too large"))
    /// }
    /// ```
    #[must_use]
    pub fn respond<Q, R, A, H>(mut self, rpc: &'static Rpc<Q, R>, handler: H) -> App
    where
        Q: Send + 'static,
        R: 'static,
        A: 'static,
        H: Handler<Q, A, Output: IntoReply<R>>,
    {
        let call = {
            let handler = handler.clone();
            move |delivery: Delivery| {
                let handler = handler.clone();
                async move {
                    let (mut requests, context, undecodable) = delivery.decode(rpc.request());
                    let Some(request) = requests.pop() else { return Ok(Handled::unread(undecodable)) };
                    let reply = handler.handle(request, &context).await.into_reply()?;
                    Ok(Handled { reply: rpc.reply().encode(&reply)?, ..Handled::new(Outcome::Done) })
                }
            }
        };
        #[cfg(feature = "asyncapi")]
        {
            let (request, reply) = rpc.pages();
            self.pages.push(Page::Respond(request, reply));
        }
        let (concurrency, deadline) = rpc.limits();
        let work = Work { source: Source::Requests(rpc.name()), concurrency, deadline, batch: None };
        let check = Box::new(move |states: &States| handler.check(states));
        self.routes.push(Route { work, check, service: BoxService::new(service_fn(call)) });
        self
    }

    /// Wraps what handles messages, of every handler that was given before, with a layer of [`tower`]: a limit of their rate, a log
    /// of one's own, a circuit breaker. An error of a layer is a failed attempt.
    ///
    /// ```
    /// # use leveret::{App, Bus};
    /// # use std::time::Duration;
    /// # fn limited(app: App) -> App {
    /// app.layer(tower::limit::RateLimitLayer::new(100, Duration::from_secs(1)))
    /// # }
    /// ```
    ///
    /// Panics and deadlines need no layer: they are seen to for each subscription. A layer that waits holds messages, so none is
    /// needed for retries either.
    #[must_use]
    pub fn layer<L, S>(mut self, layer: L) -> App
    where
        L: Layer<Service, Service = S>,
        S: tower::Service<Delivery, Response = Handled> + Send + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        let wrap = |Route { work, check, service }| {
            let service = BoxService::new(tower::ServiceExt::map_err(layer.layer(service), Into::into));
            Route { work, check, service }
        };
        self.routes = self.routes.into_iter().map(wrap).collect();
        self
    }

    /// Declares the subscriptions and begins to handle their messages.
    ///
    /// # Errors
    /// [`Error::Configuration`] if a handler needs what was not given, if two states have the same type or two handlers the same
    /// subscription; otherwise as [`Bus::declare`]. Nothing was started then.
    ///
    /// ```
    /// # use leveret::{App, Bus, Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::open("local:").await?;
    /// let running = App::new(&bus).handle(&EMAIL, async |email: String| println!("welcome, {email}")).start().await?;
    /// SIGNUPS.publish(&bus, &"ann@example.com".to_string()).await?;
    /// running.drain().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(self) -> Result<Running> {
        let App { bus, states, twice, routes, topics, .. } = self;
        if let Some(name) = twice {
            return Err(Error::Configuration(format!("App::state was given two values of type {name}")));
        }
        let mut seen = HashSet::new();
        for Route { work, check, .. } in &routes {
            check(&states)?;
            let what = work.source.description();
            if !seen.insert(what.clone()) {
                return Err(Error::Configuration(format!("{what} has two handlers in this App")));
            }
        }
        for topic in &topics {
            bus.declare_topic(topic).await?;
        }
        let mut ready = Vec::new();
        for Route { work, service, .. } in routes {
            ready.push((work.receive(&bus).await?, work, service));
        }
        let (stop, states) = (watch::Sender::new(false), Arc::new(states));
        let workers = ready.into_iter().map(|(receiver, work, service)| {
            tokio::spawn(work.run(receiver, service, states.clone(), bus.clone(), stop.subscribe()))
        });
        Ok(Running { workers: workers.collect(), stop })
    }

    /// Handles messages until `stop` is done; then those that are being handled, and ends.
    ///
    /// # Errors
    /// As [`App::start`], and as [`Running::drain`].
    ///
    /// ```
    /// # use leveret::App;
    /// # async fn run(app: App) -> leveret::Result<()> {
    /// app.run_until(async { _ = tokio::signal::ctrl_c().await }).await
    /// # }
    /// ```
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let running = self.start().await?;
        stop.await;
        running.drain().await
    }
}

/// An application that was started. Dropping it stops it, and lets what is being handled come to its end.
///
/// ```
/// # use leveret::Running;
/// # async fn stop(running: Running) -> leveret::Result<()> {
/// // The process was told to end: what is being handled comes to its end, and nothing more is begun.
/// running.drain().await
/// # }
/// ```
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
