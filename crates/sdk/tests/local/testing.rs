//! The bus for tests.

use leveret::testing::TestBus;
use leveret::{App, Events, PublishError, Subscription, Topic};
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
    test.advance(Duration::from_secs(60));
    test.settle().await;
    assert_eq!((test.handled(&BILLING), test.published(&INVOICES)), (vec![1, 2], vec![10, 20]));
    assert!(test.dead(&BILLING).await.expect("none").is_empty());
    app.drain().await.expect("it ends");
}
