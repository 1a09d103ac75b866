//! AMQP 0-9-1 on sockets: one task per connection.

mod buffers;
mod connection;
mod content;
mod durable;
mod failure;
mod handshake;
mod heart;
mod input;
mod methods;
mod output;
mod parking;

use crate::server::Server;
use connection::Connection;
use leveret_broker::{Broker, Event};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{Instrument, debug, error, info, warn};

/// How often the memory limit is looked at beside every publish, because what consumers free counts too; and the log's
/// health.
const LOOK: Duration = Duration::from_millis(100);

/// How long connections may take to close when the log has failed: nothing good comes from waiting.
const DRAIN_FAILED: Duration = Duration::from_millis(500);

/// Serves AMQP 0-9-1 on these sockets, in the runtime of tokio that it is called in. The server's users may log in, to the
/// virtual hosts that they are allowed to.
///
/// It ends when `stop` does, which says how long clients may then take to close, or when the broker's log has failed
/// ([`Broker::failure`]). It returns when all connections are closed, or that time is over. The broker is not shut down
/// by it.
pub async fn serve_amqp(listeners: Vec<TcpListener>, server: Arc<Server>, stop: impl Future<Output = Duration>) {
    let (stopped, stopping) = watch::channel(None);
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(listen(listener, server.clone(), stopping.clone()));
    }
    let drain = tokio::select! {
        drain = stop => drain,
        why = watch_broker(&server.broker) => {
            error!("the log has failed, all connections are closed: {why}");
            DRAIN_FAILED
        }
    };
    stopped.send_replace(Some(drain));
    while tasks.join_next().await.is_some() {}
}

/// Checks the memory limit until the log fails; says why.
async fn watch_broker(broker: &Broker) -> String {
    let mut timer = tokio::time::interval(LOOK);
    loop {
        timer.tick().await;
        broker.check_memory();
        if let Some(why) = broker.failure() {
            return why;
        }
    }
}

/// When the broker stops: how long connections may take to answer connection.close. `None` as long as it runs.
pub type Stop = watch::Receiver<Option<Duration>>;

/// Accepts connections until the broker stops; then closes them and waits until they are gone.
async fn listen(listener: TcpListener, server: Arc<Server>, mut stop: Stop) {
    let _listed = listener.local_addr().ok().map(|address| server.listens("amqp", address));
    // Each connection holds a sender; when the last is gone, the receiver knows.
    let (alive, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
    let drain = loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            drain = stop.wait_for(Option::is_some) => break drain.ok().and_then(|drain| *drain).unwrap_or_default(),
        };
        match accepted {
            Ok((stream, peer)) => accept(stream, peer, &server, alive.clone(), stop.clone()),
            Err(error) => {
                // Typically no file descriptors left; those that go free some.
                warn!(%error, "cannot accept a connection; trying again in 100 ms");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    drop((listener, alive));
    server.broker.broadcast(Event::Shutdown);
    if tokio::time::timeout(drain, all_gone.recv()).await.is_err() {
        warn!(left = server.connections.load(Ordering::Relaxed), "connections did not close in time");
    }
}

fn accept(stream: TcpStream, peer: SocketAddr, server: &Arc<Server>, alive: tokio::sync::mpsc::Sender<()>, stop: Stop) {
    let open = server.connections.fetch_add(1, Ordering::Relaxed);
    let guard = Guard { server: server.clone(), _alive: alive };
    if open >= server.limits.max_connections {
        warn!(%peer, limit = server.limits.max_connections, "connection refused: max_connections is reached");
        return;
    }
    let span = tracing::info_span!("connection", %peer);
    let server = server.clone();
    let run = async move {
        let _guard = guard;
        serve(stream, peer, &server, stop).await;
    };
    tokio::spawn(run.instrument(span));
}

/// Counts a connection out when its task ends, however it ends.
struct Guard {
    server: Arc<Server>,
    _alive: tokio::sync::mpsc::Sender<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.server.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, server: &Arc<Server>, mut stop: Stop) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let limit = server.limits.handshake;
    // On the heap: a task that is open has no use for its memory.
    let shaking = Box::pin(tokio::time::timeout(limit, handshake::run(&mut stream, peer, server)));
    let handshake = tokio::select! {
        result = shaking => result,
        _ = stop.wait_for(Option::is_some) => return,
    };
    match handshake {
        Ok(Ok(opened)) => {
            info!(user = opened.user(), vhost = &**opened.vhost_name(), "connection opened");
            match begin(stream, server, opened, &stop).await {
                Ok(()) => info!("connection closed"),
                Err(error) => info!(%error, "connection lost"),
            }
        }
        // As a quoted string: it repeats what the client has said, which must not look like lines of the log.
        Ok(Err(error)) => info!(error = error.to_string(), "handshake failed"),
        Err(_) => info!(seconds = limit.as_secs(), "handshake took too long"),
    }
}

/// Serves an open connection. On the heap, so that a task that is still shaking hands is small.
fn begin(
    stream: TcpStream,
    server: &Arc<Server>,
    opened: handshake::Opened,
    stop: &Stop,
) -> Pin<Box<impl Future<Output = std::io::Result<()>> + use<>>> {
    let mut connection = Connection::new(stream, server.clone(), opened);
    // The user may have been deleted before the connection was listed.
    connection.follow_users();
    // It may have opened just behind the broadcast of the end.
    if stop.borrow().is_some() {
        connection.session.mailbox().post(Event::Shutdown);
    }
    Box::pin(connection.run())
}
