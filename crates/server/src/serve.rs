//! `leveret serve`: from the command line to a running broker, and down again.

mod data;

use anyhow::{Context, Result, bail};
use clap::Args;
use data::DataArgs;
use leveret_broker::{Broker, Environment, Limits};
use leveret_server::{FRAME_MIN, Server, ServerLimits, Users, definitions, serve_amqp, serve_http, serve_metrics};
use leveret_wire::table;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// How often memory that has become free is looked for, and damage.
const LOOK: Duration = Duration::from_millis(100);

/// How long connections may take to answer connection.close.
const DRAIN: Duration = Duration::from_secs(5);

/// Bytes of messages that have to be gone before their memory is worth giving back.
const TRIM: u64 = 64 * 1024 * 1024;

/// Every so many looks, memory that is not counted is looked at. While the broker has little to do it may have grown by
/// so many bytes, and by [`TRIM`] otherwise: what is given back while messages flow is needed again at once.
const TRIM_TICKS: u32 = 10;
const TRIM_GROWTH: u64 = 8 * 1024 * 1024;

/// The broker has little to do if it has used less than this of a processor's time since the last such look; in hundredths
/// of a second, which is the kernel's unit.
const LITTLE: u64 = 20;

/// Without another hint, the limit on messages in memory is this part of the machine's memory.
const MEMORY_PERCENT: u64 = 40;

/// Options of the broker.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Listen for AMQP here; a host name stands for all its addresses
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:5672")]
    amqp: String,
    /// Listen for management here: RabbitMQ's HTTP API and the dashboard; or none
    #[arg(long, value_name = "HOST:PORT|none", default_value = "127.0.0.1:15672")]
    http: String,
    /// Serve metrics for Prometheus here, without a login, as RabbitMQ does on port 15692; or none: the management port
    /// has them with a login, at /metrics
    #[arg(long, value_name = "HOST:PORT|none", default_value = "none")]
    metrics: String,
    #[command(flatten)]
    data: DataArgs,
    /// Users, permissions and virtual hosts in RabbitMQ's JSON format, added to those that are kept. A new broker
    /// without users has guest with the password guest, from this machine only
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// Bytes of messages in memory above which publishers are blocked [default: 40 % of the machine's memory]
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    max_memory: Option<u64>,
    /// Largest message body in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_message_size, help_heading = "Limits",
          value_parser = clap::value_parser!(u64).range(1..=512 * 1024 * 1024))]
    max_message_size: u64,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().max_connections, help_heading = "Limits")]
    max_connections: usize,
    /// Queues per virtual host
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_queues, help_heading = "Limits")]
    max_queues: usize,
    /// Exchanges per virtual host
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_exchanges, help_heading = "Limits")]
    max_exchanges: usize,
    /// Bindings per virtual host
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_bindings, help_heading = "Limits")]
    max_bindings: usize,
    /// Producers whose last sequence is remembered, per virtual host
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_producers, help_heading = "Limits")]
    max_producers: usize,
    /// Policies per virtual host, and as many of the operator
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_policies, help_heading = "Limits")]
    max_policies: usize,
    /// Users, permissions, policies and the like, all together
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_entries, help_heading = "Limits")]
    max_entries: usize,
    /// Largest of these in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_entry_size, help_heading = "Limits")]
    max_entry_size: usize,
    /// Bytes of all of these
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_entries_bytes, help_heading = "Limits")]
    max_entries_bytes: usize,
    /// Consumers per channel
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_consumers, help_heading = "Limits")]
    max_consumers: usize,
    /// Messages held by one open transaction
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_transaction_messages,
          help_heading = "Limits")]
    max_transaction_messages: usize,
    /// Bytes held by one open transaction
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_transaction_bytes,
          help_heading = "Limits")]
    max_transaction_bytes: usize,
    /// Bytes of messages that one connection has begun to publish and not finished
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().unfinished, help_heading = "Limits")]
    max_unfinished_bytes: u64,
    /// Bytes of messages that one connection may send while publishers are blocked, before its socket is not read
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().parked, help_heading = "Limits")]
    max_parked_bytes: usize,
    /// Bytes that wait for one client's socket before nothing more is delivered to it
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().output, help_heading = "Limits")]
    max_output_bytes: usize,
    /// Connections for management at a time
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().max_http_connections,
          help_heading = "Limits")]
    max_http_connections: usize,
    /// Streams of events for management at a time
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().http_streams, help_heading = "Limits")]
    max_http_streams: usize,
    /// Bytes of the body of one request for management
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().http_body, help_heading = "Limits")]
    max_http_body: usize,
    /// Seconds from accepting a connection to its being open
    #[arg(long, value_name = "SECONDS", default_value_t = ServerLimits::default().handshake.as_secs(),
          help_heading = "Limits", value_parser = clap::value_parser!(u64).range(1..=600))]
    handshake_timeout: u64,
    /// Channels per connection
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().channel_max, help_heading = "Limits",
          value_parser = clap::value_parser!(u16).range(1..))]
    channel_max: u16,
    /// Largest frame in bytes
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().frame_max, help_heading = "Limits",
          value_parser = clap::value_parser!(u32).range(i64::from(FRAME_MIN)..=16 * 1024 * 1024))]
    frame_max: u32,
    /// How deep the tables in arguments and headers may be nested
    #[arg(long, value_name = "N", default_value_t = table::MAX_DEPTH as u8, help_heading = "Limits",
          value_parser = clap::value_parser!(u8).range(1..=table::DEEPEST as i64))]
    max_table_depth: u8,
    /// Heartbeat in seconds that clients are asked for; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = ServerLimits::default().heartbeat)]
    heartbeat: u16,
    /// What to log: error, warn, info, debug or trace, also by module. RUST_LOG does the same
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

