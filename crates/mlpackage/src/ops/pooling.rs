//! Pooling, which reduces each window to one value.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spatial::{Padding, Window};
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, TensorType};

const X: Param = Param::new("x", DTypeConstraint::FLOAT);
const KERNEL_SIZES: Param = Param::constant("kernel_sizes", DTypeConstraint::INT32);
const STRIDES: Param = Param::constant("strides", DTypeConstraint::INT32).optional();
const PAD_TYPE: Param = Param::constant("pad_type", DTypeConstraint::STRING);
const PAD: Param = Param::constant("pad", DTypeConstraint::INT32).optional();
const CEIL_MODE: Param = Param::constant("ceil_mode", DTypeConstraint::BOOL).or_bool(false);

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "avg_pool",
        &[
            X,
            KERNEL_SIZES,
            STRIDES,
            PAD_TYPE,
            PAD,
            Param::constant("exclude_padding_from_average", DTypeConstraint::BOOL).or_bool(false),
            CEIL_MODE,
        ],
        pool,
    ),
    OpSpec::new("max_pool", &[X, KERNEL_SIZES, STRIDES, PAD_TYPE, PAD, CEIL_MODE], pool),
    OpSpec::new("l2_pool", &[X, KERNEL_SIZES, STRIDES, PAD_TYPE, PAD, CEIL_MODE], |args| {
        match args.dims("x")?.rank() {
            3 | 4 => pool(args),
            _ => Err(Fault::value("x", format!("is {}, expected rank 3 or 4", args.ty("x")?))),
        }
    }),
];

/// Infers pooling: `x [N, C, *spatial]` → `[N, C, *out]`.
fn pool(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    let spatial = x.shape.rank().checked_sub(2).filter(|n| (1..=3).contains(n));
    let spatial = spatial.ok_or_else(|| format!("x is {x}, expected rank 3 to 5"))?;
    let kernel = args.extents("kernel_sizes", spatial, 1, 1)?;
    let padding = Padding::of(args, spatial)?;
    let ceil_mode = args.bool_or("ceil_mode", false)?;
    if ceil_mode {
        match &padding {
            Padding::Same => return Err("ceil_mode cannot be used with pad_type same".into()),
            Padding::Fixed(pad) if pad.chunks_exact(2).any(|p| p[0] != p[1]) => {
                return Err(format!(
                    "ceil_mode requires equal padding at both ends of an axis, pad is {pad:?}"
                )
                .into());
            }
            Padding::Fixed(_) if spatial > 2 => {
                return Err("ceil_mode requires one or two spatial axes".into());
            }
            Padding::Fixed(_) => {}
        }
    }
    let window = Window {
        kernel: kernel.into_iter().map(Dim::Known).collect(),
        strides: args.extents("strides", spatial, 1, 1)?,
        dilations: vec![1; spatial],
        ceil_mode,
    };
    let dims = x.shape.as_slice();
    let out = window.places(&dims[2..], &padding)?;
    Ok(vec![TensorType { dtype: x.dtype, shape: [&dims[..2], &out].concat().into() }])
}
