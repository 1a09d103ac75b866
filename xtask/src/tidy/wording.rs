//! Words that must not be committed. They are written in two halves here, so that this file may be.

use super::source::{line_of, words};
use super::{Finding, Tree};

/// Notes to oneself and bodies that aren't there.
const MARKERS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("unimplem", "ented!"),
    concat!("to", "do!"),
];

/// Where one person's checkout happens to be.
const PRIVATE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/tmp/", "target-")];

/// Source holds what is done; what is still to do is in the issues.
pub fn markers(tree: &Tree) -> Vec<Finding> {
    let source = tree.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    source
        .flat_map(|(path, text)| {
            let hits = MARKERS.iter().flat_map(move |word| words(text, word).into_iter().map(move |at| (at, word)));
            hits.map(move |(at, word)| {
                Finding::new(path, line_of(text, at), format!("`{word}`: do it, or open an issue"))
            })
        })
        .collect()
}

pub fn private_paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        for (at, found) in PRIVATE_PATHS.iter().flat_map(|private| text.match_indices(private)) {
            let what = format!("`{found}` exists on one machine only; use a path inside the repository");
            findings.push(Finding::new(path, line_of(text, at), what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_is_found_at_its_line() {
        for marker in MARKERS {
            let text = format!("fn a() {{\n    {marker}()\n}}\n");
            let found = markers(&Tree::of(&[("crates/wire/src/a.rs", &text)]));
            assert_eq!(found.len(), 1, "{marker}");
            assert_eq!(found[0].line, 2);
        }
        let methods = concat!("to", "dos, ", "XX", "XX");
        assert!(markers(&Tree::of(&[("crates/wire/src/a.rs", methods)])).is_empty());
    }

    #[test]
    fn private_paths_are_found_in_any_text() {
        for private in PRIVATE_PATHS {
            let text = format!("see\n{private}main");
            assert_eq!(private_paths(&Tree::of(&[("docs/a.md", &text)]))[0].line, 2);
        }
    }
}
