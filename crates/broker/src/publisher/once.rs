//! Publishing where what was published before is left out: keys are looked up, and remembered, under the lock under
//! which their messages are appended.

use super::{Appended, Aside, Held, Keyed, Lives, Notes, Own, Publisher, Route};
use crate::consumers::{Wakes, wake};
use crate::dedup::{Dedup, News, Seed, Sequence, Standing, own_ttl};
use crate::engine::{SharedQueue, VirtualHost};
use crate::error::{Error, Result};
use crate::log::{Lsn, Part, Place, Ticket, Unit};
use crate::mailbox::Mailbox;
use crate::message::{Run, body_lengths};
use crate::publisher::Published;
use crate::segment::Places;
use crate::settings::Overflow;
use leveret_wire::properties::Properties;
use leveret_wire::table::{Table, Value};
use std::sync::{Arc, OnceLock};

/// The headers by which a producer numbers its messages.
pub(super) const PRODUCER: &str = "x-producer";
const EPOCH: &str = "x-producer-epoch";
const SEQUENCE: &str = "x-producer-sequence";

/// The longest name of a producer, in bytes.
const NAME_MAX: usize = 255;

/// What becomes of the messages of a run.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Numbers of messages that are left out, by a queue of the route or by all; in order.
    out: Vec<(u32, Option<u32>)>,
    /// Some were there before.
    pub(crate) duplicates: bool,
    /// A queue has no room for them, or their producer's epoch has ended: channels and tags.
    refused: Vec<(u16, u64)>,
    /// Those for which a queue has no room, and the queue.
    buried: Vec<(u32, u32)>,
    /// An epoch of a producer has begun.
    fences: bool,
}

/// Messages of a run that go to the same queues.
pub(crate) struct Portion {
    pub(crate) route: Route,
    pub(crate) run: Run,
    pub(crate) own: Vec<Own>,
}

/// What is left of a queue's limits.
struct Room {
    queue: u32,
    messages: u64,
    bytes: u64,
}

/// Of whom, under which circumstances, a run is sorted.
pub(crate) struct Sorting<'a> {
    pub(crate) now: u64,
    pub(crate) logged: bool,
    pub(crate) dedup: &'a mut Dedup,
    pub(crate) news: &'a mut News,
}

