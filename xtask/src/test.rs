//! `cargo xtask test`: everything that is checked before a change is merged, as a table of parts.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::browser;
use crate::parts::{self, Outcome, Part, Run};
use crate::readme;
use crate::servers::{Broker, in_path, rabbitmq_binary};
use crate::sim;

/// Each lane in the order in which its parts are cheapest to fail. Cargo builds three sets of artifacts, once each, and each
/// set in one lane: the lanes run side by side and don't wait for each other. Here is what is checked (clippy and docs
/// share it) and debug (unit).
const CHECKED: &[Part] = &[
    Part { name: "fmt", about: "the source is formatted", run: fmt },
    Part { name: "clippy", about: "no lint warns", run: clippy },
    Part { name: "codegen", about: "generated files are up to date", run: codegen },
    Part { name: "unit", about: "the crates' own tests, doc tests and tidy", run: unit },
    Part { name: "docs", about: "rustdoc has no warning", run: docs },
];

/// Release: the build, and everything that starts a process. The simulation comes first: it only computes, and so may the other
/// lane's compilers meanwhile; foreign clients have time limits of their own.
const RELEASED: &[Part] = &[
    Part { name: "build", about: "release builds of leveret, judge, crash and sdk", run: build },
    Part { name: "sim", about: "14 000 runs on a simulated disk that fails, and every mutant", run: simulation },
    Part { name: "readme", about: "the README's session prints what the README shows", run: readme_session },
    Part { name: "interop", about: "foreign clients against Leveret", run: interop },
    Part { name: "crash", about: "twenty times kill -9 under load, and what is left", run: crash },
    Part { name: "compare", about: "the same scripts on RabbitMQ beside it", run: compare },
    Part {
        name: "tools",
        about: "RabbitMQ's tools, Flower, Prometheus and a fuzzer on the management API",
        run: tools,
    },
    Part { name: "sdk", about: "the SDK over AMQP, beside Go and Python, and while everything is killed", run: sdk },
    Part { name: "browser", about: "the dashboard and the chat in Chromium", run: browser::run },
];

/// Features that are off unless a program asks for them.
const FEATURES: &str = "leveret/asyncapi,leveret/conformance,leveret/listen,leveret/opentelemetry";

/// What says the most in the least time.
const QUICK: [&str; 3] = ["fmt", "clippy", "unit"];

/// What `cargo xtask test` may be told.
#[derive(Args)]
pub struct TestArgs {
    /// Install packaged servers and runtimes that are missing (implied by CI=true)
    #[arg(long)]
    install: bool,
    /// Only fmt, clippy and unit
    #[arg(long, conflicts_with = "part")]
    quick: bool,
    /// Only these parts; an unknown name lists them
    part: Vec<String>,
}

pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let quick = QUICK.map(str::to_string);
    let only = if args.quick { &quick[..] } else { &args.part[..] };
    parts::run("test", &[CHECKED, RELEASED], only, args.install)
}

fn fmt(run: &Run) -> Result<Outcome> {
    need_component("rustfmt", "cargo-fmt")?;
    run.cargo(&["fmt", "--all", "--check", "--", "--color", "never"]).context("run `cargo fmt --all`")?;
    Ok(Outcome::Passed)
}

fn clippy(run: &Run) -> Result<Outcome> {
    need_component("clippy", "cargo-clippy")?;
    run.cargo(&["clippy", "--workspace", "--all-targets", "--features", FEATURES, "--", "-D", "warnings"])?;
    Ok(Outcome::Passed)
}

/// A minimal toolchain lacks these, and what cargo says about it doesn't say what to do.
fn need_component(component: &str, binary: &str) -> Result<()> {
    let found = Command::new(crate::cargo())
        .arg(binary.trim_start_matches("cargo-"))
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        bail!("{component} is missing from this toolchain: rustup component add {component}");
    }
    Ok(())
}

fn codegen(run: &Run) -> Result<Outcome> {
    need_component("rustfmt", "cargo-fmt")?;
    run.note("comparing what `cargo xtask codegen` would write with what is committed")?;
    crate::codegen::run(true)?;
    Ok(Outcome::Passed)
}

fn unit(run: &Run) -> Result<Outcome> {
    run.cargo(&["test", "--workspace", "--features", FEATURES, "--no-fail-fast"])?;
    Ok(Outcome::Passed)
}

fn docs(run: &Run) -> Result<Outcome> {
    let mut command = Command::new(crate::cargo());
    command.current_dir(&run.root).env("RUSTDOCFLAGS", "-D warnings");
    run.command(command.args(["doc", "--workspace", "--features", FEATURES, "--no-deps", "--document-private-items"]))?;
    Ok(Outcome::Passed)
}

fn build(run: &Run) -> Result<Outcome> {
    run.release_binary("leveret")?;
    Ok(Outcome::Passed)
}

fn simulation(run: &Run) -> Result<Outcome> {
    // Every cell is to be met a hundred times, also after a change that lets other things go wrong.
    const SEEDS: u64 = 14_000;
    run.command(&mut sim::rest())?;
    run.command(&mut sim::seeds(1, SEEDS))?;
    run.command(&mut sim::mutants())?;
    Ok(Outcome::Passed)
}

