//! The way in: messages of one connection on their way to the queues, a run at a time.
//!
//! Messages for the same queues are packed into one run and appended under one lock per queue. The owner
//! calls [`Publisher::flush`] when its input is exhausted, so nothing waits longer than one read of the socket.

use crate::engine::{SharedQueue, VirtualHost};
use crate::error::{Error, Result};
use crate::mailbox::Mailbox;
use crate::message::{BLOCK_MAX, Run, SHARE_MIN, decode_route};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Table, Value};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Routes kept by exchange and key, each counted with its queues. Ten thousand keys in use fit; beyond it the cache
/// starts anew.
const CACHED_ROUTES: usize = 32 * 1024;

/// Runs to different queues that are filled side by side: as many queues as a busy connection publishes to in turn.
const OPEN_MAX: usize = 128;

/// Messages for the same queues become one run up to this size.
const RUN_MAX: usize = BLOCK_MAX;

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
}

impl Route {
    pub(crate) fn same_queues(&self, other: &Route) -> bool {
        self.queues.len() == other.queues.len() && self.queues.iter().zip(&other.queues).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Appends a run to every queue. True if one of them is crowded.
    pub(crate) fn append(&self, run: &mut Run, vhost: &VirtualHost, publisher: &Arc<Mailbox>) -> bool {
        let mut crowded = false;
        if run.len() >= SHARE_MIN {
            let block = run.seal(vhost.account());
            for queue in &self.queues {
                crowded |= queue.change(|queue| {
                    queue.append_block(block.clone());
                    queue.is_crowded(publisher)
                });
            }
        } else {
            for queue in &self.queues {
                crowded |= queue.change(|queue| {
                    queue.append_run(run);
                    queue.is_crowded(publisher)
                });
            }
            run.clear();
        }
        crowded
    }
}

/// The publishing half of a session.
#[derive(Debug)]
pub(crate) struct Publisher {
    vhost: Arc<VirtualHost>,
    mailbox: Arc<Mailbox>,
    /// Runs that are not in their queues yet. No two of them share a queue, so their order among each other is free.
    open: Vec<OpenRoute>,
    /// The address of each open run's only queue, to find it by; 0 for a run to several queues, which is open alone.
    targets: Vec<usize>,
    /// Exchange and key of the last lookup and what they led to.
    last_key: Vec<u8>,
    route: Arc<Route>,
    /// The open run of `route`.
    slot: Option<usize>,
    cache: FxHashMap<Box<[u8]>, Arc<Route>>,
    /// Routes in the cache and their queues.
    cached: usize,
    generation: u64,
    /// A queue that was appended to is crowded.
    crowded: bool,
}

#[derive(Debug)]
struct OpenRoute {
    route: Arc<Route>,
    run: Run,
}

impl Publisher {
    pub(crate) fn new(vhost: Arc<VirtualHost>, mailbox: Arc<Mailbox>) -> Publisher {
        Publisher {
            vhost,
            mailbox,
            open: Vec::new(),
            targets: Vec::new(),
            last_key: Vec::new(),
            route: Arc::new(Route { queues: Box::new([]) }),
            slot: None,
            cache: FxHashMap::default(),
            cached: 0,
            generation: 0,
            crowded: false,
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
        let is_plain = headers.is_empty() || headers.get("CC").is_none() && headers.get("BCC").is_none();
        if is_plain && publish.route == self.last_key.as_slice() {
            return Ok(());
        }
        self.slot = None;
        self.last_key.clear();
        if is_plain && let Some(route) = self.cache.get(publish.route) {
            self.route = route.clone();
            self.last_key.extend_from_slice(publish.route);
            return Ok(());
        }
        let (route, reads_headers) = self.lookup(publish, headers)?;
        self.route = route;
        if is_plain && !reads_headers {
            let weight = 1 + self.route.queues.len();
            if self.cached + weight > CACHED_ROUTES {
                self.cache.clear();
                self.cached = 0;
            }
            self.cached += weight;
            self.cache.insert(publish.route.into(), self.route.clone());
        }
        Ok(())
    }

    /// Where the last resolved message goes.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    fn lookup(&mut self, publish: &Publish<'_>, headers: Table<'_>) -> Result<(Arc<Route>, bool)> {
        let (exchange, key) = decode_route(publish.route)
            .ok_or_else(|| Error::connection(502, "exchange or routing key is not UTF-8"))?;
        let mut keys = vec![key];
        for name in ["CC", "BCC"] {
            extra_keys(headers, name, &mut keys)?;
        }
        let (routed, generation) = self.vhost.route(exchange, &keys, headers)?;
        if generation != self.generation {
            self.forget_routes();
            self.generation = generation;
        }
        Ok((Arc::new(Route { queues: routed.queues.into() }), routed.reads_headers))
    }

    fn forget_routes(&mut self) {
        self.cache.clear();
        self.cached = 0;
        self.last_key.clear();
        self.slot = None;
        self.generation = self.vhost.generation();
    }

    /// Takes the message that was resolved into the run of its route.
    #[inline]
    pub(crate) fn push(&mut self, publish: &Publish<'_>, encoded: &[u8]) {
        let slot = match self.slot {
            Some(slot) => slot,
            None => self.open_run(),
        };
        let run = &mut self.open[slot].run;
        let persistent = publish.properties.delivery_mode == Some(2);
        run.push(publish.route, encoded, publish.body, persistent);
        if run.len() >= RUN_MAX {
            let OpenRoute { route, run } = &mut self.open[slot];
            self.crowded |= route.append(run, &self.vhost, &self.mailbox);
            run.reserve_block(self.vhost.account());
        }
    }

    /// Finds the open run of the current route, or opens one.
    fn open_run(&mut self) -> usize {
        let target = match &*self.route.queues {
            [queue] => Arc::as_ptr(queue) as usize,
            _ => 0,
        };
        let found = self.targets.iter().position(|open| *open == target);
        let found = found.filter(|&slot| target != 0 || self.open[slot].route.same_queues(&self.route));
        let slot = found.unwrap_or_else(|| {
            if target == 0 || self.targets.first() == Some(&0) || self.open.len() >= OPEN_MAX {
                self.append_open();
            }
            let mut run = Run::default();
            if self.open.is_empty() {
                run.reserve_block(self.vhost.account());
            }
            self.open.push(OpenRoute { route: self.route.clone(), run });
            self.targets.push(target);
            self.open.len() - 1
        });
        self.slot = Some(slot);
        slot
    }

    /// Appends what was taken to its queues.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if !self.open.is_empty() {
            self.append_open();
        }
    }

    fn append_open(&mut self) {
        self.slot = None;
        self.targets.clear();
        for OpenRoute { route, mut run } in self.open.drain(..) {
            if !run.is_empty() {
                self.crowded |= route.append(&mut run, &self.vhost, &self.mailbox);
            }
            run.return_block(self.vhost.account());
        }
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
        self.cache = FxHashMap::default();
        self.cached = 0;
    }
}

/// The routing keys in a CC or BCC header, which is an array of strings.
fn extra_keys<'a>(headers: Table<'a>, name: &str, keys: &mut Vec<&'a str>) -> Result<()> {
    let refuse = || Error::precondition(format!("invalid '{name}' header: expected an array of strings"));
    match headers.get(name) {
        None => Ok(()),
        Some(Value::Array(array)) => {
            for value in array.iter() {
                let Value::LongString(_) = value else { return Err(refuse()) };
                keys.push(value.as_str().ok_or_else(refuse)?);
            }
            Ok(())
        }
        Some(_) => Err(refuse()),
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
