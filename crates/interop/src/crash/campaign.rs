//! The campaign: cycles of load, kill, restart and check.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::crash::account::Account;
use crate::crash::chance::Chance;
use crate::crash::drain::{self, Stay};
use crate::crash::ledger::{Findings, Ledger};
use crate::crash::load::{Clients, Load};
use crate::crash::message::Pattern;
use crate::crash::topology::{self, COLD, FIXED, RECEIPTS, SLOT, SLOTS};
use crate::crash::victim::{BACKGROUND, Start, Victim, Way, copy, names, size};

/// How long a cycle may take to get its confirms.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait for background work to show itself in the data directory.
const MERGE_PATIENCE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_micros(300);
/// The cold queue is only looked at in every so many cycles, so that a backlog sees several kills unread.
const COLD_EVERY: u64 = 5;
/// The cold queue is thinned out above this many messages, the others far below.
const COLD_MOST: usize = 200_000;
const BACKLOG_MOST: usize = 30_000;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The broker, as it is started first.
    pub start: Start,
    /// How often to kill it under load.
    pub cycles: u64,
    /// What all choices follow from; the broker's and the clients' timing does not.
    pub seed: u64,
    /// Confirms before a kill.
    pub confirms: u64,
    /// Start the broker in the same way each time.
    pub one_way: bool,
    /// Cut the clients' connections instead of killing the broker.
    pub dry: bool,
    /// Before each restart, copy the data directory to this place.
    pub copy: Option<PathBuf>,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Cycles that were completed.
    pub cycles: u64,
    /// Confirms in them.
    pub confirms: u64,
    /// Committed transactions.
    pub commits: u64,
    /// Messages that were looked at after restarts.
    pub found: u64,
    /// Kills, by what they hit.
    pub kills: Kills,
    /// The longest time from exec to listening.
    pub slowest: Duration,
    /// What is wrong; the cycle of it was the last.
    pub findings: Findings,
}

/// Kills, by what they hit.
#[derive(Debug, Default, Clone, Copy)]
pub struct Kills {
    /// Under load.
    pub load: u64,
    /// Under load, when a file of the background work had just appeared.
    pub merging: u64,
    /// After a restart, before the broker listened.
    pub recovering: u64,
    /// After a restart, when it already listened.
    pub started: u64,
}

/// Those that there were.
impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kills { load, merging, recovering, started } = *self;
        let all = [(load, "under load"), (merging, "merging"), (recovering, "recovering"), (started, "just started")];
        let mut words = all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        match words.next() {
            None => write!(f, "no kill"),
            Some(first) => words.try_fold(write!(f, "killed {first}")?, |(), next| write!(f, ", {next}")),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::crash::ledger::Kind::{Count, Flag, Ghost, Half, Lost, Order};
        let Summary { cycles, confirms, commits, found, kills, slowest, findings } = self;
        writeln!(f, "{cycles} cycles, {confirms} confirms, {commits} commits, {found} messages found; {kills}")?;
        writeln!(f, "slowest start: {} ms", slowest.as_millis())?;
        let [lost, ghosts, half, order, flags, counts] =
            [Lost, Ghost, Half, Order, Flag, Count].map(|kind| findings.count(kind));
        write!(f, "{lost} lost, {ghosts} ghosts, {half} half transactions, ")?;
        writeln!(f, "{order} out of order, {flags} wrong flags, {counts} wrong counts")?;
        write!(f, "{findings}")
    }
}

/// Runs it all, and prints a line for each cycle.
///
/// # Errors
/// If the broker doesn't start, ends by itself, refuses what it is asked for or doesn't answer: as bad as a finding,
/// but there is nothing to hold against the ledger.
pub fn run(options: &Options) -> Result<Summary> {
    let mut campaign = Campaign::start(options)?;
    for cycle in 1..=options.cycles {
        campaign.cycle(cycle).with_context(|| format!("cycle {cycle}"))?;
        campaign.summary.cycles = cycle;
        if !campaign.summary.findings.is_empty() {
            return Ok(campaign.summary);
        }
    }
    campaign.finish().context("a clean restart at the end")?;
    Ok(campaign.summary)
}

