//! The rows of messages that are not kept on the disk, and of connections.

use super::super::measure::Metric;
use super::Better::Lower;
use super::{ALL, BROKERS, BROKERS_AND_FLOOR, Backlog, CPU, Group, Load, Output, RATE, REFERENCE, Row, Scale};

/// In the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        name: REFERENCE.0,
        group: Group::Transient,
        load: Load::BenchAndNats { options: &["--size", "16"], size: 16 },
        systems: ALL,
        outputs: &[
            Output { goal: Some(7e6), design_floor: Some(REFERENCE.2), ..RATE },
            Output { goal: Some(0.14), design_floor: Some(0.04), ..CPU },
        ],
        once: false,
    },
    Row {
        name: "1 KiB, auto-ack",
        group: Group::Transient,
        load: Load::BenchAndNats { options: &["--size", "1024"], size: 1024 },
        systems: ALL,
        outputs: &[Output { goal: Some(1.5e6), design_floor: Some(2.6e6), ..RATE }],
        once: false,
    },
    Row {
        name: "16 B, ack each 50",
        group: Group::Transient,
        load: Load::Bench(&["--size", "16", "--ack", "50", "--prefetch", "1000"]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[Output { goal: Some(4e6), design_floor: Some(12e6), ..RATE }],
        once: false,
    },
    Row {
        name: "fan-out to 10 queues, 128 B",
        group: Group::Transient,
        load: Load::Bench(&["--fan-out", "10", "--size", "128"]),
        systems: BROKERS,
        outputs: &[Output { label: "deliveries", goal: Some(6e6), ..RATE }],
        once: false,
    },
    Row {
        name: "100 queues, 10 producers, 100 consumers, 16 B",
        group: Group::Transient,
        load: Load::Bench(&["--queues", "100", "--producers", "10", "--consumers", "100"]),
        systems: BROKERS,
        outputs: &[Output { goal: Some(5e6), ..RATE }],
        once: false,
    },
    Row {
        name: "1000 msg/s, 128 B",
        group: Group::Transient,
        load: Load::Bench(&["--rate", "1000", "--size", "128"]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[
            Output {
                label: "latency p50",
                metric: Metric::LatencyP50,
                unit: "us",
                better: Lower,
                goal: Some(25.0),
                ..RATE
            },
            Output {
                label: "latency p99",
                metric: Metric::LatencyP99,
                unit: "us",
                better: Lower,
                goal: Some(150.0),
                ..RATE
            },
        ],
        once: false,
    },
    Row {
        name: "topic, 10000 random keys, 16 B to 4 KiB, 3 headers",
        group: Group::Transient,
        load: Load::Bench(&[
            "--exchange",
            "amq.topic",
            "--random-keys",
            "10000",
            "--size",
            "16..4096",
            "--headers",
            "3",
        ]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[RATE],
        once: false,
    },
    Row {
        name: "two consumers on one queue, 16 B",
        group: Group::Transient,
        load: Load::Bench(&["--consumers", "2"]),
        systems: BROKERS,
        outputs: &[
            RATE,
            Output {
                label: "from equal shares",
                metric: Metric::ShareDeviation,
                unit: "%",
                better: Lower,
                goal: Some(10.0),
                scale: Scale::Fixed,
                ..RATE
            },
        ],
        once: false,
    },
    Row {
        name: "idle connection with a channel",
        group: Group::Transient,
        load: Load::Idle { connections: 1000 },
        systems: BROKERS,
        outputs: &[Output {
            label: "memory",
            metric: Metric::IdleMemory,
            unit: "KiB",
            better: Lower,
            goal: Some(8.0),
            scale: Scale::Fixed,
            ..RATE
        }],
        once: false,
    },
    Row {
        name: "backlog of 5 M, 16 B",
        group: Group::Transient,
        load: Load::Backlog(Backlog {
            count: 5_000_000,
            // RabbitMQ takes a minute and a half to fill with five million messages, and no different rate.
            count_on_rabbitmq: 1_000_000,
            copies: 1,
            options: &["--size", "16"],
            fill: &[],
            drain: &[],
            restart: false,
        }),
        systems: BROKERS,
        outputs: &[
            Output { label: "fill", metric: Metric::FillRate, goal: Some(5e6), ..RATE },
            Output { label: "drain", metric: Metric::DrainRate, goal: Some(5e6), ..RATE },
            Output {
                label: "memory of a message",
                metric: Metric::BacklogMemory,
                unit: "B",
                better: Lower,
                scale: Scale::Fixed,
                ..RATE
            },
        ],
        once: false,
    },
];
