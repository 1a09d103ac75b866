//! The way in: messages of one connection on their way to the queues, a run at a time.
//!
//! Messages for the same queues are packed into one run and appended under one lock per queue. The owner
//! calls [`Publisher::flush`] when its input is exhausted, so nothing waits longer than one read of the socket.

mod once;
mod routes;
mod rules;

pub(crate) use self::once::{Sorting, check_epochs};
use self::routes::Routes;
pub(crate) use self::rules::Lives;
use crate::arguments::{TIME_MAX, type_name};
use crate::consumers::{Wakes, wake};
use crate::counters::ExchangeMeter;
use crate::dedup::{Guard, Hash, Point, Seed, Sequence, own_ttl};
use crate::delay::check_delay;
use crate::engine::{Durable, SharedQueue, VirtualHost};
use crate::error::{Error, Result};
use crate::log::{Beside, LARGE_MIN, Log, Lsn, Part, Target, Ticket, Unit};
use crate::mailbox::Mailbox;
use crate::message::{BLOCK_MAX, Block, Run, SHARE_MIN, decode_route};
use crate::queue::Queue;
use crate::segment::Places;
use crate::times::Time;
use crate::topology::Routed;
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Table, Value};
use std::sync::Arc;

/// Runs to different queues that are filled side by side: as many queues as a busy connection publishes to in turn.
const OPEN_MAX: usize = 128;

/// Messages for the same queues become one run up to this size.
const RUN_MAX: usize = BLOCK_MAX;

/// A publisher whose messages wait behind so many bytes to be written pauses, so that the way to the disk holds a bounded
/// amount of memory and not everything that publishers can send.
const BEHIND: u64 = 8 * 1024 * 1024;

/// One message as a client publishes it.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Exchange and routing key, see [`crate::message::encode_route`].
    pub route: &'a [u8],
    /// It is to be returned if no queue takes it.
    pub mandatory: bool,
    /// Its properties, decoded.
    pub properties: Properties<'a>,
    /// The same as encoded in the content header.
    pub encoded: &'a [u8],
    /// The payload.
    pub body: &'a [u8],
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is in at least one queue, or will be at the next flush or commit.
    Routed,
    /// No queue took it; it is gone unless the caller returns it.
    Unroutable,
}

/// The queues that a route leads to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) queues: Box<[Arc<SharedQueue>]>,
    /// One of them is durable.
    durable: bool,
    /// One of them has rules for what is published.
    special: bool,
    /// One of them may refuse.
    refuses: bool,
    /// One of them is where messages wait before they are routed.
    delays: bool,
    /// Where duplicates are left out, and in which queue those are; `None` for the exchange, which is the first.
    guards: Box<[(Guard, Option<u32>)]>,
    /// Of the exchange that clients publish to by it.
    meter: Option<Arc<ExchangeMeter>>,
}

/// Messages for the same queues.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) route: Arc<Route>,
    /// The log records them.
    pub(crate) logged: bool,
    pub(crate) run: Run,
    pub(crate) notes: Notes,
}

/// What is said of the messages of a run beside the messages; nothing of most.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Messages with times of their own, in order.
    pub(crate) own: Vec<Own>,
    /// Channel and tag of each message, if some may be refused.
    pub(crate) tags: Vec<(u16, u64)>,
    /// Keys of messages, in the order of those, where duplicates are left out.
    keys: Vec<Keyed>,
    /// Messages that their producers have numbered, in order.
    sequences: Vec<Sequenced>,
}

/// A key of a message.
#[derive(Clone, Copy, Debug)]
struct Keyed {
    /// The message's number in the run.
    number: u32,
    /// Among those of the route.
    guard: u32,
    key: Hash,
    /// Milliseconds for which the message asks to be remembered.
    ttl: Option<u64>,
}

/// A message that its producer has numbered.
#[derive(Clone, Copy, Debug)]
struct Sequenced {
    /// Its number in the run.
    number: u32,
    sequence: Sequence,
    /// Channel and tag.
    tag: (u16, u64),
}

