//! From bytes to actions: frames in the order in which they came.

use super::connection::{ChannelState, Connection, OpenChannel, State};
use super::failure::Failure;
use super::parking::{Parked, Turn};
use leveret_wire::frame::{self, Frame};
use leveret_wire::method::{Method, channel, connection};
use std::time::{Duration, Instant};

/// The beginning of basic.ack.
const ACK: [u8; 4] = [0, 60, 0, 80];

/// A client that asks for a lot of work at once lets others have the thread after this time.
const TURN: Duration = Duration::from_millis(10);

/// After so much input of a client that waits for confirms, the log gets to work on it.
const FLUSH: usize = 24 * 1024;

/// connection.close-ok as a frame.
const CLOSE_OK: [u8; 12] = [frame::METHOD, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, frame::END];

impl Connection {
    /// Acts on the whole frames of `input` and flushes. Returns how many bytes were used: all of them, unless it was
    /// interrupted because the client is to take its answers first or others are to have a turn.
    pub(super) fn act(&mut self, input: &[u8]) -> usize {
        if self.state == State::Deaf {
            if input.ends_with(&CLOSE_OK) {
                self.state = State::Closed;
            }
            return input.len();
        }
        self.follow_users();
        let begin = Instant::now();
        let (mut at, mut flushed) = (0, 0);
        while self.state != State::Closed {
            if self.is_full() {
                self.interrupted = true;
                break;
            }
            match frame::parse(&input[at..], self.frame_max) {
                Ok(Some((frame, len))) => {
                    if self.gate.shut {
                        match self.turn(&frame, &input[at..at + len]) {
                            Turn::Pass => {}
                            Turn::Parked => {
                                at += len;
                                continue;
                            }
                            Turn::Hold => break,
                        }
                    }
                    match self.frame(&frame, &input[at + len..]) {
                        Ok(Some(more)) => {
                            at += len + more;
                            if at - flushed >= FLUSH && !self.dirty.is_empty() {
                                self.flush();
                                flushed = at;
                            }
                            // Whole messages and acks are cheap. Anything else may not be: it is worth a look at the clock.
                            if more == 0 && !frame.payload.starts_with(&ACK) && begin.elapsed() > TURN {
                                self.interrupted = true;
                                break;
                            }
                        }
                        Ok(None) => break,
                        Err(failure) => {
                            self.fail(frame.channel, failure);
                            at += len;
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.fail(0, Failure::wire(error));
                    self.state = State::Deaf;
                    return input.len();
                }
            }
        }
        self.flush();
        at
    }

    /// Acts on one frame; returns how much of the input behind it was used too, `None` if more input is needed first.
    #[inline]
    fn frame(&mut self, frame: &Frame<'_>, behind: &[u8]) -> Result<Option<usize>, Failure> {
        const PUBLISH: [u8; 4] = [0, 60, 0, 40];
        match frame.kind {
            _ if self.state != State::Open => self.closing_frame(frame).map(|()| Some(0)),
            frame::METHOD if frame.payload.starts_with(&PUBLISH) && self.expects_method(frame.channel) => {
                self.publish(frame.channel, frame.payload, behind)
            }
            frame::METHOD => self.method_frame(frame).map(|()| Some(0)),
            frame::HEARTBEAT => Ok(Some(0)),
            _ => self.content(frame).map(|()| Some(0)),
        }
    }

    /// The channel is open and not in the middle of a message.
    #[inline]
    fn expects_method(&self, number: u16) -> bool {
        matches!(self.channels.get(&number), Some(ChannelState::Open(open)) if open.content.is_none())
    }

    /// After connection.close was sent, only the answer counts, or the client's own close, which crossed ours.
    fn closing_frame(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        if frame.kind == frame::METHOD && frame.channel == 0 {
            match Method::decode(frame.payload) {
                Ok(Method::ConnectionCloseOk(_)) => self.state = State::Closed,
                Ok(Method::ConnectionClose(_)) => {
                    self.send(0, connection::CloseOk);
                    self.state = State::Closed;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn method_frame(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        let number = frame.channel;
        let method = Method::decode(frame.payload).map_err(Failure::wire)?;
        let id = method.id();
        if number == 0 {
            return self.connection_method(method);
        }
        if id.0 == 10 {
            let text = format!("'{}' is only allowed on channel 0", method.name());
            return Err(Failure::connection(503, text, id));
        }
        match self.channels.get(&number) {
            Some(ChannelState::Open(open)) => {
                // Where the rest of the message is parked, what passes by does not interrupt it.
                if let Some(content) = open.content.as_ref().filter(|_| open.parked == Parked::Nothing) {
                    return Err(content.interrupted());
                }
                match method {
                    Method::ChannelOpen(_) => Err(Failure::connection(504, "second 'channel.open' seen", id)),
                    Method::ChannelClose(_) => {
                        self.flush();
                        self.close_channel(number);
                        self.send(number, channel::CloseOk);
                        Ok(())
                    }
                    // Closes cross; ours has been answered already.
                    Method::ChannelCloseOk(_) => Ok(()),
                    method => self.method(number, method),
                }
            }
            Some(ChannelState::Closing) => {
                match method {
                    Method::ChannelCloseOk(_) => drop(self.channels.remove(&number)),
                    Method::ChannelClose(_) => {
                        self.channels.remove(&number);
                        self.send(number, channel::CloseOk);
                    }
                    // Late acks and publishes for a channel that is closing are discarded.
                    _ => {}
                }
                Ok(())
            }
            None => match method {
                Method::ChannelOpen(_) => self.open_channel(number),
                // The answer to a close that crossed the client's own.
                Method::ChannelCloseOk(_) => Ok(()),
                _ => Err(Failure::connection(504, "expected 'channel.open'", id)),
            },
        }
    }

    fn open_channel(&mut self, number: u16) -> Result<(), Failure> {
        let (open, max) = (self.channels.len(), self.channel_max);
        if max != 0 && (open >= usize::from(max) || number > max) {
            let text = match open >= usize::from(max) {
                true => format!("number of channels opened ({open}) has reached the negotiated channel_max ({max})"),
                false => format!("channel number {number} is higher than the negotiated channel_max ({max})"),
            };
            return Err(Failure::connection(530, text, channel::Open::ID));
        }
        let info = self.entry.add_channel(number);
        self.channels.insert(number, ChannelState::Open(Box::new(OpenChannel::new(number, info))));
        self.send(number, channel::OpenOk);
        Ok(())
    }

    fn connection_method(&mut self, method: Method<'_>) -> Result<(), Failure> {
        match method {
            Method::ConnectionClose(close) => {
                if close.reply_code != 200 {
                    tracing::info!(code = close.reply_code, reason = close.reply_text, "the client closes");
                }
                self.flush();
                self.close_all();
                self.send(0, connection::CloseOk);
                self.client_closed = true;
                self.state = State::Closed;
                Ok(())
            }
            // Passwords do not expire here, so a renewed one changes nothing; a login is checked by connecting.
            Method::ConnectionUpdateSecret(_) => {
                self.send(0, connection::UpdateSecretOk);
                Ok(())
            }
            // The answer to a close that crossed the client's own.
            Method::ConnectionCloseOk(_) => Ok(()),
            other => {
                let text = format!("unexpected method '{}' on channel 0", other.name());
                Err(Failure::connection(503, text, other.id()))
            }
        }
    }
}
