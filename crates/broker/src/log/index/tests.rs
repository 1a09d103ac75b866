use super::*;
use parking_lot::RwLock;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(in crate::log) const LOG: u64 = 0x1ee7;

/// Files in memory.
#[derive(Debug, Default)]
pub(in crate::log) struct Memory {
    files: RwLock<BTreeMap<String, Arc<MemoryFile>>>,
    /// More bytes than this do not fit in a new file.
    pub(in crate::log) room: Option<usize>,
}

/// One of them.
#[derive(Debug, Default)]
pub(in crate::log) struct MemoryFile {
    pub(in crate::log) bytes: RwLock<Vec<u8>>,
    /// Lengths that were synced.
    pub(in crate::log) synced: RwLock<Vec<usize>>,
    room: Option<usize>,
}

impl Memory {
    pub(in crate::log) fn file(&self, name: &str) -> Arc<MemoryFile> {
        self.files.read()[name].clone()
    }

    pub(in crate::log) fn insert(&self, name: &str, bytes: Vec<u8>) {
        let file = MemoryFile { bytes: RwLock::new(bytes), synced: RwLock::default(), room: self.room };
        self.files.write().insert(name.to_string(), Arc::new(file));
    }

    pub(in crate::log) fn names(&self) -> Vec<String> {
        self.files.read().keys().cloned().collect()
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.files.read().contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.insert(name, Vec::new());
        Ok(self.file(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.read().get(name).cloned();
        file.map(|file| file as Arc<dyn DiskFile>).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.write().remove(name).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for MemoryFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.read();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset as usize + bytes.len();
        if self.room.is_some_and(|room| end > room) {
            return Err(ErrorKind::StorageFull.into());
        }
        let mut file = self.bytes.write();
        let len = file.len().max(end);
        file.resize(len, 0);
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let len = self.bytes.read().len();
        self.synced.write().push(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len() as u64)
    }
}

/// Entries from steps: queues go up by the first, positions by the second; the third is the count.
fn entries(steps: &[(u64, u64, u32)]) -> Vec<Entry> {
    let (mut queue, mut position, mut entries) = (1, 0, Vec::new());
    for (number, &(queues, gap, count)) in steps.iter().enumerate() {
        if queues > 0 {
            (queue, position) = (queue + queues, 0);
        }
        position += gap;
        let (offset, length) = (number as u32 * 100, 90 + count);
        entries.push(Entry { queue, position, count, offset, length, bytes: 2 * length });
        position += u64::from(count);
    }
    entries
}

fn read(index: &Index, span: &Span, position: u64, max: usize) -> Vec<Entry> {
    let mut out = Vec::new();
    index.find(span, position, max, &mut out).unwrap();
    out
}

/// Opens the index and reads all of it, in both ways.
fn read_all(disk: &Memory, number: u32) -> io::Result<Vec<Entry>> {
    let (index, spans) = Index::open(disk, LogId::new(LOG), number)?;
    let (mut found, mut walked) = (Vec::new(), Vec::new());
    for span in &spans {
        index.find(span, 0, usize::MAX, &mut found)?;
    }
    let mut entries = Entries::new(&index, &spans);
    while let Some(entry) = entries.next()? {
        walked.push(entry);
    }
    assert_eq!(found, walked);
    Ok(found)
}

#[test]
fn the_bytes_are_as_drawn() {
    let disk = Memory::default();
    let log = LogId::new(LOG);
    let entry = Entry { queue: 1, position: 2, count: 3, offset: 4, length: 5, bytes: 6 };
    let spans = write(&disk, log, 0x1c, [entry].into_iter()).unwrap();
    assert_eq!(spans, [Span { queue: 1, first: 2, last: 4, messages: 3, bytes: 6, entry: 0, entries: 1 }]);
    let file = disk.file("0000001c.index");
    let bytes = file.bytes.read();
    assert_eq!((bytes.len(), &file.synced.read()[..]), (3 * 4096, &[3 * 4096][..]));
    let word = |at| u32_at(&bytes, at);
    assert_eq!((word(0), word(4)), (log.crc(&bytes[4..4096]), 1));
    assert_eq!([8, 16, 24, 28, 32, 36].map(word), [1, 2, 3, 4, 5, 6]);
    assert_eq!((word(4096), word(4100)), (log.crc(&bytes[4100..8192]), 1));
    assert_eq!([4104, 4112, 4120, 4128, 4136, 4144, 4148].map(word), [1, 2, 4, 3, 6, 0, 1]);
    assert_eq!((word(8192), &bytes[8196..8200]), (log.crc(&bytes[8196..8256]), &b"LVI1"[..]));
    assert_eq!([8200, 8208, 8212, 8216, 8224, 8232, 8240].map(word), [LOG as u32, 0x1c, 0, 1, 1, 1, 0]);
}

#[test]
fn an_empty_index_is_one_too() {
    let disk = Memory::default();
    assert_eq!(write(&disk, LogId::new(LOG), 1, std::iter::empty()).unwrap(), []);
    assert_eq!(read_all(&disk, 1).unwrap(), []);
}

#[test]
fn what_a_crash_left_is_replaced() {
    let disk = Memory::default();
    disk.insert(&name(1), vec![1; 100_000]);
    let all = entries(&[(1, 0, 1), (1, 0, 1)]);
    write(&disk, LogId::new(LOG), 1, all.iter().copied()).unwrap();
    assert_eq!(read_all(&disk, 1).unwrap(), all);
}

#[test]
fn an_index_belongs_to_its_log_and_file() {
    let disk = Memory::default();
    write(&disk, LogId::new(LOG), 1, entries(&[(1, 0, 1)]).into_iter()).unwrap();
    let error = Index::open(&disk, LogId::new(LOG + 1), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let bytes = disk.file(&name(1)).bytes.read().clone();
    disk.insert(&name(2), bytes);
    let error = Index::open(&disk, LogId::new(LOG), 2).unwrap_err();
    assert_eq!(error.to_string(), "00000002.index: the block at 8192 is no footer of this index");
    assert_eq!(Index::open(&disk, LogId::new(LOG), 3).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn entries_out_of_order_are_refused_and_leave_no_file() {
    let disk = Memory::default();
    let entry = |queue, position, count| Entry { queue, position, count, offset: 0, length: 10, bytes: 10 };
    let bad = [
        [entry(2, 0, 1), entry(1, 0, 1)],
        [entry(1, 5, 1), entry(1, 4, 1)],
        [entry(1, 5, 2), entry(1, 6, 1)],
        [entry(1, 5, 2), entry(2, 6, 0)],
        [entry(1, 5, 2), entry(2, u64::MAX, 1)],
        [entry(1, 5, 2), Entry { offset: u32::MAX, ..entry(2, 5, 1) }],
    ];
    for entries in bad {
        let error = write(&disk, LogId::new(LOG), 1, entries.into_iter()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{entries:?}");
        assert_eq!(disk.names(), Vec::<String>::new());
    }
}

/// A file that counts what is asked of it.
#[derive(Debug)]
struct Counted {
    file: Arc<dyn DiskFile>,
    reads: RwLock<u64>,
}

impl DiskFile for Counted {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        *self.reads.write() += 1;
        self.file.read(offset, buffer)
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[test]
fn reading_on_takes_few_reads_and_so_does_any_place() {
    let disk = Memory::default();
    let log = LogId::new(LOG);
    for uneven in [false, true] {
        // Gaps that double hide most of the entries at the beginning of the span.
        let gap = |number: u64| if uneven { 1 << (number / 2500) } else { number % 7 };
        let steps: Vec<_> = (0..100_000).map(|number| (0, gap(number), 1 + (number % 3) as u32)).collect();
        let all = entries(&steps);
        let spans = write(&disk, log, 1, all.iter().copied()).unwrap();
        let (mut index, _) = Index::open(&disk, log, 1).unwrap();
        let counted = Arc::new(Counted { file: index.file.clone(), reads: RwLock::new(0) });
        index.file = counted.clone();
        let reads = |place: u64| {
            *counted.reads.write() = 0;
            let mut out = Vec::new();
            index.find(&spans[0], place, 400, &mut out).unwrap();
            (*counted.reads.read(), out)
        };
        let (mut position, mut found, mut most, mut sum) = (0, 0, 0, 0);
        while found < all.len() {
            let (count, out) = reads(position);
            assert_eq!(out[..], all[found..all.len().min(found + 400)]);
            (position, found) = (out.last().unwrap().end(), found + out.len());
            (most, sum) = (most.max(count), sum + count);
        }
        assert!(most <= 2 * 10 + 2, "{most} reads; 788 blocks are halved ten times");
        assert!(uneven || sum <= 250 * 3, "{sum} reads for 250 calls");
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, u64, u32)>> {
    let step = (prop_oneof![8 => Just(0u64), 1 => 1u64..3], prop_oneof![3 => Just(0u64), 1 => 1u64..1000], 1u32..5);
    prop_oneof![proptest::collection::vec(step.clone(), 0..40), proptest::collection::vec(step, 300..1500)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn find_gives_what_a_list_would(steps in steps(), asked in proptest::collection::vec((any::<u32>(), any::<u32>(), 0usize..600), 20)) {
        let disk = Memory::default();
        let all = entries(&steps);
        let written = write(&disk, LogId::new(LOG), 1, all.iter().copied()).unwrap();
        let (index, spans) = Index::open(&disk, LogId::new(LOG), 1).unwrap();
        prop_assert_eq!(&written, &spans);
        prop_assert_eq!(&read_all(&disk, 1).unwrap(), &all);
        for span in &spans {
            let own: Vec<_> = all.iter().filter(|entry| entry.queue == span.queue).copied().collect();
            let sum = |of: fn(&Entry) -> u32| own.iter().map(|entry| u64::from(of(entry))).sum::<u64>();
            prop_assert_eq!((span.messages, span.bytes), (sum(|entry| entry.count), sum(|entry| entry.bytes)));
            prop_assert_eq!((span.first, span.last + 1), (own[0].position, own[own.len() - 1].end()));
            for &(place, max_place, max) in &asked {
                let end = span.first.saturating_sub(3) + u64::from(max_place) % (span.last - span.first + 10) + 1;
                let position = u64::from(place) % end;
                let expected: Vec<_> = own.iter().filter(|entry| entry.end() > position).take(max).copied().collect();
                prop_assert_eq!(read(&index, span, position, max), expected, "from {} on, {} of them", position, max);
            }
        }
    }

    #[test]
    fn damage_is_always_noticed_and_never_a_panic(steps in steps(), at in any::<prop::sample::Index>(), cut in any::<bool>()) {
        let disk = Memory::default();
        write(&disk, LogId::new(LOG), 1, entries(&steps).into_iter()).unwrap();
        {
            let file = disk.file(&name(1));
            let mut bytes = file.bytes.write();
            if cut {
                let len = at.index(bytes.len());
                bytes.truncate(len);
            } else {
                let bit = at.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        prop_assert_eq!(read_all(&disk, 1).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn bytes_with_the_right_checksums_and_wrong_numbers_are_no_panic(
        steps in steps(), block in any::<prop::sample::Index>(), word in 0usize..1024, value in prop_oneof![any::<u32>(), 0u32..4, Just(u32::MAX)],
    ) {
        let disk = Memory::default();
        let log = LogId::new(LOG);
        write(&disk, log, 1, entries(&steps).into_iter()).unwrap();
        let (index, spans) = Index::open(&disk, log, 1).unwrap();
        {
            let file = disk.file(&name(1));
            let mut bytes = file.bytes.write();
            let blocks = bytes.len() / BLOCK;
            let number = block.index(blocks);
            let bytes = &mut bytes[number * BLOCK..][..BLOCK];
            let end = if number + 1 == blocks { FOOTER } else { BLOCK };
            let word = word % (end / 4 - 1) + 1;
            bytes[word * 4..][..4].copy_from_slice(&value.to_le_bytes());
            let crc = log.crc(&bytes[4..end]);
            bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        }
        let mut out = Vec::new();
        for span in &spans {
            // A file that changes while it is open.
            let _ = index.find(span, span.first, usize::MAX, &mut out);
            let _ = index.find(span, span.last, 1, &mut out);
        }
        if let Ok((index, spans)) = Index::open(&disk, log, 1) {
            for span in &spans {
                let _ = index.find(span, span.first, usize::MAX, &mut out);
                let _ = index.find(span, span.last, 1, &mut out);
            }
            let mut entries = Entries::new(&index, &spans);
            while let Ok(Some(_)) = entries.next() {}
        }
    }
}
