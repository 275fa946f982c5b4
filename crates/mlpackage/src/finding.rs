//! What is wrong with a package, where, by which rule, and what to do about it.

use std::fmt;

use serde::Serialize;

/// One place where a package breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The rule that is broken.
    pub rule: Rule,
    /// The function; `None` if it concerns the package as a whole.
    pub function: Option<String>,
    /// Type and results of the operation, such as `conv -> %logits`.
    pub operation: Option<String>,
    /// The parameter whose argument is wrong.
    pub argument: Option<String>,
    /// What was found and what was expected; with an argument it reads on from the argument's name.
    pub reason: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The package loads, and something about it is unusual.
    Warning,
    /// The package breaks a rule of the format: Core ML refuses it, or computes something else.
    Error,
}

impl Finding {
    /// A finding about the package as a whole.
    pub(crate) fn package(rule: Rule, reason: impl Into<String>) -> Self {
        Self { rule, function: None, operation: None, argument: None, reason: reason.into() }
    }

    /// A finding about a function as a whole.
    pub(crate) fn function(rule: Rule, function: &str, reason: impl Into<String>) -> Self {
        Self { function: Some(function.to_owned()), ..Self::package(rule, reason) }
    }

    /// A finding about an operation.
    pub(crate) fn operation(function: &str, operation: String, fault: Fault) -> Self {
        Self {
            rule: fault.rule,
            function: Some(function.to_owned()),
            operation: Some(operation),
            argument: fault.argument,
            reason: fault.reason,
        }
    }

    /// How much it matters; the rule decides.
    pub fn severity(&self) -> Severity {
        self.rule.severity()
    }

    /// Whether it is an error and not a warning.
    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.rule.advice()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// `function main, operation conv -> %y: argument groups is 3, expected ..`; with `{:#}` the severity, the rule and, on a
/// line of its own, what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(f, "{}[{}]: ", self.severity(), self.rule)?;
        }
        match (&self.function, &self.operation) {
            (None, _) => {}
            (Some(function), None) => write!(f, "function {function}: ")?,
            (Some(function), Some(operation)) => write!(f, "function {function}, operation {operation}: ")?,
        }
        if let Some(argument) = &self.argument {
            write!(f, "argument {argument} ")?;
        }
        f.write_str(&self.reason)?;
        if f.alternate() {
            write!(f, "\n  {}", self.advice())?;
        }
        Ok(())
    }
}

/// What is wrong with one operation, before it is known which.
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

    /// `reason` reads on from the argument's name: `is 3, expected ..`.
    pub(crate) fn at(rule: Rule, argument: &str, reason: impl Into<String>) -> Self {
        Self { rule, argument: Some(argument.to_owned()), reason: reason.into() }
    }

    /// An argument whose value, type or shape is none that the operation takes.
    pub(crate) fn value(argument: &str, reason: impl Into<String>) -> Self {
        Self::at(Rule::ArgumentValue, argument, reason)
    }

    /// An argument that does not go with others.
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

/// Most rules of the table are about arguments that do not go with each other.
impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::new(Rule::ArgumentsMismatch, reason)
    }
}

