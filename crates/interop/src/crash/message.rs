//! Messages that say who they are, so that any change to one is noticed.

use std::fmt;

use crate::crash::chance::{Chance, mix};

/// Octets of the shortest body: the id and a check of id and length.
pub const SHORTEST: usize = 16;

/// Octets of the longest body.
pub const LONGEST: usize = 1 << 20;

/// Octets of the properties: flags, delivery mode and a timestamp, which is the id again.
pub const PROPERTIES: usize = 11;

/// Fillers start anywhere in this much of the pattern.
const STARTS: u64 = 65_536;

/// Bits of an id below the publisher's number.
const SEQUENCE_BITS: u32 = 40;

/// A message: its publisher, and its number in the order of publishing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// The message that a publisher sends as its `sequence`th, counted from 0.
    pub fn new(publisher: u32, sequence: u64) -> Id {
        Id(u64::from(publisher) << SEQUENCE_BITS | sequence)
    }

    /// Who sent it: a number that is given to one connection of one cycle.
    pub fn publisher(self) -> u32 {
        (self.0 >> SEQUENCE_BITS) as u32
    }

    /// How many the publisher sent before it.
    pub fn sequence(self) -> u64 {
        self.0 & ((1 << SEQUENCE_BITS) - 1)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.publisher(), self.sequence())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The octets that bodies are filled with.
pub struct Pattern(Vec<u8>);

impl Default for Pattern {
    fn default() -> Self {
        let mut chance = Chance::new(0);
        let words = (LONGEST + STARTS as usize) / 8;
        Pattern((0..words).flat_map(|_| chance.number().to_le_bytes()).collect())
    }
}

impl Pattern {
    /// Appends the body of a message; `length` is at least [`SHORTEST`] and at most [`LONGEST`].
    pub fn write_body(&self, id: Id, length: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.0.to_le_bytes());
        out.extend_from_slice(&head_check(id, length).to_le_bytes());
        out.extend_from_slice(self.filler(id, length));
    }

    /// Which message this is, if not one octet of body or properties differs from what was published.
    ///
    /// # Errors
    /// With what differs.
    pub fn check(&self, properties: &[u8], body: &[u8]) -> Result<Id, String> {
        let (Some(id), Some(check)) = (body.first_chunk(), body.get(8..).and_then(|rest| rest.first_chunk())) else {
            return Err(format!("a body of {} bytes", body.len()));
        };
        let id = Id(u64::from_le_bytes(*id));
        if body.len() > LONGEST || u64::from_le_bytes(*check) != head_check(id, body.len()) {
            return Err(format!("the head of a body of {} bytes does not check; it says {id}", body.len()));
        }
        let filler = self.filler(id, body.len());
        if &body[SHORTEST..] != filler {
            let first = body[SHORTEST..].iter().zip(filler).position(|(is, should)| is != should).unwrap_or(0);
            return Err(format!("the body of {id}, {} bytes, differs at byte {}", body.len(), SHORTEST + first));
        }
        if properties != write_properties(id, true) && properties != write_properties(id, false) {
            return Err(format!("the properties of {id} are {properties:02x?}"));
        }
        Ok(id)
    }

    fn filler(&self, id: Id, length: usize) -> &[u8] {
        let start = (mix(id.0) % STARTS) as usize;
        &self.0[start..start + length - SHORTEST]
    }
}

/// The properties of a message, encoded.
pub fn write_properties(id: Id, persistent: bool) -> [u8; PROPERTIES] {
    const DELIVERY_MODE_AND_TIMESTAMP: [u8; 2] = [0x10, 0x40];
    let mut properties = [0; PROPERTIES];
    properties[..2].copy_from_slice(&DELIVERY_MODE_AND_TIMESTAMP);
    properties[2] = if persistent { 2 } else { 1 };
    properties[3..].copy_from_slice(&id.0.to_be_bytes());
    properties
}

fn head_check(id: Id, length: usize) -> u64 {
    mix(id.0 ^ mix(length as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::properties::Properties;

    #[test]
    fn a_message_is_recognized_and_every_change_is_noticed() {
        let pattern = Pattern::default();
        let id = Id::new(12, 345);
        assert_eq!((id.publisher(), id.sequence()), (12, 345));
        for length in [SHORTEST, 17, 1000, LONGEST] {
            let mut body = Vec::new();
            pattern.write_body(id, length, &mut body);
            let properties = write_properties(id, true);
            assert_eq!(pattern.check(&properties, &body), Ok(id));
            assert!(pattern.check(&properties, &body[..length - 1]).is_err());
            assert!(pattern.check(&write_properties(Id::new(12, 346), true), &body).is_err());
            for at in [0, 9, length / 2, length - 1] {
                body[at] ^= 4;
                assert!(pattern.check(&properties, &body).is_err(), "byte {at} of {length}");
                body[at] ^= 4;
            }
        }
    }

    #[test]
    fn properties_are_what_other_clients_would_read() {
        let encoded = write_properties(Id::new(1, 2), true);
        let properties = Properties::decode(&encoded).unwrap();
        assert_eq!((properties.delivery_mode, properties.timestamp), (Some(2), Some(1 << SEQUENCE_BITS | 2)));
    }
}
