//! Bytes of the log: batch headers and record headers (docs/format.md).

use std::fmt;

/// A log sequence number: segment in the upper half, offset in the lower.
pub(crate) type Lsn = u64;

/// The LSN of a byte.
pub(crate) fn lsn(segment: u32, offset: u32) -> Lsn {
    u64::from(segment) << 32 | u64::from(offset)
}

/// Segment and offset of an LSN.
pub(crate) fn split(lsn: Lsn) -> (u32, u32) {
    ((lsn >> 32) as u32, lsn as u32)
}

/// Batches begin at multiples of this.
pub(crate) const ALIGN: u32 = 4096;

/// Bytes of a block of an index or of a file of times.
pub(crate) const BLOCK: usize = 4096;

/// Bytes of its head: checksum and number of items.
pub(crate) const BLOCK_HEAD: usize = 8;

/// Closes the block that begins at `begin` of a buffer: fills it up, and writes its head.
pub(crate) fn close_block(log: LogId, buffer: &mut Vec<u8>, begin: usize, count: u32) {
    buffer.resize(begin + BLOCK, 0);
    let block = &mut buffer[begin..];
    block[4..8].copy_from_slice(&count.to_le_bytes());
    let crc = log.crc(&block[4..]);
    block[0..4].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes of a batch header.
pub(crate) const BATCH_HEAD: usize = 64;

/// Bytes of a record header.
pub(crate) const RECORD_HEAD: usize = 32;

/// The next record belongs to the same transaction.
pub(crate) const MORE: u8 = 1;

/// What seeds every checksum of a log, so that files of another log never check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogId {
    pub(crate) id: u64,
    seed: u32,
}

impl LogId {
    pub(crate) fn new(id: u64) -> LogId {
        LogId { id, seed: crc32c::crc32c(&id.to_le_bytes()) }
    }

    /// The checksum of some bytes of this log.
    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.seed, bytes)
    }

    fn checks(self, crc: u32, bytes: &[u8]) -> bool {
        #[cfg(feature = "mutants")]
        if crate::mutants::is_on(crate::mutants::Mutant::NoCrc) {
            return true;
        }
        crc == self.crc(bytes)
    }
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) epoch: u32,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// Of header and records.
    pub(crate) length: u32,
    pub(crate) number: u64,
    pub(crate) previous: Lsn,
    pub(crate) durable: Lsn,
}

const BATCH_MAGIC: [u8; 4] = *b"LVB1";

impl BatchHead {
    pub(crate) fn encode(&self, log: LogId) -> [u8; BATCH_HEAD] {
        let mut head = [0; BATCH_HEAD];
        head[0..4].copy_from_slice(&BATCH_MAGIC);
        head[8..16].copy_from_slice(&log.id.to_le_bytes());
        head[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        head[20..24].copy_from_slice(&self.segment.to_le_bytes());
        head[24..28].copy_from_slice(&self.offset.to_le_bytes());
        head[28..32].copy_from_slice(&self.length.to_le_bytes());
        head[32..40].copy_from_slice(&self.number.to_le_bytes());
        head[40..48].copy_from_slice(&self.previous.to_le_bytes());
        head[48..56].copy_from_slice(&self.durable.to_le_bytes());
        let crc = log.crc(&head[8..]);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// `None` unless the bytes begin with a header of this log that checks.
    pub(crate) fn decode(log: LogId, bytes: &[u8]) -> Option<BatchHead> {
        let head = bytes.get(..BATCH_HEAD)?;
        if head[0..4] != BATCH_MAGIC || u64_at(head, 8) != log.id || !log.checks(u32_at(head, 4), &head[8..]) {
            return None;
        }
        Some(BatchHead {
            epoch: u32_at(head, 16),
            segment: u32_at(head, 20),
            offset: u32_at(head, 24),
            length: u32_at(head, 28),
            number: u64_at(head, 32),
            previous: u64_at(head, 40),
            durable: u64_at(head, 48),
        })
    }

    /// The log id in what may be a batch header: how a directory says whose it is.
    pub(crate) fn log_id(bytes: &[u8]) -> Option<LogId> {
        let log = LogId::new(u64_at(bytes.get(..BATCH_HEAD)?, 8));
        BatchHead::decode(log, bytes).map(|_| log)
    }

    pub(crate) fn lsn(&self) -> Lsn {
        lsn(self.segment, self.offset)
    }

    /// Offset in the segment at which the next batch begins.
    pub(crate) fn end(&self) -> u32 {
        (self.offset + self.length).next_multiple_of(ALIGN)
    }
}

/// A record, borrowed from the bytes that it was read from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) epoch: u32,
    pub(crate) lsn: Lsn,
    pub(crate) meta: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl fmt::Debug for RawRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, offset) = split(self.lsn);
        write!(f, "record {} at {segment}:{offset} ({} + {} bytes)", self.kind, self.meta.len(), self.body.len())
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad<'a> {
    /// The header, or meta, does not check: nothing is known, not even where the next record begins.
    Header,
    /// The header checks and the body does not, or is cut off. The record's body is empty here; `len` is the length
    /// of the whole record.
    Body { record: RawRecord<'a>, len: usize },
}

impl<'a> RawRecord<'a> {
    /// Bytes of the whole record.
    pub(crate) fn len(&self) -> usize {
        RECORD_HEAD + self.meta.len() + self.body.len()
    }

