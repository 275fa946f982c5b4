//! The element types that parameters accept, by opset.

use crate::dtype::DType::{
    self, Bool, Fp16, Fp32, Int4, Int8, Int16, Int32, Int64, String, Uint1, Uint2, Uint3, Uint4, Uint6,
    Uint8, Uint16, Uint32,
};
use crate::mil::Container;
use crate::mil::Opset::{self, CoreML5, CoreML6, CoreML7, CoreML8};

/// The arguments that a parameter accepts: tensors of some element types, a state, or a list of such tensors.
///
/// The sets are those of coremltools 9.0's operations, which `tests/integration/registry.rs` verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DTypeConstraint {
    /// Each set applies until the opset of the next.
    types: &'static [(Opset, &'static [DType])],
    holds: Holds,
}

/// The container of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Tensor,
    State,
    List,
    TensorOrList,
}

const NUMBERS: &[DType] = &[Fp16, Fp32, Int32];
const ELEMENTS: &[DType] = &[Bool, Fp16, Fp32, Int32];
const WIDE_NUMBERS: &[DType] = &[Fp16, Fp32, Int8, Int16, Int32, Uint8, Uint16];
const WIDE_ELEMENTS: &[DType] = &[Bool, Fp16, Fp32, Int8, Int16, Int32, Uint8, Uint16];
const PACKED: &[DType] = &[Uint1, Uint2, Uint3, Uint4, Uint6, Uint8];
const COMPRESSED: &[DType] = &[Fp16, Fp32, Int4, Int8, Uint4, Uint8];

impl DTypeConstraint {
    pub(crate) const FLOAT: Self = Self::of(&[(CoreML5, &[Fp16, Fp32])]);
    pub(crate) const FP16: Self = Self::of(&[(CoreML5, &[Fp16])]);
    pub(crate) const INT32: Self = Self::of(&[(CoreML5, &[Int32])]);
    pub(crate) const UINT32: Self = Self::of(&[(CoreML5, &[Uint32])]);
    pub(crate) const BOOL: Self = Self::of(&[(CoreML5, &[Bool])]);
    pub(crate) const STRING: Self = Self::of(&[(CoreML5, &[String])]);
    pub(crate) const NUMBER: Self = Self::of(&[(CoreML5, NUMBERS)]);
    pub(crate) const ELEMENT: Self = Self::of(&[(CoreML5, ELEMENTS)]);
    /// Since iOS 17 also small integers.
    pub(crate) const WIDE_NUMBER: Self = Self::of(&[(CoreML5, NUMBERS), (CoreML7, WIDE_NUMBERS)]);
    /// Since iOS 17 also small integers.
    pub(crate) const WIDE_ELEMENT: Self = Self::of(&[(CoreML5, ELEMENTS), (CoreML7, WIDE_ELEMENTS)]);
    /// For `sliding_windows` only; bool since iOS 17.
    pub(crate) const WINDOWED: Self = Self::of(&[(CoreML5, NUMBERS), (CoreML7, WIDE_ELEMENTS)]);
    /// Shapes and bounds.
    pub(crate) const SHAPE: Self = Self::of(&[(CoreML5, &[Int32]), (CoreML7, &[Int8, Int16, Int32])]);
    /// Indices for gathering.
    pub(crate) const INDICES: Self = Self::of(&[
        (CoreML5, &[Int32]),
        (CoreML6, &[Int16, Int32, Uint16]),
        (CoreML7, &[Int8, Int16, Int32, Uint8, Uint16]),
    ]);
    /// Sampling coordinates.
    pub(crate) const COORDINATES: Self =
        Self::of(&[(CoreML5, &[Fp32, Int32]), (CoreML6, NUMBERS), (CoreML7, WIDE_NUMBERS)]);
    /// Scale factors.
    pub(crate) const FACTOR: Self = Self::of(&[(CoreML5, &[Fp32, Int32])]);
    /// The shape of `resize`.
    pub(crate) const SIZES: Self = Self::of(&[(CoreML5, &[Int16, Int32, Uint16, Uint32])]);
    /// An additive mask, or a boolean mask of visible positions.
    pub(crate) const MASK: Self = Self::of(&[(CoreML5, &[Bool, Fp16, Fp32])]);
    /// Quantized activations.
    pub(crate) const QUANTIZED: Self = Self::of(&[(CoreML5, &[Int8, Uint8])]);
    pub(crate) const AFFINE_ZERO_POINT: Self = Self::of(&[(CoreML5, &[Fp32, Int8, Uint8])]);
    pub(crate) const COMPRESSED: Self = Self::of(&[(CoreML5, COMPRESSED)]);
    pub(crate) const NONZERO: Self =
        Self::of(&[(CoreML5, &[Fp16, Fp32, Int8, Uint8]), (CoreML8, COMPRESSED)]);
    pub(crate) const LUT: Self = Self::of(&[(CoreML5, &[Fp16, Fp32, Int8, Uint8])]);
    pub(crate) const LUT_INDICES: Self = Self::of(&[(CoreML5, &[Uint8]), (CoreML8, PACKED)]);
    pub(crate) const BITS: Self = Self::of(&[(CoreML5, &[Uint8]), (CoreML8, &[Uint1])]);
    /// Any tensor.
    pub(crate) const ANY: Self = Self::of(&[(CoreML5, &DType::ALL)]);
    pub(crate) const STATE: Self = Self { types: &[], holds: Holds::State };
    /// Operands of recurrent layers.
    pub(crate) const RECURRENT: Self = Self::of(&[(CoreML5, &[Fp32]), (CoreML7, &[Fp16, Fp32])]);
    pub(crate) const FP32: Self = Self::of(&[(CoreML5, &[Fp32])]);
    /// Corners or centres of boxes to crop from an image.
    pub(crate) const BOXES: Self = Self::of(&[(CoreML5, &[Fp16, Fp32, Uint16])]);
    /// The images from which boxes are cropped.
    pub(crate) const BOX_INDICES: Self = Self::of(&[(CoreML5, &[Int32, Uint16])]);
    /// The size of an axis of a list's elements: an integer, or a name if it is known only at run time.
    pub(crate) const LIST_EXTENT: Self = Self::of(&[(CoreML5, &[Int32, String])]);
    /// A list of tensors.
    pub(crate) const LIST: Self = Self { types: &[(CoreML5, ELEMENTS)], holds: Holds::List };
    /// The labels of a classifier.
    pub(crate) const CLASSES: Self = Self { types: &[(CoreML5, &[Int64, String])], holds: Holds::List };
    /// A loop variable.
    pub(crate) const LOOP_VARIABLE: Self = Self { types: &[(CoreML5, ELEMENTS)], holds: Holds::TensorOrList };

