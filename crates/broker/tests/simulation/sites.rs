//! Where the broker calls the disk: a run that calls it elsewhere fails, and says which row to add.

use crate::coverage::{Harm, Kind, Op, Phase, Site};

/// Every fault that is possible in a call has to be met at each of these.
pub const SITES: &[Site] = &[
    at(Phase::Serve, Op::Read, Kind::Log),
    at(Phase::Serve, Op::Read, Kind::Merged),
    at(Phase::Serve, Op::Read, Kind::Index),
    at(Phase::Write, Op::Create, Kind::Log),
    at(Phase::Write, Op::SyncNames, Kind::Names),
    at(Phase::Write, Op::Write, Kind::Log),
    at(Phase::Write, Op::Extend, Kind::Log),
    at(Phase::Write, Op::Sync, Kind::Log),
    at(Phase::Tend, Op::Create, Kind::Log),
    at(Phase::Tend, Op::Create, Kind::Merged),
    at(Phase::Tend, Op::Create, Kind::Index),
    at(Phase::Tend, Op::Create, Kind::Checkpoint),
    at(Phase::Tend, Op::Create, Kind::Times),
    at(Phase::Tend, Op::Open, Kind::Merged),
    at(Phase::Tend, Op::Open, Kind::Index),
    at(Phase::Tend, Op::Remove, Kind::Log),
    at(Phase::Tend, Op::Remove, Kind::Merged),
    at(Phase::Tend, Op::Remove, Kind::Index),
    at(Phase::Tend, Op::Remove, Kind::Checkpoint),
    at(Phase::Tend, Op::Remove, Kind::Times),
    at(Phase::Tend, Op::SyncNames, Kind::Names),
    at(Phase::Tend, Op::Free, Kind::Names),
    at(Phase::Tend, Op::Read, Kind::Log),
    at(Phase::Tend, Op::Read, Kind::Merged),
    at(Phase::Tend, Op::Read, Kind::Index),
    at(Phase::Tend, Op::Read, Kind::Times),
    at(Phase::Tend, Op::Write, Kind::Log),
    at(Phase::Tend, Op::Write, Kind::Checkpoint),
    at(Phase::Tend, Op::Extend, Kind::Log),
    at(Phase::Tend, Op::Extend, Kind::Merged),
    at(Phase::Tend, Op::Extend, Kind::Index),
    at(Phase::Tend, Op::Extend, Kind::Checkpoint),
    at(Phase::Tend, Op::Extend, Kind::Times),
    at(Phase::Tend, Op::Sync, Kind::Log),
    at(Phase::Tend, Op::Sync, Kind::Merged),
    at(Phase::Tend, Op::Sync, Kind::Index),
    at(Phase::Tend, Op::Sync, Kind::Checkpoint),
    at(Phase::Tend, Op::Sync, Kind::Times),
    at(Phase::Tend, Op::Len, Kind::Log),
    at(Phase::Tend, Op::Len, Kind::Merged),
    at(Phase::Tend, Op::Len, Kind::Index),
    at(Phase::Recover, Op::List, Kind::Names),
    at(Phase::Recover, Op::Create, Kind::Log),
    at(Phase::Recover, Op::Create, Kind::Times),
    at(Phase::Recover, Op::Open, Kind::Log),
    at(Phase::Recover, Op::Open, Kind::Merged),
    at(Phase::Recover, Op::Open, Kind::Index),
    at(Phase::Recover, Op::Open, Kind::Checkpoint),
    at(Phase::Recover, Op::Open, Kind::Times),
    at(Phase::Recover, Op::Remove, Kind::Log),
    at(Phase::Recover, Op::Remove, Kind::Merged),
    at(Phase::Recover, Op::Remove, Kind::Index),
    at(Phase::Recover, Op::Remove, Kind::Times),
    at(Phase::Recover, Op::SyncNames, Kind::Names),
    at(Phase::Recover, Op::Read, Kind::Log),
    at(Phase::Recover, Op::Read, Kind::Index),
    at(Phase::Recover, Op::Read, Kind::Checkpoint),
    at(Phase::Recover, Op::Read, Kind::Times),
    at(Phase::Recover, Op::Write, Kind::Log),
    at(Phase::Recover, Op::Write, Kind::Checkpoint),
    at(Phase::Recover, Op::Extend, Kind::Log),
    at(Phase::Recover, Op::Extend, Kind::Times),
    at(Phase::Recover, Op::Sync, Kind::Log),
    at(Phase::Recover, Op::Sync, Kind::Checkpoint),
    at(Phase::Recover, Op::Sync, Kind::Times),
    at(Phase::Recover, Op::Len, Kind::Log),
    at(Phase::Recover, Op::Len, Kind::Index),
    at(Phase::Recover, Op::Len, Kind::Checkpoint),
    at(Phase::Stop, Op::Create, Kind::Log),
    at(Phase::Stop, Op::Create, Kind::Checkpoint),
    at(Phase::Stop, Op::Remove, Kind::Log),
    at(Phase::Stop, Op::Remove, Kind::Merged),
    at(Phase::Stop, Op::Remove, Kind::Index),
    at(Phase::Stop, Op::Remove, Kind::Checkpoint),
    at(Phase::Stop, Op::Remove, Kind::Times),
    at(Phase::Stop, Op::SyncNames, Kind::Names),
    at(Phase::Stop, Op::Write, Kind::Log),
    at(Phase::Stop, Op::Write, Kind::Checkpoint),
    at(Phase::Stop, Op::Extend, Kind::Log),
    at(Phase::Stop, Op::Extend, Kind::Checkpoint),
    at(Phase::Stop, Op::Sync, Kind::Log),
    at(Phase::Stop, Op::Sync, Kind::Checkpoint),
    at(Phase::Stop, Op::Len, Kind::Log),
];

