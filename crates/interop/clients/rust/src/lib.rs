//! The Rust clients that judge a broker. The situations are written once, against [`api`], which each client's binary
//! implements; what they print is the contract of all languages' scripts.

pub mod api;
pub mod case;
pub mod delivery;
pub mod failing;
pub mod report;
pub mod routing;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use api::{Channel, Client, Connection, Failure};
use case::Case;
use report::Report;

const LIMIT: Duration = Duration::from_secs(15);

/// Runs every situation with a client: `<program> amqp://guest:guest@host:port path/to/expected.txt`.
pub async fn judge<C: Client>() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let [_, url, expectations] = &arguments[..] else {
        eprintln!("usage: judge URL path/to/expected.txt");
        return ExitCode::from(2);
    };
    let report = match Report::new(C::NAME, expectations) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("cannot read {expectations}: {why}");
            return ExitCode::from(2);
        }
    };
    let others = async {
        for name in delivery::NAMES.iter().chain(routing::NAMES) {
            let mut case = Case::<C>::new(&report, url, name);
            report.run(name, LIMIT, perform(&mut case)).await;
            case.close().await;
        }
        for name in failing::NAMES {
            let mut case = Case::<C>::new(&report, url, name);
            report.run(name, LIMIT, provoke(&mut case)).await;
            case.close().await;
        }
        println!("waiting {}", C::NAME);
    };
    tokio::join!(idle_minute::<C>(&report, url), others);
    if report.failures() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn perform<C: Client>(case: &mut Case<'_, C>) -> Result<(), Failure> {
    case.open().await?;
    if delivery::NAMES.contains(&case.situation) { delivery::perform(case).await } else { routing::perform(case).await }
}

/// Runs a situation that the broker must end with an error, and checks that error.
async fn provoke<C: Client>(case: &mut Case<'_, C>) -> Result<(), Failure> {
    let outcome = match failing::perform(case).await {
        Ok(()) => case.ch().barrier().await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => Err("the broker accepted it".into()),
        Err(Failure::SocketClosed) if case.situation == "err-bad-login" && !C::ASKS_WHY_LOGIN_FAILED => {
            case.observe("the socket is closed, as the client doesn't announce authentication_failure_close");
            Ok(())
        }
        Err(Failure::Closed(closed)) => case.report.check_error(case.situation, &closed),
        Err(other) => Err(other),
    }
}

/// An idle connection lives through many heartbeat intervals.
async fn idle_minute<C: Client>(report: &Report, url: &str) {
    let seconds = env::var("INTEROP_IDLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let name = "heartbeat-idle-minute";
    let check = async {
        let mut case = Case::<C>::new(report, url, name);
        let mut login = case.login();
        login.heartbeat = Some(5);
        case.connect(&login).await?;
        let channel = case.connections[0].channel().await?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        channel.queue_declare(&case.n, api::EXCLUSIVE, &api::Table::new()).await?;
        case.close().await;
        Ok(())
    };
    report.run(name, Duration::from_secs(seconds) + LIMIT, check).await;
}
