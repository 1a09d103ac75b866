//! The rows of the table: what is done, and the goals. A new row is a new literal.

use super::measure::Metric;
use super::server::System;

/// One load, and what is read off it.
pub struct Row {
    pub name: &'static str,
    pub load: Load,
    pub systems: &'static [System],
    pub outputs: &'static [Output],
}

/// What is done to a server.
pub enum Load {
    /// `leveret bench` with these options, for as long as the command line says.
    Bench(&'static [&'static str]),
    /// The same for nats-server, with bodies of `size` bytes, and `leveret bench` for all others.
    BenchAndNats { options: &'static [&'static str], size: usize },
    /// So many messages published with these options and nobody consuming, and then consumed.
    Backlog { count: u64, options: &'static [&'static str] },
    /// So many connections with a channel each.
    Idle { connections: usize },
    /// Only a start.
    Start,
}

/// One line of the table.
pub struct Output {
    pub label: &'static str,
    pub metric: Metric,
    pub unit: &'static str,
    pub better: Better,
    /// What Leveret should reach on the reference machine, and what the null relay
    /// reached there.
    pub goal: Option<f64>,
    pub design_floor: Option<f64>,
    /// Whether a goal without a floor of its own depends on how fast the machine is. Memory doesn't.
    pub scaled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

use Better::{Higher, Lower};
use System::{Floor, Leveret, Nats, RabbitMq};

/// The row that tells how fast this machine is, for all goals that have no floor of their own: its name, what is
/// compared, and what the null relay reached where the goals were set.
pub const REFERENCE: (&str, Metric, f64) = ("16 B, auto-ack", Metric::ConsumeRate, 23.5e6);

const BROKERS: &[System] = &[RabbitMq, Leveret];
const BROKERS_AND_FLOOR: &[System] = &[Floor, RabbitMq, Leveret];
const ALL: &[System] = &[Floor, Nats, RabbitMq, Leveret];

const RATE: Output = Output {
    label: "",
    metric: Metric::ConsumeRate,
    unit: "msg/s",
    better: Higher,
    goal: None,
    design_floor: None,
    scaled: true,
};

const CPU: Output = Output {
    label: "server CPU",
    metric: Metric::CpuPerMessage,
    unit: "us/msg",
    better: Lower,
    goal: None,
    design_floor: None,
    scaled: true,
};

/// The transient rows.
pub const ROWS: &[Row] = &[
    Row {
        name: REFERENCE.0,
        load: Load::BenchAndNats { options: &["--size", "16"], size: 16 },
        systems: ALL,
        outputs: &[
            Output { goal: Some(7e6), design_floor: Some(REFERENCE.2), ..RATE },
            Output { goal: Some(0.14), design_floor: Some(0.04), ..CPU },
        ],
    },
    Row {
        name: "1 KiB, auto-ack",
        load: Load::BenchAndNats { options: &["--size", "1024"], size: 1024 },
        systems: ALL,
        outputs: &[Output { goal: Some(1.5e6), design_floor: Some(2.6e6), ..RATE }],
    },
    Row {
        name: "16 B, ack each 50",
        load: Load::Bench(&["--size", "16", "--ack", "50", "--prefetch", "1000"]),
        systems: BROKERS_AND_FLOOR,
        outputs: &[Output { goal: Some(4e6), design_floor: Some(12e6), ..RATE }],
    },
    Row {
        name: "fan-out to 10 queues, 128 B",
        load: Load::Bench(&["--fan-out", "10", "--size", "128"]),
        systems: BROKERS,
        outputs: &[Output { label: "deliveries", goal: Some(6e6), ..RATE }],
    },
    Row {
        name: "100 queues, 10 producers, 100 consumers, 16 B",
        load: Load::Bench(&["--queues", "100", "--producers", "10", "--consumers", "100"]),
        systems: BROKERS,
        outputs: &[Output { goal: Some(5e6), ..RATE }],
    },
    Row {
        name: "1000 msg/s, 128 B",
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
    },
    Row {
        name: "topic, 10000 random keys, 16 B to 4 KiB, 3 headers",
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
    },
    Row {
        name: "two consumers on one queue, 16 B",
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
                scaled: false,
                ..RATE
            },
        ],
    },
    Row {
        name: "idle connection with a channel",
        load: Load::Idle { connections: 1000 },
        systems: BROKERS,
        outputs: &[Output {
            label: "memory",
            metric: Metric::IdleMemory,
            unit: "KiB",
            better: Lower,
            goal: Some(8.0),
            scaled: false,
            ..RATE
        }],
    },
    Row {
        name: "backlog of 5 M, 16 B",
        load: Load::Backlog { count: 5_000_000, options: &["--size", "16"] },
        systems: BROKERS,
        outputs: &[
            Output { label: "fill", metric: Metric::FillRate, goal: Some(5e6), ..RATE },
            Output { label: "drain", metric: Metric::DrainRate, goal: Some(5e6), ..RATE },
            Output {
                label: "memory of a message",
                metric: Metric::BacklogMemory,
                unit: "B",
                better: Lower,
                scaled: false,
                ..RATE
            },
        ],
    },
    Row {
        name: "from exec to listening",
        load: Load::Start,
        systems: BROKERS,
        outputs: &[Output { metric: Metric::StartTime, unit: "ms", better: Lower, goal: Some(20.0), ..RATE }],
    },
];

impl Row {
    /// Whether there is a cell for this system.
    pub fn runs_on(&self, system: System) -> bool {
        self.systems.contains(&system)
    }

    /// Filling RabbitMQ takes minutes, starting it takes seconds: once is enough.
    pub fn once_on(&self, system: System) -> bool {
        system == RabbitMq && matches!(self.load, Load::Backlog { .. } | Load::Start)
    }
}

impl Output {
    /// A value of this output, as the table shows it.
    pub fn show(&self, value: f64) -> String {
        match value {
            value if value >= 1e6 => format!("{:.2} M", value / 1e6),
            value if value >= 1e4 => format!("{:.0} k", value / 1e3),
            value if value >= 100.0 => format!("{value:.0}"),
            value if value >= 10.0 => format!("{value:.1}"),
            value => format!("{value:.2}"),
        }
    }
}
