//! Deliberate mistakes, switched on one at a time, to show that the storage tests notice them.

use std::cell::Cell;

/// A mistake that a storage engine could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Files are never synced.
    NoFsync,
    /// Checksums are not compared.
    NoCrc,
    /// The directory is never synced.
    NoDirSync,
    /// Acknowledgements are not recorded.
    NoAckRecord,
    /// A segment is given back while the last checkpoint still needs it.
    EarlyDelete,
    /// A message that is moved is not recorded as done where it was.
    NoMoveDone,
    /// Checkpoints leave out what is to happen at times.
    NoTimes,
    /// Who has messages of a group does not hold its key.
    KeyNotHeld,
    /// Consumers get what their filters do not match.
    NoFilter,
    /// All consumers are active where one should be.
    AllActive,
    /// A queue ends although it is used.
    LeaseNotRenewed,
    /// Checkpoints leave out files of times.
    NoTimesFiles,
    /// Checkpoints leave out entries.
    NoEntries,
    /// A virtual host's end is not recorded.
    VhostStays,
    /// Queues in memory have the numbers of those before the start.
    SameNumbers,
}

std::thread_local! {
    static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Switches a mistake on for brokers that are driven by this thread, or all of them off.
pub fn switch_on(mutant: Option<Mutant>) {
    ON.set(mutant);
}

pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}
