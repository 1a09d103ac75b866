//! Policies: settings for all queues and exchanges whose names match a pattern, by RabbitMQ's rules (docs/policies.md).
//!
//! A queue or exchange has at most one policy, the matching one of the highest priority, and beside it one of the
//! operator's, which limits what the first may ask for.

mod definition;

pub use definition::has_effect;
pub(crate) use definition::{merge, with_prefix};

use crate::error::Error;
use fancy_regex::{Regex, RegexBuilder};
use leveret_wire::table::{FieldTable, Table, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// So often a pattern may go back while it looks at one name; a name for which that is not enough does not match.
const BACKTRACK_LIMIT: usize = 10_000;

/// A policy as it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, by which it is replaced and deleted.
    pub name: String,
    /// A regular expression; a name matches in which it is found anywhere.
    pub pattern: String,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// Of several that match the one with the highest counts. Of equal ones that whose name comes last.
    pub priority: i64,
    /// The settings: names as in a queue's arguments, without `x-`.
    pub definition: FieldTable,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Queues of any type.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Queues without `x-queue-type`, or with `classic` as that.
    ClassicQueues,
    /// Queues with `x-queue-type` `quorum`.
    QuorumQueues,
    /// Streams, of which there are none in this version.
    Streams,
}

impl ApplyTo {
    const NAMES: [(ApplyTo, &str); 6] = [
        (ApplyTo::All, "all"),
        (ApplyTo::Queues, "queues"),
        (ApplyTo::Exchanges, "exchanges"),
        (ApplyTo::ClassicQueues, "classic_queues"),
        (ApplyTo::QuorumQueues, "quorum_queues"),
        (ApplyTo::Streams, "streams"),
    ];

    /// As RabbitMQ's API calls it.
    pub fn name(self) -> &'static str {
        ApplyTo::NAMES[self as usize].1
    }

    /// By that name.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`] with RabbitMQ's words for another one.
    pub fn from_name(name: &str) -> Result<ApplyTo, PolicyError> {
        let known = ApplyTo::NAMES.iter().find(|(_, known)| *known == name);
        known.map(|(apply_to, _)| *apply_to).ok_or_else(|| {
            PolicyError::Invalid(format!(
                "apply-to '{name}' unrecognised; should be one of: 'queues', 'classic_queues', 'quorum_queues', 'streams', \
                 'exchanges', or 'all'"
            ))
        })
    }
}

/// Whose policies: each kind has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Of a user.
    User,
    /// Of the operator: limits that hold beside whatever users say.
    Operator,
}

impl PolicyKind {
    /// The table of a virtual host's policies among the broker's entries.
    pub(crate) fn table(self, vhost: &str) -> String {
        match self {
            PolicyKind::User => format!("policy:{vhost}"),
            PolicyKind::Operator => format!("operator_policy:{vhost}"),
        }
    }
}

/// Why a policy was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// What is wrong with it, in RabbitMQ's words: its API says `Validation failed` before them.
    Invalid(String),
    /// It would be too much, or its virtual host was deleted.
    Refused(Error),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Invalid(why) => f.write_str(why),
            PolicyError::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PolicyError {}

impl From<Error> for PolicyError {
    fn from(error: Error) -> PolicyError {
        PolicyError::Refused(error)
    }
}

/// A policy that was checked, ready to be matched.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) policy: Arc<Policy>,
    regex: Regex,
}

impl Compiled {
    /// Checks a policy.
    pub(crate) fn new(kind: PolicyKind, policy: Policy) -> Result<Compiled, PolicyError> {
        let regex = RegexBuilder::new(&policy.pattern).backtrack_limit(BACKTRACK_LIMIT).build();
        let regex = regex.map_err(|error| {
            // RabbitMQ also says where.
            PolicyError::Invalid(format!("pattern should be regular expression but is invalid: \"{error}\""))
        })?;
        definition::check(kind, policy.definition.as_table()).map_err(PolicyError::Invalid)?;
        Ok(Compiled { policy: Arc::new(policy), regex })
    }

    /// From the value of an entry.
    pub(crate) fn decode(kind: PolicyKind, name: &str, value: &[u8]) -> Result<Compiled, PolicyError> {
        let unreadable = || PolicyError::Invalid("it cannot be read".to_string());
        let table = Table::new(value).map_err(|_| unreadable())?;
        let text = |key| table.get(key).as_ref().and_then(Value::as_str).map(str::to_string).ok_or_else(unreadable);
        let policy = Policy {
            name: name.to_string(),
            pattern: text("pattern")?,
            apply_to: ApplyTo::from_name(&text("apply-to")?)?,
            priority: table.get("priority").and_then(|priority| priority.as_i64()).ok_or_else(unreadable)?,
            definition: table.get("definition").and_then(|it| it.as_table()).ok_or_else(unreadable)?.into(),
        };
        Compiled::new(kind, policy)
    }

