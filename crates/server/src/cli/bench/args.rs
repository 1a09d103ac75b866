//! The options of `leveret bench`, and the plan they make.

use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use leveret_wire::table::FieldTable;

use crate::cli::client::Url;

/// Measure a broker: any that speaks AMQP 0-9-1, by URL.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  leveret bench                                          one producer, one consumer, one queue, 16 B
  leveret bench --size 1024 --persistent --confirm 1000  durable queue, at most 1000 unconfirmed
  leveret bench --ack 50 --prefetch 1000                 the consumer acknowledges every 50 messages
  leveret bench --fan-out 10 --size 128                  one exchange, ten queues, ten consumers
  leveret bench --queues 100 --producers 10 --consumers 100
  leveret bench --rate 1000 --size 128                   latency at a steady 1000 messages per second
  leveret bench --exchange amq.topic --random-keys 10000 --size 16..4096 --headers 3
  leveret bench --count 5000000 --fill-only && leveret bench --count 5000000 --drain-only
  leveret bench --queue-argument x-message-ttl=60000
  leveret bench --exchange later --exchange-type direct --delayed --header x-delay=1000..60000 --count 1000 --fill-only
  leveret bench --fan-out 100 --size 1MiB --persistent --confirm 1 --count 10 --fill-only

Queues named after --queue-prefix are deleted before and after a run, with what they hold.")]
pub struct BenchArgs {
    /// The broker, as amqp://user:password@host:port/vhost.
    #[arg(long, default_value = Url::DEFAULT)]
    pub url: Url,
    /// Connections that publish.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub producers: usize,
    /// Connections that consume [default: 1, or one for each queue of --fan-out].
    #[arg(long, value_name = "N")]
    pub consumers: Option<usize>,
    /// Queues; producers and consumers are spread over them.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub queues: usize,
    /// Publish to a fanout exchange that this many queues are bound to.
    #[arg(long, value_name = "QUEUES", conflicts_with_all = ["queues", "exchange", "exchange_type"])]
    pub fan_out: Option<usize>,
    /// Bytes of a message's body, such as 16, 4KiB or 10MiB, or a range such as 16..4096 to draw from.
    #[arg(long, default_value = "16", value_name = "BYTES")]
    pub size: Sizes,
    /// The exchange to publish to; empty for the default exchange, which routes by queue name. All queues are bound
    /// to it: with # (topic), or each with its own keys (direct).
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    pub exchange: String,
    /// The type of --exchange, when its name doesn't say (amq.topic, amq.direct, amq.fanout).
    #[arg(long, value_enum, value_name = "TYPE")]
    pub exchange_type: Option<ExchangeType>,
    /// The routing key [default: the queue's name].
    #[arg(long, conflicts_with = "random_keys")]
    pub key: Option<String>,
    /// Draw the routing key from this many. Needs an exchange.
    #[arg(long, value_name = "N")]
    pub random_keys: Option<usize>,
    /// Headers on each message.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub headers: usize,
    /// A header on each message: a number, a text, or a range of numbers such as 1..1000 to draw from.
    #[arg(long, value_name = "NAME=VALUE")]
    pub header: Vec<Field>,
    /// A message id of its own on each message.
    #[arg(long)]
    pub message_ids: bool,
    /// An argument of the queues, such as x-message-ttl=60000.
    #[arg(long, value_name = "NAME=VALUE")]
    pub queue_argument: Vec<Field>,
    /// The exchange is of type x-delayed-message, and the type is what it routes by: --header x-delay=1000 delays.
    #[arg(long, requires = "exchange_type")]
    pub delayed: bool,
    /// Durable queues and persistent messages.
    #[arg(long)]
    pub persistent: bool,
    /// Publisher confirms, with at most this many messages unconfirmed per producer; 0 for no confirms.
    #[arg(long, default_value_t = 0, value_name = "WINDOW", value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub confirm: u64,
    /// Acknowledge every N messages (multiple=true); 0 for automatic acknowledgement.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub ack: u64,
    /// Unacknowledged messages a consumer may hold (basic.qos); 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub prefetch: u16,
    /// Messages per second, all producers together [default: as fast as possible].
    #[arg(long, value_name = "MSG/S")]
    pub rate: Option<f64>,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", conflicts_with = "count")]
    pub duration: f64,
    /// Seconds to run before measuring.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", conflicts_with = "count")]
    pub warm_up: f64,
    /// Publish exactly this many messages, and wait until all have been received.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Only publish --count messages, and leave them in the queues.
    #[arg(long, requires = "count", conflicts_with_all = ["drain_only", "consumers"])]
    pub fill_only: bool,
    /// Only consume what an earlier --fill-only left [--count default: what the queues hold].
    #[arg(long, conflicts_with = "producers")]
    pub drain_only: bool,
    /// Only declare exchange, queues and bindings, and leave them there.
    #[arg(long, conflicts_with_all = ["declared", "drain_only", "idle_connections"])]
    pub declare_only: bool,
    /// Use what an earlier --declare-only made, with what is in it, instead of beginning anew.
    #[arg(long)]
    pub declared: bool,
    /// Only wait until the queues hold this many messages, for a minute at most.
    #[arg(long, value_name = "N", conflicts_with_all = ["declare_only", "fill_only", "drain_only", "idle_connections"])]
    pub await_backlog: Option<u64>,
    /// Only open this many connections, each with one channel, and hold them until standard input ends.
    #[arg(long, value_name = "N")]
    pub idle_connections: Option<usize>,
    /// Queue i is called PREFIX-i.
    #[arg(long, default_value = "bench", value_name = "PREFIX")]
    pub queue_prefix: String,
    /// Bytes that a producer writes at once.
    #[arg(long, default_value_t = 65536, value_name = "BYTES", hide_short_help = true)]
    pub batch: usize,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How the queues of a benchmark are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExchangeType {
    /// By equal key.
    Direct,
    /// Every queue gets every message.
    Fanout,
    /// Every queue is bound with `#`.
    Topic,
}

impl ExchangeType {
    /// The name in exchange.declare.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        }
    }
}

