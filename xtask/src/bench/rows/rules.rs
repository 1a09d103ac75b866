//! The rows of queues with rules: what those cost beside a plain queue, and what waits for its time.

use super::super::measure::Metric;
use super::Better::Lower;
use super::{Group, LEVERET, Load, Output, RATE, Row, Scale};

const RULED: Output = Output { scale: Scale::Fixed, ..RATE };
const PLAIN: Output = Output { label: "a plain queue", metric: Metric::PlainRate, ..RULED };
const OF_PLAIN: Output =
    Output { label: "of a plain queue", metric: Metric::OfPlain, unit: "x", goal: Some(0.5), ..RULED };
const OUTPUTS: &[Output] = &[RULED, PLAIN, OF_PLAIN];

const fn against(name: &'static str, plain: &'static [&'static str], rule: &'static [&'static str]) -> Row {
    let load = Load::Against { plain, rule };
    Row { name, group: Group::Rules, load, systems: LEVERET, outputs: OUTPUTS, once: false }
}

/// In the order of the table.
pub const ROWS: &[Row] = &[
    against("16 B, auto-ack, TTL of the queue", &["--size", "16"], &["--queue-argument", "x-message-ttl=600000"]),
    against("16 B, auto-ack, limit of length", &["--size", "16"], &["--queue-argument", "x-max-length=10000000"]),
    against(
        "16 B, auto-ack, deduplicated by message id",
        &["--size", "16", "--message-ids"],
        &["--queue-argument", "x-message-deduplication=true"],
    ),
    against(
        "16 B, auto-ack, 1000 groups",
        &["--size", "16", "--header", "group=1..1000"],
        &["--queue-argument", "x-group-header=group"],
    ),
    against(
        "16 B, ack each 50, 1000 groups",
        &["--size", "16", "--header", "group=1..1000", "--ack", "50", "--prefetch", "1000"],
        &["--queue-argument", "x-group-header=group"],
    ),
    against(
        "16 B, ack each 50, 1000 groups, 4 consumers with prefetch 100",
        &["--size", "16", "--header", "group=1..1000", "--consumers", "4", "--ack", "50", "--prefetch", "100"],
        &["--queue-argument", "x-group-header=group"],
    ),
    against(
        "16 B, persistent, confirm window 1000, 1000 groups, 4 consumers with prefetch 100",
        &[
            "--size",
            "16",
            "--header",
            "group=1..1000",
            "--persistent",
            "--confirm",
            "1000",
            "--consumers",
            "4",
            "--ack",
            "50",
            "--prefetch",
            "100",
        ],
        &["--queue-argument", "x-group-header=group"],
    ),
    against(
        "16 B, persistent, confirm window 1000, TTL of the queue",
        &["--size", "16", "--persistent", "--confirm", "1000"],
        &["--queue-argument", "x-message-ttl=600000"],
    ),
    against(
        "16 B, persistent, confirm window 1000, full queue that drops its oldest, nobody consumes",
        &["--size", "16", "--persistent", "--confirm", "1000"],
        &["--consumers", "0", "--queue-argument", "x-max-length=1000"],
    ),
    against(
        "16 B, persistent, confirm window 1000, deduplicated by message id",
        &["--size", "16", "--persistent", "--confirm", "1000", "--message-ids"],
        &["--queue-argument", "x-message-deduplication=true"],
    ),
    Row {
        name: "10 M delayed messages of 16 B, persistent",
        group: Group::Rules,
        load: Load::Delayed {
            count: 10_000_000,
            options: &[
                "--size",
                "16",
                "--persistent",
                "--confirm",
                "1000",
                "--exchange",
                "bench-later",
                "--exchange-type",
                "direct",
                "--delayed",
                "--header",
                "x-delay=3600000..7200000",
            ],
        },
        systems: LEVERET,
        outputs: &[
            Output { label: "fill", metric: Metric::FillRate, ..RULED },
            Output {
                label: "memory growth",
                metric: Metric::MemoryGrowth,
                unit: "MiB",
                better: Lower,
                goal: Some(64.0),
                ..RULED
            },
            Output {
                label: "disk",
                metric: Metric::DiskGrowth,
                unit: "MiB",
                better: Lower,
                goal: Some(1024.0),
                ..RULED
            },
        ],
        once: true,
    },
];
