//! `leveret subscribe`: messages as they come, a line each.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::thread;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, queue};
use leveret_wire::properties::{ContentHeader, Properties};
use leveret_wire::table::{Table, Value};
use serde_json::json;

use super::client::{CHANNEL, Connection, Url, write_ack};
use super::print;

/// Print messages as they come, one per line: time (if the message has one), routing key and body.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  leveret subscribe '#'                         everything published to amq.topic
  leveret subscribe 'orders.*' --count 1        the next order
  leveret subscribe info --exchange amq.direct
  leveret subscribe '#' --queue audit           a durable queue: what comes meanwhile waits for the next subscribe
  leveret subscribe '#' --json | jq .body

Ends with Ctrl-C, or when the reader of a pipe goes away.")]
pub struct SubscribeArgs {
    /// The binding key: for a topic exchange, * is one word and # any number of words.
    pub pattern: String,
    /// The exchange to bind to.
    #[arg(long, default_value = "amq.topic", value_name = "NAME")]
    pub exchange: String,
    /// Use a durable queue of this name, and leave it there at the end [default: a queue of our own, deleted at the end].
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// The broker, as amqp://user:password@host:port/vhost.
    #[arg(long, default_value = Url::DEFAULT)]
    pub url: Url,
    /// End after this many messages.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Print one JSON object per line, with properties and headers.
    #[arg(long)]
    pub json: bool,
}

/// Messages are acknowledged when they have been printed; the broker sends as many ahead.
const PREFETCH: u16 = 200;

/// Prints messages until `--count`, Ctrl-C, or the end of whoever reads standard output.
///
/// # Errors
/// When the broker refuses the subscription or the connection fails.
pub fn subscribe(args: &SubscribeArgs) -> Result<()> {
    exit_on_interrupt()?;
    let mut connection = Connection::open(&args.url)?;
    let queue = declare(args, &mut connection)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let prefetch = u16::try_from(left).unwrap_or(PREFETCH).clamp(1, PREFETCH);
    let qos = basic::Qos { prefetch_size: 0, prefetch_count: prefetch, global: false };
    connection.call(qos.into(), |method| matches!(method, Method::BasicQosOk(_)).then_some(()))?;
    let consume = basic::Consume {
        queue: &queue,
        consumer_tag: "",
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    connection.call(consume.into(), |method| matches!(method, Method::BasicConsumeOk(_)).then_some(()))?;
    eprintln!("subscribed to {} with '{}'", args.exchange, args.pattern);
    let mut message = Message::default();
    while left > 0 {
        if !connection.receive(|frame| message.take(frame))? {
            continue;
        }
        let mut line = if args.json { message.json()? } else { message.text()? };
        line.push('\n');
        if !print(&line)? {
            return Ok(());
        }
        let mut ack = Vec::new();
        write_ack(&mut ack, message.delivery_tag);
        connection.send_frames(&ack)?;
        left -= 1;
    }
    connection.close();
    Ok(())
}

/// Ctrl-C is the usual way to end a subscription, so it is a success. Unacknowledged messages go back to the queue.
fn exit_on_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            std::process::exit(0);
        }
    });
    Ok(())
}

/// Declares the queue and binds it; returns its name.
fn declare(args: &SubscribeArgs, connection: &mut Connection) -> Result<String> {
    let declare = queue::Declare {
        queue: args.queue.as_deref().unwrap_or(""),
        passive: false,
        durable: args.queue.is_some(),
        exclusive: args.queue.is_none(),
        auto_delete: args.queue.is_none(),
        no_wait: false,
        arguments: Table::EMPTY,
    };
    let queue = connection.call(declare.into(), |method| match method {
        Method::QueueDeclareOk(ok) => Some(ok.queue.to_owned()),
        _ => None,
    })?;
    let bind = queue::Bind {
        queue: &queue,
        exchange: &args.exchange,
        routing_key: &args.pattern,
        no_wait: false,
        arguments: Table::EMPTY,
    };
    connection.call(bind.into(), |method| matches!(method, Method::QueueBindOk(_)).then_some(()))?;
    Ok(queue)
}

/// The message that is being received.
#[derive(Default)]
struct Message {
    delivery_tag: u64,
    exchange: String,
    key: String,
    redelivered: bool,
    properties: Vec<u8>,
    body: Vec<u8>,
    size: u64,
}

