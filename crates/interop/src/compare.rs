//! Two brokers, the same scripts: where what they observed differs, it is listed with its reason or it is a failure.

use anyhow::{Result, bail};

use crate::verdict::{Judgement, Verdict};

/// A row of differences.txt.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// The situation's name, or the beginning of several and `*`.
    pub situation: String,
    /// A client's name, or `*` for all.
    pub client: String,
    /// Why the brokers differ and may.
    pub reason: String,
}

impl Known {
    fn explains(&self, situation: &str, client: &str) -> bool {
        let named = match self.situation.strip_suffix('*') {
            Some(beginning) => situation.starts_with(beginning),
            None => self.situation == situation,
        };
        named && (self.client == "*" || self.client == client)
    }
}

/// Reads `situation | client or * | reason` rows; `#` begins a comment.
///
/// # Errors
/// If a row isn't of that form or its reason is empty.
pub fn known(text: &str) -> Result<Vec<Known>> {
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    rows.map(|row| {
        let parts: Vec<&str> = row.splitn(3, '|').map(str::trim).collect();
        match parts[..] {
            [situation, client, reason] if !reason.is_empty() => {
                Ok(Known { situation: situation.into(), client: client.into(), reason: reason.into() })
            }
            _ => bail!("differences.txt: `{row}` isn't `situation | client or * | reason`"),
        }
    })
    .collect()
}

/// A situation in which a client was answered differently.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// The situation's name.
    pub situation: String,
    /// The client's name.
    pub client: String,
    /// What the first broker did: its observations, then its verdict.
    pub left: Vec<String>,
    /// What the second did.
    pub right: Vec<String>,
    /// The listed reason, `None` if there is none.
    pub reason: Option<String>,
}

/// Every difference between two brokers' judgements of the same clients.
pub fn differences(left: &[Judgement], right: &[Judgement], known: &[Known]) -> Vec<Difference> {
    let mut found = Vec::new();
    for left in left {
        let Some(right) = right.iter().find(|right| right.client == left.client) else { continue };
        let mut seen: Vec<&str> = Vec::new();
        for (situation, _) in left.verdicts.iter().chain(&right.verdicts) {
            if seen.contains(&situation.as_str()) {
                continue;
            }
            seen.push(situation);
            let (ours, theirs) = (answers(left, situation), answers(right, situation));
            if ours != theirs {
                let row = known.iter().find(|row| row.explains(situation, &left.client));
                found.push(Difference {
                    situation: situation.clone(),
                    client: left.client.clone(),
                    left: ours,
                    right: theirs,
                    reason: row.map(|row| row.reason.clone()),
                });
            }
        }
    }
    found
}

/// Rows that explain nothing any more, because the brokers agree there. Only a run of all clients can tell.
pub fn stale<'a>(known: &'a [Known], differences: &[Difference]) -> Vec<&'a Known> {
    let needed = |row: &Known| differences.iter().any(|found| row.explains(&found.situation, &found.client));
    known.iter().filter(|row| !needed(row)).collect()
}

/// Reasons for failures may name times and addresses, so of a verdict only its kind is compared.
fn answers(judgement: &Judgement, situation: &str) -> Vec<String> {
    let observed = judgement.observations.iter().filter(|(name, _)| name == situation).map(|(_, text)| text.clone());
    let verdicts = judgement.verdicts.iter().filter(|(name, _)| name == situation).map(|(_, verdict)| match verdict {
        Verdict::Ok => "ok".to_string(),
        Verdict::Fail(_) => "FAIL".to_string(),
        Verdict::Skip(_) => "skip".to_string(),
    });
    observed.chain(verdicts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> Vec<Judgement> {
        let mut judgement = Judgement::new("pika");
        for line in lines {
            judgement.add(line);
        }
        vec![judgement]
    }

    #[test]
    fn a_difference_is_found_and_explained_only_by_its_own_row() {
        let ours = judged(&["observe pika err-x channel 406", "ok pika err-x", "ok pika ack"]);
        let theirs = judged(&["observe pika err-x connection 503", "ok pika err-x", "ok pika ack"]);
        let rows = known("# comment\nerr-x | pika | newer brokers answer so\nack | * | never").unwrap();
        let found = differences(&ours, &theirs, &rows);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].left, ["channel 406", "ok"]);
        assert_eq!(found[0].reason.as_deref(), Some("newer brokers answer so"));
        assert_eq!(differences(&ours, &theirs, &rows[1..])[0].reason, None);
        assert_eq!(stale(&rows, &found), [&rows[1]]);
    }

    #[test]
    fn a_row_may_explain_all_situations_that_begin_alike() {
        let ours = judged(&["ok pika group-get", "ok pika group-order", "ok pika grouped"]);
        let theirs = judged(&["skip pika group-get: none", "skip pika group-order: none", "skip pika grouped: none"]);
        let rows = known("group-* | * | they have no groups\nfilter-* | * | nor filters").unwrap();
        let reasons: Vec<bool> =
            differences(&ours, &theirs, &rows).iter().map(|found| found.reason.is_some()).collect();
        assert_eq!(reasons, [true, true, false]);
        assert_eq!(stale(&rows, &differences(&ours, &theirs, &rows)), [&rows[1]]);
    }

    #[test]
    fn a_failure_on_one_side_is_a_difference() {
        let found = differences(&judged(&["FAIL pika ack: late"]), &judged(&["ok pika ack"]), &[]);
        assert_eq!(found[0].left, ["FAIL"]);
        assert!(known("err-x | pika |").is_err());
    }
}
