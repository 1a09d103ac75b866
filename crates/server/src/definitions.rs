//! Users, permissions and virtual hosts from a file in the JSON format that RabbitMQ exports.

use crate::auth::{HashAlgorithm, PasswordHash, Permissions, Users};
use anyhow::{Context, Result, bail};
use leveret_broker::Broker;
use regex::Regex;
use serde::Deserialize;
use std::path::Path;

/// The parts of RabbitMQ's definitions that this version acts on. The others must be absent or empty: what would have
/// no effect is refused, not skipped.
#[derive(Debug, Deserialize)]
struct Definitions {
    #[serde(default)]
    vhosts: Vec<Vhost>,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    permissions: Vec<Permission>,
    #[serde(flatten)]
    other: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Vhost {
    name: String,
}

#[derive(Debug, Deserialize)]
struct User {
    name: String,
    password_hash: String,
    #[serde(default = "sha256")]
    hashing_algorithm: String,
}

fn sha256() -> String {
    "rabbit_password_hashing_sha256".to_string()
}

#[derive(Debug, Deserialize)]
struct Permission {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

/// Reads a definitions file: creates its virtual hosts and returns its users.
///
/// # Errors
/// If the file cannot be read, is not valid, or holds something that this version does not act on.
pub fn load(file: &Path, broker: &Broker) -> Result<Users> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text, broker).with_context(|| format!("in {}", file.display()))
}

fn parse(text: &str, broker: &Broker) -> Result<Users> {
    let definitions: Definitions = serde_json::from_str(text).context("not a definitions file")?;
    for (key, value) in &definitions.other {
        let is_empty = match value {
            serde_json::Value::Array(list) => list.is_empty(),
            serde_json::Value::Object(map) => map.is_empty(),
            // Remarks such as rabbit_version.
            _ => true,
        };
        if !is_empty {
            bail!("'{key}' has no effect in this version; remove it. vhosts, users and permissions are read");
        }
    }
    for vhost in &definitions.vhosts {
        broker.create_vhost(&vhost.name);
    }
    let mut users = Users::default();
    for user in &definitions.users {
        let algorithm = match user.hashing_algorithm.as_str() {
            "rabbit_password_hashing_sha256" => HashAlgorithm::Sha256,
            "rabbit_password_hashing_sha512" => HashAlgorithm::Sha512,
            other => bail!("user '{}': the hashing algorithm '{other}' is not supported", user.name),
        };
        let hash = PasswordHash::from_base64(&user.password_hash, algorithm)
            .with_context(|| format!("user '{}': password_hash is not base64 of a salt and a hash", user.name))?;
        users.add(&user.name, hash);
    }
    for permission in &definitions.permissions {
        let Permission { user, vhost, configure, write, read } = permission;
        if broker.vhost(vhost).is_none() {
            bail!("permission of '{user}': there is no virtual host '{vhost}'");
        }
        let pattern = |name: &str, text: &str| {
            Regex::new(text).with_context(|| format!("permission of '{user}' on '{vhost}': {name} is no valid pattern"))
        };
        let permissions = Permissions {
            configure: pattern("configure", configure)?,
            write: pattern("write", write)?,
            read: pattern("read", read)?,
        };
        if !users.allow(user, vhost, permissions) {
            bail!("permission of '{user}': there is no such user");
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use leveret_broker::{Environment, Limits};

    fn check(text: &str, expected: Expect) {
        let broker = Broker::new(
            Limits::default(),
            Environment { random: Box::new(|| 0), now: Box::new(|| 0), elapsed: Box::new(|| 0), ticks: true },
        );
        let result = match parse(text, &broker) {
            Ok(users) => format!("{:?}", users.access("ann", "shop").map(|access| access.user().to_string())),
            Err(error) => format!("{error:#}"),
        };
        expected.assert_eq(&result);
    }

    #[test]
    fn what_is_read_and_what_is_refused() {
        let ann = r#""users": [{"name": "ann", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"}]"#;
        let allow = r#""permissions": [{"user": "ann", "vhost": "shop", "configure": "", "write": "", "read": ".*"}]"#;
        let shop = r#""vhosts": [{"name": "shop"}]"#;
        check(
            &format!(r#"{{"rabbit_version": "3.10", {ann}, {allow}, {shop}, "queues": []}}"#),
            expect![[r#"Some("ann")"#]],
        );
        check(&format!("{{{ann}, {allow}}}"), expect!["permission of 'ann': there is no virtual host 'shop'"]);
        check(&format!("{{{shop}, {allow}}}"), expect!["permission of 'ann': there is no such user"]);
        check(
            r#"{"queues": [{"name": "q"}]}"#,
            expect!["'queues' has no effect in this version; remove it. vhosts, users and permissions are read"],
        );
        check(
            r#"{"users": [{"name": "ann", "password_hash": "x"}]}"#,
            expect!["user 'ann': password_hash is not base64 of a salt and a hash"],
        );
    }
}
