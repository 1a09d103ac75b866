//! The load of a cycle: its clients, and what they share.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::crash::account::{Account, Sent};
use crate::crash::amqp::{Connection, Event, Outgoing};
use crate::crash::builder::Builder;
use crate::crash::chance::Chance;
use crate::crash::consumer::{Consumer, Habit, Subscription};
use crate::crash::message::{Id, LONGEST, Pattern, SHORTEST};
use crate::crash::publisher::Publisher;
use crate::crash::topology::{AUTO, COLD, DIRECT, FAN, FANOUT, Route, TOPIC_A, TOPIC_ALL, TOPIC_B, TOPICS, TX_OUT, to};
use crate::crash::transactor::Transactor;

/// Connections that work in transactions: the broker answers their commits in turn, so several are on their way at once.
const TRANSACTORS: usize = 6;

/// What clients share.
pub struct Load {
    /// Where the broker is.
    pub port: u16,
    /// What bodies are made of.
    pub pattern: Arc<Pattern>,
    /// Messages confirmed in this cycle.
    pub confirms: AtomicU64,
    /// Transactions committed in this cycle.
    pub commits: AtomicU64,
    /// From now on a lost connection is no surprise.
    pub ending: AtomicBool,
    clock: Instant,
    handles: Mutex<Vec<TcpStream>>,
}

impl Load {
    /// `clock` is the same for all cycles.
    pub fn new(port: u16, pattern: Arc<Pattern>, clock: Instant) -> Load {
        let (confirms, commits, ending) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Load { port, pattern, confirms, commits, ending, clock, handles: Mutex::default() }
    }

    /// Nanoseconds since the campaign began.
    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Connects a client.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(self.port)?;
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).push(connection.handle()?);
        // Whoever sets this cuts what is in the list behind it.
        ensure!(!self.ending.load(Ordering::SeqCst), "too late");
        Ok(connection)
    }

    /// Cuts all connections, whatever is on its way in them.
    pub fn cut(&self) {
        self.ending.store(true, Ordering::SeqCst);
        for handle in self.handles.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that is gone already is cut enough.
            let _ = handle.shutdown(Shutdown::Both);
        }
    }
}

/// A client: runs until its connection is gone, and tells what it remembers.
pub trait Client: Send + 'static {
    /// Works until something fails.
    ///
    /// # Errors
    /// Always in the end: with what ended it.
    fn run(&mut self, load: &Load) -> Result<()>;

    /// What it remembers.
    fn account(self) -> Account;
}

/// The clients of a cycle, a thread each.
pub struct Clients {
    load: Arc<Load>,
    threads: Vec<JoinHandle<(Account, bool)>>,
}

impl Clients {
    /// Starts the load. `numbers` gives each client that publishes a number that none had before.
    pub fn start(load: Arc<Load>, numbers: &mut impl FnMut() -> u32, chance: &mut Chance) -> Clients {
        let mut clients = Clients { load, threads: Vec::new() };
        for (window, share, routes) in publishers() {
            clients.add(Publisher::new(numbers(), window, share, routes, chance.fork()));
        }
        for subscriptions in consumers() {
            clients.add(Consumer::new(numbers(), subscriptions, chance.fork()));
        }
        clients.add(Builder::new(numbers(), chance.fork()));
        for _ in 0..TRANSACTORS {
            clients.add(Transactor::new(numbers, chance.fork()));
        }
        clients
    }

    /// Adds a consumer that acknowledges most of what nobody has consumed so far, so that there is something to merge.
    pub fn add_sweep(&mut self, number: u32, chance: Chance) {
        let queues = [FAN + 2, FAN + 3, TOPIC_B, TX_OUT + 2, TX_OUT + 3];
        let subscriptions = queues.map(|queue| Subscription::new(queue, Habit::Sparse, 0));
        self.add(Consumer::new(number, subscriptions.into(), chance));
    }

    fn add(&mut self, mut client: impl Client) {
        let load = self.load.clone();
        self.threads.push(std::thread::spawn(move || {
            let end = client.run(&load).err();
            let expected = load.ending.load(Ordering::SeqCst);
            let end = end.map(|error| format!("{error:#}"));
            (Account { end, ..client.account() }, expected)
        }));
    }

    /// Waits for all of them; their connections must be gone.
    ///
    /// # Errors
    /// If one ended before it should.
    pub fn join(self) -> Result<Vec<Account>> {
        let mut accounts = Vec::new();
        for thread in self.threads {
            let Ok((account, expected)) = thread.join() else { bail!("a client panicked") };
            if !expected {
                bail!("a client ended early: {}", account.end.unwrap_or_default());
            }
            accounts.push(account);
        }
        Ok(accounts)
    }

