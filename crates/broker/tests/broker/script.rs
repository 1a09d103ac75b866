//! A small language for what clients do to a broker, so that a test is a script and what came of it.
//!
//! Commands are separated by `;` or line ends. `2:` in front of one speaks for session 2, `2.3:` for its channel 3;
//! without it, it is channel 1 of session 1. Sessions and channels are opened when they are first named. After each
//! command the session flushes and its channels settle, as a connection does when its input is exhausted. A command
//! that has something to say adds a line, `command -> answer`; one that simply succeeds adds none.
//!
//! ```text
//! declare q|- [passive] [durable] [exclusive] [auto-delete] [x-arg=value ...]      `-` is server-named
//! exchange e type [passive] [durable] [auto-delete] [internal] [alternate-exchange=e2]
//! bind q e key [header=value ...]; unbind ...; bind-exchange destination source key; unbind-exchange ...
//! publish [mandatory] [persistent] q|e/key [cc=a,b] [bcc=c] [reply-to=q] [expiration=ms] [message-id=id] [header=value ...] body ...
//! consume q [as tag] [prefetch n] [no-ack] [exclusive] [x-priority=n] [x-filter=f]; cancel tag; pause tag; resume tag
//! qos n [global]; live-prefetch; pull; get q [no-ack]
//! ack tag [multiple]; nack tag [multiple]; reject tag     (nack and reject: [requeue])
//! recover; confirm; tx; commit; rollback; unacked; memory; check-memory
//! advance ms     lets so much time go by; set-clock ms     sets the time of day, which is another thing
//! redrive q n
//! policy name pattern [operator] [for apply-to] [priority n] key=value ...; no-policy name [operator]
//! policies q; exchange-policies e     which count for it, and what they ask for together
//! restart     (of a broker with a directory) kills it and starts another one; tend     what is behind the log is done
//! and what `operate.rs` lists; purge q; delete q [if-unused] [if-empty]; delete-exchange e [if-unused]; close; disconnect
//! ```

use crate::operate;
use expect_test::Expect;
use leveret_broker::disk::Directory;
use leveret_broker::message::{Message, encode_route};
use leveret_broker::{
    Applied, ApplyTo, Broker, Channel, Consume, Delivery, Environment, Error, Event, ExchangeDeclare, Limits, Policy,
    PolicyKind, Publish, Published, QueueDeclare, QueueStatus, Redriven, Session, Settle, Storage,
};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldArray, FieldTable, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs a script on a new broker and compares what it said.
pub fn check(script: &str, expected: Expect) {
    check_with(Limits::default(), script, expected);
}

/// As [`check`], with limits.
pub fn check_with(limits: Limits, script: &str, expected: Expect) {
    let mut world = World::new(limits);
    world.run_all(script);
    expected.assert_eq(&world.said);
}

/// As [`check`], with a broker that keeps what is durable in a directory. After each command the log is written.
pub fn check_durable(name: &str, script: &str, expected: Expect) {
    expected.assert_eq(&said_durable(name, script));
}

