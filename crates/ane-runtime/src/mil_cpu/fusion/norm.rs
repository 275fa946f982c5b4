//! RMS normalization: a row divided by the root of its mean square.

use mlpackage::Shape;

use super::super::ir::IrCompute;
use super::super::ir::ValueRef;
use super::super::kernels::{Call, Kernel, Outcome};
use super::{Graph, Target};
use crate::simd::{self, Isa};

struct Norm {
    isa: Isa,
    /// Number of elements of a row.
    len: usize,
    epsilon: f64,
    /// Whether the program scales the row before it squares it.
    rescaled: bool,
}

/// Sums of squares that f32 holds in full precision, as it does their inverses.
const SQUARES: std::ops::Range<f32> = 1e-30..1e30;

impl Kernel for Norm {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        let x = call.f32(0);
        assert!(x.len() == call.results[0].len() && x.len().is_multiple_of(self.len), "whole rows");
        for (x, out) in x.chunks_exact(self.len).zip(call.out_f32().chunks_exact_mut(self.len)) {
            let epsilon = self.epsilon as f32;
            let squares = simd::rms_norm(self.isa, x, epsilon, out);
            if self.rescaled && (!SQUARES.contains(&squares) || !epsilon.is_finite()) {
                self.in_f64(x, out);
            }
        }
        Ok(())
    }
}

impl Norm {
    /// Normalizes a row whose squares f32 cannot hold, which is why the program scales it.
    fn in_f64(&self, x: &[f32], out: &mut [f32]) {
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + self.epsilon).sqrt();
        out.iter_mut().zip(x).for_each(|(out, x)| *out = (f64::from(*x) * factor) as f32);
    }
}

/// A norm that was found.
struct Found {
    members: Vec<usize>,
    x: ValueRef,
    shape: Shape,
    len: usize,
    epsilon: f64,
    rescaled: bool,
}

/// A tensor as consecutive rows, each of which is normalized.
struct RowLayout {
    /// Shape of the tensor.
    shape: Shape,
    /// Number of elements of a row.
    len: usize,
    /// Shape after each row is reduced to one element.
    reduced: Shape,
}

impl RowLayout {
    /// Returns the rows that `reduce` reduces, if they are contiguous and the reduction keeps its axes.
    fn of(reduce: &IrCompute) -> Option<Self> {
        let shape = reduce.shape("x")?.clone();
        let axes = reduce.param("axes")?.to_ints()?;
        let axes: Option<Vec<usize>> = axes.into_iter().map(|axis| shape.axis(axis)).collect();
        let axes = axes.filter(|_| reduce.is_true("keep_dims"))?;
        let first = *axes.iter().min()?;
        let within = shape.dims().iter().enumerate().skip(first);
        let whole = within.clone().all(|(axis, extent)| axes.contains(&axis) || *extent == 1);
        let len = whole.then(|| within.map(|(_, extent)| extent).product())?;
        let mut reduced = shape.dims().to_vec();
        reduced[first..].fill(1);
        Some(Self { shape, len, reduced: reduced.into() })
    }

    /// Returns the number of rows.
    fn count(&self) -> usize {
        self.reduced.elements()
    }

    /// Returns whether `operation` combines the rows, read from `row`, with one value for each row, read from
    /// `number`. It compares shapes, not only counts: reshapes are not steps, and as many values along
    /// another axis would belong to other elements.
    fn meet(&self, graph: &Graph<'_>, operation: &IrCompute, row: ValueRef, number: ValueRef) -> bool {
        let significant = |shape: &Shape| -> Vec<usize> {
            shape.dims().iter().copied().skip_while(|extent| *extent == 1).collect()
        };
        operation.shape_of(row) == Some(&self.shape)
            && operation.shape_of(number).map(significant) == Some(significant(&self.reduced))
            && graph.ir.lengths[operation.result()] == self.shape.elements()
    }

    /// Returns whether `operation` maps one value for each row to one value for each row, apart from constant
    /// operands.
    fn are_met_by(&self, graph: &Graph<'_>, operation: &IrCompute) -> bool {
        let constant = |at: usize| graph.scalar(operation.operands[at].0).is_some();
        let numbers = operation.shapes.iter().enumerate().filter(|(at, _)| !constant(*at));
        numbers.clone().count() > 0
            && numbers.map(|(_, shape)| shape.elements()).all(|elements| elements == self.count())
            && graph.ir.lengths[operation.result()] == self.count()
    }
}

pub(super) fn fuse(graph: &mut Graph<'_>, target: &Target) {
    for last in 0..graph.steps.len() {
        let Some(found) = find(graph, last).filter(|found| graph.is_closed(&found.members, last)) else {
            continue;
        };
        let Some(compute) = graph.compute(last) else { continue };
        let (result, results) = (compute.result.clone(), compute.results.clone());
        let shape = found.shape.clone();
        let Found { len, epsilon, rescaled, .. } = found;
        let kernel = Norm { isa: target.isa, len, epsilon, rescaled };
        let fused = IrCompute {
            op: "rms_norm".into(),
            result,
            operands: vec![(found.x, "x")],
            shapes: vec![shape],
            floats: Vec::new(),
            states: Vec::new(),
            params: Vec::new(),
            results,
            kernel: Box::new(kernel),
            scratch: 0,
            fallible: false,
        };
        graph.replace(&found.members, last, fused);
    }
}