impl Sorting<'_> {
    fn is_new(&self, route: &Route, keyed: &Keyed) -> bool {
        !self.dedup.has(route.guards[keyed.guard as usize].0.point, keyed.key, self.now)
    }

    fn see(&mut self, route: &Route, keyed: &Keyed) {
        let point = route.guards[keyed.guard as usize].0.point;
        self.dedup.see(point, keyed.key, (self.now, keyed.ttl), self.logged, self.news);
    }

    /// Decides about each message of a run, and remembers those that go on. `rooms` are of queues that may refuse.
    fn sort(&mut self, route: &Route, run: &Run, notes: &Notes, rooms: &mut [Room]) -> Sorted {
        let (mut sorted, mut keys, mut sequences) = (Sorted::default(), &notes.keys[..], &notes.sequences[..]);
        for (guard, (it, _)) in (0..).zip(&route.guards) {
            let of_guard = keys.iter().filter(|keyed| keyed.guard == guard);
            self.dedup.warm(it.point, of_guard.map(|keyed| keyed.key));
        }
        let mut lengths = body_lengths(run.bytes(), if rooms.is_empty() { 0 } else { run.count() });
        for number in 0..run.count() {
            let own_keys = take_of(&mut keys, |keyed| keyed.number == number);
            let sequence = take_of(&mut sequences, |it| it.number == number).first();
            let length = lengths.next().unwrap_or(0);
            if own_keys.is_empty() && sequence.is_none() && rooms.is_empty() {
                continue;
            }
            let standing = sequence.map_or(Standing::New, |it| self.dedup.standing(&it.sequence));
            let of_all = own_keys.iter().filter(|keyed| route.queue_of(keyed).is_none());
            match standing {
                Standing::Fenced(_) | Standing::Held(_) => {
                    sorted.refused.extend(sequence.map(|it| it.tag));
                    sorted.out.push((number, None));
                }
                Standing::Duplicate => sorted.leave_out(number, None),
                Standing::New if of_all.clone().any(|keyed| !self.is_new(route, keyed)) => {
                    sorted.leave_out(number, None);
                }
                Standing::New => {
                    if self.sort_for_queues(route, number, length, own_keys, rooms, &mut sorted) {
                        of_all.for_each(|keyed| self.see(route, keyed));
                        let begins =
                            sequence.is_some_and(|it| self.dedup.advance(&it.sequence, self.logged, self.news));
                        sorted.fences |= begins;
                    } else {
                        sorted.refused.extend(notes.tags.get(number as usize));
                        // Without confirms it will not come again.
                        let told = sequence.filter(|it| it.tag.1 != 0);
                        told.into_iter().for_each(|it| self.dedup.refuse(&it.sequence));
                    }
                }
            }
        }
        // Without confirms there is nobody to tell.
        sorted.refused.retain(|(_, tag)| *tag != 0);
        sorted
    }

    /// Decides in which queues a message is new and has room; false if one refuses it.
    fn sort_for_queues(
        &mut self,
        route: &Route,
        number: u32,
        length: u64,
        own_keys: &[Keyed],
        rooms: &mut [Room],
        sorted: &mut Sorted,
    ) -> bool {
        let (begin, mut is_taken) = (sorted.out.len(), true);
        for keyed in own_keys {
            if let Some(queue) = route.queue_of(keyed).filter(|_| !self.is_new(route, keyed)) {
                sorted.leave_out(number, Some(queue));
            }
        }
        for room in rooms {
            if sorted.out[begin..].iter().any(|(_, queue)| *queue == Some(room.queue)) {
                continue;
            }
            if room.messages > 0 && room.bytes >= length {
                (room.messages, room.bytes) = (room.messages - 1, room.bytes - length);
            } else {
                // None of those behind it either: they would overtake it.
                room.messages = 0;
                sorted.out.push((number, Some(room.queue)));
                sorted.buried.push((number, room.queue));
                is_taken = false;
            }
        }
        for keyed in own_keys.iter().filter(|keyed| route.queue_of(keyed).is_some()) {
            if !sorted.out[begin..].iter().any(|(_, queue)| *queue == route.queue_of(keyed)) {
                self.see(route, keyed);
            }
        }
        is_taken
    }
}

impl Sorted {
    fn leave_out(&mut self, number: u32, queue: Option<u32>) {
        self.out.push((number, queue));
        self.duplicates = true;
    }

    /// What goes where: queues that leave out the same share a portion only if that is what all leave out.
    fn portions(&self, route: &Route, run: &Run, own: &[Own]) -> Vec<Portion> {
        let leaves_out = |number: u32, queue: Option<u32>| {
            let from = self.out.partition_point(|(it, _)| *it < number);
            self.out[from..].iter().take_while(|(it, _)| *it == number).any(|(_, of)| of.is_none() || *of == queue)
        };
        let has_own = |queue: u32| self.out.iter().any(|(_, of)| *of == Some(queue));
        let (mut shared, mut portions) = (Vec::new(), Vec::new());
        let mut portion = |queues: Vec<Arc<SharedQueue>>, queue: Option<u32>| {
            let mut numbers = Vec::new();
            let kept = run.kept(|number| {
                let keep = !leaves_out(number, queue);
                numbers.extend(keep.then_some(number));
                keep
            });
            let own = own.iter().filter_map(|own| {
                let number = numbers.binary_search(&own.number).ok()? as u32;
                Some(Own { number, ..*own })
            });
            if !kept.is_empty() {
                portions.push(Portion { route: Route::new(queues.into()), own: own.collect(), run: kept });
            }
        };
        for (index, queue) in (0..).zip(&route.queues) {
            match has_own(index) {
                true => portion(vec![queue.clone()], Some(index)),
                false => shared.push(queue.clone()),
            }
        }
        if !shared.is_empty() {
            portion(shared, None);
        }
        portions
    }
}

