use super::super::format::{RawRecord, lsn};
use super::super::index::tests::{LOG, Memory};
use super::super::record::{CHUNK, ENQUEUE, Enqueue, LARGE, Piece};
use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn log() -> LogId {
    LogId::new(LOG)
}

/// A message as it is in a body, with a payload of `size` bytes that are its own: `id` is in them.
fn message(id: u64, size: usize) -> Vec<u8> {
    let size = size.max(8);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(size as u32).to_le_bytes());
    bytes.extend_from_slice(&[2, 0, 0, 0, 4, 0, 1, 0]);
    bytes.extend_from_slice(b"\x01e\x01k\0\0");
    let begin = bytes.len();
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.resize(begin + size, id as u8);
    bytes
}

/// Bytes of a message besides its payload.
const AROUND: usize = 18;

fn messages(body: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut found) = (0, Vec::new());
    while at < body.len() {
        let len = AROUND + u32::from_le_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        found.push(body[at..at + len].to_vec());
        at += len;
    }
    found
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// A file that becomes a source.
struct Draft {
    number: u32,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Draft {
    fn new(number: u32) -> Draft {
        Draft { number, bytes: vec![0xee; 64], entries: Vec::new() }
    }

    fn record(&mut self, kind: u8, meta: &[u8], body: &[u8]) -> (u32, u32) {
        let begin = self.bytes.len();
        let lsn = lsn(self.number, begin as u32);
        let record = RawRecord { kind, flags: 0, epoch: 1, lsn, meta, body };
        record.encode(log(), log().crc(body), &mut self.bytes);
        (begin as u32, (self.bytes.len() - begin) as u32)
    }

    /// An enqueue; a large one with a piece size.
    fn enqueue(&mut self, targets: &[(u64, u64)], messages: &[Vec<u8>], piece: Option<usize>) {
        let targets: Vec<_> = targets.iter().map(|&(queue, position)| Target { queue, position }).collect();
        let (count, body) = (messages.len() as u32, messages.concat());
        let mut meta = Vec::new();
        let (offset, length) = match piece {
            None => {
                Enqueue::encode(count, &targets, &mut meta);
                self.record(ENQUEUE, &meta, &body)
            }
            Some(size) => {
                let chunks = body.chunks(size);
                let pieces: Vec<_> = chunks
                    .map(|chunk| Piece { offset: self.record(CHUNK, &[], chunk).0, length: chunk.len() as u32 })
                    .collect();
                Enqueue::encode_large(count, &targets, &pieces, &mut meta);
                self.record(LARGE, &meta, &[])
            }
        };
        let entry =
            |it: &Target| Entry { queue: it.queue, position: it.position, count, offset, length, bytes: length };
        self.entries.extend(targets.iter().map(entry));
    }

    fn finish(mut self, disk: &Memory) -> Source {
        self.entries.sort_by_key(|entry| (entry.queue, entry.position));
        disk.insert(&format!("{:08x}.log", self.number), self.bytes);
        index::write(disk, log(), self.number, self.entries.into_iter()).unwrap();
        source(disk, self.number, "log")
    }
}

fn source(disk: &Memory, number: u32, kind: &str) -> Source {
    let (index, spans) = Index::open(disk, log(), number).unwrap();
    Source { number, file: disk.file(&format!("{number:08x}.{kind}")), index, spans }
}

type Places = BTreeSet<(u64, u64)>;

/// What says so of a set.
fn of(living: &Places) -> impl FnMut(u64, u64, u64, &mut Vec<(u64, u64)>) {
    move |queue, position, count, out| {
        let begin = out.len();
        for &(_, at) in living.range((queue, position)..(queue, position + count)) {
            match out[begin..].last_mut().filter(|run| run.0 + run.1 == at) {
                Some(run) => run.1 += 1,
                None => out.push((at, 1)),
            }
        }
    }
}

fn merged(disk: &Memory, sources: &[Source], number: u32, living: &Places) -> Option<Merged> {
    merge(disk, log(), 7, sources, number, &mut of(living)).unwrap()
}

/// A record of a merged file, in the order of the file.
#[derive(Debug)]
struct Found {
    offset: u32,
    length: u32,
    targets: Vec<Target>,
    messages: Vec<Vec<u8>>,
}

fn records(disk: &Memory, number: u32) -> Vec<Found> {
    let file = disk.file(&name(number));
    let bytes = file.bytes.read();
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let raw = RawRecord::decode(log(), lsn(number, at as u32), &bytes[at..]).unwrap();
        let enqueue = Enqueue::decode(raw.kind, raw.meta).unwrap();
        assert_eq!((raw.kind, raw.flags, raw.epoch), (ENQUEUE, 0, 7));
        let (targets, messages) = (enqueue.targets().collect(), messages(raw.body));
        assert_eq!(messages.len(), enqueue.count as usize);
        found.push(Found { offset: at as u32, length: raw.len() as u32, targets, messages });
        at += raw.len();
    }
    found
}

