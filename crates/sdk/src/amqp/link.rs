//! A connection that is made anew when it is lost: one task owns it.

use super::address::Address;
use super::fault::{self, Fault};
use crate::error::{Error, Result};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// Between two attempts to connect, at first and at most, before jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How often an idle connection is looked at, whether it is still there.
const LOOK: Duration = Duration::from_millis(250);

/// How long a broker may take to answer a method.
const ANSWER: Duration = Duration::from_secs(30);

/// How long one attempt to connect may take, and how long a goodbye.
const HANDSHAKE: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(2);

/// A supervised connection. Clones are the same one; it ends with the last of them.
#[derive(Clone, Debug)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    stop: Arc<Stop>,
}

/// Tells the task when the last clone is gone, or when it is to end before.
#[derive(Debug)]
struct Stop(watch::Sender<bool>);

#[derive(Clone, Debug)]
enum State {
    /// Not there; why.
    Down(String),
    /// The broker is there, and does not let this user in. It is asked again.
    Refused(String),
    Up(Arc<Epoch>),
    Closed,
}

/// A connection from when it is made until it is lost.
#[derive(Debug)]
pub(super) struct Epoch {
    connection: Connection,
    lost: Notify,
}

/// What is done on a new connection before it is used.
pub(super) type Prepare = Box<dyn Fn(Arc<Epoch>) -> crate::driver::Work<'static, Result<(), Fault>> + Send + Sync>;

impl Link {
    /// Begins to connect; `name` is what the broker shows of it.
    pub(super) fn start(address: Address, name: &'static str, prepare: Prepare) -> Link {
        let (sender, state) = watch::channel(State::Down("it is not connected yet".to_string()));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Supervisor { address, name, prepare, state: sender, stopped }.run());
        Link { state, stop: Arc::new(Stop(stop)) }
    }

    /// Waits until it is connected; at most until the deadline, if there is one.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Engine`] if the broker refuses the user, or if it cannot be reached by then.
    pub(super) async fn up(&self, deadline: Option<Instant>) -> Result<Arc<Epoch>> {
        let mut state = self.state.clone();
        let waiting = async {
            let state = state.wait_for(|state| !matches!(state, State::Down(_))).await;
            state.map_or(State::Closed, |state| state.clone())
        };
        let found = match deadline {
            None => waiting.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, waiting).await {
                Ok(found) => found,
                Err(_) => self.state.borrow().clone(),
            },
        };
        match found {
            State::Up(epoch) => Ok(epoch),
            State::Refused(why) | State::Down(why) => Err(Error::Engine(why)),
            State::Closed => Err(Error::Closed),
        }
    }

    /// Ends it. Done when the broker has said goodbye, or has not answered.
    pub(super) async fn close(&self) {
        self.stop.0.send_replace(true);
        let mut state = self.state.clone();
        let closed = state.wait_for(|state| matches!(state, State::Closed));
        _ = tokio::time::timeout(2 * GOODBYE, closed).await;
    }
}

impl Epoch {
    /// A channel of one's own.
    pub(super) async fn channel(&self) -> Result<Channel, Fault> {
        self.answer(self.connection.create_channel()).await
    }

    /// Waits for what the broker says to a method. If it says nothing, the connection is made anew.
    pub(super) async fn answer<T>(&self, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(answer) => answer.map_err(|error| self.blame(&error)),
            Err(_) => {
                self.give_up();
                Err(Fault::Lost(format!("the broker has not answered for {} s", ANSWER.as_secs())))
            }
        }
    }

    /// What an error on this connection means. If the connection is lost, the supervisor learns it.
    pub(super) fn blame(&self, error: &lapin::Error) -> Fault {
        let fault = fault::of(error);
        if !self.connection.status().connected() {
            self.lost.notify_one();
        }
        fault
    }

    /// It does not answer: it is to be made anew.
    pub(super) fn give_up(&self) {
        self.lost.notify_one();
    }

    /// The broker has asked not to be published to.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    async fn lost(&self) {
        let gone = async {
            while self.connection.status().connected() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = gone => {}
            () = self.lost.notified() => {}
        }
    }
}

struct Supervisor {
    address: Address,
    name: &'static str,
    prepare: Prepare,
    state: watch::Sender<State>,
    stopped: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = self.keep() => {}
            // Also when nobody has the link any more.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        let last = self.state.send_replace(State::Closed);
        if let State::Up(epoch) = last {
            goodbye(&epoch).await;
        }
    }

    /// Connects, again and again.
    async fn keep(&mut self) {
        let mut pause = Pause::default();
        loop {
            let why = match self.connect().await {
                Ok(epoch) => {
                    tracing::info!(broker = %self.address, connection = self.name, "connected");
                    pause = Pause::default();
                    self.state.send_replace(State::Up(epoch.clone()));
                    epoch.lost().await;
                    State::Down(format!("the connection to {} was lost", self.address))
                }
                Err(Fault::Refused { text, .. }) => State::Refused(format!("{} refuses: {text}", self.address)),
                Err(Fault::Lost(why)) => State::Down(format!("{} cannot be reached: {why}", self.address)),
            };
            if let State::Down(text) | State::Refused(text) = &why {
                tracing::warn!(connection = self.name, "{text}; it will be tried again");
            }
            if let State::Up(epoch) = self.state.send_replace(why) {
                // Without waiting: what does not answer would hold up the next one.
                tokio::spawn(async move { goodbye(&epoch).await });
            }
            pause.wait().await;
        }
    }

    async fn connect(&self) -> Result<Arc<Epoch>, Fault> {
        let opened = tokio::time::timeout(HANDSHAKE, open(&self.address, self.name)).await;
        let late = |_| Fault::Lost(format!("no answer within {} s", HANDSHAKE.as_secs()));
        let connection = opened.map_err(late)?.map_err(|error| fault::of(&error))?;
        let epoch = Arc::new(Epoch { connection, lost: Notify::new() });
        (self.prepare)(epoch.clone()).await?;
        Ok(epoch)
    }
}

async fn goodbye(epoch: &Epoch) {
    let ok = ShortString::from("OK");
    _ = tokio::time::timeout(GOODBYE, epoch.connection.close(200, ok)).await;
}

async fn open(address: &Address, name: &str) -> lapin::Result<Connection> {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    let name = format!("{} ({name})", program.as_deref().unwrap_or("leveret"));
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "leveret, the SDK".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let config = OwnedTLSConfig::default();
    let runtime = lapin::runtime::default_runtime()?;
    let connect = async move |uri: AMQPUri, runtime| {
        // On the thread that lapin reads on: it would log everything that comes back from the broker, with what is in it, which
        // is every event that nobody subscribes to. What an application has to know, the bus says.
        std::mem::forget(tracing::dispatcher::set_default(&tracing::Dispatch::none()));
        uri.connect_with_config_async(config.as_ref(), &runtime).await.map_err(lapin::Error::from)
    };
    Connection::connector(address.uri.clone(), runtime, connect, properties).await
}

/// Ever longer pauses, each shortened at random, so that clients of one broker do not come back together.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { next: PAUSE.0 }
    }
}

impl Pause {
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(part_of(self.next)).await;
        self.next = (self.next * 2).min(PAUSE.1);
    }
}

/// Any part of a duration, at random; not none of it.
pub(super) fn part_of(duration: Duration) -> Duration {
    // The last 32 bits of a UUID of version 7 are random.
    let random = Uuid::now_v7().as_u128() as u32;
    duration.mul_f64((f64::from(random) + 1.0) / (f64::from(u32::MAX) + 1.0))
}
