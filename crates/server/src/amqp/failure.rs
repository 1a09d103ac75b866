//! Refusals on their way to the client: the broker's error with the method that caused it.

use leveret_broker::{Error, Scope};
use leveret_wire::method::reply_code;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Why a channel or a connection is closed by the server.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) scope: Scope,
    pub(super) code: u16,
    /// `NAME - explanation`, at most 255 bytes.
    pub(super) text: String,
    /// Class and method id of what failed; zeros if it was no method.
    pub(super) method: (u16, u16),
}

impl Failure {
    /// A broker's refusal of `method`.
    pub(super) fn new(error: Error, method: (u16, u16)) -> Failure {
        let text = format!("{} - {}", reply_code::name(error.code), error.text);
        Failure { scope: error.scope, code: error.code, text: cut(text), method }
    }

    /// A violation of the protocol, which ends the connection.
    pub(super) fn connection(code: u16, text: impl Into<String>, method: (u16, u16)) -> Failure {
        Failure::new(Error::connection(code, text), method)
    }

    /// Bytes that are not AMQP.
    pub(super) fn wire(error: leveret_wire::Error) -> Failure {
        let method = match error {
            leveret_wire::Error::UnknownMethod { class_id, method_id } => (class_id, method_id),
            _ => (0, 0),
        };
        Failure { scope: Scope::Connection, code: error.reply_code(), text: cut(error.reply_text()), method }
    }
}

/// A short string has at most 255 bytes; a longer text ends in dots, as RabbitMQ's does.
fn cut(mut text: String) -> String {
    if text.len() > 255 {
        let end = (0..=252).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Turns a panic of a connection's task into the end of that connection, so that what it holds in the broker is given
/// back as with any other end. There should be none; a defect must not cost the other connections their messages.
pub(super) async fn contain(serve: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let mut serve = pin!(serve);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| serve.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err(io::Error::other("a defect in the broker ended it; the panic is in the log"))),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let error = contain(async { panic!("on purpose") }).await.expect_err("it panicked");
        assert_eq!(error.to_string(), "a defect in the broker ended it; the panic is in the log");
        contain(async { Ok(()) }).await.expect("it did not panic");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = Failure::connection(502, "\u{e9}".repeat(200), (0, 0)).text;
        assert!(text.len() <= 255 && text.ends_with("\u{e9}..."), "{text}");
    }
}