/// Every message that there ever was.
#[derive(Default)]
struct Model {
    at: BTreeMap<(u64, u64), Vec<u8>>,
    /// How many targets its record had.
    targets: BTreeMap<Vec<u8>, usize>,
    next: BTreeMap<u64, u64>,
}

impl Model {
    /// Puts new messages in some queues.
    fn enqueue(&mut self, draft: &mut Draft, queues: &[u64], messages: &[Vec<u8>], piece: Option<usize>) {
        let mut targets = Vec::new();
        for &queue in queues {
            let next = self.next.entry(queue).or_default();
            targets.push((queue, *next));
            for message in messages {
                self.at.insert((queue, *next), message.clone());
                self.targets.insert(message.clone(), queues.len());
                *next += 1;
            }
        }
        draft.enqueue(&targets, messages, piece);
    }

    /// Checks that a merged file has what lives, and as little else as it may.
    fn check(&self, disk: &Memory, number: u32, said: Option<&Merged>, living: &Places) {
        let living: Places = living.iter().filter(|place| self.at.contains_key(place)).copied().collect();
        let Some(said) = said else {
            assert!(living.is_empty(), "{living:?} are lost");
            let left = disk.names().into_iter().filter(|it| *it == name(number) || *it == index::name(number)).count();
            return assert_eq!(left, 0, "nothing lives, and files are left");
        };
        let records = records(disk, number);
        assert_eq!(said.bytes, disk.file(&name(number)).bytes.read().len() as u64);
        assert_eq!(said.bytes, records.iter().map(|record| u64::from(record.length)).sum::<u64>());
        self.check_records(&records, &living);
        let entries = self.check_entries(disk, number, &records, said);
        let ends = |entry: &Entry| [(entry.queue, entry.position), (entry.queue, entry.end() - 1)];
        let idle = entries.iter().find(|entry| !ends(entry).iter().all(|end| living.contains(end)));
        assert_eq!(idle, None, "it does not begin and end with what lives");
        let found: Places = entries.iter().flat_map(places).collect();
        assert!(living.is_subset(&found), "{:?} are lost", living.difference(&found));
    }

    /// Checks that the entries of the index name the messages that were put where they say, each once.
    fn check_entries(&self, disk: &Memory, number: u32, records: &[Found], said: &Merged) -> Vec<Entry> {
        let (index, spans) = Index::open(disk, log(), number).unwrap();
        assert_eq!(said.spans, spans);
        let (mut entries, mut found) = (Vec::new(), Places::new());
        for span in &spans {
            index.find(span, 0, usize::MAX, &mut entries).unwrap();
        }
        for entry in &entries {
            let at = records.binary_search_by_key(&entry.offset, |record| record.offset).unwrap();
            assert_eq!(entry.length, records[at].length);
            let covers = |target: &&Target| {
                target.queue == entry.queue
                    && target.position <= entry.position
                    && entry.end() <= target.position + records[at].messages.len() as u64
            };
            let target = records[at].targets.iter().find(covers).expect("a target that covers the entry");
            for place in places(entry) {
                let message = &records[at].messages[(place.1 - target.position) as usize];
                assert_eq!(Some(message), self.at.get(&place), "{entry:?}");
                assert!(found.insert(place));
            }
        }
        entries
    }

