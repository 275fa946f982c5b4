//! The integration tests of the command and the library. They are one binary, because each binary is linked
//! with burn separately. The tests that kill processes at random moments are a binary of their own, `kills`.
#![allow(clippy::unwrap_used)]

mod chat_example;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod coreml_logic;
mod file_kinds;
mod floor;
mod reported_refusals;
mod run;
mod train;
mod whole_path;
