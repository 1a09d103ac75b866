//! Traces that go on from a message to those that its handler publishes: the headers `traceparent` and `tracestate` of W3C's Trace
//! Context, <https://www.w3.org/TR/trace-context/#trace-context-http-headers-format>.

#[cfg(feature = "opentelemetry")]
mod otel;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tracing::Span;
use uuid::Uuid;

/// The most bytes of a `tracestate` that goes on: as many as the standard asks for.
const MAX_STATE: usize = 512;

tokio::task_local! {
    static CURRENT: Parent;
}

/// Who has caused something: a trace, and a span of it. Its text is a `traceparent`.
///
/// ```
/// use leveret::Parent;
///
/// let parent: Parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let next = parent.clone().child();
/// assert_eq!(next.to_string()[..36], parent.to_string()[..36], "the trace is the same, its span is another");
/// # Ok::<(), leveret::NotATraceparent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent(
    /// All messages have room for one, and few have one.
    Arc<Cause>,
);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause {
    trace: u128,
    span: u64,
    flags: u8,
    /// What other systems have to say of the trace.
    state: Option<Box<str>>,
}

impl Parent {
    /// The root of a new trace, which is sampled.
    pub fn new() -> Parent {
        Parent::of(Cause { trace: Uuid::new_v4().as_u128(), span: new_span(), flags: 1, state: None })
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Parent {
        Parent::of(Cause { span: new_span(), ..Arc::unwrap_or_clone(self.0) })
    }

    /// With what other systems say of the trace: a `tracestate`. A text that is none, or has more than 512 bytes, is left out.
    ///
    /// ```
    /// use leveret::Parent;
    ///
    /// let parent = Parent::new().with_state("vendor=1");
    /// assert_eq!(parent.state(), Some("vendor=1"));
    /// ```
    #[must_use]
    pub fn with_state(self, state: &str) -> Parent {
        let is_valid =
            !state.is_empty() && state.len() <= MAX_STATE && state.bytes().all(|it| matches!(it, b' '..=b'~'));
        Parent::of(Cause { state: is_valid.then(|| state.into()), ..Arc::unwrap_or_clone(self.0) })
    }

    /// What other systems say of the trace, as the header `tracestate` has it.
    pub fn state(&self) -> Option<&str> {
        self.0.state.as_deref()
    }

    fn of(cause: Cause) -> Parent {
        Parent(Arc::new(cause))
    }

    /// Makes a new span, that of a handler, part of the trace.
    pub(crate) fn set_parent_of(&self, span: &Span) {
        #[cfg(feature = "opentelemetry")]
        otel::set_parent(span, self);
        #[cfg(not(feature = "opentelemetry"))]
        let _ = span;
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
        let Cause { trace, span, flags, .. } = &*self.0;
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

/// A text that is no `traceparent`.
///
/// ```
/// assert!("no trace".parse::<leveret::Parent>().is_err());
/// ```
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
            true => Ok(Parent::of(Cause { trace, span: span as u64, flags: flags as u8, state: None })),
            false => Err(NotATraceparent),
        }
    }
}

/// What causes what is published here: the current span, if OpenTelemetry has one; else the message that is being handled, if it is part
/// of a trace.
pub(crate) fn current() -> Option<Parent> {
    #[cfg(feature = "opentelemetry")]
    if let Some(parent) = otel::current() {
        return Some(parent);
    }
    CURRENT.try_with(Parent::clone).ok()
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
        assert_eq!((parent.clone().child().0.trace, parent.clone().child() == parent), (parent.0.trace, false));
        assert_eq!(format!("01{}-new", &text[2..]).parse(), Ok(parent.clone()));
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let bad =
            ["", "00", zero, &text[..54], &format!("{text}-new"), &text.to_uppercase(), &format!("ff{}", &text[2..])];
        bad.iter().for_each(|text| assert_eq!(text.parse::<Parent>(), Err(NotATraceparent), "{text}"));
    }

    #[test]
    fn a_tracestate_goes_on_unless_it_is_none() {
        let state = |state: &str| Parent::new().with_state(state).child().state().map(str::to_string);
        assert_eq!(state("vendor=1,other=2"), Some("vendor=1,other=2".to_string()));
        for none in ["", "ü=1", "a=\n", &"a".repeat(513)] {
            assert_eq!(state(none), None, "{none}");
        }
    }
}