    fn check_records(&self, records: &[Found], living: &Places) {
        let mut seen = BTreeSet::new();
        for record in records {
            let lives = |it: &Target, at: usize| living.contains(&(it.queue, it.position + at as u64));
            let count = record.messages.len();
            let idle = record.targets.iter().find(|target| !(0..count).any(|at| lives(target, at)));
            assert!(idle.is_none(), "{idle:?} has nothing in {record:?}");
            let sorted = record.targets.is_sorted_by_key(|target| (target.queue, target.position));
            assert!(sorted && !record.targets.is_empty());
            let (mut dead, mut first) = (0, true);
            for (at, message) in record.messages.iter().enumerate() {
                if record.targets.iter().any(|target| lives(target, at)) {
                    assert!(dead == 0 || !first, "a record begins with dead messages");
                    assert!(seen.insert(message), "a message is there twice");
                    (dead, first) = (0, false);
                    continue;
                }
                dead += message.len();
                let targets = self.targets[message];
                let most = if targets == 1 { 256 } else { 256.max(48 * targets) };
                assert!(dead < most, "{dead} dead bytes in a row; {targets} targets");
            }
            assert_eq!(dead, 0, "a record ends with dead messages");
        }
    }
}

fn places(entry: &Entry) -> impl Iterator<Item = (u64, u64)> + use<> {
    let queue = entry.queue;
    (entry.position..entry.end()).map(move |position| (queue, position))
}

/// Some sources with everything in them, and what lives of it.
fn world(disk: &Memory, dice: &mut Dice, sizes: &[usize]) -> (Model, Vec<Source>) {
    let mut model = Model::default();
    let mut drafts: Vec<_> = (0..1 + dice.roll(4) as u32).map(|number| Draft::new(10 + number)).collect();
    let queues = 1 + dice.roll(6);
    let mut id = 0;
    for _ in 0..dice.roll(40) {
        let mut to: Vec<_> = (0..queues).filter(|_| dice.roll(3) == 0).map(|queue| 100 - queue * 7).collect();
        if to.is_empty() {
            to.push(100);
        }
        let most = 1 + dice.roll(30);
        let messages: Vec<_> = (0..1 + dice.roll(most))
            .map(|_| {
                id += 1;
                message(id, sizes[dice.roll(sizes.len() as u64) as usize] + dice.roll(20) as usize)
            })
            .collect();
        let total: usize = messages.iter().map(Vec::len).sum();
        let piece = (dice.roll(4) == 0).then(|| 1 + dice.roll(total as u64) as usize).map(|it| it.max(total / 50));
        let draft = dice.roll(drafts.len() as u64) as usize;
        model.enqueue(&mut drafts[draft], &to, &messages, piece);
    }
    (model, drafts.into_iter().map(|draft| draft.finish(disk)).collect())
}

/// Each queue loses messages here and there, or in runs.
fn wither(dice: &mut Dice, living: &mut Places) {
    let (of, run) = (2 + dice.roll(12), 1 + dice.roll(30));
    let mut dying = 0;
    living.retain(|_| {
        if dying == 0 && dice.roll(of) == 0 {
            dying = 1 + dice.roll(run);
        }
        dying = u64::saturating_sub(dying, 1);
        dying == 0
    });
}

fn check_world(seed: u64, sizes: &[usize]) {
    let (disk, mut dice) = (Memory::default(), Dice(seed));
    let (model, sources) = world(&disk, &mut dice, sizes);
    let mut living: Places = model.at.keys().copied().collect();
    if dice.roll(4) > 0 {
        wither(&mut dice, &mut living);
    }
    let (some, rest) = sources.split_at(dice.roll(1 + sources.len() as u64) as usize);
    let of_some = |place: &&(u64, u64)| some.iter().any(|source| covers(source, **place));
    let in_some: Places = living.iter().filter(of_some).copied().collect();
    let first = merged(&disk, some, 50, &living);
    model.check(&disk, 50, first.as_ref(), &in_some);
    // What was merged, with what was not, some time later.
    wither(&mut dice, &mut living);
    let again = first.is_some().then(|| source(&disk, 50, "merged"));
    let mut sources: Vec<_> = again.into_iter().collect();
    sources.extend(rest.iter().map(|it| source(&disk, it.number, "log")));
    let second = merged(&disk, &sources, 51, &living);
    model.check(&disk, 51, second.as_ref(), &living);
}

