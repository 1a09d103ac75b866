//! `amqp://` and `amqps://`: brokers that speak AMQP 0-9-1. Leveret has everything; RabbitMQ, from 3.10 on, what is said at [`AmqpDriver`].
//!
//! Lapin is the client; its recovery is not used. `link` keeps two connections, `publisher` publishes on one, `receiver` consumes on the
//! other. docs/wire-contract.md says what goes over the wire.

mod address;
mod engine;
mod fault;
mod ladder;
mod link;
mod message;
mod publisher;
mod receipt;
mod receiver;
mod requests;
mod selection;
mod topology;
mod transaction;

use crate::driver::{Backlog, Capabilities, Driver, Receiver, Reply, SubscriptionSpec, TopicSpec, Unconfirmed, Work};
use crate::error::{Error, Result};
use crate::message::Outgoing;
use address::Address;
use engine::{Engine, Unknown};
use fault::Fault;
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use link::{Epoch, Link, Pause};
use message::short;
use publisher::{Parcel, Publisher};
use receiver::{AmqpReceiver, Source};
use requests::Replies;
use selection::Selection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::time::Instant;
use topology::Step;

/// A broker that speaks AMQP 0-9-1: Leveret, or RabbitMQ from 3.10 on.
///
/// It has two connections, which are made anew when they are lost, and a task that owns each of them. After that, what was declared is
/// declared again, what was published and not confirmed is published again with its ids, receivers go on, and messages that were being
/// handled come again.
///
/// Everything is native to Leveret. On RabbitMQ there is no ordering by key and nothing is taken once by its id, since its queues cannot;
/// delays and retries go through a ladder of queues with times to live, in steps of 64 ms; filters are applied by the receiver, so that a
/// subscription gets what it does not want, too; and what a handler publishes is confirmed before its message is acknowledged, so
/// that it may be published twice, and is never lost.
///
/// ```
/// use leveret::Bus;
///
/// # async fn open() -> leveret::Result<()> {
/// let bus = Bus::open("amqp://guest:guest@localhost:5672?timeout=10").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AmqpDriver {
    shared: Arc<Shared>,
    /// Made for the first request.
    replies: Mutex<Option<Arc<Replies>>>,
}

/// How long the broker may take to end a consumer. Later, what is on its way to it counts as an attempt.
const FAREWELL: Duration = Duration::from_secs(10);

/// What was declared, in its order.
type Known = Arc<Mutex<Vec<Step>>>;

/// What is asked of a broker on a channel of its own.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Declare(&'a [Step]),
    /// How many messages of a queue are ready.
    Count(&'a ShortString),
}

/// What receivers and receipts have in common.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    publisher: Publisher,
    consuming: Link,
    known: Known,
    /// Held by receivers that have ended until the broker has back what they have not handed out.
    leaving: Arc<RwLock<()>>,
}

impl AmqpDriver {
    /// See [`Bus::open`](crate::Bus::open) for the URL.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the URL is not valid, or the broker none of those; [`Error::Engine`] if it cannot be reached in the
    /// time that the URL gives, or lets this user not in.
    pub async fn open(url: &str) -> Result<AmqpDriver> {
        let address = Address::parse(url)?;
        let deadline = Instant::now() + address.timeout;
        let engine = first_answer(&address, deadline).await?;
        let known = Known::default();
        let again = known.clone();
        let publishing = Link::start(address.clone(), "publishes", Box::new(move |epoch| declare_again(epoch, &again)));
        let consuming = Link::start(address.clone(), "consumes", Box::new(|_| Box::pin(async { Ok(()) })));
        publishing.up(Some(deadline)).await?;
        consuming.up(Some(deadline)).await?;
        let publisher = Publisher::new(publishing, known.clone(), address.timeout);
        let shared = Arc::new(Shared { engine, publisher, consuming, known, leaving: Arc::default() });
        Ok(AmqpDriver { shared, replies: Mutex::default() })
    }

    /// The queue of replies, which is made for the first request.
    fn replies(&self) -> Arc<Replies> {
        let mut made = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_with(|| Replies::listen(self.shared.consuming.clone())).clone()
    }
}

