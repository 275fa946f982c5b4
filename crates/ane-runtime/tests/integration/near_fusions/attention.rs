//! Attention over a cache in which one row is replaced.

use mlpackage::builder::{FunctionBuilder, Var};
use mlpackage::mil::Value;
use mlpackage::{DType, Result};

use super::{assert_case, fp16s, of_one, of_two, reduce, reshape};

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
    let caches = caches(f, twist, &write, &other)?;
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

/// Declares the caches of keys and of values, and replaces a row of each.
fn caches(f: &mut FunctionBuilder<'_>, twist: AttentionTwist, write: &Var, other: &Var) -> Result<Vec<Var>> {
    use AttentionTwist as T;
    let one = f.value("one", Value::fp16(if twist == T::KeepOfTwo { 2.0 } else { 1.0 }))?;
    let complement_of = if twist == T::KeepOfOtherMask { other } else { write };
    let mut keep = of_two(f, "sub", "keep", &one, complement_of)?;
    if twist == T::KeepAlongAnotherAxis {
        keep = reshape(f, "keep_across", &keep, &[1, 1, 1, SIZE])?;
    }
    let mut placed_at = write.clone();
    if twist == T::WriteAlongAnotherAxis {
        placed_at = reshape(f, "write_across", write, &[1, SIZE, 1, 1])?;
    }
    let mut caches = Vec::new();
    for name in ["keys", "values"] {
        let new = f.input(name, DType::Fp16, [1, SIZE, 1, SIZE])?;
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
    Ok(caches)
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
