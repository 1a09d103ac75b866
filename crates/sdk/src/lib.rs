//! Typed topics and subscriptions: the same in development, test and production.
//!
//! ```no_run
//! use leveret::{App, Bus, Subscription, Topic};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Signup {
//!     email: String,
//! }
//!
//! static SIGNUPS: Topic<Signup> = Topic::new("signups");
//! static EMAIL: Subscription<Signup> = SIGNUPS.subscription("email");
//!
//! async fn welcome(signup: Signup) -> Result<(), std::io::Error> {
//!     println!("welcome, {}", signup.email);
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let bus = Bus::from_env("BUS_URL", "local:./data").await?;
//!     let app = App::new(&bus).handle(&EMAIL, welcome).start().await?;
//!     SIGNUPS.publish(&bus, &Signup { email: "ann@example.com".to_string() }).await?;
//!     tokio::signal::ctrl_c().await?;
//!     app.drain().await?;
//!     Ok(())
//! }
//! ```
//!
//! Every subscription gets every event of its topic, also those that were published while it was not running. A handler that fails is
//! tried again, later and later; when it has failed often enough, the message is a dead letter, which can be looked at and
//! redriven. A message that waits for its next attempt waits in the engine: it holds no worker, no memory, and nobody up, except
//! those with the same key of an [ordered](Subscription::ordered) subscription.

#[cfg(feature = "amqp")]
pub mod amqp;
mod app;
#[cfg(feature = "asyncapi")]
mod asyncapi;
mod bus;
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg_attr(not(any(feature = "local", feature = "amqp")), allow(dead_code))]
mod contract;
mod dead;
mod delivery;
pub mod driver;
mod error;
mod handler;
#[cfg(feature = "local")]
pub mod local;
mod message;
mod meters;
mod name;
mod outcome;
mod pull;
mod retry;
mod rpc;
mod subscription;
#[cfg(feature = "local")]
pub mod testing;
mod topic;
mod trace;
#[cfg(any(feature = "local", feature = "amqp"))]
mod waiters;
mod worker;

pub use app::{App, Running};
pub use bus::{Bus, Declaration};
pub use codec::Codec;
pub use dead::Dead;
pub use delivery::{Delivery, Handled, Service};
pub use error::{BoxError, Error, PublishError, Result};
pub use handler::{Context, Extract, Handler, Metas, State, States};
pub use message::{Incoming, MessageId, Meta, Outgoing};
pub use outcome::{Events, IntoOutcome, IntoReply, Outcome};
pub use pull::{Pull, Pulled};
pub use retry::RetryPolicy;
pub use rpc::{Call, CallError, Rpc};
pub use subscription::Subscription;
pub use topic::{Publishing, Target, Topic};
pub use trace::{NotATraceparent, Parent};

/// The code in the README and on the pages of the guide is compiled.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/guide/start.md")]
    mod start {}
    #[doc = include_str!("../../../docs/guide/retries.md")]
    mod retries {}
    #[doc = include_str!("../../../docs/guide/order.md")]
    mod order {}
    #[doc = include_str!("../../../docs/guide/forms.md")]
    mod forms {}
    #[doc = include_str!("../../../docs/guide/testing.md")]
    mod testing {}
    #[cfg(feature = "opentelemetry")]
    #[doc = include_str!("../../../docs/guide/production.md")]
    mod production {}
}
