//! Operations on boxes in images: suppression, cropping and resizing; and affine transformation of images.

use super::args::Args;
use super::dtype_constraint::DTypeConstraint;
use super::resize::{SAMPLING_MODES, check_mode};
use super::spec::{Inferred, OpSpec, Param};
use crate::dtype::DType;
use crate::finding::Fault;
use crate::mil::{Dim, Dims, Opset, TensorType};

pub(super) const OPS: &[OpSpec] = &[
    OpSpec::new(
        "non_maximum_suppression",
        &[
            Param::new("boxes", DTypeConstraint::FLOAT).domain('T'),
            Param::new("scores", DTypeConstraint::FLOAT).domain('T'),
            Param::constant("iou_threshold", DTypeConstraint::FLOAT).domain('T'),
            Param::constant("score_threshold", DTypeConstraint::FLOAT).domain('T').until(Opset::CoreML7),
            Param::constant("max_boxes", DTypeConstraint::INT32),
            Param::constant("per_class_suppression", DTypeConstraint::BOOL).or_bool(false),
        ],
        non_maximum_suppression,
    ),
    OpSpec::new(
        "crop_resize",
        &[
            Param::new("x", DTypeConstraint::FLOAT).domain('T'),
            Param::new("roi", DTypeConstraint::FLOAT).domain('T').until(Opset::CoreML7),
            Param::new("boxes", DTypeConstraint::BOXES).since(Opset::CoreML7),
            Param::new("box_indices", DTypeConstraint::BOX_INDICES).optional().since(Opset::CoreML7),
            Param::constant("target_height", DTypeConstraint::INT32).or_int(1),
            Param::constant("target_width", DTypeConstraint::INT32).or_int(1),
            Param::constant("normalized_coordinates", DTypeConstraint::BOOL).or_bool(false),
            Param::constant("spatial_scale", DTypeConstraint::FP32).or_fp32(1.0),
            Param::constant("box_coordinate_mode", DTypeConstraint::STRING).or_string("CORNERS_HEIGHT_FIRST"),
            Param::constant("sampling_mode", DTypeConstraint::STRING).or_string("DEFAULT"),
            Param::constant("pad_value", DTypeConstraint::FLOAT)
                .or_fp32(0.0)
                .domain('T')
                .since(Opset::CoreML6),
        ],
        crop_resize,
    ),
    OpSpec::new(
        "affine",
        &[
            Param::new("x", DTypeConstraint::FLOAT).domain('T'),
            Param::new("transform_matrix", DTypeConstraint::FLOAT).domain('T'),
            Param::constant("output_height", DTypeConstraint::INT32),
            Param::constant("output_width", DTypeConstraint::INT32),
            Param::constant("sampling_mode", DTypeConstraint::STRING),
            Param::constant("padding_mode", DTypeConstraint::STRING),
            Param::constant("padding_value", DTypeConstraint::FLOAT).domain('T'),
            Param::constant("coordinates_mode", DTypeConstraint::STRING),
            Param::constant("align_corners", DTypeConstraint::BOOL),
        ],
        affine,
    ),
];

/// Accepts `boxes [n, B, 4]` and `scores [n, B, K]`; since iOS 17 `[n, 4, B]` and `[n, K, B]`. The results
/// are boxes and scores in the same layout, with `max_boxes` in place of `B`, then the indices of the boxes
/// and, before iOS 17, their number.
fn non_maximum_suppression(args: &Args<'_>) -> Inferred {
    let (boxes, scores) = (args.ty("boxes")?, args.ty("scores")?);
    let last = args.opset() >= Opset::CoreML7;
    for name in ["iou_threshold", "score_threshold"] {
        args.float_or(name, 0.0)?;
    }
    args.bool_or("per_class_suppression", false)?;
    let most = Dim::Known(args.extent("max_boxes")?.ok_or_else(|| Fault::missing("max_boxes"))?);
    // Batch, number, and coordinates or classes.
    let axes = |ty: &TensorType| match *ty.shape.as_slice() {
        [batch, inner, number] if last => Some((batch, number, inner)),
        [batch, number, inner] => Some((batch, number, inner)),
        _ => None,
    };
    let (Some((batch, number, four)), Some((batches, numbers, classes))) = (axes(boxes), axes(scores)) else {
        return Err(format!("boxes are {boxes} and scores {scores}, expected rank 3").into());
    };
    let batch = batch.meet(batches).filter(|_| four.may_be(4) && number.may_be(numbers));
    let batch = batch.ok_or_else(|| {
        let expected = if last { "[n, 4, B] and [n, K, B]" } else { "[n, B, 4] and [n, B, K]" };
        Fault::mismatch("boxes", format!("is {boxes} and scores {scores}, expected {expected}"))
    })?;
    let like = |ty: &TensorType, inner: Dim| {
        let dims = if last { [batch, inner, most] } else { [batch, most, inner] };
        TensorType { dtype: ty.dtype, shape: Dims::from(dims) }
    };
    let mut results =
        vec![like(boxes, Dim::Known(4)), like(scores, classes), TensorType::new(DType::Int32, [batch, most])];
    if !last {
        results.push(TensorType::new(DType::Int32, [batch]));
    }
    Ok(results)
}

const BOX_COORDINATE_MODES: &[&str] =
    &["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"];