    const fn of(types: &'static [(Opset, &'static [DType])]) -> Self {
        Self { types, holds: Holds::Tensor }
    }

    /// Returns whether the parameter accepts a state.
    pub fn is_state(self) -> bool {
        self.holds == Holds::State
    }

    /// Returns whether the parameter accepts `container`.
    pub fn takes(self, container: Container) -> bool {
        match container {
            Container::Tensor => matches!(self.holds, Holds::Tensor | Holds::TensorOrList),
            Container::State => self.is_state(),
            Container::List(_) => matches!(self.holds, Holds::List | Holds::TensorOrList),
            Container::Dictionary { .. } => false,
        }
    }

    /// Returns the accepted element types in a function of `opset`; empty for a state.
    pub fn dtypes(self, opset: Opset) -> &'static [DType] {
        let fitting = self.types.iter().rev().find(|(since, _)| *since <= opset);
        fitting.map_or(&[], |(_, types)| *types)
    }

    /// Describes the accepted arguments, for error messages.
    pub fn describe(self, opset: Opset) -> std::string::String {
        let elements = match self.dtypes(opset) {
            types if types.len() == DType::ALL.len() => "a tensor".into(),
            [one] => one.to_string(),
            [rest @ .., last] => {
                let rest: Vec<_> = rest.iter().map(ToString::to_string).collect();
                format!("{} or {last}", rest.join(", "))
            }
            [] => "nothing".into(),
        };
        match self.holds {
            Holds::Tensor => elements,
            Holds::State => "a state".into(),
            Holds::List => format!("a list of {elements}"),
            Holds::TensorOrList => format!("{elements}, or a list of such"),
        }
    }
}
