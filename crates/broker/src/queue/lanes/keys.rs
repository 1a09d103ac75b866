//! The group keys that are in use: who holds each, and the lanes in which its messages wait.

use super::{Holder, LaneId, Mask};
use leveret_wire::table::Value;
use rustc_hash::FxHashMap;
use std::hash::{DefaultHasher, Hasher};

/// Names a key in the memory of its queue.
pub(super) type KeyId = u32;

/// Keys that nobody uses are kept for the next message up to so many, and as many again as are in use.
const IDLE_MAX: usize = 1024;

/// Bytes of a key as it is remembered. What is longer ends with a hash of the whole.
const NAME_MAX: usize = 255;

const HASH: usize = 16;

/// A group of messages.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// Who has messages of it that are not settled, and how many these are.
    pub(super) holder: Option<Holder>,
    pub(super) held: u64,
    /// Messages of it that wait for their next attempt.
    pub(super) waiting: u64,
    /// Where its messages wait, by the filters that they match.
    pub(super) lanes: Vec<(Mask, LaneId)>,
}

impl Key {
    fn is_idle(&self) -> bool {
        self.held == 0 && self.waiting == 0 && self.lanes.is_empty()
    }
}

/// The keys of a queue by their names.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Messages of a key that may be held at a time.
    pub(super) prefetch: u64,
    by_name: FxHashMap<Box<[u8]>, KeyId>,
    slots: Vec<Key>,
    vacant: Vec<KeyId>,
    idle: usize,
}

impl Keys {
    pub(super) fn new(prefetch: u64) -> Keys {
        Keys { prefetch, ..Keys::default() }
    }

    /// How many messages of a key this one may take now.
    pub(super) fn room_for(&self, id: KeyId, taker: Holder) -> u64 {
        let key = self.get(id);
        match key.waiting == 0 && key.holder.is_none_or(|holder| holder == taker) {
            true => self.prefetch - key.held.min(self.prefetch),
            false => 0,
        }
    }

    /// The key of this name, if it is known.
    pub(super) fn find(&self, name: &[u8]) -> Option<KeyId> {
        self.by_name.get(name).copied()
    }

    /// The key of this name.
    pub(super) fn enter(&mut self, name: &[u8]) -> KeyId {
        if let Some(known) = self.find(name) {
            return known;
        }
        self.forget_idle();
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Key::default());
            (self.slots.len() - 1) as KeyId
        });
        self.by_name.insert(name.into(), id);
        self.idle += 1;
        id
    }

    pub(super) fn get(&self, id: KeyId) -> &Key {
        &self.slots[id as usize]
    }

    /// Changes a key; says whether it is open to others than before.
    pub(super) fn change(&mut self, id: KeyId, change: impl FnOnce(&mut Key)) -> bool {
        let key = &mut self.slots[id as usize];
        let prefetch = self.prefetch;
        let openness = |key: &Key| (key.holder, key.waiting > 0, key.held >= prefetch);
        let (was_idle, before) = (key.is_idle(), openness(key));
        change(key);
        if key.held == 0 {
            key.holder = None;
        }
        match (was_idle, key.is_idle()) {
            (false, true) => self.idle += 1,
            (true, false) => self.idle -= 1,
            _ => {}
        }
        before != openness(key)
    }

    /// No lane has anything any more.
    pub(super) fn clear_lanes(&mut self) {
        self.slots.iter_mut().for_each(|key| key.lanes.clear());
        self.idle = self.by_name.values().filter(|id| self.slots[**id as usize].is_idle()).count();
    }

    /// Number of names in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn forget_idle(&mut self) {
        let used = self.by_name.len() - self.idle;
        if self.idle <= used + IDLE_MAX {
            return;
        }
        let Keys { by_name, slots, vacant, .. } = self;
        by_name.retain(|_, id| {
            let idle = slots[*id as usize].is_idle();
            if idle {
                vacant.push(*id);
            }
            !idle
        });
        by_name.shrink_to(2 * used + IDLE_MAX);
        self.idle = 0;
    }
}

/// Writes the name of the key that a header's value is: a string, or an integer's decimal digits. False if it is neither.
pub(super) fn write_name(value: Value<'_>, out: &mut Vec<u8>) -> bool {
    out.clear();
    match value {
        Value::LongString(text) if text.len() <= NAME_MAX => out.extend_from_slice(text),
        Value::LongString(text) => {
            out.extend_from_slice(&text[..NAME_MAX - HASH]);
            for salt in 0..2 {
                let mut hasher = DefaultHasher::new();
                hasher.write_u8(salt);
                hasher.write(text);
                out.extend_from_slice(&hasher.finish().to_le_bytes());
            }
        }
        // It is all that `as_i64` has not.
        Value::U64(number) => push_decimal(number, out),
        other => match other.as_i64() {
            Some(number) => {
                out.extend((number < 0).then_some(b'-'));
                push_decimal(number.unsigned_abs(), out);
            }
            None => return false,
        },
    }
    true
}

/// What `write!` does, at a third of its cost: it is done for each message.
fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut first, mut rest) = ([0; 20], 20, number);
    while first == 20 || rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_the_key_that_its_digits_are() {
        let name = |value| {
            let mut name = Vec::new();
            write_name(value, &mut name).then(|| String::from_utf8(name).expect("digits"))
        };
        for number in [0, 7, 10, 1999, -1, i64::MIN, i64::MAX] {
            assert_eq!(name(Value::I64(number)), Some(number.to_string()));
        }
        assert_eq!(name(Value::U64(u64::MAX)), Some(u64::MAX.to_string()));
        assert_eq!((name(Value::I8(-5)), name(Value::Bool(true))), (Some("-5".to_string()), None));
    }
}
