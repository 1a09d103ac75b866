//! Tests of applications: the real broker in memory, whose time goes by when a test says so.

use crate::bus::Bus;
use crate::dead::Dead;
use crate::driver::{
    Backlog, Capabilities, Driver, Receipt, Received, Receiver, Reply, Settlement, SubscriptionSpec, TopicSpec,
    Unconfirmed, Work,
};
use crate::error::{PublishError, Result};
use crate::local::LocalDriver;
use crate::message::{MessageId, Outgoing};
use crate::subscription::Subscription;
use crate::topic::{Target, Topic};
use leveret_broker::{Broker, Environment, Limits};
use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long [`TestBus::settle`] waits for handlers, by the clock on the wall.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const STEP: Duration = Duration::from_millis(1);

/// A bus of its own for a test. Whatever has to wait, waits for [`TestBus::advance`] or [`TestBus::settle`]: eight attempts with
/// growing delays take no time.
///
/// ```
/// use leveret::testing::TestBus;
/// use leveret::{App, Subscription, Topic};
///
/// static SIGNUPS: Topic<String> = Topic::new("signups");
/// static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
///
/// async fn down(_: String) -> Result<(), &'static str> {
///     Err("the mail server is down")
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let test = TestBus::new();
///     let app = App::new(test.bus()).handle(&EMAIL, down).start().await?;
///     SIGNUPS.publish(&test, &"ann".to_string()).await?;
///     test.settle().await;
///
///     let dead = test.dead(&EMAIL).await?;
///     assert_eq!((dead[0].attempts, dead[0].error.as_deref()), (10, Some("the mail server is down")));
///     assert!(test.handled(&EMAIL).is_empty());
///     app.drain().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct TestBus {
    bus: Bus,
    time: Time,
    record: Arc<Record>,
}

/// Whose time goes by.
#[derive(Debug)]
enum Time {
    /// That of a broker in memory, when a test says so.
    Broker { broker: Broker, clock: Arc<AtomicU64> },
    /// Of a real engine, whatever a test says.
    Real,
}

/// What has happened on a bus.
#[derive(Debug, Default)]
struct Record {
    published: Mutex<Vec<Entry>>,
    handled: Mutex<Vec<Entry>>,
    subscriptions: Mutex<Vec<SubscriptionSpec>>,
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// Of a topic, or of a queue.
    name: String,
    body: Vec<u8>,
}

impl Default for TestBus {
    fn default() -> TestBus {
        TestBus::new()
    }
}

impl TestBus {
    /// A bus with nothing on it.
    pub fn new() -> TestBus {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let (now, elapsed) = (clock.clone(), clock.clone());
        let environment = Environment {
            now: Box::new(move || now.load(Ordering::Relaxed)),
            elapsed: Box::new(move || elapsed.load(Ordering::Relaxed)),
            ticks: true,
            ..Environment::system()
        };
        let (broker, record) = (Broker::new(Limits::default(), environment), Arc::<Record>::default());
        let driver = Box::new(LocalDriver::new(&broker, false));
        let bus = Bus::with_driver(Recorder { driver, record: record.clone(), names: None });
        TestBus { bus, time: Time::Broker { broker, clock }, record }
    }

