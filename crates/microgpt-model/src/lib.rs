#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checkpoint;
mod config;
mod corpus;
mod error;
mod report;
mod tokenizer;
mod weights;

#[cfg(feature = "train")]
mod batch;
#[cfg(feature = "train")]
mod device;
#[cfg(feature = "train")]
mod dropout;
#[cfg(feature = "train")]
mod examples;
#[cfg(feature = "train")]
mod generate;
#[cfg(feature = "train")]
mod model;
#[cfg(feature = "train")]
mod shuffle;
#[cfg(feature = "train")]
mod training;

pub use checkpoint::Checkpoint;
pub use config::{GptConfig, MODEL_TYPE, Preset, TensorSpec};
pub use corpus::{Corpus, Layout, Split};
pub use error::{BoxError, Error, Result, a_tenth};
pub use report::{Evaluation, StepMetrics, TrainingReport};
pub use tokenizer::{BOS_TOKEN, MIN_BYTE_PAIR_VOCAB, Tokenizer, TokenizerKind};
pub use weights::{INIT_STD, WIDE_INIT_STD, Weights};

#[cfg(feature = "train")]
pub use device::Backend;
#[cfg(feature = "train")]
pub use generate::generate;
#[cfg(feature = "train")]
pub use model::Gpt;
#[cfg(feature = "train")]
pub use training::{
    Ended, Progress, Resumed, SaveEvery, SaveTo, Schedule, SkippedState, Trained, Trainer, TrainingConfig,
    TrainingSizes, train,
};
