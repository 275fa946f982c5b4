//! Verdicts on packages made for the purpose.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use ane_floor::laws::FLOOR_BYTES;
use ane_floor::{Basis, Count, Device, PlacementReport};
use mlpackage::mil::builder::FunctionBuilder;
use mlpackage::mil::{Opset, Program, TensorType};
use mlpackage::{DType, Metadata, Package, PackageWriter};

fn package(path: &Path, build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>) -> Package {
    let mut writer = PackageWriter::create(path).unwrap();
    let mut f = FunctionBuilder::new("main", Opset::CoreML8, writer.weights());
    build(&mut f).unwrap();
    let program = Program::new([("main", f.finish())]);
    writer.finish(&program, &Metadata::default()).unwrap();
    Package::open(path).unwrap()
}

fn predicted(build: impl FnOnce(&mut FunctionBuilder<'_>) -> mlpackage::Result<()>) -> PlacementReport {
    let dir = tempfile::tempdir().unwrap();
    PlacementReport::predict(&package(&dir.path().join("p.mlpackage"), build), None).unwrap()
}

/// A 1x1 convolution of `outputs` channels over 1,024, and a relu.
fn conv(f: &mut FunctionBuilder<'_>, dtype: DType, outputs: usize) -> mlpackage::Result<()> {
    let x = f.input("x", dtype, [1, 1_024, 1, 1])?;
    let ty = TensorType::new(dtype, [outputs, 1_024, 1, 1]);
    let bytes = if dtype == DType::Fp32 { 4 } else { 2 };
    let weight = f.weight("w", ty, &vec![0; outputs * 1_024 * bytes])?;
    let y = f.op("conv", "y").arg("x", &x).arg("weight", &weight).one()?;
    let y = f.op("relu", "z").arg("x", &y).one()?;
    f.output(&y);
    Ok(())
}

/// 14,000,000 / 1,024 = 13,671.9 channels; the text of so small a program is about 2 kB, the descriptions 4 kB.
#[test]
fn the_floor_divides_at_14_mb_of_int8() {
    let below = predicted(|f| conv(f, DType::Fp16, 13_660));
    assert!(below.floor.int8_bytes < FLOOR_BYTES, "{}", below.floor.int8_bytes);
    assert_eq!((below.verdict, below.pass), (Device::Cpu, false));
    assert_eq!(below.residency.conv_ane, Count { ane: 0, total: 1 });
    assert_eq!(below.residency.compute_ane, Count { ane: 0, total: 2 });
    assert!(below.operations.iter().all(|o| o.device == Device::Cpu));

    let above = predicted(|f| conv(f, DType::Fp16, 13_680));
    assert!(above.floor.int8_bytes >= FLOOR_BYTES, "{}", above.floor.int8_bytes);
    assert_eq!((above.verdict, above.pass), (Device::Ane, true));
    assert_eq!(above.residency.conv_ane, Count { ane: 1, total: 1 });
    assert_eq!(above.residency.compute_ane, Count { ane: 2, total: 2 });
    for report in [&below, &above] {
        assert_eq!(report.basis, Basis::Predicted);
        let text = report.to_string();
        assert!(text.contains("(predicted)") && !text.contains("measured"), "{text}");
        // So near the floor, and stored in fp16: the report says that it is less sure.
        assert!(text.contains("within 20 %") && text.contains("stored wider than INT8"), "{text}");
    }
}

/// The sum that is reported is the sum of its parts.
#[test]
fn compiled_size_adds_up() {
    let report = predicted(|f| conv(f, DType::Fp16, 512));
    // 512 * 1,024 fp16 weights in a blob: 64 bytes of file header, 64 of its metadata.
    assert_eq!(report.compiled.weights, 512 * 1_024 * 2 + 128);
    assert_eq!(report.compiled.weight_elements, 512 * 1_024);
    assert_eq!(report.compiled_bytes, report.compiled.weights + report.compiled.program + 4_000);
}

#[test]
fn fp32_is_never_placed_whatever_its_size() {
    let report = predicted(|f| conv(f, DType::Fp32, 16_384));
    assert!(report.floor.int8_bytes > FLOOR_BYTES);
    assert_eq!(report.verdict, Device::Cpu);
    assert!(report.floor.reason.contains("fp32"), "{}", report.floor.reason);
}

#[test]
fn a_program_without_convolutions_is_outside_the_law() {
    let report = predicted(|f| {
        let x = f.input("x", DType::Fp16, [1, 8])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    assert_eq!((report.verdict, report.pass), (Device::Cpu, false));
    assert_eq!(report.residency.conv_ane, Count { ane: 0, total: 0 });
    assert!(report.floor.reason.contains("no convolution"), "{}", report.floor.reason);
}