    /// True if one has ended.
    pub fn ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

/// Window, messages at full speed, and where to. The shares leave most of the confirms to windows of many messages,
/// and keep any one queue from becoming all of the work.
fn publishers() -> Vec<(usize, u64, Vec<Route>)> {
    vec![
        (1, u64::MAX, vec![to(&[DIRECT])]),
        (100, 12_000, vec![to(&[1]), to(&[2])]),
        (1000, u64::MAX, vec![to(&[3]), to(&[AUTO])]),
        (1000, 12_000, vec![FANOUT]),
        (100, 10_000, TOPICS.into()),
        (100, 6_000, vec![to(&[13])]),
        (1000, 8_000, vec![to(&[COLD])]),
    ]
}

/// What each consuming connection reads, and how. What isn't here becomes a backlog.
fn consumers() -> [Vec<Subscription>; 2] {
    [
        vec![
            Subscription::new(DIRECT, Habit::Single, 100),
            Subscription::new(DIRECT + 1, Habit::Multiple, 500),
            Subscription::new(FAN, Habit::Multiple, 1000),
            Subscription::new(FAN + 1, Habit::Single, 50),
            Subscription::new(TOPIC_A, Habit::Requeue, 200),
            Subscription::new(TX_OUT, Habit::Multiple, 200),
        ],
        vec![
            Subscription::new(DIRECT + 2, Habit::Requeue, 500),
            Subscription::new(DIRECT + 3, Habit::Sparse, 0),
            Subscription::new(FAN + 4, Habit::Sparse, 0),
            Subscription::new(TOPIC_ALL, Habit::Multiple, 2000),
            Subscription::new(TX_OUT + 1, Habit::Single, 20),
            Subscription::new(AUTO, Habit::Automatic, 0),
        ],
    ]
}

/// The publishing side of a client: a channel in confirm mode.
pub struct Outbox {
    /// The channel.
    channel: u16,
    publisher: u32,
    sent: Vec<Sent>,
    /// All before it are confirmed.
    settled: usize,
    /// Those that aren't confirmed.
    unconfirmed: usize,
}

impl Outbox {
    /// For a publisher's number that nobody had before.
    pub fn new(channel: u16, publisher: u32) -> Outbox {
        Outbox { channel, publisher, sent: Vec::new(), settled: 0, unconfirmed: 0 }
    }

    /// Messages published.
    pub fn count(&self) -> usize {
        self.sent.len()
    }

    /// Messages that wait for their confirm.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// Appends a message to the connection's output.
    pub fn publish(&mut self, load: &Load, to: &mut Connection, route: Route, persistent: bool, length: usize) {
        let id = Id::new(self.publisher, self.sent.len() as u64);
        self.sent.push(Sent { id, route, persistent, at: load.now(), confirmed: false });
        self.unconfirmed += 1;
        to.publish(self.channel, &route, &Outgoing { id, persistent, length }, &load.pattern);
    }

    /// Notes a confirm.
    ///
    /// # Errors
    /// If it is for nothing.
    pub fn confirmed(&mut self, load: &Load, tag: u64, multiple: bool) -> Result<()> {
        let last = usize::try_from(tag)?.checked_sub(1).context("a confirm of tag 0")?;
        let first = if multiple { self.settled } else { last };
        let confirmed = self.sent.get_mut(first..=last).with_context(|| format!("a confirm of {tag}, never sent"))?;
        let mut count = 0;
        for sent in confirmed.iter_mut().filter(|sent| !sent.confirmed) {
            sent.confirmed = true;
            count += 1;
        }
        if count == 0 {
            bail!("a second confirm of {tag}");
        }
        while self.sent.get(self.settled).is_some_and(|sent| sent.confirmed) {
            self.settled += 1;
        }
        self.unconfirmed -= count;
        load.confirms.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What was published.
    pub fn into_sent(self) -> Vec<Sent> {
        self.sent
    }
}

/// Octets of a body: mostly few, one in a thousand is large.
pub fn any_length(chance: &mut Chance) -> usize {
    const KIB: u64 = 1024;
    let length = match chance.below(1000) {
        0 => chance.at_any_scale(100 * KIB, LONGEST as u64),
        1..250 => chance.at_any_scale(256, 2 * KIB),
        _ => chance.at_any_scale(SHORTEST as u64, 256),
    };
    length as usize
}

/// Passes on what isn't expected as what ended the client.
pub fn refuse(event: Event) -> Result<()> {
    bail!("the broker said {event:?}, which nobody asked for")
}
