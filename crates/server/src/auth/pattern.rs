//! Patterns of names in permissions: RabbitMQ's regular expressions, which match anywhere in a name.

use fancy_regex::{Regex, RegexBuilder};
use std::fmt;

/// Bytes of a pattern, what it may become when it is compiled, and what matching may remember.
const PATTERN_MAX: usize = 2048;
const COMPILED_MAX: usize = 256 * 1024;
const REMEMBERED_MAX: usize = 256 * 1024;

/// Steps after which a pattern with look-around or back-references is given up.
const STEPS_MAX: usize = 100_000;

/// A regular expression of names. It matches anywhere in a name unless it says `^` or `$`; an empty one matches no name.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Everything,
    Nothing,
    Some(Box<Regex>),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.len() > PATTERN_MAX {
            return Err(format!("it has {} bytes, and {PATTERN_MAX} are allowed", text.len()));
        }
        let kind = match text {
            // RabbitMQ reads the first as the second.
            "" | "^$" => Kind::Nothing,
            ".*" => Kind::Everything,
            _ => {
                let mut builder = RegexBuilder::new(text);
                builder.backtrack_limit(STEPS_MAX);
                builder.delegate_size_limit(COMPILED_MAX).delegate_dfa_size_limit(REMEMBERED_MAX);
                Kind::Some(Box::new(builder.build().map_err(|error| error.to_string())?))
            }
        };
        Ok(Pattern { text: text.into(), kind })
    }

    /// `.*`
    pub fn everything() -> Pattern {
        Pattern { text: ".*".into(), kind: Kind::Everything }
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches. What takes too many steps doesn't.
    pub fn matches(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Everything => true,
            Kind::Nothing => name.is_empty(),
            Kind::Some(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// A name as a pattern that matches it alone.
pub(super) fn escape(name: &str) -> String {
    fancy_regex::escape(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).expect("valid").matches(name)
    }

    #[test]
    fn patterns_match_anywhere_and_empty_ones_nothing() {
        assert!(matches("mail", "my-mail-queue") && !matches("^mail", "my-mail-queue"));
        assert!(matches(".*", "") && matches(".*", "x"));
        assert!(!matches("", "x") && !matches("^$", "x"));
    }

    #[test]
    fn what_rabbitmqs_patterns_can_say() {
        assert!(matches(r"^(?!amq\.).*", "orders") && !matches(r"^(?!amq\.).*", "amq.topic"));
        assert!(matches(r"^(a|b)-\1$", "a-a") && !matches(r"^(a|b)-\1$", "a-b"));
    }

    #[test]
    fn what_is_no_pattern_or_too_much_is_refused() {
        for text in ["*", "(", r"(\w{100}){100}", &"a".repeat(3000)] {
            Pattern::new(text).expect_err("refused");
        }
        // Exponential for a naive matcher.
        assert!(!matches(r"^(a|a|aa)+(?=b)\1$", &"a".repeat(200)));
    }
}
