//! Runs single operations outside of a plan: constants that are folded, and operations of interpreted functions.

use mlpackage::mil::Operation;
use mlpackage::{DType, Shape};

use super::hazards::{Watch, Watched};
use super::kernels::{Call, Lowered, Operand};
use super::numerics::{Numerics, round_to_half};
use super::plan::Precision;
use super::run_plan::observe;

/// A single operation that runs outside of a plan.
pub(super) struct Execution<'a, 'o> {
    pub(super) operation: &'a Operation,
    pub(super) lowered: &'a Lowered,
    pub(super) operands: &'a [Operand<'o>],
    pub(super) results: &'a [(DType, Shape)],
}

impl Execution<'_, '_> {
    /// Computes the results. A watch is passed together with what it knows about each operand.
    pub(super) fn run(
        &self,
        numerics: Numerics,
        mut watch: Option<(&mut Watch, &[Watched])>,
    ) -> Result<Vec<Vec<u32>>, String> {
        let Self { operation, lowered, operands, results } = *self;
        let mut computed: Vec<Vec<u32>> =
            results.iter().map(|(_, shape)| vec![0; shape.elements()]).collect();
        let mut scratch = vec![0.0; lowered.scratch];
        let mut slices: Vec<&mut [u32]> = computed.iter_mut().map(Vec::as_mut_slice).collect();
        let mut call = Call { operands, results: &mut slices, states: &mut [], scratch: &mut scratch };
        lowered.kernel.run(&mut call)?;
        for ((dtype, _), words) in results.iter().zip(&mut computed) {
            let precision = Precision::of(*dtype, numerics);
            let values: &mut [f32] = bytemuck::cast_slice_mut(words);
            let Some((watch, params)) = &mut watch else {
                if precision == Precision::Half {
                    round_to_half(values);
                }
                continue;
            };
            let Some((exact, rounded)) = observe(precision, values) else { continue };
            let named = params.iter().copied().zip(operands.iter().copied());
            let result = operation.outputs.first().map_or("", |o| o.name.as_str());
            watch.note(&operation.op, result, exact, rounded, named);
        }
        Ok(computed)
    }
}
