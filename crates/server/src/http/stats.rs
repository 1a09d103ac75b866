//! Counters, rates and samples of the past as RabbitMQ shows them.

use super::answer::Refusal;
use super::fields::Fields;
use super::query::Query;
use super::rates::{Age, COUNTS, Span};
use serde_json::{Map, Value, json};

/// The most seconds back that samples can be asked for: what histories keep.
const AGE_MAX: u64 = 86_400;

/// The most samples of one number in an answer.
const SAMPLES_MAX: u64 = 4000;

/// What samples of the past a request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Of lengths.
    pub lengths: Option<Age>,
    /// Of what is counted about messages.
    pub counts: Option<Age>,
    /// Of bytes over connections.
    pub data: Option<Age>,
}

impl Wanted {
    /// Both parts have to be there, as in RabbitMQ.
    ///
    /// # Errors
    /// 400 that names the parameter, or the two of them if they ask for too much.
    pub fn of(query: &Query) -> Result<Wanted, Refusal> {
        Ok(Wanted {
            lengths: age(query, "lengths_age", "lengths_incr")?,
            counts: age(query, "msg_rates_age", "msg_rates_incr")?,
            data: age(query, "data_rates_age", "data_rates_incr")?,
        })
    }

    /// The one age that a single look at the past can serve.
    pub fn any(&self) -> Option<Age> {
        self.counts.or(self.lengths).or(self.data)
    }
}

fn age(query: &Query, seconds: &str, step: &str) -> Result<Option<Age>, Refusal> {
    let age = (query.number(seconds, 1, AGE_MAX)?, query.number(step, 1, AGE_MAX)?);
    let (Some(length), Some(distance)) = age else { return Ok(None) };
    if length / distance > SAMPLES_MAX {
        let reason = format!("{seconds}: together with {step} it asks for more than {SAMPLES_MAX} samples");
        return Err(Refusal::bad(reason));
    }
    Ok(Some(Age { seconds: length, step: distance }))
}

/// Which of [`COUNTS`] a queue has.
pub const OF_QUEUE: &[usize] = &[0, 4, 5, 6, 7, 8, 9, 10, 11];

/// Which of [`COUNTS`] a virtual host has: confirms are counted for the broker and its channels.
pub const OF_VHOST: &[usize] = &[0, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// Which of [`COUNTS`] everything else has.
pub const OF_ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// One number in some samples of the past.
pub struct Past<'a, const N: usize> {
    span: Option<&'a Span<N>>,
}

impl<'a, const N: usize> Past<'a, N> {
    /// Without samples if there are none.
    pub fn new(span: Option<&'a Span<N>>) -> Past<'a, N> {
        Past { span }
    }

    /// RabbitMQ's object of details: the rate, and if there are samples, those of the number at this place.
    pub fn details(&self, rate: f32, at: usize) -> Value {
        let Some(span) = self.span.filter(|span| !span.samples.is_empty()) else {
            return json!({ "rate": round(rate) });
        };
        let samples = &span.samples;
        let (newest, oldest) = (samples[0], samples[samples.len() - 1]);
        let sum: f64 = samples.iter().map(|(_, values)| values[at] as f64).sum();
        let seconds = (newest.0 - oldest.0) as f64 / 1000.0;
        let grown = newest.1[at] as f64 - oldest.1[at] as f64;
        let avg_rate = if seconds > 0.0 { grown / seconds } else { 0.0 };
        let shown = samples.iter().map(|(time, values)| json!({ "sample": values[at], "timestamp": time }));
        json!({
            "avg": sum / samples.len() as f64,
            "avg_rate": avg_rate,
            "rate": round(rate),
            "samples": shown.collect::<Vec<_>>(),
        })
    }
}

/// To a thousandth: more would say nothing.
pub fn round(rate: f32) -> f64 {
    (f64::from(rate) * 1000.0).round() / 1000.0
}

/// `message_stats`: left out if nothing has happened yet, as in RabbitMQ.
pub fn put_message_stats<const N: usize>(
    fields: &mut Fields<'_>,
    counts: &[u64],
    rates: &[f32],
    which: &[usize],
    past: &Past<'_, N>,
) {
    if !fields.wants("message_stats") || counts.iter().take(COUNTS.len()).all(|count| *count == 0) {
        return;
    }
    let mut stats = Map::new();
    for &at in which {
        stats.insert(COUNTS[at].to_string(), counts[at].into());
        stats.insert(format!("{}_details", COUNTS[at]), past.details(rates[at], at));
    }
    fields.put("message_stats", stats);
}

/// `messages`, ready and unacknowledged with their details; `at` is where ready and unacknowledged are among the rates.
pub fn put_lengths<const N: usize>(
    fields: &mut Fields<'_>,
    (ready, unacked): (u64, u64),
    rates: &[f32],
    at: usize,
    past: &Past<'_, N>,
) {
    fields.put("messages", ready + unacked);
    fields.put("messages_ready", ready);
    fields.put("messages_unacknowledged", unacked);
    fields.put_with("messages_ready_details", || past.details(rates[at], at));
    fields.put_with("messages_unacknowledged_details", || past.details(rates[at + 1], at + 1));
    fields.put_with("messages_details", || {
        let sum = past.span.map(|span| Span {
            samples: span.samples.iter().map(|(time, values)| (*time, [values[at] + values[at + 1]])).collect(),
        });
        Past::new(sum.as_ref()).details(rates[at] + rates[at + 1], 0)
    });
}
