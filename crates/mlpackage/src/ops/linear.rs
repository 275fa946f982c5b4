//! Operations that multiply and add, which can anchor a graph on the Neural Engine.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spatial::{Padding, Window};
use super::spec::{Inferred, OpSpec, Param};
use crate::counted::counted;
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const IOS17: Opset = Opset::CoreML7;
const X: Param = Param::new("x", DTypeConstraint::FLOAT);
const WEIGHT: Param = Param::new("weight", DTypeConstraint::FLOAT);
const BIAS: Param = Param::new("bias", DTypeConstraint::FLOAT).optional();
const CONSTANT_BIAS: Param = Param::constant("bias", DTypeConstraint::FLOAT).optional();
const STRIDES: Param = Param::constant("strides", DTypeConstraint::INT32).optional();
const PAD_TYPE: Param = Param::constant("pad_type", DTypeConstraint::STRING).or_string("valid");
const PAD: Param = Param::constant("pad", DTypeConstraint::INT32).optional();
const DILATIONS: Param = Param::constant("dilations", DTypeConstraint::INT32).optional();
const GROUPS: Param = Param::constant("groups", DTypeConstraint::INT32).or_int(1);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "conv",
        &[
            X.domain('T'),
            WEIGHT.domain('T').until(IOS17),
            CONSTANT_BIAS.domain('T').until(IOS17),
            WEIGHT.domain('U').since(IOS17),
            BIAS.domain('U').since(IOS17),
            STRIDES,
            PAD_TYPE,
            PAD,
            DILATIONS,
            GROUPS,
        ],
        conv,
    ),
    OpSpec::new(
        "conv_transpose",
        &[
            X.domain('T'),
            Param::constant("weight", DTypeConstraint::FLOAT).domain('T').until(IOS17),
            CONSTANT_BIAS.domain('T').until(IOS17),
            WEIGHT.domain('U').since(IOS17),
            BIAS.domain('U').since(IOS17),
            PAD,
            Param::constant("output_shape", DTypeConstraint::INT32).optional(),
            PAD_TYPE,
            STRIDES,
            DILATIONS,
            GROUPS,
        ],
        conv_transpose,
    ),
    OpSpec::new(
        "linear",
        &[
            Param::new("x", DTypeConstraint::NUMBER).domain('T'),
            Param::constant("weight", DTypeConstraint::NUMBER).domain('T').until(IOS17),
            Param::constant("bias", DTypeConstraint::NUMBER).optional().domain('T').until(IOS17),
            Param::constant("weight", DTypeConstraint::NUMBER).domain('U').since(IOS17),
            Param::constant("bias", DTypeConstraint::NUMBER).optional().domain('U').since(IOS17),
        ],
        linear,
    ),
    OpSpec::new(
        "matmul",
        &[
            Param::new("x", DTypeConstraint::NUMBER).domain('T'),
            Param::new("y", DTypeConstraint::NUMBER).domain('T').until(IOS17),
            Param::new("y", DTypeConstraint::NUMBER).since(IOS17),
            Param::constant("transpose_x", DTypeConstraint::BOOL).or_bool(false),
            Param::constant("transpose_y", DTypeConstraint::BOOL).or_bool(false),
        ],
        matmul,
    ),
    OpSpec::new(
        "einsum",
        &[
            Param::new("values", DTypeConstraint::NUMBER).variadic(),
            Param::constant("equation", DTypeConstraint::STRING),
        ],
        einsum,
    ),
    OpSpec::new(
        "scaled_dot_product_attention",
        &[
            Param::new("query", DTypeConstraint::FLOAT).domain('T'),
            Param::new("key", DTypeConstraint::FLOAT).domain('T'),
            Param::new("value", DTypeConstraint::FLOAT).domain('T'),
            Param::new("attn_mask", DTypeConstraint::MASK).optional(),
        ],
        attention,
    )
    .since(Opset::CoreML8),
];

