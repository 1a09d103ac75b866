//! `local:`: the Leveret broker in this process. Everything is native to it.

mod message;
#[cfg(feature = "listen")]
mod port;
mod receiver;
mod requests;
mod topology;

use crate::contract::retry;
use crate::driver::{
    Backlog, Capabilities, Driver, Receiver, Reply, SubscriptionSpec, Support, TopicSpec, Unconfirmed, Work,
};
use crate::error::{Error, Result};
use crate::message::Outgoing;
use leveret_broker::{Broker, Client, ClientError, Environment, Limits, Storage, Sync};
use message::Prepared;
use receiver::LocalReceiver;
use requests::Replies;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The broker in this process.
///
/// ```
/// use leveret::Bus;
/// use leveret::local::LocalDriver;
/// use leveret_broker::Broker;
///
/// // This program uses the broker by itself, too.
/// let broker = Broker::in_memory();
/// let bus = Bus::with_driver(LocalDriver::new(&broker, false));
/// let client = broker.connect();
/// ```
#[derive(Debug)]
pub struct LocalDriver {
    broker: Broker,
    client: Client,
    durable: bool,
    /// Made for the first request.
    replies: Mutex<Option<Arc<Replies>>>,
    #[cfg(feature = "listen")]
    port: Mutex<Option<port::Port>>,
}

impl LocalDriver {
    /// On a broker of one's own, which others may use beside it. `durable` says whether it keeps messages.
    pub fn new(broker: &Broker, durable: bool) -> LocalDriver {
        LocalDriver {
            broker: broker.clone(),
            client: broker.connect(),
            durable,
            replies: Mutex::default(),
            #[cfg(feature = "listen")]
            port: Mutex::default(),
        }
    }

    /// `local:` or `local:./directory` with parameters, see [`Bus::open`](crate::Bus::open).
    pub(crate) async fn open(url: &str) -> Result<LocalDriver> {
        let rest = url.strip_prefix("local:").unwrap_or(url);
        let (directory, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Parameters { sync, listen } = Parameters::parse(url, query)?;
        let driver = if directory.is_empty() {
            if sync.is_some() {
                return Err(Error::Configuration(format!("'{url}': 'sync' needs a directory, as in 'local:./data'")));
            }
            LocalDriver::new(&Broker::in_memory(), false)
        } else {
            let opened = Storage::in_directory(Path::new(directory)).and_then(|storage| {
                let storage = Storage { sync: sync.unwrap_or(storage.sync), ..storage };
                Broker::open_with(Limits::default(), Environment::system(), storage)
            });
            let (broker, recovery) = opened.map_err(|error| Error::Engine(format!("'{url}': {error}")))?;
            recovery.damage.iter().for_each(|damage| tracing::error!(?damage, "some of the data is damaged"));
            LocalDriver::new(&broker, true)
        };
        match listen {
            None => Ok(driver),
            Some(address) => driver.listening(address).await,
        }
    }

    /// Opens a port for other programs on this machine, see [`Bus::open`](crate::Bus::open).
    ///
    /// # Errors
    /// [`Error::Engine`] if the address is in use.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> leveret::Result<()> {
    /// use leveret::local::LocalDriver;
    /// use leveret_broker::Broker;
    ///
    /// let driver = LocalDriver::new(&Broker::in_memory(), false);
    /// let driver = driver.listening(([127, 0, 0, 1], 0).into()).await?;
    /// println!("others can join at amqp://{}", driver.address().expect("it listens"));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "listen")]
    pub async fn listening(mut self, address: SocketAddr) -> Result<LocalDriver> {
        self.port = Mutex::new(Some(port::Port::open(address, &self.broker).await?));
        Ok(self)
    }

    #[cfg(not(feature = "listen"))]
    async fn listening(self, address: SocketAddr) -> Result<LocalDriver> {
        let text = format!("'listen={address}' needs the feature 'listen' of the crate 'leveret'");
        Err(Error::Configuration(text))
    }

    /// Where its port is, if it has one.
    #[cfg(feature = "listen")]
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(port::Port::address)
    }
}

/// What the URL's query says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    /// When what is confirmed is on the disk.
    sync: Option<Sync>,
    /// Where other programs can join.
    listen: Option<SocketAddr>,
}

impl Parameters {
    fn parse(url: &str, query: &str) -> Result<Parameters> {
        let refuse = |text: String| Err(Error::Configuration(format!("'{url}': {text}")));
        let mut parameters = Parameters::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "sync" => {
                    let millis = value.strip_prefix("interval:").and_then(|millis| millis.parse().ok());
                    parameters.sync = Some(match (value, millis.filter(|millis| *millis > 0)) {
                        ("always", _) => Sync::Always,
                        ("never", _) => Sync::Never,
                        (_, Some(millis)) => Sync::Interval(Duration::from_millis(millis)),
                        _ => {
                            let expected = "sync is 'always', 'never' or 'interval:<milliseconds>'";
                            return refuse(format!("{expected}, not '{value}'"));
                        }
                    });
                }
                "listen" => match value.parse() {
                    Ok(address) => parameters.listen = Some(address),
                    Err(_) => {
                        return refuse(format!("listen is an address and a port, '127.0.0.1:5672', not '{value}'"));
                    }
                },
                _ => return refuse(format!("there is no parameter '{name}'; 'local:' has 'sync' and 'listen'")),
            }
        }
        Ok(parameters)
    }
}

