//! Attention of one query for each head, over a cache in which one row is written first.

#![allow(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use smallvec::SmallVec;

use super::super::ir::ValueRef;
use super::super::ir::{IrCompute, IrStep};
use super::super::kernels::{Call, Kernel, Operand, Outcome};
use super::{Graph, Target};
use crate::simd;
use crate::workers::Parts;

/// Below this number of multiply-adds, waking another thread costs more than it saves.
const LEAST_WORK: usize = 32_768;

/// A position is skipped if its mask is more than this below the largest. It could matter only if its score
/// exceeded that of the position with the largest mask by about this much, and the scores of a sound model are
/// in the tens. Decoders mask with -10,000.
const LEFT_OUT: f32 = 8_192.0;

struct Attention {
    target: Target,
    heads: usize,
    /// Number of positions in the cache.
    context: usize,
    /// Number of elements of a head.
    width: usize,
    scale: f32,
    masked: bool,
}

/// The operands and results of one sequence.
struct AttentionSequence<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    write: &'a [f32],
    mask: Option<&'a [f32]>,
    /// The positions to compute. Those before and after are [skipped](LEFT_OUT).
    seen: Range<usize>,
    keys: Parts<'a>,
    values: Parts<'a>,
    scores: Parts<'a>,
    out: Parts<'a>,
}

const OPERANDS: [&str; 5] = ["query", "key", "value", "write", "mask"];

impl Kernel for Attention {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        self.run_batch(std::slice::from_mut(call))
    }

    fn run_batch(&self, calls: &mut [Call<'_, '_>]) -> Outcome {
        let mut sequences: SmallVec<[AttentionSequence<'_>; 1]> = SmallVec::new();
        for call in calls.iter_mut() {
            let Call { operands, results, states, scratch } = call;
            let floats = |i: usize| match operands[i] {
                Operand::Words(words) => bytemuck::cast_slice(words),
                Operand::Packed(_) => unreachable!("no operand is a weight"),
            };
            let [keys, values] = &mut **states else { unreachable!("two states") };
            let mask: Option<&[f32]> = self.masked.then(|| floats(4));
            sequences.push(AttentionSequence {
                query: floats(0),
                key: floats(1),
                value: floats(2),
                write: floats(3),
                mask,
                seen: mask.map_or(0..self.context, seen),
                keys: Parts::of(bytemuck::cast_slice_mut(keys)),
                values: Parts::of(bytemuck::cast_slice_mut(values)),
                scores: Parts::of(&mut scratch[..self.heads * self.context]),
                out: Parts::of(bytemuck::cast_slice_mut(results[0])),
            });
        }
        let job = |i: usize| {
            let (sequence, head) = (&sequences[i / self.heads], i % self.heads);
            self.head(sequence, head);
        };
        let parts = sequences.len() * self.heads;
        let seen: usize = sequences.iter().map(|sequence| sequence.seen.len()).sum();
        if 2 * self.heads * seen * self.width < LEAST_WORK {
            (0..parts).for_each(job);
        } else {
            self.target.workers.run(parts, &job);
        }
        Ok(())
    }
}

impl Attention {
    /// Writes the new row of a head's cache, and computes the head's attention.
    fn head(&self, sequence: &AttentionSequence<'_>, head: usize) {
        let (isa, width) = (self.target.isa, self.width);
        let own = head * width..(head + 1) * width;
        let cache = head * self.context * width..(head + 1) * self.context * width;
        // SAFETY: each call of this function has a different head or sequence.
        let (keys, values, scores, out) = unsafe {
            (
                sequence.keys.part(cache.clone()),
                sequence.values.part(cache),
                sequence.scores.part(head * self.context..(head + 1) * self.context),
                sequence.out.part(own.clone()),
            )
        };
        let (key, value) = (&sequence.key[own.clone()], &sequence.value[own.clone()]);
        for (i, &write) in sequence.write.iter().enumerate().filter(|(_, write)| **write != 0.0) {
            let row = i * width..(i + 1) * width;
            replace_row(write, key, &mut keys[row.clone()]);
            replace_row(write, value, &mut values[row]);
        }
        let seen = &sequence.seen;
        let rows = seen.start * width..seen.end * width;
        let (keys, values) = (&keys[rows.clone()], &values[rows]);
        let cache = simd::Cache { query: &sequence.query[own], keys, values };
        let mask = sequence.mask.map(|mask| &mask[seen.clone()]);
        simd::attend(isa, cache, self.scale, mask, &mut scores[seen.clone()], out);
    }
}

