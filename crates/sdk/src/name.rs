//! Names of topics and subscriptions: part of the names of exchanges and queues, in every engine.

/// The most bytes of a name: with the longest names a queue of dead letters has one of 134, and AMQP allows 255.
pub(crate) const MAX: usize = 64;

/// Asserts that a name has 1 to 64 lowercase letters, digits, `-`, `_` and, if they are allowed, single dots inside.
///
/// # Panics
/// If it has not. In a `static` that is an error of the compiler.
pub(crate) const fn check(name: &str, dots: bool) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty(), "a name must not be empty");
    assert!(bytes.len() <= MAX, "a name must have at most 64 bytes");
    let mut at = 0;
    let mut before = b'.';
    while at < bytes.len() {
        let byte = bytes[at];
        let is_word = byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        assert!(
            is_word || dots && byte == b'.',
            "a name has lowercase letters, digits, '-' and '_' only; that of a topic may have dots"
        );
        assert!(byte != b'.' || before != b'.', "dots in a topic's name stand between words");
        before = byte;
        at += 1;
    }
    assert!(before != b'.', "dots in a topic's name stand between words");
}

#[cfg(test)]
mod tests {
    use super::check;
    use std::panic::catch_unwind;

    #[test]
    fn names_are_words_and_those_of_topics_may_have_dots() {
        let is_valid = |name: &str, dots| {
            let name = name.to_string();
            catch_unwind(move || check(&name, dots)).is_ok()
        };
        let topics = ["a", "orders", "orders.created-v2", "a_1.b"];
        assert!(topics.iter().all(|name| is_valid(name, true)));
        let bad = ["", "Orders", "a b", "a..b", ".a", "a.", "a/b", "ü", &"a".repeat(65)];
        assert!(!bad.iter().any(|name| is_valid(name, true)));
        assert!(is_valid("send-mail", false) && !is_valid("send.mail", false));
    }
}
