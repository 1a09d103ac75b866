//! The rows of the table: what is done, and the goals. A new row is a new literal.

mod durable;
mod rules;
mod sdk;
mod transient;

use super::measure::Metric;
use super::server::System;

/// One load, and what is read off it.
pub struct Row {
    pub name: &'static str,
    pub group: Group,
    pub load: Load,
    pub systems: &'static [System],
    pub outputs: &'static [Output],
    /// Measured once whatever the command line says: it takes long, and moves so much that noise evens out.
    pub once: bool,
}

/// What a row is about, as `--rows` selects it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Nothing is kept on the disk.
    Transient,
    /// What is confirmed is on the disk.
    Persistent,
    /// A queue that grows with nobody consuming, on the disk.
    Backlog,
    /// From the start of a process until it listens.
    Start,
    /// Queues with rules, beside plain ones.
    Rules,
    /// Topics and subscriptions of the SDK.
    Sdk,
}

impl Group {
    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Persistent => "persistent",
            Self::Backlog => "backlog",
            Self::Start => "start",
            Self::Rules => "rules",
            Self::Sdk => "sdk",
        }
    }
}

/// What is done to a server. Options are those of `leveret bench`.
pub enum Load {
    /// For as long as the command line says.
    Bench(&'static [&'static str]),
    /// The same for nats-server, with bodies of `size` bytes, and `leveret bench` for all others.
    BenchAndNats { options: &'static [&'static str], size: usize },
    /// The same twice: alone, and while somebody else does what `loud` says.
    Beside { options: &'static [&'static str], loud: &'static [&'static str] },
    /// The same twice: as `plain` says, and with what `rule` adds.
    Against { plain: &'static [&'static str], rule: &'static [&'static str] },
    /// Messages published with nobody consuming, and then consumed.
    Backlog(Backlog),
    /// So many messages that wait for their time when the load ends.
    Delayed { count: u64, options: &'static [&'static str] },
    /// Events of the SDK, with the options of `sdk_bench`, and what they are compared with.
    Sdk { engine: Engine, options: &'static [&'static str], beside: Option<Peer> },
    /// So many connections with a channel each.
    Idle { connections: usize },
    /// Only a start.
    Start,
    /// A start after being killed under this load.
    StartAfterKill(&'static [&'static str]),
}

/// What the SDK runs on.
#[derive(Clone, Copy)]
pub enum Engine {
    /// The broker in its process, in memory.
    Memory,
    /// The same, with what is confirmed on the disk.
    Directory,
    /// The server, over AMQP.
    Amqp,
}

/// What the SDK is compared with in the same run.
#[derive(Clone, Copy)]
pub enum Peer {
    /// `leveret bench` with these options: the rate.
    Bench(&'static [&'static str]),
    /// The same load by lapin alone: the CPU.
    Lapin,
}

/// Messages published with nobody consuming, and then consumed.
#[derive(Clone, Copy)]
pub struct Backlog {
    pub count: u64,
    /// What RabbitMQ is given instead: at its rates more would only take longer.
    pub count_on_rabbitmq: u64,
    /// Queues that get each message.
    pub copies: u64,
    pub options: &'static [&'static str],
    /// Further options for publishing.
    pub fill: &'static [&'static str],
    /// Further options for consuming.
    pub drain: &'static [&'static str],
    /// Whether the server is killed and started again in between, with nothing of the disk in the kernel's cache.
    pub restart: bool,
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
    /// How a goal without a floor of its own follows this machine's speed.
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// What tells how fast this machine is beside the one the goals were set on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The floor of [`REFERENCE`].
    Processor,
    /// The floor of [`DISK_REFERENCE`].
    Disk,
    /// Nothing does: the goal is the same on all machines, as memory is.
    Fixed,
}

use Better::{Higher, Lower};
use System::{Floor, Leveret, Nats, RabbitMq};

/// A row whose floor tells how fast a machine is: its name, what is compared, and what the null relay reached where the
/// goals were set.
pub type Reference = (&'static str, Metric, f64);
/// For all goals that have no floor of their own and depend on the processor.
pub const REFERENCE: Reference = ("16 B, auto-ack", Metric::ConsumeRate, 23.5e6);
/// For those that depend on the disk.
pub const DISK_REFERENCE: Reference = ("16 B, persistent, confirm window 1000", Metric::ConfirmRate, 3.8e6);

const LEVERET: &[System] = &[Leveret];
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
    scale: Scale::Processor,
};

const CPU: Output =
    Output { label: "server CPU", metric: Metric::CpuPerMessage, unit: "us/msg", better: Lower, ..RATE };

/// All rows, in the table's order.
pub fn all() -> impl Iterator<Item = &'static Row> {
    transient::ROWS.iter().chain(durable::ROWS).chain(rules::ROWS).chain(sdk::ROWS)
}

impl Row {
    /// Whether `--rows` selects it: by its group, or by a part of its name.
    pub fn is_called(&self, text: &str) -> bool {
        self.group.name() == text || self.name.contains(text)
    }

    /// Whether there is a cell for this system.
    pub fn runs_on(&self, system: System) -> bool {
        self.systems.contains(&system)
    }

    /// Filling RabbitMQ takes minutes, starting it takes seconds: once is enough.
    pub fn once_on(&self, system: System) -> bool {
        self.once || system == RabbitMq && matches!(self.load, Load::Backlog(_) | Load::Start)
    }

    /// Whether what is confirmed has to be on the disk.
    pub fn durable(&self) -> bool {
        self.group != Group::Transient
    }

    /// Whether it has a line for this.
    pub fn shows(&self, metric: Metric) -> bool {
        self.outputs.iter().any(|output| output.metric == metric)
    }
}

impl Output {
    /// Whether its goal is scaled by this.
    pub fn follows(&self, scale: Scale) -> bool {
        self.goal.is_some() && self.design_floor.is_none() && self.scale == scale
    }

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
