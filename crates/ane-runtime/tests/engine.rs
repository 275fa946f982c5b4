//! What the engine promises around the operations: refusals, inputs, states.
#![allow(clippy::unwrap_used)]

mod common;

use ane_runtime::{Engine as _, Error, LoadOptions, MilCpu, Numerics, Tensor};
use common::{load, package, tensor};
use mlpackage::DType;
use mlpackage::mil::Value;

/// Everything that is missing is named at load, once each.
#[test]
fn what_the_engine_lacks_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [2, 3])?;
        let y = f.op("gelu", "y").arg("x", &x).value("mode", Value::string("EXACT")).one()?;
        let y2 = f.op("gelu", "y2").arg("x", &y).value("mode", Value::string("EXACT")).one()?;
        let op = f.op("concat", "z").args("values", &[&y, &y2]).value("axis", Value::int(0));
        let z = op.value("interleave", Value::bool(true)).one()?;
        f.output(&z);
        Ok(())
    });
    for numerics in [Numerics::F32, Numerics::F16] {
        let error = MilCpu::new(numerics).load(&package, &LoadOptions::default()).err().unwrap();
        let Error::Unsupported { operations, .. } = &error else { panic!("{error}") };
        assert_eq!(operations, &["concat with interleave", "gelu of mode EXACT"]);
        assert!(error.to_string().contains("p.mlpackage"), "{error}");
    }
}

/// MIL lets `relu` and `matmul` take integers; the engine does not, and says so before it is asked to.
#[test]
fn integers_where_only_floats_are_known_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Int32, [2, 2])?;
        let y = f.op("abs", "y").arg("x", &x).one()?;
        let z = f.op("matmul", "z").arg("x", &y).arg("y", &x).one()?;
        f.output(&z);
        Ok(())
    });
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap();
    let Error::Unsupported { operations, .. } = &error else { panic!("{error}") };
    assert_eq!(operations, &["abs of int32", "matmul of int32"]);
}

/// 2^28 elements fit; anything above is refused before memory is asked for.
#[test]
fn a_value_beyond_memory_is_refused_at_load() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [1 << 15, 1])?;
        let y = f.input("y", DType::Fp16, [1, 1 << 15])?;
        let z = f.op("add", "z").arg("x", &x).arg("y", &y).one()?;
        f.output(&z);
        Ok(())
    });
    let error = MilCpu::new(Numerics::F32).load(&package, &LoadOptions::default()).err().unwrap();
    assert!(error.to_string().contains("room for %z"), "{error}");
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp16, [2, 3])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let (good, transposed) = (Tensor::zeros([2, 3]), Tensor::zeros([3, 2]));
    let refused = |inputs: &[(&str, &Tensor)]| {
        let error = model.predict(inputs, &mut model.new_state()).unwrap_err();
        assert!(matches!(error, Error::Input { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(refused(&[]), "input x: missing, expected tensor<fp16, [2, 3]>");
    assert_eq!(refused(&[("x", &transposed)]), "input x: shape [3, 2], expected [2, 3]");
    assert_eq!(refused(&[("x", &good), ("x", &good)]), "input x: given twice");
    assert_eq!(refused(&[("x", &good), ("z", &good)]), "input z: the function takes x");
    assert!(model.predict(&[("x", &good)], &mut model.new_state()).is_ok());
    assert!(matches!(Tensor::new([2, 3], vec![0.0; 5]), Err(Error::TensorSize { elements: 5, .. })));
}

/// A state keeps what was written, each sequence has its own, and another model's is refused.
#[test]
fn states_belong_to_a_model_and_a_sequence() {
    let counter = || {
        load(Numerics::F16, |f| {
            let x = f.input("x", DType::Fp16, [2])?;
            let total = f.state("total", DType::Fp16, [2])?;
            let before = f.read_state("before", &total)?;
            let after = f.op("add", "after").arg("x", &before).arg("y", &x).one()?;
            f.write_state(&total, &after)?;
            f.output(&after);
            Ok(())
        })
    };
    let (model, other) = (counter(), counter());
    let x = tensor(&[2], &[1.0, -2.0]);
    let (mut a, mut b) = (model.new_state(), model.new_state());
    let step = |state: &mut _| {
        let outputs = model.predict(&[("x", &x)], state).unwrap();
        outputs["after"].as_f32().unwrap().to_vec()
    };
    assert_eq!(step(&mut a), [1.0, -2.0]);
    assert_eq!(step(&mut a), [2.0, -4.0]);
    assert_eq!(step(&mut b), [1.0, -2.0]);
    assert_eq!(step(&mut a), [3.0, -6.0]);
    assert!(matches!(other.predict(&[("x", &x)], &mut a), Err(Error::ForeignState)));
    // A refused call leaves the state as it was.
    assert!(model.predict(&[], &mut a).is_err());
    let outputs = model.predict(&[("x", &x)], &mut a).unwrap();
    assert_eq!(outputs["after"].as_f32().unwrap(), [4.0, -8.0]);
}
