//! The rows of persistent messages in durable queues: what is confirmed is on the disk.

use super::super::measure::Metric;
use super::Better::Lower;
use super::{
    BROKERS, BROKERS_AND_FLOOR, Backlog, DISK_REFERENCE, Group, LEVERET, Load, Output, RATE, Row, Scale, System,
};

const FLOOR_AND_LEVERET: &[System] = &[System::Floor, System::Leveret];

const CONFIRMS: Output = Output { metric: Metric::ConfirmRate, scale: Scale::Disk, ..RATE };
const WRITTEN: Output = Output {
    label: "written for a byte confirmed",
    metric: Metric::WrittenPerByte,
    unit: "B",
    better: Lower,
    scale: Scale::Fixed,
    ..RATE
};
const MICROS: Output = Output { unit: "us", better: Lower, scale: Scale::Disk, ..RATE };
const FILL: Output = Output { label: "fill", metric: Metric::FillRate, scale: Scale::Disk, ..RATE };
const DRAIN: Output = Output { label: "drain", metric: Metric::DrainRate, ..RATE };
const GROWTH: Output = Output {
    label: "memory growth",
    metric: Metric::MemoryGrowth,
    unit: "MiB",
    better: Lower,
    goal: Some(16.0),
    scale: Scale::Fixed,
    ..RATE
};
const LISTENING: Output =
    Output { label: "killed: listening after", metric: Metric::StartTime, unit: "ms", better: Lower, ..RATE };
const RECOVERED: Output = Output {
    label: "killed: all there after",
    metric: Metric::RecoveryTime,
    unit: "ms",
    better: Lower,
    scale: Scale::Fixed,
    ..RATE
};
const GROWTH_AFTER: Output = Output { label: "killed: memory growth", metric: Metric::MemoryAfterRestart, ..GROWTH };

/// Small messages, confirmed a thousand at a time, of which the server is killed before they are consumed.
const KILLED: Backlog = Backlog {
    count: 0,
    count_on_rabbitmq: 0,
    copies: 1,
    options: &["--size", "16", "--persistent"],
    fill: &["--confirm", "1000"],
    drain: &[],
    restart: true,
};

