//! Verifying a data directory that nobody uses: everything is read, nothing is written.

use super::adopt;
use super::checkpoint;
use super::contents::Owned;
use super::files::{failed, parse_name, slot_name};
use super::format::{Bad, LogId, RECORD_HEAD, RawRecord, lsn, u32_at};
use super::index::{self, Entries, Entry, Index};
use super::record::{CHUNK, Checkpoint, ENQUEUE, Enqueue, FileRecord, LARGE, QueueId, Stretch, TimesFile};
use super::recover::file_name;
use super::replay::{self, Chain, Item, Segment};
use super::scan::{Scan, checkpoints, is_damage, report_lost};
use super::timetable::{self, Reader};
use super::{Damage, OpenError};
use crate::disk::{Disk, DiskFile};
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;

/// Bytes that are read to look at a record's header.
const LOOK: usize = 4096;

/// What a data directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All files, by name.
    pub files: Vec<FileReport>,
    /// Durable queues, by virtual host and name.
    pub queues: Vec<QueueReport>,
    /// Entries beside topology: users, permissions, policies.
    pub entries: u64,
    /// Bytes of the log that a start would replay.
    pub replayed: u64,
    /// Bytes at the end of the log that were never confirmed, and that a start would drop.
    pub torn: u64,
    /// What was confirmed once and does not check.
    pub damage: Vec<Damage>,
    /// What does not check and costs nothing: a start makes it again, or does without it.
    pub repairs: Vec<Damage>,
}

/// A file of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub kind: FileKind,
    /// Its length.
    pub bytes: u64,
    /// Records or entries in it that were read.
    pub records: u64,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A segment of the log that a start replays.
    Segment,
    /// A segment that is read through an index.
    Adopted,
    /// Messages of old segments.
    Merged,
    /// Where messages are in such files.
    Index,
    /// Everything but messages.
    Checkpoint,
    /// What is to happen to messages at times.
    Times,
    /// Nothing that is needed.
    Unused,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Messages that can be read.
    pub messages: u64,
    /// About their bytes on disk; those that several queues share count in each.
    pub bytes: u64,
    /// Messages that cannot be read.
    pub lost: u64,
}

impl Report {
    /// Nothing is damaged, not even what a start repairs.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.repairs.is_empty()
    }

    fn file(&mut self, name: &str, kind: FileKind, records: u64) {
        if let Some(file) = self.files.iter_mut().find(|file| file.name == name) {
            (file.kind, file.records) = (kind, records);
        }
    }

    /// Notes a damaged file all of which is made again.
    fn repair(&mut self, file: String) {
        let bytes = self.files.iter().find(|it| it.name == file).map_or(0, |it| it.bytes);
        self.repairs.push(Damage { file, offset: 0, bytes, queue: None, positions: None });
    }
}

/// Reads and verifies everything in a data directory. Reads only.
///
/// # Errors
/// If a file cannot be read, or if the directory's files don't even tell that they are one. Files that are missing are
/// damage.
pub fn check(disk: &dyn Disk) -> Result<Report, OpenError> {
    let mut names = disk.list().map_err(failed("list", "the data directory"))?;
    names.sort();
    let mut report = Report::default();
    for name in &names {
        let bytes = disk.open(name).and_then(|file| file.len()).map_err(failed("open", name))?;
        report.files.push(FileReport { name: name.clone(), kind: FileKind::Unused, bytes, records: 0 });
    }
    let Some(log) = replay::log_id(disk, &names)? else { return replay::check_new(&names).map(|()| report) };
    let mut checking = Checking { scan: Scan::new(disk, log), report, bytes: FxHashMap::default() };
    checking.all_checkpoints(&names)?;
    let read = checking.scan.checkpoint(&names)?;
    let chain = checking.scan.chain(&names, &read)?;
    let mut files = Vec::new();
    for file in &read.1 {
        files.extend(checking.read_file(file)?);
    }
    checking.replay(&chain)?;
    checking.scan.judge();
    for file in files {
        checking.verify(file)?;
    }
    checking.scan.judge();
    checking.older(&names, &read.0);
    checking.times()?;
    checking.look_at_found(&chain)?;
    Ok(checking.finish())
}

struct Checking<'d> {
    scan: Scan<'d>,
    report: Report,
    /// Of each queue, about how many bytes live.
    bytes: FxHashMap<QueueId, u64>,
}

