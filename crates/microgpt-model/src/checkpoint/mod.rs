//! A trained model on disk: a folder in the layout of Hugging Face.
//!
//! ```text
//! config.json         the dimensions
//! model.safetensors   the weights, with PyTorch's names and layout
//! tokenizer.json      for the `tokenizers` library
//! metrics.jsonl       one line per training step (if it was trained here)
//! loss.svg            a plot of the losses (if it was trained by the command)
//! training/           if it was trained here:
//!   report.json       settings and losses of the run
//!   last/             the state after the last step, from which training can resume
//!   step-*/           states of an unfinished run, possibly beside a finished model that it will replace
//! ```

mod files;
mod layout;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::Checkpoint;

#[cfg(feature = "train")]
pub(crate) use files::{REPORT_LIMIT, read_file, write};
#[cfg(feature = "train")]
pub(crate) use layout::{FILES, PICTURE, WEIGHTS, differs, is_of_state};
#[cfg(feature = "train")]
pub(crate) use read::read_tensors;
#[cfg(feature = "train")]
pub(crate) use write::{open_to_all, write_config, write_files, write_folder};
