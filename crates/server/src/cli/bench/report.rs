//! What a benchmark found, for people and for machines.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The result of a run. Rates are per second, latencies in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The broker's product and version, as it says.
    pub broker: String,
    /// The length of what was measured.
    pub seconds: f64,
    /// Messages published while measuring.
    pub published: u64,
    /// Messages received while measuring.
    pub consumed: u64,
    /// Messages published.
    pub publish_rate: f64,
    /// Publishes confirmed.
    pub confirm_rate: f64,
    /// Messages received.
    pub consume_rate: f64,
    /// Bytes of the bodies published.
    pub publish_bytes_per_second: f64,
    /// Bytes of the bodies received.
    pub consume_bytes_per_second: f64,
    /// From the write of a batch to the confirm of its last message.
    pub confirm_latency_us: Option<Percentiles>,
    /// From the write of a message to its arrival at a consumer; of the first and the last of each batch.
    pub end_to_end_latency_us: Option<Percentiles>,
    /// How evenly consumers were served.
    pub shares: Option<Shares>,
    /// Publishes that the broker refused.
    pub nacked: u64,
    /// Messages published since the start, warm-up included.
    pub total_published: u64,
    /// Bytes of the bodies of those.
    pub total_published_bytes: u64,
    /// Messages received since the start, warm-up included.
    pub total_consumed: u64,
    /// What this program itself used, since the start; only on Linux.
    pub generator_cpu_seconds: Option<f64>,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub samples: u64,
}

impl Percentiles {
    /// `None` if nothing was recorded.
    pub fn of(nanos: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| nanos.value_at_quantile(quantile) as f64 / 1000.0;
        (!nanos.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: nanos.max() as f64 / 1000.0,
            samples: nanos.len(),
        })
    }
}

/// What the luckiest and the unluckiest consumer got, as a part of what each would get if all were served alike.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Shares {
    pub min: f64,
    pub max: f64,
}

impl Shares {
    /// `None` for fewer than two consumers, or if nothing was received.
    pub fn of(received: &[u64]) -> Option<Self> {
        let total: u64 = received.iter().sum();
        if received.len() < 2 || total == 0 {
            return None;
        }
        let fair = total as f64 / received.len() as f64;
        let (min, max) = received.iter().fold((u64::MAX, 0), |(min, max), &n| (min.min(n), max.max(n)));
        Some(Self { min: min as f64 / fair, max: max as f64 / fair })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, measured for {:.2} s", self.broker, self.seconds)?;
        let rate = |f: &mut fmt::Formatter<'_>, name: &str, messages: f64, bytes: Option<f64>| match (messages, bytes) {
            (0.0, _) => Ok(()),
            (_, None) => writeln!(f, "{name:<12}{:>12}/s", Count(messages)),
            (_, Some(bytes)) => writeln!(f, "{name:<12}{:>12}/s {:>10}B/s", Count(messages), Count(bytes)),
        };
        rate(f, "published", self.publish_rate, Some(self.publish_bytes_per_second))?;
        rate(f, "confirmed", self.confirm_rate, None)?;
        rate(f, "consumed", self.consume_rate, Some(self.consume_bytes_per_second))?;
        for (name, latency) in [("confirm", &self.confirm_latency_us), ("end to end", &self.end_to_end_latency_us)] {
            if let Some(Percentiles { p50, p90, p99, p999, max, .. }) = latency {
                let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|us| Micros(*us));
                writeln!(f, "{name:<12} p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")?;
            }
        }
        if let Some(Shares { min, max }) = self.shares {
            writeln!(f, "shares       from {:.1} % to {:.1} % of an equal share", min * 100.0, max * 100.0)?;
        }
        if self.nacked > 0 {
            writeln!(f, "refused      {} messages (basic.nack)", self.nacked)?;
        }
        if let Some(cpu) = self.generator_cpu_seconds {
            let messages = (self.total_published + self.total_consumed).max(1) as f64;
            writeln!(f, "this program {:.3} us of CPU per message published or received", cpu * 1e6 / messages)?;
        }
        self.errors.iter().try_for_each(|error| writeln!(f, "error        {error}"))
    }
}

/// A number as people read it: 1.23 M.
pub struct Count(pub f64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            n if n >= 1e9 => (n / 1e9, " G"),
            n if n >= 1e6 => (n / 1e6, " M"),
            n if n >= 1e3 => (n / 1e3, " k"),
            n => (n, " "),
        };
        let digits = if value >= 100.0 {
            0
        } else if value >= 10.0 {
            1
        } else {
            2
        };
        f.pad(&format!("{value:.digits$}{unit}"))
    }
}

/// A duration as people read it: 83 us, 1.2 ms.
struct Micros(f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 1000.0 => write!(f, "{us:.0} us"),
            us if us < 1_000_000.0 => write!(f, "{:.1} ms", us / 1e3),
            us => write!(f, "{:.2} s", us / 1e6),
        }
    }
}