impl Route {
    /// Appends a run of which some messages may have been published before.
    pub(super) fn append_once(
        &self,
        run: &mut Run,
        notes: &Notes,
        logged: bool,
        vhost: &VirtualHost,
        publisher: &Arc<Mailbox>,
    ) -> Appended {
        let (mut wakes, mut news, now) = (Wakes::new(), News::default(), vhost.timer().now());
        let mut dedup = vhost.dedup().lock();
        let mut rooms = self.rooms(&mut wakes);
        let mut sorting = Sorting { now, logged, dedup: &mut dedup, news: &mut news };
        let sorted = sorting.sort(self, run, notes, &mut rooms);
        let seen = dedup.say(&news);
        let mut appended = if sorted.out.is_empty() {
            let lives = Lives { now, own: &notes.own };
            let lives = (self.special || !notes.own.is_empty()).then_some(&lives);
            self.append_living(run, Aside { lives, seen: &seen }, logged, vhost, publisher, &mut wakes)
        } else {
            let portions = sorted.portions(self, run, &notes.own);
            append_portions(portions, seen.clone(), logged, vhost, publisher, &mut wakes)
        };
        if !seen.is_empty() {
            dedup.note_record(appended.lsn);
        }
        if sorted.duplicates {
            appended.lsn = appended.lsn.max(dedup.upto());
        }
        drop(dedup);
        if sorted.fences {
            vhost.dedup().fence();
        }
        wake(wakes);
        self.bury(&sorted.buried, run);
        self.drop_excess();
        appended.refused = sorted.refused;
        appended
    }

    fn rooms(&self, wakes: &mut Wakes) -> Vec<Room> {
        if !self.refuses {
            return Vec::new();
        }
        let refusing = (0..).zip(&self.queues).filter(|(_, queue)| queue.settings().refuses());
        let room = |(queue, shared): (u32, &Arc<SharedQueue>)| {
            let (messages, bytes) = shared.change_quietly(|state| state.free(&shared.settings()), wakes);
            Room { queue, messages, bytes }
        };
        refusing.map(room).collect()
    }

    /// Sends what was refused to dead-letter exchanges, where that is the rule.
    fn bury(&self, buried: &[(u32, u32)], run: &Run) {
        if buried.is_empty() {
            return;
        }
        for (index, queue) in (0..).zip(&self.queues) {
            let refused = buried.iter().filter(|(_, by)| *by == index).count() as u64;
            if refused > 0 {
                queue.count_refused(refused);
            }
            if queue.settings().overflow == Overflow::RejectDeadLetter {
                let refused = run.kept(|number| buried.contains(&(number, index)));
                if !refused.is_empty() {
                    queue.bury_refused(&refused);
                }
            }
        }
    }

    /// The queue in which a key counts; `None` if it counts in all.
    fn queue_of(&self, keyed: &Keyed) -> Option<u32> {
        self.guards[keyed.guard as usize].1
    }
}

/// Appends portions, and what was seen by them, all or nothing.
fn append_portions(
    portions: Vec<Portion>,
    seen: Vec<u8>,
    logged: bool,
    vhost: &VirtualHost,
    publisher: &Arc<Mailbox>,
    wakes: &mut Wakes,
) -> Appended {
    let (mut appended, mut parts, mut times, mut reserved) = (Appended::default(), Vec::new(), Vec::new(), Vec::new());
    let (now, seen_something) = (vhost.timer().now(), !seen.is_empty());
    for Portion { route, mut run, own } in portions {
        if !(logged && route.durable) {
            let aside = Aside { lives: Some(&Lives { now, own: &own }), seen: &[] };
            appended.join(route.append_living(&mut run, aside, false, vhost, publisher, wakes));
            continue;
        }
        let block = run.seal(vhost.account());
        let (targets, due) = route.reserve(block.count(), Some(&Lives { now, own: &own }), wakes);
        let place: Arc<OnceLock<Place>> = Arc::default();
        times.extend(due);
        parts.push(Part::Enqueue { block: block.clone(), targets: targets.clone(), place: place.clone() });
        reserved.push((route, block, targets, own, place));
    }
    parts.extend((!times.is_empty()).then_some(Part::Times(times)));
    parts.extend(seen_something.then_some(Part::Seen(seen)));
    let Some(durable) = vhost.durable.as_ref().filter(|_| !parts.is_empty()) else { return appended };
    let ticket: Arc<Ticket> = Arc::default();
    durable.store.log.unit(Unit { parts, then: None, ticket: ticket.clone(), mailbox: publisher.clone() });
    for (route, block, targets, own, place) in reserved {
        let places = place.get().map(|place| Places::At(vec![(0, *place)])).unwrap_or(Places::Later(place));
        let lives = Lives { now, own: &own };
        appended.crowded |= route.fill(&block, &targets, Some(&lives), &places, publisher, wakes);
    }
    if seen_something {
        // A log that has failed gives none, and confirms nothing more.
        appended.lsn = ticket.lsn().unwrap_or(Lsn::MAX);
    }
    appended.ticket = Some(ticket);
    appended
}

