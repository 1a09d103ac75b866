//! A directory whose syncs fail, or take their time, when a test says so.

use leveret_broker::disk::{Directory, Disk, DiskFile};
use leveret_broker::{Broker, Environment, Limits, Storage};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the disk does at the next sync.
#[derive(Clone, Debug, Default)]
pub struct Switch {
    fails: Arc<AtomicBool>,
    held: Arc<Mutex<()>>,
}

impl Switch {
    pub fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    /// No sync is done as long as what this returns lives.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> io::Result<()> {
        drop(self.hold());
        if self.fails.load(Ordering::SeqCst) { Err(io::Error::other("the cable is out")) } else { Ok(()) }
    }
}

/// A broker on such a directory.
pub fn broker(path: &Path) -> (Broker, Switch) {
    let switch = Switch::default();
    let disk = FailingDisk { inner: Directory::open(path).expect("a directory of our own"), switch: switch.clone() };
    let storage = Storage::new(Arc::new(disk));
    let opened = Broker::open_with(Limits::default(), Environment::system(), storage);
    (opened.expect("it does not fail yet").0, switch)
}

#[derive(Debug)]
struct FailingDisk {
    inner: Directory,
    switch: Switch,
}

impl FailingDisk {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FailingFile { inner: file, switch: self.switch.clone() })
    }
}

impl Disk for FailingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.switch.check()?;
        self.inner.sync()
    }

    fn free(&self) -> io::Result<u64> {
        self.inner.free()
    }
}

#[derive(Debug)]
struct FailingFile {
    inner: Arc<dyn DiskFile>,
    switch: Switch,
}

impl DiskFile for FailingFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.switch.check()?;
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
