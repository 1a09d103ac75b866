//! A disk in memory that forgets what a real one may forget.
//!
//! A file has two contents: what reads see (the page cache) and what is on the platter. A write changes the cache and
//! is remembered until the file is synced; a power cut lets any part of what is remembered reach the platter, sector by
//! sector. Since a sector holds the last write that reached it, every order of writes is covered by every subset.
//! Names are remembered likewise until the directory is synced; syncing a file does nothing for its name.

use crate::coverage::{Coverage, Fault, Harm, Kind, Op, Phase, Site};
use crate::random::Random;
use leveret_broker::disk::{Disk, DiskFile};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

/// What reaches the platter whole or not at all: the smallest unit that a device promises.
const SECTOR: usize = 512;

/// Bytes of a new disk. More than any run writes: a full disk is a fault of its own.
const CAPACITY: u64 = 1 << 30;

/// Calls between two changes of phase. Nothing needs as many: the broker would never come to an end.
const CALLS: u64 = 100_000;

/// The disk; clones are handles to the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// How a disk comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comeback {
    /// Only the process had died: the page cache is still there.
    Process,
    /// The power was gone. Of what was not synced, so many per cent of the writes and of the changes of names survive.
    Power { writes: u64, names: u64 },
}

/// A fault that waits for its call.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    pub site: Site,
    pub fault: Fault,
    /// Calls at the site that are still spared.
    pub spared: u64,
}

#[derive(Clone)]
struct State {
    inodes: Vec<Option<Inode>>,
    /// Names as a process sees them.
    current: BTreeMap<String, usize>,
    /// Names that a power cut leaves.
    durable: BTreeMap<String, usize>,
    /// What happened to names since the last sync: the file that a name got, or none.
    changes: Vec<(String, Option<usize>)>,
    /// Counts comebacks: handles of an earlier life are dead.
    life: u64,
    /// What ended this life.
    death: Option<Fault>,
    die_at: Option<(u64, Fault)>,
    calls: u64,
    phase: Phase,
    /// Calls when this phase began.
    entered: u64,
    armed: Vec<Armed>,
    /// What fired since somebody asked.
    fired: Vec<(Site, Fault)>,
    full: bool,
    /// Calls are printed.
    trace: bool,
    used: u64,
    random: Random,
    coverage: Coverage,
}

#[derive(Clone)]
struct Inode {
    kind: Kind,
    /// Shared with forks until one of them writes.
    cache: Arc<Vec<u8>>,
    platter: Arc<Vec<u8>>,
    pending: Vec<Write>,
    /// Where the last sync put what it wrote.
    fresh: Vec<(usize, usize)>,
    /// A sync failed: the cache holds what the platter does not and nobody will write.
    lies: bool,
    open: u32,
    named: bool,
}

