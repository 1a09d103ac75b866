//! `leveret health`: is the broker well?

use super::{ApiArgs, print};
use crate::cli::table::{table, text};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// What is asked, as paths below `/api/health/checks`, and what is well if it is.
const CHECKS: [(&str, &str); 3] = [
    ("alarms", "neither memory nor disk runs out"),
    ("virtual-hosts", "every virtual host serves"),
    ("ready-to-serve-clients", "clients can connect"),
];

/// `leveret health`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 if everything is well, 1 if something is not or the broker cannot be asked.")]
pub struct HealthArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Asks the broker's health checks, and prints the answers.
///
/// # Errors
/// If the broker cannot be asked.
pub fn run(args: &HealthArgs) -> Result<ExitCode> {
    let api = args.api.api();
    // Whoever cannot log in should hear that, and not that everything is ill.
    api.get(&["whoami"], &[])?;
    let ask = |&(check, about): &(&'static str, &'static str)| {
        let answer = api.get(&["health", "checks", check], &[]);
        (check, about, answer.err().map(|error| format!("{error:#}")))
    };
    let answers: Vec<_> = CHECKS.iter().map(ask).collect();
    let ill = answers.iter().any(|(.., error)| error.is_some());
    match args.api.is_for_people() {
        true => {
            let rows = answers.iter().map(|(check, about, error)| {
                let state = if error.is_some() { "FAILED" } else { "ok" };
                vec![check.to_string(), state.to_string(), error.as_deref().unwrap_or(about).to_string()]
            });
            print(&table(&[text("CHECK"), text(""), text("")], &rows.collect::<Vec<_>>()));
        }
        false => {
            let rows = answers.iter().map(|(check, _, error)| {
                let state = if error.is_some() { "failed" } else { "ok" };
                json!({ "check": check, "status": state, "reason": error })
            });
            print(&format!("{:#}\n", rows.collect::<serde_json::Value>()));
        }
    }
    Ok(if ill { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
