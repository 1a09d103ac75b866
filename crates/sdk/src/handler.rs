//! Handlers: async functions of an event, and of what else they need.

use crate::bus::Bus;
use crate::delivery::Each;
use crate::error::{Error, Result};
use crate::message::{Incoming, Meta};
use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

/// An async function whose first argument is the event, and whose others can be [extracted](Extract): up to six of them.
///
/// ```
/// use leveret::{Meta, Outcome, State};
///
/// #[derive(Clone)]
/// struct Mailer;
///
/// async fn welcome(email: String, State(mailer): State<Mailer>, meta: Meta) -> Outcome {
///     println!("attempt {} for {email}", meta.attempt);
///     # let _ = mailer;
///     Outcome::Done
/// }
/// ```
pub trait Handler<T, Arguments>: Clone + Send + Sync + 'static {
    /// What it returns.
    type Output;

    /// Whether all that its arguments need is there.
    ///
    /// # Errors
    /// [`Error::Configuration`], which says what is missing.
    fn check(&self, states: &States) -> Result<()>;

    /// Handles an event.
    fn handle(&self, event: T, context: &Context) -> impl Future<Output = Self::Output> + Send + 'static;
}

/// What can be an argument of a [`Handler`].
///
/// ```
/// use leveret::{Context, Extract, Meta};
///
/// /// How long the event was on its way: an argument of handlers.
/// struct Age(Option<std::time::Duration>);
///
/// impl Extract for Age {
///     fn extract(context: &Context) -> Age {
///         let published = Meta::extract(context).published;
///         Age(published.and_then(|published| published.elapsed().ok()))
///     }
/// }
///
/// async fn welcome(email: String, Age(age): Age) {
///     println!("{email}, after {age:?}");
/// }
/// # fn check(app: leveret::App, to: &'static leveret::Subscription<String>) -> leveret::App { app.handle(to, welcome) }
/// ```
pub trait Extract: Sized + Send + 'static {
    /// Whether what it needs is there: before anything starts.
    ///
    /// # Errors
    /// [`Error::Configuration`], which says what is missing.
    fn check(states: &States) -> Result<()> {
        let _ = states;
        Ok(())
    }

    /// Makes the argument for a message.
    fn extract(context: &Context) -> Self;
}

/// What a handler can be told of a message and of its surroundings.
///
/// ```
/// use leveret::{Bus, Context, Extract, Meta};
///
/// /// An argument that is made of others.
/// struct Reply(Bus, Option<String>);
///
/// impl Extract for Reply {
///     fn extract(context: &Context) -> Reply {
///         Reply(Bus::extract(context), Meta::extract(context).attribute("reply-topic").map(str::to_string))
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Context {
    /// Those whose events were read, which were taken out of them; never empty.
    pub(crate) messages: Each<Incoming>,
    pub(crate) states: Arc<States>,
    pub(crate) bus: Bus,
}

/// What was given to [`App::state`](crate::App::state), by its type.
///
/// ```
/// use leveret::{Context, Extract, State, States};
///
/// #[derive(Clone)]
/// struct Config {
///     sender: String,
/// }
///
/// /// An argument that is a part of a state.
/// struct Sender(String);
///
/// impl Extract for Sender {
///     fn check(states: &States) -> leveret::Result<()> {
///         State::<Config>::check(states)
///     }
///
///     fn extract(context: &Context) -> Sender {
///         Sender(State::<Config>::extract(context).0.sender)
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    /// True if there was none of the type.
    pub(crate) fn insert<S: Send + Sync + 'static>(&mut self, state: S) -> bool {
        self.0.insert(TypeId::of::<S>(), Box::new(state)).is_none()
    }

    fn get<S: Clone + 'static>(&self) -> Option<S> {
        self.0.get(&TypeId::of::<S>())?.downcast_ref::<S>().cloned()
    }
}

/// A clone of what was given to [`App::state`](crate::App::state).
///
/// ```
/// use leveret::{App, Bus, State, Subscription};
///
/// async fn welcome(email: String, State(from): State<&'static str>) {
///     println!("{from}: welcome, {email}");
/// }
///
/// fn app(bus: &Bus, to: &'static Subscription<String>) -> App {
///     App::new(bus).state("hello@example.com").handle(to, welcome)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct State<S>(pub S);

impl<S: Clone + Send + Sync + 'static> Extract for State<S> {
    fn check(states: &States) -> Result<()> {
        let missing = || {
            let name = type_name::<S>();
            Error::Configuration(format!("a handler needs State<{name}>: give one to App::state before it starts"))
        };
        states.0.contains_key(&TypeId::of::<S>()).then_some(()).ok_or_else(missing)
    }

    fn extract(context: &Context) -> State<S> {
        State(context.states.get().expect("it was checked before the handler was started"))
    }
}

/// What is known of the message; of the first one if it is a batch.
impl Extract for Meta {
    fn extract(context: &Context) -> Meta {
        context.messages[0].meta.clone()
    }
}

/// What is known of each message of a batch, in the order of the events.
///
/// ```
/// use leveret::Metas;
///
/// async fn store(emails: Vec<String>, Metas(metas): Metas) {
///     for (email, meta) in emails.iter().zip(&metas) {
///         println!("{email}: {}", meta.id);
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Metas(pub Vec<Meta>);

impl Extract for Metas {
    fn extract(context: &Context) -> Metas {
        Metas(context.messages.iter().map(|message| message.meta.clone()).collect())
    }
}

impl Extract for Bus {
    fn extract(context: &Context) -> Bus {
        context.bus.clone()
    }
}

macro_rules! handlers {
    ($($argument:ident),*) => {
        impl<T, F, Fut, $($argument: Extract),*> Handler<T, ($($argument,)*)> for F
        where
            F: Fn(T, $($argument),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future + Send + 'static,
        {
            type Output = Fut::Output;

            fn check(&self, states: &States) -> Result<()> {
                let _ = states;
                $($argument::check(states)?;)*
                Ok(())
            }

            fn handle(&self, event: T, context: &Context) -> impl Future<Output = Fut::Output> + Send + 'static {
                let _ = context;
                self(event, $($argument::extract(context)),*)
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, C);
handlers!(A, B, C, D);
handlers!(A, B, C, D, E);
handlers!(A, B, C, D, E, G);
