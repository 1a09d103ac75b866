//! What the kernel knows of a server and the processes it started.

use std::fs;

use anyhow::{Context, Result};

/// A process and its descendants: RabbitMQ's start script isn't what does the work.
pub struct Family {
    members: Vec<Member>,
}

impl Family {
    /// Those that live now.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn of(process: u32) -> Result<Self> {
        let mut others = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let name = entry?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                others.extend(Member::read(pid));
            }
        }
        let mut members = Vec::new();
        let mut wanted = vec![process];
        while let Some(pid) = wanted.pop() {
            wanted.extend(others.iter().filter(|process| process.parent == pid).map(|process| process.pid));
            members.extend(others.iter().find(|process| process.pid == pid).copied());
        }
        Ok(Self { members })
    }

    /// Seconds of CPU, in user and system mode.
    pub fn cpu_seconds(&self) -> f64 {
        /// Of a clock tick as programs see it, on every Linux.
        const TICKS_PER_SECOND: f64 = 100.0;
        self.members.iter().map(|process| process.ticks).sum::<u64>() as f64 / TICKS_PER_SECOND
    }

    /// Resident bytes.
    pub fn memory(&self) -> u64 {
        self.sum("status", "VmRSS:") * 1024
    }

    /// Resident bytes that no file stands behind: what a server can't be asked to give back.
    pub fn anonymous_memory(&self) -> u64 {
        self.sum("status", "RssAnon:") * 1024
    }

    /// Bytes that the kernel accounts to them as written to a disk.
    pub fn written(&self) -> u64 {
        self.sum("io", "write_bytes:")
    }

    /// A number in one of the files of /proc that have a name and a value on each line. A process that has just ended
    /// counts nothing.
    fn sum(&self, file: &str, name: &str) -> u64 {
        let value = |process: &Member| {
            let text = fs::read_to_string(format!("/proc/{}/{file}", process.pid)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok()
        };
        self.members.iter().filter_map(value).sum()
    }
}

#[derive(Clone, Copy)]
struct Member {
    pid: u32,
    parent: u32,
    /// User and system time.
    ticks: u64,
}

impl Member {
    /// `None` if it has ended.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; the parent is the 4th field, the times the 14th and 15th.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, ticks })
    }
}
