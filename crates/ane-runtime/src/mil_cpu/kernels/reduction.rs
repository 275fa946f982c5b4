//! Operations that reduce axes, or run along one.

use std::cmp::Ordering;

use super::elementwise::larger;
use super::strided::Lines;
use super::{Call, Lowered, Node};

pub(super) fn lower(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    Ok(Some(match node.op {
        "reduce_argmax" => arg(node, Ordering::Greater)?,
        "reduce_argmin" => arg(node, Ordering::Less)?,
        "cumsum" => cumsum(node)?,
        "argsort" => argsort(node)?,
        "topk" => topk(node)?,
        op if op.starts_with("reduce_") => return reduce(node),
        _ => return Ok(None),
    }))
}

/// Reduces a group to one element, given the values of the tensor, the layout of the groups, and the first
/// position of the group.
type Fold<T> = fn(&[T], &Lines, usize) -> T;

fn reduce(node: &Node<'_>) -> Result<Option<Lowered>, String> {
    let x = node.args.ty("x")?;
    let axes = node.args.axes("axes", &x.shape)?;
    let lines = Lines::new(node.shape("x")?.dims(), &axes);
    if x.dtype.is_float() {
        let Some(fold) = fold_of_floats(node.op) else { return Ok(None) };
        return Ok(Some(Lowered::new(&["x"], move |call| {
            let x = call.f32(0);
            let out = call.out_f32();
            lines.each(|line, start| out[line] = fold(x, &lines, start));
        })));
    }
    let Some(fold) = fold_of_ints(node.op) else { return Err(format!("{} of integers", node.op)) };
    Ok(Some(Lowered::new(&["x"], move |call| {
        let x = call.i32(0);
        let out = call.out_i32();
        lines.each(|line, start| out[line] = fold(x, &lines, start));
    })))
}

fn fold_of_floats(op: &str) -> Option<Fold<f32>> {
    fn max(x: &[f32], lines: &Lines, start: usize) -> f32 {
        let mut max = f32::NEG_INFINITY;
        lines.along(start, |_, at| max = larger(x[at], max));
        max
    }
    Some(match op {
        "reduce_sum" => |x, lines, start| lines.sum(x, start, |v| v) as f32,
        "reduce_mean" => |x, lines, start| (lines.sum(x, start, |v| v) / lines.len as f64) as f32,
        "reduce_sum_square" => |x, lines, start| lines.sum(x, start, |v| v * v) as f32,
        "reduce_l1_norm" => |x, lines, start| lines.sum(x, start, f64::abs) as f32,
        "reduce_l2_norm" => |x, lines, start| lines.sum(x, start, |v| v * v).sqrt() as f32,
        "reduce_log_sum" => |x, lines, start| lines.sum(x, start, |v| v).ln() as f32,
        // Subtracts the largest element first, so that no exponential overflows.
        "reduce_log_sum_exp" => |x, lines, start| {
            let max = f64::from(max(x, lines, start));
            let shift = if max.is_finite() { max } else { 0.0 };
            (shift + lines.sum(x, start, |v| (v - shift).exp()).ln()) as f32
        },
        "reduce_max" => max,
        "reduce_min" => |x, lines, start| {
            let mut max = f32::NEG_INFINITY;
            lines.along(start, |_, at| max = larger(-x[at], max));
            -max
        },
        "reduce_prod" => |x, lines, start| {
            let mut product = 1.0;
            lines.along(start, |_, at| product *= f64::from(x[at]));
            product as f32
        },
        _ => return None,
    })
}

/// Returns the reduction of integers. Overflow wraps around; means, roots and logarithms are truncated
/// towards zero.
fn fold_of_ints(op: &str) -> Option<Fold<i32>> {
    fn fold(x: &[i32], lines: &Lines, start: usize, first: i64, f: impl Fn(i64, i64) -> i64) -> i64 {
        let mut folded = first;
        lines.along(start, |_, at| folded = f(folded, i64::from(x[at])));
        folded
    }
    fn sum(x: &[i32], lines: &Lines, start: usize) -> i64 {
        fold(x, lines, start, 0, i64::wrapping_add)
    }
    fn squares(x: &[i32], lines: &Lines, start: usize) -> i64 {
        fold(x, lines, start, 0, |a, b| a.wrapping_add(b.wrapping_mul(b)))
    }
    Some(match op {
        "reduce_sum" => |x, lines, start| sum(x, lines, start) as i32,
        "reduce_mean" => |x, lines, start| (sum(x, lines, start) / lines.len as i64) as i32,
        "reduce_sum_square" => |x, lines, start| squares(x, lines, start) as i32,
        "reduce_l1_norm" => {
            |x, lines, start| fold(x, lines, start, 0, |a, b| a.wrapping_add(b.wrapping_abs())) as i32
        }
        "reduce_l2_norm" => |x, lines, start| (squares(x, lines, start) as f64).sqrt() as i32,
        "reduce_log_sum" => |x, lines, start| (sum(x, lines, start) as f64).ln() as i32,
        "reduce_log_sum_exp" => |x, lines, start| {
            let mut total = 0.0;
            lines.along(start, |_, at| total += f64::from(x[at]).exp());
            total.ln() as i32
        },
        "reduce_max" => |x, lines, start| fold(x, lines, start, i64::from(i32::MIN), i64::max) as i32,
        "reduce_min" => |x, lines, start| fold(x, lines, start, i64::from(i32::MAX), i64::min) as i32,
        "reduce_prod" => |x, lines, start| fold(x, lines, start, 1, i64::wrapping_mul) as i32,
        _ => return None,
    })
}

