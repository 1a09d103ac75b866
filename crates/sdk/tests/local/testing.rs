//! The bus for tests.

use leveret::testing::TestBus;
use leveret::{App, BoxError, Events, Meta, PublishError, RetryPolicy, Subscription, Topic};
use std::time::Duration;

#[tokio::test]
async fn it_tells_what_was_published_and_handled_and_lets_no_delay_pass_that_nobody_asked_for() {
    static ORDERS: Topic<u32> = Topic::new("orders");
    static INVOICES: Topic<u32> = Topic::new("invoices");
    static BILLING: Subscription<u32> = ORDERS.subscription("billing");
    async fn bill(order: u32) -> Result<Events, PublishError> {
        let mut events = Events::default();
        INVOICES.publish(&mut events, &(order * 10)).await?;
        Ok(events)
    }
    let test = TestBus::new();
    let app = App::new(test.bus()).handle(&BILLING, bill).start().await.expect("it starts");
    ORDERS.publish(&test, &1).await.expect("published");
    ORDERS.publish(&test, &2).delay(Duration::from_secs(60)).await.expect("published");
    test.settle().await;
    assert_eq!(
        (test.published(&ORDERS), test.handled(&BILLING), test.published(&INVOICES)),
        (vec![1, 2], vec![1], vec![10])
    );
    test.advance(Duration::from_secs(60)).await;
    test.settle().await;
    assert_eq!((test.handled(&BILLING), test.published(&INVOICES)), (vec![1, 2], vec![10, 20]));
    assert!(test.dead(&BILLING).await.expect("none").is_empty());
    app.drain().await.expect("it ends");
}

/// The engine is one that others use, too: in real time, under names of the test's own.
#[tokio::test]
async fn the_same_test_runs_on_an_engine_in_real_time() {
    static FIRST: Topic<u32> = Topic::new("shared.first");
    static SECOND: Topic<u32> = Topic::new("shared.second");
    static RELAY: Subscription<u32> = FIRST.subscription("relay").retry(SOON);
    static END: Subscription<u32> = SECOND.subscription("end");
    const SOON: RetryPolicy =
        RetryPolicy { min: Duration::from_millis(10), max: Duration::from_millis(20), attempts: 3 };
    async fn relay(number: u32, meta: Meta) -> Result<Events, BoxError> {
        let mut events = Events::default();
        SECOND.publish(&mut events, &number).await?;
        if number == 2 || meta.attempt == 1 { Err("not now".into()) } else { Ok(events) }
    }
    let unset = TestBus::from_env("LEVERET_TEST_THAT_IS_NOT_SET").await.expect("it opens");
    for test in [unset, TestBus::on("local:").await.expect("it opens")] {
        let app = App::new(test.bus()).handle(&RELAY, relay).handle(&END, async |_: u32| {}).start();
        let app = app.await.expect("it starts");
        FIRST.publish_all(test.bus(), &[1, 2]).await.expect("published");
        test.settle().await;
        assert_eq!((test.handled(&RELAY), test.handled(&END)), (vec![1], vec![1]));
        assert_eq!((test.published(&SECOND), test.dead(&RELAY).await.expect("there is one").len()), (vec![1], 1));
        app.drain().await.expect("it ends");
    }
}
