//! Times in the log, in files and in checkpoints, across restarts.

use super::*;
use crate::log::Beside;
use crate::log::format::{BATCH_HEAD, BatchHead};
use crate::log::index::tests::Memory;
use crate::log::record::{Change, QueueId, QueueState, Target};
use crate::log::{Entry, FileKind, FileSpan, Snapshot, Span, View, check};
use crate::runs::Runs;
use crate::times::testing::time;
use crate::times::{NEAR, What};
use leveret_wire::table::FieldTable;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Queues 1 to 3, and which of their positions are done.
#[derive(Debug, Default)]
struct Queues {
    done: Mutex<BTreeSet<(QueueId, u64)>>,
    reports: Mutex<Vec<String>>,
}

const QUEUES: std::ops::Range<QueueId> = 1..4;

impl View for Queues {
    fn living(&self, queue: QueueId, position: u64, count: u64, out: &mut Vec<(u64, u64)>) {
        let done = self.done.lock();
        let living = (position..position + count).filter(|position| !done.contains(&(queue, *position)));
        out.extend(living.map(|position| (position, 1)));
    }

    fn keep_living(&self, _: QueueId, _: &mut [Entry]) -> usize {
        0
    }

    fn index(&self, _: QueueId, _: &[u32], _: &[FileSpan]) {}

    fn reindex(&self, _: u32, _: &[Span]) {}

    fn damaged(&self, _: QueueId, _: u64, _: u64, _: &str) {}

    fn report(&self, text: String) {
        self.reports.lock().push(text);
    }

    fn changes(&self, say: &mut dyn FnMut(&Change<'_>) -> io::Result<()>) -> io::Result<()> {
        let arguments = FieldTable::new();
        QUEUES.into_iter().try_for_each(|id| {
            let arguments = arguments.as_table();
            say(&Change::Queue { id, vhost: "/", name: &id.to_string(), auto_delete: false, arguments })
        })
    }

    fn seen(&self, _: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        Ok(())
    }

    fn snapshots(&self, say: &mut dyn FnMut(Snapshot) -> io::Result<()>) -> io::Result<()> {
        let done = self.done.lock();
        QUEUES.into_iter().try_for_each(|queue| {
            let (mut gone, mut state) = (Runs::default(), Vec::new());
            done.iter().filter(|(of, _)| *of == queue).for_each(|(_, position)| gone.add(*position, 1));
            QueueState { queue, gone: Cow::Owned(gone), ..QueueState::default() }.encode(&mut state);
            say(Snapshot { state, files: Vec::new() })
        })
    }
}

fn try_open(disk: &Arc<Memory>, accept_loss: bool) -> Result<Recovered, OpenError> {
    let storage = Storage { segment_size: 128 * 1024, accept_loss, ..Storage::new(disk.clone()) };
    recover(&storage, 7, &Account::default())
}

fn open(disk: &Arc<Memory>) -> Store {
    let Recovered { store, unnamed, recovery, .. } = try_open(disk, false).expect("nothing is missing");
    assert!(!unnamed && recovery.damage.is_empty() && !store.times.take_damaged());
    store
}

/// As an engine does it: to memory, and to the log.
fn add(store: &Store, times: &[Time]) {
    store.times.add(times);
    store.log.times(times);
}

fn write(store: &Store) {
    while store.log.write(true) == Round::Wrote {}
}

/// Lets what is behind the log work until there is nothing to do.
fn tend(store: &Store, queues: &Queues) {
    write(store);
    while store.tend(queues).expect("a healthy disk") || store.merge(queues).expect("a healthy disk") {
        write(store);
    }
}

fn all(store: &Store) -> Vec<Time> {
    let mut taken = Vec::new();
    while store.times.take_due(u64::MAX, 10, &mut taken).expect("readable") {
        store.times.settled();
    }
    // Some may be there twice, but for those that were taken at once.
    taken.dedup();
    taken
}

/// So many times of queue 1, the first at this position.
fn row(first: u64, count: u64) -> Vec<Time> {
    (first..first + count).map(|position| time(1000 + position * 7, 1, position)).collect()
}

fn times_files(disk: &Memory) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".times")).collect()
}

