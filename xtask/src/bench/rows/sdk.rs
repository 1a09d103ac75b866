//! The rows of the SDK: what publishes and what handles in one process, JSON of about 100 bytes.

use super::super::measure::Metric;
use super::Better::Lower;
use super::{Engine, Group, LEVERET, Load, Output, Peer, RATE, Row, Scale};

const HANDLED: Output = Output { label: "handled", ..RATE };
const CPU: Output =
    Output { label: "CPU of all", metric: Metric::CpuPerMessage, unit: "us/msg", better: Lower, ..RATE };
const P50: Output = Output {
    label: "until its handler begins, p50",
    metric: Metric::LatencyP50,
    unit: "us",
    better: Lower,
    scale: Scale::Fixed,
    ..RATE
};
const P99: Output = Output { label: "p99", metric: Metric::LatencyP99, ..P50 };

const OF_PLAIN: Output = Output { metric: Metric::OfPlain, unit: "", scale: Scale::Fixed, ..RATE };

const fn row(name: &'static str, engine: Engine, options: &'static [&'static str], outputs: &'static [Output]) -> Row {
    beside(name, (engine, options), None, outputs)
}

const fn beside(
    name: &'static str,
    (engine, options): (Engine, &'static [&'static str]),
    beside: Option<Peer>,
    outputs: &'static [Output],
) -> Row {
    let load = Load::Sdk { engine, options, beside };
    Row { name, group: Group::Sdk, load, systems: LEVERET, outputs, once: false }
}

/// In the order of the table.
pub const ROWS: &[Row] = &[
    row(
        "SDK on local:, an event at a time, a handler for each",
        Engine::Memory,
        &["--mode", "single"],
        &[Output { goal: Some(500e3), ..HANDLED }, CPU],
    ),
    row(
        "SDK on local:, 500 events at a time, handled in batches",
        Engine::Memory,
        &["--mode", "batch"],
        &[Output { goal: Some(2e6), ..HANDLED }, CPU],
    ),
    row(
        "SDK on local:, an event each millisecond",
        Engine::Memory,
        &["--mode", "latency"],
        &[Output { goal: Some(20.0), ..P50 }, P99],
    ),
    row(
        "SDK on local:, 10 000 events that wait for their retry",
        Engine::Memory,
        &["--mode", "waiting"],
        &[Output {
            label: "CPU while nothing else happens",
            metric: Metric::IdleCpu,
            unit: "% of a core",
            better: Lower,
            goal: Some(0.5),
            scale: Scale::Fixed,
            ..RATE
        }],
    ),
    beside(
        "SDK on local:./directory, 500 events at a time, handled in batches",
        (Engine::Directory, &["--mode", "batch"]),
        Some(Peer::Bench(&["--size", "100", "--persistent", "--confirm", "1000"])),
        &[
            HANDLED,
            CPU,
            Output {
                label: "leveret bench, 100 B, persistent, confirm window 1000",
                metric: Metric::PlainRate,
                ..RATE
            },
            Output { label: "of that", goal: Some(0.8), ..OF_PLAIN },
        ],
    ),
    beside(
        "SDK on amqp://, an event at a time, a handler for each",
        (Engine::Amqp, &["--mode", "single"]),
        Some(Peer::Lapin),
        &[
            HANDLED,
            Output { label: "CPU of the SDK's program", ..CPU },
            Output { label: "CPU of the same with lapin alone", metric: Metric::PlainCpu, ..CPU },
            Output { label: "of that", goal: Some(1.1), better: Lower, ..OF_PLAIN },
        ],
    ),
];