struct Campaign<'o> {
    options: &'o Options,
    /// How the broker is started next.
    start: Start,
    victim: Option<Victim>,
    ledger: Ledger,
    chance: Chance,
    pattern: Arc<Pattern>,
    clock: Instant,
    publishers: u32,
    last_start: Duration,
    summary: Summary,
}

impl<'o> Campaign<'o> {
    fn start(options: &'o Options) -> Result<Campaign<'o>> {
        let mut campaign = Campaign {
            options,
            start: options.start.clone(),
            victim: None,
            ledger: Ledger::default(),
            chance: Chance::new(options.seed),
            pattern: Arc::default(),
            clock: Instant::now(),
            publishers: 0,
            last_start: Duration::ZERO,
            summary: Summary::default(),
        };
        campaign.restart()?;
        topology::declare(options.start.port, false)?;
        Ok(campaign)
    }

    fn cycle(&mut self, cycle: u64) -> Result<()> {
        let load = Arc::new(Load::new(self.options.start.port, self.pattern.clone(), self.clock));
        let began = Instant::now();
        let before = self.summary.kills;
        let accounts = self.load_and_kill(&load, cycle % 4 == 1)?;
        let (confirms, commits) = (load.confirms.load(Ordering::Relaxed), load.commits.load(Ordering::Relaxed));
        let loaded = began.elapsed();
        self.ledger.absorb(&accounts, &mut self.summary.findings);
        drop(accounts);
        if !self.options.dry {
            if cycle % 4 == 3 {
                self.kill_while_it_recovers()?;
            }
            self.restart()?;
        }
        let began = Instant::now();
        let found = self.check(cycle.is_multiple_of(COLD_EVERY))?;
        self.summary.confirms += confirms;
        self.summary.commits += commits;
        self.summary.found += found as u64;
        let backlog: usize = (0..FIXED).map(|queue| self.ledger.len(queue)).sum();
        let kills = self.summary.kills.since(&before);
        println!(
            "cycle {cycle}: {confirms} confirms, {commits} commits in {:.2} s; {kills}; start {} ms ({}); {found} found in {:.2} s, \
             {backlog} left; {} MiB",
            loaded.as_secs_f64(),
            self.last_start.as_millis(),
            self.start.way,
            began.elapsed().as_secs_f64(),
            self.options.start.data.as_deref().map_or(0, size) >> 20,
        );
        Ok(())
    }

    fn load_and_kill(&mut self, load: &Arc<Load>, when_merging: bool) -> Result<Vec<Account>> {
        let mut last = self.publishers;
        let mut number = || {
            last += 1;
            last
        };
        let mut clients = Clients::start(load.clone(), &mut number, &mut self.chance);
        let sweep = number();
        self.publishers = last;
        let target = self.options.confirms + self.chance.below(self.options.confirms / 5);
        self.wait_for(load, &clients, target)?;
        let merging = when_merging && {
            clients.add_sweep(sweep, self.chance.fork());
            self.wait_for_background_work()
        };
        sleep(Duration::from_micros(self.chance.below(if merging { 2_000 } else { 20_000 })));
        load.ending.store(true, Ordering::SeqCst);
        if self.options.dry {
            load.cut();
            let accounts = clients.join()?;
            drain::wait_for_quiet(self.options.start.port)?;
            return Ok(accounts);
        }
        self.victim.take().context("no broker")?.kill()?;
        let kills = &mut self.summary.kills;
        *(if merging { &mut kills.merging } else { &mut kills.load }) += 1;
        load.cut();
        clients.join()
    }

    fn wait_for(&mut self, load: &Load, clients: &Clients, confirms: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while load.confirms.load(Ordering::Relaxed) < confirms && !clients.ended() {
            sleep(POLL);
            self.victim.as_mut().context("no broker")?.check()?;
            if Instant::now() > deadline {
                let so_far = load.confirms.load(Ordering::Relaxed);
                bail!("only {so_far} confirms came in {} s", PATIENCE.as_secs());
            }
        }
        Ok(())
    }

    /// True if a file of the background work appeared, which is when the work on it begins.
    fn wait_for_background_work(&mut self) -> bool {
        let end = BACKGROUND[self.chance.below(BACKGROUND.len() as u64) as usize];
        let Some(data) = &self.start.data else { return false };
        let before = names(data, end);
        let deadline = Instant::now() + MERGE_PATIENCE;
        while Instant::now() < deadline {
            if names(data, end).difference(&before).next().is_some() {
                return true;
            }
            sleep(POLL);
        }
        false
    }

    fn kill_while_it_recovers(&mut self) -> Result<()> {
        for _ in 0..=self.chance.below(3) {
            self.change_way();
            let victim = self.start.spawn()?;
            let longest = self.last_start.mul_f64(1.1).max(Duration::from_millis(10));
            sleep(longest.mul_f64(self.chance.below(1000) as f64 / 1000.0));
            let listens = victim.listens();
            victim.kill()?;
            *(if listens { &mut self.summary.kills.started } else { &mut self.summary.kills.recovering }) += 1;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        if let (Some(data), Some(to)) = (&self.options.start.data, &self.options.copy)
            && data.exists()
        {
            copy(data, to)?;
        }
        if self.publishers > 0 {
            self.change_way();
        }
        let mut victim = self.start.spawn()?;
        self.last_start = victim.wait_until_it_listens()?;
        self.summary.slowest = self.summary.slowest.max(self.last_start);
        self.victim = Some(victim);
        Ok(())
    }

    fn change_way(&mut self) {
        let first = &self.options.start.way;
        if !self.options.one_way {
            self.start.way = Way::any(first.segment_size, &mut self.chance);
        }
    }

    /// Looks at all queues, or all but the cold one; returns how many messages there are.
    fn check(&mut self, with_cold: bool) -> Result<usize> {
        let port = self.options.start.port;
        // In memory nothing is there any more, and each queue is found to be empty.
        topology::declare(port, self.options.start.data.is_some() || self.options.dry)?;
        let queues: Vec<usize> = (0..FIXED).filter(|queue| with_cold || *queue != COLD).collect();
        let mut found = 0;
        let mut acknowledged = Vec::new();
        for &queue in &queues {
            let stay = self.stay(queue);
            let findings = &mut self.summary.findings;
            let drained = drain::drain(port, &self.pattern, queue, stay, &mut self.chance, findings)?;
            found += drained.found.len();
            self.ledger.check(queue, &drained.found, findings);
            let at = (!drained.committed).then(|| self.clock.elapsed().as_nanos() as u64);
            acknowledged.push((queue, drained.acknowledged, at));
        }
        for slot in 0..SLOTS {
            let findings = &mut self.summary.findings;
            let found_here = drain::tear_down(port, &self.pattern, SLOT + slot, findings)?;
            found += found_here.as_ref().map_or(0, Vec::len);
            self.ledger.check_slot(slot, found_here.as_deref(), findings);
        }
        self.ledger.clear_slots();
        self.ledger.check_transactions(&mut self.summary.findings);
        self.ledger.settle(&queues, self.clock.elapsed().as_nanos() as u64);
        for (queue, ids, at) in acknowledged {
            self.ledger.acknowledged(queue, &ids, at);
        }
        Ok(found)
    }

    fn stay(&mut self, queue: usize) -> Stay {
        let most = if queue == COLD { COLD_MOST } else { BACKLOG_MOST };
        let crowded = self.ledger.len(queue) > most;
        match self.chance.below(6) {
            _ if queue == RECEIPTS => Stay::None,
            0 | 1 if !crowded => Stay::Held,
            2 if !crowded => Stay::Requeued,
            3 if queue != COLD => Stay::None,
            _ => Stay::OneIn(2 + self.chance.below(20)),
        }
    }

    /// Stops the broker as an operator does, and looks at everything once more.
    fn finish(&mut self) -> Result<()> {
        if self.options.dry || self.options.start.data.is_none() {
            return Ok(());
        }
        self.ledger.absorb(&[], &mut self.summary.findings);
        self.victim.take().context("no broker")?.stop()?;
        self.restart()?;
        let found = self.check(true)?;
        self.summary.found += found as u64;
        println!("stopped and started: start {} ms; {found} found", self.last_start.as_millis());
        Ok(())
    }
}

impl Kills {
    fn since(&self, before: &Kills) -> Kills {
        Kills {
            load: self.load - before.load,
            merging: self.merging - before.merging,
            recovering: self.recovering - before.recovering,
            started: self.started - before.started,
        }
    }
}