fn covers(source: &Source, (queue, position): (u64, u64)) -> bool {
    let mut found = Vec::new();
    if let Some(span) = source.spans.iter().find(|span| span.queue == queue) {
        source.index.find(span, position, 1, &mut found).unwrap();
    }
    found.first().is_some_and(|entry| entry.position <= position)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_lives_is_there_once_and_little_else(seed in any::<u64>()) {
        check_world(seed, &[8, 20, 100, 1500]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn messages_may_die_while_they_are_merged(seed in any::<u64>()) {
        let (disk, mut dice) = (Memory::default(), Dice(seed));
        let (model, sources) = world(&disk, &mut dice, &[8, 20, 100]);
        let mut living: Places = model.at.keys().copied().collect();
        wither(&mut dice, &mut living);
        let mut live = |queue, position, count, out: &mut Vec<_>| {
            for _ in 0..dice.roll(20) {
                let place = living.iter().nth(dice.roll(1 + living.len() as u64) as usize).copied();
                place.map(|place| living.remove(&place));
            }
            of(&living)(queue, position, count, out);
        };
        let said = merge(&disk, log(), 7, &sources, 50, &mut live).unwrap();
        let entries = said.map(|said| model.check_entries(&disk, 50, &records(&disk, 50), &said));
        let found: Places = entries.iter().flatten().flat_map(places).collect();
        prop_assert!(living.is_subset(&found));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn long_messages_are_moved_piece_by_piece(seed in any::<u64>()) {
        check_world(seed, &[8, 8, 100, 3000, 70_000, 300_000]);
    }
}

/// Merges, and prints the records and entries of the new file.
fn check(sources: Vec<Draft>, living: &[(u64, std::ops::Range<u64>)], expected: Expect) {
    let disk = Memory::default();
    let sources: Vec<_> = sources.into_iter().map(|draft| draft.finish(&disk)).collect();
    let living = living.iter().flat_map(|(queue, run)| run.clone().map(|at| (*queue, at))).collect();
    let Some(merged) = merged(&disk, &sources, 0x1c, &living) else { return expected.assert_eq("nothing\n") };
    let mut text = String::new();
    for record in records(&disk, 0x1c) {
        let targets: Vec<_> = record.targets.iter().map(|it| format!("{}:{}", it.queue, it.position)).collect();
        let ids: Vec<_> = record.messages.iter().map(|it| it[AROUND].to_string()).collect();
        let (at, targets, ids) = (record.offset, targets.join(" "), ids.join(" "));
        text += &format!("at {at}, {} bytes, to {targets}: messages {ids}\n", record.length);
    }
    let (index, _) = Index::open(&disk, log(), 0x1c).unwrap();
    for span in &merged.spans {
        let mut entries = Vec::new();
        index.find(span, 0, usize::MAX, &mut entries).unwrap();
        let of = |it: &Entry| format!("{}..{} at {}", it.position, it.end(), it.offset);
        let entries: Vec<_> = entries.iter().map(of).collect();
        text += &format!("queue {}: {}\n", span.queue, entries.join(", "));
    }
    expected.assert_eq(&text);
}

fn small(ids: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    ids.map(|id| message(id, 10)).collect()
}

#[test]
fn neighbours_of_a_queue_become_one_record_whatever_file_they_were_in() {
    let (mut one, mut other) = (Draft::new(1), Draft::new(2));
    one.enqueue(&[(5, 0)], &small(0..2), None);
    other.enqueue(&[(5, 2)], &small(2..4), None);
    one.enqueue(&[(4, 7)], &small(4..5), None);
    one.enqueue(&[(5, 4)], &small(5..6), None);
    check(
        vec![one, other],
        &[(4, 0..9), (5, 0..9)],
        expect![[r#"
            at 0, 84 bytes, to 4:7: messages 4
            at 84, 196 bytes, to 5:0: messages 0 1 2 3 5
            queue 4: 7..8 at 0
            queue 5: 0..5 at 84
        "#]],
    );
}

#[test]
fn joined_records_end_at_64_kib() {
    let mut draft = Draft::new(1);
    for id in 0..5 {
        draft.enqueue(&[(5, id)], &[message(id, 20_000)], None);
    }
    draft.enqueue(&[(5, 5)], &[message(5, 90_000)], None);
    draft.enqueue(&[(5, 6)], &small(6..7), None);
    check(
        vec![draft],
        &[(5, 0..9)],
        expect![[r#"
            at 0, 60110 bytes, to 5:0: messages 0 1 2
            at 60110, 40092 bytes, to 5:3: messages 3 4
            at 100202, 90074 bytes, to 5:5: messages 5
            at 190276, 84 bytes, to 5:6: messages 6
            queue 5: 0..3 at 0, 3..5 at 60110, 5..6 at 100202, 6..7 at 190276
        "#]],
    );
}

#[test]
fn a_small_gap_stays_and_a_large_one_goes() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0)], &small(0..40), None);
    check(
        vec![draft],
        &[(5, 2..3), (5, 4..5), (5, 30..31)],
        expect![[r#"
            at 0, 140 bytes, to 5:2: messages 2 3 4
            at 140, 84 bytes, to 5:30: messages 30
            queue 5: 2..5 at 0, 30..31 at 140
        "#]],
    );
}

#[test]
fn a_shared_record_keeps_the_queues_that_need_it() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(7, 0), (5, 10), (6, 20)], &small(0..40), None);
    draft.enqueue(&[(5, 50)], &small(40..41), None);
    check(
        vec![draft],
        &[(5, 14..15), (5, 50..51), (7, 3..6), (7, 35..40)],
        expect![[r#"
            at 0, 156 bytes, to 5:13 7:3: messages 3 4 5
            at 156, 196 bytes, to 7:35: messages 35 36 37 38 39
            at 352, 84 bytes, to 5:50: messages 40
            queue 5: 14..15 at 0, 50..51 at 352
            queue 7: 3..6 at 0, 35..40 at 156
        "#]],
    );
}

#[test]
fn the_last_queue_of_a_shared_record_has_its_neighbours_joined() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0), (6, 0)], &small(0..2), None);
    draft.enqueue(&[(6, 2), (5, 2)], &small(2..4), None);
    check(
        vec![draft],
        &[(6, 0..4)],
        expect![[r#"
            at 0, 168 bytes, to 6:0: messages 0 1 2 3
            queue 6: 0..4 at 0
        "#]],
    );
}

#[test]
fn a_shared_record_may_have_several_entries_for_a_queue() {
    let draft = || {
        let mut draft = Draft::new(1);
        draft.enqueue(&[(5, 0), (6, 10)], &small(0..40), None);
        let parts = draft.entries.iter().flat_map(|entry| {
            [(0, 4), (30, 3), (36, 4)].map(|(at, count)| Entry { position: entry.position + at, count, ..*entry })
        });
        draft.entries = parts.collect();
        draft
    };
    check(
        vec![draft()],
        &[(5, 1..3), (5, 30..38), (6, 10..12)],
        expect![[r#"
        at 0, 156 bytes, to 5:0 6:10: messages 0 1 2
        at 156, 280 bytes, to 5:30: messages 30 31 32 33 34 35 36 37
        queue 5: 1..3 at 0, 30..33 at 156, 36..38 at 156
        queue 6: 10..12 at 0
    "#]],
    );
    check(
        vec![draft()],
        &[(5, 0..2), (6, 10..13), (6, 47..48)],
        expect![[r#"
        at 0, 156 bytes, to 5:0 6:10: messages 0 1 2
        at 156, 84 bytes, to 6:47: messages 37
        queue 5: 0..2 at 0
        queue 6: 10..13 at 0, 47..48 at 156
    "#]],
    );
}

#[test]
fn positions_beyond_all_are_damage() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0), (6, u64::MAX - 3)], &small(0..4), None);
    draft.entries.retain(|entry| entry.queue == 5);
    let disk = Memory::default();
    let source = draft.finish(&disk);
    let error = merge(&disk, log(), 7, &[source], 3, &mut of(&[(5, 1)].into())).unwrap_err();
    assert!(matches!(error, MergeError::Damaged { number: 1, offset: 64, .. }), "{error}");
}

#[test]
fn a_message_in_two_sources_moves_once() {
    let (mut one, mut other) = (Draft::new(1), Draft::new(2));
    one.enqueue(&[(5, 0), (6, 0)], &small(0..4), None);
    other.enqueue(&[(5, 0), (6, 0)], &small(0..4), None);
    other.enqueue(&[(5, 4)], &small(4..6), None);
    check(
        vec![one, other],
        &[(5, 1..9), (6, 0..9)],
        expect![[r#"
            at 0, 184 bytes, to 5:0 6:0: messages 0 1 2 3
            at 184, 112 bytes, to 5:4: messages 4 5
            queue 5: 1..4 at 0, 4..6 at 184
            queue 6: 0..4 at 0
        "#]],
    );
}

#[test]
fn where_nothing_lives_no_file_is_left() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0)], &small(0..4), None);
    check(vec![draft], &[(5, 4..9), (6, 0..9)], expect!["nothing\n"]);
    let disk = Memory::default();
    disk.insert(&name(3), vec![1; 5000]);
    assert_eq!((merged(&disk, &[], 3, &Places::new()), disk.names()), (None, vec![]));
}

