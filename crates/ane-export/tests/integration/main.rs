//! The crate's integration tests. They are one binary, because each binary is linked separately. `steady_state`
//! counts allocations and needs a binary of its own.
#![allow(clippy::unwrap_used)]

mod bundle;
mod decoding;
mod norm_forms;
mod own_engine;
mod probe;
