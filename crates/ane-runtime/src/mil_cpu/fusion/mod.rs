//! Fusion of several operations into one. Patterns are found in the planned steps by what these compute,
//! independent of the names of values and of the exporter. Steps that match no pattern stay as they are.
//!
//! | pattern | becomes |
//! |---|---|
//! | `mul(x, rsqrt(reduce_mean(x * x) + e))`, also if `x` was scaled by a constant or divided by its largest magnitude | [`norm`] |
//! | 1x1 `conv` or `linear` of one row, then `relu`, then `add`; several that share `x` | [`projection`] |
//! | a row of a cache replaced by a one-hot mask, `softmax(q k + mask) v` | [`attention`] |

mod attention;
mod norm;
mod projection;

use std::collections::HashMap;
use std::sync::Arc;

use mlpackage::Shape;

use super::constants::Constant;
use super::ir::ValueRef;
use super::ir::{Ir, IrCompute, IrStep};
use crate::simd::Isa;
use crate::workers::Workers;

/// A group of operations that [`Numerics::Fast`](super::Numerics::Fast) computes as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// A row divided by the root of its mean square.
    Norm,
    /// A constant matrix times one vector, with an optional bias, ReLU and residual.
    Projection,
    /// One row of a cache is written, followed by attention over the cache.
    Attention,
}

impl Fusion {
    /// All fusions.
    pub const ALL: [Self; 3] = [Self::Norm, Self::Projection, Self::Attention];
}

/// What fused operations run on, and which fusions are disabled.
#[derive(Clone)]
pub(super) struct Target {
    isa: Isa,
    workers: Arc<Workers>,
    left_out: [bool; Fusion::ALL.len()],
}

impl Target {
    /// Creates a target with `threads` threads and the best instructions of this machine, without the fusions
    /// in `left_out`.
    pub(super) fn new(threads: usize, left_out: [bool; Fusion::ALL.len()]) -> Self {
        Self { isa: Isa::best(), workers: Arc::new(Workers::new(threads)), left_out }
    }
}

/// Fuses all operations that match a pattern.
pub(super) fn fuse(ir: &mut Ir, target: &Target) {
    let mut graph = Graph::of(ir);
    for fusion in Fusion::ALL.into_iter().filter(|fusion| !target.left_out[*fusion as usize]) {
        match fusion {
            Fusion::Norm => norm::fuse(&mut graph, target),
            Fusion::Projection => projection::fuse(&mut graph, target),
            Fusion::Attention => attention::fuse(&mut graph, target),
        }
    }
    graph.sweep();
    graph.finish();
}

/// The steps of a function, and which step computes and which steps read each value.
struct Graph<'d> {
    ir: &'d mut Ir,
    /// `None` if a step has become part of another or was removed.
    steps: Vec<Option<IrStep>>,
    makers: HashMap<usize, usize>,
    /// The steps that read each value. An output of the function counts as a read by a step after the last
    /// one.
    readers: HashMap<usize, Vec<usize>>,
}

impl<'d> Graph<'d> {
    fn of(ir: &'d mut Ir) -> Self {
        let steps = std::mem::take(&mut ir.steps).into_iter().map(Some).collect();
        let mut graph = Self { ir, steps, makers: HashMap::new(), readers: HashMap::new() };
        graph.index();
        graph
    }

    fn finish(self) {
        // Reads of states refer to step numbers, and there are fewer steps now.
        let mut left = 0;
        let mut numbers: Vec<usize> = Vec::with_capacity(self.steps.len() + 1);
        for step in &self.steps {
            numbers.push(left);
            left += usize::from(step.is_some());
        }
        numbers.push(left);
        let renumbered = |place: ValueRef| match place {
            ValueRef::State { state, at } => ValueRef::State { state, at: numbers[at] },
            other => other,
        };
        self.ir.steps = self.steps.into_iter().flatten().collect();
        self.ir.steps.iter_mut().for_each(|step| step.replace(renumbered));
        self.ir.outputs.iter_mut().for_each(|(place, _, _)| *place = renumbered(*place));
    }

