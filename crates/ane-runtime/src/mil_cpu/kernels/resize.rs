//! Operations that sample images. The last two axes are height and width; `resize` may sample another number
//! of axes.

use mlpackage::Shape;

use super::{Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    let last_two = |grid: Grid, nearest: bool| -> Result<Option<Lowered>, String> {
        sample(node, 2, grid, nearest).map(Some)
    };
    match node.op {
        "upsample_nearest_neighbor" => last_two(Grid::Asymmetric, true),
        "resize_nearest_neighbor" => last_two(Grid::HalfPixel, true),
        "upsample_bilinear" => {
            let align = node.args.bool_or("align_corners", true)?;
            let half = node.args.bool_or("half_pixel_centers", !align)?;
            let grid = match (align, half) {
                (true, _) => Grid::AlignCorners,
                (false, true) => Grid::HalfPixel,
                (false, false) => Grid::Asymmetric,
            };
            last_two(grid, false)
        }
        "resize_bilinear" => last_two(Grid::of(node)?, false),
        "resize" => {
            let dims = node.args.extent("resized_dims")?.unwrap_or(1);
            let nearest = node.args.string("interpolation_mode")?.unwrap_or("LINEAR") != "LINEAR";
            let grid = match Grid::of(node)? {
                Grid::Asymmetric if nearest => Grid::HalfPixel,
                grid => grid,
            };
            sample(node, dims, grid, nearest).map(Some)
        }
        "resample" => resample(node).map(Some),
        "affine" => affine(node).map(Some),
        _ => Ok(None),
    }
}

/// The point of an axis of `from` elements at which each of `to` results is sampled.
#[derive(Clone, Copy)]
enum Grid {
    /// `i * from / to`: MIL's `DEFAULT`.
    Asymmetric,
    /// The first and last results are at the first and last elements: `STRICT_ALIGN_CORNERS`.
    AlignCorners,
    /// The same, but a single result is in the middle: `ALIGN_CORNERS`.
    AlignCornersOrMiddle,
    /// `(i + 1/2) * from / to - 1/2`: `UNALIGN_CORNERS`.
    HalfPixel,
    /// `(i + 1/2) * (from - 1) / to`: `OFFSET_CORNERS`.
    Offset,
}

impl Grid {
    fn of(node: &Node<'_>) -> Result<Self, String> {
        Ok(match node.args.string("sampling_mode")?.unwrap_or("DEFAULT") {
            "DEFAULT" => Self::Asymmetric,
            "STRICT_ALIGN_CORNERS" => Self::AlignCorners,
            "ALIGN_CORNERS" => Self::AlignCornersOrMiddle,
            "UNALIGN_CORNERS" => Self::HalfPixel,
            "OFFSET_CORNERS" => Self::Offset,
            other => return Err(format!("{} of sampling mode {other}", node.op)),
        })
    }

    fn point(self, i: usize, from: usize, to: usize) -> f32 {
        let (at, last) = (i as f32, (from - 1) as f32);
        let ratio = from as f32 / to as f32;
        let point = match self {
            Self::Asymmetric => at * ratio,
            Self::AlignCornersOrMiddle if to == 1 => last / 2.0,
            Self::AlignCorners | Self::AlignCornersOrMiddle if to == 1 => 0.0,
            Self::AlignCorners | Self::AlignCornersOrMiddle => at * last / (to - 1) as f32,
            Self::HalfPixel => (at + 0.5) * ratio - 0.5,
            Self::Offset => (at + 0.5) * last.max(1.0) / to as f32,
        };
        point.clamp(0.0, last)
    }
}

/// The two elements around a point of an axis, and its distance from the first.
#[derive(Clone, Copy)]
struct Between {
    first: usize,
    second: usize,
    weight: f32,
}