/// What a message says of itself that counts on its route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// It may live so many milliseconds.
    pub(crate) life: Option<u64>,
    /// It is to wait so many milliseconds before it is routed.
    pub(crate) delay: Option<u64>,
    /// Its key is to be remembered for so many milliseconds.
    ttl: Option<u64>,
    pub(crate) sequence: Option<Sequence>,
    /// For its keys.
    seed: Seed,
}

/// Which of the headers that publishing reads a message has: found out in one walk, as most have none of them.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    /// CC or BCC.
    copies: bool,
    bcc: bool,
    /// Those by which producers number their messages.
    numbers: bool,
}

impl Read {
    #[inline]
    fn of(headers: Table<'_>) -> Read {
        let mut read = Read::default();
        for key in headers.keys() {
            read.bcc |= key == b"BCC";
            read.copies |= read.bcc || key == b"CC";
            read.numbers |= key.starts_with(once::PRODUCER.as_bytes());
        }
        read
    }
}

/// Times that a message has of its own, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    /// Its number in the run.
    pub(crate) number: u32,
    /// It may live so long.
    pub(crate) life: Option<u64>,
    /// It is to wait so long before it is routed.
    pub(crate) delay: Option<u64>,
}

impl Notes {
    /// Notes the times of the message of this number, if it has any.
    #[inline]
    pub(crate) fn note_times(&mut self, number: u32, life: Option<u64>, delay: Option<u64>) {
        if life.is_some() || delay.is_some() {
            self.own.push(Own { number, life, delay });
        }
    }

    /// Notes what the message of this number says of itself.
    #[inline]
    pub(crate) fn note(&mut self, number: u32, route: &Route, publish: &Publish<'_>, marks: &Marks, tag: (u16, u64)) {
        self.note_times(number, marks.life, marks.delay);
        if !route.guards.is_empty() {
            self.note_keys(number, route, &publish.properties, marks.ttl, marks.seed);
        }
        if let Some(sequence) = marks.sequence {
            self.sequences.push(Sequenced { number, sequence, tag });
        }
    }

    fn clear(&mut self) {
        self.own.clear();
        self.tags.clear();
        self.keys.clear();
        self.sequences.clear();
    }
}

/// The last record of the log that has to be durable before something may be confirmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) lsn: Lsn,
    /// A unit that has no place in the log yet.
    ticket: Option<Arc<Ticket>>,
}

impl Waiting {
    /// Waits for a unit.
    pub(crate) fn of(ticket: Arc<Ticket>) -> Waiting {
        Waiting { lsn: 0, ticket: Some(ticket) }
    }

    /// Waits for a record.
    pub(crate) fn of_record(lsn: Lsn) -> Waiting {
        Waiting { lsn, ticket: None }
    }

    pub(crate) fn is_released(&self, log: &Log) -> bool {
        let unit = self.ticket.as_ref().is_none_or(|ticket| ticket.lsn().is_some_and(|lsn| log.is_released(lsn)));
        unit && (self.lsn == 0 || log.is_released(self.lsn))
    }
}

/// What is to be known of the messages of a run beside themselves.
#[derive(Clone, Copy, Default)]
struct Aside<'a> {
    /// When they expire, if they may.
    lives: Option<&'a Lives<'a>>,
    /// What was seen by them, for the log.
    seen: &'a [u8],
}

/// What appending a run led to.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// One of the queues is crowded.
    pub(crate) crowded: bool,
    pub(crate) lsn: Lsn,
    pub(crate) ticket: Option<Arc<Ticket>>,
    /// Messages that a queue has refused: channels and tags.
    pub(crate) refused: Vec<(u16, u64)>,
}

impl Route {
    pub(crate) fn new(queues: Box<[Arc<SharedQueue>]>) -> Route {
        let durable = queues.iter().any(|queue| queue.is_durable());
        let (mut special, mut refuses, mut delays, mut guards) = (false, false, false, Vec::new());
        for (index, queue) in (0..).zip(&queues) {
            let settings = queue.settings();
            special |= settings.is_special();
            refuses |= settings.refuses();
            delays |= settings.delays_for.is_some();
            let guard = |rule| (Guard { point: Point::Queue(queue.number), rule }, Some(index));
            guards.extend(settings.dedup.clone().map(guard));
        }
        Route { queues, durable, special, refuses, delays, guards: guards.into(), meter: None }
    }

