//! Programs that match a fused pattern except for one attribute, shape or binding. Each is fused only if the
//! fusion is allowed, and computes what its operations define. Every family begins with the pattern itself,
//! which must be fused.

use ane_runtime::{Engine as _, LoadOptions, MilCpu, Numerics, Tensor};
use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;
use mlpackage::{DType, Result};

use crate::common::{package, tensor};

fn wave(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| ((i + 1) as f32 * step).sin()).collect()
}

fn ints(values: &[i32]) -> Value {
    Value::ints([values.len()], values)
}

fn fp16s(dims: &[usize], values: &[f32]) -> Value {
    let halves: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
    Value::fp16s(dims, &halves)
}

/// Adds an operation of one operand.
fn of_one(f: &mut FunctionBuilder<'_>, op: &str, name: &str, x: &Var) -> Result<Var> {
    f.op(op, name).arg("x", x).one()
}

fn of_two(f: &mut FunctionBuilder<'_>, op: &str, name: &str, x: &Var, y: &Var) -> Result<Var> {
    f.op(op, name).arg("x", x).arg("y", y).one()
}

fn reshape(f: &mut FunctionBuilder<'_>, name: &str, x: &Var, dims: &[usize]) -> Result<Var> {
    let dims: Vec<i32> = dims.iter().map(|d| *d as i32).collect();
    f.op("reshape", name).arg("x", x).value("shape", ints(&dims)).one()
}

fn reduce(
    f: &mut FunctionBuilder<'_>,
    op: &str,
    name: &str,
    x: &Var,
    axes: &[i32],
    keep: bool,
) -> Result<Var> {
    let op = f.op(op, name).arg("x", x).value("axes", ints(axes));
    op.value("keep_dims", Value::bool(keep)).one()
}

/// Runs the function in f32, which fuses nothing, and in the fast arithmetic, several times on one state, and
/// compares the results. For each type of step, asserts whether the fast plan has it.
fn assert_case(
    what: &str,
    steps: &[(&str, bool)],
    inputs: &[(&str, &[usize], f32)],
    build: impl FnOnce(&mut FunctionBuilder<'_>) -> Result<()>,
) {
    let dir = tempfile::tempdir().unwrap();
    let package = package(&dir.path().join("p.mlpackage"), build);
    let tensors: Vec<(&str, Tensor)> = inputs
        .iter()
        .map(|(name, dims, step)| (*name, tensor(dims, &wave(dims.iter().product(), *step))))
        .collect();
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
    let [exact, fast] = [Numerics::F32, Numerics::Fast].map(|numerics| {
        MilCpu::new(numerics).with_threads(2).load(&package, &LoadOptions::default()).unwrap()
    });
    let plan = fast.default_function().plan();
    for (step, is_there) in steps {
        assert_eq!(plan.contains(&format!(" = {step}(")), *is_there, "{what}, {step}:\n{plan}");
    }
    let mut states = [exact.new_state(), fast.new_state()];
    for call in 0..3 {
        let [a, b] = &mut states;
        let expected = exact.predict(&named, a).unwrap();
        let found = fast.predict(&named, b).unwrap();
        assert!(expected.len() == found.len() && !expected.is_empty(), "{what}");
        for ((name, expected), (same_name, found)) in expected.iter().zip(found.iter()) {
            assert_eq!((name, expected.shape()), (same_name, found.shape()), "{what}");
            let (expected, found) = (expected.as_f32().unwrap(), found.as_f32().unwrap());
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(largest.is_finite() && largest > 0.0, "{what}: nothing to compare");
            // Some dozens of f32 roundings in another order.
            let near = |(e, f): (&f32, &f32)| (e - f).abs() <= 1e-5 * largest;
            assert!(
                expected.iter().zip(found).all(near),
                "{what}, call {call}, {name}: {found:?}, expected {expected:?}\n{plan}"
            );
        }
    }
}

/// `mul(x, rsqrt(mean(x * x) + epsilon))` of `x [4, 1, 6]`, with at most one thing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NormTwist {
    None,
    FactorFirst,
    Square,
    OwnEpsilon,
    NoEpsilon,
    AllAxes,
    MiddleAxisToo,
    // From here on, the pattern does not match.
    FirstAxis,
    FirstAndLastAxis,
    AxesDropped,
    SumInPlaceOfMean,
    OtherFactor,
    OtherTensorSquared,
    EpsilonOfEachElement,
    EpsilonComputed,
    FactorAlongAnotherAxis,
    SquareOfTwoAxes,
    RowInAnotherShape,
    ReadTwice,
}

