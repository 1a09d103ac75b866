//! What a log says, gathered record by record: topology, and what each queue holds.

use super::format::{Lsn, RawRecord};
use super::index::Span;
use super::record::decode_times_files;
use super::record::{self, Bound, Change, DELIVERED, DONE, ENQUEUE, Enqueue, LARGE, QUEUE_STATE, QueueId, QueueState};
use super::record::{REQUEUED, REQUEUED_BEFORE, SEEN, Stretch, TIMES, TIMES_FILES, TimesFile};
use super::record::{decode_delivered, decode_requeued_before, decode_stretches};
use super::writer::Place;
use crate::dedup::Found as SeenFound;
use crate::entries::Entries;
use crate::queue::{FileSpan, Restored};
use crate::routing::Destination;
use crate::runs::{Counts, Runs};
use crate::settings::DELAYS_FOR;
use crate::times::{self, Packed, Time, What};
use leveret_wire::table::FieldTable;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) vhosts: BTreeSet<String>,
    /// By virtual host and name.
    pub(crate) exchanges: BTreeMap<(String, String), ExchangeFound>,
    pub(crate) queues: BTreeMap<(String, String), QueueFound>,
    /// By virtual host and destination: source, key and arguments.
    pub(crate) bindings: BTreeMap<(String, Destination), Vec<BindingFound>>,
    names: BTreeMap<QueueId, (String, String)>,
    messages: BTreeMap<QueueId, Content>,
    pub(crate) highest_queue: QueueId,
    /// What is to happen to messages at times.
    pub(crate) times: Packed,
    /// Files with more of that.
    pub(crate) times_files: Vec<TimesFile>,
    /// Records below are in these, or have happened.
    times_known: Lsn,
    /// Keys of messages, and how far producers have come.
    pub(crate) seen: SeenFound,
    pub(crate) entries: Entries,
}

/// The address of what is in a checkpoint: none in the log.
pub(crate) const IN_CHECKPOINT: Lsn = 0;

/// Source, key and arguments of a binding.
pub(crate) type BindingFound = (String, String, FieldTable);

/// An exchange as it was declared.
#[derive(Debug)]
pub(crate) struct ExchangeFound {
    pub(crate) kind: String,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: FieldTable,
}

/// A queue as it was declared.
#[derive(Debug)]
pub(crate) struct QueueFound {
    pub(crate) id: QueueId,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
}

/// Messages whose record is in the log: position, count, place.
pub(crate) type Found = (u64, u32, Place);

/// The messages of a queue.
#[derive(Debug, Default)]
struct Content {
    next: u64,
    handed_out: u64,
    counted: Lsn,
    gone: Runs,
    /// Lost to damage, as far as they are not gone.
    lost: Runs,
    /// As the checkpoint says.
    waiting: Runs,
    overdue: Runs,
    returned: Counts,
    spans: Vec<FileSpan>,
    /// What adopted and merged files have.
    live: Runs,
    found: Vec<(u64, u32, Place)>,
}

impl Contents {
    /// Takes a record into account. False if it says nothing that a record can say.
    pub(crate) fn apply(&mut self, kind: u8, meta: &[u8], place: Place) -> bool {
        self.try_apply(kind, meta, place).is_some()
    }

