//! What a queue's arguments and policies ask for beyond keeping messages, ready to be used.

use crate::arguments::TIME_MAX;
use crate::dead_letter::Target;
use crate::dedup::Rule;
use crate::policy::{Applied, with_prefix};
use leveret_wire::table::{FieldTable, Table, Value};
use std::sync::Arc;

/// A queue's arguments that have an effect, and its policies.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Policies that count beside the arguments, and are told of.
    pub(crate) applied: Applied,
    /// Milliseconds after which a message expires.
    pub(crate) ttl: Option<u64>,
    /// Milliseconds without use after which the queue is deleted.
    pub(crate) expires: Option<u64>,
    /// Messages that are not handed out, at most.
    pub(crate) max_messages: u64,
    /// Bytes of their bodies, at most.
    pub(crate) max_bytes: u64,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letters: Option<Target>,
    /// A message that came back more often than this is dead.
    pub(crate) delivery_limit: Option<u64>,
    pub(crate) retry: Option<Retry>,
    /// Quorum semantics: deliveries tell how often the message failed, and a nack is no failure.
    pub(crate) quorum: bool,
    /// Messages that were published before are left out.
    pub(crate) dedup: Option<Arc<Rule>>,
    /// One consumer at a time gets messages.
    pub(crate) single_active: bool,
    /// The header whose value is a message's group: one consumer at a time gets messages of a group.
    pub(crate) group_header: Option<Box<str>>,
    /// That consumer has so many of them at a time, at most.
    pub(crate) group_prefetch: u64,
    /// It is the part of this exchange in which messages wait for their time.
    pub(crate) delays_for: Option<Box<str>>,
}

/// The argument of a queue that belongs to an exchange: messages wait there for their time.
pub(crate) const DELAYS_FOR: &str = "x-delays-for";

/// What happens to a message too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The oldest is dropped, or dead-lettered.
    DropHead,
    /// The new one is refused.
    Reject,
    /// The new one is refused, and dead-lettered.
    RejectDeadLetter,
}

/// How long a message that came back waits before it is delivered again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Retry {
    /// Milliseconds of the first delay.
    min: u64,
    /// Milliseconds, at most.
    max: u64,
    /// Each delay is so many times the one before; without it, the n-th is n times the first (RabbitMQ 4.3).
    multiplier: Option<f64>,
    /// A delay is shortened by a random part of up to so many percent, so that what failed together is not tried
    /// together again.
    jitter: u64,
    /// After failures: rejections and lost consumers.
    failed: bool,
    /// After other returns: nacks and basic.recover.
    returned: bool,
}

/// A delay has an end even if no maximum was given: a day.
const RETRY_MAX: u64 = 24 * 60 * 60 * 1000;

/// RabbitMQ's for quorum queues since 4.0.
const QUORUM_DELIVERY_LIMIT: u64 = 20;

impl Settings {
    /// From arguments that [`crate::arguments::check_queue`] has accepted, and policies.
    pub(crate) fn new(arguments: Table<'_>, applied: Applied) -> Settings {
        let mut settings = match applied.is_none() {
            true => Settings::from_arguments(arguments),
            false => Settings::from_arguments(with_policies(arguments, &applied).as_table()),
        };
        settings.applied = applied;
        settings
    }

    fn from_arguments(arguments: Table<'_>) -> Settings {
        let integer = |name| arguments.get(name).and_then(|value| value.as_i64());
        let number = |name| integer(name).and_then(|number| u64::try_from(number).ok());
        let quorum = arguments.get("x-queue-type").is_some_and(|kind| kind.as_str() == Some("quorum"));
        let overflow = match arguments.get("x-overflow").as_ref().and_then(Value::as_str) {
            Some("reject-publish") => Overflow::Reject,
            Some("reject-publish-dlx") => Overflow::RejectDeadLetter,
            _ => Overflow::DropHead,
        };
        // A negative one is none (RabbitMQ 4).
        let delivery_limit = match integer("x-delivery-limit") {
            None => quorum.then_some(QUORUM_DELIVERY_LIMIT),
            Some(limit) => u64::try_from(limit).ok(),
        };
        // A policy may have any number, and what is so far away never comes.
        let time = |name| number(name).map(|time| time.min(TIME_MAX as u64));
        Settings {
            applied: Applied::default(),
            ttl: time("x-message-ttl"),
            expires: time("x-expires"),
            max_messages: number("x-max-length").unwrap_or(u64::MAX),
            max_bytes: number("x-max-length-bytes").unwrap_or(u64::MAX),
            overflow,
            dead_letters: Target::from_arguments(arguments),
            delivery_limit,
            retry: Retry::from_arguments(arguments),
            quorum,
            dedup: Rule::from_arguments(arguments, false).map(Arc::new),
            delays_for: arguments.get(DELAYS_FOR).as_ref().and_then(Value::as_str).map(Box::from),
            group_header: arguments.get("x-group-header").as_ref().and_then(Value::as_str).map(Box::from),
            group_prefetch: number("x-group-prefetch").unwrap_or(u64::MAX),
            single_active: matches!(arguments.get("x-single-active-consumer"), Some(Value::Bool(true))),
        }
    }