/// Returns the range from the first to the last position that the mask does not skip.
fn seen(mask: &[f32]) -> Range<usize> {
    let least = mask.iter().copied().fold(f32::NEG_INFINITY, f32::max) - LEFT_OUT;
    // A NaN is not skipped, so that it shows in the result.
    let left_out = |mask: &f32| *mask < least;
    let first = mask.iter().take_while(|mask| left_out(mask)).count();
    let behind = mask[first..].iter().rev().take_while(|mask| left_out(mask)).count();
    first..mask.len() - behind
}

/// Computes `row * (1 - write) + new * write`, in place.
fn replace_row(write: f32, new: &[f32], row: &mut [f32]) {
    if write == 1.0 {
        row.copy_from_slice(new);
    } else {
        row.iter_mut().zip(new).for_each(|(row, new)| *row = *row * (1.0 - write) + new * write);
    }
}

/// An attention that was found.
struct Found {
    members: Vec<usize>,
    /// Query, key, value, write and mask.
    operands: Vec<ValueRef>,
    states: [usize; 2],
    heads: usize,
    context: usize,
    width: usize,
    scale: f32,
}

pub(super) fn fuse(graph: &mut Graph<'_>, target: &Target) {
    for last in 0..graph.steps.len() {
        let Some(found) = find(graph, last) else { continue };
        let Some(compute) = graph.compute(last) else { continue };
        let (result, results) = (compute.result.clone(), compute.results.clone());
        let kernel = Attention {
            target: target.clone(),
            heads: found.heads,
            context: found.context,
            width: found.width,
            scale: found.scale,
            masked: found.operands.len() == OPERANDS.len(),
        };
        let fused = IrCompute {
            op: "attention".into(),
            result,
            operands: found.operands.into_iter().zip(OPERANDS).collect(),
            shapes: Vec::new(),
            floats: Vec::new(),
            states: found.states.to_vec(),
            params: Vec::new(),
            results,
            kernel: Box::new(kernel),
            scratch: found.heads * found.context,
            fallible: false,
        };
        graph.replace(&found.members, last, fused);
    }
}

/// Finds `matmul(softmax(scale * q k^T + mask), v)`, with `k` and `v` from caches that have a one-hot update.
fn find(graph: &Graph<'_>, last: usize) -> Option<Found> {
    let mixed = graph.compute(last).filter(|c| c.op == "matmul" && !c.is_true("transpose_x"))?;
    let &[1, heads, context, width] = mixed.shape("y")?.dims() else { return None };
    let rows = [1, heads, 1, context];
    if mixed.is_true("transpose_y") || mixed.shape("x")?.dims() != rows {
        return None;
    }
    let (softmax_step, softmax) = graph.made_by(mixed.operand("x")?, &["softmax"])?;
    let axis = softmax.param("axis").and_then(|v| v.to_ints()).unwrap_or_else(|| vec![-1]);
    if softmax.shape("x")?.dims() != rows || softmax.shape("x")?.axis(*axis.first()?) != Some(3) {
        return None;
    }
    let mut members = vec![last, softmax_step];
    let Masked { scores, mask } = masked(graph, softmax.operand("x")?, rows, &mut members)?;
    let scores = scaled(graph, scores, &mut members);
    let (product_step, product) = graph.made_by(scores.value, &["matmul"])?;
    members.push(product_step);
    let fits = product.is_true("transpose_y")
        && !product.is_true("transpose_x")
        && product.shape("x")?.dims() == [1, heads, 1, width]
        && product.shape("y")?.dims() == [1, heads, context, width];
    if !fits {
        return None;
    }
    let query = scaled(graph, product.operand("x")?, &mut members);
    let keys = update(graph, product.operand("y")?)?;
    let values = update(graph, mixed.operand("y")?)?;
    let same_shape =
        keys.write == values.write && [&keys, &values].iter().all(|u| u.shape == [heads, context, width]);
    if !same_shape || keys.state == values.state {
        return None;
    }
    members.extend(keys.members.iter().chain(&values.members));
    if !graph.is_closed(&members, last) {
        return None;
    }
    let mut operands = vec![query.value, keys.new, values.new, keys.write];
    operands.extend(mask);
    let states = [keys.state, values.state];
    Some(Found { members, operands, states, heads, context, width, scale: scores.factor * query.factor })
}

/// The operands of a sum of scores and a mask.
struct Masked {
    scores: ValueRef,
    /// `None` if nothing is added to the scores.
    mask: Option<ValueRef>,
}

