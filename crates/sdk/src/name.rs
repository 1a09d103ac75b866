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

/// Asserts that a filter asks for these attributes only.
///
/// # Panics
/// If it asks for another one. In a `static` that is an error of the compiler.
pub(crate) const fn check_filter(filter: &str, known: &[&str]) {
    let (bytes, mut at) = (filter.as_bytes(), 0);
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at = string_end(bytes, at) + 1;
        } else if is_word(bytes[at]) && bytes[at] != b'-' {
            let end = word_end(bytes, at);
            let is_attributes = is_same(bytes, at, end, b"attributes");
            at = end;
            if is_attributes && at < bytes.len() && matches!(bytes[at], b'.' | b':') {
                at += 1;
                let is_quoted = at < bytes.len() && bytes[at] == b'"';
                let (begin, end) = if is_quoted { (at + 1, string_end(bytes, at)) } else { (at, word_end(bytes, at)) };
                assert!(
                    is_any(bytes, begin, end, known),
                    "the filter asks for an attribute that the topic has not: see Topic::attributes"
                );
                at = if is_quoted { end + 1 } else { end };
            }
        } else {
            at += 1;
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

const fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_word(bytes[at]) {
        at += 1;
    }
    at
}

/// The place of the quote that ends the string which begins here. Without one the filter is not valid, as its engine will say.
const fn string_end(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    if at < bytes.len() { at } else { bytes.len() }
}

const fn is_any(bytes: &[u8], begin: usize, end: usize, known: &[&str]) -> bool {
    let mut number = 0;
    while number < known.len() {
        if is_same(bytes, begin, end, known[number].as_bytes()) {
            return true;
        }
        number += 1;
    }
    false
}

const fn is_same(bytes: &[u8], begin: usize, end: usize, other: &[u8]) -> bool {
    let mut at = begin;
    while at < end && at - begin < other.len() && bytes[at] == other[at - begin] {
        at += 1;
    }
    at == end && end - begin == other.len()
}

#[cfg(test)]
mod tests {
    use super::{check, check_filter};
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

    #[test]
    fn a_filter_asks_for_attributes_that_are_there() {
        let is_valid = |filter: &str| {
            let filter = filter.to_string();
            catch_unwind(move || check_filter(&filter, &["plan", "iana.org/tag"])).is_ok()
        };
        let good = [
            r#"attributes.plan = "attributes.other""#,
            r#"NOT attributes:plan AND hasPrefix(attributes.plan, "a\"b attributes:c")"#,
            r#"attributes."iana.org/tag" = "en" OR properties.type = "attributes""#,
            "",
        ];
        assert_eq!(good.map(is_valid), [true; 4]);
        let bad = ["attributes:plans", "attributes:pla", r#"attributes."plan " = "x""#, "attributes.", "-attributes:x"];
        assert_eq!(bad.map(is_valid), [false; 5]);
    }
}