#[derive(Clone)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            current: BTreeMap::new(),
            durable: BTreeMap::new(),
            changes: Vec::new(),
            life: 0,
            death: None,
            die_at: None,
            calls: 0,
            phase: Phase::Recover,
            entered: 0,
            armed: Vec::new(),
            fired: Vec::new(),
            full: false,
            trace: false,
            used: 0,
            random: Random::new(seed),
            coverage: Coverage::default(),
        })))
    }

    /// The same content on a disk of its own, on which nothing fails.
    pub fn fork(&self) -> SimDisk {
        let mut state = self.0.lock().clone();
        state.life += 1;
        state.inodes.iter_mut().flatten().for_each(|inode| inode.open = 0);
        (state.death, state.die_at, state.full, state.trace) = (None, None, false, false);
        state.armed.clear();
        state.fired.clear();
        SimDisk(Arc::new(Mutex::new(state)))
    }

    /// Prints every call from now on.
    pub fn trace(&self) {
        self.0.lock().trace = true;
    }

    /// As [`SimDisk::fork`], with another fate.
    pub fn reseeded(&self, seed: u64) -> SimDisk {
        let disk = self.fork();
        disk.0.lock().random = Random::new(seed);
        disk
    }

    /// Says what the broker is about to do.
    pub fn enter(&self, phase: Phase) {
        let mut state = self.0.lock();
        (state.phase, state.entered) = (phase, state.calls);
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Lets the disk die in the call of this number, counted from 1 over all lives.
    pub fn die_at(&self, call: u64, how: Fault) {
        self.0.lock().die_at = Some((call, how));
    }

    pub fn arm(&self, armed: Armed) {
        self.0.lock().armed.push(armed);
    }

    /// Takes back what has not happened yet.
    pub fn disarm(&self) {
        let mut state = self.0.lock();
        state.armed.clear();
        state.die_at = None;
    }

    /// Ends its life now, between two calls.
    pub fn die(&self, how: Fault) {
        self.0.lock().death.get_or_insert(how);
    }

    /// What ended its life.
    pub fn death(&self) -> Option<Fault> {
        self.0.lock().death
    }

    /// The faults since the last call, in their order.
    pub fn take_fired(&self) -> Vec<(Site, Fault)> {
        std::mem::take(&mut self.0.lock().fired)
    }

    pub fn has_fired(&self) -> bool {
        !self.0.lock().fired.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.0.lock().full
    }

    /// Whether nothing new fits on it.
    pub fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    pub fn take_coverage(&self) -> Coverage {
        std::mem::take(&mut self.0.lock().coverage)
    }

    /// The process and all its handles are gone; what is left is what the next one finds.
    pub fn come_back(&self, how: Comeback) {
        let mut state = self.0.lock();
        state.life += 1;
        state.death = None;
        state.die_at = None;
        match how {
            Comeback::Process => state.forget_lies(),
            Comeback::Power { writes, names } => {
                state.cut_power(writes);
                state.cut_names(names);
            }
        }
        state.inodes.iter_mut().flatten().for_each(|inode| inode.open = 0);
        state.sweep();
    }

    /// Changes a bit of what was synced, except by the last sync of a log file: above the last watermark a flipped bit
    /// and a torn write are the same. Says where, unless there is nothing.
    pub fn flip(&self) -> Option<String> {
        let mut state = self.0.lock();
        let State { inodes, durable, random, coverage, .. } = &mut *state;
        for _ in 0..32 {
            let Some((name, &index)) = durable.iter().nth(random.index(durable.len().max(1))) else { continue };
            let Some(inode) = &mut inodes[index] else { continue };
            if inode.platter.is_empty() {
                continue;
            }
            // Nobody reads most of a file's zeros.
            let written = |at: &usize| inode.platter[*at] != 0;
            let offset = match inode.kind {
                // They have little else.
                Kind::Times => {
                    let written: Vec<usize> = (0..inode.platter.len()).filter(written).collect();
                    Some(random.pick(&written))
                }
                _ => (0..8).map(|_| random.index(inode.platter.len())).find(written),
            };
            let Some(offset) = offset.filter(|at| inode.is_old(*at)) else { continue };
            let bit = 1 << random.below(8);
            Arc::make_mut(&mut inode.platter)[offset] ^= bit;
            if let Some(byte) = Arc::make_mut(&mut inode.cache).get_mut(offset) {
                *byte ^= bit;
            }
            coverage.harm(inode.kind, Harm::Flip);
            return Some(format!("{name} at {offset}"));
        }
        None
    }

    /// Names with lengths, and how much of each is not on the platter.
    pub fn describe(&self) -> String {
        let state = self.0.lock();
        let files = state.current.iter().filter_map(|(name, &index)| Some((name, state.inodes[index].as_ref()?)));
        files.map(|(name, it)| format!("{name} {} ({} unsynced) ", it.cache.len(), it.pending.len())).collect()
    }

    fn file(&self, index: usize, life: u64, kind: Kind) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), index, life, kind })
    }
}

impl Inode {
    fn new(kind: Kind) -> Inode {
        Inode {
            kind,
            cache: Arc::default(),
            platter: Arc::default(),
            pending: Vec::new(),
            fresh: Vec::new(),
            lies: false,
            open: 1,
            named: true,
        }
    }

    /// Not written by the last sync of a log file.
    fn is_old(&self, offset: usize) -> bool {
        self.kind != Kind::Log || !self.fresh.iter().any(|&(begin, end)| (begin..end).contains(&offset))
    }

