//! Where transient messages go when memory runs short: files without a name, which end with the process.
//!
//! They are never synced and never read again after a restart. A block that is written there is read back when its
//! turn comes. A file's space is free again when the last of its blocks is forgotten.

use crate::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// A file gets no more blocks when it is longer than this.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// The files that blocks are written to.
#[derive(Debug)]
pub(crate) struct Overflow {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The file that is written to, and its length.
    current: Option<(Arc<dyn DiskFile>, u64)>,
    files: u64,
}

/// A block in such a file.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    file: Arc<dyn DiskFile>,
    offset: u64,
    length: usize,
}

impl Overflow {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Overflow {
        Overflow { disk, state: Mutex::default() }
    }

    /// Whether a file is one of these: left by a process that was killed between making it and taking its name away.
    pub(crate) fn owns(name: &str) -> bool {
        name.ends_with(".overflow")
    }

    /// Writes a block.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Extent> {
        let mut state = self.state.lock();
        let (file, offset) = match state.current.take().filter(|(_, length)| *length < FILE_MAX) {
            Some(current) => current,
            None => {
                let name = format!("{:08x}.overflow", state.files);
                state.files += 1;
                let file = self.disk.create(&name)?;
                self.disk.remove(&name)?;
                (file, 0)
            }
        };
        let written = file.write(offset, bytes);
        // What a failed write has left is written over.
        let end = if written.is_ok() { offset + bytes.len() as u64 } else { offset };
        state.current = Some((file.clone(), end));
        written.map(|()| Extent { file, offset, length: bytes.len() })
    }
}

impl Extent {
    /// Bytes of the block.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Reads the block.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        match self.file.read(self.offset, &mut bytes)? {
            read if read == self.length => Ok(bytes),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
