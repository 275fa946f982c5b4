//! Norms of rows: as they are, divided by their largest magnitude, and multiplied by a constant.

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::Value;
use mlpackage::{DType, Result};

use super::{assert_case, fp16s, of_one, of_two, reduce, reshape};

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
