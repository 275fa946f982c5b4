//! Operations that rearrange elements into other axes.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::elementwise::like_x;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

const X: Param = Param::new("x", DTypeConstraint::WIDE_ELEMENT);
const PLAIN_X: Param = Param::new("x", DTypeConstraint::ELEMENT);
const FLOAT_X: Param = Param::new("x", DTypeConstraint::FLOAT);
const BLOCK_SIZE: Param = Param::constant("block_size", DTypeConstraint::INT32);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("reshape", &[X, Param::new("shape", DTypeConstraint::SHAPE)], reshape),
    OpSpec::new(
        "reshape_like",
        &[
            X,
            Param::new("ref_tensors", DTypeConstraint::WIDE_ELEMENT).variadic(),
            Param::new("begins", DTypeConstraint::INT32).variadic(),
            Param::new("ends", DTypeConstraint::INT32).variadic(),
            Param::new("end_masks", DTypeConstraint::BOOL).variadic(),
        ],
        reshape_like,
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "flatten2d",
        &[PLAIN_X, Param::constant("axis", DTypeConstraint::INT32).or_int(1)],
        flatten2d,
    ),
    OpSpec::new("expand_dims", &[X, Param::constant("axes", DTypeConstraint::INT32)], expand_dims),
    OpSpec::new("squeeze", &[X, Param::constant("axes", DTypeConstraint::INT32).optional()], squeeze),
    OpSpec::new("transpose", &[X, Param::constant("perm", DTypeConstraint::INT32)], transpose),
    OpSpec::new("reverse", &[X, Param::constant("axes", DTypeConstraint::INT32).optional()], |args| {
        args.axes("axes", args.dims("x")?)?;
        like_x(args)
    }),
    OpSpec::new(
        "reverse_sequence",
        &[
            X,
            Param::new("lengths", DTypeConstraint::SHAPE),
            Param::constant("seq_axis", DTypeConstraint::INT32).or_int(0),
            Param::constant("batch_axis", DTypeConstraint::INT32).or_int(0),
        ],
        reverse_sequence,
    ),
    OpSpec::new("depth_to_space", &[FLOAT_X, BLOCK_SIZE], |args| to_space(args, "block_size")),
    OpSpec::new(
        "pixel_shuffle",
        &[FLOAT_X, Param::constant("upscale_factor", DTypeConstraint::INT32)],
        |args| to_space(args, "upscale_factor"),
    ),
    OpSpec::new("space_to_depth", &[FLOAT_X, BLOCK_SIZE], |args| to_depth(args, "block_size")),
    OpSpec::new(
        "pixel_unshuffle",
        &[FLOAT_X, Param::constant("downscale_factor", DTypeConstraint::UINT32)],
        |args| to_depth(args, "downscale_factor"),
    )
    .since(Opset::CoreML6),
    OpSpec::new(
        "space_to_batch",
        &[
            FLOAT_X,
            Param::constant("block_shape", DTypeConstraint::INT32),
            Param::constant("paddings", DTypeConstraint::INT32),
        ],
        space_to_batch,
    ),
    OpSpec::new(
        "batch_to_space",
        &[
            FLOAT_X,
            Param::constant("block_shape", DTypeConstraint::INT32),
            Param::constant("crops", DTypeConstraint::INT32),
        ],
        batch_to_space,
    ),
];

fn reshape(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let result = |shape: Dims| Ok(vec![TensorType { dtype: x.dtype, shape }]);
    let Some(wanted) = args.ints_if_known("shape") else {
        // The shape is computed: its length determines the rank, and every dimension is unknown.
        let shape = args.dims("shape")?;
        let rank = match shape.as_slice() {
            &[Dim::Known(rank)] if rank <= 16 => rank,
            [Dim::Unknown] => return result(Dims::of_any_rank()),
            _ => {
                return Err(Fault::value(
                    "shape",
                    format!("is {shape}, expected one axis of 16 entries at most"),
                ));
            }
        };
        return result(vec![Dim::Unknown; rank].into());
    };
    let cannot = || format!("x {} cannot be reshaped to {wanted:?}", x.shape);
    if args.opset() < Opset::CoreML7 && wanted.contains(&0) && wanted.len() != x.shape.rank() {
        let reason = format!(
            "is {wanted:?}; before opset {} a shape with a 0 needs one entry for each axis of x {}",
            Opset::CoreML7,
            x.shape
        );
        return Err(Fault::value("shape", reason));
    }
    // The dimension of a -1 follows from the others. A 0 copies the size of the axis at the same position,
    // counted from the last axis; it is 1 if `x` has no such axis.
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &d) in wanted.iter().enumerate() {
        dims.push(match d {
            -1 if open.is_none() => {
                open = Some(i);
                Dim::Known(1)
            }
            0 => {
                let from_right = wanted.len() - i;
                x.shape.rank().checked_sub(from_right).map_or(Dim::Known(1), |at| x.shape[at])
            }
            d => Dim::Known(usize::try_from(d).map_err(|_| cannot())?),
        });
    }
    let Some(elements) = x.shape.elements() else {
        if let Some(i) = open {
            dims[i] = Dim::Unknown;
        }
        return result(dims.into());
    };
    let shape = Dims::from(dims.clone());
    if let Some(i) = open {
        let known = shape.elements().filter(|&k| k > 0).ok_or_else(cannot)?;
        dims[i] = Dim::Known(elements / known);
    }
    let shape = Dims::from(dims);
    if shape.elements() == Some(elements) { result(shape) } else { Err(cannot().into()) }
}

