//! Hazards in every arithmetic: infinities, NaN and results that vanish, with the operation that produced
//! them.

use ane_runtime::{Data, Engine as _, HazardKind, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::DType;
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;

use crate::common::{self, tensor};

const ALL: [Numerics; 3] = [Numerics::F32, Numerics::F16, Numerics::Fast];

/// Returns the hazards of one call with `x`, planned or interpreted.
fn found(
    numerics: Numerics,
    interpreted: bool,
    dtype: DType,
    x: &Tensor,
    build: impl FnOnce(&mut FunctionBuilder<'_>, &Var) -> mlpackage::Result<Var>,
) -> Vec<(HazardKind, String)> {
    let dir = tempfile::tempdir().unwrap();
    let package = common::package(&dir.path().join("p.mlpackage"), |f| {
        let x = f.input("x", dtype, x.shape().clone())?;
        let y = build(f, &x)?;
        f.output(&y);
        if interpreted {
            let places = f.op("non_zero", "places").arg("x", &y).one()?;
            f.output(&places);
        }
        Ok(())
    });
    let options = LoadOptions::default().with_hazards(true);
    let model = MilCpu::new(numerics).load(&package, &options).unwrap();
    assert_eq!(model.default_function().memory().is_none(), interpreted);
    let mut state = model.new_state();
    model.predict(&[("x", x.view())], &mut state).unwrap();
    state.hazards().iter().map(|hazard| (hazard.kind, hazard.to_string())).collect()
}

/// Asserts that every arithmetic finds the same hazards in a program that computes in fp32, and returns them.
fn in_fp32(
    x: &[f32],
    build: impl Fn(&mut FunctionBuilder<'_>, &Var) -> mlpackage::Result<Var>,
) -> Vec<(HazardKind, String)> {
    let all = ALL.into_iter().flat_map(|numerics| [(numerics, false), (numerics, true)]);
    let x = tensor(&[x.len()], x);
    let mut all = all.map(|(numerics, interpreted)| found(numerics, interpreted, DType::Fp32, &x, &build));
    let first = all.next().unwrap();
    all.for_each(|other| assert_eq!(other, first));
    first
}

/// 1e20 squared is beyond 3.4e38, the largest fp32 value; 1e19 squared is not.
#[test]
fn fp32_overflows_are_named() {
    let square = |f: &mut FunctionBuilder<'_>, x: &Var| f.op("square", "squared").arg("x", x).one();
    let hazards = in_fp32(&[1e20, 2.0], square);
    assert_eq!(hazards.len(), 1, "{hazards:?}");
    assert_eq!(hazards[0].0, HazardKind::Infinity);
    let text = &hazards[0].1;
    assert!(
        text.starts_with("square -> %squared produced an infinity from finite operands in call 0: x in [2, "),
        "{text}"
    );
    assert_eq!(in_fp32(&[1e19, 2.0], square), []);
    // An infinity that is an input is not reported.
    assert_eq!(in_fp32(&[f32::INFINITY, 2.0], square), []);
}

/// The index -1 has the bits of a NaN, and is none: 0 / 0 at the last place is found.
#[test]
fn indices_hide_no_nan() {
    let divided = |f: &mut FunctionBuilder<'_>, x: &Var| {
        let op = f.op("scatter", "divided").arg("data", x).value("indices", Value::ints([1], [-1]));
        let op = op.value("updates", Value::fp32s([1], [0.0])).value("axis", Value::int(0));
        op.value("mode", Value::string("div")).value("validate_indices", Value::bool(false)).one()
    };
    let hazards = in_fp32(&[1.0, 0.0], divided);
    assert_eq!(
        hazards.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [HazardKind::NotANumber],
        "{hazards:?}"
    );
}

#[test]
fn the_operation_where_a_nan_is_born_is_named_and_not_those_that_pass_it_on() {
    let difference = |f: &mut FunctionBuilder<'_>, x: &Var| {
        let root = f.op("sqrt", "root").arg("x", x).one()?;
        f.op("add", "sum").arg("x", &root).arg("y", &root).one()
    };
    let hazards = in_fp32(&[-1.0, 4.0], difference);
    assert_eq!(
        hazards,
        [(HazardKind::NotANumber, "sqrt -> %root produced a NaN in call 0: x in [-1, 4]".to_owned())]
    );
    assert_eq!(in_fp32(&[1.0, 4.0], difference), []);
    assert_eq!(in_fp32(&[f32::NAN, 4.0], difference), []);
}

/// e^-200 is below 1.4e-45, the smallest fp32 value.
#[test]
fn results_that_vanish_altogether_are_named() {
    let exp = |f: &mut FunctionBuilder<'_>, x: &Var| f.op("exp", "powers").arg("x", x).one();
    let hazards = in_fp32(&[-200.0, -300.0], exp);
    assert_eq!(hazards.len(), 1, "{hazards:?}");
    assert_eq!(hazards[0].0, HazardKind::Vanished);
    assert!(hazards[0].1.starts_with("exp -> %powers underflowed to nothing but zeros"), "{hazards:?}");
    // Not reported: one nonzero element, a result of a single element, and zeros that follow from zero
    // operands or from the operation itself.
    assert_eq!(in_fp32(&[-200.0, 0.0], exp), []);
    assert_eq!(in_fp32(&[-200.0], exp), []);
    let times_zero = |f: &mut FunctionBuilder<'_>, x: &Var| {
        f.op("mul", "product").arg("x", x).value("y", Value::fp32(0.0)).one()
    };
    assert_eq!(in_fp32(&[1.0, 2.0], times_zero), []);
    let relu = |f: &mut FunctionBuilder<'_>, x: &Var| f.op("relu", "rectified").arg("x", x).one();
    assert_eq!(in_fp32(&[-1.0, -2.0], relu), []);
}

/// fp16 can represent 3e-4 squared, 9e-8; 1e-4 squared is below half of 6e-8, its smallest value.
#[test]
fn what_vanishes_in_fp16_vanishes_there_alone() {
    let square = |f: &mut FunctionBuilder<'_>, x: &Var| f.op("square", "squared").arg("x", x).one();
    let found = |numerics, x: &[f32]| {
        let x = tensor(&[x.len()], x);
        found(numerics, false, DType::Fp16, &x, square).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(found(Numerics::F16, &[1e-4, -1e-4]), [HazardKind::Vanished]);
    assert_eq!(found(Numerics::F16, &[1e-4, 3e-4]), []);
    assert_eq!(found(Numerics::F32, &[1e-4, -1e-4]), []);
}

/// As an integer, -1 has the bits of a NaN, and 0x7f800000 those of infinity.
#[test]
fn integers_are_not_taken_for_floats() {
    for numerics in ALL {
        for interpreted in [false, true] {
            let x = Tensor::with_dtype(DType::Int32, [2], Data::I32(vec![-1, 0x7f80_0000])).unwrap();
            let hazards = found(numerics, interpreted, DType::Int32, &x, |f, x| {
                f.op("add", "same").arg("x", x).value("y", Value::int(0)).one()
            });
            assert_eq!(hazards, [], "{numerics:?} {interpreted}");
        }
    }
}