#[test]
fn both_files_are_synced_as_a_whole_and_replace_what_a_crash_left() {
    let disk = Memory::default();
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0)], &small(0..4), None);
    let source = draft.finish(&disk);
    for name in [name(3), index::name(3)] {
        disk.insert(&name, vec![1; 50_000]);
    }
    let said = merged(&disk, &[source], 3, &[(5, 2)].into()).expect("one lives");
    assert_eq!(said.bytes, 84);
    for name in [name(3), index::name(3)] {
        let file = disk.file(&name);
        assert_eq!(file.synced.read()[..], [file.bytes.read().len()], "{name}");
    }
}

#[test]
fn a_megabyte_for_a_thousand_queues_is_written_once() {
    let disk = Memory::default();
    let mut model = Model::default();
    let mut draft = Draft::new(1);
    let queues: Vec<_> = (1..=1000).collect();
    model.enqueue(&mut draft, &queues, &[message(1, 1 << 20)], Some(128 * 1024));
    let mut living: Places = model.at.keys().copied().collect();
    let mut sources = vec![draft.finish(&disk)];
    for number in 2..4 {
        let said = merged(&disk, &sources, number, &living);
        model.check(&disk, number, said.as_ref(), &living);
        let said = said.expect("all live");
        assert!(said.bytes < 1_200_000 && said.spans.len() == living.len(), "{} bytes", said.bytes);
        sources = vec![source(&disk, number, "merged")];
        living.retain(|(queue, _)| queue % 3 > 0);
    }
}

