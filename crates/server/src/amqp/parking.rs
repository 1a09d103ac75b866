//! What a client says and the broker does not take yet.
//!
//! While memory or disk runs out, messages are *parked*: their frames are kept as they came, up to a limit per
//! connection, and everything else that the client says is served. Its acks may be what ends the alarm. A method whose
//! answer depends on the messages before it is parked behind them, so that each channel sees its frames in order where
//! the order matters.
//!
//! Input is *held* where it may not go on: past that limit, and behind a tx.commit that the log has not made durable.

use super::connection::{ChannelState, Connection, OpenChannel, State};
use leveret_wire::frame::{self, Frame};
use leveret_wire::method::{basic, channel, connection, tx};

/// Which input of a connection is taken.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Each frame has to be looked at: publishers wait, or a channel waits for its commit.
    pub(super) shut: bool,
    /// Acting on the input stopped at a frame that has to wait, and nothing more is read.
    pub(super) held: bool,
    /// The broker wants publishers to wait.
    blocked: bool,
    /// The client has been told so.
    told: bool,
    /// The client publishes.
    pub(super) publishes: bool,
    /// Channels that wait for commit-ok.
    commits: u16,
    /// Whole frames in the order in which they came. Empty unless publishers wait.
    parked: Vec<u8>,
}

/// What is done with a frame at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is acted on now.
    Pass,
    /// It was parked.
    Parked,
    /// It has to wait where it is, and everything behind it.
    Hold,
}

/// How much of a channel's input is parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parked {
    #[default]
    Nothing,
    /// Messages: what does not depend on them goes on.
    Messages,
    /// Methods, too: acks go on, because they have no answer and may be what ends the alarm.
    Methods,
    /// Methods of a transaction, which an ack could belong to.
    Everything,
}

/// Methods that mean the same before and after a message on their channel.
const INDEPENDENT: [(u16, u16); 11] = [
    basic::Ack::ID,
    basic::Nack::ID,
    basic::Reject::ID,
    basic::Consume::ID,
    basic::Cancel::ID,
    basic::CancelOk::ID,
    basic::Qos::ID,
    basic::Recover::ID,
    basic::RecoverAsync::ID,
    channel::Flow::ID,
    channel::FlowOk::ID,
];

impl Parked {
    /// A method need not wait for what is parked.
    fn passes(self, method: (u16, u16)) -> bool {
        match self {
            Parked::Nothing => true,
            Parked::Messages => INDEPENDENT.contains(&method),
            Parked::Methods => method == basic::Ack::ID,
            Parked::Everything => false,
        }
    }
}

impl Gate {
    /// A channel waits for commit-ok.
    pub(super) fn commit_begun(&mut self) {
        self.commits += 1;
        self.shut = true;
    }

    /// It waits no longer.
    pub(super) fn commit_ended(&mut self) {
        self.commits -= 1;
        self.held = false;
        self.set();
    }

    /// Whether publishers have to wait; then, whether this client is one.
    pub(super) fn blocks(&self) -> Option<bool> {
        self.blocked.then_some(self.publishes)
    }

    fn set(&mut self) {
        self.shut = self.blocked || self.commits > 0;
    }

    /// Keeps a frame unless that is too much. Grows by doubling, but not past `limit`.
    fn park(&mut self, frame: &[u8], limit: usize) -> bool {
        let len = self.parked.len() + frame.len();
        if len > limit {
            return false;
        }
        if len > self.parked.capacity() {
            let capacity = (2 * self.parked.capacity()).clamp(len, limit);
            self.parked.reserve_exact(capacity - self.parked.len());
        }
        self.parked.extend_from_slice(frame);
        true
    }
}

impl Connection {
    /// Whether it is a frame's turn while the gate is shut; `bytes` is all of it. Where it has to wait, nothing is read
    /// until the gate changes.
    #[cold]
    pub(super) fn turn(&mut self, frame: &Frame<'_>, bytes: &[u8]) -> Turn {
        let turn = self.at_gate(frame, bytes);
        if turn == Turn::Hold {
            self.interrupted = true;
            self.gate.held = true;
        }
        turn
    }

