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

/// How much a finding matters, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The package loads, and something about it is unusual.
    Warning,
    /// The package keeps the rules of the format, and Core ML is reported to refuse it all the same. What it computes is
    /// defined, so that other engines run it.
    Refused,
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

    /// Whether it is an error: neither a warning nor a reported refusal.
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
            Self::Refused => "refused",
            Self::Error => "error",
        })
    }
}

/// `function main, operation conv -> %y: argument groups is 3, expected ..`; with `{:#}` the severity, the rule and, on
/// lines of their own, what to do and who reports that Core ML refuses it.
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
            if let Some(source) = self.rule.source() {
                write!(f, "\n  Core ML is reported to refuse this: {source}")?;
            }
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
    (@source) => { None };
    (@source $source:literal) => { Some($source) };
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $severity:ident, $advice:literal $(, $source:literal)?;)+) => {
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

            /// Who reports that Core ML refuses packages that break it; `None` for the rules of the format.
            pub fn source(self) -> Option<&'static str> {
                match self { $(Self::$variant => rules!(@source $($source)?),)+ }
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
    /// An argument's rank is open, so that the operation's types cannot be inferred.
    OperationUnchecked = "operation-unchecked", Warning,
        "nothing is wrong that is known: this operation's types are taken as they are declared";
    /// Operations have an attribute `name`, all of them or none.
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
    /// Bytes of a weight file that no element is in are zero, and each blob follows the one before it.
    WeightLayout = "weight-layout", Warning,
        "nothing needs to be done: constants find their blobs by offset, and coremltools writes the file in another way";
    /// A constant refers to a sound record.
    BlobRecord = "blob-record", Error, "refer to the offset of a blob's record, not of its data";
    /// A blob's record has the type and size that the program says.
    BlobType = "blob-type", Error, "write the blob with the element type and count of the constant";
    /// Large constants are bound through a `const` operation, or directly to a `constexpr` one.
    BlobBinding = "blob-binding", Error, "bind the blob through a const operation";
    /// Blobs are used.
    BlobUnused = "blob-unused", Warning, "leave out weights that no constant refers to";
    /// What the manifest lists is there, if the program needs it, and lies in the package.
    ManifestItem = "manifest-item", Error, "ship what the manifest lists, or take it off the list";
    /// What the manifest lists is there even if the program does not need it.
    ManifestItemUnneeded = "manifest-item-unneeded", Warning,
        "make the folder, or take it off the list: git and zip drop empty folders, and coremltools does not open a package without them";
    /// The manifest lists the folder of weights.
    WeightsUnlisted = "weights-unlisted", Warning,
        "list com.apple.CoreML/weights in the manifest: coremltools finds no weights without it";
    /// Tensors have at most five axes.
    RefusedRank = "refused-rank", Refused, "split the axes over several reshapes and transposes of at most five",
        "apple/coremltools issues 832, 1461, 1723, 1796 and 2291; coremltools refuses to write it";
    /// Reflected and replicated padding keeps to the last two axes, and to what the axis holds.
    RefusedPadding = "refused-padding", Refused,
        "transpose the padded axis to the end, or build the padding from slices and a concat",
        "apple/coremltools issues 2571 and 2576, pull request 2701; webmachinelearning/webnn issue 739";
    /// The scales of `quantize` and `dequantize` are positive.
    RefusedScale = "refused-scale", Refused, "use positive scales, and turn the sign of the elements instead",
        "webmachinelearning/webnn issue 822, pull request 906";
    /// The arguments without which Core ML's parser refuses an operation are bound, though documented as optional.
    RefusedDefault = "refused-default", Refused, "bind the argument to its default, as coremltools does",
        "apple/coremltools issue 2127; rustnn/rustnn pull request 103; microsoft/onnxruntime pull requests 28478 and 28598";
    /// The inputs of a function do not mix enumerated and ranged shapes.
    RefusedShapes = "refused-shapes", Refused, "enumerate the shapes of all flexible inputs, or give all of them ranges",
        "apple/coremltools issue 2548: \"A model doesn't allow a mixture of enumerated and range shape flexibility\"";
    /// An input that is a tensor has at least one axis.
    RefusedScalar = "refused-scalar", Refused, "take a tensor of shape [1], and squeeze it",
        "apple/coremltools issue 1765 and mlmodel/src/Validation/InterfaceValidators.cpp; pytorch/executorch issue 2769";
    /// A function has inputs, unless the specification version is 9 or later.
    RefusedNoInputs = "refused-no-inputs", Refused, "raise the opset to CoreML8 and specificationVersion to 9, or add an input",
        "apple/coremltools issue 2578, pull request 2684; pytorch/executorch issue 11719";
    /// An image has a known colour space and a size, and is a tensor of four axes and of floating-point numbers.
    RefusedImage = "refused-image", Refused, "describe the image as RGB, BGR or grayscale, of a tensor [1, 3 or 1, H, W]",
        "apple/coremltools issue 2380, mlmodel/src/Validation/InterfaceValidators.cpp and mlmodel/format/MIL.proto";
    /// Outputs and states are not optional, and neither are all inputs.
    RefusedOptional = "refused-optional", Refused, "make the outputs, the states and at least one input required",
        "apple/coremltools, mlmodel/src/Validation/InterfaceValidators.cpp";
    /// The function of a package that lists none by name is called `main`.
    RefusedFunctionName = "refused-function-name", Refused,
        "call the function main, or describe it in a list of functions (specificationVersion 9)",
        "apple/coremltools issues 2049 and 2380, where the validator looks for the outputs of main";
    /// A list of functions names its default one, and a default function is named beside a list only.
    RefusedDefaultFunction = "refused-default-function", Refused, "set defaultFunctionName where functions are listed, and only there",
        "apple/coremltools, mlmodel/src/Validation/InterfaceValidators.cpp";
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

    /// A refusal is somebody's report; what the format says needs none.
    #[test]
    fn every_reported_refusal_has_a_source() {
        for rule in Rule::ALL {
            assert_eq!(rule.severity() == Severity::Refused, rule.source().is_some(), "{rule}");
            assert_eq!(rule.severity() == Severity::Refused, rule.id().starts_with("refused-"), "{rule}");
        }
    }

    #[test]
    fn a_reported_refusal_names_its_source() {
        let fault = Fault::at(Rule::RefusedScale, "scale", "holds -0.5");
        let finding = Finding::operation("main", "dequantize -> %y".into(), fault);
        assert!(!finding.is_error());
        assert_eq!(
            format!("{finding:#}"),
            "refused[refused-scale]: function main, operation dequantize -> %y: argument scale holds -0.5\n  \
             use positive scales, and turn the sign of the elements instead\n  \
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
             bind a value that the operation takes"
        );
        assert!(finding.is_error());
    }
}
