//! Users, their passwords and what they may do.

mod password;
mod pattern;
mod store;
mod users;

pub use password::{HashAlgorithm, PasswordHash};
pub use pattern::Pattern;
pub use store::Change;
pub use users::{Door, TopicRights, User, UserError, UserRights, Users};

use leveret_broker::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a user may do in a virtual host.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: Pattern,
    /// Publish, and bind a queue.
    pub write: Pattern,
    /// Consume, and bind to an exchange.
    pub read: Pattern,
}

impl Permissions {
    /// To do everything.
    pub fn all() -> Permissions {
        Permissions { configure: Pattern::everything(), write: Pattern::everything(), read: Pattern::everything() }
    }
}

/// Which routing keys a user may use at a topic exchange. `{username}` and `{vhost}` in the patterns stand for those.
#[derive(Clone, Debug)]
pub struct TopicPermissions {
    /// Publish with them.
    pub write: Pattern,
    /// Bind with them.
    pub read: Pattern,
}

/// Which of a user's patterns a name has to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Declare and delete.
    Configure,
    /// Publish, and bind a queue.
    Write,
    /// Consume, and bind to an exchange.
    Read,
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Permission::Configure => "configure",
            Permission::Write => "write",
            Permission::Read => "read",
        }
    }
}

/// By exchange, with the variables replaced.
type Topics = BTreeMap<Arc<str>, TopicPermissions>;

/// What the user of a connection may do in its virtual host, at a moment: see [`Users::is_current`].
#[derive(Clone, Debug)]
pub struct Access {
    user: Arc<User>,
    vhost: Arc<str>,
    /// `None`: nothing.
    permissions: Option<Arc<Permissions>>,
    topics: Option<Arc<Topics>>,
    /// The change of the users that it has seen.
    generation: u64,
}

impl Access {
    /// The user's name.
    pub fn user(&self) -> &str {
        self.user.name()
    }

    /// The virtual host's name.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Whether the virtual host is open to the user at all.
    pub fn is_open(&self) -> bool {
        self.permissions.is_some()
    }

    /// Whether the user may publish in another's name (RabbitMQ's tag `impersonator`).
    pub fn may_impersonate(&self) -> bool {
        self.user.has_tag("impersonator")
    }

    /// Checks a permission on a queue or exchange. `kind` is `queue` or `exchange`.
    ///
    /// # Errors
    /// 403 in RabbitMQ's words.
    pub fn check(&self, permission: Permission, kind: &str, name: &str) -> Result<()> {
        // RabbitMQ matches the default exchange under this name.
        let name = if name.is_empty() && kind == "exchange" { "amq.default" } else { name };
        let pattern = self.permissions.as_ref().map(|permissions| match permission {
            Permission::Configure => &permissions.configure,
            Permission::Write => &permissions.write,
            Permission::Read => &permissions.read,
        });
        if pattern.is_some_and(|pattern| pattern.matches(name)) {
            return Ok(());
        }
        Err(Error::access_refused(format!(
            "{} access to {kind} '{name}' in vhost '{}' refused for user '{}'",
            permission.name(),
            self.vhost,
            self.user()
        )))
    }

    /// Whether routing keys matter at this exchange, should it be a topic exchange.
    pub fn has_topics(&self, exchange: &str) -> bool {
        self.topics.as_ref().is_some_and(|topics| topics.contains_key(exchange))
    }

    /// Checks a routing key at a topic exchange: to write or to read.
    ///
    /// # Errors
    /// 403 in RabbitMQ's words.
    pub fn check_topic(&self, permission: Permission, exchange: &str, key: &str) -> Result<()> {
        let Some(topic) = self.topics.as_ref().and_then(|topics| topics.get(exchange)) else { return Ok(()) };
        let pattern = if permission == Permission::Read { &topic.read } else { &topic.write };
        if pattern.matches(key) {
            return Ok(());
        }
        Err(Error::access_refused(format!(
            "{} access to topic '{key}' in exchange '{exchange}' in vhost '{}' refused for user '{}'",
            permission.name(),
            self.vhost,
            self.user()
        )))
    }
}