fn rms_norm(f: &mut FunctionBuilder<'_>, twist: NormTwist) -> Result<()> {
    use NormTwist as T;
    let x = f.input("x", DType::Fp16, [4, 1, 6])?;
    let other = f.input("other", DType::Fp16, [4, 1, 6])?;
    let square = match twist {
        T::Square => of_one(f, "square", "square", &x)?,
        T::OtherTensorSquared => of_two(f, "mul", "square", &other, &other)?,
        T::OtherFactor => of_two(f, "mul", "square", &x, &other)?,
        T::SquareOfTwoAxes => {
            let across = reshape(f, "across", &x, &[4, 6, 1])?;
            of_two(f, "mul", "square", &x, &across)?
        }
        T::RowInAnotherShape => {
            let row = reshape(f, "row", &x, &[6, 1, 4])?;
            of_two(f, "mul", "square", &row, &row)?
        }
        _ => of_two(f, "mul", "square", &x, &x)?,
    };
    let axes: &[i32] = match twist {
        T::AllAxes => &[0, 1, 2],
        T::MiddleAxisToo => &[-2, -1],
        T::FirstAxis => &[0],
        T::FirstAndLastAxis => &[0, 1],
        _ => &[-1],
    };
    let op = if twist == T::SumInPlaceOfMean { "reduce_sum" } else { "reduce_mean" };
    let mean = reduce(f, op, "mean", &square, axes, twist != T::AxesDropped)?;
    let sum = match twist {
        T::NoEpsilon => mean.clone(),
        T::EpsilonOfEachElement => {
            let epsilon = f.value("epsilon", fp16s(&[6], &[0.25, 0.5, 0.75, 1.0, 1.25, 1.5]))?;
            of_two(f, "add", "sum", &mean, &epsilon)?
        }
        T::EpsilonComputed => {
            let epsilon = reduce(f, "reduce_max", "epsilon", &other, &[0, 1, 2], true)?;
            of_two(f, "add", "sum", &mean, &epsilon)?
        }
        _ => {
            // Larger than the magnitude of any mean of products of sines, so the sum is positive.
            let epsilon = f.value("epsilon", Value::fp16(1.5))?;
            of_two(f, "add", "sum", &mean, &epsilon)?
        }
    };
    let op = f.op("rsqrt", "factor").arg("x", &sum);
    let op = if twist == T::OwnEpsilon { op.value("epsilon", Value::fp16(0.5)) } else { op };
    let mut factor = op.one()?;
    match twist {
        T::FactorAlongAnotherAxis => factor = reshape(f, "factor_across", &factor, &[4, 1])?,
        T::RowInAnotherShape => factor = reshape(f, "factor_across", &factor, &[1, 6])?,
        _ => {}
    }
    let result = match twist {
        T::FactorFirst => of_two(f, "mul", "result", &factor, &x)?,
        _ => of_two(f, "mul", "result", &x, &factor)?,
    };
    f.output(&result);
    if twist == T::ReadTwice {
        f.output(&factor);
    }
    Ok(())
}

#[test]
fn norms() {
    use NormTwist as T;
    let norms =
        [T::None, T::FactorFirst, T::Square, T::OwnEpsilon, T::NoEpsilon, T::AllAxes, T::MiddleAxisToo];
    let others = [
        T::FirstAxis,
        T::FirstAndLastAxis,
        T::AxesDropped,
        T::SumInPlaceOfMean,
        T::OtherFactor,
        T::OtherTensorSquared,
        T::EpsilonOfEachElement,
        T::EpsilonComputed,
        T::FactorAlongAnotherAxis,
        T::SquareOfTwoAxes,
        T::RowInAnotherShape,
        T::ReadTwice,
    ];
    let all = norms.map(|twist| (twist, true)).into_iter().chain(others.map(|twist| (twist, false)));
    for (twist, fused) in all {
        let inputs: [(&str, &[usize], f32); 2] = [("x", &[4, 1, 6], 0.7), ("other", &[4, 1, 6], 0.3)];
        assert_case(&format!("{twist:?}"), &[("rms_norm", fused)], &inputs, |f| rms_norm(f, twist));
    }
}

