//! Where in the broker's use of the disk which fault was met, and how often.

use std::fmt::Write;

/// What the broker was doing when it called the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An operation of a client.
    Serve,
    /// `write_log`.
    Write,
    /// `tend`.
    Tend,
    /// `recover`.
    Recover,
    /// `shut_down`.
    Stop,
}

/// A method of the trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    List,
    Create,
    Open,
    Remove,
    SyncNames,
    Free,
    Read,
    Write,
    /// A write that makes its file longer.
    Extend,
    Sync,
    Len,
}

/// What a file is for, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The directory itself.
    Names,
    Log,
    Merged,
    Index,
    Checkpoint,
    /// What is to happen at times.
    Times,
    /// Transient messages for which there is no memory.
    Overflow,
    Other,
}

impl Kind {
    pub fn of(name: &str) -> Kind {
        match name.rsplit_once('.') {
            Some((_, "log")) => Kind::Log,
            Some((_, "merged")) => Kind::Merged,
            Some((_, "index")) => Kind::Index,
            Some((_, "checkpoint")) => Kind::Checkpoint,
            Some((_, "times")) => Kind::Times,
            Some((_, "overflow")) => Kind::Overflow,
            _ => Kind::Other,
        }
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device fails; the call has no effect. Of a sync: some of what was written is lost, and never tried again.
    Eio,
    /// A write fails after a part of it.
    Short,
    /// The disk is full, maybe in the middle of a write.
    Full,
    /// The process dies in the call.
    Kill,
    /// The power fails in the call.
    Power,
}

/// What a power cut, or time, did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// An unsynced write did not survive.
    LostWrite,
    /// Some of an unsynced write's sectors survived.
    Torn,
    /// A later write survived, an earlier one did not.
    Reordered,
    /// The file is gone, although it was synced itself.
    LostCreation,
    /// The file that was removed is back.
    LostRemoval,
    /// A bit of what was synced is another.
    Flip,
}

pub const PHASES: [Phase; 5] = [Phase::Serve, Phase::Write, Phase::Tend, Phase::Recover, Phase::Stop];
pub const OPS: [Op; 11] = [
    Op::List,
    Op::Create,
    Op::Open,
    Op::Remove,
    Op::SyncNames,
    Op::Free,
    Op::Read,
    Op::Write,
    Op::Extend,
    Op::Sync,
    Op::Len,
];
pub const KINDS: [Kind; 8] =
    [Kind::Names, Kind::Log, Kind::Merged, Kind::Index, Kind::Checkpoint, Kind::Times, Kind::Overflow, Kind::Other];
pub const FAULTS: [Fault; 5] = [Fault::Eio, Fault::Short, Fault::Full, Fault::Kill, Fault::Power];
pub const HARMS: [Harm; 6] =
    [Harm::LostWrite, Harm::Torn, Harm::Reordered, Harm::LostCreation, Harm::LostRemoval, Harm::Flip];

/// A place in the broker's use of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub phase: Phase,
    pub op: Op,
    pub kind: Kind,
}

const SITES: usize = PHASES.len() * OPS.len() * KINDS.len();

impl Site {
    fn index(self) -> usize {
        (self.phase as usize * OPS.len() + self.op as usize) * KINDS.len() + self.kind as usize
    }

    fn all() -> impl Iterator<Item = Site> {
        PHASES.into_iter().flat_map(|phase| {
            OPS.into_iter().flat_map(move |op| KINDS.into_iter().map(move |kind| Site { phase, op, kind }))
        })
    }
}

/// Whether a fault can happen to a call at all.
pub fn possible(op: Op, fault: Fault) -> bool {
    match fault {
        Fault::Eio | Fault::Kill | Fault::Power => true,
        Fault::Short => matches!(op, Op::Write | Op::Extend),
        // Overwriting needs no space.
        Fault::Full => matches!(op, Op::Create | Op::Extend),
    }
}

