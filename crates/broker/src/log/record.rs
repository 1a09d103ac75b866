//! What records say: the meta of each kind, encoded and decoded (docs/format.md).

use super::format::{Lsn, RECORD_HEAD, u32_at, u64_at};
use crate::routing::Destination;
use crate::runs::{Counts, Runs};
use leveret_wire::table::Table;
use std::borrow::Cow;

pub(crate) const ENQUEUE: u8 = 1;
pub(crate) const LARGE: u8 = 2;
pub(crate) const CHUNK: u8 = 3;
pub(crate) const DONE: u8 = 4;
pub(crate) const REQUEUED: u8 = 5;
pub(crate) const DELIVERED: u8 = 6;
pub(crate) const FILES: u8 = 7;
const VHOST: u8 = 8;
const EXCHANGE: u8 = 9;
const EXCHANGE_DELETED: u8 = 10;
const QUEUE: u8 = 11;
const QUEUE_DELETED: u8 = 12;
const BINDING: u8 = 13;
const UNBOUND: u8 = 14;
pub(crate) const TIMES: u8 = 15;
pub(crate) const SEEN: u8 = 16;
pub(crate) const REQUEUED_BEFORE: u8 = 17;
const ENTRY: u8 = 18;
const VHOST_DELETED: u8 = 19;
pub(crate) const CHECKPOINT: u8 = 32;
pub(crate) const QUEUE_STATE: u8 = 33;
pub(crate) const TIMES_FILES: u8 = 34;

/// A queue's id in the log; 0 is a queue that is not in it.
pub(crate) type QueueId = u64;

/// Where the first message of an enqueue stands in one of its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) queue: QueueId,
    pub(crate) position: u64,
}

/// Consecutive positions of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) queue: QueueId,
    pub(crate) position: u64,
    pub(crate) count: u64,
}

/// A piece of a large body: the chunk record's offset in the segment, and the length of the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl Piece {
    /// Where its record ends.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + RECORD_HEAD as u64 + u64::from(self.length)
    }
}

/// A file with messages that is no part of the log to be replayed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRecord {
    /// Its number: of the segment that it was, or its own.
    pub(crate) number: u32,
    pub(crate) merged: bool,
    /// The log file that it is, by name; 0 for a merged one.
    pub(crate) slot: u32,
    pub(crate) bytes: u64,
}

/// Meta of an enqueue, large or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enqueue<'a> {
    pub(crate) count: u32,
    targets: &'a [u8],
    /// Empty unless it is large.
    pieces: &'a [u8],
}

impl<'a> Enqueue<'a> {
    pub(crate) fn encode(count: u32, targets: &[Target], out: &mut Vec<u8>) {
        put32(out, [count, targets.len() as u32]);
        targets.iter().for_each(|target| put64(out, [target.queue, target.position]));
    }

    pub(crate) fn encode_large(count: u32, targets: &[Target], pieces: &[Piece], out: &mut Vec<u8>) {
        put32(out, [count, targets.len() as u32, pieces.len() as u32, 0]);
        targets.iter().for_each(|target| put64(out, [target.queue, target.position]));
        pieces.iter().for_each(|piece| put32(out, [piece.offset, piece.length]));
    }

    /// `kind` is [`ENQUEUE`] or [`LARGE`]. `None` if the meta is not one.
    pub(crate) fn decode(kind: u8, meta: &'a [u8]) -> Option<Enqueue<'a>> {
        let head = if kind == LARGE { 16 } else { 8 };
        let (head, rest) = meta.split_at_checked(head)?;
        let (targets, pieces) = rest.split_at_checked((u32_at(head, 4) as usize).checked_mul(16)?)?;
        let chunks = if kind == LARGE { u32_at(head, 8) as usize } else { 0 };
        if u32_at(head, 0) == 0 || pieces.len() != chunks.checked_mul(8)? {
            return None;
        }
        Some(Enqueue { count: u32_at(head, 0), targets, pieces })
    }

    pub(crate) fn targets(&self) -> impl ExactSizeIterator<Item = Target> + 'a {
        self.targets.chunks_exact(16).map(|item| Target { queue: u64_at(item, 0), position: u64_at(item, 8) })
    }

