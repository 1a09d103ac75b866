//! The results, for people and for machines.

use std::fmt::Write;
use std::fs;
use std::thread::available_parallelism;

use anyhow::Result;
use serde::Serialize;

use super::Outcome;
use super::measure::Metric;
use super::rows::{Better, Output, Row, Scale};
use super::server::System;

/// Where the numbers are from.
#[derive(Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    load_at_start: String,
}

impl Machine {
    /// This one, now. What /proc doesn't say stays empty.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
            .unwrap_or_default();
        let load = read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        Self {
            cores: available_parallelism().map_or(0, usize::from),
            processor,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_at_start: load,
        }
    }
}

/// One line of the table.
#[derive(Serialize)]
pub struct Line {
    name: String,
    unit: &'static str,
    /// In the order of the columns: floor, NATS, RabbitMQ, Leveret.
    values: [Option<f64>; 4],
    shown: [String; 4],
    /// On the reference machine.
    goal: Option<f64>,
    shown_goal: String,
    /// As it would be on this machine today.
    scaled_goal: Option<f64>,
    shown_scaled_goal: String,
    /// 1 or more is reached, whether higher or lower is better.
    reached: Option<f64>,
    /// Of Leveret in this row.
    server_cpu_us_per_message: Option<f64>,
}

const SYSTEMS: [System; 4] = [System::Floor, System::Nats, System::RabbitMq, System::Leveret];

/// How fast this machine is beside the one the goals were set on, as far as that is known.
#[derive(Clone, Copy)]
pub struct Speed {
    pub processor: Option<f64>,
    pub disk: Option<f64>,
}

/// The lines of all rows.
pub fn lines(rows: &[&Row], outcomes: &[Outcome], speed: Speed) -> Vec<Line> {
    let mut lines = Vec::new();
    for (row, outcome) in rows.iter().zip(outcomes) {
        for output in row.outputs {
            let value = |system| outcome.samples.get(&system)?.get(&output.metric).copied();
            let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| output.show(value));
            let values = SYSTEMS.map(value);
            let scaled_goal = scaled_goal(output, value(System::Floor), speed);
            let reached = scaled_goal.zip(value(System::Leveret)).map(|(goal, value)| match output.better {
                Better::Higher => value / goal,
                Better::Lower => goal / value,
            });
            let leveret = outcome.samples.get(&System::Leveret);
            lines.push(Line {
                name: [row.name, output.label].join(if output.label.is_empty() { "" } else { ": " }),
                unit: output.unit,
                values,
                shown: values.map(shown),
                goal: output.goal,
                shown_goal: shown(output.goal),
                scaled_goal,
                shown_scaled_goal: shown(scaled_goal),
                reached,
                server_cpu_us_per_message: leveret.and_then(|sample| sample.get(&Metric::CpuPerMessage).copied()),
            });
        }
    }
    lines
}

fn scaled_goal(output: &Output, floor: Option<f64>, speed: Speed) -> Option<f64> {
    let goal = output.goal?;
    let speed = match (output.design_floor, output.scale) {
        (Some(design), _) => return Some(goal * floor? / design),
        (None, Scale::Fixed) => return Some(goal),
        (None, Scale::Processor) => speed.processor?,
        (None, Scale::Disk) => speed.disk?,
    };
    Some(match output.better {
        Better::Higher => goal * speed,
        Better::Lower => goal / speed,
    })
}

/// The table, as Markdown.
pub fn render(machine: &Machine, lines: &[Line]) -> String {
    let mut rows = vec![
        ["", "floor", "NATS", "RabbitMQ", "Leveret", "goal", "goal here", "reached", "CPU us/msg"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for line in lines {
        let mut cells = vec![format!("{}, {}", line.name, line.unit)];
        cells.extend(line.shown.iter().cloned());
        cells.extend([line.shown_goal.clone(), line.shown_scaled_goal.clone()]);
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        cells.extend([number(line.reached), number(line.server_cpu_us_per_message)]);
        rows.push(cells);
    }
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Writing to a String can't fail.
            let _ = if column == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if i == 0 {
            let rule = widths.iter().enumerate().map(|(column, width)| match column {
                0 => format!("|{}", "-".repeat(width + 2)),
                _ => format!("|{}:", "-".repeat(width + 1)),
            });
            text.push_str(&rule.collect::<String>());
            text.push_str("|\n");
        }
    }
    let Machine { cores, processor, kernel, load_at_start } = machine;
    let _ = write!(
        text,
        "\n{cores} cores ({processor}), Linux {kernel}, load at start {load_at_start}.\n\
         goal: set for a reference machine; goal here: the same by what the floor reaches here; reached: 1 and more is good, whatever\n\
         the unit; CPU us/msg: Leveret's, in user and system mode, per message delivered."
    );
    text
}

/// All that is known, for later comparison.
///
/// # Errors
/// None that can be expected: it is a table of numbers.
pub fn json(machine: &Machine, lines: &[Line], rows: &[&Row], outcomes: &[Outcome]) -> Result<String> {
    let mut metrics = serde_json::Map::new();
    for (row, outcome) in rows.iter().zip(outcomes) {
        let mut systems = serde_json::Map::new();
        for (system, sample) in &outcome.samples {
            let values: serde_json::Map<_, _> =
                sample.iter().map(|(metric, value)| (format!("{metric:?}"), (*value).into())).collect();
            systems.insert(system.name().to_owned(), values.into());
        }
        metrics.insert(row.name.to_owned(), systems.into());
    }
    Ok(serde_json::to_string_pretty(&serde_json::json!({ "machine": machine, "lines": lines, "metrics": metrics }))?)
}
