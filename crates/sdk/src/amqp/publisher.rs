//! The way in: messages are published until the broker has confirmed them.
//!
//! Each call has a channel of a pool to itself. So an error that ends the channel is the call's own, and what comes back as unroutable
//! is the call's own as well: lapin hands it out with any confirm of the channel.

use super::fault::Fault;
use super::link::{Epoch, Link, Pause};
use super::{Known, declare_again};
use crate::driver::Unconfirmed;
use crate::error::{Error, Result};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, Sleep};

/// Calls at a time, which is how many channels there may be. Brokers allow 2047 of a connection.
const CALLS: usize = 256;

/// Messages that are not confirmed, of all calls and of one.
const UNCONFIRMED: usize = 10_000;
const WINDOW: usize = 1000;

/// How long the rest of a call that was dropped may take.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// How often what a broker refuses is tried, with everything declared anew in between.
const TRIES: u32 = 2;

/// A message on its way to an exchange.
pub(super) struct Parcel<'a> {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: &'a [u8],
}

/// Publishes on a connection of its own: a broker that is short of memory stops reading from those that publish, and would not see
/// the acknowledgements on it either, which are what frees memory.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    timeout: Duration,
    /// What was declared.
    known: Known,
    idle: Mutex<Vec<Channel>>,
    calls: Semaphore,
    unconfirmed: Semaphore,
}

/// Why a call did not come to its end on a channel.
enum Stopped {
    Fault(Fault),
    /// The broker has said no to a message.
    Nacked,
    /// It has not said anything for too long.
    Silent,
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Stopped {
        Stopped::Fault(fault)
    }
}

type Flight<'a> = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send + 'a>>;

impl Publisher {
    /// `timeout` is how long the broker may keep silent.
    pub(super) fn new(link: Link, known: Known, timeout: Duration) -> Publisher {
        let (calls, unconfirmed) = (Semaphore::new(CALLS), Semaphore::new(UNCONFIRMED));
        Publisher { link, timeout, known, idle: Mutex::default(), calls, unconfirmed }
    }

    /// The connection.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// When a broker is not waited for any longer.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Publishes messages, and again what a lost connection leaves unconfirmed; gives the numbers of those that went to no queue. If an
    /// exchange is missing, everything is declared again.
    ///
    /// # Errors
    /// Which ones may have been published or not.
    pub(super) async fn publish(&self, parcels: &[Parcel<'_>]) -> Result<Vec<usize>, Unconfirmed> {
        let (left, unroutable, progress) = ((0..parcels.len()).collect(), Vec::new(), Instant::now());
        let mut run = Run { parcels, left, unroutable, progress };
        match self.complete(&mut run).await {
            Ok(()) => Ok(run.unroutable),
            Err(error) => Err(Unconfirmed { error, messages: run.left }),
        }
    }

    async fn complete(&self, run: &mut Run<'_>) -> Result<()> {
        let call = tokio::time::timeout_at(self.deadline(), self.calls.acquire()).await;
        let busy = |_| Error::Engine(format!("{CALLS} publishers wait for the broker already"));
        let _call = call.map_err(busy)?.map_err(|_| Error::Closed)?;
        let (mut tries, mut pause) = (0, Pause::default());
        loop {
            let deadline = run.progress + self.timeout;
            let epoch = self.link.up(Some(deadline)).await?;
            let stopped = match self.channel(&epoch).await {
                Ok(channel) => {
                    let busy = Busy(Some(channel));
                    match run.send(self, &epoch, &busy).await {
                        Ok(()) => {
                            self.keep(busy.finish());
                            return Ok(());
                        }
                        Err(stopped) => stopped,
                    }
                }
                Err(fault) => Stopped::Fault(fault),
            };
            match stopped {
                Stopped::Nacked => {
                    return Err(Error::Engine("the broker has refused a message (basic.nack)".to_string()));
                }
                Stopped::Silent => return Err(self.give_up(&epoch)),
                Stopped::Fault(fault @ Fault::Refused { .. }) => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(fault.into());
                    }
                    if fault.is_not_found() {
                        declare_again(epoch, &self.known).await?;
                    }
                }
                Stopped::Fault(Fault::Lost(why)) => {
                    if Instant::now() > deadline {
                        return Err(Error::Engine(why));
                    }
                    pause.wait().await;
                }
            }
        }
    }

    /// A connection that keeps silent is made anew, so that what lapin holds of it ends.
    fn give_up(&self, epoch: &Epoch) -> Error {
        let seconds = self.timeout.as_secs_f64();
        let why = if epoch.is_blocked() { ": it is short of memory or disk, and blocks publishers" } else { "" };
        epoch.give_up();
        Error::Engine(format!("the broker has not confirmed for {seconds} s{why}"))
    }

    async fn channel(&self, epoch: &Epoch) -> Result<Channel, Fault> {
        while let Some(channel) = self.idle().pop() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = epoch.channel().await?;
        epoch.answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    fn keep(&self, channel: Channel) {
        self.idle().push(channel);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        // Nothing that is done with it can panic halfway.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection when what is being published is confirmed, or nobody waits for it any more.
    pub(super) async fn close(&self) {
        let all = self.calls.acquire_many(CALLS as u32);
        _ = tokio::time::timeout(self.timeout, all).await;
        self.calls.close();
        self.idle().clear();
        self.link.close().await;
    }
}

/// A channel on which a call publishes. If the call is dropped, it stays until everything is written and confirmed: lapin would close it at
/// once, and write what is left behind that, for which brokers end the connection.
struct Busy(Option<Channel>);

impl Busy {
    fn finish(mut self) -> Channel {
        self.0.take().expect("it is taken once")
    }
}

impl std::ops::Deref for Busy {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        self.0.as_ref().expect("it is there until it is done")
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(channel) = self.0.take().filter(|channel| channel.status().connected()) else { return };
        tokio::spawn(async move { _ = tokio::time::timeout(LEFT_BEHIND, channel.wait_for_confirms()).await });
    }
}

