//! One run: from a seed to operations of clients, work of the broker, faults and crashes.

pub use crate::client::Step;
use crate::client::{Conn, Mode, declare_exchange, text};
use crate::clocks::Clocks;
use crate::content::{Address, Content, EXCHANGES, FLAVORS, GROUPS, LATER, QUEUES, keys};
use crate::coverage::{Coverage, FAULTS, Fault, Phase, Site, possible};
use crate::disk::{Armed, Comeback, SimDisk};
use crate::groups::FILTERS;
use crate::inspect::inspect;
use crate::judge::{Excuse, Found, judge};
use crate::model::Model;
use crate::random::Random;
use crate::rules::World;
use crate::side::{self, Side};
use crate::sites::{SITES, weight};
use leveret_broker::{Broker, Limits, OpenError, Recovery, Settle, Storage, Sync};
use std::sync::Arc;

/// Segments are so small that a run fills many.
pub const SEGMENT: u32 = 64 * 1024;

/// How often a start is tried while faults are in its way.
const STARTS: usize = 8;

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub operations: u32,
    /// Clients' operations for one step of the broker's own work, roughly.
    pub patience: u64,
    /// Faults, crashes and restarts by chance; otherwise the caller does that.
    pub faults: bool,
    /// Without what is beside the virtual host: as the seed was before there was such a thing.
    pub alone: bool,
    /// What follows every crash; otherwise that is left to chance.
    pub comeback: Option<Comeback>,
    /// Print what is done.
    pub trace: bool,
}

impl Plan {
    pub fn of_seed(seed: u64) -> Plan {
        let mut random = Random::new(seed ^ 0x706c_616e);
        let (operations, patience) = (random.between(600, 900) as u32, random.pick(&[2, 5, 15]));
        Plan { seed, operations, patience, faults: true, alone: false, comeback: None, trace: false }
    }
}

/// Runs a plan to its end.
pub fn run(plan: Plan) -> Result<Coverage, String> {
    let mut sim = Sim::new(plan);
    sim.begin()?;
    while sim.operations() < plan.operations && !sim.model.confused && !sim.model.unclear {
        sim.operation()?;
    }
    sim.end()
}

pub struct Sim {
    plan: Plan,
    pub disk: SimDisk,
    pub random: Random,
    limits: Limits,
    sync: Sync,
    /// Number of queues; the last one is transient.
    queues: usize,
    pub clocks: Clocks,
    pub model: Model,
    broker: Option<Broker>,
    conns: Vec<Conn>,
    crashes: u32,
    operations: u32,
    /// A fault came in the way of a client's operation.
    stumbled: bool,
    /// A fault came in the way of anything in this life.
    faulted: bool,
}

impl Sim {
    pub fn new(plan: Plan) -> Sim {
        let mut random = Random::new(plan.seed);
        let max_memory = random.pick(&[256 << 10, 2 << 20, 1 << 30]);
        let queues = random.between(4, 5) as usize;
        let mut model = Model::new(plan.trace);
        model.world = World::of_seed(plan.seed, queues);
        model.world.beside &= !plan.alone;
        model.side = Side::new(plan.seed);
        Sim {
            plan,
            disk: SimDisk::new(plan.seed ^ 0x6469_736b),
            limits: Limits { max_memory, ..Limits::default() },
            sync: Sync::Always,
            queues,
            random,
            clocks: Clocks::new(),
            model,
            broker: None,
            conns: Vec::new(),
            crashes: 0,
            operations: 0,
            stumbled: false,
            faulted: false,
        }
    }

    /// Starts a broker on the empty disk, and declares everything.
    pub fn begin(&mut self) -> Step {
        if self.plan.trace {
            self.disk.trace();
        }
        self.next_run();
        self.disk.enter(Phase::Recover);
        match self.open(&self.disk, &self.clocks, false) {
            Ok((broker, _)) if self.disk.death().is_none() => self.serve(broker),
            Err(error) if self.disk.death().is_none() => return Err(format!("an empty disk: {error}")),
            _ => self.crash(None)?,
        }
        self.declare_all()?;
        self.arm(&RUNNING, 90);
        Ok(())
    }

    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Operations that were done.
    pub fn operations(&self) -> u32 {
        self.operations
    }

    fn open(&self, disk: &SimDisk, clocks: &Clocks, accept_loss: bool) -> Result<(Broker, Recovery), OpenError> {
        let disk = Arc::new(disk.clone());
        let usual = Storage::new(disk);
        let near_times = self.model.world.near_times.unwrap_or(usual.near_times);
        let storage = Storage { sync: self.sync, segment_size: SEGMENT, near_times, accept_loss, ..usual };
        Broker::recover(self.limits.clone(), clocks.environment(), storage)
    }

