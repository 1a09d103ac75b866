use std::fmt;

use crate::method::reply_code;

/// Why bytes from a peer are not AMQP 0-9-1, with the reply code that ends its connection.
///
/// All of these are connection errors: after any of them the position in the stream can't be trusted. The texts
/// follow RabbitMQ's, which is what people search for; [`reply_text`](Self::reply_text) adds the name of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A frame's first octet is none of method, header, body and heartbeat.
    UnknownFrame {
        /// The octet.
        kind: u8,
    },
    /// A frame's payload is longer than the negotiated frame_max allows.
    FrameTooLarge {
        /// The frame's kind.
        kind: u8,
        /// Octets of payload it announces.
        size: u32,
        /// Octets of payload that are allowed.
        limit: u32,
    },
    /// A frame doesn't end with [`frame::END`](crate::frame::END).
    FrameEnd {
        /// The frame's kind.
        kind: u8,
        /// What stands in the place of the end octet.
        found: u8,
    },
    /// A heartbeat isn't empty, or a method or content header is too short to say what it is.
    PayloadSize {
        /// The frame's kind.
        kind: u8,
        /// Octets of payload.
        size: usize,
    },
    /// A heartbeat came on a channel other than 0 (section 4.2.7 of the specification).
    HeartbeatChannel {
        /// The channel.
        channel: u16,
    },
    /// No method has these ids.
    UnknownMethod {
        /// The class.
        class_id: u16,
        /// The method in the class.
        method_id: u16,
    },
    /// Arguments, properties or a field table can't be decoded; says what is wrong.
    Syntax(&'static str),
    /// Field tables and arrays are nested more than [`max_depth`](crate::table::max_depth) deep.
    TableTooDeep,
}

impl Error {
    /// The code to put into `connection.close`.
    pub fn reply_code(&self) -> u16 {
        match self {
            Self::UnknownFrame { .. }
            | Self::FrameTooLarge { .. }
            | Self::FrameEnd { .. }
            | Self::PayloadSize { .. } => reply_code::FRAME_ERROR,
            Self::HeartbeatChannel { .. } => reply_code::UNEXPECTED_FRAME,
            Self::UnknownMethod { .. } => reply_code::COMMAND_INVALID,
            Self::Syntax(_) | Self::TableTooDeep => reply_code::SYNTAX_ERROR,
        }
    }

    /// The text to put into `connection.close`: `FRAME_ERROR - ...`, as RabbitMQ writes it.
    pub fn reply_text(&self) -> String {
        format!("{} - {self}", reply_code::name(self.reply_code()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownFrame { kind } => write!(f, "type {kind}: unknown_frame"),
            Self::FrameTooLarge { kind, size, limit } => {
                write!(f, "type {kind}, all octets = <<>>: {{frame_too_large,{size},{limit}}}")
            }
            Self::FrameEnd { kind, found } => {
                write!(f, "type {kind}: {{invalid_frame_end_marker,{found}}}")
            }
            Self::PayloadSize { kind, size } => {
                write!(f, "type {kind}: unknown_frame, a payload of {size} octets is not possible")
            }
            Self::HeartbeatChannel { channel } => {
                write!(f, "unexpected heartbeat frame on channel {channel}, expected it on channel 0")
            }
            Self::UnknownMethod { class_id, method_id } => {
                write!(f, "unknown method: class {class_id}, method {method_id}")
            }
            Self::Syntax(what) => write!(f, "cannot decode: {what}"),
            Self::TableTooDeep => {
                write!(f, "cannot decode: tables and arrays are nested more than {} deep", crate::table::max_depth())
            }
        }
    }
}

impl std::error::Error for Error {}
