//! Products of a matrix, as a package stores it, with vectors, and what stands between such products in a decoder: written
//! for the instructions that a machine has, chosen when it runs.
//!
//! Weights are read where they lie, in the width in which they are stored. Those of 8 bits meet activations in
//! [fixed point](Fixed), so that the products are exact integers, the same on every machine; those of other forms become f32 on
//! the way.

// Loads and stores of whole vectors, within slices whose lengths are asserted beforehand.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod fixed;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod peak;
mod portable;
mod rows;
mod vectors;

pub(crate) use fixed::{Fixed, FixedBuffer};
pub(crate) use isa::Isa;
pub(crate) use peak::byte_products;
pub(crate) use rows::{Lut, Rows, Vector, beside};
pub(crate) use vectors::{Cache, LANES, attend, multiply_adds, rms_norm, sum_of_words};