    pub(crate) fn pieces(&self) -> impl ExactSizeIterator<Item = Piece> + 'a {
        self.pieces.chunks_exact(8).map(|item| Piece { offset: u32_at(item, 0), length: u32_at(item, 4) })
    }
}

/// Meta of `done` and `requeued`.
pub(crate) fn encode_stretches(stretches: &[Stretch], out: &mut Vec<u8>) {
    stretches.iter().for_each(|stretch| put64(out, [stretch.queue, stretch.position, stretch.count]));
}

/// `None` if the meta is not a list of stretches, or one of them ends beyond all positions.
pub(crate) fn decode_stretches(meta: &[u8]) -> Option<impl Iterator<Item = Stretch> + '_> {
    let item = |item: &[u8]| Stretch { queue: u64_at(item, 0), position: u64_at(item, 8), count: u64_at(item, 16) };
    let stretches = meta.chunks_exact(24).map(item);
    let valid =
        meta.len().is_multiple_of(24) && stretches.clone().all(|it| it.position.checked_add(it.count).is_some());
    valid.then_some(stretches)
}

/// Meta of `requeued before`: a `requeued` record that is written again, and the address that it had at first.
pub(crate) fn encode_requeued_before(first: Lsn, requeued: &[u8]) -> Vec<u8> {
    [&first.to_le_bytes(), requeued].concat()
}

/// The first address of a `requeued before` record, and what the record says.
pub(crate) fn decode_requeued_before(meta: &[u8]) -> Option<(Lsn, impl Iterator<Item = Stretch> + '_)> {
    let (first, requeued) = meta.split_at_checked(8)?;
    Some((u64_at(first, 0), decode_stretches(requeued)?))
}

/// Meta of `delivered`: of one queue, positions below `upto` may have been handed out.
pub(crate) fn encode_delivered(queue: QueueId, upto: u64, out: &mut Vec<u8>) {
    put64(out, [queue, upto]);
}

/// Queue and position, for each queue in a `delivered` record.
pub(crate) fn decode_delivered(meta: &[u8]) -> Option<impl Iterator<Item = (QueueId, u64)> + '_> {
    meta.len().is_multiple_of(16).then(|| meta.chunks_exact(16).map(|item| (u64_at(item, 0), u64_at(item, 8))))
}

/// Meta of `files`.
pub(crate) fn encode_files(removed: &[u32], added: &[FileRecord], out: &mut Vec<u8>) {
    put32(out, [removed.len() as u32, added.len() as u32]);
    put32(out, removed.iter().copied());
    for file in added {
        put32(out, [file.number, u32::from(file.merged), file.slot, 0]);
        put64(out, [file.bytes]);
    }
}

/// Numbers of removed files, and added files.
pub(crate) fn decode_files(meta: &[u8]) -> Option<(Vec<u32>, Vec<FileRecord>)> {
    let (head, rest) = meta.split_at_checked(8)?;
    let (removed, added) = rest.split_at_checked((u32_at(head, 0) as usize).checked_mul(4)?)?;
    if added.len() != (u32_at(head, 4) as usize).checked_mul(24)? {
        return None;
    }
    let file = |item: &[u8]| FileRecord {
        number: u32_at(item, 0),
        merged: u32_at(item, 4) != 0,
        slot: u32_at(item, 8),
        bytes: u64_at(item, 16),
    };
    Some((removed.chunks_exact(4).map(|item| u32_at(item, 0)).collect(), added.chunks_exact(24).map(file).collect()))
}

/// A file of times, and how far it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimesFile {
    pub(crate) number: u32,
    pub(crate) blocks: u32,
    /// Times in all blocks.
    pub(crate) entries: u64,
    /// The block that is being read,
    pub(crate) block: u32,
    /// and how many of its times have been.
    pub(crate) item: u32,
}

/// Meta of `times files`: the files, and up to where times in the log are in them or in the checkpoint itself.
pub(crate) fn encode_times_files(known: Lsn, files: &[TimesFile], out: &mut Vec<u8>) {
    put64(out, [known]);
    for file in files {
        put32(out, [file.number, file.blocks]);
        put64(out, [file.entries]);
        put32(out, [file.block, file.item]);
    }
}

