//! A relay between clients and a broker that does to them what networks and operators do: it cuts connections, is silent for a
//! while, and closes channels as either side would.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};

/// The most bytes of a frame that is relayed.
const MAX_FRAME: usize = 1 << 20;

/// The types of frames with a method, a header and a part of a body.
const METHOD: u8 = 1;

/// Class and method.
const CHANNEL_OPEN: [u8; 4] = [0, 20, 0, 10];
const CHANNEL_OPEN_OK: [u8; 4] = [0, 20, 0, 11];
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
const CHANNEL_CLOSE_OK: [u8; 4] = [0, 20, 0, 41];
const BASIC_PUBLISH: [u8; 4] = [0, 60, 0, 40];
const BASIC_DELIVER: [u8; 4] = [0, 60, 0, 60];

/// What is done to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The sockets are closed.
    Cut,
    /// Each channel is closed, by the broker as it seems to the client, and by the client as it seems to the broker.
    CloseChannels,
}

/// A relay that runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where clients connect.
    pub address: SocketAddr,
    deeds: broadcast::Sender<Deed>,
    silent: watch::Sender<bool>,
    listener: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Relays connections to a port of the loopback.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(broker: u16) -> Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port on 127.0.0.1")?;
        let (deeds, silent) = (broadcast::Sender::new(16), watch::Sender::new(false));
        let (to, still, address) = (deeds.clone(), silent.clone(), listener.local_addr()?);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (deeds, silent) = (to.subscribe(), still.subscribe());
                tokio::spawn(async move {
                    // Of a broker that is not there the client learns by the end of its socket.
                    if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)).await {
                        relay(client, server, deeds, silent).await;
                    }
                });
            }
        });
        Ok(Relay { address, deeds, silent, listener })
    }

    /// Does it to all connections that there are.
    pub fn inflict(&self, deed: Deed) {
        // Without connections nobody listens.
        _ = self.deeds.send(deed);
    }

    /// Nothing gets through as long as it is silent.
    pub fn set_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listener.abort();
        self.inflict(Deed::Cut);
    }
}

/// A channel, as far as the relay has to know.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    /// Bytes of a message that are missing in a direction, and whether its header is.
    inside: [Inside; 2],
    /// It was closed here, and this side has not answered yet: what it says until then belongs to the channel that was.
    closing: [bool; 2],
    /// The broker has said that it is open: none closes one before.
    is_open: bool,
    /// It is to be closed when no message is halfway.
    is_doomed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// The header of a message comes next.
    Header,
    /// So many bytes of its body.
    Body(u64),
}

#[derive(Debug, Default)]
struct Channels(HashMap<u16, Channel>);

/// The directions: from the client to the broker, and back.
const UP: usize = 0;
const DOWN: usize = 1;

impl Channels {
    /// Looks at a frame that goes in a direction. False if it must not go on.
    fn pass(&mut self, direction: usize, frame: &[u8]) -> bool {
        let (kind, number) = (frame[0], u16::from_be_bytes([frame[1], frame[2]]));
        if number == 0 {
            return true;
        }
        let method = (kind == METHOD).then(|| frame.get(7..11).unwrap_or_default());
        let channel = self.0.entry(number).or_default();
        if channel.closing[direction] {
            // Its own close would be a second one; the answer to it is the answer to both.
            if method == Some(&CHANNEL_CLOSE_OK[..]) {
                channel.closing[direction] = false;
            }
            return false;
        }
        match method {
            Some(method) if method == CHANNEL_OPEN => {
                *channel = Channel { closing: channel.closing, ..Channel::default() }
            }
            Some(method) if method == CHANNEL_OPEN_OK => channel.is_open = true,
            Some(method) if method == CHANNEL_CLOSE || method == CHANNEL_CLOSE_OK => {
                (channel.is_open, channel.is_doomed) = (false, false);
            }
            Some(method) if method == BASIC_PUBLISH || method == BASIC_DELIVER => {
                channel.inside[direction] = Inside::Header;
            }
            Some(_) => {}
            None => {
                let size = frame.get(11..19).and_then(|size| size.try_into().ok()).map_or(0, u64::from_be_bytes);
                channel.inside[direction] = match channel.inside[direction] {
                    Inside::Header if size > 0 => Inside::Body(size),
                    Inside::Body(left) if left > (frame.len() - 8) as u64 => {
                        Inside::Body(left - (frame.len() - 8) as u64)
                    }
                    _ => Inside::Nothing,
                };
            }
        }
        true
    }

    /// Channels that can be closed now, as both sides would.
    fn close(&mut self) -> Vec<u16> {
        let ready =
            self.0.iter_mut().filter(|(_, channel)| channel.is_doomed && channel.inside == [Inside::Nothing; 2]);
        ready
            .map(|(number, channel)| {
                *channel = Channel { closing: [true; 2], ..Channel::default() };
                *number
            })
            .collect()
    }