/// Asks until somebody answers.
async fn first_answer(address: &Address, deadline: Instant) -> Result<Engine> {
    let (mut pause, mut why) = (Pause::default(), "it does not answer".to_string());
    loop {
        why = match tokio::time::timeout_at(deadline, engine::ask(address)).await {
            Ok(Ok(engine)) => return Ok(engine),
            Ok(Err(Unknown::Foreign(error))) => return Err(error),
            Ok(Err(Unknown::Unreachable(why))) => why,
            // What was wrong before says more.
            Err(_) => why,
        };
        if Instant::now() >= deadline {
            let seconds = address.timeout.as_secs_f64();
            return Err(Error::Engine(format!("{address} cannot be reached (tried for {seconds} s): {why}")));
        }
        tracing::warn!("{address} cannot be reached: {why}; it will be tried again");
        tokio::select! {
            () = pause.wait() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

/// Declares again what was declared. What a broker refuses now was changed by somebody else, who had a reason: it is reported.
fn declare_again(epoch: Arc<Epoch>, known: &Known) -> Work<'static, Result<(), Fault>> {
    let steps = lock(known).clone();
    Box::pin(async move {
        match attempt(&epoch, &steps).await {
            Err(Fault::Refused { .. }) => {}
            other => return other,
        }
        for step in &steps {
            match attempt(&epoch, std::slice::from_ref(step)).await {
                Err(Fault::Refused { text, .. }) => tracing::error!("cannot be declared again: {text}"),
                other => other?,
            }
        }
        Ok(())
    })
}

async fn attempt(epoch: &Epoch, steps: &[Step]) -> Result<(), Fault> {
    if steps.is_empty() {
        return Ok(());
    }
    let channel = epoch.channel().await?;
    epoch.answer(topology::declare(&channel, steps)).await
}

fn lock(known: &Mutex<Vec<Step>>) -> MutexGuard<'_, Vec<Step>> {
    // Nothing that is done with it can panic halfway.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Asks on a channel of its own, and again if the connection is lost. Gives the number that was asked for.
    async fn ask(&self, what: Ask<'_>) -> Result<Result<u64, Fault>> {
        let (deadline, mut pause) = (self.publisher.deadline(), Pause::default());
        loop {
            let epoch = self.publisher.link().up(Some(deadline)).await?;
            let done = match epoch.channel().await {
                Ok(channel) => epoch.answer(what.answer(&channel)).await,
                Err(fault) => Err(fault),
            };
            match done {
                Err(Fault::Lost(_)) if Instant::now() < deadline => pause.wait().await,
                done => return Ok(done),
            }
        }
    }

    /// Declares, and remembers it for the next connection.
    async fn declare(&self, what: &str, name: &str, steps: &[Step]) -> Result<()> {
        match self.ask(Ask::Declare(steps)).await? {
            Ok(_) => {}
            Err(Fault::Refused { code: 406, text }) => return Err(Error::Mismatch(format!("{what} '{name}': {text}"))),
            Err(fault) => return Err(fault.into()),
        }
        let mut known = lock(&self.known);
        for step in steps {
            if !known.contains(step) {
                known.push(step.clone());
            }
        }
        Ok(())
    }

    /// Declares what delays need, where the engine has none.
    async fn prepare_ladder(&self, then: Vec<Step>) -> Result<()> {
        let (ladder, is_known) = {
            let (ladder, known) = (ladder::steps(), lock(&self.known));
            let is_known = |step| known.contains(step);
            let missing = then.iter().any(|step| !is_known(step));
            (if is_known(&ladder[0]) { Vec::new() } else { ladder }, !missing)
        };
        let steps = [ladder, if is_known { Vec::new() } else { then }].concat();
        if steps.is_empty() { Ok(()) } else { self.declare("delays", "leveret.delay", &steps).await }
    }

    /// Declares what the delays of these messages need.
    async fn prepare_delays(&self, messages: &[Outgoing]) -> Result<()> {
        if self.engine == Engine::RabbitMq {
            for message in messages.iter().filter(|message| message.delay.is_some()) {
                self.prepare_ladder(vec![ladder::to_topic(message.topic)]).await?;
            }
        }
        Ok(())
    }

    /// How many messages of a queue are ready.
    async fn count(&self, queue: &str) -> Result<Result<u64, Fault>> {
        let name = short(queue)?;
        self.ask(Ask::Count(&name)).await
    }

    /// Publishes until it is confirmed; gives the numbers of those that went to no queue.
    async fn publish(&self, parcels: &[Parcel<'_>]) -> Result<Vec<usize>, Unconfirmed> {
        self.publisher.publish(parcels).await
    }
}

impl Ask<'_> {
    async fn answer(self, channel: &Channel) -> lapin::Result<u64> {
        match self {
            Ask::Declare(steps) => topology::declare(channel, steps).await.map(|()| 0),
            Ask::Count(queue) => {
                let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let declared = channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
                Ok(declared.message_count().into())
            }
        }
    }
}

impl Driver for AmqpDriver {
    fn capabilities(&self) -> Capabilities {
        self.shared.engine.capabilities()
    }

    fn declare_topic<'a>(&'a self, topic: &'a TopicSpec) -> Work<'a, Result<()>> {
        Box::pin(async {
            let steps = topology::topic(self.shared.engine, topic);
            self.shared.declare("topic", topic.name, &steps).await
        })
    }

    fn declare_subscription<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<()>> {
        Box::pin(async {
            let engine = self.shared.engine;
            Selection::of(engine, &Source::Subscription(spec.clone()))?;
            if engine == Engine::RabbitMq && spec.retry.attempts > 1 {
                self.shared.prepare_ladder(Vec::new()).await?;
            }
            let steps = topology::subscription(engine, spec);
            if steps.is_empty() { Ok(()) } else { self.shared.declare("subscription", &spec.queue(), &steps).await }
        })
    }

    fn publish<'a>(&'a self, messages: &'a [Outgoing]) -> Work<'a, Result<u64, Unconfirmed>> {
        Box::pin(async {
            let (engine, all) = (self.shared.engine, |error| Unconfirmed::all(error, messages.len()));
            let parcels = messages.iter().map(|it| message::parcel(engine, it)).collect::<Result<Vec<_>, Fault>>();
            let parcels = parcels.map_err(|fault| all(fault.into()))?;
            self.shared.prepare_delays(messages).await.map_err(all)?;
            self.shared.publish(&parcels).await.map(|unheard| unheard.len() as u64)
        })
    }

    fn receive<'a>(
        &'a self,
        spec: &'a SubscriptionSpec,
        dead: bool,
        prefetch: u16,
    ) -> Work<'a, Result<Box<dyn Receiver>>> {
        Box::pin(async move {
            let source = if dead { Source::Dead(spec.clone()) } else { Source::Subscription(spec.clone()) };
            let receiver = AmqpReceiver::open(&self.shared, source, prefetch).await?;
            Ok(Box::new(receiver) as Box<dyn Receiver>)
        })
    }

    fn respond<'a>(&'a self, name: &'static str, prefetch: u16) -> Work<'a, Result<Box<dyn Receiver>>> {
        Box::pin(async move {
            let receiver = AmqpReceiver::open(&self.shared, Source::Requests(name), prefetch).await?;
            Ok(Box::new(receiver) as Box<dyn Receiver>)
        })
    }

    fn request<'a>(&'a self, request: &'a Outgoing, timeout: Duration) -> Work<'a, Result<Reply>> {
        Box::pin(async move { self.replies().request(&self.shared, request, timeout).await })
    }

    /// AMQP tells what is ready only: of messages that are not settled or wait it says nothing.
    fn backlog<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<Backlog>> {
        Box::pin(async {
            let (ready, dead) =
                (self.shared.count(&spec.queue()).await??, self.shared.count(&spec.dead_queue()).await??);
            Ok(Backlog { ready, dead, ..Backlog::default() })
        })
    }

    fn close(&self) -> Work<'_, Result<()>> {
        Box::pin(async {
            self.shared.publisher.close().await;
            _ = tokio::time::timeout(FAREWELL, self.shared.leaving.write()).await;
            self.shared.consuming.close().await;
            Ok(())
        })
    }
}