/// Finds `mul(a, rsqrt(mean(a * a) + e))`.
fn find(graph: &Graph<'_>, last: usize) -> Option<Found> {
    let product = graph.compute(last).filter(|compute| compute.op == "mul")?;
    let (row, factor, (rsqrt_step, rsqrt)) = product
        .pair()
        .into_iter()
        .flatten()
        .find_map(|(row, factor)| graph.made_by(factor, &["rsqrt"]).map(|found| (row, factor, found)))?;
    let mut members = vec![last, rsqrt_step];
    let inner = rsqrt.operand("x")?;
    let (mean, added) = match graph.made_by(inner, &["add"]) {
        None => (inner, None),
        Some((step, sum)) => {
            members.push(step);
            let (mean, added) = sum
                .pair()
                .into_iter()
                .flatten()
                .find(|(mean, _)| graph.made_by(*mean, &["reduce_mean"]).is_some())?;
            (mean, Some((sum, added)))
        }
    };
    let (mean_step, mean) = graph.made_by(mean, &["reduce_mean"])?;
    let rows = RowLayout::of(mean)?;
    let (square_step, square) = graph.made_by(mean.operand("x")?, &["mul", "square"])?;
    let of = [square.operand("x"), square.operand("y").or_else(|| square.operand("x"))];
    // A row times itself along another axis would be a matrix.
    let squared = of == [Some(row), Some(row)] && square.shapes.iter().all(|shape| *shape == rows.shape);
    if !squared || !rows.meet(graph, product, row, factor) {
        return None;
    }
    members.extend([mean_step, square_step]);
    // The epsilon of `rsqrt`, by default 1e-12, is added as well.
    let own = rsqrt.param("epsilon").and_then(|v| v.as_float()).unwrap_or(1e-12);
    match added.map(|(sum, added)| graph.scalar(added).ok_or((sum, added))) {
        None => Some(scaled(graph, members, row, rows, own)),
        Some(Ok(epsilon)) => Some(scaled(graph, members, row, rows, epsilon + own)),
        Some(Err((sum, added))) if rows.are_met_by(graph, sum) => {
            divided_by_largest(graph, members, row, rows, (added, own))
        }
        Some(Err(_)) => None,
    }
}

/// Includes a scaling of the row by a constant factor, if there is one. The epsilon is then divided by the
/// square of the factor.
fn scaled(graph: &Graph<'_>, mut members: Vec<usize>, row: ValueRef, rows: RowLayout, epsilon: f32) -> Found {
    let RowLayout { shape, len, .. } = rows;
    let factor = || {
        let (step, scaling) = graph.made_by(row, &["mul", "real_div"])?;
        let (x, y) = (scaling.operand("x")?, scaling.operand("y")?);
        match (scaling.op.as_str(), graph.scalar(x), graph.scalar(y)) {
            ("mul", _, Some(factor)) => Some((step, x, factor)),
            ("mul", Some(factor), _) => Some((step, y, factor)),
            ("real_div", _, Some(divisor)) => Some((step, x, 1.0 / divisor)),
            _ => None,
        }
    };
    let epsilon = f64::from(epsilon);
    let usable = |factor: f32| factor.is_finite() && factor > 0.0;
    match factor().filter(|(_, _, factor)| usable(*factor)) {
        Some((step, x, factor)) if graph.is_closed(&[members.as_slice(), &[step]].concat(), members[0]) => {
            members.push(step);
            Found { members, x, shape, len, epsilon: epsilon / f64::from(factor).powi(2), rescaled: true }
        }
        _ => Found { members, x: row, shape, len, epsilon, rescaled: false },
    }
}

/// The largest part of a mean square of 1 that may be ignored: half a unit in the last place of f32.
const NEGLIGIBLE: f64 = 6e-8;

/// Matches a row `x / u` with `u = max(max |x|, c)`, and `(c / u)^2` as its epsilon.
///
/// Multiplied by `u^2`, the epsilon is `c^2`. The epsilon of `rsqrt` itself is ignored if it is negligible:
/// it is 10^-12 by default, and the sum that it is added to is at least 1 divided by the row's length.
fn divided_by_largest(
    graph: &Graph<'_>,
    mut members: Vec<usize>,
    row: ValueRef,
    rows: RowLayout,
    (added, own): (ValueRef, f32),
) -> Option<Found> {
    if f64::from(own.abs()) * rows.len as f64 > NEGLIGIBLE {
        return None;
    }
    let (square_step, square) = graph.made_by(added, &["mul", "square"])?;
    let ratio = square.operand("x")?;
    if square.operand("y").is_some_and(|y| y != ratio) {
        return None;
    }
    let (ratio_step, ratio) = graph.made_by(ratio, &["real_div"])?;
    let (row_step, division) = graph.made_by(row, &["real_div"])?;
    let (floor, unit) = (graph.scalar(ratio.operand("x")?)?, ratio.operand("y")?);
    let x = division.operand("x")?;
    if division.operand("y")? != unit || !rows.meet(graph, division, x, unit) {
        return None;
    }
    let (unit_step, maximum) = graph.made_by(unit, &["maximum"])?;
    let (max_step, max) = maximum.pair().into_iter().flatten().find_map(|(max, least)| {
        let found = graph.made_by(max, &["reduce_max"])?;
        (graph.scalar(least)? == floor).then_some(found)
    })?;
    let (abs_step, abs) = graph.made_by(max.operand("x")?, &["abs"])?;
    let of_rows = RowLayout::of(max)?;
    let numbers = [square, ratio, maximum].into_iter().all(|operation| rows.are_met_by(graph, operation));
    if abs.operand("x")? != x || of_rows.shape != rows.shape || of_rows.len != rows.len || !numbers {
        return None;
    }
    members.extend([square_step, ratio_step, row_step, unit_step, max_step, abs_step]);
    let RowLayout { shape, len, .. } = rows;
    Some(Found { members, x, shape, len, epsilon: f64::from(floor).powi(2), rescaled: true })
}
