//! Other forms of handling: batches, broadcasts, layers, traces, pulling.

use crate::bench::{Seen, until_backlog};
use futures_core::Stream;
use leveret::testing::TestBus;
use leveret::{
    App, BoxError, Delivery, Events, Meta, Metas, Outcome, Parent, PublishError, State, Subscription, Topic,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_batch_is_handled_at_once_and_one_bad_event_takes_no_others_with_it() {
    static TOPIC: Topic<u32> = Topic::new("numbers");
    static SUMS: Topic<u32> = Topic::new("sums");
    static ADD: Subscription<u32> = TOPIC.subscription("add").concurrency(1);
    static TOTAL: Subscription<u32> = SUMS.subscription("total");
    async fn add(numbers: Vec<u32>, Metas(metas): Metas, State(seen): State<Seen>) -> Result<Events, BoxError> {
        assert_eq!(numbers.len(), metas.len());
        seen.note(format!("{numbers:?}"));
        if numbers.contains(&13) {
            return Err("bad luck".into());
        }
        let mut events = Events::default();
        SUMS.publish(&mut events, &numbers.iter().sum()).await?;
        Ok(events)
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    bench.bus().declare(&ADD).await.expect("declared");
    bench.bus().declare(&TOTAL).await.expect("declared");
    TOPIC.publish_all(bench.bus(), &[1, 2, 3, 4, 13]).await.expect("published");
    let app = App::new(bench.bus()).state(seen.clone()).handle_batch(&ADD, (4, SOON), add);
    let app = app.start().await.expect("it starts");
    assert_eq!(seen.wait(2).await, ["[1, 2, 3, 4]", "[13]"]);
    TOPIC.publish_all(bench.bus(), &[5, 13, 6]).await.expect("published");
    until_backlog(bench.bus(), &ADD, (0, 4, 0)).await;
    seen.take();
    bench.advance(Duration::from_secs(1)).await;
    let mut retried = seen.wait(4).await;
    retried.sort();
    assert_eq!(retried, ["[13]", "[13]", "[5]", "[6]"]);
    assert_eq!(bench.published(&SUMS).len(), 3);
    until_backlog(bench.bus(), &TOTAL, (3, 0, 0)).await;
    app.drain().await.expect("it ends");
    assert_eq!(bench.handled(&ADD).len(), 6);
}

#[tokio::test]
async fn what_does_not_decode_leaves_its_batch() {
    static TEXTS: Topic<String> = Topic::new("mixed");
    static AS_TEXT: Subscription<String> = TEXTS.subscription("s");
    static NUMBERS: Topic<u32> = Topic::new("mixed");
    static SUBSCRIPTION: Subscription<u32> = NUMBERS.subscription("s");
    async fn see(numbers: Vec<u32>, State(seen): State<Seen>) {
        seen.note(format!("{numbers:?}"));
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    bench.bus().declare(&AS_TEXT).await.expect("declared");
    NUMBERS.publish_all(bench.bus(), &[1]).await.expect("published");
    TEXTS.publish_all(bench.bus(), [&"two".to_string(), &"three".to_string()]).await.expect("published");
    NUMBERS.publish_all(bench.bus(), &[4]).await.expect("published");
    let app = App::new(bench.bus()).state(seen.clone()).handle_batch(&SUBSCRIPTION, (4, SOON), see);
    let app = app.start().await.expect("it starts");
    assert_eq!(seen.wait(1).await, ["[1, 4]"]);
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 2)).await;
    app.drain().await.expect("it ends");
    let dead = bench.dead(&AS_TEXT).await.expect("they are there");
    let reasons: Vec<_> = dead.iter().map(|dead| (dead.reason.as_str(), dead.body.as_slice())).collect();
    assert_eq!(reasons, [("undecodable", &b"\"two\""[..]), ("undecodable", b"\"three\"")]);
}

#[tokio::test]
async fn a_broadcast_reaches_everyone_who_listens_and_nobody_else() {
    static TOPIC: Topic<String> = Topic::new("chat");
    static ROOM: Subscription<String> = TOPIC.subscription("room").broadcast();
    async fn hear(
        text: String,
        State((name, seen)): State<(&'static str, Seen)>,
        meta: Meta,
    ) -> Result<(), &'static str> {
        seen.note(format!("{name} {text} {}", meta.attempt));
        if meta.attempt == 1 && name == "bob" { Err("he is deaf") } else { Ok(()) }
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    TOPIC.publish(bench.bus(), &"before".to_string()).await.expect("published, to nobody");
    let join = |name| App::new(bench.bus()).state((name, seen.clone())).handle(&ROOM, hear).start();
    let (ann, bob) = (join("ann").await.expect("it starts"), join("bob").await.expect("it starts"));
    TOPIC.publish(bench.bus(), &"hello".to_string()).await.expect("published");
    let mut heard = seen.wait(2).await;
    heard.sort();
    assert_eq!(heard, ["ann hello 1", "bob hello 1"]);
    bench.advance(Duration::from_secs(1)).await;
    assert_eq!(seen.wait(1).await, ["bob hello 2"]);
    bob.drain().await.expect("it ends");
    TOPIC.publish(bench.bus(), &"bye".to_string()).await.expect("published");
    assert_eq!(seen.wait(1).await, ["ann bye 1"]);
    ann.drain().await.expect("it ends");
    assert_eq!(bench.bus().unheard(), 1);
    let error = bench.bus().backlog(&ROOM).await.expect_err("there is none");
    assert_eq!(error.to_string(), "subscription 'chat.room' is a broadcast: nothing is kept for it");
}

#[tokio::test]
async fn layers_wrap_handlers_and_their_errors_are_failed_attempts() {
    static TOPIC: Topic<u32> = Topic::new("layered");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    async fn see(number: u32, State(seen): State<Seen>) {
        seen.note(number.to_string());
    }
    fn check(delivery: Delivery) -> Result<Delivery, BoxError> {
        assert_eq!((delivery.topic(), delivery.subscription(), delivery.messages().len()), ("layered", Some("s"), 1));
        CALLS.fetch_add(1, Ordering::Relaxed);
        match delivery.meta().attempt {
            1 => Err("not at once".into()),
            _ => Ok(delivery),
        }
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    let app = App::new(bench.bus())
        .state(seen.clone())
        .handle(&SUBSCRIPTION, see)
        .layer(tower::limit::RateLimitLayer::new(1000, SOON))
        .layer(tower::filter::FilterLayer::new(check));
    let app = app.start().await.expect("it starts");
    TOPIC.publish_all(bench.bus(), &[1, 2]).await.expect("published");
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 2, 0)).await;
    assert_eq!(seen.take(), [""; 0]);
    bench.settle().await;
    let mut handled = seen.wait(2).await;
    handled.sort();
    assert_eq!((handled, CALLS.load(Ordering::Relaxed)), (vec!["1".to_string(), "2".to_string()], 4));
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn a_trace_goes_on_from_a_message_to_what_its_handler_publishes() {
    static FIRST: Topic<u32> = Topic::new("first");
    static SECOND: Topic<u32> = Topic::new("second");
    static RELAY: Subscription<u32> = FIRST.subscription("relay");
    static END: Subscription<u32> = SECOND.subscription("end");
    async fn relay(number: u32) -> Result<Events, PublishError> {
        let mut events = Events::default();
        SECOND.publish(&mut events, &number).await?;
        Ok(events)
    }
    async fn end(_: u32, State(seen): State<Seen>, meta: Meta) {
        seen.note(meta.trace.map_or("none".to_string(), |trace| trace.to_string()));
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    let app = App::new(bench.bus()).state(seen.clone()).handle(&RELAY, relay).handle(&END, end);
    let app = app.start().await.expect("it starts");
    let root = Parent::new();
    FIRST.publish(bench.bus(), &1).trace(root.clone()).await.expect("published");
    let trace = seen.wait(1).await.remove(0);
    let (end, root) = (trace.split('-').collect::<Vec<_>>(), root.to_string());
    let root: Vec<_> = root.split('-').collect();
    assert_eq!((end[1], end[3], end[2] == root[2]), (root[1], root[3], false));
    FIRST.publish(bench.bus(), &1).await.expect("published");
    assert_eq!(seen.wait(1).await, ["none"]);
    app.drain().await.expect("it ends");
}

#[tokio::test]
async fn messages_can_be_pulled_and_settled_by_hand() {
    static TOPIC: Topic<u32> = Topic::new("pulled");
    static COPIES: Topic<u32> = Topic::new("copies");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    static COPY: Subscription<u32> = COPIES.subscription("s");
    let bench = TestBus::new();
    bench.bus().declare(&COPY).await.expect("declared");
    let mut pull = bench.bus().pull(&SUBSCRIPTION, 10).await.expect("declared");
    TOPIC.publish_all(bench.bus(), &[1, 2, 3]).await.expect("published");
    for _ in 0..3 {
        let pulled = pull.next().await.expect("it runs").expect("there is one");
        let event = *pulled.event.as_ref().expect("it decodes");
        match event {
            1 => {
                let mut events = Events::default();
                COPIES.publish(&mut events, &10).await.expect("taken");
                pulled.settle(events).await
            }
            2 => pulled.settle(Err::<(), _>("not yet")).await,
            _ => pulled.settle(Outcome::Dead("never".into())).await,
        }
        .expect("settled");
    }
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 1, 1)).await;
    until_backlog(bench.bus(), &COPY, (1, 0, 0)).await;
    bench.advance(Duration::from_secs(1)).await;
    let mut stream = std::pin::pin!(pull.into_stream());
    let again = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await.expect("it goes on");
    let again = again.expect("it runs");
    assert_eq!((again.meta.attempt, again.event.as_ref().ok()), (2, Some(&2)));
    again.settle(()).await.expect("settled");
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 1)).await;
}