    /// Through an exchange that may leave duplicates out, and counts.
    fn through(queues: Box<[Arc<SharedQueue>]>, exchange: Option<Guard>, meter: Arc<ExchangeMeter>) -> Route {
        let route = Route { meter: Some(meter), ..Route::new(queues) };
        match exchange {
            None => route,
            Some(guard) => Route { guards: std::iter::once((guard, None)).chain(route.guards).collect(), ..route },
        }
    }

    /// The exchange, if it leaves duplicates out.
    fn exchange(&self) -> Option<Point> {
        self.guards.first().filter(|(_, queue)| queue.is_none()).map(|(guard, _)| guard.point)
    }

    /// Messages wait in one of its queues before they are routed.
    pub(crate) fn delays(&self) -> bool {
        self.delays
    }

    /// Persistent messages on this route are recorded in the log.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The same queues, and the same exchange where that leaves duplicates out.
    pub(crate) fn is_same(&self, other: &Route) -> bool {
        self.exchange() == other.exchange()
            && self.queues.len() == other.queues.len()
            && self.queues.iter().zip(&other.queues).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Appends a run to every queue; with `logged`, to the log as well.
    pub(crate) fn append(
        &self,
        run: &mut Run,
        notes: &mut Notes,
        logged: bool,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
    ) -> Appended {
        if !notes.keys.is_empty() || !notes.sequences.is_empty() {
            let appended = self.append_once(run, notes, logged, vhost, publisher);
            notes.clear();
            run.clear();
            return appended;
        }
        if self.special || !notes.own.is_empty() {
            return self.append_by_rules(run, std::mem::take(notes), logged, vhost, publisher);
        }
        let mut wakes = Wakes::new();
        let appended = self.append_living(run, Aside::default(), logged, vhost, publisher, &mut wakes);
        wake(wakes);
        appended
    }

    /// Appends a run to every queue, whatever their limits.
    fn append_living(
        &self,
        run: &mut Run,
        aside: Aside<'_>,
        logged: bool,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
        wakes: &mut Wakes,
    ) -> Appended {
        match vhost.durable.as_ref().filter(|_| logged && self.durable) {
            Some(durable) => self.append_logged(run, aside, durable, vhost, publisher, wakes),
            None => {
                let crowded = self.append_transient(run, aside.lives, vhost, publisher, wakes);
                Appended { crowded, ..Appended::default() }
            }
        }
    }

    fn append_transient(
        &self,
        run: &mut Run,
        lives: Option<&Lives<'_>>,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
        wakes: &mut Wakes,
    ) -> bool {
        let (mut crowded, count) = (false, run.count());
        let block = (run.len() >= SHARE_MIN).then(|| run.seal(vhost.account()));
        for shared in &self.queues {
            let append = |queue: &mut Queue| {
                shared.expect_times(queue, queue.next_position(), count, lives);
                match &block {
                    Some(block) => queue.append_block(block.clone(), Places::Nowhere),
                    None => queue.append_run(run, None),
                }
                queue.is_crowded(publisher)
            };
            crowded |= shared.change_quietly(append, wakes);
        }
        run.clear();
        crowded
    }

    fn append_logged(
        &self,
        run: &mut Run,
        aside: Aside<'_>,
        durable: &Durable,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
        wakes: &mut Wakes,
    ) -> Appended {
        let log = &durable.store.log;
        // What was seen must be in the log before the next message is looked up, and large ones take their time.
        if run.len() >= LARGE_MIN && aside.seen.is_empty() {
            return self.append_large(run, aside.lives, log, vhost, publisher, wakes);
        }
        let [only] = &*self.queues else { return self.append_to_several(run, aside, log, vhost, publisher, wakes) };
        let count = run.count();
        let block = (run.len() >= SHARE_MIN).then(|| run.seal(vhost.account()));
        let bytes = block.as_ref().map_or(run.bytes(), |block| block.bytes());
        let crc = log.id.crc(bytes);
        let append = |queue: &mut Queue| {
            if queue.is_deleted() {
                return Appended::default();
            }
            let target = Target { queue: only.id, position: queue.next_position() };
            let times = only.expect_times(queue, target.position, count, aside.lives);
            let beside = Beside { times: &times, seen: aside.seen };
            let place = log.enqueue_with(count, bytes, crc, &[target], beside);
            match &block {
                Some(block) => queue.append_block(block.clone(), Places::At(vec![(0, place)])),
                None => queue.append_run(run, Some(place)),
            }
            queue.note_consumed_soon();
            Appended { crowded: queue.is_crowded(publisher), lsn: place.lsn, ..Appended::default() }
        };
        let appended = only.change_quietly(append, wakes);
        run.clear();
        appended
    }

    /// Gives the durable queues' messages their positions, and says what is to happen to them when.
    pub(crate) fn reserve(&self, count: u32, lives: Option<&Lives<'_>>, wakes: &mut Wakes) -> (Vec<Target>, Vec<Time>) {
        let (mut targets, mut times) = (Vec::new(), Vec::new());
        for shared in self.queues.iter().filter(|queue| queue.is_durable()) {
            let reserve = |queue: &mut Queue| {
                let position = queue.reserve(count);
                targets.push(Target { queue: shared.id, position });
                times.extend(shared.expect_times(queue, position, count, lives));
            };
            shared.change_quietly(reserve, wakes);
        }
        (targets, times)
    }

    /// Lets all queues see what was reserved for, or appends it where nothing was.
    pub(crate) fn fill(
        &self,
        block: &Arc<Block>,
        targets: &[Target],
        lives: Option<&Lives<'_>>,
        places: &Places,
        publisher: &Arc<Mailbox>,
        wakes: &mut Wakes,
    ) -> bool {
        let (mut crowded, mut targets) = (false, targets.iter());
        for shared in &self.queues {
            let target = if shared.is_durable() { targets.next() } else { None };
            let fill = |queue: &mut Queue| {
                match target {
                    Some(target) => queue.fill(target.position, block.clone(), places.clone()),
                    None => {
                        shared.expect_times(queue, queue.next_position(), block.count(), lives);
                        queue.append_block(block.clone(), Places::Nowhere);
                    }
                }
                queue.note_consumed_soon();
                queue.is_crowded(publisher)
            };
            crowded |= shared.change_quietly(fill, wakes);
        }
        crowded
    }

    fn append_to_several(
        &self,
        run: &mut Run,
        aside: Aside<'_>,
        log: &Log,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
        wakes: &mut Wakes,
    ) -> Appended {
        let block = run.seal(vhost.account());
        let (targets, times) = self.reserve(block.count(), aside.lives, wakes);
        let beside = Beside { times: &times, seen: aside.seen };
        let place = log.enqueue_with(block.count(), block.bytes(), log.id.crc(block.bytes()), &targets, beside);
        let crowded = self.fill(&block, &targets, aside.lives, &Places::At(vec![(0, place)]), publisher, wakes);
        Appended { crowded, lsn: place.lsn, ..Appended::default() }
    }

    /// A large message is on its way to the log for longer; it can be consumed meanwhile.
    fn append_large(
        &self,
        run: &mut Run,
        lives: Option<&Lives<'_>>,
        log: &Log,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
        wakes: &mut Wakes,
    ) -> Appended {
        let block = run.seal(vhost.account());
        let ((targets, times), place) = (self.reserve(block.count(), lives, wakes), Arc::default());
        let ticket: Arc<Ticket> = Arc::default();
        let mut parts =
            vec![Part::Enqueue { block: block.clone(), targets: targets.clone(), place: Arc::clone(&place) }];
        parts.extend((!times.is_empty()).then_some(Part::Times(times)));
        log.unit(Unit { parts, then: None, ticket: ticket.clone(), mailbox: publisher.clone() });
        let crowded = self.fill(&block, &targets, lives, &Places::Later(place), publisher, wakes);
        Appended { crowded, ticket: Some(ticket), ..Appended::default() }
    }
}

/// The publishing half of a session.
#[derive(Debug)]
pub(crate) struct Publisher {
    vhost: Arc<VirtualHost>,
    mailbox: Arc<Mailbox>,
    /// Runs that are not in their queues yet. No two of them share a queue, so their order among each other is free.
    open: Vec<Held>,
    /// The address of each open run's only queue, to find it by; 0 for a run to several queues, which is open alone.
    targets: Vec<usize>,
    /// Exchange and key of the last lookup and what they led to.
    last_key: Vec<u8>,
    route: Arc<Route>,
    /// Messages that were published by it and are not counted yet.
    counted: u64,
    /// Of the message that was looked up last.
    read: Read,
    /// The open run of `route`.
    slot: Option<usize>,
    /// What was looked up since the topology has this generation.
    routes: Routes,
    generation: u64,
    /// A queue that was appended to is crowded.
    crowded: bool,
    /// The last of what was appended to the log.
    waiting: Waiting,
    /// Messages that a queue has refused: channels and tags.
    refused: Vec<(u16, u64)>,
    /// The open run with messages that their producer has numbered: those go to their queues in their order.
    sequenced: Option<usize>,
    /// Producer, epoch and the count of fences when it was last looked whether that epoch has ended.
    looked: Option<(Hash, u64, u64)>,
}

impl Publisher {
    pub(crate) fn new(vhost: Arc<VirtualHost>, mailbox: Arc<Mailbox>) -> Publisher {
        Publisher {
            vhost,
            mailbox,
            open: Vec::new(),
            targets: Vec::new(),
            last_key: Vec::new(),
            route: Arc::new(Route::new(Box::new([]))),
            counted: 0,
            read: Read::default(),
            slot: None,
            routes: Routes::default(),
            generation: 0,
            crowded: false,
            waiting: Waiting::default(),
            refused: Vec::new(),
            sequenced: None,
            looked: None,
        }
    }

