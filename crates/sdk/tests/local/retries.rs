//! What fails is tried again, by its policy.

use crate::bench::{Seen, until_backlog};
use leveret::testing::TestBus;
use leveret::{App, Meta, Outcome, RetryPolicy, State, Subscription, Topic};
use std::time::Duration;

const POLICY: RetryPolicy = RetryPolicy { attempts: 4, ..RetryPolicy::DEFAULT };

#[tokio::test]
async fn a_failure_is_tried_again_later_and_later_until_it_is_dead() {
    static TOPIC: Topic<u32> = Topic::new("failing");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s").retry(POLICY);
    async fn fail(event: u32, State(seen): State<Seen>, meta: Meta) -> Result<(), String> {
        seen.note(meta.attempt.to_string());
        Err(format!("{event} cannot be handled"))
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    let app = App::new(bench.bus()).state(seen.clone()).handle(&SUBSCRIPTION, fail).start().await.expect("it starts");
    let id = TOPIC.publish(bench.bus(), &7).await.expect("published");
    for (attempt, wait) in [("1", 1), ("2", 2), ("3", 4)] {
        assert_eq!(seen.wait(1).await, [attempt]);
        until_backlog(bench.bus(), &SUBSCRIPTION, (0, 1, 0)).await;
        // With full jitter it may be earlier, never later.
        bench.advance(Duration::from_secs(wait)).await;
    }
    assert_eq!(seen.wait(1).await, ["4"]);
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 1)).await;
    let dead = bench.bus().dead(&SUBSCRIPTION, 10).await.expect("there is one");
    assert_eq!((dead.len(), dead[0].event.as_ref().ok(), &dead[0].meta.id), (1, Some(&7), &id));
    let (reason, error, attempts) = (dead[0].reason.as_str(), dead[0].error.as_deref(), dead[0].attempts);
    assert_eq!((reason, error, attempts), ("attempts", Some("7 cannot be handled"), 4));
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn a_handler_that_panics_or_takes_too_long_has_failed() {
    static TOPIC: Topic<String> = Topic::new("broken");
    static SUBSCRIPTION: Subscription<String> =
        TOPIC.subscription("s").retry(RetryPolicy::NEVER).deadline(Duration::from_millis(20));
    async fn handle(event: String) {
        assert_ne!(event, "panics", "no such thing");
        std::future::pending().await
    }
    let bench = TestBus::new();
    let app = App::new(bench.bus()).handle(&SUBSCRIPTION, handle).start().await.expect("it starts");
    let events = ["panics".to_string(), "hangs".to_string()];
    TOPIC.publish_all(bench.bus(), &events).await.expect("published");
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 2)).await;
    let dead = bench.bus().dead(&SUBSCRIPTION, 10).await.expect("there are two");
    let mut errors: Vec<_> = dead.iter().filter_map(|dead| dead.error.clone()).collect();
    errors.sort();
    assert!(
        errors[0].starts_with("the handler panicked: assertion") && errors[0].contains("no such thing"),
        "{errors:?}"
    );
    assert_eq!(errors[1], "the handler took longer than 20ms");
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn a_handler_may_say_when_it_is_tried_again_and_the_attempts_go_on() {
    static TOPIC: Topic<u32> = Topic::new("later");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s").retry(POLICY);
    async fn handle(_: u32, State(seen): State<Seen>, meta: Meta) -> Outcome {
        seen.note(meta.attempt.to_string());
        match meta.attempt {
            1 => Outcome::RetryAfter("busy".into(), Duration::from_secs(3600)),
            2 => Outcome::Retry("still busy".into()),
            _ => Outcome::Done,
        }
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    let app = App::new(bench.bus()).state(seen.clone()).handle(&SUBSCRIPTION, handle).start().await.expect("it starts");
    TOPIC.publish(bench.bus(), &1).await.expect("published");
    assert_eq!(seen.wait(1).await, ["1"]);
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 1, 0)).await;
    bench.advance(Duration::from_secs(3599)).await;
    assert!(seen.take().is_empty());
    bench.advance(Duration::from_secs(1)).await;
    assert_eq!(seen.wait(1).await, ["2"]);
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 1, 0)).await;
    bench.advance(Duration::from_secs(1)).await;
    assert_eq!(seen.wait(1).await, ["3"]);
    app.drain().await.expect("it ends");
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 0)).await;
}
