//! The files behind the log: which number is which file, spare ones, and what becomes of those that are done with.

use super::OpenError;
use super::index::Index;
use crate::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;

/// So many log files are kept ready to be written over: rollover then costs nothing, and when the disk is full
/// acknowledgements and checkpoints can go on.
pub(crate) const SPARES: usize = 2;

/// More than this are not kept.
const SPARES_MAX: usize = 6;

/// Written and synced at a time when a file is prepared: little, because the log's own syncs wait for it.
const STEP: usize = 256 * 1024;

/// All files of a data directory that messages can be in.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    segment_size: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_number: u32,
    next_slot: u32,
    spares: Vec<Slot>,
    open: FxHashMap<u32, Numbered>,
    /// A log file that is being prepared, and how much of it is written.
    preparing: Option<(Slot, u32)>,
}

/// A log file, by the number in its name.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: u32,
    pub(crate) file: Arc<dyn DiskFile>,
}

#[derive(Clone, Debug)]
struct Numbered {
    /// The log file that it is in; `None` for a merged file or one of times.
    slot: Option<u32>,
    is_times: bool,
    file: Arc<dyn DiskFile>,
    index: Option<Arc<Index>>,
}

/// The name of a log file.
pub(crate) fn slot_name(slot: u32) -> String {
    format!("{slot:08x}.log")
}

/// The name of a merged file.
pub(crate) fn merged_name(number: u32) -> String {
    format!("{number:08x}.merged")
}

/// What a file's name says: the number, and the kind behind the dot.
pub(crate) fn parse_name(name: &str) -> Option<(u32, &str)> {
    let (number, kind) = name.split_once('.')?;
    (number.len() == 8).then(|| u32::from_str_radix(number, 16).ok().map(|number| (number, kind)))?
}

/// Says what was done to which file when it failed.
pub(crate) fn failed(what: &str, name: &str) -> impl FnOnce(io::Error) -> OpenError {
    let what = format!("{what} {name}");
    move |source| OpenError::Io { what, source }
}