    /// Finds out where a message goes; [`Publisher::route`] is that then. 404 or 403 if its exchange is missing or
    /// internal.
    #[inline]
    pub(crate) fn resolve(&mut self, publish: &Publish<'_>) -> Result<()> {
        if self.vhost.generation() != self.generation {
            self.forget_routes();
        }
        let headers = publish.properties.headers.unwrap_or_default();
        self.read = Read::of(headers);
        let is_plain = !self.read.copies;
        if is_plain && publish.route == self.last_key.as_slice() {
            self.counted += 1;
            return Ok(());
        }
        self.count();
        self.slot = None;
        self.last_key.clear();
        if is_plain && let Some(known) = self.routes.get(publish.route, &publish.properties) {
            self.counted = 1;
            self.route = known.route.clone();
            if !known.filtered {
                self.last_key.extend_from_slice(publish.route);
            }
            return Ok(());
        }
        let routed = self.lookup(publish, headers)?;
        self.route = Arc::new(Route::through(routed.queues.into(), routed.guard, routed.meter));
        self.counted = 1;
        if is_plain && !routed.reads_headers {
            self.routes.insert(publish.route, routed.answers, self.route.clone());
        }
        Ok(())
    }

    /// Counts what was published by the last route.
    #[inline]
    fn count(&mut self) {
        if self.counted > 0
            && let Some(meter) = &self.route.meter
        {
            meter.count(self.counted, self.route.queues.len() as u64);
        }
        self.counted = 0;
    }

