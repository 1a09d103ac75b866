//! From an exchange and a key to destinations. One file per exchange type; nothing here walks all bindings but the
//! headers exchange, whose conditions have no key to look up.

mod direct;
mod fanout;
mod headers;
mod targets;
mod topic;

pub use targets::{Filters, Subject};

use crate::filter::Filter;
use leveret_wire::table::{FieldTable, Table};
use std::fmt;
use std::sync::Arc;
use targets::Targets;

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A queue of the same virtual host.
    Queue(Arc<str>),
    /// An exchange of the same virtual host.
    Exchange(Arc<str>),
}

/// The exchange types of AMQP 0-9-1 (section 3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeType {
    /// The routing key equals the binding key.
    Direct,
    /// Every binding.
    Fanout,
    /// The binding key is a pattern of words, `*` for one and `#` for any number.
    Topic,
    /// The message's headers meet the binding's arguments.
    Headers,
}

impl ExchangeType {
    /// The type of this name.
    pub fn from_name(name: &str) -> Option<ExchangeType> {
        Some(match name {
            "direct" => ExchangeType::Direct,
            "fanout" => ExchangeType::Fanout,
            "topic" => ExchangeType::Topic,
            "headers" => ExchangeType::Headers,
            _ => return None,
        })
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ExchangeType::Direct => "direct",
            ExchangeType::Fanout => "fanout",
            ExchangeType::Topic => "topic",
            ExchangeType::Headers => "headers",
        }
    }
}

impl fmt::Display for ExchangeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The index of one exchange's bindings.
#[derive(Debug)]
pub enum Router {
    /// See [`ExchangeType::Direct`].
    Direct(direct::Direct),
    /// See [`ExchangeType::Fanout`].
    Fanout(fanout::Fanout),
    /// See [`ExchangeType::Topic`].
    Topic(topic::Topic),
    /// See [`ExchangeType::Headers`].
    Headers(headers::Headers),
}

impl Router {
    /// An index without bindings.
    pub fn new(kind: ExchangeType) -> Router {
        match kind {
            ExchangeType::Direct => Router::Direct(direct::Direct::default()),
            ExchangeType::Fanout => Router::Fanout(fanout::Fanout::default()),
            ExchangeType::Topic => Router::Topic(topic::Topic::default()),
            ExchangeType::Headers => Router::Headers(headers::Headers::default()),
        }
    }

    /// Adds a binding. Bindings that differ in their arguments alone count separately.
    pub fn insert(&mut self, key: &str, arguments: &FieldTable, filter: Option<Arc<Filter>>, to: &Destination) {
        match self {
            Router::Direct(router) => router.insert(key, filter, to),
            Router::Fanout(router) => router.insert(filter, to),
            Router::Topic(router) => router.insert(key, filter, to),
            Router::Headers(router) => router.insert(arguments, filter, to),
        }
    }

    /// Removes a binding that was inserted.
    pub fn remove(&mut self, key: &str, arguments: &FieldTable, filter: Option<&Filter>, to: &Destination) {
        match self {
            Router::Direct(router) => router.remove(key, filter, to),
            Router::Fanout(router) => router.remove(filter, to),
            Router::Topic(router) => router.remove(key, filter, to),
            Router::Headers(router) => router.remove(arguments, filter, to),
        }
    }

    /// Calls `found` with each destination of a message; one may come more than once.
    pub fn route(&self, key: &str, subject: &mut Subject<'_>, found: &mut dyn FnMut(&Destination)) {
        match self {
            Router::Direct(router) => router.route(key, subject, found),
            Router::Fanout(router) => router.route(subject, found),
            Router::Topic(router) => router.route(key, subject, found),
            Router::Headers(router) => router.route(subject, found),
        }
    }

    /// Checks a binding's arguments; gives the explanation of what is wrong with them.
    pub fn check_arguments(&self, arguments: Table<'_>) -> Result<(), String> {
        match self {
            Router::Headers(_) => headers::check(arguments),
            _ => Ok(()),
        }
    }

    /// The destination depends on the message's headers whatever bindings there are, not only on its key.
    pub fn reads_headers(&self) -> bool {
        matches!(self, Router::Headers(_))
    }
}