/// Returns the number of spatial axes of `x [N, C, *spatial]`, whose rank the weight must share.
fn spatial_rank(x: &Dims, weight: &Dims) -> Result<usize, Fault> {
    let spatial = x.rank().checked_sub(2).filter(|n| (1..=3).contains(n));
    let spatial = spatial.ok_or_else(|| format!("x {x}, expected rank 3 to 5"))?;
    if weight.rank() != x.rank() {
        return Err(format!("x {x} and weight {weight} differ in rank").into());
    }
    Ok(spatial)
}

fn check_bias(args: &Args<'_>, channels: Dim) -> Result<(), Fault> {
    match args.get("bias").map(|b| &b.ty.shape) {
        Some(bias) if bias.rank() != 1 || !bias[0].may_be(channels) => {
            Err(Fault::value("bias", format!("is {bias}, expected [{channels}]")))
        }
        _ => Ok(()),
    }
}

/// Infers a convolution: `x [N, Ci, *spatial]`, `weight [Co, Ci / groups, *kernel]` → `[N, Co, *out]`.
fn conv(args: &Args<'_>) -> Inferred {
    let dtype = args.ty("x")?.dtype;
    let (x, w) = (args.dims("x")?, args.dims("weight")?);
    let spatial = spatial_rank(x, w)?;
    let groups = args.extent("groups")?.unwrap_or(1);
    let takes = w[1].map(|c| c.checked_mul(groups));
    let divides = w[0].known().is_none_or(|c| c.is_multiple_of(groups));
    if !divides {
        let reason = format!("is {groups}, which does not divide the {} output channels of weight {w}", w[0]);
        return Err(Fault::mismatch("groups", reason));
    }
    if !takes.is_some_and(|c| c.may_be(x[1])) {
        return Err(Fault::mismatch(
            "x",
            format!(
                "has {} channels, expected {}: weight {w} has {} in each of {}",
                x[1],
                takes.unwrap_or(Dim::Unknown),
                w[1],
                counted(groups, "group")
            ),
        ));
    }
    check_bias(args, w[0])?;
    let window = Window {
        kernel: w.as_slice()[2..].to_vec(),
        strides: args.extents("strides", spatial, 1, 1)?,
        dilations: args.extents("dilations", spatial, 1, 1)?,
        ceil_mode: false,
    };
    let out = window.places(&x.as_slice()[2..], &Padding::of(args, spatial)?)?;
    Ok(vec![TensorType { dtype, shape: [&[x[0], w[0]], out.as_slice()].concat().into() }])
}

/// Infers a transposed convolution: `x [N, Ci, *spatial]`, `weight [Ci, Co / groups, *kernel]` →
/// `[N, Co, *out]`.
fn conv_transpose(args: &Args<'_>) -> Inferred {
    let dtype = args.ty("x")?.dtype;
    let (x, w) = (args.dims("x")?, args.dims("weight")?);
    let spatial = spatial_rank(x, w)?;
    if !w[0].may_be(x[1]) {
        return Err(Fault::mismatch("x", format!("has {} channels, weight {w} expects {}", x[1], w[0])));
    }
    let groups = args.extent("groups")?.unwrap_or(1);
    if w[0].known().is_some_and(|c| !c.is_multiple_of(groups)) {
        return Err(Fault::value(
            "groups",
            format!("is {groups}, which does not divide the {} channels of x", w[0]),
        ));
    }
    if args.string("pad_type")? == Some("same_lower") {
        return Err(Fault::value("pad_type", "is \"same_lower\", expected valid, custom or same"));
    }
    let channels = w[1].map(|c| c.checked_mul(groups)).ok_or("weight has too many channels")?;
    check_bias(args, channels)?;
    let strides = args.extents("strides", spatial, 1, 1)?;
    let dilations = args.extents("dilations", spatial, 1, 1)?;
    let padding = Padding::of(args, spatial)?;
    if let Some(shape) = args.ints("output_shape")? {
        let dims: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let dims = dims.map(Dims::from).filter(|d| d.rank() == x.rank());
        let dims = dims.filter(|d| d[0].may_be(x[0]) && d[1].may_be(channels));
        let shape =
            dims.ok_or_else(|| format!("output_shape {shape:?}, expected [{}, {channels}, ..]", x[0]))?;
        return Ok(vec![TensorType { dtype, shape }]);
    }
    let mut out = vec![x[0], channels];
    for i in 0..spatial {
        let size = match &padding {
            Padding::Same => x[2 + i].map(|n| n.checked_mul(strides[i])),
            Padding::Fixed(pad) => x[2 + i].zip(w[2 + i], |n, kernel| {
                let reach = kernel.checked_sub(1)?.checked_mul(dilations[i])?.checked_add(1)?;
                let full = n.checked_sub(1)?.checked_mul(strides[i])?.checked_add(reach)?;
                full.checked_sub(pad[2 * i])?.checked_sub(pad[2 * i + 1])
            }),
        };
        out.push(size.ok_or_else(|| format!("the result is empty on spatial axis {i} of x {x}"))?);
    }
    Ok(vec![TensorType { dtype, shape: out.into() }])
}

