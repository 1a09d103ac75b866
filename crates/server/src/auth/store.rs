//! Where users are kept: in the broker's durable entries, or nowhere.
//!
//! | table | key | value, in JSON |
//! |---|---|---|
//! | `user` | name | hash and tags |
//! | `permission:`virtual host | user | patterns |
//! | `topic_permission:`virtual host | length of the user's name, `:`, user, exchange | patterns |
//! | `setup` | `users` | `true` after the first start |
//!
//! What belongs to a virtual host ends with it, by the same record of the log.

use super::{HashAlgorithm, PasswordHash, Pattern, Permissions, TopicPermissions, User, UserError};
use anyhow::{Context, Result, bail};
use leveret_broker::{Broker, Stored};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

const USER: &str = "user";
const PERMISSION: &str = "permission";
const TOPIC_PERMISSION: &str = "topic_permission";
const SETUP: (&str, &str) = ("setup", "users");

/// Where users are kept.
pub(super) enum Store {
    /// In this process alone.
    Memory,
    /// Among the broker's entries.
    Entries(Broker),
}

/// A change of the users. It has taken effect.
#[must_use = "it may not be durable yet"]
pub struct Change {
    happened: bool,
    /// The last record of it: a durable record implies that those before are durable.
    stored: Option<Stored>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("happened", &self.happened).finish_non_exhaustive()
    }
}

impl Change {
    pub(super) fn none() -> Change {
        Change { happened: false, stored: None }
    }

    pub(super) fn telling(self, happened: bool) -> Change {
        Change { happened, ..self }
    }

    /// Together with a later one.
    pub(super) fn join(&mut self, later: Change) {
        if later.stored.is_some() {
            self.stored = later.stored;
        }
    }

    /// There is something new, or something is gone; false if only a value was changed, or there was nothing to delete.
    pub fn happened(&self) -> bool {
        self.happened
    }

