//! The packages in which faults are planted.

use std::fs;
use std::path::{Path, PathBuf};

use super::draft::ints;
use crate::builder::FunctionBuilder;
use crate::mil::{Opset, Program, TensorType, Value};
use crate::package::PackageWriter;
use crate::{DType, Metadata};

/// The package in which a fault is planted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    /// The package of [`control`].
    Control,
    /// The package of [`refusable`].
    Refusable,
    /// A package that coremltools wrote.
    Fixture(&'static str),
}

impl Base {
    /// Writes the package into `folder`.
    pub(super) fn write(self, folder: &Path) -> PathBuf {
        match self {
            Self::Control => built(folder, control),
            Self::Refusable => built(folder, refusable),
            Self::Fixture(name) => fixture(folder, name),
        }
    }
}

/// Writes a package with the function that `build` adds.
fn built(folder: &Path, build: fn(&mut FunctionBuilder<'_>) -> crate::Result<()>) -> PathBuf {
    let path = folder.join("p.mlpackage");
    let mut writer = PackageWriter::create(&path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    path
}

/// Copies a package that coremltools wrote.
fn fixture(folder: &Path, name: &str) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = folder.join("p.mlpackage");
    copy(&fixtures.join(format!("{name}.mlpackage")), &path);
    path
}

/// Builds the control program: weights in the file and in the program, compressed weights, a state, and an
/// operation of every family.
///
/// The weight file holds `w` fp16 `[3, 4, 1, 1]` at 64, `w8` int8 `[3, 3, 1, 1]` at 192 and `w4` int4 `[5]`,
/// half of whose last byte is padding, at 320.
fn control(f: &mut FunctionBuilder<'_>) -> crate::Result<()> {
    let x = f.input("x", DType::Fp16, [1, 4, 1, 8])?;
    let steps = f.input("steps", DType::Int32, [2])?;
    let cache = f.state("cache", DType::Fp16, [1, 3, 1, 8])?;
    let w = f.weight("w", TensorType::new(DType::Fp16, [3, 4, 1, 1]), &[0; 24])?;
    let one = |n: i32| Value::ints([1], [n]);
    let conv = f.op("conv", "conv").arg("x", &x).arg("weight", &w);
    let conv = conv.value("strides", ints(&[1, 1])).value("pad", ints(&[0; 4])).one()?;
    let data = f.blob(TensorType::new(DType::Int8, [3, 3, 1, 1]), &[1; 9])?;
    let scale = Value::fp16s([3, 1, 1, 1], &[half::f16::ONE; 3]);
    let dense =
        f.op("constexpr_blockwise_shift_scale", "dense").inline("data", data).inline("scale", scale).one()?;
    let packed = f.blob(TensorType::new(DType::Int4, [5]), &[0x21, 0x43, 0x05])?;
    let scale = Value::fp16s([1], &[half::f16::ONE]);
    let unpacked = f.op("constexpr_blockwise_shift_scale", "unpacked");
    let unpacked = unpacked.inline("data", packed).inline("scale", scale).one()?;
    let conv8 = f.op("conv", "conv8").arg("x", &conv).arg("weight", &dense).one()?;
    let before = f.read_state("before", &cache)?;
    let sum = f.op("add", "sum").arg("x", &conv8).arg("y", &before).one()?;
    f.write_state(&cache, &sum)?;
    let soft = f.op("softmax", "soft").arg("x", &sum).value("axis", Value::int(-1)).one()?;
    let flat = f.op("reshape", "flat").arg("x", &soft).value("shape", ints(&[3, 8])).one()?;
    let turned = f.op("transpose", "turned").arg("x", &flat).value("perm", ints(&[1, 0])).one()?;
    let product = f.op("matmul", "product").arg("x", &flat).arg("y", &turned).one()?;
    let joined =
        f.op("concat", "joined").args("values", &[&product, &product]).value("axis", Value::int(0)).one()?;
    let halves = f.op("split", "left").arg("x", &joined).value("num_splits", Value::int(2));
    let halves = halves.value("axis", Value::int(0)).many(&["left", "right"])?;
    let cut = f.op("slice_by_index", "cut").arg("x", &halves[0]).value("begin", ints(&[0, 0]));
    let cut = cut.value("end", ints(&[2, 3])).value("end_mask", Value::bools([false, false])).one()?;
    let mean = f.op("reduce_mean", "mean").arg("x", &cut).value("axes", one(1)).one()?;
    let norm = f.op("layer_norm", "norm").arg("x", &cut).value("axes", one(1)).one()?;
    let gelu = f.op("gelu", "gelu").arg("x", &norm).one()?;
    let top = f.op("topk", "top").arg("x", &gelu).value("k", Value::int(2)).many(&["top", "places"])?;
    let picked = f.op("gather", "picked").arg("x", &gelu).arg("indices", &steps).one()?;
    let large = f.op("greater", "large").arg("x", &picked).arg("y", &gelu).one()?;
    let chosen = f.op("select", "chosen").arg("cond", &large).arg("a", &picked).arg("b", &gelu).one()?;
    let wide = f.op("cast", "wide").arg("x", &chosen).value("dtype", Value::string("fp32")).one()?;
    for output in [&unpacked, &mean, &top[0], &wide] {
        f.output(output);
    }
    Ok(())
}

/// Builds a program to which the rules apply without a finding: padding of the last two axes, quantization by
/// positive scales (ten of them, so that they are stored in the weight file), an index that is not validated.
fn refusable(f: &mut FunctionBuilder<'_>) -> crate::Result<()> {
    let x = f.input("x", DType::Fp16, [1, 10, 4, 6])?;
    let steps = f.input("steps", DType::Int32, [2])?;
    let w = f.weight("w", TensorType::new(DType::Fp16, [10, 10, 1, 1]), &[0; 200])?;
    let conv = f.op("conv", "conv").arg("x", &x).arg("weight", &w);
    let conv = conv.value("pad", ints(&[0; 4])).one()?;
    let grown = [("reflect", [0, 0, 0, 0, 3, 2, 5, 5]), ("replicate", [0, 0, 0, 0, 4, 0, 6, 6])];
    for (mode, pad) in grown {
        let padded = f.op("pad", mode).arg("x", &conv).value("pad", ints(&pad));
        let padded =
            padded.value("mode", Value::string(mode)).value("constant_val", Value::fp16(0.0)).one()?;
        f.output(&padded);
    }
    let scale = f.weight("scale", TensorType::new(DType::Fp16, [10]), &half_bytes(0.5))?;
    let whole = f.op("quantize", "whole").arg("input", &conv).arg("scale", &scale);
    let whole = whole.value("axis", Value::int(1)).value("output_dtype", Value::string("int8")).one()?;
    let back = f.op("dequantize", "back").arg("input", &whole).value("scale", Value::fp16(0.5)).one()?;
    let picked = f.op("gather", "picked").arg("x", &back).arg("indices", &steps).value("axis", Value::int(3));
    let picked = picked.value("validate_indices", Value::bool(false)).one()?;
    let same = f.op("reshape", "same").arg("x", &picked).value("shape", ints(&[1, 10, 4, 2, 1])).one()?;
    f.output(&same);
    Ok(())
}

/// Returns the bytes of the same fp16 value ten times.
fn half_bytes(x: f32) -> Vec<u8> {
    half::f16::from_f32(x).to_le_bytes().repeat(10)
}
