//! A disk in memory, whose bytes can be looked at and changed.

use leveret_broker::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// All files of a directory.
pub type Image = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    /// No index can be created.
    pub refuses_indexes: AtomicBool,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    /// Whatever changes something panics.
    read_only: AtomicBool,
    /// After so many writes there are only errors.
    writes: AtomicI64,
}

#[derive(Debug)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    rules: Arc<Rules>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { read_only: AtomicBool::new(false), writes: AtomicI64::new(i64::MAX) }
    }
}

impl Rules {
    fn change(&self) -> io::Result<()> {
        assert!(!self.read_only.load(Ordering::Relaxed), "nothing may be changed");
        match self.writes.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => Err(io::Error::other("the power is gone")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test goes on after a panic")
}

impl MemoryDisk {
    pub fn of(image: &Image) -> MemoryDisk {
        let disk = MemoryDisk::default();
        for (name, bytes) in image {
            disk.add(name, bytes.clone());
        }
        disk
    }

    /// One that must not be changed.
    pub fn read_only(image: &Image) -> MemoryDisk {
        let disk = MemoryDisk::of(image);
        disk.rules.read_only.store(true, Ordering::Relaxed);
        disk
    }

    /// One that fails for good after so many changes.
    pub fn failing(image: &Image, writes: i64) -> MemoryDisk {
        let disk = MemoryDisk::of(image);
        disk.rules.writes.store(writes, Ordering::Relaxed);
        disk
    }

    pub fn image(&self) -> Image {
        lock(&self.files).iter().map(|(name, file)| (name.clone(), lock(&file.bytes).clone())).collect()
    }

    fn add(&self, name: &str, bytes: Vec<u8>) -> Arc<MemoryFile> {
        let file = Arc::new(MemoryFile { bytes: Mutex::new(bytes), rules: self.rules.clone() });
        lock(&self.files).insert(name.to_string(), file.clone());
        file
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.rules.change()?;
        if name.ends_with(".index") && self.refuses_indexes.load(Ordering::Relaxed) {
            return Err(ErrorKind::StorageFull.into());
        }
        if lock(&self.files).contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok(self.add(name, Vec::new()))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = lock(&self.files).get(name).cloned();
        Ok(file.ok_or(ErrorKind::NotFound)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.rules.change()?;
        lock(&self.files).remove(name).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.rules.change()?;
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl DiskFile for MemoryFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&self, offset: u64, new: &[u8]) -> io::Result<()> {
        self.rules.change()?;
        let mut bytes = lock(&self.bytes);
        let (begin, end) = (offset as usize, offset as usize + new.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[begin..end].copy_from_slice(new);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.rules.change()?;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }
}
