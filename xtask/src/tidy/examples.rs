//! What people add to their programs shows how it is used: each public type, trait, function, constant and macro of the SDK has an example
//! in its documentation, which the tests compile. Methods are covered by their type's, or have their own.

use super::{Finding, Tree};

const WHERE: &str = "crates/sdk/src/";
const ITEMS: [&str; 9] = [
    "pub struct ",
    "pub enum ",
    "pub trait ",
    "pub type ",
    "pub fn ",
    "pub async fn ",
    "pub const ",
    "pub static ",
    "macro_rules! ",
];

pub fn public_items(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files.iter().filter(|(path, _)| path.starts_with(WHERE) && path.ends_with(".rs")) {
        // An item begins in the first column; a macro is public if it says so.
        let (mut has_example, mut is_exported) = (false, false);
        for (number, line) in text.lines().enumerate() {
            if line.starts_with("///") {
                has_example |= line.contains("```");
                continue;
            }
            if line.starts_with("#[") {
                is_exported |= line.contains("macro_export");
                continue;
            }
            let item = ITEMS.iter().find(|item| line.starts_with(**item));
            if let Some(item) = item.filter(|item| !item.starts_with("macro") || is_exported)
                && !has_example
            {
                let name = line[item.len()..].split(|it: char| !it.is_alphanumeric() && it != '_').next();
                let what = format!("`{}` has no example; show in its documentation how it is used", name.unwrap_or(""));
                findings.push(Finding::new(path.as_str(), number + 1, what));
            }
            (has_example, is_exported) = (false, false);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_item_without_an_example_is_found() {
        let text = "/// One.\n///\n/// ```\n/// let _ = leveret::One;\n/// ```\n#[derive(Debug)]\npub struct One;\n\n/// Two.\n#[must_use]\npub fn two() {}\n\nimpl One {\n    pub fn three() {}\n}\nmacro_rules! four {}\n#[macro_export]\nmacro_rules! five {}\n";
        let findings =
            public_items(&Tree::of(&[("crates/sdk/src/one.rs", text), ("crates/wire/src/one.rs", "pub fn x() {}")]));
        let found: Vec<_> = findings.iter().map(|it| (it.path.as_str(), it.line)).collect();
        assert_eq!(found, [("crates/sdk/src/one.rs", 11), ("crates/sdk/src/one.rs", 18)]);
    }
}