impl ServeArgs {
    fn broker_limits(&self) -> Limits {
        Limits {
            max_queues: self.max_queues,
            max_exchanges: self.max_exchanges,
            max_bindings: self.max_bindings,
            max_producers: self.max_producers,
            max_consumers: self.max_consumers,
            max_message_size: self.max_message_size,
            max_transaction_messages: self.max_transaction_messages,
            max_transaction_bytes: self.max_transaction_bytes,
            max_entries: self.max_entries,
            max_policies: self.max_policies,
            max_entry_size: self.max_entry_size,
            max_entries_bytes: self.max_entries_bytes,
            max_memory: self.max_memory.unwrap_or_else(default_memory),
            min_free_disk: self.data.min_free_disk(),
        }
    }

    fn server_limits(&self) -> ServerLimits {
        ServerLimits {
            max_connections: self.max_connections,
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat: self.heartbeat,
            handshake: Duration::from_secs(self.handshake_timeout),
            output: self.max_output_bytes,
            unfinished: self.max_unfinished_bytes,
            parked: self.max_parked_bytes,
            max_http_connections: self.max_http_connections,
            http_streams: self.max_http_streams,
            http_body: self.max_http_body,
        }
    }
}

/// Runs the broker until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start: an address or a data directory in use, an unreadable definitions file. If the log fails.
pub fn serve(args: ServeArgs) -> Result<()> {
    start_log(&args.log)?;
    raise_file_limit();
    table::set_max_depth(args.max_table_depth.into());
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(args))
}

async fn run(args: ServeArgs) -> Result<()> {
    let broker = args.data.open(args.broker_limits(), Environment::system())?;
    let served = serve_clients(&args, &broker).await;
    let closed = match broker.failure() {
        None => close(broker.clone()).await,
        Some(_) => Ok(()),
    };
    if let Some(why) = broker.failure() {
        bail!("the log has failed: {why}");
    }
    served.and(closed)?;
    info!("stopped");
    Ok(())
}

/// Writes what is pending and a checkpoint.
async fn close(broker: Broker) -> Result<()> {
    let closed = tokio::task::spawn_blocking(move || broker.shut_down()).await;
    closed
        .map_err(std::io::Error::from)
        .flatten()
        .context("cannot write a checkpoint; nothing is lost, but the next start takes longer")
}

/// Listens until a signal comes or the log fails.
async fn serve_clients(args: &ServeArgs, broker: &Broker) -> Result<()> {
    let users = Users::open(broker)?;
    if let Some(file) = &args.definitions {
        for idle in definitions::load(file, broker, &users)? {
            warn!("the definitions ask for something that has no effect in this version: {idle}");
        }
    }
    users.add_guest_at_first()?;
    let server = Server::new(broker.clone(), users, args.server_limits());
    // Before it listens: whoever sees that may send one.
    let mut signals = Signals::watch()?;
    let listeners = bind(&args.amqp, "--amqp").await?;
    let for_management = bind_unless_none(&args.http, "--http").await?;
    let for_metrics = bind_unless_none(&args.metrics, "--metrics").await?;
    // In this order: who waits for the one knows the other.
    for listener in &for_management {
        info!(address = %listener.local_addr()?, "listening for management by HTTP");
    }
    for listener in &for_metrics {
        info!(address = %listener.local_addr()?, "listening for Prometheus");
    }
    for listener in &listeners {
        info!(address = %listener.local_addr()?, "listening for AMQP 0-9-1");
    }
    tokio::spawn(watch_memory(broker.clone()));
    let stop = async {
        tokio::select! {
            () = signals.wait() => info!("stopping: no new connections, open ones are closed"),
            () = watch_damage(&args.data, broker) => {}
        }
        DRAIN
    };
    let (running, stopping) = tokio::sync::watch::channel(());
    let stopped = || {
        let mut stopping = stopping.clone();
        // An error says as much: the sender is gone, and nothing is ever sent.
        async move { _ = stopping.changed().await }
    };
    let managed = serve_http(for_management, server.clone(), stopped());
    let measured = serve_metrics(for_metrics, server.clone(), stopped());
    let amqp = async {
        serve_amqp(listeners, server, stop).await;
        drop(running);
    };
    tokio::join!(amqp, managed, measured);
    Ok(())
}

