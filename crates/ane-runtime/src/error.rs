//! Errors of this crate.

use std::path::PathBuf;

pub use mlpackage::BoxError;
use mlpackage::{Shape, counted};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error names the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package is invalid, or a file cannot be read.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// The bundle is invalid.
    #[error(transparent)]
    Bundle(#[from] ane_bundle::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] atomic_output::Error),
    /// The engine has no implementation of some operations. All of them are listed.
    #[error("{engine} cannot run {}: it has no {}", package.display(), operations.join(", "))]
    Unsupported {
        /// The engine.
        engine: String,
        /// The package.
        package: PathBuf,
        /// Types of the operations, or what the engine lacks for them.
        operations: Vec<String>,
    },
    /// A call lacks an input, or has one that the function does not accept.
    #[error("input {name}: {reason}")]
    Input {
        /// The input.
        name: String,
        /// What was found and expected.
        reason: String,
    },
    /// The values of an operation's operands do not allow it, or a call exceeds its limits.
    #[error("{operation}: {reason}")]
    Execution {
        /// Type and result of the operation.
        operation: String,
        /// What was found and expected.
        reason: String,
    },
    /// A model has no function of that name.
    #[error("no function {name:?}: the model has {}", known.join(", "))]
    NoFunction {
        /// The name that was asked for.
        name: String,
        /// The names that the model has.
        known: Vec<String>,
    },
    /// A state was created by another model.
    #[error("the state belongs to another model: make one with this model's new_state")]
    ForeignState,
    /// A sequence was created by another model.
    #[error("the sequence belongs to another model: make one with this model's new_sequence")]
    ForeignSequence,
    /// An engine returned something other than the function's interface promises.
    #[error("{engine}: output {output}: {reason}")]
    Engine {
        /// The engine.
        engine: String,
        /// The output.
        output: String,
        /// What was found and expected.
        reason: String,
    },
    /// A tensor of another library has a value that the element type cannot hold.
    #[error("a tensor cannot become one of {dtype}: {reason}")]
    Conversion {
        /// The element type.
        dtype: mlpackage::DType,
        /// What was found and expected.
        reason: String,
    },
    /// The number of elements does not match the shape of a tensor.
    #[error("a tensor of shape {shape} holds {}, {elements} were given", counted(shape.elements(), "element"))]
    TensorSize {
        /// The shape.
        shape: Shape,
        /// Elements given.
        elements: usize,
    },
    /// The elements do not match the element type of a tensor.
    #[error("elements of a tensor of {dtype} cannot be {data}")]
    TensorType {
        /// The element type.
        dtype: mlpackage::DType,
        /// The kind of the elements.
        data: &'static str,
    },
    /// An array is not in row-major order.
    #[error("the array is not in row-major order: copy it with as_standard_layout first")]
    TensorLayout,
    /// A file of tensors cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// Results of several calls cannot be stacked.
    #[error("{reason}: run the calls one by one")]
    Stack {
        /// The output, what was found and expected.
        reason: String,
    },
    /// The memory for the results of several calls cannot be allocated.
    #[error(
        "output {name}: there is no memory for its results beyond {bytes} bytes: run fewer calls at once"
    )]
    NoMemory {
        /// The output.
        name: String,
        /// Size of the results so far, in bytes.
        bytes: usize,
    },
    /// A part of a bundle does not match the rest.
    #[error("bundle {}: {what}: {reason}", path.display())]
    BundlePart {
        /// The bundle.
        path: PathBuf,
        /// The file, tensor, input or field.
        what: String,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// The tokenizer does not know a character.
    #[error(
        "character {character:?} at position {position} of {text:?} is not in the vocabulary of {vocabulary:?}"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its index, in characters.
        position: usize,
        /// The text.
        text: String,
        /// Every character that the tokenizer knows.
        vocabulary: String,
    },
    /// A token id without an embedding in the model.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// The number of tokens in the vocabulary.
        vocab_size: usize,
    },
    /// More tokens than the context holds.
    #[error("{tokens} tokens do not fit into the context of {context_length}: shorten the prompt")]
    ContextFull {
        /// Number of tokens, BOS included.
        tokens: usize,
        /// Positions of the KV cache.
        context_length: usize,
    },
    /// The value of a sampling option is out of range.
    #[error("{option}: {reason}")]
    Sampling {
        /// The option.
        option: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// The logits of two sources cannot be compared.
    #[error("{0}")]
    Parity(String),
    /// Only Core ML can do this.
    #[error("{what}: run this on a Mac with macOS 15, or on the engine mil-cpu")]
    NeedsMac {
        /// What cannot be done.
        what: &'static str,
    },
    /// A part of this crate was not compiled.
    #[error("{what} needs the feature `{feature}` of the crate ane-runtime: enable it in Cargo.toml")]
    NeedsFeature {
        /// What cannot be done.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
    /// Core ML returned an error.
    #[error(
        "Core ML cannot {doing} {}: {message}{}",
        package.display(),
        crate::advice::advice(message).map_or(String::new(), |advice| format!(" ({advice})"))
    )]
    CoreMl {
        /// What it was asked to do: `compile`, `load` or `run`.
        doing: &'static str,
        /// The package.
        package: PathBuf,
        /// Core ML's message, unabridged.
        message: String,
    },
    /// The cache of compiled packages cannot be used.
    #[error("cache of compiled packages: {}: {reason}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
        /// The error that revealed it, if there is one.
        source: Option<BoxError>,
    },
    /// A source of logits outside this crate failed.
    #[error("{source_name}: {reason}")]
    Source {
        /// Its name.
        source_name: String,
        /// The source's error message.
        reason: String,
        /// The source's error, if it is one.
        source: Option<BoxError>,
    },
    /// A stream of a chat failed.
    #[error("chat: {action}: {source}")]
    Chat {
        /// What failed: reading a line, or writing an answer.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}
