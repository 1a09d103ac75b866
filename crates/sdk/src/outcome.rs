//! How the handling of a message ends, and what its handler publishes with that.

use crate::error::{BoxError, PublishError};
use crate::message::{MessageId, Outgoing};
use crate::topic::Target;
use std::future::{Ready, ready};
use std::time::Duration;

/// How the handling of a message ends. Handlers may return it, `()`, or a `Result` of any of these, whose errors are
/// [`Outcome::Retry`].
///
/// ```
/// use leveret::Outcome;
/// use std::time::Duration;
///
/// async fn charge(card: String) -> Outcome {
///     match card.as_str() {
///         "" => Outcome::Dead("there is no card".into()),
///         "busy" => Outcome::RetryAfter("the bank is busy".into(), Duration::from_secs(60)),
///         _ => Outcome::Done,
///     }
/// }
/// ```
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is tried again, after the delay of the subscription's policy; the last attempt ends in the dead-letter queue.
    Retry(BoxError),
    /// As [`Outcome::Retry`], after a time of its own. Subscriptions that are ordered wait as their policy says, since
    /// others must not overtake it.
    RetryAfter(BoxError, Duration),
    /// Another attempt would fail as well: it goes to the dead-letter queue now.
    Dead(BoxError),
}

/// What a handler may return.
///
/// ```
/// use leveret::{Events, IntoOutcome, Outcome};
///
/// /// What handlers of this program return.
/// enum Mail {
///     Sent,
///     Bounced(String),
/// }
///
/// impl IntoOutcome for Mail {
///     fn into_outcome(self) -> (Outcome, Events) {
///         match self {
///             Mail::Sent => Outcome::Done.into_outcome(),
///             Mail::Bounced(why) => Outcome::Dead(why.into()).into_outcome(),
///         }
///     }
/// }
///
/// async fn welcome(email: String) -> Mail {
///     if email.contains('@') { Mail::Sent } else { Mail::Bounced(format!("{email} is no address")) }
/// }
/// # fn check(app: leveret::App, to: &'static leveret::Subscription<String>) -> leveret::App { app.handle(to, welcome) }
/// ```
pub trait IntoOutcome {
    /// The outcome, and what is published with [`Outcome::Done`].
    fn into_outcome(self) -> (Outcome, Events);
}

impl IntoOutcome for () {
    fn into_outcome(self) -> (Outcome, Events) {
        (Outcome::Done, Events::default())
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> (Outcome, Events) {
        (self, Events::default())
    }
}

impl IntoOutcome for Events {
    fn into_outcome(self) -> (Outcome, Events) {
        (Outcome::Done, self)
    }
}

impl<R: IntoOutcome, E: Into<BoxError>> IntoOutcome for Result<R, E> {
    fn into_outcome(self) -> (Outcome, Events) {
        match self {
            Ok(done) => done.into_outcome(),
            Err(error) => (Outcome::Retry(error.into()), Events::default()),
        }
    }
}

/// What whoever responds to a request may return: a `Result` of the reply.
///
/// ```
/// use leveret::{App, Rpc};
///
/// static DOUBLE: Rpc<u64, u64> = Rpc::new("double");
///
/// async fn double(number: u64) -> Result<u64, String> {
///     number.checked_mul(2).ok_or_else(|| format!("{number} is too large"))
/// }
///
/// fn respond(app: App) -> App {
///     app.respond(&DOUBLE, double)
/// }
/// ```
pub trait IntoReply<R> {
    /// The reply, or why there is none.
    ///
    /// # Errors
    /// That of the handler, whose text goes to whoever has asked.
    fn into_reply(self) -> Result<R, BoxError>;
}

impl<R, E: Into<BoxError>> IntoReply<R> for Result<R, E> {
    fn into_reply(self) -> Result<R, BoxError> {
        self.map_err(Into::into)
    }
}

/// Events that a handler publishes. They are published together with the end of its message: both or neither, where the
/// engine has transactions. If the handler fails, nothing is published.
///
/// ```
/// use leveret::{Events, PublishError, Topic};
///
/// static ORDERS: Topic<u32> = Topic::new("orders");
/// static INVOICES: Topic<u32> = Topic::new("invoices");
///
/// async fn invoice(order: u32) -> Result<Events, PublishError> {
///     let mut events = Events::default();
///     INVOICES.publish(&mut events, &order).await?;
///     Ok(events)
/// }
/// ```
#[derive(Debug, Default)]
#[must_use = "they are published when the handler returns them"]
pub struct Events {
    messages: Vec<Outgoing>,
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn into_messages(self) -> Vec<Outgoing> {
        self.messages
    }
}

impl Target for &mut Events {
    type Taking = Ready<Result<MessageId, PublishError>>;

    fn take(self, message: Result<Outgoing, PublishError>) -> Self::Taking {
        ready(message.map(|message| {
            let id = message.id.clone();
            self.messages.push(message);
            id
        }))
    }
}
