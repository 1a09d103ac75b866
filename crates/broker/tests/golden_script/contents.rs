//! What a directory should hold, in words: a line each for what was declared, where messages are routed, and what is in
//! a queue. The same lines declare it and are checked.

use crate::bench::{Bench, body, headers, properties};
use leveret_broker::{ExchangeDeclare, QueueDeclare};
use leveret_wire::table::{FieldTable, Table, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Messages by virtual host and queue.
pub type Found = BTreeMap<(String, String), Vec<Kept>>;

/// What is in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Of files whose zeros at the end were left off: name and bytes.
    pub lengths: BTreeMap<String, u64>,
    /// Lines that [`declare`] understands, and what [`check`] understands beside those.
    pub topology: Vec<String>,
    pub queues: Found,
}

/// A message as it is delivered after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub number: u32,
    pub redelivered: bool,
    /// How often it was returned to the queue.
    pub returned: u64,
    /// It waits for its next attempt.
    pub waiting: bool,
}

impl Contents {
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, bytes) in &self.lengths {
            writeln!(text, "length {name} {bytes}").expect("strings take everything");
        }
        for line in &self.topology {
            writeln!(text, "{line}").expect("strings take everything");
        }
        for (queue, kept) in &self.queues {
            writeln!(text, "{}", messages(queue, kept)).expect("strings take everything");
        }
        text
    }

    /// Panics at the first queue in which something else is found.
    pub fn compare(&self, found: &Found, what: &str) {
        for (queue, expected) in &self.queues {
            let found = found.get(queue).map_or(&[][..], Vec::as_slice);
            assert_eq!(messages(queue, found), messages(queue, expected), "{what}");
        }
    }

    pub fn parse(text: &str) -> Contents {
        let mut contents = Contents::default();
        for line in text.lines() {
            match &line.split(' ').collect::<Vec<_>>()[..] {
                ["length", name, bytes] => {
                    contents.lengths.insert(name.to_string(), bytes.parse().expect("a number of bytes"));
                }
                ["messages", vhost, queue, kept @ ..] => {
                    let kept = kept.iter().map(|word| Kept::parse(word)).collect();
                    contents.queues.insert((vhost.to_string(), queue.to_string()), kept);
                }
                _ => contents.topology.push(line.to_string()),
            }
        }
        contents
    }
}

/// The line of a queue.
fn messages((vhost, queue): &(String, String), kept: &[Kept]) -> String {
    let mut text = format!("messages {vhost} {queue}");
    for Kept { number, redelivered, returned, waiting } in kept {
        let flag = if *redelivered { "!" } else { "" };
        let returned = if *returned > 0 { format!("x{returned}") } else { String::new() };
        let waiting = if *waiting { "~" } else { "" };
        write!(text, " {number}{flag}{returned}{waiting}").expect("strings take everything");
    }
    text
}

impl Kept {
    /// `7!x2~`: message 7, flagged, returned twice, waiting.
    fn parse(word: &str) -> Kept {
        let waiting = word.ends_with('~');
        let word = word.trim_end_matches('~');
        let (rest, returned) = word.split_once('x').unwrap_or((word, "0"));
        let number = rest.trim_end_matches('!');
        Kept {
            number: number.parse().expect("the number of a message"),
            redelivered: rest.ends_with('!'),
            returned: returned.parse().expect("a count"),
            waiting,
        }
    }
}

/// The words of a line: the first says what it is, the second which virtual host; `key=value` are arguments.
struct Line<'a> {
    words: Vec<&'a str>,
    arguments: FieldTable,
}

impl<'a> Line<'a> {
    fn new(line: &'a str) -> Line<'a> {
        let (pairs, words): (Vec<&str>, Vec<&str>) = line.split(' ').partition(|word| word.contains('='));
        let pairs = pairs.into_iter().filter_map(|pair| pair.split_once('='));
        let value = |text: &'a str| match text.parse::<i64>() {
            Ok(number) => Value::I64(number),
            Err(_) if text == "true" => Value::Bool(true),
            Err(_) => Value::LongString(text.as_bytes()),
        };
        let arguments = pairs.fold(FieldTable::default(), |table, (key, text)| table.with(key, value(text)));
        Line { words, arguments }
    }

    fn has(&self, flag: &str) -> bool {
        self.words.contains(&flag)
    }

    /// A word; `-` is an empty one.
    fn word(&self, at: usize) -> &'a str {
        match self.words[at] {
            "-" => "",
            word => word,
        }
    }

    fn exchange(&self, kind: &'a str) -> ExchangeDeclare<'_> {
        ExchangeDeclare {
            name: self.word(2),
            kind,
            durable: true,
            auto_delete: self.has("auto-delete"),
            internal: self.has("internal"),
            arguments: self.arguments.as_table(),
        }
    }

    fn queue<'t>(&'t self, arguments: Table<'t>) -> QueueDeclare<'t> {
        let auto_delete = self.has("auto-delete");
        QueueDeclare { name: self.word(2), durable: true, exclusive: false, auto_delete, arguments }
    }
}

