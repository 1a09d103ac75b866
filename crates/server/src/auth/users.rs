//! All users: who may log in, and what they may do where. Changed while the broker runs.

use super::pattern;
use super::store::{self, Change, Store};
use super::{Access, PasswordHash, Pattern, Permissions, TopicPermissions, Topics};
use anyhow::Context;
use leveret_broker::Broker;
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Bytes of the name of a user or virtual host: as many as the protocol has room for.
const NAME_MAX: usize = 255;

/// Tags of a user.
const TAGS_MAX: usize = 32;

/// Users; pairs of a user and a virtual host with permissions; such pairs with topic permissions. As many as there can be
/// entries in a broker, which are bounded by its limits.
const ALL_MAX: usize = 100_000;

/// Exchanges for which a user has topic permissions in a virtual host.
const TOPICS_MAX: usize = 1000;

/// All users, their permissions and topic permissions.
///
/// They are changed by `&self`, and everything sees a change at its next operation. Those of [`Users::open`] are durable.
pub struct Users {
    state: RwLock<State>,
    /// One change at a time, also in the store.
    changing: Mutex<Store>,
    generation: AtomicU64,
    /// Passwords that are verified at a time: each keeps a processor busy.
    verifying: Arc<Semaphore>,
    /// What verified passwords are hashed with in memory, see [`User::verified`].
    secret: [u8; 32],
    /// By [`Door`].
    attempts: [Attempts; 2],
}

/// Where somebody logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A connection of AMQP.
    Amqp,
    /// A request to the management API.
    Http,
}

/// Logins since the start.
#[derive(Debug, Default)]
struct Attempts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

type Pair = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<Arc<str>, Arc<User>>,
    /// By user and virtual host. Without an entry the virtual host is closed to the user.
    permissions: BTreeMap<Pair, Arc<Permissions>>,
    topics: BTreeMap<Pair, TopicsOf>,
}

/// The topic permissions of a user in a virtual host.
#[derive(Debug, Default)]
struct TopicsOf {
    given: BTreeMap<Arc<str>, TopicPermissions>,
    expanded: Arc<Topics>,
}

/// One user.
pub struct User {
    name: Arc<str>,
    password: PasswordHash,
    tags: Box<[String]>,
    /// A fast hash of the right password, once it was verified: a client that logs in again does not cost 20 ms.
    verified: Mutex<Option<[u8; 32]>>,
}

impl User {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of the password.
    pub fn password(&self) -> &PasswordHash {
        &self.password
    }

    /// What management lets the user do, such as `administrator`.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Whether the user has a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("tags", &self.tags).finish_non_exhaustive()
    }
}

/// What a user may do in a virtual host, as [`Users::rights`] lists it.
#[derive(Clone, Debug)]
pub struct UserRights {
    /// The user.
    pub user: Arc<str>,
    /// The virtual host.
    pub vhost: Arc<str>,
    /// What is allowed.
    pub permissions: Arc<Permissions>,
}

/// Which routing keys a user may use at an exchange, as [`Users::topic_rights`] lists it.
#[derive(Clone, Debug)]
pub struct TopicRights {
    /// The user.
    pub user: Arc<str>,
    /// The virtual host.
    pub vhost: Arc<str>,
    /// The exchange.
    pub exchange: Arc<str>,
    /// What is allowed, variables as they were given.
    pub permissions: TopicPermissions,
}

/// Why users were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// There is no user of this name.
    NoSuchUser(String),
    /// A name is empty or too long; the text says which.
    Name(String),
    /// Too many of something; the text names it and the limit.
    Limit(String),
    /// With the variables in it replaced it is no pattern.
    Pattern(String),
    /// The broker does not keep it.
    Store(leveret_broker::Error),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::NoSuchUser(name) => write!(f, "there is no user '{name}'"),
            UserError::Name(text) | UserError::Limit(text) | UserError::Pattern(text) => f.write_str(text),
            UserError::Store(error) => write!(f, "it cannot be stored: {error}"),
        }
    }
}