    fn try_apply(&mut self, kind: u8, meta: &[u8], place: Place) -> Option<()> {
        match kind {
            ENQUEUE | LARGE => {
                let enqueue = Enqueue::decode(kind, meta)?;
                for target in enqueue.targets() {
                    let content = self.content(target.queue);
                    content.next = content.next.max(target.position.checked_add(enqueue.count.into())?);
                    content.found.push((target.position, enqueue.count, place));
                }
            }
            DONE => decode_stretches(meta)?.for_each(|it| {
                let content = self.content(it.queue);
                content.next = content.next.max(it.position + it.count);
                content.gone.add(it.position, it.count);
            }),
            REQUEUED => decode_stretches(meta)?.for_each(|it| self.requeued(&it, place.lsn)),
            REQUEUED_BEFORE => {
                let (first, stretches) = decode_requeued_before(meta)?;
                stretches.for_each(|it| self.requeued(&it, first));
            }
            DELIVERED => decode_delivered(meta)?.for_each(|(queue, upto)| {
                let content = self.content(queue);
                content.handed_out = content.handed_out.max(upto);
            }),
            QUEUE_STATE => self.state(QueueState::decode(meta)?),
            TIMES_FILES => {
                let (known, files) = decode_times_files(meta)?;
                self.times_known = known;
                self.times_files.extend(files);
            }
            TIMES => {
                let times = times::decode(meta)?;
                if place.lsn == IN_CHECKPOINT || place.lsn >= self.times_known {
                    times.for_each(|time| self.time(&time));
                }
            }
            SEEN => self.seen.apply(meta)?,
            record::CHUNK | record::CHECKPOINT | record::FILES => {}
            kind => self.change(Change::decode(kind, meta)?),
        }
        Some(())
    }

    /// Messages came back, as a record says that had this address at first.
    fn requeued(&mut self, it: &Stretch, lsn: Lsn) {
        let content = self.content(it.queue);
        content.next = content.next.max(it.position + it.count);
        if lsn >= content.counted {
            content.returned.add(it.position, it.count);
        }
    }

    fn time(&mut self, time: &Time) {
        let content = self.content(time.queue);
        // A position that something was said of is not given again, even if its message, a large one, never came.
        content.next = content.next.max(time.position.saturating_add(time.count));
        if time.what == What::Wake {
            content.waiting.add(time.position, time.count);
        }
        self.times.push(time);
    }

    fn content(&mut self, queue: QueueId) -> &mut Content {
        self.highest_queue = self.highest_queue.max(queue);
        self.messages.entry(queue).or_default()
    }

    fn state(&mut self, state: QueueState<'_>) {
        let content = self.content(state.queue);
        content.next = content.next.max(state.next);
        content.handed_out = content.handed_out.max(state.delivered);
        content.counted = state.counted;
        add_all(&mut content.gone, state.gone);
        add_all(&mut content.lost, state.lost);
        add_all(&mut content.waiting, state.waiting);
        add_all(&mut content.overdue, state.overdue);
        state.counts.iter().for_each(|(first, count, deliveries)| content.returned.set(first, count, deliveries));
    }

    fn change(&mut self, change: Change<'_>) {
        let key = |vhost: &str, name: &str| (vhost.to_string(), name.to_string());
        match change {
            Change::Vhost(name) => drop(self.vhosts.insert(name.to_string())),
            Change::VhostDeleted(name) => self.forget_vhost(name),
            Change::Entry { table, key, value } => self.entries.set(table, key, value.map(Arc::from)),
            Change::Exchange { vhost, name, kind, auto_delete, internal, arguments } => {
                let (kind, arguments) = (kind.to_string(), arguments.into());
                self.exchanges.insert(key(vhost, name), ExchangeFound { kind, auto_delete, internal, arguments });
            }
            Change::ExchangeDeleted { vhost, name } => {
                self.exchanges.remove(&key(vhost, name));
                self.seen.forget_exchange(vhost, name);
                self.bindings.remove(&(vhost.to_string(), Destination::Exchange(name.into())));
                for ((_, _), bound) in self.bindings.iter_mut().filter(|((of, _), _)| of == vhost) {
                    bound.retain(|(source, ..)| source != name);
                }
            }
            Change::Queue { id, vhost, name, auto_delete, arguments } => {
                self.highest_queue = self.highest_queue.max(id);
                // What was bound was an earlier queue of that name, of whose deletion a checkpoint knows nothing any
                // more. What was bound to this one comes again.
                self.bindings.remove(&(vhost.to_string(), Destination::Queue(name.into())));
                self.names.insert(id, key(vhost, name));
                self.queues.insert(key(vhost, name), QueueFound { id, auto_delete, arguments: arguments.into() });
            }
            Change::QueueDeleted { id } => {
                self.seen.forget_queue(id);
                let Some((vhost, name)) = self.names.remove(&id) else { return };
                self.messages.remove(&id);
                let key = (vhost, name);
                // A later one of the same name may be known already.
                if self.queues.get(&key).is_some_and(|queue| queue.id == id) {
                    self.queues.remove(&key);
                    let (vhost, name) = key;
                    self.bindings.remove(&(vhost, Destination::Queue(name.as_str().into())));
                }
            }
            Change::Binding(bound) => {
                let to = self.bindings.entry((bound.vhost.to_string(), bound.to.clone())).or_default();
                let entry = entry_of(&bound);
                if !to.contains(&entry) {
                    to.push(entry);
                }
            }
            Change::Unbound(bound) => {
                let entry = entry_of(&bound);
                if let Some(to) = self.bindings.get_mut(&(bound.vhost.to_string(), bound.to)) {
                    to.retain(|other| *other != entry);
                }
            }
        }
    }

