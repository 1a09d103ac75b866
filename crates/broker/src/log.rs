//! The log: everything durable in one sequence of records (docs/format.md).

mod adopt;
mod check;
mod checkpoint;
mod contents;
mod files;
mod format;
mod index;
mod merge;
mod record;
mod recover;
mod replay;
mod scan;
mod store;
mod timetable;
mod writer;

pub use check::{FileKind, FileReport, QueueReport, Report, check};
pub(crate) use contents::Contents;
pub(crate) use format::Lsn;
pub(crate) use index::{Entry, Span};
pub(crate) use record::{Bound, Change, QueueId, QueueState, Stretch, Target, TimesFile};
pub(crate) use recover::{Recovered, recover};
pub(crate) use scan::{is_damage, report_lost};
pub(crate) use store::{Store, View};
pub(crate) use timetable::{BadBlock, Reader};
pub(crate) use writer::{Beside, LARGE_MIN, Log, Part, Place, Round, Ticket, Unit};

pub(crate) use crate::queue::{FileSpan, Snapshot};

use crate::disk::{Directory, Disk};
use crate::times::NEAR;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The number of the segment or file that an LSN is in.
pub(crate) fn file_of(lsn: Lsn) -> u32 {
    format::split(lsn).0
}

/// Where and how a broker keeps what is durable.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The directory.
    pub disk: Arc<dyn Disk>,
    /// When a confirm goes out.
    pub sync: Sync,
    /// Bytes of a segment of the log.
    pub segment_size: u32,
    /// How many times, of expiry or of a delay, are kept in memory, about; at least 4. The later ones are in files.
    pub near_times: usize,
    /// Start although segments or files are missing, and serve damaged queues without what is damaged.
    pub accept_loss: bool,
}

impl Storage {
    /// With the defaults: sync always, segments of 32 MiB, 65,536 times in memory.
    pub fn new(disk: Arc<dyn Disk>) -> Storage {
        let segment_size = 32 * 1024 * 1024;
        Storage { disk, sync: Sync::Always, segment_size, near_times: NEAR, accept_loss: false }
    }

    /// In a directory of the file system, which is made if it is missing, with the defaults.
    ///
    /// # Errors
    /// [`OpenError::Io`] if another process has it open, and what the file system says.
    pub fn in_directory(path: impl Into<PathBuf>) -> Result<Storage, OpenError> {
        let path = path.into();
        let what = format!("use the directory {}", path.display());
        let disk = Directory::open(path).map_err(|source| OpenError::Io { what, source })?;
        Ok(Storage::new(Arc::new(disk)))
    }
}

/// When a confirm goes out. What is written survives a killed process in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// After the sync of its batch: survives a power cut.
    Always,
    /// After the write; a sync follows within this time, and a power cut loses at most what came in it.
    Interval(Duration),
    /// After the write; the operating system writes to the disk when it likes.
    Never,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Durable queues.
    pub queues: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of the log that had to be replayed.
    pub replayed: u64,
    /// Bytes at the end of the log that were never confirmed and did not survive.
    pub torn: u64,
    /// What was confirmed once and does not check now.
    pub damage: Vec<Damage>,
}

/// Messages of a queue that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// Bytes that do not check.
    pub bytes: u64,
    /// Virtual host and name of the queue; `None` if the bytes do not even say that.
    pub queue: Option<(String, String)>,
    /// The first of the messages, and how many; a position counts a queue's messages from its declaration on.
    pub positions: Option<(u64, u64)>,
}

/// Why a data directory cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Reading or writing a file failed.
    Io {
        /// What was done to which file.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Something is missing without which a start would lose messages.
    Missing(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { what, source } => write!(f, "cannot {what}: {source}"),
            OpenError::Missing(what) => write!(f, "{what}; restore it, or start once with accept_loss"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { source, .. } => Some(source),
            OpenError::Missing(_) => None,
        }
    }
}
