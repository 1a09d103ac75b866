//! The table of situations by client, for a terminal and as Markdown, and the line that sums it up.

use std::fmt::Write;

use crate::clients::{Client, Kind};
use crate::verdict::{Judgement, Verdict};

/// How many situations passed, failed and couldn't be expressed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The broker did what was asked.
    pub passed: usize,
    /// It didn't.
    pub failed: usize,
    /// The client can't express the situation, or its test needs more than a broker.
    pub skipped: usize,
}

/// Counts the verdicts of all judgements.
pub fn counts(judgements: &[Judgement]) -> Counts {
    let mut counts = Counts::default();
    for (_, verdict) in judgements.iter().flat_map(|judgement| &judgement.verdicts) {
        match verdict {
            Verdict::Ok => counts.passed += 1,
            Verdict::Fail(_) => counts.failed += 1,
            Verdict::Skip(_) => counts.skipped += 1,
        }
    }
    counts
}

/// Every situation that any client of situations reached, in the order of the first that did.
fn situations<'a>(judgements: &[&'a Judgement]) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for (situation, _) in judgements.iter().flat_map(|judgement| &judgement.verdicts) {
        if !found.contains(&situation.as_str()) {
            found.push(situation);
        }
    }
    found
}

fn verdict<'a>(judgement: &'a Judgement, situation: &str) -> Option<&'a Verdict> {
    judgement.verdicts.iter().find(|(name, _)| name == situation).map(|(_, verdict)| verdict)
}

/// The judgements that belong in a table: the Go suites have names of their own for hundreds of tests.
fn tabular<'a>(clients: &[Client], judgements: &'a [Judgement]) -> Vec<(Client, &'a Judgement)> {
    let pairs = clients.iter().copied().zip(judgements);
    pairs.filter(|(client, judgement)| client.kind == Kind::Situations && judgement.absent.is_none()).collect()
}

/// The table for a terminal, seconds per client, every failure with its reason, and the summary as the last line.
pub fn terminal(clients: &[Client], judgements: &[Judgement]) -> String {
    let columns: Vec<&Judgement> = tabular(clients, judgements).into_iter().map(|(_, judgement)| judgement).collect();
    let mut text = String::new();
    if !columns.is_empty() {
        text.push_str(&format!("{:<30}", "situation"));
        columns.iter().for_each(|judgement| text.push_str(&format!(" {:>6.6}", judgement.client)));
        text.push('\n');
    }
    for situation in situations(&columns) {
        text.push_str(&format!("{situation:<30}"));
        for judgement in &columns {
            let cell = match verdict(judgement, situation) {
                Some(Verdict::Ok) => "ok",
                Some(Verdict::Fail(_)) => "FAIL",
                Some(Verdict::Skip(_)) => "-",
                None => "",
            };
            text.push_str(&format!(" {cell:>6}"));
        }
        text.push('\n');
    }
    for judgement in judgements.iter().filter(|judgement| judgement.absent.is_none()) {
        text.push_str(&client_line(judgement));
    }
    text + &failures(judgements) + &summary(judgements)
}

fn client_line(judgement: &Judgement) -> String {
    let Counts { passed, failed, skipped } = counts(std::slice::from_ref(judgement));
    let (client, seconds) = (&judgement.client, judgement.seconds);
    format!("{client:<16} {seconds:>6.1} s  {passed:>4} passed  {failed:>3} failed  {skipped:>3} skipped\n")
}

/// Every failure in full, and who didn't judge at all.
pub fn failures(judgements: &[Judgement]) -> String {
    let mut text = String::new();
    for judgement in judgements {
        for (situation, verdict) in &judgement.verdicts {
            if let Verdict::Fail(why) = verdict {
                let _ = writeln!(text, "FAIL {} {situation}: {why}", judgement.client);
            }
        }
        if let Some(why) = &judgement.absent {
            let _ = writeln!(text, "skipped: {}: {why}", judgement.client);
        }
    }
    text
}

