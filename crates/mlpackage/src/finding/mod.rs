//! Findings of the checker: what is wrong with a package, where, which rule it breaks, and how to fix it.

mod fault;
mod rule;

use std::fmt::{self, Write as _};

use serde::Serialize;

pub use fault::Fault;
pub use rule::{Rule, Severity};

/// A single violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The broken rule.
    pub rule: Rule,
    /// The function; `None` if the finding concerns the package as a whole.
    pub function: Option<String>,
    /// The operation's type and results, such as `conv -> %logits`.
    pub operation: Option<String>,
    /// The parameter with the wrong argument.
    pub argument: Option<String>,
    /// What was found and what was expected. If `argument` is set, the reason continues a sentence that
    /// begins with its name.
    pub reason: String,
}

impl Finding {
    /// Creates a finding about the package as a whole.
    pub(crate) fn package(rule: Rule, reason: impl Into<String>) -> Self {
        Self { rule, function: None, operation: None, argument: None, reason: reason.into() }
    }

    /// Creates a finding about a function as a whole.
    pub(crate) fn function(rule: Rule, function: &str, reason: impl Into<String>) -> Self {
        Self { function: Some(function.to_owned()), ..Self::package(rule, reason) }
    }

    /// Creates a finding about an operation.
    pub(crate) fn operation(function: &str, operation: String, fault: Fault) -> Self {
        Self {
            rule: fault.rule,
            function: Some(function.to_owned()),
            operation: Some(operation),
            argument: fault.argument,
            reason: fault.reason,
        }
    }

    /// Returns the severity, which depends only on the rule.
    pub fn severity(&self) -> Severity {
        self.rule.severity()
    }

    /// Returns whether the finding is an error, as opposed to a warning or a reported refusal.
    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }

    /// Returns how to fix the problem.
    pub fn advice(&self) -> &'static str {
        self.rule.advice()
    }
}

/// Formats a finding as `function main, operation conv -> %y: argument groups is 3, expected ..`.
///
/// The alternate form, `{:#}`, begins with the severity and the rule. It adds one line with the advice and,
/// for a reported refusal, another with its source.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(f, "{}[{}]: ", self.severity(), self.rule)?;
        }
        let mut text = String::new();
        match (&self.function, &self.operation) {
            (None, _) => {}
            (Some(function), None) => write!(text, "function {function}: ")?,
            (Some(function), Some(operation)) => {
                write!(text, "function {function}, operation {operation}: ")?
            }
        }
        if let Some(argument) = &self.argument {
            write!(text, "argument {argument} ")?;
        }
        text.push_str(&self.reason);
        // Names come from files, and could otherwise move the cursor of a terminal or add lines.
        for c in text.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if f.alternate() {
            write!(f, "\n  {}", self.advice())?;
            if let Some(source) = self.rule.source() {
                write!(f, "\n  Core ML is reported to refuse this: {source}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_names_are_escaped() {
        let fault = Fault::value("x", "is %\u{1b}[31mred\nerror");
        let finding = Finding::operation("main", "relu -> %\r".into(), fault);
        assert_eq!(
            finding.to_string(),
            "function main, operation relu -> %\\r: argument x is %\\u{1b}[31mred\\nerror"
        );
    }

    #[test]
    fn a_reported_refusal_names_its_source() {
        let fault = Fault::at(Rule::RefusedScale, "scale", "holds -0.5");
        let finding = Finding::operation("main", "dequantize -> %y".into(), fault);
        assert!(!finding.is_error());
        assert_eq!(
            format!("{finding:#}"),
            "refused[refused-scale]: function main, operation dequantize -> %y: argument scale holds -0.5\n  \
             use positive scales, and negate the elements instead\n  \
             Core ML is reported to refuse this: webmachinelearning/webnn issue 822, pull request 906"
        );
    }

    #[test]
    fn a_finding_reads_as_a_sentence() {
        let fault = Fault::value("groups", "is 3, expected a divisor of 4");
        let finding = Finding::operation("main", "conv -> %y".into(), fault);
        assert_eq!(
            finding.to_string(),
            "function main, operation conv -> %y: argument groups is 3, expected a divisor of 4"
        );
        assert_eq!(
            format!("{finding:#}"),
            "error[argument-value]: function main, operation conv -> %y: argument groups is 3, expected a divisor of 4\n  \
             bind a value that the operation accepts"
        );
        assert!(finding.is_error());
    }
}
