//! The rows of the SDK: what publishes and what handles in one process, JSON of about 100 bytes.

use super::super::measure::Metric;
use super::Better::Lower;
use super::{Engine, Group, LEVERET, Load, Output, RATE, Row, Scale};

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

const fn row(name: &'static str, engine: Engine, options: &'static [&'static str], outputs: &'static [Output]) -> Row {
    let load = Load::Sdk { engine, options };
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
    row(
        "SDK on local:./directory, 500 events at a time, handled in batches",
        Engine::Directory,
        &["--mode", "batch"],
        &[HANDLED, CPU],
    ),
];
