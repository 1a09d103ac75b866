//! Counting deliveries in a read buffer, in place.
//!
//! A load generator shares its cores with the broker it measures, so what it spends per message is taken from the
//! result. Messages of one benchmark mostly look alike: three frames whose first bytes (type, channel, size) equal
//! those of the message before. The scanner remembers them and skips such a message with three comparisons; all others
//! are walked frame by frame.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::clock::Latency;
use crate::cli::client;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
/// Type, channel and payload size before the payload, the end octet after it.
const FRAME_OVERHEAD: usize = 8;
const PAYLOAD: usize = 7;
/// class 60, method 60.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
/// The frame's payload starts with class, method and the consumer tag as a short string.
const CONSUMER_TAG: usize = PAYLOAD + 4 + 1;
/// class, weight, body size.
const BODY_SIZE: usize = PAYLOAD + 4;

/// What one consumer has received, and where it stands inside the current message.
#[derive(Default)]
pub struct Scanner {
    /// Messages received completely.
    pub messages: u64,
    /// The bytes of their bodies.
    pub body_bytes: u64,
    /// An acknowledgement is due every so many messages; 0 for none (the broker counts deliveries as acknowledged).
    pub ack_every: u64,
    /// The delivery tag of the last complete message.
    pub last_tag: u64,
    /// The last delivery tag that an acknowledgement was written for.
    pub acked_tag: u64,
    until_ack: u64,
    /// Where the delivery tag stands in the frame of a basic.deliver.
    tag_at: usize,
    shape: Shape,
    current: Option<Current>,
}

/// The sizes of the frames of the last message that lay in the buffer completely.
#[derive(Default)]
struct Shape {
    deliver: u64,
    header: u64,
    body: u64,
    header_at: usize,
    body_at: usize,
    /// 0 while no shape is known.
    total: usize,
}

/// A message of which the last frame hasn't been seen.
struct Current {
    tag: u64,
    deliver: Range<usize>,
    header: Option<Range<usize>>,
    /// Body bytes still to come; meaningful after the header.
    remaining: u64,
    body_bytes: u64,
    /// Whether the frames of this message all lie in the buffer being scanned.
    in_one_buffer: bool,
}

impl Scanner {
    /// A scanner that asks for an acknowledgement every `ack_every` messages (0: never). All consumer tags have
    /// `tag_len` bytes, which fixes where delivery tags stand.
    pub fn new(ack_every: u64, tag_len: usize) -> Self {
        Self { ack_every, until_ack: ack_every, tag_at: CONSUMER_TAG + tag_len, ..Self::default() }
    }

    /// Counts all complete frames at the start of `input` and returns how many bytes they are. Acknowledgements that
    /// are due are appended to `acks`, sampled latencies to `latency`.
    ///
    /// # Errors
    /// When the broker closes the channel or the connection, cancels the consumer, or sends what isn't a frame.
    pub fn scan(&mut self, input: &[u8], acks: &mut Vec<u8>, latency: &mut Latency) -> Result<usize> {
        if let Some(current) = &mut self.current {
            current.in_one_buffer = false;
        }
        let mut at = 0;
        loop {
            if self.current.is_none() {
                at += self.scan_alike(&input[at..], acks, latency);
            }
            let Some(size) = frame_size(&input[at..])? else { return Ok(at) };
            self.frame(input, at..at + size, acks, latency)?;
            at += size;
        }
    }