/// A header or an argument, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// Its value.
    pub value: FieldValue,
}

/// What a header or an argument says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// `true` or `false`.
    Bool(bool),
    /// A number drawn from these; one alone is always the same.
    Numbers(RangeInclusive<i64>),
    /// A text.
    Text(String),
}

impl FromStr for Field {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').with_context(|| format!("{text} isn't NAME=VALUE"))?;
        ensure!(!name.is_empty() && name.len() < 256, "the name in {text} isn't 1 to 255 bytes long");
        let (low, high) = value.split_once("..").unwrap_or((value, value));
        let value = match (value, low.parse(), high.parse()) {
            ("true", ..) => FieldValue::Bool(true),
            ("false", ..) => FieldValue::Bool(false),
            (_, Ok(low), Ok(high)) => {
                ensure!(low <= high, "the range {value} is empty: the smaller number comes first");
                FieldValue::Numbers(low..=high)
            }
            (text, ..) => FieldValue::Text(text.to_string()),
        };
        Ok(Self { name: name.to_string(), value })
    }
}

impl Field {
    /// Adds it to a table; `draw` gives a number below the one that it gets.
    pub fn insert(&self, table: &mut FieldTable, draw: impl FnOnce(u64) -> u64) {
        match &self.value {
            FieldValue::Bool(value) => table.insert(&self.name, *value),
            FieldValue::Numbers(range) => {
                let width = range.end().abs_diff(*range.start()).saturating_add(1);
                table.insert(&self.name, range.start().saturating_add_unsigned(draw(width)));
            }
            FieldValue::Text(text) => table.insert(&self.name, text.as_str()),
        }
    }

    /// It is drawn anew for each message.
    pub fn varies(&self) -> bool {
        matches!(&self.value, FieldValue::Numbers(range) if range.start() != range.end())
    }
}

/// Body sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub RangeInclusive<usize>);

impl Sizes {
    /// 512 MiB, RabbitMQ's own limit.
    const MAX: usize = 512 << 20;

    fn bytes(text: &str) -> Result<usize> {
        let (number, shift) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
            (Some(number), _) => (number, 10),
            (_, Some(number)) => (number, 20),
            _ => (text, 0),
        };
        let number: usize = number.parse().with_context(|| format!("{text} isn't a size: say 16, 4KiB or 10MiB"))?;
        ensure!(number <= Self::MAX >> shift, "a body has at most {} bytes", Self::MAX);
        Ok(number << shift)
    }
}

impl FromStr for Sizes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let (low, high) = (Self::bytes(low)?, Self::bytes(high.trim_start_matches('='))?);
        ensure!(low <= high, "the range {text} is empty: the smaller size comes first");
        Ok(Self(low..=high))
    }
}

/// What is declared at the broker, and who uses which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Empty for the default exchange.
    pub exchange: String,
    /// `None` for the default exchange.
    pub exchange_type: Option<ExchangeType>,
    /// All queues.
    pub queues: Vec<String>,
    /// For each producer the keys it publishes with.
    pub producer_keys: Vec<Vec<String>>,
    /// Whether keys are drawn at random rather than used in turn.
    pub random: bool,
    /// For each consumer the queues it consumes from.
    pub consumer_queues: Vec<Vec<String>>,
    /// Queues that get each message.
    pub copies: u64,
}

