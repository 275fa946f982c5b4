//! What can go wrong between a bundle and its tokens.

use std::path::PathBuf;

use mlpackage::{Shape, counted};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error names the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The package or bundle is not sound.
    #[error(transparent)]
    Package(#[from] mlpackage::Error),
    /// The engine has no implementation of some operations. All of them are listed.
    #[error("{engine} cannot run {}: it has no {}", package.display(), operations.join(", "))]
    Unsupported {
        /// The engine.
        engine: String,
        /// The package.
        package: PathBuf,
        /// Types of the operations, or what about them is missing.
        operations: Vec<String>,
    },
    /// A call lacks an input, or has one that the function does not take.
    #[error("input {name}: {reason}")]
    Input {
        /// The input.
        name: String,
        /// What was found and expected.
        reason: String,
    },
    /// What an operation is to do depends on values that do not allow it.
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
        /// The name.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// A state was made by another model.
    #[error("the state belongs to another model: make one with this model's new_state")]
    ForeignState,
    /// Elements and shape of a tensor disagree.
    #[error("a tensor of shape {shape} holds {}, {elements} were given", counted(shape.elements(), "element"))]
    TensorSize {
        /// The shape.
        shape: Shape,
        /// Elements given.
        elements: usize,
    },
    /// Elements and type of a tensor disagree.
    #[error("a tensor of {dtype} is not kept as {data}")]
    TensorType {
        /// The type.
        dtype: mlpackage::DType,
        /// What the elements are.
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
    },
    /// Results of several calls cannot be stacked.
    #[error("output {name} has shape {found} now and {before} before: run its calls one by one")]
    Stack {
        /// The output.
        name: String,
        /// Its shape in this call.
        found: Shape,
        /// Its shape in those before.
        before: Shape,
    },
    /// Something in a bundle does not fit the rest of it.
    #[error("bundle {}: {what}: {reason}", path.display())]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// The file, tensor, input or field.
        what: String,
        /// What was found and expected.
        reason: String,
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
    /// A token id that the model has no embedding for.
    #[error("token {token} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Number of tokens that the model has.
        vocab_size: usize,
    },
    /// More tokens than the context holds.
    #[error("{tokens} tokens do not fit into the context of {context_length}: shorten the prompt")]
    ContextFull {
        /// Tokens, BOS included.
        tokens: usize,
        /// Positions of the KV cache.
        context_length: usize,
    },
    /// A sampling option makes no sense.
    #[error("{option}: {reason}")]
    Sampling {
        /// The option.
        option: &'static str,
        /// What was found and expected.
        reason: String,
    },
    /// Two sources of logits cannot be compared.
    #[error("{0}")]
    Parity(String),
    /// Something has a few values, and this is none of them.
    #[error("{choice} {found:?}: expected one of {expected}")]
    Choice {
        /// What is chosen.
        choice: &'static str,
        /// What was given.
        found: String,
        /// What may be given.
        expected: String,
    },
    /// Something that only Core ML can do.
    #[error("{what}: run this on a Mac with macOS 15, or on the engine mil-cpu")]
    NeedsMac {
        /// What it is.
        what: &'static str,
    },
    /// Core ML refused.
    #[error(
        "Core ML cannot {doing} {}: {message}{}",
        package.display(),
        crate::core_ml::advice(message).map_or(String::new(), |advice| format!(" ({advice})"))
    )]
    CoreMl {
        /// What it was asked to do: `compile`, `load`, `run`.
        doing: &'static str,
        /// The package.
        package: PathBuf,
        /// Its words, whole.
        message: String,
    },
    /// The cache of compiled packages cannot be used.
    #[error("cache of compiled packages: {}: {reason}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// A source of logits that is not part of this crate failed.
    #[error("{source_name}: {reason}")]
    Source {
        /// Its name.
        source_name: String,
        /// Its own words.
        reason: String,
    },
    /// Reading a line or writing an answer failed.
    #[error("chat: {0}")]
    Chat(#[from] std::io::Error),
}
