//! Brokers to be judged, started for the occasion and gone afterwards: other ports, data directories of their own.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Layout;
use crate::process::{Group, checked};

/// Where Debian puts the start script that reads its settings from the environment. The one on the PATH changes the
/// user and drops the environment.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A broker that runs until this is dropped.
#[derive(Debug)]
pub struct Started {
    /// `amqp://guest:guest@127.0.0.1:port`
    pub url: String,
    // Dropped in this order: the broker before the port mapper that it is registered with.
    _broker: Group,
    _port_mapper: Option<Group>,
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until something accepts connections on the port.
fn wait_for(port: u16, broker: &mut Group, patience: Duration, log: &Path) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        if let Some(code) = broker.ended() {
            bail!("it ended with {code:?} before it listened on port {port}; see {}", log.display());
        }
        if Instant::now() > deadline {
            bail!("nothing listens on port {port} after {} s; see {}", patience.as_secs(), log.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn empty_directory(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Whether Debian's RabbitMQ is installed.
pub fn has_rabbitmq() -> bool {
    Path::new(RABBITMQ).exists()
}

/// Installs Debian's RabbitMQ.
///
/// # Errors
/// What apt-get printed; it needs to be root.
pub fn install_rabbitmq() -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args([
        "install",
        "--yes",
        "--no-install-recommends",
        "rabbitmq-server",
    ]);
    checked(&mut apt).context("apt-get install rabbitmq-server as root would do it")?;
    Ok(())
}

/// Starts Debian's RabbitMQ with an empty data directory, on the loopback only.
///
/// # Errors
/// If it isn't installed or doesn't listen within a minute.
pub fn start_rabbitmq(layout: &Layout) -> Result<Started> {
    if !has_rabbitmq() {
        bail!("rabbitmq-server is not installed");
    }
    let home = layout.installed("rabbitmq-data");
    empty_directory(&home)?;
    let (port, mapper_port, distribution_port) = (free_port()?, free_port()?, free_port()?);
    let config = home.join("rabbitmq.conf");
    fs::write(&config, format!("listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users.guest = false\n"))?;
    let log = home.join("out.log");
    // Erlang would start its port mapper as a daemon that outlives everybody, so it is started here, as a child.
    let mut mapper = Command::new("epmd");
    mapper
        .args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut mapper = Group::spawn(&mut mapper)?;
    wait_for(mapper_port, &mut mapper, Duration::from_secs(10), &log).context("starting Erlang's port mapper")?;
    let out = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(RABBITMQ);
    command
        .env("HOME", &home)
        .env("RABBITMQ_NODENAME", format!("interop{port}@localhost"))
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", home.join("log"))
        .env("RABBITMQ_CONFIG_FILE", &config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
        .stdout(out.try_clone()?)
        .stderr(out);
    let mut broker = Group::spawn(&mut command)?;
    wait_for(port, &mut broker, Duration::from_secs(60), &log).context("starting RabbitMQ")?;
    Ok(Started { url: format!("amqp://guest:guest@127.0.0.1:{port}"), _broker: broker, _port_mapper: Some(mapper) })
}

/// Starts a `leveret` executable, in memory, on a free port.
///
/// # Errors
/// If it doesn't listen within ten seconds.
pub fn start_leveret(layout: &Layout, binary: &Path) -> Result<Started> {
    let port = free_port()?;
    let arguments = ["--http", "none", "--memory"].map(OsStr::new);
    leveret(binary, port, &arguments, &layout.installed("leveret.log"))
}

/// A broker with its management API.
#[derive(Debug)]
pub struct Managed {
    /// The broker.
    pub started: Started,
    /// `http://127.0.0.1:port`
    pub http: String,
}

/// Starts a `leveret` executable with its management API, durable in a directory of this name: on free ports, or where
/// every program looks first.
///
/// # Errors
/// If a port is taken, or it doesn't listen within ten seconds.
pub fn start_managed(layout: &Layout, binary: &Path, name: &str, default_ports: bool) -> Result<Managed> {
    let [amqp, http] = if default_ports { DEFAULT_PORTS } else { [free_port()?, free_port()?] };
    for port in [amqp, http] {
        TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("{name} needs port {port}, which is taken"))?;
    }
    let home = layout.installed("tools-data").join(name);
    empty_directory(&home)?;
    let (data, address) = (home.join("data"), format!("127.0.0.1:{http}"));
    let arguments = ["--http".as_ref(), address.as_ref(), "--data-dir".as_ref(), data.as_os_str()];
    let started = leveret(binary, amqp, &arguments, &home.join("leveret.log"))?;
    Ok(Managed { started, http: format!("http://{address}") })
}

/// Where AMQP and RabbitMQ's management API are unless somebody says otherwise.
const DEFAULT_PORTS: [u16; 2] = [5672, 15672];

fn leveret(binary: &Path, port: u16, arguments: &[&OsStr], log: &Path) -> Result<Started> {
    let out = fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(binary);
    command.args(["serve", "--amqp", &format!("127.0.0.1:{port}")]).args(arguments);
    command.stdout(out.try_clone()?).stderr(out);
    let mut broker = Group::spawn(&mut command)?;
    wait_for(port, &mut broker, Duration::from_secs(10), log).context("starting Leveret")?;
    Ok(Started { url: format!("amqp://guest:guest@127.0.0.1:{port}"), _broker: broker, _port_mapper: None })
}
