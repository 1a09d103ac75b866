//! From a filter's text to tests and the steps that join them.
//!
//! ```text
//! condition  = term { "AND" term } | term { "OR" term }
//! term       = { "NOT" | "-" } ( "(" condition ")" | test )
//! test       = "attributes" ":" key | "properties" ":" property
//!            | field ( "=" | "!=" ) string | field ( "<" | "<=" | ">" | ">=" ) integer
//!            | "hasPrefix" "(" field "," string ")"
//! field      = "attributes" "." key | "properties" "." property
//! key        = word | string
//! ```

use super::datum::Property;
use super::{Bits, Comparison, Filter, FilterError, Step, Test};

/// What tests there are, and how they are joined.
pub(super) struct Parsed {
    pub(super) tests: Vec<(Field, Test)>,
    pub(super) steps: Vec<Step>,
}

/// What a test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Header(Box<str>),
    Property(Property),
}

/// Tests that a text can hold: the shortest are `attributes:a`, joined by ` OR `. Each needs a bit.
const _: () = assert!((Filter::MAX_BYTES + " OR ".len()) / "attributes:a OR ".len() <= Bits::BITS as usize);

/// The program's stack holds one truth for each open parenthesis, and two more.
const _: () = assert!(Filter::MAX_NESTING + 2 <= Bits::BITS as usize);

/// Characters of an unexpected word that an error shows.
const SHOWN: usize = 32;

pub(super) fn parse(text: &str) -> Result<Parsed, FilterError> {
    if text.len() > Filter::MAX_BYTES {
        return Err(FilterError {
            position: Filter::MAX_BYTES,
            expected: "the end, as a filter has at most 1024 bytes,",
            found: format!("{} more", text.len() - Filter::MAX_BYTES),
        });
    }
    let mut parser = Parser { text, at: 0, parsed: Parsed { tests: Vec::new(), steps: Vec::new() } };
    parser.condition(0)?;
    match parser.rest() {
        "" => Ok(parser.parsed),
        _ => Err(parser.expected("'AND', 'OR' or the end")),
    }
}

/// A text and how far it has been read. Every method skips white space before what it reads.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    parsed: Parsed,
}

type Result<T, E = FilterError> = std::result::Result<T, E>;

impl<'a> Parser<'a> {
    fn condition(&mut self, depth: usize) -> Result<()> {
        self.term(depth)?;
        let mut joint = None;
        loop {
            let next = match self.word() {
                "AND" => Step::And,
                "OR" => Step::Or,
                _ => return Ok(()),
            };
            match (joint, next) {
                (Some(Step::And), Step::Or) => {
                    return Err(self.expected("'AND', or parentheses around what AND joins,"));
                }
                (Some(Step::Or), Step::And) => {
                    return Err(self.expected("'OR', or parentheses around what OR joins,"));
                }
                _ => joint = Some(next),
            }
            self.at += self.word().len();
            self.term(depth)?;
            self.parsed.steps.push(next);
        }
    }

    fn term(&mut self, depth: usize) -> Result<()> {
        let mut negated = false;
        while self.take("-") || self.take_word("NOT") {
            negated = !negated;
        }
        if self.rest().starts_with('(') {
            if depth == Filter::MAX_NESTING {
                return Err(self.expected("parentheses at most 32 deep"));
            }
            self.at += 1;
            self.condition(depth + 1)?;
            if !self.take(")") {
                return Err(self.expected("'AND', 'OR' or ')'"));
            }
        } else {
            self.test()?;
        }
        if negated {
            self.negate();
        }
        Ok(())
    }

    /// Negates what was read last, whose last step is its outermost one.
    fn negate(&mut self) {
        match self.parsed.steps.last() {
            Some(Step::Not) => drop(self.parsed.steps.pop()),
            _ => self.parsed.steps.push(Step::Not),
        }
    }

    fn test(&mut self) -> Result<()> {
        if self.take_word("hasPrefix") {
            self.take_or("(", "'('")?;
            let field = self.field()?;
            self.take_or(",", "','")?;
            let text = self.string("a string in double quotes")?;
            self.take_or(")", "')'")?;
            self.push(field, Test::Prefix(text));
            return Ok(());
        }
        let source = self.source("'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '('")?;
        if self.take(":") {
            let field = self.name(source)?;
            self.push(field, Test::Has);
            return Ok(());
        }
        self.take_or(".", "':' or '.'")?;
        let field = self.name(source)?;
        self.operation(field)
    }

    /// An operator and what is on its right.
    fn operation(&mut self, field: Field) -> Result<()> {
        if self.take("=") {
            let text = self.string("a string in double quotes")?;
            self.push(field, Test::Equals(text));
            return Ok(());
        }
        if self.take("!=") {
            let text = self.string("a string in double quotes")?;
            self.push(field, Test::Equals(text));
            self.negate();
            return Ok(());
        }
        if matches!(field, Field::Property(property) if !property.is_integer()) {
            return Err(self.expected("'=' or '!='"));
        }
        // The longer ones first, as the others begin them.
        let all = [Comparison::AtMost, Comparison::AtLeast, Comparison::Less, Comparison::Greater];
        let Some(comparison) = all.into_iter().find(|comparison| self.take(comparison.symbol())) else {
            return Err(self.expected("'=', '!=', '<', '<=', '>' or '>='"));
        };
        let number = self.integer()?;
        self.push(field, Test::Compare(comparison, number));
        Ok(())
    }