#[test]
fn times_in_the_log_are_there_after_a_restart() {
    let disk = Arc::new(Memory::default());
    let (target, wake) = (Target { queue: 3, position: 5 }, Time { what: What::Wake, ..time(70, 3, 9) });
    {
        let store = open(&disk);
        let body = [0; 40];
        let times = [time(50, 3, 5), time(60, 3, 6)];
        store.log.enqueue_with(2, &body, store.log.id.crc(&body), &[target], Beside { times: &times, seen: &[] });
        store.log.times(&[wake]);
        let block = Arc::new(Block::from_disk(vec![0; 300_000], 1, &Account::default()));
        let enqueue = Part::Enqueue { block, targets: vec![target], place: Arc::default() };
        let parts = vec![enqueue, Part::Times(vec![time(80, 4, 0)])];
        let (ticket, mailbox): (Arc<Ticket>, Arc<Mailbox>) = Default::default();
        store.log.unit(Unit { parts, then: None, ticket: ticket.clone(), mailbox });
        write(&store);
        assert!(ticket.lsn().is_some());
    }
    let expected = vec![time(50, 3, 5), time(60, 3, 6), wake, time(80, 4, 0)];
    for _ in 0..3 {
        assert_eq!(all(&open(&disk)), expected);
    }
}

#[test]
fn what_does_not_fit_into_memory_is_taken_from_files_in_order() {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    let store = open(&disk);
    let rows: Vec<Time> = row(0, 5000);
    for times in rows.rchunks(NEAR) {
        add(&store, times);
        tend(&store, &queues);
        assert!(store.times.held() <= NEAR);
    }
    // The second one frees what only the one before the first has needed.
    (0..2).for_each(|_| store.checkpoint(&queues).expect("a healthy disk"));
    let files = times_files(&disk).len();
    assert!((1..48).contains(&files), "{files} files");
    assert_eq!(store.times.next(), Some(1000));
    assert!(all(&store) == rows);
    drop(store);
    // Nothing was acknowledged, and no checkpoint has seen what was taken.
    assert!(all(&open(&disk)) == rows);
}

#[test]
fn what_is_in_hand_comes_again_after_a_restart_and_what_is_settled_does_not() {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    for settled in [false, true] {
        let store = open(&disk);
        if !settled {
            add(&store, &row(0, 3 * NEAR as u64));
            tend(&store, &queues);
        }
        let mut taken = Vec::new();
        store.times.take_due(u64::MAX, 4 * NEAR, &mut taken).expect("readable");
        assert!(taken == row(0, 3 * NEAR as u64));
        if settled {
            store.times.settled();
        }
        write(&store);
        store.checkpoint(&queues).expect("a healthy disk");
    }
    assert_eq!(all(&open(&disk)), []);
}

#[test]
fn files_that_are_used_up_are_removed_when_no_checkpoint_needs_them() {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    let store = open(&disk);
    for times in row(0, 3000).chunks(100) {
        add(&store, times);
        tend(&store, &queues);
    }
    all(&store);
    assert!(!times_files(&disk).is_empty());
    for _ in 0..3 {
        tend(&store, &queues);
        store.checkpoint(&queues).expect("a healthy disk");
    }
    assert_eq!(times_files(&disk), Vec::<String>::new());
    store.shut_down(&queues).expect("a healthy disk");
    drop(store);
    // What is in the log is there again, without its positions being looked at.
    assert!(times_files(&disk).is_empty());
}

#[test]
fn times_without_messages_are_dropped_before_anything_is_written() {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    let store = open(&disk);
    queues.done.lock().extend((0..5000).map(|position| (1, position)));
    for times in row(0, 5000).chunks(NEAR) {
        add(&store, times);
        tend(&store, &queues);
        assert!(store.times.held() <= NEAR);
    }
    assert!(times_files(&disk).is_empty());
    add(&store, &[Time { queue: 1 << 63 | 1, ..time(9999, 1, 3) }]);
    assert!(all(&store).iter().any(|time| time.is_transient()));
}

#[test]
fn a_start_with_more_than_fits_writes_files() {
    let disk = Arc::new(Memory::default());
    {
        let (store, queues) = (open(&disk), Queues::default());
        store.checkpoint(&queues).expect("a healthy disk");
        row(0, 5000).chunks(10).for_each(|times| assert!(store.log.times(times) > 0));
        write(&store);
    }
    let store = open(&disk);
    assert!(store.times.held() <= NEAR);
    assert_eq!(all(&store), row(0, 5000));
}