/// Logs the damage that is met, for as long as it is polled.
async fn watch_damage(data: &DataArgs, broker: &Broker) {
    let mut timer = tokio::time::interval(LOOK);
    loop {
        timer.tick().await;
        data.report_damage(&broker.take_damage());
    }
}

/// Gives memory back to the system when a backlog is gone: the allocator would keep it.
async fn watch_memory(broker: Broker) {
    let mut timer = tokio::time::interval(LOOK);
    let (mut highest, mut ticks, mut kept, mut spent) = (0, 0u32, None, 0);
    loop {
        timer.tick().await;
        let used = broker.memory_used();
        highest = highest.max(used);
        ticks = ticks.wrapping_add(1);
        // The work behind the log takes and frees memory that is not counted.
        let beside = ticks.is_multiple_of(TRIM_TICKS).then(|| resident_memory().saturating_sub(used));
        let grown = beside.is_some_and(|beside| {
            let now = processor_time();
            let busy = now - std::mem::replace(&mut spent, now) >= LITTLE;
            beside > *kept.get_or_insert(beside) + if busy { TRIM } else { TRIM_GROWTH }
        });
        if highest - used > TRIM || grown {
            (highest, kept) = (used, None);
            if let Err(error) = tokio::task::spawn_blocking(give_memory_back).await {
                warn!(%error, "cannot give memory back");
            }
        }
    }
}

/// Bytes of memory that are this process's own and in use by it, as the kernel counts them; 0 if it does not tell.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

/// The processor time that this process has used, in hundredths of a second; 0 if the kernel does not tell.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have anything in it: the twelfth and thirteenth field from there (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Returns the allocator's free pages to the system.
#[allow(unsafe_code)]
fn give_memory_back() {
    // SAFETY: the function has no preconditions and is thread-safe (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `option` is what chooses another address.
/// As [`bind`], without sockets if there are to be none.
async fn bind_unless_none(address: &str, option: &str) -> Result<Vec<TcpListener>> {
    if address == "none" { Ok(Vec::new()) } else { bind(address, option).await }
}

async fn bind(address: &str, option: &str) -> Result<Vec<TcpListener>> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .with_context(|| format!("cannot resolve '{address}'; give HOST:PORT, for example 127.0.0.1:5672"))?
        .collect();
    let mut listeners = Vec::new();
    let mut failure = None;
    for address in addresses {
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6 may still resolve localhost to ::1.
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => failure = Some((address, error)),
            Err(error) => {
                let hint = format!("is another broker running? Choose another address with {option}");
                return Err(error).with_context(|| format!("cannot listen on {address}: {hint}"));
            }
        }
    }
    match failure {
        Some((address, error)) if listeners.is_empty() => {
            Err(error).with_context(|| format!("cannot listen on {address}"))
        }
        _ if listeners.is_empty() => bail!("'{address}' has no address"),
        _ => Ok(listeners),
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// What an operator stops the broker with.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    fn watch() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn start_log(level: &str) -> Result<()> {
    use std::io::IsTerminal;
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| level.to_string());
    let filter = tracing_subscriber::EnvFilter::try_new(&directives)
        .with_context(|| format!("'{directives}' is no log level; try info, or leveret=debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

/// Each connection is a file; the soft limit on those is often 1024, the hard one is what the machine allows.
#[allow(unsafe_code)]
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a valid rlimit that outlives them.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if !raised {
        warn!("cannot raise the limit on open files; it bounds the number of connections");
    }
}

/// A part of what this process may use: the cgroup's limit if there is one, else the machine's memory.
fn default_memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    let cgroup = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    match machine.into_iter().chain(cgroup).min() {
        Some(memory) => memory / 100 * MEMORY_PERCENT,
        None => Limits::default().max_memory,
    }
}