/// The messages of a call.
struct Run<'a> {
    parcels: &'a [Parcel<'a>],
    /// Those that are not confirmed, in their order.
    left: Vec<usize>,
    /// The numbers of those that went to no queue.
    unroutable: Vec<usize>,
    /// When the broker was heard last.
    progress: Instant,
}

/// A message between its publishing and its confirm.
struct Flying<'a> {
    parcel: usize,
    flight: Flight<'a>,
    _permit: SemaphorePermit<'a>,
}

impl Run<'_> {
    /// Sends what is left on a channel. What is confirmed is not left any more, however this ends.
    async fn send(&mut self, publisher: &Publisher, epoch: &Arc<Epoch>, channel: &Channel) -> Result<(), Stopped> {
        let (parcels, left) = (self.parcels, std::mem::take(&mut self.left));
        let (mut flying, mut next) = (VecDeque::<Flying<'_>>::new(), 0);
        let mut late = pin!(tokio::time::sleep_until(self.progress + publisher.timeout));
        let ended = loop {
            while next < left.len() && flying.len() < WINDOW {
                let permit = match publisher.unconfirmed.try_acquire() {
                    Ok(permit) => permit,
                    Err(_) if !flying.is_empty() => break,
                    Err(_) => match publisher.unconfirmed.acquire().await {
                        Ok(permit) => permit,
                        Err(_) => break,
                    },
                };
                let mut flight: Flight<'_> = Box::pin(fly(channel, &parcels[left[next]]));
                // Polled once it is in lapin's hands, in its order. It is waited for when its turn comes.
                let begun = flight.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(done) = begun {
                    flight = Box::pin(std::future::ready(done));
                }
                flying.push_back(Flying { parcel: left[next], flight, _permit: permit });
                next += 1;
            }
            let Some(first) = flying.front_mut() else { break Ok(()) };
            match self.land(first, late.as_mut(), publisher.timeout).await {
                Ok(confirmation) => {
                    let is_unroutable = confirmation.take_message().is_some();
                    self.unroutable.extend(is_unroutable.then_some(first.parcel));
                }
                Err(Landing::Nacked) => break Err(Stopped::Nacked),
                Err(Landing::Silent) => break Err(Stopped::Silent),
                Err(Landing::Failed(error)) => break Err(epoch.blame(&error).into()),
            }
            flying.pop_front();
        };
        self.left = flying.iter().map(|flying| flying.parcel).chain(left[next..].iter().copied()).collect();
        ended
    }

    /// Waits for the confirm of a message.
    async fn land(
        &mut self,
        flying: &mut Flying<'_>,
        mut late: Pin<&mut Sleep>,
        timeout: Duration,
    ) -> Result<Confirmation, Landing> {
        let mut is_armed = false;
        let landed = poll_fn(|context| {
            if let Poll::Ready(landed) = flying.flight.as_mut().poll(context) {
                return Poll::Ready(Some(landed));
            }
            if !is_armed {
                late.as_mut().reset(self.progress + timeout);
                is_armed = true;
            }
            late.as_mut().poll(context).map(|()| None)
        });
        let confirmation = landed.await.ok_or(Landing::Silent)?.map_err(Landing::Failed)?;
        self.progress = Instant::now();
        match confirmation.is_nack() {
            true => Err(Landing::Nacked),
            false => Ok(confirmation),
        }
    }
}

/// Why a message was not confirmed.
enum Landing {
    Nacked,
    Silent,
    Failed(lapin::Error),
}

async fn fly(channel: &Channel, parcel: &Parcel<'_>) -> lapin::Result<Confirmation> {
    let Parcel { exchange, key, properties, body } = parcel;
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish(exchange.clone(), key.clone(), mandatory, body, properties.clone());
    sent.await?.await
}
