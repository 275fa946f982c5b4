//! The rules that the checker enforces, with the severity of a violation and the advice.

use std::fmt;

use serde::Serialize;

/// The severity of a finding, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The package loads, but something about it is unusual.
    Warning,
    /// The package follows the format, but Core ML is reported to refuse it. Its meaning is well defined, so
    /// other engines can run it.
    Refused,
    /// The package violates the format: Core ML refuses it, or computes something else.
    Error,
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

macro_rules! rules {
    (@source) => { None };
    (@source $source:literal) => { Some($source) };
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $severity:ident, $advice:literal $(, $source:literal)?;)+) => {
        /// The rules that the checker enforces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $variant,)+
        }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the rule's name in reports, such as `argument-missing`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// Returns the severity of a violation.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// Returns how to fix a violation.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }

            /// Returns the reports that Core ML refuses such packages; `None` for rules of the format itself.
            pub fn source(self) -> Option<&'static str> {
                match self { $(Self::$variant => rules!(@source $($source)?),)+ }
            }
        }
    };
}

rules! {
    /// `Program.version` is 1.
    ProgramVersion = "program-version", Error, "set the program version to 1, the only version";
    /// A function's opset is CoreML5 to CoreML9.
    Opset = "opset", Error, "name one of CoreML5, CoreML6, CoreML7, CoreML8, CoreML9";
    /// `specificationVersion` is at least what the opsets and features require.
    SpecificationVersion = "specification-version", Error,
        "raise specificationVersion: 6 for CoreML5, 7 for CoreML6, 8 for CoreML7, 9 for CoreML8, 10 for CoreML9";
    /// A function has a block for its opset.
    Block = "block", Error, "store the function's operations under the name of its opset";
    /// Types are complete and known.
    Type = "type", Error, "use a data type and dimensions that MIL defines";
    /// A constant holds the elements that its type declares, in the field that its element type requires.
    Constant = "constant", Error,
        "store the elements in the field of TensorValue that the data type requires, in the number that the shape declares";
    /// Names are identifiers.
    Identifier = "identifier", Error, "use only letters, digits, _ and @, and do not begin with a digit";
    /// A name is defined once.
    DefinedTwice = "defined-twice", Error, "rename one of the two";
    /// A name is defined before it is used.
    Undefined = "undefined", Error, "define the value before its use, or correct the name";
    /// Operations exist in MIL.
    OperationUnknown = "operation-unknown", Error, "use an operation that MIL defines";
    /// Operations exist in the function's opset.
    OperationTooNew = "operation-too-new", Error, "raise the function's opset, or use an older operation";
    /// An argument's rank is unknown, so the types of the operation's results cannot be inferred.
    OperationUnchecked = "operation-unchecked", Warning,
        "no action needed: the operation's result types cannot be inferred, and are accepted as declared";
    /// Either all operations have the attribute `name`, or none has.
    OperationName = "operation-name", Warning, "give every operation the attribute name";
    /// Arguments are those that the operation defines.
    ArgumentUnknown = "argument-unknown", Error, "remove the argument, or correct its name";
    /// Required arguments are bound.
    ArgumentMissing = "argument-missing", Error, "bind the argument";
    /// Arguments with a default are bound explicitly, as coremltools does.
    ArgumentDefault = "argument-default", Warning,
        "bind the argument to its default: coremltools always writes it, and it is unknown how Core ML treats a missing one";
    /// An argument has one binding, or several if it is variadic.
    ArgumentCount = "argument-count", Error, "bind the number of values that the argument accepts";
    /// The parameter accepts the argument's element type.
    ArgumentType = "argument-type", Error, "cast the value, or bind another";
    /// Parameters that Core ML must know at load time are bound to constants.
    ArgumentConstant = "argument-constant", Error, "bind a constant";
    /// The operation accepts the argument's value.
    ArgumentValue = "argument-value", Error, "bind a value that the operation accepts";
    /// Arguments agree with each other in element types, ranks and sizes of axes.
    ArgumentsMismatch = "arguments-mismatch", Error, "make the arguments' types and shapes agree";
    /// Only `read_state` and `write_state` use states.
    StateUse = "state-use", Error, "read the state with read_state and use the result";
    /// States are fp16 tensors of fixed shape, in opset CoreML8 or later.
    StateType = "state-type", Error, "declare the state as an fp16 tensor of fixed shape in a function of CoreML8 or later";
    /// Results are declared with the types that are inferred from the arguments.
    DeclaredType = "declared-type", Error, "declare the inferred type";
    /// An operation declares the results and blocks that it has.
    ResultCount = "result-count", Error, "declare exactly the results and blocks that the operation has";
    /// A block returns only values that it defines.
    Returned = "returned", Error, "return tensors that the function computes";
    /// A function returns a value only once.
    ReturnedTwice = "returned-twice", Warning,
        "return the result of an identity under another name: coremltools writes such programs, and it is unknown which of the two outputs of one name Core ML returns";
    /// The model's description agrees with the program.
    Description = "description", Error, "describe exactly the function's inputs, outputs and states, with their types";
    /// Every function is described, and the default function exists.
    FunctionDescription = "function-description", Error, "describe exactly the functions of the program";
    /// Inputs and outputs have types that Core ML allows at a function's interface.
    InterfaceType = "interface-type", Error, "use fp16 (CoreML6 or later), fp32, int32 or int8 (CoreML9) for inputs and outputs";
    /// Constants refer to weight files by `@model_path/`, and the files are in the package.
    WeightPath = "weight-path", Error, "refer to the weight file as @model_path/weights/weight.bin, and ship it";
    /// A weight file has a valid header and contains only the blobs that the header counts.
    WeightFile = "weight-file", Error, "write the weight file again: MIL blob storage, version 2";
    /// A weight file is a regular file inside the package, and whole.
    WeightIncomplete = "weight-incomplete", Error,
        "copy the package again: a weight file is a regular file in it, as long as the constants that refer to it require";
    /// Bytes of a weight file that belong to no element are zero, and each blob follows the previous one.
    WeightLayout = "weight-layout", Warning,
        "no action needed: constants find their blobs by offset; coremltools lays out the file differently";
    /// A constant refers to a valid blob record.
    BlobRecord = "blob-record", Error, "refer to the offset of a blob's record, not of its data";
    /// A blob's record has the element type and size that the program declares.
    BlobType = "blob-type", Error, "write the blob with the constant's element type and number of elements";
    /// Large constants are bound through a `const` operation, or directly to a `constexpr` operation.
    BlobBinding = "blob-binding", Error, "bind the blob through a const operation";
    /// Every blob is used.
    BlobUnused = "blob-unused", Warning, "remove weights that no constant refers to";
    /// The items of the manifest that the program needs exist and are inside the package.
    ManifestItem = "manifest-item", Error, "add the item to the package, or remove it from the manifest";
    /// The items of the manifest that the program does not need exist.
    ManifestItemUnneeded = "manifest-item-unneeded", Warning,
        "create the folder, or remove it from the manifest: git and zip drop empty folders, and coremltools does not open a package without them";
    /// The manifest lists the weights folder.
    WeightsUnlisted = "weights-unlisted", Warning,
        "list com.apple.CoreML/weights in the manifest: coremltools does not find the weights otherwise";
    /// Tensors have at most five axes.
    RefusedRank = "refused-rank", Refused, "split the axes over several reshapes and transposes of at most five",
        "apple/coremltools issues 832, 1461, 1723, 1796 and 2291; coremltools refuses to write it";
    /// Reflected and replicated padding applies only to the last two axes, and is no wider than the axis
    /// allows.
    RefusedPadding = "refused-padding", Refused,
        "transpose the padded axis to the end, or build the padding from slices and a concat",
        "apple/coremltools issues 2571 and 2576, pull request 2701; webmachinelearning/webnn issue 739";
    /// The scales of `quantize` and `dequantize` are positive.
    RefusedScale = "refused-scale", Refused, "use positive scales, and negate the elements instead",
        "webmachinelearning/webnn issue 822, pull request 906";
    /// Arguments that Core ML's parser requires are bound, although they are documented as optional.
    RefusedDefault = "refused-default", Refused, "bind the argument to its default, as coremltools does",
        "apple/coremltools issue 2127; rustnn/rustnn pull request 103; microsoft/onnxruntime pull requests 28478 and 28598";
    /// The inputs of a function do not mix enumerated and ranged shapes.
    RefusedShapes = "refused-shapes", Refused, "enumerate the shapes of all flexible inputs, or give all of them ranges",
        "apple/coremltools issue 2548: \"A model doesn't allow a mixture of enumerated and range shape flexibility\"";
    /// A tensor input has at least one axis.
    RefusedScalar = "refused-scalar", Refused, "declare an input of shape [1], and squeeze it",
        "apple/coremltools issue 1765 and mlmodel/src/Validation/InterfaceValidators.cpp; pytorch/executorch issue 2769";
    /// A function has inputs, unless the specification version is 9 or later.
    RefusedNoInputs = "refused-no-inputs", Refused, "raise the opset to CoreML8 and specificationVersion to 9, or add an input",
        "apple/coremltools issue 2578, pull request 2684; pytorch/executorch issue 11719";
    /// An image has a known colour space and size, and its tensor has four axes and a floating-point type.
    RefusedImage = "refused-image", Refused, "describe the image as RGB, BGR or grayscale, of a tensor [1, 3 or 1, H, W]",
        "apple/coremltools issue 2380, mlmodel/src/Validation/InterfaceValidators.cpp and mlmodel/format/MIL.proto";
    /// Outputs and states are not optional, and at least one input is required.
    RefusedOptional = "refused-optional", Refused, "make the outputs, the states and at least one input required",
        "apple/coremltools, mlmodel/src/Validation/InterfaceValidators.cpp";
    /// If functions are not listed by name, the only function is called `main`.
    RefusedFunctionName = "refused-function-name", Refused,
        "call the function main, or describe it in a list of functions (specificationVersion 9)",
        "apple/coremltools issues 2049 and 2380, where the validator looks for the outputs of main";
    /// A list of functions names its default, and no default is named otherwise.
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

    /// A refusal comes from a report; a rule of the format needs none.
    #[test]
    fn every_reported_refusal_has_a_source() {
        for rule in Rule::ALL {
            assert_eq!(rule.severity() == Severity::Refused, rule.source().is_some(), "{rule}");
            assert_eq!(rule.severity() == Severity::Refused, rule.id().starts_with("refused-"), "{rule}");
        }
    }
}
