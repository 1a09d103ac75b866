//! The SDK on both sides of a broker that is killed, or whose connections and channels are: nothing that was confirmed is lost, and
//! neither side has code for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use leveret::{App, Bus, Events, PublishError, RetryPolicy, State, Subscription, Topic};

use crate::crash::chance::Chance;
use crate::crash::victim::{MEMORY, Start, Victim, Way};
use crate::sdk::ledger::{FOLLOWED, Ledger};
use crate::sdk::relay::{Deed, Relay};

/// Tasks that publish, each one message at a time.
const PUBLISHERS: u64 = 8;

/// What is left behind is handled within this.
const PATIENCE: Duration = Duration::from_secs(120);

/// Soon, and so often that nothing ends as a dead letter: each time that a channel is lost counts as an attempt.
const RETRY: RetryPolicy =
    RetryPolicy { min: Duration::from_millis(10), max: Duration::from_millis(200), attempts: 10_000 };

/// What a deed says that kills the broker.
const KILLED: &str = "broker killed";

static NUMBERS: Topic<u64> = Topic::new("chaos.numbers");
static FOLLOWERS: Topic<u64> = Topic::new("chaos.followers");
static HANDLED: Subscription<u64> = NUMBERS.subscription("handled").retry(RETRY);
static FOLLOWED_BY: Subscription<u64> = FOLLOWERS.subscription("followed").retry(RETRY);

/// What is done to whom.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often.
    pub deeds: u64,
    /// The choices.
    pub seed: u64,
    /// How long a broker that was killed stays away, at most.
    pub away: Duration,
}

/// A broker that can be killed, or one that only its connections can be taken from.
#[derive(Debug)]
pub enum Target {
    /// An executable of Leveret, with a data directory of its own.
    Leveret(Start),
    /// Whatever listens on this port.
    Port(u16),
}

impl Target {
    /// Leveret on a port, with its data in a directory.
    pub fn leveret(binary: &Path, port: u16, directory: &Path) -> Target {
        let way = Way { segment_size: 1 << 20, sync: "always".to_string(), max_memory: MEMORY };
        let (data, log) = (Some(directory.join("data")), directory.join("leveret.log"));
        Target::Leveret(Start { leveret: binary.to_path_buf(), port, data, way, log })
    }

    fn port(&self) -> u16 {
        match self {
            Target::Leveret(start) => start.port,
            Target::Port(port) => *port,
        }
    }

    fn start(&self) -> Result<Option<Victim>> {
        let Target::Leveret(start) = self else { return Ok(None) };
        let mut victim = start.spawn()?;
        victim.wait_until_it_listens()?;
        Ok(Some(victim))
    }
}

async fn note(number: u64, State(ledger): State<Ledger>) -> Result<Events, PublishError> {
    let mut events = Events::default();
    if number.is_multiple_of(FOLLOWED) {
        FOLLOWERS.publish(&mut events, &number).await?;
    }
    ledger.handle(number);
    Ok(events)
}

async fn follow(number: u64, State(ledger): State<Ledger>) {
    ledger.follow(number);
}

/// Publishes and handles while it happens; prints what was found.
///
/// # Errors
/// If something is lost, or a publisher was told that it may be.
pub async fn run(target: &Target, plan: &Plan) -> Result<()> {
    let mut victim = target.start()?;
    let relay = Relay::start(target.port()).await?;
    let url = format!("amqp://{}?timeout=90&heartbeat=5", relay.address);
    let (ledger, next, stop) = (Ledger::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let (bus, other) = (Bus::open(&url).await?, Bus::open(&url).await?);
    let app = App::new(&bus).state(ledger.clone()).handle(&HANDLED, note).handle(&FOLLOWED_BY, follow).start().await?;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| tokio::spawn(publish(other.clone(), ledger.clone(), next.clone(), stop.clone())))
        .collect();
    let (mut chance, mut kills) = (Chance::new(plan.seed), 0);
    for number in 0..plan.deeds {
        tokio::time::sleep(Duration::from_millis(200 + chance.below(600))).await;
        let before = ledger.confirmed();
        let what = inflict(&relay, target, &mut victim, plan, &mut chance).await?;
        kills += u64::from(what.starts_with(KILLED));
        println!("{:>3}  {what}, after {before} confirms", number + 1);
        if let Some(victim) = &mut victim {
            victim.check()?;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await?;
    }
    let missing = ledger.settle(PATIENCE).await;
    println!("{kills} times {KILLED}; {ledger}");
    app.drain().await?;
    bus.close().await?;
    other.close().await?;
    if !missing.is_empty() {
        bail!("{} were confirmed and are lost: {:?}", missing.len(), &missing[..missing.len().min(20)]);
    }
    if let Some(why) = ledger.failures().first() {
        bail!("{} were not confirmed, such as: {why}", ledger.failures().len());
    }
    Ok(())
}

async fn publish(bus: Bus, ledger: Ledger, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        match NUMBERS.publish(&bus, &number).await {
            Ok(_) => ledger.confirm(number),
            Err(error) => ledger.fail(error.to_string()),
        }
    }
}

/// One thing, of those that can happen to this target.
async fn inflict(
    relay: &Relay,
    target: &Target,
    victim: &mut Option<Victim>,
    plan: &Plan,
    chance: &mut Chance,
) -> Result<String> {
    let choices = if victim.is_some() { 4 } else { 3 };
    Ok(match chance.below(choices) {
        0 => {
            relay.inflict(Deed::Cut);
            "connections cut".to_string()
        }
        1 => {
            relay.inflict(Deed::CloseChannels);
            "channels closed".to_string()
        }
        2 => {
            let silence = Duration::from_millis(100 + chance.below(1000));
            relay.set_silent(true);
            tokio::time::sleep(silence).await;
            relay.set_silent(false);
            format!("silent for {} ms", silence.as_millis())
        }
        _ => {
            // It dies by SIGKILL.
            drop(victim.take());
            relay.inflict(Deed::Cut);
            let away = Duration::from_millis(chance.below(plan.away.as_millis() as u64 + 1));
            tokio::time::sleep(away).await;
            *victim = target.start()?;
            format!("{KILLED}, and away for {} ms", away.as_millis())
        }
    })
}
