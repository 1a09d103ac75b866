//! A small blocking client of the management API: Leveret's, and RabbitMQ's where it has the same endpoints.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use serde_json::{Value, json};

/// How long an answer may take. A purge of millions of messages is one request.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The largest answer that is taken, in bytes: definitions of many thousand queues.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Items per page of a listing; no broker gives more (RabbitMQ's limit).
const PAGE: usize = 500;

/// Where a broker's management API is and who logs in, from `http://user:password@host:port`.
#[derive(Clone)]
pub struct Address {
    base: url::Url,
    authorization: String,
}

impl Address {
    /// The broker on this machine.
    pub const DEFAULT: &str = "http://guest:guest@127.0.0.1:15672";
}

/// Without the password: this goes to terminals and logs.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str())
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Address> {
        let example = Address::DEFAULT;
        let mut base = url::Url::parse(text).with_context(|| format!("not a URL; it looks like {example}"))?;
        ensure!(base.scheme() == "http", "the management API is reached by http://, for example {example}");
        ensure!(base.query().is_none(), "unknown URL parameters: {}", base.query().unwrap_or_default());
        let decode = |part: &str| super::super::client::percent_decoded(part);
        let user = if base.username().is_empty() { "guest".to_string() } else { decode(base.username())? };
        let password = decode(base.password().unwrap_or("guest"))?;
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        if base.port().is_none() && !text.trim_end_matches('/').ends_with(":80") {
            base.set_port(Some(15672)).map_err(|()| anyhow::anyhow!("{text} has no host"))?;
        }
        base.set_username("").and_then(|()| base.set_password(None)).map_err(|()| anyhow::anyhow!("no host"))?;
        Ok(Address { base, authorization: format!("Basic {login}") })
    }
}

/// A client of one broker.
#[derive(Debug)]
pub struct Api {
    address: Address,
    agent: ureq::Agent,
}

impl Api {
    /// A client that connects when it is asked something.
    pub fn new(address: Address) -> Api {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        Api { address, agent: config.build().into() }
    }

    /// What is behind a path, given in segments, which may hold any character.
    ///
    /// # Errors
    /// With what the broker says, or why it cannot be reached.
    pub fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value> {
        self.call("GET", path, query, None)
    }

    /// Everything of a listing, page by page where the broker has pages of it.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn list(&self, path: &[&str], paged: bool, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        if !paged {
            return items(self.get(path, query)?);
        }
        let mut all = Vec::new();
        for page in 1.. {
            let (page, size) = (page.to_string(), PAGE.to_string());
            let pages = [("page", page.as_str()), ("page_size", size.as_str())];
            let answer = self.get(path, &[&pages, query].concat())?;
            let more = answer["page_count"].as_u64().unwrap_or(0) > answer["page"].as_u64().unwrap_or(0);
            all.extend(items(answer["items"].clone())?);
            if !more {
                break;
            }
        }
        Ok(all)
    }

    /// Creates or changes what is behind a path.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn put(&self, path: &[&str], body: &Value) -> Result<Value> {
        self.call("PUT", path, &[], Some(body))
    }

    /// Has the broker do something.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn post(&self, path: &[&str], body: &Value) -> Result<Value> {
        self.call("POST", path, &[], Some(body))
    }

    /// Deletes what is behind a path.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn delete(&self, path: &[&str]) -> Result<Value> {
        self.delete_if(path, &[])
    }

    /// As [`Api::delete`], under conditions.
    ///
    /// # Errors
    /// As [`Api::get`], also if a condition does not hold.
    pub fn delete_if(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value> {
        self.call("DELETE", path, query, None)
    }

    fn call(&self, method: &str, path: &[&str], query: &[(&str, &str)], body: Option<&Value>) -> Result<Value> {
        let url = self.url(path, query)?;
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header("authorization", &self.address.authorization)
            .header("content-type", "application/json");
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let cannot = || format!("cannot reach the management API at {:?}; is the broker running there?", self.address);
        let mut response = self.agent.run(request.body(bytes)?).with_context(cannot)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(LARGEST).read_to_string().with_context(cannot)?;
        let answer = || serde_json::from_str::<Value>(&text);
        match status {
            200..300 if text.trim().is_empty() => Ok(Value::Null),
            200..300 => answer().with_context(|| format!("{url} answers, but not with JSON: is it a management API?")),
            _ => {
                let answer = answer().unwrap_or(Value::Null);
                let said = answer["reason"].as_str().or(answer["error"].as_str()).unwrap_or("no reason given");
                bail!("{}", refusal(status, said, path))
            }
        }
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<url::Url> {
        let mut url = self.address.base.clone();
        let mut segments = url.path_segments_mut().map_err(|()| anyhow::anyhow!("the URL has no path"))?;
        segments.pop_if_empty().push("api").extend(path);
        drop(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

fn refusal(status: u16, said: &str, path: &[&str]) -> String {
    match status {
        401 => format!("login refused, or not allowed to ({said}); give --url http://USER:PASSWORD@HOST:PORT"),
        404 if said == "Not Found" => format!("there is nothing at {}", path.join(" ")),
        _ => format!("the broker answers {status}: {said}"),
    }
}

fn items(answer: Value) -> Result<Vec<Value>> {
    match answer {
        Value::Array(items) => Ok(items),
        _ => bail!("the broker answers with something that is no list"),
    }
}

/// A body without content.
pub fn empty() -> Value {
    json!({})
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        let shown = match text.parse::<Address>() {
            Ok(address) => {
                let api = Api::new(address.clone());
                let url = api.url(&["queues", "/", "a b/c"], &[("page", "1")]).expect("a URL");
                format!("{url} {}", address.authorization)
            }
            Err(error) => format!("{error:#}"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn addresses() {
        check(
            Address::DEFAULT,
            expect!["http://127.0.0.1:15672/api/queues/%2F/a%20b%2Fc?page=1 Basic Z3Vlc3Q6Z3Vlc3Q="],
        );
        check(
            "http://ann:a%40b@host/mq/",
            expect!["http://host:15672/mq/api/queues/%2F/a%20b%2Fc?page=1 Basic YW5uOmFAYg=="],
        );
        check(
            "amqp://host",
            expect!["the management API is reached by http://, for example http://guest:guest@127.0.0.1:15672"],
        );
        check(
            "host",
            expect!["not a URL; it looks like http://guest:guest@127.0.0.1:15672: relative URL without a base"],
        );
    }
}