    /// It has a limit of either kind.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_messages != u64::MAX || self.counts_bytes()
    }

    /// The bytes of what is ready have to be known.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.max_bytes != u64::MAX
    }

    /// Messages too many are refused.
    pub(crate) fn refuses(&self) -> bool {
        self.is_limited() && self.overflow != Overflow::DropHead
    }

    /// Its oldest messages are dropped when there are too many.
    pub(crate) fn drops(&self) -> bool {
        self.is_limited() && self.overflow == Overflow::DropHead
    }

    /// Publishing to it takes more than appending.
    pub(crate) fn is_special(&self) -> bool {
        self.ttl.is_some() || self.is_limited() || self.delays_for.is_some()
    }

    /// A message that comes back may go elsewhere than to its place.
    pub(crate) fn has_rules_for_returns(&self) -> bool {
        self.delivery_limit.is_some() || self.retry.is_some() || self.quorum
    }

    /// Deliveries say how often a message came back, by `x-delivery-count`.
    pub(crate) fn tells_count(&self) -> bool {
        self.delivery_limit.is_some() || self.quorum
    }
}

/// As if a queue had been declared with what its policies ask for: of a number in both the lower one counts, of what says
/// when messages are tried again all that is said in one place, and otherwise what was declared (RabbitMQ's rules).
fn with_policies(arguments: Table<'_>, applied: &Applied) -> FieldTable {
    let (mut all, policies) = (FieldTable::from(arguments), with_prefix(applied.effective().as_table()));
    let retries = arguments.get("x-delayed-retry-min").is_some();
    for (key, value) in policies.as_table().iter() {
        let counts = match (arguments.get(key).map(|declared| declared.as_i64()), value.as_i64()) {
            _ if key.starts_with("x-delayed-retry-") && retries => continue,
            (Some(Some(declared)), Some(asked)) if declared >= 0 => Value::I64(declared.min(asked)),
            // A delivery limit of -1 is none.
            (Some(Some(_)), Some(_)) | (None, _) => value,
            (Some(_), _) => continue,
        };
        all.remove(key);
        all.insert(key, counts);
    }
    all
}

impl Retry {
    fn from_arguments(arguments: Table<'_>) -> Option<Retry> {
        let number = |name| arguments.get(name).and_then(|value| value.as_i64()).and_then(|it| u64::try_from(it).ok());
        let min = number("x-delayed-retry-min")?;
        let (failed, returned) = match arguments.get("x-delayed-retry-type").as_ref().and_then(Value::as_str) {
            Some("disabled") => return None,
            Some("failed") => (true, false),
            Some("returned") => (false, true),
            // LavinMQ's queues have no such argument.
            _ => (true, true),
        };
        let multiplier = arguments.get("x-delayed-retry-multiplier").and_then(as_f64);
        let max = number("x-delayed-retry-max").unwrap_or(RETRY_MAX);
        let jitter = number("x-delayed-retry-jitter").unwrap_or(0).min(100);
        Some(Retry { min, max, multiplier, jitter, failed, returned })
    }

    /// Whether there is a delay after a return of this kind.
    pub(crate) fn applies(&self, failed: bool) -> bool {
        if failed { self.failed } else { self.returned }
    }

    /// Milliseconds before a message that came back `count` times is tried again; `chance` is in `0.0 .. 1.0`.
    pub(crate) fn delay(&self, count: u64, chance: f64) -> u64 {
        let count = count.max(1);
        let delay = match self.multiplier {
            // Beyond what an integer holds the maximum is reached anyway: the conversion saturates.
            Some(by) => (self.min as f64 * by.powi(count.min(1 << 20) as i32 - 1)) as u64,
            None => self.min.saturating_mul(count),
        };
        let delay = delay.min(self.max);
        delay - (delay as f64 * self.jitter as f64 / 100.0 * chance) as u64
    }
}

/// A number of any type.
pub(crate) fn as_f64(value: Value<'_>) -> Option<f64> {
    match value {
        Value::F32(number) => Some(number.into()),
        Value::F64(number) => Some(number),
        other => other.as_i64().map(|number| number as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use leveret_wire::table::FieldTable;

    /// The delays after the first returns, without and with the most jitter.
    fn check(arguments: FieldTable, expected: Expect) {
        let settings = Settings::from_arguments(arguments.as_table());
        let retry = settings.retry.expect("has a delay");
        let delays = |chance| [1, 2, 3, 4, 5, 1000].map(|count| retry.delay(count, chance));
        expected.assert_eq(&format!("{:?}\n{:?}", delays(0.0), delays(1.0)));
    }

    #[test]
    fn delays_grow_and_have_an_end() {
        let table = || FieldTable::new().with("x-delayed-retry-min", 100i32);
        check(
            table(),
            expect![[r#"
            [100, 200, 300, 400, 500, 100000]
            [100, 200, 300, 400, 500, 100000]"#]],
        );
        check(
            table().with("x-delayed-retry-max", 250i64),
            expect![[r#"
            [100, 200, 250, 250, 250, 250]
            [100, 200, 250, 250, 250, 250]"#]],
        );
        check(
            table().with("x-delayed-retry-multiplier", 2.5f64).with("x-delayed-retry-max", 2000i32),
            expect![[r#"
                [100, 250, 625, 1562, 2000, 2000]
                [100, 250, 625, 1562, 2000, 2000]"#]],
        );
        check(
            table().with("x-delayed-retry-multiplier", 2i32).with("x-delayed-retry-jitter", 100i32),
            expect![[r#"
                [100, 200, 400, 800, 1600, 86400000]
                [0, 0, 0, 0, 0, 0]"#]],
        );
    }
}
