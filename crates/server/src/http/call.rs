//! A request in the hands of its endpoint: who asks, for what, with what; each part is checked when it is taken.

use super::Api;
use super::access::Caller;
use super::answer::Refusal;
use super::query::Query;
use crate::auth::{Access, Permission};
use crate::server::Server;
use axum::body::Bytes;
use axum::http::HeaderMap;
use leveret_broker::VirtualHost;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// How long an operation on the broker may take before the request is given up, as in RabbitMQ.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
pub struct Call {
    /// What all requests share.
    pub api: Arc<Api>,
    /// Who asks.
    pub caller: Caller,
    /// The variable parts of the path by name, decoded.
    pub path: Vec<(String, String)>,
    /// The parameters behind the question mark.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub bytes: Bytes,
}

impl Call {
    /// What the ports share.
    pub fn server(&self) -> &Arc<Server> {
        &self.api.server
    }

    /// A variable part of the path; empty if the endpoint has none of this name.
    pub fn part(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether the endpoint has a part of this name.
    pub fn has_part(&self, name: &str) -> bool {
        self.path.iter().any(|(key, _)| key == name)
    }

    /// The virtual host in the path.
    ///
    /// # Errors
    /// 404 as RabbitMQ answers what looks at something in a virtual host that is not there.
    pub fn vhost(&self) -> Result<Arc<VirtualHost>, Refusal> {
        self.server().broker.vhost(self.part("vhost")).ok_or_else(Refusal::missing)
    }

    /// The same for what is to be made in it.
    ///
    /// # Errors
    /// 404 with the reason that RabbitMQ gives.
    pub fn vhost_for_change(&self) -> Result<Arc<VirtualHost>, Refusal> {
        self.server().broker.vhost(self.part("vhost")).ok_or_else(|| Refusal::not_found("vhost_not_found"))
    }

    /// What the caller may do in the virtual host of the path.
    ///
    /// # Errors
    /// 401 if the user is gone.
    pub fn access(&self) -> Result<Access, Refusal> {
        let access = self.caller.access(self.server(), self.part("vhost"));
        access.ok_or_else(|| Refusal::not_allowed("Access refused."))
    }

    /// Checks a permission of the caller on a queue or exchange of the virtual host in the path.
    ///
    /// # Errors
    /// 401 in RabbitMQ's words for a declaration, binding or deletion.
    pub fn check(&self, permission: Permission, kind: &str, name: &str) -> Result<(), Refusal> {
        Ok(self.access()?.check(permission, kind, name)?)
    }

    /// The virtual hosts that the caller sees, by name.
    pub fn visible_vhosts(&self) -> Vec<Arc<VirtualHost>> {
        let mut all = self.server().broker.vhosts();
        all.retain(|vhost| self.caller.sees(self.server(), vhost.name()));
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Waits for something of the broker; requests have threads of their own for that.
    ///
    /// # Errors
    /// 503 if it takes too long.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Refusal> {
        let done = self.api.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await });
        done.map_err(|_| Refusal::unavailable(format!("it was not done within {} s", PATIENCE.as_secs())))
    }

    /// Waits until everything that was changed up to now survives a crash.
    ///
    /// # Errors
    /// 503 if the broker's log has failed, or takes too long.
    pub fn stored(&self) -> Result<(), Refusal> {
        Ok(self.wait(self.server().broker.stored())??)
    }

    /// The body as an object; without one it is empty.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn body(&self) -> Result<Body, Refusal> {
        if self.bytes.is_empty() {
            return Ok(Body(Map::new()));
        }
        match serde_json::from_slice(&self.bytes) {
            Ok(Value::Object(map)) => Ok(Body(map)),
            _ => Err(Refusal::bad("not_json")),
        }
    }
}

/// The object in a request's body. Every access says what is wrong, by the field's name.
#[derive(Debug)]
pub struct Body(pub Map<String, Value>);

impl Body {
    /// Checks that fields are there.
    ///
    /// # Errors
    /// 400 in RabbitMQ's words, with all that are missing.
    pub fn needs(&self, fields: &[&str]) -> Result<(), Refusal> {
        let missing = fields.iter().filter(|field| !self.0.contains_key(**field));
        let missing: Vec<String> = missing.map(|field| format!("{{key_missing,{field}}}")).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Refusal::bad(format!("[{}]", missing.join(",")))),
        }
    }

    /// A text, if it is there.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn text(&self, field: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(expected(field, "a text", other)),
        }
    }

    /// A text that has to be there.
    ///
    /// # Errors
    /// 400 if it is not, or is something else.
    pub fn need_text(&self, field: &str) -> Result<&str, Refusal> {
        self.needs(&[field])?;
        self.text(field)?.ok_or_else(|| expected(field, "a text", &Value::Null))
    }

    /// True or false, if it is there; also as a text.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn flag(&self, field: &str) -> Result<Option<bool>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => Err(expected(field, "true or false", other)),
        }
    }

    /// A whole number within these bounds, if it is there; also as a text.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn number(&self, field: &str, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
        let number = match self.0.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => other.as_i64(),
        };
        match number {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(expected(field, &format!("a whole number from {min} to {max}"), &self.0[field])),
        }
    }

    /// An object; empty if it is not there. RabbitMQ's JSON library writes an empty one as `[]`.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn object(&self, field: &str) -> Result<Map<String, Value>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(Value::Array(list)) if list.is_empty() => Ok(Map::new()),
            Some(other) => Err(expected(field, "an object", other)),
        }
    }

    /// The texts of a list, or of one text with commas between them; `None` if it is not there.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn texts(&self, field: &str) -> Result<Option<Vec<String>>, Refusal> {
        let wrong = |value: &Value| expected(field, "a list of texts, or a text with commas", value);
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(Some(parts.map(str::to_string).collect()))
            }
            Some(Value::Array(list)) => {
                let text = |value: &Value| value.as_str().map(str::to_string).ok_or_else(|| wrong(value));
                list.iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(wrong(other)),
        }
    }
}

/// The most characters of a wrong value that are repeated in an answer.
const SHOWN: usize = 100;

/// 400: a field has a wrong value.
pub fn expected(field: &str, what: &str, got: &Value) -> Refusal {
    let text = got.to_string();
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    Refusal::bad(format!("{field}: expected {what}, got {shown}{more}"))
}
