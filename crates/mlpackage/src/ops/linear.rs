//! Operations that multiply and add: the ones that can anchor a graph on the Neural Engine.

use super::args::Args;
use super::spec::{Inferred, Kind, OpSpec, Param};
use crate::mil::TensorType;
use crate::shape::Shape;

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "conv",
        &[
            Param::new("x", Kind::Float),
            Param::new("weight", Kind::Float),
            Param::constant("bias", Kind::Float).optional(),
            Param::constant("strides", Kind::Int).optional(),
            Param::constant("pad_type", Kind::String).or_string("valid"),
            Param::constant("pad", Kind::Int).optional(),
            Param::constant("dilations", Kind::Int).optional(),
            Param::constant("groups", Kind::Int).or_int(1),
        ],
        conv,
    ),
    OpSpec::new(
        "linear",
        &[
            Param::new("x", Kind::Float),
            Param::constant("weight", Kind::Float),
            Param::constant("bias", Kind::Float).optional(),
        ],
        linear,
    ),
    OpSpec::new(
        "matmul",
        &[
            Param::new("x", Kind::Float),
            Param::new("y", Kind::Float),
            Param::constant("transpose_x", Kind::Bool).or_bool(false),
            Param::constant("transpose_y", Kind::Bool).or_bool(false),
        ],
        matmul,
    ),
];

/// `x [N, Ci, *spatial]`, `weight [Co, Ci / groups, *kernel]` → `[N, Co, *out]`.
fn conv(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["x", "weight", "bias"])?;
    let (x, w) = (args.shape("x")?, args.shape("weight")?);
    let spatial = x.rank().checked_sub(2).filter(|n| (1..=3).contains(n));
    let spatial = spatial.ok_or_else(|| format!("x {x}, expected rank 3 to 5"))?;
    if w.rank() != x.rank() {
        return Err(format!("x {x} and weight {w} differ in rank"));
    }
    let (x, w) = (x.dims(), w.dims());
    let groups = usize::try_from(args.int("groups")?.unwrap_or(1)).ok().filter(|&g| g > 0);
    let groups = groups.ok_or("groups must be positive")?;
    if w[1].checked_mul(groups) != Some(x[1]) || w[0] % groups != 0 {
        return Err(format!(
            "x has {} channels; weight [{}, {}, ..] in {groups} groups takes {}",
            x[1],
            w[0],
            w[1],
            w[1].saturating_mul(groups)
        ));
    }
    if let Some(bias) = args.get("bias").filter(|b| b.ty.shape.dims() != [w[0]]) {
        return Err(format!("bias {}, expected [{}]", bias.ty.shape, w[0]));
    }
    let strides = positive(args, "strides", spatial)?;
    let dilations = positive(args, "dilations", spatial)?;
    let pads = match args.string("pad_type")?.unwrap_or("valid") {
        "valid" => Some(vec![0; 2 * spatial]),
        "custom" => {
            let pad = args.ints("pad")?.ok_or("pad_type custom needs pad")?;
            let pad: Option<Vec<usize>> = pad.iter().map(|&p| usize::try_from(p).ok()).collect();
            let pad = pad.filter(|p| p.len() == 2 * spatial);
            Some(pad.ok_or_else(|| format!("pad must be {} numbers, none negative", 2 * spatial))?)
        }
        "same" | "same_lower" => None,
        other => return Err(format!("pad_type {other:?}, expected valid, custom, same or same_lower")),
    };
    let mut out = vec![x[0], w[0]];
    for i in 0..spatial {
        let (size, kernel) = (x[2 + i], w[2 + i]);
        let Some(pads) = &pads else {
            out.push(size.div_ceil(strides[i]));
            continue;
        };
        let reach = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilations[i]));
        let padded = size.checked_add(pads[2 * i]).and_then(|s| s.checked_add(pads[2 * i + 1]));
        let steps = reach.and_then(|r| padded?.checked_sub(r + 1));
        let steps =
            steps.ok_or_else(|| format!("kernel {kernel} does not fit into {size} on spatial axis {i}"))?;
        out.push(steps / strides[i] + 1);
    }
    Ok(vec![TensorType { dtype, shape: Shape::from(out) }])
}

fn positive(args: &Args<'_>, name: &str, len: usize) -> Result<Vec<usize>, String> {
    let Some(values) = args.ints(name)? else { return Ok(vec![1; len]) };
    let values: Option<Vec<usize>> =
        values.iter().map(|&v| usize::try_from(v).ok().filter(|&v| v > 0)).collect();
    values.filter(|v| v.len() == len).ok_or_else(|| format!("{name} must be {len} positive numbers"))
}

/// `x [.., Di]`, `weight [Do, Di]` → `[.., Do]`.
fn linear(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["x", "weight", "bias"])?;
    let (x, w) = (args.shape("x")?, args.shape("weight")?);
    match (x.dims().split_last(), w.dims()) {
        (Some((d, outer)), &[d_out, d_in]) if *d == d_in => {
            if let Some(bias) = args.get("bias").filter(|b| b.ty.shape.dims() != [d_out]) {
                return Err(format!("bias {}, expected [{d_out}]", bias.ty.shape));
            }
            Ok(vec![TensorType { dtype, shape: Shape::from([outer, &[d_out]].concat()) }])
        }
        _ => Err(format!("x {x} and weight {w} do not match")),
    }
}

/// Matrices in the last two axes, the others broadcast.
fn matmul(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["x", "y"])?;
    let (x, y) = (args.shape("x")?, args.shape("y")?);
    let side = |shape: &Shape, transpose: bool| -> Option<(Shape, usize, usize)> {
        let (outer, matrix) = shape.dims().split_at_checked(shape.rank().checked_sub(2)?)?;
        let (rows, columns) = if transpose { (matrix[1], matrix[0]) } else { (matrix[0], matrix[1]) };
        Some((Shape::from(outer), rows, columns))
    };
    let tx = args.bool_or("transpose_x", false)?;
    let ty = args.bool_or("transpose_y", false)?;
    let (Some((ox, rows, kx)), Some((oy, ky, columns))) = (side(x, tx), side(y, ty)) else {
        return Err(format!("x {x} and y {y}, expected rank 2 or more"));
    };
    if kx != ky {
        return Err(format!(
            "x {x} (transposed: {tx}) and y {y} (transposed: {ty}) do not match: {kx} against {ky}"
        ));
    }
    let outer = ox.broadcast(&oy).ok_or_else(|| format!("x {x} and y {y} do not broadcast"))?;
    Ok(vec![TensorType { dtype, shape: Shape::from([outer.dims(), &[rows, columns]].concat()) }])
}
