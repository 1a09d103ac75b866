//! A program with a broker inside, and no socket. What it has not acknowledged is there again when it is restarted:
//!
//! ```console
//! $ cargo run -p leveret-broker --example embedded -- ./orders-data
//! ```

use leveret_broker::{Broker, Client, Content, Properties, Wait};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("give the directory to keep the orders in")?;
    run(Path::new(&directory))
}

/// Takes three orders and processes two, as if it stopped in the middle of the work; then starts again.
pub fn run(directory: &Path) -> Result<(), Box<dyn Error>> {
    {
        let broker = Broker::open(directory)?;
        let client = broker.connect();
        client.declare_queue("orders")?;
        client.declare_queue("invoices")?;

        take_orders(&client)?;
        let mut orders = client.subscribe("orders", 10)?;
        for _ in 0..2 {
            let Some(order) = orders.next().wait()? else { return Err("the queue was deleted".into()) };
            process(&client, order)?;
        }
        broker.shut_down()?;
        // Here the broker and everything that came from it is dropped: the directory is free for the next one.
    }
    let broker = Broker::open(directory)?;
    let client = broker.connect();
    for queue in ["orders", "invoices"] {
        println!("after a restart, {queue} has {}", client.queue_status(queue)?.ready);
    }
    while let Some(order) = client.get("orders")? {
        println!("left over: {}", String::from_utf8_lossy(order.body()));
        process(&client, order)?;
    }
    broker.shut_down()?;
    Ok(())
}

/// Publishes without waiting for each message, and waits for all of them at the end.
fn take_orders(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut confirms = Vec::new();
    for (id, order) in ["two hares", "a leveret", "seven rabbits"].iter().enumerate() {
        let id = id.to_string();
        let properties = Properties { message_id: Some(id.as_bytes()), ..Properties::EMPTY };
        confirms.push(client.send("", "orders", Content::from(*order).properties(properties).mandatory()).wait()?);
    }
    for confirm in confirms {
        confirm.wait()?;
    }
    Ok(())
}

/// Makes an invoice of an order. Both or neither: a crash in between neither loses the order nor bills it twice.
fn process(client: &Client, order: leveret_broker::Message) -> Result<(), Box<dyn Error>> {
    let invoice = format!("for {}", String::from_utf8_lossy(order.body()));
    let mut transaction = client.transaction();
    transaction.publish("", "invoices", &invoice)?;
    transaction.ack(order)?;
    transaction.commit().wait()?;
    println!("invoice {invoice}");
    Ok(())
}
