//! Size ratchets: what is long today may stay if it is listed, and may only become shorter.

use std::collections::BTreeMap;

use super::source::Function;
use super::{Finding, Tree};

const FILE_P95: usize = 500;
const FILE_MOST: usize = 1000;
const FUNCTION_P95: usize = 40;
const FUNCTION_MOST: usize = 70;

/// Functions that are over the limit for a reason, one per line: `path::name length`. `#` begins a comment.
const RATCHET: &str = "xtask/tidy-ratchet.txt";

pub fn files(tree: &Tree) -> Vec<Finding> {
    let mut lengths: Vec<(usize, String)> = tree
        .rust()
        .filter(|source| !source.is_test() && !source.is_generated())
        .map(|source| (source.length(), source.path.to_string()))
        .collect();
    lengths.sort();
    let mut findings: Vec<Finding> = lengths
        .iter()
        .filter(|(length, _)| *length > FILE_MOST)
        .map(|(length, path)| {
            Finding::new(path, 1, format!("{length} lines without tests; split it: none may exceed {FILE_MOST}"))
        })
        .collect();
    findings.extend(too_long_a_tail(&lengths, FILE_P95, "files", |path| (path.clone(), 1)));
    findings
}

pub fn functions(tree: &Tree) -> Vec<Finding> {
    let mut all: Vec<(usize, (String, Function))> = Vec::new();
    for source in tree.rust().filter(|source| !source.is_test() && !source.is_generated()) {
        let functions = source.functions().into_iter();
        all.extend(functions.map(|function| (function.length, (source.path.to_string(), function))));
    }
    all.sort_by(|a, b| (a.0, &a.1.0, a.1.1.line).cmp(&(b.0, &b.1.0, b.1.1.line)));
    let mut findings = ratchet(tree, &all);
    // A flat match is a table, and a table's length is its subject's.
    all.retain(|(_, (_, function))| !function.flat_match);
    findings.extend(too_long_a_tail(&all, FUNCTION_P95, "functions", |(path, function)| (path.clone(), function.line)));
    findings
}

/// A finding if more than 5 % of `sorted` exceed `limit`; it names the longest, which are the ones to split.
fn too_long_a_tail<T>(
    sorted: &[(usize, T)],
    limit: usize,
    what: &str,
    place: impl Fn(&T) -> (String, usize),
) -> Option<Finding> {
    let over = sorted.iter().filter(|(length, _)| *length > limit).count();
    let allowed = sorted.len() - (sorted.len() * 95).div_ceil(100);
    if over <= allowed {
        return None;
    }
    let (_, longest) = sorted.last()?;
    let (path, line) = place(longest);
    let worst: Vec<String> = sorted
        .iter()
        .rev()
        .take(over.min(8))
        .map(|(length, of)| {
            let (path, line) = place(of);
            format!("{path}:{line} ({length})")
        })
        .collect();
    let what = format!(
        "{over} of {} {what} are over {limit} lines and {allowed} may be; split some of {}",
        sorted.len(),
        worst.join(", ")
    );
    Some(Finding::new(path, line, what))
}

fn ratchet(tree: &Tree, all: &[(usize, (String, Function))]) -> Vec<Finding> {
    let text = tree.files.get(RATCHET).map_or("", String::as_str);
    let (mut listed, mut findings) = entries(text);
    for (length, (path, function)) in all.iter().rev().filter(|(_, (_, function))| !function.flat_match) {
        let name = format!("{path}::{}", function.name);
        match listed.remove(&name) {
            Some((line, _)) if *length <= FUNCTION_MOST => {
                findings.push(Finding::new(RATCHET, line, format!("{name} is short enough now; remove the entry")));
            }
            Some((line, was)) if *length < was => {
                findings.push(Finding::new(RATCHET, line, format!("{name} shrank; lower its entry to {length}")));
            }
            Some((_, was)) if *length > was => {
                let what = format!("`{}` grew from {was} to {length} lines; it may only shrink", function.name);
                findings.push(Finding::new(path, function.line, what));
            }
            None if *length > FUNCTION_MOST => {
                let what = format!(
                    "`{}` has {length} lines; split it at a step that has a name ({FUNCTION_MOST} at most)",
                    function.name
                );
                findings.push(Finding::new(path, function.line, what));
            }
            _ => {}
        }
    }
    let unknown = listed.into_iter();
    findings.extend(unknown.map(|(name, (line, _))| {
        Finding::new(RATCHET, line, format!("there is no function {name} that needs an entry; remove it"))
    }));
    findings
}

