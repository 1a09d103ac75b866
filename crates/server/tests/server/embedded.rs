//! The port as a library: an application has the broker, and others join it. Here the application is the example, so that
//! it stays true.

use crate::client::{Client, Login, PATIENCE, persistent};
use crate::server::Directory;
use leveret_wire::method::{basic, confirm};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[path = "../../examples/with_amqp.rs"]
// Its `main` is not called.
#[allow(dead_code)]
mod with_amqp;

/// Runs the example for as long as `visit` takes, which is given its address.
fn while_it_runs(directory: &Path, visit: impl FnOnce(SocketAddr) + Send + 'static) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (done, stop) = oneshot::channel::<()>();
        let visiting = tokio::task::spawn_blocking(move || {
            visit(address);
            drop(done);
        });
        let stop = async { drop(stop.await) };
        let ran = tokio::time::timeout(Duration::from_secs(20), with_amqp::run(directory, listener, stop)).await;
        visiting.await.expect("no panic");
        ran.expect("it ends").expect("it ran without an error");
    });
}

fn join(address: SocketAddr) -> Client {
    let mut client = Client::open_at(address, &Login { user: "shop", password: "secret", ..Login::default() });
    client.channel(1);
    client
}

#[test]
fn an_application_with_a_broker_is_joined_over_amqp() {
    let directory = Directory::new("embedded");
    let path = Path::new(directory.path()).to_path_buf();
    while_it_runs(&path, |address| {
        let mut client = join(address);
        client.call(1, confirm::Select { nowait: false }, confirm::SelectOk::ID);
        client.send(&persistent(1, "", "orders", b"two hares"));
        client.expect(1, basic::Ack::ID);
        client.consume(1, "invoices", "billing", false);
        assert_eq!(client.delivery(1), b"for two hares");
        client.close();
        let mut refused = Client::started(address);
        refused.send(&Login::default().start_ok());
        refused.expect_end();
    });
    // The invoice was not acknowledged. This one does not close: it is closed.
    let (left, closed) = std::sync::mpsc::channel();
    while_it_runs(&path, move |address| {
        let mut client = join(address);
        assert_eq!((client.ready(1, "orders"), client.ready(1, "invoices")), (0, 1));
        client.consume(1, "invoices", "billing", true);
        assert_eq!(client.delivery(1), b"for two hares");
        std::thread::spawn(move || {
            client.expect_close(
                320,
                "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
                (0, 0),
            );
            left.send(()).expect("the test waits");
        });
    });
    closed.recv_timeout(PATIENCE).expect("it was closed");
}