impl Held {
    /// Some of its messages may have been published before.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.notes.keys.is_empty() || !self.notes.sequences.is_empty()
    }

    /// Notes the keys of the last message, where they count on its route.
    pub(crate) fn note_keys(&mut self, properties: &Properties<'_>, seed: Seed) {
        if !self.route.guards.is_empty() {
            let ttl = own_ttl(properties.headers.unwrap_or_default()).ok().flatten();
            self.notes.note_keys(self.run.count() - 1, &self.route, properties, ttl, seed);
        }
    }

    /// Leaves out what was published before, for a unit of the log that will have what is remembered now. Queues have
    /// said that they have room.
    pub(crate) fn keep_new(mut self, sorting: &mut Sorting<'_>, out: &mut Vec<Held>) -> Sorted {
        sorting.logged = self.logged;
        let sorted = sorting.sort(&self.route, &self.run, &self.notes, &mut []);
        if sorted.out.is_empty() {
            (self.notes.keys, self.notes.sequences) = Default::default();
            out.push(self);
            return sorted;
        }
        for Portion { route, run, own } in sorted.portions(&self.route, &self.run, &self.notes.own) {
            let (logged, notes) = (self.logged && route.durable, Notes { own, ..Notes::default() });
            out.push(Held { route: Arc::new(route), logged, run, notes });
        }
        sorted
    }
}

impl Sorted {
    /// An epoch of a producer has begun.
    pub(crate) fn fences(&self) -> bool {
        self.fences
    }
}

/// 406 if the epoch of a producer has ended of which there are messages in these runs, or if it has to send another
/// message first.
pub(crate) fn check_epochs(runs: &[Held], dedup: &Dedup) -> Result<()> {
    let mut begun: Vec<Sequence> = Vec::new();
    for held in runs {
        for it in &held.notes.sequences {
            let own = begun.iter_mut().find(|known| known.producer == it.sequence.producer);
            let here = own.as_ref().map_or(0, |known| known.epoch);
            let refusal = match dedup.standing(&it.sequence) {
                Standing::Fenced(epoch) => Some(Refusal::Fenced(epoch.max(here))),
                Standing::Held(sequence) => Some(Refusal::Held(sequence)),
                _ if it.sequence.epoch < here => Some(Refusal::Fenced(here)),
                _ => None,
            };
            if let Some(refusal) = refusal {
                let (mut at, mut name) = (0, String::new());
                for _ in 0..=it.number {
                    let (message, next) = held.run.at(at);
                    let properties = Properties::decode(message.properties).unwrap_or_default();
                    name = producer(properties.headers.unwrap_or_default()).to_string();
                    at = next;
                }
                return Err(refusal.error(&name, it.sequence.epoch));
            }
            match own {
                Some(known) => *known = it.sequence,
                None => begun.push(it.sequence),
            }
        }
    }
    Ok(())
}

impl Publisher {
    /// How the producer of a message numbers it, if it does. 406 if it does so badly, or if its epoch has ended.
    pub(super) fn sequence(&mut self, headers: Table<'_>) -> Result<Option<Sequence>> {
        let Some((name, epoch, sequence)) = numbered(headers)? else { return Ok(None) };
        let dedup = self.vhost.dedup();
        let it = Sequence { producer: dedup.seed().hash(b'P', name.as_bytes()), epoch, sequence };
        let looked = Some((it.producer, epoch, dedup.fences()));
        if self.looked != looked {
            if let Standing::Fenced(begun) = dedup.lock().standing(&it) {
                return Err(Refusal::Fenced(begun).error(name, epoch));
            }
            self.looked = looked;
        }
        Ok(Some(it))
    }