    fn serve(&mut self, broker: Broker) {
        self.conns = (0..2).map(|index| Conn::new(&broker, index)).collect();
        self.broker = Some(broker);
        self.model.now = self.clocks.now();
        self.stumbled = false;
        self.disk.enter(Phase::Serve);
    }

    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("a broker runs between two crashes")
    }

    fn declare_all(&mut self) -> Step {
        for queue in 0..self.queues {
            self.model.seq += 1;
            self.conns[0].declare_queue(0, queue, queue + 1 < self.queues, &mut self.model)?;
        }
        for exchange in (1..EXCHANGES.len()).filter(|&index| !EXCHANGES[index].predeclared) {
            self.model.seq += 1;
            self.conns[0].declare_exchange(exchange, &mut self.model)?;
        }
        for address in Address::bound() {
            for _ in 0..if address.exchange >= LATER { 1 } else { 2 } {
                self.model.seq += 1;
                let queue = self.random.index(self.queues);
                self.conns[0].bind(address, queue, &mut self.model)?;
            }
        }
        Ok(())
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        self.model.say(what);
    }

    /// Lets something go wrong in one of these phases, some calls from now.
    fn arm(&mut self, phases: &[Phase], percent: u64) {
        self.disk.disarm();
        if !self.plan.faults || !self.random.chance(percent) {
            return;
        }
        let sites = SITES.iter().filter(|site| phases.contains(&site.phase));
        let cells = sites.flat_map(|&site| FAULTS.map(|fault| (site, fault)));
        let cells: Vec<(Site, Fault)> = cells.filter(|(site, fault)| possible(site.op, *fault)).collect();
        let weights: Vec<u32> = cells.iter().map(|(site, _)| weight(site.op, site.kind)).collect();
        let (site, fault) = cells[self.random.weighted(&weights)];
        let spread = self.random.pick(&[1, 1, 3, 10, 40]);
        let armed = Armed { site, fault, spared: self.random.below(spread) };
        self.say(|| format!("armed: {armed:?}"));
        self.disk.arm(armed);
    }

    /// Does one thing, and what follows from it.
    pub fn operation(&mut self) -> Step {
        self.model.seq += 1;
        self.model.moved_bytes = 0;
        self.operations += 1;
        self.disk.enter(Phase::Serve);
        let done = match self.random.below(self.plan.patience) {
            0 => self.work(),
            _ if self.model.world.beside && self.model.side.is_due() => {
                let broker = self.broker.as_ref().expect("a broker runs between two crashes");
                side::operate(broker, &mut self.model)
            }
            _ => self.client(),
        };
        self.note_fired();
        if self.disk.death().is_some() || self.stumbled {
            return self.crash(None);
        }
        done?;
        if self.broker().failure().is_some() && self.random.chance(30) {
            return self.crash(None);
        }
        if !self.plan.faults {
            return Ok(());
        }
        match self.random.below(800) {
            0 => self.crash(None),
            1..4 => self.restart(),
            4..14 => {
                self.arm(&RUNNING, 100);
                Ok(())
            }
            14..18 => {
                self.disk.set_full(true);
                self.say(|| "the disk is full".to_string());
                Ok(())
            }
            18..44 => {
                self.disk.set_full(false);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A failed read in a client's operation may end in anything but a wrong answer; what it did is not known.
    fn note_fired(&mut self) {
        for (site, fault) in self.disk.take_fired() {
            self.say(|| format!("{fault:?} at {site:?}"));
            self.faulted = true;
            self.stumbled |= site.phase == Phase::Serve;
        }
    }

    fn work(&mut self) -> Step {
        match self.random.weighted(&[30, 45, 10, 15]) {
            0 => self.write_log(),
            1 => self.tend(),
            2 => self.write_everything(),
            _ => {
                self.say(|| "take answers".to_string());
                self.conns.iter_mut().try_for_each(|conn| conn.take_answers(&mut self.model))
            }
        }
    }

    fn write_log(&mut self) -> Step {
        let again = self.random.between(1, 3);
        self.say(|| format!("write the log {again} times"));
        for _ in 0..again {
            self.write_once();
        }
        self.check_failure()?;
        if !self.model.world.ruled || !self.model.has_late_units() {
            return Ok(());
        }
        // When it is done is known only if all is, and what follows from it must be known.
        match self.random.chance(30) {
            true => {
                self.stumbled = true;
                Ok(())
            }
            false => self.write_everything(),
        }
    }

    /// A round of writing; true if it has written, and what waited for that has happened.
    fn write_once(&mut self) -> bool {
        let mut wrote = false;
        self.in_phase(Phase::Write, |broker| wrote = broker.write_log());
        if wrote {
            self.model.finish_written();
        }
        wrote
    }

    fn tend(&mut self) -> Step {
        let again = self.random.between(1, 12);
        self.say(|| format!("tend {again} times"));
        self.in_phase(Phase::Tend, |broker| (0..again).for_each(|_| _ = broker.tend()));
        self.check_failure()?;
        if self.model.outstanding.is_empty() || self.disk.death().is_some() || !self.model.world.ruled {
            return Ok(());
        }
        // A checkpoint writes the log: what has happened by that is known only if all has, or nothing is asked for.
        match self.random.chance(30) {
            true => {
                self.stumbled = true;
                Ok(())
            }
            false => self.write_everything(),
        }
    }

    fn in_phase(&mut self, phase: Phase, act: impl FnOnce(&Broker)) {
        self.disk.enter(phase);
        act(self.broker());
        self.disk.enter(Phase::Serve);
    }

    /// A failed sync of the log is never tried again and never concealed; without a fault nothing fails.
    fn check_failure(&mut self) -> Step {
        let fired = self.disk.take_fired();
        fired.iter().for_each(|fault| self.say(|| format!("{fault:?}")));
        let failure = self.broker().failure();
        let must = fired.iter().any(|(site, fault)| {
            *fault == Fault::Eio && site.phase == Phase::Write && site.op == crate::coverage::Op::Sync
        });
        if must && failure.is_none() && self.disk.death().is_none() {
            return Err("the broker goes on after a failed sync".to_string());
        }
        self.faulted |= !fired.is_empty();
        // A queue of which something could not be read is closed.
        self.stumbled |= self.faulted && self.broker().take_damage().iter().any(|text| text.contains("cannot be read"));
        match failure {
            Some(why) if !self.faulted => Err(format!("the broker fails without a reason: {why}")),
            _ => Ok(()),
        }
    }

    /// Writes until nothing is left; everything that waits must be answered then.
    fn write_everything(&mut self) -> Step {
        self.say(|| "write everything".to_string());
        let mut rounds = 0;
        while rounds < 1000 && self.write_once() {
            rounds += 1;
        }
        let quiet = !self.disk.has_fired();
        self.check_failure()?;
        if !quiet || self.broker().failure().is_some() || self.disk.is_full() {
            // Some of what waited may have happened.
            self.stumbled |= !self.model.outstanding.is_empty();
            return Ok(());
        }
        if rounds == 1000 {
            return Err("the log is never done with writing".to_string());
        }
        self.model.finish_all();
        self.model.note_all_durable();
        self.conns.iter_mut().try_for_each(|conn| conn.take_answers(&mut self.model))?;
        side::all_answered(&mut self.model)?;
        for conn in &self.conns {
            for chan in &conn.chans {
                if !chan.published.is_empty() || chan.committing.is_some() {
                    return Err(format!("everything is written and a channel still waits: {chan:?}"));
                }
            }
        }
        Ok(())
    }

    fn client(&mut self) -> Step {
        let (random, model) = (&mut self.random, &mut self.model);
        let which = random.index(self.conns.len());
        let conn = &mut self.conns[which];
        let chan = random.index(conn.chans.len());
        if conn.chans[chan].committing.is_some() {
            return conn.take_answers(model);
        }
        let queue = random.index(self.queues);
        let what = random.weighted(&WEIGHTS);
        model.say(|| format!("{} on channel {which}.{chan}, maybe {}", NAMES[what], QUEUES[queue]));
        match what {
            0 => self.publish(which, chan),
            1 => {
                let no_ack = random.chance(20);
                conn.get(chan, queue, no_ack, model)
            }
            2 if conn.chans[chan].consumers.len() < 3 && !model.world.is_limited(queue) => {
                let (prefetch, no_ack) = (random.pick(&[0, 1, 10, 100]), random.chance(25));
                let filter = if model.world.sorted && random.chance(40) { random.index(FILTERS.len()) } else { 0 };
                conn.consume(chan, queue, prefetch, (no_ack, filter), model)
            }
            3 => conn.pull(random, model),
            4 => {
                let held = conn.chans[chan].held.len();
                if held == 0 {
                    return Ok(());
                }
                let tag = conn.chans[chan].held.keys().nth(random.index(held)).copied().unwrap_or_default();
                let multiple = random.chance(40);
                let hows = [Settle::Ack, Settle::Requeue, Settle::Reject, Settle::Fail];
                let how = hows[random.weighted(if model.world.ruled { &[50, 20, 15, 15] } else { &[70, 20, 10] })];
                conn.settle(chan, tag, multiple, how, model)
            }
            5 if conn.chans[chan].mode == Mode::Transaction => match random.chance(75) {
                true => conn.commit(chan, model),
                false => conn.rollback(chan),
            },
            6 => conn.take_answers(model),
            7 if !conn.chans[chan].consumers.is_empty() => {
                let index = random.index(conn.chans[chan].consumers.len());
                conn.cancel(chan, index, model)
            }
            8 => conn.recover(chan, model),
            9 => conn.purge(chan, queue, model),
            10 => {
                conn.delete_queue(chan, queue, model)?;
                if random.chance(50) {
                    model.seq += 1;
                    conn.declare_queue(chan, queue, queue + 1 < self.queues, model)?;
                }
                Ok(())
            }
            11 => conn.declare_queue(chan, queue, queue + 1 < self.queues, model),
            12 => self.topology(which),
            13 => conn.reopen(chan, model),
            14 if model.world.ruled => self.pass_time(),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, conn: usize, chan: usize) -> Step {
        let random = &mut self.random;
        let count = match random.below(10) {
            0 => random.between(10, 60),
            _ => random.between(1, 6),
        };
        let (mut address, scatter) = (self.model.some_address(random, self.queues), random.chance(30));
        let persistent = random.chance(85) || self.model.world.persistent;
        let mut messages = Vec::new();
        for _ in 0..count {
            if scatter {
                address = self.model.some_address(random, self.queues);
            }
            // Only a few of many are long.
            let length = if count > 6 { random.below(300) as usize } else { Content::length(random) };
            let flavors = if self.model.world.sorted { FLAVORS * (GROUPS + 1) } else { FLAVORS };
            let flavor = random.below(flavors.into()) as u8;
            let mut content = Content::new(address, length, persistent, flavor);
            if self.model.world.ruled {
                self.model.give_times(random, &mut content);
            }
            messages.push(content);
        }
        self.conns[conn].publish(chan, &messages, &mut self.model)
    }

    fn topology(&mut self, conn: usize) -> Step {
        let (random, model, conn) = (&mut self.random, &mut self.model, &mut self.conns[conn]);
        let exchange = random.between(1, EXCHANGES.len() as u64 - 1) as usize;
        let key = random.index(keys(exchange));
        let (address, queue) = (Address { exchange, key }, random.index(self.queues));
        match random.below(5) {
            0 if !EXCHANGES[exchange].predeclared => conn.delete_exchange(exchange, model),
            0 | 1 if !EXCHANGES[exchange].predeclared => conn.declare_exchange(exchange, model),
            2 => conn.unbind(address, queue, model),
            _ => conn.bind(address, queue, model),
        }
    }

    /// Ends the broker as a signal does, and starts it again.
    pub fn restart(&mut self) -> Step {
        self.say(|| "restart".to_string());
        if self.broker().failure().is_some() {
            return self.crash(None);
        }
        if self.random.chance(50) {
            self.conns.drain(..).for_each(|conn| conn.close(&mut self.model));
        }
        self.arm(&[Phase::Stop], 80);
        let mut stopped = Ok(());
        self.in_phase(Phase::Stop, |broker| stopped = broker.shut_down());
        let quiet = !self.disk.has_fired();
        self.note_fired();
        match stopped {
            Ok(()) if self.disk.death().is_none() => {
                self.model.seq += 1;
                self.model.note_all_durable();
                self.model.finish_all();
            }
            Err(error) if quiet && !self.disk.is_full() => return Err(format!("the broker does not stop: {error}")),
            _ => {}
        }
        self.crash(None)
    }

    /// The process ends, or the power; then the broker is started until it is up again, and what it has is judged.
    pub fn crash(&mut self, how: Option<Comeback>) -> Step {
        self.crashes += 1;
        let how = how.unwrap_or_else(|| self.some_comeback());
        self.say(|| format!("crash: {how:?}; {}", self.disk.describe()));
        self.model.suppose_all();
        self.drop_broker();
        self.disk.come_back(how);
        self.next_run();
        for start in 0..STARTS {
            self.arm(&[Phase::Recover], if start + 1 < STARTS { 40 } else { 0 });
            let copy = self.disk.fork();
            self.disk.enter(Phase::Recover);
            let opened = self.open(&self.disk, &self.clocks, false);
            let fired = self.disk.take_fired();
            fired.iter().for_each(|fault| self.say(|| format!("{fault:?}")));
            match opened {
                // A queue of which something could not be read is closed.
                Ok((broker, _)) if self.disk.death().is_none() && broker.take_damage().is_empty() => {
                    self.disk.disarm();
                    let found = self.look(&copy, None)?;
                    self.model.adopt(&found);
                    self.faulted = false;
                    self.serve(broker);
                    self.model.declare_predeclared();
                    self.redeclare_later()?;
                    if self.model.may_be_over {
                        self.meet_time();
                    }
                    self.arm(&RUNNING, 90);
                    return Ok(());
                }
                Err(error) if fired.is_empty() => return Err(format!("the broker does not start: {error}")),
                _ => {}
            }
            let again = self.some_comeback();
            self.say(|| format!("crash in the start: {again:?}"));
            self.disk.disarm();
            self.disk.come_back(again);
        }
        unreachable!("nothing fails in the last start")
    }

    /// Of the exchange that delays and its queue only the first may have survived.
    fn redeclare_later(&mut self) -> Step {
        let Some(life) = self.model.exchange(LATER) else { return Ok(()) };
        declare_exchange(&self.conns[0].session, LATER, life.number).map_err(text)
    }

    /// The process is gone before the broker could write anything on its way out.
    fn drop_broker(&mut self) {
        self.disk.die(Fault::Kill);
        self.conns.clear();
        self.model.side.forget_answers();
        self.broker = None;
        self.disk.disarm();
        self.disk.set_full(false);
    }

    fn some_comeback(&mut self) -> Comeback {
        if let Some(comeback) = self.plan.comeback {
            return comeback;
        }
        if self.disk.death() == Some(Fault::Kill) || self.random.chance(40) && self.disk.death().is_none() {
            return Comeback::Process;
        }
        let percent = [0, 20, 50, 80, 100];
        Comeback::Power { writes: self.random.pick(&percent), names: self.random.pick(&percent) }
    }

    /// Starts a broker on a copy of the disk and compares what it has with the model.
    fn look(&self, copy: &SimDisk, flipped: Option<&str>) -> Result<Found, String> {
        let clocks = self.clocks.fork();
        let opened = self.open(copy, &clocks, false);
        let (broker, recovery) = match opened {
            Ok(opened) => opened,
            // What does not even start has not concealed anything.
            Err(OpenError::Missing(_)) if flipped.is_some() => {
                return Ok(Found { excuse: Excuse { everything: true, ..Excuse::default() }, ..Found::default() });
            }
            Err(error) => return Err(format!("a copy does not start: {error}")),
        };
        self.say(|| format!("recovered: {recovery:?}"));
        let found = inspect((&broker, &recovery), &clocks, &self.model, flipped.is_some())?;
        for (queue, found) in &found.queues {
            self.say(|| format!("found in {}: {found:?}", QUEUES[*queue]));
        }
        if !self.model.unclear {
            judge(&self.model, &found)?;
        }
        Ok(found)
    }

    /// A last crash, with a flipped bit in some runs.
    pub fn end(mut self) -> Result<Coverage, String> {
        if self.plan.faults && self.random.chance(30) {
            self.flip()?;
        } else {
            self.model.seq += 1;
            self.crash(None)?;
        }
        Ok(self.disk.take_coverage())
    }

    /// What was stored is not what is read: that is found out, or it doesn't matter.
    fn flip(&mut self) -> Step {
        self.model.seq += 1;
        self.model.suppose_all();
        let how = self.some_comeback();
        self.drop_broker();
        self.disk.come_back(how);
        self.next_run();
        let Some(flipped) = self.disk.flip() else { return Ok(()) };
        self.say(|| format!("{how:?}, flipped a bit of {flipped}"));
        self.look(&self.disk.fork(), Some(&flipped)).map_err(|error| format!("{error} (flipped {flipped})"))?;
        let accepting = self.open(&self.disk.fork(), &self.clocks.fork(), true);
        accepting.map(|_| ()).map_err(|error| format!("does not start with accept_loss: {error} (flipped {flipped})"))
    }
}

/// Phases of a broker that is up.
const RUNNING: [Phase; 3] = [Phase::Serve, Phase::Write, Phase::Tend];

const NAMES: [&str; 15] = [
    "publish", "get", "consume", "pull", "settle", "commit", "answers", "cancel", "recover", "purge", "delete",
    "declare", "topology", "reopen", "time",
];
const WEIGHTS: [u32; 15] = [30, 10, 5, 20, 25, 10, 6, 2, 1, 1, 1, 4, 4, 2, 8];