    /// As [`TestBus::new`]; but if this environment variable is set, [on](TestBus::on) the engine whose URL it is: the same test, with the
    /// real thing.
    ///
    /// # Errors
    /// As [`Bus::open`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> leveret::Result<()> {
    /// use leveret::testing::TestBus;
    ///
    /// // In a test: `TEST_BUS_URL=amqp://localhost cargo test` runs it on a real broker.
    /// let test = TestBus::from_env("TEST_BUS_URL").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_env(variable: &str) -> Result<TestBus> {
        match std::env::var(variable) {
            Ok(url) => TestBus::on(&url).await,
            Err(_) => Ok(TestBus::new()),
        }
    }

    /// A bus for a test on an engine that others use, too, in real time and with names of its own.
    ///
    /// # Errors
    /// As [`Bus::open`].
    ///
    /// ```
    /// # async fn test() -> leveret::Result<()> {
    /// use leveret::testing::TestBus;
    ///
    /// let test = TestBus::on("amqp://localhost").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn on(url: &str) -> Result<TestBus> {
        let (driver, record) = (crate::bus::driver(url).await?, Arc::<Record>::default());
        let prefix = format!("test-{}", Uuid::now_v7().simple());
        let names = Some(Arc::new(Names { prefix, known: Mutex::default() }));
        let bus = Bus::with_driver(Recorder { driver, record: record.clone(), names });
        Ok(TestBus { bus, time: Time::Real, record })
    }

    /// The bus, for [`App::new`](crate::App::new) and all else.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Lets time go by for the broker: what is due by then becomes ready. On a real engine, waits for so long.
    ///
    /// ```
    /// # use leveret::{Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use leveret::testing::TestBus;
    /// use std::time::Duration;
    ///
    /// let test = TestBus::new();
    /// test.bus().declare(&EMAIL).await?;
    /// SIGNUPS.publish(&test, &"ann".to_string()).delay(Duration::from_secs(3600)).await?;
    /// assert_eq!(test.bus().backlog(&EMAIL).await?.ready, 0);
    /// test.advance(Duration::from_secs(3601)).await;
    /// assert_eq!(test.bus().backlog(&EMAIL).await?.ready, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn advance(&self, by: Duration) {
        match &self.time {
            Time::Broker { broker, clock } => {
                clock.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                while broker.tick() {}
            }
            Time::Real => tokio::time::sleep(by).await,
        }
    }

    /// Waits until everything that was published is handled or dead, and lets the time go by that this takes.
    /// Delayed events that are not due yet stay where they are.
    ///
    /// # Panics
    /// If that takes longer than half a minute on the wall: a subscription has messages and no handler, or its handler hangs.
    pub async fn settle(&self) {
        loop {
            let waiting = self.idle().await;
            let Some(longest) = waiting else { return };
            match self.time {
                Time::Broker { .. } => self.advance(longest).await,
                // Perhaps it takes less.
                Time::Real => self.advance(STEP).await,
            }
        }
    }

    /// Waits until nothing is ready or being handled. The longest wait there may be for what waits; `None` if nothing does.
    async fn idle(&self) -> Option<Duration> {
        let start = Instant::now();
        loop {
            let (mut busy, mut longest) = (None, None);
            let subscriptions = lock(&self.record.subscriptions).clone();
            for spec in &subscriptions {
                let backlog = self.bus.driver().backlog(spec).await.unwrap_or_default();
                if backlog.ready + backlog.unsettled > 0 {
                    busy = Some((spec.queue(), backlog));
                }
                if backlog.waiting > 0 {
                    longest = longest.max(Some(spec.retry.max));
                }
            }
            let Some((queue, backlog)) = busy else { return longest };
            assert!(start.elapsed() < PATIENCE, "subscription '{queue}' does not come to rest: {backlog:?}");
            tokio::time::sleep(STEP).await;
        }
    }

    /// The events of a topic that were published, in their order.
    ///
    /// # Panics
    /// If one does not decode.
    ///
    /// ```
    /// # use leveret::{Subscription, Topic};
    /// # static SIGNUPS: Topic<String> = Topic::new("signups");
    /// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use leveret::testing::TestBus;
    ///
    /// let test = TestBus::new();
    /// SIGNUPS.publish(&test, &"ann".to_string()).await?;
    /// assert_eq!(test.published(&SIGNUPS), ["ann"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn published<T>(&self, topic: &Topic<T>) -> Vec<T> {
        events(&self.record.published, topic.name(), topic)
    }

    /// The events that a subscription has handled, in the order in which that succeeded.
    ///
    /// # Panics
    /// If one does not decode.
    pub fn handled<T>(&self, subscription: &Subscription<T>) -> Vec<T> {
        events(&self.record.handled, &subscription.spec().queue(), subscription.topic())
    }

    /// The dead letters of a subscription.
    ///
    /// # Errors
    /// As [`Bus::dead`].
    pub async fn dead<T>(&self, subscription: &Subscription<T>) -> Result<Vec<Dead<T>>> {
        self.bus.dead(subscription, u16::MAX).await
    }
}

impl<'a> Target for &'a TestBus {
    type Taking = Work<'a, Result<MessageId, PublishError>>;

    fn take(self, message: Result<Outgoing, PublishError>) -> Self::Taking {
        self.bus.take(message)
    }
}

