//! Delays on RabbitMQ, which has none: a ladder of queues whose messages expire.
//!
//! Each level is a topic exchange and a queue; messages stay in the queue of level n for 2^n steps. A message's key begins with
//! the binary digits of its delay. The exchange of a level looks at the digit that is its own: a 1 leads to its queue, and from there, when the time is over, to the
//! exchange of the level below; a 0 leads there at once. Below the last level is an exchange that looks at the rest of the key, which is
//! where the message is to go. All messages of a queue wait equally long, so that none is held up by one before it, and a
//! message passes no queue twice. It is what NServiceBus does ("Delayed delivery with RabbitMQ", Particular Software).
//!
//! The queues are quorum queues that forget a message when the next queue has confirmed it.

use super::topology::{Lives, Step, exchange, queue, table, text};
use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};
use std::time::Duration;

/// How long messages stay in the queue of the lowest level; delays are multiples of it.
const STEP: Duration = Duration::from_millis(64);

/// Levels, for ten years.
const LEVELS: u32 = 33;

/// The exchange below the last level.
const EXIT: &str = "leveret.delay.exit";

/// Takes what nobody is there for any more, and keeps nothing: the queues above wait until somebody takes a message.
const NOBODY: &str = "leveret.delay.nobody";

/// Where a message goes after its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit<'a> {
    Topic(&'a str),
    Queue(&'a str),
}

impl Exit<'_> {
    fn key(self) -> String {
        match self {
            Exit::Topic(name) => format!("topic.{name}"),
            Exit::Queue(name) => format!("queue.{name}"),
        }
    }
}

/// The exchange and the key for a delay, which is rounded up to a whole step.
pub(super) fn enter(delay: Duration, exit: Exit<'_>) -> (String, String) {
    let steps = delay.as_millis().div_ceil(STEP.as_millis());
    let steps = u64::try_from(steps).unwrap_or(u64::MAX).min((1 << LEVELS) - 1);
    let mut key = String::with_capacity(LEVELS as usize * 2 + 160);
    for level in (0..LEVELS).rev() {
        key.push_str(if steps >> level & 1 == 1 { "1." } else { "0." });
    }
    key.push_str(&exit.key());
    // The levels above it would only hand it down.
    let exchange = steps.checked_ilog2().map_or_else(|| EXIT.to_string(), level);
    (exchange, key)
}

fn level(level: u32) -> String {
    format!("leveret.delay.{level:02}")
}

/// The ladder.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![
        exchange(EXIT, ExchangeKind::Topic, FieldTable::default()),
        queue(NOBODY, Lives::Durable, table([("x-max-length", AMQPValue::LongInt(0))])),
        bind(NOBODY, EXIT, "#".to_string()),
    ];
    for at in 0..LEVELS {
        let (name, below) = (level(at), at.checked_sub(1).map_or_else(|| EXIT.to_string(), level));
        let ttl = STEP.as_millis() as i64 * (1 << at);
        let arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", AMQPValue::LongLongInt(ttl)),
            ("x-dead-letter-exchange", text(&below)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        // Behind the digits of the levels above.
        let key = |digit: char| format!("{}{digit}.#", "*.".repeat((LEVELS - 1 - at) as usize));
        steps.extend([
            exchange(&name, ExchangeKind::Topic, FieldTable::default()),
            queue(&name, Lives::Durable, arguments),
            bind(&name, &name, key('1')),
            Step::Chain { to: below, from: name, key: key('0') },
        ]);
    }
    steps
}

/// The way out to a queue.
pub(super) fn to_queue(name: &str) -> Step {
    bind(name, EXIT, behind_digits(Exit::Queue(name)))
}

/// The way out to a topic.
pub(super) fn to_topic(name: &str) -> Step {
    Step::Chain { to: name.to_string(), from: EXIT.to_string(), key: behind_digits(Exit::Topic(name)) }
}

fn behind_digits(exit: Exit<'_>) -> String {
    format!("{}{}", "*.".repeat(LEVELS as usize), exit.key())
}

fn bind(queue: &str, exchange: &str, key: String) -> Step {
    Step::Bind { queue: queue.to_string(), exchange: exchange.to_string(), key, arguments: FieldTable::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a message is in queues, when it goes as its key says.
    fn waits(delay: Duration) -> Duration {
        let (mut at, key) = enter(delay, Exit::Queue("t.s"));
        let (digits, mut waited) = (key.split('.').collect::<Vec<_>>(), Duration::ZERO);
        while at != EXIT {
            let number: u32 = at.rsplit('.').next().and_then(|number| number.parse().ok()).expect("a level");
            if digits[(LEVELS - 1 - number) as usize] == "1" {
                waited += Duration::from_millis(64 << number);
            }
            at = number.checked_sub(1).map_or_else(|| EXIT.to_string(), level);
        }
        waited
    }

    #[test]
    fn a_message_waits_for_its_delay_and_less_than_a_step_longer() {
        let delays = [0, 1, 63, 64, 65, 1000, 600_000, 86_400_000, 10 * 365 * 86_400_000];
        for delay in delays.map(Duration::from_millis) {
            let more = waits(delay).checked_sub(delay).expect("it is long enough");
            assert!(more < STEP, "{delay:?} is {more:?} too long");
        }
    }

    #[test]
    fn keys_are_short_enough_with_the_longest_names() {
        let name = "a".repeat(64);
        let queue = format!("{name}.{name}.0190163d-8694-739b-aea5-966c26f8ad91");
        assert!(enter(Duration::MAX, Exit::Queue(&queue)).1.len() <= 255);
        assert!(behind_digits(Exit::Queue(&queue)).len() <= 255);
    }
}
