//! Judges AMQP 0-9-1 brokers with other people's clients.
//!
//! Exit codes: 0 if everything passed, 1 if a situation failed or (with `CI=true`) a client couldn't run, 2 if judge
//! itself couldn't work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use leveret_interop::brokers::{self, Started};
use leveret_interop::clients::{self, Client, Language};
use leveret_interop::run::{Broker, prepare, run};
use leveret_interop::verdict::Judgement;
use leveret_interop::{Layout, compare, report, tools};

/// Judges an AMQP 0-9-1 broker with unmodified clients in five languages, installed under target/interop.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    #[command(flatten)]
    judge: Judge,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the same against two brokers, and fail on a difference that crates/interop/differences.txt doesn't list.
    Compare(Compare),
    /// Judge the management API with RabbitMQ's own tools and others, each on a Leveret of its own.
    Tools(Tools),
}

#[derive(Args)]
struct Judge {
    /// The broker, as amqp://guest:guest@127.0.0.1:PORT. Without it, --leveret-binary or RabbitMQ is started.
    #[arg(long)]
    url: Option<String>,
    /// Whose rows of clients/expected.txt apply besides those of every broker.
    #[arg(long, default_value = "leveret", value_parser = ["leveret", "rabbitmq"])]
    broker: String,
    /// Print the table of docs/compatibility.md instead.
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Args)]
struct Compare {
    /// A running Leveret.
    #[arg(long)]
    leveret: Option<String>,
    /// A running RabbitMQ. Without it Debian's is started.
    #[arg(long)]
    rabbitmq: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Args)]
struct Tools {
    /// Only these; may be repeated.
    #[arg(long = "tool")]
    tools: Vec<String>,
    /// The `leveret` executable to start.
    #[arg(long)]
    leveret_binary: PathBuf,
}

#[derive(Args)]
struct Selection {
    /// Only these clients or languages; may be repeated.
    #[arg(long = "client")]
    clients: Vec<String>,
    /// Install Debian's RabbitMQ if it has to be started and isn't there. CI=true does so as well.
    #[arg(long)]
    install: bool,
    /// The `leveret` executable to start where no URL is given, and for situations in which a broker is killed.
    #[arg(long)]
    leveret_binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Verb::Compare(arguments)) => compare_brokers(arguments),
        Some(Verb::Tools(arguments)) => judge_tools(arguments),
        None => judge(&cli.judge),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("judge: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn judge(arguments: &Judge) -> Result<bool> {
    let layout = Layout::of_checkout()?;
    let clients = arguments.selection.clients()?;
    let started = match (&arguments.url, arguments.broker.as_str()) {
        (Some(_), _) => None,
        (None, "rabbitmq") => Some(arguments.selection.rabbitmq(&layout)?),
        (None, _) => Some(arguments.selection.leveret(&layout)?),
    };
    let absent = prepare(&layout, &clients);
    let broker = arguments.selection.broker(&arguments.broker, arguments.url.as_ref(), started.as_ref())?;
    let judgements = run(&layout, &clients, &absent, &broker)?;
    if arguments.markdown {
        print!("{}", report::markdown(&clients, &judgements));
        eprint!("{}{}", report::failures(&judgements), report::summary(&judgements));
    } else {
        print!("{}", report::terminal(&clients, &judgements));
    }
    Ok(passed(&judgements))
}

fn compare_brokers(arguments: &Compare) -> Result<bool> {
    let layout = Layout::of_checkout()?;
    let listed = layout.sources.join("../differences.txt");
    let listed = std::fs::read_to_string(&listed).with_context(|| format!("cannot read {}", listed.display()))?;
    let (listed, clients) = (compare::known(&listed)?, arguments.selection.clients()?);
    let leveret = arguments.leveret.is_none().then(|| arguments.selection.leveret(&layout)).transpose()?;
    let rabbitmq = arguments.rabbitmq.is_none().then(|| arguments.selection.rabbitmq(&layout)).transpose()?;
    let absent = prepare(&layout, &clients);
    let judged = |name: &str, url: Option<&String>, started: Option<&Started>| -> Result<Vec<Judgement>> {
        let judgements = run(&layout, &clients, &absent, &arguments.selection.broker(name, url, started)?)?;
        println!("== {name}");
        print!("{}", report::terminal(&clients, &judgements));
        Ok(judgements)
    };
    let ours = judged("leveret", arguments.leveret.as_ref(), leveret.as_ref())?;
    let theirs = judged("rabbitmq", arguments.rabbitmq.as_ref(), rabbitmq.as_ref())?;
    let agreed =
        print_differences(&ours, &theirs, &listed, arguments.selection.clients.is_empty() && absent.is_empty());
    let judgements: Vec<Judgement> = ours.into_iter().chain(theirs).collect();
    print!("{}", report::summary(&judgements));
    Ok(agreed && passed(&judgements))
}