/// `None` if the meta is not a list of such files.
pub(crate) fn decode_times_files(meta: &[u8]) -> Option<(Lsn, impl Iterator<Item = TimesFile> + '_)> {
    let (known, files) = meta.split_at_checked(8)?;
    let file = |item: &[u8]| TimesFile {
        number: u32_at(item, 0),
        blocks: u32_at(item, 4),
        entries: u64_at(item, 8),
        block: u32_at(item, 16),
        item: u32_at(item, 20),
    };
    files.len().is_multiple_of(24).then(|| (u64_at(known, 0), files.chunks_exact(24).map(file)))
}

/// A change of durable topology, or of an entry beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Vhost(&'a str),
    VhostDeleted(&'a str),
    Exchange {
        vhost: &'a str,
        name: &'a str,
        kind: &'a str,
        auto_delete: bool,
        internal: bool,
        arguments: Table<'a>,
    },
    ExchangeDeleted {
        vhost: &'a str,
        name: &'a str,
    },
    Queue {
        id: QueueId,
        vhost: &'a str,
        name: &'a str,
        auto_delete: bool,
        arguments: Table<'a>,
    },
    QueueDeleted {
        id: QueueId,
    },
    Binding(Bound<'a>),
    Unbound(Bound<'a>),
    /// Without a value it is deleted.
    Entry {
        table: &'a str,
        key: &'a str,
        value: Option<&'a [u8]>,
    },
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound<'a> {
    pub(crate) vhost: &'a str,
    pub(crate) source: &'a str,
    pub(crate) to: Destination,
    pub(crate) key: &'a str,
    pub(crate) arguments: Table<'a>,
}

impl<'a> Change<'a> {
    /// Appends the meta and returns the record's kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Change::Vhost(name) => {
                put_str(out, name);
                VHOST
            }
            Change::VhostDeleted(name) => {
                put_str(out, name);
                VHOST_DELETED
            }
            Change::Exchange { vhost, name, kind, auto_delete, internal, arguments } => {
                [vhost, name, kind].iter().for_each(|text| put_str(out, text));
                out.push(u8::from(*auto_delete) | u8::from(*internal) << 1);
                put_table(out, *arguments);
                EXCHANGE
            }
            Change::ExchangeDeleted { vhost, name } => {
                [vhost, name].iter().for_each(|text| put_str(out, text));
                EXCHANGE_DELETED
            }
            Change::Queue { id, vhost, name, auto_delete, arguments } => {
                put64(out, [*id]);
                [vhost, name].iter().for_each(|text| put_str(out, text));
                out.push(u8::from(*auto_delete));
                put_table(out, *arguments);
                QUEUE
            }
            Change::QueueDeleted { id } => {
                put64(out, [*id]);
                QUEUE_DELETED
            }
            Change::Binding(bound) => {
                bound.encode(out);
                BINDING
            }
            Change::Unbound(bound) => {
                bound.encode(out);
                UNBOUND
            }
            Change::Entry { table, key, value } => {
                [table, key].iter().for_each(|text| put_str(out, text));
                out.push(u8::from(value.is_none()));
                let value = value.unwrap_or_default();
                put32(out, [value.len() as u32]);
                out.extend_from_slice(value);
                ENTRY
            }
        }
    }

    /// `None` if the kind is not of topology, or the meta not of the kind.
    pub(crate) fn decode(kind: u8, meta: &'a [u8]) -> Option<Change<'a>> {
        let mut fields = Fields(meta);
        let change = match kind {
            VHOST => Change::Vhost(fields.text()?),
            VHOST_DELETED => Change::VhostDeleted(fields.text()?),
            EXCHANGE => {
                let (vhost, name, kind, flags) = (fields.text()?, fields.text()?, fields.text()?, fields.u8()?);
                let (auto_delete, internal) = (flags & 1 != 0, flags & 2 != 0);
                Change::Exchange { vhost, name, kind, auto_delete, internal, arguments: fields.table()? }
            }
            EXCHANGE_DELETED => Change::ExchangeDeleted { vhost: fields.text()?, name: fields.text()? },
            QUEUE => {
                let (id, vhost, name, flags) = (fields.u64()?, fields.text()?, fields.text()?, fields.u8()?);
                Change::Queue { id, vhost, name, auto_delete: flags & 1 != 0, arguments: fields.table()? }
            }
            QUEUE_DELETED => Change::QueueDeleted { id: fields.u64()? },
            BINDING => Change::Binding(Bound::decode(&mut fields)?),
            UNBOUND => Change::Unbound(Bound::decode(&mut fields)?),
            ENTRY => {
                let (table, key, deleted) = (fields.text()?, fields.text()?, fields.u8()? & 1 != 0);
                let length = u32_at(fields.bytes(4)?, 0) as usize;
                let value = fields.bytes(length)?;
                Change::Entry { table, key, value: (!deleted).then_some(value) }
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(change)
    }
}

impl<'a> Bound<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        [self.vhost, self.source].iter().for_each(|text| put_str(out, text));
        let (kind, name) = match &self.to {
            Destination::Queue(name) => (0, name),
            Destination::Exchange(name) => (1, name),
        };
        out.push(kind);
        put_str(out, name);
        put_str(out, self.key);
        put_table(out, self.arguments);
    }

    fn decode(fields: &mut Fields<'a>) -> Option<Bound<'a>> {
        let (vhost, source) = (fields.text()?, fields.text()?);
        let to = match fields.u8()? {
            0 => Destination::Queue(fields.text()?.into()),
            1 => Destination::Exchange(fields.text()?.into()),
            _ => return None,
        };
        Some(Bound { vhost, source, to, key: fields.text()?, arguments: fields.table()? })
    }
}

/// The first record of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) number: u32,
    pub(crate) epoch: u32,
    /// Where replay begins.
    pub(crate) replay: Lsn,
    pub(crate) next_queue: QueueId,
    /// The number that the next segment or file gets, at least.
    pub(crate) next_number: u32,
    /// Everything below was synced before the checkpoint was.
    pub(crate) durable: Lsn,
}

