//! The servers that are measured: started alone, on a free port of the loopback, with an empty directory of their own,
//! and ended with the value.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::servers::{Process, configure_rabbitmq, epmd, free_address, in_path, rabbitmq_binary};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// The null relay.
    Floor,
    Nats,
    RabbitMq,
    Leveret,
}

impl System {
    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Nats => "NATS",
            Self::RabbitMq => "RabbitMQ",
            Self::Leveret => "Leveret",
        }
    }

    /// Debian's package, if the server isn't on this machine.
    pub fn missing_package(self) -> Option<&'static str> {
        match self {
            Self::Nats if in_path("nats-server").is_none() => Some("nats-server"),
            Self::RabbitMq if rabbitmq_binary().is_none() => Some("rabbitmq-server"),
            _ => None,
        }
    }
}

/// Where the binaries are, and where servers may write.
pub struct Programs {
    release: PathBuf,
    data: PathBuf,
}

impl Programs {
    /// Those of a release build in Cargo's target directory.
    pub fn new(target: PathBuf) -> Self {
        Self { release: target.join("release"), data: target.join("bench") }
    }

    /// A binary of this repository.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.release.join(name)
    }

    /// `leveret bench`, with a JSON object as its result.
    pub fn bench(&self, server: &Server) -> Command {
        let mut command = with_many_files(&self.binary("leveret"));
        command.args(["bench", "--json", "--url", &format!("amqp://guest:guest@{}", server.address)]);
        command
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    /// From its start until it answered.
    pub start_time: Duration,
    process: Process,
    /// Erlang's port mapper, which RabbitMQ would otherwise leave behind as a daemon.
    _epmd: Option<Process>,
}

impl Server {
    /// Starts a server on an empty directory and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't; its output is in a log in its directory.
    pub fn start(programs: &Programs, system: System) -> Result<Self> {
        let address = free_address()?;
        let home = programs.data.join(system.name().to_lowercase());
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("cannot empty {}", home.display()))?;
        }
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let mut mapper = None;
        let mut command = match system {
            System::Floor => with_many_files(&programs.binary("null_relay")),
            System::Leveret => with_many_files(&programs.binary("leveret")),
            System::Nats => with_many_files(Path::new("nats-server")),
            System::RabbitMq => {
                let port = free_address()?.port();
                mapper = Some(spawn(&mut epmd(port), &home.join("epmd.log"))?);
                let mut command = with_many_files(&rabbitmq_binary().context("RabbitMQ isn't installed")?);
                configure_rabbitmq(&mut command, &home, address, port)?;
                command
            }
        };
        match system {
            System::Floor => command.args(["--listen", &address.to_string()]),
            System::Leveret => command.args(["serve", "--memory", "--amqp", &address.to_string()]),
            System::Nats => command.args(["-a", "127.0.0.1", "-p", &address.port().to_string()]),
            System::RabbitMq => &mut command,
        };
        let log = home.join("output.log");
        let start = Instant::now();
        let process = spawn(&mut command, &log)?;
        let mut server = Self { address, start_time: Duration::ZERO, process, _epmd: mapper };
        let patience = Duration::from_secs(if system == System::RabbitMq { 60 } else { 10 });
        while !server.answers(system == System::Nats) {
            if let Some(status) = server.process.ended()? {
                bail!("{} ended at once ({status}), see {}", system.name(), log.display());
            }
            if start.elapsed() > patience {
                bail!("{} didn't answer within {} s, see {}", system.name(), patience.as_secs(), log.display());
            }
            sleep(Duration::from_millis(1));
        }
        server.start_time = start.elapsed();
        Ok(server)
    }

    /// CPU seconds of the server and the processes it started.
    pub fn cpu_seconds(&self) -> Result<f64> {
        /// Of a clock tick as programs see it, on every Linux.
        const TICKS_PER_SECOND: f64 = 100.0;
        let ticks: u64 = self.processes()?.iter().map(|process| process.ticks).sum();
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Resident bytes of the server and the processes it started.
    pub fn memory(&self) -> Result<u64> {
        let mut total = 0;
        for process in self.processes()? {
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            total += kibibytes.unwrap_or(0) * 1024;
        }
        Ok(total)
    }

    /// The server and its descendants: RabbitMQ's start script isn't what does the work.
    fn processes(&self) -> Result<Vec<Measured>> {
        let mut others = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let name = entry?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                others.extend(Measured::read(pid));
            }
        }
        let mut family = Vec::new();
        let mut wanted = vec![self.process.id()];
        while let Some(pid) = wanted.pop() {
            wanted.extend(others.iter().filter(|process| process.parent == pid).map(|process| process.pid));
            family.extend(others.iter().find(|process| process.pid == pid).copied());
        }
        Ok(family)
    }

    /// NATS speaks first; an AMQP broker answers the protocol header. A port is often open before its server works.
    fn answers(&self, speaks_first: bool) -> bool {
        let second = Duration::from_secs(1);
        let Ok(mut stream) = TcpStream::connect_timeout(&self.address, second) else { return false };
        stream.set_read_timeout(Some(second)).is_ok()
            && (speaks_first || stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok())
            && stream.read_exact(&mut [0]).is_ok()
    }
}

#[derive(Clone, Copy)]
struct Measured {
    pid: u32,
    parent: u32,
    /// User and system time.
    ticks: u64,
}

impl Measured {
    /// `None` if it has ended.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; the parent is the 4th field, the times the 14th and 15th.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

/// A thousand connections need more files than a shell usually allows; what it may allow is asked for.
fn with_many_files(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""]).arg(program);
    command
}

fn spawn(command: &mut Command, log: &Path) -> Result<Process> {
    let log = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    Process::spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
}
