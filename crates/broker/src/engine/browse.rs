//! Looking at a queue's messages without taking them: its lock is held for moments, what is on the disk is read beside it,
//! and nothing of the queue changes.

use super::{SharedQueue, VirtualHost};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::log::Place;
use crate::message::{Block, Message, decode_route};
use crate::queue::{Glance, MessageState, Source, Wanted};
use leveret_wire::properties::Properties;
use memchr::memmem::Finder;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which messages of a queue to show.
#[derive(Clone, Debug)]
pub struct Browse {
    /// Begins at the first message whose position is not below this: [`Browsed::next`] of an earlier one goes on there.
    pub from: u64,
    /// Passes over so many of the messages that would be shown.
    pub offset: u64,
    /// Shows so many at most.
    pub count: usize,
    /// Only messages in one of these states; all, if it is empty.
    pub states: Vec<MessageState>,
    /// Only messages whose headers and properties meet this.
    pub filter: Option<Filter>,
    /// Only messages whose routing key has this in it.
    pub key: Option<String>,
    /// Only messages whose body has these bytes in it.
    pub contains: Option<Vec<u8>>,
    /// Looks into so many messages at most.
    pub max_scanned: u64,
    /// Reads so many bytes at most, or one message more.
    pub max_bytes: u64,
    /// Shows so many bytes of a body at most.
    pub max_body: usize,
    /// Takes so much time at most, or the reading of one block more.
    pub patience: Duration,
}

impl Default for Browse {
    /// The first 50 messages in any state, with at most 64 KiB of each body; looks into 100,000 messages or 256 MiB for at
    /// most two seconds.
    fn default() -> Browse {
        Browse {
            from: 0,
            offset: 0,
            count: 50,
            states: Vec::new(),
            filter: None,
            key: None,
            contains: None,
            max_scanned: 100_000,
            max_bytes: 256 * 1024 * 1024,
            max_body: 64 * 1024,
            patience: Duration::from_secs(2),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Browsed {
    /// The messages, in the queue's order.
    pub messages: Vec<BrowsedMessage>,
    /// So many messages were looked into.
    pub scanned: u64,
    /// Where to go on for more: none if the queue's end was reached.
    pub next: Option<u64>,
    /// It ended there because there were enough messages, and not because it took too long or would have read too much.
    pub complete: bool,
}

/// A message as it lies in its queue.
#[derive(Clone, Debug)]
pub struct BrowsedMessage {
    /// Its place in the queue. No other message of this queue has or gets it.
    pub position: u64,
    /// Whether it waits or was handed out.
    pub state: MessageState,
    /// The exchange that it was published to.
    pub exchange: Box<str>,
    /// Its routing key.
    pub routing_key: Box<str>,
    /// Its properties as encoded in a content header; see [`BrowsedMessage::properties`].
    pub encoded_properties: Box<[u8]>,
    /// The beginning of its body.
    pub body: Box<[u8]>,
    /// Bytes of the whole body.
    pub body_length: u64,
    /// Published with delivery mode 2.
    pub persistent: bool,
    /// It was handed out before, or may have been before a restart; what holds it now does not count.
    pub redelivered: bool,
    /// How often it came back.
    pub returned: u64,
    /// When it came, in milliseconds since 1970, to about a part in a hundred of its age; `None` if that was before the
    /// broker was started.
    pub arrived: Option<u64>,
}

impl BrowsedMessage {
    /// Its properties.
    pub fn properties(&self) -> Properties<'_> {
        // Checked when it was published.
        Properties::decode_stored(&self.encoded_properties).unwrap_or_default()
    }
}

impl VirtualHost {
    /// Shows messages of a queue, whoever may use it, without taking them: none is flagged or counted, and none changes its
    /// place. It may block while it reads from the disk. What is published, handed out or settled meanwhile may be shown or
    /// not.
    ///
    /// # Errors
    /// 404 if there is no such queue, 406 if messages of it are damaged.
    pub fn browse(&self, queue: &str, browse: &Browse) -> Result<Browsed> {
        let queue = self.listed_queue(queue)?;
        queue.check_undamaged()?;
        let skips = browse.filter.is_none() && browse.key.is_none() && browse.contains.is_none();
        let browser = Browser {
            queue: &queue,
            browse,
            until: Instant::now().checked_add(browse.patience),
            contains: browse.contains.as_ref().map(Finder::new),
            skips,
            offset: browse.offset,
            bytes: 0,
            block: None,
            places: Vec::new(),
            found: Browsed::default(),
        };
        browser.run()
    }
}

/// One who looks.
struct Browser<'a> {
    queue: &'a SharedQueue,
    browse: &'a Browse,
    until: Option<Instant>,
    contains: Option<Finder<'a>>,
    /// What is passed over need not be read.
    skips: bool,
    /// Still to be passed over.
    offset: u64,
    /// Read so far.
    bytes: u64,
    /// The last block that was read: the position of its first message.
    block: Option<(u64, Arc<Block>)>,
    /// Where the messages behind that are, if an index has told.
    places: Vec<(u64, u32, Place)>,
    found: Browsed,
}

/// A message that could not be read is tried again so often: its file may have been merged into another one meanwhile.
const ATTEMPTS: u32 = 3;

/// Stretches that are passed over under one lock.
const STRETCHES: u32 = 256;

impl Browser<'_> {
    fn run(mut self) -> Result<Browsed> {
        let (mut at, mut failed) = (self.browse.from, 0);
        loop {
            let Some((glance, source)) = self.look(&mut at) else {
                self.found.complete = true;
                return Ok(self.found);
            };
            if let Some(complete) = self.is_over() {
                (self.found.next, self.found.complete) = (Some(glance.position), complete);
                return Ok(self.found);
            }
            match self.read(&glance, source) {
                Ok((block, offset, count)) => at = self.show(&glance, &block, offset, count),
                Err(why) => {
                    failed += 1;
                    (self.block, self.places) = (None, Vec::new());
                    if failed == ATTEMPTS {
                        let (position, name) = (glance.position, &self.queue.name);
                        let text = format!("message {position} of queue '{name}' cannot be read: {why}");
                        return Err(Error::precondition(text));
                    }
                    continue;
                }
            }
            failed = 0;
        }
    }

