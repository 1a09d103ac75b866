//! Which broker it is: what it says of itself when it is greeted.

use super::address::Address;
use crate::driver::{Capabilities, Support};
use crate::error::{Error, Result};
use futures_io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

/// The most bytes of a greeting.
const MAX_GREETING: usize = 64 * 1024;

/// The bytes before the payload of a frame: its type, its channel, its length.
const FRAME_HEADER: usize = 7;

/// A broker that the driver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// Everything is native to it.
    Leveret,
    /// From 3.10 on.
    RabbitMq,
}

impl Engine {
    pub(super) fn capabilities(self) -> Capabilities {
        match self {
            Engine::Leveret => Capabilities::native(),
            Engine::RabbitMq => Capabilities {
                retry: Support::Emulated,
                delay: Support::Emulated,
                ordering: Support::Absent,
                exactly_once: Support::Absent,
                filters: if cfg!(feature = "local") { Support::Emulated } else { Support::Absent },
                transactions: Support::Emulated,
                ..Capabilities::native()
            },
        }
    }

    /// By what a broker says of itself.
    fn of(product: &str, version: &str) -> Result<Engine> {
        let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
        let version_is = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match product {
            "Leveret" => Ok(Engine::Leveret),
            "RabbitMQ" if version_is >= (3, 10) => Ok(Engine::RabbitMq),
            _ => Err(Error::Configuration(format!(
                "the broker is '{product}' {version}: this driver knows Leveret, and RabbitMQ from 3.10 on"
            ))),
        }
    }
}

/// Why a broker is not known yet.
pub(super) enum Unknown {
    /// It cannot be reached, now.
    Unreachable(String),
    /// It is none that the driver knows.
    Foreign(Error),
}

/// Asks a broker, on a connection that ends with the answer: lapin keeps it to itself.
pub(super) async fn ask(address: &Address) -> Result<Engine, Unknown> {
    let greeting = greeting(address).await.map_err(|error| Unknown::Unreachable(error.to_string()))?;
    let says = |name| String::from_utf8_lossy(property(&greeting, name).unwrap_or_default()).into_owned();
    Engine::of(&says("product"), &says("version")).map_err(Unknown::Foreign)
}

/// The payload of connection.start.
async fn greeting(address: &Address) -> io::Result<Vec<u8>> {
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let config = OwnedTLSConfig::default();
    let mut stream = address.uri.connect_with_config_async(config.as_ref(), &runtime).await?;
    let mut hello: &[u8] = b"AMQP\x00\x00\x09\x01";
    while !hello.is_empty() {
        let written = poll_fn(|context| Pin::new(&mut stream).poll_write(context, hello)).await?;
        hello = &hello[written..];
    }
    poll_fn(|context| Pin::new(&mut stream).poll_flush(context)).await?;
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let length = poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut chunk)).await?;
        read.extend_from_slice(&chunk[..length]);
        if length == 0 || read.len() > MAX_GREETING || read.starts_with(b"AMQP") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there does not speak AMQP 0-9-1"));
        }
        let Some(size) = read.get(3..FRAME_HEADER) else { continue };
        let end = FRAME_HEADER + size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        if read.len() >= end {
            return Ok(read[FRAME_HEADER..end].to_vec());
        }
    }
}

/// A text among the server-properties of connection.start.
fn property<'a>(payload: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // Behind class, method, major and minor version.
    let mut rest = payload.get(6..)?;
    let table = sized(&mut rest, 4)?;
    let mut rest = table;
    while !rest.is_empty() {
        let found = sized(&mut rest, 1)?;
        let (kind, behind) = rest.split_first()?;
        rest = behind;
        match kind {
            b'S' if found == name.as_bytes() => return sized(&mut rest, 4),
            b'S' | b'F' | b'A' | b'x' => _ = sized(&mut rest, 4)?,
            b't' | b'b' | b'B' => rest = rest.get(1..)?,
            b'I' | b'i' | b'f' => rest = rest.get(4..)?,
            b'l' | b'L' | b'T' | b'd' => rest = rest.get(8..)?,
            _ => return None,
        }
    }
    None
}

/// Takes what begins with its length, a number of `width` bytes.
fn sized<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_at_checked(width)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (taken, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_known_by_its_greeting() {
        let mut table = Vec::new();
        table.extend_from_slice(b"\x0ccapabilitiesF\x00\x00\x00\x02\x01x\x07versionS\x00\x00\x00\x063.10.8");
        table.extend_from_slice(b"\x03onet\x01\x07productS\x00\x00\x00\x08RabbitMQ");
        let mut payload = b"\x00\x0a\x00\x0a\x00\x09".to_vec();
        payload.extend_from_slice(&(table.len() as u32).to_be_bytes());
        payload.extend_from_slice(&table);
        assert_eq!(property(&payload, "version"), Some(&b"3.10.8"[..]));
        assert_eq!(property(&payload, "product"), Some(&b"RabbitMQ"[..]));
        // However it ends, it is only not found.
        (0..payload.len()).for_each(|end| _ = property(&payload[..end], "product"));
        assert_eq!(property(&payload, "platform"), None);
    }

    #[test]
    fn brokers_that_the_driver_does_not_know_are_refused() {
        assert_eq!(Engine::of("Leveret", "0.1.0").ok(), Some(Engine::Leveret));
        assert_eq!(Engine::of("RabbitMQ", "3.10.8").ok(), Some(Engine::RabbitMq));
        assert_eq!(Engine::of("RabbitMQ", "4.3.0-rc.1").ok(), Some(Engine::RabbitMq));
        let refused = |product, version| Engine::of(product, version).map_err(|error| error.to_string());
        let text = "the broker is 'RabbitMQ' 3.9.29: this driver knows Leveret, and RabbitMQ from 3.10 on";
        assert_eq!(refused("RabbitMQ", "3.9.29"), Err(text.to_string()));
        assert!(refused("LavinMQ", "2.9.1").is_err());
    }
}
