//! What a message went through before it came to a queue: its deaths, and whether it waited in an exchange.

use crate::content::QUEUES;
use leveret_wire::properties::Properties;
use leveret_wire::table::{Table, Value};

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

const REASONS: [(Reason, &str); 4] = [
    (Reason::Rejected, "rejected"),
    (Reason::Expired, "expired"),
    (Reason::MaxLength, "maxlen"),
    (Reason::DeliveryLimit, "delivery_limit"),
];

/// Deaths in a queue for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Death {
    pub queue: usize,
    pub reason: Reason,
    pub count: i64,
}

/// What tells a copy of a message from the message that was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct History {
    /// The last one first.
    pub deaths: Vec<Death>,
    pub first: Option<(usize, Reason)>,
    /// It waited in an exchange that delays.
    pub waited: bool,
}

impl History {
    /// After one more death.
    pub fn died(&self, queue: usize, reason: Reason) -> History {
        let mut deaths = self.deaths.clone();
        let same = deaths.iter().position(|death| (death.queue, death.reason) == (queue, reason));
        let count = same.map_or(0, |at| deaths.remove(at).count) + 1;
        deaths.insert(0, Death { queue, reason, count });
        History { deaths, first: self.first.or(Some((queue, reason))), waited: self.waited }
    }

    /// It would go round by itself if it came to this queue.
    pub fn would_cycle(&self, queue: usize) -> bool {
        self.deaths.iter().take_while(|death| death.reason != Reason::Rejected).any(|death| death.queue == queue)
    }

    /// As the headers tell it; `None` if they contradict themselves, or say what no queue of the run has done.
    pub fn read(properties: &Properties<'_>) -> Option<History> {
        let headers = properties.headers.unwrap_or_default();
        let waited = headers.get("x-delay").and_then(|delay| delay.as_i64()).is_some_and(|delay| delay < 0);
        let mut history = History { waited, ..History::default() };
        if let Some(Value::Array(deaths)) = headers.get("x-death") {
            for death in deaths.iter() {
                let Value::Table(death) = death else { return None };
                let (queue, reason) = place(death, "queue", "reason")?;
                history.deaths.push(Death { queue, reason, count: death.get("count")?.as_i64()? });
            }
            history.first = Some(place(headers, "x-first-death-queue", "x-first-death-reason")?);
            let (queue, reason) = place(headers, "x-last-death-queue", "x-last-death-reason")?;
            let last = history.deaths.first()?;
            ((last.queue, last.reason) == (queue, reason)).then_some(())?;
        }
        Some(history)
    }
}

fn place(table: Table<'_>, queue: &str, reason: &str) -> Option<(usize, Reason)> {
    let (queue, reason) = (table.get(queue)?, table.get(reason)?);
    let queue = QUEUES.iter().position(|name| queue.as_str() == Some(name))?;
    let (reason, _) = REASONS.iter().find(|(_, name)| reason.as_str() == Some(name))?;
    Some((queue, *reason))
}
