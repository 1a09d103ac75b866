//! The judges: which clients there are, what they need, and how each is started.

use std::path::PathBuf;
use std::process::Command;

use crate::Layout;

/// A language and the tools that its clients are installed and started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// Modules of `go.mod`, built with `go`.
    Go,
    /// Packages of `requirements.txt` in a virtual environment.
    Python,
    /// Packages of `package-lock.json`, installed with `npm ci`.
    Node,
    /// Jars of `pom.xml`, fetched with `mvn`, the scripts compiled with `javac`.
    Java,
    /// A cargo package with a lock file of its own, so that the clients stay out of Leveret's.
    Rust,
}

impl Language {
    /// All of them, the slowest to install first.
    pub const ALL: [Language; 5] = [Language::Rust, Language::Java, Language::Go, Language::Python, Language::Node];

    /// Its name on the command line and as a directory.
    pub fn name(self) -> &'static str {
        match self {
            Language::Go => "go",
            Language::Python => "python",
            Language::Node => "node",
            Language::Java => "java",
            Language::Rust => "rust",
        }
    }

    /// The programs that must be on the PATH.
    pub fn tools(self) -> &'static [&'static str] {
        match self {
            Language::Go => &["go"],
            Language::Python => &["python3"],
            Language::Node => &["node", "npm"],
            Language::Java => &["java", "javac", "mvn"],
            Language::Rust => &["cargo"],
        }
    }
}

/// What a judge's process prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Verdicts, as [`crate::verdict::Line`] reads them.
    Situations,
    /// The reference program's three messages, each with its timestamp.
    Reference,
    /// The output of `go test -v`, see [`crate::go_suites`].
    GoSuites,
    /// Verdicts of a tool on the management API; its script gets that address too, see [`crate::tools`].
    Tool,
    /// A report of Ginkgo's, see [`crate::rabbit_hole`].
    RabbitHole,
}

/// A client that judges brokers.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its name in reports, usually that of the client library.
    pub name: &'static str,
    /// Its language.
    pub language: Language,
    /// What it prints.
    pub kind: Kind,
    /// Its script, below the language's directory of sources.
    pub script: &'static str,
}

pub(crate) const fn client(name: &'static str, language: Language, kind: Kind, script: &'static str) -> Client {
    Client { name, language, kind, script }
}

/// Every judge. The suites of the Go clients take longest, so they come first.
pub const ALL: [Client; 11] = [
    client("go-suites", Language::Go, Kind::GoSuites, "not-applicable.txt"),
    client("amqp-client", Language::Java, Kind::Situations, "src/Judge.java"),
    client("pika-blocking", Language::Python, Kind::Situations, "pika_blocking.py"),
    client("pika-select", Language::Python, Kind::Situations, "pika_select.py"),
    client("py-amqp", Language::Python, Kind::Situations, "py_amqp.py"),
    client("amqp091-go", Language::Go, Kind::Situations, "judge/main.go"),
    client("amqplib", Language::Node, Kind::Situations, "judge.js"),
    client("lapin", Language::Rust, Kind::Situations, "src/bin/lapin.rs"),
    client("amqprs", Language::Rust, Kind::Situations, "src/bin/amqprs.rs"),
    client("celery", Language::Python, Kind::Situations, "celery_judge.py"),
    client("streadway-ping", Language::Go, Kind::Reference, "ping/main.go"),
];

impl Client {
    /// The command that judges the broker at `url`.
    pub fn command(&self, layout: &Layout, url: &str) -> Command {
        let installed = layout.installed(self.language.name());
        let script = layout.source(self.language.name()).join(self.script);
        let mut command = match self.language {
            Language::Go if self.kind == Kind::Reference => program(installed.join("bin/ping"), &[url, "3"]),
            Language::Go => program(installed.join("bin/judge"), &[url]),
            Language::Python => {
                let mut python = Command::new(installed.join("venv/bin/python"));
                python.arg("-B").arg(script).arg(url);
                python
            }
            Language::Node => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", installed.join("node_modules")).arg(script).arg(url);
                node
            }
            Language::Java => {
                let classes = format!("{}:{}/*", installed.join("classes").display(), installed.join("jars").display());
                program("java".into(), &["-cp", &classes, "Judge", url])
            }
            Language::Rust => program(installed.join("release").join(self.name), &[url]),
        };
        if self.kind == Kind::Situations && self.language != Language::Python {
            command.arg(layout.expectations());
        }
        command
    }
}

fn program(path: PathBuf, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments);
    command
}
