//! What the scripts print, one line per situation, and what it means.

/// What a client found in one situation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The broker did what the situation asks for.
    Ok,
    /// It didn't; the text says what was expected and what came.
    Fail(String),
    /// This client can't express the situation; the text says why.
    Skip(String),
}

/// One line of a script's output.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// `ok|FAIL|skip <client> <situation>[: <why>]`
    Verdict(String, Verdict),
    /// `observe <client> <situation> <text>`: what the broker answered, to be compared between brokers.
    Observation(String, String),
    /// `waiting <client>`: nothing but the idle minute is left, so another script may start.
    Waiting,
}

impl Line {
    /// Reads a line of `client`'s output; `None` for any other text, which is kept only in the log.
    pub fn parse(client: &str, line: &str) -> Option<Line> {
        let (kind, rest) = line.split_once(' ')?;
        let rest = rest.strip_prefix(client)?;
        if kind == "waiting" && rest.is_empty() {
            return Some(Line::Waiting);
        }
        let rest = rest.strip_prefix(' ')?;
        if kind == "observe" {
            let (situation, text) = rest.split_once(' ').unwrap_or((rest, ""));
            return Some(Line::Observation(situation.into(), text.into()));
        }
        let (situation, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let verdict = match kind {
            "ok" => Verdict::Ok,
            "FAIL" => Verdict::Fail(why.into()),
            "skip" => Verdict::Skip(why.into()),
            _ => return None,
        };
        Some(Line::Verdict(situation.into(), verdict))
    }
}

/// Everything that one client said about one broker.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The client's name.
    pub client: String,
    /// In the order in which they were reached.
    pub verdicts: Vec<(String, Verdict)>,
    /// Situation and text, in order.
    pub observations: Vec<(String, String)>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Why it didn't run at all, if so: a missing toolchain.
    pub absent: Option<String>,
}

impl Judgement {
    /// A judgement yet to be filled.
    pub fn new(client: &str) -> Judgement {
        Judgement { client: client.into(), ..Judgement::default() }
    }

    /// Takes one line of output; true for [`Line::Waiting`].
    pub fn add(&mut self, text: &str) -> bool {
        match Line::parse(&self.client, text) {
            Some(Line::Verdict(situation, verdict)) => self.verdicts.push((situation, verdict)),
            Some(Line::Observation(situation, text)) => self.observations.push((situation, text)),
            Some(Line::Waiting) => return true,
            None => {}
        }
        false
    }

    /// Adds a failure that belongs to the script as a whole.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.verdicts.push(("(script)".into(), Verdict::Fail(why.into())));
    }

    /// Whether any situation failed.
    pub fn failed(&self) -> bool {
        self.verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Fail(_)))
    }

    /// Whether the process's own verdict fits what it printed. A script that dies half-way, or that fails without
    /// saying where, must not pass for one that had less to say.
    pub fn settle(&mut self, exit: Result<Option<i32>, String>) {
        match exit {
            Err(why) => self.fail(why),
            Ok(Some(0)) if self.verdicts.is_empty() => self.fail("it printed no verdict"),
            Ok(Some(0)) => {}
            Ok(Some(1)) if self.failed() => {}
            Ok(Some(code)) => self.fail(format!("it ended with exit code {code}; see its log")),
            Ok(None) => self.fail("it was killed by a signal; see its log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_scripts_write_them() {
        let verdict = |line: &str| match Line::parse("pika", line) {
            Some(Line::Verdict(situation, verdict)) => (situation, verdict),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(verdict("ok pika ack"), ("ack".into(), Verdict::Ok));
        assert_eq!(verdict("FAIL pika ack: a: b"), ("ack".into(), Verdict::Fail("a: b".into())));
        assert_eq!(verdict("skip pika ack: no such call"), ("ack".into(), Verdict::Skip("no such call".into())));
        let observed = Line::parse("pika", "observe pika err-locked channel 405: x");
        assert_eq!(observed, Some(Line::Observation("err-locked".into(), "channel 405: x".into())));
        assert_eq!(Line::parse("pika", "waiting pika"), Some(Line::Waiting));
        assert_eq!(Line::parse("pika", "ok pika-select ack"), None);
        assert_eq!(Line::parse("pika", "Traceback (most recent call last):"), None);
    }

    #[test]
    fn a_script_that_dies_silently_fails() {
        for exit in [Ok(Some(0)), Ok(Some(1)), Ok(None), Err("too long".to_string())] {
            let mut judgement = Judgement::new("pika");
            judgement.settle(exit);
            assert!(judgement.failed());
        }
        let mut judgement = Judgement::new("pika");
        judgement.add("ok pika ack");
        judgement.settle(Ok(Some(0)));
        assert!(!judgement.failed());
        judgement.settle(Ok(Some(1)));
        assert!(judgement.failed());
    }
}