    /// Skips the messages that look like the last one.
    fn scan_alike(&mut self, input: &[u8], acks: &mut Vec<u8>, latency: &mut Latency) -> usize {
        let Shape { deliver, header, body, header_at, body_at, total } = self.shape;
        if total == 0 {
            return 0;
        }
        let body_size = total - body_at - FRAME_OVERHEAD;
        let mut last_tag = None;
        let mut at = 0;
        for message in input.chunks_exact(total) {
            let alike = word(message, 0) == deliver
                && word(message, header_at) == header
                // The eighth byte belongs to the body's content.
                && word(message, body_at) >> 8 == body
                && message[total - 1] == FRAME_END;
            if !alike {
                break;
            }
            if body_size >= 8 {
                let stamp = word(message, body_at + PAYLOAD);
                if stamp != 0 {
                    latency.record_stamp(stamp);
                }
            }
            if self.ack_every != 0 {
                let tag = word(message, self.tag_at);
                self.count_towards_ack(tag, acks);
            }
            last_tag = Some(&message[..self.tag_at + 8]);
            self.messages += 1;
            at += total;
        }
        if let Some(deliver) = last_tag {
            self.last_tag = word(deliver, self.tag_at);
            self.body_bytes += (at / total * body_size) as u64;
        }
        at
    }

    /// One frame of any kind.
    fn frame(&mut self, input: &[u8], at: Range<usize>, acks: &mut Vec<u8>, latency: &mut Latency) -> Result<()> {
        let frame = &input[at.clone()];
        ensure!(frame[frame.len() - 1] == FRAME_END, "the broker sent a frame that doesn't end with 0xCE");
        match (frame[0], &mut self.current) {
            (METHOD, None) if frame.get(PAYLOAD..PAYLOAD + 4) == Some(&DELIVER) => {
                ensure!(frame.len() > self.tag_at + 8, "the broker sent a basic.deliver that is too short");
                self.current = Some(Current {
                    tag: word(frame, self.tag_at),
                    deliver: at,
                    header: None,
                    remaining: 0,
                    body_bytes: 0,
                    in_one_buffer: true,
                });
            }
            (METHOD, _) => client::refuse_unexpected(frame)?,
            (HEADER, Some(current)) => {
                ensure!(frame.len() > BODY_SIZE + 8, "the broker sent a content header that is too short");
                current.header = Some(at);
                current.remaining = word(frame, BODY_SIZE);
                current.body_bytes = current.remaining;
                if current.remaining == 0 {
                    self.complete(input, None, acks);
                }
            }
            (BODY, Some(current)) => {
                let size = (frame.len() - FRAME_OVERHEAD) as u64;
                let first = current.remaining == current.body_bytes;
                if first && size >= 8 && word(frame, PAYLOAD) != 0 {
                    latency.record_stamp(word(frame, PAYLOAD));
                }
                current.remaining = current
                    .remaining
                    .checked_sub(size)
                    .context("the broker sent more body bytes than the content header announced")?;
                if current.remaining == 0 {
                    self.complete(input, Some(at).filter(|_| first), acks);
                }
            }
            (HEARTBEAT, _) => {}
            (kind, _) => bail!("the broker sent an unexpected frame of type {kind}"),
        }
        Ok(())
    }

    /// Counts the current message and, when it has one body frame and lies in `input` completely, learns its shape.
    fn complete(&mut self, input: &[u8], body: Option<Range<usize>>, acks: &mut Vec<u8>) {
        let Some(current) = self.current.take() else { return };
        self.messages += 1;
        self.body_bytes += current.body_bytes;
        self.last_tag = current.tag;
        if self.ack_every != 0 {
            self.count_towards_ack(current.tag, acks);
        }
        if let (true, Some(header), Some(body)) = (current.in_one_buffer, current.header, body) {
            let start = current.deliver.start;
            self.shape = Shape {
                deliver: word(input, start),
                header: word(input, header.start),
                body: word(input, body.start) >> 8,
                header_at: header.start - start,
                body_at: body.start - start,
                total: body.end - start,
            };
        }
    }

    fn count_towards_ack(&mut self, tag: u64, acks: &mut Vec<u8>) {
        self.until_ack -= 1;
        if self.until_ack == 0 {
            self.until_ack = self.ack_every;
            self.acked_tag = tag;
            client::write_ack(acks, tag);
        }
    }
}