/// Samples the last `count` axes, independently: a result is the weighted mean of its two neighbours on every
/// axis.
///
/// For `upsample_nearest_neighbor`, the nearest element is the one that contains `i * from / to`. For the
/// resizing operations, it is the one that contains the middle of the result, `(i + 1/2) * from / to`.
/// coremltools converts TensorFlow's operation to the first without half-pixel centres and to the others with
/// them, and its tests of `resize` expect elements 0, 1, 1 for two elements that become three.
fn sample(node: &Node<'_>, count: usize, grid: Grid, nearest: bool) -> Result<Lowered, String> {
    let (x, result) = (node.shape("x")?, node.result());
    let first = x.rank() - count;
    let axis = |axis: usize| -> Vec<Between> {
        let (from, to) = (x.dims()[axis], result.dims()[axis]);
        let between = |i: usize| {
            let point = grid.point(i, from, to);
            // The default grid selects the element that contains the point, the others the nearest one.
            // Integers decide this exactly: in f32, as in PyTorch, 41 times 2 / 82 is less than 1, and
            // upsampling by 41 would not be a repetition.
            let at = match (nearest, grid) {
                (true, Grid::Asymmetric) => i * from / to,
                (true, Grid::HalfPixel) => (2 * i + 1) * from / (2 * to),
                (true, _) => point.round() as usize,
                (false, _) => point as usize,
            };
            let at = at.min(from - 1);
            let weight = if nearest { 0.0 } else { point - point.floor() };
            Between { first: at, second: (at + 1).min(from - 1), weight }
        };
        (0..to).map(between).collect()
    };
    let axes: Vec<Vec<Between>> = (first..x.rank()).map(axis).collect();
    let (from, to) = (x.dims()[first..].to_vec(), result.dims()[first..].to_vec());
    let (inputs, outputs): (usize, usize) = (from.iter().product(), to.iter().product());
    let is_float = node.results[0].0.is_float();
    Ok(Lowered::new(&["x"], move |call| {
        let words = call.words(0);
        for (x, out) in words.chunks_exact(inputs).zip(call.out().chunks_exact_mut(outputs)) {
            for (i, out) in out.iter_mut().enumerate() {
                let mut total = 0.0;
                // Every corner of the cell that contains the point.
                for corner in 0..1usize << count {
                    let (mut rest, mut at, mut weight, mut step) = (i, 0, 1.0f32, 1);
                    for axis in (0..count).rev() {
                        let between = axes[axis][rest % to[axis]];
                        rest /= to[axis];
                        let second = corner >> axis & 1 == 1;
                        at += step * if second { between.second } else { between.first };
                        weight *= if second { between.weight } else { 1.0 - between.weight };
                        step *= from[axis];
                    }
                    if weight != 0.0 {
                        let value = if is_float { f32::from_bits(x[at]) } else { x[at] as i32 as f32 };
                        total += weight * value;
                    }
                }
                *out = if is_float { total.to_bits() } else { total as i32 as u32 };
            }
        }
    }))
}

/// How points outside of an image are defined.
#[derive(Clone, Copy)]
enum Outside {
    Constant(f32),
    /// The border pixel is repeated.
    Border,
    /// Mirrored at the border pixel, which is not repeated.
    Reflection,
    /// Mirrored at the border pixel, which is repeated.
    Symmetric,
}

/// Samples `x [B, C, H, W]` at `coordinates [B, H', W', 2]`, each (x, y).
fn resample(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, coordinates) = (node.shape("x")?, node.shape("coordinates")?);
    let nearest = node.args.string("sampling_mode")?.unwrap_or("bilinear") == "nearest";
    let outside = match node.args.string("padding_mode")?.unwrap_or("constant") {
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        "symmetric" => Outside::Symmetric,
        _ => Outside::Constant(node.args.float_or("padding_value", 0.0)?),
    };
    // The coordinates at which the image starts and ends; `None` if they count pixels.
    let ends = match node.args.string("coordinates_mode")?.unwrap_or("unnormalized") {
        "normalized_minus_one_to_one" => Some((-1.0, 1.0)),
        "normalized_zero_to_one" => Some((0.0, 1.0)),
        _ => None,
    };
    let align = node.args.bool_or("align_corners", true)?;
    let is_float = node.dtype("coordinates")?.is_float();
    let pixel = move |coordinate: f32, size: usize| match ends {
        None => coordinate,
        Some((begin, end)) => {
            let share = (coordinate - begin) / (end - begin);
            if align { share * (size - 1) as f32 } else { share * size as f32 - 0.5 }
        }
    };
    let image = Image { height: x.dims()[2], width: x.dims()[3], outside };
    let (channels, places) = (x.dims()[1], Shape::from(&coordinates.dims()[1..3]).elements());
    Ok(Lowered::new(&["x", "coordinates"], move |call| {
        let (x, words) = (call.f32(0), call.words(1));
        let area = image.height * image.width;
        for (i, out) in call.out_f32().iter_mut().enumerate() {
            let (plane, place) = (i / places, i % places);
            let at = (plane / channels * places + place) * 2;
            let coordinate = |word: u32| if is_float { f32::from_bits(word) } else { word as i32 as f32 };
            let point =
                [pixel(coordinate(words[at + 1]), image.height), pixel(coordinate(words[at]), image.width)];
            *out = image.sample(&x[plane * area..(plane + 1) * area], point, nearest);
        }
    }))
}

