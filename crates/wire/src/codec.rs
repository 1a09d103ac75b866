//! The elementary types: what the generated methods, the properties and the tables are read and written with.

use crate::{Error, table::Table};

/// Octets that are left to decode. Every read checks the length first and takes from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(truncated());
        };
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.0.split_at_checked(len) else {
            return Err(truncated());
        };
        self.0 = rest;
        Ok(head)
    }

    /// A short string without looking at it: for reserved fields, whose content nobody checks.
    #[inline]
    pub(crate) fn short_bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u8()?;
        self.bytes(usize::from(len))
    }

    #[inline]
    pub(crate) fn short_str(&mut self) -> Result<&'a str, Error> {
        utf8(self.short_bytes()?)
    }

    #[inline]
    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u32()?;
        // On a 16-bit usize this would truncate; everywhere else a length is at most what `bytes` then checks.
        self.bytes(len as usize)
    }

    #[inline]
    pub(crate) fn table(&mut self) -> Result<Table<'a>, Error> {
        Table::new(self.long_bytes()?)
    }

    /// A table that was checked before, however deep it is nested.
    pub(crate) fn stored_table(&mut self) -> Result<Table<'a>, Error> {
        Ok(Table::stored(self.long_bytes()?))
    }

    /// The arguments must fill the frame: what follows them would be lost silently.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Syntax("octets follow the last argument")) }
    }
}

/// Names and keys are nearly always ASCII, and short: the standard library's check, which goes octet by octet at such
/// lengths, took 15 of the 17 ns of decoding a `basic.publish`, and `is_ascii` takes 1.3.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        #[allow(unsafe_code, reason = "measured, see above")]
        return Ok(unsafe { str::from_utf8_unchecked(bytes) });
    }
    str::from_utf8(bytes).map_err(|_| Error::Syntax("a short string is not UTF-8"))
}

#[cold]
fn truncated() -> Error {
    Error::Syntax("a length points past the end")
}

/// A short string holds 255 octets. Longer ones, which only texts we write ourselves can be, are cut at a character.
#[inline]
pub(crate) fn put_short_str(out: &mut Vec<u8>, text: &str) {
    let mut len = text.len().min(255);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    // `len` fits: it is at most 255.
    out.push(len as u8);
    out.extend_from_slice(&text.as_bytes()[..len]);
}

/// Appends at most 255 octets with their number in front.
pub(crate) fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len().min(255);
    // `len` fits: it is at most 255.
    out.push(len as u8);
    out.extend_from_slice(&bytes[..len]);
}

#[inline]
pub(crate) fn put_long_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing longer than 4 GiB - 1 fits into a frame, let alone through frame_max; cutting keeps the bytes well-formed.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes[..len as usize]);
}