    fn doom(&mut self) {
        self.0.values_mut().for_each(|channel| channel.is_doomed = channel.is_open && channel.closing == [false; 2]);
    }
}

async fn relay(
    client: TcpStream,
    server: TcpStream,
    mut deeds: broadcast::Receiver<Deed>,
    silent: watch::Receiver<bool>,
) {
    _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let channels = Arc::<Mutex<Channels>>::default();
    let (to_client, to_server) =
        (Arc::new(tokio::sync::Mutex::new(to_client)), Arc::new(tokio::sync::Mutex::new(to_server)));
    let both = [to_server, to_client];
    let up = pump(from_client, UP, both.clone(), channels.clone(), silent.clone());
    let down = pump(from_server, DOWN, both.clone(), channels.clone(), silent);
    let fate = async {
        loop {
            match deeds.recv().await {
                Ok(Deed::CloseChannels) => {
                    lock(&channels).doom();
                    close_doomed(&channels, &both).await;
                }
                Ok(Deed::Cut) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        _ = up => {}
        _ = down => {}
        () = fate => {}
    }
}

type Writers = [Arc<tokio::sync::Mutex<OwnedWriteHalf>>; 2];

fn lock(channels: &Mutex<Channels>) -> std::sync::MutexGuard<'_, Channels> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forwards what comes in one direction, frame by frame.
async fn pump(
    mut from: OwnedReadHalf,
    direction: usize,
    writers: Writers,
    channels: Arc<Mutex<Channels>>,
    mut silent: watch::Receiver<bool>,
) -> Result<()> {
    if direction == UP {
        // The protocol header is no frame.
        let mut header = [0; 8];
        from.read_exact(&mut header).await?;
        writers[direction].lock().await.write_all(&header).await?;
    }
    loop {
        let mut frame = vec![0; 7];
        from.read_exact(&mut frame).await?;
        let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
        anyhow::ensure!(size <= MAX_FRAME, "a frame of {size} bytes");
        frame.resize(7 + size + 1, 0);
        from.read_exact(&mut frame[7..]).await?;
        silent.wait_for(|silent| !silent).await?;
        {
            // Decided and written under one lock, so that nothing gets behind a close that was decided later.
            let mut writer = writers[direction].lock().await;
            let passes = lock(&channels).pass(direction, &frame);
            if passes {
                writer.write_all(&frame).await?;
            }
        }
        if lock(&channels).0.values().any(|channel| channel.is_doomed) {
            close_doomed(&channels, &writers).await;
        }
    }
}

/// Closes the channels that are to be closed and can be.
async fn close_doomed(channels: &Mutex<Channels>, writers: &Writers) {
    let (mut up, mut down) = (writers[UP].lock().await, writers[DOWN].lock().await);
    let ready = lock(channels).close();
    for number in ready {
        let frame = close_frame(number);
        // Whoever does not hear it is gone.
        _ = up.write_all(&frame).await;
        _ = down.write_all(&frame).await;
    }
}

fn close_frame(channel: u16) -> Vec<u8> {
    let text = b"CONNECTION_FORCED - closed by the relay";
    let mut payload = CHANNEL_CLOSE.to_vec();
    payload.extend_from_slice(&320u16.to_be_bytes());
    payload.push(text.len() as u8);
    payload.extend_from_slice(text);
    payload.extend_from_slice(&[0; 4]);
    let mut frame = vec![METHOD];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(&payload);
    frame.push(0xce);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(channel: u16, method: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![METHOD];
        frame.extend_from_slice(&channel.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 4]);
        frame.extend_from_slice(&method);
        frame.push(0xce);
        frame
    }

    #[test]
    fn a_channel_is_closed_between_messages_and_silent_until_both_have_answered() {
        let mut channels = Channels::default();
        assert!(channels.pass(UP, &method(1, CHANNEL_OPEN)));
        channels.doom();
        assert!(channels.close().is_empty());
        assert!(channels.pass(DOWN, &method(1, CHANNEL_OPEN_OK)));
        assert!(channels.pass(UP, &method(1, BASIC_PUBLISH)));
        channels.doom();
        assert!(channels.close().is_empty());
        let header = [&[2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0][..], &3u64.to_be_bytes(), &[0, 0, 0xce]].concat();
        assert!(channels.pass(UP, &header));
        assert!(channels.close().is_empty());
        assert!(channels.pass(UP, &[3, 0, 1, 0, 0, 0, 3, 1, 2, 3, 0xce]));
        assert_eq!(channels.close(), [1]);
        assert!(!channels.pass(UP, &method(1, BASIC_PUBLISH)));
        assert!(!channels.pass(DOWN, &method(1, BASIC_DELIVER)));
        assert!(!channels.pass(UP, &method(1, CHANNEL_CLOSE_OK)));
        assert!(!channels.pass(DOWN, &method(1, CHANNEL_CLOSE_OK)));
        assert!(channels.pass(UP, &method(1, CHANNEL_OPEN)));
    }
}
