//! How events reach their subscriptions.

use super::scene::{Scene, Seen, ended, same, subscription, text};
use super::{Behaviour, Verdict};
use crate::driver::Support;
use crate::error::PublishError;
use crate::message::{MessageId, Meta};
use crate::outcome::Events;
use crate::trace::Parent;
use std::time::{Duration, Instant, SystemTime};

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        name: "every subscription gets every event, with its id, attributes, key, time and trace",
        needs: |_| Support::Native,
        check: |scene| Box::pin(everybody(scene)),
    },
    Behaviour {
        name: "events are kept for a subscription that is not running",
        needs: |_| Support::Native,
        check: |scene| Box::pin(kept(scene)),
    },
    Behaviour {
        name: "programs that handle the same subscription share its events",
        needs: |_| Support::Native,
        check: |scene| Box::pin(shared(scene)),
    },
    Behaviour {
        name: "events that are not begun when a program drains go back, and have lost no attempt",
        needs: |_| Support::Native,
        check: |scene| Box::pin(drained(scene)),
    },
    Behaviour {
        name: "an event of a megabyte arrives as it was",
        needs: |_| Support::Native,
        check: |scene| Box::pin(large(scene)),
    },
    Behaviour {
        name: "what is published to a topic without subscriptions is counted, also when a handler publishes it",
        needs: |_| Support::Native,
        check: |scene| Box::pin(unheard(scene)),
    },
    Behaviour {
        name: "a subscription that is declared again with another policy is refused",
        needs: |_| Support::Native,
        check: |scene| Box::pin(mismatch(scene)),
    },
    Behaviour {
        name: "a delayed event comes after its delay",
        needs: |has| has.delay,
        check: |scene| Box::pin(delayed(scene)),
    },
    Behaviour {
        name: "a filter takes the events with matching attributes",
        needs: |has| has.filters,
        check: |scene| Box::pin(filtered(scene)),
    },
    Behaviour {
        name: "an exactly-once topic takes an id once",
        needs: |has| has.exactly_once,
        check: |scene| Box::pin(once(scene)),
    },
    Behaviour {
        name: "events with the same key are handled one after the other, in order, also when one fails",
        needs: |has| has.ordering,
        check: |scene| Box::pin(ordered(scene)),
    },
];

fn note(seen: &Seen) -> impl Fn(String, Meta) -> std::future::Ready<()> + Clone + Send + Sync + 'static {
    let seen = seen.clone();
    move |event, meta| {
        seen.note(event, &meta);
        std::future::ready(())
    }
}

async fn everybody(scene: Scene) -> Verdict {
    let (seen, topic) = (Seen::new(), scene.topic("t"));
    let (a, b) = (subscription(topic, "a", |it| it), subscription(topic, "b", |it| it));
    let app = scene.app().handle(a, note(&seen)).handle(b, note(&seen)).start().await.map_err(text)?;
    let before = SystemTime::now() - Duration::from_secs(1);
    let trace = Parent::new().with_state("vendor=1");
    let publishing = topic.publish(&scene.bus, &"hello".to_string()).attribute("plan", "pro").key("ann");
    let id = publishing.trace(trace.clone()).await.map_err(text)?;
    for _ in 0..2 {
        let (event, meta) = seen.next().await?;
        same("event", event.as_str(), "hello")?;
        same("id", &meta.id, &id)?;
        same("attribute", meta.attribute("plan"), Some("pro"))?;
        same("attributes", meta.attributes.len(), 1)?;
        same("key", meta.key.as_deref(), Some("ann"))?;
        same("attempt", meta.attempt, 1)?;
        same("trace", meta.trace.as_ref(), Some(&trace))?;
        same("time", meta.published.is_some_and(|at| at > before), true)?;
    }
    seen.nothing().await?;
    ended(app).await
}