impl Driver for LocalDriver {
    fn capabilities(&self) -> Capabilities {
        let durable = if self.durable { Support::Native } else { Support::Absent };
        Capabilities { durable, ..Capabilities::native() }
    }

    fn declare_topic<'a>(&'a self, topic: &'a TopicSpec) -> Work<'a, Result<()>> {
        Box::pin(async { topology::declare_topic(&self.client, topic) })
    }

    fn declare_subscription<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<()>> {
        Box::pin(async { topology::declare_subscription(&self.client, spec) })
    }

    fn publish<'a>(&'a self, messages: &'a [Outgoing]) -> Work<'a, Result<u64, Unconfirmed>> {
        Box::pin(async move {
            let prepared = Prepared::all(messages);
            let published = self.client.publish_all(prepared.iter().map(message::addressed)).await;
            // Of a batch that fails halfway the broker does not tell how far it came.
            published.map_err(|error| Unconfirmed::all(engine(error), messages.len()))
        })
    }

    fn receive<'a>(
        &'a self,
        spec: &'a SubscriptionSpec,
        dead: bool,
        prefetch: u16,
    ) -> Work<'a, Result<Box<dyn Receiver>>> {
        Box::pin(async move {
            let receiver = LocalReceiver::new(&self.client, spec, dead, prefetch)?;
            Ok(Box::new(receiver) as Box<dyn Receiver>)
        })
    }

    fn respond<'a>(&'a self, name: &'static str, prefetch: u16) -> Work<'a, Result<Box<dyn Receiver>>> {
        Box::pin(async move {
            let receiver = LocalReceiver::of_requests(&self.client, name, prefetch)?;
            Ok(Box::new(receiver) as Box<dyn Receiver>)
        })
    }

    fn request<'a>(&'a self, request: &'a Outgoing, timeout: Duration) -> Work<'a, Result<Reply>> {
        Box::pin(async move {
            let replies = self.replies()?;
            replies.request(&self.client, request, timeout).await
        })
    }

    fn backlog<'a>(&'a self, spec: &'a SubscriptionSpec) -> Work<'a, Result<Backlog>> {
        Box::pin(async {
            let queue = self.client.queue_status(&spec.queue()).map_err(engine)?;
            let dead = self.client.queue_status(&spec.dead_queue()).map_err(engine)?;
            let waiting = queue.waiting + self.client.delayed(&retry(&spec.queue(), false)).map_err(engine)?;
            Ok(Backlog { ready: queue.ready, unsettled: queue.unacked, waiting, dead: dead.ready })
        })
    }

    fn close(&self) -> Work<'_, Result<()>> {
        Box::pin(async {
            #[cfg(feature = "listen")]
            {
                let port = self.port.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(port) = port {
                    port.close().await;
                }
            }
            let broker = self.broker.clone();
            // It writes to the disk, which is not for a thread that serves others.
            let closed = tokio::task::spawn_blocking(move || broker.shut_down()).await;
            let closed = closed.map_err(|error| error.to_string()).and_then(|it| it.map_err(|error| error.to_string()));
            closed.map_err(Error::Engine)
        })
    }
}

impl LocalDriver {
    /// The queue of replies, which is made for the first request.
    fn replies(&self) -> Result<Arc<Replies>> {
        let mut made = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(replies) => Ok(replies.clone()),
            None => Ok(made.insert(Replies::listen(&self.client)?).clone()),
        }
    }
}

fn engine(error: ClientError) -> Error {
    match error {
        ClientError::ShutDown => Error::Closed,
        error => Error::Engine(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_valid() {
        let query = |query| Parameters::parse("local:./d", query).map_err(|error| error.to_string());
        assert_eq!(query(""), Ok(Parameters::default()));
        let both = Parameters {
            sync: Some(Sync::Interval(Duration::from_millis(20))),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 5672))),
        };
        assert_eq!(query("sync=interval:20&listen=127.0.0.1:5672"), Ok(both));
        let text = "'local:./d': sync is 'always', 'never' or 'interval:<milliseconds>', not 'interval:0'";
        assert_eq!(query("sync=interval:0"), Err(text.to_string()));
        let text = "'local:./d': listen is an address and a port, '127.0.0.1:5672', not '5672'";
        assert_eq!(query("listen=5672"), Err(text.to_string()));
        let text = "'local:./d': there is no parameter 'snyc'; 'local:' has 'sync' and 'listen'";
        assert_eq!(query("snyc=never"), Err(text.to_string()));
    }

    #[tokio::test]
    async fn sync_needs_a_directory() {
        let opened = LocalDriver::open("local:?sync=never").await.map(drop).map_err(|error| error.to_string());
        let text = "'local:?sync=never': 'sync' needs a directory, as in 'local:./data'";
        assert_eq!(opened, Err(text.to_string()));
    }
}
