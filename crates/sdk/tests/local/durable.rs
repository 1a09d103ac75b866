//! What is in a directory is there again.

use crate::bench::{Seen, until_backlog};
use leveret::{App, Bus, Meta, State, Subscription, Topic};

#[tokio::test]
async fn events_survive_the_program() {
    static TOPIC: Topic<u32> = Topic::new("durable");
    static SUBSCRIPTION: Subscription<u32> = TOPIC.subscription("s");
    async fn see(event: u32, State(seen): State<Seen>, meta: Meta) {
        seen.note(format!("{event} {}", meta.id));
    }
    let directory = std::env::temp_dir().join(format!("leveret-sdk-{}", std::process::id()));
    let url = format!("local:{}?sync=never", directory.display());
    let bus = Bus::open(&url).await.expect("it opens");
    bus.declare(&SUBSCRIPTION).await.expect("declared");
    let id = TOPIC.publish(&bus, &5).await.expect("published");
    bus.close().await.expect("it closes");

    let (bus, seen) = (Bus::open(&url).await.expect("it opens again"), Seen::default());
    until_backlog(&bus, &SUBSCRIPTION, (1, 0, 0)).await;
    let app = App::new(&bus).state(seen.clone()).handle(&SUBSCRIPTION, see).start().await.expect("it starts");
    assert_eq!(seen.wait(1).await, [format!("5 {id}")]);
    app.drain().await.expect("it ends");
    bus.close().await.expect("it closes");
    std::fs::remove_dir_all(&directory).expect("it is there");
}