    /// What comes behind this is another one's. What is known of the queues' messages stays: they may be queues of that
    /// one, which a checkpoint has told of and whose declarations are still to come.
    fn forget_vhost(&mut self, name: &str) {
        self.vhosts.remove(name);
        self.exchanges.retain(|(vhost, _), _| vhost != name);
        self.bindings.retain(|(vhost, _), _| vhost != name);
        self.queues.retain(|(vhost, _), _| vhost != name);
        self.names.retain(|_, (vhost, _)| vhost != name);
        self.seen.forget_vhost(name);
        self.entries.forget_vhost(name);
    }

    /// Takes what is to happen to messages at times. If there are several at which a message is tried again, it has come
    /// back since the others: only the last that was said counts, also before what is in files.
    pub(crate) fn take_times(&mut self) -> (Packed, Renewed) {
        let times = std::mem::take(&mut self.times);
        // By arguments or policies, which may have been others. Only what belongs to an exchange waits for another reason.
        let retries = |queue: &&QueueFound| queue.arguments.get(DELAYS_FOR).is_none();
        let retries: BTreeSet<QueueId> = self.queues.values().filter(retries).map(|queue| queue.id).collect();
        let tries_again = |time: &Time| time.what == What::Wake && retries.contains(&time.queue);
        let mut again: Vec<Time> = times.iter().filter(tries_again).collect();
        if again.is_empty() {
            return (times, Renewed::default());
        }
        let (mut kept, mut renewed) = (Packed::default(), Renewed::default());
        times.iter().filter(|time| !tries_again(time)).for_each(|time| kept.push(&time));
        while let Some(time) = again.pop() {
            renewed.until = renewed.until.max(time.due);
            let said = renewed.said.entry(time.queue).or_default();
            let news: Vec<_> = said.gaps(time.position, time.count).collect();
            for (position, count) in news {
                kept.push(&Time { position, count, ..time });
                said.insert(position, count);
            }
        }
        (kept, renewed)
    }

    /// What an adopted or merged file has of a queue. Where that has gaps, `live` says what is there.
    pub(crate) fn add_span(&mut self, file: u32, span: Span, live: Option<&Runs>) {
        let content = self.content(span.queue);
        content.spans.push(FileSpan { file, span });
        match live {
            Some(live) => live.iter().for_each(|(first, count)| content.live.add(first, count)),
            None => content.live.add(span.first, span.last - span.first + 1),
        }
    }

    /// What such a file has, if no index tells.
    pub(crate) fn add_live(&mut self, queue: QueueId, position: u64, count: u64) {
        self.content(queue).live.add(position, count);
    }

    /// The parts of these positions that are neither done nor lost, if the queue is still declared.
    pub(crate) fn undone(&self, queue: QueueId, position: u64, count: u64) -> Vec<(u64, u64)> {
        let content = self.messages.get(&queue).filter(|_| self.names.contains_key(&queue));
        let Some(content) = content else { return Vec::new() };
        let undone = content.gone.gaps(position, count);
        undone.flat_map(|(first, count)| content.lost.gaps(first, count)).collect()
    }

