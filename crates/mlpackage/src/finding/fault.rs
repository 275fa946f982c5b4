//! A problem with an operation, before it is known which operation of which function it is.

use std::fmt;

use super::rule::Rule;

/// A problem with an operation. A [`Finding`](super::Finding) adds the function and the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(crate) rule: Rule,
    pub(crate) argument: Option<String>,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(rule: Rule, reason: impl Into<String>) -> Self {
        Self { rule, argument: None, reason: reason.into() }
    }

    /// Creates a fault of an argument; `reason` continues a sentence that begins with its name: `is 3,
    /// expected ..`.
    pub(crate) fn at(rule: Rule, argument: &str, reason: impl Into<String>) -> Self {
        Self { rule, argument: Some(argument.to_owned()), reason: reason.into() }
    }

    /// Creates a fault of an argument whose value, type or shape the operation does not accept.
    pub(crate) fn value(argument: &str, reason: impl Into<String>) -> Self {
        Self::at(Rule::ArgumentValue, argument, reason)
    }

    /// Creates a fault of an argument that is inconsistent with other arguments.
    pub(crate) fn mismatch(argument: &str, reason: impl Into<String>) -> Self {
        Self::at(Rule::ArgumentsMismatch, argument, reason)
    }

    pub(crate) fn missing(argument: &str) -> Self {
        Self::at(Rule::ArgumentMissing, argument, "is missing")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(argument) = &self.argument {
            write!(f, "argument {argument} ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Most rules of the operation table are about inconsistent arguments.
impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::new(Rule::ArgumentsMismatch, reason)
    }
}

/// For callers whose errors are plain strings.
impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}
