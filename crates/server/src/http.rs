//! The management HTTP API: RabbitMQ's, so that its tools work, and what Leveret can beyond (docs/management.md).
//!
//! `routes` is the table of all endpoints, a file each has what they do; `listing` and `fields` make lists, `rates` and
//! what is under it know speeds and the past.

mod access;
mod answer;
mod apps;
mod bindings;
mod call;
mod channels;
mod connections;
mod consumers;
mod costs;
mod dead_letters;
mod definitions;
mod endpoint;
mod events;
mod exchanges;
mod fields;
mod fieldtable;
mod health;
mod history;
mod listing;
mod messages;
pub(crate) mod node;
mod openapi;
mod operations;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod port;
mod query;
mod queues;
mod rates;
mod routes;
mod scrape;
mod stats;
mod stream;
mod tail;
mod users;
mod vhosts;

pub use overview::cluster_name;
pub use port::{serve_http, serve_metrics};

use self::access::{Caller, Who};
use self::answer::{Answer, Refusal, empty};
use self::call::Call;
use self::endpoint::Endpoint;
use self::query::Query;
use self::rates::Rates;
use crate::auth::Users;
use crate::server::Server;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http_body_util::BodyExt;
use leveret_broker::Broker;
use serde_json::{Map, Value};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

/// How long the body of a request may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Of a request that is refused whatever its body is, so many bytes of it are waited for, and so long.
const UNWANTED_BODY: usize = 256 * 1024;
const UNWANTED_BODY_TIME: Duration = Duration::from_secs(5);

/// Requests that are worked on at a time; others wait. Each has a thread.
const WORKING: usize = 64;

/// What all requests share.
pub struct Api {
    /// The broker with its users and connections.
    pub server: Arc<Server>,
    /// How fast things go.
    pub rates: Arc<Rates>,
    /// For waiting in requests' threads.
    pub runtime: tokio::runtime::Handle,
    working: Semaphore,
    /// Streams of events that can still be opened.
    pub streams: Arc<Semaphore>,
    /// True when the server stops.
    pub stopping: watch::Sender<bool>,
    /// This very API, for requests about requests.
    router: OnceLock<Router>,
}

impl Api {
    /// The API of a server, in the runtime that this is called in.
    pub fn new(server: Arc<Server>) -> Arc<Api> {
        let streams = server.limits.http_streams;
        let api = Arc::new(Api {
            server,
            rates: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
            working: Semaphore::new(WORKING),
            streams: Arc::new(Semaphore::new(streams)),
            stopping: watch::Sender::new(false),
            router: OnceLock::new(),
        });
        // Nobody else has seen it yet.
        let _ = api.router.set(router(&api));
        api
    }

    /// No request is begun any more.
    pub fn stop(&self) {
        self.working.close();
        self.stopping.send_replace(true);
    }

    /// All its paths.
    pub fn router(&self) -> Router {
        self.router.get().cloned().unwrap_or_default()
    }
}

/// Takes definitions over; see [`crate::definitions::load`].
///
/// # Errors
/// What is wrong, in words.
pub fn apply_definitions(
    broker: &Broker,
    users: &Users,
    definitions: &Map<String, Value>,
) -> Result<Vec<String>, String> {
    definitions::apply(broker, users, None, definitions).map_err(|refusal| refusal.reason)
}

/// Milliseconds since 1970. A clock before that is as good as one at it.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// All endpoints by their paths.
fn router(api: &Arc<Api>) -> Router {
    let mut router = Router::new();
    let mut endpoints = routes::all();
    endpoints.sort_by_key(|endpoint| endpoint.path);
    for same_path in endpoints.chunk_by(|a, b| a.path == b.path) {
        let methods = methods_of(same_path);
        let mut at_path = MethodRouter::new();
        for endpoint in same_path {
            let Ok(filter) = MethodFilter::try_from(endpoint.method.clone()) else { continue };
            let filter = if endpoint.method == Method::GET { filter.or(MethodFilter::HEAD) } else { filter };
            let endpoint = Arc::new(endpoint.clone());
            let handler = move |state: State<Arc<Api>>, path: Path, request: Request| {
                handle(state.0, endpoint.clone(), path, request)
            };
            at_path = at_path.merge(on(filter, handler));
        }
        let other = move |request: Request| other_method(request, methods);
        router = router.route(same_path[0].path, at_path.fallback(other));
    }
    router.merge(crate::dashboard::routes()).fallback(other_path).with_state(api.clone())
}

/// As RabbitMQ lists them.
fn methods_of(endpoints: &[Endpoint]) -> &'static str {
    let has = |method: &Method| endpoints.iter().any(|endpoint| endpoint.method == *method);
    match (has(&Method::GET), has(&Method::PUT), has(&Method::POST), has(&Method::DELETE)) {
        (true, false, false, false) => "HEAD, GET, OPTIONS",
        (true, true, false, true) => "HEAD, GET, PUT, DELETE, OPTIONS",
        (true, true, false, false) => "HEAD, GET, PUT, OPTIONS",
        (true, false, true, false) => "HEAD, GET, POST, OPTIONS",
        (true, false, false, true) => "HEAD, GET, DELETE, OPTIONS",
        (false, true, false, true) => "PUT, DELETE, OPTIONS",
        (false, true, false, false) => "PUT, OPTIONS",
        (false, false, true, false) => "POST, OPTIONS",
        (false, false, false, true) => "DELETE, OPTIONS",
        _ => "HEAD, GET, PUT, POST, DELETE, OPTIONS",
    }
}