impl Plan {
    /// Works out who publishes what to whom.
    ///
    /// # Errors
    /// When options contradict each other.
    pub fn new(args: &BenchArgs) -> Result<Self> {
        let (exchange, exchange_type) = exchange(args)?;
        let queue_count = args.fan_out.unwrap_or(args.queues);
        let consumers = match args.consumers {
            _ if args.fill_only => 0,
            Some(consumers) => consumers,
            None => args.fan_out.unwrap_or(1),
        };
        let producers = if args.drain_only { 0 } else { args.producers };
        ensure!(queue_count > 0, "there must be at least one queue");
        ensure!(producers + consumers > 0, "there must be a producer or a consumer");
        ensure!(
            args.ack == 0 || args.prefetch == 0 || args.ack <= u64::from(args.prefetch),
            "with --prefetch {} and --ack {} the broker would wait for an acknowledgement forever",
            args.prefetch,
            args.ack
        );
        ensure!(
            args.count.is_none() || args.fill_only || consumers > 0,
            "with --count and no consumer nothing would ever arrive: say --fill-only"
        );
        let queues: Vec<_> = (0..queue_count).map(|i| format!("{}-{i}", args.queue_prefix)).collect();
        let by_queue = matches!(exchange_type, None | Some(ExchangeType::Direct));
        let keys = |producer: usize| match (&args.key, args.random_keys) {
            (Some(key), _) => vec![key.clone()],
            (None, Some(keys)) => (0..keys).map(|key| format!("key.{key}")).collect(),
            (None, None) if by_queue => share(producer, producers, &queues),
            (None, None) => vec![args.queue_prefix.clone()],
        };
        Ok(Self {
            producer_keys: (0..producers).map(keys).collect(),
            random: args.random_keys.is_some(),
            consumer_queues: (0..consumers).map(|consumer| share(consumer, consumers, &queues)).collect(),
            copies: if by_queue { 1 } else { queue_count as u64 },
            exchange,
            exchange_type,
            queues,
        })
    }

    /// The bindings to make: queue and key.
    pub fn bindings(&self) -> Vec<(&str, &str)> {
        let to_all = |key| self.queues.iter().map(move |queue| (queue.as_str(), key)).collect();
        match self.exchange_type {
            None => Vec::new(),
            Some(ExchangeType::Fanout) => to_all(""),
            Some(ExchangeType::Topic) => to_all("#"),
            Some(ExchangeType::Direct) => {
                let keys = self.producer_keys.first().map_or(&[][..], Vec::as_slice);
                if !self.random && keys.iter().any(|key| self.queues.contains(key)) {
                    return self.queues.iter().map(|queue| (queue.as_str(), queue.as_str())).collect();
                }
                let queues = self.queues.iter().cycle();
                keys.iter().zip(queues).map(|(key, queue)| (queue.as_str(), key.as_str())).collect()
            }
        }
    }
}

fn exchange(args: &BenchArgs) -> Result<(String, Option<ExchangeType>)> {
    if args.fan_out.is_some() {
        return Ok((format!("{}-fanout", args.queue_prefix), Some(ExchangeType::Fanout)));
    }
    let by_name = match args.exchange.as_str() {
        "" => {
            ensure!(args.exchange_type.is_none(), "--exchange-type needs --exchange");
            ensure!(
                args.random_keys.is_none(),
                "--random-keys needs an exchange, such as --exchange amq.topic: the default exchange routes by queue name"
            );
            return Ok((String::new(), None));
        }
        "amq.direct" => Some(ExchangeType::Direct),
        "amq.fanout" => Some(ExchangeType::Fanout),
        "amq.topic" => Some(ExchangeType::Topic),
        _ => None,
    };
    match args.exchange_type.or(by_name) {
        Some(kind) => Ok((args.exchange.clone(), Some(kind))),
        None => bail!("what type is the exchange {}? Say --exchange-type direct, fanout or topic", args.exchange),
    }
}

/// The queues of one of several producers or consumers: every queue has one, and every one has a queue.
fn share(index: usize, count: usize, queues: &[String]) -> Vec<String> {
    if count >= queues.len() {
        vec![queues[index % queues.len()].clone()]
    } else {
        queues.iter().skip(index).step_by(count).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_a_consumer_and_every_consumer_a_queue() {
        let queues: Vec<_> = (0..7).map(|i| format!("bench-{i}")).collect();
        for count in 1..20 {
            let shares: Vec<_> = (0..count).map(|index| share(index, count, &queues)).collect();
            assert!(shares.iter().all(|share| !share.is_empty()), "{count}");
            let mut all = shares.concat();
            all.sort();
            all.dedup();
            assert_eq!(all, queues, "{count}");
        }
    }

    #[test]
    fn fields_are_numbers_flags_and_texts() {
        let read = |text: &str| text.parse::<Field>().map(|field| field.value).map_err(|error| error.to_string());
        assert_eq!(read("a=5"), Ok(FieldValue::Numbers(5..=5)));
        assert_eq!(read("a=-5..7"), Ok(FieldValue::Numbers(-5..=7)));
        assert_eq!(read("a=true"), Ok(FieldValue::Bool(true)));
        assert_eq!(read("a=b=c"), Ok(FieldValue::Text("b=c".to_string())));
        for wrong in ["a", "=5", "a=7..5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        let read = |text: &str| text.parse::<Sizes>().map(|sizes| sizes.0).map_err(|error| error.to_string());
        assert_eq!(read("16"), Ok(16..=16));
        assert_eq!(read("16..4KiB"), Ok(16..=4096));
        assert_eq!(read("512MiB"), Ok(512 << 20..=512 << 20));
        for wrong in ["", "MiB", "1MB", "-1", "513MiB", "99999999999999MiB", "4KiB..16"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