    /// Takes what the replay has found: position, count and place.
    pub(crate) fn take_found(&mut self) -> Vec<(QueueId, Vec<Found>)> {
        let take = |(queue, content): (&QueueId, &mut Content)| {
            let found = std::mem::take(&mut content.found);
            found.iter().for_each(|found| content.live.add(found.0, found.1.into()));
            (*queue, found)
        };
        self.messages.iter_mut().map(take).collect()
    }

    /// Virtual host and name of a queue that is still declared.
    pub(crate) fn name_of(&self, queue: QueueId) -> Option<(String, String)> {
        self.names.get(&queue).cloned()
    }

    /// The record of some messages is damaged: those of them that are not done are lost. Gives them.
    pub(crate) fn lose(&mut self, stretch: Stretch) -> Vec<(u64, u64)> {
        let content = self.content(stretch.queue);
        let lost: Vec<_> = content.gone.gaps(stretch.position, stretch.count).collect();
        content.next = content.next.max(stretch.position + stretch.count);
        lost.iter().for_each(|&(first, count)| content.lost.add(first, count));
        lost
    }

    /// Takes the messages of a queue. Also tells which positions are neither there nor done: transient messages, or lost
    /// ones.
    pub(crate) fn restore(&mut self, queue: QueueId) -> (Restored, Runs) {
        let mut content = self.messages.remove(&queue).unwrap_or_default();
        let mut live = std::mem::take(&mut content.live);
        content.found.sort_unstable_by_key(|found| (found.0, found.2.lsn));
        content.found.iter().for_each(|found| live.add(found.0, found.1.into()));
        let mut known = content.gone.clone();
        live.iter().chain(content.lost.iter()).for_each(|(first, count)| known.add(first, count));
        let mut unknown = Runs::default();
        known.gaps(0, content.next).for_each(|(first, count)| unknown.insert(first, count));
        content.gone.iter().for_each(|(first, count)| {
            live.remove(first, count);
            content.lost.remove(first, count);
            content.returned.remove(first, count);
        });
        content.lost.iter().for_each(|(first, count)| live.remove(first, count));
        content.waiting.retain(&live);
        content.overdue.retain(&live);
        let Content { next, handed_out, returned, spans, found, lost, waiting, overdue, .. } = content;
        (Restored { next, handed_out, live, lost, waiting, overdue, returned, spans, found }, unknown)
    }
}

/// Messages of which the log says when they are tried again, since they came back.
#[derive(Debug, Default)]
pub(crate) struct Renewed {
    said: BTreeMap<QueueId, Runs>,
    /// The last of that. What files still say of them is not later: it was over when they came back.
    until: u64,
}

impl Renewed {
    /// Files may have a time, or an earlier one, that is over.
    pub(crate) fn reaches(&self, time: &Time) -> bool {
        !self.said.is_empty() && time.due <= self.until
    }

    /// The parts of a time in a file that are not over.
    pub(crate) fn rest(&self, time: Time) -> Vec<Time> {
        match self.said.get(&time.queue).filter(|_| time.what == What::Wake) {
            Some(said) => {
                let gaps = said.gaps(time.position, time.count);
                gaps.map(|(position, count)| Time { position, count, ..time }).collect()
            }
            None => vec![time],
        }
    }
}

fn add_all(to: &mut Runs, from: Cow<'_, Runs>) {
    if to.len() == 0 {
        *to = from.into_owned();
    } else {
        from.iter().for_each(|(first, count)| to.add(first, count));
    }
}

fn entry_of(bound: &Bound<'_>) -> BindingFound {
    (bound.source.to_string(), bound.key.to_string(), bound.arguments.into())
}

/// The records of a transaction take effect when the last of them is there.
#[derive(Debug, Default)]
pub(crate) struct Group {
    records: Vec<Owned>,
}

