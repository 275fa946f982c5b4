//! Operations on boxes in images: which of them to keep, and patches cut from them.

use std::cmp::Ordering;

use mlpackage::mil::Opset;

use super::{Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "non_maximum_suppression" => non_maximum_suppression(node)?,
        "crop_resize" => crop_resize(node)?,
        _ => return Ok(None),
    }))
}

/// A box, given by its corners.
#[derive(Clone, Copy)]
struct Corners {
    low: [f32; 2],
    high: [f32; 2],
}

impl Corners {
    /// Creates a box from its centre and size. Only the magnitude of the size counts.
    fn of([x, y, width, height]: [f32; 4]) -> Self {
        let [across, down] = [width.abs() / 2.0, height.abs() / 2.0];
        Self { low: [x - across, y - down], high: [x + across, y + down] }
    }

    fn area(self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Returns the intersection of two boxes divided by their union; 0 if one of them has no area.
    fn overlap(self, other: Self) -> f32 {
        let shared = |axis: usize| {
            let shared = self.high[axis].min(other.high[axis]) - self.low[axis].max(other.low[axis]);
            if shared > 0.0 { shared } else { 0.0 }
        };
        if self.area() <= 0.0 || other.area() <= 0.0 {
            return 0.0;
        }
        let both = shared(0) * shared(1);
        both / (self.area() + other.area() - both)
    }
}

/// Selects boxes in the order of their best scores, the first of equal ones first, and skips boxes that
/// overlap too much with a selected one.
///
/// If no score reaches the threshold, the best box is selected anyway. The rest of the results is 0, and -1
/// for indices (`NonMaximumSuppressionLayerParams` in coremltools' `NeuralNetwork.proto`).
fn non_maximum_suppression(node: &Node<'_>) -> Result<Lowered, String> {
    let last = node.args.opset() >= Opset::CoreML7;
    let scores = node.shape("scores")?;
    let (batch, number, classes) = match *scores.dims() {
        [batch, classes, number] if last => (batch, number, classes),
        [batch, number, classes] => (batch, number, classes),
        _ => return Err(format!("{} of scores {scores}", node.op)),
    };
    let most = node.args.extent("max_boxes")?.unwrap_or(1);
    let suppression = Suppression {
        last,
        number,
        classes,
        most,
        overlap: node.args.float_or("iou_threshold", 0.0)?,
        least: node.args.float_or("score_threshold", f32::NEG_INFINITY)?,
        by_class: node.args.bool_or("per_class_suppression", false)?,
    };
    Ok(Lowered::new(&["boxes", "scores"], move |call| {
        let (boxes, scores) = (call.f32(0), call.f32(1));
        for batch in 0..batch {
            let boxes = &boxes[batch * number * 4..(batch + 1) * number * 4];
            let scores = &scores[batch * number * classes..(batch + 1) * number * classes];
            let taken = suppression.take(boxes, scores);
            let results = &mut *call.results;
            for (result, inner, given) in [(0, 4, boxes), (1, classes, scores)] {
                let out = &mut results[result][batch * most * inner..(batch + 1) * most * inner];
                out.fill(0);
                for (place, n) in taken.iter().enumerate() {
                    for i in 0..inner {
                        let value = given[suppression.at(*n, i, number, inner)];
                        out[suppression.at(place, i, most, inner)] = value.to_bits();
                    }
                }
            }
            let indices = &mut results[2][batch * most..(batch + 1) * most];
            indices.fill(-1i32 as u32);
            indices.iter_mut().zip(&taken).for_each(|(index, n)| *index = *n as u32);
            if let Some(counts) = results.get_mut(3) {
                counts[batch] = taken.len() as u32;
            }
        }
    }))
}

/// The parameters of the selection.
struct Suppression {
    /// Whether boxes are along the last axis, as since iOS 17, or along the one before.
    last: bool,
    number: usize,
    classes: usize,
    most: usize,
    overlap: f32,
    least: f32,
    by_class: bool,
}

impl Suppression {
    /// Returns the index of value `i` of box `n`, among `boxes` boxes with `inner` values each.
    fn at(&self, n: usize, i: usize, boxes: usize, inner: usize) -> usize {
        if self.last { i * boxes + n } else { n * inner + i }
    }

    /// Returns the most likely class of a box, and its score. Every score is better than NaN.
    fn best(&self, scores: &[f32], n: usize) -> (usize, f32) {
        let scored =
            (0..self.classes).map(|class| (class, scores[self.at(n, class, self.number, self.classes)]));
        scored.reduce(|a, b| if is_better(b.1, a.1) { b } else { a }).unwrap_or((0, f32::NAN))
    }