    /// Where the last resolved message goes.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The last resolved message has a BCC header, which its consumers are not to see.
    pub(crate) fn has_bcc(&self) -> bool {
        self.read.bcc
    }

    fn lookup(&mut self, publish: &Publish<'_>, headers: Table<'_>) -> Result<Routed<Arc<SharedQueue>>> {
        let (exchange, key) = decode_route(publish.route)
            .ok_or_else(|| Error::connection(502, "exchange or routing key is not UTF-8"))?;
        let mut keys = vec![key];
        for name in ["CC", "BCC"] {
            extra_keys(headers, name, &mut keys)?;
        }
        let (routed, generation) = self.vhost.route(exchange, &keys, &publish.properties)?;
        if generation != self.generation {
            self.forget_routes();
            self.generation = generation;
        }
        Ok(routed)
    }

    fn forget_routes(&mut self) {
        self.routes = Routes::default();
        self.last_key.clear();
        self.slot = None;
        self.generation = self.vhost.generation();
    }

    /// What the message that was resolved says of itself. 406 if some of that makes no sense, or if its producer's epoch
    /// has ended.
    #[inline]
    pub(crate) fn marks(&mut self, properties: &Properties<'_>) -> Result<Marks> {
        let life = if properties.expiration.is_some() { life(properties)? } else { None };
        let seed = self.vhost.dedup().seed();
        let Some(headers) = properties.headers.filter(|headers| !headers.is_empty()) else {
            return Ok(Marks { life, delay: None, ttl: None, sequence: None, seed });
        };
        let delay = if self.route.delays { check_delay(headers)? } else { None };
        let ttl = if self.route.guards.is_empty() { None } else { own_ttl(headers)? };
        let sequence = if self.read.numbers { self.sequence(headers)? } else { None };
        Ok(Marks { life, delay, ttl, sequence, seed })
    }

