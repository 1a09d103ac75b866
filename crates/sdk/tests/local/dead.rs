//! Dead letters are kept, looked at, redriven and discarded.

use crate::bench::{Seen, until_backlog};
use leveret::local::LocalDriver;
use leveret::testing::TestBus;
use leveret::{App, Bus, Codec, Meta, Outcome, State, Subscription, Topic};
use leveret_broker::table::{FieldArray, FieldTable};
use leveret_broker::{Broker, Content, Properties};

#[tokio::test]
async fn a_poisoned_event_is_handled_after_a_fix_and_a_redrive() {
    static TOPIC: Topic<u32> = Topic::new("poisoned");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    async fn refuse(_: u32) -> Outcome {
        Outcome::Dead("no such customer".into())
    }
    async fn see(event: u32, State(seen): State<Seen>, meta: Meta) {
        seen.note(format!("{event} {} {}", meta.attempt, meta.attribute("a").unwrap_or("none")));
    }
    let (bench, seen) = (TestBus::new(), Seen::default());
    let app = App::new(bench.bus()).handle(&SUBSCRIPTION, refuse).start().await.expect("it starts");
    for event in 1..=3 {
        TOPIC.publish(bench.bus(), &event).attribute("a", "b").await.expect("published");
    }
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 3)).await;
    app.drain().await.expect("it ends");

    let dead = bench.bus().dead(&SUBSCRIPTION, 2).await.expect("there are three");
    let told: Vec<_> = dead.iter().map(|it| (it.reason.as_str(), it.error.as_deref(), it.attempts)).collect();
    assert_eq!(told, [("rejected", Some("no such customer"), 1); 2]);
    drop(dead);
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 3)).await;
    let [first] = <[_; 1]>::try_from(bench.bus().dead(&SUBSCRIPTION, 1).await.expect("there are three")).expect("one");
    first.discard().await.expect("it is gone");
    assert_eq!(bench.bus().redrive(&SUBSCRIPTION, u64::MAX).await.expect("both"), 2);

    let app = App::new(bench.bus()).state(seen.clone()).handle(&SUBSCRIPTION, see).start().await.expect("it starts");
    let mut handled = seen.wait(2).await;
    handled.sort();
    assert_eq!(handled, ["2 1 b", "3 1 b"]);
    app.drain().await.expect("it ends");
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 0)).await;
}

#[tokio::test]
async fn what_does_not_decode_is_dead_at_once_with_its_bytes() {
    static BYTES: Topic<Vec<u8>> = Topic::with_codec("undecodable", Codec::<Vec<u8>>::bytes());
    static TOPIC: Topic<u32> = Topic::new("undecodable");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    async fn never(_: u32) {
        unreachable!("it does not decode");
    }
    let bench = TestBus::new();
    let app = App::new(bench.bus()).handle(&SUBSCRIPTION, never).start().await.expect("it starts");
    BYTES.publish(bench.bus(), &b"{1".to_vec()).await.expect("published");
    until_backlog(bench.bus(), &SUBSCRIPTION, (0, 0, 1)).await;
    let dead = bench.bus().dead(&SUBSCRIPTION, 1).await.expect("there is one");
    assert_eq!((dead[0].reason.as_str(), dead[0].body.as_slice()), ("undecodable", b"{1".as_slice()));
    assert!(dead[0].error.as_deref().is_some_and(|error| error.contains("line 1")) && dead[0].event.is_err());
    app.drain().await.expect("it ends");
}

/// CC asks for further keys, of the exchange that a message is published to: for a copy, of another one.
#[tokio::test]
async fn a_dead_letter_goes_nowhere_else_whatever_its_publisher_asked_for() {
    static TOPIC: Topic<u32> = Topic::new("t");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    let broker = Broker::in_memory();
    let (bus, client) = (Bus::with_driver(LocalDriver::new(&broker, false)), broker.connect());
    bus.declare(&SUBSCRIPTION).await.expect("declared");
    client.declare_queue("elsewhere").expect("declared");
    let copies = FieldTable::new().with("CC", &FieldArray::new().with("elsewhere"));
    let properties = Properties { headers: Some(copies.as_table()), ..Properties::EMPTY };
    client.publish("t", "", Content::new(b"x").properties(properties)).await.expect("published");
    let app = App::new(&bus).handle(&SUBSCRIPTION, async |_: u32| {}).start().await.expect("it starts");
    until_backlog(&bus, &SUBSCRIPTION, (0, 0, 1)).await;
    assert_eq!(client.queue_status("elsewhere").expect("it is there").ready, 0);
    assert_eq!(bus.redrive(&SUBSCRIPTION, 1).await.expect("it is there"), 1);
    until_backlog(&bus, &SUBSCRIPTION, (0, 0, 1)).await;
    assert_eq!(client.queue_status("elsewhere").expect("it is there").ready, 0);
    app.drain().await.expect("it ends");
}
