//! Several operations as one: found in the planned steps by what they compute, whatever they are called and whoever wrote
//! them. What is not found stays as it is.
//!
//! | pattern | becomes |
//! |---|---|
//! | `mul(x, rsqrt(reduce_mean(x * x) + e))`, also with `x` divided by a number or by its largest magnitude before | [`norm`] |
//! | 1x1 `conv` or `linear` of one row, then `relu`, then `add`; several of one `x` | [`projection`] |
//! | a row of a cache replaced by a one-hot mask, `softmax(q k + mask) v` | [`attention`] |

mod attention;
mod norm;
mod projection;

use std::collections::HashMap;
use std::sync::Arc;

use mlpackage::Shape;

use super::buffers::{Draft, DraftCompute, Drafts};
use super::constants::Constant;
use super::lowering::Place;
use crate::simd::Isa;
use crate::workers::Workers;

/// Several operations that become one, wherever [`Numerics::Fast`](super::Numerics::Fast) finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// A row divided by the root of its mean square.
    Norm,
    /// A matrix of constants times one vector, with a rectifier and a residual behind it.
    Projection,
    /// A row of a cache written, and attention over it.
    Attention,
}

impl Fusion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Norm, Self::Projection, Self::Attention];
}

/// What fused operations are computed with.
#[derive(Clone)]
pub(super) struct Target {
    isa: Isa,
    workers: Arc<Workers>,
    left_out: [bool; Fusion::ALL.len()],
}

impl Target {
    /// So many threads, and fusions that are left out.
    pub(super) fn new(threads: usize, left_out: [bool; Fusion::ALL.len()]) -> Self {
        Self { isa: Isa::best(), workers: Arc::new(Workers::new(threads)), left_out }
    }
}

/// Fuses what can be fused.
pub(super) fn fuse(drafts: &mut Drafts, target: &Target) {
    let mut graph = Graph::of(drafts);
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

/// The steps of a function, and who makes and reads each value.
struct Graph<'d> {
    drafts: &'d mut Drafts,
    /// `None` where a step has become part of another.
    steps: Vec<Option<Draft>>,
    makers: HashMap<usize, usize>,
    /// A reader is a step; results of the function have a reader behind the last one.
    readers: HashMap<usize, Vec<usize>>,
}

impl<'d> Graph<'d> {
    fn of(drafts: &'d mut Drafts) -> Self {
        let steps = std::mem::take(&mut drafts.steps).into_iter().map(Some).collect();
        let mut graph = Self { drafts, steps, makers: HashMap::new(), readers: HashMap::new() };
        graph.index();
        graph
    }

    fn finish(self) {
        // When a state was read is the number of a step, and there are fewer of them now.
        let mut left = 0;
        let mut numbers: Vec<usize> = Vec::with_capacity(self.steps.len() + 1);
        for step in &self.steps {
            numbers.push(left);
            left += usize::from(step.is_some());
        }
        numbers.push(left);
        let renumbered = |place: Place| match place {
            Place::State { state, at } => Place::State { state, at: numbers[at] },
            other => other,
        };
        self.drafts.steps = self.steps.into_iter().flatten().collect();
        self.drafts.steps.iter_mut().for_each(|step| step.replace(renumbered));
        self.drafts.outputs.iter_mut().for_each(|(place, _, _)| *place = renumbered(*place));
    }

    fn index(&mut self) {
        self.makers.clear();
        self.readers.clear();
        let mut read = |place: &Place, step: usize| {
            if let Place::Value(value) = place {
                self.readers.entry(*value).or_default().push(step);
            }
        };
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Some(Draft::Compute(compute)) => {
                    compute.results.iter().for_each(|(value, _)| {
                        self.makers.insert(*value, i);
                    });
                    compute.operands.iter().for_each(|(place, _)| read(place, i));
                }
                Some(Draft::Store { source, .. }) => read(source, i),
                Some(Draft::Load { .. }) | None => {}
            }
        }
        let behind = self.steps.len();
        self.drafts.outputs.iter().for_each(|(place, _, _)| read(place, behind));
    }

    /// The computing steps, with their numbers.
    fn computes(&self) -> impl Iterator<Item = (usize, &DraftCompute)> {
        self.steps.iter().enumerate().filter_map(|(i, step)| match step {
            Some(Draft::Compute(compute)) => Some((i, compute)),
            _ => None,
        })
    }

    fn compute(&self, step: usize) -> Option<&DraftCompute> {
        match self.steps.get(step) {
            Some(Some(Draft::Compute(compute))) => Some(compute),
            _ => None,
        }
    }

    /// The step that makes what is at `place`, if it is of one of the types `ops`.
    fn made_by(&self, place: Place, ops: &[&str]) -> Option<(usize, &DraftCompute)> {
        let Place::Value(value) = place else { return None };
        let step = *self.makers.get(&value)?;
        self.compute(step).filter(|compute| ops.contains(&compute.op.as_str())).map(|compute| (step, compute))
    }

    /// The number at `place`, if it is one constant.
    fn scalar(&self, place: Place) -> Option<f32> {
        let Place::Constant(index) = place else { return None };
        match &self.drafts.constants[index] {
            Constant::Words(words) if words.len() == 1 => Some(f32::from_bits(words[0])),
            _ => None,
        }
    }

    /// The only step that reads the value.
    fn only_reader(&self, value: usize) -> Option<usize> {
        match self.readers.get(&value).map(Vec::as_slice) {
            Some(&[one]) => Some(one),
            _ => None,
        }
    }

    /// Whether nobody but the steps themselves reads what they make, the last one's results aside.
    fn is_closed(&self, members: &[usize], last: usize) -> bool {
        let made =
            members.iter().filter(|member| **member != last).filter_map(|member| self.compute(*member));
        made.flat_map(|compute| &compute.results).all(|(value, _)| {
            self.readers.get(value).is_none_or(|readers| readers.iter().all(|r| members.contains(r)))
        })
    }

    /// Puts `fused` at the place of step `at`, in the place of all `members`.
    fn replace(&mut self, members: &[usize], at: usize, fused: DraftCompute) {
        members.iter().for_each(|member| self.steps[*member] = None);
        self.steps[at] = Some(Draft::Compute(fused));
        self.index();
    }

    /// Takes away what nobody reads.
    fn sweep(&mut self) {
        loop {
            let unread = |(i, compute): (usize, &DraftCompute)| {
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

impl DraftCompute {
    /// Where the operand for `param` is.
    fn operand(&self, param: &str) -> Option<Place> {
        self.operands.iter().find(|(_, name)| *name == param).map(|(place, _)| *place)
    }

    /// The shape of the operand for `param`.
    fn shape(&self, param: &str) -> Option<&Shape> {
        let at = self.operands.iter().position(|(_, name)| *name == param)?;
        self.shapes.get(at)
    }

    /// The shape in which an operand at `place` is read. Reshapes are no steps, so that one place may be read in several
    /// shapes, and what is at it says nothing about its axes.
    fn shape_of(&self, place: Place) -> Option<&Shape> {
        let at = self.operands.iter().position(|(found, _)| *found == place)?;
        self.shapes.get(at)
    }

    /// Whether every operand has so many elements, and is therefore read in step with the others if the result has as many,
    /// too.
    fn takes(&self, elements: usize) -> bool {
        self.shapes.iter().all(|shape| shape.elements() == elements)
    }

    /// The two operands of an operation of two, in both orders.
    fn pair(&self) -> [Option<(Place, Place)>; 2] {
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