/// How much oftener something goes wrong in such a call than in a read of the log: there are fewer of them.
pub fn weight(op: Op, kind: Kind) -> u32 {
    let seldom = matches!(op, Op::List | Op::Create | Op::Remove | Op::SyncNames | Op::Sync | Op::Len);
    let kind = match (kind, op) {
        (Kind::Times, Op::Extend | Op::Sync) => 7,
        (Kind::Times, Op::Remove | Op::Open) => 4,
        (Kind::Merged, _) => 5,
        (Kind::Times, _) => 3,
        (Kind::Index | Kind::Checkpoint, _) => 2,
        _ => 1,
    };
    if seldom { 2 * kind } else { kind }
}

/// Sites that are known and reached too seldom to be counted on.
pub const RARE: &[Site] = &[
    // What a transaction brings may be too much, and what is dropped for it becomes a letter.
    at(Phase::Write, Op::Read, Kind::Log),
    at(Phase::Write, Op::Read, Kind::Merged),
    at(Phase::Write, Op::Read, Kind::Index),
    at(Phase::Stop, Op::Read, Kind::Log),
    at(Phase::Stop, Op::Read, Kind::Merged),
    at(Phase::Stop, Op::Read, Kind::Index),
    // The bytes of a queue with a limit for them are counted.
    at(Phase::Recover, Op::Read, Kind::Merged),
    // The beginning of a merged file is written last only if it is larger than what is kept of it in memory.
    at(Phase::Tend, Op::Write, Kind::Merged),
    // Half of a checkpoint that could not be removed when it was written.
    at(Phase::Recover, Op::Remove, Kind::Checkpoint),
    // An index is made again when it is damaged.
    at(Phase::Recover, Op::Create, Kind::Index),
    at(Phase::Recover, Op::Extend, Kind::Index),
    at(Phase::Recover, Op::Sync, Kind::Index),
    at(Phase::Recover, Op::Len, Kind::Merged),
    // Parked transient messages for which there is no memory.
    at(Phase::Tend, Op::Create, Kind::Overflow),
    at(Phase::Tend, Op::Remove, Kind::Overflow),
    at(Phase::Tend, Op::Extend, Kind::Overflow),
    at(Phase::Tend, Op::Write, Kind::Overflow),
    at(Phase::Serve, Op::Read, Kind::Overflow),
    at(Phase::Write, Op::Read, Kind::Overflow),
    at(Phase::Tend, Op::Read, Kind::Overflow),
    at(Phase::Stop, Op::Read, Kind::Overflow),
    at(Phase::Recover, Op::Remove, Kind::Overflow),
    // A file of times has many blocks only when it was merged.
    at(Phase::Serve, Op::Read, Kind::Times),
    // One that could not be removed is written over.
    at(Phase::Tend, Op::Write, Kind::Times),
    at(Phase::Recover, Op::Write, Kind::Times),
];

/// What every kind of file can suffer. The others are written and synced before anything is said about them, so that
/// nothing of them is torn that somebody knows of; their names are lost and come back.
pub const HARMS: &[(Kind, Harm)] = &[
    (Kind::Log, Harm::LostWrite),
    (Kind::Log, Harm::Torn),
    (Kind::Log, Harm::Reordered),
    (Kind::Log, Harm::LostCreation),
    (Kind::Log, Harm::LostRemoval),
    (Kind::Log, Harm::Flip),
    (Kind::Merged, Harm::LostWrite),
    (Kind::Merged, Harm::Torn),
    (Kind::Merged, Harm::LostCreation),
    (Kind::Merged, Harm::LostRemoval),
    (Kind::Merged, Harm::Flip),
    (Kind::Index, Harm::LostWrite),
    (Kind::Index, Harm::Torn),
    (Kind::Index, Harm::LostCreation),
    (Kind::Index, Harm::LostRemoval),
    (Kind::Index, Harm::Flip),
    (Kind::Checkpoint, Harm::LostWrite),
    (Kind::Checkpoint, Harm::Torn),
    (Kind::Checkpoint, Harm::Reordered),
    (Kind::Checkpoint, Harm::LostCreation),
    (Kind::Checkpoint, Harm::LostRemoval),
    (Kind::Checkpoint, Harm::Flip),
    (Kind::Times, Harm::LostWrite),
    (Kind::Times, Harm::Torn),
    (Kind::Times, Harm::LostCreation),
    (Kind::Times, Harm::LostRemoval),
    (Kind::Times, Harm::Flip),
];

const fn at(phase: Phase, op: Op, kind: Kind) -> Site {
    Site { phase, op, kind }
}
