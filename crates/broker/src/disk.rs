//! The only way to files: a small trait, and the directory of a real file system behind it.
//!
//! The broker's log, its recovery and its background work do all input and output through [`Disk`], so that the same
//! code runs on a real disk and on a simulated one that loses power in the middle of a write.

use std::fmt;
use std::io;
use std::sync::Arc;

mod directory;

pub use directory::Directory;

/// A flat directory of files that nobody else uses.
///
/// Nothing is durable before it is synced: the bytes of a file by [`DiskFile::sync`], names that were created or
/// removed by [`Disk::sync`].
pub trait Disk: fmt::Debug + Send + Sync {
    /// Names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file. `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing. `NotFound` if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a name. Whoever has the file open can go on using it; its space is free when the last one is done.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations and removals durable.
    fn sync(&self) -> io::Result<()>;

    /// Bytes that can still be written before the disk is full.
    fn free(&self) -> io::Result<u64>;
}

/// An open file of a [`Disk`].
#[expect(clippy::len_without_is_empty, reason = "nobody asks a file that")]
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Fills `buffer` from `offset` on; returns how many bytes there were: less than asked for only at the file's end.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes, over what is there or behind it. After an error any part of them may have been written.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable. After an error nothing is known about any write since the last sync, and
    /// syncing again proves nothing: file systems mark pages clean that they could not write (Rebello et al., "Can
    /// Applications Recover from fsync Failures?", ATC 2020).
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
}
