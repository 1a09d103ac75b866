//! A pipeline: orders are priced, and what was priced is summed up in batches. Each step publishes its result together with the end of
//! what it has handled, so that an order is neither lost nor counted twice, whatever fails in between.
//!
//! `cargo run -p leveret --example pipeline`

use leveret::{App, Bus, Events, Meta, RetryPolicy, State, Subscription, Topic};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Order {
    customer: String,
    carrots: u32,
}

#[derive(Serialize, Deserialize)]
struct Priced {
    customer: String,
    cents: u32,
}

#[derive(Serialize, Deserialize)]
struct Total {
    orders: usize,
    cents: u32,
}

const SOON: RetryPolicy = RetryPolicy { min: Duration::from_millis(10), max: Duration::from_millis(50), attempts: 5 };

static ORDERS: Topic<Order> = Topic::new("orders");
static PRICED: Topic<Priced> = Topic::new("orders.priced");
static TOTALS: Topic<Total> = Topic::new("totals");
/// The orders of a customer one after the other, those of others beside them.
static PRICE: Subscription<Order> = ORDERS.subscription("price").ordered().retry(SOON);
static SUM: Subscription<Priced> = PRICED.subscription("sum").concurrency(1);
static REPORT: Subscription<Total> = TOTALS.subscription("report");

async fn price(order: Order, meta: Meta) -> Result<Events, Box<dyn std::error::Error + Send + Sync>> {
    if order.carrots.is_multiple_of(7) && meta.attempt == 1 {
        return Err("the price list cannot be read now".into());
    }
    let (mut events, cents) = (Events::default(), order.carrots * 35);
    PRICED.publish(&mut events, &Priced { customer: order.customer.clone(), cents }).key(order.customer).await?;
    Ok(events)
}

async fn sum(priced: Vec<Priced>) -> Result<Events, Box<dyn std::error::Error + Send + Sync>> {
    let mut events = Events::default();
    let cents = priced.iter().map(|order| order.cents).sum();
    TOTALS.publish(&mut events, &Total { orders: priced.len(), cents }).await?;
    Ok(events)
}

async fn report(total: Total, State(seen): State<mpsc::UnboundedSender<Total>>) {
    // Nobody looks any more at the end.
    _ = seen.send(total);
}

/// Sends some orders through.
pub async fn run(url: &str, print: Arc<dyn Fn(String) + Send + Sync>) -> Result<(), Box<dyn std::error::Error>> {
    const ORDERED: u32 = 100;
    let bus = Bus::open(url).await?;
    let (seen, mut totals) = mpsc::unbounded_channel::<Total>();
    let app = App::new(&bus)
        .state(seen)
        .handle(&PRICE, price)
        .handle_batch(&SUM, (40, Duration::from_millis(20)), sum)
        .handle(&REPORT, report);
    let app = app.start().await?;
    for number in 1..=ORDERED {
        let order = Order { customer: format!("customer {}", number % 10), carrots: number };
        let key = order.customer.clone();
        ORDERS.publish(&bus, &order).key(key).await?;
    }
    let (mut orders, mut cents) = (0, 0);
    while orders < ORDERED as usize {
        let total = totals.recv().await.ok_or("nobody reports")?;
        orders += total.orders;
        cents += total.cents;
        print(format!("{orders:>3} orders, {}.{:02} so far", cents / 100, cents % 100));
    }
    app.drain().await?;
    Ok(bus.close().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("BUS_URL").unwrap_or("local:".to_string());
    run(&url, Arc::new(|line| println!("{line}"))).await
}