#[test]
fn a_damaged_block_costs_its_times_and_is_said() {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    let store = open(&disk);
    add(&store, &row(0, 5000));
    tend(&store, &queues);
    store.checkpoint(&queues).expect("a healthy disk");
    let [name] = &times_files(&disk)[..] else { panic!("one file") };
    disk.file(name).bytes.write()[4096 + 77] ^= 1;
    let taken = all(&store);
    assert!((3000..4500).contains(&taken.len()), "{} are left", taken.len());
    assert!(store.times.take_damaged() && !store.times.take_damaged());
    tend(&store, &queues);
    let said = queues.reports.lock().clone();
    assert!(said.len() == 1 && said[0].contains(name) && said[0].contains("4096"), "{said:?}");
    let report = check(&*disk).expect("readable");
    assert_eq!(
        report.damage.iter().map(|it| (&it.file, it.offset, it.bytes)).collect::<Vec<_>>(),
        [(name, 4096, 4096)]
    );
    let file = report.files.iter().find(|file| file.name == *name).expect("listed");
    assert_eq!((file.kind, file.records as usize), (FileKind::Times, taken.len() - NEAR / 2));
}

#[test]
fn a_missing_file_is_damage() {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    {
        let store = open(&disk);
        add(&store, &row(0, 5000));
        tend(&store, &queues);
        store.shut_down(&queues).expect("a healthy disk");
    }
    let [name] = &times_files(&disk)[..] else { panic!("one file") };
    crate::disk::Disk::remove(&*disk, name).expect("there");
    let error = try_open(&disk, false).expect_err("something is missing").to_string();
    assert!(error.contains(name), "{error}");
    let recovered = try_open(&disk, true).expect("that was accepted");
    assert!(recovered.store.times.take_damaged() && !recovered.unnamed);
    assert_eq!(recovered.recovery.damage.len(), 1);
}

/// Epoch and segment of a log file, as its first header says.
fn segment(disk: &Memory, log: LogId, name: &str) -> Option<(u32, u32)> {
    let file = disk.file(name);
    let bytes = file.bytes.read();
    BatchHead::decode(log, bytes.get(..BATCH_HEAD)?).map(|head| (head.epoch, head.segment))
}

#[test]
fn a_damaged_first_header_of_an_epoch_costs_nothing_of_the_epoch_before() {
    let disk = Arc::new(Memory::default());
    let store = open(&disk);
    let (log, body) = (store.log.id, [0; 60_000]);
    // The first of these batches fills a segment. The second one begins the next: only it says that the first was synced.
    for first in [0, 3] {
        store.log.enqueue(1, &body, log.crc(&body), &[Target { queue: 9, position: first }]);
        store.log.times(&row(first, 3));
        store.log.write(true);
    }
    drop(store);
    let found = |wanted: &dyn Fn((u32, u32)) -> bool| {
        let mut names = disk.names();
        names.retain(|name| name.ends_with(".log") && segment(&disk, log, name).is_some_and(wanted));
        names
    };
    let [_, last] = &found(&|(epoch, _)| epoch == 1)[..] else { panic!("two segments") };
    drop(open(&disk));
    // What was in it is written again, so that its file is used for others.
    let removed = crate::disk::Disk::remove(&*disk, last);
    assert!(removed.is_ok() || !disk.names().contains(last));
    let [first] = &found(&|(epoch, _)| epoch == 2)[..] else { panic!("one segment") };
    disk.file(first).bytes.write()[12] ^= 1;
    let Recovered { store, recovery, .. } = try_open(&disk, false).expect("nothing is missing");
    assert_eq!(recovery.damage.len(), 1, "{:?}", recovery.damage);
    assert_eq!(all(&store), row(0, 6));
}

/// What a model does to times.
#[derive(Clone, Debug)]
enum Step {
    /// So many, from this time on with steps of so much.
    Add(QueueId, u64, u64, u64),
    /// Time goes on.
    Take(u64),
    /// Of a queue, each of so many positions is done.
    Done(QueueId, u64),
    Tend,
    /// Segments go by.
    Fill(u32),
    Checkpoint,
    /// With or without a shutdown; with or without the last checkpoint.
    Restart(bool, bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (QUEUES, 0..3000u64, 0..5u64, 1..120u64).prop_map(|(queue, due, step, count)| Step::Add(queue, due, step, count)),
        3 => (0..200u64).prop_map(Step::Take),
        1 => (QUEUES, 2..9u64).prop_map(|(queue, every)| Step::Done(queue, every)),
        5 => Just(Step::Tend),
        2 => (1..5u32).prop_map(Step::Fill),
        2 => Just(Step::Checkpoint),
        2 => any::<(bool, bool)>().prop_map(|(shut_down, torn)| Step::Restart(shut_down, torn)),
    ]
}

