//! Who may use what: the crates' arrows, names that say nothing, and what keeps the broker a plain library.

use super::source::{Source, identifier};
use super::{Finding, Package, Tree};

/// Names under which unrelated things gather.
const VAGUE: [&str; 6] = ["common", "types", "errors", "utils", "util", "helpers"];

/// Of wire, the broker uses values only (docs/adr/0001).
const WIRE_VALUES: [&str; 4] = ["properties", "table", "error", "Error"];

/// The arrows between the workspace's crates, of dependencies of every kind.
fn may_use(from: &str, to: &str) -> bool {
    matches!(
        (from, to),
        ("crates/broker", "crates/wire")
            | ("crates/server", "crates/wire" | "crates/broker")
            | ("crates/sdk", "crates/broker" | "crates/server")
            | ("crates/interop", _)
    )
}

const CRATES: [&str; 6] = ["crates/wire", "crates/broker", "crates/server", "crates/sdk", "crates/interop", "xtask"];

pub fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        if !CRATES.contains(&package.dir.as_str()) {
            let what = "is not a crate of ARCHITECTURE.md; earn it in an ADR and add its arrows to tidy/layers.rs";
            findings.push(in_manifest(tree, package, "name", what));
        }
        for other in tree.packages.iter().filter(|other| package.dependencies.contains(&other.name)) {
            if !may_use(&package.dir, &other.dir) {
                let what = format!("{} must not depend on {}; move the code to where it may", package.dir, other.dir);
                findings.push(in_manifest(tree, package, &other.name, &what));
            }
        }
    }
    findings
}

/// A finding at the line of the package's manifest that names `name`.
fn in_manifest(tree: &Tree, package: &Package, name: &str, what: &str) -> Finding {
    let path = format!("{}/Cargo.toml", package.dir);
    let text = tree.files.get(&path).map_or("", String::as_str);
    let line = text.lines().position(|line| line.starts_with(name)).map_or(1, |line| line + 1);
    Finding::new(path, line, what)
}

pub fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust() {
        let named = source.path.trim_end_matches(".rs").split('/').find(|name| VAGUE.contains(name));
        if let Some(name) = named {
            findings.push(Finding::new(source.path, 1, vague(name)));
        }
        for offset in source.words("mod") {
            let name = identifier(&source.code, offset + "mod ".len());
            if VAGUE.contains(&name) {
                findings.push(Finding::new(source.path, source.line_of(offset), vague(name)));
            }
        }
    }
    findings
}

fn vague(name: &str) -> String {
    format!("`{name}` says nothing about what is in it; name it after its subject, or move its parts to their users")
}

/// The broker reads no file, clock or socket outside the two modules made for it, so that simulation, tests and
/// production run the same code.
pub fn broker_stays_pure(tree: &Tree) -> Vec<Finding> {
    let mut findings = forbidden_crates(tree, "crates/broker", &["tokio", "serde", "serde_json"]);
    for source in tree.rust().filter(|source| source.path.starts_with("crates/broker/src/") && !source.is_test()) {
        let module = source.path.trim_start_matches("crates/broker/src/");
        if module != "disk.rs" && !module.starts_with("disk/") {
            findings.extend(forbid(&source, &["fs"], "go through the trait `Disk` of disk.rs"));
        }
        if module != "engine.rs" && !module.starts_with("engine/") {
            let clock = ["Instant::now", "SystemTime::now", "elapsed"];
            findings.extend(forbid(&source, &clock, "take `now` as an argument; only engine reads the clock"));
            findings.extend(forbid(&source, &["thread"], "threads belong to engine"));
        }
        findings.extend(forbid(&source, &["tokio"], "the broker has no runtime; async belongs to the server"));
        let serde = "the broker's types are not serializable; the server owns its JSON";
        findings.extend(forbid(&source, &["serde", "serde_json"], serde));
        findings.extend(wire_values_only(&source));
    }
    findings
}

pub fn wire_has_no_runtime(tree: &Tree) -> Vec<Finding> {
    let mut findings = forbidden_crates(tree, "crates/wire", &["tokio"]);
    for source in tree.rust().filter(|source| source.path.starts_with("crates/wire/src/")) {
        findings.extend(forbid(&source, &["tokio"], "wire does no IO; reading and writing belong to its users"));
    }
    findings
}

fn forbidden_crates(tree: &Tree, dir: &str, names: &[&str]) -> Vec<Finding> {
    let packages = tree.packages.iter().filter(|package| package.dir == dir);
    packages
        .flat_map(|package| {
            let used = names.iter().filter(|name| package.dependencies.iter().any(|used| used == *name));
            used.map(move |name| in_manifest(tree, package, name, &format!("{dir} must not depend on {name}")))
        })
        .collect()
}

fn forbid(source: &Source<'_>, forbidden: &[&str], advice: &str) -> Vec<Finding> {
    let hits = forbidden.iter().flat_map(|word| source.words(word).into_iter().map(move |offset| (offset, word)));
    hits.map(|(offset, word)| {
        Finding::new(source.path, source.line_of(offset), format!("`{word}` is not for this module: {advice}"))
    })
    .collect()
}

