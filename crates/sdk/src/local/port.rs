//! `listen=`: the AMQP port of the broker in this process, for other programs on this machine.

use crate::error::{Error, Result};
use leveret_broker::Broker;
use leveret_server::{Server, ServerLimits, Users, serve_amqp};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long others may take to close their connections when the bus is closed.
const DRAIN: Duration = Duration::from_secs(2);

/// A port that is open.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    /// Dropping it closes the port.
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Port {
    /// Opens a port. The user `guest` may log in with the password `guest`, from this machine only, as at a RabbitMQ that was just
    /// installed.
    pub(super) async fn open(address: SocketAddr, broker: &Broker) -> Result<Port> {
        let failed = |error| Error::Engine(format!("'listen={address}': {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let server = Server::new(broker.clone(), Users::guest_only(), ServerLimits::default());
        let served = tokio::spawn(async move {
            let stop = async {
                // An error says that the bus was dropped.
                _ = stopped.await;
                DRAIN
            };
            serve_amqp(vec![listener], server, stop).await;
        });
        tracing::info!(%address, "other programs on this machine can join at amqp://guest:guest@{address}");
        Ok(Port { address, stop, served })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets others close their connections, and ends.
    pub(super) async fn close(self) {
        _ = self.stop.send(());
        // A panic is in the log.
        _ = self.served.await;
    }
}