    /// As the value of an entry: a field table.
    pub(crate) fn encode(&self) -> FieldTable {
        let Policy { pattern, apply_to, priority, definition, .. } = &*self.policy;
        let table = FieldTable::new().with("pattern", pattern).with("apply-to", apply_to.name());
        table.with("priority", *priority).with("definition", definition)
    }

    /// Whether it is for something.
    pub(crate) fn is_for(&self, named: &Named<'_>) -> bool {
        let (name, fits) = match (named, self.policy.apply_to) {
            (Named::Exchange(name), ApplyTo::All | ApplyTo::Exchanges) => (*name, true),
            (Named::Queue { name, quorum }, ApplyTo::All | ApplyTo::Queues) => (*name, self.fits(*quorum)),
            (Named::Queue { name, quorum }, ApplyTo::ClassicQueues) => (*name, !quorum),
            (Named::Queue { name, quorum }, ApplyTo::QuorumQueues) => (*name, *quorum),
            _ => return false,
        };
        fits && self.regex.is_match(name).unwrap_or(false)
    }

    /// A policy for queues in general is for none of a type that one of its settings is not for (RabbitMQ's rule). One
    /// that is for classic queues may have all of them here.
    fn fits(&self, quorum: bool) -> bool {
        self.policy.definition.as_table().iter().all(|(key, _)| definition::fits(key, quorum))
    }
}

/// What a policy may be for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<'a> {
    Exchange(&'a str),
    Queue { name: &'a str, quorum: bool },
}

/// The policies of a virtual host.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    user: Set,
    operator: Set,
}

#[derive(Debug, Default)]
struct Set {
    by_name: BTreeMap<String, Arc<Compiled>>,
    /// Those that count before others come first.
    order: Vec<Arc<Compiled>>,
}

impl Policies {
    /// Sets a policy, or without one removes what has the name; gives what was there.
    pub(crate) fn set(&mut self, kind: PolicyKind, name: &str, policy: Option<Arc<Compiled>>) -> Option<Arc<Compiled>> {
        let set = self.of_mut(kind);
        let old = match policy {
            Some(policy) => set.by_name.insert(name.to_string(), policy),
            None => set.by_name.remove(name),
        };
        set.order = set.by_name.values().rev().cloned().collect();
        set.order.sort_by_key(|it| std::cmp::Reverse(it.policy.priority));
        old
    }

    pub(crate) fn len(&self, kind: PolicyKind) -> usize {
        self.of(kind).order.len()
    }

    pub(crate) fn get(&self, kind: PolicyKind, name: &str) -> Option<&Arc<Policy>> {
        self.of(kind).by_name.get(name).map(|it| &it.policy)
    }

    /// All of a kind, by name.
    pub(crate) fn all(&self, kind: PolicyKind) -> Vec<Arc<Policy>> {
        self.of(kind).by_name.values().map(|it| it.policy.clone()).collect()
    }

    /// Those that count for something.
    pub(crate) fn resolve(&self, named: &Named<'_>) -> Applied {
        let first = |set: &Set| set.order.iter().find(|it| it.is_for(named)).map(|it| it.policy.clone());
        Applied { policy: first(&self.user), operator: first(&self.operator) }
    }

    fn of(&self, kind: PolicyKind) -> &Set {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    fn of_mut(&mut self, kind: PolicyKind) -> &mut Set {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }
}

/// The policies that count for a queue or an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// A user's.
    pub policy: Option<Arc<Policy>>,
    /// The operator's.
    pub operator: Option<Arc<Policy>>,
}

impl Applied {
    /// There is none.
    pub fn is_none(&self) -> bool {
        self.policy.is_none() && self.operator.is_none()
    }

    /// What both ask for together: of a number in both the lower one. Arguments of the queue count beside that.
    pub fn effective(&self) -> FieldTable {
        let definition = |policy: &Option<Arc<Policy>>| {
            policy.as_ref().map_or_else(FieldTable::new, |policy| policy.definition.clone())
        };
        merge(definition(&self.policy), definition(&self.operator).as_table())
    }

    /// A policy that is replaced or removed is among them.
    pub(crate) fn has(&self, policy: &Arc<Policy>) -> bool {
        [&self.policy, &self.operator].into_iter().flatten().any(|it| Arc::ptr_eq(it, policy))
    }
}