/// Infers a linear layer: `x [.., Di]`, `weight [Do, Di]` → `[.., Do]`.
fn linear(args: &Args<'_>) -> Inferred {
    let dtype = args.ty("x")?.dtype;
    let (x, w) = (args.dims("x")?, args.dims("weight")?);
    match (x.as_slice().split_last(), w.as_slice()) {
        (Some((d, outer)), &[d_out, d_in]) if d.may_be(d_in) => {
            check_bias(args, d_out)?;
            Ok(vec![TensorType { dtype, shape: [outer, &[d_out]].concat().into() }])
        }
        _ => Err(format!("x {x} and weight {w} do not match").into()),
    }
}

/// Returns the element type of a product: the common type of `x` and `y` or, if one of them is a constant, the
/// type of the other.
fn product_dtype(args: &Args<'_>) -> Result<DType, Fault> {
    let constant = |name: &str| args.get(name).is_some_and(|arg| arg.constant);
    match (constant("x"), constant("y")) {
        (false, false) => args.same_dtype(&["x", "y"]),
        (true, false) => Ok(args.ty("y")?.dtype),
        (_, true) => Ok(args.ty("x")?.dtype),
    }
}

/// Multiplies matrices in the last two axes and broadcasts the others. A vector is a matrix of one row (`x`)
/// or one column (`y`); transposition does not apply to it.
fn matmul(args: &Args<'_>) -> Inferred {
    let dtype = product_dtype(args)?;
    let (x, y) = (args.dims("x")?, args.dims("y")?);
    let tx = args.bool_or("transpose_x", false)?;
    let ty = args.bool_or("transpose_y", false)?;
    for (name, dims) in [("x", x), ("y", y)] {
        if dims.rank() == 0 {
            return Err(Fault::value(name, "is a scalar, expected rank 1 or more"));
        }
    }
    // Outer axes, rows, columns. A vector is a row of x or a column of y.
    let side = |dims: &Dims, transpose: bool, column: bool| -> (Dims, Dim, Dim) {
        match *dims.as_slice() {
            [ref outer @ .., rows, columns] => {
                let (rows, columns) = if transpose { (columns, rows) } else { (rows, columns) };
                (outer.to_vec().into(), rows, columns)
            }
            [one] if column => (Dims::default(), one, Dim::Known(1)),
            [one] => (Dims::default(), Dim::Known(1), one),
            [] => unreachable!("scalars were refused"),
        }
    };
    let (ox, rows, kx) = side(x, tx, false);
    let (oy, ky, columns) = side(y, ty, true);
    if !kx.may_be(ky) {
        return Err(format!(
            "x {x} (transposed: {tx}) and y {y} (transposed: {ty}) do not match: {kx} against {ky}"
        )
        .into());
    }
    let outer = ox.broadcast(&oy).ok_or_else(|| format!("x {x} and y {y} do not broadcast"))?;
    let mut shape = outer.as_slice().to_vec();
    shape.extend((x.rank() > 1).then_some(rows));
    shape.extend((y.rank() > 1).then_some(columns));
    Ok(vec![TensorType { dtype, shape: shape.into() }])
}

