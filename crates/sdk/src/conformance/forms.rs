//! Other forms of handling: batches, broadcasts, requests, pulling.

use super::scene::{Scene, Seen, ended, same, text};
use super::{Behaviour, Verdict};
use crate::driver::Support;
use crate::handler::Metas;
use crate::message::Meta;
use crate::rpc::{CallError, Rpc};
use std::time::Duration;

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        name: "events are handled in batches, and one that fails takes no others with it",
        needs: |has| has.retry,
        check: |scene| Box::pin(batches(scene)),
    },
    Behaviour {
        name: "events can be pulled; one that is dropped comes again, and has lost no attempt",
        needs: |_| Support::Native,
        check: |scene| Box::pin(pulled(scene)),
    },
    Behaviour {
        name: "a broadcast reaches everybody who listens",
        needs: |has| has.broadcast,
        check: |scene| Box::pin(broadcast(scene)),
    },
    Behaviour {
        name: "a request gets its reply, or its error",
        needs: |has| has.requests,
        check: |scene| Box::pin(requests(scene)),
    },
    Behaviour {
        name: "a request that nobody responds to fails at once",
        needs: |has| has.requests,
        check: |scene| Box::pin(no_responder(scene)),
    },
];

async fn batches(scene: Scene) -> Verdict {
    let (topic, subscription) =
        scene.subscribed("t", |it| it.retry(crate::RetryPolicy { attempts: 2, ..super::scene::SOON })).await?;
    let seen = Seen::new();
    let events: Vec<_> = (0..20).map(|number| format!("{number:02}")).collect();
    topic.publish_all(&scene.bus, &events).await.map_err(text)?;
    let handler = {
        let seen = seen.clone();
        move |events: Vec<String>, Metas(metas): Metas| {
            let failed = events.iter().any(|event| event == "07");
            if !failed {
                events.iter().zip(&metas).for_each(|(event, meta)| seen.note(event.as_str(), meta));
            }
            async move { if failed { Err("seven") } else { Ok(()) } }
        }
    };
    let app = scene.app().handle_batch(subscription, (10, Duration::from_millis(200)), handler);
    let app = app.start().await.map_err(text)?;
    same("handled", seen.sorted(19).await?, events.into_iter().filter(|event| event != "07").collect())?;
    let dead = scene.dead(subscription, 1).await?;
    same("dead", dead[0].event.as_ref().ok().map(String::as_str), Some("07"))?;
    drop(dead);
    ended(app).await
}

async fn pulled(scene: Scene) -> Verdict {
    let (topic, subscription) = scene.subscribed("t", |it| it).await?;
    topic.publish_all(&scene.bus, &["a".to_string(), "b".to_string()]).await.map_err(text)?;
    let mut pull = scene.bus.pull(subscription, 10).await.map_err(text)?;
    let mut next = async || pull.next().await.map_err(text)?.ok_or("it has ended".to_string());
    let (first, second) = (next().await?, next().await?);
    same("first", first.event.as_ref().ok().map(String::as_str), Some("a"))?;
    same("second", second.event.as_ref().ok().map(String::as_str), Some("b"))?;
    first.settle(()).await.map_err(text)?;
    drop(second);
    let again = next().await?;
    same("again", again.event.as_ref().ok().map(String::as_str), Some("b"))?;
    same("attempt", again.meta.attempt, 1)?;
    again.settle(()).await.map_err(text)?;
    scene.until(subscription, "none left", |it| it.ready + it.unsettled + it.waiting + it.dead == 0).await
}

async fn broadcast(scene: Scene) -> Verdict {
    let topic = scene.topic("t");
    let subscription = super::scene::subscription(topic, "s", |it| it.broadcast());
    let seen = Seen::new();
    let join = async |name: &'static str| {
        let seen = seen.clone();
        let handler = move |event: String, meta: Meta| {
            seen.note(format!("{name} {event}"), &meta);
            std::future::ready(())
        };
        scene.app().handle(subscription, handler).start().await.map_err(text)
    };
    let (ann, bob) = (join("ann").await?, join("bob").await?);
    scene.publish(topic, "hello").await?;
    same("heard", seen.sorted(2).await?, vec!["ann hello".to_string(), "bob hello".to_string()])?;
    ended(bob).await?;
    scene.publish(topic, "bye").await?;
    same("heard", seen.sorted(1).await?, vec!["ann bye".to_string()])?;
    seen.nothing().await?;
    ended(ann).await
}

async fn requests(scene: Scene) -> Verdict {
    let rpc: &'static Rpc<u64, u64> = Box::leak(Box::new(Rpc::new(scene.named("double"))));
    let app = scene.app().respond(rpc, async |number: u64| number.checked_mul(2).ok_or("it is too large"));
    let app = app.start().await.map_err(text)?;
    for number in 0..20 {
        same("reply", rpc.call(&scene.bus, &number).await.map_err(text)?, number * 2)?;
    }
    match rpc.call(&scene.bus, &u64::MAX).await {
        Err(CallError::Failed(error)) => same("error", error.as_str(), "it is too large")?,
        other => return Err(format!("a handler's error gives {other:?}")),
    }
    ended(app).await
}

async fn no_responder(scene: Scene) -> Verdict {
    let rpc: &'static Rpc<u64, u64> = Box::leak(Box::new(Rpc::new(scene.named("nobody"))));
    match rpc.call(&scene.bus, &1).await {
        Err(CallError::NoResponder(_)) => {}
        other => return Err(format!("without a responder a call gives {other:?}")),
    }
    let app = scene.app().respond(rpc, async |number: u64| Ok::<_, String>(number)).start().await.map_err(text)?;
    same("reply", rpc.call(&scene.bus, &1).await.map_err(text)?, 1)?;
    ended(app).await
}