    /// Appends the record; `body_crc` is [`LogId::crc`] of the body, which may be long and is computed in advance.
    pub(crate) fn encode(&self, log: LogId, body_crc: u32, out: &mut Vec<u8>) {
        let begin = out.len();
        out.reserve(self.len());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.kind, self.flags, 0, 0]);
        out.extend_from_slice(&(self.meta.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body_crc.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(self.meta);
        let crc = log.crc(&out[begin + 4..]);
        out[begin..begin + 4].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(self.body);
    }

    /// Decodes the record at the beginning of `bytes`, which claims to be at `lsn`.
    pub(crate) fn decode(log: LogId, lsn: Lsn, bytes: &'a [u8]) -> Result<RawRecord<'a>, Bad<'a>> {
        let head = bytes.get(..RECORD_HEAD).ok_or(Bad::Header)?;
        let (meta_len, body_len) = (u32_at(head, 8) as usize, u32_at(head, 12) as usize);
        // Checked before anything is believed: a wrong length would otherwise be followed.
        let meta = bytes[RECORD_HEAD..].get(..meta_len).ok_or(Bad::Header)?;
        if u64_at(head, 24) != lsn || !log.checks(u32_at(head, 0), &bytes[4..RECORD_HEAD + meta_len]) {
            return Err(Bad::Header);
        }
        let (kind, flags, epoch) = (head[4], head[5], u32_at(head, 20));
        let record = RawRecord { kind, flags, epoch, lsn, meta, body: &[] };
        let len = RECORD_HEAD + meta_len + body_len;
        match bytes[RECORD_HEAD + meta_len..].get(..body_len) {
            Some(body) if log.checks(u32_at(head, 16), body) => Ok(RawRecord { body, ..record }),
            _ => Err(Bad::Body { record, len }),
        }
    }
}

/// # Panics
/// If there are not four bytes at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// # Panics
/// If there are not eight bytes at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOG: LogId = LogId { id: 7, seed: 0x1234_5678 };

    #[test]
    fn a_batch_header_comes_back_and_belongs_to_its_log() {
        let head =
            BatchHead { epoch: 3, segment: 9, offset: 8192, length: 5000, number: 77, previous: 5, durable: 1 << 40 };
        let log = LogId::new(99);
        let bytes = head.encode(log);
        assert_eq!(BatchHead::decode(log, &bytes), Some(head));
        assert_eq!((BatchHead::log_id(&bytes), BatchHead::decode(LogId::new(98), &bytes)), (Some(log), None));
        assert_eq!((head.end(), split(head.lsn())), (16384, (9, 8192)));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed_and_says_what_it_hit(meta in proptest::collection::vec(any::<u8>(), 0..40),
                                                          body in proptest::collection::vec(any::<u8>(), 0..40),
                                                          bit in any::<proptest::sample::Index>()) {
            let record = RawRecord { kind: 1, flags: MORE, epoch: 2, lsn: 1 << 33, meta: &meta, body: &body };
            let mut bytes = Vec::new();
            record.encode(LOG, LOG.crc(&body), &mut bytes);
            prop_assert_eq!(bytes.len(), record.len());
            prop_assert_eq!(RawRecord::decode(LOG, 1 << 33, &bytes), Ok(record));
            prop_assert_eq!(RawRecord::decode(LOG, 1 << 34, &bytes), Err(Bad::Header));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            match RawRecord::decode(LOG, 1 << 33, &bytes) {
                Err(Bad::Header) => prop_assert!(bit / 8 < RECORD_HEAD + meta.len()),
                Err(Bad::Body { record: named, len }) => {
                    prop_assert!(bit / 8 >= RECORD_HEAD + meta.len());
                    prop_assert_eq!((named.meta, len), (&meta[..], bytes.len()));
                }
                Ok(_) => prop_assert!(false, "bit {} went unnoticed", bit),
            }
        }
    }
}