/// Crops boxes from `x [B, C, H, W]`. Before iOS 17 the result is `[N, B, C, h, w]` for `roi [N, 1, 4, 1,
/// 1]`, or `[N, 1, C, h, w]` for `[N, 1, 5, 1, 1]`, whose first element is the index of the image. Since iOS
/// 17 it is `[N, C, h, w]` for `boxes [N, 4]` and `box_indices [N]`.
fn crop_resize(args: &Args<'_>) -> Inferred {
    let x = args.ty("x")?;
    check_mode(args, "box_coordinate_mode", BOX_COORDINATE_MODES)?;
    check_mode(args, "sampling_mode", SAMPLING_MODES)?;
    args.float_or("pad_value", 0.0)?;
    let scale = args.float_or("spatial_scale", 1.0)?;
    if !scale.is_finite() {
        return Err(Fault::value("spatial_scale", format!("is {scale}, expected a finite number")));
    }
    let normalized = args.bool_or("normalized_coordinates", false)?;
    let target = |name| Ok::<_, Fault>(Dim::Known(args.extent(name)?.unwrap_or(1)));
    let (height, width) = (target("target_height")?, target("target_width")?);
    let &[images, channels, _, _] = x.shape.as_slice() else {
        return Err(Fault::value("x", format!("is {x}, expected rank 4")));
    };
    let dims = if args.opset() < Opset::CoreML7 {
        let roi = args.dims("roi")?;
        let [boxes, one, numbers, a, b] = *roi.as_slice() else {
            return Err(Fault::value(
                "roi",
                format!("is {roi}, expected [N, 1, 4, 1, 1] or [N, 1, 5, 1, 1]"),
            ));
        };
        let crops = match numbers {
            Dim::Known(4) => images,
            Dim::Known(5) => Dim::Known(1),
            _ => Dim::Unknown,
        };
        let ones = [one, a, b].iter().all(|d| d.may_be(1));
        if !ones || !(numbers.may_be(4) || numbers.may_be(5)) {
            return Err(Fault::value(
                "roi",
                format!("is {roi}, expected [N, 1, 4, 1, 1] or [N, 1, 5, 1, 1]"),
            ));
        }
        vec![boxes, crops, channels, height, width]
    } else {
        vec![boxes_of(args, images, normalized)?, channels, height, width]
    };
    Ok(vec![TensorType { dtype: x.dtype, shape: dims.into() }])
}

/// Returns the number of boxes, in the form of iOS 17.
fn boxes_of(args: &Args<'_>, images: Dim, normalized: bool) -> Result<Dim, Fault> {
    let boxes = args.ty("boxes")?;
    let number = match *boxes.shape.as_slice() {
        [number, four] if four.may_be(4) => number,
        _ => return Err(Fault::value("boxes", format!("is {boxes}, expected [N, 4]"))),
    };
    if normalized && !boxes.dtype.is_float() {
        let reason = format!("is {boxes}; normalized coordinates are fp16 or fp32");
        return Err(Fault::value("boxes", reason));
    }
    let Some(indices) = args.get("box_indices") else {
        // Box n is in image n.
        return match (number, images) {
            (Dim::Known(n), Dim::Known(b)) if n > b => {
                let reason = format!("is {boxes}, x has {b} images: more boxes than images need box_indices");
                Err(Fault::value("boxes", reason))
            }
            _ => Ok(number),
        };
    };
    let number = match *indices.ty.shape.as_slice() {
        [found] => number.meet(found),
        _ => None,
    };
    let number = number.ok_or_else(|| {
        Fault::mismatch(
            "box_indices",
            format!("is {}, boxes are {boxes}, expected [N] and [N, 4]", indices.ty),
        )
    })?;
    let outside = |images: usize| {
        let stated = args.ints_if_known("box_indices")?;
        stated.into_iter().find(|&index| usize::try_from(index).map_or(true, |index| index >= images))
    };
    match images.known().and_then(|images| outside(images).map(|index| (index, images))) {
        Some((index, images)) => {
            Err(Fault::value("box_indices", format!("names image {index}, x has {images}")))
        }
        None => Ok(number),
    }
}

/// Infers the type of `x [B, C, H, W]` transformed by `transform_matrix`, `[B, 6]` or `[1, 6]`.
fn affine(args: &Args<'_>) -> Inferred {
    let (x, matrix) = (args.ty("x")?, args.ty("transform_matrix")?);
    for (name, only) in [
        ("sampling_mode", "bilinear"),
        ("padding_mode", "constant"),
        ("coordinates_mode", "normalized_minus_one_to_one"),
    ] {
        if let Some(mode) = args.string(name)?.filter(|mode| !mode.eq_ignore_ascii_case(only)) {
            return Err(Fault::value(
                name,
                format!("is {mode:?}, expected {only:?}, the only supported value"),
            ));
        }
    }
    let padding = args.float_or("padding_value", 0.0)?;
    if padding != 0.0 {
        return Err(Fault::value(
            "padding_value",
            format!("is {padding}, expected 0, the only supported value"),
        ));
    }
    args.bool_or("align_corners", true)?;
    let target = |name| Ok::<_, Fault>(Dim::Known(args.extent(name)?.unwrap_or(1)));
    let (height, width) = (target("output_height")?, target("output_width")?);
    let &[images, channels, _, _] = x.shape.as_slice() else {
        return Err(Fault::value("x", format!("is {x}, expected rank 4")));
    };
    match *matrix.shape.as_slice() {
        [rows, six] if six.may_be(6) && (rows.may_be(1) || rows.may_be(images)) => {}
        _ => {
            let reason = format!("is {matrix}, expected [1, 6] or [{images}, 6]");
            return Err(Fault::value("transform_matrix", reason));
        }
    }
    let shape = Dims::from([images, channels, height, width]);
    Ok(vec![TensorType { dtype: x.dtype, shape }])
}