    fn sync(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.fresh.clear();
        let platter = Arc::make_mut(&mut self.platter);
        for write in self.pending.drain(..) {
            put(platter, write.offset, &write.bytes);
            self.fresh.push((write.offset, write.offset + write.bytes.len()));
        }
    }

    /// Lets a part of the unsynced writes reach the platter; tells what became of them.
    fn sync_some(&mut self, percent: u64, random: &mut Random, mut harm: impl FnMut(Harm)) {
        if self.pending.is_empty() {
            return;
        }
        let (platter, mut lost, length) = (Arc::make_mut(&mut self.platter), false, self.cache.len());
        for write in self.pending.drain(..) {
            let survives = match percent {
                0 => Survives::Nothing,
                100 => Survives::Everything,
                _ => Survives::draw(percent, random),
            };
            let kept = survives.put(&write, platter, random);
            let whole = kept == write.bytes.len();
            if lost && kept > 0 {
                harm(Harm::Reordered);
            }
            if !whole {
                harm(if kept == 0 { Harm::LostWrite } else { Harm::Torn });
            }
            lost |= !whole;
        }
        // A file system may remember a new length and not what was to be there.
        if percent > 0 && platter.len() < length && random.chance(25) {
            platter.resize(length, 0);
        }
    }
}

/// How much of a write reaches the platter.
#[derive(Clone, Copy)]
enum Survives {
    Nothing,
    Everything,
    Prefix,
    Sectors,
}

impl Survives {
    fn draw(percent: u64, random: &mut Random) -> Survives {
        match (random.chance(50), random.chance(percent)) {
            (true, even) => {
                if even {
                    Survives::Prefix
                } else {
                    Survives::Sectors
                }
            }
            (false, true) => Survives::Everything,
            (false, false) => Survives::Nothing,
        }
    }

    /// Returns how many bytes of the write are on the platter now.
    fn put(self, write: &Write, platter: &mut Vec<u8>, random: &mut Random) -> usize {
        let Write { offset, bytes } = write;
        let cuts = || cuts(*offset, bytes.len());
        match self {
            Survives::Nothing => 0,
            Survives::Everything => {
                put(platter, *offset, bytes);
                bytes.len()
            }
            Survives::Prefix => {
                let sectors = cuts().count();
                let end = cuts().nth(random.index(sectors)).map_or(0, |(begin, _)| begin);
                put(platter, *offset, &bytes[..end]);
                end
            }
            Survives::Sectors => {
                let mut kept = 0;
                for (begin, end) in cuts() {
                    if random.chance(50) {
                        put(platter, offset + begin, &bytes[begin..end]);
                        kept += end - begin;
                    }
                }
                kept
            }
        }
    }
}

/// The parts of a write that are in one sector each.
fn cuts(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let end = ((offset + begin) / SECTOR * SECTOR + SECTOR - offset).min(length);
        let cut = (begin < length).then_some((begin, end));
        begin = end;
        cut
    })
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(offset.max(content.len()), 0);
        let overlap = content.len() - offset;
        content[offset..].copy_from_slice(&bytes[..overlap]);
        content.extend_from_slice(&bytes[overlap..]);
    } else {
        content[offset..end].copy_from_slice(bytes);
    }
}

impl State {
    /// Counts a call and decides what becomes of it.
    fn call(&mut self, op: Op, kind: Kind, what: impl fmt::Display) -> io::Result<Option<Fault>> {
        if self.trace {
            println!("            {:?} {op:?} {kind:?} {what}", self.phase);
        }
        if self.death.is_some() {
            return Err(gone());
        }
        self.calls += 1;
        if self.calls - self.entered > CALLS {
            // Whoever is dropped on the way out would call it again.
            self.death = Some(Fault::Kill);
            panic!("the disk is called without end");
        }
        let site = Site { phase: self.phase, op, kind };
        self.coverage.call(site);
        let mut fault = match self.die_at {
            Some((call, how)) if call == self.calls => Some(how),
            _ => None,
        };
        self.armed.retain_mut(|armed| {
            if fault.is_some() || armed.site != site {
                return true;
            }
            if armed.spared > 0 {
                armed.spared -= 1;
                return true;
            }
            fault = Some(armed.fault);
            false
        });
        if fault.is_none() && self.full && matches!(op, Op::Create | Op::Extend) {
            fault = Some(Fault::Full);
        }
        if let Some(fault) = fault {
            self.coverage.fault(site, fault);
            self.fired.push((site, fault));
            if matches!(fault, Fault::Kill | Fault::Power) {
                self.death = Some(fault);
            }
        }
        Ok(fault)
    }

