//! Frames: the envelope of everything after the protocol header.
//!
//! ```text
//!   0      1         3            7                 7+size
//!   +------+---------+------------+-----------------+------+
//!   | kind | channel | size (u32) | payload         | 0xCE |
//!   +------+---------+------------+-----------------+------+
//! ```

use crate::{Error, method::Method};

/// The kind of a frame that holds a method.
pub const METHOD: u8 = 1;
/// The kind of a frame that holds a content header.
pub const HEADER: u8 = 2;
/// The kind of a frame that holds a piece of a body.
pub const BODY: u8 = 3;
/// The kind of a heartbeat, which is empty and travels on channel 0.
pub const HEARTBEAT: u8 = 8;
/// The last octet of every frame.
pub const END: u8 = 0xCE;
/// What a client sends first, and what a server answers if it got anything else.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// Octets of a frame beside its payload: 7 before it and the end octet. They count towards frame_max.
pub const OVERHEAD: usize = HEAD + 1;

const HEAD: usize = 7;
/// As RabbitMQ does, tolerate clients that forget the overhead when they compare with frame_max.
const TOLERANCE: u32 = OVERHEAD as u32;

/// The first 7 octets of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// [`METHOD`], [`HEADER`], [`BODY`] or [`HEARTBEAT`].
    pub kind: u8,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// Octets of payload that follow.
    pub size: u32,
}

/// A whole frame, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// [`METHOD`], [`HEADER`], [`BODY`] or [`HEARTBEAT`].
    pub kind: u8,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What is between the head and the end octet.
    pub payload: &'a [u8],
}

/// Reads the head of a frame; `None` if fewer than 7 octets are there.
///
/// `frame_max` is the negotiated size of a whole frame in octets; 0 means no limit. A caller may reserve memory for
/// what the returned head announces: nothing larger than the limit passes.
///
/// # Errors
/// An unknown kind, a payload over the limit (with 8 octets of tolerance, as RabbitMQ has), or a heartbeat that has
/// a payload or isn't on channel 0.
#[inline]
pub fn parse_head(buf: &[u8], frame_max: u32) -> Result<Option<Head>, Error> {
    let Some(&[kind, c0, c1, s0, s1, s2, s3]) = buf.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let head = Head { kind, channel: u16::from_be_bytes([c0, c1]), size: u32::from_be_bytes([s0, s1, s2, s3]) };
    // The payload's share of frame_max; wrapping makes 0, which stands for no limit, the largest number.
    let limit = frame_max.wrapping_sub(1).saturating_sub(OVERHEAD as u32 - 1);
    if !matches!(kind, METHOD | HEADER | BODY) || head.size > limit.saturating_add(TOLERANCE) {
        check_rare(head, limit)?;
    }
    Ok(Some(head))
}

/// Reads the frame at the start of `buf` and says how many octets it takes; `None` if it isn't complete yet.
///
/// # Errors
/// Those of [`parse_head`], and a frame that doesn't end with [`END`].
#[inline]
pub fn parse(buf: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, Error> {
    let Some(Head { kind, channel, size }) = parse_head(buf, frame_max)? else {
        return Ok(None);
    };
    let rest = &buf[HEAD..];
    let size = size as usize;
    // Comparing before indexing keeps `size + 1` from overflowing where usize has 32 bits.
    if rest.len() <= size {
        return Ok(None);
    }
    let (payload, end) = (&rest[..size], rest[size]);
    if end != END {
        return Err(Error::FrameEnd { kind, found: end });
    }
    Ok(Some((Frame { kind, channel, payload }, size + OVERHEAD)))
}

/// Appends a method frame. The caller sees to it that client-chosen strings fit into the peer's frame_max.
#[inline]
pub fn write_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let [c0, c1] = channel.to_be_bytes();
    let start = out.len();
    out.extend_from_slice(&[METHOD, c0, c1, 0, 0, 0, 0]);
    method.encode(out);
    let size = out.len() - start - HEAD;
    // A method has at most one long string and one table, which `codec` cuts below 4 GiB.
    out[start + 3..start + HEAD].copy_from_slice(&(size as u32).to_be_bytes());
    out.push(END);
}

/// Appends the content header of class `basic`, the only class with content. `properties` are encoded: flags and list.
#[inline]
pub fn write_header(out: &mut Vec<u8>, channel: u16, body_size: u64, properties: &[u8]) {
    const FIXED: usize = 12;
    out.reserve(OVERHEAD + FIXED + properties.len());
    put_head(out, HEADER, channel, FIXED + properties.len());
    let mut fixed = [0; FIXED];
    // The class; the weight after it is always zero.
    fixed[1] = 60;
    fixed[4..].copy_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(properties);
    out.push(END);
}

/// Appends as many body frames as `body` needs; none if it is empty. `frame_max` counts whole frames, 0 is no limit.
#[inline]
pub fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    let limit = match frame_max {
        0 => u32::MAX as usize - OVERHEAD,
        // A frame that can't hold one octet of payload is no frame: the specification's minimum is 4096.
        max => (max as usize).saturating_sub(OVERHEAD).max(1),
    };
    out.reserve(body.len() + OVERHEAD * body.len().div_ceil(limit));
    for piece in body.chunks(limit) {
        put_head(out, BODY, channel, piece.len());
        out.extend_from_slice(piece);
        out.push(END);
    }
}

/// Appends a heartbeat.
#[inline]
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, END]);
}

#[inline]
fn put_head(out: &mut Vec<u8>, kind: u8, channel: u16, size: usize) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (size as u32).to_be_bytes();
    out.extend_from_slice(&[kind, c0, c1, s0, s1, s2, s3]);
}

#[cold]
fn check_rare(head: Head, limit: u32) -> Result<(), Error> {
    let Head { kind, channel, size } = head;
    match kind {
        HEARTBEAT if channel != 0 => Err(Error::HeartbeatChannel { channel }),
        HEARTBEAT if size != 0 => Err(Error::PayloadSize { kind, size: size as usize }),
        HEARTBEAT => Ok(()),
        METHOD | HEADER | BODY => Err(Error::FrameTooLarge { kind, size, limit }),
        _ => Err(Error::UnknownFrame { kind }),
    }
}
