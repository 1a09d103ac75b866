//! One text for all ways to write the same condition.

use super::parse::{Field, is_word};
use super::{Step, Test};
use std::fmt;

/// The text of a program: `NOT` rather than `-`, `!=` where it can stand, no parentheses that change nothing.
///
/// # Panics
/// If the steps are no program: they come from the parser.
pub(super) fn text(tests: &[(Field, Test)], steps: &[Step]) -> String {
    let mut operands: Vec<(String, Step)> = Vec::new();
    for &step in steps {
        let mut pop = || operands.pop().expect("a step comes behind its operands");
        let text = match step {
            Step::Test(number) => {
                let (field, test) = &tests[number as usize];
                written(field, test, false)
            }
            Step::Not => match pop() {
                (_, Step::Test(number)) => {
                    let (field, test) = &tests[number as usize];
                    written(field, test, true)
                }
                (operand, _) => format!("NOT ({operand})"),
            },
            Step::And | Step::Or => {
                let (right, left) = (pop(), pop());
                let joint = if step == Step::And { "AND" } else { "OR" };
                format!("{} {joint} {}", grouped(left, step), grouped(right, step))
            }
        };
        operands.push((text, step));
    }
    operands.pop().expect("a filter has at least one test").0
}

/// In parentheses if it is joined in the other way.
fn grouped((operand, by): (String, Step), step: Step) -> String {
    match by {
        Step::And | Step::Or if by != step => format!("({operand})"),
        _ => operand,
    }
}

fn written(field: &Field, test: &Test, negated: bool) -> String {
    let not = if negated { "NOT " } else { "" };
    match (test, field) {
        (Test::Has, Field::Header(name)) => format!("{not}attributes:{}", Name(name)),
        (Test::Has, Field::Property(property)) => format!("{not}properties:{}", property.name()),
        (Test::Equals(text), _) if negated => format!("{field} != {}", Quoted(text)),
        (Test::Equals(text), _) => format!("{field} = {}", Quoted(text)),
        (Test::Prefix(text), _) => format!("{not}hasPrefix({field}, {})", Quoted(text)),
        (Test::Compare(comparison, number), _) => format!("{not}{field} {} {number}", comparison.symbol()),
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Header(name) => write!(f, "attributes.{}", Name(name)),
            Field::Property(property) => write!(f, "properties.{}", property.name()),
        }
    }
}

/// A header's name, in quotes if it needs them.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match !self.0.is_empty() && self.0.bytes().all(is_word) {
            true => f.write_str(self.0),
            false => Quoted(self.0).fmt(f),
        }
    }
}

/// A string literal.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                control if control.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(control))?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("\"")
    }
}
