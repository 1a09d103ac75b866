//! A disk in memory, whose bytes can be looked at and changed.

use leveret_broker::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// All files of a directory.
pub type Image = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    /// No index can be created.
    pub refuses_indexes: AtomicBool,
    /// Whatever changes something panics.
    read_only: Arc<AtomicBool>,
}

#[derive(Debug)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    read_only: Arc<AtomicBool>,
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
        disk.read_only.store(true, Ordering::Relaxed);
        disk
    }

    pub fn image(&self) -> Image {
        lock(&self.files).iter().map(|(name, file)| (name.clone(), lock(&file.bytes).clone())).collect()
    }

    fn add(&self, name: &str, bytes: Vec<u8>) -> Arc<MemoryFile> {
        let file = Arc::new(MemoryFile { bytes: Mutex::new(bytes), read_only: self.read_only.clone() });
        lock(&self.files).insert(name.to_string(), file.clone());
        file
    }

    fn changes(&self) {
        assert!(!self.read_only.load(Ordering::Relaxed), "nothing may be changed");
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.changes();
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
        self.changes();
        lock(&self.files).remove(name).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.changes();
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
        assert!(!self.read_only.load(Ordering::Relaxed), "nothing may be changed");
        let mut bytes = lock(&self.bytes);
        let (begin, end) = (offset as usize, offset as usize + new.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[begin..end].copy_from_slice(new);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        assert!(!self.read_only.load(Ordering::Relaxed), "nothing may be changed");
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }
}
