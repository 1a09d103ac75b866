//! Users, permissions and virtual hosts from a file in the JSON format that RabbitMQ exports.

use crate::auth::{HashAlgorithm, PasswordHash, Pattern, Permissions, TopicPermissions, Users};
use anyhow::{Context, Result, bail};
use leveret_broker::Broker;
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
    #[serde(default)]
    topic_permissions: Vec<TopicPermission>,
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
    #[serde(default)]
    tags: Tags,
}

fn sha256() -> String {
    HashAlgorithm::Sha256.name().to_string()
}

/// A list since RabbitMQ 3.9, names between commas before.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Text(String),
}

impl Default for Tags {
    fn default() -> Tags {
        Tags::List(Vec::new())
    }
}

impl Tags {
    fn names(&self) -> Vec<&str> {
        match self {
            Tags::List(list) => list.iter().map(String::as_str).collect(),
            Tags::Text(text) => text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Permission {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Debug, Deserialize)]
struct TopicPermission {
    user: String,
    vhost: String,
    exchange: String,
    write: String,
    read: String,
}

/// Reads a definitions file: creates its virtual hosts, and adds or changes its users. Others stay as they are.
///
/// # Errors
/// If the file cannot be read, is not valid, or holds something that this version does not act on.
pub fn load(file: &Path, broker: &Broker, users: &Users) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    import(&text, broker, users).with_context(|| format!("in {}", file.display()))
}

fn import(text: &str, broker: &Broker, users: &Users) -> Result<()> {
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
    for user in &definitions.users {
        let Some(algorithm) = HashAlgorithm::from_name(&user.hashing_algorithm) else {
            bail!("user '{}': the hashing algorithm '{}' is not supported", user.name, user.hashing_algorithm);
        };
        let hash = PasswordHash::from_text(&user.password_hash, algorithm)
            .with_context(|| format!("user '{}': password_hash is not base64 of a salt and a hash", user.name))?;
        let set = users.set_user(&user.name, hash, &user.tags.names());
        drop(set.with_context(|| format!("user '{}'", user.name))?);
    }
    for it in &definitions.permissions {
        let what = of(broker, "permission", &it.user, &it.vhost)?;
        let permissions = Permissions {
            configure: pattern(&what, "configure", &it.configure)?,
            write: pattern(&what, "write", &it.write)?,
            read: pattern(&what, "read", &it.read)?,
        };
        drop(users.set_permissions(&it.user, &it.vhost, permissions).context(what)?);
    }
    for it in &definitions.topic_permissions {
        let what = of(broker, "topic permission", &it.user, &it.vhost)?;
        let permissions =
            TopicPermissions { write: pattern(&what, "write", &it.write)?, read: pattern(&what, "read", &it.read)? };
        drop(users.set_topic_permissions(&it.user, &it.vhost, &it.exchange, permissions).context(what)?);
    }
    Ok(())
}

/// What an error is about. The virtual host is there.
fn of(broker: &Broker, what: &str, user: &str, vhost: &str) -> Result<String> {
    if broker.vhost(vhost).is_none() {
        bail!("{what} of '{user}': there is no virtual host '{vhost}'");
    }
    Ok(format!("{what} of '{user}' on '{vhost}'"))
}

fn pattern(of: &str, name: &str, text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(|why| anyhow::anyhow!("{of}: {name} is no valid pattern: {why}"))
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
        let users = Users::new();
        let result = match import(text, &broker, &users) {
            Ok(()) => format!("{:?} {:?} {:?}", users.users(), users.rights(), users.topic_rights()),
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
            expect![[
                r#"[User { name: "ann", tags: [], .. }] [UserRights { user: "ann", vhost: "shop", permissions: Permissions { configure: "", write: "", read: ".*" } }] []"#
            ]],
        );
        check(&format!("{{{ann}, {allow}}}"), expect!["permission of 'ann': there is no virtual host 'shop'"]);
        check(&format!("{{{shop}, {allow}}}"), expect!["permission of 'ann' on 'shop': there is no user 'ann'"]);
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
