//! The arguments of a run's queues: chosen by its seed, and known by a queue's number ever after.

use crate::content::{DEAD, EXCHANGES, GROUP, LATER, QUEUES};
use crate::random::Random;
use leveret_wire::table::FieldTable;

/// What is special in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct World {
    seed: u64,
    /// Some queues have rules, and time goes by.
    pub ruled: bool,
    /// Queues with limits, whenever they are declared: nobody consumes from them, and no letters go there, so that
    /// what is too much is known exactly.
    limited: [bool; QUEUES.len()],
    /// All messages are persistent, so that those of a transient queue that die together are logged together, or not.
    pub persistent: bool,
    /// Messages have groups, consumers have filters, and some queues are for one consumer or by group.
    pub sorted: bool,
    /// Some queues end when nobody uses them.
    pub leases: bool,
    /// There are entries, and another virtual host.
    pub beside: bool,
    /// How many times are kept in memory, if not as many as usual.
    pub near_times: Option<usize>,
}

impl World {
    /// `queues` is their number; the last one is transient.
    pub fn of_seed(seed: u64, queues: usize) -> World {
        let mut random = Random::new(seed ^ 0x776f_726c);
        let (ruled, persistent) = (random.chance(75), random.chance(40));
        let mut world = World { seed, ruled, persistent: ruled && persistent, ..World::default() };
        if world.ruled && random.chance(60) {
            world.limited[random.between(1, queues as u64 - 2) as usize] = true;
        }
        world.sorted = ruled && random.chance(50);
        world.beside = Random::new(seed ^ 0x6265_7369).chance(40);
        world.leases = ruled && random.chance(50);
        if ruled && random.chance(80) {
            world.near_times = Some(random.pick(&[4, 8, 16, 64]));
        }
        world
    }

    pub fn is_limited(&self, queue: usize) -> bool {
        self.limited[queue]
    }

    /// The rules of the queue that was declared with this number.
    pub fn rules(&self, queue: usize, durable: bool, number: u32) -> Rules {
        let mut random = Random::new(self.seed ^ (u64::from(number) << 32));
        if !self.ruled || !self.limited[queue] && random.chance(30) {
            return Rules::default();
        }
        let mut rules = Rules { letters: self.letters(&mut random), ..Rules::default() };
        if !durable {
            rules.letters = rules.letters.filter(|(exchange, _)| self.persistent && *exchange == 0);
        }
        if random.chance(30) {
            rules.ttl = Some(random.pick(&[20, 200, 1000, 4000]));
        }
        if random.chance(30) {
            rules.delivery_limit = Some(random.pick(&[0, 1, 2, 5]));
        }
        if self.limited[queue] {
            rules.limit(&mut random);
        } else {
            if durable && random.chance(25) {
                (rules.quorum, rules.delivery_limit) = (true, rules.delivery_limit.or(Some(3)));
            }
            // What waits and expires could not be told from what was never there.
            if rules.ttl.is_none() && random.chance(35) {
                let (failed, returned) = random.pick(&[(true, true), (true, false), (false, true)]);
                let doubles = random.chance(50);
                rules.retry = Some(Retry { min: random.pick(&[10, 100, 1000]), doubles, failed, returned });
            }
            self.sort(&mut rules, &mut random);
            if self.leases && random.chance(30) {
                rules.expires = Some(random.pick(&[100, 1000, 5000, 15_000]));
            }
        }
        rules
    }

    /// Who gets what of it.
    fn sort(&self, rules: &mut Rules, random: &mut Random) {
        if !self.sorted {
            return;
        }
        match random.below(10) {
            0..5 => rules.groups = true,
            5..7 => rules.single_active = true,
            _ => {}
        }
        // What waits in groups is told by how often it came back.
        if rules.groups && rules.quorum {
            rules.retry = rules.retry.map(|retry| Retry { failed: true, returned: false, ..retry });
        }
    }

