//! A shop with a broker inside, which other programs join over AMQP, in any language:
//!
//! ```console
//! $ cargo run -p leveret-server --example with_amqp -- ./shop-data 127.0.0.1:5672
//! $ cargo run -p leveret-server -- publish --url amqp://shop:secret@127.0.0.1:5672 '' orders 'two hares'
//! ```
//!
//! The shop itself needs no socket. It makes an invoice of each order, so that neither is ever lost or doubled.

use leveret_broker::{Broker, Client, ClientError};
use leveret_server::{Server, ServerLimits, Users, serve_amqp};
use std::error::Error;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long clients may take to close their connections when the shop stops.
const DRAIN: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("give the directory to keep the orders in")?;
    let address = arguments.next().unwrap_or("127.0.0.1:5672".to_string());
    let listener = TcpListener::bind(&address).await?;
    println!("orders are taken at amqp://shop:secret@{}", listener.local_addr()?);
    let interrupted = async {
        // Without a way to be interrupted it had better stop now.
        let _ = tokio::signal::ctrl_c().await;
    };
    run(Path::new(&directory), listener, interrupted).await
}

/// Serves until `stop` ends.
pub async fn run(
    directory: &Path,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let broker = Broker::open(directory)?;
    let client = broker.connect();
    client.declare_queue("orders")?;
    client.declare_queue("invoices")?;
    let users = Users::new();
    users.add_with_all_rights("shop", "secret", "/")?;
    let server = Server::new(broker.clone(), users, ServerLimits::default());

    let work = tokio::spawn(make_invoices(client));
    let stop = async {
        stop.await;
        DRAIN
    };
    serve_amqp(vec![listener], server, stop).await;

    // It writes to the disk, which is not for a thread that serves others.
    let closed = tokio::task::spawn_blocking(move || broker.shut_down()).await?;
    match work.await? {
        Ok(()) | Err(ClientError::ShutDown) => Ok(closed?),
        Err(error) => Err(error.into()),
    }
}

/// Ends when the queue is deleted, or with an error when the broker is shut down.
async fn make_invoices(client: Client) -> Result<(), ClientError> {
    let mut orders = client.subscribe("orders", 10)?;
    while let Some(order) = orders.next().await? {
        let invoice = format!("for {}", String::from_utf8_lossy(order.body()));
        let mut transaction = client.transaction();
        transaction.publish("", "invoices", &invoice)?;
        transaction.ack(order)?;
        transaction.commit().await?;
    }
    Ok(())
}
