//! What makes no sense is refused before anything starts.

use leveret::testing::TestBus;
use leveret::{App, Bus, RetryPolicy, State, Subscription, Topic};
use std::time::Duration;

static TOPIC: Topic<u32> = Topic::new("t").max_size(4);
static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");

async fn handle(_: u32) {}

async fn start(app: App) -> String {
    app.start().await.expect_err("it must not start").to_string()
}

#[tokio::test]
async fn applications_that_lack_something() {
    async fn needs(_: u32, State(_): State<Duration>) {}
    let bus = TestBus::new().bus().clone();
    let text = "a handler needs State<core::time::Duration>: give one to App::state before it starts";
    assert_eq!(start(App::new(&bus).handle(&SUBSCRIPTION, needs)).await, text);
    let app = App::new(&bus).handle(&SUBSCRIPTION, handle).handle(&SUBSCRIPTION, handle);
    assert_eq!(start(app).await, "subscription 't.s' has two handlers in this App");
    let app = App::new(&bus).state(1u8).state(2u8);
    assert_eq!(start(app).await, "App::state was given two values of type u8");
}

#[tokio::test]
async fn subscriptions_that_differ_from_what_is_there() {
    static OTHER: Subscription<u32> = TOPIC.subscription("s").retry(RetryPolicy::NEVER);
    static FILTERED: Subscription<u32> = TOPIC.subscription("s").filter("attributes:a");
    static WRONG: Subscription<u32> = TOPIC.subscription("wrong").filter("a = b");
    let bus = TestBus::new().bus().clone();
    bus.declare(&SUBSCRIPTION).await.expect("declared");
    bus.declare(&SUBSCRIPTION).await.expect("the same");
    for other in [&OTHER, &FILTERED, &WRONG] {
        let error = bus.declare(other).await.expect_err("it differs");
        assert!(matches!(error, leveret::Error::Mismatch(_)), "{error}");
    }
}

#[tokio::test]
async fn events_that_no_engine_could_carry() {
    let bus = TestBus::new().bus().clone();
    bus.declare(&SUBSCRIPTION).await.expect("declared");
    let refused = |error: leveret::PublishError| error.to_string();
    let text = "an event of topic 't': it has 5 bytes, the topic allows 4";
    assert_eq!(TOPIC.publish(&bus, &12345).await.map_err(refused), Err(text.to_string()));
    let text = "an event of topic 't': the attribute 'x-a' has no valid name: 1 to 128 bytes, not 'traceparent', and none that begins with 'x-' or 'leveret-'";
    assert_eq!(TOPIC.publish(&bus, &1).attribute("x-a", "").await.map_err(refused), Err(text.to_string()));
    assert!(TOPIC.publish(&bus, &1).key("").await.is_err());
    assert!(TOPIC.publish(&bus, &1).delay(Duration::MAX).await.is_err());
    assert_eq!(bus.backlog(&SUBSCRIPTION).await.expect("declared").ready, 0);
}

#[tokio::test]
async fn urls_that_name_nothing() {
    let open = async |url: &str| Bus::open(url).await.map(drop).map_err(|error| error.to_string());
    let text =
        "'ampq:' names no engine that this program was built with: it has 'local:', 'local:./directory', 'amqp://host'";
    assert_eq!(open("ampq://user:secret@localhost").await, Err(text.to_string()));
    assert!(open("local:./x?listen").await.is_err());
}

#[tokio::test]
async fn an_attribute_that_the_topic_has_not() {
    static TOPIC: Topic<u32> = Topic::new("t").attributes(&["plan"]);
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s").filter("attributes:plan");
    let bus = TestBus::new();
    bus.bus().declare(&SUBSCRIPTION).await.expect("declared");
    TOPIC.publish(&bus, &1).attribute("plan", "pro").await.expect("published");
    let error = TOPIC.publish(&bus, &1).attribute("plam", "pro").await.expect_err("there is none");
    assert_eq!(error.to_string(), r#"an event of topic 't': it has the attribute 'plam', the topic has ["plan"]"#);
}
