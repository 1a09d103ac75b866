//! ARCHITECTURE.md is read before the code, so it must be short and true: its code map names every top-level module,
//! and nothing that doesn't exist.
//!
//! In the section `## Code map`, a heading ``### `crates/wire` `` begins a crate, and each name in backticks under it
//! that ends in `.rs` or `/` is a path, from the crate's `src/`, the crate's directory or the repository's root.

use std::collections::BTreeSet;

use super::{Finding, Tree};

const PAGE: &str = "ARCHITECTURE.md";
const MOST_LINES: usize = 200;

pub fn code_map(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.files.get(PAGE) else {
        return vec![Finding::new(PAGE, 1, "is missing; it is where a reader begins")];
    };
    let mut findings = Vec::new();
    let lines = page.lines().count();
    if lines > MOST_LINES {
        findings.push(Finding::new(PAGE, lines, format!("{lines} lines; {MOST_LINES} at most: leave out the how")));
    }
    let named = named(page);
    for name in &named {
        if !name.path.is_empty() && !exists(tree, name) {
            let what = format!("`{}` of {} does not exist; correct the map", name.path, name.dir);
            findings.push(Finding::new(PAGE, name.line, what));
        }
    }
    for (dir, module) in modules(tree) {
        if !named.iter().any(|name| name.dir == dir && name.module() == module) {
            let line = named.iter().find(|name| name.dir == dir).map_or(1, |name| name.line);
            let what = format!("the code map doesn't name `{module}` of {dir}; say in a line what it is for");
            findings.push(Finding::new(PAGE, line, what));
        }
    }
    findings
}

/// A path that the code map names under a crate; the crate's heading is its own empty path.
struct Named<'a> {
    dir: &'a str,
    path: &'a str,
    line: usize,
}

impl Named<'_> {
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

fn named(page: &str) -> Vec<Named<'_>> {
    let mut named = Vec::new();
    let mut in_map = false;
    let mut dir = "";
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("## ") {
            in_map = line.trim() == "## Code map";
            dir = "";
        } else if in_map && line.starts_with("### ") {
            dir = line.split('`').nth(1).unwrap_or_default();
            named.push(Named { dir, path: "", line: number + 1 });
        } else if in_map && !dir.is_empty() {
            let quoted = line.split('`').skip(1).step_by(2);
            let paths = quoted.filter(|text| text.ends_with(".rs") || text.ends_with('/'));
            named.extend(paths.map(|path| Named { dir, path, line: number + 1 }));
        }
    }
    named
}

fn exists(tree: &Tree, name: &Named<'_>) -> bool {
    let places = [format!("{}/src/{}", name.dir, name.path), format!("{}/{}", name.dir, name.path), name.path.into()];
    places.iter().any(|place| match place.ends_with('/') {
        true => tree.files.keys().any(|file| file.starts_with(place)),
        false => tree.files.contains_key(place),
    })
}

/// Every top-level module as (crate directory, module). A crate's root is not a module of it.
fn modules(tree: &Tree) -> BTreeSet<(&str, &str)> {
    let rust = tree.files.keys().filter(|path| path.ends_with(".rs"));
    rust.filter_map(|path| {
        let (dir, inside) = path.split_once("/src/")?;
        let is_member = dir == "xtask" || dir.strip_prefix("crates/").is_some_and(|name| !name.contains('/'));
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (is_member && !matches!(module, "lib" | "main")).then_some((dir, module))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str =
        "# A\n## Code map\n### `crates/wire`: bytes\n- `frame.rs`: frames\n- `method/`: methods\n## Next\n";

    fn check(page: &str, files: &[&str]) -> Vec<String> {
        let mut tree: Vec<(&str, &str)> = files.iter().map(|path| (*path, "")).collect();
        tree.push((PAGE, page));
        code_map(&Tree::of(&tree)).iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_true_map_passes() {
        let files = ["crates/wire/src/lib.rs", "crates/wire/src/frame.rs", "crates/wire/src/method/basic.rs"];
        assert!(check(MAP, &files).is_empty());
        let files = ["crates/wire/src/frame.rs", "crates/wire/src/method.rs", "crates/wire/src/method/basic.rs"];
        assert!(check(MAP, &files).is_empty());
    }

    #[test]
    fn a_module_that_is_not_named_is_found() {
        let files = ["crates/wire/src/frame.rs", "crates/wire/src/method/basic.rs", "crates/wire/src/table.rs"];
        let found = check(MAP, &files);
        assert!(found.len() == 1 && found[0].contains("`table` of crates/wire"), "{found:?}");
        assert_eq!(check(MAP, &[&files[..2], &["xtask/src/tidy.rs"]].concat()).len(), 1);
    }

    #[test]
    fn a_name_without_a_module_is_found_at_its_line() {
        let found = check(MAP, &["crates/wire/src/frame.rs"]);
        assert!(found.len() == 1 && found[0].starts_with("ARCHITECTURE.md:5: `method/`"), "{found:?}");
    }

    #[test]
    fn a_long_page_and_a_missing_page_are_found() {
        assert_eq!(check(&"a line\n".repeat(MOST_LINES + 1), &[]).len(), 1);
        assert_eq!(code_map(&Tree::default()).len(), 1);
    }
}