/// Infers one of the two equations that MIL supports: `[B, C, H, W1] x [B, W1, H, W2]`, and the same without B.
/// Any letters may be used.
fn einsum(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["values"])?;
    let equation = args.string("equation")?.unwrap_or_default();
    let [x, y] = args.many("values") else {
        return Err(format!("{} values, expected two", args.many("values").len()).into());
    };
    let (x, y) = (&x.ty.shape, &y.ty.shape);
    let rank = match numbered(equation).as_deref() {
        Some("0123,0324->0124") => 4,
        Some("012,213->013") => 3,
        _ => {
            return Err(Fault::value(
                "equation",
                format!("is {equation:?}, expected the form of nchw,nwhu->nchu or chw,whu->chu"),
            ));
        }
    };
    if x.rank() != rank || y.rank() != rank || !x[rank - 1].may_be(y[rank - 3]) {
        return Err(format!("values {x} and {y} do not fit equation {equation:?}").into());
    }
    let shared = |axis: usize| {
        let both = [x[axis], y[axis]].map(|d| Dims::from([d]));
        let joined = both[0].broadcast(&both[1]).map(|d| d[0]);
        joined.ok_or_else(|| format!("values {x} and {y} differ on axis {axis}"))
    };
    let mut shape = if rank == 4 { vec![shared(0)?] } else { Vec::new() };
    shape.extend([x[rank - 3], shared(rank - 2)?, y[rank - 1]]);
    Ok(vec![TensorType { dtype, shape: shape.into() }])
}

/// Replaces the letters of an equation by digits, in order of appearance; `None` if it has more than ten.
fn numbered(equation: &str) -> Option<String> {
    let mut letters = Vec::new();
    equation
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| {
            if !c.is_ascii_alphabetic() {
                return Some(c);
            }
            let at = letters.iter().position(|&l| l == c).unwrap_or_else(|| {
                letters.push(c);
                letters.len() - 1
            });
            char::from_digit(u32::try_from(at).ok()?, 10)
        })
        .collect()
}

/// Infers attention: `query [.., L, E]`, `key [.., S, E]`, `value [.., S, EV]` → `[.., L, EV]`.
fn attention(args: &Args<'_>) -> Inferred {
    let dtype = args.same_dtype(&["query", "key", "value"])?;
    let (query, key, value) = (args.dims("query")?, args.dims("key")?, args.dims("value")?);
    let rank = query.rank();
    if rank < 3 || key.rank() != rank || value.rank() != rank {
        return Err(Fault::mismatch(
            "query",
            format!("is {query}, key {key} and value {value}, expected one rank of 3 or more"),
        ));
    }
    let fits = query[rank - 1].may_be(key[rank - 1])
        && key[rank - 2].may_be(value[rank - 2])
        && (0..rank - 2).all(|i| query[i].may_be(key[i]) && query[i].may_be(value[i]));
    if !fits {
        return Err(format!("query {query}, key {key} and value {value} do not match").into());
    }
    if let Some(mask) = args.get("attn_mask") {
        let scores: Dims = [&query.as_slice()[..rank - 2], &[query[rank - 2], key[rank - 2]]].concat().into();
        let allowed = mask.ty.dtype == dtype || mask.ty.dtype == DType::Bool;
        let fits = mask.ty.shape.broadcast(&scores).is_some_and(|b| b.may_be(&scores));
        if !allowed || !fits || mask.ty.shape.rank() == 0 {
            return Err(Fault::value(
                "attn_mask",
                format!("is {}, expected {dtype} or bool that broadcasts to {scores}", mask.ty),
            ));
        }
    }
    let shape = [&query.as_slice()[..rank - 1], &[value[rank - 1]]].concat();
    Ok(vec![TensorType { dtype, shape: shape.into() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_compared_by_form_not_by_letters() {
        assert_eq!(numbered("nchw, nwhu -> nchu").as_deref(), Some("0123,0324->0124"));
        assert_eq!(numbered("abc,cbd->abd").as_deref(), Some("012,213->013"));
        assert_eq!(numbered("abcdefghijk"), None);
    }
}