    /// Takes the message that was resolved into the run of its route. If a queue refuses it, its channel and tag will be
    /// among [`Publisher::take_refused`].
    #[inline]
    pub(crate) fn push(&mut self, publish: &Publish<'_>, encoded: &[u8], marks: &Marks, tag: (u16, u64)) {
        let persistent = publish.properties.delivery_mode == Some(2);
        let logged = persistent && self.route.durable;
        let slot = match self.slot {
            Some(slot) if self.open[slot].logged == logged => slot,
            _ => self.open_run(logged),
        };
        let slot = if marks.sequence.is_some() { self.in_order(slot, logged) } else { slot };
        // A large body gets a block of its own: it goes to the log in pieces.
        let alone = logged && publish.body.len() >= BLOCK_MAX;
        if alone {
            self.append_slot(slot);
        }
        let Held { run, notes, .. } = &mut self.open[slot];
        notes.note(run.count(), &self.route, publish, marks, tag);
        if self.route.refuses {
            notes.tags.push(tag);
        }
        run.push(publish.route, encoded, publish.body, persistent);
        if run.len() >= RUN_MAX {
            self.append_slot(slot);
        }
    }

    /// The open run for a message that its producer has numbered; those before it are in their queues, or in the same run.
    fn in_order(&mut self, slot: usize, logged: bool) -> usize {
        let other = self.sequenced.is_some_and(|other| other != slot);
        let slot = if other {
            self.append_open();
            self.open_run(logged)
        } else {
            slot
        };
        self.sequenced = Some(slot);
        slot
    }

    fn append_slot(&mut self, slot: usize) {
        let Held { route, logged, run, notes } = &mut self.open[slot];
        if run.is_empty() {
            return;
        }
        let appended = route.append(run, notes, *logged, &self.vhost, &self.mailbox);
        run.reserve_block(self.vhost.account());
        self.note(appended);
    }

    fn note(&mut self, appended: Appended) {
        self.refused.extend(appended.refused);
        self.crowded |= appended.crowded;
        self.waiting.lsn = self.waiting.lsn.max(appended.lsn);
        // Units get their places in their order, so the last stands for all.
        if appended.ticket.is_some() {
            self.waiting.ticket = appended.ticket;
        }
    }

    /// What it appended is on its way to the disk, and much else before it.
    pub(crate) fn is_behind(&self, log: &Log) -> bool {
        let large = self.waiting.ticket.as_ref().is_some_and(|ticket| ticket.lsn().is_none());
        large && log.pending_large() > BEHIND
            || self.waiting.lsn >= log.written() && log.pending() - log.pending_large().min(log.pending()) > BEHIND
    }

    /// What has to be durable before everything up to here may be confirmed.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Finds the open run of the current route, or opens one.
    fn open_run(&mut self, logged: bool) -> usize {
        let target = match &*self.route.queues {
            [queue] => Arc::as_ptr(queue) as usize,
            _ => 0,
        };
        let found = self.targets.iter().position(|open| *open == target);
        let found = found.filter(|&slot| target != 0 || self.open[slot].route.is_same(&self.route));
        let differs =
            |slot: usize| self.open[slot].logged != logged || self.open[slot].route.exchange() != self.route.exchange();
        if found.is_some_and(differs) {
            self.append_open();
        }
        let found = found.filter(|&slot| slot < self.open.len());
        let slot = found.unwrap_or_else(|| {
            if target == 0 || self.targets.first() == Some(&0) || self.open.len() >= OPEN_MAX {
                self.append_open();
            }
            let mut run = Run::default();
            if self.open.is_empty() {
                run.reserve_block(self.vhost.account());
            }
            self.open.push(Held { route: self.route.clone(), logged, run, notes: Notes::default() });
            self.targets.push(target);
            self.open.len() - 1
        });
        self.slot = Some(slot);
        slot
    }

