//! Values on their way into and out of a call.

use ane_runtime::{Data, Numerics, Tensor};
use mlpackage::DType;

use crate::common::{load, tensor};

/// Results are named, so a value that a function returns twice appears once.
#[test]
fn a_value_that_is_returned_twice_is_one_result() {
    let model = load(Numerics::F32, |f| {
        let x = f.input("x", DType::Fp32, [2])?;
        let y = f.op("square", "y").arg("x", &x).one()?;
        let z = f.op("add", "z").arg("x", &y).arg("y", &y).one()?;
        [&y, &z, &y].into_iter().for_each(|result| f.output(result));
        Ok(())
    });
    let mut state = model.new_state();
    let outputs = model.predict(&[("x", tensor(&[2], &[2.0, 3.0]).view())], &mut state).unwrap();
    assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["y", "z"]);
    assert_eq!(outputs["z"].as_f32(), Some(&[8.0, 18.0][..]));
}

/// NaN and infinities are passed on; elements of the wrong type are refused.
#[test]
fn nan_and_infinities_are_passed_on() {
    let model = load(Numerics::F16, |f| {
        let x = f.input("x", DType::Fp16, [4])?;
        let y = f.op("relu", "y").arg("x", &x).one()?;
        f.output(&y);
        Ok(())
    });
    let x = tensor(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e6]);
    let mut state = model.new_state();
    let y = model.predict(&[("x", x.view())], &mut state).unwrap()["y"].as_f32().unwrap().to_vec();
    assert!(y[0].is_nan());
    // 1e6 is beyond fp16's range, and is rounded to infinity as a host would round it.
    assert_eq!(y[1..], [f32::INFINITY, 0.0, f32::INFINITY]);
    let integers = ane_runtime::TensorView::new(&[4], &[1, 2, 3, 4][..]).unwrap();
    let error = model.predict(&[("x", integers)], &mut state).unwrap_err();
    assert_eq!(error.to_string(), "input x: its elements are int32, expected fp16");
}

/// A cache that the host holds is as exact as a state: f32 does not round its own results. A host's own
/// values are rounded to the input's type in every arithmetic, and f16 also rounds results of other engines.
#[test]
fn a_result_that_is_given_back_is_what_it_was() {
    let third = 1.0f32 / 3.0;
    let half = half::f16::from_f32(third).to_f32();
    assert_ne!(third, half);
    for (numerics, given_back) in [(Numerics::F32, third), (Numerics::Fast, third), (Numerics::F16, half)] {
        let model = load(numerics, |f| {
            let x = f.input("x", DType::Fp16, [1])?;
            let y = f.op("relu", "y").arg("x", &x).one()?;
            f.output(&y);
            Ok(())
        });
        let mut state = model.new_state();
        let mut run =
            |x: &Tensor| -> Tensor { model.predict(&[("x", x.view())], &mut state).unwrap()["y"].clone() };
        assert_eq!(run(&tensor(&[1], &[third])).as_f32(), Some(&[half][..]), "{numerics:?}");
        let result = Tensor::with_dtype(DType::Fp16, [1], Data::F32(vec![third])).unwrap();
        let y = run(&result);
        assert_eq!((y.dtype(), y.as_f32()), (DType::Fp16, Some(&[given_back][..])), "{numerics:?}");
    }
}
