//! The driver for `amqp://` on a Leveret that others use beside it.

use leveret::conformance::run;
use leveret::driver::Support;
use leveret::local::LocalDriver;
use leveret::{App, Bus, Error, Outcome, PublishError, RetryPolicy, State, Subscription, Target, Topic};
use leveret_broker::table::FieldTable;
use leveret_broker::{Broker, QueueDeclare};
use std::time::Duration;
use tokio::sync::mpsc;

/// A broker in memory, as the one who embeds it has it, and the URL of its port.
async fn embedded() -> (Bus, String) {
    let driver = LocalDriver::new(&Broker::in_memory(), false);
    let driver = driver.listening("127.0.0.1:0".parse().expect("an address")).await.expect("it is free");
    let url = format!("amqp://{}", driver.address().expect("it listens"));
    (Bus::with_driver(driver), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn leveret_does_all_of_it_itself() {
    let (_local, url) = embedded().await;
    let report = run(async || Bus::open(&url).await).await;
    println!("{report}");
    assert!(report.failed().is_empty(), "{report}");
    assert_eq!(report.with(Support::Native).len(), report.rows.len(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_inside_and_outside_declare_the_same() {
    static TOPIC: Topic<u32> = Topic::new("shared").exactly_once().attributes(&["plan"]);
    const SOON: RetryPolicy = RetryPolicy { min: Duration::from_millis(1), max: Duration::from_millis(5), attempts: 3 };
    static SUBSCRIPTION: Subscription<u32> =
        TOPIC.subscription("s").ordered().filter(r#"attributes.plan = "pro""#).retry(SOON);
    async fn fail_by_all_means(event: u32, State(seen): State<mpsc::UnboundedSender<u32>>) -> Outcome {
        seen.send(event).expect("the test runs");
        match event {
            0 => Outcome::Retry("not yet".into()),
            1 => Outcome::Dead("never".into()),
            _ => Outcome::Done,
        }
    }
    let (local, url) = embedded().await;
    let bus = Bus::open(&url).await.expect("it listens");
    bus.declare(&SUBSCRIPTION).await.expect("declared by the one");
    local.declare(&SUBSCRIPTION).await.expect("and found by the other to be the same");
    let (seen, mut events) = mpsc::unbounded_channel::<u32>();
    let app = App::new(&bus).state(seen).handle(&SUBSCRIPTION, fail_by_all_means).start().await.expect("it starts");
    for event in 0..3 {
        let key = format!("{event}");
        TOPIC.publish(&local, &event).attribute("plan", "pro").key(key).await.expect("published");
    }
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("it comes"));
    }
    all.sort();
    assert_eq!(all, [Some(0), Some(0), Some(0), Some(1), Some(2)]);
    app.drain().await.expect("it ends");
    let mut dead = local.dead(&SUBSCRIPTION, 10).await.expect("they are there");
    dead.sort_by_key(|dead| dead.event.as_ref().ok().copied());
    let told: Vec<_> = dead.iter().map(|dead| (dead.reason.as_str(), dead.error.as_deref(), dead.attempts)).collect();
    assert_eq!(told, [("attempts", Some("not yet"), 3), ("rejected", Some("never"), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_waited_for_and_then_the_message_comes_back() {
    static TOPIC: Topic<u32> = Topic::new("t");
    let start = std::time::Instant::now();
    let error = Bus::open("amqp://user:secret@127.0.0.1:1?timeout=0.3").await.map(drop).expect_err("nobody listens");
    assert!(matches!(error, Error::Engine(_)) && start.elapsed() >= Duration::from_millis(300), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let (local, url) = embedded().await;
    let bus = Bus::open(&format!("{url}?timeout=0.3")).await.expect("it listens");
    TOPIC.publish(&bus, &1).await.expect("published");
    local.close().await.expect("it ends");
    match TOPIC.publish(&bus, &2).await {
        Err(PublishError::Unconfirmed { messages, .. }) => assert_eq!(messages[0].body, b"2"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_those_come_back_that_are_not_confirmed_and_can_be_published_again() {
    static TOPIC: Topic<u32> = Topic::new("narrow");
    let broker = Broker::in_memory();
    let driver = LocalDriver::new(&broker, false);
    let driver = driver.listening("127.0.0.1:0".parse().expect("an address")).await.expect("it is free");
    let bus = Bus::open(&format!("amqp://{}", driver.address().expect("it listens"))).await.expect("it listens");
    bus.declare(&TOPIC).await.expect("declared");
    let (client, mut arguments) = (broker.connect(), FieldTable::new());
    arguments.insert("x-max-length", 2);
    arguments.insert("x-overflow", "reject-publish");
    let (durable, exclusive, auto_delete) = (true, false, false);
    let narrow = QueueDeclare { name: "two", durable, exclusive, auto_delete, arguments: arguments.as_table() };
    client.declare_queue_with(narrow).expect("declared");
    client.bind_queue("two", TOPIC.name(), "").expect("bound");

    let error = TOPIC.publish_all(&bus, &[0, 1, 2, 3, 4]).await.expect_err("it has room for two");
    let text = error.to_string();
    let PublishError::Unconfirmed { messages, .. } = error else { panic!("{error:?}") };
    let bodies: Vec<_> = messages.iter().map(|message| message.body.as_slice()).collect();
    assert_eq!(bodies, [b"2", b"3", b"4"]);
    let begin = format!("3 messages to topic 'narrow', from {} on, are not confirmed: ", messages[0].id);
    assert!(text.starts_with(&begin), "{text}");

    assert_eq!(client.purge_queue("two").expect("it is there"), 2);
    let id = messages[0].id.clone();
    assert_eq!(
        (&bus).take(Ok(messages.into_iter().next().expect("there are three"))).await.expect("there is room"),
        id
    );
    assert_eq!(client.queue_status("two").expect("it is there").ready, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_somebody_deletes_comes_back() {
    static TOPIC: Topic<u32> = Topic::new("deleted");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    let broker = Broker::in_memory();
    let driver = LocalDriver::new(&broker, false);
    let driver = driver.listening("127.0.0.1:0".parse().expect("an address")).await.expect("it is free");
    let bus = Bus::open(&format!("amqp://{}", driver.address().expect("it listens"))).await.expect("it listens");
    bus.declare(&SUBSCRIPTION).await.expect("declared");
    broker.connect().delete_exchange("deleted").expect("it is there");
    TOPIC.publish(&bus, &1).await.expect("published");
    assert_eq!((bus.backlog(&SUBSCRIPTION).await.expect("declared").ready, bus.unheard()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_ends_when_its_queue_is_deleted() {
    static TOPIC: Topic<u32> = Topic::new("doomed");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    let broker = Broker::in_memory();
    let driver = LocalDriver::new(&broker, false);
    let driver = driver.listening("127.0.0.1:0".parse().expect("an address")).await.expect("it is free");
    let bus = Bus::open(&format!("amqp://{}", driver.address().expect("it listens"))).await.expect("it listens");
    let unknown = bus.backlog(&SUBSCRIPTION).await.expect_err("it was not declared");
    assert!(unknown.to_string().contains("doomed.s"), "{unknown}");
    bus.declare(&SUBSCRIPTION).await.expect("declared");
    let mut pull = bus.pull(&SUBSCRIPTION, 1).await.expect("it is there");
    broker.connect().delete_queue("doomed.s").expect("it is there");
    let ended = tokio::time::timeout(Duration::from_secs(10), pull.next()).await.expect("it ends");
    assert!(!matches!(ended, Ok(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_refused_is_told_at_once() {
    let (_local, url) = embedded().await;
    let url = url.replace("amqp://", "amqp://guest:secret@");
    let error = Bus::open(&url).await.map(drop).expect_err("it is refused").to_string();
    assert!(error.contains("ACCESS_REFUSED") && !error.contains("secret"), "{error}");
    let error = Bus::open(&format!("{}/nowhere", url.replace("guest:secret@", ""))).await.map(drop);
    let error = error.expect_err("there is no such virtual host").to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[tokio::test]
async fn what_is_no_valid_url_is_refused_without_its_secrets() {
    let error = Bus::open("amqp://user:secret@host?hartbeat=3").await.map(drop).expect_err("it is refused").to_string();
    assert_eq!(error, "an AMQP URL: there is no parameter 'hartbeat'; there are 'heartbeat' and 'timeout'");
}
