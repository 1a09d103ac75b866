//! Prometheus' text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// What RabbitMQ does not say it of.
    Untyped,
}

/// A page of metrics.
#[derive(Debug)]
pub struct Text {
    out: String,
    prefix: &'static str,
}

impl Text {
    /// An empty page. The prefix is put before names of families.
    pub fn new(prefix: &'static str) -> Text {
        Text { out: String::with_capacity(32 * 1024), prefix }
    }

    /// Begins a family; its samples follow. What is Leveret's own, or any process's, gets no prefix.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let own = name.starts_with("leveret_") || name == "process_start_time_seconds";
        let prefix = if own { "" } else { self.prefix };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        };
        let _ = writeln!(self.out, "# TYPE {prefix}{name} {kind}\n# HELP {prefix}{name} {help}");
        Family { out: &mut self.out, prefix, name }
    }

    /// A histogram: what was at most so many seconds long, of each bound, in ascending order, each with all below it.
    pub fn histogram(&mut self, name: &str, help: &str, buckets: &[(f64, u64)], count: u64, sum: f64) {
        let _ = writeln!(self.out, "# TYPE {name} histogram\n# HELP {name} {help}");
        for (bound, below) in buckets {
            let _ = writeln!(self.out, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(self.out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_count {count}\n{name}_sum {sum}");
    }

    /// The page.
    pub fn finish(self) -> String {
        self.out
    }
}

/// A family that takes samples.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut String,
    prefix: &'static str,
    name: &'static str,
}

impl Family<'_> {
    /// A sample without labels.
    pub fn value(&mut self, value: f64) {
        let _ = writeln!(self.out, "{}{} {value}", self.prefix, self.name);
    }

    /// A sample with labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.out, "{}{}{{", self.prefix, self.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(self.out, "{comma}{name}=\"");
            value.chars().for_each(|char| match char {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            });
            self.out.push('"');
        }
        let _ = writeln!(self.out, "}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_page() {
        let mut text = Text::new("rabbitmq_");
        text.family("queues", Kind::Gauge, "Queues available").value(3.0);
        let mut family = text.family("queue_messages_total", Kind::Counter, "Messages");
        family.sample(&[("vhost", "/"), ("queue", "a\"b\\c\nd")], 0.5);
        text.histogram("leveret_log_sync_seconds", "Syncs", &[(0.001, 2), (0.002, 5)], 6, 0.0125);
        expect![[r#"
            # TYPE rabbitmq_queues gauge
            # HELP rabbitmq_queues Queues available
            rabbitmq_queues 3
            # TYPE rabbitmq_queue_messages_total counter
            # HELP rabbitmq_queue_messages_total Messages
            rabbitmq_queue_messages_total{vhost="/",queue="a\"b\\c\nd"} 0.5
            # TYPE leveret_log_sync_seconds histogram
            # HELP leveret_log_sync_seconds Syncs
            leveret_log_sync_seconds_bucket{le="0.001"} 2
            leveret_log_sync_seconds_bucket{le="0.002"} 5
            leveret_log_sync_seconds_bucket{le="+Inf"} 6
            leveret_log_sync_seconds_count 6
            leveret_log_sync_seconds_sum 0.0125
        "#]]
        .assert_eq(&text.finish());
    }
}
