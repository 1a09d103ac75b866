//! Brokers as child processes: started on a free port of the loopback with directories of their own, and stopped with
//! the value. Nothing of the machine's own configuration or data is used or touched.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::parts::Run;

/// A broker that runs until it is stopped or dropped.
pub struct Broker {
    name: &'static str,
    process: Process,
    address: SocketAddr,
    /// Where its management API listens, if it does.
    http: Option<SocketAddr>,
    /// Erlang's port mapper, which RabbitMQ would otherwise leave behind as a daemon.
    _epmd: Option<Process>,
}

impl Broker {
    /// Starts this repository's broker. Its output is in the part's log.
    pub fn leveret(run: &Run, binary: &Path) -> Result<Broker> {
        let address = free_address()?;
        let mut command = Command::new(binary);
        command.args(["serve", "--http", "none", "--memory", "--amqp", &address.to_string()]);
        let process = Process::start(run, &mut command)?;
        Broker { name: "Leveret", process, address, http: None, _epmd: None }.ready(Duration::from_secs(10))
    }

    /// Starts it with its management API, durable in this directory.
    pub fn managed(run: &Run, binary: &Path, data: &Path) -> Result<Broker> {
        let (address, http) = (free_address()?, free_address()?);
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data-dir").arg(data);
        command.args(["--amqp", &address.to_string(), "--http", &http.to_string()]);
        let process = Process::start(run, &mut command)?;
        Broker { name: "Leveret", process, address, http: Some(http), _epmd: None }.ready(Duration::from_secs(10))
    }

    /// Starts the RabbitMQ that is installed on this machine, on an empty database.
    pub fn rabbitmq(run: &Run, binary: &Path) -> Result<Broker> {
        let address = free_address()?;
        let home = run.fresh_directory("rabbitmq")?;
        let epmd_port = free_address()?.port();
        let epmd = Process::start(run, &mut epmd(epmd_port))?;
        let mut command = Command::new(binary);
        configure_rabbitmq(&mut command, &home, address, epmd_port)?;
        let process = Process::start(run, &mut command)?;
        Broker { name: "RabbitMQ", process, address, http: None, _epmd: Some(epmd) }.ready(Duration::from_secs(60))
    }

    /// Where clients connect, as guest.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}", self.address)
    }

    /// Where browsers go; empty without a management API.
    pub fn http_url(&self) -> String {
        self.http.map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// Where it listens on the loopback.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Stops it as an operator does, with SIGTERM; it must say goodbye and exit with 0.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(Duration::from_secs(30))?;
        if !status.success() {
            bail!("{} did not stop cleanly after SIGTERM: {status}", self.name);
        }
        Ok(())
    }

    /// Waits until it answers the protocol's greeting, which is later than when its port is open.
    fn ready(mut self, patience: Duration) -> Result<Broker> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.process.child.try_wait()? {
                bail!("{} ended at once ({status}); its output is in the log", self.name);
            }
            if greets(self.address) {
                return Ok(self);
            }
            sleep(Duration::from_millis(50));
        }
        bail!("{} did not answer on {} within {} s", self.name, self.address, patience.as_secs());
    }
}

/// Erlang's port mapper on a port of its own: RabbitMQ would otherwise start one and leave it behind as a daemon.
pub fn epmd(port: u16) -> Command {
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    command
}

/// Has RabbitMQ listen on `address` and keep everything below `home`, whatever the machine's own configuration is.
pub fn configure_rabbitmq(command: &mut Command, home: &Path, address: SocketAddr, epmd_port: u16) -> Result<()> {
    let plugins = home.join("enabled_plugins");
    fs::write(&plugins, "[].")?;
    command
        .env("HOME", home)
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_NODENAME", format!("leveret-{}@localhost", address.port()))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", address.port().to_string())
        .env("RABBITMQ_DIST_PORT", free_address()?.port().to_string())
        .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", home.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"));
    Ok(())
}

/// RabbitMQ's own start script. Debian's wrapper in /usr/sbin changes the user, so that is the second choice.
pub fn rabbitmq_binary() -> Option<PathBuf> {
    let packaged = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    packaged.exists().then_some(packaged).or_else(|| in_path("rabbitmq-server"))
}

/// The first executable of that name in `PATH`.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A child process that doesn't outlive its owner.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn start(run: &Run, command: &mut Command) -> Result<Process> {
        run.note(&format!("$ {command:?} &"))?;
        command.stdin(Stdio::null()).stdout(run.log()?).stderr(run.log()?);
        Process::spawn(command)
    }

    /// Starts a command whose input and output the caller has arranged.
    pub fn spawn(command: &mut Command) -> Result<Process> {
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Process { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends SIGTERM and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // The shell's own `kill` is everywhere, and spares an unsafe call.
        Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status()?;
        self.wait(patience)
    }

    /// Waits for its own end; who is still there after `patience` is killed, and the status tells.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already on the way out: there is nobody left to tell.
        let _ = self.terminate(Duration::from_secs(10));
    }
}

/// The kernel's choice of a free port. Another process could take it before its user does; none here does.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback")?;
    Ok(listener.local_addr()?)
}

/// Whether an AMQP 0-9-1 broker answers the protocol header with a method frame.
fn greets(address: SocketAddr) -> bool {
    const METHOD_FRAME: u8 = 1;
    let second = Duration::from_secs(1);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, second) else { return false };
    let mut first = [0];
    stream.set_read_timeout(Some(second)).is_ok()
        && stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok()
        && stream.read_exact(&mut first).is_ok()
        && first[0] == METHOD_FRAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_and_told_from_one_that_obeys() {
        let shell =
            |script: &str| Process::spawn(Command::new("sh").args(["-c", script]).stdin(Stdio::null())).unwrap();
        let mut obeys = shell("trap 'exit 0' TERM; while :; do sleep 0.05; done");
        let mut ignores = shell("trap '' TERM; while :; do sleep 0.05; done");
        // Both need a moment to set their traps.
        sleep(Duration::from_millis(300));
        assert!(obeys.terminate(Duration::from_secs(5)).unwrap().success());
        assert!(!ignores.terminate(Duration::from_millis(100)).unwrap().success());
    }

    #[test]
    fn only_a_broker_greets() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |byte: u8| {
            let listener = listener.try_clone().unwrap();
            let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(&[byte]).unwrap());
            let greeted = greets(address);
            server.join().unwrap();
            greeted
        };
        assert!(answer(1));
        assert!(!answer(b'H'));
    }
}