impl Files {
    /// `next_number` and `next_slot` are those that nothing was called by yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_size: u32, next_number: u32, next_slot: u32) -> Files {
        let state = State { next_number, next_slot, ..State::default() };
        Files { disk, segment_size, state: Mutex::new(state) }
    }

    /// A number for a new segment or file.
    pub(crate) fn next_number(&self) -> u32 {
        let mut state = self.state.lock();
        state.next_number += 1;
        state.next_number - 1
    }

    /// The number that comes next.
    pub(crate) fn numbers_below(&self) -> u32 {
        self.state.lock().next_number
    }

    /// There is such a file.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.state.lock().open.contains_key(&number)
    }

    /// The file of a segment or a merged file.
    pub(crate) fn file(&self, number: u32) -> Option<Arc<dyn DiskFile>> {
        self.state.lock().open.get(&number).map(|numbered| numbered.file.clone())
    }

    /// The index of an adopted or merged file.
    pub(crate) fn index(&self, number: u32) -> Option<Arc<Index>> {
        self.state.lock().open.get(&number)?.index.clone()
    }

    /// The log file that a number is in.
    pub(crate) fn slot(&self, number: u32) -> Option<u32> {
        self.state.lock().open.get(&number)?.slot
    }

    /// Adds a file that is there.
    pub(crate) fn add(&self, number: u32, slot: Option<u32>, file: Arc<dyn DiskFile>, index: Option<Index>) {
        let index = index.map(Arc::new);
        self.state.lock().open.insert(number, Numbered { slot, is_times: false, file, index });
    }

    /// Adds a file of times that is there.
    pub(crate) fn add_times(&self, number: u32, file: Arc<dyn DiskFile>) {
        self.state.lock().open.insert(number, Numbered { slot: None, is_times: true, file, index: None });
    }

    /// Adds the index of a file that is there.
    pub(crate) fn add_index(&self, number: u32, index: Index) {
        if let Some(numbered) = self.state.lock().open.get_mut(&number) {
            numbered.index = Some(Arc::new(index));
        }
    }

    /// Adds a log file that nothing needs any more.
    pub(crate) fn add_spare(&self, slot: Slot) {
        self.state.lock().spares.push(slot);
    }

    /// There is a file that a new segment can be written over.
    pub(crate) fn has_spare(&self) -> bool {
        !self.state.lock().spares.is_empty()
    }

    /// The file that a new segment is written to: a spare one, or else a new one, with true.
    pub(crate) fn begin_segment(&self, number: u32) -> io::Result<(Arc<dyn DiskFile>, bool)> {
        let spare = self.state.lock().spares.pop();
        let is_new = spare.is_none();
        let slot = match spare {
            Some(slot) => slot,
            None => self.create()?,
        };
        self.add(number, Some(slot.name), slot.file.clone(), None);
        Ok((slot.file, is_new))
    }

    fn create(&self) -> io::Result<Slot> {
        let name = {
            let mut state = self.state.lock();
            state.next_slot += 1;
            state.next_slot - 1
        };
        let file = self.disk.create(&slot_name(name))?;
        self.sync_names()?;
        Ok(Slot { name, file })
    }

    /// Makes creations and removals durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::NoDirSync) {
            return Ok(());
        }
        self.disk.sync()
    }

    /// A step of writing a new log file full of zeros, so that the log has only to overwrite: that needs no change of
    /// the file system's own data at a sync. False if there are enough.
    pub(crate) fn prepare_step(&self) -> io::Result<bool> {
        let preparing = {
            let mut state = self.state.lock();
            if state.spares.len() >= SPARES {
                return Ok(false);
            }
            state.preparing.take()
        };
        // What else has to be written when the disk is full, such as checkpoints, gets the last of it.
        if preparing.is_none() && self.disk.free()? < 2 * u64::from(self.segment_size) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (slot, at) = match preparing {
            Some(preparing) => preparing,
            None => (self.create()?, 0),
        };
        let step = STEP.min((self.segment_size - at) as usize);
        if let Err(error) = slot.file.write(at.into(), &vec![0; step]) {
            self.state.lock().preparing = Some((slot, at));
            return Err(error);
        }
        slot.file.sync()?;
        let at = at + step as u32;
        let mut state = self.state.lock();
        match at < self.segment_size {
            true => state.preparing = Some((slot, at)),
            false => state.spares.push(slot),
        }
        Ok(true)
    }

    /// Removes a spare log file for the sake of its space; false if only one is left, which the log may need.
    pub(crate) fn give_up_spare(&self) -> io::Result<bool> {
        let spare = {
            let mut state = self.state.lock();
            if state.spares.len() > 1 { state.spares.pop() } else { None }
        };
        let Some(spare) = spare else { return Ok(false) };
        self.disk.remove(&slot_name(spare.name))?;
        self.sync_names()?;
        Ok(true)
    }

    /// Forgets a file: a log file is kept to be written over if few are, anything else is removed. The caller syncs
    /// the names.
    pub(crate) fn retire(&self, number: u32) -> io::Result<()> {
        let numbered = self.state.lock().open.remove(&number);
        let Some(numbered) = numbered else { return Ok(()) };
        if numbered.index.is_some() {
            self.disk.remove(&super::index::name(number))?;
        }
        if numbered.is_times {
            return self.disk.remove(&super::timetable::name(number));
        }
        let Some(name) = numbered.slot else { return self.disk.remove(&merged_name(number)) };
        let fits = numbered.file.len()? == u64::from(self.segment_size);
        let mut state = self.state.lock();
        if fits && state.spares.len() < SPARES_MAX {
            state.spares.push(Slot { name, file: numbered.file });
            return Ok(());
        }
        drop(state);
        self.disk.remove(&slot_name(name))
    }
}

/// Reads so many bytes, or says that the file ends before.
pub(crate) fn read_exact(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    match file.read(offset, &mut bytes)? {
        read if read == len => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
