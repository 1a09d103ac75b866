//! What takes how long, and how many bytes go to and come from the disk.

use crate::disk::{Disk, DiskFile};
use crate::statistics::{FileUse, Histogram};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Meters of a broker.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(super) sync_time: Histogram,
    pub(super) confirm_latency: Histogram,
}

/// When something began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(Instant);

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment(Instant::now())
    }
}

impl Meters {
    /// Measures a sync of the log.
    pub(crate) fn sync<R>(&self, sync: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = sync();
        self.sync_time.record(begun.elapsed(), 1);
        result
    }

    /// Messages that have waited for the log since that moment are confirmed.
    pub(crate) fn confirmed(&self, since: Moment, messages: u64) {
        self.confirm_latency.record(since.0.elapsed(), messages);
    }
}

/// A disk that counts.
#[derive(Debug)]
pub(super) struct MeteredDisk {
    disk: Arc<dyn Disk>,
    meter: Arc<DiskMeter>,
}

/// What went to a disk and came from it.
#[derive(Debug, Default)]
pub(crate) struct DiskMeter {
    pub(super) written: AtomicU64,
    pub(super) read: AtomicU64,
    lengths: Mutex<FxHashMap<String, Arc<Length>>>,
}

/// A file's length, if it is known: whoever opens one need not ask.
#[derive(Debug)]
struct Length(AtomicU64);

const UNKNOWN: u64 = u64::MAX;

impl Length {
    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|length| *length != UNKNOWN)
    }

    fn grow(&self, end: u64) {
        if self.get().is_some() {
            self.0.fetch_max(end, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct MeteredFile {
    file: Arc<dyn DiskFile>,
    meter: Arc<DiskMeter>,
    length: Arc<Length>,
}

impl MeteredDisk {
    /// A disk that counts what goes to another one, and where it counts.
    pub(super) fn over(disk: Arc<dyn Disk>) -> (Arc<dyn Disk>, Arc<DiskMeter>) {
        let meter: Arc<DiskMeter> = Arc::default();
        (Arc::new(MeteredDisk { disk, meter: meter.clone() }), meter)
    }

    fn metered(&self, file: Arc<dyn DiskFile>, length: Arc<Length>) -> Arc<dyn DiskFile> {
        Arc::new(MeteredFile { file, meter: self.meter.clone(), length })
    }
}

impl DiskMeter {
    fn length(&self, name: &str) -> Arc<Length> {
        let unknown = || Arc::new(Length(AtomicU64::new(UNKNOWN)));
        self.lengths.lock().entry(name.to_string()).or_insert_with(unknown).clone()
    }

    /// The files of a disk that counts, by kind.
    pub(super) fn files(&self, disk: &dyn Disk) -> io::Result<Vec<FileUse>> {
        let mut kinds: BTreeMap<String, FileUse> = BTreeMap::new();
        for name in disk.list()? {
            let length = self.length(&name);
            // Once; after that it is known. One that is removed meanwhile has none.
            let ask = || {
                let bytes = disk.open(&name).and_then(|file| file.len()).unwrap_or(0);
                length.0.store(bytes, Ordering::Relaxed);
                bytes
            };
            let bytes = length.get().unwrap_or_else(ask);
            let kind = name.rsplit_once('.').map_or(&*name, |(_, kind)| kind);
            let of_kind = kinds.entry(kind.to_string()).or_default();
            (of_kind.files, of_kind.bytes) = (of_kind.files + 1, of_kind.bytes + bytes);
        }
        Ok(kinds.into_iter().map(|(kind, of_kind)| FileUse { kind, ..of_kind }).collect())
    }
}

impl Disk for MeteredDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (file, length) = (self.disk.create(name)?, Arc::new(Length(AtomicU64::new(0))));
        self.meter.lengths.lock().insert(name.to_string(), length.clone());
        Ok(self.metered(file, length))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name)?;
        Ok(self.metered(file, self.meter.length(name)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.meter.lengths.lock().remove(name);
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }
}

impl DiskFile for MeteredFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(offset, buffer)?;
        self.meter.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write(offset, bytes)?;
        self.meter.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.length.grow(offset + bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