/// What such a script says.
pub fn said_durable(name: &str, script: &str) -> String {
    let path = std::env::temp_dir().join(format!("leveret-script-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let mut world = World::in_directory(path.clone());
    world.run_all(script);
    let said = std::mem::take(&mut world.said);
    drop(world);
    std::fs::remove_dir_all(&path).expect("it is ours");
    said
}

/// A broker whose generated names are numbered.
pub fn broker(limits: Limits) -> Broker {
    Broker::new(limits, environment(&Arc::default()))
}

/// A broker in memory that has its time from a clock.
pub fn broker_at(clock: &Arc<Clock>) -> Broker {
    Broker::new(Limits::default(), environment(clock))
}

/// What time it is in a test.
#[derive(Default)]
pub struct Clock {
    /// Milliseconds that have gone by.
    elapsed: AtomicU64,
    /// What the time of day was set to beyond that.
    set: AtomicU64,
}

impl Clock {
    /// Lets so many milliseconds go by.
    pub fn advance(&self, by: u64) {
        self.elapsed.fetch_add(by, Ordering::Relaxed);
    }
}

fn environment(clock: &Arc<Clock>) -> Environment {
    let counter = AtomicU64::new(1);
    let random = Box::new(move || u128::from(counter.fetch_add(1, Ordering::Relaxed)));
    let (day, steady) = (clock.clone(), clock.clone());
    let now =
        Box::new(move || 1_700_000_000_000 + day.elapsed.load(Ordering::Relaxed) + day.set.load(Ordering::Relaxed));
    let elapsed = Box::new(move || steady.elapsed.load(Ordering::Relaxed));
    Environment { random, now, elapsed, ticks: true }
}

/// A broker that keeps what is durable in a directory.
pub fn open(path: &Path, clock: &Arc<Clock>) -> Broker {
    let mut storage = Storage::new(Arc::new(Directory::open(path).expect("a directory of our own")));
    storage.segment_size = 64 * 1024;
    storage.near_times = 8;
    Broker::recover(Limits::default(), environment(clock), storage).expect("it can be read").0
}

struct World {
    clock: Arc<Clock>,
    /// Where what is durable is.
    directory: Option<PathBuf>,
    broker: Broker,
    connections: BTreeMap<u16, Connection>,
    said: String,
}

struct Connection {
    session: Session,
    channels: BTreeMap<u16, Open>,
}

/// A channel with its consumers' tags by number, which the broker gives in order.
struct Open {
    channel: Channel,
    tags: Vec<String>,
}

/// The words of a command behind its verb.
pub struct Words<'a> {
    positional: Vec<&'a str>,
    table: FieldTable,
}

impl<'a> Words<'a> {
    fn new(words: impl Iterator<Item = &'a str>) -> Words<'a> {
        let (mut positional, mut table) = (Vec::new(), FieldTable::new());
        for word in words {
            match word.split_once('=') {
                None => positional.push(word),
                Some((key, text)) => table.insert(key, value(text)),
            }
        }
        Words { positional, table }
    }

    /// The next word; the empty string is written as two quotes.
    pub fn next(&mut self) -> &'a str {
        assert!(!self.positional.is_empty(), "the command needs another word");
        match self.positional.remove(0) {
            "''" => "",
            word => word,
        }
    }

    pub fn number(&mut self) -> u64 {
        self.next().parse().expect("a number")
    }

    /// Removes a flag; says whether it was there.
    fn flag(&mut self, name: &str) -> bool {
        let at = self.positional.iter().position(|word| *word == name);
        at.map(|at| self.positional.remove(at)).is_some()
    }

    /// Removes a word and the one behind it, which is given.
    fn option(&mut self, name: &str) -> Option<&'a str> {
        let at = self.positional.iter().position(|word| *word == name)?;
        self.positional.remove(at);
        Some(self.positional.remove(at))
    }

    /// Removes an entry of the table, and gives its text.
    pub fn taken(&mut self, key: &str) -> Option<String> {
        let value = self.table.get(key)?;
        let text = value.as_str().map(str::to_string).or(value.as_i64().map(|number| number.to_string()));
        self.table.remove(key);
        text
    }
}

fn value(text: &str) -> Value<'_> {
    match (text, text.parse::<i64>()) {
        ("true", _) => Value::Bool(true),
        ("false", _) => Value::Bool(false),
        ("void", _) => Value::Void,
        (_, Ok(number)) => Value::I64(number),
        (text, _) => Value::from(text),
    }
}

impl World {
    fn new(limits: Limits) -> World {
        let clock = Arc::default();
        let broker = Broker::new(limits, environment(&clock));
        World { clock, directory: None, broker, connections: BTreeMap::new(), said: String::new() }
    }

    fn in_directory(path: PathBuf) -> World {
        let clock = Arc::default();
        let broker = open(&path, &clock);
        World { clock, directory: Some(path), broker, connections: BTreeMap::new(), said: String::new() }
    }

    fn run_all(&mut self, script: &str) {
        for command in script.split([';', '\n']).map(str::trim).filter(|command| !command.is_empty()) {
            self.run(command);
            if self.directory.is_some() {
                while self.broker.write_log() {}
            }
        }
    }

    /// As after a killed process.
    fn restart(&mut self) {
        let path = self.directory.clone().expect("a broker with a directory");
        self.connections.clear();
        self.broker = Broker::in_memory();
        self.broker = open(&path, &self.clock);
        while self.broker.tick() {}
    }