/// Finds the mask that is added to scores of shape `rows`, and appends the step of the sum to `members`. Returns
/// `None` if something other than a mask of one row is added.
fn masked(graph: &Graph<'_>, place: ValueRef, rows: [usize; 4], members: &mut Vec<usize>) -> Option<Masked> {
    let Some((step, sum)) = graph.made_by(place, &["add"]) else {
        return Some(Masked { scores: place, mask: None });
    };
    let (scores, mask) =
        sum.pair().into_iter().flatten().find(|(p, _)| graph.made_by(*p, &["matmul", "mul"]).is_some())?;
    let (shape, context) = (sum.shape_of(mask)?, rows[3]);
    let one_row = shape.elements() == context && shape.dims().last() == Some(&context);
    if !one_row || sum.shape_of(scores)?.dims() != rows || shape.rank() > rows.len() {
        return None;
    }
    members.push(step);
    Some(Masked { scores, mask: Some(mask) })
}

/// A value and the scalar with which it is multiplied.
struct Scaled {
    value: ValueRef,
    factor: f32,
}

/// Finds the scalar factor of a value, which is 1 if there is none, and appends the step of the product to `members`.
fn scaled(graph: &Graph<'_>, place: ValueRef, members: &mut Vec<usize>) -> Scaled {
    let product = graph.made_by(place, &["mul"]).and_then(|(step, product)| {
        let mut pairs = product.pair().into_iter().flatten();
        pairs.find_map(|(value, factor)| Some((step, Scaled { value, factor: graph.scalar(factor)? })))
    });
    match product {
        Some((step, scaled)) => {
            members.push(step);
            scaled
        }
        None => Scaled { value: place, factor: 1.0 },
    }
}

/// A cache in which a row is replaced.
struct Update {
    members: Vec<usize>,
    state: usize,
    new: ValueRef,
    write: ValueRef,
    /// Heads, positions, width.
    shape: [usize; 3],
}

/// Finds `cache * (1 - write) + new * write` that is stored where the cache was read, if nothing else uses
/// the state.
fn update(graph: &Graph<'_>, place: ValueRef) -> Option<Update> {
    let (sum_step, sum) = graph.made_by(place, &["add"])?;
    let product = |place: ValueRef| graph.made_by(place, &["mul"]);
    let of_state = |c: &IrCompute| {
        c.pair().into_iter().flatten().find_map(|(cache, keep)| match cache {
            ValueRef::State { state, .. } => Some((state, keep)),
            _ => None,
        })
    };
    let (kept, placed) = sum
        .pair()
        .into_iter()
        .flatten()
        .find(|(kept, _)| product(*kept).is_some_and(|(_, c)| of_state(c).is_some()))?;
    let ((kept_step, kept), (placed_step, placed)) = (product(kept)?, product(placed)?);
    let (state, keep) = of_state(kept)?;
    let (_, complement) = graph.made_by(keep, &["sub"])?;
    let write = complement.operand("y")?;
    if graph.scalar(complement.operand("x")?)? != 1.0 {
        return None;
    }
    let (new, _) = placed.pair().into_iter().flatten().find(|(_, w)| *w == write)?;
    let cache = kept.pair().into_iter().flatten().find(|(_, k)| *k == keep)?.0;
    let &[1, heads, context, width] = kept.shape_of(cache)?.dims() else { return None };
    let elements = heads * context * width;
    // Both masks run along the positions: `keep` is the elementwise complement of `write`, in any shape.
    let fits = placed.shape_of(new)?.dims() == [1, heads, 1, width]
        && placed.shape_of(write)?.dims() == [1, 1, context, 1]
        && kept.shape_of(keep)?.dims() == [1, 1, context, 1]
        && sum.takes(elements)
        && graph.ir.lengths[sum.result()] == elements;
    // This step must be the only reader and the only writer of the state.
    let reads = graph.computes().flat_map(|(_, compute)| &compute.operands);
    let reads =
        reads.filter(|(place, _)| matches!(place, ValueRef::State { state: s, .. } if *s == state)).count();
    let returned =
        graph.ir.outputs.iter().any(|(p, _, _)| matches!(p, ValueRef::State { state: s, .. } if *s == state));
    let touches = |step: &Option<IrStep>| match step {
        Some(IrStep::Store { state: s, source }) => {
            *s == state || matches!(source, ValueRef::State { state: s, .. } if *s == state)
        }
        Some(IrStep::Load { state: s, .. }) => *s == state,
        Some(IrStep::Compute(compute)) => compute.states.contains(&state),
        None => false,
    };
    let mut touching = graph.steps.iter().enumerate().filter(|(_, step)| touches(step));
    let (store_step, store) = touching.next()?;
    let stored = matches!(store, Some(IrStep::Store { source, .. }) if *source == place);
    if !fits || reads != 1 || returned || !stored || touching.next().is_some() {
        return None;
    }
    let members = vec![sum_step, kept_step, placed_step, store_step];
    Some(Update { members, state, new, write, shape: [heads, context, width] })
}
