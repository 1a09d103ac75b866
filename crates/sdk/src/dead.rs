//! Dead letters: what no attempt could handle.

use crate::codec::Codec;
use crate::driver::{Death, Receipt, Received, Settlement};
use crate::error::{BoxError, Result};
use crate::message::Meta;
use std::fmt;

/// A message that could not be handled. Dropping it puts it back.
///
/// ```
/// # use leveret::{App, Bus, Outcome, Subscription, Topic};
/// # static SIGNUPS: Topic<String> = Topic::new("signups");
/// # static EMAIL: Subscription<String> = SIGNUPS.subscription("email");
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::open("local:").await?;
/// let app = App::new(&bus).handle(&EMAIL, async |email: String| match email.contains('@') {
///     true => Outcome::Done,
///     false => Outcome::Dead("it is no address".into()),
/// });
/// let app = app.start().await?;
/// SIGNUPS.publish(&bus, &"ann".to_string()).await?;
/// # while bus.backlog(&EMAIL).await?.dead == 0 { tokio::task::yield_now().await }
/// for dead in bus.dead(&EMAIL, 10).await? {
///     assert_eq!((dead.event.as_deref().ok(), dead.error.as_deref()), (Some("ann"), Some("it is no address")));
///     dead.discard().await?;
/// }
/// app.drain().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a dead letter that is dropped goes back to the dead-letter queue"]
pub struct Dead<T> {
    /// The event, unless it does not decode.
    pub event: Result<T, BoxError>,
    /// As it was published.
    pub body: Vec<u8>,
    /// What is known of the message. Its attempt is the last one.
    pub meta: Meta,
    /// Why: `attempts` when the last one has failed, `rejected` for [`Outcome::Dead`](crate::Outcome::Dead), `undecodable`, or
    /// what the engine says, such as `delivery_limit` and `expired`.
    pub reason: String,
    /// The last error, if a handler has returned one.
    pub error: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    receipt: Option<Box<dyn Receipt>>,
}

impl<T> Dead<T> {
    pub(crate) fn new(received: Received, codec: &Codec<T>) -> Dead<T> {
        let Received { message, death, receipt } = received;
        let Death { reason, error, attempts } = *death.unwrap_or_default();
        let event = codec.decode(&message.body);
        Dead { event, body: message.body, meta: message.meta, reason, error, attempts, receipt: Some(receipt) }
    }

    /// Sends it back to be handled again, from its first attempt on.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine): it is a dead letter still.
    pub async fn redrive(mut self) -> Result<()> {
        self.settle(Settlement::Redrive).await
    }

    /// Forgets it for good.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine): it is a dead letter still.
    pub async fn discard(mut self) -> Result<()> {
        self.settle(Settlement::Done(Vec::new())).await
    }

    async fn settle(&mut self, how: Settlement) -> Result<()> {
        self.receipt.take().expect("it is settled once").settle(how).await.map(drop)
    }
}

impl<T: fmt::Debug> fmt::Debug for Dead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dead { event, meta, reason, error, attempts, .. } = self;
        let mut debug = f.debug_struct("Dead");
        debug.field("event", event).field("meta", meta).field("reason", reason);
        debug.field("error", error).field("attempts", attempts).finish_non_exhaustive()
    }
}
