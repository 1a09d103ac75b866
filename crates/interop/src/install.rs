//! Installing the clients with their own package managers, below target/interop. Versions and, where the package
//! manager keeps them, checksums are pinned by the lock files beside the scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Layout;
use crate::clients::Language;
use crate::process::{checked, exists};

/// Why the language's clients can't run here: the missing tool. `None` if all its tools are there.
pub fn missing_tool(language: Language) -> Option<String> {
    let tool = language.tools().iter().find(|tool| !exists(tool))?;
    Some(format!("{tool} is not installed"))
}

/// Installs and builds a language's clients, unless it was done before with the same lock files.
///
/// # Errors
/// What the package manager or compiler printed.
pub fn install(layout: &Layout, language: Language) -> Result<()> {
    let source = layout.source(language.name());
    let target = layout.installed(language.name());
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    let installed = match language {
        Language::Go => go(&source, &target),
        Language::Python => python(&source, &target).map(drop),
        Language::Node => node(&source, &target),
        Language::Java => java(&source, &target),
        Language::Rust => rust(&source, &target),
    };
    installed.with_context(|| format!("installing the {} clients", language.name()))
}

fn go(source: &Path, target: &Path) -> Result<()> {
    let bin = target.join("bin");
    fs::create_dir_all(&bin).context("cannot create the directory of the Go programs")?;
    // The separator at the end tells go that it is a directory.
    checked(Command::new("go").current_dir(source).args(["build", "-o"]).arg(bin.join("")).arg("./..."))?;
    Ok(())
}

/// Returns the interpreter that finds the packages.
pub(crate) fn python(source: &Path, target: &Path) -> Result<PathBuf> {
    let (venv, lock) = (target.join("venv"), source.join("requirements.txt"));
    once(target, &lock, || {
        checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--requirement",
        ]);
        checked(pip.arg(&lock))
    })?;
    Ok(venv.join("bin/python"))
}

fn node(source: &Path, target: &Path) -> Result<()> {
    let lock = source.join("package-lock.json");
    once(target, &lock, || {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), target.join(file)).with_context(|| format!("cannot copy {file}"))?;
        }
        checked(Command::new("npm").current_dir(target).args(["ci", "--no-audit", "--no-fund", "--silent"]))
    })
}

fn java(source: &Path, target: &Path) -> Result<()> {
    let (jars, classes, pom) = (target.join("jars"), target.join("classes"), source.join("pom.xml"));
    once(target, &pom, || {
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--strict-checksums", "--file"]).arg(&pom);
        maven.arg("dependency:copy-dependencies").arg(format!("-DoutputDirectory={}", jars.display()));
        // Maven leaves a target directory beside its pom unless it is told where else.
        checked(maven.arg(format!("-DbuildDirectory={}", target.join("maven").display())))
    })?;
    let mut compiler = Command::new("javac");
    compiler.arg("-cp").arg(jars.join("*")).arg("-d").arg(&classes);
    checked(compiler.args(files(&source.join("src"), "java")?))?;
    Ok(())
}

fn rust(source: &Path, target: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--locked", "--bins", "--manifest-path"]);
    // A target directory given by the environment is for Leveret's own crates.
    cargo.arg(source.join("Cargo.toml")).arg("--target-dir").arg(target).env_remove("CARGO_TARGET_DIR");
    checked(&mut cargo)?;
    Ok(())
}

/// A program from crates.io, with the versions that it was released with. It judges, so how fast it is does not matter.
pub(crate) fn crates_io(name: &str, version: &str, target: &Path) -> Result<()> {
    let binary = target.join("bin").join(name);
    let installed = Command::new(&binary).arg("--version").output();
    if installed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(version)) {
        return Ok(());
    }
    let mut cargo = Command::new("cargo");
    cargo.args([
        "install",
        name,
        "--version",
        version,
        "--locked",
        "--debug",
        "--no-default-features",
        "--quiet",
        "--root",
    ]);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo.arg(target).arg("--target-dir").arg(target.join("target")).env_remove("CARGO_TARGET_DIR");
    checked(&mut cargo)?;
    Ok(())
}

/// Runs `install` unless it has succeeded before with the same lock file.
fn once(target: &Path, lock: &Path, install: impl FnOnce() -> Result<String>) -> Result<()> {
    let stamp = target.join("installed");
    let wanted = fs::read(lock).with_context(|| format!("cannot read {}", lock.display()))?;
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    install()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The files of a directory with this extension, sorted.
fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    if found.is_empty() {
        bail!("no .{extension} file in {}", directory.display());
    }
    Ok(found)
}
