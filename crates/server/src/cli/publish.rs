//! `leveret publish`: messages from the command line or from standard input.

use std::io::{BufRead, BufReader, stdin};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use leveret_wire::frame;
use leveret_wire::method::{Method, basic, confirm};
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;

use super::bench::Confirms;
use super::client::{CHANNEL, Connection, Url};

/// Publish messages, and wait until the broker has confirmed them.
///
/// Fails if the broker refuses a message, or if no queue gets it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  leveret publish amq.topic orders.eu 'two hares'
  leveret publish '' tasks '{\"id\": 7}' --content-type application/json --persistent
  leveret publish amq.headers '' hello --header colour=brown --header legs=4
  tail -f app.log | leveret publish amq.topic logs.app -

The empty exchange delivers to the queue named by KEY.")]
pub struct PublishArgs {
    /// The exchange to publish to; '' for the default exchange.
    pub exchange: String,
    /// The routing key.
    pub key: String,
    /// The body; - for one message per line of standard input.
    #[arg(allow_hyphen_values = true)]
    pub body: String,
    /// The broker, as amqp://user:password@host:port/vhost.
    #[arg(long, default_value = Url::DEFAULT)]
    pub url: Url,
    /// A header of the message; may be repeated. Whole numbers, true and false are sent as such.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The MIME type of the body.
    #[arg(long, default_value = "text/plain", value_name = "TYPE")]
    pub content_type: String,
    /// Ask the broker to keep the message on disk.
    #[arg(long)]
    pub persistent: bool,
    /// Publish the message this many times.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub count: u64,
}

fn header(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("a header is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// As many messages are on their way at most before the next one waits for a confirm.
const WINDOW: u64 = 1000;

/// Publishes, and waits for all confirms.
///
/// # Errors
/// When a message was returned as unroutable, was refused, or the connection failed.
pub fn publish(args: &PublishArgs) -> Result<()> {
    let mut connection = Connection::open(&args.url)?;
    let select = confirm::Select { nowait: false };
    connection.call(select.into(), |method| matches!(method, Method::ConfirmSelectOk(_)).then_some(()))?;
    let mut publisher = Publisher::new(args, connection);
    if args.body == "-" {
        let mut lines = BufReader::new(stdin());
        let mut line = Vec::new();
        loop {
            // Nothing is held back while the other end of a pipe is silent.
            if lines.buffer().is_empty() {
                publisher.flush()?;
            }
            line.clear();
            if lines.read_until(b'\n', &mut line).context("cannot read standard input")? == 0 {
                break;
            }
            let body = line.strip_suffix(b"\n").unwrap_or(&line);
            for _ in 0..args.count {
                publisher.publish(body.strip_suffix(b"\r").unwrap_or(body))?;
            }
        }
    } else {
        for _ in 0..args.count {
            publisher.publish(args.body.as_bytes())?;
        }
    }
    publisher.finish()
}

struct Publisher<'a> {
    args: &'a PublishArgs,
    headers: FieldTable,
    connection: Connection,
    output: Vec<u8>,
    confirms: Confirms,
    published: u64,
    returned: u64,
}

impl<'a> Publisher<'a> {
    fn new(args: &'a PublishArgs, connection: Connection) -> Self {
        let mut headers = FieldTable::new();
        for (name, value) in &args.headers {
            match (value.parse::<i64>(), value.parse::<bool>()) {
                (Ok(number), _) => headers.insert(name, number),
                (_, Ok(boolean)) => headers.insert(name, boolean),
                _ => headers.insert(name, value.as_str()),
            }
        }
        let confirms = Confirms::default();
        Self { args, headers, connection, output: Vec::new(), confirms, published: 0, returned: 0 }
    }

    fn publish(&mut self, body: &[u8]) -> Result<()> {
        if self.confirms.outstanding() >= WINDOW {
            self.flush()?;
        }
        let publish = basic::Publish {
            exchange: &self.args.exchange,
            routing_key: &self.args.key,
            mandatory: true,
            immediate: false,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let properties = Properties {
            content_type: Some(&self.args.content_type),
            headers: (!self.headers.is_empty()).then(|| self.headers.as_table()),
            delivery_mode: self.args.persistent.then_some(2),
            timestamp: Some(now.as_secs()),
            ..Properties::EMPTY
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        frame::write_method(&mut self.output, CHANNEL, &publish.into());
        frame::write_header(&mut self.output, CHANNEL, body.len() as u64, &encoded);
        frame::write_body(&mut self.output, CHANNEL, body, self.connection.frame_max);
        self.confirms.sent(1);
        self.published += 1;
        Ok(())
    }

    /// Sends what has been collected and waits for the confirms.
    fn flush(&mut self) -> Result<()> {
        self.connection.send_frames(&self.output)?;
        self.output.clear();
        while self.confirms.outstanding() > 0 {
            let (confirms, returned) = (&mut self.confirms, &mut self.returned);
            self.connection.receive(|frame| {
                if frame.kind != frame::METHOD {
                    // The content of a returned message: we know it.
                    return Ok(());
                }
                match Method::decode(frame.payload)? {
                    Method::BasicAck(ack) => confirms.acked(ack.delivery_tag, ack.multiple),
                    Method::BasicNack(nack) => confirms.nacked(nack.delivery_tag, nack.multiple),
                    Method::BasicReturn(message) => {
                        *returned += 1;
                        eprintln!(
                            "returned: {} {} (exchange '{}', key '{}')",
                            message.reply_code, message.reply_text, message.exchange, message.routing_key
                        );
                    }
                    Method::ConnectionBlocked(blocked) => {
                        eprintln!("the broker has blocked publishers: {}; waiting", blocked.reason);
                    }
                    Method::ConnectionUnblocked(_) => eprintln!("the broker takes messages again"),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.connection.close();
        let (published, returned, refused) = (self.published, self.returned, self.confirms.nacked);
        if returned > 0 {
            bail!("{returned} of {published} messages reached no queue: is one bound with a matching key?");
        }
        if refused > 0 {
            bail!("the broker refused {refused} of {published} messages");
        }
        Ok(())
    }
}
