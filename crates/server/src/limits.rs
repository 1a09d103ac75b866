//! Limits of the protocol; those of queues and messages are the broker's.

use std::time::Duration;

/// What the server offers and tolerates.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at a time.
    pub max_connections: usize,
    /// Channels per connection. The default is RabbitMQ's, which clients' tests assert.
    pub channel_max: u16,
    /// Bytes of a frame. The default is RabbitMQ's.
    pub frame_max: u32,
    /// Seconds between heartbeats that the server asks for; 0 for none.
    pub heartbeat: u16,
    /// From accepting a connection to connection.open.
    pub handshake: Duration,
    /// Bytes that wait for a client's socket before its consumers are paused.
    pub output: usize,
    /// Bytes of messages that a connection has begun to publish and not finished, on all its channels together. Enough
    /// for 16 of the largest at a time.
    pub unfinished: u64,
    /// Bytes of frames that a connection may send while memory or disk runs out and that are kept until it does not.
    /// Beyond it nothing more is read from its socket; with 0 nothing is read behind the first message.
    pub parked: usize,
    /// Connections for management at a time; others wait.
    pub max_http_connections: usize,
    /// Streams of events for management at a time.
    pub http_streams: usize,
    /// Bytes of the body of a request for management. The default is RabbitMQ's.
    pub http_body: usize,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            max_connections: 20_000,
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
            handshake: Duration::from_secs(10),
            output: 256 * 1024,
            unfinished: 256 * 1024 * 1024,
            parked: 1024 * 1024,
            max_http_connections: 1000,
            http_streams: 100,
            http_body: 20_000_000,
        }
    }
}

/// Smallest frame_max that a peer may ask for (specification, section 4.2.3).
pub const FRAME_MIN: u32 = 4096;

/// Largest frame before the connection is open: room for a JWT in the login, and little else.
pub const FRAME_MAX_BEFORE_OPEN: u32 = 8192;