fn readme_session(run: &Run) -> Result<Outcome> {
    let binary = run.release_binary("leveret")?;
    let broker = Broker::leveret(run, &binary)?;
    readme::check(run, &binary, &broker.url())?;
    broker.stop()?;
    Ok(Outcome::Passed)
}

fn interop(run: &Run) -> Result<Outcome> {
    let binary = run.release_binary("leveret")?;
    let broker = Broker::leveret(run, &binary)?;
    run.command(judge(run)?.args(["--url", &broker.url()]).arg("--leveret-binary").arg(binary))?;
    broker.stop()?;
    run.missing_in_log()
}

/// First without a disk, where everything is lost: a ledger that finds nothing then would never find anything.
fn crash(run: &Run) -> Result<Outcome> {
    kill(run, &["--memory"])?;
    kill(run, &["--cycles", "20"])?;
    Ok(Outcome::Passed)
}

/// Kills Leveret again and again, with its data below the target directory.
pub fn kill(run: &Run, arguments: &[&str]) -> Result<()> {
    let leveret = run.release_binary("leveret")?;
    let crash = run.release_binary("crash")?;
    let data = run.fresh_directory("crash")?.join("data");
    run.command(Command::new(crash).arg("--leveret").arg(leveret).arg("--data-dir").arg(data).args(arguments))
}

/// First on Leveret, then on RabbitMQ where it is installed.
fn sdk(run: &Run) -> Result<Outcome> {
    let binary = run.release_binary("leveret")?;
    let broker = Broker::leveret(run, &binary)?;
    run.command(sdk_command(run)?.args(["judge", "--url", &broker.url()]))?;
    broker.stop()?;
    chaos(run, &["--deeds", "8"])?;
    let Some(rabbitmq) = rabbitmq_binary() else {
        return Ok(Outcome::skipped(
            "sdk on RabbitMQ",
            "rabbitmq-server is not installed; `compare` installs it with --install",
        ));
    };
    let broker = Broker::rabbitmq(run, &rabbitmq)?;
    run.command(sdk_command(run)?.args(["judge", "--url", &broker.url()]))?;
    run.command(sdk_command(run)?.args(["chaos", "--deeds", "6", "--port", &broker.port().to_string()]))?;
    broker.stop()?;
    run.missing_in_log()
}

fn sdk_command(run: &Run) -> Result<Command> {
    let mut command = Command::new(run.release_binary("sdk")?);
    command.current_dir(&run.root).env("CARGO_TARGET_DIR", &run.target);
    Ok(command)
}

/// Kills Leveret, its connections and channels with the SDK on both sides.
pub fn chaos(run: &Run, arguments: &[&str]) -> Result<()> {
    let leveret = run.release_binary("leveret")?;
    let data = run.fresh_directory("sdk-chaos")?;
    run.command(
        sdk_command(run)?.arg("chaos").arg("--leveret").arg(leveret).arg("--data-dir").arg(data).args(arguments),
    )
}

/// The judges say what they lack.
fn tools(run: &Run) -> Result<Outcome> {
    for (package, program) in [("rabbitmq-server", "rabbitmqadmin"), ("prometheus", "prometheus")] {
        if run.install && in_path(program).is_none() {
            install_package(run, package)?;
        }
    }
    let binary = run.release_binary("leveret")?;
    run.command(judge(run)?.args(["tools", "--leveret-binary"]).arg(binary))?;
    run.missing_in_log()
}

fn compare(run: &Run) -> Result<Outcome> {
    if rabbitmq_binary().is_none() {
        if !run.install {
            let why = "rabbitmq-server is not installed; `cargo xtask test --install` installs it";
            return Ok(Outcome::skipped("compare", why));
        }
        install_package(run, "rabbitmq-server")?;
    }
    let rabbitmq = rabbitmq_binary().context("the package rabbitmq-server has no start script")?;
    let binary = run.release_binary("leveret")?;
    let leveret = Broker::leveret(run, &binary)?;
    let rabbitmq = Broker::rabbitmq(run, &rabbitmq)?;
    let brokers = ["compare", "--leveret", &leveret.url(), "--rabbitmq", &rabbitmq.url()];
    run.command(judge(run)?.args(brokers).arg("--leveret-binary").arg(binary))?;
    leveret.stop()?;
    rabbitmq.stop()?;
    run.missing_in_log()
}

/// It installs the clients below the target directory, which it must be told if cargo's configuration moved it.
fn judge(run: &Run) -> Result<Command> {
    let mut judge = Command::new(run.release_binary("judge")?);
    judge.current_dir(&run.root).env("CARGO_TARGET_DIR", &run.target);
    Ok(judge)
}

/// Installs a package of Debian's. Without being root it says what to run, because asking for a password in the middle
/// of a test helps nobody.
pub fn install_package(run: &Run, package: &str) -> Result<()> {
    let by_hand = format!("sudo apt-get install {package}");
    if in_path("apt-get").is_none() {
        bail!(
            "{package} is missing and there is no apt-get to install it with; install it with your system's packager"
        );
    }
    let id = Command::new("id").arg("-u").output().context("cannot run id")?;
    if id.stdout.trim_ascii() != b"0" {
        bail!("{package} is missing and only root may install it: {by_hand}");
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run.command(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments)).context(by_hand.clone())
    };
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", package])
}