fn reshape_like(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let references = args.many("ref_tensors");
    let numbers = |name: &str| -> Result<Vec<i32>, Fault> {
        let read = |arg: &super::Arg<'_>| match arg.value.and_then(|v| v.to_ints())?.as_slice() {
            [one] => Some(*one),
            _ => None,
        };
        let numbers: Option<Vec<i32>> = args.many(name).iter().map(read).collect();
        let numbers = numbers.filter(|n| n.len() == references.len());
        numbers.ok_or_else(|| {
            let count = references.len();
            Fault::value(name, format!("must be {count} integers, stated in the program"))
        })
    };
    let (begins, ends) = (numbers("begins")?, numbers("ends")?);
    let masks: Vec<bool> = args
        .many("end_masks")
        .iter()
        .filter_map(|arg| arg.value.and_then(|v| v.as_bools()).and_then(|b| b.first().copied()))
        .collect();
    if masks.len() != references.len() {
        return Err(Fault::value(
            "end_masks",
            format!("must be {} bools, stated in the program", references.len()),
        ));
    }
    let mut dims = Vec::new();
    for (i, reference) in references.iter().enumerate() {
        let shape = &reference.ty.shape;
        // As in Python slices, a negative bound counts from the end, and a bound out of range is clamped.
        let place = |v: i32| {
            let rank = shape.rank() as i64;
            let v = if v < 0 { i64::from(v) + rank } else { i64::from(v) };
            v.clamp(0, rank) as usize
        };
        let end = if masks[i] { shape.rank() } else { place(ends[i]) };
        dims.extend_from_slice(shape.as_slice().get(place(begins[i])..end).unwrap_or_default());
    }
    let shape = Dims::from(dims);
    match (x.shape.elements(), shape.elements()) {
        (Some(a), Some(b)) if a != b => Err(format!("x {} cannot be reshaped to {shape}", x.shape).into()),
        _ => Ok(vec![TensorType { dtype: x.dtype, shape }]),
    }
}

/// Returns the type of `x`. There is one length for each index of `batch_axis`, and none exceeds the size of
/// `seq_axis`.
fn reverse_sequence(args: &Args<'_>) -> Inferred {
    let x = args.dims("x")?;
    let extent = |name: &str| -> Result<Dim, Fault> {
        let axis = match args.get(name) {
            Some(_) => args.axis(name, x)?,
            None => x.axis(0).ok_or_else(|| Fault::value("x", "is a scalar, which has no axis"))?,
        };
        Ok(x[axis])
    };
    let (seq, batch) = (extent("seq_axis")?, extent("batch_axis")?);
    match args.dims("lengths")?.as_slice() {
        &[len] if len.may_be(batch) => {}
        _ => {
            return Err(Fault::value("lengths", format!("is {}, expected [{batch}]", args.dims("lengths")?)));
        }
    }
    let within = |n: i32| usize::try_from(n).is_ok_and(|n| seq.known().is_none_or(|seq| n <= seq));
    let mut stated = args.ints_if_known("lengths").unwrap_or_default().into_iter();
    match stated.find(|&n| !within(n)) {
        Some(n) => Err(Fault::value("lengths", format!("holds {n}, the axis has {seq} elements"))),
        None => like_x(args),
    }
}

fn flatten2d(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let rank = x.shape.rank();
    let axis = args.int("axis")?.unwrap_or(1);
    let at = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
    let at = usize::try_from(at).ok().filter(|&at| at <= rank);
    let at = at.ok_or_else(|| Fault::value("axis", format!("is {axis}, outside of x {}", x.shape)))?;
    let (before, behind) = x.shape.as_slice().split_at(at);
    let side = |dims: &[Dim]| {
        let dims = Dims::from(dims.to_vec());
        if dims.known().is_none() { Dim::Unknown } else { dims.elements().map_or(Dim::Unknown, Dim::Known) }
    };
    Ok(vec![TensorType { dtype: x.dtype, shape: [side(before), side(behind)].into() }])
}

fn transpose(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let perm = args.ints("perm")?.unwrap_or_default();
    let axes: Option<Vec<usize>> = perm.iter().map(|&p| x.shape.axis(p)).collect();
    let axes = axes.filter(|axes| axes.len() == x.shape.rank() && (0..axes.len()).all(|i| axes.contains(&i)));
    let axes = axes.ok_or_else(|| {
        let reason = format!("is {perm:?}, which is not a permutation of the axes of {}", x.shape);
        Fault::value("perm", reason)
    })?;
    Ok(vec![TensorType { dtype: x.dtype, shape: axes.iter().map(|&a| x.shape[a]).collect() }])
}

