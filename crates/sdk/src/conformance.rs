//! What an engine has to do, as a list of behaviours that any [`Driver`](crate::driver::Driver) can be run against.
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() {
//! let report = leveret::conformance::run(async || leveret::Bus::open("local:").await).await;
//! println!("{report}");
//! assert!(report.failed().is_empty());
//! # }
//! ```

mod ends;
mod forms;
mod scene;
mod ways;

use crate::bus::Bus;
use crate::driver::{Capabilities, Support, Work};
use crate::error::Result;
use scene::Scene;
use std::fmt;
use std::time::Duration;

/// How long one behaviour may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What went wrong, as a text.
type Verdict = std::result::Result<(), String>;

/// A behaviour.
struct Behaviour {
    /// As a sentence.
    name: &'static str,
    /// What it needs of the engine.
    needs: fn(&Capabilities) -> Support,
    check: fn(Scene) -> Work<'static, Verdict>,
}

/// What a run has found.
///
/// ```
/// # fn print(report: &leveret::conformance::Report) {
/// for row in report.failed() {
///     println!("{}: {:?}", row.behaviour, row.failure);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    /// Each behaviour in the order of the list.
    pub rows: Vec<Row>,
}

/// A behaviour of an engine.
///
/// ```
/// use leveret::conformance::Row;
/// use leveret::driver::Support;
///
/// fn is_emulated_well(row: &Row) -> bool {
///     row.support == Support::Emulated && row.failure.is_none()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As a sentence.
    pub behaviour: &'static str,
    /// How the engine has what it needs.
    pub support: Support,
    /// What is wrong, if it was tried and does not hold.
    pub failure: Option<String>,
}

/// Runs the list. Each behaviour gets a bus of its own, and names of its own, so that an engine can be used again and again.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() {
/// use leveret::driver::Support;
///
/// let report = leveret::conformance::run(async || leveret::Bus::open("local:").await).await;
/// assert_eq!(report.with(Support::Native).len(), report.rows.len(), "{report}");
/// # }
/// ```
pub async fn run(open: impl AsyncFn() -> Result<Bus>) -> Report {
    let mut rows = Vec::new();
    for Behaviour { name, needs, check } in [ways::LIST, ends::LIST, forms::LIST].concat() {
        let (mut support, mut failure) = (Support::Absent, None);
        match open().await {
            Err(error) => failure = Some(format!("the bus does not open: {error}")),
            Ok(bus) => {
                support = needs(&bus.driver().capabilities());
                if support != Support::Absent {
                    let checked = tokio::time::timeout(PATIENCE, check(Scene::new(bus))).await;
                    failure = checked.unwrap_or(Err(format!("not within {PATIENCE:?}"))).err();
                }
            }
        }
        rows.push(Row { behaviour: name, support, failure });
    }
    Report { rows }
}

impl Clone for Behaviour {
    fn clone(&self) -> Behaviour {
        *self
    }
}

impl Copy for Behaviour {}

impl Report {
    /// Behaviours that were tried and do not hold.
    pub fn failed(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.failure.is_some()).collect()
    }

    /// Behaviours that the engine has in this way.
    pub fn with(&self, support: Support) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.support == support).map(|row| row.behaviour).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { behaviour, support, failure } in &self.rows {
            let support = match support {
                Support::Native => "native",
                Support::Emulated => "emulated",
                Support::Absent => "absent",
            };
            match failure {
                None => writeln!(f, "{support:<9} {behaviour}")?,
                Some(failure) => writeln!(f, "{support:<9} {behaviour}: FAILED, {failure}")?,
            }
        }
        Ok(())
    }
}
