//! Operations that sample or crop images. The last two axes are height and width.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::spec::{Inferred, OpSpec, Param};
use crate::finding::Fault;
use crate::mil::{Dim, Opset, TensorType, Value};

const X: Param = Param::new("x", DTypeConstraint::FLOAT);
const HEIGHT_FACTOR: Param =
    Param::constant("scale_factor_height", DTypeConstraint::FACTOR).or_int(1).domain('U');
const WIDTH_FACTOR: Param =
    Param::constant("scale_factor_width", DTypeConstraint::FACTOR).or_int(1).domain('U');
const ALIGN_CORNERS: Param = Param::constant("align_corners", DTypeConstraint::BOOL).or_bool(true);
const SAMPLING_MODE: Param = Param::constant("sampling_mode", DTypeConstraint::STRING).or_string("DEFAULT");

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new("upsample_nearest_neighbor", &[X, HEIGHT_FACTOR, WIDTH_FACTOR], upsample),
    OpSpec::new(
        "upsample_bilinear",
        &[
            X,
            HEIGHT_FACTOR,
            WIDTH_FACTOR,
            ALIGN_CORNERS,
            Param::constant("half_pixel_centers", DTypeConstraint::BOOL).optional().since(Opset::CoreML6),
        ],
        upsample,
    ),
    OpSpec::new(
        "resize_nearest_neighbor",
        &[
            X,
            Param::constant("target_size_height", DTypeConstraint::INT32),
            Param::constant("target_size_width", DTypeConstraint::INT32),
        ],
        resize_to,
    ),
    OpSpec::new(
        "resize_bilinear",
        &[
            X,
            Param::constant("target_size_height", DTypeConstraint::INT32).or_int(1),
            Param::constant("target_size_width", DTypeConstraint::INT32).or_int(1),
            SAMPLING_MODE,
        ],
        resize_to,
    ),
    OpSpec::new(
        "resize",
        &[
            Param::new("x", DTypeConstraint::NUMBER),
            Param::new("shape", DTypeConstraint::SIZES),
            Param::constant("resized_dims", DTypeConstraint::UINT32),
            Param::constant("interpolation_mode", DTypeConstraint::STRING).or_string("LINEAR"),
            SAMPLING_MODE,
        ],
        resize,
    )
    .since(Opset::CoreML7),
    OpSpec::new(
        "crop",
        &[
            X,
            Param::constant("crop_height", DTypeConstraint::INT32),
            Param::constant("crop_width", DTypeConstraint::INT32),
        ],
        crop,
    ),
    OpSpec::new(
        "resample",
        &[
            X.domain('T'),
            Param::new("coordinates", DTypeConstraint::COORDINATES),
            Param::constant("sampling_mode", DTypeConstraint::STRING),
            Param::constant("padding_mode", DTypeConstraint::STRING),
            Param::constant("padding_value", DTypeConstraint::FLOAT).domain('T'),
            Param::constant("coordinates_mode", DTypeConstraint::STRING),
            Param::constant("align_corners", DTypeConstraint::BOOL),
        ],
        resample,
    ),
];

