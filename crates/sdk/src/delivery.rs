//! A message on its way to its handler, through the layers of its application.

use crate::bus::Bus;
use crate::codec::Codec;
use crate::error::BoxError;
use crate::handler::{Context, States};
use crate::message::{Incoming, Meta};
use crate::outcome::{Events, Outcome};
use smallvec::SmallVec;
use std::mem::take;
use std::sync::Arc;
use tower::util::BoxService;

/// What a [layer](crate::App::layer) wraps: everything that happens to a message until it is settled.
///
/// ```
/// use leveret::{BoxError, Delivery, Handled};
/// use std::task::{Context, Poll};
///
/// /// A layer's service: it prints what goes through it.
/// struct Printed<S>(S);
///
/// impl<S: tower::Service<Delivery, Response = Handled, Error = BoxError>> tower::Service<Delivery> for Printed<S> {
///     type Response = Handled;
///     type Error = BoxError;
///     type Future = S::Future;
///
///     fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
///         self.0.poll_ready(context)
///     }
///
///     fn call(&mut self, delivery: Delivery) -> S::Future {
///         println!("{}: attempt {}", delivery.topic(), delivery.meta().attempt);
///         self.0.call(delivery)
///     }
/// }
///
/// # fn printed(app: leveret::App) -> leveret::App {
/// app.layer(tower::layer::layer_fn(|service: leveret::Service| Printed(service)))
/// # }
/// ```
pub type Service = BoxService<Delivery, Handled, BoxError>;

/// What is there of each message that is handled: of one, most of the time, which then needs no memory of its own.
pub(crate) type Each<T> = SmallVec<[T; 1]>;

/// What is handled at once: a message, or those of a [batch](crate::App::handle_batch).
///
/// ```
/// use leveret::Delivery;
///
/// /// For a layer that handles what is of one plan before the rest, for example.
/// fn is_pro(delivery: &Delivery) -> bool {
///     delivery.subscription() == Some("email") && delivery.meta().attribute("plan") == Some("pro")
/// }
/// ```
#[derive(Debug)]
pub struct Delivery {
    origin: Origin,
    /// Never empty.
    messages: Each<Incoming>,
    states: Arc<States>,
    bus: Bus,
}

/// Where messages come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) topic: &'static str,
    pub(crate) subscription: Option<&'static str>,
}

/// How a [`Delivery`] was handled.
///
/// ```
/// use leveret::{Delivery, Handled, Outcome};
///
/// /// What a layer may answer instead of the handler.
/// fn refuse(delivery: &Delivery) -> Handled {
///     Handled::new(Outcome::Dead(format!("{} is closed", delivery.topic()).into()))
/// }
/// ```
#[derive(Debug)]
#[must_use = "it says how messages are to be settled"]
pub struct Handled {
    /// What becomes of the messages.
    pub outcome: Outcome,
    /// What is published with [`Outcome::Done`].
    pub events: Events,
    /// Messages that the codec could not read, by their numbers, and why.
    pub(crate) undecodable: Vec<(usize, String)>,
    /// Of a request that is done.
    pub(crate) reply: Vec<u8>,
}

impl Delivery {
    pub(crate) fn new(origin: Origin, messages: Each<Incoming>, states: Arc<States>, bus: Bus) -> Delivery {
        Delivery { origin, messages, states, bus }
    }

    /// The topic's name; that of the [`Rpc`](crate::Rpc) for a request.
    pub fn topic(&self) -> &'static str {
        self.origin.topic
    }

    /// The subscription's name; none for a request.
    pub fn subscription(&self) -> Option<&'static str> {
        self.origin.subscription
    }

    /// The messages: one, unless it is a batch.
    pub fn messages(&self) -> &[Incoming] {
        &self.messages
    }

    /// What is known of the first message.
    pub fn meta(&self) -> &Meta {
        &self.messages[0].meta
    }

    /// The events of those messages that can be read; which ones cannot, and why.
    pub(crate) fn decode<T>(self, codec: &Codec<T>) -> (Each<T>, Context, Vec<(usize, String)>) {
        let Delivery { mut messages, states, bus, .. } = self;
        let (mut events, mut undecodable) = (Each::with_capacity(messages.len()), Vec::new());
        // What is known of them stays where it is: moving it takes longer than reading some events.
        messages.retain(|message| match codec.decode(&take(&mut message.body)) {
            Ok(event) => {
                events.push(event);
                true
            }
            Err(error) => {
                undecodable.push((events.len() + undecodable.len(), error.to_string()));
                false
            }
        });
        (events, Context { messages, states, bus }, undecodable)
    }
}

impl Handled {
    /// An end without a handler: a layer that refuses a message, for example.
    pub fn new(outcome: Outcome) -> Handled {
        Handled { outcome, events: Events::default(), undecodable: Vec::new(), reply: Vec::new() }
    }

    /// It is done, and nothing else is to be done.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.outcome, Outcome::Done) && self.events.is_empty() && self.undecodable.is_empty()
    }

    /// Nothing was handled, as some or all messages could not be read.
    pub(crate) fn unread(undecodable: Vec<(usize, String)>) -> Handled {
        Handled { undecodable, ..Handled::new(Outcome::Done) }
    }
}
