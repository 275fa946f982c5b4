//! Writes a package of many parameters and prints the time and the peak memory. Weights are streamed, so
//! memory use depends on the largest tensor.
//!
//! ```sh
//! cargo run --release -p mlpackage --example write_large [MILLIONS_OF_PARAMETERS] [PACKAGE]
//! ```

use std::time::Instant;

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, TensorType};
use mlpackage::{DType, Metadata, Package, PackageWriter};

/// Channels. A layer has `WIDTH * WIDTH` parameters, which take 8.4 MB in fp16.
const WIDTH: usize = 2048;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let millions: usize = arguments.next().map_or(Ok(600), |a| a.parse())?;
    let path = arguments.next().unwrap_or_else(|| "large.mlpackage".into());
    let layers = (millions * 1_000_000).div_ceil(WIDTH * WIDTH);

    let start = Instant::now();
    let mut writer = PackageWriter::create(&path)?;
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    let mut x = f.input("x", DType::Fp16, [1, WIDTH, 1, 1])?;
    let mut weights = vec![0u8; 2 * WIDTH * WIDTH];
    for layer in 0..layers {
        // Other bytes in every layer; their values do not matter here.
        weights.iter_mut().enumerate().for_each(|(i, b)| *b = (i * 31 + layer) as u8 & 0x3f);
        let ty = TensorType::new(DType::Fp16, [WIDTH, WIDTH, 1, 1]);
        let weight = f.weight(&format!("weight_{layer}"), ty, &weights)?;
        x = f.op("conv", &format!("layer_{layer}")).arg("x", &x).arg("weight", &weight).one()?;
    }
    f.output(&x);
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default())?;
    let written = start.elapsed();

    let parameters = layers * WIDTH * WIDTH;
    println!("{path}: {:.1} M parameters in {layers} layers", parameters as f64 / 1e6);
    println!("written and flushed to disk in {written:.2?}");
    println!("largest tensor {:.1} MB, peak memory {}", weights.len() as f64 / 1e6, peak_memory());
    let package = Package::open(&path)?;
    println!("weights {} B, opened after {:.2?}", package.weight_bytes(), start.elapsed() - written);
    Ok(())
}

/// Returns the peak memory of the process, as Linux reports it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "unknown on this system".into(), |peak| peak.trim().to_owned())
}
