//! Kills the command at random moments. These moments depend on how long a command takes, so the tests are
//! not run together with others.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod finished_outputs;
mod resume;