#[test]
fn more_shared_records_than_are_remembered_are_moved_too() {
    let disk = Memory::default();
    let (mut model, mut draft) = (Model::default(), Draft::new(1));
    for id in 0..SHARED as u64 + 1000 {
        model.enqueue(&mut draft, &[1, 2, 3], &[message(id, if id % 1000 == 0 { 1000 } else { 10 })], None);
    }
    let mut living: Places = model.at.keys().copied().collect();
    living.retain(|place| place.1 % 100 != place.0);
    let said = merged(&disk, &[draft.finish(&disk)], 9, &living).expect("most live");
    let records = records(&disk, 9);
    let found: Places = model.check_entries(&disk, 9, &records, &said).iter().flat_map(places).collect();
    assert!(living.is_subset(&found));
    let large = records.iter().filter(|record| record.length > 1000 && record.targets.len() == 3).count();
    assert_eq!(large, 67, "those are still shared");
    // All are met by the first queue; the second makes room by being the last one of some.
    let shared = records.iter().filter(|record| record.targets.len() > 1).count();
    assert!((SHARED..SHARED + 1000).contains(&shared), "{shared}");
    let first = records.iter().filter(|record| record.targets.len() > 1 && record.targets[0].queue == 1).count();
    assert_eq!(first, SHARED);
}

