//! The servers that are measured: started alone, on a free port of the loopback, with an empty directory of their own,
//! and ended with the value.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::disk::Written;
use super::family::Family;
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

    /// An empty directory for data.
    pub fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.data.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
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
    system: System,
    /// What it writes is below.
    home: PathBuf,
    process: Process,
    /// Erlang's port mapper, which RabbitMQ would otherwise leave behind as a daemon.
    _epmd: Option<Process>,
}

impl Server {
    /// Starts a server on an empty directory and waits until it answers. If it is to be `durable`, the null relay
    /// flushes what it confirms to the disk; the others do so whenever they are asked to, by persistent messages.
    ///
    /// # Errors
    /// When it doesn't; its output is in a log in its directory.
    pub fn start(programs: &Programs, system: System, durable: bool) -> Result<Self> {
        let address = free_address()?;
        let home = programs.data.join(system.name().to_lowercase());
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("cannot empty {}", home.display()))?;
        }
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let mut mapper = None;
        let command = match system {
            System::Floor => {
                let mut command = with_many_files(&programs.binary("null_relay"));
                command.args(["--listen", &address.to_string()]);
                if durable {
                    command.arg("--sync").arg(home.join("log"));
                }
                command
            }
            System::Leveret => leveret(programs, &home, address),
            System::Nats => {
                let mut command = with_many_files(Path::new("nats-server"));
                command.args(["-a", "127.0.0.1", "-p", &address.port().to_string()]);
                command
            }
            System::RabbitMq => {
                let port = free_address()?.port();
                mapper = Some(spawn(&mut epmd(port), &home.join("epmd.log"))?);
                let mut command = with_many_files(&rabbitmq_binary().context("RabbitMQ isn't installed")?);
                configure_rabbitmq(&mut command, &home, address, port)?;
                command
            }
        };
        Self::answering(command, system, address, home, mapper)
    }

    /// Kills Leveret without a warning, lets `meanwhile` happen, and starts it on what is left. Its clients have to go
    /// first, or be expected to fail.
    ///
    /// # Errors
    /// When it doesn't answer again.
    pub fn restart(mut self, programs: &Programs, meanwhile: impl FnOnce()) -> Result<Self> {
        ensure!(self.system == System::Leveret, "only Leveret is killed and started again");
        // The shell's own `kill` is everywhere, and spares an unsafe call.
        Command::new("sh").args(["-c", &format!("kill -KILL {}", self.process.id())]).status()?;
        self.process.wait(Duration::from_secs(10))?;
        meanwhile();
        let command = leveret(programs, &self.home, self.address);
        Self::answering(command, self.system, self.address, self.home, None)
    }

    fn answering(
        mut command: Command,
        system: System,
        address: SocketAddr,
        home: PathBuf,
        mapper: Option<Process>,
    ) -> Result<Self> {
        let log = home.join("output.log");
        let start = Instant::now();
        let process = spawn(&mut command, &log)?;
        let mut server = Self { address, start_time: Duration::ZERO, system, home, process, _epmd: mapper };
        let patience = Duration::from_secs(60);
        while !server.answers() {
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

    /// The server and the processes it started, as they are now.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn family(&self) -> Result<Family> {
        Family::of(self.process.id())
    }

    /// What the server has written to the disk until now.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn written(&self) -> Result<Written> {
        Ok(Written::now(self.family()?.written(), &self.home))
    }

    /// On the disk that the server writes to.
    pub fn directory(&self) -> &Path {
        &self.home
    }

    /// Waits until the server has written nothing for as long as `quiet`, for half a minute at most: servers prepare
    /// files after their start, and tidy up after a load.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn settle(&self, quiet: Duration) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let (mut written, mut since) = (self.family()?.written(), Instant::now());
        while since.elapsed() < quiet && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
            let now = self.family()?.written();
            if now != written {
                (written, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// NATS speaks first; an AMQP broker answers the protocol header. A port is often open before its server works.
    fn answers(&self) -> bool {
        let second = Duration::from_secs(1);
        let Ok(mut stream) = TcpStream::connect_timeout(&self.address, second) else { return false };
        stream.set_read_timeout(Some(second)).is_ok()
            && (self.system == System::Nats || stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok())
            && stream.read_exact(&mut [0]).is_ok()
    }
}

/// As a user starts it, on a directory of its own.
fn leveret(programs: &Programs, home: &Path, address: SocketAddr) -> Command {
    let mut command = with_many_files(&programs.binary("leveret"));
    command
        .args(["serve", "--http", "127.0.0.1:0", "--amqp", &address.to_string(), "--data-dir"])
        .arg(home.join("data"));
    command
}

/// A thousand connections need more files than a shell usually allows; what it may allow is asked for.
fn with_many_files(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""]).arg(program);
    command
}

fn spawn(command: &mut Command, log: &Path) -> Result<Process> {
    let open = File::options().create(true).append(true).open(log);
    let log = open.with_context(|| format!("cannot write {}", log.display()))?;
    Process::spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
}