fn judge_tools(arguments: &Tools) -> Result<bool> {
    let (layout, tools) = (Layout::of_checkout()?, tools::select(&arguments.tools)?);
    let judgements = tools::run(&layout, &tools, &arguments.leveret_binary)?;
    print!("{}", report::terminal(&tools, &judgements));
    Ok(passed(&judgements))
}

/// True if every difference is listed and, in a run of all clients, every listed one is still there.
fn print_differences(ours: &[Judgement], theirs: &[Judgement], listed: &[compare::Known], all_ran: bool) -> bool {
    let differences = compare::differences(ours, theirs, listed);
    println!("== differences");
    for difference in &differences {
        let reason = difference.reason.as_deref().map_or("NOT LISTED".into(), |reason| format!("listed: {reason}"));
        println!("{} {}: {reason}", difference.client, difference.situation);
        println!("  leveret  {}\n  rabbitmq {}", difference.left.join(" / "), difference.right.join(" / "));
    }
    let stale = if all_ran { compare::stale(listed, &differences) } else { Vec::new() };
    for row in &stale {
        println!("{} {}: listed, but the brokers agree; remove it from differences.txt", row.client, row.situation);
    }
    let unlisted = differences.iter().filter(|difference| difference.reason.is_none()).count();
    println!("{} differences, {unlisted} not listed, {} listed without need", differences.len(), stale.len());
    unlisted == 0 && stale.is_empty()
}

/// With CI=true nothing may be left out silently.
fn passed(judgements: &[Judgement]) -> bool {
    let absent = judgements.iter().any(|judgement| judgement.absent.is_some());
    report::counts(judgements).failed == 0 && !(absent && in_ci())
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

impl Selection {
    fn broker(&self, name: &str, url: Option<&String>, started: Option<&Started>) -> Result<Broker> {
        let url = url.or(started.map(|started| &started.url)).context("no broker to judge")?;
        let binary = self.leveret_binary.as_ref().filter(|_| name == "leveret");
        let binary =
            binary.map(|path| path.canonicalize().with_context(|| format!("no {}", path.display()))).transpose()?;
        Ok(Broker { name: name.into(), url: url.trim_end_matches('/').into(), http: None, binary })
    }

    fn clients(&self) -> Result<Vec<Client>> {
        let names: Vec<&str> = clients::ALL.iter().map(|client| client.name).collect();
        let languages: BTreeMap<&str, Language> = Language::ALL.into_iter().map(|l| (l.name(), l)).collect();
        for wanted in &self.clients {
            if !names.contains(&wanted.as_str()) && !languages.contains_key(wanted.as_str()) {
                let languages: Vec<&str> = languages.into_keys().collect();
                bail!("no client or language `{wanted}`; there are {} and {}", names.join(", "), languages.join(", "));
            }
        }
        let wanted = |client: &Client| {
            let mut wanted = self.clients.iter();
            self.clients.is_empty() || wanted.any(|name| name == client.name || name == client.language.name())
        };
        Ok(clients::ALL.into_iter().filter(wanted).collect())
    }

    fn rabbitmq(&self, layout: &Layout) -> Result<Started> {
        if !brokers::has_rabbitmq() {
            if !self.install && !in_ci() {
                bail!("rabbitmq-server is not installed; --install installs Debian's");
            }
            brokers::install_rabbitmq()?;
        }
        brokers::start_rabbitmq(layout)
    }

    fn leveret(&self, layout: &Layout) -> Result<Started> {
        let binary = self.leveret_binary.as_ref().context("which broker? give its URL, or --leveret-binary PATH")?;
        brokers::start_leveret(layout, binary)
    }
}