#[test]
fn ten_thousand_queues_are_sorted_in_seconds() {
    let disk = Memory::default();
    let (mut model, mut dice) = (Model::default(), Dice(1));
    let mut sources = Vec::new();
    for number in 1..4 {
        let mut draft = Draft::new(number);
        for id in 0..100_000 {
            model.enqueue(&mut draft, &[id * 7919 % 10_000], &[message(u64::from(number) << 32 | id, 100)], None);
        }
        sources.push(draft.finish(&disk));
    }
    let mut living: Places = model.at.keys().copied().collect();
    living.retain(|_| dice.roll(10) > 0);
    let said = merged(&disk, &sources, 9, &living);
    model.check(&disk, 9, said.as_ref(), &living);
}

#[test]
fn a_full_disk_leaves_no_file() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0)], &[message(0, 3_000_000)], None);
    let mut disk = Memory::default();
    let source = draft.finish(&disk);
    let names = disk.names();
    for room in [0, 100, 2_000_000, 3_000_074 - 1, 4096, 3 * 4096 - 1] {
        disk.room = Some(room);
        let error = merge(&disk, log(), 7, std::slice::from_ref(&source), 3, &mut of(&[(5, 0)].into())).unwrap_err();
        let MergeError::Io { what, source } = &error else { panic!("{error}") };
        assert_eq!((source.kind(), what.as_str()), (ErrorKind::StorageFull, "write 00000003.merged"));
        assert_eq!(disk.names(), names);
    }
}

#[test]
fn what_contradicts_itself_is_not_merged() {
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 10), (6, 10)], &small(0..40), None);
    let disk = Memory::default();
    let source = draft.finish(&disk);
    let names = disk.names();
    let answer = |runs: &'static [(u64, u64, u64)]| {
        let mut live = |queue, _, _, out: &mut Vec<_>| {
            out.extend(runs.iter().filter(|run| run.0 == queue).map(|run| (run.1, run.2)));
        };
        let error = merge(&disk, log(), 7, std::slice::from_ref(&source), 3, &mut live).unwrap_err();
        assert_eq!(disk.names(), names);
        error.to_string()
    };
    let asked = "is not what was asked for";
    assert_eq!(answer(&[(5, 9, 2)]), format!("cannot tell what lives: position 9 of queue 5 {asked}"));
    assert_eq!(answer(&[(5, 49, 2)]), format!("cannot tell what lives: position 49 of queue 5 {asked}"));
    assert_eq!(answer(&[(5, 12, 2), (5, 13, 1)]), format!("cannot tell what lives: position 13 of queue 5 {asked}"));
    assert_eq!(answer(&[(5, 12, 0)]), format!("cannot tell what lives: position 12 of queue 5 {asked}"));
    assert_eq!(answer(&[(5, 12, u64::MAX)]), format!("cannot tell what lives: position 12 of queue 5 {asked}"));
    let mut calls = 0;
    let mut revives = |_, _, _, out: &mut Vec<_>| {
        calls += 1;
        out.push(if calls % 2 == 1 { (12, 1) } else { (42, 1) });
    };
    let error = merge(&disk, log(), 7, &[source], 3, &mut revives).unwrap_err();
    assert!(error.to_string().contains("position 42 of queue 6 did not live before"), "{error}");
}

