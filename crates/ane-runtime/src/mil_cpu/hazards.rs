//! Detects results that their type cannot hold: fp16 if results are rounded to it, fp32 otherwise.

use half::f16;
use mlpackage::mil::Operation;
use mlpackage::ops::{Args, Default, OpSpec};

use super::kernels::Operand;
use crate::hazard::{Hazard, HazardKind, OperandRange};

/// A summary of the elements of a tensor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    infinite: bool,
    nan: bool,
    /// Whether every element is zero.
    zero: bool,
    /// Whether an element is zero.
    has_zero: bool,
    elements: usize,
    min: f32,
    max: f32,
}

impl Observed {
    pub(super) fn of(values: &[f32]) -> Self {
        let (min, max) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut seen = Self { zero: true, elements: values.len(), min, max, ..Self::default() };
        for &value in values {
            seen.infinite |= value.is_infinite();
            seen.nan |= value.is_nan();
            seen.zero &= value == 0.0;
            seen.has_zero |= value == 0.0;
            seen.min = seen.min.min(value);
            seen.max = seen.max.max(value);
        }
        seen
    }

    fn of_operand(operand: Operand<'_>) -> Self {
        match operand {
            Operand::Words(words) => Self::of(bytemuck::cast_slice(words)),
            Operand::Packed(packed) => Self::of(&packed.unpack()),
        }
    }
}

/// Operations whose exact result is non-zero for finite, non-zero operands. If such an operation returns
/// zero, it has underflowed.
const NEVER_ZERO: [&str; 12] = [
    "exp",
    "exp2",
    "inverse",
    "mul",
    "pow",
    "real_div",
    "reduce_l2_norm",
    "reduce_prod",
    "reduce_sum_square",
    "rsqrt",
    "sigmoid",
    "square",
];

/// What a watch knows about an operand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// Name of the parameter.
    pub(super) param: &'static str,
    pub(super) constant: bool,
    pub(super) is_float: bool,
}

/// Collects the first hazard of each kind.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) call: usize,
    pub(super) found: Vec<Hazard>,
}

impl Watch {
    /// Adds a hazard that was found before anything ran, unless one of its kind is known.
    pub(super) fn add(&mut self, hazard: &Hazard) {
        if self.found.iter().all(|known| known.kind != hazard.kind) {
            self.found.push(Hazard { call: self.call, ..hazard.clone() });
        }
    }

    /// Notes the hazards of a result, given its elements before and after rounding and the operands that it
    /// was computed from.
    pub(super) fn note<'a>(
        &mut self,
        op: &str,
        result: &str,
        exact: Observed,
        rounded: Observed,
        operands: impl Iterator<Item = (Watched, Operand<'a>)>,
    ) {
        let rounds_to_zero = rounded.zero && !exact.zero;
        let underflows = rounded.zero && exact.zero && NEVER_ZERO.contains(&op);
        if !(rounded.infinite || rounded.nan || rounds_to_zero || underflows) {
            return;
        }
        // The words of a small negative integer would read as a NaN, and hide a NaN of the result.
        let operands: Vec<_> = operands
            .filter(|(watched, _)| watched.is_float)
            .map(|(Watched { param, constant, .. }, operand)| {
                (param, Observed::of_operand(operand), constant)
            })
            .collect();
        let any = |f: fn(&Observed) -> bool| operands.iter().any(|(_, seen, _)| f(seen));
        let constant_vanished =
            rounds_to_zero && operands.iter().any(|(_, seen, constant)| *constant && !seen.zero);
        let kinds = [
            (HazardKind::Infinity, rounded.infinite && !any(|o| o.infinite)),
            (HazardKind::NotANumber, rounded.nan && !any(|o| o.nan)),
            (HazardKind::VanishedConstant, constant_vanished),
            (
                HazardKind::Vanished,
                rounded.elements > 1
                    && !constant_vanished
                    && (rounds_to_zero || (underflows && !any(|o| o.has_zero || o.infinite || o.nan))),
            ),
        ];
        for (kind, made) in kinds {
            if made && self.found.iter().all(|hazard| hazard.kind != kind) {
                let range = |(param, seen, _): &(&'static str, Observed, bool)| OperandRange {
                    param,
                    min: seen.min,
                    max: seen.max,
                };
                self.found.push(Hazard {
                    kind,
                    op: op.to_owned(),
                    result: result.to_owned(),
                    call: self.call,
                    operands: operands.iter().map(range).collect(),
                });
            }
        }
    }
}

/// Finds a constant parameter, such as an epsilon, that is not zero in the program but rounds to zero in
/// fp16, in which hardware would add it. The operation's own default does not count, because nobody chose it.
pub(super) fn vanished_parameter(operation: &Operation, spec: &OpSpec, args: &Args<'_>) -> Option<Hazard> {
    for (name, bound) in args.iter() {
        let [arg] = bound else { continue };
        let Some(param) = spec.param(name, args.opset()).filter(|p| p.constant) else { continue };
        let value = arg.value.filter(|_| arg.ty.shape.rank() == 0).and_then(|v| v.as_float());
        let default = match param.default {
            Some(Default::Fp32(default)) => Some(default),
            _ => None,
        };
        if let Some(value) =
            value.filter(|v| *v != 0.0 && f16::from_f32(*v) == f16::ZERO && Some(*v) != default)
        {
            let result = operation.outputs.first().map(|o| o.name.clone()).unwrap_or_default();
            let operands = vec![OperandRange { param: param.name, min: value, max: value }];
            let kind = HazardKind::VanishedConstant;
            return Some(Hazard { kind, op: operation.op.clone(), result, call: 0, operands });
        }
    }
    None
}