/// The list as name -> (line, length), and a finding for each line that can't be read.
fn entries(text: &str) -> (BTreeMap<String, (usize, usize)>, Vec<Finding>) {
    let mut listed = BTreeMap::new();
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let entry = line.rsplit_once(' ').and_then(|(name, length)| Some((name.trim(), length.parse().ok()?)));
        match entry {
            _ if line.is_empty() => {}
            Some((name, length)) => {
                listed.insert(name.to_string(), (number + 1, length));
            }
            None => findings.push(Finding::new(RATCHET, number + 1, "write it as `path::function length`")),
        }
    }
    (listed, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function_of(length: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(length - 2))
    }

    /// Enough short functions for one long one to be within the 5 %.
    fn with_short_ones(long: &str) -> String {
        format!("{long}{}", "fn short() {}\n".repeat(30))
    }

    fn check(text: &str, ratchet: &str) -> Vec<String> {
        let tree = Tree::of(&[("crates/wire/src/a.rs", text), (RATCHET, ratchet)]);
        functions(&tree).iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_file_over_the_limit_is_found_unless_generated() {
        let text = "let x = 1;\n".repeat(FILE_MOST + 1);
        assert_eq!(files(&Tree::of(&[("crates/wire/src/a.rs", &text)])).len(), 2);
        let generated = format!("// @generated by `cargo xtask codegen`\n{text}");
        assert!(files(&Tree::of(&[("crates/wire/src/a.rs", &generated)])).is_empty());
        let tests = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert!(files(&Tree::of(&[("crates/wire/src/a.rs", &tests)])).is_empty());
    }

    #[test]
    fn one_file_in_twenty_may_exceed_the_95th_percentile() {
        let long = "x\n".repeat(FILE_P95 + 1);
        let names: Vec<String> = (0..20).map(|n| format!("crates/wire/src/m{n}.rs")).collect();
        let mut tree: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x\n")).collect();
        tree[3].1 = &long;
        assert!(files(&Tree::of(&tree)).is_empty());
        tree[4].1 = &long;
        assert_eq!(files(&Tree::of(&tree)).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_at_its_line() {
        let found = check(&with_short_ones(&format!("\n{}", function_of(71))), "");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/wire/src/a.rs:2: `long` has 71 lines"), "{found:?}");
        assert!(check(&with_short_ones(&function_of(70)), "").is_empty());
    }

    #[test]
    fn many_middling_functions_are_found() {
        assert_eq!(check(&function_of(41), "").len(), 1);
        assert!(check(&function_of(40), "").is_empty());
    }

    #[test]
    fn a_listed_function_may_only_shrink() {
        let entry = "# why\ncrates/wire/src/a.rs::long 80\n";
        assert!(check(&with_short_ones(&function_of(80)), entry).is_empty());
        for (length, expected) in [(81, "grew"), (79, "lower its entry to 79"), (70, "remove the entry")] {
            let found = check(&with_short_ones(&function_of(length)), entry);
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn an_entry_without_function_or_sense_is_found() {
        let short = with_short_ones("");
        assert!(check(&short, "crates/wire/src/a.rs::gone 80")[0].contains("remove it"));
        assert!(check(&short, "crates/wire/src/a.rs")[0].contains("write it as"));
    }
}