    /// Waits until it survives a crash.
    ///
    /// # Errors
    /// If the broker's log has failed, or the broker was shut down.
    pub async fn durable(self) -> std::result::Result<(), leveret_broker::ClientError> {
        match self.stored {
            Some(stored) => stored.await,
            None => Ok(()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct UserValue {
    hash: String,
    algorithm: String,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct PermissionValue {
    configure: String,
    write: String,
    read: String,
}

#[derive(Serialize, Deserialize)]
struct TopicValue {
    write: String,
    read: String,
}

/// Of a change.
type Outcome<T> = std::result::Result<T, UserError>;

impl Store {
    /// Sets or, without a value, deletes an entry.
    fn set(&self, table: &str, key: &str, value: Option<&impl Serialize>) -> Outcome<Change> {
        let Store::Entries(broker) = self else { return Ok(Change::none()) };
        let text =
            value.map(|value| serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("strings: {error}")));
        let stored = broker.set_entry(table, key, text.as_deref()).map_err(UserError::Store)?;
        Ok(Change { happened: false, stored: Some(stored) })
    }

    fn delete(&self, table: &str, key: &str) -> Outcome<Change> {
        match self.set(table, key, None::<&()>) {
            // It is gone with its virtual host.
            Err(UserError::Store(error)) if error.code == 404 => Ok(Change::none()),
            deleted => deleted,
        }
    }

    /// Who runs the broker can read later what was changed; an application that has it inside has changed it itself.
    fn log(&self, what: &str, user: &str, vhost: Option<&str>) {
        if let Store::Entries(_) = self {
            tracing::info!(user, vhost, "{what}");
        }
    }

    pub(super) fn set_user(&self, user: &User) -> Outcome<Change> {
        let (hash, algorithm) = (user.password().text(), user.password().algorithm().name().to_string());
        self.log("user set", user.name(), None);
        self.set(USER, user.name(), Some(&UserValue { hash, algorithm, tags: user.tags().to_vec() }))
    }

    pub(super) fn delete_user(&self, name: &str) -> Outcome<Change> {
        self.log("user deleted", name, None);
        self.delete(USER, name)
    }

    pub(super) fn set_permissions(&self, user: &str, vhost: &str, it: &Permissions) -> Outcome<Change> {
        let text = |pattern: &Pattern| pattern.text().to_string();
        let value = PermissionValue { configure: text(&it.configure), write: text(&it.write), read: text(&it.read) };
        self.log("permissions set", user, Some(vhost));
        self.set(&of(PERMISSION, vhost), user, Some(&value))
    }

    pub(super) fn delete_permissions(&self, user: &str, vhost: &str) -> Outcome<Change> {
        self.log("permissions cleared", user, Some(vhost));
        self.delete(&of(PERMISSION, vhost), user)
    }

    pub(super) fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        it: &TopicPermissions,
    ) -> Outcome<Change> {
        let value = TopicValue { write: it.write.text().to_string(), read: it.read.text().to_string() };
        self.log("topic permissions set", user, Some(vhost));
        self.set(&of(TOPIC_PERMISSION, vhost), &topic_key(user, exchange), Some(&value))
    }

    pub(super) fn delete_topic_permissions(&self, user: &str, vhost: &str, exchange: &str) -> Outcome<Change> {
        self.log("topic permissions cleared", user, Some(vhost));
        self.delete(&of(TOPIC_PERMISSION, vhost), &topic_key(user, exchange))
    }

    /// Whether users were set up once.
    pub(super) fn is_set_up(&self) -> bool {
        match self {
            Store::Entries(broker) => broker.entry(SETUP.0, SETUP.1).is_some(),
            Store::Memory => false,
        }
    }

    pub(super) fn note_set_up(&self) -> Outcome<()> {
        self.set(SETUP.0, SETUP.1, Some(&true)).map(drop)
    }
}

/// What the entries of a broker hold.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) users: Vec<(String, PasswordHash, Vec<String>)>,
    /// User, virtual host, and what is allowed.
    pub(super) permissions: Vec<(String, String, Permissions)>,
    /// User, virtual host, exchange, and what is allowed.
    pub(super) topics: Vec<(String, String, String, TopicPermissions)>,
}

/// Reads what is kept.
pub(super) fn load(broker: &Broker) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    for (name, value) in broker.entries(USER) {
        let what = || format!("user '{name}'");
        let UserValue { hash, algorithm, tags } = value_of(&value).with_context(what)?;
        let algorithm = HashAlgorithm::from_name(&algorithm);
        let hash = algorithm.and_then(|algorithm| PasswordHash::from_text(&hash, algorithm));
        loaded.users.push((name.to_string(), hash.context("an unknown kind of hash").with_context(what)?, tags));
    }
    for vhost in broker.vhosts() {
        let vhost = vhost.name().to_string();
        for (user, value) in broker.entries(&of(PERMISSION, &vhost)) {
            let what = || format!("permissions of '{user}' on '{vhost}'");
            let PermissionValue { configure, write, read } = value_of(&value).with_context(what)?;
            let (configure, write, read) = (
                pattern(&configure).with_context(what)?,
                pattern(&write).with_context(what)?,
                pattern(&read).with_context(what)?,
            );
            loaded.permissions.push((user.to_string(), vhost.clone(), Permissions { configure, write, read }));
        }
        for (key, value) in broker.entries(&of(TOPIC_PERMISSION, &vhost)) {
            let what = || format!("topic permissions {key} on '{vhost}'");
            let (user, exchange) = parse_topic_key(&key).with_context(what)?;
            let TopicValue { write, read } = value_of(&value).with_context(what)?;
            let (write, read) = (pattern(&write).with_context(what)?, pattern(&read).with_context(what)?);
            let permissions = TopicPermissions { write, read };
            loaded.topics.push((user.to_string(), vhost.clone(), exchange.to_string(), permissions));
        }
    }
    Ok(loaded)
}

fn of(table: &str, vhost: &str) -> String {
    format!("{table}:{vhost}")
}

fn topic_key(user: &str, exchange: &str) -> String {
    format!("{}:{user}{exchange}", user.len())
}

fn parse_topic_key(key: &str) -> Result<(&str, &str)> {
    let parsed = key.split_once(':').and_then(|(length, names)| names.split_at_checked(length.parse().ok()?));
    parsed.context("the key is not of this version")
}

fn value_of<T: DeserializeOwned>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).context("the entry is not of this version")
}

fn pattern(text: &str) -> Result<Pattern> {
    match Pattern::new(text) {
        Ok(pattern) => Ok(pattern),
        Err(why) => bail!("'{text}' is no valid pattern: {why}"),
    }
}
