//! Builds a small program, writes it as a package and prints it.
//!
//! ```sh
//! cargo run -p mlpackage --example build [PACKAGE]
//! ```

use half::f16;
use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, TensorType, Value};
use mlpackage::{DType, Metadata, Package, PackageWriter};

/// Channels in and out.
const INPUTS: usize = 16;
const OUTPUTS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "classifier.mlpackage".into());
    let mut writer = PackageWriter::create(&path)?;

    // Weights are written to the package's weight file as the program is built, so at most one is in memory.
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let x = f.input("x", DType::Fp16, [1, INPUTS, 1, 1])?;
    let weights: Vec<u8> = (0..OUTPUTS * INPUTS)
        .map(|i| f16::from_f32((i as f32 * 0.37).sin()))
        .flat_map(f16::to_le_bytes)
        .collect();
    let weight = f.weight("weight", TensorType::new(DType::Fp16, [OUTPUTS, INPUTS, 1, 1]), &weights)?;
    let scores = f.op("conv", "scores").arg("x", &x).arg("weight", &weight).one()?;
    // Unbound parameters have MIL's defaults; types and shapes are inferred.
    let y = f.op("softmax", "probabilities").arg("x", &scores).value("axis", Value::int(1)).one()?;
    assert_eq!(*y.dims(), [1, OUTPUTS, 1, 1]);
    f.output(&y);
    let program = Program::new([("main", f.finish())]);

    let metadata = Metadata { short_description: "A layer and a softmax".into(), ..Metadata::default() };
    writer.finish(&program, &metadata)?;

    let package = Package::open(&path)?;
    assert!(package.check().is_empty());
    print!("{}", package.program());
    println!("wrote {path}: model {} B, weights {} B", package.model_bytes(), package.weight_bytes());
    Ok(())
}