/// For callers whose errors are sentences.
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

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $severity:ident, $advice:literal;)+) => {
        /// The rules that a package is held to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $variant,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in reports, such as `argument-missing`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// How much it matters if it is broken.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// What to do where it is broken.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

rules! {
    /// `Program.version` is 1.
    ProgramVersion = "program-version", Error, "write program version 1, the only one there is";
    /// A function's opset is one of CoreML5 to CoreML9.
    Opset = "opset", Error, "name one of CoreML5, CoreML6, CoreML7, CoreML8, CoreML9";
    /// `specificationVersion` is as high as the opsets and features need.
    SpecificationVersion = "specification-version", Error,
        "raise specificationVersion: 6 for CoreML5, 7 for CoreML6, 8 for CoreML7, 9 for CoreML8, 10 for CoreML9";
    /// A function has a block for its opset.
    Block = "block", Error, "store the function's operations under the name of its opset";
    /// Types are whole and known.
    Type = "type", Error, "write a data type and dimensions that MIL has";
    /// A constant holds what its type says, in the field that its type demands.
    Constant = "constant", Error,
        "store the elements in the field of TensorValue that the data type demands, as many as the shape says";
    /// Names are identifiers.
    Identifier = "identifier", Error, "use letters, digits, _ and @, and do not begin with a digit";
    /// A name is defined once.
    DefinedTwice = "defined-twice", Error, "rename one of the two";
    /// A name is defined before it is used.
    Undefined = "undefined", Error, "define the value before its use, or correct the name";
    /// Operations are those of MIL.
    OperationUnknown = "operation-unknown", Error, "use an operation that Core ML has";
    /// Operations are those of the function's opset.
    OperationTooNew = "operation-too-new", Error, "raise the function's opset, or use an older operation";
    /// Operations have an attribute `name`.
    OperationName = "operation-name", Warning, "give every operation the attribute name";
    /// Arguments are those that the operation has.
    ArgumentUnknown = "argument-unknown", Error, "remove the argument, or correct its name";
    /// Arguments that an operation needs are there.
    ArgumentMissing = "argument-missing", Error, "bind the argument";
    /// Arguments that have a default are written out, as coremltools does.
    ArgumentDefault = "argument-default", Warning,
        "bind the argument to its default: coremltools always writes it, and nothing is known of Core ML without";
    /// An argument has one binding, or several where it is variadic.
    ArgumentCount = "argument-count", Error, "bind as many values as the argument takes";
    /// An argument's element type is one that the parameter takes.
    ArgumentType = "argument-type", Error, "cast the value, or bind another";
    /// Parameters that Core ML wants to know before it runs are bound to constants.
    ArgumentConstant = "argument-constant", Error, "bind a constant";
    /// An argument's value is one that the operation takes.
    ArgumentValue = "argument-value", Error, "bind a value that the operation takes";
    /// Arguments go with each other: element types, ranks, extents.
    ArgumentsMismatch = "arguments-mismatch", Error, "make the arguments' types and shapes agree";
    /// Only `read_state` and `write_state` touch states.
    StateUse = "state-use", Error, "read the state with read_state and use the result";
    /// States are fp16 tensors of fixed shape, from opset CoreML8 on.
    StateType = "state-type", Error, "declare the state as an fp16 tensor of fixed shape in a function of CoreML8 or later";
    /// Results are declared with the type that follows from the arguments.
    DeclaredType = "declared-type", Error, "declare the type that follows from the arguments";
    /// An operation has as many results as declared, and as many blocks.
    ResultCount = "result-count", Error, "declare as many results as the operation has";
    /// What a block returns is defined in it.
    Returned = "returned", Error, "return tensors that the function computes";
    /// A function returns a value once.
    ReturnedTwice = "returned-twice", Warning,
        "return the result of an identity under another name: coremltools writes this, and which of the two outputs of one name Core ML gives is not known";
    /// The model's description says what the program does.
    Description = "description", Error, "describe the inputs, outputs and states that the function has, with their types";
    /// Every function is described, and the default one exists.
    FunctionDescription = "function-description", Error, "describe every function of the program, and no other";
    /// Inputs and outputs have types that an interface may have.
    InterfaceType = "interface-type", Error, "use fp16 (from CoreML6 on), fp32, int32 or int8 (CoreML9) at the border";
    /// Weight files are referred to by `@model_path/` and lie in the package.
    WeightPath = "weight-path", Error, "refer to the weight file as @model_path/weights/weight.bin, and ship it";
    /// A weight file has a sound header and only the blobs that it counts.
    WeightFile = "weight-file", Error, "write the weight file again: MIL blob storage, version 2";
    /// A constant refers to a sound record.
    BlobRecord = "blob-record", Error, "refer to the offset of a blob's record, not of its data";
    /// A blob's record has the type and size that the program says.
    BlobType = "blob-type", Error, "write the blob with the element type and count of the constant";
    /// Large constants are bound through a `const` operation, or directly to a `constexpr` one.
    BlobBinding = "blob-binding", Error, "bind the blob through a const operation";
    /// Blobs are used.
    BlobUnused = "blob-unused", Warning, "leave out weights that no constant refers to";
    /// What the manifest lists is there.
    ManifestItem = "manifest-item", Error, "ship what the manifest lists, or take it off the list";
    /// The manifest lists the folder of weights.
    WeightsUnlisted = "weights-unlisted", Warning,
        "list com.apple.CoreML/weights in the manifest: coremltools finds no weights without it";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_serialized_by_its_id() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.id());
        }
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
             bind a value that the operation takes"
        );
        assert!(finding.is_error());
    }
}