/// An adopted or merged file all records of which were read.
struct Verified {
    record: FileRecord,
    file: Arc<dyn DiskFile>,
    /// `None` if it is damaged; then these are the entries.
    index: Option<(Index, Vec<index::Span>)>,
    entries: Vec<Entry>,
    bad: Vec<(u64, u64)>,
}

impl Checking<'_> {
    fn all_checkpoints(&mut self, names: &[String]) -> Result<(), OpenError> {
        for number in checkpoints(names) {
            let (name, mut records) = (checkpoint::name(number), 0);
            let mut visit = |_: &RawRecord<'_>| {
                records += 1;
                true
            };
            match checkpoint::read(self.scan.disk, self.scan.log, number, &mut visit) {
                Ok(_) => self.report.file(&name, FileKind::Checkpoint, records + 2),
                Err(error) if is_damage(&error) => {
                    // One without a header was never finished.
                    if !checkpoint::is_unfinished(self.scan.disk, number).map_err(failed("read", &name))? {
                        self.report.file(&name, FileKind::Checkpoint, records);
                        self.report.repair(name);
                    }
                }
                Err(error) => return Err(failed("read", &name)(error)),
            }
        }
        Ok(())
    }

    /// Reads all records of a file, and its index.
    fn read_file(&mut self, record: &FileRecord) -> Result<Option<Verified>, OpenError> {
        let (disk, log, name) = (self.scan.disk, self.scan.log, file_name(record));
        let file = match disk.open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.scan.miss(format!("{name} is missing"));
                return Ok(None);
            }
            Err(error) => return Err(failed("open", &name)(error)),
        };
        let (mut records, mut bad) = (0, Vec::new());
        let mut visit = |item: &Item<'_>| match item {
            Item::Batch(_) => {}
            Item::Record(_) => records += 1,
            Item::Bad { lsn, length, .. } => bad.push((u64::from(*lsn as u32), u64::from(*length))),
        };
        adopt::file_records(log, record, &file, &mut visit).map_err(failed("read", &name))?;
        let kind = if record.merged { FileKind::Merged } else { FileKind::Adopted };
        self.report.file(&name, kind, records);
        let index_name = index::name(record.number);
        let opened = Index::open(disk, log, record.number).and_then(|(index, spans)| {
            let mut entries = Entries::new(&index, &spans);
            let mut count = 0;
            while entries.next()?.is_some() {
                count += 1;
            }
            self.scan.add_file(record.number, &index, &spans)?;
            Ok((index, spans, count))
        });
        let (index, mut entries) = match opened {
            Ok((index, spans, count)) => {
                self.report.file(&index_name, FileKind::Index, count);
                (Some((index, spans)), Vec::new())
            }
            Err(error) if is_damage(&error) || error.kind() == io::ErrorKind::NotFound => {
                self.report.file(&index_name, FileKind::Index, 0);
                self.report.repair(index_name);
                let mut entries = Vec::new();
                adopt::file_entries(log, record, &file, &mut entries, &mut |_, _, _| ())
                    .map_err(failed("read", &name))?;
                (None, entries)
            }
            Err(error) => return Err(failed("read", &index_name)(error)),
        };
        index::sort(&mut entries);
        self.scan.add_entries(&entries);
        Ok(Some(Verified { record: *record, file, index, entries, bad }))
    }

    /// Replays the log as a start does, what would be written again included.
    fn replay(&mut self, chain: &Chain) -> Result<(), OpenError> {
        let mut tail: Vec<Vec<Owned>> = Vec::new();
        for (segment, last) in &chain.segments {
            let before = self.scan.records;
            self.scan.replay(segment, *last, chain.durable, &mut tail)?;
            let records = self.scan.records - before;
            self.report.file(&slot_name(segment.slot.name), FileKind::Segment, records);
        }
        tail.iter().for_each(|records| self.scan.apply(records));
        Ok(())
    }

    /// Looks at what each entry of a file leads to.
    fn verify(&mut self, verified: Verified) -> Result<(), OpenError> {
        let Verified { record, file, index, entries, bad } = verified;
        let name = file_name(&record);
        let mut looker = Looker::new(self.scan.log, record.number, file);
        let mut hit = vec![false; bad.len()];
        let mut visit = |checking: &mut Self, entry: Entry| -> io::Result<()> {
            let overlaps = |(at, length): &(u64, u64), from: u64, to: u64| *at < to && from < at + length;
            let found = looker.look(&entry)?;
            let mut parts = vec![(u64::from(entry.offset), u64::from(entry.offset) + u64::from(entry.length))];
            parts.extend(found.iter().flat_map(|found| &found.pieces));
            let damaged = bad.iter().position(|range| parts.iter().any(|part| overlaps(range, part.0, part.1)));
            if found.is_some() && damaged.is_none() {
                let found = found.map_or(0, |found| found.bytes);
                checking.add_bytes(entry.queue, entry.position, entry.count.into(), found);
                return Ok(());
            }
            let (offset, bytes) = match damaged {
                Some(range) => {
                    hit[range] = true;
                    bad[range]
                }
                None => (entry.offset.into(), entry.length.into()),
            };
            let damage = Damage { file: name.clone(), offset, bytes, queue: None, positions: None };
            let stretch = Stretch { queue: entry.queue, position: entry.position, count: entry.count.into() };
            checking.scan.lose_stretch(&damage, stretch);
            Ok(())
        };
        let verified = match &index {
            Some((index, spans)) => {
                let mut entries = Entries::new(index, spans);
                let mut each = || -> io::Result<()> {
                    while let Some(entry) = entries.next()? {
                        visit(self, entry)?;
                    }
                    Ok(())
                };
                each()
            }
            None => entries.iter().try_for_each(|entry| visit(self, *entry)),
        };
        verified.map_err(failed("read", &name))?;
        // Without an index, what does not check may have been anything.
        for ((offset, bytes), _) in bad.iter().zip(&hit).filter(|(_, hit)| index.is_none() && !**hit) {
            self.scan.damaged(&name, lsn(record.number, *offset as u32), *bytes as u32, None);
        }
        Ok(())
    }

    /// What only the checkpoint before the newest one needs.
    fn older(&mut self, names: &[String], newest: &Checkpoint) {
        let Some(((_, files), times)) = self.scan.older(names, newest.number) else { return };
        let times = times.iter().map(|file| (timetable::name(file.number), FileKind::Times));
        for (name, kind) in times {
            self.needed(&name, kind);
        }
        for file in files {
            for name in [file_name(&file), index::name(file.number)] {
                let kind = match parse_name(&name) {
                    Some((_, "index")) => FileKind::Index,
                    Some((_, "merged")) => FileKind::Merged,
                    _ => FileKind::Adopted,
                };
                self.needed(&name, kind);
            }
        }
    }

    /// Notes what a file is that was not read.
    fn needed(&mut self, name: &str, kind: FileKind) {
        let unused = self.report.files.iter_mut().find(|it| it.name == name && it.kind == FileKind::Unused);
        if let Some(report) = unused {
            report.kind = kind;
        }
    }

    /// Reads all blocks of the files of times.
    fn times(&mut self) -> Result<(), OpenError> {
        for record in self.scan.contents.times_files.clone() {
            let name = timetable::name(record.number);
            let file = match self.scan.disk.open(&name) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.scan.miss_times(format!("{name} is missing"));
                    continue;
                }
                Err(error) => return Err(failed("open", &name)(error)),
            };
            let mut reader = Reader::new(self.scan.log, file, TimesFile { block: 0, item: 0, ..record });
            let (mut bad, mut times) = (Vec::new(), 0);
            loop {
                reader.load(&mut bad).map_err(failed("read", &name))?;
                if reader.head().is_none() {
                    break;
                }
                times += 1;
                reader.advance();
            }
            self.report.file(&name, FileKind::Times, times);
            self.scan.lose_times(&bad);
        }
        Ok(())
    }

    /// Looks at the records that the replay has found.
    fn look_at_found(&mut self, chain: &Chain) -> Result<(), OpenError> {
        let mut lookers: FxHashMap<u32, Looker> = FxHashMap::default();
        for (Segment { number, slot, .. }, _) in &chain.segments {
            lookers.insert(*number, Looker::new(self.scan.log, *number, slot.file.clone()));
        }
        for (queue, found) in self.scan.contents.take_found() {
            for (position, count, place) in found {
                let Some(looker) = lookers.get_mut(&place.file()) else { continue };
                let (offset, length) = (place.lsn as u32, place.length);
                let entry = Entry { queue, position, count, offset, length, bytes: length };
                let looked = looker.look(&entry).map_err(failed("read", "the log"))?;
                let bytes = looked.map_or(length.into(), |found| found.bytes);
                self.add_bytes(queue, position, count.into(), bytes);
            }
        }
        Ok(())
    }

    /// So many bytes are shared by so many messages, of which some live.
    fn add_bytes(&mut self, queue: QueueId, position: u64, count: u64, bytes: u64) {
        let live: u64 = self.scan.contents.undone(queue, position, count).iter().map(|run| run.1).sum();
        let part = u128::from(bytes) * u128::from(live) / u128::from(count.max(1));
        *self.bytes.entry(queue).or_default() += part as u64;
    }

    fn finish(self) -> Report {
        let Checking { scan, mut report, bytes } = self;
        let Scan { mut contents, unnamed, replayed, torn, damage, .. } = scan;
        (report.replayed, report.torn, report.damage) = (replayed, torn, damage);
        report.entries = contents.entries.len();
        for ((vhost, name), found) in std::mem::take(&mut contents.queues) {
            let (restored, unknown) = contents.restore(found.id);
            let mut lost = restored.lost;
            report_lost(&vhost, &name, &lost, "found at an earlier start", &mut report.damage);
            if unnamed {
                unknown.iter().for_each(|(first, count)| lost.add(first, count));
                report_lost(&vhost, &name, &unknown, "the log", &mut report.damage);
            }
            let (messages, bytes) = (restored.live.len(), bytes.get(&found.id).copied().unwrap_or(0));
            report.queues.push(QueueReport { vhost, name, messages, bytes, lost: lost.len() });
        }
        report
    }
}

