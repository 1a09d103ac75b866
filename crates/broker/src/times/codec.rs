//! Times as bytes: variable-length differences to the one before (docs/format.md).

use super::{MAX_DUE, Time, What};

/// A group of seven bits each; so many for 64 bits.
const VARINT_MAX: usize = 10;

/// The longest that one can be.
pub(crate) const ITEM_MAX: usize = 4 * VARINT_MAX;

/// What the next item is the difference to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    key: u64,
    queue: u64,
    end: u64,
}

impl Before {
    /// Appends an item.
    pub(crate) fn put(&mut self, time: &Time, out: &mut Vec<u8>) {
        let key = key(time);
        put_varint(zigzag(key, self.key), out);
        put_varint(zigzag(time.queue, self.queue), out);
        put_varint(zigzag(time.position, self.end), out);
        put_varint(time.count, out);
        *self = Before { key, queue: time.queue, end: time.position.wrapping_add(time.count) };
    }

    /// Takes an item from the front of some bytes; `None` if there is none.
    pub(crate) fn take(&mut self, bytes: &mut &[u8]) -> Option<Time> {
        let key = unzigzag(take_varint(bytes)?, self.key);
        let queue = unzigzag(take_varint(bytes)?, self.queue);
        let position = unzigzag(take_varint(bytes)?, self.end);
        let count = take_varint(bytes)?;
        let end = position.checked_add(count).filter(|_| count > 0)?;
        *self = Before { key, queue, end };
        let what = if key & 1 == 0 { What::Expire } else { What::Wake };
        Some(Time { due: key >> 1, what, queue, position, count })
    }
}

/// Appends times, in any order, as the meta of a record has them.
pub(crate) fn encode(times: &[Time], out: &mut Vec<u8>) {
    let mut before = Before::default();
    times.iter().for_each(|time| before.put(time, out));
}

/// The times in the meta of a record; `None` if it is not one.
pub(crate) fn decode(meta: &[u8]) -> Option<Items<'_>> {
    let (mut before, mut rest) = (Before::default(), meta);
    while !rest.is_empty() {
        before.take(&mut rest)?;
    }
    Some(Items { bytes: meta, before: Before::default() })
}

/// Encoded times, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    bytes: &'a [u8],
    before: Before,
}

impl Iterator for Items<'_> {
    type Item = Time;

    fn next(&mut self) -> Option<Time> {
        self.before.take(&mut self.bytes)
    }
}

/// Many times in little memory: about ten bytes each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    before: Before,
}

impl Packed {
    pub(crate) fn push(&mut self, time: &Time) {
        self.before.put(time, &mut self.bytes);
    }

    pub(crate) fn iter(&self) -> Items<'_> {
        Items { bytes: &self.bytes, before: Before::default() }
    }
}

fn key(time: &Time) -> u64 {
    time.due.min(MAX_DUE) << 1 | u64::from(time.what == What::Wake)
}

fn zigzag(value: u64, before: u64) -> u64 {
    let difference = value.wrapping_sub(before) as i64;
    (difference << 1 ^ difference >> 63) as u64
}

fn unzigzag(coded: u64, before: u64) -> u64 {
    before.wrapping_add(coded >> 1 ^ (coded & 1).wrapping_neg())
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for group in 0..VARINT_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if group == VARINT_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * group);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::testing::{any_time, time};
    use proptest::prelude::*;

    #[test]
    fn neighbours_take_four_bytes() {
        let mut bytes = Vec::new();
        let times: Vec<Time> = (0..1000).map(|index| time(1_700_000_000_000 + index, 7, 1 << 40 | index)).collect();
        encode(&times, &mut bytes);
        assert!(bytes.len() < 4 * times.len() + 20, "{} bytes", bytes.len());
    }

    #[test]
    fn what_is_cut_off_or_counts_nothing_is_no_time() {
        let mut bytes = Vec::new();
        encode(&[time(1 << 40, 3, 1 << 30)], &mut bytes);
        assert!((1..bytes.len()).all(|len| decode(&bytes[..len]).is_none()));
        assert!(decode(&[2, 2, 2, 0]).is_none(), "a count of 0");
        assert!(decode(&[0xff; 40]).is_none(), "more than 64 bits");
    }

    proptest! {
        #[test]
        fn times_come_back_as_they_were(times in proptest::collection::vec(any_time(), 0..40)) {
            let (mut bytes, mut packed) = (Vec::new(), Packed::default());
            encode(&times, &mut bytes);
            prop_assert_eq!(decode(&bytes).expect("whole").collect::<Vec<_>>(), times.clone());
            times.iter().for_each(|time| packed.push(time));
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), times);
        }

        #[test]
        fn any_bytes_are_times_or_are_not(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(items) = decode(&bytes) {
                items.for_each(|time| assert!(time.count > 0 && time.position.checked_add(time.count).is_some()));
            }
        }
    }
}
