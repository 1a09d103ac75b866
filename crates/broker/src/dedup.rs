//! What was published before: the last keys of queues and exchanges, and how far each producer has come.
//!
//! A key is looked up, and remembered, under the same lock under which its message is appended to the log; a record of
//! it goes there together with the message. So after a crash a key is known if and only if its message has survived.

mod codec;
mod found;
mod hash;
mod producers;
mod rule;
mod window;

pub(crate) use self::found::Found;
pub(crate) use self::hash::{Hash, Seed};
pub(crate) use self::producers::{Producers, Sequence, Standing};
pub(crate) use self::rule::{ARGUMENT, EXCHANGE_TYPE, HEADER, MAX_SIZE, PERSISTENCE, Rule, SIZE, TTL, number, own_ttl};
pub(crate) use self::window::Ring;

use self::codec::{Scope, put_keys, put_producers};
use self::window::{Seen, Window};
use crate::log::{Lsn, QueueId};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Where duplicates are left out: a queue by its number, or an exchange by the number that its topology gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Point {
    Queue(QueueId),
    Exchange(u64),
}

/// Where duplicates are left out on a route, and which those are.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) point: Point,
    pub(crate) rule: Arc<Rule>,
}

/// By what the log knows a point.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Queue(QueueId),
    Exchange(Arc<str>),
}

/// Everything that was seen in a virtual host.
#[derive(Debug)]
pub(crate) struct Dedup {
    vhost: Arc<str>,
    windows: FxHashMap<Point, Guarded>,
    producers: Producers,
    /// The last record with something that was seen: a duplicate is confirmed when that is durable.
    upto: Lsn,
    /// The virtual host was deleted.
    closed: bool,
}

#[derive(Debug)]
struct Guarded {
    rule: Arc<Rule>,
    window: Window,
    /// `None` if it ends with the broker.
    known: Option<Known>,
}

impl Guarded {
    fn scope<'a>(&'a self, vhost: &'a str) -> Option<Scope<'a>> {
        Some(match self.known.as_ref()? {
            Known::Queue(id) => Scope::Queue(*id),
            Known::Exchange(name) => Scope::Exchange { vhost, name },
        })
    }

    fn put(&self, scope: Scope<'_>, from: u64, upto: u64, most: usize, out: &mut Vec<u8>) -> u64 {
        let (first, keys) = self.window.logged(from, upto, most);
        let end = first + keys.len() as u64;
        put_keys(scope, self.rule.size, first, keys, out);
        end
    }
}

/// What was remembered since a beginning, for a record.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// With the number of the first new key.
    windows: Vec<(Point, u64)>,
    producers: Vec<Hash>,
}

impl Dedup {
    pub(crate) fn new(vhost: Arc<str>, max_producers: usize) -> Dedup {
        Dedup { vhost, windows: FxHashMap::default(), producers: Producers::new(max_producers), upto: 0, closed: false }
    }

    /// Remembers keys for a point from now on.
    pub(crate) fn add(&mut self, guard: &Guard, known: Option<Known>) {
        let window = Window::new(guard.rule.size);
        self.windows.insert(guard.point, Guarded { rule: guard.rule.clone(), window, known });
    }

    /// Forgets the keys of a point that is gone.
    pub(crate) fn remove(&mut self, point: Point) {
        self.windows.remove(&point);
    }