fn expand_dims(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let count = args.ints("axes")?.map_or(0, |axes| axes.len());
    let mut rest = x.shape.iter();
    let expanded = Dims::from(vec![1; x.shape.rank() + count]);
    let axes = args.axes("axes", &expanded)?;
    let dims = (0..expanded.rank()).map(|i| match axes.contains(&i) {
        true => Dim::Known(1),
        false => rest.next().unwrap_or(Dim::Known(1)),
    });
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.collect() }])
}

/// Keeps axes whose size is not 1, as PyTorch does, and axes of unknown size.
fn squeeze(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let axes = args.axes("axes", &x.shape)?;
    let stays = |(i, d): &(usize, Dim)| *d != Dim::Known(1) || !axes.contains(i);
    let left = x.shape.iter().enumerate().filter(stays);
    Ok(vec![TensorType { dtype: x.dtype, shape: left.map(|(_, d)| d).collect() }])
}

fn four(args: &Args<'_>) -> Result<[Dim; 4], Fault> {
    let x = args.dims("x")?;
    <[Dim; 4]>::try_from(x.as_slice()).map_err(|_| Fault::value("x", format!("is {x}, expected rank 4")))
}

/// Infers a move of channels to space: `[N, C, H, W]` → `[N, C / b^2, H b, W b]`.
fn to_space(args: &Args<'_>, block: &str) -> Inferred {
    let [n, c, h, w] = four(args)?;
    let b = args.extent(block)?.ok_or_else(|| Fault::missing(block))?;
    let area = b.checked_mul(b).ok_or("the block is too large")?;
    let channels = c.map(|c| c.is_multiple_of(area).then(|| c / area));
    let channels = channels.ok_or_else(|| format!("{c} channels are not a multiple of {b} squared"))?;
    let grown = |d: Dim| d.map(|d| d.checked_mul(b)).ok_or("the result has too many elements");
    let shape = [n, channels, grown(h)?, grown(w)?].into();
    Ok(vec![TensorType { dtype: args.ty("x")?.dtype, shape }])
}

/// Infers a move of space to channels: `[N, C, H, W]` → `[N, C b^2, H / b, W / b]`.
fn to_depth(args: &Args<'_>, block: &str) -> Inferred {
    let [n, c, h, w] = four(args)?;
    let b = args.extent(block)?.ok_or_else(|| Fault::missing(block))?;
    let channels = c.map(|c| c.checked_mul(b)?.checked_mul(b)).ok_or("the result has too many elements")?;
    let shrunk =
        |d: Dim| d.map(|d| d.is_multiple_of(b).then(|| d / b)).ok_or(format!("{d} is not a multiple of {b}"));
    let shape = [n, channels, shrunk(h)?, shrunk(w)?].into();
    Ok(vec![TensorType { dtype: args.ty("x")?.dtype, shape }])
}

/// Returns the block shape, a `[2]` argument, and the borders, a `[2, 2]` argument.
fn blocks(args: &Args<'_>, borders: &str) -> Result<([usize; 2], [usize; 4]), Fault> {
    let block = args.extents("block_shape", 2, 1, 1)?;
    let border = args.pairs(borders, 2)?;
    Ok(([block[0], block[1]], [border[0], border[1], border[2], border[3]]))
}

fn space_to_batch(args: &Args<'_>) -> Inferred {
    let [n, c, h, w] = four(args)?;
    let (block, pad) = blocks(args, "paddings")?;
    let cannot = || {
        format!(
            "x {} cannot be cut into blocks of {block:?}",
            [n, c, h, w].map(|d| d.to_string()).join(" x ")
        )
    };
    let batch = n.map(|n| n.checked_mul(block[0])?.checked_mul(block[1])).ok_or_else(cannot)?;
    let cut = |d: Dim, i: usize| {
        d.map(|d| {
            let padded = d.checked_add(pad[2 * i])?.checked_add(pad[2 * i + 1])?;
            padded.is_multiple_of(block[i]).then(|| padded / block[i])
        })
        .ok_or_else(cannot)
    };
    let shape = [batch, c, cut(h, 0)?, cut(w, 1)?].into();
    Ok(vec![TensorType { dtype: args.ty("x")?.dtype, shape }])
}

fn batch_to_space(args: &Args<'_>) -> Inferred {
    let [n, c, h, w] = four(args)?;
    let (block, crops) = blocks(args, "crops")?;
    let cannot = || format!("a batch of {n} cannot be joined from blocks of {block:?} with crops {crops:?}");
    let batch = n.map(|n| {
        let area = block[0].checked_mul(block[1])?;
        n.is_multiple_of(area).then(|| n / area)
    });
    let joined = |d: Dim, i: usize| {
        d.map(|d| d.checked_mul(block[i])?.checked_sub(crops[2 * i])?.checked_sub(crops[2 * i + 1]))
            .ok_or_else(cannot)
    };
    let shape = [batch.ok_or_else(cannot)?, c, joined(h, 0)?, joined(w, 1)?].into();
    Ok(vec![TensorType { dtype: args.ty("x")?.dtype, shape }])
}