    fn letters(&self, random: &mut Random) -> Option<(usize, Option<&'static str>)> {
        let open: Vec<&'static str> = (0..5).filter(|&queue| !self.limited[queue]).map(|queue| QUEUES[queue]).collect();
        match random.weighted(&[25, 50, 17, 8]) {
            0 => None,
            1 => Some((0, Some(random.pick(&open)))),
            2 => Some((DEAD, random.pick(&[None, Some("k")]))),
            _ => Some((LATER, random.pick(&[None, Some("k")]))),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    #[default]
    Drop,
    Refuse,
    RefuseWithLetter,
}

#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Milliseconds.
    pub min: u64,
    pub doubles: bool,
    pub failed: bool,
    pub returned: bool,
}

/// Milliseconds between attempts, at most.
const RETRY_MAX: u64 = 3000;

/// What a queue is asked for. Without anything it is a plain one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Milliseconds.
    pub ttl: Option<u64>,
    /// Exchange and key of dead letters.
    pub letters: Option<(usize, Option<&'static str>)>,
    pub max_length: Option<u64>,
    pub max_bytes: Option<u64>,
    pub overflow: Overflow,
    pub delivery_limit: Option<u64>,
    pub retry: Option<Retry>,
    pub quorum: bool,
    /// By the header of messages.
    pub groups: bool,
    pub single_active: bool,
    /// Milliseconds without use.
    pub expires: Option<u64>,
}

impl Rules {
    fn limit(&mut self, random: &mut Random) {
        self.overflow = match (random.below(4), self.letters) {
            // Some letters of an exchange that delays would be in the log, and others wait for those.
            (0, _) | (1, None | Some((LATER, _))) => Overflow::Refuse,
            (1, Some(_)) => Overflow::RefuseWithLetter,
            _ => Overflow::Drop,
        };
        if self.overflow == Overflow::Drop && random.chance(40) {
            self.max_bytes = Some(random.pick(&[500, 5000, 50_000]));
        }
        if self.max_bytes.is_none() || random.chance(30) {
            self.max_length = Some(random.pick(&[1, 3, 10, 40]));
        }
    }

    /// It refuses what is too much.
    pub fn refuses(&self) -> bool {
        self.overflow != Overflow::Drop
    }

    /// When a message expires that comes now.
    pub fn expires(&self, now: u64, life: Option<u32>) -> Option<u64> {
        life.map(u64::from).into_iter().chain(self.ttl).min().map(|life| now + life)
    }

    /// Whether so much is too much.
    pub fn is_over(&self, messages: u64, bytes: u64) -> bool {
        self.max_length.is_some_and(|max| messages > max) || self.max_bytes.is_some_and(|max| bytes > max)
    }

    /// Milliseconds before a message that came back so often is tried again.
    pub fn delay(&self, count: u64, failed: bool) -> Option<u64> {
        let retry = self.retry.filter(|retry| if failed { retry.failed } else { retry.returned })?;
        let count = count.max(1);
        let factor = if retry.doubles { 1 << (count - 1).min(20) } else { count };
        Some((retry.min * factor).min(RETRY_MAX))
    }

    /// As arguments of a declaration, with the queue's number.
    pub fn arguments(&self, number: u32) -> FieldTable {
        let mut table = FieldTable::new().with("x-number", i64::from(number));
        let mut add = |name, value: Option<u64>| {
            if let Some(value) = value {
                table.insert(name, value as i64);
            }
        };
        add("x-message-ttl", self.ttl);
        add("x-expires", self.expires);
        add("x-max-length", self.max_length);
        add("x-max-length-bytes", self.max_bytes);
        add("x-delivery-limit", self.delivery_limit);
        add("x-delayed-retry-min", self.retry.map(|retry| retry.min));
        add("x-delayed-retry-max", self.retry.map(|_| RETRY_MAX));
        add("x-delayed-retry-multiplier", self.retry.and_then(|retry| retry.doubles.then_some(2)));
        if let Some(Retry { failed, returned, .. }) = self.retry {
            let kind = if failed && returned {
                "all"
            } else if failed {
                "failed"
            } else {
                "returned"
            };
            table.insert("x-delayed-retry-type", kind);
        }
        if let Some((exchange, key)) = self.letters {
            table.insert("x-dead-letter-exchange", EXCHANGES[exchange].name);
            if let Some(key) = key {
                table.insert("x-dead-letter-routing-key", key);
            }
        }
        match self.overflow {
            Overflow::Drop => {}
            Overflow::Refuse => table.insert("x-overflow", "reject-publish"),
            Overflow::RefuseWithLetter => table.insert("x-overflow", "reject-publish-dlx"),
        }
        if self.quorum {
            table.insert("x-queue-type", "quorum");
        }
        if self.groups {
            table.insert("x-group-header", GROUP);
        }
        if self.single_active {
            table.insert("x-single-active-consumer", true);
        }
        table
    }
}
