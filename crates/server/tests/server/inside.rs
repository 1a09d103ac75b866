//! The port as a library in the process of the test, which can look into it and change it.

use crate::client::{Client, Login};
use crate::server::Directory;
use leveret_broker::Broker;
use leveret_server::{Server, ServerLimits, Users, serve_amqp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs until it is dropped.
pub struct Inside {
    pub server: Arc<Server>,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Inside {
    /// Serves a broker in memory.
    pub fn start(users: Users) -> Inside {
        Inside::with(Broker::in_memory(), users)
    }

    /// Serves a broker that keeps everything, users included, as `leveret serve` does.
    pub fn on_disk(directory: &Directory) -> Inside {
        let broker = Broker::open(directory.path()).expect("it can be opened");
        let users = Users::open(&broker).expect("they can be read");
        users.add_guest_at_first().expect("there is room");
        Inside::with(broker, users)
    }

    /// Serves this broker.
    pub fn with(broker: Broker, users: Users) -> Inside {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = Server::new(broker, users, ServerLimits::default());
        let (stop, stopped) = oneshot::channel();
        let stop_serving = async {
            let _ = stopped.await;
            Duration::ZERO
        };
        let served = runtime.spawn(serve_amqp(vec![listener], server.clone(), stop_serving));
        Inside { server, address, stop: Some(stop), served: Some(served), runtime }
    }

    /// A connection that is open.
    pub fn open(&self, login: &Login<'_>) -> Client {
        Client::open_at(self.address, login)
    }

    /// This login is refused.
    pub fn expect_no_login(&self, login: &Login<'_>) {
        let mut client = Client::started(self.address);
        client.send(&login.start_ok());
        client.expect_end();
    }

    /// Waits for what is done by the server.
    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Stops serving and lets the broker write what is pending, so that its directory can be opened again.
    pub fn stop(mut self) {
        drop(self.stop.take());
        let served = self.served.take().expect("it was not stopped");
        self.runtime.block_on(served).expect("no panic");
        self.server.broker.shut_down().expect("it can be written");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            let served = self.runtime.block_on(served);
            assert!(served.is_ok() || std::thread::panicking(), "{served:?}");
        }
    }
}
