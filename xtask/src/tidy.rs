//! `cargo xtask tidy`: what the project asks of its own source, checked. It is also a test, so `cargo test` says the
//! same as CI. Each check is a function from the tree to findings, and has a test that shows that it can fail.

mod architecture;
mod examples;
mod layers;
mod sizes;
mod source;
mod wording;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use source::Source;

/// Checks the whole tree, prints every finding, and fails if there is one.
pub fn run() -> Result<()> {
    let tree = Tree::read(&crate::root())?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} found; each line above says where and what to do", findings.len());
    }
    println!("tidy: nothing to put right in {} files", tree.files.len());
    Ok(())
}

/// Every check, in the order in which their findings are worth reading.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = layers::arrows(tree);
    findings.extend(layers::names(tree));
    findings.extend(layers::broker_stays_pure(tree));
    findings.extend(layers::wire_has_no_runtime(tree));
    findings.extend(sizes::files(tree));
    findings.extend(sizes::functions(tree));
    findings.extend(architecture::code_map(tree));
    findings.extend(examples::public_items(tree));
    findings.extend(wording::markers(tree));
    findings.extend(wording::private_paths(tree));
    findings
}

/// One thing to put right: where it is, what is wrong and what to do about it.
#[derive(Debug, PartialEq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Finding { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// What the checks look at: every text file that is or could be committed, and the workspace's packages.
#[derive(Default)]
struct Tree {
    files: BTreeMap<String, String>,
    packages: Vec<Package>,
}

/// A member of the workspace. Dependencies of every kind count, so that a test can't smuggle in an arrow.
struct Package {
    name: String,
    /// Its directory from the repository's root, for example `crates/wire`.
    dir: String,
    dependencies: Vec<String>,
}

impl Tree {
    fn read(root: &Path) -> Result<Tree> {
        let listed =
            output(Command::new("git").current_dir(root).args(["ls-files", "-co", "--exclude-standard", "-z"]))?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A file may be listed and deleted; one that isn't UTF-8 isn't text.
            if let Ok(text) = fs::read_to_string(root.join(path)) {
                files.insert(path.to_string(), text);
            }
        }
        Ok(Tree { files, packages: packages(root)? })
    }

    fn rust(&self) -> impl Iterator<Item = Source<'_>> {
        self.files.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(path, text)| Source::new(path, text))
    }
}

/// Asks cargo instead of reading the manifests, because cargo knows about inheritance, renames and target sections.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let metadata = output(Command::new(crate::cargo()).current_dir(root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata printed bad JSON")?;
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    Ok(list(&metadata["packages"])
        .iter()
        .map(|package| {
            let manifest = text(&package["manifest_path"]);
            let dir = manifest.trim_start_matches(root).trim_start_matches('/').trim_end_matches("/Cargo.toml");
            Package {
                name: text(&package["name"]),
                dir: dir.to_string(),
                dependencies: list(&package["dependencies"]).iter().map(|d| text(&d["name"])).collect(),
            }
        })
        .collect())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("its output is not UTF-8")
}

#[cfg(test)]
impl Tree {
    /// A tree of a few files that exist only in a test.
    fn of(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Tree { files, packages: Vec::new() }
    }

    fn with_package(mut self, dir: &str, name: &str, dependencies: &[&str]) -> Tree {
        let dependencies = dependencies.iter().map(|name| name.to_string()).collect();
        self.packages.push(Package { name: name.to_string(), dir: dir.to_string(), dependencies });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let findings = check(&Tree::read(&crate::root()).unwrap());
        let report: String = findings.iter().map(|finding| format!("\n{finding}")).collect();
        assert!(findings.is_empty(), "{report}\n");
    }

    #[test]
    fn the_tree_is_not_empty() {
        let tree = Tree::read(&crate::root()).unwrap();
        assert!(tree.files.contains_key("crates/wire/src/lib.rs"));
        let broker = tree.packages.iter().find(|package| package.dir == "crates/broker").unwrap();
        assert!(broker.dependencies.iter().any(|name| name == "leveret-wire"));
    }
}
