//! A load generator for nats-server, as `leveret bench` is one for AMQP brokers: preformatted messages, one write per
//! batch, one thread per connection, no allocation per message.
//!
//! NATS disconnects a subscriber that falls behind, or drops messages for it, so the publisher is held to a window
//! beyond what the subscriber has counted: nothing may be lost, and what was lost is reported as an error.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

/// Publish to and subscribe at a nats-server as fast as it can; prints one JSON object.
#[derive(Parser)]
struct Args {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:4222")]
    server: String,
    /// Bytes of a message.
    #[arg(long, default_value_t = 16)]
    size: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Seconds to run before measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Bytes that are written at once.
    #[arg(long, default_value_t = 65536)]
    batch: usize,
    /// Bytes that may be under way. nats-server gives up on a subscriber that 64 MiB wait for.
    #[arg(long, default_value_t = 16 << 20)]
    window: u64,
}

const SUBJECT: &str = "bench";
const READ: usize = 256 << 10;
/// How long the subscriber may take to get what is under way at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

#[derive(Default)]
struct Run {
    published: Counter,
    received: Counter,
    /// Publishing ends.
    stop: AtomicBool,
    /// Everybody leaves.
    leave: AtomicBool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let run = Run::default();
    let mut subscriber = connect(&args.server)?;
    subscriber.write_all(format!("SUB {SUBJECT} 1\r\n").as_bytes())?;
    ping(&mut subscriber)?;
    let publisher = connect(&args.server)?;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| leaving(&run, subscribe(&args, &run, subscriber)));
        let publishing = scope.spawn(|| leaving(&run, publish(&args, &run, publisher)));
        sleep(&run, args.warm_up);
        let (start, before) = (Instant::now(), run.received.0.load(Relaxed));
        sleep(&run, args.duration);
        let (seconds, consumed) = (start.elapsed().as_secs_f64(), run.received.0.load(Relaxed) - before);
        run.stop.store(true, Relaxed);
        publishing.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        let published = run.published.0.load(Relaxed);
        let deadline = Instant::now() + DRAIN;
        while run.received.0.load(Relaxed) < published && Instant::now() < deadline && !run.leave.load(Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        run.leave.store(true, Relaxed);
        receiving.join().map_err(|_| anyhow::anyhow!("the subscriber panicked"))??;
        let received = run.received.0.load(Relaxed);
        println!(
            "{{\"broker\":\"nats-server\",\"seconds\":{seconds:.3},\"consumed\":{consumed},\"consume_rate\":{:.0},\
             \"total_published\":{published},\"total_consumed\":{received},\"lost\":{}}}",
            consumed as f64 / seconds,
            published - received
        );
        ensure!(received == published, "nats-server lost {} of {published} messages", published - received);
        Ok(())
    })
}

/// When one side fails, the other must not wait for it.
fn leaving(run: &Run, outcome: Result<()>) -> Result<()> {
    if outcome.is_err() {
        run.stop.store(true, Relaxed);
        run.leave.store(true, Relaxed);
    }
    outcome
}

fn sleep(run: &Run, seconds: f64) {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end && !run.leave.load(Relaxed) {
        thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
    }
}

fn connect(server: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server).with_context(|| format!("cannot reach nats-server at {server}"))?;
    stream.set_nodelay(true)?;
    let mut info = String::new();
    BufReader::with_capacity(1, stream.try_clone()?).read_line(&mut info)?;
    ensure!(info.starts_with("INFO "), "{server} isn't a nats-server: it says {info:?}");
    stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\"}\r\n")?;
    ping(&mut stream)?;
    Ok(stream)
}

/// Waits until the server has taken in everything sent before.
fn ping(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"PING\r\n")?;
    let mut lines = BufReader::with_capacity(1, stream.try_clone()?);
    loop {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "nats-server closed the connection");
        match line.trim_end() {
            "PONG" => return Ok(()),
            "PING" => stream.write_all(b"PONG\r\n")?,
            error if error.starts_with("-ERR") => bail!("nats-server says {error}"),
            _ => {}
        }
    }
}

fn publish(args: &Args, run: &Run, mut stream: TcpStream) -> Result<()> {
    let mut message = format!("PUB {SUBJECT} {}\r\n", args.size).into_bytes();
    message.resize(message.len() + args.size, b'x');
    message.extend(b"\r\n");
    let count = (args.batch / message.len()).max(1) as u64;
    let window = (args.window / message.len() as u64).max(2 * count);
    let batch = message.repeat(count as usize);
    let mut published = 0;
    while !run.stop.load(Relaxed) {
        if published + count > run.received.0.load(Relaxed) + window {
            // Long enough to yield the core to the server, short against what the window holds.
            thread::sleep(Duration::from_micros(50));
            continue;
        }
        stream.write_all(&batch).context("cannot publish")?;
        published += count;
        run.published.0.store(published, Relaxed);
    }
    ping(&mut stream)
}

fn subscribe(args: &Args, run: &Run, mut stream: TcpStream) -> Result<()> {
    let mut head = format!("MSG {SUBJECT} 1 {}\r\n", args.size).into_bytes();
    let size = head.len() + args.size + 2;
    head.shrink_to_fit();
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut buffer = vec![0; READ.max(4 * size)];
    let (mut filled, mut received) = (0, 0);
    while !run.leave.load(Relaxed) {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => bail!("nats-server closed the subscriber's connection: a slow consumer?"),
            Ok(read) => filled += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut at = 0;
        loop {
            for message in buffer[at..filled].chunks_exact(size) {
                if !message.starts_with(&head) {
                    break;
                }
                received += 1;
                at += size;
            }
            if buffer[at..filled].starts_with(b"MSG") || !buffer[at..filled].contains(&b'\n') {
                break;
            }
            at += other_line(&buffer[at..filled], &mut stream)?;
        }
        run.received.0.store(received, Relaxed);
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    Ok(())
}

/// A line that isn't a message; returns its length.
fn other_line(bytes: &[u8], stream: &mut TcpStream) -> Result<usize> {
    let end = bytes.iter().position(|&byte| byte == b'\n').context("no line")? + 1;
    let line = String::from_utf8_lossy(&bytes[..end]);
    match line.trim_end() {
        "PING" => stream.write_all(b"PONG\r\n")?,
        error if error.starts_with("-ERR") => bail!("nats-server says {error}"),
        _ => {}
    }
    Ok(end)
}
