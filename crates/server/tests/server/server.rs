//! The process under test: started, looked at from outside, and ended with the last test that uses it.

use crate::client::Client;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running `leveret serve`.
pub struct Server {
    pub address: SocketAddr,
    process: Mutex<Child>,
    pid: u32,
    /// A test has looked at how it ended.
    judged: AtomicBool,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one in memory with these options on a free port of the loopback interface.
    pub fn start(options: &[&str]) -> Server {
        Server::start_at("127.0.0.1:0", options)
    }

    /// Starts one whose connections share a single thread: what keeps it busy keeps everybody waiting.
    pub fn single_threaded() -> Server {
        Server::spawn(
            command(&["serve", "--http", "none", "--memory", "--amqp", "127.0.0.1:0"]).env("TOKIO_WORKER_THREADS", "1"),
        )
    }

    /// Starts one in memory on this address; port 0 lets the system choose, so that two servers never want the same.
    pub fn start_at(address: &str, options: &[&str]) -> Server {
        Server::spawn(command(&["serve", "--http", "none", "--memory", "--amqp", address]).args(options))
    }

    /// Starts one that keeps its data in a directory.
    pub fn on_disk(directory: &Directory, options: &[&str]) -> Server {
        Server::spawn(
            command(&["serve", "--http", "none", "--amqp", "127.0.0.1:0", "--data-dir", directory.path()])
                .args(options),
        )
    }

    /// Starts a command that serves, and waits until it listens.
    pub fn spawn(command: &mut Command) -> Server {
        let mut process = command.spawn().expect("the executable starts");
        let mut lines = BufReader::new(process.stderr.take().expect("standard error is piped")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut address = None;
        for line in lines.by_ref().map_while(Result::ok) {
            address = line.split_once("listening for AMQP 0-9-1 address=").map(|(_, address)| address.to_string());
            lock(&log).push(line);
            if address.is_some() {
                break;
            }
        }
        let address = address.unwrap_or_else(|| panic!("it listens: {:?}", lock(&log)));
        let collected = log.clone();
        let reader =
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| lock(&collected).push(line)));
        let pid = process.id();
        let address = address.trim().parse().expect("an address");
        let (process, judged) = (Mutex::new(process), AtomicBool::new(false));
        Server { address, process, pid, judged, log, reader: Some(reader) }
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Open sockets: one for listening, one per connection, and the runtime's own.
    pub fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the process is there");
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        lock(&self.log).join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).status();
        assert!(done.expect("kill runs").success(), "the process takes SIG{name}");
    }

    /// Ends it without a chance to write anything.
    pub fn kill(&self) {
        self.signal("KILL");
        self.wait(Duration::from_secs(5));
    }

    /// Stops it with SIGTERM.
    pub fn stop(&self) {
        self.signal("TERM");
        assert_eq!(self.wait(Duration::from_secs(10)).code(), Some(0), "{}", self.log());
    }

    /// Waits for the process to end by itself.
    pub fn wait(&self, limit: Duration) -> ExitStatus {
        self.judged.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        loop {
            if let Some(status) = lock(&self.process).try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(begin.elapsed() < limit, "the process did not end within {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut process = lock(&self.process);
        let ended = process.try_wait().ok().flatten();
        let _ = process.kill();
        let _ = process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let log = self.log();
        if !std::thread::panicking() {
            let expected = self.judged.load(Ordering::Relaxed) || ended.is_none_or(|status| status.success());
            assert!(expected, "the server died ({ended:?}):\n{log}");
            assert!(!log.contains("panicked"), "something panicked:\n{log}");
        }
    }
}

/// A directory that does not exist yet, and is removed with all it holds when its test ends.
pub struct Directory(String);

impl Directory {
    /// `name` is unique among the tests.
    pub fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("leveret-server-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path.to_str().expect("a path in UTF-8").to_string())
    }

    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The executable with these arguments, its output piped.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// One server without options for all tests that disturb nobody; it ends with the last of them.
pub fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = lock(&SHARED);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start(&[]));
        *shared = Arc::downgrade(&server);
        server
    })
}

/// Polls until `done`, for at most `limit`.
pub fn eventually(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection that must not notice anything: it publishes to its own queue and consumes from it.
pub struct Canary {
    client: Client,
    queue: String,
    next: u64,
}

impl Canary {
    pub fn new(server: &Server) -> Canary {
        let mut client = Client::open(server);
        client.channel(1);
        let queue = client.declare(1, "");
        client.consume(1, &queue, "canary", true);
        client.publish_bytes(1, "", &queue, b"first");
        assert_eq!(client.delivery(1), b"first");
        Canary { client, queue, next: 0 }
    }

    /// Sends a message round and says how long it took.
    pub fn sing(&mut self) -> Duration {
        let begin = Instant::now();
        self.next += 1;
        let body = self.next.to_string();
        self.client.publish_bytes(1, "", &self.queue, body.as_bytes());
        assert_eq!(self.client.delivery(1), body.as_bytes(), "the canary gets what it sent");
        begin.elapsed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
