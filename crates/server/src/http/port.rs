//! The port: accepts connections and serves the API on them, within limits.

use super::Api;
use crate::server::Server;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use tracing::{debug, warn};

/// How long a client may take to send a request's head, and how long a connection may stay without one.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// Bytes of a request's head at most, and of what is read ahead.
const HEAD_SIZE: usize = 64 * 1024;

/// Serves the management API on these sockets, in the runtime of tokio that it is called in, until `stop` is done. Then
/// requests have a second to end.
pub async fn serve_http(listeners: Vec<TcpListener>, server: Arc<Server>, stop: impl Future<Output = ()>) {
    if listeners.is_empty() {
        return;
    }
    let api = Api::new(server.clone());
    let (stopped, stopping) = watch::channel(false);
    let room = Arc::new(Semaphore::new(server.limits.max_http_connections));
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(listen(listener, api.clone(), room.clone(), stopping.clone()));
    }
    let rates = tokio::spawn(api.rates.clone().run(server));
    stop.await;
    rates.abort();
    stopped.send_replace(true);
    api.stop();
    while tasks.join_next().await.is_some() {}
}

async fn listen(listener: TcpListener, api: Arc<Api>, room: Arc<Semaphore>, mut stop: watch::Receiver<bool>) {
    let _listed = listener.local_addr().ok().map(|address| api.server.listens("http", address));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        let Some((stream, peer, turn)) = accepted else { continue };
        let router = api.router();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_SIZE);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection for management lost");
            }
        });
    }
    if tokio::time::timeout(Duration::from_secs(1), graceful.shutdown()).await.is_err() {
        debug!("requests for management did not end in time");
    }
}

/// The next connection, when there is room for one.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let turn = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "cannot set TCP_NODELAY");
            }
            Some((stream, peer, turn))
        }
        Err(error) => {
            // Typically no file descriptors left; those that go free some.
            warn!(%error, "cannot accept a connection for management; trying again in 100 ms");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