async fn other_method(request: Request, methods: &'static str) -> Response {
    let is_question = *request.method() == Method::OPTIONS;
    let status = if is_question { StatusCode::OK } else { StatusCode::METHOD_NOT_ALLOWED };
    drain(request.into_body()).await;
    let mut response = empty(status);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    finish(response)
}

/// RabbitMQ does not mind a slash at the end, and clients put one there. More than one are too many for it, but that is how
/// Celery Flower asks for the queues of `/`.
async fn other_path(State(api): State<Arc<Api>>, mut request: Request) -> Response {
    if let Some(uri) = without_slash(request.uri()) {
        *request.uri_mut() = uri;
        let Ok(response) = api.router().oneshot(request).await;
        return response;
    }
    let answer = refuse(request.into_body(), Refusal::missing()).await;
    finish(answer.unwrap_or_else(Refusal::into_response))
}

/// The same address in the API, if it ends with a slash.
fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|path| path.starts_with("/api/"))?.trim_end_matches('/');
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The variable parts of a path, if they are UTF-8.
type Path = Result<RawPathParams, RawPathParamsRejection>;

async fn handle(api: Arc<Api>, endpoint: Arc<Endpoint>, path: Path, request: Request) -> Response {
    let answer = match path {
        Ok(path) => match prepare(&api, &endpoint, path, request).await {
            Ok(call) => work(&api, &endpoint, call).await,
            Err(refusal) => Err(refusal),
        },
        // Every name here is text, so nothing is called that.
        Err(_) => refuse(request.into_body(), Refusal::missing()).await,
    };
    finish(answer.unwrap_or_else(Refusal::into_response))
}

/// Who asks, and for what.
async fn prepare(api: &Arc<Api>, endpoint: &Endpoint, path: RawPathParams, request: Request) -> Result<Call, Refusal> {
    let (parts, body) = request.into_parts();
    let path: Vec<_> = path.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let caller = match admit(api, endpoint, &path, &parts).await {
        Ok(caller) => caller,
        Err(refusal) => return refuse(body, refusal).await,
    };
    let bytes = read(body, api.server.limits.http_body).await?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    Ok(Call { api: api.clone(), caller, path, query, headers: parts.headers, bytes })
}

/// Who asks, if the endpoint may be used.
async fn admit(
    api: &Arc<Api>,
    endpoint: &Endpoint,
    path: &[(String, String)],
    parts: &Parts,
) -> Result<Caller, Refusal> {
    let caller = match parts.extensions.get::<Caller>() {
        Some(caller) => caller.again(&api.server).ok_or_else(|| Refusal::login("Login failed"))?,
        None if endpoint.who == Who::Anyone => Caller::NOBODY,
        None => {
            let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
            let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip().to_canonical());
            Caller::login(&parts.headers, peer, &api.server).await?
        }
    };
    let vhost = path.iter().find(|(name, _)| name == "vhost").map(|(_, value)| value.as_str());
    // What does not exist is answered as such, as in RabbitMQ.
    let vhost = vhost.filter(|name| api.server.broker.vhost(name).is_some());
    if endpoint.who != Who::Anyone {
        caller.check(endpoint.who, &api.server, vhost)?;
    }
    Ok(caller)
}

/// Refuses a request when its body was read.
async fn refuse<T>(body: Body, refusal: Refusal) -> Result<T, Refusal> {
    drain(body).await;
    Err(refusal)
}

/// Reads what nobody wants, as far as it is short: a client that is still sending it would find the connection closed, and no answer.
async fn drain(mut body: Body) {
    let read = async {
        let mut left = UNWANTED_BODY;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length > left {
                break;
            }
            left -= length;
        }
    };
    let _ = tokio::time::timeout(UNWANTED_BODY_TIME, read).await;
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, limit)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(error) = source {
                if error.is::<http_body_util::LengthLimitError>() {
                    return Err(Refusal::too_large(limit));
                }
                source = error.source();
            }
            Err(Refusal::bad("the request's body cannot be read"))
        }
        Err(_) => Err(Refusal::too_slow()),
    }
}

/// On a thread of its own: it may list ten thousand queues, or wait for the disk.
async fn work(api: &Arc<Api>, endpoint: &Endpoint, call: Call) -> Answer {
    let closed = || Refusal::unavailable("the server stops");
    let _turn = api.working.acquire().await.map_err(|_| closed())?;
    let run = endpoint.run;
    let worked = tokio::task::spawn_blocking(move || run(&call)).await;
    worked.unwrap_or_else(|error| {
        tracing::error!(%error, path = endpoint.path, "an endpoint has failed");
        Err(closed())
    })
}

/// What every answer says to a browser.
fn finish(mut response: Response) -> Response {
    let values = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "authorization"),
    ];
    for (name, value) in values {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