/// A norm whose row is divided by its largest magnitude first, `x [4, 4]`, with at most one thing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LargestTwist {
    None,
    FactorOfOwnEpsilon,
    OtherFloor,
    NoMagnitude,
    LargestOfAll,
    UnitAlongAnotherAxis,
    RatioNotSquared,
    EpsilonAlongAnotherAxis,
}

fn norm_by_largest(f: &mut FunctionBuilder<'_>, twist: LargestTwist) -> Result<()> {
    use LargestTwist as T;
    let x = f.input("x", DType::Fp16, [4, 4])?;
    let floor = f.value("floor", Value::fp16(0.5))?;
    let other_floor = f.value("other_floor", Value::fp16(0.25))?;
    let magnitude = if twist == T::NoMagnitude { x.clone() } else { of_one(f, "abs", "abs", &x)? };
    let axes: &[i32] = if twist == T::LargestOfAll { &[0, 1] } else { &[-1] };
    let largest = reduce(f, "reduce_max", "largest", &magnitude, axes, true)?;
    let mut unit = of_two(f, "maximum", "unit", &largest, &floor)?;
    if twist == T::UnitAlongAnotherAxis {
        unit = reshape(f, "unit_across", &unit, &[1, 4])?;
    }
    let row = of_two(f, "real_div", "row", &x, &unit)?;
    let floor = if twist == T::OtherFloor { &other_floor } else { &floor };
    let ratio = of_two(f, "real_div", "ratio", floor, &unit)?;
    let mut epsilon = match twist {
        T::RatioNotSquared => of_one(f, "abs", "epsilon", &ratio)?,
        _ => of_two(f, "mul", "epsilon", &ratio, &ratio)?,
    };
    match twist {
        T::EpsilonAlongAnotherAxis => epsilon = reshape(f, "epsilon_across", &epsilon, &[1, 4])?,
        // Only the division is wrong: each row is divided by the largest magnitude of other rows.
        T::UnitAlongAnotherAxis => epsilon = reshape(f, "epsilon_down", &epsilon, &[4, 1])?,
        _ => {}
    }
    let square = of_two(f, "mul", "square", &row, &row)?;
    let mean = reduce(f, "reduce_mean", "mean", &square, &[-1], true)?;
    let sum = of_two(f, "add", "sum", &mean, &epsilon)?;
    let op = f.op("rsqrt", "factor").arg("x", &sum);
    let op = if twist == T::FactorOfOwnEpsilon { op.value("epsilon", Value::fp16(0.5)) } else { op };
    let factor = op.one()?;
    let result = of_two(f, "mul", "result", &row, &factor)?;
    f.output(&result);
    Ok(())
}

#[test]
fn norms_of_rows_divided_by_their_largest() {
    use LargestTwist as T;
    let cases = [
        T::None,
        T::FactorOfOwnEpsilon,
        T::OtherFloor,
        T::NoMagnitude,
        T::LargestOfAll,
        T::UnitAlongAnotherAxis,
        T::RatioNotSquared,
        T::EpsilonAlongAnotherAxis,
    ];
    for twist in cases {
        // In the other cases a part may be fused, the norm of the divided row, but not with the division.
        let inputs: [(&str, &[usize], f32); 1] = [("x", &[4, 4], 0.7)];
        let what = format!("{twist:?}");
        assert_case(&what, &[("rms_norm", twist == T::None)], &inputs, |f| norm_by_largest(f, twist));
    }
}

/// A row that is multiplied by a constant first: a positive or negative one, and one whose square underflows
/// in f32.
#[test]
fn norms_of_scaled_rows() {
    for (op, number) in [("mul", 0.25), ("mul", -0.25), ("real_div", 4.0), ("real_div", -4.0), ("mul", 1e-22)]
    {
        let inputs: [(&str, &[usize], f32); 1] = [("x", &[4, 6], 0.7)];
        assert_case(&format!("{op} {number}"), &[("rms_norm", true)], &inputs, |f| {
            let x = f.input("x", DType::Fp32, [4, 6])?;
            let row = f.op(op, "row").arg("x", &x).value("y", Value::fp32(number)).one()?;
            let square = of_two(f, "mul", "square", &row, &row)?;
            let mean = reduce(f, "reduce_mean", "mean", &square, &[-1], true)?;
            let sum = f.op("add", "sum").arg("x", &mean).value("y", Value::fp32(1e-3)).one()?;
            let factor = of_one(f, "rsqrt", "factor", &sum)?;
            let result = of_two(f, "mul", "result", &row, &factor)?;
            f.output(&result);
            Ok(())
        });
    }
}