impl Checkpoint {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put32(out, [self.number, self.epoch]);
        put64(out, [self.replay, self.next_queue]);
        put32(out, [self.next_number, 0]);
        put64(out, [self.durable]);
    }

    pub(crate) fn decode(meta: &[u8]) -> Option<Checkpoint> {
        (meta.len() == 40).then(|| Checkpoint {
            number: u32_at(meta, 0),
            epoch: u32_at(meta, 4),
            replay: u64_at(meta, 8),
            next_queue: u64_at(meta, 16),
            next_number: u32_at(meta, 24),
            durable: u64_at(meta, 32),
        })
    }
}

/// What a checkpoint says of a queue, apart from its declaration. Borrowed from the queue to be written, owned when read.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueState<'a> {
    pub(crate) queue: QueueId,
    /// Position that the next message gets.
    pub(crate) next: u64,
    /// Lower positions may have been handed out.
    pub(crate) delivered: u64,
    /// From here on `requeued` records count.
    pub(crate) counted: Lsn,
    /// Positions that are done.
    pub(crate) gone: Cow<'a, Runs>,
    /// Those that were lost to damage, which keeps the queue closed.
    pub(crate) lost: Cow<'a, Runs>,
    /// Messages that wait for a time.
    pub(crate) waiting: Cow<'a, Runs>,
    /// Messages whose time came while they were handed out.
    pub(crate) overdue: Cow<'a, Runs>,
    /// How often messages were returned.
    pub(crate) counts: Cow<'a, Counts>,
}

impl QueueState<'_> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put64(out, [self.queue, self.next, self.delivered, self.counted]);
        [&self.gone, &self.lost, &self.waiting, &self.overdue].iter().for_each(|set| set.encode(out));
        self.counts.encode(out);
    }

    pub(crate) fn decode(meta: &[u8]) -> Option<QueueState<'static>> {
        let (head, rest) = meta.split_at_checked(32)?;
        let (gone, rest) = Runs::decode(rest)?;
        let (lost, rest) = Runs::decode(rest)?;
        let (waiting, rest) = Runs::decode(rest)?;
        let (overdue, rest) = Runs::decode(rest)?;
        let (counts, rest) = Counts::decode(rest)?;
        let state = QueueState {
            queue: u64_at(head, 0),
            next: u64_at(head, 8),
            delivered: u64_at(head, 16),
            counted: u64_at(head, 24),
            gone: Cow::Owned(gone),
            lost: Cow::Owned(lost),
            waiting: Cow::Owned(waiting),
            overdue: Cow::Owned(overdue),
            counts: Cow::Owned(counts),
        };
        rest.is_empty().then_some(state)
    }
}

