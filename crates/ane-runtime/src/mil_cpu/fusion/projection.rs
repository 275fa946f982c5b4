//! Matrices times one vector, with an optional bias, ReLU and residual.

#![allow(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use smallvec::SmallVec;

use super::super::compressed::RowScales;
use super::super::constants::Constant;
use super::super::ir::IrCompute;
use super::super::ir::ValueRef;
use super::super::kernels::{Call, Kernel, Operand, Outcome};
use super::{Graph, Target};
use crate::simd::{self, Fixed, FixedBuffer, Isa, Matrix, Vector};
use crate::workers::Parts;

/// Below this number of multiply-adds, one or two microseconds of work, waking another thread costs more than
/// it saves.
const LEAST_WORK: usize = 32_768;

/// The same limit for elements that are rounded to fixed point.
const LEAST_ROUNDED: usize = 4_096;

/// Number of rows that a kernel computes at once, or that are stored side by side.
const STEP: usize = 16;

struct Projection {
    target: Target,
    d_in: usize,
    /// Whether any part has weights of 8 bits.
    fixed: bool,
    parts: Vec<Part>,
}

/// One matrix. Part `i` computes result `i`.
struct Part {
    d_out: usize,
    /// Index of the operand.
    weight: usize,
    bias: Option<usize>,
    relu: bool,
    residual: Option<usize>,
}

impl Part {
    /// Applies the scales, bias, ReLU and residual to the sums of the rows from `first`.
    fn finish(&self, scales: RowScales<'_>, call: &Operands<'_>, first: usize, out: &mut [f32]) {
        match scales {
            RowScales::One(1.0) => {}
            RowScales::One(scale) => out.iter_mut().for_each(|out| *out *= scale),
            RowScales::Each(scales) => out.iter_mut().zip(&scales[first..]).for_each(|(out, s)| *out *= s),
        }
        if let Some(bias) = self.bias {
            out.iter_mut().zip(&call.f32(bias)[first..]).for_each(|(out, b)| *out += b);
        }
        if self.relu {
            // Written so that a NaN is kept.
            out.iter_mut().for_each(|out| *out = if *out < 0.0 { 0.0 } else { *out });
        }
        if let Some(residual) = self.residual {
            out.iter_mut().zip(&call.f32(residual)[first..]).for_each(|(out, r)| *out += r);
        }
    }
}

/// The operands of a call, which all threads read.
#[derive(Clone, Copy)]
struct Operands<'a>(&'a [Operand<'a>]);

impl<'a> Operands<'a> {
    fn f32(&self, i: usize) -> &'a [f32] {
        match self.0[i] {
            Operand::Words(words) => bytemuck::cast_slice(words),
            Operand::Packed(_) => unreachable!("only weights stay packed"),
        }
    }

    fn matrix(&self, part: &Part) -> (Matrix<'a>, RowScales<'a>) {
        match self.0[part.weight] {
            Operand::Words(words) => (Matrix::Interleaved(bytemuck::cast_slice(words)), RowScales::One(1.0)),
            Operand::Packed(packed) => packed.rows(part.d_out).expect("checked when the steps were fused"),
        }
    }
}

/// The operands of one sequence.
struct Input<'a> {
    operands: Operands<'a>,
    x: &'a [f32],
    /// Memory for `x` in fixed point, if a part has weights of 8 bits.
    buffer: Option<FixedBuffer<'a>>,
    /// `x` in fixed point, after rounding.
    fixed: Option<Fixed<'a>>,
}

impl<'a> Input<'a> {
    fn round(&mut self, isa: Isa) {
        self.fixed = self.buffer.take().map(|buffer| buffer.round(isa, self.x));
    }

    /// Returns the vector in the form that `rows` needs.
    fn of(&self, rows: Matrix<'_>) -> Vector<'a> {
        match (rows, self.fixed) {
            (Matrix::Int8(_), Some(fixed)) => Vector::Fixed(fixed),
            _ => Vector::Plain(self.x),
        }
    }
}

impl Kernel for Projection {
    fn run(&self, call: &mut Call<'_, '_>) -> Outcome {
        self.run_batch(std::slice::from_mut(call))
    }

