//! A definitions file: users, virtual hosts, policies, queues and the rest in the JSON format that RabbitMQ exports.

use crate::auth::Users;
use anyhow::{Context, Result, anyhow};
use leveret_broker::{Broker, Wait};
use serde_json::Value;
use std::path::Path;

/// Reads a definitions file, and makes what it says: what is there already stays as it is, but users, permissions,
/// policies and parameters become what the file says. Returns what has no effect in this version, by name. Done when it
/// is durable.
///
/// # Errors
/// If the file cannot be read or is not valid; the text says where. What is before the mistake is done.
pub fn load(file: &Path, broker: &Broker, users: &Users) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    import(&text, broker, users).with_context(|| format!("in {}", file.display()))
}

fn import(text: &str, broker: &Broker, users: &Users) -> Result<Vec<String>> {
    let Value::Object(definitions) = serde_json::from_str(text).context("not a definitions file")? else {
        return Err(anyhow!("not a definitions file: it holds no object"));
    };
    let idle = crate::http::apply_definitions(broker, users, &definitions).map_err(|why| anyhow!(why))?;
    broker.stored().wait()?;
    Ok(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        let (broker, users) = (Broker::in_memory(), Users::new());
        let result = match import(text, &broker, &users) {
            Ok(idle) => format!("{:?} {:?} {:?} {idle:?}", users.users(), users.rights(), users.topic_rights()),
            Err(error) => format!("{error:#}"),
        };
        expected.assert_eq(&result);
    }

    #[test]
    fn what_is_read_and_what_is_refused() {
        let ann = r#""users": [{"name": "ann", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"}]"#;
        let allow = r#""permissions": [{"user": "ann", "vhost": "shop", "configure": "", "write": "", "read": ".*"}]"#;
        let shop = r#""vhosts": [{"name": "shop"}]"#;
        let queue = r#""queues": [{"name": "q", "vhost": "shop", "arguments": {"x-max-priority": 5}}]"#;
        check(
            &format!(r#"{{"rabbit_version": "3.10", {ann}, {allow}, {shop}, {queue}}}"#),
            expect![[
                r#"[User { name: "ann", tags: [], .. }] [UserRights { user: "ann", vhost: "shop", permissions: Permissions { configure: "", write: "", read: ".*" } }] [] ["argument x-max-priority of queue 'q' in vhost 'shop'"]"#
            ]],
        );
        check(&format!("{{{ann}, {allow}}}"), expect!["permissions[0]: vhost: there is no virtual host 'shop'"]);
        check(&format!("{{{shop}, {allow}}}"), expect!["permissions[0]: user: there is no user 'ann'"]);
        check(
            r#"{"users": [{"name": "ann", "password_hash": "x"}]}"#,
            expect![
                "users[0] 'ann': password_hash: it is not one of rabbit_password_hashing_sha256, which is a salt and a hash"
            ],
        );
    }
}