async fn kept(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let seen = Seen::new();
    let events: Vec<_> = (0..50).map(|number| format!("{number:02}")).collect();
    let ids = topic.publish_all(&scene.bus, &events).await.map_err(text)?;
    same("ids", ids.len(), 50)?;
    scene.until(subscription, "50 that are ready", |backlog| backlog.ready == 50).await?;
    let app = scene.app().handle(subscription, note(&seen)).start().await.map_err(text)?;
    same("events", seen.sorted(50).await?, events)?;
    ended(app).await?;
    scene.until(subscription, "none left", |backlog| backlog.ready + backlog.unsettled == 0).await
}

async fn shared(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it.concurrency(1)).await?;
    let seen = Seen::new();
    let slow = {
        let seen = seen.clone();
        move |event: String, meta: Meta| {
            let seen = seen.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                seen.note(event, &meta);
            }
        }
    };
    let one = scene.app().handle(subscription, slow.clone()).start().await.map_err(text)?;
    let two = scene.app().handle(subscription, slow).start().await.map_err(text)?;
    let (begin, events) = (Instant::now(), (0..20).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    topic.publish_all(&scene.bus, &events).await.map_err(text)?;
    same("events", seen.sorted(20).await?, events)?;
    same("they are handled side by side", begin.elapsed() < Duration::from_millis(20 * 20), true)?;
    seen.nothing().await?;
    ended(one).await?;
    ended(two).await
}

async fn drained(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let seen = Seen::new();
    let never = async |_: Vec<String>| {};
    let waits = scene.app().handle_batch(subscription, (10, Duration::from_secs(600)), never);
    let waits = waits.start().await.map_err(text)?;
    let events = ["a", "b", "c"].map(str::to_string);
    topic.publish_all(&scene.bus, &events).await.map_err(text)?;
    scene.until(subscription, "all received", |backlog| backlog.ready == 0).await?;
    ended(waits).await?;
    let app = scene.app().handle(subscription, note(&seen)).start().await.map_err(text)?;
    let mut found = Vec::new();
    for _ in &events {
        let (event, meta) = seen.next().await?;
        same("attempt", meta.attempt, 1)?;
        found.push(event);
    }
    found.sort();
    same("events", found, events.to_vec())?;
    ended(app).await
}

async fn large(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let (seen, event) = (Seen::new(), "0123456789abcdef".repeat(65536));
    let app = scene.app().handle(subscription, note(&seen)).start().await.map_err(text)?;
    scene.publish(topic, &event).await?;
    same("it is the same", seen.next().await?.0 == event, true)?;
    ended(app).await
}

async fn unheard(scene: Scene) -> Verdict {
    let topic = scene.topic("t");
    scene.publish(topic, "a").await?;
    topic.publish_all(&scene.bus, &["b".to_string(), "c".to_string()]).await.map_err(text)?;
    same("unheard", scene.bus.unheard(), 3)?;
    let (from, subscription) = scene.subscribed("from", |it| it).await?;
    let (heard, seen) = (scene.topic("heard"), Seen::new());
    let handler = async move |event: String| -> Result<Events, PublishError> {
        let mut events = Events::default();
        topic.publish(&mut events, &event).await?;
        heard.publish(&mut events, &event).await?;
        topic.publish(&mut events, &event).await?;
        Ok(events)
    };
    let app =
        scene.app().handle(subscription, handler).handle(super::scene::subscription(heard, "s", |it| it), note(&seen));
    let app = app.start().await.map_err(text)?;
    scene.publish(from, "d").await?;
    same("heard", seen.next().await?.0.as_str(), "d")?;
    ended(app).await?;
    same("unheard", scene.bus.unheard(), 5)
}

async fn mismatch(scene: Scene) -> Verdict {
    let (topic, _) = scene.subscribed("t", |it| it).await?;
    let other = subscription(topic, "s", |it| it.retry(crate::RetryPolicy::NEVER));
    match scene.bus.declare(other).await {
        Err(crate::Error::Mismatch(_)) => {}
        other => return Err(format!("another policy gives {other:?}")),
    }
    // What was refused has broken nothing.
    scene.publish(topic, "a").await
}