    fn run(&mut self, command: &str) {
        let (address, rest) = command.split_once(':').unwrap_or(("1", command));
        let (session, channel) = address.split_once('.').unwrap_or((address, "1"));
        let session: u16 = session.parse().expect("a session's number before the colon");
        let channel: u16 = channel.parse().expect("a channel's number before the colon");
        let mut words = rest.split_whitespace();
        let verb = words.next().expect("a verb");
        let mut words = Words::new(words);
        self.connections.entry(session).or_insert_with(|| {
            let vhost = self.broker.vhost("/").expect("the default virtual host");
            Connection { session: self.broker.open_session(vhost), channels: BTreeMap::new() }
        });
        let answer = match verb {
            "pull" => Ok(self.pull()),
            "restart" => {
                self.restart();
                Ok(String::new())
            }
            "tend" => {
                while self.broker.write_log() | self.broker.tend() {}
                Ok(String::new())
            }
            "advance" => {
                self.clock.advance(words.number());
                while self.broker.tick() {}
                Ok(String::new())
            }
            "set-clock" => {
                self.clock.set.store(words.number(), Ordering::Relaxed);
                while self.broker.tick() {}
                Ok(String::new())
            }
            "memory" => Ok(format!("{} bytes", self.broker.memory_used())),
            "check-memory" => {
                self.broker.check_memory();
                Ok(String::new())
            }
            "disconnect" => {
                let Connection { session, channels } = self.connections.remove(&session).expect("opened above");
                session.close(channels.into_values().map(|open| open.channel));
                Ok(String::new())
            }
            verb => self.connections.get_mut(&session).expect("opened above").run(channel, verb, words),
        };
        let answer = answer.unwrap_or_else(|Error { scope, code, text }| format!("{scope:?} {code} {text}"));
        if !answer.is_empty() {
            let cut = command.char_indices().nth(120).map_or(command, |(at, _)| &command[..at]);
            writeln!(self.said, "{cut} -> {answer}").expect("strings take everything");
        }
    }

    /// Lets every session act on its mailbox until there is nothing left to pull.
    fn pull(&mut self) -> String {
        let mut got = Vec::new();
        loop {
            let before = got.len();
            for (number, connection) in &mut self.connections {
                for line in connection.pull() {
                    got.push(if *number == 1 { line } else { format!("{number}:{line}") });
                }
            }
            if got.len() == before {
                break;
            }
        }
        if got.is_empty() { "nothing".to_string() } else { got.join(", ") }
    }
}

impl Connection {
    fn run(&mut self, number: u16, verb: &str, words: Words<'_>) -> Result<String, Error> {
        let fresh = || Open { channel: Channel::new(number), tags: Vec::new() };
        if verb == "close" {
            let open = self.channels.remove(&number).unwrap_or_else(fresh);
            open.channel.close(&mut self.session);
            return Ok(String::new());
        }
        let open = self.channels.entry(number).or_insert_with(fresh);
        let said = open.run(&mut self.session, verb, words)?;
        self.session.flush();
        let mut said: Vec<String> = Some(said).filter(|said| !said.is_empty()).into_iter().collect();
        for open in self.channels.values_mut() {
            open.channel.apply_settled();
            said.extend(open.channel.take_refused(&mut self.session).iter().map(|tag| format!("refused {tag}")));
            if let Some((tag, multiple)) = open.channel.take_confirm(&self.session) {
                said.push(format!("confirmed {tag}{}", if multiple { " multiple" } else { "" }));
            }
        }
        Ok(said.join(", "))
    }

    fn pull(&mut self) -> Vec<String> {
        let (mut events, mut said) = (Vec::new(), Vec::new());
        self.session.mailbox().take(&mut events);
        for event in events {
            match event {
                Event::Ready { channel, consumer } => {
                    let Some(open) = self.channels.get_mut(&channel) else { continue };
                    let mut out = Vec::new();
                    while let Some(pulled) = open.channel.pull(&self.session, consumer, 1 << 16, &mut out) {
                        // A connection pulls for as long as there is more, so this would never end.
                        assert!(!out.is_empty() || !pulled.more, "nothing was there, and yet there is more");
                        if !out.is_empty() {
                            said.push(format!("{}: {}", pulled.tag, deliveries(&out, pulled.first_tag)));
                        }
                        out.clear();
                        if !pulled.more {
                            break;
                        }
                    }
                }
                Event::Cancelled { channel, consumer } => {
                    let Some(open) = self.channels.get_mut(&channel) else { continue };
                    if let Some(tag) = open.channel.cancelled(&self.session, consumer) {
                        said.push(format!("{tag} cancelled"));
                    }
                }
                other => said.push(format!("{other:?}")),
            }
        }
        said
    }
}

