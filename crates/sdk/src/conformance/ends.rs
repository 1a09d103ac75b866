//! How handling ends, and what comes after a failure.

use super::scene::{SOON, Scene, Seen, ended, same, subscription, text};
use super::{Behaviour, Verdict};
use crate::codec::Codec;
use crate::driver::Support;
use crate::message::Meta;
use crate::outcome::{Events, Outcome};
use crate::topic::Topic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        name: "a failed event is tried again later, until it succeeds",
        needs: |has| has.retry,
        check: |scene| Box::pin(retried(scene)),
    },
    Behaviour {
        name: "an event that has failed often enough is a dead letter, with its error and its attempts",
        needs: |has| has.retry,
        check: |scene| Box::pin(exhausted(scene)),
    },
    Behaviour {
        name: "an event that waits for its next attempt holds up nobody",
        needs: |has| has.retry,
        check: |scene| Box::pin(waits_alone(scene)),
    },
    Behaviour {
        name: "a handler may say when it is to be tried again",
        needs: |has| has.retry,
        check: |scene| Box::pin(retried_after(scene)),
    },
    Behaviour { name: "a panic is a failed attempt", needs: |has| has.retry, check: |scene| Box::pin(panicked(scene)) },
    Behaviour {
        name: "a handler that takes too long has failed",
        needs: |has| has.retry,
        check: |scene| Box::pin(too_long(scene)),
    },
    Behaviour {
        name: "a handler may say that an event is dead",
        needs: |_| Support::Native,
        check: |scene| Box::pin(rejected(scene)),
    },
    Behaviour {
        name: "an event that does not decode is dead at once, with its bytes",
        needs: |_| Support::Native,
        check: |scene| Box::pin(undecodable(scene)),
    },
    Behaviour {
        name: "a dead letter that is redriven is handled as if it were new",
        needs: |_| Support::Native,
        check: |scene| Box::pin(redriven(scene)),
    },
    Behaviour {
        name: "what a handler publishes is published if it succeeds, and not if it fails",
        needs: |has| has.transactions,
        check: |scene| Box::pin(together(scene)),
    },
];

async fn retried(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let (seen, noted) = (Seen::new(), Seen::new());
    let handler = {
        let (seen, noted) = (seen.clone(), noted.clone());
        move |event: String, meta: Meta| {
            seen.note(format!("{event}{}", meta.attempt), &meta);
            let done = meta.attempt == 3;
            if done {
                noted.note(event, &meta);
            }
            async move { if done { Ok(()) } else { Err("not yet") } }
        }
    };
    let app = scene.app().handle(subscription, handler).start().await.map_err(text)?;
    let id = topic.publish(&scene.bus, &"a".to_string()).attribute("plan", "pro").await.map_err(text)?;
    for attempt in 1..=3 {
        let (event, meta) = seen.next().await?;
        same("attempt", event, format!("a{attempt}"))?;
        same("id", &meta.id, &id)?;
        same("attribute", meta.attribute("plan"), Some("pro"))?;
    }
    noted.next().await?;
    seen.nothing().await?;
    ended(app).await?;
    scene.until(subscription, "none left", |it| it.ready + it.unsettled + it.waiting + it.dead == 0).await
}

async fn exhausted(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let app =
        scene.app().handle(subscription, async |_: String, meta: Meta| Err::<(), _>(format!("error {}", meta.attempt)));
    let app = app.start().await.map_err(text)?;
    let id = topic.publish(&scene.bus, &"a".to_string()).key("k").await.map_err(text)?;
    let dead = scene.dead(subscription, 1).await?.remove(0);
    same("event", dead.event.as_ref().ok().map(String::as_str), Some("a"))?;
    same("id", &dead.meta.id, &id)?;
    same("key", dead.meta.key.as_deref(), Some("k"))?;
    same("reason", dead.reason.as_str(), "attempts")?;
    same("error", dead.error.as_deref(), Some("error 4"))?;
    same("attempts", dead.attempts, SOON.attempts)?;
    dead.discard().await.map_err(text)?;
    scene.dead(subscription, 0).await?;
    ended(app).await
}

async fn waits_alone(scene: Scene) -> Verdict {
    let (topic, subscription) = scene
        .subscribed("t", |it| {
            it.concurrency(1).retry(crate::RetryPolicy {
                min: Duration::from_secs(20),
                max: Duration::from_secs(20),
                attempts: 2,
            })
        })
        .await?;
    let seen = Seen::new();
    let handler = {
        let seen = seen.clone();
        move |event: String, meta: Meta| {
            seen.note(event.as_str(), &meta);
            async move { if event == "bad" { Err("no") } else { Ok(()) } }
        }
    };
    let app = scene.app().handle(subscription, handler).start().await.map_err(text)?;
    // A wait has any part of 20 seconds: some of ten take longer than this test.
    for _ in 0..10 {
        scene.publish(topic, "bad").await?;
    }
    scene.publish(topic, "good").await?;
    while seen.next().await?.0 != "good" {}
    ended(app).await
}