/// The size of the complete frame at the start of `input`, or `None` while more bytes are needed.
fn frame_size(input: &[u8]) -> Result<Option<usize>> {
    if input.len() < FRAME_OVERHEAD {
        return Ok(None);
    }
    let size = u32::from_be_bytes([input[3], input[4], input[5], input[6]]) as usize;
    // A frame longer than the negotiated maximum would never fit into the buffer.
    ensure!(size <= client::FRAME_MAX as usize, "the broker sent a frame of {size} bytes, more than was negotiated");
    Ok(Some(size + FRAME_OVERHEAD).filter(|&total| input.len() >= total))
}

/// Eight bytes in network order. Frames checked by the callers are always longer than what they ask for here.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One delivery as any broker sends it: deliver, header without properties, one body frame per chunk.
    fn delivery(tag: u64, chunks: &[&[u8]]) -> Vec<u8> {
        let frame = |kind: u8, payload: &[u8]| {
            let mut out = vec![kind, 0, 1];
            out.extend((payload.len() as u32).to_be_bytes());
            out.extend(payload);
            out.push(FRAME_END);
            out
        };
        let mut deliver = vec![0, 60, 0, 60, 1, b'c'];
        deliver.extend(tag.to_be_bytes());
        deliver.extend([0, 0, 3, b'k', b'e', b'y']);
        let mut header = vec![0, 60, 0, 0];
        header.extend((chunks.iter().map(|chunk| chunk.len()).sum::<usize>() as u64).to_be_bytes());
        header.extend([0, 0]);
        let mut out = frame(METHOD, &deliver);
        out.extend(frame(HEADER, &header));
        for chunk in chunks {
            out.extend(frame(BODY, chunk));
        }
        out
    }

    /// Sizes that repeat, change, are empty and come in several frames.
    fn stream() -> (Vec<u8>, u64, u64) {
        let bodies: [&[&[u8]]; 8] =
            [&[&[0; 16]], &[&[0; 16]], &[&[0; 16]], &[], &[&[0; 3]], &[&[0; 100], &[1; 28]], &[&[0; 16]], &[&[0; 16]]];
        let mut bytes = Vec::new();
        for (tag, chunks) in (1..).zip(bodies) {
            bytes.extend(delivery(tag, chunks));
            // A heartbeat may stand between any two frames.
            bytes.extend([HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
        }
        (bytes, 8, 5 * 16 + 3 + 128)
    }

    #[test]
    fn counts_alike_however_the_bytes_arrive() {
        let (bytes, messages, body_bytes) = stream();
        for chunk in 1..bytes.len() {
            let mut scanner = Scanner::new(3, 1);
            let (mut acks, mut latency) = (Vec::new(), Latency::start());
            let (mut buffer, mut fed) = (Vec::new(), 0);
            while fed < bytes.len() {
                let end = (fed + chunk).min(bytes.len());
                buffer.extend_from_slice(&bytes[fed..end]);
                fed = end;
                let used = scanner.scan(&buffer, &mut acks, &mut latency).unwrap();
                buffer.drain(..used);
            }
            assert_eq!((scanner.messages, scanner.body_bytes), (messages, body_bytes), "chunks of {chunk}");
            assert_eq!((scanner.last_tag, scanner.acked_tag), (8, 6), "chunks of {chunk}");
            assert!(buffer.is_empty());
            let mut expected = Vec::new();
            client::write_ack(&mut expected, 3);
            client::write_ack(&mut expected, 6);
            assert_eq!(acks, expected);
        }
    }

    #[test]
    fn a_frame_with_a_wrong_end_is_an_error() {
        let mut bytes = delivery(1, &[&[0; 16]]);
        *bytes.last_mut().unwrap() = 0;
        let outcome = Scanner::new(0, 1).scan(&bytes, &mut Vec::new(), &mut Latency::start());
        assert!(outcome.is_err());
    }
}