/// What should be the case.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    next: [u64; 4],
    /// Time, queue and position of what was added and not taken yet.
    waiting: BTreeSet<(u64, QueueId, u64)>,
    taken: BTreeSet<(u64, QueueId, u64)>,
}

impl Model {
    fn add(&mut self, store: &Store, queue: QueueId, due: u64, step: u64, count: u64) {
        let first = self.next[queue as usize];
        self.next[queue as usize] += count;
        let due = |index: u64| self.now + due + index * step;
        let times: Vec<Time> = (0..count).map(|index| time(due(index), queue, first + index)).collect();
        self.waiting.extend(times.iter().map(|time| (time.due, queue, time.position)));
        times.chunks(50).for_each(|times| add(store, times));
    }

    fn take(&mut self, store: &Store, queues: &Queues) {
        let mut taken = Vec::new();
        while store.times.take_due(self.now, 50, &mut taken).expect("readable") {}
        assert!(taken.is_sorted_by_key(|time| time.due), "out of order: {taken:?}");
        for time in taken {
            assert!(time.due <= self.now);
            for position in time.position..time.position + time.count {
                let one = (time.due, time.queue, position);
                assert!(self.waiting.remove(&one) || self.taken.contains(&one), "{one:?} was not added");
                self.taken.insert(one);
                // The effect of a time is in the queue's state.
                queues.done.lock().insert((time.queue, position));
            }
        }
        store.times.settled();
        let done = queues.done.lock();
        let missed = |one: &&(u64, QueueId, u64)| one.0 <= self.now && !done.contains(&(one.1, one.2));
        assert_eq!(self.waiting.iter().find(missed), None, "was not taken at {}", self.now);
        assert!(store.times.next().is_none_or(|due| due > self.now));
    }
}

/// The last of several checkpoints has no header.
fn tear_checkpoint(disk: &Memory) {
    let mut names = disk.names();
    names.retain(|name| name.ends_with(".checkpoint"));
    if let [_, .., last] = &names[..] {
        disk.file(last).bytes.write()[..64].fill(0);
    }
}

fn run(steps: &[Step]) {
    let (disk, queues) = (Arc::new(Memory::default()), Queues::default());
    let (mut store, mut model) = (open(&disk), Model::default());
    store.checkpoint(&queues).expect("a healthy disk");
    for step in steps {
        match *step {
            Step::Add(queue, due, step, count) => model.add(&store, queue, due, step, count),
            Step::Take(milliseconds) => {
                model.now += milliseconds;
                model.take(&store, &queues);
            }
            Step::Done(queue, every) => {
                let done = (0..model.next[queue as usize]).step_by(every as usize);
                queues.done.lock().extend(done.map(|position| (queue, position)));
            }
            Step::Tend => {
                tend(&store, &queues);
                assert!(store.times.held() <= NEAR);
            }
            Step::Fill(count) => {
                let body = [0; 60_000];
                (0..count).for_each(|_| {
                    let target = Target { queue: 9, position: 0 };
                    store.log.enqueue(1, &body, store.log.id.crc(&body), &[target]);
                });
            }
            Step::Checkpoint => store.checkpoint(&queues).expect("a healthy disk"),
            Step::Restart(shut_down, torn) => {
                write(&store);
                if shut_down {
                    store.shut_down(&queues).expect("a healthy disk");
                }
                drop(store);
                if torn {
                    tear_checkpoint(&disk);
                }
                assert!(check(&*disk).expect("readable").damage.is_empty());
                store = open(&disk);
                assert!(store.times.held() <= NEAR);
            }
        }
    }
    tend(&store, &queues);
    model.now = u64::MAX;
    model.take(&store, &queues);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_missed_and_nothing_comes_early(steps in proptest::collection::vec(any_step(), 1..80)) {
        run(&steps);
    }
}