fn put32(out: &mut Vec<u8>, values: impl IntoIterator<Item = u32>) {
    values.into_iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, values: impl IntoIterator<Item = u64>) {
    values.into_iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_table(out: &mut Vec<u8>, table: Table<'_>) {
    put32(out, [table.byte_len() as u32]);
    out.extend_from_slice(table.as_bytes());
}

/// Takes fields from the front of a meta.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8).map(|bytes| u64_at(bytes, 0))
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = self.bytes(2)?;
        std::str::from_utf8(self.bytes(usize::from(u16::from_le_bytes([len[0], len[1]])))?).ok()
    }

    fn table(&mut self) -> Option<Table<'a>> {
        let len = u32_at(self.bytes(4)?, 0) as usize;
        Table::new(self.bytes(len)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::table::FieldTable;

    #[test]
    fn changes_come_back_as_they_were_said() {
        let arguments = FieldTable::new().with("x-max-length", 5i64);
        let arguments = arguments.as_table();
        let bound = |to| Bound { vhost: "/", source: "amq.topic", to, key: "a.#", arguments };
        let changes = [
            Change::Vhost("/"),
            Change::Exchange { vhost: "/", name: "e", kind: "topic", auto_delete: true, internal: false, arguments },
            Change::ExchangeDeleted { vhost: "/", name: "e" },
            Change::Queue { id: 1 << 40, vhost: "/", name: "q", auto_delete: false, arguments },
            Change::QueueDeleted { id: 9 },
            Change::Binding(bound(Destination::Queue("q".into()))),
            Change::Unbound(bound(Destination::Exchange("e".into()))),
            Change::VhostDeleted("/"),
            Change::Entry { table: "policy:/", key: "p", value: Some(b"{}") },
            Change::Entry { table: "policy:/", key: "p", value: None },
        ];
        for change in changes {
            let mut meta = Vec::new();
            let kind = change.encode(&mut meta);
            assert_eq!(Change::decode(kind, &meta), Some(change));
            for len in 0..meta.len() {
                assert_eq!(Change::decode(kind, &meta[..len]), None, "{len} bytes of kind {kind}");
            }
        }
    }

    #[test]
    fn enqueues_and_states_come_back_and_cut_ones_do_not() {
        let targets = [Target { queue: 1, position: 10 }, Target { queue: 2, position: 20 }];
        let (mut plain, mut large, mut state) = (Vec::new(), Vec::new(), Vec::new());
        Enqueue::encode(3, &targets, &mut plain);
        let pieces = [Piece { offset: 4096, length: 100 }];
        Enqueue::encode_large(1, &targets, &pieces, &mut large);
        let set = |runs: &[(u64, u64)]| {
            let mut set = Runs::default();
            runs.iter().for_each(|&(first, count)| set.insert(first, count));
            Cow::Owned(set)
        };
        let mut counts = Counts::default();
        counts.set(3, 1, 2);
        let said = QueueState {
            queue: 7,
            next: 9,
            delivered: 8,
            counted: 5,
            gone: set(&[(0, 3), (5, 1)]),
            lost: set(&[(4, 1)]),
            waiting: set(&[(6, 2)]),
            overdue: set(&[(8, 1)]),
            counts: Cow::Owned(counts),
        };
        said.encode(&mut state);
        let enqueue = Enqueue::decode(ENQUEUE, &plain).expect("whole");
        assert_eq!((enqueue.count, enqueue.targets().collect::<Vec<_>>()), (3, targets.to_vec()));
        let enqueue = Enqueue::decode(LARGE, &large).expect("whole");
        assert_eq!(enqueue.targets().collect::<Vec<_>>(), targets);
        assert_eq!(enqueue.pieces().collect::<Vec<_>>(), pieces);
        let decoded = QueueState::decode(&state).expect("whole");
        assert_eq!(format!("{decoded:?}"), format!("{said:?}"));
        assert!((0..plain.len()).all(|len| Enqueue::decode(ENQUEUE, &plain[..len]).is_none()));
        assert!((0..large.len()).all(|len| Enqueue::decode(LARGE, &large[..len]).is_none()));
        assert!((0..state.len()).all(|len| QueueState::decode(&state[..len]).is_none()));
    }
}
