//! What the doctor found, for people and for programs.

use serde_json::json;

use crate::failure::Failure;
use crate::output::{Look, Output};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// It works, but somebody should know.
    Warning,
    Failed,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        }
    }
}

/// One check.
pub struct Check {
    /// Its name; stays the same from version to version.
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found. Where something is wrong, also how to mend it.
    pub finding: String,
}

impl Check {
    pub fn ok(name: &'static str, finding: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, finding: finding.into() }
    }

    pub fn warning(name: &'static str, finding: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warning, finding: finding.into() }
    }

    pub fn failed(name: &'static str, finding: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Failed, finding: finding.into() }
    }
}

/// All checks so far.
pub struct Report<'a> {
    output: &'a Output,
    json: bool,
    checks: Vec<Check>,
}

impl<'a> Report<'a> {
    pub fn new(output: &'a Output, json: bool) -> Report<'a> {
        Report { output, json, checks: Vec::new() }
    }

    /// Notes a check, and shows it at once to people.
    pub fn add(&mut self, check: Check) -> Result<(), Failure> {
        if !self.json {
            let pen = self.output.pen();
            let look = match check.verdict {
                Verdict::Ok => Look::Green,
                Verdict::Warning => Look::Yellow,
                Verdict::Failed => Look::Red,
            };
            let verdict = pen.paint(look, format!("{:<8}", check.verdict.name()));
            self.output.line(&format!("{verdict} {:<12} {}", check.name, check.finding))?;
        }
        self.checks.push(check);
        Ok(())
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|c| c.verdict == verdict).count()
    }

    /// The sum, and whether anything is wrong.
    pub fn end(self) -> Result<(), Failure> {
        let (failed, warnings) = (self.count(Verdict::Failed), self.count(Verdict::Warning));
        if self.json {
            let checks = self.checks.iter();
            let checks: Vec<_> =
                checks.map(|c| json!({"check": c.name, "verdict": c.verdict.name(), "finding": c.finding})).collect();
            self.output.line(&json!({ "ok": failed == 0, "checks": checks }).to_string())?;
        } else {
            let sum = match (failed, warnings) {
                (0, 0) => "nothing is wrong".to_owned(),
                (0, n) => format!("it works; {n} to look at"),
                (n, _) => format!("{n} wrong"),
            };
            self.output.line(&sum)?;
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failure::Reported),
        }
    }
}