/// Looks at single records of a file: their headers, and where the pieces of large ones are.
struct Looker {
    log: LogId,
    number: u32,
    file: Arc<dyn DiskFile>,
    bytes: Vec<u8>,
    /// Where they are in the file.
    at: u64,
}

/// What a record is.
struct Looked {
    /// Bytes of the whole record with its pieces.
    bytes: u64,
    /// Where its pieces begin and end.
    pieces: Vec<(u64, u64)>,
}

impl Looker {
    fn new(log: LogId, number: u32, file: Arc<dyn DiskFile>) -> Looker {
        Looker { log, number, file, bytes: Vec::new(), at: 0 }
    }

    /// `None` if there is no record with the messages of this entry. Bodies are not looked at.
    fn look(&mut self, entry: &Entry) -> io::Result<Option<Looked>> {
        let here = lsn(self.number, entry.offset);
        let head = self.window(entry.offset, RECORD_HEAD)?;
        let meta_len = if head.len() < RECORD_HEAD { 0 } else { u32_at(head, 8).min(entry.length) as usize };
        let log = self.log;
        let (record, length) = match RawRecord::decode(log, here, self.window(entry.offset, RECORD_HEAD + meta_len)?) {
            Ok(record) => (record, record.len()),
            Err(Bad::Body { record, len }) => (record, len),
            Err(Bad::Header) => return Ok(None),
        };
        let enqueue = Enqueue::decode(record.kind, record.meta).filter(|_| matches!(record.kind, ENQUEUE | LARGE));
        let Some(enqueue) = enqueue.filter(|_| length == entry.length as usize) else { return Ok(None) };
        let covers = |position: u64| {
            position <= entry.position && entry.end() <= position.saturating_add(u64::from(enqueue.count))
        };
        if !enqueue.targets().any(|target| target.queue == entry.queue && covers(target.position)) {
            return Ok(None);
        }
        let pieces: Vec<_> = enqueue.pieces().map(|piece| (u64::from(piece.offset), piece.end())).collect();
        let number = self.number;
        for &(begin, end) in &pieces {
            let head = self.window(begin as u32, RECORD_HEAD)?;
            let length = (end - begin) as usize;
            match RawRecord::decode(log, lsn(number, begin as u32), head) {
                Err(Bad::Body { record, len }) if record.kind == CHUNK && len == length => {}
                _ => return Ok(None),
            }
        }
        let bytes = length as u64 + pieces.iter().map(|(begin, end)| end - begin).sum::<u64>();
        Ok(Some(Looked { bytes, pieces }))
    }

    /// So many bytes from an offset on; fewer at the end of the file.
    fn window(&mut self, offset: u32, length: usize) -> io::Result<&[u8]> {
        let offset = u64::from(offset);
        if offset < self.at || offset + length as u64 > self.at + self.bytes.len() as u64 {
            self.bytes.resize(length.max(LOOK), 0);
            let read = self.file.read(offset, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.at = offset;
        }
        let from = ((offset - self.at) as usize).min(self.bytes.len());
        Ok(&self.bytes[from..self.bytes.len().min(from + length)])
    }
}