async fn delayed(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    let (seen, begin) = (Seen::new(), Instant::now());
    let app = scene.app().handle(subscription, note(&seen)).start().await.map_err(text)?;
    topic.publish(&scene.bus, &"later".to_string()).delay(Duration::from_millis(1500)).await.map_err(text)?;
    scene.publish(topic, "now").await?;
    same("first", seen.next().await?.0.as_str(), "now")?;
    same("second", seen.next().await?.0.as_str(), "later")?;
    same("it has waited", begin.elapsed() >= Duration::from_millis(1400), true)?;
    ended(app).await
}

async fn filtered(scene: Scene) -> Verdict {
    let topic = scene.topic("t");
    let pro =
        subscription(topic, "pro", |it| it.filter(r#"attributes.plan = "pro" OR hasPrefix(attributes.plan, "team")"#));
    let named = subscription(topic, "named", |it| it.filter("attributes:name"));
    let (of_pro, of_named) = (Seen::new(), Seen::new());
    let app = scene.app().handle(pro, note(&of_pro)).handle(named, note(&of_named));
    let app = app.start().await.map_err(text)?;
    for (event, name, value) in
        [("a", "plan", "pro"), ("b", "plan", "free"), ("c", "name", ""), ("d", "plan", "team-5")]
    {
        let publishing = topic.publish(&scene.bus, &event.to_string()).attribute(name, value);
        publishing.await.map_err(text)?;
    }
    same("by value", of_pro.sorted(2).await?, vec!["a".to_string(), "d".to_string()])?;
    same("by name", of_named.sorted(1).await?, vec!["c".to_string()])?;
    of_pro.nothing().await?;
    of_named.nothing().await?;
    ended(app).await
}

async fn once(scene: Scene) -> Verdict {
    let topic = Box::leak(Box::new(crate::Topic::<String>::new(scene.named("t")).exactly_once()));
    let (s, seen) = (subscription(topic, "s", |it| it), Seen::new());
    let app = scene.app().handle(s, note(&seen)).start().await.map_err(text)?;
    let id = MessageId::new();
    for _ in 0..3 {
        topic.publish(&scene.bus, &"a".to_string()).id(id.clone()).await.map_err(text)?;
    }
    scene.publish(topic, "b").await?;
    same("events", seen.sorted(2).await?, vec!["a".to_string(), "b".to_string()])?;
    seen.nothing().await?;
    ended(app).await
}

async fn ordered(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it.ordered()).await?;
    let (seen, noted) = (Seen::new(), Seen::new());
    for round in 1..=3 {
        for key in ["a", "b"] {
            let publishing = topic.publish(&scene.bus, &format!("{key}{round}")).key(key);
            publishing.await.map_err(text)?;
        }
    }
    let handler = {
        let (seen, noted) = (seen.clone(), noted.clone());
        move |event: String, meta: Meta| {
            let (seen, noted) = (seen.clone(), noted.clone());
            async move {
                noted.note("begin", &meta);
                if event == "a1" && meta.attempt < 3 {
                    return Err("not yet");
                }
                seen.note(event, &meta);
                Ok(())
            }
        }
    };
    let app = scene.app().handle(subscription, handler).start().await.map_err(text)?;
    let mut order = Vec::new();
    while order.len() < 6 {
        order.push(seen.next().await?.0);
    }
    for key in ["a", "b"] {
        let found: Vec<_> = order.iter().filter(|event| event.starts_with(key)).cloned().collect();
        same("order", found, (1..=3).map(|round| format!("{key}{round}")).collect())?;
    }
    same("the other key has not waited", order[..3].iter().all(|event| event.starts_with('b')), true)?;
    ended(app).await
}
