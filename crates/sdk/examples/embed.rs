//! The broker inside of a program, durable, with a port that others may join: what this one publishes, a script in any language can
//! consume, and the other way round.
//!
//! ```console
//! $ cargo run -p leveret --features listen --example embed -- ./shop-data 127.0.0.1:5672
//! $ cargo run -p leveret-server -- publish --url amqp://127.0.0.1:5672 orders '' '"two hares"'
//! ```

use leveret::{App, Bus, Meta, Subscription, Topic};

static ORDERS: Topic<String> = Topic::new("orders");
static SHOP: Subscription<String> = ORDERS.subscription("shop");

async fn sell(order: String, meta: Meta) {
    println!("sold: {order} (attempt {})", meta.attempt);
}

#[tokio::main]
async fn main() -> leveret::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or("./shop-data".to_string());
    let address = arguments.next().unwrap_or("127.0.0.1:5672".to_string());
    let bus = Bus::open(&format!("local:{directory}?listen={address}")).await?;
    println!("orders are taken at amqp://guest:guest@{address}, exchange 'orders'; Ctrl-C ends");
    let stop = async { _ = tokio::signal::ctrl_c().await };
    App::new(&bus).handle(&SHOP, sell).run_until(stop).await?;
    bus.close().await
}
