#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod advice;
#[cfg(feature = "tokenizer")]
pub mod chat;
mod classes;
pub mod core_ml;
mod decoder;
mod embeddings;
mod engine;
mod engine_options;
mod error;
#[cfg(feature = "tokenizer")]
mod generate;
mod hazard;
mod inputs;
mod logits;
pub mod machine;
mod mil_cpu;
pub mod parity;
mod sampling;
mod simd;
mod tensor;
pub mod tensor_file;
#[cfg(feature = "ndarray")]
mod tensor_ndarray;
#[cfg(feature = "tokenizer")]
mod tokenizer;
mod workers;

pub use classes::{Classes, Labels};
#[cfg(all(target_os = "macos", feature = "coreml"))]
pub use core_ml::CoreMl;
pub use core_ml::{ComputeUnits, LoadStep};
pub use decoder::{DecodeModel, Decoder, Sequence};
pub use embeddings::Embeddings;
pub use engine::{Engine, Limits, LoadOptions, Memory, Model, ModelFunction, State, StateParts};
pub use engine_options::{EngineKind, EngineOptions};
pub use error::{BoxError, Error, Result};
#[cfg(feature = "tokenizer")]
pub use generate::{FinishReason, Generation};
pub use hazard::{Hazard, HazardKind, OperandRange};
pub use logits::LogitsSource;
pub use mil_cpu::{Fusion, MilCpu, Numerics};
pub use parity::{Parity, Tolerance};
pub use sampling::{Sampler, Sampling, argmax};
pub use tensor::{Data, Elements, Tensor, TensorView, Tensors};
#[cfg(feature = "tokenizer")]
pub use tokenizer::TextTokenizer;