/// Samples `x [B, C, H, W]` at points that a matrix `[a0, a1, a2, b0, b1, b2]` computes from those of the
/// result: `(a0 x + a1 y + a2, b0 x + b1 y + b2)`.
///
/// Coordinates of both are from -1 to 1: from the centre of the first pixel to that of the last one if
/// corners are aligned, from edge to edge otherwise.
fn affine(node: &Node<'_>) -> Result<Lowered, String> {
    let (x, matrices, result) = (node.shape("x")?, node.shape("transform_matrix")?, node.result());
    let align = node.args.bool_or("align_corners", true)?;
    let image = Image { height: x.dims()[2], width: x.dims()[3], outside: Outside::Constant(0.0) };
    let (channels, several) = (x.dims()[1], matrices.dims()[0] > 1);
    let [to_height, to_width] = [result.dims()[2], result.dims()[3]];
    let place = move |i: usize, size: usize| match (align, size) {
        (true, 1) => 0.0,
        (true, _) => 2.0 * i as f32 / (size - 1) as f32 - 1.0,
        (false, _) => (2 * i + 1) as f32 / size as f32 - 1.0,
    };
    let pixel = move |at: f32, size: usize| {
        if align { (at + 1.0) / 2.0 * (size - 1) as f32 } else { ((at + 1.0) * size as f32 - 1.0) / 2.0 }
    };
    Ok(Lowered::new(&["x", "transform_matrix"], move |call| {
        let (x, matrices) = (call.f32(0), call.f32(1));
        let (area, points) = (image.height * image.width, to_height * to_width);
        for (i, out) in call.out_f32().iter_mut().enumerate() {
            let plane = i / points;
            let m = &matrices[if several { plane / channels * 6 } else { 0 }..][..6];
            let (across, down) = (place(i % to_width, to_width), place(i / to_width % to_height, to_height));
            let point = [
                pixel(m[3] * across + m[4] * down + m[5], image.height),
                pixel(m[0] * across + m[1] * down + m[2], image.width),
            ];
            *out = image.sample(&x[plane * area..(plane + 1) * area], point, false);
        }
    }))
}

struct Image {
    height: usize,
    width: usize,
    outside: Outside,
}

impl Image {
    /// Returns the value at a point, which is (y, x).
    fn sample(&self, plane: &[f32], point: [f32; 2], nearest: bool) -> f32 {
        let [y, x] = [self.fold(point[0], self.height), self.fold(point[1], self.width)];
        if nearest {
            return self.at(plane, y.round_ties_even(), x.round_ties_even());
        }
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let rows = [(top, 1.0 - down), (top + 1.0, down)];
        let columns = [(left, 1.0 - right), (left + 1.0, right)];
        let mut total = 0.0;
        for (y, wy) in rows {
            for (x, wx) in columns {
                // A corner of weight 0 may be outside; multiplied with an infinite padding value, it would be
                // NaN.
                if wy * wx != 0.0 {
                    total += wy * wx * self.at(plane, y, x);
                }
            }
        }
        total
    }

    fn at(&self, plane: &[f32], y: f32, x: f32) -> f32 {
        let inside = |v: f32, size: usize| (v >= 0.0 && v <= (size - 1) as f32).then_some(v as usize);
        match (inside(y, self.height), inside(x, self.width), self.outside) {
            (Some(y), Some(x), _) => plane[y * self.width + x],
            (_, _, Outside::Constant(value)) => value,
            _ => {
                let clamp = |v: f32, size: usize| v.clamp(0.0, (size - 1) as f32) as usize;
                plane[clamp(y, self.height) * self.width + clamp(x, self.width)]
            }
        }
    }

    /// Returns the point inside that corresponds to a point outside.
    fn fold(&self, at: f32, size: usize) -> f32 {
        let last = (size - 1) as f32;
        let mirror = |low: f32, high: f32| {
            let span = high - low;
            if span <= 0.0 {
                return 0.0;
            }
            let offset = (at - low).abs() % (2.0 * span);
            (if offset > span { low + 2.0 * span - offset } else { low + offset }).clamp(0.0, last)
        };
        match self.outside {
            Outside::Constant(_) => at,
            Outside::Border => at.clamp(0.0, last),
            // Aligned corners change what coordinates mean, not the positions of the mirrors: coremltools
            // converts PyTorch's reflection without aligned corners to `symmetric`.
            Outside::Reflection => mirror(0.0, last),
            Outside::Symmetric => mirror(-0.5, last + 0.5),
        }
    }
}