/// `relu(conv(x)) + residual` for one position, with at most one thing changed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ProjectionTwist {
    None,
    ResidualFirst,
    InAnotherShape,
    // From here on, not everything is one step.
    Stride,
    Padding,
    Groups,
    Batch,
    Places,
    Kernel,
    ComputedBias,
    ComputedWeight,
    OtherActivation,
    ReluReadTwice,
    Difference,
    ScalarResidual,
    ResidualOfTwoRows,
    ResidualAlongAnotherAxis,
}

/// Which part is fused into one step: nothing, the product, the product with ReLU, or everything.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fused {
    Nothing,
    Product,
    Relu,
    All,
}

fn projection(f: &mut FunctionBuilder<'_>, twist: ProjectionTwist) -> Result<()> {
    use ProjectionTwist as T;
    let (batch, extent) =
        (if twist == T::Batch { 2 } else { 1 }, usize::from(twist == T::Places || twist == T::Stride) + 1);
    let x = f.input("x", DType::Fp16, [batch, 4, extent, 1])?;
    let kernel = if twist == T::Kernel { 3 } else { 1 };
    let d_in = if twist == T::Groups { 2 } else { 4 };
    let weight = if twist == T::ComputedWeight {
        f.input("weight", DType::Fp16, [4, 4, 1, 1])?
    } else {
        f.value("weight", fp16s(&[4, d_in, kernel, 1], &wave(4 * d_in * kernel, 0.9)))?
    };
    let bias = match twist {
        T::ComputedBias => f.input("bias", DType::Fp16, [4])?,
        _ => f.value("bias", fp16s(&[4], &wave(4, 1.7)))?,
    };
    let op = f.op("conv", "y").arg("x", &x).arg("weight", &weight).arg("bias", &bias);
    let op = match twist {
        T::Stride => op.value("strides", ints(&[2, 1])),
        T::Padding => op
            .value("strides", ints(&[2, 1]))
            .value("pad_type", Value::string("custom"))
            .value("pad", ints(&[1, 0, 0, 0])),
        T::Groups => op.value("groups", Value::int(2)),
        T::Kernel => op.value("pad_type", Value::string("same")),
        _ => op,
    };
    let y = op.one()?;
    let activation = if twist == T::OtherActivation { "relu6" } else { "relu" };
    let relu = of_one(f, activation, "relu", &y)?;
    let relu_in = if twist == T::InAnotherShape { reshape(f, "line", &relu, &[1, 4])? } else { relu.clone() };
    let residual = match twist {
        T::ScalarResidual => f.value("residual", Value::fp16(0.5))?,
        T::ResidualOfTwoRows => f.input("residual", DType::Fp16, [2, 4, 1, 1])?,
        T::ResidualAlongAnotherAxis => f.input("residual", DType::Fp16, [1, 1, 4, 1])?,
        T::InAnotherShape => f.input("residual", DType::Fp16, [4])?,
        _ => {
            let places = if twist == T::Places { extent } else { 1 };
            f.input("residual", DType::Fp16, [batch, 4, places, 1])?
        }
    };
    let op = if twist == T::Difference { "sub" } else { "add" };
    let result = match twist {
        T::ResidualFirst => of_two(f, op, "result", &residual, &relu_in)?,
        _ => of_two(f, op, "result", &relu_in, &residual)?,
    };
    f.output(&result);
    if twist == T::ReluReadTwice {
        f.output(&relu);
    }
    Ok(())
}