    fn at_gate(&mut self, frame: &Frame<'_>, bytes: &[u8]) -> Turn {
        let Connection { channels, gate, state, server, .. } = self;
        let Some(ChannelState::Open(open)) = channels.get_mut(&frame.channel) else { return Turn::Pass };
        if *state != State::Open {
            return Turn::Pass;
        }
        if open.commit_due {
            return Turn::Hold;
        }
        let parked = match frame.kind {
            frame::METHOD => match method_id(frame.payload) {
                Some(basic::Publish::ID) if gate.blocked => {
                    gate.publishes = true;
                    Parked::Messages
                }
                Some(id) if !open.parked.passes(id) => match open.transacts || id == tx::Select::ID {
                    true => Parked::Everything,
                    false => Parked::Methods,
                },
                _ => return Turn::Pass,
            },
            // The content of a message that is parked, or that had begun before.
            _ if open.parked > Parked::Nothing || gate.blocked && open.content.is_some() => Parked::Messages,
            _ => return Turn::Pass,
        };
        if !gate.park(bytes, server.limits.parked) {
            return Turn::Hold;
        }
        open.parked = open.parked.max(parked);
        Turn::Parked
    }

    /// Publishers have to wait.
    pub(super) fn block(&mut self) {
        self.gate.blocked = true;
        self.gate.set();
        self.tell_blocked();
    }

    /// Tells the client once that it has to wait, if it publishes.
    pub(super) fn tell_blocked(&mut self) {
        if !self.gate.blocked || !self.gate.publishes || self.gate.told {
            return;
        }
        self.gate.told = true;
        let reason = self.server.broker.blocked_reason();
        if self.client.blocked {
            frame::write_method(&mut self.out, 0, &connection::Blocked { reason }.into());
        }
        tracing::info!(reason, "publisher blocked");
    }

    /// Publishers may go on.
    pub(super) fn unblock(&mut self) {
        if std::mem::take(&mut self.gate.told) {
            if self.client.blocked {
                frame::write_method(&mut self.out, 0, &connection::Unblocked.into());
            }
            tracing::info!("publisher unblocked");
        }
        self.gate.blocked = false;
        self.gate.held = false;
        self.gate.set();
        self.heart.hear();
    }

    /// Puts what was parked before the input that was not acted on yet, once publishers may go on.
    pub(super) fn unpark(&mut self) {
        if self.gate.blocked || self.gate.parked.is_empty() || self.state != State::Open {
            return;
        }
        let mut input = std::mem::take(&mut self.gate.parked);
        input.extend_from_slice(&self.partial);
        self.partial = input;
        self.interrupted = true;
        for channel in self.channels.values_mut() {
            if let ChannelState::Open(open) = channel {
                open.parked = Parked::Nothing;
            }
        }
    }

    /// Drops what is parked of a channel that ends for an error: what it says on this number later is something else.
    pub(super) fn drop_parked(&mut self, number: u16, open: &OpenChannel) {
        if open.parked == Parked::Nothing {
            return;
        }
        let (all, mut messages) = (std::mem::take(&mut self.gate.parked), 0);
        let kept = &mut self.gate.parked;
        for (frame, bytes) in frames(&all) {
            match frame.channel == number {
                true => messages += u64::from(is_publish(&frame)),
                false => kept.extend_from_slice(bytes),
            }
        }
        tracing::warn!(channel = number, messages, "messages that waited for memory or disk were dropped: {ENDED}");
    }

    /// Drops what is parked when the connection ends.
    pub(super) fn drop_all_parked(&mut self) {
        let all = std::mem::take(&mut self.gate.parked);
        if !all.is_empty() {
            let messages = frames(&all).filter(|(frame, _)| is_publish(frame)).count();
            tracing::warn!(messages, "messages that waited for memory or disk were dropped: {ENDED}");
        }
    }
}

const ENDED: &str = "their publisher ended before they were taken";

fn method_id(payload: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = payload.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn is_publish(frame: &Frame<'_>) -> bool {
    frame.kind == frame::METHOD && method_id(frame.payload) == Some(basic::Publish::ID)
}

/// Frames that were whole when they were parked.
fn frames(mut parked: &[u8]) -> impl Iterator<Item = (Frame<'_>, &[u8])> {
    std::iter::from_fn(move || {
        let (frame, len) = frame::parse(parked, 0).ok()??;
        let (bytes, rest) = parked.split_at(len);
        parked = rest;
        Some((frame, bytes))
    })
}
