//! From events to bytes and back.

use crate::error::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// Bytes that most events have room in: a buffer that grows from nothing costs as much as what is written to it.
const EVENT: usize = 256;

/// How the events of a topic are written: JSON, unless a topic is made [with another codec](crate::Topic::with_codec).
///
/// ```
/// use leveret::{Codec, Topic};
///
/// /// Words, one beside the other.
/// fn encode(words: &Vec<String>, out: &mut Vec<u8>) -> Result<(), leveret::BoxError> {
///     out.extend_from_slice(words.join(" ").as_bytes());
///     Ok(())
/// }
///
/// fn decode(body: &[u8]) -> Result<Vec<String>, leveret::BoxError> {
///     Ok(std::str::from_utf8(body)?.split(' ').map(str::to_string).collect())
/// }
///
/// static SENTENCES: Topic<Vec<String>> = Topic::with_codec("sentences", Codec::new("text/plain", encode, decode));
/// static IMAGES: Topic<Vec<u8>> = Topic::with_codec("images", Codec::bytes());
/// ```
pub struct Codec<T> {
    content_type: &'static str,
    encode: fn(&T, &mut Vec<u8>) -> Result<(), BoxError>,
    decode: fn(&[u8]) -> Result<T, BoxError>,
}

impl<T> Codec<T> {
    /// A codec of two functions. `content_type` goes with each message, `application/json` for example.
    pub const fn new(
        content_type: &'static str,
        encode: fn(&T, &mut Vec<u8>) -> Result<(), BoxError>,
        decode: fn(&[u8]) -> Result<T, BoxError>,
    ) -> Codec<T> {
        Codec { content_type, encode, decode }
    }

    /// What goes with each message as its content type.
    pub const fn content_type(&self) -> &'static str {
        self.content_type
    }

    pub(crate) fn encode(&self, event: &T) -> Result<Vec<u8>, BoxError> {
        let mut body = Vec::with_capacity(EVENT);
        (self.encode)(event, &mut body)?;
        Ok(body)
    }

    pub(crate) fn decode(&self, body: &[u8]) -> Result<T, BoxError> {
        (self.decode)(body)
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    /// JSON, by serde.
    pub const fn json() -> Codec<T> {
        fn encode<T: Serialize>(event: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
            Ok(serde_json::to_writer(out, event)?)
        }
        fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, BoxError> {
            Ok(serde_json::from_slice(body)?)
        }
        Codec::new("application/json", encode::<T>, decode::<T>)
    }
}

impl Codec<Vec<u8>> {
    /// The bytes as they are.
    pub const fn bytes() -> Codec<Vec<u8>> {
        let encode = |event: &Vec<u8>, out: &mut Vec<u8>| {
            out.extend_from_slice(event);
            Ok(())
        };
        Codec::new("application/octet-stream", encode, |body| Ok(body.to_vec()))
    }
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Codec<T> {
        *self
    }
}

impl<T> Copy for Codec<T> {}

impl<T> fmt::Debug for Codec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}
