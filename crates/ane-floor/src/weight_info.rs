//! The weights of a function: their storage and size.

use std::collections::HashMap;

use mlpackage::DType;
use mlpackage::mil::{Binding, BindingRef, Function, Operation, TensorType, Value, ValueType};

use crate::corpus::WeightFormat;

/// A weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// How it is stored.
    pub stored: WeightFormat,
    /// Number of elements.
    pub elements: u64,
    /// Bytes, as stored.
    pub bytes: u64,
}

/// Lists the weights of a function by name: constants of more than one element, and dequantized or
/// decompressed ones.
pub(crate) fn weights(function: &Function) -> HashMap<&str, Weight> {
    let mut found: HashMap<&str, Weight> = HashMap::new();
    for operation in &function.block.operations {
        let constexpr = operation.is_constexpr();
        if operation.op != "const" && !constexpr {
            continue;
        }
        let sum = |sum: u64, bytes: u64| sum.saturating_add(bytes);
        let own = operation.values().filter_map(Value::tensor_type).map(size).fold(0, sum);
        let taken = names(operation).filter_map(|name| found.get(name)).map(|w| w.bytes).fold(0, sum);
        let before = names(operation).filter_map(|name| found.get(name)).map(|w| w.stored).max_by_key(rank);
        for output in &operation.outputs {
            let Some(ty) = tensor(&output.ty) else { continue };
            let stored = if constexpr { stored(operation, function, before) } else { WeightFormat::None };
            // A constant is only its attribute `val`; a `constexpr` operation consists of its values and
            // operands.
            let bytes = if constexpr { own.saturating_add(taken) } else { size(ty) };
            found.insert(&output.name, Weight { stored, elements: elements(ty), bytes });
        }
    }
    found
}

/// Ranks compressed storage above none.
fn rank(stored: &WeightFormat) -> usize {
    usize::from(*stored != WeightFormat::None)
}

/// Returns the storage of a `constexpr` operation's result. A sparse form in two steps has the storage of the
/// first.
fn stored(operation: &Operation, function: &Function, before: Option<WeightFormat>) -> WeightFormat {
    let argument = |param: &str| -> Option<TensorType> {
        let (_, bound) = operation.arguments(function.opset).find(|(name, _)| *name == param)?;
        match bound.first()? {
            BindingRef::Value(value) => value.tensor_type().cloned(),
            BindingRef::Name(name) => {
                let outputs = function.block.operations.iter().flat_map(|o| &o.outputs);
                outputs.into_iter().find(|o| &o.name == name).and_then(|o| tensor(&o.ty).cloned())
            }
        }
    };
    match operation.op.as_str() {
        "constexpr_blockwise_shift_scale"
        | "constexpr_affine_dequantize"
        | "constexpr_sparse_blockwise_shift_scale" => {
            let data =
                argument("data").or_else(|| argument("quantized_data")).or_else(|| argument("nonzero_data"));
            let four = data.is_some_and(|ty| matches!(ty.dtype, DType::Int4 | DType::Uint4));
            // More than one scale along an input axis means per-block scales.
            let blocks = argument("scale")
                .is_some_and(|ty| ty.shape.iter().skip(1).any(|d| d.known().is_some_and(|n| n > 1)));
            match (four, blocks) {
                (true, true) => WeightFormat::Int4PerBlock,
                (true, false) => WeightFormat::Int4,
                (false, _) => WeightFormat::Int8,
            }
        }
        "constexpr_lut_to_dense" | "constexpr_lut_to_sparse" => {
            let indices = argument("indices").or_else(|| argument("indices_nonzero_data"));
            // iOS 16 packs the indices into bytes; the number of palette entries determines their width.
            let entries = argument("lut").map_or(0, |ty| {
                let dims: Vec<usize> = ty.shape.iter().map(|d| d.known().unwrap_or(0)).collect();
                if dims.len() == 1 { dims[0] } else { dims.len().checked_sub(2).map_or(0, |axis| dims[axis]) }
            });
            match indices.map(|ty| ty.dtype) {
                Some(DType::Uint4) => WeightFormat::Lut4,
                Some(DType::Uint8) if entries == 16 => WeightFormat::Lut4,
                _ => WeightFormat::Lut,
            }
        }
        "constexpr_sparse_to_dense" => match before {
            Some(WeightFormat::None) | None => WeightFormat::Sparse,
            Some(first) => first,
        },
        _ => before.unwrap_or(WeightFormat::None),
    }
}

/// Lists every name that an operation uses, including those used in its blocks.
pub(crate) fn names(operation: &Operation) -> impl Iterator<Item = &str> {
    let within = operation.blocks.iter().flat_map(|b| b.all_operations());
    let bindings = std::iter::once(operation).chain(within).flat_map(|o| o.inputs.values().flatten());
    bindings.filter_map(|b| match b {
        Binding::Name(name) => Some(name.as_str()),
        Binding::Value(_) => None,
    })
}

pub(crate) fn tensor(ty: &ValueType) -> Option<&TensorType> {
    match ty {
        ValueType::Tensor(ty) => Some(ty),
        _ => None,
    }
}

/// Returns the number of elements, with unknown dimensions counted as 1.
pub(crate) fn elements(ty: &TensorType) -> u64 {
    ty.shape.least_elements().map_or(u64::MAX, |n| n as u64)
}

pub(crate) fn size(ty: &TensorType) -> u64 {
    elements(ty).saturating_mul(ty.dtype.bits() as u64) / 8
}
