//! Server-sent events: a task says them, and ends with whoever listens.

use super::answer::{Answer, Refusal, body};
use super::{Api, Call};
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Events that wait for a client's socket; more are not made.
const WAITING: usize = 16;

/// A client that hears nothing for so long is told that the connection is alive.
const SILENCE: Duration = Duration::from_secs(15);

/// Where a task says its events.
pub struct Speaker {
    to: mpsc::Sender<Bytes>,
    stop: watch::Receiver<bool>,
}

impl Speaker {
    /// Says an event. False if nobody listens any more.
    pub async fn say(&mut self, event: &Value) -> bool {
        self.say_text(event.to_string()).await
    }

    /// Says an event that is JSON, in one line.
    pub async fn say_text(&mut self, event: String) -> bool {
        let bytes = Bytes::from(format!("data: {event}\n\n"));
        tokio::select! {
            sent = self.to.send(bytes) => sent.is_ok(),
            _ = self.stop.wait_for(|stopped| *stopped) => false,
        }
    }

    /// Done when nobody listens any more, or the server stops. Keeps the connection alive until then.
    pub async fn over(&mut self) {
        loop {
            tokio::select! {
                () = self.to.closed() => return,
                _ = self.stop.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(SILENCE) => {
                    // If there is no room for it, then none is needed.
                    let _ = self.to.try_send(Bytes::from_static(b":\n\n"));
                }
            }
        }
    }
}

/// Answers with the events that `task` says, until it ends or nobody listens.
///
/// # Errors
/// 503 if there are too many streams.
pub fn answer<F>(call: &Call, task: impl FnOnce(Speaker) -> F) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
{
    let api: &Arc<Api> = &call.api;
    let turn = api.streams.clone().try_acquire_owned().map_err(|_| {
        Refusal::unavailable(format!("there are {} streams, and no more are possible", api.server.limits.http_streams))
    })?;
    let (to, mut from) = mpsc::channel(WAITING);
    let task = task(Speaker { to, stop: api.stopping.subscribe() });
    call.api.runtime.spawn(async move {
        let _turn = turn;
        task.await;
    });
    let bytes = stream::poll_fn(move |context| from.poll_recv(context).map(|bytes| bytes.map(Ok::<Bytes, Infallible>)));
    Ok(open(Body::from_stream(bytes)))
}

fn open(events: Body) -> Response {
    let mut response = body(StatusCode::OK, "text/event-stream", events);
    // A proxy must not wait for the end.
    response.headers_mut().insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    response
}
