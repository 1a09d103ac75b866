//! Traces that go on from a message to those that its handler publishes: the `traceparent` header of W3C's Trace Context,
//! <https://www.w3.org/TR/trace-context/#traceparent-header>.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

tokio::task_local! {
    static CURRENT: Parent;
}

/// Who has caused something: a trace, and a span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Parent {
    /// The root of a new trace, which is sampled.
    pub fn new() -> Parent {
        Parent { trace: Uuid::new_v4().as_u128(), span: new_span(), flags: 1 }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Parent {
        Parent { span: new_span(), ..self }
    }
}

impl Default for Parent {
    fn default() -> Parent {
        Parent::new()
    }
}

fn new_span() -> u64 {
    // The lower half of a UUID is random but for its two upper bits, which say what it is.
    (Uuid::new_v4().as_u128() as u64) << 2 | 1
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATraceparent;

impl fmt::Display for NotATraceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, and no id is zero")
    }
}

impl std::error::Error for NotATraceparent {}

impl FromStr for Parent {
    type Err = NotATraceparent;

    /// Versions to come may have more at the end, which is left out.
    fn from_str(text: &str) -> Result<Parent, NotATraceparent> {
        let field = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|it| it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')));
            digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or(NotATraceparent)
        };
        let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let (version, trace, span, flags) = (field(0, 2)?, field(3, 35)?, field(36, 52)?, field(53, 55)?);
        let ends = text.len() == 55 || version > 0 && text.as_bytes().get(55) == Some(&b'-');
        match dashes && ends && version != 0xff && trace != 0 && span != 0 {
            true => Ok(Parent { trace, span: span as u64, flags: flags as u8 }),
            false => Err(NotATraceparent),
        }
    }
}

/// What causes what is published here: the message that is being handled, if it is part of a trace.
pub fn current() -> Option<Parent> {
    CURRENT.try_with(|current| *current).ok()
}

/// Does something that this has caused.
pub(crate) fn within<R>(cause: Option<Parent>, work: impl FnOnce() -> R) -> R {
    match cause {
        None => work(),
        Some(cause) => CURRENT.sync_scope(cause, work),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: Parent = text.parse().expect("it is W3C's example");
        assert_eq!(parent.to_string(), text);
        assert_eq!((parent.child().trace, parent.child() == parent), (parent.trace, false));
        assert_eq!(format!("01{}-new", &text[2..]).parse(), Ok(parent));
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let bad =
            ["", "00", zero, &text[..54], &format!("{text}-new"), &text.to_uppercase(), &format!("ff{}", &text[2..])];
        bad.iter().for_each(|text| assert_eq!(text.parse::<Parent>(), Err(NotATraceparent), "{text}"));
    }
}
