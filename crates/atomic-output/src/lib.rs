#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dir;
mod error;
mod file;
mod remains;
mod strangers;

pub use dir::AtomicDir;
pub use error::{Error, Result};
pub use file::{AtomicFile, check_file, commit_all, write_file};
pub use remains::remove_remains;
pub use strangers::stranger;