async fn retried_after(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let seen = Seen::new();
    let handler = {
        let seen = seen.clone();
        move |event: String, meta: Meta| {
            seen.note(event, &meta);
            let wait = Duration::from_millis(1500);
            async move { if meta.attempt == 1 { Outcome::RetryAfter("busy".into(), wait) } else { Outcome::Done } }
        }
    };
    let app = scene.app().handle(subscription, handler).start().await.map_err(text)?;
    let id = topic.publish(&scene.bus, &"a".to_string()).await.map_err(text)?;
    seen.next().await?;
    let begin = Instant::now();
    let (event, meta) = seen.next().await?;
    same("event", event.as_str(), "a")?;
    same("id", &meta.id, &id)?;
    same("attempt", meta.attempt, 2)?;
    same("it has waited", begin.elapsed() >= Duration::from_millis(1300), true)?;
    ended(app).await
}

async fn panicked(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it.retry(crate::RetryPolicy::NEVER)).await?;
    let app = scene.app().handle(subscription, async |event: String| {
        assert!(event != "bad", "it is {event}");
    });
    let app = app.start().await.map_err(text)?;
    scene.publish(topic, "bad").await?;
    let dead = scene.dead(subscription, 1).await?;
    same("error", dead[0].error.as_deref(), Some("the handler panicked: it is bad"))?;
    same("attempts", dead[0].attempts, 1)?;
    drop(dead);
    ended(app).await
}

async fn too_long(scene: Scene) -> Verdict {
    let with =
        |it: crate::Subscription<String>| it.retry(crate::RetryPolicy::NEVER).deadline(Duration::from_millis(50));
    let (topic, subscription) = scene.subscribed("t", with).await?;
    let app = scene.app().handle(subscription, async |_: String| std::future::pending::<()>().await);
    let app = app.start().await.map_err(text)?;
    scene.publish(topic, "a").await?;
    let dead = scene.dead(subscription, 1).await?;
    same("error", dead[0].error.as_deref(), Some("the handler took longer than 50ms"))?;
    drop(dead);
    ended(app).await
}

async fn rejected(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let app = scene.app().handle(subscription, async |_: String| Outcome::Dead("never".into()));
    let app = app.start().await.map_err(text)?;
    scene.publish(topic, "a").await?;
    let dead = scene.dead(subscription, 1).await?;
    let found = (dead[0].reason.as_str(), dead[0].error.as_deref(), dead[0].attempts);
    same("reason, error and attempts", found, ("rejected", Some("never"), 1))?;
    drop(dead);
    ended(app).await
}

async fn undecodable(scene: Scene) -> Verdict {
    let (_, s) = scene.subscribed("t", |it| it).await?;
    let bytes: &'static Topic<Vec<u8>> = Box::leak(Box::new(Topic::with_codec(s.topic().name(), Codec::bytes())));
    let app = scene.app().handle(s, async |_: String| {}).start().await.map_err(text)?;
    bytes.publish(&scene.bus, &b"\xff{".to_vec()).await.map_err(text)?;
    let dead = scene.dead(s, 1).await?;
    same("reason", dead[0].reason.as_str(), "undecodable")?;
    same("bytes", dead[0].body.as_slice(), b"\xff{")?;
    same("it has an error", dead[0].error.is_some() && dead[0].event.is_err(), true)?;
    drop(dead);
    ended(app).await
}

async fn redriven(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let (seen, mended) = (Seen::new(), Arc::new(AtomicBool::new(false)));
    let handler = {
        let (seen, mended) = (seen.clone(), mended.clone());
        move |event: String, meta: Meta| {
            let mended = mended.load(Ordering::Relaxed);
            if mended {
                seen.note(event, &meta);
            }
            async move { if mended { Outcome::Done } else { Outcome::Dead("a bug".into()) } }
        }
    };
    let app = scene.app().handle(subscription, handler).start().await.map_err(text)?;
    let id = topic.publish(&scene.bus, &"a".to_string()).attribute("plan", "pro").await.map_err(text)?;
    drop(scene.dead(subscription, 1).await?);
    mended.store(true, Ordering::Relaxed);
    // Those that were looked at go back first.
    scene.until(subscription, "dead letters", |backlog| backlog.dead == 1).await?;
    same("redriven", scene.bus.redrive(subscription, u64::MAX).await.map_err(text)?, 1)?;
    let (event, meta) = seen.next().await?;
    same("event", event.as_str(), "a")?;
    same("id", &meta.id, &id)?;
    same("attempt", meta.attempt, 1)?;
    same("attribute", meta.attribute("plan"), Some("pro"))?;
    same("attributes", meta.attributes.len(), 1)?;
    scene.dead(subscription, 0).await?;
    ended(app).await
}

async fn together(scene: Scene) -> Verdict {
    let (orders, subscription_of_orders) = scene.subscribed("orders", |it| it).await?;
    let invoices = scene.topic("invoices");
    let (mail, seen) = (subscription(invoices, "mail", |it| it), Seen::new());
    let note = {
        let seen = seen.clone();
        move |event: String, meta: Meta| {
            seen.note(event, &meta);
            std::future::ready(())
        }
    };
    let bill = async move |order: String, meta: Meta| -> Result<Events, String> {
        let mut events = Events::default();
        invoices.publish(&mut events, &format!("{order} at attempt {}", meta.attempt)).await.map_err(text)?;
        if meta.attempt == 1 { Err("not yet".to_string()) } else { Ok(events) }
    };
    let app = scene.app().handle(subscription_of_orders, bill).handle(mail, note).start().await.map_err(text)?;
    scene.publish(orders, "a").await?;
    same("event", seen.next().await?.0.as_str(), "a at attempt 2")?;
    seen.nothing().await?;
    ended(app).await
}