/// A record that outlives the buffer it was read into.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) kind: u8,
    pub(crate) meta: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) place: Place,
}

impl Group {
    /// Takes a record, without its body unless asked; gives the whole transaction with its last one.
    pub(crate) fn take(&mut self, record: &RawRecord<'_>, with_body: bool) -> Option<Vec<Owned>> {
        let body = if with_body { record.body.to_vec() } else { Vec::new() };
        let place = Place { lsn: record.lsn, length: record.len() as u32 };
        self.records.push(Owned { kind: record.kind, meta: record.meta.to_vec(), body, place });
        (record.flags & super::format::MORE == 0).then(|| std::mem::take(&mut self.records))
    }

    /// What has come so far of a transaction whose rest is damaged.
    pub(crate) fn drain(&mut self) -> Vec<Owned> {
        std::mem::take(&mut self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_after_a_start_as_far_as_they_are_there() {
        let set = |first, count| {
            let mut set = Runs::default();
            set.insert(first, count);
            Cow::Owned(set)
        };
        let (waiting, overdue) = (set(10, 20), set(30, 10));
        let state = QueueState { queue: 1, next: 40, gone: set(0, 12), waiting, overdue, ..QueueState::default() };
        let (mut meta, mut done, place) = (Vec::new(), Vec::new(), Place { lsn: 1 << 32, length: 100 });
        state.encode(&mut meta);
        record::encode_stretches(&[Stretch { queue: 1, position: 25, count: 8 }], &mut done);
        let mut contents = Contents::default();
        assert!(contents.apply(QUEUE_STATE, &meta, place) && contents.apply(DONE, &done, place));
        contents.add_live(1, 0, 38);
        let (restored, _) = contents.restore(1);
        let runs = |runs: &Runs| runs.iter().collect::<Vec<_>>();
        assert_eq!((runs(&restored.waiting), runs(&restored.overdue)), (vec![(12, 13)], vec![(33, 5)]));
    }

    /// A large message is told of before it is there, and may never be: its time must not meet another one.
    #[test]
    fn a_position_that_any_record_names_is_not_given_again() {
        let place = Place { lsn: 1 << 32, length: 100 };
        let next_after = |kind, meta: &[u8]| {
            let mut contents = Contents::default();
            assert!(contents.apply(kind, meta, place));
            contents.restore(1).0.next
        };
        let (mut stretches, mut times) = (Vec::new(), Vec::new());
        record::encode_stretches(&[Stretch { queue: 1, position: 25, count: 8 }], &mut stretches);
        times::encode(&[Time { due: 0, what: What::Expire, queue: 1, position: 30, count: 2 }], &mut times);
        assert_eq!(next_after(DONE, &stretches), 33);
        assert_eq!(next_after(REQUEUED, &stretches), 33);
        assert_eq!(next_after(TIMES, &times), 32);
    }

    /// A start writes the end of the log again: to the newer of two checkpoints that is old, to the older one it is not.
    #[test]
    fn a_return_that_is_written_again_counts_once_whichever_checkpoint_is_read() {
        let (mut requeued, place) = (Vec::new(), Place { lsn: 9 << 32, length: 100 });
        record::encode_stretches(&[Stretch { queue: 1, position: 5, count: 1 }], &mut requeued);
        let again = record::encode_requeued_before(2 << 32, &requeued);
        let deliveries = |counted: Lsn, counts: Counts| {
            let (mut state, mut contents) = (Vec::new(), Contents::default());
            QueueState { queue: 1, next: 9, counted, counts: Cow::Owned(counts), ..QueueState::default() }
                .encode(&mut state);
            assert!(contents.apply(QUEUE_STATE, &state, place) && contents.apply(REQUEUED_BEFORE, &again, place));
            contents.restore(1).0.returned.get(5, 1).0
        };
        let mut one = Counts::default();
        one.add(5, 1);
        assert_eq!([deliveries(3 << 32, one), deliveries(1 << 32, Counts::default())], [1, 1]);
    }
}
