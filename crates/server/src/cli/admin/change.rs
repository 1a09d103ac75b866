//! Users, virtual hosts, permissions, policies, definitions and connections: listed, and changed.

use super::api::empty;
use super::list::{CONNECTIONS, OPERATOR_POLICIES, PERMISSIONS, POLICIES, USERS, VHOSTS};
use super::{ApiArgs, ListArgs, print};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Read, stdin};
use std::path::PathBuf;

/// `leveret connections`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    change: Option<ConnectionsChange>,
}

#[derive(Clone, Debug, Subcommand)]
enum ConnectionsChange {
    /// Close a connection; its client is told that an operator did it
    Close {
        /// Its name, as it is listed
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Lists connections, or closes one.
///
/// # Errors
/// With what the broker says.
pub fn connections(args: &ConnectionsArgs) -> Result<()> {
    match &args.change {
        None => args.list.list(&CONNECTIONS),
        Some(ConnectionsChange::Close { name, api }) => api.api().delete(&["connections", name]).map(drop),
    }
}

/// `leveret users`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct UsersArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    change: Option<UsersChange>,
}

#[derive(Clone, Debug, Subcommand)]
enum UsersChange {
    /// Add a user, or give one a new password and new tags. The password is read from standard input
    Set {
        /// The user's name
        name: String,
        /// What the user may do with the management API: administrator, monitoring, policymaker, management
        #[arg(long, value_delimiter = ',')]
        tags: Vec<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Delete a user; its connections are closed
    Delete {
        /// The user's name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Lists users, or changes one.
///
/// # Errors
/// With what the broker says.
pub fn users(args: &UsersArgs) -> Result<()> {
    match &args.change {
        None => args.list.list(&USERS),
        Some(UsersChange::Set { name, tags, api }) => {
            let user = json!({ "password": read_password(name)?, "tags": tags.join(",") });
            api.api().put(&["users", name], &user).map(drop)
        }
        Some(UsersChange::Delete { name, api }) => api.api().delete(&["users", name]).map(drop),
    }
}

/// Not from the command line, which every user of the machine can see.
fn read_password(name: &str) -> Result<String> {
    let password = match stdin().is_terminal() {
        true => {
            eprint!("Password of {name}: ");
            console::Term::stderr().read_secure_line().context("cannot read the password")?
        }
        false => {
            let mut line = String::new();
            stdin().lock().read_line(&mut line).context("cannot read the password from standard input")?;
            line.trim_end_matches(['\r', '\n']).to_string()
        }
    };
    ensure!(!password.is_empty(), "a user needs a password; give it on standard input");
    Ok(password)
}

/// `leveret vhosts`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct VhostsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    change: Option<VhostsChange>,
}

#[derive(Clone, Debug, Subcommand)]
enum VhostsChange {
    /// Add a virtual host
    Add {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Delete a virtual host with everything in it, messages included
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Lists virtual hosts, or changes one.
///
/// # Errors
/// With what the broker says.
pub fn vhosts(args: &VhostsArgs) -> Result<()> {
    match &args.change {
        None => args.list.list(&VHOSTS),
        Some(VhostsChange::Add { name, description, api }) => {
            api.api().put(&["vhosts", name], &json!({ "description": description })).map(drop)
        }
        Some(VhostsChange::Delete { name, api }) => api.api().delete(&["vhosts", name]).map(drop),
    }
}

/// `leveret permissions`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PermissionsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    change: Option<PermissionsChange>,
}

#[derive(Clone, Debug, Subcommand)]
enum PermissionsChange {
    /// Open a virtual host to a user, for names that match; patterns match anywhere in a name
    Set {
        /// The user's name
        user: String,
        /// Queues and exchanges that may be declared and deleted
        #[arg(long, default_value = ".*", value_name = "PATTERN")]
        configure: String,
        /// Exchanges that may be published to, queues that may be bound
        #[arg(long, default_value = ".*", value_name = "PATTERN")]
        write: String,
        /// Queues that may be consumed from, exchanges that may be bound to
        #[arg(long, default_value = ".*", value_name = "PATTERN")]
        read: String,
        /// The virtual host
        #[arg(long, default_value = "/")]
        vhost: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Close a virtual host to a user
    Clear {
        /// The user's name
        user: String,
        /// The virtual host
        #[arg(long, default_value = "/")]
        vhost: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Lists permissions, or changes some.
///
/// # Errors
/// With what the broker says.
pub fn permissions(args: &PermissionsArgs) -> Result<()> {
    match &args.change {
        None => args.list.list(&PERMISSIONS),
        Some(PermissionsChange::Set { user, configure, write, read, vhost, api }) => {
            let patterns = json!({ "configure": configure, "write": write, "read": read });
            api.api().put(&["permissions", vhost, user], &patterns).map(drop)
        }
        Some(PermissionsChange::Clear { user, vhost, api }) => {
            api.api().delete(&["permissions", vhost, user]).map(drop)
        }
    }
}

/// `leveret policies`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PoliciesArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Operator policies: limits that no policy and no argument exceeds
    #[arg(long)]
    operator: bool,
    #[command(subcommand)]
    change: Option<PoliciesChange>,
}

#[derive(Clone, Debug, Subcommand)]
enum PoliciesChange {
    /// Add a policy, or change one
    #[command(after_help = "\
Example:
  leveret policies set short-lived '^tmp\\.' '{\"message-ttl\": 60000, \"max-length\": 1000}' --apply-to queues")]
    Set {
        /// The policy's name
        name: String,
        /// What names of queues and exchanges have to match
        pattern: String,
        /// What applies to them, as a JSON object
        #[arg(value_parser = definition)]
        definition: Value,
        /// To what it applies
        #[arg(long, value_enum, default_value_t = ApplyTo::All)]
        apply_to: ApplyTo,
        /// Of the policies that match, the one with the highest priority counts
        #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
        priority: i64,
        #[command(flatten)]
        at: PolicyPlace,
    },
    /// Delete a policy
    Delete {
        /// The policy's name
        name: String,
        #[command(flatten)]
        at: PolicyPlace,
    },
}

#[derive(Args, Clone, Debug)]
struct PolicyPlace {
    /// An operator policy
    #[arg(long)]
    operator: bool,
    /// The virtual host
    #[arg(long, default_value = "/")]
    vhost: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl PolicyPlace {
    fn path<'a>(&'a self, name: &'a str) -> [&'a str; 3] {
        [if self.operator { OPERATOR_POLICIES.path } else { POLICIES.path }, &self.vhost, name]
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApplyTo {
    Queues,
    Exchanges,
    All,
}

fn definition(text: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(text).context("not JSON")?;
    ensure!(value.is_object(), "a definition is a JSON object, such as {{\"max-length\": 1000}}");
    Ok(value)
}

/// Lists policies, or changes one.
///
/// # Errors
/// With what the broker says.
pub fn policies(args: &PoliciesArgs) -> Result<()> {
    match &args.change {
        None => args.list.list(if args.operator { &OPERATOR_POLICIES } else { &POLICIES }),
        Some(PoliciesChange::Set { name, pattern, definition, apply_to, priority, at }) => {
            let apply_to = apply_to.to_possible_value().map(|value| value.get_name().to_string());
            let policy = json!({
                "pattern": pattern, "definition": definition, "priority": priority, "apply-to": apply_to,
            });
            at.api.api().put(&at.path(name), &policy).map(drop)
        }
        Some(PoliciesChange::Delete { name, at }) => at.api.api().delete(&at.path(name)).map(drop),
    }
}

/// `leveret definitions`.
#[derive(Args, Clone, Debug)]
pub struct DefinitionsArgs {
    #[command(subcommand)]
    change: DefinitionsChange,
}

#[derive(Clone, Debug, Subcommand)]
enum DefinitionsChange {
    /// Write everything but messages to a file, in RabbitMQ's JSON format
    Export {
        /// The file; standard output without it
        file: Option<PathBuf>,
        /// Only one virtual host, without users
        #[arg(long)]
        vhost: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Add what is in a file, - for standard input. What is there already stays
    Import {
        /// The file
        file: PathBuf,
        /// Into one virtual host
        #[arg(long)]
        vhost: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Exports definitions, or imports them.
///
/// # Errors
/// With what the broker says, or what is wrong with the file.
pub fn definitions(args: &DefinitionsArgs) -> Result<()> {
    let path = |vhost: &Option<String>| -> Vec<String> {
        ["definitions".to_string()].into_iter().chain(vhost.clone()).collect()
    };
    match &args.change {
        DefinitionsChange::Export { file, vhost, api } => {
            let path = path(vhost);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let text = format!("{:#}\n", api.api().get(&path, &[])?);
            match file {
                None => print(&text),
                Some(file) => {
                    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
                }
            }
            Ok(())
        }
        DefinitionsChange::Import { file, vhost, api } => {
            let text = match file.as_os_str() == "-" {
                true => {
                    let mut text = String::new();
                    stdin().read_to_string(&mut text).map(|_| text)
                }
                false => std::fs::read_to_string(file),
            };
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let body: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
            let path = path(vhost);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let answer = api.api().post(&path, &body)?;
            if answer != Value::Null && answer != empty() {
                print(&format!("{answer:#}\n"));
            }
            Ok(())
        }
    }
}