    fn push(&mut self, field: Field, test: Test) {
        // In range: so many tests need more bytes than a filter may have.
        self.parsed.steps.push(Step::Test(self.parsed.tests.len() as u8));
        self.parsed.tests.push((field, test));
    }

    fn field(&mut self) -> Result<Field> {
        let source = self.source("'attributes' or 'properties'")?;
        self.take_or(".", "'.'")?;
        self.name(source)
    }

    fn source(&mut self, expected: &'static str) -> Result<Source> {
        match () {
            () if self.take_word("attributes") => Ok(Source::Attributes),
            () if self.take_word("properties") => Ok(Source::Properties),
            () => Err(self.expected(expected)),
        }
    }

    fn name(&mut self, source: Source) -> Result<Field> {
        let word = self.word();
        if source == Source::Properties {
            let expected = "the name of a property, such as type or message_id,";
            let property = Property::from_name(word).ok_or_else(|| self.expected(expected))?;
            self.at += word.len();
            return Ok(Field::Property(property));
        }
        if word.is_empty() {
            return Ok(Field::Header(self.string("a name of letters, digits, '_' and '-', or one in double quotes,")?));
        }
        self.at += word.len();
        Ok(Field::Header(word.into()))
    }

    /// An integer that a header can hold, whatever its width.
    fn integer(&mut self) -> Result<i128> {
        let word = self.word();
        match word.parse::<i128>() {
            Ok(number) if (i64::MIN.into()..=u64::MAX.into()).contains(&number) => {
                self.at += word.len();
                Ok(number)
            }
            _ => Err(self.expected("an integer of at most 64 bits")),
        }
    }

    fn string(&mut self, expected: &'static str) -> Result<Box<str>> {
        if !self.take("\"") {
            return Err(self.expected(expected));
        }
        let mut string = String::new();
        loop {
            // Not `rest`: white space belongs to the string.
            let Some(next) = self.text[self.at..].chars().next() else {
                return Err(self.expected("'\"' at the end of the string"));
            };
            match next {
                '"' => {
                    self.at += 1;
                    return Ok(string.into());
                }
                '\\' => string.push(self.escape()?),
                next if next.is_ascii_control() => {
                    return Err(self.unexpected("an escape such as \\n or \\x00 for a control character"));
                }
                next => {
                    self.at += next.len_utf8();
                    string.push(next);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let rest = &self.text[self.at + 1..];
        let plain = |character| Some((1, character));
        let digits = |skip: usize, length: usize, radix| {
            let digits = rest.get(skip..skip + length)?;
            let digits = Some(digits).filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))?;
            // No surrogates and nothing past the end of Unicode.
            Some((skip + length, char::from_u32(u32::from_str_radix(digits, radix).ok()?)?))
        };
        let read = match rest.chars().next() {
            Some(same @ ('"' | '\'' | '\\' | '?' | '`')) => plain(same),
            Some('a') => plain('\x07'),
            Some('b') => plain('\x08'),
            Some('f') => plain('\x0c'),
            Some('n') => plain('\n'),
            Some('r') => plain('\r'),
            Some('t') => plain('\t'),
            Some('v') => plain('\x0b'),
            Some('x' | 'X') => digits(1, 2, 16),
            Some('u') => digits(1, 4, 16),
            Some('U') => digits(1, 8, 16),
            Some('0'..='3') => digits(0, 3, 8),
            _ => None,
        };
        let (length, character) = read.ok_or_else(|| {
            self.unexpected("one of the escapes \\\" \\\\ \\n \\r \\t \\xHH \\uHHHH \\UHHHHHHHH and octal \\OOO")
        })?;
        self.at += 1 + length;
        Ok(character)
    }

    /// What is left behind white space.
    fn rest(&mut self) -> &'a str {
        self.at = self.text.len() - self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']).len();
        &self.text[self.at..]
    }

    /// The word that is next; it is not taken. Empty if something else is.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.bytes().take_while(|byte| is_word(*byte)).count()]
    }

    fn take_word(&mut self, word: &str) -> bool {
        let taken = self.word() == word;
        self.at += if taken { word.len() } else { 0 };
        taken
    }

    fn take(&mut self, symbol: &str) -> bool {
        let taken = self.rest().starts_with(symbol);
        self.at += if taken { symbol.len() } else { 0 };
        taken
    }

    fn take_or(&mut self, symbol: &str, expected: &'static str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// The error for what is next behind white space.
    fn expected(&mut self, expected: &'static str) -> FilterError {
        self.rest();
        self.unexpected(expected)
    }

    /// The error for what is next.
    fn unexpected(&self, expected: &'static str) -> FilterError {
        let rest = &self.text[self.at..];
        let word = rest.bytes().take(SHOWN).take_while(|byte| is_word(*byte)).count();
        let found = match rest.chars().next() {
            None => "the end".to_string(),
            Some(_) if word > 0 => format!("'{}'", &rest[..word]),
            // An escape as a whole, as far as it can be seen.
            Some('\\') => format!("'{}'", rest.chars().take(2).map(plain).collect::<String>()),
            Some(other) => format!("'{}'", plain(other)),
        };
        FilterError { position: self.at, expected, found }
    }
}

/// Where a name is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Attributes,
    Properties,
}

/// Part of a name that needs no quotes (Pub/Sub's rule).
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A character that is safe to print.
fn plain(character: char) -> String {
    if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
}