#[test]
fn a_record_that_does_not_check_is_named() {
    let disk = Memory::default();
    let mut draft = Draft::new(1);
    draft.enqueue(&[(5, 0)], &small(0..4), None);
    draft.enqueue(&[(5, 4), (6, 0)], &[message(4, 300_000)], None);
    draft.enqueue(&[(5, 5)], &[message(5, 1000)], Some(600));
    let ends: Vec<_> = draft.entries.iter().map(|entry| entry.offset + entry.length).collect();
    let source = draft.finish(&disk);
    let living: Places = (0..6).map(|position| (5, position)).collect();
    let damage = |at: usize| {
        let file = disk.file("00000001.log");
        file.bytes.write()[at] ^= 4;
        let error = merge(&disk, log(), 7, std::slice::from_ref(&source), 3, &mut of(&living)).unwrap_err();
        file.bytes.write()[at] ^= 4;
        error.to_string()
    };
    let queue = "of file 00000001 do not check: queue 5 has";
    assert_eq!(damage(70), format!("168 bytes at 64 {queue} 4 messages there, from 0 on"));
    assert_eq!(damage(ends[0] as usize - 1), format!("168 bytes at 64 {queue} 4 messages there, from 0 on"));
    assert_eq!(damage(ends[0] as usize), format!("300090 bytes at 232 {queue} 1 messages there, from 4 on"));
    let body = ends[0] as usize + 32 + 8 + 32;
    for at in [body + 100, body + 290_000] {
        assert_eq!(damage(at), format!("300018 bytes at {body} {queue} 1 messages there, from 4 on"));
    }
    let chunk = ends[1] as usize;
    assert_eq!(damage(chunk + 4), format!("600 bytes at {chunk} {queue} 1 messages there, from 5 on"));
    assert_eq!(damage(chunk + 100), format!("600 bytes at {} {queue} 1 messages there, from 5 on", chunk + 32));
    assert_eq!(merged(&disk, &[source], 3, &living).expect("whole again").spans[0].messages, 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_is_noticed_or_was_in_nothing_that_lives(seed in any::<u64>(), at in any::<prop::sample::Index>(), cut in any::<bool>()) {
        let (disk, mut dice) = (Memory::default(), Dice(seed));
        let (model, sources) = world(&disk, &mut dice, &[8, 20, 100]);
        let mut living: Places = model.at.keys().copied().collect();
        wither(&mut dice, &mut living);
        let hit = &sources[dice.roll(sources.len() as u64) as usize];
        let names = [index::name(hit.number), format!("{:08x}.log", hit.number)];
        {
            let file = disk.file(&names[dice.roll(2) as usize]);
            let mut bytes = file.bytes.write();
            if cut {
                let len = at.index(bytes.len());
                bytes.truncate(len);
            } else {
                let bit = at.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        match merge(&disk, log(), 7, &sources, 50, &mut of(&living)) {
            Ok(said) => model.check(&disk, 50, said.as_ref(), &living),
            Err(MergeError::Damaged { number, entry, .. }) => {
                prop_assert_eq!(number, hit.number);
                prop_assert!((entry.position..entry.end()).any(|it| living.contains(&(entry.queue, it))));
            }
            Err(MergeError::Io { source, .. }) => prop_assert_eq!(source.kind(), ErrorKind::InvalidData),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn wrong_numbers_under_right_checksums_are_no_panic(seed in any::<u64>()) {
        let (disk, mut dice) = (Memory::default(), Dice(seed));
        let (model, sources) = world(&disk, &mut dice, &[8, 20, 100]);
        let living: Places = model.at.keys().copied().collect();
        let hit = &sources[dice.roll(sources.len() as u64) as usize];
        let mut entries = Vec::new();
        for span in &hit.spans {
            hit.index.find(span, 0, usize::MAX, &mut entries).unwrap();
        }
        if !entries.is_empty() {
            let entry = entries[dice.roll(entries.len() as u64) as usize];
            let file = disk.file(&format!("{:08x}.log", hit.number));
            let mut bytes = file.bytes.write();
            let record = &mut bytes[entry.offset as usize..][..entry.length as usize];
            let meta = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
            // A word of kind, lengths, meta, or what is in the body.
            let word = 4 + 4 * dice.roll((record.len() as u64 - 4) / 4) as usize;
            let value = [0, 1, 2, 1000, u32::MAX - 1, u32::MAX][dice.roll(6) as usize];
            record[word..word + 4].copy_from_slice(&value.to_le_bytes());
            let crc = log().crc(&record[32 + meta..]);
            record[16..20].copy_from_slice(&crc.to_le_bytes());
            let crc = log().crc(&record[4..32 + meta]);
            record[0..4].copy_from_slice(&crc.to_le_bytes());
        }
        let _ = merge(&disk, log(), 7, &sources, 50, &mut of(&living));
    }
}