fn events<T>(of: &Mutex<Vec<Entry>>, name: &str, topic: &Topic<T>) -> Vec<T> {
    let decode = |entry: &Entry| topic.codec().decode(&entry.body).unwrap_or_else(|error| panic!("an event: {error}"));
    lock(of).iter().filter(|entry| entry.name == name).map(decode).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done with it can panic halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what goes through it.
#[derive(Debug)]
struct Recorder {
    driver: Box<dyn Driver>,
    record: Arc<Record>,
    names: Option<Arc<Names>>,
}

/// Names of a test on an engine that others use, too.
#[derive(Debug)]
struct Names {
    prefix: String,
    known: Mutex<HashMap<&'static str, &'static str>>,
}

impl Names {
    /// The name of a topic on the engine. Topics of tests are few, so that what they leak is little.
    fn of(&self, name: &'static str) -> &'static str {
        let make = || -> &'static str { Box::leak(format!("{}.{name}", self.prefix).into_boxed_str()) };
        lock(&self.known).entry(name).or_insert_with(make)
    }

    fn message(&self, message: &Outgoing) -> Outgoing {
        Outgoing { topic: self.of(message.topic), ..message.clone() }
    }

    /// As the engine is to be told of an end.
    fn settlement(&self, how: Settlement) -> Settlement {
        match how {
            Settlement::Done(events) => Settlement::Done(events.iter().map(|event| self.message(event)).collect()),
            how => how,
        }
    }
}

impl Recorder {
    fn topic(&self, topic: &TopicSpec) -> TopicSpec {
        let name = self.names.as_ref().map_or(topic.name, |names| names.of(topic.name));
        TopicSpec { name, ..*topic }
    }

    fn subscription(&self, spec: &SubscriptionSpec) -> SubscriptionSpec {
        SubscriptionSpec { topic: self.topic(&spec.topic), ..spec.clone() }
    }

    fn message(&self, message: &Outgoing) -> Outgoing {
        self.names.as_ref().map_or_else(|| message.clone(), |names| names.message(message))
    }
}

impl Driver for Recorder {
    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn declare_topic<'a>(&'a self, topic: &'a TopicSpec) -> Work<'a, Result<()>> {
        Box::pin(async { self.driver.declare_topic(&self.topic(topic)).await })
    }

    fn declare_subscription<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<()>> {
        Box::pin(async {
            self.driver.declare_subscription(&self.subscription(spec)).await?;
            let mut known = lock(&self.record.subscriptions);
            if !spec.broadcast && !known.contains(spec) {
                known.push(spec.clone());
            }
            Ok(())
        })
    }

    fn publish<'a>(&'a self, messages: &'a [Outgoing]) -> Work<'a, Result<u64, Unconfirmed>> {
        Box::pin(async {
            let renamed: Vec<_> = messages.iter().map(|message| self.message(message)).collect();
            let unheard = self.driver.publish(&renamed).await?;
            _ = self.record.publish(messages);
            Ok(unheard)
        })
    }

    fn receive<'a>(&'a self, spec: &'a SubscriptionSpec, dead: bool, most: u16) -> Work<'a, Result<Box<dyn Receiver>>> {
        Box::pin(async move {
            let receiver = self.driver.receive(&self.subscription(spec), dead, most).await?;
            let queue = (!dead).then(|| spec.queue());
            Ok(Box::new(Recorded { receiver, record: self.record.clone(), names: self.names.clone(), queue })
                as Box<dyn Receiver>)
        })
    }

    fn respond<'a>(&'a self, name: &'static str, prefetch: u16) -> Work<'a, Result<Box<dyn Receiver>>> {
        self.driver.respond(self.names.as_ref().map_or(name, |names| names.of(name)), prefetch)
    }

    fn request<'a>(&'a self, request: &'a Outgoing, timeout: Duration) -> Work<'a, Result<Reply>> {
        Box::pin(async move { self.driver.request(&self.message(request), timeout).await })
    }

    fn backlog<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<Backlog>> {
        Box::pin(async { self.driver.backlog(&self.subscription(spec)).await })
    }

    fn close(&self) -> Work<'_, Result<()>> {
        self.driver.close()
    }
}

impl Record {
    fn entry(&self, name: &str, body: Vec<u8>) -> Entry {
        Entry { number: self.numbers.fetch_add(1, Ordering::Relaxed), name: name.to_string(), body }
    }

    /// Notes what was handled and published with that, before it is settled: whoever sees the queue empty sees this, too. Gives the
    /// numbers of the entries.
    fn done(&self, handled: Vec<(String, Vec<u8>)>, events: &[Outgoing]) -> Vec<u64> {
        let entries: Vec<_> = handled.into_iter().map(|(queue, body)| self.entry(&queue, body)).collect();
        let numbers = entries.iter().map(|entry| entry.number).chain(self.publish(events)).collect();
        lock(&self.handled).extend(entries);
        numbers
    }

    /// What was not settled was not handled.
    fn take_back<T>(&self, numbers: Vec<u64>, settled: &Result<T>) {
        if settled.is_err() {
            lock(&self.handled).retain(|it| !numbers.contains(&it.number));
            lock(&self.published).retain(|it| !numbers.contains(&it.number));
        }
    }

    /// Gives the numbers of the entries.
    fn publish(&self, messages: &[Outgoing]) -> Vec<u64> {
        let entries: Vec<_> = messages.iter().map(|it| self.entry(it.topic, it.body.clone())).collect();
        let numbers = entries.iter().map(|entry| entry.number).collect();
        lock(&self.published).extend(entries);
        numbers
    }
}

/// A receiver whose receipts note what was done.
struct Recorded {
    receiver: Box<dyn Receiver>,
    record: Arc<Record>,
    names: Option<Arc<Names>>,
    /// `None` for dead letters.
    queue: Option<String>,
}

struct Noted {
    receipt: Box<dyn Receipt>,
    record: Arc<Record>,
    names: Option<Arc<Names>>,
    queue: String,
    body: Vec<u8>,
}

impl Recorded {
    /// Lets the receipts of what came from `begin` on note what is done with them.
    fn wrap(&self, out: &mut Vec<Received>, begin: usize) {
        let Some(queue) = &self.queue else { return };
        let wrapped = out.split_off(begin).into_iter().map(|received| {
            let (record, queue, body) = (self.record.clone(), queue.clone(), received.message.body.clone());
            let receipt = Box::new(Noted { receipt: received.receipt, record, names: self.names.clone(), queue, body });
            Received { receipt, ..received }
        });
        out.extend(wrapped);
    }
}

impl Receiver for Recorded {
    fn next<'a>(&'a mut self, out: &'a mut Vec<Received>) -> Work<'a, Result<bool>> {
        Box::pin(async move {
            let begin = out.len();
            let more = self.receiver.next(out).await?;
            self.wrap(out, begin);
            Ok(more)
        })
    }

    fn try_next(&mut self, out: &mut Vec<Received>) -> Result<()> {
        let begin = out.len();
        let tried = self.receiver.try_next(out);
        self.wrap(out, begin);
        tried
    }
}

impl Receipt for Noted {
    fn settle(self: Box<Self>, how: Settlement) -> Work<'static, Result<Vec<usize>>> {
        Box::pin(async move {
            let Noted { receipt, record, names, queue, body } = *self;
            let renamed = |how| match &names {
                Some(names) => names.settlement(how),
                None => how,
            };
            let Settlement::Done(events) = &how else { return receipt.settle(how).await };
            let noted = record.done(vec![(queue, body)], events);
            let settled = receipt.settle(renamed(how)).await;
            record.take_back(noted, &settled);
            settled
        })
    }

    fn settle_all(
        self: Box<Self>,
        others: Vec<Box<dyn Receipt>>,
        how: Settlement,
    ) -> Work<'static, Result<Vec<usize>>> {
        Box::pin(async move {
            let Noted { receipt, record, names, queue, body } = *self;
            let renamed = |how| match &names {
                Some(names) => names.settlement(how),
                None => how,
            };
            let (mut handled, mut receipts) = (vec![(queue, body)], Vec::new());
            for other in others {
                let other: Box<dyn Any> = other;
                let other = other.downcast::<Noted>().expect("receipts that are settled together are of one receiver");
                handled.push((other.queue, other.body));
                receipts.push(other.receipt);
            }
            let Settlement::Done(events) = &how else { return receipt.settle_all(receipts, how).await };
            let noted = record.done(handled, events);
            let settled = receipt.settle_all(receipts, renamed(how)).await;
            record.take_back(noted, &settled);
            settled
        })
    }
}