    /// It is at an end; true if there is enough.
    fn is_over(&self) -> Option<bool> {
        if self.found.messages.len() >= self.browse.count {
            return Some(true);
        }
        let is_late = self.until.is_some_and(|until| Instant::now() >= until);
        let enough = self.found.scanned >= self.browse.max_scanned || self.bytes >= self.browse.max_bytes;
        (is_late || enough).then_some(false)
    }

    /// The next messages that may be shown, and where they are.
    fn look(&mut self, at: &mut u64) -> Option<(Glance, Source)> {
        loop {
            let mut queue = self.queue.state.lock();
            for _ in 0..STRETCHES {
                let mut glance = queue.glance(*at)?;
                let end = glance.position + glance.count;
                if !self.browse.states.is_empty() && !self.browse.states.contains(&glance.state) {
                    *at = end;
                    continue;
                }
                let skipped = if self.skips { self.offset.min(glance.count) } else { 0 };
                self.offset -= skipped;
                (glance.position, glance.count) = (glance.position + skipped, glance.count - skipped);
                if glance.count > 0 {
                    *at = glance.position;
                    let source = queue.source(&glance)?;
                    return Some((glance, source));
                }
                *at = end;
            }
        }
    }

    /// The messages of a glance, or the first of them: a block, where in it they begin, and how many they are.
    fn read(&mut self, glance: &Glance, source: Source) -> std::result::Result<(Arc<Block>, usize, u32), String> {
        let wanted = match source {
            Source::Memory { block, offset, count } => return Ok((block, offset, count)),
            Source::Stored(wanted) => wanted,
            Source::Index { spans, end } => {
                let place = match self.place(glance.position) {
                    Some(place) => place,
                    None => {
                        let durable = self.queue.durable.as_ref().ok_or("it is nowhere")?;
                        let found = durable.store.lookup(glance.position, &spans).map_err(|error| error.to_string())?;
                        let (file, entries) = found.ok_or("no file has it")?;
                        let place = |at: u32, length| Place { lsn: u64::from(file) << 32 | u64::from(at), length };
                        let places = entries.iter().map(|it| (it.position, it.count, place(it.offset, it.length)));
                        self.places = places.collect();
                        self.place(glance.position).ok_or("no file has it")?
                    }
                };
                let (first, count, place) = place;
                let count = (first + u64::from(count)).min(end) - glance.position;
                Wanted { first: glance.position, count: count as u32, places: vec![(0, place)], overflow: None }
            }
        };
        let known = self
            .block
            .as_ref()
            .filter(|(first, block)| (*first..first + u64::from(block.count())).contains(&glance.position));
        let (first, block) = match known {
            Some((first, block)) => (*first, block.clone()),
            None => {
                let block = self.queue.read(&wanted)?;
                self.block = Some((wanted.first, block.clone()));
                (wanted.first, block)
            }
        };
        let number = (glance.position - first) as u32;
        let count = u64::from(block.count() - number).min(glance.count) as u32;
        Ok((block.clone(), block.skip(0, number), count))
    }

