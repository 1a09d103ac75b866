//! Commands that look at a running broker and change it, through its management API. What only lists also works with
//! RabbitMQ's.

mod api;
mod change;
mod health;
mod list;
mod queue;
mod top;

use anyhow::Result;
use api::{Address, Api};
use clap::{Args, Subcommand};
use list::Resource;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Commands for the management API of a broker.
#[derive(Clone, Debug, Subcommand)]
pub enum AdminCommand {
    /// List queues
    Queues(ListArgs),
    /// Look into a queue, or change what it does
    Queue(queue::QueueArgs),
    /// List exchanges
    Exchanges(ListArgs),
    /// List bindings
    Bindings(ListArgs),
    /// List connections, or close one
    Connections(change::ConnectionsArgs),
    /// List channels
    Channels(ListArgs),
    /// List consumers
    Consumers(ListArgs),
    /// List users, or change them
    Users(change::UsersArgs),
    /// List virtual hosts, or change them
    Vhosts(change::VhostsArgs),
    /// List permissions, or change them
    Permissions(change::PermissionsArgs),
    /// List policies, or change them
    Policies(change::PoliciesArgs),
    /// Export definitions (virtual hosts, users, queues and all else but messages), or import them
    Definitions(change::DefinitionsArgs),
    /// Check whether the broker is well
    Health(health::HealthArgs),
    /// Watch the busiest queues
    Top(top::TopArgs),
}

/// Where the broker is, and how answers are shown.
#[derive(Args, Clone, Debug)]
pub struct ApiArgs {
    /// The broker's management API, as http://USER:PASSWORD@HOST:PORT
    #[arg(long, global = true, default_value = Address::DEFAULT, env = "LEVERET_HTTP", hide_env_values = true,
          hide_default_value = true)]
    url: Address,
    /// Print JSON, as is done whenever standard output is no terminal
    #[arg(long, global = true, conflicts_with = "table")]
    json: bool,
    /// Print a table even if standard output is no terminal
    #[arg(long, global = true)]
    table: bool,
}

impl ApiArgs {
    fn api(&self) -> Api {
        Api::new(self.url.clone())
    }

    fn is_for_people(&self) -> bool {
        self.table || !self.json && std::io::stdout().is_terminal()
    }

    /// Prints a table to people and JSON to programs.
    fn show(&self, resource: &Resource, items: Vec<Value>) {
        match self.is_for_people() {
            true => print(&resource.table(&items)),
            false => print(&format!("{:#}\n", Value::Array(items))),
        }
    }
}

/// Options of commands that only list.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Only those of this virtual host
    #[arg(long)]
    vhost: Option<String>,
}

impl ListArgs {
    fn list(&self, resource: &Resource) -> Result<()> {
        let items = resource.fetch(&self.api.api(), self.vhost.as_deref())?;
        self.api.show(resource, items);
        Ok(())
    }
}

/// Runs a command to its end. The exit code is not 0 if the broker is not well, or if there is an error.
///
/// # Errors
/// With what a person should know: what the broker says, or why it cannot be reached.
pub fn run(command: AdminCommand) -> Result<ExitCode> {
    let done = match command {
        AdminCommand::Queues(args) => args.list(&list::QUEUES),
        AdminCommand::Queue(args) => queue::run(&args),
        AdminCommand::Exchanges(args) => args.list(&list::EXCHANGES),
        AdminCommand::Bindings(args) => args.list(&list::BINDINGS),
        AdminCommand::Connections(args) => change::connections(&args),
        AdminCommand::Channels(args) => args.list(&list::CHANNELS),
        AdminCommand::Consumers(args) => args.list(&list::CONSUMERS),
        AdminCommand::Users(args) => change::users(&args),
        AdminCommand::Vhosts(args) => change::vhosts(&args),
        AdminCommand::Permissions(args) => change::permissions(&args),
        AdminCommand::Policies(args) => change::policies(&args),
        AdminCommand::Definitions(args) => change::definitions(&args),
        AdminCommand::Health(args) => return health::run(&args),
        AdminCommand::Top(args) => top::run(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Whoever reads it may have seen enough, as `head` does.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