impl std::error::Error for UserError {}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.state.read().users.len()).finish_non_exhaustive()
    }
}

impl Default for Users {
    fn default() -> Users {
        Users::with(Store::Memory, State::default())
    }
}

impl Users {
    /// Nobody. What is added is forgotten with it, so an application adds its users at every start.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn new() -> Users {
        Users::default()
    }

    /// The user `guest` with password `guest` and all rights on `/`: RabbitMQ's default, which can log in from this
    /// machine only. Forgotten with it.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn guest_only() -> Users {
        let users = Users::new();
        users.add_guest().expect("there is room for one");
        users
    }

    /// Those that a broker keeps, for good if it is durable. A new broker has nobody; see [`Users::add_guest_at_first`].
    ///
    /// # Errors
    /// If what is kept cannot be read, because another version has written it.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn open(broker: &Broker) -> anyhow::Result<Users> {
        let loaded = store::load(broker).context("cannot read the users that are kept in the data directory")?;
        // What was loaded is not stored again.
        let mut users = Users::new();
        for (name, password, tags) in loaded.users {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            drop(users.set_user(&name, password, &tags)?);
        }
        let store = Store::Entries(broker.clone());
        for (user, vhost, permissions) in loaded.permissions {
            match users.set_permissions(&user, &vhost, permissions) {
                // A crash in the middle of a deletion has left it.
                Err(UserError::NoSuchUser(_)) => drop(store.delete_permissions(&user, &vhost)?),
                set => drop(set?),
            }
        }
        for (user, vhost, exchange, permissions) in loaded.topics {
            match users.set_topic_permissions(&user, &vhost, &exchange, permissions) {
                Err(UserError::NoSuchUser(_)) => drop(store.delete_topic_permissions(&user, &vhost, &exchange)?),
                set => drop(set?),
            }
        }
        users.changing = Mutex::new(store);
        Ok(users)
    }

    /// At the first start of the broker that keeps them, and if there is nobody, does [`Users::add_guest`]: somebody
    /// should be able to log in. Later it does nothing, even if all users were deleted.
    ///
    /// # Errors
    /// As [`Users::set_user`].
    pub fn add_guest_at_first(&self) -> Result<(), UserError> {
        if self.changing.lock().is_set_up() {
            return Ok(());
        }
        if self.state.read().users.is_empty() {
            self.add_guest()?;
        }
        // Behind it: what a crash leaves half done is done again.
        self.changing.lock().note_set_up()
    }

    fn with(store: Store, state: State) -> Users {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap_or_else(|error| panic!("the system has no randomness: {error}"));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Users {
            state: RwLock::new(state),
            changing: Mutex::new(store),
            generation: AtomicU64::new(1),
            verifying: Arc::new(Semaphore::new(processors)),
            secret,
            attempts: Default::default(),
        }
    }

    /// Adds the user `guest` with password `guest`, who administrates, may do everything on `/`, and can log in from this
    /// machine only.
    ///
    /// # Errors
    /// As [`Users::set_user`].
    pub fn add_guest(&self) -> Result<(), UserError> {
        drop(self.set_user("guest", PasswordHash::guest(), &["administrator"])?);
        drop(self.set_permissions("guest", "/", Permissions::all())?);
        Ok(())
    }

    /// Adds a user who may do everything in one virtual host. For programs that have the broker inside.
    ///
    /// # Errors
    /// As [`Users::set_user`].
    ///
    /// # Panics
    /// As [`PasswordHash::new`].
    pub fn add_with_all_rights(&self, name: &str, password: &str, vhost: &str) -> Result<(), UserError> {
        drop(self.set_user(name, PasswordHash::new(password), &[])?);
        drop(self.set_permissions(name, vhost, Permissions::all())?);
        Ok(())
    }

    /// Adds a user without permissions, or changes the password and tags of one.
    ///
    /// # Errors
    /// If the name or the tags are too long, or if there are too many.
    pub fn set_user(&self, name: &str, password: PasswordHash, tags: &[&str]) -> Result<Change, UserError> {
        check_name("user", name)?;
        if tags.len() > TAGS_MAX {
            return Err(UserError::Limit(format!("a user can have {TAGS_MAX} tags")));
        }
        tags.iter().try_for_each(|tag| check_name("tag", tag))?;
        let tags: Box<[String]> = tags.iter().map(|tag| tag.to_string()).collect();
        let store = self.changing.lock();
        // Who has only got other tags need not show the password anew.
        let verified = self.user(name).filter(|user| user.password == password).and_then(|user| *user.verified.lock());
        let user = Arc::new(User { name: name.into(), password, tags, verified: Mutex::new(verified) });
        let is_new = {
            let users = &self.state.read().users;
            let is_new = !users.contains_key(name);
            check_room(is_new, users.len(), ALL_MAX, "users")?;
            is_new
        };
        let change = store.set_user(&user)?;
        self.state.write().users.insert(user.name.clone(), user);
        self.changed();
        Ok(change.telling(is_new))
    }

    /// Deletes a user and all permissions of the user; not [`Change::happened`] if there is no such user. Connections of the
    /// user are [`Server::delete_user`](crate::Server::delete_user)'s business.
    ///
    /// # Errors
    /// If the broker cannot keep it.
    pub fn delete_user(&self, name: &str) -> Result<Change, UserError> {
        let store = self.changing.lock();
        if self.user(name).is_none() {
            return Ok(Change::none());
        }
        let mut change = store.delete_user(name)?;
        let mut state = self.state.write();
        state.users.remove(name);
        // If the broker crashes before these are gone, the next start deletes them.
        for (user, vhost) in state.permissions.keys().filter(|(user, _)| &**user == name) {
            change.join(store.delete_permissions(user, vhost)?);
        }
        for ((user, vhost), topics) in state.topics.iter().filter(|((user, _), _)| &**user == name) {
            for exchange in topics.given.keys() {
                change.join(store.delete_topic_permissions(user, vhost, exchange)?);
            }
        }
        state.permissions.retain(|(user, _), _| &**user != name);
        state.topics.retain(|(user, _), _| &**user != name);
        drop(state);
        self.changed();
        Ok(change.telling(true))
    }

    /// A virtual host was deleted, and with it what is kept about it.
    pub(crate) fn forget_vhost(&self, name: &str) {
        let _alone = self.changing.lock();
        let mut state = self.state.write();
        state.permissions.retain(|(_, vhost), _| &**vhost != name);
        state.topics.retain(|(_, vhost), _| &**vhost != name);
        drop(state);
        self.changed();
    }

    /// Opens a virtual host to a user, or changes what the user may do there. Whether there is such a virtual host is the
    /// caller's business.
    ///
    /// # Errors
    /// If there is no such user, a name is too long, or there are too many.
    pub fn set_permissions(&self, user: &str, vhost: &str, permissions: Permissions) -> Result<Change, UserError> {
        check_name("virtual host", vhost)?;
        let store = self.changing.lock();
        let key = self.key(user, vhost)?;
        let is_new = {
            let permissions = &self.state.read().permissions;
            let is_new = !permissions.contains_key(&key);
            check_room(is_new, permissions.len(), ALL_MAX, "permissions")?;
            is_new
        };
        let change = store.set_permissions(user, vhost, &permissions)?;
        self.state.write().permissions.insert(key, Arc::new(permissions));
        self.changed();
        Ok(change.telling(is_new))
    }

    /// Closes a virtual host to a user; not [`Change::happened`] if it was.
    ///
    /// # Errors
    /// If the broker cannot keep it.
    pub fn clear_permissions(&self, user: &str, vhost: &str) -> Result<Change, UserError> {
        let store = self.changing.lock();
        let key = (user.into(), vhost.into());
        if !self.state.read().permissions.contains_key(&key) {
            return Ok(Change::none());
        }
        let change = store.delete_permissions(user, vhost)?;
        self.state.write().permissions.remove(&key);
        self.changed();
        Ok(change.telling(true))
    }

    /// Limits a user to some routing keys at a topic exchange; without it all are allowed. Whether there are such a virtual
    /// host and exchange is the caller's business.
    ///
    /// # Errors
    /// If there is no such user, a name is too long, there are too many, or with the variables in it replaced it is no
    /// pattern.
    pub fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        permissions: TopicPermissions,
    ) -> Result<Change, UserError> {
        check_name("virtual host", vhost)?;
        if exchange.len() > NAME_MAX {
            return Err(UserError::Name(format!("the name of an exchange has at most {NAME_MAX} bytes")));
        }
        let expanded = expand(&permissions, user, vhost)?;
        let store = self.changing.lock();
        let key = self.key(user, vhost)?;
        let is_new = {
            let topics = &self.state.read().topics;
            let given = topics.get(&key).map(|topics| &topics.given);
            check_room(given.is_none(), topics.len(), ALL_MAX, "users and virtual hosts with topic permissions")?;
            let is_new = !given.is_some_and(|given| given.contains_key(exchange));
            let of_user = "topic permissions of a user in a virtual host";
            check_room(is_new, given.map_or(0, |given| given.len()), TOPICS_MAX, of_user)?;
            is_new
        };
        let change = store.set_topic_permissions(user, vhost, exchange, &permissions)?;
        self.state.write().topics.entry(key).or_default().insert(exchange, permissions, expanded);
        self.changed();
        Ok(change.telling(is_new))
    }

    /// Lets a user use all routing keys again: at one exchange, or at all of a virtual host. Not [`Change::happened`] if it
    /// was so.
    ///
    /// # Errors
    /// If the broker cannot keep it.
    pub fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<Change, UserError> {
        let store = self.changing.lock();
        let key = (user.into(), vhost.into());
        let is_meant = |name: &Arc<str>| exchange.is_none_or(|exchange| exchange == &**name);
        let exchanges: Vec<Arc<str>> = self
            .state
            .read()
            .topics
            .get(&key)
            .map_or(Vec::new(), |topics| topics.given.keys().filter(|name| is_meant(name)).cloned().collect());
        let mut change = Change::none();
        for exchange in &exchanges {
            change.join(store.delete_topic_permissions(user, vhost, exchange)?);
            let mut state = self.state.write();
            if state.topics.get_mut(&key).is_some_and(|topics| topics.remove(exchange)) {
                state.topics.remove(&key);
            }
        }
        self.changed();
        Ok(change.telling(!exchanges.is_empty()))
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.state.read().users.get(name).cloned()
    }

    /// All users, by name.
    pub fn users(&self) -> Vec<Arc<User>> {
        self.state.read().users.values().cloned().collect()
    }

    /// What all users may do everywhere, by user and virtual host.
    pub fn rights(&self) -> Vec<UserRights> {
        let state = self.state.read();
        let rights = state.permissions.iter().map(|((user, vhost), permissions)| UserRights {
            user: user.clone(),
            vhost: vhost.clone(),
            permissions: permissions.clone(),
        });
        rights.collect()
    }

    /// What a user may do in a virtual host; `None` if it is closed to the user.
    pub fn permissions(&self, user: &str, vhost: &str) -> Option<Arc<Permissions>> {
        self.state.read().permissions.get(&(user.into(), vhost.into())).cloned()
    }

    /// All topic permissions, by user, virtual host and exchange.
    pub fn topic_rights(&self) -> Vec<TopicRights> {
        let state = self.state.read();
        let of = |((user, vhost), topics): (&Pair, &TopicsOf)| {
            let rights = topics.given.iter().map(|(exchange, permissions)| TopicRights {
                user: user.clone(),
                vhost: vhost.clone(),
                exchange: exchange.clone(),
                permissions: permissions.clone(),
            });
            rights.collect::<Vec<_>>()
        };
        state.topics.iter().flat_map(of).collect()
    }

    /// What a user may do in a virtual host, perhaps nothing ([`Access::is_open`]). `None` if there is no such user.
    pub fn access(&self, user: &str, vhost: &str) -> Option<Access> {
        let state = self.state.read();
        // Under the lock: a change counts behind it.
        let generation = self.generation.load(Ordering::Acquire);
        let user = state.users.get(user)?.clone();
        let key: Pair = (user.name.clone(), vhost.into());
        let permissions = state.permissions.get(&key).cloned();
        let topics = state.topics.get(&key).map(|topics| topics.expanded.clone());
        Some(Access { user, vhost: key.1, permissions, topics, generation })
    }

    /// Nothing was changed since this was looked up.
    #[inline]
    pub fn is_current(&self, access: &Access) -> bool {
        self.generation.load(Ordering::Acquire) == access.generation
    }

    /// The user of a login, if name and password are right. `guest` is refused unless `peer` is a loopback address.
    ///
    /// The first time, a password takes some 20 ms of a processor; not more are verified at a time than there are
    /// processors. A wrong one always takes as long, whether or not there is such a user.
    pub async fn login(&self, name: &str, password: &[u8], peer: IpAddr, door: Door) -> Option<Arc<User>> {
        let user = self.verified(name, password, peer).await;
        let attempts = &self.attempts[door as usize];
        let counter = if user.is_some() { &attempts.succeeded } else { &attempts.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        user
    }

    /// How many logins succeeded and failed since the start.
    pub fn attempts(&self, door: Door) -> (u64, u64) {
        let Attempts { succeeded, failed } = &self.attempts[door as usize];
        (succeeded.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    async fn verified(&self, name: &str, password: &[u8], peer: IpAddr) -> Option<Arc<User>> {
        // Elsewhere guest is as good as unknown.
        let user = self.user(name).filter(|_| may_come_from(name, peer));
        let fast = self.fast_hash(name, password);
        if let Some(user) = user.as_ref().filter(|user| user.is_verified(&fast)) {
            return Some(user.clone());
        }
        let turn = self.verifying.clone().acquire_owned().await.ok()?;
        let (known, password) = (user.clone(), password.to_vec());
        let verify = move || {
            // Its turn lasts until it is done, also if nobody waits for it any more.
            let _turn = turn;
            verify(known.as_deref(), &password)
        };
        let is_right = tokio::task::spawn_blocking(verify).await;
        let user = user.filter(|_| is_right.unwrap_or(false))?;
        *user.verified.lock() = Some(fast);
        Some(user)
    }

    /// Keyed with what nobody outside of this process knows.
    fn fast_hash(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let length = (name.len() as u64).to_be_bytes();
        let hash = Sha256::new().chain_update(self.secret).chain_update(length).chain_update(name);
        hash.chain_update(password).finalize().into()
    }

    fn key(&self, user: &str, vhost: &str) -> Result<Pair, UserError> {
        match self.state.read().users.get_key_value(user) {
            Some((name, _)) => Ok((name.clone(), vhost.into())),
            None => Err(UserError::NoSuchUser(user.to_string())),
        }
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl User {
    fn is_verified(&self, fast: &[u8; 32]) -> bool {
        self.verified.lock().is_some_and(|verified| verified.ct_eq(fast).into())
    }
}

impl TopicsOf {
    fn insert(&mut self, exchange: &str, given: TopicPermissions, expanded: TopicPermissions) {
        let exchange: Arc<str> = exchange.into();
        Arc::make_mut(&mut self.expanded).insert(exchange.clone(), expanded);
        self.given.insert(exchange, given);
    }

    /// True if none is left.
    fn remove(&mut self, exchange: &str) -> bool {
        Arc::make_mut(&mut self.expanded).remove(exchange);
        self.given.remove(exchange);
        self.given.is_empty()
    }
}

/// A password that is not right costs what an Argon2id hash costs, whatever there is to compare it with.
fn verify(user: Option<&User>, password: &[u8]) -> bool {
    let is_right = user.is_some_and(|user| user.password.matches(password));
    if !is_right && !user.is_some_and(|user| user.password.is_slow()) {
        PasswordHash::dummy().matches(password);
    }
    is_right
}

fn may_come_from(name: &str, peer: IpAddr) -> bool {
    name != "guest" || peer.to_canonical().is_loopback()
}

/// Replaces the variables: what they stand for is taken literally.
fn expand(permissions: &TopicPermissions, user: &str, vhost: &str) -> Result<TopicPermissions, UserError> {
    let expand = |what: &str, pattern: &Pattern| {
        let text = pattern.text();
        if !text.contains('{') {
            return Ok(pattern.clone());
        }
        let text = text.replace("{username}", &pattern::escape(user)).replace("{vhost}", &pattern::escape(vhost));
        Pattern::new(&text).map_err(|why| UserError::Pattern(format!("{what}: '{text}' is no valid pattern: {why}")))
    };
    Ok(TopicPermissions { write: expand("write", &permissions.write)?, read: expand("read", &permissions.read)? })
}

fn check_room(is_new: bool, count: usize, max: usize, what: &str) -> Result<(), UserError> {
    match is_new && count >= max {
        true => Err(UserError::Limit(format!("there cannot be more than {max} {what}"))),
        false => Ok(()),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), UserError> {
    match name.len() {
        1..=NAME_MAX => Ok(()),
        length => Err(UserError::Name(format!("the name of a {what} has 1 to {NAME_MAX} bytes; this has {length}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Permission;

    #[tokio::test]
    async fn guest_logs_in_from_this_machine_only() {
        let users = Users::guest_only();
        for (peer, allowed) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)] {
            let login = users.login("guest", b"guest", peer.parse().expect("an address"), Door::Amqp).await;
            assert_eq!(login.is_some(), allowed, "{peer}");
        }
        let local = "127.0.0.1".parse().expect("an address");
        assert!(users.login("guest", b"other", local, Door::Amqp).await.is_none());
        assert!(users.login("nobody", b"", local, Door::Amqp).await.is_none());
    }

    #[test]
    fn access_is_what_the_user_may_do_where_it_was_looked_up() {
        let users = Users::guest_only();
        let pattern = |text| Pattern::new(text).expect("valid");
        let limited = Permissions { configure: pattern("^$"), write: pattern("^orders"), read: pattern("mail") };
        let old = users.access("guest", "/").expect("there");
        drop(users.set_permissions("guest", "/", limited).expect("set"));
        assert!(!users.is_current(&old));
        let access = users.access("guest", "/").expect("there");
        assert!(users.is_current(&access) && access.is_open());
        assert!(access.check(Permission::Read, "queue", "my-mail-queue").is_ok());
        let error = access.check(Permission::Write, "exchange", "").expect_err("refused");
        assert_eq!(error.text, "write access to exchange 'amq.default' in vhost '/' refused for user 'guest'");
        assert!(!users.access("guest", "other").expect("a user").is_open());
        assert!(users.access("nobody", "/").is_none());
    }

    #[test]
    fn what_variables_stand_for_is_taken_literally() {
        let users = Users::new();
        for name in [".*", "ann"] {
            users.add_with_all_rights(name, "x", "/").expect("set");
            let it = |text| Pattern::new(text).expect("valid");
            let limited = TopicPermissions { write: it("^{username}\\.{vhost}$"), read: it("") };
            drop(users.set_topic_permissions(name, "/", "e", limited).expect("set"));
        }
        let may = |user, key| {
            let access = users.access(user, "/").expect("there");
            access.check_topic(Permission::Write, "e", key).is_ok()
        };
        assert!(may("ann", "ann./") && !may("ann", "bob./"));
        assert!(may(".*", ".*./") && !may(".*", "bob./"));
        // Listed as it was given.
        assert_eq!(users.topic_rights()[0].permissions.write.text(), "^{username}\\.{vhost}$");
    }
}
