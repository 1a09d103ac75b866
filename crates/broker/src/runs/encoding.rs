//! Sets and counts as bytes (docs/format.md): numbers as varints, so that a short run between short gaps takes two bytes.

use super::{Counts, Runs};

impl Runs {
    /// Appends the set's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut end = 0;
        for (first, len) in self.iter() {
            put(out, len);
            put(out, first - end);
            end = first + len;
        }
        put(out, 0);
    }

    /// Takes a set from the front of some bytes: it, and what is behind it. `None` if they don't begin with one.
    pub fn decode(mut bytes: &[u8]) -> Option<(Runs, &[u8])> {
        let (mut runs, mut end) = (Runs::default(), 0);
        while let Some((first, len)) = take_run(&mut bytes, &mut end)? {
            runs.insert(first, len);
        }
        Some((runs, bytes))
    }
}

impl Counts {
    /// Appends the counts' bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut end = 0;
        for (first, len, deliveries) in self.iter() {
            put(out, len);
            put(out, first - end);
            put(out, deliveries);
            end = first + len;
        }
        put(out, 0);
    }

    /// Takes counts from the front of some bytes: them, and what is behind them. `None` if they don't begin with any.
    pub fn decode(mut bytes: &[u8]) -> Option<(Counts, &[u8])> {
        let (mut counts, mut end) = (Counts::default(), 0);
        while let Some((first, len)) = take_run(&mut bytes, &mut end)? {
            counts.set(first, len, take(&mut bytes)?);
        }
        Some((counts, bytes))
    }
}

/// The next run, or that there is none behind the one that ended at `end`. `None` if the bytes say neither.
#[expect(clippy::option_option, reason = "the bytes end too early, or the set ends")]
fn take_run(bytes: &mut &[u8], end: &mut u64) -> Option<Option<(u64, u64)>> {
    let len = take(bytes)?;
    if len == 0 {
        return Some(None);
    }
    let first = end.checked_add(take(bytes)?)?;
    *end = first.checked_add(len)?;
    Some(Some((first, len)))
}

/// Appends a number, seven bits to a byte, the lowest first; all but the last byte have the highest bit set.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front; `None` if it doesn't end there, or has more than 64 bits.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
