//! What is published is handled, by whom, and in which order.

use crate::bench::{Seen, until_backlog};
use leveret::testing::TestBus;
use leveret::{App, Events, Meta, PublishError, State, Subscription, Topic};
use std::time::Duration;

#[tokio::test]
async fn every_subscription_gets_every_event_with_what_its_publisher_was_told() {
    static SIGNUPS: Topic<String> = Topic::new("signups");
    static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
    static ANALYTICS: Subscription<String> = SIGNUPS.subscription("analytics");
    async fn see(event: String, State(seen): State<Seen>, meta: Meta) {
        let (plan, key) = (meta.attribute("plan").unwrap_or("none").to_string(), meta.key.unwrap_or_default());
        seen.note(format!("{event} {} {} {plan} {key} {}", meta.id, meta.attempt, meta.published.is_some()));
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    let app = App::new(bench.bus()).state(seen.clone()).handle(&EMAIL, see).handle(&ANALYTICS, see);
    let app = app.start().await.expect("it starts");
    let id =
        SIGNUPS.publish(bench.bus(), &"ann".to_string()).attribute("plan", "pro").key("k").await.expect("published");
    let expected = format!("ann {id} 1 pro k true");
    assert_eq!(seen.wait(2).await, [expected.clone(), expected]);
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn events_are_kept_for_a_subscription_that_is_declared_and_not_running() {
    static TOPIC: Topic<u32> = Topic::new("kept");
    static LATER: Subscription<u32> = TOPIC.subscription("later");
    async fn see(event: u32, State(seen): State<Seen>) {
        seen.note(event.to_string());
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    TOPIC.publish(bench.bus(), &0).await.expect("published, to nobody");
    assert_eq!(bench.bus().unheard(), 1);
    bench.bus().declare(&LATER).await.expect("declared");
    let ids = TOPIC.publish_all(bench.bus(), &[1, 2, 3]).await.expect("published");
    assert!(ids.is_sorted() && ids.len() == 3);
    assert_eq!(bench.bus().unheard(), 1);
    until_backlog(bench.bus(), &LATER, (3, 0, 0)).await;
    let app = App::new(bench.bus()).state(seen.clone()).handle(&LATER, see).start().await.expect("it starts");
    let mut handled = seen.wait(3).await;
    handled.sort();
    assert_eq!(handled, ["1", "2", "3"]);
    app.drain().await.expect("it ends");
    until_backlog(bench.bus(), &LATER, (0, 0, 0)).await;
}

#[tokio::test]
async fn a_delayed_event_comes_after_its_delay() {
    static TOPIC: Topic<u32> = Topic::new("delayed");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    let bench = TestBus::new();
    bench.bus().declare(&SUBSCRIPTION).await.expect("declared");
    TOPIC.publish(bench.bus(), &1).delay(Duration::from_secs(60)).await.expect("published");
    bench.advance(Duration::from_secs(59)).await;
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 0)).await;
    bench.advance(Duration::from_secs(1)).await;
    until_backlog(bench.bus(), &SUBSCRIPTION, (1, 0, 0)).await;
}

#[tokio::test]
async fn a_subscription_with_a_filter_takes_what_matches() {
    static TOPIC: Topic<u32> = Topic::new("filtered");
    static PRO: Subscription<u32> = TOPIC.subscription("pro").filter(r#"attributes.plan = "pro""#);
    let bench = TestBus::new();
    bench.bus().declare(&PRO).await.expect("declared");
    for (event, plan) in [(1, "pro"), (2, "free"), (3, "pro")] {
        TOPIC.publish(bench.bus(), &event).attribute("plan", plan).await.expect("published");
    }
    until_backlog(bench.bus(), &PRO, (2, 0, 0)).await;
    assert_eq!(bench.bus().unheard(), 1);
}

#[tokio::test]
async fn an_exactly_once_topic_takes_an_id_once() {
    static TOPIC: Topic<u32> = Topic::new("once").exactly_once();
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    let bench = TestBus::new();
    bench.bus().declare(&SUBSCRIPTION).await.expect("declared");
    let id = TOPIC.publish(bench.bus(), &1).await.expect("published");
    assert_eq!(TOPIC.publish(bench.bus(), &1).id(id.clone()).await.expect("published again"), id);
    TOPIC.publish(bench.bus(), &1).await.expect("another one");
    until_backlog(bench.bus(), &SUBSCRIPTION, (2, 0, 0)).await;
}

#[tokio::test]
async fn what_a_handler_publishes_is_published_if_it_succeeds() {
    static ORDERS: Topic<u32> = Topic::new("orders");
    static INVOICES: Topic<u32> = Topic::new("invoices");
    static BILLING: Subscription<u32> = ORDERS.subscription("billing");
    static MAIL: Subscription<u32> = INVOICES.subscription("mail");
    async fn bill(order: u32, meta: Meta) -> Result<Events, PublishError> {
        let mut events = Events::default();
        INVOICES.publish(&mut events, &(order * 10)).await?;
        match order == 1 || meta.attempt == 2 {
            true => Ok(events),
            false => Err(PublishError::Invalid("not yet".to_string())),
        }
    }
    let bench = TestBus::new();
    bench.bus().declare(&MAIL).await.expect("declared");
    let app = App::new(bench.bus()).handle(&BILLING, bill).start().await.expect("it starts");
    ORDERS.publish_all(bench.bus(), &[1, 2]).await.expect("published");
    until_backlog(bench.bus(), &BILLING, (0, 1, 0)).await;
    until_backlog(bench.bus(), &MAIL, (1, 0, 0)).await;
    bench.advance(Duration::from_secs(1)).await;
    until_backlog(bench.bus(), &MAIL, (2, 0, 0)).await;
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn a_key_waits_while_one_of_its_events_does_and_others_go_on() {
    static TOPIC: Topic<String> = Topic::new("ordered");
    static SUBSCRIPTION: Subscription<String> = TOPIC.subscription("s").ordered();
    async fn see(event: String, State(seen): State<Seen>, meta: Meta) -> Result<(), &'static str> {
        seen.note(format!("{event}{}", meta.attempt));
        if event == "a-first-" && meta.attempt == 1 { Err("not yet") } else { Ok(()) }
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    bench.bus().declare(&SUBSCRIPTION).await.expect("declared");
    for (event, key) in [("a-first-", "a"), ("a-second-", "a"), ("b-", "b")] {
        TOPIC.publish(bench.bus(), &event.to_string()).key(key).await.expect("published");
    }
    let app = App::new(bench.bus()).state(seen.clone()).handle(&SUBSCRIPTION, see).start().await.expect("it starts");
    let mut first = seen.wait(2).await;
    first.sort();
    assert_eq!(first, ["a-first-1", "b-1"]);
    bench.advance(Duration::from_secs(1)).await;
    assert_eq!(seen.wait(2).await, ["a-first-2", "a-second-1"]);
    app.drain().await.expect("it ends");
}
