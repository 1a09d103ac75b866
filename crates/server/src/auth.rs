//! Users, their passwords and what they may do.

use leveret_broker::{Error, Result};
use regex::Regex;
use sha2::{Digest, Sha256, Sha512};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// All users, by name.
#[derive(Debug, Default)]
pub struct Users {
    users: HashMap<String, User>,
}

/// One user.
#[derive(Debug)]
pub struct User {
    password: PasswordHash,
    /// By virtual host. Without an entry the virtual host is closed to the user.
    permissions: HashMap<String, Arc<Permissions>>,
}

/// A salted password hash as RabbitMQ stores it: 4 bytes of salt, then the hash of salt and password.
pub struct PasswordHash {
    algorithm: HashAlgorithm,
    salt_and_hash: Vec<u8>,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

/// RabbitMQ's hash functions that are still acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `rabbit_password_hashing_sha256`
    Sha256,
    /// `rabbit_password_hashing_sha512`
    Sha512,
}

const SALT: usize = 4;

impl PasswordHash {
    /// Takes the base64 text of RabbitMQ's `password_hash`. `None` if it has the wrong length or is no base64.
    pub fn from_base64(text: &str, algorithm: HashAlgorithm) -> Option<PasswordHash> {
        use base64::Engine;
        let salt_and_hash = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let length = SALT
            + match algorithm {
                HashAlgorithm::Sha256 => 32,
                HashAlgorithm::Sha512 => 64,
            };
        (salt_and_hash.len() == length).then_some(PasswordHash { algorithm, salt_and_hash })
    }

    /// The hash of a password, with a random salt.
    ///
    /// # Panics
    /// If the system has no randomness: a salt that can be guessed is none.
    pub fn new(password: &str) -> PasswordHash {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).unwrap_or_else(|error| panic!("the system has no randomness: {error}"));
        PasswordHash::of(password.as_bytes(), salt)
    }

    fn of(password: &[u8], salt: [u8; SALT]) -> PasswordHash {
        let algorithm = HashAlgorithm::Sha256;
        let mut salt_and_hash = salt.to_vec();
        salt_and_hash.extend(digest(algorithm, &salt, password));
        PasswordHash { algorithm, salt_and_hash }
    }

    fn matches(&self, password: &[u8]) -> bool {
        let (salt, hash) = self.salt_and_hash.split_at(SALT);
        digest(self.algorithm, salt, password).ct_eq(hash).into()
    }
}

fn digest(algorithm: HashAlgorithm, salt: &[u8], password: &[u8]) -> Vec<u8> {
    match algorithm {
        HashAlgorithm::Sha256 => Sha256::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        HashAlgorithm::Sha512 => Sha512::new().chain_update(salt).chain_update(password).finalize().to_vec(),
    }
}

/// What a user may do in a virtual host: patterns of names, which match anywhere in a name as in RabbitMQ.
#[derive(Debug)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: Regex,
    /// Publish, and bind a queue.
    pub write: Regex,
    /// Consume, and bind to an exchange.
    pub read: Regex,
}

impl Permissions {
    /// To do everything.
    pub fn all() -> Permissions {
        let every = || Regex::new("").expect("the empty pattern is valid");
        Permissions { configure: every(), write: every(), read: every() }
    }
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

impl Users {
    /// The user `guest` with password `guest` and all rights on `/`: RabbitMQ's default, which can log in from this
    /// machine only.
    pub fn guest_only() -> Users {
        let mut users = Users::default();
        users.add_with_all_rights("guest", "guest", "/");
        users
    }

    /// Adds a user who may do everything in one virtual host.
    ///
    /// # Panics
    /// As [`PasswordHash::new`].
    pub fn add_with_all_rights(&mut self, name: &str, password: &str, vhost: &str) {
        self.add(name, PasswordHash::new(password));
        self.allow(name, vhost, Permissions::all());
    }

    /// Adds a user without permissions.
    pub fn add(&mut self, name: &str, password: PasswordHash) {
        self.users.insert(name.to_string(), User { password, permissions: HashMap::new() });
    }

    /// Opens a virtual host to a user. False if there is no such user.
    pub fn allow(&mut self, user: &str, vhost: &str, permissions: Permissions) -> bool {
        let Some(user) = self.users.get_mut(user) else { return false };
        user.permissions.insert(vhost.to_string(), Arc::new(permissions));
        true
    }

    /// Checks a login. `guest` is refused unless `peer` is a loopback address.
    pub fn login(&self, name: &str, password: &[u8], peer: IpAddr) -> bool {
        let user = self.users.get(name);
        // An unknown user costs what a wrong password costs, so that names cannot be probed by time.
        let matches = match user {
            Some(user) => user.password.matches(password),
            None => PasswordHash::of(b"", [0; SALT]).matches(password) & false,
        };
        matches && (name != "guest" || peer.to_canonical().is_loopback())
    }

    /// What a user may do in a virtual host. `None`: nothing, not even open it.
    pub fn access(&self, user: &str, vhost: &str) -> Option<Access> {
        let permissions = self.users.get(user)?.permissions.get(vhost)?.clone();
        Some(Access { user: user.into(), vhost: vhost.into(), permissions })
    }
}

/// What the user of a connection may do in its virtual host.
#[derive(Clone, Debug)]
pub struct Access {
    user: Arc<str>,
    vhost: Arc<str>,
    permissions: Arc<Permissions>,
}

impl Access {
    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// 403 unless the user has this permission on the queue or exchange. `kind` is `queue` or `exchange`.
    pub fn check(&self, permission: Permission, kind: &str, name: &str) -> Result<()> {
        let pattern = match permission {
            Permission::Configure => &self.permissions.configure,
            Permission::Write => &self.permissions.write,
            Permission::Read => &self.permissions.read,
        };
        // RabbitMQ matches the default exchange under this name.
        let name = if name.is_empty() && kind == "exchange" { "amq.default" } else { name };
        if pattern.is_match(name) {
            return Ok(());
        }
        Err(Error::access_refused(format!(
            "{} access to {kind} '{name}' in vhost '{}' refused for user '{}'",
            permission.name(),
            self.vhost,
            self.user
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_logs_in_from_this_machine_only() {
        let users = Users::guest_only();
        for (peer, allowed) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)] {
            assert_eq!(users.login("guest", b"guest", peer.parse().expect("an address")), allowed, "{peer}");
        }
        let local = "127.0.0.1".parse().expect("an address");
        assert!(!users.login("guest", b"other", local) && !users.login("nobody", b"", local));
    }

    #[test]
    fn a_password_hash_of_rabbitmq_is_understood() {
        // From RabbitMQ's documentation of password hashes: password "test12", salt 908D C60A.
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let hash = PasswordHash::from_base64(hash, HashAlgorithm::Sha256).expect("valid");
        assert!(hash.matches(b"test12") && !hash.matches(b"test13"));
        assert!(PasswordHash::from_base64("kI3G", HashAlgorithm::Sha256).is_none());
    }

    #[test]
    fn patterns_match_anywhere() {
        let mut users = Users::guest_only();
        let regex = |text| Regex::new(text).expect("valid");
        let limited = Permissions { configure: regex("^$"), write: regex("^orders"), read: regex("mail") };
        assert!(users.allow("guest", "/", limited));
        let access = users.access("guest", "/").expect("there");
        assert!(access.check(Permission::Read, "queue", "my-mail-queue").is_ok());
        let error = access.check(Permission::Write, "exchange", "").expect_err("refused");
        assert_eq!(error.text, "write access to exchange 'amq.default' in vhost '/' refused for user 'guest'");
        assert!(users.access("guest", "other").is_none());
    }
}
