//! What was asked for again and again, told only when it has changed: the dashboard's way to stay up to date.

use super::answer::{Answer, Refusal};
use super::call::{Call, expected};
use super::events::{self, Speaker};
use super::{Api, access::Caller};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// Things that one stream can ask for.
const GETS_MAX: usize = 8;

/// Bytes of one answer that are passed on at most.
const ANSWER_MAX: usize = 8 * 1024 * 1024;

/// `GET /api/stream?every=2&get=/api/overview&get=...`
pub fn open(call: &Call) -> Answer {
    let every = Duration::from_secs(call.query.number("every", 1, 3600)?.unwrap_or(2));
    let gets: Vec<String> = call.query.all("get").map(str::to_string).collect();
    if gets.is_empty() || gets.len() > GETS_MAX {
        let reason = format!("get: expected 1 to {GETS_MAX} of them, got {}", gets.len());
        return Err(Refusal::bad(reason));
    }
    for get in &gets {
        let path = get.split('?').next().unwrap_or_default();
        let is_stream = path == "/api/stream" || path.ends_with("/tail");
        if !path.starts_with("/api/") || is_stream || request(get, &call.caller).is_err() {
            return Err(expected("get", "the path of something under /api/ that can be got and ends", &json!(get)));
        }
    }
    let (api, caller) = (call.api.clone(), call.caller.clone());
    events::answer(call, |speaker| run(api, caller, gets, every, speaker))
}

fn request(get: &str, caller: &Caller) -> Result<Request<Body>, axum::http::Error> {
    Request::builder().method(Method::GET).uri(get).extension(caller.clone()).body(Body::empty())
}

async fn run(api: Arc<Api>, caller: Caller, gets: Vec<String>, every: Duration, mut speaker: Speaker) {
    let mut told: Vec<Option<u64>> = vec![None; gets.len()];
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = speaker.over() => return,
            _ = timer.tick() => {}
        }
        for (get, told) in gets.iter().zip(&mut told) {
            let Some((status, body)) = ask(&api, get, &caller).await else { return };
            let mut hasher = DefaultHasher::new();
            (status.as_u16(), &body).hash(&mut hasher);
            let now = hasher.finish();
            if *told == Some(now) {
                continue;
            }
            *told = Some(now);
            let name = Value::from(get.as_str());
            let event = format!("{{\"get\":{name},\"status\":{},\"body\":{body}}}", status.as_u16());
            if !speaker.say_text(event).await
                || status == StatusCode::UNAUTHORIZED && caller.again(&api.server).is_none()
            {
                return;
            }
        }
    }
}

/// Asks as the caller, who may have lost rights meanwhile; what is answered is JSON in one line.
async fn ask(api: &Arc<Api>, get: &str, caller: &Caller) -> Option<(StatusCode, String)> {
    let response = api.router().oneshot(request(get, caller).ok()?).await.ok()?;
    let status = response.status();
    let is_json = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let body = axum::body::to_bytes(response.into_body(), ANSWER_MAX).await;
    match body {
        Ok(bytes) if is_json => Some((status, String::from_utf8(bytes.to_vec()).ok()?)),
        Ok(_) => Some((status, "null".to_string())),
        Err(_) => {
            let refusal =
                json!({ "error": "too_large", "reason": format!("the answer has more than {ANSWER_MAX} bytes") });
            Some((StatusCode::PAYLOAD_TOO_LARGE, refusal.to_string()))
        }
    }
}