    /// Returns the selected boxes, in order.
    fn take(&self, boxes: &[f32], scores: &[f32]) -> Vec<usize> {
        let corners = |n: usize| Corners::of([0, 1, 2, 3].map(|i| boxes[self.at(n, i, self.number, 4)]));
        let best: Vec<(usize, f32)> = (0..self.number).map(|n| self.best(scores, n)).collect();
        let mut order: Vec<usize> = (0..self.number).filter(|n| best[*n].1 >= self.least).collect();
        // None of these scores is NaN, because NaN does not reach the threshold.
        order.sort_by(|a, b| best[*b].1.partial_cmp(&best[*a].1).unwrap_or(Ordering::Equal));
        let mut taken: Vec<(usize, Corners)> = Vec::new();
        for n in order {
            if taken.len() == self.most {
                break;
            }
            let found = corners(n);
            let hides = |(other, box_): &(usize, Corners)| {
                (!self.by_class || best[*other].0 == best[n].0) && box_.overlap(found) > self.overlap
            };
            if !taken.iter().any(hides) {
                taken.push((n, found));
            }
        }
        if taken.is_empty() {
            let first = (0..self.number).reduce(|a, b| if is_better(best[b].1, best[a].1) { b } else { a });
            return first.into_iter().collect();
        }
        taken.into_iter().map(|(n, _)| n).collect()
    }
}

/// Returns whether a score is greater. Every score is greater than NaN.
fn is_better(score: f32, than: f32) -> bool {
    score > than || (than.is_nan() && !score.is_nan())
}

/// The positions along an axis of a box at which the results are sampled. The box has `X = end - start + 1`
/// pixels; the formulas are those of `resize_bilinear` on the interval `[0, X - 1]`.
#[derive(Clone, Copy)]
enum Sampling {
    StrictAlign,
    Align,
    Default,
    Offset,
    Unalign,
}

impl Sampling {
    fn of(node: &Node<'_>) -> Result<Self, String> {
        Ok(match node.args.string("sampling_mode")?.unwrap_or("DEFAULT") {
            "STRICT_ALIGN_CORNERS" => Self::StrictAlign,
            "ALIGN_CORNERS" => Self::Align,
            "DEFAULT" => Self::Default,
            "OFFSET_CORNERS" => Self::Offset,
            "UNALIGN_CORNERS" => Self::Unalign,
            other => return Err(format!("{} of sampling mode {other}", node.op)),
        })
    }