/// `a(1) b(2)!`: bodies with their tags; `!` is redelivered.
fn deliveries(deliveries: &[Delivery], first_tag: u64) -> String {
    let (mut tag, mut said) = (first_tag, Vec::new());
    for delivery in deliveries {
        let mut at = delivery.offset;
        for _ in 0..delivery.count {
            let (mut message, next) = delivery.block.at(at);
            let properties = delivery.properties(&message);
            if let Some(properties) = &properties {
                message.properties = properties;
            }
            said.push(format!("{}({tag}){}", show_message(&message), if delivery.redelivered { "!" } else { "" }));
            (at, tag) = (next, tag + 1);
        }
    }
    said.join(" ")
}

fn show_message(message: &Message<'_>) -> String {
    let properties = Properties::decode_stored(message.properties).expect("stored properties can be decoded");
    show(&properties, message.body)
}

/// The body, with the headers and reply-to if there are any.
pub fn show(properties: &Properties<'_>, body: &[u8]) -> String {
    let mut said = String::from_utf8_lossy(body).into_owned();
    if let Some(headers) = properties.headers {
        let headers: Vec<String> = headers.iter().filter_map(|(key, value)| header(key, value)).collect();
        write!(said, "[{}]", headers.join(", ")).expect("strings take everything");
    }
    if let Some(expiration) = properties.expiration {
        write!(said, "<expires {expiration}>").expect("strings take everything");
    }
    if let Some(reply_to) = properties.reply_to {
        write!(said, "<{reply_to}>").expect("strings take everything");
    }
    said
}

/// A header's name; of those that the broker writes, what they say. The first and last death are in `x-death`.
fn header(key: &str, value: Value<'_>) -> Option<String> {
    match (key, value) {
        ("x-death", Value::Array(deaths)) => {
            Some(deaths.iter().map(|death| show_death(&death)).collect::<Vec<_>>().join(" < "))
        }
        (key, _) if key.starts_with("x-first-death") || key.starts_with("x-last-death") => None,
        ("x-delay" | "x-delivery-count", value) => Some(format!("{key} {}", value.as_i64().expect("an integer"))),
        (key, _) => Some(key.to_string()),
    }
}

/// `q expired 2`, with the exchange and the keys behind it.
fn show_death(death: &Value<'_>) -> String {
    let Value::Table(death) = death else { return "no death".to_string() };
    let text = |key| death.get(key).and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default();
    let count = death.get("count").and_then(|value| value.as_i64()).unwrap_or(0);
    let expiration = Some(text("original-expiration")).filter(|text| !text.is_empty());
    let expiration = expiration.map(|text| format!(" after {text}")).unwrap_or_default();
    format!("{} {} {count}{expiration}", text("queue"), text("reason"))
}

