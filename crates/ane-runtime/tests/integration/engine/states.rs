//! What a state keeps between calls.

use ane_runtime::{Engine as _, Error, LoadOptions, MilCpu, Model, Numerics};
use mlpackage::DType;

use crate::common::{load, package, tensor};

/// Returns a model whose state accumulates its input.
fn accumulator(numerics: Numerics) -> Box<dyn Model> {
    load(numerics, |f| {
        let x = f.input("x", DType::Fp16, [2])?;
        let total = f.state("total", DType::Fp16, [2])?;
        let before = f.read_state("before", &total)?;
        let after = f.op("add", "after").arg("x", &before).arg("y", &x).one()?;
        f.write_state(&total, &after)?;
        f.output(&after);
        Ok(())
    })
}

/// A state keeps what was written to it; each sequence has its own; a state of another model is refused.
#[test]
fn states_belong_to_a_model_and_a_sequence() {
    let (model, other) = (accumulator(Numerics::F16), accumulator(Numerics::F16));
    let x = tensor(&[2], &[1.0, -2.0]);
    let (mut a, mut b) = (model.new_state(), model.new_state());
    let step = |state: &mut _| {
        let outputs = model.predict(&[("x", x.view())], state).unwrap();
        outputs["after"].as_f32().unwrap().to_vec()
    };
    assert_eq!(step(&mut a), [1.0, -2.0]);
    assert_eq!(step(&mut a), [2.0, -4.0]);
    assert_eq!(step(&mut b), [1.0, -2.0]);
    assert_eq!(step(&mut a), [3.0, -6.0]);
    assert!(matches!(other.predict(&[("x", x.view())], &mut a), Err(Error::ForeignState)));
    // A refused call leaves the state unchanged.
    let error = model.predict(&[], &mut a).unwrap_err();
    assert!(matches!(&error, Error::Input { name, .. } if name == "x"), "{error}");
    let outputs = model.predict(&[("x", x.view())], &mut a).unwrap();
    assert_eq!(outputs["after"].as_f32().unwrap(), [4.0, -8.0]);
}

/// A state that is reset is like a new one, even if another model created it.
#[test]
fn a_state_can_be_reset() {
    for numerics in [Numerics::F32, Numerics::Fast] {
        let (model, other) = (accumulator(numerics), accumulator(numerics));
        let x = tensor(&[2], &[1.0, -2.0]);
        let mut foreign = other.new_state();
        other.predict(&[("x", x.view())], &mut foreign).unwrap();
        for mut state in [model.new_state(), foreign] {
            for _ in 0..2 {
                model.reset(&mut state);
                assert!(state.outputs().is_empty());
                for expected in [[1.0, -2.0], [2.0, -4.0]] {
                    let outputs = model.predict(&[("x", x.view())], &mut state).unwrap();
                    assert_eq!(outputs["after"].as_f32().unwrap(), expected);
                }
            }
        }
    }
}

/// A batch with a state of another model is refused before it changes any state: the hazards that are known stay.
#[test]
fn a_batch_that_is_refused_keeps_the_hazards() {
    let dir = tempfile::tempdir().unwrap();
    let squared = package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", DType::Fp16, [1])?;
        let y = f.op("square", "squared").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let options = LoadOptions::default().with_hazards(true);
    let load = || MilCpu::new(Numerics::F16).load(&squared, &options).unwrap();
    let (model, other) = (load(), load());
    let (mut mine, mut foreign) = (model.new_state(), other.new_state());
    let x = tensor(&[1], &[300.0]);
    let inputs = [("x", x.view())];
    model.predict(&inputs, &mut mine).unwrap();
    assert_eq!(mine.hazards().len(), 1);
    let error = model
        .default_function()
        .predict_batch(&[&inputs[..], &inputs[..]], &mut [&mut mine, &mut foreign])
        .unwrap_err();
    assert!(matches!(error, Error::ForeignState), "{error}");
    assert_eq!(mine.hazards().len(), 1);
    assert_eq!(mine.outputs()["squared"].as_f32(), Some(&[f32::INFINITY][..]));
}

/// A value that was read from a state does not change when the state is written.
#[test]
fn a_state_that_was_read_keeps_its_value_when_the_state_is_written() {
    for numerics in [Numerics::F32, Numerics::F16] {
        let model = load(numerics, |f| {
            let x = f.input("x", DType::Fp16, [2])?;
            let last = f.state("last", DType::Fp16, [2])?;
            let before = f.read_state("before", &last)?;
            f.write_state(&last, &x)?;
            let after = f.read_state("after", &last)?;
            let step = f.op("sub", "step").arg("x", &after).arg("y", &before).one()?;
            f.output(&step);
            let old = f.op("identity", "old").arg("x", &before).one()?;
            f.output(&old);
            Ok(())
        });
        let mut state = model.new_state();
        for (x, before) in [([1.0, 2.0], [0.0, 0.0]), ([5.0, -3.0], [1.0, 2.0]), ([0.5, 0.5], [5.0, -3.0])] {
            let outputs = model.predict(&[("x", tensor(&[2], &x).view())], &mut state).unwrap();
            assert_eq!(outputs["old"].as_f32().unwrap(), before);
            assert_eq!(outputs["step"].as_f32().unwrap(), [x[0] - before[0], x[1] - before[1]]);
        }
    }
}

/// Errors that depend on values are found during the call: an index out of range, a box outside a tensor. The
/// state is then unchanged, even if the call had already written to it.
#[test]
fn a_call_that_fails_leaves_the_state_as_it_was() {
    let model = load(Numerics::F32, |f| {
        let index = f.input("index", DType::Int32, [1])?;
        let last = f.state("last", DType::Fp16, [1])?;
        let before = f.read_state("before", &last)?;
        let one = f.value("one", mlpackage::mil::Value::fp16(1.0))?;
        let after = f.op("add", "after").arg("x", &before).arg("y", &one).one()?;
        f.write_state(&last, &after)?;
        let table =
            f.value("table", mlpackage::mil::Value::fp16s([3], &[1.0, 2.0, 3.0].map(half::f16::from_f32)))?;
        let found = f.op("gather", "found").arg("x", &table).arg("indices", &index).one()?;
        let sum = f.op("add", "sum").arg("x", &found).arg("y", &before).one()?;
        f.output(&sum);
        Ok(())
    });
    let mut state = model.new_state();
    let mut call = |index: i32| {
        let index = [index];
        let view = ane_runtime::TensorView::new(&[1], &index[..]).unwrap();
        model.predict(&[("index", view)], &mut state).map(|o| o["sum"].as_f32().unwrap()[0])
    };
    assert_eq!(call(2).unwrap(), 3.0);
    assert_eq!(call(-1).unwrap(), 4.0);
    for bad in [3, -4, i32::MAX, i32::MIN] {
        let error = call(bad).unwrap_err();
        let expected = format!("gather -> %found: index {bad} is outside of an axis of 3");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(call(0).unwrap(), 3.0);
}