    fn run_batch(&self, calls: &mut [Call<'_, '_>]) -> Outcome {
        let isa = self.target.isa;
        let sequences = calls.len();
        let mut inputs: SmallVec<[Input<'_>; 1]> = SmallVec::new();
        // The results of every part for the first sequence, then for the second, and so on.
        let mut results: SmallVec<[Parts<'_>; 4]> = SmallVec::new();
        for Call { operands, results: out, scratch, .. } in calls.iter_mut() {
            let operands = Operands(operands);
            let buffer = self.fixed.then(|| FixedBuffer::new(scratch, self.d_in));
            inputs.push(Input { operands, x: operands.f32(0), buffer, fixed: None });
            out.iter_mut().for_each(|out| results.push(Parts::of(bytemuck::cast_slice_mut(out))));
        }
        let workers = &self.target.workers;
        if sequences * self.d_in < LEAST_ROUNDED {
            inputs.iter_mut().for_each(|input| input.round(isa));
        } else {
            let inputs = Parts::of(&mut inputs);
            // SAFETY: each input is accessed only once.
            workers.run(sequences, &|s| unsafe { inputs.part(s..s + 1) }[0].round(isa));
        }
        let rows: usize = self.parts.iter().map(|part| part.d_out).sum();
        let least = (LEAST_WORK / (self.d_in * sequences)).max(STEP);
        let threads = workers.threads().min(rows / least).max(1);
        let share = rows.div_ceil(threads).next_multiple_of(STEP);
        let job = |thread: usize| {
            let (begin, end) = (thread * share, rows.min((thread + 1) * share));
            let mut before = 0;
            for (i, part) in self.parts.iter().enumerate() {
                // Threads share a part in whole steps, counted from the part's own first row.
                let cut = |at: usize| at.saturating_sub(before).next_multiple_of(STEP).min(part.d_out);
                let (first, last) = (cut(begin), cut(end));
                before += part.d_out;
                if first >= last {
                    continue;
                }
                let (matrix, scales) = inputs[0].operands.matrix(part);
                // SAFETY: threads have disjoint rows, and parts and sequences have different results.
                let out = |s: usize| unsafe { results[s * self.parts.len() + i].part(first..last) };
                match inputs.as_slice() {
                    [input] => {
                        let out = out(0);
                        matrix.matvec(isa, first, input.of(matrix), out);
                        part.finish(scales, &input.operands, first, out);
                    }
                    _ => {
                        let x: Vec<Vector<'_>> = inputs.iter().map(|input| input.of(matrix)).collect();
                        let mut out: Vec<&mut [f32]> = (0..sequences).map(out).collect();
                        matrix.matvec_all(isa, first, &x, &mut out);
                        for (out, input) in out.iter_mut().zip(&inputs) {
                            part.finish(scales, &input.operands, first, out);
                        }
                    }
                }
            }
        };
        workers.run(threads, &job);
        Ok(())
    }
}

/// A projection that was found.
struct Found {
    members: Vec<usize>,
    /// The first and the last step.
    first: usize,
    last: usize,
    x: ValueRef,
    d_in: usize,
    d_out: usize,
    weight: ValueRef,
    bias: Option<ValueRef>,
    relu: bool,
    residual: Option<ValueRef>,
    int8: bool,
}

pub(super) fn fuse(graph: &mut Graph<'_>, target: &Target) {
    // Searches again after each replacement: two projections may have claimed the same addition.
    loop {
        let mut found = (0..graph.steps.len()).filter_map(|step| find(graph, step));
        let Some(first) = found.next() else { return };
        let mut group = vec![first];
        // Projections without a residual depend only on `x`, so all of them can run at the position of the
        // first.
        if group[0].residual.is_none() {
            let (x, d_in) = (group[0].x, group[0].d_in);
            group.extend(found.filter(|o| o.residual.is_none() && o.x == x && o.d_in == d_in));
        }
        let at = if group[0].residual.is_some() { group[0].last } else { group[0].first };
        replace(graph, target, &group, at);
    }
}

fn find(graph: &Graph<'_>, first: usize) -> Option<Found> {
    // `is_matrix_product` covers strides, padding, groups, the shape of `x` and its element type.
    let product = graph.compute(first).filter(|c| c.kernel.is_matrix_product())?;
    let (x, weight) = (product.operand("x")?, product.operand("weight")?);
    let (x_shape, w_shape) = (product.shape("x")?, product.shape("weight")?);
    let &[d_out, d_in, ..] = w_shape.dims() else { return None };
    let ValueRef::Constant(index) = weight else { return None };
    let one_row = x_shape.elements() == d_in && graph.ir.lengths[product.result()] == d_out;
    let int8 = match &graph.ir.constants[index] {
        Constant::Words(_) => false,
        Constant::Packed(packed) => matches!(packed.rows(d_out)?, (Matrix::Int8(_), _)),
    };
    let bias = product.operand("bias");
    if !one_row || matches!(bias, Some(ValueRef::Value(_) | ValueRef::State { .. } | ValueRef::Nowhere)) {
        return None;
    }
    let mut found = Found {
        members: vec![first],
        first,
        last: first,
        x,
        d_in,
        d_out,
        weight,
        bias,
        relu: false,
        residual: None,
        int8,
    };
    if let Some((step, _)) = next(graph, &found, "relu") {
        found.relu = true;
        found.take(step);
    }
    if let Some((step, sum)) = next(graph, &found, "add") {
        let own = ValueRef::Value(graph.compute(found.last)?.result());
        let other = sum.pair().into_iter().flatten().find(|(x, y)| *x == own && *y != own).map(|(_, y)| y);
        // Two operands of the same size but with different axes broadcast to a larger result.
        let same_size = sum.shapes.iter().all(|shape| shape.elements() == d_out)
            && graph.ir.lengths[sum.result()] == d_out;
        if let Some(other) = other.filter(|_| same_size) {
            found.residual = Some(other);
            found.take(step);
        }
    }
    Some(found)
}

/// Returns the only step that reads what was found so far, if its operation is `op`.
fn next<'g>(graph: &'g Graph<'_>, found: &Found, op: &str) -> Option<(usize, &'g IrCompute)> {
    let value = graph.compute(found.last)?.result();
    let step = graph.only_reader(value)?;
    graph.compute(step).filter(|compute| compute.op == op).map(|compute| (step, compute))
}

impl Found {
    fn take(&mut self, step: usize) {
        self.members.push(step);
        self.last = step;
    }
}

/// Returns where the weights are stored for [`Projection`]. Weights of words are copied, with rows side by
/// side.
fn interleaved(graph: &mut Graph<'_>, found: &Found) -> ValueRef {
    let ValueRef::Constant(index) = found.weight else { return found.weight };
    let constants = &mut graph.ir.constants;
    let Constant::Words(words) = &constants[index] else { return found.weight };
    let groups = simd::interleaved(bytemuck::cast_slice(words), found.d_in);
    let words: &[u32] = bytemuck::cast_slice(&groups);
    constants.push(Constant::Words(words.into()));
    ValueRef::Constant(constants.len() - 1)
}

fn replace(graph: &mut Graph<'_>, target: &Target, group: &[Found], at: usize) {
    let mut operands = vec![(group[0].x, "x")];
    let mut parts = Vec::with_capacity(group.len());
    let mut results = Vec::with_capacity(group.len());
    let mut names = Vec::with_capacity(group.len());
    let mut add = |place: ValueRef, param: &'static str| {
        operands.push((place, param));
        operands.len() - 1
    };
    for found in group {
        parts.push(Part {
            d_out: found.d_out,
            weight: add(interleaved(graph, found), "weight"),
            bias: found.bias.map(|bias| add(bias, "bias")),
            relu: found.relu,
            residual: found.residual.map(|residual| add(residual, "residual")),
        });
        if let Some(last) = graph.compute(found.last) {
            results.extend(last.results.clone());
            names.push(last.result.clone());
        }
    }
    let fixed = group.iter().any(|found| found.int8);
    let d_in = group[0].d_in;
    let fused = IrCompute {
        op: "projection".into(),
        result: names.join(", %"),
        operands,
        shapes: Vec::new(),
        floats: Vec::new(),
        states: Vec::new(),
        params: Vec::new(),
        results,
        kernel: Box::new(Projection { target: target.clone(), d_in, fixed, parts }),
        scratch: if fixed { FixedBuffer::words(d_in) } else { 0 },
        fallible: false,
    };
    let members: Vec<usize> = group.iter().flat_map(|found| found.members.iter().copied()).collect();
    graph.replace(&members, at, fused);
}