impl Message {
    /// Whether the message is complete with this frame.
    fn take(&mut self, frame: frame::Frame<'_>) -> Result<bool> {
        if frame.channel != CHANNEL {
            return Ok(false);
        }
        match frame.kind {
            frame::METHOD => {
                if let Method::BasicDeliver(deliver) = Method::decode(frame.payload)? {
                    self.delivery_tag = deliver.delivery_tag;
                    self.exchange = deliver.exchange.to_owned();
                    self.key = deliver.routing_key.to_owned();
                    self.redelivered = deliver.redelivered;
                }
                Ok(false)
            }
            frame::HEADER => {
                let header = ContentHeader::decode(frame.payload)?;
                self.size = header.body_size;
                self.properties = header.properties.to_vec();
                self.body.clear();
                Ok(self.size == 0)
            }
            _ => {
                self.body.extend_from_slice(frame.payload);
                Ok(self.body.len() as u64 >= self.size)
            }
        }
    }

    fn text(&self) -> Result<String> {
        let properties = Properties::decode(&self.properties)?;
        let time = properties.timestamp.map(|seconds| utc(seconds) + "  ").unwrap_or_default();
        Ok(format!("{time}{}  {}", escaped(self.key.as_bytes()), escaped(&self.body)))
    }

    fn json(&self) -> Result<String> {
        let properties = Properties::decode(&self.properties)?;
        let mut object = json!({
            "exchange": self.exchange,
            "key": self.key,
            "redelivered": self.redelivered,
        });
        let texts = [
            ("content_type", properties.content_type),
            ("content_encoding", properties.content_encoding),
            ("reply_to", properties.reply_to),
            ("expiration", properties.expiration),
            ("type", properties.r#type),
            ("user_id", properties.user_id),
            ("app_id", properties.app_id),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                object[name] = text.into();
            }
        }
        let ids = [("correlation_id", properties.correlation_id), ("message_id", properties.message_id)];
        for (name, id) in ids {
            if let Some(id) = id {
                object[name] = String::from_utf8_lossy(id).into();
            }
        }
        if let Some(seconds) = properties.timestamp {
            object["timestamp"] = seconds.into();
        }
        for (name, number) in [("delivery_mode", properties.delivery_mode), ("priority", properties.priority)] {
            if let Some(number) = number {
                object[name] = number.into();
            }
        }
        if let Some(headers) = properties.headers {
            object["headers"] = table(headers);
        }
        match std::str::from_utf8(&self.body) {
            Ok(text) => object["body"] = text.into(),
            Err(_) => object["body_base64"] = STANDARD.encode(&self.body).into(),
        }
        Ok(object.to_string())
    }
}

/// A field table for people; the types' widths are lost. Its depth was limited when it was decoded.
fn table(entries: Table<'_>) -> serde_json::Value {
    entries.iter().map(|(key, value)| (key.to_owned(), field(value))).collect::<serde_json::Map<_, _>>().into()
}

fn field(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Bool(value) => value.into(),
        Value::U64(value) | Value::Timestamp(value) => value.into(),
        Value::F32(value) => value.into(),
        Value::F64(value) => value.into(),
        Value::Decimal { scale, value } => (f64::from(value) / 10f64.powi(scale.into())).into(),
        Value::LongString(bytes) | Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => STANDARD.encode(bytes).into(),
        },
        Value::Array(values) => values.iter().map(field).collect(),
        Value::Table(entries) => table(entries),
        Value::Void => serde_json::Value::Null,
        integer => integer.as_i64().into(),
    }
}

/// Text as it is, except that a line stays a line and nothing can move a terminal's cursor.
fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    let text = std::str::from_utf8(bytes);
    if let Ok(text) = text
        && !text.chars().any(char::is_control)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\t' => out.push(char),
                char if char.is_control() => out.extend(char.escape_default()),
                char => out.push(char),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// Seconds since 1970 as a date and a time of day, in the Gregorian calendar as far back and forth as it goes.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that start in March have the leap day at their end, and eras of 400 years all have the same length.
    let day = days.saturating_add(719_468);
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00Z");
        assert!(!utc(u64::MAX).is_empty());
    }

    #[test]
    fn a_body_stays_on_its_line() {
        assert_eq!(escaped("grün und 7".as_bytes()), "grün und 7");
        assert_eq!(escaped(b"a\nb\x1b[2J\t\xff\x00"), "a\\nb\\u{1b}[2J\t\\xff\\u{0}");
    }
}
