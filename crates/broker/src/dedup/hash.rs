//! Keys as 128 bits: SipHash-1-3 with 128 bits of output, keyed so that nobody outside can make two that are equal.

/// What hashes are keyed with: the same for as long as hashes of it are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

/// A hash of a key or a name. Two different ones are equal with a probability of 2^-128: among ten million keys in a
/// window, less than once in 10^24 windows.
pub(crate) type Hash = u128;

impl Seed {
    /// The hash of some bytes of a kind.
    pub(crate) fn hash(self, kind: u8, bytes: &[u8]) -> Hash {
        sip::<1, 3>(self.0, u64::from(kind), bytes)
    }
}

/// SipHash (Aumasson and Bernstein, 2012) with so many rounds for each word, and at the end.
fn sip<const C: usize, const D: usize>(k0: u64, k1: u64, bytes: &[u8]) -> u128 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        absorb::<C>(&mut v, u64::from_le_bytes(whole));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    last[7] = bytes.len() as u8;
    absorb::<C>(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xee;
    (0..D).for_each(|_| round(&mut v));
    let low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    (0..D).for_each(|_| round(&mut v));
    let high = v[0] ^ v[1] ^ v[2] ^ v[3];
    u128::from(high) << 64 | u128::from(low)
}

#[inline]
fn absorb<const C: usize>(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    (0..C).for_each(|_| round(v));
    v[0] ^= word;
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_implementation_says_the_same() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let empty = [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93];
        let one = [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45];
        assert_eq!(sip::<2, 4>(k0, k1, &[]).to_le_bytes(), empty);
        assert_eq!(sip::<2, 4>(k0, k1, &[0]).to_le_bytes(), one);
    }
}