    /// As [`State::call`], for calls that a fault leaves without effect.
    fn plain_call(&mut self, op: Op, kind: Kind, what: impl fmt::Display) -> io::Result<()> {
        self.call(op, kind, what)?.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn inode(&mut self, index: usize) -> &mut Inode {
        self.inodes[index].as_mut().expect("a file that is open is there")
    }

    fn create(&mut self, name: &str) -> usize {
        let index = self.inodes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.inodes.push(None);
            self.inodes.len() - 1
        });
        self.inodes[index] = Some(Inode::new(Kind::of(name)));
        self.current.insert(name.to_string(), index);
        self.changes.push((name.to_string(), Some(index)));
        index
    }

    fn remove(&mut self, name: &str, index: usize) {
        self.current.remove(name);
        self.changes.push((name.to_string(), None));
        self.inode(index).named = false;
        self.free(index);
    }

    /// Gives back the space of a file that nobody can reach any more.
    fn free(&mut self, index: usize) {
        let inode = self.inode(index);
        if !inode.named && inode.open == 0 {
            let length = inode.cache.len() as u64;
            self.used = self.used.saturating_sub(length);
        }
    }

    fn write(&mut self, index: usize, offset: usize, bytes: &[u8]) {
        let inode = self.inode(index);
        let before = inode.cache.len();
        put(Arc::make_mut(&mut inode.cache), offset, bytes);
        inode.pending.push(Write { offset, bytes: bytes.to_vec() });
        let grown = (inode.cache.len() - before) as u64;
        self.used += grown;
    }

    fn sync_names(&mut self) {
        self.durable.clone_from(&self.current);
        self.changes.clear();
        self.sweep();
    }

    /// Forgets files that nothing leads to.
    fn sweep(&mut self) {
        let mut reachable: BTreeSet<usize> = self.current.values().chain(self.durable.values()).copied().collect();
        reachable.extend(self.changes.iter().filter_map(|(_, index)| *index));
        let mut used = 0;
        for (index, slot) in self.inodes.iter_mut().enumerate() {
            if let Some(inode) = slot {
                if inode.open == 0 && !reachable.contains(&index) {
                    *slot = None;
                } else if inode.open > 0 || inode.named {
                    used += inode.cache.len() as u64;
                }
            }
        }
        self.used = used;
    }

    /// Pages that a failed sync marked clean may be dropped at any time; reads then see the platter.
    fn forget_lies(&mut self) {
        let State { inodes, random, .. } = self;
        for inode in inodes.iter_mut().flatten().filter(|inode| inode.lies) {
            if random.chance(50) {
                let mut cache = Vec::clone(&inode.platter);
                inode.pending.iter().for_each(|write| put(&mut cache, write.offset, &write.bytes));
                inode.cache = Arc::new(cache);
                inode.lies = false;
            }
        }
    }

    fn cut_power(&mut self, percent: u64) {
        let State { inodes, random, coverage, .. } = self;
        for inode in inodes.iter_mut().flatten() {
            let kind = inode.kind;
            inode.sync_some(percent, random, |harm| coverage.harm(kind, harm));
            inode.cache = inode.platter.clone();
            inode.lies = false;
        }
    }

    /// Each name ends as it was at the last sync, or as one of the changes since then left it.
    fn cut_names(&mut self, percent: u64) {
        let State { inodes, current, durable, changes, random, coverage, .. } = self;
        for (name, index) in changes.drain(..) {
            let survives = random.chance(percent);
            match index {
                Some(index) if survives => _ = durable.insert(name, index),
                None if survives => _ = durable.remove(&name),
                Some(_) => coverage.harm(Kind::of(&name), Harm::LostCreation),
                None => coverage.harm(Kind::of(&name), Harm::LostRemoval),
            }
        }
        current.clone_from(durable);
        inodes.iter_mut().flatten().for_each(|inode| inode.named = false);
        for &index in current.values() {
            inodes[index].as_mut().expect("a file that has a name is there").named = true;
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the disk is gone")
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Eio | Fault::Short => io::Error::from_raw_os_error(5),
        Fault::Full => io::ErrorKind::StorageFull.into(),
        Fault::Kill | Fault::Power => gone(),
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.plain_call(Op::List, Kind::Names, "")?;
        let mut names: Vec<String> = state.current.keys().cloned().collect();
        for left in (1..names.len()).rev() {
            let other = state.random.index(left + 1);
            names.swap(left, other);
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, kind) = (self.0.lock(), Kind::of(name));
        if state.current.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some(fault) = state.call(Op::Create, kind, name)? {
            // A process may die before or after its call has had an effect.
            if state.death.is_some() && state.random.chance(50) {
                let index = state.create(name);
                state.inode(index).open = 0;
            }
            return Err(error(fault));
        }
        let (index, life) = (state.create(name), state.life);
        drop(state);
        Ok(self.file(index, life, kind))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (mut state, kind) = (self.0.lock(), Kind::of(name));
        state.plain_call(Op::Open, kind, name)?;
        let Some(&index) = state.current.get(name) else { return Err(io::ErrorKind::NotFound.into()) };
        state.inode(index).open += 1;
        let life = state.life;
        drop(state);
        Ok(self.file(index, life, kind))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let Some(&index) = state.current.get(name) else { return Err(io::ErrorKind::NotFound.into()) };
        let fault = state.call(Op::Remove, Kind::of(name), name)?;
        if fault.is_none() || state.death.is_some() && state.random.chance(50) {
            state.remove(name, index);
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let fault = state.call(Op::SyncNames, Kind::Names, "")?;
        if fault.is_none() || state.death.is_some() && state.random.chance(50) {
            state.sync_names();
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn free(&self) -> io::Result<u64> {
        let mut state = self.0.lock();
        state.plain_call(Op::Free, Kind::Names, "")?;
        Ok(if state.full { 0 } else { CAPACITY.saturating_sub(state.used) })
    }
}

struct SimFile {
    disk: SimDisk,
    index: usize,
    life: u64,
    kind: Kind,
}

impl SimFile {
    /// The disk, unless this is a handle of a process that is gone.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.0.lock();
        if state.life == self.life { Ok(state) } else { Err(gone()) }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({:?} {})", self.kind, self.index)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.inode(self.index).open -= 1;
            state.free(self.index);
        }
    }
}

impl DiskFile for SimFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        state.plain_call(
            Op::Read,
            self.kind,
            format_args!("file {} at {offset}, {} bytes", self.index, buffer.len()),
        )?;
        let inode = state.inode(self.index);
        let rest = inode.cache.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, offset) = (self.state()?, offset as usize);
        let extends = offset + bytes.len() > state.inode(self.index).cache.len();
        let op = if extends { Op::Extend } else { Op::Write };
        let fault =
            state.call(op, self.kind, format_args!("file {} at {offset}, {} bytes", self.index, bytes.len()))?;
        let done = match fault {
            None => bytes.len(),
            Some(Fault::Eio) => 0,
            Some(_) => state.random.index(bytes.len() + 1),
        };
        if done > 0 {
            state.write(self.index, offset, &bytes[..done]);
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.call(Op::Sync, self.kind, format_args!("file {}", self.index))?;
        let State { inodes, random, .. } = &mut *state;
        let inode = inodes[self.index].as_mut().expect("a file that is open is there");
        match fault {
            None => inode.sync(),
            Some(Fault::Kill | Fault::Power) => {
                if random.chance(50) {
                    inode.sync();
                }
            }
            Some(_) => {
                inode.sync_some(50, random, |_| ());
                inode.lies = true;
            }
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.plain_call(Op::Len, self.kind, format_args!("file {}", self.index))?;
        Ok(state.inode(self.index).cache.len() as u64)
    }
}
