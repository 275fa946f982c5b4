//! Products of stored matrices with vectors, and the operations between such products in a decoder. They are
//! compiled for several instruction sets, of which the machine's best is chosen at run time.
//!
//! Weights are read in place, in the width in which they are stored. Weights of 8 bits are multiplied with
//! activations in [fixed point](Fixed), so that the products are exact integers, the same on every machine.
//! Weights of other forms are converted to f32 as they are read.

#![allow(
    unsafe_code,
    reason = "loads and stores whole vectors, within slices whose lengths are asserted beforehand"
)]

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod fixed_point;
mod for_each_isa;
mod isa;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod products;
mod quantized_activations;
mod rounding;
mod throughput;

pub(crate) use attention::{Cache, attend};
pub(crate) use fixed_point::Fixed;
pub(crate) use isa::Isa;
pub(crate) use matrix::{Lut, Matrix, Vector, interleaved};
pub(crate) use products::rms_norm;
pub(crate) use quantized_activations::FixedBuffer;
pub(crate) use throughput::{LANES, byte_products, multiply_adds, sum_of_words};
