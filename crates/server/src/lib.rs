//! The AMQP 0-9-1 port of a [`Broker`](leveret_broker::Broker): for an application that has a broker inside and lets
//! other programs join it. The executable `leveret` is made of it, too.
//!
//! ```no_run
//! use leveret_server::{Server, ServerLimits, Users, serve_amqp};
//! use std::time::Duration;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = leveret_broker::Broker::open("./data")?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:5672").await?;
//! let users = Users::new();
//! users.add_with_all_rights("shop", "a password", "/")?;
//! let server = Server::new(broker.clone(), users, ServerLimits::default());
//! let stop = async { Duration::from_secs(tokio::signal::ctrl_c().await.map_or(0, |()| 5)) };
//! serve_amqp(vec![listener], server, stop).await;
//! broker.shut_down()?;
//! # Ok(())
//! # }
//! ```
//!
//! What the application itself publishes and consumes goes through
//! [`Broker::connect`](leveret_broker::Broker::connect), without a socket.

mod amqp;
mod auth;
mod dashboard;
pub mod definitions;
mod http;
mod limits;
mod registry;
mod server;

pub use amqp::serve_amqp;
pub use auth::{
    Access, Change, HashAlgorithm, PasswordHash, Pattern, Permission, Permissions, TopicPermissions, TopicRights, User,
    UserError, UserRights, Users,
};
pub use http::serve_http;
pub use limits::{FRAME_MIN, ServerLimits};
pub use registry::{ChannelInfo, ConnectionInfo, ConnectionState, Registry, Traffic};
pub use server::{Listening, Server};