    fn index(&mut self) {
        self.makers.clear();
        self.readers.clear();
        let mut read = |place: &ValueRef, step: usize| {
            if let ValueRef::Value(value) = place {
                self.readers.entry(*value).or_default().push(step);
            }
        };
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Some(IrStep::Compute(compute)) => {
                    compute.results.iter().for_each(|(value, _)| {
                        self.makers.insert(*value, i);
                    });
                    compute.operands.iter().for_each(|(place, _)| read(place, i));
                }
                Some(IrStep::Store { source, .. }) => read(source, i),
                Some(IrStep::Load { .. }) | None => {}
            }
        }
        let behind = self.steps.len();
        self.ir.outputs.iter().for_each(|(place, _, _)| read(place, behind));
    }

    /// Returns the computing steps with their numbers.
    fn computes(&self) -> impl Iterator<Item = (usize, &IrCompute)> {
        self.steps.iter().enumerate().filter_map(|(i, step)| match step {
            Some(IrStep::Compute(compute)) => Some((i, compute)),
            _ => None,
        })
    }

    fn compute(&self, step: usize) -> Option<&IrCompute> {
        match self.steps.get(step) {
            Some(Some(IrStep::Compute(compute))) => Some(compute),
            _ => None,
        }
    }

    /// Returns the step that computes the value at `place`, if its operation is one of `ops`.
    fn made_by(&self, place: ValueRef, ops: &[&str]) -> Option<(usize, &IrCompute)> {
        let ValueRef::Value(value) = place else { return None };
        let step = *self.makers.get(&value)?;
        self.compute(step).filter(|compute| ops.contains(&compute.op.as_str())).map(|compute| (step, compute))
    }

    /// Returns the value at `place`, if it is a constant of one element.
    fn scalar(&self, place: ValueRef) -> Option<f32> {
        let ValueRef::Constant(index) = place else { return None };
        match &self.ir.constants[index] {
            Constant::Words(words) if words.len() == 1 => Some(f32::from_bits(words[0])),
            _ => None,
        }
    }

    /// Returns the step that reads the value, if it is read exactly once.
    fn only_reader(&self, value: usize) -> Option<usize> {
        match self.readers.get(&value).map(Vec::as_slice) {
            Some(&[one]) => Some(one),
            _ => None,
        }
    }

    /// Returns whether only `members` read the results of `members`, except for the results of `last`.
    fn is_closed(&self, members: &[usize], last: usize) -> bool {
        let made =
            members.iter().filter(|member| **member != last).filter_map(|member| self.compute(*member));
        made.flat_map(|compute| &compute.results).all(|(value, _)| {
            self.readers.get(value).is_none_or(|readers| readers.iter().all(|r| members.contains(r)))
        })
    }

    /// Replaces `members` by `fused`, at the position of step `at`.
    fn replace(&mut self, members: &[usize], at: usize, fused: IrCompute) {
        members.iter().for_each(|member| self.steps[*member] = None);
        self.steps[at] = Some(IrStep::Compute(fused));
        self.index();
    }

    /// Removes the steps whose results are not read.
    fn sweep(&mut self) {
        loop {
            let unread = |(i, compute): (usize, &IrCompute)| {
                let read = compute.results.iter().any(|(value, _)| self.readers.contains_key(value));
                (!read && !compute.fallible && compute.states.is_empty()).then_some(i)
            };
            let unread: Vec<usize> = self.computes().filter_map(unread).collect();
            if unread.is_empty() {
                return;
            }
            unread.into_iter().for_each(|step| self.steps[step] = None);
            self.index();
        }
    }
}

impl IrCompute {
    /// Returns where the operand for `param` is stored.
    fn operand(&self, param: &str) -> Option<ValueRef> {
        self.operands.iter().find(|(_, name)| *name == param).map(|(place, _)| *place)
    }

    /// Returns the shape of the operand for `param`.
    fn shape(&self, param: &str) -> Option<&Shape> {
        let at = self.operands.iter().position(|(_, name)| *name == param)?;
        self.shapes.get(at)
    }

    /// Returns the shape in which this step reads the operand at `place`. Reshapes are not steps, so one
    /// place may be read in several shapes and has no shape of its own.
    fn shape_of(&self, place: ValueRef) -> Option<&Shape> {
        let at = self.operands.iter().position(|(found, _)| *found == place)?;
        self.shapes.get(at)
    }

    /// Returns whether every operand has `elements` elements. If the result has as many, all are read in
    /// step.
    fn takes(&self, elements: usize) -> bool {
        self.shapes.iter().all(|shape| shape.elements() == elements)
    }

    /// Returns the operands `x` and `y`, in both orders.
    fn pair(&self) -> [Option<(ValueRef, ValueRef)>; 2] {
        match (self.operand("x"), self.operand("y")) {
            (Some(x), Some(y)) => [Some((x, y)), Some((y, x))],
            _ => [None, None],
        }
    }

    fn param(&self, name: &str) -> Option<&mlpackage::mil::Value> {
        self.params.iter().find(|(param, _)| param == name).map(|(_, value)| value)
    }

    fn is_true(&self, name: &str) -> bool {
        self.param(name).and_then(|v| v.as_bools()).is_some_and(|v| v.first() == Some(&true))
    }

    fn result(&self) -> usize {
        self.results[0].0
    }
}
