//! The content header: what precedes a body, with the properties of class `basic`.

use crate::{
    Error,
    codec::{Reader, put_long_bytes, put_short_bytes, put_short_str},
    frame,
    table::Table,
};

/// A decoded content header, with the properties still encoded: most messages go through a broker without anybody
/// looking at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the content; 60 (`basic`) is the only one there is.
    pub class_id: u16,
    /// Octets of body that follow in body frames.
    pub body_size: u64,
    /// Flags and list, for [`Properties::decode`].
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Decodes the payload of a header frame. The properties aren't looked at.
    ///
    /// # Errors
    /// [`Error::PayloadSize`] if the fixed part or the properties' flags are missing.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        match payload.split_first_chunk::<12>() {
            Some((&[c0, c1, _, _, ref size @ ..], properties)) if properties.len() >= 2 => {
                Ok(Self {
                    // The two octets that aren't bound are the weight, which has no meaning left.
                    class_id: u16::from_be_bytes([c0, c1]),
                    body_size: u64::from_be_bytes(*size),
                    properties,
                })
            }
            _ => Err(Error::PayloadSize { kind: frame::HEADER, size: payload.len() }),
        }
    }
}

/// What a message says about itself. The broker acts on a few of them; most are between publisher and consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The MIME type of the body.
    pub content_type: Option<&'a str>,
    /// The MIME encoding of the body.
    pub content_encoding: Option<&'a str>,
    /// The application's own headers, which headers exchanges match, and those that the broker adds (`x-death`).
    pub headers: Option<Table<'a>>,
    /// 2 is persistent, 1 and none are transient.
    pub delivery_mode: Option<u8>,
    /// The priority in a queue with `x-max-priority`.
    pub priority: Option<u8>,
    /// What a reply refers to. Bytes: some clients put binary ids here, and no broker looks at them.
    pub correlation_id: Option<&'a [u8]>,
    /// The queue that a reply should go to.
    pub reply_to: Option<&'a str>,
    /// How long the message may wait in a queue: milliseconds in decimal digits.
    pub expiration: Option<&'a str>,
    /// The application's name of the message. Bytes, for the same reason.
    pub message_id: Option<&'a [u8]>,
    /// When the message was made: seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's type of the message.
    pub r#type: Option<&'a str>,
    /// The user that published; a broker checks that it is the connection's.
    pub user_id: Option<&'a str>,
    /// The application that published.
    pub app_id: Option<&'a str>,
    /// Deprecated since 0-9-1, where it is called `reserved`.
    pub cluster_id: Option<&'a str>,
}

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const UNDEFINED: u16 = 1 << 1;
/// Another word of flags follows.
const CONTINUED: u16 = 1;