    /// A message with a number that no queue takes has taken effect, too.
    pub(crate) fn note_unrouted(
        &mut self,
        it: &Sequence,
        properties: &Properties<'_>,
        tag: (u16, u64),
    ) -> Result<Published> {
        self.flush();
        let logged = properties.delivery_mode == Some(2);
        let durable = self.vhost.durable.as_ref().filter(|_| logged);
        let (mut dedup, mut news) = (self.vhost.dedup().lock(), News::default());
        match dedup.standing(it) {
            Standing::Fenced(epoch) => {
                let name = producer(properties.headers.unwrap_or_default());
                return Err(Refusal::Fenced(epoch).error(name, it.epoch));
            }
            Standing::Duplicate => {
                self.waiting.lsn = self.waiting.lsn.max(dedup.upto());
                return Ok(Published::Routed);
            }
            Standing::Held(_) => {
                self.refused.extend(Some(tag).filter(|(_, tag)| *tag != 0));
                return Ok(Published::Routed);
            }
            Standing::New => {}
        }
        let begins = dedup.advance(it, durable.is_some(), &mut news);
        if let Some(durable) = durable {
            let lsn = durable.store.log.seen(&dedup.say(&news));
            dedup.note_record(lsn);
            self.waiting.lsn = self.waiting.lsn.max(lsn);
        }
        drop(dedup);
        if begins {
            self.vhost.dedup().fence();
        }
        Ok(Published::Unroutable)
    }
}

/// Why a message with a number is refused.
enum Refusal {
    Fenced(u64),
    Held(u64),
}

impl Refusal {
    fn error(&self, name: &str, epoch: u64) -> Error {
        Error::precondition(match self {
            Refusal::Fenced(begun) => {
                format!("producer '{name}' with epoch {epoch} is fenced: epoch {begun} has begun")
            }
            Refusal::Held(sequence) => {
                format!("producer '{name}' has to send {sequence} again first: a full queue has refused it")
            }
        })
    }
}

/// The name of a message's producer.
fn producer(headers: Table<'_>) -> &str {
    match headers.get(PRODUCER) {
        Some(Value::LongString(name)) => std::str::from_utf8(name).unwrap_or_default(),
        _ => "",
    }
}

/// Producer, epoch and sequence, if there are any.
fn numbered(headers: Table<'_>) -> Result<Option<(&str, u64, u64)>> {
    let (mut name, mut epoch, mut sequence) = (None, None, None);
    for (key, value) in headers.iter().filter(|(key, _)| key.starts_with(PRODUCER)) {
        match key {
            PRODUCER if name.is_none() => name = Some(value),
            EPOCH if epoch.is_none() => epoch = Some(value),
            SEQUENCE if sequence.is_none() => sequence = Some(value),
            _ => {}
        }
    }
    let refuse = |key, expected| Err(Error::precondition(format!("invalid header '{key}': expected {expected}")));
    let integer = |value: Value<'_>| value.as_i64().and_then(|number| u64::try_from(number).ok());
    let name = match (name, epoch.or(sequence)) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return refuse(PRODUCER, "the name of a producer beside its epoch or sequence"),
        (Some(Value::LongString(name)), _) => std::str::from_utf8(name).unwrap_or_default(),
        (Some(_), _) => "",
    };
    if name.is_empty() || name.len() > NAME_MAX {
        return refuse(PRODUCER, "a string of 1 to 255 bytes");
    }
    let Some(sequence) = sequence.and_then(integer) else { return refuse(SEQUENCE, "an integer of 0 or more") };
    match epoch.map_or(Some(0), integer) {
        Some(epoch) => Ok(Some((name, epoch, sequence))),
        None => refuse(EPOCH, "an integer of 0 or more"),
    }
}

/// Takes the items from the front for which something holds.
fn take_of<'a, T>(items: &mut &'a [T], holds: impl Fn(&T) -> bool) -> &'a [T] {
    let count = items.iter().take_while(|item| holds(item)).count();
    let (taken, rest) = items.split_at(count);
    *items = rest;
    taken
}

impl Notes {
    /// Notes the keys of the message of this number, where they count on its route.
    pub(super) fn note_keys(
        &mut self,
        number: u32,
        route: &Route,
        properties: &Properties<'_>,
        ttl: Option<u64>,
        seed: Seed,
    ) {
        for (guard, (it, _)) in (0..).zip(&route.guards) {
            if let Some(key) = it.rule.key(seed, properties) {
                self.keys.push(Keyed { number, guard, key, ttl });
            }
        }
    }
}