/// Returns the type of `x` with other sizes of the last two axes.
fn with_size(args: &Args<'_>, height: Dim, width: Dim) -> Inferred {
    let x = args.ty("x")?;
    let mut dims = x.shape.as_slice().to_vec();
    let rank = dims.len();
    dims[rank - 2] = height;
    dims[rank - 1] = width;
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

/// Returns the height and width of `x`, which must have at least three axes.
fn size(args: &Args<'_>) -> Result<[Dim; 2], Fault> {
    match args.dims("x")?.as_slice() {
        [_, .., height, width] if args.dims("x")?.rank() >= 3 => Ok([*height, *width]),
        _ => Err(Fault::value("x", format!("is {}, expected rank 3 or more", args.ty("x")?))),
    }
}

fn upsample(args: &Args<'_>) -> Inferred {
    let [height, width] = size(args)?;
    let scaled = |d: Dim, name: &str| -> Result<Dim, Fault> {
        let value = args.get(name).and_then(|a| a.value);
        let int = |v: &Value| v.to_ints().and_then(|v| v.first().copied()).map(f64::from);
        let factor = value.map_or(Some(1.0), |v| int(v).or_else(|| v.as_float().map(f64::from)));
        let factor = factor.filter(|f| *f > 0.0 && *f < 1e6);
        let factor =
            factor.ok_or_else(|| Fault::value(name, "must be a positive number, stated in the program"))?;
        Ok(d.map(|d| Some((d as f64 * factor).floor() as usize)).unwrap_or(Dim::Unknown))
    };
    with_size(args, scaled(height, "scale_factor_height")?, scaled(width, "scale_factor_width")?)
}

/// The sampling positions of a resized image.
pub(super) const SAMPLING_MODES: &[&str] =
    &["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS"];

/// Refuses a string that is not among `modes`.
pub(super) fn check_mode(args: &Args<'_>, name: &str, modes: &[&str]) -> Result<(), Fault> {
    match args.string(name)? {
        Some(mode) if !modes.contains(&mode) => {
            Err(Fault::value(name, format!("is {mode:?}, expected one of {}", modes.join(", "))))
        }
        _ => Ok(()),
    }
}

fn resize_to(args: &Args<'_>) -> Inferred {
    size(args)?;
    check_mode(args, "sampling_mode", SAMPLING_MODES)?;
    let target = |name| Ok::<_, Fault>(Dim::Known(args.extent(name)?.unwrap_or(1)));
    with_size(args, target("target_size_height")?, target("target_size_width")?)
}

/// Infers the type of a resized `x`. The last `resized_dims` sizes of the result are the last elements of
/// `shape`; a 0 keeps the size of `x`.
fn resize(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    check_mode(args, "interpolation_mode", &["LINEAR", "NEAREST_NEIGHBOR"])?;
    check_mode(args, "sampling_mode", SAMPLING_MODES)?;
    let count = args.extent("resized_dims")?.ok_or_else(|| Fault::missing("resized_dims"))?;
    let first = x.shape.rank().checked_sub(count);
    let first = first.ok_or_else(|| format!("resized_dims is {count}, x is {x}"))?;
    let mut dims = x.shape.as_slice().to_vec();
    let shape = args.ints_if_known("shape");
    match args.dims("shape")?.as_slice() {
        &[len] if len.known().is_none_or(|len| (count..=x.shape.rank()).contains(&len)) => {}
        _ => {
            let reason = format!("is {}, expected {count} to {} sizes", args.dims("shape")?, x.shape.rank());
            return Err(Fault::value("shape", reason));
        }
    }
    for i in 0..count {
        dims[first + i] = match &shape {
            None => Dim::Unknown,
            Some(shape) => {
                let at = shape.len().checked_sub(count).map(|s| shape[s + i]);
                let extent = at.and_then(|v| usize::try_from(v).ok());
                match extent.ok_or_else(|| format!("shape {shape:?} does not state {count} sizes"))? {
                    0 => dims[first + i],
                    extent => Dim::Known(extent),
                }
            }
        };
    }
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

fn crop(args: &Args<'_>) -> Inferred {
    let [height, width] = size(args)?;
    let cut = |d: Dim, name: &str| {
        let crop = args.extents(name, 2, 0, 0)?;
        let left = d.map(|d| d.checked_sub(crop[0])?.checked_sub(crop[1]).filter(|&d| d > 0));
        left.ok_or_else(|| Fault::value(name, format!("removes all of {d}")))
    };
    with_size(args, cut(height, "crop_height")?, cut(width, "crop_width")?)
}

/// Infers sampling at coordinates: `x [N, C, H, W]`, `coordinates [N, H', W', 2]` → `[N, C, H', W']`.
fn resample(args: &Args<'_>) -> Inferred {
    let (x, coordinates) = (args.dims("x")?, args.dims("coordinates")?);
    check_mode(args, "sampling_mode", &["nearest", "bilinear"])?;
    check_mode(args, "padding_mode", &["constant", "border", "reflection", "symmetric"])?;
    let modes = ["unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"];
    check_mode(args, "coordinates_mode", &modes)?;
    match (x.as_slice(), coordinates.as_slice()) {
        (&[n, _, _, _], &[m, height, width, two]) if n.may_be(m) && two.may_be(2) => {
            with_size(args, height, width)
        }
        _ => Err(Fault::value(
            "x",
            format!("is {x} and coordinates {coordinates}, expected [N, C, H, W] and [N, H', W', 2]"),
        )),
    }
}