impl<'a> Properties<'a> {
    /// No properties at all.
    pub const EMPTY: Properties<'static> = Properties {
        content_type: None,
        content_encoding: None,
        headers: None,
        delivery_mode: None,
        priority: None,
        correlation_id: None,
        reply_to: None,
        expiration: None,
        message_id: None,
        timestamp: None,
        r#type: None,
        user_id: None,
        app_id: None,
        cluster_id: None,
    };

    /// Decodes flags and list; `bytes` must hold nothing else.
    ///
    /// # Errors
    /// [`Error::Syntax`] and [`Error::TableTooDeep`]; also for a flag that 0-9-1 doesn't define, since the length of
    /// such a property isn't known.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes == [0, 0] {
            return Ok(Self::EMPTY);
        }
        Self::decode_list(bytes, Reader::table)
    }

    /// Takes flags and list apart that [`Properties::decode`] has accepted before, perhaps when tables could be nested
    /// deeper, or that were made from such: the headers are not checked again.
    ///
    /// # Errors
    /// As [`Properties::decode`], but for the headers.
    pub fn decode_stored(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::decode_list(bytes, Reader::stored_table)
    }

    /// The headers of what [`Properties::decode_stored`] takes apart, without a look at the rest. `None` if there are none.
    pub fn stored_headers(bytes: &'a [u8]) -> Option<Table<'a>> {
        let mut input = Reader(bytes);
        let flags = input.u16().ok()?;
        let mut word = flags;
        while word & CONTINUED != 0 {
            word = input.u16().ok()?;
        }
        if flags & HEADERS == 0 {
            return None;
        }
        for before in [CONTENT_TYPE, CONTENT_ENCODING] {
            optional(flags, before, || input.short_bytes()).ok()?;
        }
        input.stored_table().ok()
    }

    #[inline]
    fn decode_list(
        bytes: &'a [u8],
        mut table: impl FnMut(&mut Reader<'a>) -> Result<Table<'a>, Error>,
    ) -> Result<Self, Error> {
        let mut input = Reader(bytes);
        let flags = input.u16()?;
        let mut word = flags;
        while word & CONTINUED != 0 {
            word = input.u16()?;
            // Only the first word has properties. The specification lets empty ones follow.
            if word & !CONTINUED != 0 {
                return Err(Error::Syntax("a flag of an unknown property is set"));
            }
        }
        if flags & UNDEFINED != 0 {
            return Err(Error::Syntax("a flag of an unknown property is set"));
        }
        // The order of these lines is the order on the wire.
        let properties = Self {
            content_type: optional(flags, CONTENT_TYPE, || input.short_str())?,
            content_encoding: optional(flags, CONTENT_ENCODING, || input.short_str())?,
            headers: optional(flags, HEADERS, || table(&mut input))?,
            delivery_mode: optional(flags, DELIVERY_MODE, || input.u8())?,
            priority: optional(flags, PRIORITY, || input.u8())?,
            correlation_id: optional(flags, CORRELATION_ID, || input.short_bytes())?,
            reply_to: optional(flags, REPLY_TO, || input.short_str())?,
            expiration: optional(flags, EXPIRATION, || input.short_str())?,
            message_id: optional(flags, MESSAGE_ID, || input.short_bytes())?,
            timestamp: optional(flags, TIMESTAMP, || input.u64())?,
            r#type: optional(flags, TYPE, || input.short_str())?,
            user_id: optional(flags, USER_ID, || input.short_str())?,
            app_id: optional(flags, APP_ID, || input.short_str())?,
            cluster_id: optional(flags, CLUSTER_ID, || input.short_str())?,
        };
        input.finish()?;
        Ok(properties)
    }

    /// Appends flags and list, as [`frame::write_header`] takes them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        let mut list = List { out, flags: 0 };
        list.short_str(CONTENT_TYPE, self.content_type);
        list.short_str(CONTENT_ENCODING, self.content_encoding);
        list.put(HEADERS, self.headers, |out, table| put_long_bytes(out, table.as_bytes()));
        list.put(DELIVERY_MODE, self.delivery_mode, Vec::push);
        list.put(PRIORITY, self.priority, Vec::push);
        list.put(CORRELATION_ID, self.correlation_id, put_short_bytes);
        list.short_str(REPLY_TO, self.reply_to);
        list.short_str(EXPIRATION, self.expiration);
        list.put(MESSAGE_ID, self.message_id, put_short_bytes);
        list.put(TIMESTAMP, self.timestamp, |out, seconds| out.extend_from_slice(&seconds.to_be_bytes()));
        list.short_str(TYPE, self.r#type);
        list.short_str(USER_ID, self.user_id);
        list.short_str(APP_ID, self.app_id);
        list.short_str(CLUSTER_ID, self.cluster_id);
        let flags = list.flags.to_be_bytes();
        out[start..start + 2].copy_from_slice(&flags);
    }
}

#[inline]
fn optional<T>(flags: u16, flag: u16, read: impl FnOnce() -> Result<T, Error>) -> Result<Option<T>, Error> {
    if flags & flag == 0 { Ok(None) } else { read().map(Some) }
}

/// The list being written, and the flags of what is in it.
struct List<'o> {
    out: &'o mut Vec<u8>,
    flags: u16,
}

impl List<'_> {
    fn put<T>(&mut self, flag: u16, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
        if let Some(value) = value {
            self.flags |= flag;
            put(self.out, value);
        }
    }

    fn short_str(&mut self, flag: u16, value: Option<&str>) {
        self.put(flag, value, put_short_str);
    }
}
