//! The past as lists for charts.

use super::answer::{Answer, Refusal, ok};
use super::call::{Call, expected};
use super::rates::{COUNTS, GAUGES, Range, queue_values};
use serde_json::{Map, Value, json};

/// Counters of messages, with the names that charts have for them: per second.
const RATES: [(&str, usize); 9] = [
    ("publish", 0),
    ("confirm", 1),
    ("returned", 2),
    ("unroutable", 3),
    ("redeliver", 9),
    ("ack", 10),
    ("deliver", 11),
    ("dead_letter", COUNTS.len() + 2),
    ("expire", COUNTS.len() + 3),
];

/// Lengths.
const LENGTHS: [(&str, usize); 2] = [("ready", COUNTS.len()), ("unacked", COUNTS.len() + 1)];

/// `GET /api/history`
pub fn totals(call: &Call) -> Answer {
    let range = range(call)?;
    let points = call.api.rates.points(range);
    let mut values = common(&points);
    for (at, name) in GAUGES.iter().enumerate().skip(4) {
        let at = COUNTS.len() + at;
        let list: Value = match *name {
            "recv_oct" | "send_oct" => per_second(&points, at),
            "confirm_p50" | "confirm_p99" => seconds(&points, at),
            _ => plain(&points, at),
        };
        values.insert((*name).to_string(), list);
    }
    answer(range, &points, values)
}

/// `GET /api/queues/{vhost}/{name}/history`
pub fn of_queue(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    let queue = vhost.queue_info(call.part("name")).ok_or_else(Refusal::missing)?;
    let range = range(call)?;
    let values = queue_values(&queue);
    let points = call.api.rates.queue_points(&(vhost.name().clone(), queue.name), range, values);
    answer(range, &points, common(&points))
}

fn range(call: &Call) -> Result<Range, Refusal> {
    match call.query.get("range") {
        None | Some("600") => Ok(Range::Minutes),
        Some("3600") => Ok(Range::Hour),
        Some("86400") => Ok(Range::Day),
        Some(other) => Err(expected("range", "600, 3600 or 86400 seconds", &json!(other))),
    }
}

type Points<const N: usize> = [(u64, [u64; N])];

fn common<const N: usize>(points: &Points<N>) -> Map<String, Value> {
    let rates = RATES.iter().map(|(name, at)| ((*name).to_string(), per_second(points, *at)));
    let lengths = LENGTHS.iter().map(|(name, at)| ((*name).to_string(), plain(points, *at)));
    rates.chain(lengths).collect()
}

/// A rate belongs to the later of two points, so the first has none and is left out everywhere.
fn per_second<const N: usize>(points: &Points<N>, at: usize) -> Value {
    let rate = |pair: &[(u64, [u64; N])]| {
        let elapsed = (pair[1].0 - pair[0].0) as f64 / 1000.0;
        let grown = pair[1].1[at].saturating_sub(pair[0].1[at]) as f64;
        json!(if elapsed > 0.0 { (grown / elapsed * 1000.0).round() / 1000.0 } else { 0.0 })
    };
    points.windows(2).map(rate).collect()
}

fn plain<const N: usize>(points: &Points<N>, at: usize) -> Value {
    points.iter().skip(1).map(|(_, values)| json!(values[at])).collect()
}

/// Of nanoseconds; 0 is none.
fn seconds<const N: usize>(points: &Points<N>, at: usize) -> Value {
    let seconds = |(_, values): &(u64, [u64; N])| match values[at] {
        0 => Value::Null,
        nanoseconds => json!(nanoseconds as f64 / 1e9),
    };
    points.iter().skip(1).map(seconds).collect()
}

fn answer<const N: usize>(range: Range, points: &Points<N>, values: Map<String, Value>) -> Answer {
    let at: Vec<u64> = points.iter().skip(1).map(|(at, _)| *at).collect();
    ok(&json!({ "range": range.seconds(), "step": range.step(), "at": at, "values": values }))
}