impl Open {
    fn run(&mut self, session: &mut Session, verb: &str, mut words: Words<'_>) -> Result<String, Error> {
        if let Some(said) = operate::run(session, &self.channel, verb, &mut words) {
            return said;
        }
        match verb {
            "declare" => return self.declare(session, words),
            "exchange" => exchange(session, words)?,
            "bind" | "unbind" | "bind-exchange" | "unbind-exchange" => bind(session, verb, words)?,
            "publish" => return self.publish(session, words),
            "consume" => return self.consume(session, words),
            "cancel" => self.channel.cancel(session, words.next()),
            "pause" => {
                let paused = self.channel.pause(self.number(words.next()));
                return Ok(if paused { "" } else { "not paused" }.to_string());
            }
            "resume" => self.channel.resume(self.number(words.next())),
            "qos" => {
                let global = words.flag("global");
                self.channel.qos(session, words.number() as u16, global);
            }
            "live-prefetch" => session.set_live_prefetch(true),
            "get" => return self.get(session, words),
            "ack" | "nack" | "reject" => self.settle(verb, words)?,
            "recover" => self.channel.recover(session),
            "unacked" => return Ok(self.channel.unacked().to_string()),
            "confirm" => self.channel.select_confirm()?,
            "tx" => self.channel.select_transaction()?,
            "commit" => {
                let mut returned = Vec::new();
                self.channel
                    .commit(session, |message| returned.push(format!("returned {}", show_message(&message))))?;
                return Ok(returned.join(", "));
            }
            "rollback" => self.channel.rollback()?,
            "purge" => return Ok(format!("{} purged", self.channel.purge_queue(session, words.next())?)),
            "delete" => {
                let (unused, empty) = (words.flag("if-unused"), words.flag("if-empty"));
                return Ok(format!("{} deleted", self.channel.delete_queue(session, words.next(), unused, empty)?));
            }
            "redrive" => {
                let (queue, max) = (words.next(), words.number());
                let Redriven { moved, kept } = session.vhost().redrive(queue, max, session.id())?;
                return Ok(format!("{moved} moved, {kept} kept"));
            }
            "policy" => return Ok(set_policy(session, words)),
            "no-policy" => {
                let kind = kind(&mut words);
                let deleted = session.vhost().delete_policy(kind, words.next());
                return Ok(if deleted { "" } else { "there is none" }.to_string());
            }
            "policies" => return Ok(show_policies(&session.vhost().queue_policies(words.next())?)),
            "exchange-policies" => return Ok(show_policies(&session.vhost().exchange_policies(words.next())?)),
            "delete-exchange" => {
                let if_unused = words.flag("if-unused");
                session.vhost().delete_exchange(words.next(), if_unused)?;
            }
            other => panic!("no verb '{other}'"),
        }
        Ok(String::new())
    }

    fn number(&self, tag: &str) -> u32 {
        self.tags.iter().rposition(|known| known == tag).expect("a consumer of this channel") as u32
    }

    fn declare(&mut self, session: &mut Session, mut words: Words<'_>) -> Result<String, Error> {
        let passive = words.flag("passive");
        let (durable, exclusive, auto_delete) =
            (words.flag("durable"), words.flag("exclusive"), words.flag("auto-delete"));
        let name = words.next();
        let name = if name == "-" { "" } else { name };
        let status = match passive {
            true => self.channel.check_queue(session, name)?,
            false => {
                let arguments = words.table.as_table();
                self.channel
                    .declare_queue(session, QueueDeclare { name, durable, exclusive, auto_delete, arguments })?
            }
        };
        let QueueStatus { name: known, ready, waiting, consumers, .. } = status;
        Ok(match (passive, name) {
            (true, _) if waiting > 0 => format!("{known}: {ready} ready, {waiting} waiting, {consumers} consumers"),
            (true, _) => format!("{known}: {ready} ready, {consumers} consumers"),
            (false, "") => known.to_string(),
            (false, _) => String::new(),
        })
    }

    fn publish(&mut self, session: &mut Session, mut words: Words<'_>) -> Result<String, Error> {
        let mandatory = words.flag("mandatory");
        let delivery_mode = words.flag("persistent").then_some(2);
        let to = words.next();
        let (exchange, key) = to.split_once('/').unwrap_or(("", to));
        let route = encode_route(exchange, key);
        for (word, header) in [("cc", "CC"), ("bcc", "BCC")] {
            if let Some(keys) = words.taken(word) {
                let keys = keys.split(',').fold(FieldArray::new(), |array, key| array.with(key));
                words.table.insert(header, &keys);
            }
        }
        let (reply_to, expiration) = (words.taken("reply-to"), words.taken("expiration"));
        let message_id = words.taken("message-id");
        let message_id = message_id.as_deref().map(str::as_bytes);
        let headers = Some(words.table.as_table()).filter(|table| !table.is_empty());
        let (reply_to, expiration) = (reply_to.as_deref(), expiration.as_deref());
        let properties =
            Properties { headers, reply_to, expiration, message_id, delivery_mode, ..Properties::default() };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let mut said = Vec::new();
        for body in &words.positional {
            let publish = Publish { route: &route, mandatory, properties, encoded: &encoded, body: body.as_bytes() };
            if self.channel.publish(session, &publish)? == Published::Unroutable {
                said.push(format!("{} {body}", if mandatory { "returned" } else { "dropped" }));
            }
        }
        Ok(said.join(", "))
    }