/// Counts of calls and faults.
#[derive(Clone, Debug)]
pub struct Coverage {
    calls: Vec<u64>,
    faults: Vec<[u64; FAULTS.len()]>,
    harms: [[u64; HARMS.len()]; KINDS.len()],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage {
            calls: vec![0; SITES],
            faults: vec![[0; FAULTS.len()]; SITES],
            harms: [[0; HARMS.len()]; KINDS.len()],
        }
    }
}

impl Coverage {
    pub fn call(&mut self, site: Site) {
        self.calls[site.index()] += 1;
    }

    pub fn fault(&mut self, site: Site, fault: Fault) {
        self.faults[site.index()][fault as usize] += 1;
    }

    pub fn harm(&mut self, kind: Kind, harm: Harm) {
        self.harms[kind as usize][harm as usize] += 1;
    }

    pub fn add(&mut self, other: &Coverage) {
        self.calls.iter_mut().zip(&other.calls).for_each(|(all, more)| *all += more);
        for (all, more) in self.faults.iter_mut().zip(&other.faults) {
            all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        }
        for (all, more) in self.harms.iter_mut().zip(&other.harms) {
            all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
        }
    }

    /// Sites that were called and are not in `known`.
    pub fn unknown(&self, known: &[Site]) -> Vec<Site> {
        Site::all().filter(|site| self.calls[site.index()] > 0 && !known.contains(site)).collect()
    }

    /// Operations on a kind of file that met a fault fewer than `least` times in all phases together, or never in one of
    /// those in `known`; `harms` that befell fewer than `least` times.
    pub fn missing(&self, known: &[Site], harms: &[(Kind, Harm)], least: u64) -> Vec<String> {
        let mut missing = Vec::new();
        let hits = |site: &Site, fault: Fault| self.faults[site.index()][fault as usize];
        for site in known {
            let is_first = known.iter().position(|other| (other.op, other.kind) == (site.op, site.kind));
            for fault in FAULTS.into_iter().filter(|&fault| possible(site.op, fault)) {
                let Site { phase, op, kind } = *site;
                if hits(site, fault) == 0 {
                    let calls = self.calls[site.index()];
                    missing.push(format!("{phase:?} {op:?} {kind:?} x {fault:?}: never ({calls} calls)"));
                }
                let all: u64 = PHASES.into_iter().map(|phase| hits(&Site { phase, op, kind }, fault)).sum();
                if all < least && is_first.is_some_and(|first| known[first] == *site) {
                    missing.push(format!("{op:?} {kind:?} x {fault:?}: {all}"));
                }
            }
        }
        for &(kind, harm) in harms {
            let hits = self.harms[kind as usize][harm as usize];
            if hits < least {
                missing.push(format!("{kind:?} x {harm:?}: {hits}"));
            }
        }
        missing
    }

    /// The matrix, for a person.
    pub fn table(&self) -> String {
        let mut out = String::from("phase    call      file           calls");
        FAULTS.iter().for_each(|fault| out += &format!(" {:>8}", format!("{fault:?}")));
        out.push('\n');
        for site in Site::all().filter(|site| self.calls[site.index()] > 0) {
            let [phase, op, kind] = [format!("{:?}", site.phase), format!("{:?}", site.op), format!("{:?}", site.kind)];
            let _ = write!(out, "{phase:<8} {op:<9} {kind:<10} {:>9}", self.calls[site.index()]);
            for fault in FAULTS {
                match possible(site.op, fault) {
                    true => out += &format!(" {:>8}", self.faults[site.index()][fault as usize]),
                    false => out += "        -",
                }
            }
            out.push('\n');
        }
        out += "file      ";
        HARMS.iter().for_each(|harm| out += &format!(" {:>12}", format!("{harm:?}")));
        out.push('\n');
        for kind in KINDS {
            let _ = write!(out, "{:<10}", format!("{kind:?}"));
            self.harms[kind as usize].iter().for_each(|hits| out += &format!(" {hits:>12}"));
            out.push('\n');
        }
        out
    }
}
