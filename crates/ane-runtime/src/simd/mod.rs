//! Products of stored matrices with vectors, and the operations between such products in a decoder. They are
//! compiled for several instruction sets, of which the machine's best is chosen at run time.
//!
//! Weights are read in place, in the width in which they are stored. Weights of 8 bits are multiplied with
//! activations in [fixed point](Fixed), so that the products are exact integers, the same on every machine.
//! Weights of other forms are converted to f32 as they are read.

// For loads and stores of whole vectors, within slices whose lengths are asserted beforehand.
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