#[test]
fn projections() {
    use ProjectionTwist as T;
    let cases = [
        (T::None, Fused::All),
        (T::ResidualFirst, Fused::All),
        (T::InAnotherShape, Fused::All),
        (T::Stride, Fused::Nothing),
        (T::Padding, Fused::Nothing),
        (T::Groups, Fused::Nothing),
        (T::Batch, Fused::Nothing),
        (T::Places, Fused::Nothing),
        (T::Kernel, Fused::Nothing),
        (T::ComputedBias, Fused::Nothing),
        (T::ComputedWeight, Fused::Nothing),
        (T::OtherActivation, Fused::Product),
        (T::ReluReadTwice, Fused::Relu),
        (T::Difference, Fused::Relu),
        (T::ScalarResidual, Fused::Relu),
        (T::ResidualOfTwoRows, Fused::Relu),
        (T::ResidualAlongAnotherAxis, Fused::Relu),
    ];
    for (twist, fused) in cases {
        let extent = if matches!(twist, T::Places | T::Stride) { 2 } else { 1 };
        let batch = if twist == T::Batch { 2 } else { 1 };
        let x = [batch, 4, extent, 1];
        let residual: &[usize] = match twist {
            T::ResidualOfTwoRows => &[2, 4, 1, 1],
            T::ResidualAlongAnotherAxis => &[1, 1, 4, 1],
            T::InAnotherShape => &[4],
            T::Places => &[1, 4, 2, 1],
            _ => &[batch, 4, 1, 1],
        };
        let mut inputs: Vec<(&str, &[usize], f32)> = vec![("x", &x, 0.7)];
        if twist != T::ScalarResidual {
            inputs.push(("residual", residual, 0.3));
        }
        match twist {
            T::ComputedBias => inputs.push(("bias", &[4], 1.1)),
            T::ComputedWeight => inputs.push(("weight", &[4, 4, 1, 1], 1.3)),
            _ => {}
        }
        let what = format!("{twist:?}");
        let relu = !matches!(fused, Fused::Relu | Fused::All) && twist != T::OtherActivation;
        let add = fused != Fused::All && twist != T::Difference;
        let steps = [("projection", fused != Fused::Nothing), ("relu", relu), ("add", add)];
        assert_case(&what, &steps, &inputs, |f| projection(f, twist));
    }
}

/// Attention over a cache in which one row is replaced, with at most one thing changed. The numbers of
/// positions, of heads and of elements per head are equal, so every axis could be mistaken for another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AttentionTwist {
    None,
    NoMask,
    ScaledBefore,
    ScaledTwice,
    // From here on, the pattern does not match.
    SoftmaxOverHeads,
    SoftmaxOfHalves,
    MaskOfEachHead,
    MaskAlongAnotherAxis,
    KeysNotTransposed,
    KeepAlongAnotherAxis,
    KeepOfTwo,
    KeepOfOtherMask,
    WriteAlongAnotherAxis,
    ScaledByRow,
    OneCache,
    CacheRead,
}

const SIZE: usize = 4;