/// Makes what a line says:
///
/// - `exchange VHOST NAME TYPE [auto-delete] [internal] [KEY=VALUE ...]`
/// - `queue VHOST NAME [auto-delete] [KEY=VALUE ...]`
/// - `bind VHOST SOURCE KEY queue|exchange DESTINATION [KEY=VALUE ...]`
/// - `entry VHOST TABLE KEY VALUE`, whatever the virtual host
pub fn declare(bench: &mut Bench, line: &str) {
    let line = Line::new(line);
    bench.broker.create_vhost(line.word(1));
    let side = bench.side(line.word(1));
    let (vhost, arguments) = (side.session.vhost().clone(), line.arguments.as_table());
    let declared = match line.word(0) {
        "exchange" => vhost.declare_exchange(line.exchange(line.word(3))),
        "queue" => {
            let declared = side.channel.declare_queue(&mut side.session, line.queue(arguments)).map(|_| ());
            let retries = line.arguments.get("x-delayed-retry-min").is_some();
            bench.expect_queue(line.word(1), line.word(2), retries);
            declared
        }
        "bind" if line.word(4) == "queue" => {
            vhost.bind_queue(line.word(5), line.word(2), line.word(3), arguments, side.session.id())
        }
        "bind" => vhost.bind_exchange(line.word(5), line.word(2), line.word(3), arguments),
        "entry" => {
            let value = Some(line.word(4).as_bytes());
            bench.broker.set_entry(line.word(2), line.word(3), value).map(drop)
        }
        other => panic!("'{other}' declares nothing"),
    };
    declared.expect("it can be declared");
}

/// Whether a line is true: those of [`declare`], and
///
/// - `route VHOST EXCHANGE KEY [KEY=VALUE ...] to QUEUE ...`, with the pairs as headers
/// - `again VHOST EXCHANGE KEY NUMBER to QUEUE ...`, which publishes message NUMBER: to nobody if it was there before
/// - `expires VHOST QUEUE MILLISECONDS NUMBER`: so many messages have expired then
/// - `absent VHOST exchange|queue NAME`, `absent VHOST entry TABLE KEY`, `absent VHOST vhost NAME`
///
/// Leaves messages in the queues.
pub fn check(bench: &mut Bench, text: &str, queues: &[(String, String)]) {
    let line = Line::new(text);
    match line.word(0) {
        "route" => return check_route(bench, text, &line, queues, (0, &line.arguments, 5)),
        "again" => {
            let number = line.word(4).parse().expect("the number of a message");
            return check_route(bench, text, &line, queues, (number, &headers(number), 6));
        }
        "expires" => {
            let number = |at: usize| line.word(at).parse::<u64>().expect("a number");
            return assert_eq!(bench.expired(line.word(1), line.word(2), number(3)), number(4), "{text}");
        }
        _ => {}
    }
    assert!(bench.broker.vhost(line.word(1)).is_some(), "there is no virtual host for: {text}");
    let side = bench.side(line.word(1));
    let (vhost, arguments) = (side.session.vhost().clone(), line.arguments.as_table());
    match (line.word(0), line.word(2)) {
        ("entry", table) => {
            let value = bench.broker.entry(table, line.word(3));
            assert_eq!(value.as_deref(), Some(line.word(4).as_bytes()), "{text}");
        }
        ("absent", "entry") => assert_eq!(bench.broker.entry(line.word(3), line.word(4)), None, "{text}"),
        ("absent", "vhost") => assert!(bench.broker.vhost(line.word(3)).is_none(), "it is there: {text}"),
        ("exchange", name) => {
            vhost.check_exchange(name).unwrap_or_else(|error| panic!("{text}: {error}"));
            vhost.declare_exchange(line.exchange(line.word(3))).unwrap_or_else(|error| panic!("{text}: {error}"));
            let other = if line.word(3) == "direct" { "fanout" } else { "direct" };
            assert!(vhost.declare_exchange(line.exchange(other)).is_err(), "it is anything: {text}");
        }
        ("queue", name) => {
            let declare = line.queue(arguments);
            side.channel.check_queue(&mut side.session, name).unwrap_or_else(|error| panic!("{text}: {error}"));
            let same = side.channel.declare_queue(&mut side.session, declare);
            same.unwrap_or_else(|error| panic!("{text}: {error}"));
            let other = QueueDeclare { auto_delete: !declare.auto_delete, ..declare };
            assert!(side.channel.declare_queue(&mut side.session, other).is_err(), "it is anything: {text}");
        }
        // A route tells.
        ("bind", _) => {}
        ("absent", "exchange") => assert!(vhost.check_exchange(line.word(3)).is_err(), "it is there: {text}"),
        ("absent", "queue") => {
            assert!(side.channel.check_queue(&mut side.session, line.word(3)).is_err(), "it is there: {text}");
        }
        _ => panic!("'{text}' says nothing that can be checked"),
    }
}

/// Publishes a message, by number and headers, and looks at which queues have more than before: those from a word on.
fn check_route(
    bench: &mut Bench,
    text: &str,
    line: &Line<'_>,
    queues: &[(String, String)],
    (number, headers, first): (u32, &FieldTable, usize),
) {
    let vhost = line.word(1);
    let queues: Vec<&str> = queues.iter().filter(|(of, _)| of == vhost).map(|(_, name)| name.as_str()).collect();
    let ready = |bench: &mut Bench| -> Vec<u64> {
        let side = bench.side(vhost);
        let status = |name: &&str| side.channel.check_queue(&mut side.session, name).expect("it is there").ready;
        queues.iter().map(status).collect()
    };
    let before = ready(bench);
    properties(number, false, headers.as_table(), |properties, encoded| {
        bench.publish_raw(vhost, line.word(2), line.word(3), properties, encoded, &body(number));
    });
    let grown = ready(bench).into_iter().zip(before).map(|(after, before)| after - before);
    let mut got: Vec<&str> = queues.iter().zip(grown).flat_map(|(name, by)| vec![*name; by as usize]).collect();
    let mut wanted = line.words[first..].to_vec();
    got.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(got, wanted, "{text}");
}