    fn place(&self, position: u64) -> Option<(u64, u32, Place)> {
        let covers = |(first, count, _): &&(u64, u32, Place)| (*first..first + u64::from(*count)).contains(&position);
        self.places.iter().find(covers).copied()
    }

    /// Shows those of the messages that are asked for; returns the position behind the last one that was looked at.
    fn show(&mut self, glance: &Glance, block: &Block, offset: usize, count: u32) -> u64 {
        let mut offset = offset;
        for position in glance.position..glance.position + u64::from(count) {
            if position > glance.position && self.is_enough() {
                return position;
            }
            let (message, next) = block.at(offset);
            self.bytes += (next - offset) as u64;
            self.found.scanned += 1;
            offset = next;
            if !self.is_asked_for(&message) {
                continue;
            }
            if self.offset > 0 {
                self.offset -= 1;
                continue;
            }
            let shown = self.shown(glance, position, &message);
            self.found.messages.push(shown);
        }
        glance.position + u64::from(count)
    }

    fn is_enough(&self) -> bool {
        self.found.messages.len() >= self.browse.count
            || self.found.scanned >= self.browse.max_scanned
            || self.bytes >= self.browse.max_bytes
    }

    fn is_asked_for(&self, message: &Message<'_>) -> bool {
        if let Some(key) = &self.browse.key
            && !decode_route(message.route).is_some_and(|(_, own)| own.contains(&**key))
        {
            return false;
        }
        if let Some(filter) = &self.browse.filter
            && !Properties::decode_stored(message.properties).is_ok_and(|properties| filter.matches(&properties))
        {
            return false;
        }
        self.contains.as_ref().is_none_or(|contains| contains.find(message.body).is_some())
    }

    fn shown(&self, glance: &Glance, position: u64, message: &Message<'_>) -> BrowsedMessage {
        let (exchange, routing_key) = decode_route(message.route).unwrap_or_default();
        let body = &message.body[..message.body.len().min(self.browse.max_body)];
        BrowsedMessage {
            position,
            state: glance.state,
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            encoded_properties: message.properties.into(),
            body: body.into(),
            body_length: message.body.len() as u64,
            persistent: message.persistent,
            redelivered: glance.redelivered,
            returned: glance.returned,
            arrived: self.queue.state.lock().arrival(position),
        }
    }
}