fn attention(f: &mut FunctionBuilder<'_>, twist: AttentionTwist) -> Result<()> {
    use AttentionTwist as T;
    let head = [1, SIZE, 1, SIZE];
    let query = f.input("query", DType::Fp16, head)?;
    let mask = f.input(
        "mask",
        DType::Fp16,
        if twist == T::MaskOfEachHead { [1, SIZE, 1, SIZE] } else { [1, 1, 1, SIZE] },
    )?;
    let write = f.input("write", DType::Fp16, [1, 1, SIZE, 1])?;
    let other = f.input("other", DType::Fp16, [1, 1, SIZE, 1])?;
    let one = f.value("one", Value::fp16(if twist == T::KeepOfTwo { 2.0 } else { 1.0 }))?;
    let complement_of = if twist == T::KeepOfOtherMask { &other } else { &write };
    let mut keep = of_two(f, "sub", "keep", &one, complement_of)?;
    if twist == T::KeepAlongAnotherAxis {
        keep = reshape(f, "keep_across", &keep, &[1, 1, 1, SIZE])?;
    }
    let mut placed_at = write.clone();
    if twist == T::WriteAlongAnotherAxis {
        placed_at = reshape(f, "write_across", &write, &[1, SIZE, 1, 1])?;
    }
    let mut caches = Vec::new();
    for name in ["keys", "values"] {
        let new = f.input(name, DType::Fp16, head)?;
        let state = f.state(&format!("{name}_cache"), DType::Fp16, [1, SIZE, SIZE, SIZE])?;
        let read = f.read_state(&format!("{name}_read"), &state)?;
        let kept = of_two(f, "mul", &format!("{name}_kept"), &read, &keep)?;
        let placed = of_two(f, "mul", &format!("{name}_placed"), &new, &placed_at)?;
        let updated = of_two(f, "add", &format!("{name}_updated"), &kept, &placed)?;
        f.write_state(&state, &updated)?;
        if name == "keys" && twist == T::CacheRead {
            let again = of_one(f, "square", "again", &read)?;
            let again = reduce(f, "reduce_sum", "again_sum", &again, &[0, 1, 2, 3], false)?;
            let again = f.op("add", "again_more").arg("x", &again).value("y", Value::fp16(1.0)).one()?;
            let again = reshape(f, "again_line", &again, &[1])?;
            f.output(&again);
        }
        caches.push(updated);
    }
    let values = if twist == T::OneCache { &caches[0] } else { &caches[1] };
    let scale = |f: &mut FunctionBuilder<'_>, name: &str, x: &Var| {
        f.op("mul", name).arg("x", x).value("y", Value::fp16(0.5)).one()
    };
    let query = match twist {
        T::ScaledBefore | T::ScaledTwice => scale(f, "query_scaled", &query)?,
        _ => query,
    };
    let op = f.op("matmul", "scores").arg("x", &query).arg("y", &caches[0]);
    let mut scores = op.value("transpose_y", Value::bool(twist != T::KeysNotTransposed)).one()?;
    if twist == T::ScaledTwice {
        scores = scale(f, "scores_scaled", &scores)?;
    }
    if twist == T::ScaledByRow {
        let factors = f.value("factors", fp16s(&[SIZE], &[0.5, 0.25, 1.0, 0.75]))?;
        scores = of_two(f, "mul", "scores_scaled", &scores, &factors)?;
    }
    scores = match twist {
        T::NoMask => scores,
        T::MaskAlongAnotherAxis => {
            let across = reshape(f, "mask_across", &mask, &[1, SIZE, 1, 1])?;
            of_two(f, "add", "masked", &scores, &across)?
        }
        _ => of_two(f, "add", "masked", &scores, &mask)?,
    };
    if twist == T::SoftmaxOfHalves {
        scores = reshape(f, "halves", &scores, &[1, SIZE, 2, SIZE / 2])?;
    }
    let axis = if twist == T::SoftmaxOverHeads { 1 } else { -1 };
    let mut weights = f.op("softmax", "weights").arg("x", &scores).value("axis", Value::int(axis)).one()?;
    if twist == T::SoftmaxOfHalves {
        weights = reshape(f, "whole", &weights, &head)?;
    }
    let result = of_two(f, "matmul", "result", &weights, values)?;
    f.output(&result);
    Ok(())
}

#[test]
fn attentions() {
    use AttentionTwist as T;
    let attentions = [T::None, T::NoMask, T::ScaledBefore, T::ScaledTwice];
    let others = [
        T::SoftmaxOverHeads,
        T::SoftmaxOfHalves,
        T::MaskOfEachHead,
        T::MaskAlongAnotherAxis,
        T::KeysNotTransposed,
        T::KeepAlongAnotherAxis,
        T::KeepOfTwo,
        T::KeepOfOtherMask,
        T::WriteAlongAnotherAxis,
        T::ScaledByRow,
        T::OneCache,
        T::CacheRead,
    ];
    let all = attentions.map(|twist| (twist, true)).into_iter().chain(others.map(|twist| (twist, false)));
    for (twist, fused) in all {
        let mask: &[usize] = if twist == T::MaskOfEachHead { &[1, SIZE, 1, SIZE] } else { &[1, 1, 1, SIZE] };
        let inputs: [(&str, &[usize], f32); 6] = [
            ("query", &[1, SIZE, 1, SIZE], 0.7),
            ("mask", mask, 0.3),
            ("write", &[1, 1, SIZE, 1], 0.9),
            ("other", &[1, 1, SIZE, 1], 1.9),
            ("keys", &[1, SIZE, 1, SIZE], 1.3),
            ("values", &[1, SIZE, 1, SIZE], 1.7),
        ];
        assert_case(&format!("{twist:?}"), &[("attention", fused)], &inputs, |f| attention(f, twist));
    }
}
