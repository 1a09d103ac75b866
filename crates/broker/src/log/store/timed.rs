//! What is to happen to messages at a time: most of it is moved to files, and many small files are merged into a large one.

use super::{Keeper, Store, View};
use crate::log::files::Files;
use crate::log::format::{BLOCK, LogId};
use crate::log::timetable::{self, Reader, Writer};
use crate::times::{Time, Times};
use std::io;

/// Fewer than this part of what may be in memory are not worth a file.
const FILE_PART: usize = 4;

impl Store {
    /// A step of this work; false if there is nothing to do.
    pub(super) fn tend_times(&self, keeper: &mut Keeper, view: &dyn View) -> io::Result<bool> {
        self.times.take_bad().into_iter().for_each(|bad| view.report(bad.to_string()));
        for number in self.times.take_used_up() {
            keeper.retire(self, number)?;
        }
        if !self.times.is_crowded() {
            return Ok(false);
        }
        keeper.changed |= spill(&self.times, &self.files, self.log.id, &mut |time| lives(view, time))?;
        Ok(true)
    }

    /// Merges files of times if there are enough of a size; false if there are not.
    pub(super) fn merge_times(&self, view: &dyn View) -> io::Result<bool> {
        let Some(readers) = self.times.begin_merge() else { return Ok(false) };
        // They are as good as one: what space there is belongs to messages.
        let bytes: u64 = readers.iter().map(|reader| u64::from(reader.record().blocks) * BLOCK as u64).sum();
        if self.files.disk.free().inspect_err(|_| self.times.give_up_merge())? < 2 * bytes {
            self.times.give_up_merge();
            return Ok(false);
        }
        let number = self.files.next_number();
        let merged = self.write_merged(number, readers, view).and_then(|merged| self.replace(number, merged));
        let removed = match merged {
            Ok(removed) => removed,
            Err(error) => {
                self.times.give_up_merge();
                let _ = self.files.disk.remove(&timetable::name(number));
                return Err(error);
            }
        };
        let mut keeper = self.keeper.lock();
        keeper.changed = true;
        removed.into_iter().try_for_each(|number| keeper.retire(self, number))?;
        Ok(true)
    }

    fn write_merged(&self, number: u32, mut readers: Vec<Reader>, view: &dyn View) -> io::Result<Option<Reader>> {
        let disk = self.files.disk.as_ref();
        let mut writer = Writer::create(disk, self.log.id, number)?;
        // Each bad block is noted where it is read to be taken, as well, unless that comes too late.
        let (mut bad, mut any) = (Vec::new(), false);
        loop {
            for reader in readers.iter_mut().filter(|reader| reader.head().is_none()) {
                reader.load(&mut bad)?;
            }
            let heads = readers.iter_mut().filter(|reader| reader.head().is_some());
            let Some(first) = heads.min_by_key(|reader| reader.head()) else { break };
            if let Some(time) = first.head().filter(|time| lives(view, time)) {
                writer.push(time)?;
                any = true;
            }
            first.advance();
        }
        if !bad.is_empty() {
            self.times.note_damage();
            bad.into_iter().for_each(|bad| view.report(bad.to_string()));
        }
        let merged = writer.finish()?;
        match any {
            true => self.files.sync_names().map(|()| Some(merged)),
            false => disk.remove(&timetable::name(number)).map(|()| None),
        }
    }

    /// Puts a merged file in the place of the others, without what was taken from them meanwhile.
    fn replace(&self, number: u32, mut merged: Option<Reader>) -> io::Result<Vec<u32>> {
        if let Some(merged) = &merged {
            self.files.add_times(number, merged.file().clone());
        }
        loop {
            let passed = self.times.passed();
            if let Some(merged) = &mut merged {
                skip(merged, passed)?;
            }
            if let Some(removed) = self.times.end_merge(&mut merged, passed) {
                return Ok(removed);
            }
        }
    }
}

/// Moves the later part of what is in memory to a file, as far as its messages live, unless that is not worth it. True if
/// there is a new file.
pub(in crate::log) fn spill(
    times: &Times,
    files: &Files,
    log: LogId,
    lives: &mut dyn FnMut(&Time) -> bool,
) -> io::Result<bool> {
    let mut later = times.take_later();
    later.retain(lives);
    if later.len() < times.most() / FILE_PART {
        times.put_back(later);
        return Ok(false);
    }
    let number = files.next_number();
    match write(files, log, number, &later) {
        Ok(reader) => {
            files.add_times(number, reader.file().clone());
            times.add_file(reader);
            Ok(true)
        }
        Err(error) => {
            let _ = files.disk.remove(&timetable::name(number));
            times.put_back(later);
            Err(error)
        }
    }
}

fn write(files: &Files, log: LogId, number: u32, times: &[Time]) -> io::Result<Reader> {
    let mut writer = Writer::create(files.disk.as_ref(), log, number)?;
    times.iter().try_for_each(|time| writer.push(*time))?;
    let reader = writer.finish()?;
    files.sync_names()?;
    Ok(reader)
}

/// Goes on behind what was taken.
fn skip(reader: &mut Reader, passed: Option<Time>) -> io::Result<()> {
    loop {
        reader.load(&mut Vec::new())?;
        match reader.head() {
            Some(time) if passed >= Some(time) => reader.advance(),
            _ => return Ok(()),
        }
    }
}

/// Whether any of the messages is still there.
fn lives(view: &dyn View, time: &Time) -> bool {
    let mut living = Vec::new();
    match time.is_transient() {
        true => view.living_transient(time.queue, time.position, time.count, &mut living),
        false => view.living(time.queue, time.position, time.count, &mut living),
    }
    !living.is_empty()
}
