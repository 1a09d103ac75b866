//! A service records registrations and publishes them. Two others subscribe: one sends mails through a provider that takes
//! its time, one writes to a warehouse that is down half of the time. Neither slows down registration, nor each other. An
//! address that the provider refuses ends as a dead letter, and is redriven when the bug is fixed.
//!
//! `cargo run --release -p leveret --example signup`

use leveret::{App, Bus, Meta, Outcome, RetryPolicy, State, Subscription, Topic};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Serialize, Deserialize)]
struct SignupEvent {
    user: u32,
    email: String,
}

/// Soon and often, so that there is something to see.
const IMPATIENT: RetryPolicy =
    RetryPolicy { min: Duration::from_millis(50), max: Duration::from_millis(200), attempts: 20 };

static SIGNUPS: Topic<SignupEvent> = Topic::new("signups");
static EMAIL: Subscription<SignupEvent> = SIGNUPS.subscription("email").concurrency(2);
static ANALYTICS: Subscription<SignupEvent> = SIGNUPS.subscription("analytics").retry(IMPATIENT);

/// What the subscribers need, and what the program prints.
#[derive(Clone)]
struct Services {
    start: Instant,
    /// The mail service accepts addresses without a dot.
    fixed: Arc<AtomicBool>,
    print: Arc<dyn Fn(String) + Send + Sync>,
}

impl Services {
    fn say(&self, text: String) {
        (self.print)(format!("{:>5} ms  {text}", self.start.elapsed().as_millis()));
    }
}

async fn welcome(signup: SignupEvent, State(services): State<Services>) -> Outcome {
    if !signup.email.contains('.') && !services.fixed.load(Ordering::Relaxed) {
        services.say(format!("email      refuses {}", signup.email));
        return Outcome::Dead("an address has a dot".into());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    services.say(format!("email      welcomes {}", signup.email));
    Outcome::Done
}

async fn count(signup: SignupEvent, State(services): State<Services>, meta: Meta) -> Result<(), &'static str> {
    // Up for a quarter of a second, down for the next.
    if services.start.elapsed().as_millis() / 250 % 2 == 0 {
        return Err("the warehouse is down");
    }
    services.say(format!("analytics  counts user {} at attempt {}", signup.user, meta.attempt));
    Ok(())
}

/// Registers some users and waits until all is done.
pub async fn run(url: &str, print: Arc<dyn Fn(String) + Send + Sync>) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(url).await?;
    let services = Services { start: Instant::now(), fixed: Arc::default(), print };
    let app = App::new(&bus).state(services.clone()).handle(&EMAIL, welcome).handle(&ANALYTICS, count).start().await?;

    for (user, email) in (1..).zip(["ann@example.com", "bob@example.com", "cid@localhost", "dan@example.com"]) {
        let id = SIGNUPS.publish(&bus, &SignupEvent { user, email: email.to_string() }).await?;
        services.say(format!("signup     has registered {email} ({id})"));
    }
    until(&bus, &EMAIL, 1).await?;
    until(&bus, &ANALYTICS, 0).await?;

    for dead in bus.dead(&EMAIL, 10).await? {
        let email = dead.event.as_ref().map_or("?", |signup| &signup.email);
        services.say(format!("dead       {email}: {}, {}", dead.reason, dead.error.as_deref().unwrap_or_default()));
    }
    services.fixed.store(true, Ordering::Relaxed);
    services.say(format!("redrive    {} after the fix", bus.redrive(&EMAIL, u64::MAX).await?));
    until(&bus, &EMAIL, 0).await?;
    app.drain().await?;
    Ok(bus.close().await?)
}

/// Waits until nothing of a subscription is left but so many dead letters.
async fn until<T>(bus: &Bus, subscription: &Subscription<T>, dead: u64) -> leveret::Result<()> {
    loop {
        let backlog = bus.backlog(subscription).await?;
        if backlog.ready + backlog.unsettled + backlog.waiting == 0 && backlog.dead == dead {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("BUS_URL").unwrap_or("local:".to_string());
    run(&url, Arc::new(|line| println!("{line}"))).await
}
