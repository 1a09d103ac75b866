//! What was seen as bytes: the meta of a record (docs/format.md).

use super::hash::Hash;
use super::producers::Sequence;
use super::window::Seen;
use crate::log::QueueId;

/// Whose keys or producers these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    Queue(QueueId),
    Exchange { vhost: &'a str, name: &'a str },
    Producers { vhost: &'a str },
}

/// A part of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) scope: Scope<'a>,
    /// How many keys are remembered.
    pub(crate) size: usize,
    /// The number of the first key.
    pub(crate) first: u64,
    items: &'a [u8],
}

const QUEUE: u8 = 0;
const EXCHANGE: u8 = 1;
const PRODUCERS: u8 = 2;

/// Bytes of a key with its time.
const KEY: usize = 24;

/// Bytes of a producer with its epoch and sequence.
const PRODUCER: usize = 32;

/// Appends a section of keys.
pub(crate) fn put_keys(
    scope: Scope<'_>,
    size: usize,
    first: u64,
    keys: impl ExactSizeIterator<Item = Seen>,
    out: &mut Vec<u8>,
) {
    put_scope(scope, out);
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&(keys.len() as u32).to_le_bytes());
    for seen in keys {
        [seen.key[0], seen.key[1], seen.until()].iter().for_each(|half| out.extend_from_slice(&half.to_le_bytes()));
    }
}

/// Appends a section of producers.
pub(crate) fn put_producers(vhost: &str, producers: &[Sequence], out: &mut Vec<u8>) {
    put_scope(Scope::Producers { vhost }, out);
    out.extend_from_slice(&(producers.len() as u32).to_le_bytes());
    for it in producers {
        out.extend_from_slice(&it.producer.to_le_bytes());
        [it.epoch, it.sequence].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
}

fn put_scope(scope: Scope<'_>, out: &mut Vec<u8>) {
    let mut texts = |kind, texts: &[&str]| {
        out.push(kind);
        for text in texts {
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    };
    match scope {
        Scope::Queue(id) => {
            texts(QUEUE, &[]);
            out.extend_from_slice(&id.to_le_bytes());
        }
        Scope::Exchange { vhost, name } => texts(EXCHANGE, &[vhost, name]),
        Scope::Producers { vhost } => texts(PRODUCERS, &[vhost]),
    }
}

/// Takes the section at the front of a meta; `None` if there is none.
pub(crate) fn take<'a>(meta: &mut &'a [u8]) -> Option<Section<'a>> {
    let [kind] = *bytes(meta, 1)? else { return None };
    let scope = match kind {
        QUEUE => Scope::Queue(u64_of(bytes(meta, 8)?)),
        EXCHANGE => Scope::Exchange { vhost: text(meta)?, name: text(meta)? },
        PRODUCERS => Scope::Producers { vhost: text(meta)? },
        _ => return None,
    };
    let is_producers = kind == PRODUCERS;
    let (size, first) = match is_producers {
        true => (0, 0),
        false => (u32_of(bytes(meta, 4)?), u64_of(bytes(meta, 8)?)),
    };
    let count = u32_of(bytes(meta, 4)?);
    let items = bytes(meta, count.checked_mul(if is_producers { PRODUCER } else { KEY })?)?;
    first.checked_add(count as u64)?;
    Some(Section { scope, size, first, items })
}

impl<'a> Section<'a> {
    /// Keys with their numbers.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (u64, Seen)> + 'a {
        let seen = |item: &[u8]| Seen::from_halves([u64_of(item), u64_of(&item[8..])], u64_of(&item[16..]));
        (self.first..).zip(self.items.chunks_exact(KEY).map(seen))
    }

    pub(crate) fn producers(&self) -> impl Iterator<Item = Sequence> + 'a {
        self.items.chunks_exact(PRODUCER).map(|item| {
            let producer = Hash::from(u64_of(&item[8..])) << 64 | Hash::from(u64_of(item));
            Sequence { producer, epoch: u64_of(&item[16..]), sequence: u64_of(&item[24..]) }
        })
    }
}

fn bytes<'a>(meta: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = meta.split_at_checked(len)?;
    *meta = rest;
    Some(taken)
}

fn text<'a>(meta: &mut &'a [u8]) -> Option<&'a str> {
    let len = bytes(meta, 2)?;
    std::str::from_utf8(bytes(meta, usize::from(u16::from_le_bytes([len[0], len[1]])))?).ok()
}

fn u32_of(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

fn u64_of(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_and_no_part_of_one_does() {
        let keys = [Seen::new(1 << 100 | 5, 77, true), Seen::NONE];
        let producers = [Sequence { producer: 1 << 90 | 3, epoch: 2, sequence: 9 }];
        let mut meta = Vec::new();
        put_keys(Scope::Queue(7), 100, 40, keys.into_iter(), &mut meta);
        put_keys(Scope::Exchange { vhost: "/", name: "e" }, 5, 0, keys[..1].iter().copied(), &mut meta);
        put_producers("/", &producers, &mut meta);
        let (mut rest, mut sections) = (&meta[..], Vec::new());
        while !rest.is_empty() {
            sections.push(take(&mut rest).expect("it was put there"));
        }
        assert_eq!(
            sections.iter().map(|it| (it.scope, it.size, it.first)).collect::<Vec<_>>(),
            [
                (Scope::Queue(7), 100, 40),
                (Scope::Exchange { vhost: "/", name: "e" }, 5, 0),
                (Scope::Producers { vhost: "/" }, 0, 0)
            ]
        );
        assert_eq!(sections[0].keys().collect::<Vec<_>>(), [(40, keys[0]), (41, keys[1])]);
        assert_eq!(sections[1].keys().collect::<Vec<_>>(), [(0, keys[0])]);
        assert_eq!(sections[2].producers().collect::<Vec<_>>(), producers);
        for len in 0..meta.len() {
            let mut rest = &meta[..len];
            let whole = std::iter::from_fn(|| take(&mut rest)).count();
            assert!(whole < 3);
        }
    }
}
