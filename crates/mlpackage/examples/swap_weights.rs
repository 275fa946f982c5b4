//! Copies a package and multiplies every fp16 blob in its weight files by a factor. A program that trains
//! weights further can update an existing package in the same way.
//!
//! ```sh
//! cargo run -p mlpackage --example swap_weights PACKAGE COPY FACTOR
//! ```

use half::f16;
use mlpackage::{DType, Package};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: swap_weights PACKAGE COPY FACTOR";
    let [source, copy, factor] =
        <[String; 3]>::try_from(std::env::args().skip(1).collect::<Vec<_>>()).map_err(|_| usage)?;
    let factor: f32 = factor.parse()?;

    let package = Package::open(&source)?;
    let mut changed = 0;
    // One weight at a time; a weight that several functions share is visited once.
    package.edit().save_with(&copy, |_, blob| {
        if blob.dtype != DType::Fp16 {
            return None;
        }
        changed += 1;
        let scaled = blob.data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32() * factor);
        Some(scaled.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect())
    })?;
    println!("{copy}: {changed} weights multiplied by {factor}");
    Ok(())
}
