//! The crate's integration tests. They are one binary, because each binary is linked separately. `steady_state`
//! counts allocations and needs a binary of its own; it and the example `conformance` share `suite`.
#![allow(clippy::unwrap_used)]

mod common;
mod compile_cache;
mod conformance;
mod differential;
mod documented_examples;
mod engine;
mod fixtures;
mod fusion;
mod fusion_edges;
mod hazards;
mod images;
mod layers;
mod near_fusions;
mod operations;
mod outliers;
mod reference;
mod sharing;
#[path = "../suite/mod.rs"]
mod suite;
mod threads;