    /// Forgets everything, and says no more: what the log is told from now on is another virtual host's of that name.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.windows.clear();
    }

    /// What a start has found of a point that was added.
    pub(crate) fn restore(&mut self, point: Point, ring: Ring) {
        if let Some(guarded) = self.windows.get_mut(&point) {
            guarded.window = Window::restore(guarded.rule.size, ring);
        }
    }

    /// What a start has found of producers.
    pub(crate) fn restore_producers(&mut self, mut producers: Producers, max: usize) {
        producers.shorten(max);
        self.producers = producers;
    }

    /// Whether a point remembers a key.
    pub(crate) fn has(&self, point: Point, key: Hash, now: u64) -> bool {
        self.windows.get(&point).is_some_and(|guarded| guarded.window.has(key, now))
    }

    /// See [`Window::warm`].
    pub(crate) fn warm(&self, point: Point, keys: impl Iterator<Item = Hash>) {
        if let Some(guarded) = self.windows.get(&point) {
            guarded.window.warm(keys);
        }
    }

    /// Remembers a key that is new to the point; one that is gone remembers nothing.
    pub(crate) fn see(
        &mut self,
        point: Point,
        key: Hash,
        (now, own_ttl): (u64, Option<u64>),
        logged: bool,
        news: &mut News,
    ) {
        let Some(guarded) = self.windows.get_mut(&point) else { return };
        if logged && guarded.known.is_some() && !news.windows.iter().any(|(of, _)| *of == point) {
            news.windows.push((point, guarded.window.next()));
        }
        let until = guarded.rule.until(own_ttl, now);
        guarded.window.add(Seen::new(key, until, logged), now);
    }

    pub(crate) fn standing(&self, it: &Sequence) -> Standing {
        self.producers.standing(it)
    }

    /// A producer's message takes effect. True if an epoch begins by it.
    pub(crate) fn advance(&mut self, it: &Sequence, logged: bool, news: &mut News) -> bool {
        if logged && news.producers.last() != Some(&it.producer) && !news.producers.contains(&it.producer) {
            news.producers.push(it.producer);
        }
        self.producers.advance(it, logged)
    }

    /// A producer's message is refused because a queue is full.
    pub(crate) fn refuse(&mut self, it: &Sequence) {
        self.producers.refuse(it);
    }

    /// What is new, as the meta of a record; empty if nothing is.
    pub(crate) fn say(&self, news: &News) -> Vec<u8> {
        let mut out = Vec::new();
        if self.closed {
            return out;
        }
        for (point, from) in &news.windows {
            let Some(guarded) = self.windows.get(point) else { continue };
            if let Some(scope) = guarded.scope(&self.vhost) {
                guarded.put(scope, *from, u64::MAX, usize::MAX, &mut out);
            }
        }
        let producers: Vec<_> = news.producers.iter().filter_map(|it| self.producers.logged(*it)).collect();
        if !producers.is_empty() {
            put_producers(&self.vhost, &producers, &mut out);
        }
        out
    }

    /// The points that the log knows, each with the number of its next key, for a checkpoint.
    pub(crate) fn points(&mut self, now: u64) -> Vec<(Point, u64)> {
        self.windows.values_mut().for_each(|guarded| guarded.window.expire(now, usize::MAX));
        let known = self.windows.iter().filter(|(_, guarded)| guarded.known.is_some());
        known.map(|(point, guarded)| (*point, guarded.window.next())).collect()
    }

    /// Appends the keys `from .. upto` of a point, as many as fit into a record; without any, it still says where the
    /// numbers are. Gives the number of the one behind them; `None` if there are no more.
    pub(crate) fn dump(&self, point: Point, from: u64, upto: u64, out: &mut Vec<u8>) -> Option<u64> {
        /// So many keys go into a record of a checkpoint: 384 KiB.
        const KEYS: usize = 16 * 1024;
        let guarded = self.windows.get(&point)?;
        let end = guarded.put(guarded.scope(&self.vhost)?, from, upto, KEYS, out);
        (end < upto).then_some(end)
    }

    /// What the log knows of all producers, as metas of records.
    pub(crate) fn dump_producers(&self) -> Vec<Vec<u8>> {
        /// So many go into a record.
        const PRODUCERS: usize = 8 * 1024;
        let say = |chunk: &[Sequence]| {
            let mut out = Vec::new();
            put_producers(&self.vhost, chunk, &mut out);
            out
        };
        self.producers.all_logged().chunks(PRODUCERS).map(say).collect()
    }

    /// Something that was seen is in this record of the log.
    pub(crate) fn note_record(&mut self, lsn: Lsn) {
        self.upto = self.upto.max(lsn);
    }

    /// What has to be durable before a duplicate is confirmed; 0 for nothing.
    pub(crate) fn upto(&self) -> Lsn {
        self.upto
    }
}