    fn consume(&mut self, session: &mut Session, mut words: Words<'_>) -> Result<String, Error> {
        let (no_ack, exclusive) = (words.flag("no-ack"), words.flag("exclusive"));
        let asked = words.option("as").unwrap_or_default();
        if let Some(prefetch) = words.option("prefetch") {
            self.channel.qos(session, prefetch.parse().expect("a number"), false);
        }
        let queue = words.next();
        let arguments = words.table.as_table();
        let tag = self.channel.consume(session, Consume { queue, tag: asked, no_ack, exclusive, arguments })?;
        self.tags.push(tag.to_string());
        Ok(if asked.is_empty() { tag.to_string() } else { String::new() })
    }

    fn get(&mut self, session: &mut Session, mut words: Words<'_>) -> Result<String, Error> {
        let no_ack = words.flag("no-ack");
        Ok(match self.channel.get(session, words.next(), no_ack)? {
            Some((delivery, tag, left)) => format!("{}, {left} left", deliveries(&[delivery], tag)),
            None => "empty".to_string(),
        })
    }

    fn settle(&mut self, verb: &str, mut words: Words<'_>) -> Result<(), Error> {
        let (multiple, requeue) = (words.flag("multiple"), words.flag("requeue"));
        let how = match (verb, requeue) {
            ("ack", _) => Settle::Ack,
            ("reject", true) => Settle::Fail,
            (_, true) => Settle::Requeue,
            (_, false) => Settle::Reject,
        };
        let tag = words.number();
        self.channel.settle(tag, multiple, how)
    }
}

fn kind(words: &mut Words<'_>) -> PolicyKind {
    if words.flag("operator") { PolicyKind::Operator } else { PolicyKind::User }
}

fn set_policy(session: &Session, mut words: Words<'_>) -> String {
    let kind = kind(&mut words);
    let apply_to = words.option("for").map_or(Ok(ApplyTo::All), ApplyTo::from_name);
    let priority = words.option("priority").map_or(0, |priority| priority.parse().expect("a number"));
    let (name, pattern) = (words.next().to_string(), words.next().to_string());
    let definition = words.table;
    let set = apply_to.and_then(|apply_to| {
        session.vhost().set_policy(kind, Policy { name, pattern, apply_to, priority, definition })
    });
    match set {
        Ok(true) => String::new(),
        Ok(false) => "replaced".to_string(),
        Err(error) => error.to_string(),
    }
}

fn show_policies(applied: &Applied) -> String {
    let names = [("policy", &applied.policy), ("operator", &applied.operator)];
    let names = names.iter().filter_map(|(kind, policy)| Some(format!("{kind} {}", policy.as_ref()?.name)));
    let effective = applied.effective();
    let settings = effective.as_table().iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={}", value.as_i64().expect("a number")),
    });
    let said: Vec<String> = names.chain(settings).collect();
    if said.is_empty() { "none".to_string() } else { said.join(" ") }
}

fn exchange(session: &Session, mut words: Words<'_>) -> Result<(), Error> {
    let passive = words.flag("passive");
    let (durable, auto_delete, internal) = (words.flag("durable"), words.flag("auto-delete"), words.flag("internal"));
    let name = words.next();
    if passive {
        return session.vhost().check_exchange(name);
    }
    let (kind, arguments) = (words.next(), words.table.as_table());
    session.vhost().declare_exchange(ExchangeDeclare { name, kind, durable, auto_delete, internal, arguments })
}

fn bind(session: &Session, verb: &str, mut words: Words<'_>) -> Result<(), Error> {
    let (destination, source, key) = (words.next(), words.next(), words.next());
    let (arguments, id, vhost) = (words.table.as_table(), session.id(), session.vhost());
    match verb {
        "bind" => vhost.bind_queue(destination, source, key, arguments, id),
        "unbind" => vhost.unbind_queue(destination, source, key, arguments, id),
        "bind-exchange" => vhost.bind_exchange(destination, source, key, arguments),
        _ => vhost.unbind_exchange(destination, source, key, arguments),
    }
}
