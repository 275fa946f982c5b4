//! Every package that coremltools wrote for `mlpackage` runs, or the engine names what it lacks.

use std::collections::BTreeMap;
use std::path::Path;

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::{DType, Package};

use crate::suite;

/// Returns an input of small values; floats are all different.
fn input(dtype: DType, shape: mlpackage::Shape) -> Tensor {
    let n = shape.elements();
    let data = match dtype {
        dtype if dtype.is_float() => {
            ane_runtime::Data::F32((0..n).map(|i| (i as f32 * 0.37).sin() * 0.9).collect())
        }
        _ => ane_runtime::Data::I32((0..n).map(|i| (i % 2) as i32).collect()),
    };
    Tensor::with_dtype(dtype, shape, data).unwrap()
}

#[test]
fn every_fixture_runs_or_says_what_it_lacks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mlpackage/tests/fixtures");
    let mut lacking = BTreeMap::new();
    let mut ran = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "mlpackage") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let package = Package::open(&path).unwrap();
        for numerics in [Numerics::F32, Numerics::F16] {
            let engine = MilCpu::new(numerics);
            let lacks = suite::lacks(&engine, &package);
            if !lacks.is_empty() {
                lacking.insert(name.clone(), lacks);
                continue;
            }
            let model = engine.load(&package, &LoadOptions::default()).unwrap();
            let mut state = model.new_state();
            for function in model.functions() {
                let inputs: Vec<(String, Tensor)> = function
                    .describe()
                    .inputs
                    .iter()
                    .map(|f| {
                        // The engine accepts an image as a tensor.
                        let dtype = f.tensor().map_or(DType::Fp32, |tensor| tensor.dtype);
                        (f.name.clone(), input(dtype, f.default_shape().unwrap()))
                    })
                    .collect();
                let views: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
                let outputs = function.predict(&views, &mut state).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(outputs.len(), function.describe().outputs.len(), "{name}");
                ran += 1;
            }
        }
    }
    assert_eq!(lacking, BTreeMap::new());
    // Of the 57 packages that `make.py` writes, one has two functions; each runs in two arithmetics.
    assert_eq!(ran, 2 * 58);
}