fn wire_values_only(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for offset in source.words("leveret_wire") {
        let after = &source.code[offset + "leveret_wire".len()..];
        for name in used(after).iter().filter(|name| !WIRE_VALUES.contains(&name.as_str())) {
            let what = format!("the broker uses wire's properties and tables only, not `leveret_wire::{name}`");
            findings.push(Finding::new(source.path, source.line_of(offset), what));
        }
    }
    findings
}

/// The first names behind a crate's: of `::a::b` it is `a`, of `::{a::b, c}` they are `a` and `c`. The crate as a
/// whole, as in `use leveret_wire as w;`, would hide what is used, so that is the name `*`.
fn used(after: &str) -> Vec<String> {
    let Some(path) = after.strip_prefix("::") else { return vec!["*".into()] };
    let Some(group) = path.strip_prefix('{') else {
        return vec![if path.starts_with('*') { "*".into() } else { identifier(path, 0).to_string() }];
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut at_start = true;
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            char if at_start && !char.is_whitespace() => {
                at_start = false;
                names.push(if char == '*' { "*".into() } else { identifier(group, at).to_string() });
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(module: &str, text: &str) -> Vec<String> {
        let path = format!("crates/broker/src/{module}");
        let findings = broker_stays_pure(&Tree::of(&[(&path, text)]));
        findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn an_arrow_the_wrong_way_is_found_in_the_manifest() {
        let manifest = "[package]\nname = \"leveret-wire\"\n[dev-dependencies]\nleveret-broker.workspace = true\n";
        let tree = Tree::of(&[("crates/wire/Cargo.toml", manifest)])
            .with_package("crates/wire", "leveret-wire", &["leveret-broker"])
            .with_package("crates/broker", "leveret-broker", &["leveret-wire"]);
        let findings = arrows(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("crates/wire/Cargo.toml", 4));
    }

    #[test]
    fn xtask_depends_on_none_and_a_new_crate_is_questioned() {
        let tree = Tree::default()
            .with_package("crates/wire", "leveret-wire", &[])
            .with_package("crates/extra", "leveret-extra", &[])
            .with_package("xtask", "xtask", &["leveret-wire"]);
        assert_eq!(arrows(&tree).len(), 2);
    }

    #[test]
    fn vague_names_are_found_as_files_directories_and_modules() {
        let tree = Tree::of(&[
            ("crates/wire/src/util.rs", ""),
            ("crates/server/src/common/a.rs", ""),
            ("crates/broker/src/lib.rs", "mod queue;\npub mod helpers {}\n"),
            ("crates/wire/src/error.rs", "mod typeset;"),
        ]);
        let found: Vec<String> = names(&tree).iter().map(|f| format!("{}:{}", f.path, f.line)).collect();
        assert_eq!(
            found,
            ["crates/broker/src/lib.rs:2", "crates/server/src/common/a.rs:1", "crates/wire/src/util.rs:1"]
        );
    }

    #[test]
    fn files_belong_to_disk() {
        assert_eq!(broker("queue.rs", "use std::{fs, io};").len(), 1);
        assert_eq!(broker("queue.rs", "\nlet f = std::fs::File::open(p);").len(), 1);
        assert!(broker("disk.rs", "use std::fs;").is_empty());
        assert!(broker("queue.rs", "// std::fs\n#[cfg(test)]\nmod tests { use std::fs; }").is_empty());
    }

    #[test]
    fn clock_and_threads_belong_to_engine() {
        for text in ["Instant::now()", "std::time::SystemTime::now()", "use std::thread;", "start.elapsed()"] {
            assert_eq!(broker("queue.rs", text).len(), 1, "{text}");
            assert!(broker("engine.rs", text).is_empty(), "{text}");
            assert!(broker("engine/wake.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn runtimes_and_serializers_stay_out() {
        assert_eq!(broker("queue.rs", "use tokio::sync::Notify;\n#[derive(serde::Serialize)]").len(), 2);
        let tree = Tree::of(&[("crates/wire/src/frame.rs", "use tokio::io;")])
            .with_package("crates/wire", "leveret-wire", &["tokio"])
            .with_package("crates/broker", "leveret-broker", &["serde"]);
        assert_eq!(wire_has_no_runtime(&tree).len(), 2);
        assert_eq!(broker_stays_pure(&tree).len(), 1);
    }

    #[test]
    fn of_wire_the_broker_uses_values_only() {
        assert!(broker("a.rs", "use leveret_wire::{properties::Properties, table::{self, Value}, Error};").is_empty());
        assert!(broker("a.rs", "leveret_wire::table::Value").is_empty());
        assert_eq!(broker("a.rs", "use leveret_wire::{table, frame::{a, b}};").len(), 1);
        assert_eq!(broker("a.rs", "leveret_wire::method::Method").len(), 1);
        assert_eq!(broker("a.rs", "use leveret_wire as wire;").len(), 1);
        assert_eq!(broker("a.rs", "use leveret_wire::*;").len(), 1);
    }
}
