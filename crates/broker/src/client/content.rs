//! What is published.

use super::Result;
use crate::channel::REPLY_TO;
use crate::error::Error;
use crate::limits::Limits;
use leveret_wire::properties::Properties;

/// The most bytes of a name, and of most properties: AMQP's short strings have one byte for their length.
const SHORT: usize = 255;

/// Delivery modes of AMQP 0-9-1.
const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// A message to be published: its body and properties. Bytes and text become one with `into()`, persistent and without
/// other properties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Content<'a> {
    pub(super) body: &'a [u8],
    pub(super) properties: Properties<'a>,
    pub(super) mandatory: bool,
}

impl<'a> Content<'a> {
    /// A persistent message.
    pub fn new(body: &'a [u8]) -> Content<'a> {
        let properties = Properties { delivery_mode: Some(PERSISTENT), ..Properties::EMPTY };
        Content { body, properties, mandatory: false }
    }

    /// It may be lost when the broker ends, and costs no disk for that.
    #[must_use]
    pub fn transient(mut self) -> Content<'a> {
        self.properties.delivery_mode = Some(TRANSIENT);
        self
    }

    /// It is an error if no queue takes it.
    #[must_use]
    pub fn mandatory(mut self) -> Content<'a> {
        self.mandatory = true;
        self
    }

    /// With these properties. Without a delivery mode among them it stays persistent or transient as it was.
    #[must_use]
    pub fn properties(mut self, properties: Properties<'a>) -> Content<'a> {
        let delivery_mode = properties.delivery_mode.or(self.properties.delivery_mode);
        self.properties = Properties { delivery_mode, ..properties };
        self
    }

    /// What does not fit is refused: it would be cut.
    pub(super) fn check(&self, exchange: &str, key: &str, limits: &Limits) -> Result<()> {
        let max = limits.max_message_size;
        if self.body.len() as u64 > max {
            let text = format!("message size {} is larger than configured max size {max}", self.body.len());
            return Err(Error::precondition(text).into());
        }
        let own = &self.properties;
        let texts = [
            ("the exchange's name", Some(exchange)),
            ("the routing key", Some(key)),
            ("content_type", own.content_type),
            ("content_encoding", own.content_encoding),
            ("reply_to", own.reply_to),
            ("expiration", own.expiration),
            ("type", own.r#type),
            ("user_id", own.user_id),
            ("app_id", own.app_id),
            ("cluster_id", own.cluster_id),
        ];
        let texts = texts.into_iter().map(|(what, text)| (what, text.map_or(0, str::len)));
        let bytes = [("correlation_id", own.correlation_id), ("message_id", own.message_id)];
        let bytes = bytes.into_iter().map(|(what, bytes)| (what, bytes.map_or(0, <[u8]>::len)));
        if let Some((what, len)) = texts.chain(bytes).find(|(_, len)| *len > SHORT) {
            return Err(Error::precondition(format!("{what} has {len} bytes; {SHORT} fit")).into());
        }
        if own.reply_to == Some(REPLY_TO) {
            let text = "direct reply-to is for AMQP connections: declare an exclusive queue for the answers";
            return Err(Error::precondition(text).into());
        }
        Ok(())
    }
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(body: &'a [u8]) -> Content<'a> {
        Content::new(body)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Content<'a> {
    fn from(body: &'a [u8; N]) -> Content<'a> {
        Content::new(body)
    }
}

impl<'a> From<&'a Vec<u8>> for Content<'a> {
    fn from(body: &'a Vec<u8>) -> Content<'a> {
        Content::new(body)
    }
}

impl<'a> From<&'a str> for Content<'a> {
    fn from(body: &'a str) -> Content<'a> {
        Content::new(body.as_bytes())
    }
}

impl<'a> From<&'a String> for Content<'a> {
    fn from(body: &'a String) -> Content<'a> {
        Content::new(body.as_bytes())
    }
}
