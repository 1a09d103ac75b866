//! Conditions on a message's headers and properties, as bindings and consumers have them (docs/filters.md).
//!
//! A filter is parsed once, into tests and a short program that joins what they say. A message's headers are walked once,
//! whatever the filter: each entry finds its tests by name and leaves a bit for each. Then the program runs over the
//! bits. So the work is bounded by the headers plus the filter's text, and nothing is allocated.

mod canonical;
mod datum;
mod parse;

use datum::{Datum, Property};
use leveret_wire::properties::Properties;
use leveret_wire::table::{Table, Value};
use std::fmt;
use std::hash::{Hash, Hasher};

/// A condition on a message, compiled. The syntax is that of Google Cloud Pub/Sub's subscription filters, on headers in
/// place of attributes, with a few additions.
///
/// ```
/// use leveret_broker::table::FieldTable;
/// use leveret_broker::{Filter, Properties};
///
/// let filter = Filter::parse(r#"attributes.region = "eu" AND (hasPrefix(attributes.kind, "order.") OR attributes.total >= 100)"#)?;
/// let headers = FieldTable::new().with("region", "eu").with("total", 250);
/// assert!(filter.matches(&Properties { headers: Some(headers.as_table()), ..Properties::EMPTY }));
/// assert!(!filter.matches(&Properties::EMPTY));
///
/// let error = Filter::parse("attributes.region foo").expect_err("an operator is missing");
/// assert_eq!(error.to_string(), "expected '=', '!=', '<', '<=', '>' or '>=' at byte 18, found 'foo'");
/// # Ok::<(), leveret_broker::FilterError>(())
/// ```
///
/// Filters are equal if their canonical texts are, which [`Filter::as_str`] gives.
#[derive(Clone)]
pub struct Filter {
    text: Box<str>,
    tests: Box<[Test]>,
    /// Headers by name, in order, with the tests of each.
    headers: Box<[(Box<str>, Bits)]>,
    properties: Box<[(Property, Bits)]>,
    steps: Box<[Step]>,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The byte of the text, from 0, at which something else was expected.
    pub position: usize,
    /// What could have stood there.
    pub expected: &'static str,
    /// What stands there: a word or a character in quotes, or `the end`.
    pub found: String,
}

/// A bit per test of a filter, or per header.
type Bits = u64;

/// What is asked of a header or property. All but `Has` are false where it has no text or is no integer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Has,
    Equals(Box<str>),
    Prefix(Box<str>),
    Compare(Comparison, i128),
}

/// An order between a message's integer and the filter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A step of the program, which works on a stack of truths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Pushes what the test of this number said.
    Test(u8),
    Not,
    And,
    Or,
}

impl Filter {
    /// Bytes that a filter's text may have. Pub/Sub allows 256.
    pub const MAX_BYTES: usize = 1024;

    /// How deep parentheses may be nested.
    pub const MAX_NESTING: usize = 32;

    /// The filter in the arguments of a binding or consumer, `x-filter`; or what is wrong with it.
    pub(crate) fn from_arguments(arguments: Table<'_>) -> Result<Option<Filter>, String> {
        let Some(value) = arguments.get("x-filter") else { return Ok(None) };
        let Value::LongString(_) = value else {
            return Err(format!("expected a string, received one of type '{}'", value.type_name()));
        };
        let text = value.as_str().ok_or("the value is not UTF-8")?;
        Filter::parse(text).map(Some).map_err(|error| error.to_string())
    }

    /// Compiles a text.
    ///
    /// # Errors
    /// A [`FilterError`] that names the first byte that does not fit, and what would.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let parse::Parsed { tests, steps } = parse::parse(text)?;
        let text = canonical::text(&tests, &steps).into();
        let (mut headers, mut properties) = (Vec::<(Box<str>, Bits)>::new(), Vec::new());
        let mut asked = Vec::with_capacity(tests.len());
        for (number, (field, test)) in tests.into_iter().enumerate() {
            match field {
                parse::Field::Property(property) => properties.push((property, 1 << number)),
                parse::Field::Header(name) => match headers.binary_search_by(|(key, _)| key.cmp(&name)) {
                    Ok(at) => headers[at].1 |= 1 << number,
                    Err(at) => headers.insert(at, (name, 1 << number)),
                },
            }
            asked.push(test);
        }
        Ok(Filter {
            text,
            tests: asked.into(),
            headers: headers.into(),
            properties: properties.into(),
            steps: steps.into(),
        })
    }

    /// Whether a message with these properties, headers among them, meets the condition.
    pub fn matches(&self, properties: &Properties<'_>) -> bool {
        let truths = self.truths(properties);
        let mut stack: Bits = 0;
        for step in &self.steps {
            stack = match step {
                Step::Test(number) => stack << 1 | truths >> number & 1,
                Step::Not => stack ^ 1,
                Step::And => stack >> 1 & (stack | !1),
                Step::Or => stack >> 1 | stack & 1,
            };
        }
        stack & 1 != 0
    }

    /// The canonical text. It has the same meaning as the one that was parsed, and may be longer than a filter may be.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tests that are true of a message.
    fn truths(&self, properties: &Properties<'_>) -> Bits {
        let mut truths = 0;
        for (property, tests) in &self.properties {
            if let Some(datum) = property.of(properties) {
                truths |= self.ask(*tests, &datum);
            }
        }
        let (mut missing, mut seen) = (self.headers.len(), 0);
        for (name, value) in properties.headers.unwrap_or_default() {
            if missing == 0 {
                break;
            }
            let Ok(at) = self.headers.binary_search_by(|(key, _)| (**key).cmp(name)) else { continue };
            // A name can occur more than once; its first entry is the header, here as everywhere.
            if seen >> at & 1 == 0 {
                seen |= 1 << at;
                missing -= 1;
                truths |= self.ask(self.headers[at].1, &Datum::from(value));
            }
        }
        truths
    }

    /// Which of these tests are true of a datum.
    fn ask(&self, mut tests: Bits, datum: &Datum<'_>) -> Bits {
        let mut truths = 0;
        while tests != 0 {
            let number = tests.trailing_zeros();
            truths |= Bits::from(self.tests[number as usize].is_true_of(datum)) << number;
            tests &= tests - 1;
        }
        truths
    }
}

impl Test {
    fn is_true_of(&self, datum: &Datum<'_>) -> bool {
        match (self, datum) {
            (Test::Has, _) => true,
            (Test::Equals(text), datum) => datum.with_text(|it| it == text.as_bytes()),
            (Test::Prefix(text), datum) => datum.with_text(|it| it.starts_with(text.as_bytes())),
            (Test::Compare(comparison, bound), Datum::Integer(number)) => comparison.holds(*number, *bound),
            (Test::Compare(..), _) => false,
        }
    }
}

impl Comparison {
    fn holds(self, number: i128, bound: i128) -> bool {
        match self {
            Comparison::Less => number < bound,
            Comparison::AtMost => number <= bound,
            Comparison::Greater => number > bound,
            Comparison::AtLeast => number >= bound,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::Greater => ">",
            Comparison::AtLeast => ">=",
        }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.text)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}, found {}", self.expected, self.position, self.found)
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
mod tests;
