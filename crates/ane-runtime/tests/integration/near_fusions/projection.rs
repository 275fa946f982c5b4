//! Projections, with an activation and a residual.

use mlpackage::builder::FunctionBuilder;
use mlpackage::mil::Value;
use mlpackage::{DType, Result};

use super::{assert_case, fp16s, ints, of_one, of_two, reshape, wave};

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
