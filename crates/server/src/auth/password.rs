//! Password hashes: Argon2id, and RabbitMQ's salted ones for users that come from there.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256, Sha512};
use std::fmt;
use subtle::ConstantTimeEq;

/// Cost of new hashes: 7 MiB of memory and 5 passes, one of the equivalent choices of OWASP's password storage cheat
/// sheet. The one with the least memory, because many clients may log in at a time.
const MEMORY_KIB: u32 = 7 * 1024;
const PASSES: u32 = 5;

/// Costs of a hash from elsewhere that are still accepted: whoever may add users must not be able to stop the others'
/// logins.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// Bytes of a new hash's salt, which RFC 9106 recommends.
const SALT: usize = 16;
const SALT_MAX: usize = 64;
/// Bytes of a hash; the default of Argon2's tools.
const OUTPUT: usize = 32;
const OUTPUT_MAX: usize = 64;

/// Bytes of salt in RabbitMQ's hashes.
const SHORT_SALT: usize = 4;

/// A salted hash of a password, or the note that there is none.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// No password is right.
    None,
    Argon2id {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Short {
        algorithm: HashAlgorithm,
        salt_and_hash: Vec<u8>,
    },
}

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// Argon2id, in the text format of its reference implementation (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`): what this
    /// broker hashes with.
    Argon2id,
    /// RabbitMQ's `rabbit_password_hashing_sha256`: base64 of 4 bytes of salt and the hash of salt and password.
    Sha256,
    /// RabbitMQ's `rabbit_password_hashing_sha512`, likewise.
    Sha512,
}

impl HashAlgorithm {
    /// Its name in definitions: RabbitMQ's, or `argon2id`.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Argon2id => "argon2id",
            HashAlgorithm::Sha256 => "rabbit_password_hashing_sha256",
            HashAlgorithm::Sha512 => "rabbit_password_hashing_sha512",
        }
    }

    /// The algorithm of this name. RabbitMQ's MD5 is none: its hashes can be reversed.
    pub fn from_name(name: &str) -> Option<HashAlgorithm> {
        let all = [HashAlgorithm::Argon2id, HashAlgorithm::Sha256, HashAlgorithm::Sha512];
        all.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

impl PasswordHash {
    /// The Argon2id hash of a password, with a random salt. Takes some 20 ms of a processor, on purpose: in a program with
    /// an executor, call it where blocking is allowed.
    ///
    /// # Panics
    /// If the system has no randomness: a salt that can be guessed is none.
    pub fn new(password: &str) -> PasswordHash {
        let mut salt = vec![0; SALT];
        getrandom::fill(&mut salt).unwrap_or_else(|error| panic!("the system has no randomness: {error}"));
        PasswordHash::argon2id(password.as_bytes(), salt)
    }

    /// For a user who cannot log in with any password.
    pub fn none() -> PasswordHash {
        PasswordHash(Kind::None)
    }

    /// What guest's password is hashed to in every new broker. The password is no secret, so its salt need not be one, and
    /// a start does not have to wait for the hash.
    pub(super) fn guest() -> PasswordHash {
        PasswordHash::from_text(GUEST, HashAlgorithm::Argon2id).expect("a test has read it")
    }

    /// The hash of no password that costs what others cost.
    pub(super) fn dummy() -> PasswordHash {
        let (salt, hash) = (vec![0; SALT], vec![0; OUTPUT]);
        PasswordHash(Kind::Argon2id { memory_kib: MEMORY_KIB, passes: PASSES, lanes: 1, salt, hash })
    }

    /// Takes the text of a hash as definitions have it. An empty one stands for no password. `None` if it is not one of
    /// this algorithm, or if it would cost too much to verify.
    pub fn from_text(text: &str, algorithm: HashAlgorithm) -> Option<PasswordHash> {
        if text.is_empty() {
            return Some(PasswordHash::none());
        }
        let hash = match algorithm {
            HashAlgorithm::Argon2id => return parse_argon2id(text).map(PasswordHash),
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha512 => 64,
        };
        let salt_and_hash = STANDARD.decode(text).ok()?;
        (salt_and_hash.len() == SHORT_SALT + hash).then_some(PasswordHash(Kind::Short { algorithm, salt_and_hash }))
    }

    /// Its text, as [`PasswordHash::from_text`] takes it.
    pub fn text(&self) -> String {
        match &self.0 {
            Kind::None => String::new(),
            Kind::Argon2id { memory_kib, passes, lanes, salt, hash } => {
                let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
                format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
            }
            Kind::Short { salt_and_hash, .. } => STANDARD.encode(salt_and_hash),
        }
    }

    /// How it was made.
    pub fn algorithm(&self) -> HashAlgorithm {
        match &self.0 {
            Kind::None | Kind::Argon2id { .. } => HashAlgorithm::Argon2id,
            Kind::Short { algorithm, .. } => *algorithm,
        }
    }

    /// Whether it is this password's, in time that depends on the algorithm alone. As slow as [`PasswordHash::new`].
    pub(super) fn matches(&self, password: &[u8]) -> bool {
        match &self.0 {
            Kind::None => false,
            Kind::Argon2id { memory_kib, passes, lanes, salt, hash } => {
                let mut output = vec![0; hash.len()];
                derive((*memory_kib, *passes, *lanes), salt, password, &mut output) && output.ct_eq(hash).into()
            }
            Kind::Short { algorithm, salt_and_hash } => {
                let (salt, hash) = salt_and_hash.split_at(SHORT_SALT);
                match algorithm {
                    HashAlgorithm::Sha512 => {
                        Sha512::new().chain_update(salt).chain_update(password).finalize().ct_eq(hash).into()
                    }
                    _ => Sha256::new().chain_update(salt).chain_update(password).finalize().ct_eq(hash).into(),
                }
            }
        }
    }

    /// It is of the slow kind.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.0, Kind::Argon2id { .. })
    }

    fn argon2id(password: &[u8], salt: Vec<u8>) -> PasswordHash {
        let mut hash = vec![0; OUTPUT];
        let derived = derive((MEMORY_KIB, PASSES, 1), &salt, password, &mut hash);
        assert!(derived, "the costs are valid, and a password longer than 4 GiB does not get here");
        PasswordHash(Kind::Argon2id { memory_kib: MEMORY_KIB, passes: PASSES, lanes: 1, salt, hash })
    }
}

