//! A server with its API, and requests to it.

use base64::Engine;
use expect_test::Expect;
use leveret_broker::{Broker, Client};
use leveret_server::{Server, ServerLimits, Users, serve_amqp, serve_http};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How long an answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A broker in memory with its ports, which ends with this.
pub struct Api {
    pub server: Arc<Server>,
    pub http: SocketAddr,
    pub amqp: SocketAddr,
    stop: Option<tokio::sync::watch::Sender<bool>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("JSON, {error}: {}", self.body))
    }

    /// The status, and the body if there is one.
    fn shown(&self) -> String {
        let location = self.header("location").map_or(String::new(), |place| format!(" at {place}"));
        let body = match serde_json::from_str::<Value>(&self.body) {
            Ok(value) => format!("\n{}", serde_json::to_string_pretty(&value).expect("JSON")),
            Err(_) if self.body.is_empty() => String::new(),
            Err(_) => format!("\n{}", self.body),
        };
        format!("{}{location}{body}", self.status)
    }
}

impl Api {
    /// One with the user guest.
    pub fn start() -> Api {
        Api::with(ServerLimits::default())
    }

    pub fn with(limits: ServerLimits) -> Api {
        Api::of(Broker::in_memory(), limits)
    }

    pub fn of(broker: Broker, limits: ServerLimits) -> Api {
        let server = Server::new(broker, Users::guest_only(), limits);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (told, addresses) = std::sync::mpsc::channel();
        let shared = server.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a free port") };
                let (amqp, http) = (bind().await, bind().await);
                let address = |listener: &TcpListener| listener.local_addr().expect("an address");
                told.send((address(&amqp), address(&http))).expect("somebody waits for it");
                let ended = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                };
                let by_amqp = ended(stopped.clone());
                let amqp = serve_amqp(vec![amqp], shared.clone(), async {
                    by_amqp.await;
                    Duration::from_millis(200)
                });
                tokio::join!(amqp, serve_http(vec![http], shared, ended(stopped)));
            });
        });
        let (amqp, http) = addresses.recv().expect("it listens");
        let api = Api { server, http, amqp, stop: Some(stop), thread: Some(thread) };
        eventually("both ports are listed", || api.server.listeners().len() == 2);
        api
    }

    /// The broker without a protocol.
    pub fn client(&self) -> Client {
        self.server.broker.connect()
    }

    /// Asks as guest: `GET /api/overview`.
    pub fn ask(&self, what: &str) -> Answer {
        self.ask_as("guest:guest", what, "")
    }

    /// Asks as guest, with a body.
    pub fn send(&self, what: &str, body: &str) -> Answer {
        self.ask_as("guest:guest", what, body)
    }

    /// Asks as somebody (`name:password`), or as nobody.
    pub fn ask_as(&self, login: &str, what: &str, body: &str) -> Answer {
        let (method, path) = what.split_once(' ').expect("a method and a path");
        let login = match login {
            "" => String::new(),
            login => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(login);
                format!("authorization: Basic {encoded}\r\n")
            }
        };
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{login}content-length: {length}\r\n\r\n{body}"
        ))
    }

    /// Sends these bytes and reads an answer.
    pub fn raw(&self, request: &str) -> Answer {
        let mut socket = TcpStream::connect(self.http).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.write_all(request.as_bytes()).expect("it reads");
        read(&mut BufReader::new(socket), request.starts_with("HEAD"))
    }

    /// Compares what guest is answered.
    pub fn check(&self, what: &str, body: &str, expected: Expect) {
        expected.assert_eq(&self.send(what, body).shown());
    }

    /// Compares what somebody else is answered.
    pub fn check_as(&self, login: &str, what: &str, body: &str, expected: Expect) {
        expected.assert_eq(&self.ask_as(login, what, body).shown());
    }

    /// Has to be answered with this status.
    pub fn must(&self, what: &str, body: &str, status: u16) -> Answer {
        let answer = self.send(what, body);
        assert_eq!(answer.status, status, "{what}: {}", answer.shown());
        answer
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send_replace(true);
        }
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the server ends");
    }
}

fn read(socket: &mut impl BufRead, is_head: bool) -> Answer {
    let (status, headers) = read_head(socket);
    let mut body = Vec::new();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, length)| length.parse().ok());
    match length {
        _ if is_head => {}
        Some(length) => {
            body.resize(length, 0);
            socket.read_exact(&mut body).expect("a body");
        }
        None => drop(socket.read_to_end(&mut body).expect("a body")),
    }
    Answer { status, headers, body: String::from_utf8(body).expect("text") }
}

/// The status and the headers, in lower case.
pub fn read_head(socket: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    socket.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("a status: {line}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).expect("headers");
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_string())),
            None => return (status, headers),
        }
    }
}

/// Polls until `done`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