    /// Appends what was taken to its queues.
    #[inline]
    pub(crate) fn flush(&mut self) {
        self.count();
        if !self.open.is_empty() {
            self.append_open();
        }
    }

    fn append_open(&mut self) {
        (self.slot, self.sequenced) = (None, None);
        self.targets.clear();
        let mut open = std::mem::take(&mut self.open);
        for Held { route, logged, mut run, mut notes } in open.drain(..) {
            if !run.is_empty() {
                let appended = route.append(&mut run, &mut notes, logged, &self.vhost, &self.mailbox);
                self.note(appended);
            }
            run.return_block(self.vhost.account());
        }
        self.open = open;
    }

    /// The tags of a channel's messages that were refused since the last call.
    pub(crate) fn take_refused(&mut self, channel: u16) -> Vec<u64> {
        if self.refused.is_empty() {
            return Vec::new();
        }
        self.refused.extract_if(.., |(from, _)| *from == channel).map(|(_, tag)| tag).collect()
    }

    /// Whether a queue has been crowded since the last call.
    pub(crate) fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    /// Frees what an idle connection does not need.
    pub(crate) fn release_memory(&mut self) {
        self.flush();
        self.open = Vec::new();
        self.targets = Vec::new();
        self.last_key = Vec::new();
        self.routes = Routes::default();
    }
}

/// Milliseconds that a message may live, as its `expiration` says. 406 with RabbitMQ's texts if that says nothing.
pub(crate) fn life(properties: &Properties<'_>) -> Result<Option<u64>> {
    let Some(text) = properties.expiration else { return Ok(None) };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let why = match (end, digits[..end].parse::<i64>()) {
        (0, _) => "no_integer".to_string(),
        (end, _) if end < digits.len() => format!("{{leftover_string,\"{}\"}}", &digits[end..]),
        (_, Ok(number)) if number <= TIME_MAX && (number == 0 || !text.starts_with('-')) => {
            return Ok(Some(number.unsigned_abs()));
        }
        _ if text.starts_with('-') => format!("{{value_negative,{text}}}"),
        (_, Ok(number)) => format!("{{value_too_large,{number}}}"),
        (_, Err(_)) => format!("{{value_too_large, {digits}}}"),
    };
    Err(Error::precondition(format!("invalid expiration '{text}': {why}")))
}

/// The routing keys in a CC or BCC header, which is an array of strings.
fn extra_keys<'a>(headers: Table<'a>, name: &str, keys: &mut Vec<&'a str>) -> Result<()> {
    let refuse = |found: Value<'_>| {
        let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}", type_name(found));
        Error::precondition(text)
    };
    match headers.get(name) {
        None => Ok(()),
        Some(Value::Array(array)) => {
            for value in array.iter() {
                let Value::LongString(_) = value else { return Err(refuse(value)) };
                keys.push(value.as_str().ok_or_else(|| refuse(value))?);
            }
            Ok(())
        }
        Some(other) => Err(refuse(other)),
    }
}

/// The encoded properties as consumers are to see them, where they differ from what was published: without the BCC
/// header, and with `reply_to` in place of the pseudo-queue's name.
pub(crate) fn rewrite(properties: &Properties<'_>, reply_to: Option<&str>) -> Option<Vec<u8>> {
    let with_bcc = properties.headers.filter(|headers| headers.get("BCC").is_some());
    if with_bcc.is_none() && reply_to.is_none() {
        return None;
    }
    let mut stripped = with_bcc.map(FieldTable::from).unwrap_or_default();
    stripped.remove("BCC");
    let rewritten = Properties {
        headers: with_bcc.map(|_| stripped.as_table()).or(properties.headers),
        reply_to: reply_to.or(properties.reply_to),
        ..*properties
    };
    let mut encoded = Vec::new();
    rewritten.encode(&mut encoded);
    Some(encoded)
}