/// `N passed, N failed, N skipped`
pub fn summary(judgements: &[Judgement]) -> String {
    let Counts { passed, failed, skipped } = counts(judgements);
    format!("{passed} passed, {failed} failed, {skipped} skipped\n")
}

/// The table of docs/compatibility.md: each client's column names its script, each empty cell its reason.
pub fn markdown(clients: &[Client], judgements: &[Judgement]) -> String {
    let columns = tabular(clients, judgements);
    let mut text = String::from("| situation |");
    for (client, _) in &columns {
        let script = format!("../crates/interop/clients/{}/{}", client.language.name(), client.script);
        let _ = write!(text, " [{}]({script}) |", client.name);
    }
    text.push_str("\n|---|");
    columns.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    let mut notes: Vec<&str> = Vec::new();
    let rows: Vec<&Judgement> = columns.iter().map(|(_, judgement)| *judgement).collect();
    for situation in situations(&rows) {
        let _ = write!(text, "| {situation} |");
        for judgement in &rows {
            let _ = write!(text, " {} |", cell(verdict(judgement, situation), &mut notes));
        }
        text.push('\n');
    }
    text.push('\n');
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", number + 1);
    }
    text + &go_suites(clients, judgements)
}

/// A mark, or the number of the note that says why there is none. A failure is said in full.
fn cell<'a>(verdict: Option<&'a Verdict>, notes: &mut Vec<&'a str>) -> String {
    const NOT_MINE: &str = "A situation of another client's own.";
    let why: &'a str = match verdict {
        Some(Verdict::Ok) => return "ok".into(),
        Some(Verdict::Fail(why)) => return format!("**{}**", why.replace('|', "\\|")),
        Some(Verdict::Skip(why)) => why,
        None => NOT_MINE,
    };
    let number = notes.iter().position(|note| *note == why).unwrap_or_else(|| {
        notes.push(why);
        notes.len() - 1
    });
    format!("no ({})", number + 1)
}

/// What the Go clients' own suites came to, and which of their tests can't apply.
fn go_suites(clients: &[Client], judgements: &[Judgement]) -> String {
    let mut text = String::new();
    let suites = clients.iter().zip(judgements).filter(|(client, _)| client.kind == Kind::GoSuites);
    for (_, judgement) in suites {
        let Counts { passed, failed, skipped } = counts(std::slice::from_ref(judgement));
        let _ = writeln!(
            text,
            "\nThe Go clients' own suites: {passed} tests passed, {failed} failed, {skipped} skipped:\n"
        );
        for (test, verdict) in &judgement.verdicts {
            if let Verdict::Skip(why) = verdict {
                let _ = writeln!(text, "- {test}: {why}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients;

    fn sample() -> (Vec<Client>, Vec<Judgement>) {
        let clients: Vec<Client> = clients::ALL.into_iter().filter(|client| client.name.starts_with("pika")).collect();
        let mut blocking = Judgement::new("pika-blocking");
        blocking.add("ok pika-blocking ack");
        blocking.add("skip pika-blocking err-immediate: no argument for it");
        let mut select = Judgement::new("pika-select");
        select.add("FAIL pika-select ack: expected a | b");
        (clients, vec![blocking, select])
    }

    #[test]
    fn a_cell_is_a_mark_a_reason_or_a_failure() {
        let (clients, judgements) = sample();
        let table = markdown(&clients, &judgements);
        assert!(table.contains("| ack | ok | **expected a \\| b** |"), "{table}");
        assert!(table.contains("| err-immediate | no (1) | no (2) |"), "{table}");
        assert!(table.contains("1. no argument for it\n2. A situation of another client's own.\n"), "{table}");
    }

    #[test]
    fn the_last_line_is_the_summary() {
        let (clients, mut judgements) = sample();
        judgements.push(Judgement { absent: Some("java is not installed".into()), ..Judgement::new("amqp-client") });
        let text = terminal(&clients, &judgements);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
        assert!(text.contains("\nFAIL pika-select ack: expected a | b\n"));
        assert!(text.contains("\nskipped: amqp-client: java is not installed\n"));
    }
}