/// Elements with an order. NaN is above everything, as in NumPy.
trait Ordered: Copy {
    fn order(self, other: Self) -> Ordering;
}

impl Ordered for f32 {
    fn order(self, other: Self) -> Ordering {
        self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
    }
}

impl Ordered for i32 {
    fn order(self, other: Self) -> Ordering {
        self.cmp(&other)
    }
}

/// Lowers `reduce_argmax` or `reduce_argmin`: the first position of the largest or smallest element.
fn arg(node: &Node<'_>, wanted: Ordering) -> Result<Lowered, String> {
    let shape = node.shape("x")?;
    let lines = Lines::new(shape.dims(), &[node.axis("axis", &shape, -1)?]);
    fn best<T: Ordered>(x: &[T], lines: &Lines, wanted: Ordering, out: &mut [i32]) {
        lines.each(|line, start| {
            let mut best = (x[start], 0);
            lines.along(start, |number, at| {
                if x[at].order(best.0) == wanted {
                    best = (x[at], number);
                }
            });
            out[line] = best.1 as i32;
        });
    }
    let is_float = node.dtype("x")?.is_float();
    Ok(Lowered::new(&["x"], move |call| match is_float {
        true => best(call.f32(0), &lines, wanted, call.out_i32()),
        false => best(call.i32(0), &lines, wanted, call.out_i32()),
    }))
}

fn cumsum(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.shape("x")?;
    let axis = node.axis("axis", &shape, 0)?;
    let lines = Lines::new(shape.dims(), &[axis]);
    let exclusive = node.args.bool_or("exclusive", false)?;
    let reverse = node.args.bool_or("reverse", false)?;
    let stride = super::strided::strides(shape.dims())[axis] as usize;
    fn run<T: Copy>(
        (x, out): (&[T], &mut [T]),
        (lines, stride): (&Lines, usize),
        (exclusive, reverse): (bool, bool),
        zero: T,
        add: impl Fn(T, T) -> T,
    ) {
        lines.each(|_, start| {
            let mut total = zero;
            for step in 0..lines.len {
                let at = start + stride * if reverse { lines.len - 1 - step } else { step };
                let before = total;
                total = add(total, x[at]);
                out[at] = if exclusive { before } else { total };
            }
        });
    }
    let is_float = node.dtype("x")?.is_float();
    Ok(Lowered::new(&["x"], move |call| {
        let how = (exclusive, reverse);
        if is_float {
            let x = call.f32(0);
            run((x, call.out_f32()), (&lines, stride), how, 0.0, |a, b| a + b);
        } else {
            let x = call.i32(0);
            run((x, call.out_i32()), (&lines, stride), how, 0, i32::wrapping_add);
        }
    }))
}

/// Returns the positions of a group's elements, in order of value. Equal elements keep their order.
fn sorted<T: Ordered>(x: &[T], lines: &Lines, start: usize, ascending: bool) -> Vec<(usize, usize)> {
    let mut places = Vec::with_capacity(lines.len);
    lines.along(start, |number, at| places.push((number, at)));
    places.sort_by(|a, b| {
        let order = x[a.1].order(x[b.1]);
        if ascending { order } else { order.reverse() }
    });
    places
}

fn argsort(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.shape("x")?;
    let lines = Lines::new(shape.dims(), &[node.axis("axis", &shape, -1)?]);
    let ascending = node.args.bool_or("ascending", false)?;
    fn run<T: Ordered>(x: &[T], lines: &Lines, ascending: bool, out: &mut [i32]) {
        lines.each(|_, start| {
            let order = sorted(x, lines, start, ascending);
            lines.along(start, |number, at| out[at] = order[number].0 as i32);
        });
    }
    let is_float = node.dtype("x")?.is_float();
    Ok(Lowered::new(&["x"], move |call| match is_float {
        true => run(call.f32(0), &lines, ascending, call.out_i32()),
        false => run(call.i32(0), &lines, ascending, call.out_i32()),
    }))
}

/// Lowers `topk`: the `k` largest or smallest elements of each group, in order. Without `sort`, any order is
/// correct; coremltools' tests expect the sorted order of Core ML.
fn topk(node: &Node<'_>) -> Result<Lowered, String> {
    let shape = node.shape("x")?;
    let axis = node.axis("axis", &shape, -1)?;
    let (lines, kept) = (Lines::new(shape.dims(), &[axis]), Lines::new(node.result().dims(), &[axis]));
    let ascending = node.args.bool_or("ascending", false)?;
    let is_float = node.dtype("x")?.is_float();
    Ok(Lowered::new(&["x"], move |call: &mut Call<'_, '_>| {
        let words = call.words(0);
        let (values, indices) = call.results.split_at_mut(1);
        let mut starts = Vec::new();
        kept.each(|_, start| starts.push(start));
        lines.each(|line, start| {
            let mut order = match is_float {
                true => sorted::<f32>(bytemuck::cast_slice(words), &lines, start, ascending),
                false => sorted::<i32>(bytemuck::cast_slice(words), &lines, start, ascending),
            };
            order.truncate(kept.len);
            kept.along(starts[line], |number, at| {
                values[0][at] = words[order[number].1];
                if let Some(indices) = indices.first_mut() {
                    indices[at] = order[number].0 as u32;
                }
            });
        });
    }))
}