/// In the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        name: DISK_REFERENCE.0,
        group: Group::Persistent,
        load: Load::Bench(&["--size", "16", "--persistent", "--confirm", "1000"]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[Output { goal: Some(2.8e6), design_floor: Some(DISK_REFERENCE.2), ..CONFIRMS }, WRITTEN],
        once: false,
    },
    Row {
        name: "1 KiB, persistent, confirm window 1000",
        group: Group::Persistent,
        load: Load::Bench(&["--size", "1024", "--persistent", "--confirm", "1000"]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[Output { goal: Some(900e3), design_floor: Some(1.23e6), ..CONFIRMS }, WRITTEN],
        once: false,
    },
    Row {
        name: "16 B, persistent, confirm window 1",
        group: Group::Persistent,
        load: Load::Bench(&["--size", "16", "--persistent", "--confirm", "1"]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[
            Output { goal: Some(6.2e3), design_floor: Some(6.6e3), ..CONFIRMS },
            Output {
                label: "confirm p50",
                metric: Metric::ConfirmP50,
                goal: Some(145.0),
                design_floor: Some(133.0),
                ..MICROS
            },
            Output { label: "one overwriting fdatasync, p50", metric: Metric::SyncP50, ..MICROS },
            Output {
                label: "confirm p50 beyond the fdatasync's",
                metric: Metric::ConfirmBeyondSync,
                goal: Some(40.0),
                scale: Scale::Fixed,
                ..MICROS
            },
            WRITTEN,
        ],
        once: false,
    },
    Row {
        name: "100 queues, 10 producers, 128 B, persistent, confirm window 100",
        group: Group::Persistent,
        load: Load::Bench(&[
            "--queues",
            "100",
            "--producers",
            "10",
            "--size",
            "128",
            "--persistent",
            "--confirm",
            "100",
        ]),
        systems: BROKERS,
        outputs: &[Output { goal: Some(1.5e6), ..CONFIRMS }, WRITTEN],
        once: false,
    },
    Row {
        name: "topic, 10000 random keys, 16 B to 4 KiB, 3 headers, persistent, confirm window 1000",
        group: Group::Persistent,
        load: Load::Bench(&[
            "--exchange",
            "amq.topic",
            "--random-keys",
            "10000",
            "--size",
            "16..4096",
            "--headers",
            "3",
            "--persistent",
            "--confirm",
            "1000",
        ]),
        systems: FLOOR_AND_LEVERET,
        outputs: &[CONFIRMS, WRITTEN],
        once: false,
    },
    Row {
        name: "16 B, persistent, confirm window 1, beside a 10 MiB publisher",
        group: Group::Persistent,
        load: Load::Beside {
            options: &["--size", "16", "--persistent", "--confirm", "1"],
            loud: &["--size", "10MiB", "--persistent", "--confirm", "1", "--consumers", "0"],
        },
        systems: LEVERET,
        outputs: &[
            Output { label: "confirm p99, quiet", metric: Metric::QuietP99, ..MICROS },
            Output { label: "confirm p99", metric: Metric::ConfirmP99, ..MICROS },
            Output {
                label: "times the quiet p99",
                metric: Metric::SlowDown,
                unit: "x",
                goal: Some(5.0),
                scale: Scale::Fixed,
                ..MICROS
            },
            Output { label: "the publisher", metric: Metric::LoudRate, unit: "MiB/s", ..RATE },
        ],
        once: false,
    },
    Row {
        name: "backlog of 1 M, 1 KiB, persistent",
        group: Group::Backlog,
        load: Load::Backlog(Backlog {
            count: 1_000_000,
            count_on_rabbitmq: 200_000,
            options: &["--size", "1024", "--persistent"],
            restart: false,
            ..KILLED
        }),
        systems: BROKERS,
        outputs: &[Output { goal: Some(275e3), ..FILL }, Output { goal: Some(1e6), ..DRAIN }, GROWTH, WRITTEN],
        once: true,
    },
    Row {
        name: "10000 queues of 1000, 100 B, persistent",
        group: Group::Backlog,
        load: Load::Backlog(Backlog {
            count: 10_000_000,
            options: &["--queues", "10000", "--size", "100", "--persistent"],
            drain: &["--consumers", "2"],
            restart: false,
            ..KILLED
        }),
        systems: LEVERET,
        outputs: &[FILL, DRAIN, GROWTH, WRITTEN],
        once: true,
    },
    Row {
        name: "1 MiB to 1000 queues that nobody consumes, persistent",
        group: Group::Backlog,
        load: Load::Backlog(Backlog {
            count: 1,
            copies: 1000,
            options: &["--fan-out", "1000", "--size", "1MiB", "--persistent"],
            fill: &["--confirm", "1"],
            drain: &["--consumers", "1"],
            ..KILLED
        }),
        systems: LEVERET,
        outputs: &[Output {
            label: "written",
            metric: Metric::Written,
            unit: "MiB",
            goal: Some(3.0),
            better: Lower,
            scale: Scale::Fixed,
            ..RATE
        }],
        once: true,
    },
    Row {
        name: "no backlog",
        group: Group::Backlog,
        load: Load::Backlog(KILLED),
        systems: LEVERET,
        outputs: &[LISTENING, RECOVERED],
        once: true,
    },
    Row {
        name: "backlog of 1 M, 16 B, persistent",
        group: Group::Backlog,
        load: Load::Backlog(Backlog { count: 1_000_000, ..KILLED }),
        systems: LEVERET,
        outputs: &[LISTENING, RECOVERED, GROWTH_AFTER],
        once: true,
    },
    Row {
        name: "backlog of 10 M, 16 B, persistent",
        group: Group::Backlog,
        load: Load::Backlog(Backlog { count: 10_000_000, ..KILLED }),
        systems: LEVERET,
        outputs: &[FILL, GROWTH, LISTENING, Output { goal: Some(5000.0), ..RECOVERED }, GROWTH_AFTER, DRAIN, WRITTEN],
        once: true,
    },
    Row {
        name: "from exec to listening",
        group: Group::Start,
        load: Load::Start,
        systems: BROKERS,
        outputs: &[Output { metric: Metric::StartTime, unit: "ms", better: Lower, goal: Some(20.0), ..RATE }],
        once: false,
    },
    Row {
        name: "from exec to listening, killed under load",
        group: Group::Start,
        load: Load::StartAfterKill(&["--size", "16", "--persistent", "--confirm", "1000"]),
        systems: LEVERET,
        outputs: &[Output { metric: Metric::StartTime, unit: "ms", better: Lower, goal: Some(300.0), ..RATE }],
        once: false,
    },
];
