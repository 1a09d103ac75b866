//! What a filter looks at: the value of a header or a property.

use leveret_wire::properties::Properties;
use leveret_wire::table::Value;
use std::io::Write;

/// A value as far as filters tell values apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Datum<'a> {
    Text(&'a [u8]),
    /// Of any width; seconds of a timestamp as well. Its text is decimal.
    Integer(i128),
    /// It is there, and that is all.
    Other,
}

/// A property that a filter can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    ContentType,
    ContentEncoding,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
}

impl Datum<'_> {
    /// What `ask` says of its text; false if it has none.
    pub(super) fn with_text(&self, ask: impl FnOnce(&[u8]) -> bool) -> bool {
        match *self {
            Datum::Text(text) => ask(text),
            Datum::Integer(number) => {
                // Holds any integer of 64 bits, with its sign.
                let mut digits = [0; 20];
                let mut rest = &mut digits[..];
                let written = write!(rest, "{number}").is_ok();
                let length = 20 - rest.len();
                written && ask(&digits[..length])
            }
            Datum::Other => false,
        }
    }
}

impl<'a> From<Value<'a>> for Datum<'a> {
    fn from(value: Value<'a>) -> Datum<'a> {
        match value {
            Value::LongString(text) => Datum::Text(text),
            Value::Bool(true) => Datum::Text(b"true"),
            Value::Bool(false) => Datum::Text(b"false"),
            Value::U64(number) | Value::Timestamp(number) => Datum::Integer(number.into()),
            other => other.as_i64().map_or(Datum::Other, |number| Datum::Integer(number.into())),
        }
    }
}

impl Property {
    const ALL: [Property; 12] = [
        Property::ContentType,
        Property::ContentEncoding,
        Property::DeliveryMode,
        Property::Priority,
        Property::CorrelationId,
        Property::ReplyTo,
        Property::Expiration,
        Property::MessageId,
        Property::Timestamp,
        Property::Type,
        Property::UserId,
        Property::AppId,
    ];

    /// The property of this name.
    pub(super) fn from_name(name: &str) -> Option<Property> {
        Property::ALL.into_iter().find(|property| property.name() == name)
    }

    /// Its name in the protocol's definition, with underscores.
    pub(super) fn name(self) -> &'static str {
        match self {
            Property::ContentType => "content_type",
            Property::ContentEncoding => "content_encoding",
            Property::DeliveryMode => "delivery_mode",
            Property::Priority => "priority",
            Property::CorrelationId => "correlation_id",
            Property::ReplyTo => "reply_to",
            Property::Expiration => "expiration",
            Property::MessageId => "message_id",
            Property::Timestamp => "timestamp",
            Property::Type => "type",
            Property::UserId => "user_id",
            Property::AppId => "app_id",
        }
    }

    /// It is an integer, and so can be compared with one.
    pub(super) fn is_integer(self) -> bool {
        matches!(self, Property::DeliveryMode | Property::Priority | Property::Timestamp)
    }

    /// Its value in a message, if the message has it.
    pub(super) fn of<'a>(self, properties: &Properties<'a>) -> Option<Datum<'a>> {
        let text = |text: Option<&'a str>| text.map(|text| Datum::Text(text.as_bytes()));
        match self {
            Property::ContentType => text(properties.content_type),
            Property::ContentEncoding => text(properties.content_encoding),
            Property::DeliveryMode => properties.delivery_mode.map(|mode| Datum::Integer(mode.into())),
            Property::Priority => properties.priority.map(|priority| Datum::Integer(priority.into())),
            Property::CorrelationId => properties.correlation_id.map(Datum::Text),
            Property::ReplyTo => text(properties.reply_to),
            Property::Expiration => text(properties.expiration),
            Property::MessageId => properties.message_id.map(Datum::Text),
            Property::Timestamp => properties.timestamp.map(|seconds| Datum::Integer(seconds.into())),
            Property::Type => text(properties.r#type),
            Property::UserId => text(properties.user_id),
            Property::AppId => text(properties.app_id),
        }
    }
}
