//! One situation's connections and names.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::api::{Channel, Client, Connection, EXCLUSIVE, Event, Failure, Flags, Login, Message, PASSIVE, PLAIN};
use crate::api::{Outcome, Properties, Table};
use crate::report::{Report, equal, eventually};

type ChannelOf<C> = <<C as Client>::Connection as Connection>::Channel;

/// Queues are exclusive where possible, so that they end with the case.
pub struct Case<'a, C: Client> {
    pub report: &'a Report,
    pub situation: &'static str,
    pub n: String,
    url: &'a str,
    pub connections: Vec<C::Connection>,
    first: Option<ChannelOf<C>>,
}

impl<'a, C: Client> Case<'a, C> {
    pub fn new(report: &'a Report, url: &'a str, situation: &'static str) -> Case<'a, C> {
        Case { report, situation, n: report.object_name(situation), url, connections: Vec::new(), first: None }
    }

    /// The URL's host and port, as guest.
    pub fn login(&self) -> Login {
        let address = self.url.rsplit('@').next().unwrap_or(self.url).trim_end_matches('/');
        let (host, port) = address.split_once(':').unwrap_or((address, "5672"));
        let port = port.parse().unwrap_or(5672);
        Login { host: host.into(), port, password: "guest".into(), vhost: "/".into(), heartbeat: None }
    }

    pub async fn connect(&mut self, login: &Login) -> Outcome<()> {
        self.connections.push(C::connect(login).await?);
        Ok(())
    }

    pub async fn open(&mut self) -> Outcome<()> {
        let login = self.login();
        self.connect(&login).await?;
        self.first = Some(self.channel().await?);
        Ok(())
    }

    /// The channel that most situations need just one of.
    ///
    /// # Panics
    /// Before `open`.
    pub fn ch(&self) -> &ChannelOf<C> {
        self.first.as_ref().unwrap_or_else(|| panic!("{} uses a channel before it opens one", self.situation))
    }

    pub async fn channel(&self) -> Outcome<ChannelOf<C>> {
        self.connections[0].channel().await
    }

    /// A channel of another connection.
    pub async fn elsewhere(&mut self) -> Outcome<ChannelOf<C>> {
        let login = self.login();
        self.connect(&login).await?;
        self.connections[self.connections.len() - 1].channel().await
    }

    pub fn observe(&self, text: &str) {
        self.report.line("observe", self.situation, text);
    }

    pub async fn queue(&self, suffix: &str) -> Outcome<String> {
        self.queue_with(suffix, EXCLUSIVE, &Table::new()).await
    }

    pub async fn queue_with(&self, suffix: &str, flags: Flags, arguments: &Table) -> Outcome<String> {
        Ok(self.ch().queue_declare(&format!("{}{suffix}", self.n), flags, arguments).await?.0)
    }

    pub async fn exchange(&self, kind: &str, suffix: &str) -> Outcome<String> {
        self.exchange_with(kind, suffix, PLAIN, &Table::new()).await
    }

    pub async fn exchange_with(&self, kind: &str, suffix: &str, flags: Flags, arguments: &Table) -> Outcome<String> {
        let name = format!("{}{suffix}", self.n);
        self.ch().exchange_delete(&name, false).await?;
        self.ch().exchange_declare(&name, kind, flags, arguments).await?;
        Ok(name)
    }

    pub async fn publish(&self, exchange: &str, key: &str, bodies: &[&str]) -> Outcome<()> {
        for body in bodies {
            self.ch().publish((exchange, key), body.as_bytes(), &Properties::default(), false).await?;
        }
        Ok(())
    }

    /// A message that must be there, unacknowledged.
    pub async fn get(&self, queue: &str) -> Outcome<Message> {
        self.ch().get(queue, false).await?.ok_or_else(|| Failure::from("the queue is empty"))
    }

    /// Takes all that is ready in the queue.
    pub async fn bodies(&self, queue: &str) -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        while let Some(message) = self.ch().get(queue, true).await? {
            found.push(message.text());
        }
        Ok(found)
    }

    pub async fn count(&self, queue: &str) -> Outcome<u32> {
        Ok(self.ch().queue_declare(queue, PASSIVE, &Table::new()).await?.1)
    }

    /// Waits until the channel has seen that many events.
    pub async fn events(&self, count: usize) -> Outcome<Vec<Event>> {
        eventually(async || Ok(self.ch().events().await.len() >= count)).await?;
        Ok(self.ch().events().await)
    }

    pub async fn close(&mut self) {
        for connection in self.connections.drain(..) {
            // Most error situations have ended it already.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        }
    }
}

/// Waits for the deliveries, then a little longer: one too many must be seen as well.
pub async fn collect(from: &mut UnboundedReceiver<Message>, count: usize) -> Outcome<Vec<Message>> {
    let mut found = Vec::new();
    loop {
        let wait = Duration::from_millis(if found.len() < count { 5000 } else { 200 });
        match tokio::time::timeout(wait, from.recv()).await {
            Ok(Some(message)) => found.push(message),
            Ok(None) | Err(_) => break,
        }
    }
    equal(found.len(), count)?;
    Ok(found)
}

/// Whether a passive declare on a throwaway channel was answered with 404.
pub fn gone<T>(answer: Outcome<T>) -> Outcome<bool> {
    match answer {
        Ok(_) => Ok(false),
        Err(Failure::Closed(closed)) => equal(closed.code, 404).map(|()| true),
        Err(other) => Err(other),
    }
}
