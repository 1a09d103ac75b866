//! The output protocol of all clients, their expectations, and time limits.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use crate::api::{Closed, Failure, Outcome};

struct Expectation {
    scope: String,
    code: String,
    failed: String,
    text: String,
}

pub struct Report {
    client: &'static str,
    expectations: HashMap<String, Expectation>,
    failures: Cell<usize>,
}

impl Report {
    pub fn new(client: &'static str, expectations: &str) -> io::Result<Report> {
        let broker = env::var("INTEROP_BROKER").unwrap_or_default();
        let mut rows: HashMap<String, Expectation> = HashMap::new();
        for line in fs::read_to_string(expectations)?.lines().filter(|line| !line.starts_with('#')) {
            let part: Vec<&str> = line.splitn(6, '|').map(str::trim).collect();
            let [situation, of, scope, code, failed, text] = part[..] else { continue };
            if of == broker || (of == "*" && !rows.contains_key(situation)) {
                let row =
                    Expectation { scope: scope.into(), code: code.into(), failed: failed.into(), text: text.into() };
                rows.insert(situation.into(), row);
            }
        }
        Ok(Report { client, expectations: rows, failures: Cell::new(0) })
    }

    pub fn failures(&self) -> usize {
        self.failures.get()
    }

    pub fn object_name(&self, situation: &str) -> String {
        format!("interop.{}.{situation}", self.client)
    }

    pub fn line(&self, kind: &str, situation: &str, text: &str) {
        if kind == "FAIL" {
            self.failures.set(self.failures.get() + 1);
        }
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let separator = if kind == "observe" { " " } else { ": " };
        let tail = if flat.is_empty() { flat } else { format!("{separator}{flat}") };
        println!("{kind} {} {situation}{tail}", self.client);
    }

    /// Runs one situation; a lost answer costs that situation, not the script.
    pub async fn run(&self, situation: &str, limit: Duration, check: impl Future<Output = Outcome<()>>) {
        match tokio::time::timeout(limit, check).await {
            Ok(Ok(())) => self.line("ok", situation, ""),
            Ok(Err(Failure::Skip(why))) => self.line("skip", situation, why),
            Ok(Err(Failure::Other(why))) => self.line("FAIL", situation, &why),
            Ok(Err(Failure::SocketClosed)) => self.line("FAIL", situation, "the broker closed the socket"),
            Ok(Err(Failure::Closed(closed))) => self.line("FAIL", situation, &format!("{closed:?}")),
            Err(_) => self.line("FAIL", situation, &format!("no answer within {} s", limit.as_secs())),
        }
    }

    /// Compares what ended a channel or connection with the row of expected.txt.
    pub fn check_error(&self, situation: &str, closed: &Closed) -> Outcome<()> {
        let failed = closed.failed.map_or("-".to_string(), |(class, method)| format!("{class}/{method}"));
        let Closed { scope, code, text, .. } = closed;
        self.line("observe", situation, &format!("{scope} {code} {failed} {text}"));
        let want = self.expectations.get(situation).ok_or("expected.txt doesn't list it")?;
        let wanted = want.text.replace("{n}", &self.object_name(situation));
        if *scope != want.scope || code.to_string() != want.code || !text.contains(&wanted) {
            let want = format!("{} {} {wanted:?}", want.scope, want.code);
            return Err(format!("expected {want}, got {scope} {code} {text:?}").into());
        }
        if failed != "-" && failed != want.failed {
            return Err(format!("expected method {}, got {failed}", want.failed).into());
        }
        Ok(())
    }
}

pub fn equal<A: Debug + PartialEq<B>, B: Debug>(got: A, want: B) -> Outcome<()> {
    if got == want { Ok(()) } else { Err(format!("expected {want:?}, got {got:?}").into()) }
}

/// Polls: some effects, such as a requeue after a close, are not tied to a reply.
pub async fn eventually<F: Future<Output = Outcome<bool>>>(mut condition: impl FnMut() -> F) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition().await? {
        if Instant::now() > deadline {
            return Err("condition not met in time".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
