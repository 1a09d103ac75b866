//! Metrics for Prometheus: on this port for those who may monitor, and on a port of their own for everybody who reaches it,
//! as RabbitMQ has them on 15692.

use super::answer::{Answer, Refusal, body};
use super::call::Call;
use super::query::Query;
use crate::metrics::{CONTENT_TYPE, View, render};
use crate::server::Server;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;

/// A path, and what it shows of the parameters behind it.
type Page = (&'static str, fn(&Query) -> View);

const PAGES: [Page; 3] =
    [("/metrics", |_| View::Aggregated), ("/metrics/per-object", |_| View::PerObject), ("/metrics/detailed", detailed)];

/// Without families there is nothing in it, as with RabbitMQ.
fn detailed(query: &Query) -> View {
    let set = |name| query.all(name).map(str::to_string).collect();
    View::Detailed { families: set("family"), vhosts: set("vhost") }
}

/// `GET /metrics`
pub fn aggregated(call: &Call) -> Answer {
    page(call, View::Aggregated)
}

/// `GET /metrics/per-object`
pub fn per_object(call: &Call) -> Answer {
    page(call, View::PerObject)
}

/// `GET /metrics/detailed`
pub fn some(call: &Call) -> Answer {
    page(call, detailed(&call.query))
}

fn page(call: &Call, view: View) -> Answer {
    Ok(body(StatusCode::OK, CONTENT_TYPE, render(call.server(), &view)))
}

/// The same pages without a login.
pub fn router(server: Arc<Server>) -> Router {
    let add = |router: Router<Arc<Server>>, (path, view): Page| {
        let page = move |State(server): State<Arc<Server>>, RawQuery(query): RawQuery| async move {
            let view = view(&Query::parse(query.as_deref().unwrap_or_default()));
            shown(server, view).await
        };
        router.route(path, get(page))
    };
    PAGES.into_iter().fold(Router::new(), add).with_state(server)
}

/// Looks at every queue: in a thread that may wait for their locks.
async fn shown(server: Arc<Server>, view: View) -> Response {
    match tokio::task::spawn_blocking(move || render(&server, &view)).await {
        Ok(text) => body(StatusCode::OK, CONTENT_TYPE, text),
        Err(error) => Refusal::unavailable(error.to_string()).into_response(),
    }
}