    /// Returns the position of result `i` of `to`. Computes in f64, so that rounding does not move the end of
    /// a box past the border.
    fn point(self, [start, end]: [f64; 2], i: usize, to: usize) -> f64 {
        let (at, to, last) = (i as f64, to as f64, end - start);
        let pixels = last + 1.0;
        let inside = |point: f64| start + point.max(0.0).min(last);
        match self {
            Self::Align if to == 1.0 => f64::midpoint(start, end),
            Self::StrictAlign if to == 1.0 => start,
            Self::StrictAlign | Self::Align if at + 1.0 == to => end,
            Self::StrictAlign | Self::Align => start + at * last / (to - 1.0),
            Self::Default => inside(at * pixels / to),
            Self::Offset => inside((at + 0.5) * last.max(1.0) / to),
            Self::Unalign => inside((at + 0.5) * pixels / to - 0.5),
        }
    }
}

/// Cuts patches from `x [B, C, H, W]`, each sampled at `[h, w]` points. Points outside of the image have the
/// padding value, which is 0 before iOS 16.
fn crop_resize(node: &Node<'_>) -> Result<Lowered, String> {
    const BEFORE: &[&str] = &["x", "roi"];
    const SINCE: &[&str] = &["x", "boxes", "box_indices"];
    let (x, result) = (node.shape("x")?, node.result());
    let &[images, channels, height, width] = x.dims() else { return Err(format!("{} of {x}", node.op)) };
    let sampling = Sampling::of(node)?;
    let boxes = Boxes::of(node, images, [height, width])?;
    let padding = node.args.float_or("pad_value", 0.0)?;
    let [to_height, to_width] = [result.dims()[result.rank() - 2], result.dims()[result.rank() - 1]];
    let patch = channels * to_height * to_width;
    Ok(Lowered::fallible(if boxes.since_ios17 { SINCE } else { BEFORE }, move |call| {
        let (x, words) = (call.f32(0), call.words(1));
        let indices = boxes.has_indices.then(|| call.i32(2));
        for (i, out) in call.out_f32().chunks_exact_mut(patch).enumerate() {
            let (n, crop) = (i / boxes.crops, i % boxes.crops);
            let image = boxes.image(words, indices, n, crop);
            if !(image >= 0.0 && image < images as f64) {
                return Err(format!("box {n} is in image {image}, x has {images}"));
            }
            let image = image as usize;
            let [rows, columns] = boxes.span(words, n);
            for (i, out) in out.iter_mut().enumerate() {
                let channel = i / (to_height * to_width);
                let down = sampling.point(rows, i / to_width % to_height, to_height);
                let across = sampling.point(columns, i % to_width, to_width);
                let plane = &x[(image * channels + channel) * height * width..][..height * width];
                *out = bilinear(plane, [height, width], [down, across]).unwrap_or(padding);
            }
        }
        Ok(())
    }))
}

/// The encoding of boxes.
struct Boxes {
    /// Whether the boxes are in the form of iOS 17.
    since_ios17: bool,
    has_indices: bool,
    is_float: bool,
    /// Number of values of a box. If there are five, the first is its image.
    numbers: usize,
    /// Number of patches for each box.
    crops: usize,
    /// Whether a box is given by its centre and size.
    centered: bool,
    width_first: bool,
    /// Factors of the vertical and horizontal coordinates.
    scale: [f64; 2],
}

impl Boxes {
    fn of(node: &Node<'_>, images: usize, size: [usize; 2]) -> Result<Self, String> {
        let since_ios17 = node.args.opset() >= Opset::CoreML7;
        let name = if since_ios17 { "boxes" } else { "roi" };
        let mode = node.args.string("box_coordinate_mode")?.unwrap_or("CORNERS_HEIGHT_FIRST");
        let scale = f64::from(node.args.float_or("spatial_scale", 1.0)?);
        let numbers = node.shape(name)?.dims()[if since_ios17 { 1 } else { 2 }];
        Ok(Self {
            since_ios17,
            has_indices: node.has("box_indices"),
            is_float: node.dtype(name)?.is_float(),
            numbers,
            crops: if since_ios17 || numbers == 5 { 1 } else { images },
            centered: mode.starts_with("CENTER"),
            width_first: mode.ends_with("WIDTH_FIRST"),
            scale: match node.args.bool_or("normalized_coordinates", false)? {
                true => size.map(|extent| scale * (extent - 1) as f64),
                false => [scale; 2],
            },
        })
    }

    fn number(&self, word: u32) -> f64 {
        if self.is_float { f64::from(f32::from_bits(word)) } else { f64::from(word as i32) }
    }

    /// Returns the image from which patch `crop` of box `n` is cut. There may be no such image.
    fn image(&self, words: &[u32], indices: Option<&[i32]>, n: usize, crop: usize) -> f64 {
        match (indices, self.numbers) {
            (Some(indices), _) => f64::from(indices[n]),
            (None, 5) => self.number(words[n * self.numbers]),
            (None, _) if self.since_ios17 => n as f64,
            (None, _) => crop as f64,
        }
    }

    /// Returns the start and end of box `n`, vertically and horizontally.
    fn span(&self, words: &[u32], n: usize) -> [[f64; 2]; 2] {
        let first = (n + 1) * self.numbers - 4;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| self.number(words[first + i]));
        let (vertical, horizontal) = if self.width_first { ([b, d], [a, c]) } else { ([a, c], [b, d]) };
        let ends = |[one, two]: [f64; 2], scale: f64| {
            let (start, end) = if self.centered { (one - two / 2.0, one + two / 2.0) } else { (one, two) };
            [start * scale, end * scale]
        };
        [ends(vertical, self.scale[0]), ends(horizontal, self.scale[1])]
    }
}

/// Returns the interpolated value at a point `[y, x]`; `None` outside of the image.
fn bilinear(plane: &[f32], [height, width]: [usize; 2], point: [f64; 2]) -> Option<f32> {
    let between = |at: f64, size: usize| {
        let inside = at >= 0.0 && at <= (size - 1) as f64;
        let first = at.floor();
        inside.then(|| (first as usize, (first as usize + 1).min(size - 1), (at - first) as f32))
    };
    let ((top, bottom, down), (left, right, across)) =
        (between(point[0], height)?, between(point[1], width)?);
    let row = |y: usize| {
        let (a, b) = (plane[y * width + left], plane[y * width + right]);
        if across == 0.0 { a } else { a + (b - a) * across }
    };
    let upper = row(top);
    Some(if down == 0.0 { upper } else { upper + (row(bottom) - upper) * down })
}