/// Fills `output`; false if the costs are none that Argon2 knows.
fn derive((memory_kib, passes, lanes): (u32, u32, u32), salt: &[u8], password: &[u8], output: &mut [u8]) -> bool {
    let Ok(params) = Params::new(memory_kib, passes, lanes, Some(output.len())) else { return false };
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, output).is_ok()
}

fn parse_argon2id(text: &str) -> Option<Kind> {
    let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
    let mut costs = parts.next()?.split(',');
    let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok();
    let (memory_kib, passes, lanes) = (cost("m")?, cost("t")?, cost("p")?);
    let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let is_affordable = memory_kib <= MEMORY_KIB_MAX && passes <= PASSES_MAX && lanes <= LANES_MAX;
    let is_whole = costs.next().is_none() && parts.next().is_none();
    let has_sizes = salt.len() <= SALT_MAX && (16..=OUTPUT_MAX).contains(&hash.len());
    let is_valid = is_affordable && is_whole && has_sizes && salt.len() >= argon2::MIN_SALT_LEN;
    (is_valid && Params::new(memory_kib, passes, lanes, Some(hash.len())).is_ok()).then_some(Kind::Argon2id {
        memory_kib,
        passes,
        lanes,
        salt,
        hash,
    })
}

const GUEST: &str = "$argon2id$v=19$m=7168,t=5,p=1$ApeXMwm6Z9t2qnGQ7abJ2g$0uglY2fTl0lQucaEGApqspZAi6Mlc9v730JzXFULfi8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_hash_of_rabbitmq_is_understood() {
        // From RabbitMQ's documentation of password hashes: password "test12", salt 908D C60A.
        let text = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let hash = PasswordHash::from_text(text, HashAlgorithm::Sha256).expect("valid");
        assert!(hash.matches(b"test12") && !hash.matches(b"test13"));
        assert_eq!((hash.text().as_str(), hash.algorithm()), (text, HashAlgorithm::Sha256));
        assert!(PasswordHash::from_text("kI3G", HashAlgorithm::Sha256).is_none());
        assert!(PasswordHash::from_text(text, HashAlgorithm::Sha512).is_none());
    }

    #[test]
    fn a_new_hash_is_argon2id_and_survives_as_text() {
        let hash = PasswordHash::new("two hares");
        assert!(hash.matches(b"two hares") && !hash.matches(b"two hare") && !hash.matches(b""));
        let again = PasswordHash::from_text(&hash.text(), hash.algorithm()).expect("its own text");
        assert!(again == hash && again.matches(b"two hares"));
        assert_ne!(PasswordHash::new("two hares").text(), hash.text(), "it is salted");
        assert!(PasswordHash::guest().matches(b"guest"), "{} would be right", PasswordHash::new("guest").text());
    }

    #[test]
    fn a_hash_of_another_program_is_understood() {
        // From the tests of Argon2's reference implementation: password "password", salt "somesalt".
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::from_text(text, HashAlgorithm::Argon2id).expect("valid");
        assert!(hash.matches(b"password") && !hash.matches(b"Password"));
    }

    #[test]
    fn a_hash_that_costs_too_much_or_is_none_is_refused() {
        let rest = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for start in [
            "$argon2id$v=19$m=4000000,t=2,p=1$",
            "$argon2id$v=19$m=65536,t=1000,p=1$",
            "$argon2id$v=19$m=65536,t=2,p=200$",
            "$argon2id$v=19$m=1,t=2,p=1$",
            "$argon2id$v=19$m=65536,t=2,p=1,x=1$",
            "$argon2i$v=19$m=65536,t=2,p=1$",
        ] {
            assert!(PasswordHash::from_text(&format!("{start}{rest}"), HashAlgorithm::Argon2id).is_none(), "{start}");
        }
        assert!(PasswordHash::from_text("$argon2id$v=19$m=65536,t=2,p=1$c29t$", HashAlgorithm::Argon2id).is_none());
    }

    #[test]
    fn without_a_password_none_is_right() {
        let none = PasswordHash::from_text("", HashAlgorithm::Sha256).expect("RabbitMQ's way to say so");
        assert!(none == PasswordHash::none() && !none.matches(b"") && none.text().is_empty());
    }
}
